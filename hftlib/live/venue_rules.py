"""What a simulated venue is like: steps, fees, latency, and what it shows without a book."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from hftlib.live.broker import OrderRequest
from hftlib.live.ticks import Tick
from hftlib.market import ladder

DEPTH = 20  # levels that the router sees
KINDS = ("ioc", "limit", "post_only")


@dataclass(frozen=True)
class VenueRules:
    """What a venue is like.

    Attributes
    ----------
    tick_size, lot_size : float
        Steps of price (quote currency) and size (units).
    maker_fee_bps, taker_fee_bps : float
        Of the notional; negative is a rebate.
    latency_ns : int
        From sending to arrival.
    spread_bps : float
        Between the best prices, where the feed has no book.
    level_units : float
        Size of each level there, at least a lot; a side of the book holds `ladder.MAX_LOTS` lots.
    n_levels : int
        Levels a side there; they are half a spread apart, at least a tick.
    share : float
        Of the feed's levels that are this venue's, where it has a book, (0, 1].
    """

    tick_size: float = 0.01
    lot_size: float = 1.0
    maker_fee_bps: float = 0.0
    taker_fee_bps: float = 1.0
    latency_ns: int = 1_000_000
    spread_bps: float = 2.0
    level_units: float = 10_000.0
    n_levels: int = 5
    share: float = 1.0

    def __post_init__(self) -> None:
        fine = {
            "tick_size": 0 < self.tick_size < math.inf,
            "lot_size": 0 < self.lot_size < math.inf,
            "latency_ns": self.latency_ns >= 0,
            "spread_bps": 0 <= self.spread_bps < 10_000,
            "level_units": self.lot_size
            <= self.level_units
            < self.lot_size * ladder.MAX_LOTS / max(self.n_levels, 1),
            "n_levels": 1 <= self.n_levels <= DEPTH,
            "share": 0 < self.share <= 1,
        }
        for name, is_fine in fine.items():
            if not is_fine:
                raise ValueError(f"{name} is {getattr(self, name)}; see VenueRules for its range")


def lots_by_price(tick: Tick, side: int, rules: VenueRules) -> dict[int, int]:
    """What the feed shows of a side, or a ladder around its price: lots by price in ticks."""
    levels = tick.bids if side > 0 else tick.asks
    if levels:
        found: dict[int, int] = {}
        for price, units in levels[:DEPTH]:
            at = round(price / rules.tick_size)
            lots = int(units * rules.share / rules.lot_size * (1 + 1e-12))
            found[at] = found.get(at, 0) + lots
        return {at: lots for at, lots in found.items() if lots > 0}
    half = Decimal(str(tick.price)) * Decimal(str(rules.spread_bps)) / 20_000
    exact = (Decimal(str(tick.price)) - side * half) / Decimal(str(rules.tick_size))
    best = int(exact.to_integral_value(ROUND_FLOOR if side > 0 else ROUND_CEILING))
    step = max(int(half / Decimal(str(rules.tick_size))), 1)
    lots = int(rules.level_units / rules.lot_size * (1 + 1e-12))
    prices = (best - side * step * k for k in range(rules.n_levels))
    return {price: lots for price in prices if price >= 1}


def find_fault(order: OrderRequest, symbols: Sequence[str], rules: VenueRules) -> str:
    """Why an order is refused at the door, "" if it is not."""
    tick, lot = Decimal(str(rules.tick_size)), Decimal(str(rules.lot_size))
    if order.symbol not in symbols:
        return f"symbol {order.symbol!r} is not traded here: {', '.join(symbols)} are"
    if order.kind not in KINDS:
        return f"kind {order.kind!r} is not known; expected one of {', '.join(KINDS)}"
    if order.limit_price is None and order.kind != "ioc":
        return f"a {order.kind} order needs a limit price"
    if not order.quantity.is_finite() or order.quantity == 0 or order.quantity % lot:
        return f"quantity {order.quantity} is not a multiple of the lot {lot}, or is 0"
    price = order.limit_price
    if price is not None and (not price.is_finite() or price <= 0 or price % tick):
        return f"price {price} is not a multiple of the tick {tick} above 0"
    lots, ticks = count_ticks(order, rules)
    if lots > ladder.MAX_LOTS or ticks > ladder.MAX_PRICE:
        return f"{order.quantity} at {price}: more than {ladder.MAX_LOTS} lots or ticks"
    return ""


def count_ticks(order: OrderRequest, rules: VenueRules) -> tuple[int, int]:
    """Lots, unsigned, and price in ticks; 0 for any price."""
    price = Decimal(0) if order.limit_price is None else order.limit_price
    return int(abs(order.quantity) / Decimal(str(rules.lot_size))), int(
        price / Decimal(str(rules.tick_size))
    )
