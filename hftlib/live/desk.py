"""The one door to the brokers: check, write, send; and the books behind it.

`Desk.write` puts each part of an order before `risk.check_order` in the worst case that open
orders leave (`standing`) and writes what passes; `Desk.release` sends it, and nothing else does.
`Desk.collect` books the venues' events, each once, with the account in the same transaction.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np

from hftlib.live.booking import Books, LedgerError, book_end, book_trade, open_books
from hftlib.live.broker import Broker, BrokerError, Event, OrderKind, OrderRequest
from hftlib.live.order_router import Child
from hftlib.live.paper_rules import PaperRules
from hftlib.live.parents import Parent, cut_to_lots
from hftlib.live.standing import build_worst_state, explain, find_barrier
from hftlib.live.store import Store
from hftlib.live.store_tables import OpenOrder
from hftlib.portfolio.risk import Decision, Order, check_order
from hftlib.portfolio.risk_state import FloatArray


class Desk:
    """Account, open orders and venues, as the file has them.

    Attributes
    ----------
    account : Account
    standing : Standing
    breaker : Breaker
    marks : dict of symbol to float
        Last prices; symbols that have had none are missing, and are not traded.
    covariance : array of shape (n_assets, n_assets) or None
        Of one bar's returns, in the order of the symbols; where the value at risk is limited
        and this is not known nothing is opened.
    is_stopped : bool
        Whether trading is halted: only what reduces may be sent.
    open_orders : dict of client id to OpenOrder
    """

    def __init__(self, store: Store, brokers: Sequence[Broker], rules: PaperRules) -> None:
        names = [broker.name for broker in brokers]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"venues are {names}; expected one at least, each with its own name")
        self.store, self.rules = store, rules
        self.brokers = {broker.name: broker for broker in brokers}
        self.is_stopped = False
        self.covariance: FloatArray | None = None
        self.account, self.standing, self.breaker = open_books(store, rules)
        self.marks: dict[str, float] = store.get("marks", {})
        self.open_orders: dict[str, OpenOrder] = store.open_orders()

    @property
    def equity(self) -> Decimal:
        """Cash and positions at the marks."""
        return self.account.equity(self.marks)

    def open_units(self, symbol: str, side: int = 0) -> Decimal:
        """Signed units of a symbol that open orders may still trade; of one side if it is not 0."""
        lefts = (o.left for o in self.open_orders.values() if o.request.symbol == symbol)
        return sum((left for left in lefts if left * side >= 0), Decimal(0))

    def write(
        self,
        parent: Parent,
        children: Sequence[Child],
        kind: OrderKind,
        cursor_ns: int,
        now_ns: int,
    ) -> dict[str, OpenOrder]:
        """Check the parts of a parent order that were routed, and write down what passes.

        To be called in a transaction; `cursor_ns` is the moment at which the parent is worked.
        """
        made: dict[str, OpenOrder] = {}
        first = self.store.count_orders(parent.parent_id)
        for child in children:
            allowed = self._check_child(parent, child, now_ns, made)
            if allowed != 0:
                name, price = f"{parent.parent_id}-{first + len(made)}", child.limit_price
                request = OrderRequest(name, parent.symbol, allowed, price, kind, now_ns)
                made[name] = OpenOrder(
                    request, child.venue, parent.parent_id, "new", Decimal(0), Decimal(0)
                )
        for order in made.values():
            self.store.add_order(order.request, order.venue, order.parent_id)
        self.store.set_parent(parent.parent_id, worked_ns=cursor_ns)
        return made

    def send(self, made: Mapping[str, OpenOrder], now_ns: int) -> None:
        """Send orders that are written.

        Raises
        ------
        BrokerError
            If a venue does not answer; the order is written and will be reconciled.
        StoreError
            If the venue's answer could not be written.
        """
        self.open_orders |= dict(made)
        for order in made.values():
            self.release(order, now_ns)

    def _check_child(
        self, parent: Parent, child: Child, now_ns: int, made: dict[str, OpenOrder]
    ) -> Decimal:
        """Signed units of a child that may be sent, written down with the reasons."""
        lot = self.brokers[child.venue].quotes(parent.symbol, 1 if child.quantity > 0 else -1).lot
        decision = self.check(parent.symbol, child.quantity, lot, [*made.values()])
        allowed = child.quantity
        if decision.action != "accept":
            allowed = cut_to_lots(Decimal(str(decision.quantity)), lot)
        self.store.add(
            "checks",
            ts_ns=now_ns,
            parent_id=parent.parent_id,
            symbol=parent.symbol,
            venue=child.venue,
            action=decision.action,
            asked=child.quantity,
            allowed=allowed,
            reasons=explain(decision, self._barrier),
        )
        return allowed

    def withdraw(self, client_ids: Sequence[str], now_ns: int) -> None:
        """Write down that orders are to be cancelled, ask for it, and book what comes of it."""
        if not client_ids:
            return
        with self.store.transaction():
            for client_id in client_ids:
                self.store.set_order(client_id, cancel_ns=now_ns)
        for client_id in client_ids:
            order = self.open_orders[client_id]
            self.open_orders[client_id] = order._replace(cancel_ns=now_ns)
            self.brokers[order.venue].cancel(client_id, now_ns)
        self.collect(now_ns)

    def release(self, order: OpenOrder, now_ns: int) -> None:
        """Send an order that is written, as far as it passes the check as things stand now.

        The part before it may have traded meanwhile, and at a worse price than the mark. What
        raises leaves the order open, here and in the file, until it is reconciled.
        """
        self.collect(now_ns)
        client_id, request = order.request.client_id, order.request
        broker = self.brokers[order.venue]
        lot = broker.quotes(request.symbol, 1 if request.quantity > 0 else -1).lot
        decision = self.check(request.symbol, request.quantity, lot, without=client_id)
        if decision.action != "accept":
            allowed = cut_to_lots(Decimal(str(decision.quantity)), lot)
            if allowed == 0:
                reason = f"not sent: {explain(decision, self._barrier)}"
                self.store.set_order(client_id, status="expired", reason=reason)
                del self.open_orders[client_id]
                return
            self.store.set_order(client_id, quantity=allowed)
            request = request._replace(quantity=allowed)
            self.open_orders[client_id] = order._replace(request=request)
        broker.submit(request)
        self.store.set_order(client_id, status="sent")
        self.open_orders[client_id] = order._replace(request=request, status="sent")

    def check(
        self,
        symbol: str,
        quantity: Decimal,
        lot: Decimal,
        made: Sequence[OpenOrder] = (),
        *,
        without: str = "",
    ) -> Decision:
        """The risk check of one order, in the worst case of all others that may still trade.

        `without` is its client id if it is among the open orders.
        """
        state = build_worst_state(
            self.account,
            self.standing,
            [*(o for name, o in self.open_orders.items() if name != without), *made],
            symbol=symbol,
            side=1 if quantity > 0 else -1,
            marks=self.marks,
            sectors={s: name for s, name in self.rules.sectors.items() if s in self.marks},
            covariance=self._known_covariance(),
            lot_size=float(lot),
            is_halted=bool(self._barrier),
        )
        return check_order(Order(symbol, float(quantity)), state, self.rules.limits)

    @property
    def _barrier(self) -> str:
        is_limited = np.isfinite(self.rules.limits.max_var)
        is_measured = not is_limited or self.covariance is not None
        return find_barrier(self.breaker, is_stopped=self.is_stopped, is_measured=is_measured)

    def _known_covariance(self) -> FloatArray | None:
        n = len(self.marks)
        if self.covariance is None or self.covariance.shape != (n, n):
            return np.zeros((n, n))  # then nothing is opened, and closing needs none
        return self.covariance

    def booked_ns(self) -> int:
        """Time of the newest event, booked or told by a venue, 0 without one; as `collect`."""
        told = [
            event.ts_ns
            for broker in self.brokers.values()
            for event in broker.events(self.store.get(f"events of {broker.name}", 0))
        ]
        return max([self.breaker.clock_ns, *told])

    def collect(self, now_ns: int) -> None:
        """Book what the venues tell.

        Raises
        ------
        LedgerError
            If a venue tells of an order that was never written.
        """
        for broker in self.brokers.values():
            place = f"events of {broker.name}"
            for event in broker.events(self.store.get(place, 0)):
                order = self.open_orders.get(event.client_id)
                if order is None:
                    raise LedgerError(
                        f"{broker.name} tells of order {event.client_id!r}, which is not open here;"
                        " was the file replaced by an older one? Restore the newest"
                    )
                with self.store.transaction():
                    self.store.put(place, event.number)
                    books, left = self._book(broker.name, event, order, now_ns)
                self.account, self.standing, self.breaker = books
                if left is None:
                    del self.open_orders[event.client_id]
                else:
                    self.open_orders[event.client_id] = left

    def _book(
        self, venue: str, event: Event, order: OpenOrder, now_ns: int
    ) -> tuple[Books, OpenOrder | None]:
        """Write an event down; the books, and the order if it may still trade."""
        books = Books(self.account, self.standing, self.breaker)
        if event.kind == "fill":
            return book_trade(books, self.store, venue, event, order, self.marks)
        return book_end(books, self.store, event, order, self.rules.breaker, now_ns), None

    def cancel_all(self, now_ns: int) -> list[str]:
        """Ask for the cancellation of all open orders; what the venues could not be told."""
        failures = []
        for client_id, order in self.open_orders.items():
            try:
                self.brokers[order.venue].cancel(client_id, now_ns)
            except BrokerError as error:
                failures.append(f"{client_id}: {error}")
        return failures
