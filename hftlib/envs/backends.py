"""Where the orders of a `MarketVecEnv` go: simulated books, or recorded days.

Both give the environment's kernels the same arrays: books, the agents'
accounts and orders, lots traded.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hftlib.compute import derive_seed
from hftlib.data.history import O_EXECUTE, O_HIDDEN, O_KIND, O_QTY
from hftlib.data.injection import HistoricalMarket
from hftlib.data.replay import History
from hftlib.envs.roles import MarketError
from hftlib.market.batch import BatchMarket
from hftlib.market.book import ACK_FIELDS, MESSAGE
from hftlib.market.draws import open_streams, uniform
from hftlib.market.flow import FlowParams
from hftlib.market.fundamental import JumpParams
from hftlib.market.ladder import TRADED
from hftlib.market.lane import VALUE_NOW
from hftlib.market.matching import M_KIND, TRADE


class Books(NamedTuple):
    """What the kernels need of some worlds, one row each; views, not copies."""

    book: npt.NDArray[np.int32]  # (n, state_size), see market.ladder
    own: npt.NDArray[np.int32]  # (n, state_size), where the agents' orders rest
    accounts: npt.NDArray[np.int64]  # (n, n_agents + 1, N_ACCOUNT)
    traded: npt.NDArray[np.int64]  # (n,), lots traded until now
    value: npt.NDArray[np.float64]  # (n,), fundamental value in ticks, 0 if there is none


Task = Callable[[int, slice, Books], None]


class Backend(Protocol):
    """Books of n worlds."""

    is_in_book: bool  # whether the agents' orders are among those of the books

    def open(self, first_world: int, episode: int) -> None:
        """Start an episode in the worlds first_world, first_world + 1, …"""

    def open_one(self, b: int, world: int, episode: int) -> None:
        """Start an episode of a world in the place of book b; the others go on."""

    def step(
        self, messages: npt.NDArray[np.int32], delays_s: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int32]:
        """Deliver messages and run the books for one decision interval; acknowledgements."""

    def share(self, task: Task) -> None:
        """Run `task(thread, part, books)` for all worlds, some at a time."""

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs."""

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state`."""


class Plan(Protocol):
    """What a backend is built from."""

    def build(self, n_worlds: int, n_agents: int, decision_s: float, n_steps: int) -> Backend:
        """Books for an environment."""


@dataclass(frozen=True)
class Simulated:
    """A market of `market.batch`.

    Attributes
    ----------
    flow, value : FlowParams, JumpParams
        Background participants and the value they trade on. The shape of the
        day is left out: an episode is an excerpt of the day at its mean pace.
    warm_up_s : float
        Flow before the first decision, seconds.
    n_threads : int
        Changes no result.
    """

    flow: FlowParams
    value: JumpParams
    warm_up_s: float = 30.0
    n_threads: int = 1

    def build(
        self, n_worlds: int, n_agents: int, decision_s: float, n_steps: int
    ) -> "SimulatedBooks":
        """Books for an environment."""
        open_market = partial(
            BatchMarket,
            flow=self.flow._replace(day_shape=0.0, day_tilt=0.0),
            value=self.value,
            seed=0,
            step_ms=1000.0 * decision_s,
            warm_up_s=self.warm_up_s,
            n_owners=n_agents + 1,
            n_threads=self.n_threads,
        )
        return SimulatedBooks(open_market, n_worlds)


class SimulatedBooks:
    """The books of `Simulated`: the world is the number of a book, the episode its seed."""

    is_in_book = True

    def __init__(self, open_market: Callable[[int], BatchMarket], n_worlds: int) -> None:
        self._market = open_market(n_worlds)
        self._open_market = open_market

    def open(self, first_world: int, episode: int) -> None:
        """Start an episode."""
        self._market.reopen(episode, first_world)

    def open_one(self, b: int, world: int, episode: int) -> None:
        """See `Backend`."""
        self._spare.reopen(episode, world)
        spare = self._spare.lanes._asdict()
        for name, array in self._market.lanes._asdict().items():
            array[b] = spare[name][0]

    @cached_property
    def _spare(self) -> BatchMarket:
        """A single book, to be opened and then copied."""
        return self._open_market(1)

    def step(
        self, messages: npt.NDArray[np.int32], delays_s: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int32]:
        """Deliver messages and run the flow."""
        return self._market.step(messages, delays_s)

    def share(self, task: Task) -> None:
        """See `Backend`."""
        lanes = self._market.lanes
        traded = lanes.state[:, TRADED].astype(np.int64)
        value = lanes.clock[:, VALUE_NOW]

        def run(thread: int, part: slice) -> None:
            state = lanes.state[part]
            task(thread, part, Books(state, state, lanes.accounts[part], traded[part], value[part]))

        self._market.share(run)

    def save_state(self) -> dict[str, Any]:
        """See `Backend`."""
        return self._market.save_state()

    def load_state(self, saved: dict[str, Any]) -> None:
        """See `Backend`."""
        self._market.load_state(saved)


@dataclass(frozen=True)
class Replayed:
    """Recorded days, into which the agents' orders are injected (`data.injection`).

    Attributes
    ----------
    days : sequence of History
        An episode is an excerpt of one of them; day and time are drawn.
    has_impact : bool
        Whether own trades change the book.
    """

    days: Sequence[History]
    has_impact: bool = False

    def build(
        self, n_worlds: int, n_agents: int, decision_s: float, n_steps: int
    ) -> "ReplayedBooks":
        """Books for an environment.

        Raises
        ------
        MarketError
            If a day is shorter than an episode.
        """
        length_ns = round(n_steps * decision_s * 1e9)
        for k, day in enumerate(self.days):
            seconds = (int(day.ts[-1]) - int(day.ts[0])) / 1e9
            if seconds * 1e9 <= length_ns:
                raise MarketError(
                    f"day {k} lasts {seconds:.0f} s, an episode {length_ns / 1e9:.0f} s; "
                    "lower episode_steps or decision_ms"
                )
        if not self.days:
            raise MarketError("no days to replay; pass the histories of data.replay")
        return ReplayedBooks(self, n_worlds, n_agents, round(decision_s * 1e9), length_ns)


class ReplayedBooks:
    """The books of `Replayed`."""

    def __init__(
        self, plan: Replayed, n_worlds: int, n_agents: int, step_ns: int, length_ns: int
    ) -> None:
        self.is_in_book = plan.has_impact
        self._plan, self._n_worlds, self._n_owners = plan, n_worlds, n_agents + 1
        self._step_ns, self._length_ns = step_ns, length_ns
        self._markets = dict[int, HistoricalMarket]()
        self._traded = [_traded_lots(day) for day in plan.days]
        self._day, self._extra = [0] * n_worlds, [0] * n_worlds

    def open(self, first_world: int, episode: int) -> None:
        """Draw a day and a time for each world, and play up to it."""
        for b in range(self._n_worlds):
            self.open_one(b, first_world + b, episode)

    def open_one(self, b: int, world: int, episode: int) -> None:
        """See `Backend`."""
        (stream,) = open_streams(derive_seed(episode, "replay"), world)
        k = int(uniform(stream) * len(self._plan.days))
        history = self._plan.days[k]
        market = HistoricalMarket(
            history, has_impact=self._plan.has_impact, n_owners=self._n_owners
        )
        first, last = int(history.ts[0]), int(history.ts[-1]) - self._length_ns
        market.advance(first + int(uniform(stream) * (last - first)))
        self._markets[b], self._day[b], self._extra[b] = market, k, 0

    def step(
        self, messages: npt.NDArray[np.int32], delays_s: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int32]:
        """Deliver messages and play the days on."""
        acks = np.zeros((*messages.shape[:2], len(ACK_FIELDS)), dtype=np.int32)
        for b, market in self._markets.items():
            used = np.flatnonzero(messages[b, :, M_KIND])
            used = used[np.argsort(delays_s[b, used], kind="stable")]
            for delay_s in np.unique(delays_s[b, used]):
                rows = messages[b, used[delays_s[b, used] == delay_s]]
                market.entry_latency_ns = round(delay_s * 1e9)
                market.send(rows.view(MESSAGE)[:, 0])
            answer = market.advance(market.now_ns + self._step_ns)
            for k, name in enumerate(ACK_FIELDS):  # in order of arrival, as they were sent
                acks[b, used, k] = answer.acks[name]
            self._extra[b] += self._extra_lots(b, answer.fills)
        return acks

    def share(self, task: Task) -> None:
        """See `Backend`; one world at a time, since days differ in size."""
        for b, market in self._markets.items():
            recorded = self._traded[self._day[b]][market.n_played]
            traded = recorded - market.lost_lots + self._extra[b]
            books = Books(
                market.book_state[None],
                market.own_state[None],
                market.accounts[None],
                np.array([traded]),
                np.zeros(1),
            )
            task(0, slice(b, b + 1), books)

    def save_state(self) -> dict[str, Any]:
        """See `Backend`."""
        return {
            "markets": self._copy(self._markets),
            "day": list(self._day),
            "extra": list(self._extra),
        }

    def load_state(self, saved: dict[str, Any]) -> None:
        """See `Backend`."""
        self._markets = self._copy(saved["markets"])
        self._day, self._extra = list(saved["day"]), list(saved["extra"])

    def _extra_lots(self, b: int, fills: npt.NDArray[np.void]) -> int:
        """Lots of the agents' fills that the record does not count.

        With impact it counts those of its own takers, who met an agent instead:
        fills at the time of an execution.
        """
        fills = fills[fills["cause"] == TRADE]
        is_extra = np.full(len(fills), True)
        if self._plan.has_impact:
            ts, traded = self._markets[b].history.ts, self._traded[self._day[b]]
            first, end = (np.searchsorted(ts, fills["ts"], side) for side in ("left", "right"))
            is_extra = (fills["message"] >= 0) | (traded[first] == traded[end])
        return int(fills["qty"][is_extra].sum())

    def _copy(self, markets: dict[int, HistoricalMarket]) -> dict[int, HistoricalMarket]:
        """Copies of the markets that share the days and their arrays, which never change."""
        shared = [part for day in self._plan.days for part in (day, *vars(day).values())]
        return copy.deepcopy(markets, {id(part): part for part in shared})


def _traded_lots(history: History) -> npt.NDArray[np.int64]:
    """Lots traded before each row of a day, shape (n_rows + 1,)."""
    kind, qty = history.ops[:, O_KIND], history.ops[:, O_QTY]
    lots = np.where((kind == O_EXECUTE) | (kind == O_HIDDEN), qty, 0)
    total: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(lots, dtype=np.int64)])
    return total[history.first_op]
