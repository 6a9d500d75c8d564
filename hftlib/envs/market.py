"""Several agents in one live order book, as a PettingZoo environment.

`MarketEnv` is one copy of `MarketVecEnv`, with dictionaries by name: copy i of
that one, reset with a seed, and this one, reset with seed + i, return the same
numbers bit for bit.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from pettingzoo import ParallelEnv

from hftlib.envs.backends import Plan
from hftlib.envs.desk import TERMS
from hftlib.envs.market_batch import MarketVecEnv
from hftlib.envs.roles import MarketError, Role
from hftlib.envs.rules import MarketSettings, RewardWeights, RiskLimits
from hftlib.envs.settlement import LIMIT
from hftlib.envs.transition import MarketTransition, Observations

__all__ = ["MarketEnv", "MarketVecEnv"]

Observation = npt.NDArray[np.float32]


class MarketEnv(ParallelEnv[str, Observation, npt.NDArray[Any]]):  # type: ignore[misc]
    """Makers, executors and takers who trade with a market, and with each other.

    The clock: agents decide on the book at t; their orders reach it at
    t + latency, at prices that they have not seen; what became of them shows at
    t + decision_ms. Orders queue by price and time and are the other side of
    anybody's trades. Whose orders come first, of those that arrive at the same
    time, is drawn anew each step.

    **Action** `Box(-1, 1, (n,), float32)`, or with `n_bins`
    `MultiDiscrete([n_bins] * n)`, whose bins are those of `linspace(-1, 1, n_bins)`.

    | role | n | action |
    |---|---|---|
    | `Maker` | 5 | bid_offset, ask_offset, bid_size, ask_size, skew |
    | `Executor` | 2 | aggressiveness, slice |
    | `Taker` | 1 | trade: side and size |

    What they mean is told by the roles. Orders are cut to what `RiskLimits`
    still allows when they are sent. A maker's quote that fills while the one in
    its place is on the way can carry the position beyond by one order, and an
    executor's likewise beyond its goal, which it then trades back.

    **Observation** `Box(-10, 10, (n,), float32)`: 20 numbers of the market, without
    the agent's own orders, then those of the role. What lies beyond is clipped.

    | index | name | unit | range |
    |---|---|---|---|
    | 0 | spread, 0 if a side is empty | 10 ticks | [0, 10] |
    | 1 | imbalance of the best bid and ask | share of lots | [-1, 1] |
    | 2 | trend: mid less its running mean of 30 s | 10 ticks | [-10, 10] |
    | 3 | last_return: change of the mid in the last step | 10 ticks | [-10, 10] |
    | 4 | volatility: standard deviation of that change, over 60 s | 10 ticks | [0, 10] |
    | 5 | order_flow: imbalance of flow at the best, sign * log1p(lots) / 10 | | [-2.2, 2.2] |
    | 6 | traded: log1p(lots traded in the last step) / 10 | | [0, 2.2] |
    | 7 | time_left | share of the episode | [0, 1] |
    | 8, 12, 16 | bid_distance_k of levels 1 to 3 from the mid | 10 ticks | [0, 10] |
    | 9, 13, 17 | bid_lots_k: log1p(lots) / 10; 0 where empty | | [0, 2.2] |
    | 10, 14, 18 | ask_distance_k | 10 ticks | [0, 10] |
    | 11, 15, 19 | ask_lots_k | | [0, 2.2] |

    | role | index | name | unit | range |
    |---|---|---|---|---|
    | maker | 20 | inventory | max_inventory | [-10, 10] |
    | | 21, 23 | own_bid_lots, own_ask_lots that rest | max_size | [0, 1] |
    | | 22, 24 | own_bid_distance, own_ask_distance; 0 if none rests | 10 ticks | [0, 10] |
    | | 25 | drawdown | max_drawdown | [0, 10] |
    | executor | 20 | side of the parent order | 1 buy, -1 sell | -1, 1 |
    | | 21 | remaining | parent order | [0, 10] |
    | | 22 | schedule_gap: remaining less time_left | | [-1, 10] |
    | | 23 | own_lots that rest | max_slice | [0, 1] |
    | | 24 | own_distance: mid less price, times side; 0 if none | 10 ticks | [-10, 10] |
    | | 25 | drift: mid less that of the reset, times side | 10 ticks | [-10, 10] |
    | taker | 20 | inventory | max_inventory | [-10, 10] |
    | | 21 | entry_gap: mid less mean price of entry, times side | 10 ticks | [-10, 10] |
    | | 22 | drawdown | max_drawdown | [0, 10] |

    **Reward** currency: the sum of profit, inventory, impact, spread and risk,
    see `RewardWeights`; `info["terms"]` has the five.

    **State** `Box(-10, 10, (n,), float32)`: the market with all orders in it, each
    agent's own numbers, and the distance of the fundamental value from the mid
    in 10 ticks, which no agent sees.

    **Start** the world of the seed, `reset(seed=…)`; without one the next episode
    of the same world. Nobody holds anything, but an executor starts with minus
    its parent order, whose side is drawn.

    **Termination** of one agent: its equity is `max_drawdown` below its peak, or
    gone. Its orders are cancelled, its position is marked at the far side of the
    spread, and it leaves `agents`.
    **Truncation** of all that are left after `episode_steps`.

    **Info** `terms`, and of the account `equity` (currency), `position` (lots),
    `mid` (ticks, of the book without the agent's orders).
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "hftlib/market_v0",
        "render_modes": [],
        "is_parallelizable": True,
    }
    render_mode = None

    def __init__(
        self,
        roles: Mapping[str, Role],
        *,
        market: MarketSettings | None = None,
        risk: RiskLimits | None = None,
        reward: RewardWeights | None = None,
        books: Plan | None = None,
        n_bins: int | None = None,
    ) -> None:
        self.vec = MarketVecEnv(
            roles,
            market=market,
            risk=risk,
            reward=reward,
            books=books,
            n_bins=n_bins,
            auto_reset=False,
        )
        self.possible_agents = list(self.vec.agents)
        self.agents: list[str] = []
        names = self.possible_agents
        self.observation_spaces = dict(zip(names, self.vec.observation_spaces, strict=True))
        self.action_spaces = dict(zip(names, self.vec.action_spaces, strict=True))
        self.state_space = spaces.Box(-LIMIT, LIMIT, (self.vec.state_size,), np.float32)
        self._state = np.zeros(self.vec.state_size, dtype=np.float32)

    def observation_space(self, agent: str) -> spaces.Box:
        """The agent's observation space, the same object at each call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The agent's action space, the same object at each call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start an episode: in the world `seed`, or the next one of the same world.

        There are no options.

        Raises
        ------
        MarketError
            If the seed is negative, or `max_position_value` is less than one lot.
        """
        observations, state = self.vec.reset(seed)
        self.agents = list(self.possible_agents)
        self._state = state[0]
        terms = np.zeros((len(self.agents), len(TERMS)))
        return self._by_name(observations), self._infos(terms)

    def step(
        self, actions: dict[str, npt.NDArray[Any]]
    ) -> tuple[
        dict[str, Observation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Send the orders of all agents that are left, and run the market for one interval.

        Raises
        ------
        MarketError
            If an agent is unknown, has ended or has no action; or if an action
            is of a wrong shape or type, nan or out of bounds. Nothing moves then.
        RuntimeError
            If the episode has ended or not begun.
        """
        if not self.agents:
            who = ", ".join(map(str, actions)) or "nobody"
            raise RuntimeError(
                f"actions for {who}, but no agent is left: the episode has ended or not begun; "
                "call reset() first"
            )
        self._check_names(actions)
        result = self.vec.step([self._one_row(name, actions) for name in self.possible_agents])
        return self._unpack(result)

    def state(self) -> Observation:
        """The central state after the last step, shape `state_space.shape`."""
        return self._state.copy()

    def _check_names(self, actions: Mapping[str, Any]) -> None:
        for name, action in actions.items():
            if name not in self.possible_agents:
                raise MarketError(
                    f"action {action} is for {name!r}, who is no agent; expected one of "
                    f"{', '.join(self.possible_agents)}"
                )
            if name not in self.agents:
                raise MarketError(
                    f"action {action} is for {name!r}, whom a limit has ended; send actions for "
                    f"those in `agents` only: {', '.join(self.agents)}"
                )
        missing = [name for name in self.agents if name not in actions]
        if missing:
            raise MarketError(f"no action for {', '.join(missing)}; each of `agents` needs one")

    def _one_row(self, name: str, actions: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """An agent's action as a batch of one; any, for an agent that has ended."""
        space = self.action_spaces[name]
        if name not in actions:
            return np.zeros((1, *(space.shape or ())), dtype=space.dtype)
        action = np.asarray(actions[name])
        if action.shape != space.shape:
            raise MarketError(
                f"action of {name!r} has shape {action.shape}; expected {space.shape}: "
                f"{', '.join(self.vec.roles[name].action_names)}"
            )
        return action[None]

    def _unpack(
        self, result: MarketTransition
    ) -> tuple[
        dict[str, Observation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        self._state = result.state[0]
        index = {name: a for a, name in enumerate(self.possible_agents) if name in self.agents}
        observations, infos = self._by_name(result.observations), self._infos(result.terms[0])
        rewards = {name: result.rewards.item(0, a) for name, a in index.items()}
        terminated = {name: result.terminated.item(0, a) for name, a in index.items()}
        is_over = result.truncated.item(0)
        truncated = {name: is_over and not terminated[name] for name in index}
        self.agents = [name for name in self.agents if not (terminated[name] or is_over)]
        return observations, rewards, terminated, truncated, infos

    def _by_name(self, observations: Observations) -> dict[str, Observation]:
        pairs = zip(self.possible_agents, observations, strict=True)
        return {name: seen[0] for name, seen in pairs if name in self.agents}

    def _infos(self, terms: npt.NDArray[np.float64]) -> dict[str, dict[str, Any]]:
        accounts = self.vec.accounts()
        return {
            name: {
                "terms": dict(zip(TERMS, terms[a].tolist(), strict=True)),
                **{key: accounts[key].item(0, a) for key in ("equity", "position", "mid")},
            }
            for a, name in enumerate(self.possible_agents)
            if name in self.agents
        }
