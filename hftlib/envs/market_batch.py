"""Several agents in one live order book, many copies at a time.

The clock of a step: agents decide on the book at t; their orders reach it at
t + latency, where background flow and each other's orders have come in
between; at t + decision_ms they see what has become of them. Orders go
through the matching engine, queue by time, pay fees, and are the other side of
anybody's trades, the other agents' included.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from hftlib.compute import derive_seed
from hftlib.envs.actions import ActionReader
from hftlib.envs.backends import Books, Plan, Replayed, Simulated, Task
from hftlib.envs.desk import EQUITY, FEES, MID, N_SLOTS, TERMS, Desk, write_orders
from hftlib.envs.roles import MARKET_OBSERVATION, N_LEVELS, MarketError, Role
from hftlib.envs.rules import (
    MarketSettings,
    RewardWeights,
    RiskLimits,
    cast_of,
    check_roles,
    terms_of,
)
from hftlib.envs.settlement import LIMIT, open_desk, read_answers, settle
from hftlib.envs.transition import MarketTransition, Observations, put_rows
from hftlib.market.book import MESSAGE_FIELDS
from hftlib.market.draws import open_streams
from hftlib.market.matching import CASH, LOTS, MADE, POSITION, TOOK

Accounts = dict[str, npt.NDArray[Any]]


class MarketVecEnv:
    """B copies of a market with A agents, without dictionaries.

    Copy i, reset with `seed`, is the world number seed + i: in it the value, its
    news and the times at which others act are the same whatever the agents do,
    so that policies can be compared on the same worlds. Each further episode
    of the copies is another day of these worlds. A copy runs for `episode_steps`,
    or until limits have ended all its agents, and is then reset in the same
    step. An agent that a limit has ended stays silent until then.

    Parameters
    ----------
    roles : mapping of name to Maker, Executor or Taker
    n_envs : int
    market, risk, reward : MarketSettings, RiskLimits, RewardWeights
    books : Simulated or Replayed, optional
        Default: `market.simulated()`.
    n_bins : int, optional
        Makes actions discrete: bins of `linspace(-1, 1, n_bins)`.
    prices_at_value : bool
        For training: the profit term is what a step's trades earn against the
        value at its end, not the change of the equity; an agent's last one adds
        its position times the distance of the mid from the value. The value is a
        martingale that no agent sees or moves, so all that this leaves out is a
        noise of mean 0: the value's moves times the position.
        Equity, accounts and limits stay as they are.
    auto_reset : bool
        Whether copies that are over are reset in the same step, and not by
        `reset` or `restart`; without it a copy goes on to the end of its time.

    Attributes
    ----------
    agents : tuple of str
    observation_spaces, action_spaces : tuples of spaces, one an agent
    state_size : int
        Of the central state: the market with all orders in it, each agent's own
        features, and the distance of the value, which no agent sees.
    """

    def __init__(
        self,
        roles: Mapping[str, Role],
        n_envs: int = 1,
        *,
        market: MarketSettings | None = None,
        risk: RiskLimits | None = None,
        reward: RewardWeights | None = None,
        books: Plan | None = None,
        n_bins: int | None = None,
        prices_at_value: bool = False,
        auto_reset: bool = True,
    ) -> None:
        if n_envs < 1:
            raise MarketError(f"n_envs is {n_envs}; expected at least 1")
        self.market = MarketSettings() if market is None else market
        plan = self.market.simulated() if books is None else books
        if prices_at_value:
            _check_value(plan)
        self.risk = RiskLimits() if risk is None else risk
        self.reward = RewardWeights() if reward is None else reward
        self.roles = check_roles(dict(roles), self.market, self.risk)
        self.n_envs, self.n_bins, self.agents = n_envs, n_bins, tuple(roles)
        self.n_agents = len(roles)
        cast = list(self.roles.values())
        self._n_inputs = [len(role.observation_names) for role in cast]
        self.observation_spaces: tuple[spaces.Box, ...] = tuple(
            spaces.Box(-LIMIT, LIMIT, (n,), np.float32) for n in self._n_inputs
        )
        self._actions = ActionReader(self.roles, n_envs, n_bins)
        self.action_spaces = self._actions.spaces
        n_own = sum(len(role.own_observation) for role in cast)
        self.state_size = len(MARKET_OBSERVATION) + n_own + 1
        settings = self.market
        self._books = plan.build(n_envs, self.n_agents, settings.decision_s, settings.episode_steps)
        self._cast = cast_of(cast)
        self._terms = terms_of(
            self.market, self.risk, self.reward, self._books.is_in_book, prices_at_value
        )
        self._desk = Desk.zeros(n_envs, self.n_agents)
        n_messages = N_SLOTS * self.n_agents
        self._messages = np.zeros((n_envs, n_messages, len(MESSAGE_FIELDS)), dtype=np.int32)
        self._delays = np.zeros((n_envs, n_messages))
        self.auto_reset, self._seed = auto_reset, 0
        self._episodes = np.full(n_envs, -1)
        self._steps = np.zeros(n_envs, dtype=np.int64)
        self._final: Accounts | None = None

    def reset(self, seed: int | None = None) -> tuple[Observations, npt.NDArray[np.float32]]:
        """Start every copy: observations and central state.

        Without a seed the next episode of the same worlds begins; the first
        time, worlds drawn by chance.

        Raises
        ------
        MarketError
            If the seed is negative, or `max_position_value` is less than one lot.
        """
        if seed is not None and seed < 0:
            raise MarketError(f"seed is {seed}; expected 0 or more")
        if seed is None and self._episodes[0] < 0:
            seed = int(np.random.SeedSequence().generate_state(1)[0] >> 1)
        if seed is not None:
            self._seed, self._episodes[:] = seed, -1
        return self.restart(np.full(self.n_envs, True))

    def restart(
        self, copies: npt.NDArray[np.bool_]
    ) -> tuple[Observations, npt.NDArray[np.float32]]:
        """Start the next episode of some copies, shape (n_envs,), while the others stay.

        Returns the first observations and states of these copies, in their order.
        """
        self._episodes[copies] += 1
        self._steps[copies] = 0
        self._final = None
        worlds = self._seed + np.arange(self.n_envs)
        episodes = np.unique(self._episodes[copies])
        if copies.all() and len(episodes) == 1:
            self._books.open(self._seed, int(episodes[0]))
        else:
            for b in np.flatnonzero(copies):
                self._books.open_one(int(b), int(worlds[b]), int(self._episodes[b]))
        for episode in episodes:
            these = copies & (self._episodes == episode)
            seed = derive_seed(int(episode), "desk")
            self._desk.stream[these] = open_streams(seed, worlds[these])
        open_desk(self._desk, self._cast, copies)
        observations, state, _ = self._look(copies)
        self._check_room(copies)
        return tuple(seen[copies] for seen in observations), state[copies]

    def step(self, actions: Sequence[npt.NDArray[Any]]) -> MarketTransition:
        """Send the agents' orders, and run every market for one decision interval.

        Parameters
        ----------
        actions : one array an agent
            Of shape (n_envs, n_actions): floats in [-1, 1], or bins.

        Raises
        ------
        MarketError
            If an action is of a wrong shape, nan or out of bounds: names the
            agent. If the time of a copy is up, or it has not begun.
        """
        if self._episodes[0] < 0:
            raise MarketError("the copies have not begun; call reset() first")
        if (self._steps == self.market.episode_steps).any():
            b = int(np.argmax(self._steps))
            raise MarketError(
                f"copy {b} has ended after {self._steps[b]} steps; call reset() or restart()"
            )
        self._actions.read(actions, self._desk.is_alive)
        self._steps += 1
        self._final = None
        desk, messages, delays = self._desk, self._messages, self._delays

        def send(_: int, part: slice, books: Books) -> None:
            write_orders(
                _cut(desk, part),
                self._cast,
                self._terms,
                books.accounts,
                self._actions.values[part],
                self._steps[part],
                messages[part],
                delays[part],
            )

        self._books.share(send)
        acks = self._books.step(messages, delays)
        read_answers(desk, messages, acks)
        final_observations, final_state, terms = self._look(np.full(self.n_envs, True))
        observations, state = final_observations, final_state
        rewards, terminated = terms.sum(axis=2), ~desk.is_alive
        truncated = self._steps == self.market.episode_steps
        is_over = truncated | terminated.all(axis=1)
        if self.auto_reset and is_over.any():
            final = self.accounts()
            first, first_state = self.restart(is_over)
            pairs = zip(observations, first, strict=True)
            observations = tuple(put_rows(seen, is_over, new) for seen, new in pairs)
            state = put_rows(state, is_over, first_state)
            self._final = final
        return MarketTransition(
            observations,
            state,
            rewards,
            terminated,
            truncated,
            final_observations,
            final_state,
            terms,
        )

    def accounts(self) -> Accounts:
        """What the agents hold after the last step, even if it ended the episode.

        Arrays of shape (n_envs, n_agents): mid (ticks, of the book without the
        agent's orders), position (lots; an executor's is minus what it has left
        to buy), cash (currency, from 0, fees paid), equity, fees (currency), made
        and took (notional, ticks x lots), lots (traded), quoted (lots sent),
        parent (signed lots of the parent order), is_alive.
        """
        if self._final is not None:
            return self._final
        desk = self._desk
        account = np.empty((self.n_envs, self.n_agents, LOTS + 1), dtype=np.int64)

        def read(_: int, part: slice, books: Books) -> None:
            account[part] = books.accounts[:, 1:]

        self._books.share(read)
        fees = desk.money[:, :, FEES].copy()
        return {
            "mid": desk.seen[:, :-1, MID].copy(),
            "position": account[:, :, POSITION] + desk.start,
            "cash": account[:, :, CASH] * self._terms.unit - fees,
            "equity": desk.money[:, :, EQUITY].copy(),
            "fees": fees,
            "made": account[:, :, MADE].copy(),
            "took": account[:, :, TOOK].copy(),
            "lots": account[:, :, LOTS].copy(),
            "quoted": desk.quoted.copy(),
            "parent": -desk.start,
            "is_alive": desk.is_alive.copy(),
        }

    def resting(self) -> npt.NDArray[np.int64]:
        """Orders of the agents in the books, shape (n_envs, n_agents, 2, 2): side; price, lots.

        As the agents saw them last; 0 where there is none.
        """
        return self._desk.resting.copy()

    def share(self, task: Task) -> None:
        """Run `task(thread, part, books)` on views of the books, part by part: for checks."""
        self._books.share(task)

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit."""
        return {
            "desk": [array.copy() for array in self._desk],
            "books": self._books.save_state(),
            "clock": (self._seed, self._episodes.copy(), self._steps.copy()),
            "final": self._final,
        }

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state` of an environment with the same settings."""
        arrays: tuple[npt.NDArray[Any], ...] = self._desk
        for mine, theirs in zip(arrays, saved["desk"], strict=True):
            mine[...] = theirs
        self._books.load_state(saved["books"])
        self._seed, self._episodes[:], self._steps[:] = saved["clock"]
        self._final = saved["final"]

    def _check_room(self, copies: npt.NDArray[np.bool_]) -> None:
        """Refuse a limit that would silence makers and takers from the start."""
        limit = self.risk.max_position_value
        for a, (name, role) in enumerate(self.roles.items()):
            lot = float(self._desk.seen[copies, a, MID].max(initial=0.0)) * self._terms.unit
            if lot > limit and not role.parent_lots:
                raise MarketError(
                    f"agent {name!r} can hold no lot: max_position_value is {limit}, one lot at "
                    f"the mid {lot:g}; raise the limit or lower lot_size"
                )

    def _look(
        self, due: npt.NDArray[np.bool_]
    ) -> tuple[Observations, npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        seen = np.zeros((self.n_envs, self.n_agents, max(self._n_inputs)), dtype=np.float32)
        state = np.zeros((self.n_envs, self.state_size), dtype=np.float32)
        terms = np.zeros((self.n_envs, self.n_agents, len(TERMS)))

        def look(_: int, part: slice, books: Books) -> None:
            settle(
                _cut(self._desk, part),
                self._cast,
                self._terms,
                books.book,
                books.own,
                books.accounts,
                books.traded,
                books.value,
                self._steps[part],
                due[part],
                np.zeros((2, 2, N_LEVELS + 1), dtype=np.int32),
                np.zeros((2, 2, N_LEVELS), dtype=np.int64),
                seen[part],
                state[part],
                terms[part],
            )

        self._books.share(look)
        observations = tuple(
            np.ascontiguousarray(seen[:, a, :n]) for a, n in enumerate(self._n_inputs)
        )
        return observations, state, terms


def _check_value(plan: Plan) -> None:
    """Refuse books whose value is no martingale, against which profits would be biased."""
    if isinstance(plan, Replayed):
        raise MarketError(
            "prices_at_value needs a value, and recorded days have none; leave it off or use "
            "simulated books"
        )
    if isinstance(plan, Simulated) and (plan.value.reversion_hz != 0 or plan.value.drift != 0):
        raise MarketError(
            "prices_at_value needs a value that is a martingale; that of the books has "
            f"reversion_hz {plan.value.reversion_hz:g} and drift {plan.value.drift:g}: set both "
            "to 0 (MarketSettings: mean_reversion_speed)"
        )


def _cut(desk: Desk, part: slice) -> Desk:
    return Desk._make(array[part] for array in desk)
