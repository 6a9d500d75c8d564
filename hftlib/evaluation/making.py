"""Where the profit of a maker or a taker comes from, and the risk it was earned with.

The profit of a step is, exactly,

    spread captured + position after * change of the mid - fees - closing cost,

with the spread captured = cash flow before fees + change of position * mid at
the decision: what the step's trades gained against that mid. Mids are those of
the book without the agent's own orders, at which its equity is marked. The
closing cost is what the environment charges when it closes a position: where a
limit ends an agent, and for what an executor has left at the end.

Source: Glosten & Milgrom (1985), Journal of Financial Economics 14(1), for
adverse selection; Huang & Stoll (1996), same journal 41(3), for the realised
spread, which is spread captured less adverse selection.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.policy import Policy
from hftlib.agents.rollout import MarketRollout, begin_all, risk_adjusted_profit
from hftlib.envs.roles import NO_SIZE, Maker
from hftlib.portfolio.measures import max_loss

FloatArray = npt.NDArray[np.float64]


class Decomposition(NamedTuple):
    """Parts of each step's profit, shape (T, B, A), currency; fees and closing are costs."""

    spread: FloatArray
    inventory: FloatArray
    fees: FloatArray
    closing: FloatArray


def decompose_profit(rollout: MarketRollout) -> Decomposition:
    """Split the change of equity of every step and agent; all 0 once an agent has ended.

    What a step bought and sold again earns its spread without a position.
    """
    was_alive = rollout.is_alive[:-1]
    fees = np.diff(rollout.fees, axis=0)
    bought = np.diff(rollout.position, axis=0) * rollout.unit
    spread = np.diff(rollout.cash, axis=0) + fees + rollout.mid[:-1] * bought
    inventory = rollout.position[1:] * rollout.unit * np.diff(rollout.mid, axis=0)
    is_closed = was_alive & ~rollout.is_alive[1:]
    is_closed[-1] |= was_alive[-1] & (rollout.parent != 0) & (rollout.position[-1] != 0)
    closing = spread + inventory - fees - np.diff(rollout.equity, axis=0)
    return Decomposition(
        spread=np.where(was_alive, spread, 0.0),
        inventory=np.where(was_alive, inventory, 0.0),
        fees=np.where(was_alive, fees, 0.0),
        closing=np.where(is_closed, closing, 0.0),
    )


def adverse_selection(rollout: MarketRollout, horizon_steps: int) -> FloatArray:
    """How far the mid moves against what a step acquired, ticks a lot, shape (B, A).

    From the mid at the step's decision to that `horizon_steps` later, mean over the lots by which
    steps changed the position; positive is a loss. Steps whose horizon lies beyond the episode
    are left out; nan where nothing was acquired.

    Raises
    ------
    ValueError
        If the horizon is below 1 or longer than the episode.
    """
    n_steps = len(rollout.rewards)
    if not 1 <= horizon_steps <= n_steps:
        raise ValueError(
            f"horizon_steps is {horizon_steps}; expected 1 to {n_steps}, the steps of the episodes"
        )
    bought = np.diff(rollout.position, axis=0)[: n_steps - horizon_steps + 1]
    bought = bought * rollout.is_alive[: n_steps - horizon_steps + 1]
    move = rollout.mid[horizon_steps:] - rollout.mid[:-horizon_steps]
    return _share(-(bought * move).sum(axis=0), np.abs(bought).sum(axis=0))


def inventory_deviation(rollout: MarketRollout) -> FloatArray:
    """Root of the quadratic variation of the inventory's profit, currency, shape (B, A).

    The standard deviation of what the positions held would have earned if each step's change of
    the mid had a fair sign.
    """
    return np.sqrt((decompose_profit(rollout).inventory ** 2).sum(axis=0))


def passive_share(rollout: MarketRollout) -> FloatArray:
    """Notional of passive fills over that of all, shape (B, A); nan where nothing was traded."""
    made, took = (x[-1] - x[0] for x in (rollout.made, rollout.took))
    return _share(made, made + took)


def fill_ratio(rollout: MarketRollout) -> FloatArray:
    """Lots traded over lots sent, shape (B, A); nan where none were sent."""
    return _share(rollout.lots[-1] - rollout.lots[0], rollout.quoted[-1] - rollout.quoted[0])


def trading_table(rollout: MarketRollout, kind: str, horizon_steps: int) -> pd.DataFrame:
    """Measures of the agents of one role, one row an episode and agent.

    Returns
    -------
    frame with columns
        world, agent;
        profit, risk_adjusted_profit, spread_captured, inventory_profit, fees, closing_cost,
        inventory_deviation, max_loss : currency;
        mean_abs_inventory, rms_inventory : time averages over the positions after each step, lots,
        0 once the agent has ended; final_inventory, lots : lots;
        adverse_selection : ticks a lot over `horizon_steps`; fill_ratio, passive_share : shares;
        is_alive : whether the agent reached the clock.

    Raises
    ------
    ValueError
        If the environment has no agent of this role, or the horizon does not fit.
    """
    parts = decompose_profit(rollout)
    held = np.where(rollout.is_alive[1:], rollout.position[1:], 0).astype(np.float64)
    columns = {
        "profit": rollout.profit,
        "risk_adjusted_profit": risk_adjusted_profit(rollout),
        "spread_captured": parts.spread.sum(axis=0),
        "inventory_profit": parts.inventory.sum(axis=0),
        "fees": parts.fees.sum(axis=0),
        "closing_cost": parts.closing.sum(axis=0),
        "inventory_deviation": inventory_deviation(rollout),
        "max_loss": max_loss(rollout.equity),
        "mean_abs_inventory": np.abs(held).mean(axis=0),
        "rms_inventory": np.sqrt((held**2).mean(axis=0)),
        "final_inventory": held[-1],
        "lots": rollout.lots[-1] - rollout.lots[0],
        "adverse_selection": adverse_selection(rollout, horizon_steps),
        "fill_ratio": fill_ratio(rollout),
        "passive_share": passive_share(rollout),
        "is_alive": rollout.is_alive[-1],
    }
    return tabulate(rollout, kind, columns)


def path_table(rollout: MarketRollout, agent: str) -> pd.DataFrame:
    """One agent through the first episode: time_s, mid (ticks), inventory (lots), profit so far."""
    k = rollout.agents.index(agent)
    equity = rollout.equity[:, 0, k]
    return pd.DataFrame(
        {
            "time_s": rollout.time_s,
            "mid": rollout.mid[:, 0, k],
            "inventory": rollout.position[:, 0, k],
            "profit": equity - equity[0],
        }
    )


def quote_curve(
    policy: Policy,
    role: Maker,
    observations: npt.NDArray[np.float32],
    inventories: npt.NDArray[np.int64],
    max_inventory: int,
) -> pd.DataFrame:
    """Where a policy quotes at each inventory, all else as in the given observations.

    A policy with a memory is asked as at the start of an episode.

    Parameters
    ----------
    observations : array of shape (n, n_inputs)
        Such as those of a rollout; the same for the policies that are compared.
    inventories : array of shape (m,)
        Lots.
    max_inventory : int
        Lots, of the environment's limits: the scale of the observation.

    Returns
    -------
    frame of m rows with columns
        inventory; bid_offset, ask_offset : mean distance below and above the mid, ticks, where the
        side is quoted, before rounding, nan where it never is; bid_low, bid_high, ask_low,
        ask_high : its central 90 % over the observations; bid_share, ask_share : of observations
        where the side is quoted.
    """
    column = role.observation_names.index("inventory")
    rows = []
    for lots in inventories:
        seen = observations.copy()
        seen[:, column] = lots / max_inventory
        begin_all([policy], len(seen))
        action = np.asarray(policy.act(seen), dtype=np.float64)
        row = {"inventory": lots}
        for side, sign, index in (("bid", 1, 0), ("ask", -1, 1)):
            # as `envs.desk.quote` places it
            offset = 0.5 + (action[:, index] + 1.0) / 2.0 * role.max_offset_ticks
            offset = offset - sign * action[:, 4] * role.max_skew_ticks
            is_quoted = action[:, 2 + index] > NO_SIZE
            shown = offset[is_quoted] if is_quoted.any() else np.full(1, np.nan)
            row[f"{side}_offset"], row[f"{side}_share"] = shown.mean(), is_quoted.mean()
            row[f"{side}_low"], row[f"{side}_high"] = np.quantile(shown, (0.05, 0.95))
        rows.append(row)
    return pd.DataFrame(rows)


def tabulate(
    rollout: MarketRollout, kind: str, columns: dict[str, npt.NDArray[np.generic]]
) -> pd.DataFrame:
    """Arrays of shape (B, A) as columns, one row an episode and agent of a role.

    Raises
    ------
    ValueError
        If the environment has no agent of this role.
    """
    members = rollout.members(kind)
    if not len(members):
        raise ValueError(
            f"no agent is of the role {kind!r}; there are {', '.join(sorted(set(rollout.kinds)))}"
        )
    names = np.array(rollout.agents, dtype=object)[members]
    index = {
        "world": np.repeat(rollout.worlds, len(members)),
        "agent": np.tile(names, len(rollout.worlds)),
    }
    values = {name: array[:, members].ravel() for name, array in columns.items()}
    return pd.DataFrame({**index, **values}).astype({"agent": "str"})


def _share(part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> FloatArray:
    """The quotient; nan where the whole is 0."""
    return part / np.where(whole == 0, np.nan, whole)
