"""Plans of paper trading, and a process that trades one; it needs no torch."""

import time
from decimal import Decimal
from functools import partial

from hftlib.live.clock import AcceleratedClock
from hftlib.live.feeds import Recording, read_bars
from hftlib.live.paper_rules import PaperRules
from hftlib.live.session import PaperSession, SessionPlan
from hftlib.live.target_orders import SizingRules
from tests.conftest import make_bars
from tests.paper_cases import FINE, NEVER, NO_LIMITS

SYMBOLS = ("AAA", "BBB")
N_BARS, N_TRADED = 80, 30


def make_plan(folder, bars=None, *, n_traded=N_TRADED, pace_s=0.0, **changes):
    """Trade the last bars of a recording; `pace_s` is how long a day takes."""
    bars = make_bars(N_BARS, SYMBOLS) if bars is None else bars
    moments = read_bars(bars)
    times = bars["ts"].drop_duplicates()
    speed = 86_400 / pace_s if pace_s else float("inf")
    rules = PaperRules(
        symbols=SYMBOLS,
        cash=Decimal(100_000),
        limits=NO_LIMITS,
        breaker=NEVER,
        sizing=SizingRules("weights"),
    )
    settings = {
        "name": "a recording",
        "folder": folder,
        "rules": rules,
        "venues": {"one": FINE},
        "feed": partial(Recording, moments),
        "clock": partial(AcceleratedClock, speed=speed),
        "first_ns": times.iloc[-n_traded].value,
        "last_ns": moments[-1].ts_ns,
    }
    return SessionPlan(**settings | changes)


def wait_for(condition, limit_s=20.0):
    """Return when it holds; fail when it does not within the limit."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def state_of(session):
    """What a session says of itself."""
    return session.snapshot()["session"]["state"]


def trade_alone(folder, address, token):
    """Trade a plan to its end, at some 20 ms a day."""
    session = PaperSession(make_plan(folder, pace_s=0.02))
    session.start(address, token)
    wait_for(lambda: state_of(session) == "ended", 60.0)
