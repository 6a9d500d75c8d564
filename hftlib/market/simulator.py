"""One market, event by event ("abides"): agents with latency on a mean-reverting value.

The population follows ABIDES' reference configuration RMSC04 (noise, value,
momentum, makers) with splitters of large parent orders added, and arrivals
that cluster; those two are what its statistics lack.

Source: Byrd, Hybinette & Balch (2020), ABIDES: towards high-fidelity
multi-agent market simulation.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.market.book import FILL_FIELDS, MESSAGE_FIELDS, BookError, open_books
from hftlib.market.calendar import N_OVERFLOWN, Calendar, open_calendar
from hftlib.market.draws import open_streams
from hftlib.market.floor import (
    MEAN,
    MEMORY,
    N_CLOCK,
    N_COUNTERS,
    N_QUOTES,
    N_STEPS,
    SECONDS,
    VALUE_NOW,
    Floor,
    Rules,
    advance,
)
from hftlib.market.flow import (
    MAKER,
    N_PARENTS,
    N_ROLES,
    N_SCALES,
    ROLES,
    VALUE,
    FlowParams,
    check_flow,
    settle,
)
from hftlib.market.fundamental import OUParams
from hftlib.market.ladder import CAPACITY, N_REFUSED, TRADED, wide
from hftlib.market.matching import N_ACCOUNT
from hftlib.market.record import (
    N_COLUMNS,
    ROWS_OF_A_STEP,
    check_plan,
    check_room,
    tape_of,
    write_snapshot,
)
from hftlib.market.tape import Recording


class Population(NamedTuple):
    """How many agents of each role there are, and how slow."""

    n_agents: tuple[int, int, int, int, int, int]  # by role, see flow.ROLES
    entry_ms: float  # median delay of an order
    response_ms: float  # median delay of quotes and acknowledgements
    maker_speed: float  # a maker's delays as a share of these
    jitter: float  # standard deviation of the logarithm of a delay
    value_error: float  # standard deviation of an agent's lasting error, ticks
    maker_inventory_skew: float  # a maker's shift for each lot held, ticks


@compile_kernel
def _run(
    floor: Floor,
    calendar: Calendar,
    p: FlowParams,
    value: OUParams,
    rules: Rules,
    n_steps: int,
    fills: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
    snapshots: npt.NDArray[np.int64],
    every: int,
) -> tuple[int, int, int]:
    """Run up to `n_steps`, or until `rows` are nearly full: steps, rows, snapshots done."""
    n, n_snapshots, done = wide(0), wide(0), wide(0)
    full = len(rows) - ROWS_OF_A_STEP - floor.state[CAPACITY]
    while done < n_steps and (len(rows) == 0 or n < full):
        n = advance(floor, calendar, p, value, rules, fills, rows, n)
        done += 1
        if every > 0 and floor.counters[N_STEPS] % every == 0:
            now = rules.open_ns + round(floor.clock[SECONDS] * 1e9)
            n_snapshots = write_snapshot(floor.state, now, snapshots, n_snapshots)
    return done, n, n_snapshots


class Simulator:
    """One session with agents.

    Parameters
    ----------
    flow, value, population
        Behaviour, fundamental value, agents.
    seed : int
        All there is of chance.
    step_ms : float
        Interval at which value, trend and snapshots move; events do not wait for it.
    session_s : float
        Length of the trading day, for its U-shape.
    open_ns : int
        Time of the open, nanoseconds UTC.
    warm_up_s : float
        Trading before the open, which fills the book and is not recorded.
    window, capacity : int
        See `market.book`.

    Raises
    ------
    BookError
        If a number is out of its range.
    """

    def __init__(
        self,
        *,
        flow: FlowParams,
        value: OUParams,
        population: Population,
        seed: int,
        step_ms: float = 100.0,
        session_s: float = 23_400.0,
        open_ns: int = 0,
        warm_up_s: float = 600.0,
        window: int = 1024,
        capacity: int = 8192,
    ) -> None:
        if step_ms <= 0 or session_s <= 0 or warm_up_s < 0:
            raise BookError(
                f"step_ms {step_ms} and session_s {session_s} must be positive, "
                f"warm_up_s {warm_up_s} not negative"
            )
        self.flow, self.value = check_flow(flow), OUParams._make(map(float, value))
        self.rules = Rules(
            step_ms / 1000.0,
            float(session_s),
            open_ns,
            float(population.jitter),
            float(population.maker_inventory_skew),
        )
        self.floor = _open_floor(self.flow, value, population, seed, window, capacity)
        self.calendar = open_calendar(4 * capacity)
        self._fills = np.empty((capacity + 1, len(FILL_FIELDS)), dtype=np.int32)
        self._rows = np.zeros((8 * ROWS_OF_A_STEP + capacity, N_COLUMNS), dtype=np.int64)
        warm_up = round(warm_up_s / self.rules.step_s)
        self.floor.counters[N_STEPS] = -warm_up
        self.floor.clock[SECONDS] = -warm_up * self.rules.step_s
        self._advance(warm_up, self._rows[:0], np.empty((0, 3), dtype=np.int64), 0)
        self.floor.state[TRADED] = 0

    def record(self, n_steps: int, *, snapshot_every: int, levels: int = 10) -> Recording:
        """Run `n_steps` and write down every event.

        Parameters
        ----------
        snapshot_every : int
            Steps between two book snapshots.
        levels : int
            Prices a side in a snapshot.

        Raises
        ------
        BookError
            If a number is not positive, or book, calendar or a step's rows were
            too small: nothing is lost in silence.
        """
        check_plan(n_steps, snapshot_every, levels)
        events, kept, left = [], [], n_steps
        room = n_steps // snapshot_every + 1
        snapshots = np.zeros((room, 3 + 4 * levels), dtype=np.int64)
        while left > 0:
            done, n, n_snapshots = self._advance(left, self._rows, snapshots, snapshot_every)
            check_room(n, len(self._rows))
            events.append(self._rows[:n].copy())
            kept.append(snapshots[:n_snapshots].copy())
            left -= done
        if self.n_lost > 0:
            raise BookError(
                f"{self.n_lost} orders or messages found no room; raise the capacity, which is "
                f"{self.floor.state[CAPACITY]}"
            )
        return Recording(tape_of(np.concatenate(events)), np.concatenate(kept))

    @property
    def n_lost(self) -> int:
        """Orders that found no room in the book, and messages in the calendar."""
        return int(self.floor.state[N_REFUSED] + self.calendar.counters[N_OVERFLOWN])

    def _advance(
        self,
        n_steps: int,
        rows: npt.NDArray[np.int64],
        snapshots: npt.NDArray[np.int64],
        every: int,
    ) -> tuple[int, int, int]:
        return _run(
            self.floor,
            self.calendar,
            self.flow,
            self.value,
            self.rules,
            n_steps,
            self._fills,
            rows,
            snapshots,
            every,
        )


def _open_floor(
    flow: FlowParams,
    value: OUParams,
    population: Population,
    seed: int,
    window: int,
    capacity: int,
) -> Floor:
    """Empty book and idle agents; their latencies and errors are drawn here."""
    counts = np.array(population.n_agents)
    if len(counts) != N_ROLES or (counts < 0).any():
        raise BookError(f"n_agents {population.n_agents}: expected {N_ROLES} counts, of {ROLES}")
    if min(population[1:]) < 0:
        raise BookError(f"{population}: expected delays, jitter, error and skew from 0 up")
    n_agents = int(counts.sum())
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rng = np.random.default_rng([seed, 1])
    spread = np.exp(0.5 * rng.standard_normal((n_agents, 2)))
    delays = spread * 1e6 * np.array([population.response_ms, population.entry_ms])
    delays[first[MAKER] : first[MAKER + 1]] *= population.maker_speed
    errors = np.zeros(n_agents)
    has_error = slice(first[VALUE], first[VALUE + 1])
    errors[has_error] = population.value_error * rng.standard_normal(counts[VALUE])
    clock = np.zeros(N_CLOCK)
    clock[VALUE_NOW] = clock[MEAN] = value.mean
    counters = np.zeros(N_COUNTERS, dtype=np.int64)
    counters[N_QUOTES] = 1  # the quotes of the empty book
    excitation = np.zeros(N_SCALES)
    settle(excitation, flow)
    return Floor(
        state=open_books(1, window, capacity)[0],
        accounts=np.zeros((n_agents + 1, N_ACCOUNT), dtype=np.int64),
        stream=open_streams(seed, 0)[0],
        excitation=excitation,
        clock=clock,
        parents=np.zeros((N_PARENTS, 2), dtype=np.int64),
        counters=counters,
        message=np.zeros(len(MESSAGE_FIELDS), dtype=np.int32),
        first_agent=first,
        delays_ns=delays,
        errors=errors,
        quoted=np.zeros((n_agents, 2), dtype=np.int64),
        known=np.zeros(n_agents, dtype=np.int64),
        seen_ns=np.zeros(MEMORY, dtype=np.int64),
        seen=np.zeros((MEMORY, 4), dtype=np.int64),
        seen_trend=np.zeros(MEMORY),
    )
