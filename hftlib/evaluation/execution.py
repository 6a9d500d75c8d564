"""What it cost to work a parent order.

A cost is that of the whole parent order against a reference price, fees
included, positive if it was worse than trading everything there for free. What
is left over at the end counts as closed at the far side of the spread, as the
environment charges it: read costs beside `completion`.

Source: Perold (1988), Journal of Portfolio Management 14(3).
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.rollout import MarketRollout, risk_adjusted_profit
from hftlib.evaluation.making import passive_share, tabulate

FloatArray = npt.NDArray[np.float64]
EXECUTOR = "executor"


def execution_cost(rollout: MarketRollout, reference: FloatArray) -> FloatArray:
    """Cost of the parent orders against `reference` prices in ticks, currency, shape (B, A).

    With the mid of the arrival it is minus the profit: the implementation shortfall.
    """
    return rollout.parent * (arrival_price(rollout) - reference) * rollout.unit - rollout.profit


def arrival_price(rollout: MarketRollout) -> FloatArray:
    """Mid before the first decision, ticks, shape (B, A)."""
    return rollout.mid[0]


def twap_price(rollout: MarketRollout) -> FloatArray:
    """Mean mid of the decisions, ticks, shape (B, A): what equal slices at the mid would get."""
    return rollout.mid[:-1].mean(axis=0)


def completion(rollout: MarketRollout) -> FloatArray:
    """Share of the parent order that was traded, shape (B, A); nan for those without one."""
    parent = np.abs(rollout.parent)
    return 1.0 - np.abs(rollout.position[-1]) / np.where(parent > 0, parent, np.nan)


def execution_table(rollout: MarketRollout) -> pd.DataFrame:
    """Measures of the executors, one row an episode and agent.

    The table of another strategy in the same worlds pairs with it row by row: see
    `paired.compare_measures` for the difference to a TWAP.

    Returns
    -------
    frame with columns
        world, agent, side (+1 buy), parent_lots;
        profit, risk_adjusted_profit, fees : currency;
        shortfall_bps, twap_slippage_bps : cost against the mid at the arrival and against the mean
        mid, basis points of the parent order at the arrival;
        shortfall_ticks, twap_slippage_ticks : the same, ticks a lot of the parent order;
        completion, passive_share : shares.

    Raises
    ------
    ValueError
        If the environment has no executor.
    """
    lots = np.where(rollout.parent == 0, np.nan, np.abs(rollout.parent))
    columns: dict[str, npt.NDArray[np.generic]] = {
        "side": np.sign(rollout.parent),
        "parent_lots": np.abs(rollout.parent),
        "profit": rollout.profit,
        "risk_adjusted_profit": risk_adjusted_profit(rollout),
        "fees": rollout.fees[-1] - rollout.fees[0],
    }
    for name, price in (("shortfall", arrival_price), ("twap_slippage", twap_price)):
        ticks = execution_cost(rollout, price(rollout)) / (lots * rollout.unit)
        columns[f"{name}_ticks"] = ticks
        columns[f"{name}_bps"] = 1e4 * ticks / arrival_price(rollout)
    columns |= {"completion": completion(rollout), "passive_share": passive_share(rollout)}
    return tabulate(rollout, EXECUTOR, columns)
