"""A simulated exchange: real matching on `market.book`, latency, fees, partial fills.

What rests and matches is in `venue_books`; here are its door, its clock and its file. Orders and
cancellations are messages that arrive `latency_ns` after they were sent, and meet the book as it
is then, that of the last quote before. What becomes of them is a numbered list of events.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from hftlib.live.broker import Ack, BrokerError, Event, OrderRequest, Quotes
from hftlib.live.ticks import Moment
from hftlib.live.venue_books import Part, VenueBooks
from hftlib.live.venue_rules import VenueRules, count_ticks, find_fault
from hftlib.live.venue_store import TABLES, find_row, insert, open_database, transact


class BookVenue:
    """A simulated exchange for some symbols, kept in one file.

    Raises
    ------
    BrokerError
        By every method, if the file cannot be read or written.
    """

    def __init__(self, name: str, path: Path, symbols: Sequence[str], rules: VenueRules) -> None:
        self.name, self.rules = name, rules
        self._symbols = tuple(symbols)
        self._tick, self._lot = (Decimal(str(v)) for v in (rules.tick_size, rules.lot_size))
        with self._kept():
            self._database = open_database(path, TABLES)
        self._load()

    def _load(self) -> None:
        """The books as they are on disk."""
        self._books = VenueBooks(self._symbols, self.rules)
        with self._kept():
            row = self._database.execute("SELECT ts_ns FROM clock").fetchone()
            self._now_ns = row[0] if row else 0
            for symbol, state, others in self._database.execute("SELECT * FROM books"):
                self._books.load(symbol, state, others)

    def submit(self, order: OrderRequest) -> Ack:
        """Send an order; one that the venue knows is not sent again."""
        with self._changing():
            if self._find(order.client_id) is not None:
                return Ack(order.client_id, True)
            fault = find_fault(order, self._symbols, self.rules)
            lots, price = (0, 0) if fault else count_ticks(order, self.rules)
            insert(
                self._database,
                "orders",
                client_id=order.client_id,
                symbol=order.symbol,
                kind="market" if order.limit_price is None else order.kind,
                side=0 if fault else 1 if order.quantity > 0 else -1,
                lots=lots,
                ticks=price,
                status="rejected" if fault else "sent",
            )
            if fault:
                self._tell(order.client_id, "rejected", order.sent_ns, reason=fault)
            else:
                self._post(order.client_id, order.sent_ns, cancels=False)
        return Ack(order.client_id, False)

    def cancel(self, client_id: str, sent_ns: int) -> None:
        """Ask for a cancellation, which takes as long to arrive as an order."""
        with self._changing():
            self._post(client_id, sent_ns, cancels=True)

    def knows(self, client_id: str) -> bool:
        """Whether the order has arrived at the venue's door."""
        with self._kept():
            return self._find(client_id) is not None

    def events(self, after: int) -> list[Event]:
        """Events with a number above `after`, in order."""
        query = "SELECT * FROM events WHERE number > ? ORDER BY number"
        with self._kept():
            rows = self._database.execute(query, (after,)).fetchall()
        return [
            Event(n, i, k, ts, Decimal(q), Decimal(p), Decimal(f), bool(m), why)
            for n, i, k, ts, q, p, f, m, why in rows
        ]

    def quotes(self, symbol: str, side: int) -> Quotes:
        """Others' lots of the side that an order of `side` takes, and ours where they rest."""
        levels = tuple(
            (ticks * self._tick, lots * self._lot)
            for ticks, lots in self._books.depth(symbol, -side)
        )
        taker, maker = self.rules.taker_fee_bps, self.rules.maker_fee_bps
        return Quotes(self.name, levels, Decimal(str(taker)), self._lot, Decimal(str(maker)))

    def advance(self, moment: Moment) -> None:
        """Let messages arrive, then show the moment's quotes; a moment that was seen is nothing."""
        if moment.ts_ns <= self._now_ns:
            return
        with self._changing():
            self._deliver(moment.ts_ns)
            for tick in moment.ticks:
                if tick.symbol in self._books:
                    self._book(self._books.show(tick), moment.ts_ns)
                    self._touched.add(tick.symbol)
            self._now_ns = moment.ts_ns
            self._database.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (moment.ts_ns,))

    def _post(self, client_id: str, sent_ns: int, *, cancels: bool) -> None:
        arrives_ns = sent_ns + self.rules.latency_ns
        insert(self._database, "inbox", arrives_ns=arrives_ns, client_id=client_id, cancels=cancels)
        self._deliver(self._now_ns)

    def _deliver(self, until_ns: int) -> None:
        """Messages that arrive up to a time, in the order of their arrival."""
        query = "SELECT * FROM inbox WHERE arrives_ns <= ? ORDER BY arrives_ns, number"
        for number, arrives_ns, client_id, cancels in self._database.execute(
            query, (until_ns,)
        ).fetchall():
            self._database.execute("DELETE FROM inbox WHERE number = ?", (number,))
            order = self._find(client_id)
            if order is None:
                continue
            if cancels and order["status"] == "resting":
                self._books.cancel(order["symbol"], order["handle"])
                self._end(order, arrives_ns, "cancelled")
                self._touched.add(order["symbol"])
            elif not cancels and order["status"] == "sent":
                self._enter(order, arrives_ns)

    def _enter(self, order: dict[str, Any], ts_ns: int) -> None:
        """An order meets the book."""
        fields = {name: int(order[name]) for name in ("side", "ticks", "lots", "number")}
        entry = self._books.enter(order["symbol"], order["kind"], **fields)
        self._book(entry.parts, ts_ns, order)
        if entry.refusal:
            self._end(order, ts_ns, entry.refusal, "rejected")
        elif entry.handle:
            self._set(order, "resting", entry.handle)
        else:
            is_full = entry.filled == order["lots"]
            self._end(order, ts_ns, "filled" if is_full else "what did not trade is cancelled")
        self._touched.add(order["symbol"])

    def _book(self, parts: Sequence[Part], ts_ns: int, taker: dict[str, Any] | None = None) -> None:
        """Write down what of ours traded."""
        for part in parts:
            order = taker if part.number is None else self._find_number(part.number)
            if order is None:
                raise BrokerError(f"{self.name}: a trade at {part.ticks} ticks has no order")
            if part.lots:
                is_maker = part.number is not None
                self._fill(order, part.lots, part.ticks, ts_ns, is_maker=is_maker)
            if part.is_over:
                reason = "would have traded with an order of our own"
                self._end(order, ts_ns, reason if part.is_refused else "filled")

    def _fill(
        self, order: dict[str, Any], lots: int, ticks: int, ts_ns: int, *, is_maker: bool
    ) -> None:
        quantity, price = lots * self._lot, ticks * self._tick
        rate = self.rules.maker_fee_bps if is_maker else self.rules.taker_fee_bps
        fee = abs(quantity) * price * Decimal(str(rate)) / 10_000
        self._tell(order["client_id"], "fill", ts_ns, quantity, price, fee, is_maker)

    def _end(self, order: dict[str, Any], ts_ns: int, reason: str, kind: str = "done") -> None:
        self._set(order, kind, 0)
        self._tell(order["client_id"], kind, ts_ns, reason=reason)

    def _set(self, order: dict[str, Any], status: str, handle: int) -> None:
        query = "UPDATE orders SET status = ?, handle = ? WHERE number = ?"
        self._database.execute(query, (status, handle, order["number"]))

    def _tell(
        self,
        client_id: str,
        kind: str,
        ts_ns: int,
        quantity: Decimal = Decimal(0),
        price: Decimal = Decimal(0),
        fee: Decimal = Decimal(0),
        is_maker: bool = False,
        reason: str = "",
    ) -> None:
        amounts = {"quantity": str(quantity), "price": str(price), "fee": str(fee)}
        insert(
            self._database,
            "events",
            client_id=client_id,
            kind=kind,
            ts_ns=ts_ns,
            is_maker=is_maker,
            reason=reason,
            **amounts,
        )

    def _find(self, client_id: str) -> dict[str, Any] | None:
        return find_row(self._database, "client_id", client_id)

    def _find_number(self, number: int) -> dict[str, Any]:
        row = find_row(self._database, "number", number)
        if row is None:
            raise BrokerError(f"{self.name}: the book has order {number}, the file has not")
        return row

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """A change of books and file together: both, or neither."""
        self._touched: set[str] = set()
        try:
            with self._kept(), transact(self._database):
                yield
                for symbol in self._touched:
                    query = "INSERT OR REPLACE INTO books VALUES (?, ?, ?)"
                    self._database.execute(query, (symbol, *self._books.dump(symbol)))
        except BrokerError:
            self._load()
            raise

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise BrokerError(
                f"{self.name}: its file cannot be read or written ({error}); free the disk, then "
                "open the venue again"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()
