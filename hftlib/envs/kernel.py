"""The compiled step of the bar-trading environment: storage and one loop over copies."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.ledger import Ledger, equity, open_quantity, trade

EQUITY_FLOOR = 1e-6  # share of the equity before; keeps the logarithm finite after a total loss
EXPOSURE_LIMIT = 10.0


class Market(NamedTuple):
    """`open`, `close` of shape (n_rows,); `features` of shape (n_rows * n_features,)."""

    open: npt.NDArray[np.float64]
    close: npt.NDArray[np.float64]
    features: npt.NDArray[np.float32]


class Rules(NamedTuple):
    """`n_window` = window_bars * n_features; `lowest` is -1 or 0; `ruin` in currency."""

    n_window: int
    n_features: int
    max_weight: float
    lowest: int
    ruin: float
    costs: Costs


class State(NamedTuple):
    """Accounts of n copies and the results of their last step.

    ledger (n, 3) cash, units, fees · clock (n, 2) row now, last row · position (n,) ·
    equity (n,) · flow (n, 2) traded notional at mid, costs paid · reward (n,) ·
    terminated, truncated (n,)
    """

    ledger: npt.NDArray[np.float64]
    clock: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    equity: npt.NDArray[np.float64]
    flow: npt.NDArray[np.float64]
    reward: npt.NDArray[np.float64]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]

    @classmethod
    def zeros(cls, n: int) -> "State":
        """Storage for n copies."""
        return cls(
            np.zeros((n, 3)),
            np.zeros((n, 2), dtype=np.int64),
            np.zeros(n, dtype=np.int64),
            np.zeros(n),
            np.zeros((n, 2)),
            np.zeros(n),
            np.zeros(n, dtype=np.bool_),
            np.zeros(n, dtype=np.bool_),
        )


@compile_kernel
def _observe(
    market: Market, rules: Rules, state: State, i: int, out: npt.NDArray[np.float32]
) -> None:
    """Write the observation of copy i: window of features, position, exposure."""
    row = state.clock[i, 0]
    n = rules.n_window
    offset = (row + 1) * rules.n_features - n
    for k in range(n):
        out[i, k] = market.features[offset + k]
    out[i, n] = state.position[i]
    worth = max(state.equity[i], 1e-12)
    exposure = state.ledger[i, 1] * market.close[row] / worth
    out[i, n + 1] = min(max(exposure, -EXPOSURE_LIMIT), EXPOSURE_LIMIT)


@compile_kernel
def observe_all(market: Market, rules: Rules, state: State, out: npt.NDArray[np.float32]) -> None:
    """Mark every copy to market and write all observations, shape (n, n_window + 2)."""
    for i in range(len(state.position)):
        ledger = Ledger(state.ledger[i, 0], state.ledger[i, 1], state.ledger[i, 2])
        state.equity[i] = equity(ledger, market.close[state.clock[i, 0]])
        _observe(market, rules, state, i, out)


@compile_kernel
def step_all(
    market: Market,
    rules: Rules,
    state: State,
    actions: npt.NDArray[np.int64],
    out: npt.NDArray[np.float32],
) -> int:
    """Move every copy by one bar; returns -1, or the first bad action's index, nothing moved."""
    for i in range(len(actions)):
        if not 0 <= actions[i] <= 2:
            return i
    for i in range(len(actions)):
        row = state.clock[i, 0]
        mid = market.open[row + 1]
        before = state.equity[i]
        ledger = Ledger(state.ledger[i, 0], state.ledger[i, 1], state.ledger[i, 2])

        notch = 1 if actions[i] == 1 else (-1 if actions[i] == 2 else 0)
        position = min(max(state.position[i] + notch, rules.lowest), 1)
        quantity = 0.0
        if position != state.position[i]:
            if state.position[i] == 0:
                quantity = open_quantity(ledger, rules.costs, mid, position * rules.max_weight)
            else:
                quantity = -ledger.units
        worth = equity(ledger, mid)
        ledger = trade(ledger, rules.costs, mid, quantity)
        after = equity(ledger, market.close[row + 1])

        state.ledger[i, 0] = ledger.cash
        state.ledger[i, 1] = ledger.units
        state.ledger[i, 2] = ledger.fees
        state.clock[i, 0] = row + 1
        state.position[i] = position
        state.equity[i] = after
        state.flow[i, 0] = abs(quantity) * mid
        state.flow[i, 1] = worth - equity(ledger, mid)
        state.reward[i] = np.log(max(after, EQUITY_FLOOR * before) / before)
        state.terminated[i] = after <= rules.ruin
        state.truncated[i] = not state.terminated[i] and row + 1 >= state.clock[i, 1]
        _observe(market, rules, state, i, out)
    return -1


@compile_kernel
def step_flat(  # type: ignore[no-untyped-def]
    open_, close, features,
    n_window, n_features, max_weight, lowest, ruin, fee_bps, spread_bps, slippage_bps,
    ledger, clock, position, equity_, flow, reward, terminated, truncated,
    actions, out,
):  # fmt: skip
    """`step_all` with its named tuples spread out: unpacking them took half of a single step."""
    return step_all(
        Market(open_, close, features),
        Rules(
            n_window,
            n_features,
            max_weight,
            lowest,
            ruin,
            Costs(fee_bps, spread_bps, slippage_bps),
        ),
        State(ledger, clock, position, equity_, flow, reward, terminated, truncated),
        actions,
        out,
    )
