"""What paper trading asks of a broker or a venue.

An order has a client id, which its sender wrote down before sending it. A venue that is sent an
id twice knows the first and answers as it did then: sending again is always safe. What becomes
of orders is a numbered list of events; a reader that remembers the last number misses none and
books none twice.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol

from hftlib.live.ticks import Moment

OrderKind = Literal["ioc", "limit", "post_only"]
EventKind = Literal["fill", "done", "rejected"]


class BrokerError(RuntimeError):
    """A venue that cannot be reached or cannot keep its books: what became of an order is open."""


class OrderRequest(NamedTuple):
    """An order of one venue.

    Attributes
    ----------
    client_id : str
    symbol : str
    quantity : Decimal
        Units, signed; a multiple of the venue's lot.
    limit_price : Decimal or None
        A multiple of the venue's tick; None is any price, for an ioc order only.
    kind : {"ioc", "limit", "post_only"}
        What cannot trade at once is cancelled; rests; is refused if any of it would trade.
    sent_ns : int
        Nanoseconds UTC, the sender's clock.
    """

    client_id: str
    symbol: str
    quantity: Decimal
    limit_price: Decimal | None
    kind: OrderKind
    sent_ns: int


class Ack(NamedTuple):
    """The venue has an order; `is_known` if it had it before."""

    client_id: str
    is_known: bool


class Event(NamedTuple):
    """What became of an order.

    A fill is of signed `quantity` at `price` for `fee` (currency, negative is a rebate). After
    "done" and "rejected", for `reason`, there are no more events of the order.
    """

    number: int
    client_id: str
    kind: EventKind
    ts_ns: int
    quantity: Decimal = Decimal(0)
    price: Decimal = Decimal(0)
    fee: Decimal = Decimal(0)
    is_maker: bool = False
    reason: str = ""


class Quotes(NamedTuple):
    """One side of a venue's book as a taker sees it.

    `levels` are price and units, best first; `fee_bps` is the taker's, `maker_fee_bps` that of
    who rests there; orders are multiples of `lot`.
    """

    venue: str
    levels: tuple[tuple[Decimal, Decimal], ...]
    fee_bps: Decimal
    lot: Decimal
    maker_fee_bps: Decimal = Decimal(0)


class Broker(Protocol):
    """A venue. Every method raises `BrokerError` if it does not answer."""

    @property
    def name(self) -> str:
        """Unique among the venues of an account."""

    def submit(self, order: OrderRequest) -> Ack:
        """Send an order; one that the venue knows is not sent again."""

    def cancel(self, client_id: str, sent_ns: int) -> None:
        """Ask for an order's cancellation; an event says when it is done."""

    def knows(self, client_id: str) -> bool:
        """Whether the order has arrived at the venue's door."""

    def events(self, after: int) -> Sequence[Event]:
        """Events with a number above `after`, in order."""

    def quotes(self, symbol: str, side: int) -> Quotes:
        """What a buyer (side 1) or a seller (-1) finds: asks or bids."""

    def advance(self, moment: Moment) -> None:
        """Move with the market: a simulated venue does, a real one has no need to."""
