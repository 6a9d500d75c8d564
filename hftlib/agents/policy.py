"""The protocol that every strategy follows, and the loop that plays one on bars.

A policy of one's own is a class with this one method:

    class AlwaysLong:
        def act(self, observations):
            return np.ones(len(observations), dtype=np.int64)

In the multi-agent market it reads what it sees by name, distances in units of
`envs.roles.TICKS`, and `agents.orders` turns prices and lots into actions:

    class JoinTheBest:
        def __init__(self, role):
            self.role = role

        def act(self, observations):
            bid, ask = read(self.role, observations, "bid_distance_1", "ask_distance_1")
            return quote_action(self.role, bid * TICKS, ask * TICKS, 10, 10)
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from hftlib.data.panel import BarPanel
from hftlib.envs.trading import TradingVecEnv
from hftlib.envs.trading_rules import TradingRules

PORTFOLIO = "portfolio"


class Policy(Protocol):
    """Decides for a batch of accounts at once."""

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Map observations of shape (n, n_inputs) to n actions.

        Whole numbers of shape (n,) for one choice and (n, n_actions) for several, floats of
        shape (n, n_actions) for a box.
        """


@runtime_checkable
class StatefulPolicy(Policy, Protocol):
    """A policy with a memory."""

    def begin(self, n: int) -> None:
        """Forget all: n episodes start, side by side."""


@runtime_checkable
class RestartablePolicy(StatefulPolicy, Protocol):
    """A policy that can also forget single episodes, while the others go on."""

    def begin_some(self, episodes: npt.NDArray[np.bool_]) -> None:
        """Forget these: an array of shape (n,), true where an episode starts."""


@dataclass(frozen=True)
class Rollout:
    """One walk through every symbol of a panel, `n_copies` times side by side.

    A portfolio is one account, here the one symbol `PORTFOLIO`; its `row` is that of the
    panel's first symbol and its `position` the sign of `exposure`, long less short, share
    of equity.

    Arrays have shape (n_bars, n_copies, n_symbols); bar 0 is the start, before
    any order. Symbols shorter than the longest repeat their last equity, with
    position and exposure 0 and no flow; `row` is -1 there.
    """

    symbols: tuple[str, ...]
    row: npt.NDArray[np.int64]
    equity: npt.NDArray[np.float64]
    position: npt.NDArray[np.int64]
    exposure: npt.NDArray[np.float64]
    traded: npt.NDArray[np.float64]
    paid: npt.NDArray[np.float64]

    @property
    def total_equity(self) -> npt.NDArray[np.float64]:
        """Equity summed over symbols as a multiple of its start, shape (n_bars, n_copies)."""
        total = self.equity.sum(axis=2)
        return total / total[0]

    @property
    def turnover(self) -> npt.NDArray[np.float64]:
        """Traded notional over equity, mean over bars and symbols, shape (n_copies,)."""
        return (self.traded[1:] / self.equity[:-1]).mean(axis=(0, 2))


def play(policy: Policy, panel: BarPanel, rules: TradingRules, n_copies: int = 1) -> Rollout:
    """Walk `policy` through each symbol from its first bar to its last.

    Copies differ only if the policy draws random numbers. A ruined account
    stays at its last equity.
    """
    symbols = (PORTFOLIO,) if rules.is_portfolio else panel.symbols
    n_symbols = len(symbols)
    env = TradingVecEnv(panel, rules, n_copies * n_symbols)
    segments = tuple(range(n_symbols)) * n_copies
    observations, info = env.reset(seed=0, options={"segments": segments})
    n_bars = int((panel.segments[:, 1] - panel.segments[:, 0]).max()) - rules.window_bars + 1
    fields = ("row", "equity", "exposure", "traded", "paid")
    record = {name: np.zeros((n_bars, env.num_envs), dtype=info[name].dtype) for name in fields}
    for name in ("row", "equity"):
        record[name][0] = info[name]
    if isinstance(policy, StatefulPolicy):
        policy.begin(env.num_envs)
    running = np.ones(env.num_envs, dtype=bool)
    for t in range(1, n_bars):
        observations, _, terminated, truncated, info = env.step(policy.act(observations))
        for name in fields:
            record[name][t] = np.where(running, info[name], 0)
        record["row"][t, ~running] = -1
        record["equity"][t, ~running] = record["equity"][t - 1, ~running]
        running &= ~(terminated | truncated)
    shape = (n_bars, n_copies, n_symbols)
    position = np.sign(record["exposure"]).astype(np.int64)
    walked = {name: record[name].reshape(shape) for name in fields}
    return Rollout(symbols, position=position.reshape(shape), **walked)
