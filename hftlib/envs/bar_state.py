"""Storage of accounts on bars: columns, settings and the record of one account.

Settings and accounts are rows of structured arrays: a call from Python then
passes few arguments, each of which costs as much as the arithmetic of a step.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import inline_kernel

EQUITY_FLOOR = 1e-6  # share of the equity before; keeps the logarithm finite after a total loss
EMPTY = 1e-12  # currency; the least equity that a share of it is taken of
EXPOSURE_LIMIT = 10.0
DUST = 1e-9  # share of equity; a smaller change of a target weight is rounding

# Columns of the bars. YEARS since the bar before; FORECAST of the log return to the next
# close, nan where there is none, and its standard deviation.
OPEN, CLOSE, VOLUME, YEARS, FORECAST, UNCERTAINTY = range(6)
RUNNING, RUIN, DRAWDOWN, MARGIN_CALL, TIME = range(5)
REASONS = ("running", "ruin", "drawdown", "margin call", "time")


class Rules(NamedTuple):
    """Settings of all accounts: money in currency, rates as shares, a year where they accrue."""

    n_window: int  # window_bars * n_features
    n_features: int
    is_continuous: int
    lowest: int  # -1 or 0
    shows_drawdown: int
    max_weight: float
    min_trade_weight: float
    max_leverage: float
    maintenance: float
    max_drawdown: float
    ruin: float
    borrow: float
    interest: float
    fee_bps: float
    spread_bps: float
    slippage_bps: float
    impact_bps: float
    reward: int  # index of rewards.KINDS
    cost_weight: float
    volatility_weight: float
    drawdown_weight: float
    adaptation_rate: float
    volatility_floor: float
    accuracy_weight: float
    sizing_weight: float
    full_ratio: float


RULES = np.dtype([(name, "i8" if t is int else "f8") for name, t in Rules.__annotations__.items()])
# One account: money in currency; `end` is one of the reasons above; `traded` to `reward` are of
# the last step.
ACCOUNT = np.dtype(
    [
        ("row", "i8"),
        ("stop", "i8"),
        ("end", "i8"),
        ("position", "i8"),  # sign; of the first asset of a portfolio
        ("is_called", "i8"),
        ("cash", "f8"),
        ("fees", "f8"),
        ("peak", "f8"),
        ("equity", "f8"),
        ("exposure", "f8"),  # long less short, share of equity
        ("traded", "f8"),
        ("paid", "f8"),
        ("financing", "f8"),
        ("reward", "f8"),
        ("age", "i8"),  # steps taken
        ("mean", "f8"),  # of growth and of its square, with exponential forgetting
        ("square", "f8"),
    ]
)

Records = npt.NDArray[np.void]
FloatArray = npt.NDArray[np.float64]


@inline_kernel
def unpack(settings):  # type: ignore[no-untyped-def]
    """The only row of `settings` as values: those of a record would be read again and again."""
    row = settings[0]
    return Rules(
        row.n_window,
        row.n_features,
        row.is_continuous,
        row.lowest,
        row.shows_drawdown,
        row.max_weight,
        row.min_trade_weight,
        row.max_leverage,
        row.maintenance,
        row.max_drawdown,
        row.ruin,
        row.borrow,
        row.interest,
        row.fee_bps,
        row.spread_bps,
        row.slippage_bps,
        row.impact_bps,
        row.reward,
        row.cost_weight,
        row.volatility_weight,
        row.drawdown_weight,
        row.adaptation_rate,
        row.volatility_floor,
        row.accuracy_weight,
        row.sizing_weight,
        row.full_ratio,
    )
