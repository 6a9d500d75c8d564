"""Price-time-priority limit order book of one symbol.

Prices are integer ticks and sizes integer lots; `to_ticks` and `to_lots`
convert at the edge. An order has an owner: 0 is anonymous, the others have
an account and may be kept from trading with themselves. The kernels are in
`market.matching`; simulators call those, people this.

- limit: trades up to its price; what is left rests.
- market, ioc: trades, at any price or up to its own; what is left is cancelled.
- fok: trades wholly up to its price, or not at all.
- post_only: rests; refused if it would trade.
- cancel, reduce: takes all lots, or `qty` of them, off a resting order, which
  keeps its place.
- modify: at the same price and no more lots the order keeps its place; else it
  leaves and enters again as a limit order, under a new handle.

Source: Gould et al. (2013), Limit order books, Quantitative Finance 13(11).
"""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.market import ladder, matching
from hftlib.market.ladder import HEADER, LEVEL, N_LIVE, N_REFUSED, NO_ASK, ORDER
from hftlib.market.matching import CASH, MADE, N_ACCOUNT, POSITION, TOOK

KINDS = {
    "limit": matching.LIMIT,
    "market": matching.MARKET,
    "ioc": matching.IOC,
    "fok": matching.FOK,
    "post_only": matching.POST_ONLY,
    "cancel": matching.CANCEL,
    "reduce": matching.REDUCE,
    "modify": matching.MODIFY,
}
STATUSES = (
    "accepted",
    "unknown kind of message",
    "side is neither 1 nor -1",
    "price is outside [1, 2**30] ticks",
    "size is not positive",
    "owner has no account",
    "no such order",
    "order belongs to another owner",
    "book is full",
    "post-only order would trade",
    "fill-or-kill order cannot be filled",
    "stopped by self-trade prevention",
)
SELF_TRADE = {
    "allow": matching.STP_NONE,
    "cancel_resting": matching.STP_CANCEL_RESTING,
    "cancel_incoming": matching.STP_CANCEL_INCOMING,
}
MESSAGE_FIELDS = ("kind", "side", "price", "qty", "owner", "handle", "tag")
ACK_FIELDS = ("status", "handle", "filled", "resting")
FILL_FIELDS = (
    "message",
    "maker",
    "maker_tag",
    "maker_owner",
    "price",
    "qty",
    "taker_side",
    "cause",
)
MESSAGE = np.dtype([(name, np.int32) for name in MESSAGE_FIELDS])
ACK = np.dtype([(name, np.int32) for name in ACK_FIELDS])
FILL = np.dtype([(name, np.int32) for name in FILL_FIELDS])
CHUNK = 2**16  # fills held beside the result


class BookError(ValueError):
    """A book that cannot be built, or numbers that fit no tick or lot."""


def state_size(window: int, capacity: int) -> int:
    """Length of the int32 vector of one book.

    Parameters
    ----------
    window : int
        Levels of the ladder, a power of two.
    capacity : int
        Orders that can rest at once, a power of two.

    Raises
    ------
    BookError
        If one is no power of two, or the handles would not fit 31 bits.
    """
    for name, value, low in (("window", window, 8), ("capacity", capacity, 2)):
        if value < low or value & (value - 1) or value > 2**24:
            raise BookError(f"{name} {value}: expected a power of two in [{low}, 2**24]")
    return HEADER + LEVEL * window + ORDER * capacity


def open_books(
    n_books: int, window: int, capacity: int, self_trade: str = "cancel_resting"
) -> npt.NDArray[np.int32]:
    """Empty books side by side, shape (n_books, state_size)."""
    if self_trade not in SELF_TRADE:
        known = ", ".join(SELF_TRADE)
        raise BookError(f"self_trade {self_trade!r}: expected one of {known}")
    states = np.empty((n_books, state_size(window, capacity)), dtype=np.int32)
    for state in states:
        ladder.clear(state, window, capacity, SELF_TRADE[self_trade])
    return states


class OrderBook:
    """One book, its accounts and its fees.

    Parameters
    ----------
    tick_size, lot_size : float
        Price of one tick and size of one lot.
    maker_fee_bps, taker_fee_bps : float
        Fee in basis points of the notional; negative is a rebate.
    n_owners : int
        Accounts, owner 0 (anonymous) included.
    window, capacity : int
        Levels of the ladder and orders that can rest; powers of two. Prices
        beyond the ladder are held as well, only slower.
    self_trade : {"allow", "cancel_resting", "cancel_incoming"}
        What happens when an order would trade with one of the same owner:
        nothing; the resting order is cancelled and the other goes on; the
        incoming order is cancelled and keeps its earlier fills.

    Attributes
    ----------
    accounts : int64 array of shape (n_owners, 5)
        Lots held; cash before fees, notional made and notional taken in
        ticks x lots, which wrap beyond 2**63; lots traded, made or taken.

    Raises
    ------
    BookError
        If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        tick_size: float = 0.01,
        lot_size: float = 1.0,
        maker_fee_bps: float = 0.0,
        taker_fee_bps: float = 0.0,
        n_owners: int = 2,
        window: int = 1024,
        capacity: int = 8192,
        self_trade: str = "cancel_resting",
    ) -> None:
        for name, value in (("tick_size", tick_size), ("lot_size", lot_size)):
            if not 0 < value < math.inf:
                raise BookError(f"{name} {value}: expected a positive number")
        if n_owners < 1:
            raise BookError(f"n_owners {n_owners}: expected 1 or more, owner 0 is anonymous")
        self.tick_size, self.lot_size = tick_size, lot_size
        self.maker_fee_bps, self.taker_fee_bps = maker_fee_bps, taker_fee_bps
        self.state = open_books(1, window, capacity, self_trade)[0]
        self.accounts = np.zeros((n_owners, N_ACCOUNT), dtype=np.int64)

    def process(self, messages: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.void], ...]:
        """Apply messages in order.

        Parameters
        ----------
        messages : array of shape (n_messages,), dtype `MESSAGE`
            `kind` is a value of `KINDS`, `side` +1 buy or -1 sell, `price` in
            ticks, `qty` in lots. `handle` names the order to cancel, reduce
            or modify: the handle of an acknowledgement, or -1 - k for that of
            message k of this array. `tag` is the caller's own number, which a
            modified order keeps. What a kind does not need is not read.

        Returns
        -------
        fills : array, dtype `FILL`
            In order. `message` is the taker's; `cause` 1 is a resting order
            that self-trade prevention cancelled, 0 a trade.
        acks : array of shape (n_messages,), dtype `ACK`
            `status` is the first of `STATUSES` that applies; `handle` and
            `resting` are of the order that rests after the message, 0 if none
            does. A message that is refused changes nothing, except that an
            order that finds the book full, or that self-trade prevention
            stops, keeps its fills; had a modification sent it, the old order
            is gone.

        Raises
        ------
        BookError
            If `messages` is not a vector of dtype `MESSAGE`.
        """
        if messages.dtype != MESSAGE or messages.ndim != 1:
            raise BookError(
                f"expected a vector of dtype book.MESSAGE, received {messages.dtype} "
                f"of shape {messages.shape}"
            )
        rows = np.ascontiguousarray(messages).view(np.int32).reshape(-1, len(MESSAGE_FIELDS))
        acks = np.zeros((len(rows), len(ACK_FIELDS)), dtype=np.int32)
        room = int(self.state[ladder.CAPACITY]) + min(len(rows), CHUNK)
        buffer = np.empty((room, len(FILL_FIELDS)), dtype=np.int32)
        parts, start = [buffer[:0]], 0
        while start < len(rows):
            start, n = matching.process(self.state, self.accounts, rows, start, acks, buffer)
            parts.append(buffer[:n].copy())
        return np.concatenate(parts).view(FILL).reshape(-1), acks.view(ACK).reshape(-1)

    def send(self, kind: str, **fields: int) -> tuple[npt.NDArray[np.void], np.void]:
        """Apply one message given by names, e.g. `send("limit", side=1, price=100, qty=5)`."""
        if kind not in KINDS:
            raise BookError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
        message = np.zeros(1, dtype=MESSAGE)
        message["kind"] = KINDS[kind]
        for name, value in fields.items():
            if name not in MESSAGE_FIELDS or not -(2**31) <= value < 2**31 or value % 1 != 0:
                raise BookError(
                    f"{name}={value!r}: expected a whole number of 32 bits for one of "
                    f"{', '.join(MESSAGE_FIELDS[1:])}; see to_ticks and to_lots"
                )
            message[name] = value
        fills, acks = self.process(message)
        return fills, acks[0]

    @property
    def best_bid(self) -> int:
        """Ticks; 0 where there is no bid."""
        return int(self.state[ladder.BEST_BID])

    @property
    def best_ask(self) -> int:
        """Ticks; 0 where there is no ask."""
        price = int(self.state[ladder.BEST_ASK])
        return 0 if price == NO_ASK else price

    @property
    def n_orders(self) -> int:
        """Orders that rest."""
        return int(self.state[N_LIVE])

    @property
    def n_refused(self) -> int:
        """Orders that found no room since the book was opened."""
        return int(self.state[N_REFUSED])

    def depth(self, levels: int) -> pd.DataFrame:
        """Best prices and sizes, best first: bid_px, bid_qty, ask_px, ask_qty; 0 where empty."""
        table = np.zeros((4, levels), dtype=np.int32)
        ladder.read_depth(self.state, 1, table[0], table[1])
        ladder.read_depth(self.state, -1, table[2], table[3])
        return pd.DataFrame(table.T, columns=["bid_px", "bid_qty", "ask_px", "ask_qty"])

    def position(self, owner: int) -> int:
        """Lots held."""
        return int(self.accounts[owner, POSITION])

    def cash(self, owner: int) -> float:
        """Currency received less paid, fees included."""
        account = self.accounts[owner]
        fees = account[MADE] * self.maker_fee_bps + account[TOOK] * self.taker_fee_bps
        return float((account[CASH] - fees / 10_000) * self.tick_size * self.lot_size)

    def to_ticks(self, price: float) -> int:
        """Ticks of a price.

        Raises
        ------
        BookError
            If it lies between two ticks or is not finite.
        """
        return _whole(price, self.tick_size, "price", "tick_size")

    def to_lots(self, size: float) -> int:
        """Lots of a size.

        Raises
        ------
        BookError
            If it is no whole number of lots or not finite.
        """
        return _whole(size, self.lot_size, "size", "lot_size")


def _whole(value: float, unit: float, what: str, name: str) -> int:
    if not math.isfinite(value):
        raise BookError(f"{what} {value}: expected a finite number")
    count = round(value / unit)
    if abs(count * unit - value) > 1e-6 * unit:
        raise BookError(
            f"{what} {value} is not a multiple of {name}={unit}; the nearest is {count * unit:.12g}"
        )
    return count
