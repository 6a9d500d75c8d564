"""At the start: what a killed process left open is settled, and the ledger is proved.

An order that was written and never reached its venue is sent now, if it is young enough and
passes the check as things stand; else it is given up. Both venues and file are asked, and where
they contradict each other nothing is traded.
"""

from decimal import Decimal

from hftlib.live.booking import LedgerError
from hftlib.live.desk import Desk
from hftlib.live.store import Store
from hftlib.portfolio.positions import Account, book_fill, deposit


def reconcile(desk: Desk, now_ns: int) -> int:
    """Send what was never sent, book what happened; how many orders were open.

    Raises
    ------
    LedgerError
        If a venue has lost an order or tells of one that was never written, or the fills do not
        add up to the account.
    """
    check_ledger(desk.store, desk.account)
    n_open = len(desk.open_orders)
    for client_id, order in list(desk.open_orders.items()):
        if client_id not in desk.open_orders:  # over, by an event that was just booked
            continue
        broker = desk.brokers.get(order.venue)
        if broker is None:
            raise LedgerError(f"order {client_id} is open at {order.venue!r}; open that venue")
        if broker.knows(client_id):
            if order.cancel_ns is not None:
                broker.cancel(client_id, order.cancel_ns)
            if order.status == "new":
                desk.store.set_order(client_id, status="sent")
                seen = desk.open_orders[client_id]
                desk.open_orders[client_id] = seen._replace(status="sent")
            continue
        if order.status == "sent":
            raise LedgerError(
                f"{order.venue} does not know order {client_id}, which it had acknowledged; "
                "restore the venue's file, or settle the order by hand"
            )
        age_ns = now_ns - order.request.sent_ns
        if age_ns > desk.rules.order_life_ns:
            reason = f"written, not sent; given up after {age_ns / 1e9:g} s"
            desk.store.set_order(client_id, status="expired", reason=reason)
            del desk.open_orders[client_id]
        else:
            desk.release(order, now_ns)
    desk.collect(now_ns)
    return n_open


def replay_fills(store: Store) -> Account:
    """The account that deposit and fills make, booked one by one."""
    account = deposit(Account(), Decimal(store.get("deposits")))
    query = "SELECT symbol, quantity, price, fee FROM fills ORDER BY rowid"
    for symbol, quantity, price, fee in store.database.execute(query):
        account = book_fill(account, symbol, Decimal(quantity), Decimal(price), Decimal(fee))
    return account


def check_ledger(store: Store, account: Account) -> None:
    """Refuse an account that is not, to the last digit, what its fills make.

    Raises
    ------
    LedgerError
        If it is not.
    """
    proof = replay_fills(store)
    if proof != account:
        raise LedgerError(
            f"{store.path}: the fills make cash of {proof.cash}, the account has {account.cash}; "
            "restore the newest file that was whole"
        )
