import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.portfolio.breakers import Breaker, BreakerRules, record_result, update_breaker
from hftlib.portfolio.risk_state import RiskError

SECOND = 10**9
RULES = BreakerRules(
    max_drawdown=0.1,
    max_daily_loss=0.03,
    max_losses=3,
    max_age_ns=10 * SECOND,
    cooldown_ns=60 * SECOND,
)


def look(breaker, second, *, drawdown=0.0, daily_loss=0.0, age=0):
    return update_breaker(
        breaker,
        RULES,
        now_ns=second * SECOND,
        data_ns=(second - age) * SECOND,
        drawdown=drawdown,
        daily_loss=daily_loss,
    )


def close_trade(breaker, second, profit):
    return record_result(breaker, RULES, now_ns=second * SECOND, profit=profit)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"drawdown": 0.11}, "drawdown"),
        ({"daily_loss": 0.04}, "daily loss"),
        ({"age": 11}, "stale data"),
    ],
)
def test_trouble_trips_and_a_limit_reached_exactly_does_not(trouble, reason):
    exact = look(Breaker(), 100, drawdown=0.1, daily_loss=0.03, age=10)
    assert (exact.phase, exact.is_halted) == ("closed", False)
    tripped = look(exact, 101, **trouble)
    assert (tripped.phase, tripped.reason, tripped.is_halted) == ("open", reason, True)
    assert (tripped.opened_ns, tripped.n_trips) == (101 * SECOND, 1)


def test_losses_in_a_row_trip_and_a_gain_between_starts_the_count_again():
    breaker = Breaker()
    for second, profit in enumerate((-1.0, -1.0, 2.0, -1.0, -1.0)):
        breaker = close_trade(breaker, second, profit)
    assert (breaker.phase, breaker.losses) == ("closed", 2)
    tripped = close_trade(breaker, 9, -0.01)
    assert (tripped.reason, tripped.losses) == ("losses in a row", 3)


def test_after_the_cool_down_it_tries_again():
    tripped = look(Breaker(), 100, age=11)
    assert look(tripped, 159).phase == "open"
    trying = look(tripped, 160)
    assert (trying.phase, trying.is_halted) == ("half_open", False)
    assert close_trade(trying, 161, 0.0) == Breaker(
        "closed", "", opened_ns=100 * SECOND, clock_ns=161 * SECOND, n_trips=1
    )
    failed = close_trade(trying, 161, -1.0)
    assert (failed.phase, failed.opened_ns, failed.n_trips) == ("open", 161 * SECOND, 2)


def test_it_stays_open_for_another_cool_down_while_the_trouble_lasts():
    tripped = look(Breaker(), 100, drawdown=0.2)
    still = look(tripped, 160, drawdown=0.2)
    assert (still.phase, still.opened_ns, still.n_trips) == ("open", 160 * SECOND, 1)
    assert look(still, 219).phase == "open"
    assert look(still, 220).phase == "half_open"


def test_trouble_while_half_open_trips_again():
    trying = look(look(Breaker(), 100, age=11), 160)
    assert look(trying, 161, daily_loss=0.5).n_trips == 2


def test_trades_that_close_while_it_is_open_change_no_phase():
    tripped = look(Breaker(), 100, age=11)
    for second, profit in ((101, -5.0), (102, 5.0)):
        tripped = close_trade(tripped, second, profit)
        assert (tripped.phase, tripped.opened_ns) == ("open", 100 * SECOND)


events = st.tuples(
    st.sampled_from(["look", "trade"]),
    st.integers(0, 50),  # seconds since the event before
    st.floats(0, 0.2),
    st.integers(0, 20),
    st.floats(-1, 1),
)


@given(st.lists(events, max_size=40))
def test_a_breaker_kept_as_json_goes_on_alike_and_opens_for_a_cool_down_at_least(steps):
    breaker, second, opened = Breaker(), 0, None
    for kind, wait, drawdown, age, profit in steps:
        second += wait
        kept = Breaker.from_dict(json.loads(json.dumps(breaker.to_dict())))
        if kind == "look":
            after, other = (look(b, second, drawdown=drawdown, age=age) for b in (breaker, kept))
        else:
            after, other = (close_trade(b, second, profit) for b in (breaker, kept))
        assert after == other
        if after.phase == "open" and breaker.phase != "open":
            opened = second
        if breaker.phase == "open" and after.phase != "open":
            assert second - opened >= 60
            assert after.phase == "half_open", "never straight to closed"
        breaker = after


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: look(Breaker(clock_ns=9 * SECOND), 8), "8000000000 is before 9000000000"),
        (lambda: close_trade(Breaker(clock_ns=9 * SECOND), 8, 1.0), "is before"),
        (lambda: look(Breaker(), 8, age=-1), "is after now_ns"),
        (lambda: look(Breaker(), 8, drawdown=math.nan), "drawdown is nan"),
        (lambda: close_trade(Breaker(), 8, math.inf), "profit is inf"),
        (lambda: BreakerRules(cooldown_ns=0), "cooldown_ns is 0"),
        (lambda: Breaker.from_dict({"phase": "ajar"}), "phase is 'ajar'"),
        (lambda: Breaker.from_dict({"colour": "red"}), "no fields of a breaker: .'colour'"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(RiskError, match=message):
        call()
