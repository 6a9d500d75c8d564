"""The two markets of the pipeline: their default calibration, and recording days of them.

The parameters were searched until the facts of `market.realism` held: on
seeds that no report uses, but one limit (`flow.MOST_PIECES`) was set after a
look at reported ones. What a report says of these facts shows that such a
market exists, not that it was foreseen. They describe a liquid share at about
220 currency units with a tick of .01.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

from hftlib.market.batch import BatchMarket
from hftlib.market.flow import FlowParams
from hftlib.market.fundamental import JumpParams, OUParams
from hftlib.market.simulator import Population, Simulator
from hftlib.market.tape import Recording

STEP_MS = 100
OPEN = timedelta(hours=9, minutes=30)  # after midnight, UTC
TICK_SIZE = 0.01  # currency

ABIDES_FLOW = FlowParams(
    rate_hz=5.6,
    branching=(0.36, 0.2, 0.13),
    decay_hz=(20.0, 1.4, 0.0045),
    news_hz=1 / 584,
    news_share=0.8,
    day_shape=0.88,
    day_tilt=0.2,
    role_shares=(0.5927, 0.01, 0.1, 0.0073, 0.18, 0.11),
    inside_share=0.13,
    best_share=0.077,
    behind_scale=14.1,
    behind_exponent=1.5,
    lifetime_shares=(0.62, 0.3, 0.08),
    lifetimes_s=(0.25, 10.5, 900.0),
    order_size=100.0,
    take_size=80.0,
    n_parents=1,
    parent_exponent=1.5,
    parent_pieces=2.0,
    value_threshold=4.03,
    value_noise=3.0,
    trend_s=30.0,
    trend_threshold=8.0,
    maker_spread=7.0,
    maker_skew=0.1,
    maker_information=0.96,
)
ABIDES_VALUE = OUParams(
    mean=22_000.0,
    reversion_hz=1 / 3600,
    volatility=1.2,
    shock_hz=1 / 470,
    shock_scale=14.0,
)
ABIDES_AGENTS = Population(
    n_agents=(1000, 100, 102, 12, 2, 10),
    entry_ms=2.0,
    response_ms=2.0,
    maker_speed=0.1,
    jitter=0.3,
    value_error=4.0,
    maker_inventory_skew=0.002,
)
JAXLOB_FLOW = FlowParams(
    rate_hz=6.5,
    branching=(0.43, 0.13, 0.08),
    decay_hz=(20.0, 1.39, 0.004),
    news_hz=1 / 580,
    news_share=0.75,
    day_shape=0.85,
    day_tilt=0.2,
    role_shares=(0.543, 0.01, 0.097, 0.01, 0.23, 0.11),
    inside_share=0.12,
    best_share=0.084,
    behind_scale=22.5,
    behind_exponent=1.5,
    lifetime_shares=(0.62, 0.28, 0.1),
    lifetimes_s=(0.25, 4.0, 900.0),
    order_size=100.0,
    take_size=90.0,
    n_parents=1,
    parent_exponent=1.5,
    parent_pieces=1.7,
    value_threshold=3.5,
    value_noise=2.25,
    trend_s=30.0,
    trend_threshold=8.0,
    maker_spread=7.0,
    maker_skew=0.1,
    maker_information=1.0,
)
JAXLOB_VALUE = JumpParams(
    start=22_000.0,
    drift=0.0,
    volatility=6e-05,
    jump_hz=1 / 400,
    jump_mean=0.0,
    jump_scale=0.0004,
)


def trading_days(first: date, n_days: int) -> list[date]:
    """`n_days` weekdays from `first` on."""
    days: list[date] = []
    day = first
    while len(days) < n_days:
        if day.weekday() < 5:
            days.append(day)
        day += timedelta(days=1)
    return days


def open_ns(day: date) -> int:
    """Time of the open of a simulated day, nanoseconds UTC."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return int((midnight + OPEN).timestamp()) * 1_000_000_000


def record_abides(
    days: Sequence[date], seeds: Sequence[int], *, minutes: int, snapshot_ms: int, levels: int
) -> Iterator[Recording]:
    """Days of the agent-based market, each with a seed of its own.

    Parameters
    ----------
    minutes : int
        Length of a day.
    snapshot_ms : int
        Interval between book snapshots, a multiple of `STEP_MS`.
    levels : int
        Prices a side in a snapshot.
    """
    for day, seed in zip(days, seeds, strict=True):
        market = Simulator(
            flow=ABIDES_FLOW,
            value=ABIDES_VALUE,
            population=ABIDES_AGENTS,
            seed=seed,
            step_ms=STEP_MS,
            session_s=60.0 * minutes,
            open_ns=open_ns(day),
        )
        n_steps = minutes * 60_000 // STEP_MS
        yield market.record(n_steps, snapshot_every=snapshot_ms // STEP_MS, levels=levels)


def record_jaxlob(
    days: Sequence[date],
    seeds: Sequence[int],
    *,
    minutes: int,
    snapshot_ms: int,
    levels: int,
    flow: FlowParams = JAXLOB_FLOW,
) -> Iterator[Recording]:
    """Days of the lock-step market, as `record_abides`; `flow` may be a calibrated one."""
    for day, seed in zip(days, seeds, strict=True):
        market = BatchMarket(
            1,
            flow=flow,
            value=JAXLOB_VALUE,
            seed=seed,
            step_ms=STEP_MS,
            session_s=60.0 * minutes,
            open_ns=open_ns(day),
            warm_up_s=600.0,
        )
        n_steps = minutes * 60_000 // STEP_MS
        yield market.record(n_steps, snapshot_every=snapshot_ms // STEP_MS, levels=levels)[0]
