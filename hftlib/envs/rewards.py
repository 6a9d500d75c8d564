"""What a step on bars is worth: formulas, each a sum of named terms.

All start from the log growth of the equity, which is after all costs. Ratios
over a window count by how much of it an episode has filled: the deviation of
the first growth is 0, and over its floor alone that one would outweigh all
others. The formulas know neither bars nor accounts; `envs.kernel` calls them.

Source: Moody & Saffell (2001), Learning to trade via direct reinforcement, IEEE
Transactions on Neural Networks 12(4), for the differential Sharpe ratio.
"""

import math
from dataclasses import dataclass

import numpy as np

from hftlib.compute import inline_kernel
from hftlib.envs.ranges import check_ranges

TERMS = {
    "simple": ("growth",),
    "risk_adjusted": ("return", "costs", "volatility", "drawdown"),
    "sharpe": ("sharpe",),
    "differential_sharpe": ("differential_sharpe",),
    "sortino": ("sortino",),
    "hybrid": ("growth", "accuracy", "sizing"),
}
KINDS = tuple(TERMS)
SIMPLE, RISK_ADJUSTED, SHARPE, DIFFERENTIAL_SHARPE, SORTINO, HYBRID = range(len(KINDS))
N_TERMS = max(len(names) for names in TERMS.values())


@dataclass(frozen=True)
class RewardSettings:
    """Which reward, and its weights; g is a step's log growth.

    Kinds other than `simple` have other scales: a ratio, for one, is of order 1, where g is
    some basis points. The `reward_scale` of an algorithm goes with the kind.

    Attributes
    ----------
    kind : str
        `simple`: g. `risk_adjusted`: return before costs, less `cost_weight` times costs, less
        `volatility_weight` times the deviation of the last g, less `drawdown_weight` times
        the drawdown now. `sharpe`, `sortino`: mean of the last g over their deviation, over
        their downside deviation, times the share of the window that is filled: a ratio of
        one or two g says little. `differential_sharpe`: what this g adds to a Sharpe ratio
        with exponential forgetting; its averages start at 0, so that about the first
        1 / `adaptation_rate` steps weigh more than later ones. `hybrid`: g, plus
        `accuracy_weight` times how far a right forecast was followed, less `sizing_weight`
        times the squared distance from the position that forecast and uncertainty call for.
    window_bars : int
        Steps that "the last g" are; fewer at the start of an episode.
    cost_weight : float
        At 1 return and costs sum to g; more counts costs again, less forgives them.
    volatility_weight, drawdown_weight : float
    adaptation_rate : float
        Weight of the newest g in the differential Sharpe ratio's averages, (0, 1].
    volatility_floor : float
        Least deviation that a mean is divided by, log growth a bar.
    accuracy_weight, sizing_weight : float
        In log growth a bar.
    full_ratio : float
        Forecast over its uncertainty at which a full position is called for.
    """

    kind: str = "simple"
    window_bars: int = 20
    cost_weight: float = 1.0
    volatility_weight: float = 0.0
    drawdown_weight: float = 0.0
    adaptation_rate: float = 0.01
    volatility_floor: float = 1e-3
    accuracy_weight: float = 0.0
    sizing_weight: float = 0.0
    full_ratio: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}")
        weights = ("cost", "volatility", "drawdown", "accuracy", "sizing")
        check_ranges(
            self,
            {
                "window_bars": self.window_bars >= 1,
                **{
                    f"{name}_weight": 0 <= getattr(self, f"{name}_weight") < math.inf
                    for name in weights
                },
                "adaptation_rate": 0 < self.adaptation_rate <= 1,
                "volatility_floor": 0 < self.volatility_floor < math.inf,
                "full_ratio": 0 < self.full_ratio < math.inf,
            },
        )

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms, whose sum is the reward."""
        return TERMS[self.kind]


@inline_kernel
def moments(values, n):  # type: ignore[no-untyped-def]
    """Mean, deviation and downside deviation (below 0) of the first n values; ddof 0."""
    mean = 0.0
    for k in range(n):
        mean += values[k] / n
    variance = downside = 0.0
    for k in range(n):
        variance += (values[k] - mean) ** 2 / n
        downside += min(values[k], 0.0) ** 2 / n
    return mean, math.sqrt(variance), math.sqrt(downside)


@inline_kernel
def differential_sharpe(mean, square, growth, floor):  # type: ignore[no-untyped-def]
    """(B dA - A dB / 2) / (B - A^2)^(3/2), A and B the averages of g and g^2 before this one.

    `floor` is the least deviation, the root of B - A^2.
    """
    variance = max(square - mean * mean, floor * floor)
    change, squares = growth - mean, growth * growth - square
    return (square * change - 0.5 * mean * squares) / variance**1.5


@inline_kernel
def called_for(forecast, uncertainty, full_ratio):  # type: ignore[no-untyped-def]
    """Position in [-1, 1] that a forecast calls for: full at `full_ratio` uncertainties from 0."""
    full = full_ratio * uncertainty
    if abs(forecast) >= full:
        return np.sign(forecast)
    return forecast / full


@inline_kernel
def followed(forecast, realised, position):  # type: ignore[no-untyped-def]
    """Position on the side of the forecast, in [0, 1]; negative if the forecast was wrong."""
    side = np.sign(forecast)
    return side * np.sign(realised) * min(max(side * position, 0.0), 1.0)
