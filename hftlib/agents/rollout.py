"""The loop that plays one policy an agent in the multi-agent market, its record, and the score."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hftlib.agents.policy import Policy, StatefulPolicy
from hftlib.envs import MarketVecEnv
from hftlib.envs.desk import INVENTORY, RISK

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MarketRollout:
    """Episodes of the same length, side by side: T steps, B episodes, A agents.

    Arrays of shape (T + 1, …) hold what is true before step t, and at T what
    the episode ended with; those of shape (T, …) belong to step t.

    Attributes
    ----------
    agents, kinds : tuples of str
        Names and roles, in the order of the arrays.
    decision_s : float
        Interval between two steps, seconds.
    worlds : array of shape (B,)
        Numbers of the worlds; the same world is the same luck for any policies.
    parent : array of shape (B, A)
        Signed lots of the parent orders, 0 for those without one.
    mid : array of shape (T + 1, B, A)
        Of the book without the agent's orders, ticks; its equity is marked there.
    position : array of shape (T + 1, B, A)
        Lots; an executor starts with minus its parent order.
    cash, equity, fees : arrays of shape (T + 1, B, A)
        Currency; cash starts at 0 and is net of the fees paid so far.
    made, took : arrays of shape (T + 1, B, A)
        Notional of passive and of aggressive fills so far, ticks x lots.
    lots, quoted : arrays of shape (T + 1, B, A)
        Traded and sent so far.
    is_alive : bool array of shape (T + 1, B, A)
        False from the step that a limit ended the agent: its equity stays, while its
        account may still book fills until its orders are cancelled.
    rewards : array of shape (T, B, A)
        Currency.
    terms : array of shape (T, B, A, 5)
        Their parts, in the order of `envs.desk.TERMS`.
    observations, actions : one array of shape (T, B, n) an agent
    """

    agents: tuple[str, ...]
    kinds: tuple[str, ...]
    tick_size: float
    lot_size: float
    decision_s: float
    worlds: IntArray
    parent: IntArray
    mid: FloatArray
    position: IntArray
    cash: FloatArray
    equity: FloatArray
    made: IntArray
    took: IntArray
    lots: IntArray
    quoted: IntArray
    fees: FloatArray
    is_alive: npt.NDArray[np.bool_]
    rewards: FloatArray
    terms: FloatArray
    observations: tuple[npt.NDArray[np.float32], ...]
    actions: tuple[npt.NDArray[Any], ...]

    @property
    def unit(self) -> float:
        """Currency value of one tick of one lot."""
        return self.tick_size * self.lot_size

    @property
    def time_s(self) -> FloatArray:
        """Seconds since the start of the episode, shape (T + 1,)."""
        return np.arange(len(self.mid), dtype=np.float64) * self.decision_s

    @property
    def profit(self) -> FloatArray:
        """Change of equity over the episode, currency, shape (B, A)."""
        return self.equity[-1] - self.equity[0]

    def members(self, kind: str) -> IntArray:
        """Indices of the agents of a role, in their order; empty where there are none."""
        return np.flatnonzero(np.array(self.kinds) == kind)


def play_market(
    env: MarketVecEnv, policies: Mapping[str, Policy], seed: int, n_episodes: int = 1
) -> MarketRollout:
    """Play `n_episodes` episodes in each copy of the environment, in worlds `seed`, `seed` + 1, ….

    The worlds do not depend on how they are spread over copies: 2 episodes of 4
    copies are those of 1 episode of 8. Policies are copied before they play: what
    they remember or draw here does not touch the originals, so one call gives one
    result.

    Parameters
    ----------
    env : MarketVecEnv
        Is reset; what it was doing is lost.
    policies : mapping of agent to policy
        One for each agent of the environment.

    Raises
    ------
    ValueError
        If an agent has no policy, or a policy no agent.
    """
    check_names(env, policies)
    ordered = [copy.deepcopy(policies[agent]) for agent in env.agents]
    starts = seed + env.n_envs * np.arange(n_episodes)
    was, env.auto_reset = env.auto_reset, False  # a copy whose agents have all ended waits
    try:
        episodes = [_play_episode(env, ordered, int(start)) for start in starts]
    finally:
        env.auto_reset = was
    record: dict[str, Any] = {
        name: np.concatenate([episode[name] for episode in episodes], axis=1)
        for name in episodes[0]
    }
    for what in ("observations", "actions"):
        record[what] = tuple(record.pop(f"{what}_{agent}") for agent in env.agents)
    return MarketRollout(
        agents=tuple(env.agents),
        kinds=tuple(env.roles[agent].kind for agent in env.agents),
        tick_size=env.market.tick_size,
        lot_size=env.market.lot_size,
        decision_s=env.market.decision_s,
        worlds=np.concatenate([start + np.arange(env.n_envs) for start in starts]),
        parent=record.pop("parent")[0],
        **record,
    )


def risk_adjusted_profit(rollout: MarketRollout) -> FloatArray:
    """Profit less the environment's charges for inventory and drawdown, currency, shape (B, A).

    The change of equity plus the terms inventory and risk of the rewards, summed over the episode.
    What only serves learning is left out: the terms impact and spread, and hedging of the value.
    """
    return rollout.profit + rollout.terms[..., [INVENTORY, RISK]].sum(axis=(0, 3))


def begin_all(policies: Sequence[Policy], n: int) -> None:
    """Tell policies with memory that `n` episodes start."""
    for policy in policies:
        if isinstance(policy, StatefulPolicy):
            policy.begin(n)


def check_names(env: MarketVecEnv, policies: Mapping[str, Policy]) -> None:
    """Every agent needs a policy and every policy an agent.

    Raises
    ------
    ValueError
        If not so.
    """
    if set(policies) != set(env.agents):
        raise ValueError(
            f"policies for {', '.join(policies) or 'nobody'}; the environment has the agents "
            f"{', '.join(env.agents)}, give each of them one"
        )


def _play_episode(
    env: MarketVecEnv, policies: Sequence[Policy], seed: int
) -> dict[str, npt.NDArray[Any]]:
    """Arrays of a `MarketRollout` by name, those of one agent as `<name>_<agent>`."""
    observations, _ = env.reset(seed=seed)
    begin_all(policies, env.n_envs)
    levels = [_copied(env.accounts())]
    steps = []
    is_over = False
    while not is_over:
        actions = [policy.act(seen) for policy, seen in zip(policies, observations, strict=True)]
        step: dict[str, npt.NDArray[Any]] = {}
        for agent, seen, action in zip(env.agents, observations, actions, strict=True):
            step |= {f"observations_{agent}": seen, f"actions_{agent}": action}
        step = _copied(step)  # before the environment moves on
        result = env.step(actions)
        levels.append(_copied(env.accounts()))
        steps.append(step | _copied({"rewards": result.rewards, "terms": result.terms}))
        observations = result.observations
        is_over = bool(result.truncated.any())
    return {
        name: np.stack([entry[name] for entry in entries])
        for entries in (levels, steps)
        for name in entries[0]
    }


def _copied(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.array(values) for name, values in arrays.items()}
