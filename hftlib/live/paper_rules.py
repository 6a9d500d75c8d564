"""What a paper-trading account may do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from hftlib.live.target_orders import SizingRules
from hftlib.portfolio.breakers import BreakerRules
from hftlib.portfolio.risk import RiskLimits


@dataclass(frozen=True)
class PaperRules:
    """What an account may do.

    Attributes
    ----------
    symbols : tuple of str
    cash : Decimal
        Paid in at the start.
    limits : RiskLimits
    breaker : BreakerRules
        Its `max_age_ns` is the age at which data are stale.
    sizing : SizingRules
    sectors : mapping of symbol to str
        A symbol left out has no sector limit.
    order_style : {"take", "quote"}
        Take what the books offer; or rest post-only at the best price of the own side until
        the next moment, and take only to exit and to flatten.
    dead_after_ns : int
        Silence after which a feed is dead, nanoseconds.
    tolerance_ns : int
        How far a feed's clock may run ahead.
    order_life_ns : int
        Age beyond which an order that was written and never sent is not sent any more.
    """

    symbols: tuple[str, ...]
    cash: Decimal = Decimal(10_000)
    limits: RiskLimits = RiskLimits()  # noqa: RUF009 (frozen)
    breaker: BreakerRules = BreakerRules()  # noqa: RUF009 (frozen)
    sizing: SizingRules = SizingRules()  # noqa: RUF009 (frozen)
    sectors: Mapping[str, str] = field(default_factory=dict)
    order_style: Literal["take", "quote"] = "take"
    dead_after_ns: int = 300 * 10**9
    tolerance_ns: int = 10**9
    order_life_ns: int = 60 * 10**9
