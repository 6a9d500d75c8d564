"""What an account's file says of it, and what a venue's event makes of it.

An event is written down with all that it changes in one transaction of the caller.
"""

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import NamedTuple

from hftlib.live.broker import Event
from hftlib.live.paper_rules import PaperRules
from hftlib.live.standing import Standing, count_fill, mark
from hftlib.live.store import Store
from hftlib.live.store_tables import OpenOrder
from hftlib.portfolio.breakers import Breaker, BreakerRules, record_result
from hftlib.portfolio.positions import Account, book_fill, deposit, from_json, to_json


class LedgerError(RuntimeError):
    """Fills, account and venues that contradict each other."""


class Books(NamedTuple):
    """Cash and positions, what they gained and traded, and whether they may open."""

    account: Account
    standing: Standing
    breaker: Breaker


def open_books(store: Store, rules: PaperRules) -> Books:
    """The books of a file; a new one begins with the deposit.

    Raises
    ------
    LedgerError
        If the file is of other symbols, or of another deposit.
    """
    if store.get("account") is None:
        account, cash = deposit(Account(), rules.cash), float(rules.cash)
        with store.transaction():
            store.put("account", to_json(account))
            store.put("standing", asdict(Standing(0, cash, cash, cash)))
            store.put("breaker", Breaker().to_dict())
            store.put("symbols", rules.symbols)
            store.put("deposits", str(rules.cash))
    known, paid = tuple(store.get("symbols")), Decimal(store.get("deposits"))
    if known != rules.symbols or paid != rules.cash:
        raise LedgerError(
            f"{store.path} is of {', '.join(known)} and a deposit of {paid}, the rules of "
            f"{', '.join(rules.symbols)} and {rules.cash}; open it with its own, or a new file"
        )
    values = store.get("standing")
    return Books(
        from_json(store.get("account")),
        Standing(**values | {"traded_ids": tuple(values["traded_ids"])}),
        Breaker.from_dict(store.get("breaker")),
    )


def book_trade(
    books: Books,
    store: Store,
    venue: str,
    event: Event,
    order: OpenOrder,
    marks: Mapping[str, float],
) -> tuple[Books, OpenOrder]:
    """Write a fill down; the books and the order that it leaves."""
    name, before = order.request.symbol, books.account
    store.add_fill(venue, event, name, marks[name])
    account = book_fill(before, name, event.quantity, event.price, event.fee)
    gained = Decimal(0)
    if before.units(name) * event.quantity < 0:
        gained = account.realised - before.realised - event.fee
    order = order._replace(filled=order.filled + event.quantity, result=order.result + gained)
    standing = books.standing
    standing = mark(standing, max(standing.ts_ns, event.ts_ns), standing.equity)
    notional, worth = float(abs(event.quantity) * event.price), float(account.equity(marks))
    standing = count_fill(standing, event.client_id, notional, worth)
    store.set_order(event.client_id, filled=order.filled, result=order.result)
    store.put("account", to_json(account))
    store.put("standing", asdict(standing))
    return books._replace(account=account, standing=standing), order


def book_end(
    books: Books, store: Store, event: Event, order: OpenOrder, rules: BreakerRules, now_ns: int
) -> Books:
    """Write the end of an order down; a profit or loss that it closed counts for the breaker."""
    store.set_order(event.client_id, status=event.kind, reason=event.reason)
    if order.result == 0:
        return books
    profit = float(order.result)
    breaker = record_result(books.breaker, rules, now_ns=now_ns, profit=profit)
    store.put("breaker", breaker.to_dict())
    return books._replace(breaker=breaker)
