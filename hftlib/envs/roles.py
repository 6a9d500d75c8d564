"""Who can take part in the multi-agent market: makers, executors and takers.

A role says what its agent sees and what its actions mean; the compiled rules
are in `envs.desk`. Actions are numbers in [-1, 1], or bins of
`linspace(-1, 1, n_bins)` in the discrete variant. Distances are in ticks from
the mid of the book without the agent's own orders.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

MAKER, EXECUTOR, TAKER = range(3)
N_LEVELS = 3  # of the book in an observation
TICKS = 10.0  # a distance or a change of the mid of 1 in an observation
LOG_LOTS = 10.0  # log1p(lots) of 1 in an observation
NO_SIZE = -0.8  # at or below it a size is 0, so that not to quote is no single point
NO_TRADE = 0.2  # a taker's action of this size or less is none
SLACK = 1e-6  # of an action: 0.2 as a float32 is a little more
SLACK_TICKS = 1e-3  # a price so near to a whole tick is that: float32 actions err by half as much

MARKET_OBSERVATION = (
    "spread",
    "imbalance",
    "trend",
    "last_return",
    "volatility",
    "order_flow",
    "traded",
    "time_left",
    *(
        f"{side}_{what}_{k}"
        for k in range(1, N_LEVELS + 1)
        for side in ("bid", "ask")
        for what in ("distance", "lots")
    ),
)


class MarketError(ValueError):
    """An environment that cannot be built, or an action that it cannot take."""


def check_ranges(section: object, whole: Collection[str] = (), **ranges: str) -> None:
    """Refuse fields out of their ranges.

    Parameters
    ----------
    whole : names
        Fields that count something, of which there are no fractions.
    **ranges : str
        By field, as intervals are written: "(0, 10]" has 10 in it, and 0 not.

    Raises
    ------
    MarketError
        Names the field, its value and its range.
    """
    for name, interval in ranges.items():
        value, (low, high) = getattr(section, name), map(float, interval[1:-1].split(","))
        is_above = low <= value if interval[0] == "[" else low < value
        is_below = value <= high if interval[-1] == "]" else value < high
        is_count = name in whole
        if not (is_above and is_below) or (is_count and value % 1 != 0):
            raise MarketError(
                f"{type(section).__name__}: {name} is {value}; "
                f"expected a {'whole ' * is_count}number in {interval}"
            )


@dataclass(frozen=True)
class Maker:
    """Quotes a bid and an ask, which rest and never take (post-only).

    **Action** `Box(-1, 1, (5,))`

    | index | name | meaning |
    |---|---|---|
    | 0, 1 | bid_offset, ask_offset | ticks from the mid: .5 at -1, .5 + max_offset_ticks at 1 |
    | 2, 3 | bid_size, ask_size | lots: 0 up to -.8, max_size at 1 |
    | 4 | skew | moves both prices by skew * max_skew_ticks |

    Prices are rounded away from the mid, those within `SLACK_TICKS` of a whole
    tick to it. A quote whose price does not change keeps its place in the queue,
    and its lots unless fewer are wanted.

    Attributes
    ----------
    max_offset_ticks, max_skew_ticks : float
    max_size : int
        Lots.
    latency_ms : float
        From the decision to the book; less than the decision interval.
    """

    max_offset_ticks: float = 10.0
    max_size: int = 100
    max_skew_ticks: float = 5.0
    latency_ms: float = 0.0

    code: ClassVar[int] = MAKER
    kind: ClassVar[str] = "maker"
    action_names: ClassVar[tuple[str, ...]] = (
        "bid_offset",
        "ask_offset",
        "bid_size",
        "ask_size",
        "skew",
    )
    own_observation: ClassVar[tuple[str, ...]] = (
        "inventory",
        "own_bid_lots",
        "own_bid_distance",
        "own_ask_lots",
        "own_ask_distance",
        "drawdown",
    )
    observation_names: ClassVar[tuple[str, ...]] = MARKET_OBSERVATION + own_observation

    def __post_init__(self) -> None:
        check_ranges(
            self,
            whole=["max_size"],
            max_offset_ticks="(0, 10000]",
            max_size="[1, 1000000]",
            max_skew_ticks="[0, 10000]",
            latency_ms="[0, 1000000)",
        )

    @property
    def reach_ticks(self) -> float:
        """Farthest price of an action."""
        return self.max_offset_ticks

    @property
    def parent_lots(self) -> int:
        """No parent order."""
        return 0


@dataclass(frozen=True)
class Executor:
    """Works a parent order, whose side is drawn at the reset, by the end of the episode.

    It starts with minus the parent order as its position: short of what it has
    to buy. Its profit is then minus the implementation shortfall, and its aim
    is to be flat. What is left before the last step goes as a market order.

    **Action** `Box(-1, 1, (2,))`

    | index | name | meaning |
    |---|---|---|
    | 0 | aggressiveness | limit price: reach_ticks behind the mid at -1, through it at 1 |
    | 1 | slice | lots: 0 up to -.8, max_slice at 1; at most what is left |

    Prices are rounded as a maker's. A price beyond the best one trades at once;
    what is left of the order rests until a step wants another price or none.
    Then it is cancelled.

    Attributes
    ----------
    parent_lots, max_slice : int
        Lots.
    reach_ticks : float
    latency_ms : float
        As of `Maker`.
    """

    parent_lots: int = 1000
    max_slice: int = 100
    reach_ticks: float = 5.0
    latency_ms: float = 0.0

    code: ClassVar[int] = EXECUTOR
    kind: ClassVar[str] = "executor"
    action_names: ClassVar[tuple[str, ...]] = ("aggressiveness", "slice")
    own_observation: ClassVar[tuple[str, ...]] = (
        "side",
        "remaining",
        "schedule_gap",
        "own_lots",
        "own_distance",
        "drift",
    )
    observation_names: ClassVar[tuple[str, ...]] = MARKET_OBSERVATION + own_observation

    def __post_init__(self) -> None:
        check_ranges(
            self,
            whole=["parent_lots", "max_slice"],
            parent_lots="[1, 100000000]",
            max_slice="[1, 100000000]",
            reach_ticks="(0, 10000]",
            latency_ms="[0, 1000000)",
        )
        if self.max_slice > self.parent_lots:
            raise MarketError(
                f"Executor: max_slice {self.max_slice} exceeds parent_lots {self.parent_lots}; "
                "lower it or raise the parent order"
            )

    @property
    def max_size(self) -> int:
        """Largest order, lots."""
        return self.max_slice

    @property
    def max_skew_ticks(self) -> float:
        """No skew."""
        return 0.0


@dataclass(frozen=True)
class Taker:
    """Bets on a direction with orders that trade at once or not at all.

    **Action** `Box(-1, 1, (1,))`: buy if positive, sell if negative; lots are 0
    up to a size of .2 and max_size at 1. The order takes up to `reach_ticks`
    beyond the best price; the rest is cancelled.

    Attributes
    ----------
    max_size : int
        Lots.
    reach_ticks : float
    latency_ms : float
        As of `Maker`.
    """

    max_size: int = 100
    reach_ticks: float = 5.0
    latency_ms: float = 0.0

    code: ClassVar[int] = TAKER
    kind: ClassVar[str] = "taker"
    action_names: ClassVar[tuple[str, ...]] = ("trade",)
    own_observation: ClassVar[tuple[str, ...]] = ("inventory", "entry_gap", "drawdown")
    observation_names: ClassVar[tuple[str, ...]] = MARKET_OBSERVATION + own_observation

    def __post_init__(self) -> None:
        check_ranges(
            self,
            whole=["max_size"],
            max_size="[1, 1000000]",
            reach_ticks="[0, 10000]",
            latency_ms="[0, 1000000)",
        )

    @property
    def parent_lots(self) -> int:
        """No parent order."""
        return 0

    @property
    def max_skew_ticks(self) -> float:
        """No skew."""
        return 0.0


Role = Maker | Executor | Taker
