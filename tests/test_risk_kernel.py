"""The arithmetic of the limits where orders need not be whole lots, and without equity."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.portfolio.risk import (
    ROUNDING,
    Order,
    RiskLimits,
    check_order,
    find_breaches,
    pack_limits,
    portfolio_var,
)
from hftlib.portfolio.risk_kernel import (
    LIMITS,
    NO_REASON,
    REASONS,
    STOP_LOSS,
    TAKE_PROFIT,
    VAR,
    Exposure,
    Standing,
    allow_order,
    average_entry,
    find_exit,
)
from hftlib.portfolio.risk_state import build_state, record_fill

PRICES = {"A": 7.0, "B": 13.0, "C": 110.0}
SECTORS = {"A": "energy", "B": "energy"}
COVARIANCE = 0.02**2 * (0.6 * np.eye(3) + 0.4)
LIMIT_SETS = st.builds(
    RiskLimits,
    max_var=st.sampled_from([0.005, 0.02, math.inf]),
    max_leverage=st.floats(0.3, 2.0),
    max_position=st.floats(0.05, 0.9),
    max_sector=st.floats(0.1, 1.0),
    max_daily_volume=st.floats(0.1, 3.0),
)


def account(**changes):
    values = {"prices": PRICES, "units": {}, "equity": 10_000.0, "sectors": SECTORS}
    return build_state(**(values | {"covariance": COVARIANCE, "lot_size": None} | changes))


def test_without_lots_an_order_is_cut_to_the_limit_itself():
    limits = RiskLimits(max_var=math.inf, max_position=0.1)
    decision = check_order(Order("A", 1_000), account(), limits)
    assert (decision.action, decision.quantity) == ("shrink", pytest.approx(1_000 / 7, rel=1e-12))
    state = record_fill(account(), "A", decision.quantity, 7.0)
    assert check_order(Order("A", 5), state, limits).action == "reject"
    through = check_order(Order("A", -1_000), state, limits)
    assert through.quantity == pytest.approx(-2_000 / 7, rel=1e-12)


def test_the_value_at_risk_is_reached_to_the_last_digits():
    limits = RiskLimits(max_var=0.01, max_position=5.0, max_leverage=5.0, max_daily_volume=9.0)
    state = account(units={"C": 20.0})
    state = record_fill(
        state, "A", check_order(Order("A", 2_000), state, limits).quantity, PRICES["A"]
    )
    assert portfolio_var(state, 0.95) == pytest.approx(0.01, rel=1e-9)


@settings(max_examples=200)
@given(
    LIMIT_SETS,
    st.sampled_from("ABC"),
    st.floats(-2.0, 2.0),
    st.lists(st.floats(-0.8, 0.8), min_size=3, max_size=3),
)
def test_what_is_left_of_an_order_keeps_the_limits_and_little_more_breaks_one(
    limits, symbol, share, held
):
    units = {s: 10_000 * w / PRICES[s] for s, w in zip(PRICES, held, strict=True)}
    state, price = account(units=units), PRICES[symbol]
    quantity = 10_000 * share / price
    decision = check_order(Order(symbol, quantity), state, limits)
    sent = decision.quantity
    assert abs(sent) <= abs(quantity)
    assert sent * quantity >= 0
    again = check_order(Order(symbol, sent), state, limits)
    assert (again.action, again.quantity) == ("accept", sent)
    if decision.action != "accept":
        # where the variance is least it hardly moves with the order
        step = 1e-6 if math.isinf(limits.max_var) else 1e-3
        more = sent + math.copysign(step * 10_000 / price, quantity)
        if abs(more) < abs(quantity):
            assert find_breaches(Order(symbol, more), state, limits)


def test_openings_below_the_rounding_are_left():
    limits = RiskLimits(max_var=math.inf, max_position=0.1)
    near = 1_000.0 / 7 * (1 - ROUNDING)  # a billionth of the limit is free
    assert check_order(Order("A", 10), account(units={"A": near}), limits).action == "reject"
    # closing goes on, whatever its size
    tiny = account(units={"A": 1e-12})
    assert check_order(Order("A", -1e-12), tiny, limits).action == "accept"


def test_limits_and_reasons_have_the_names_of_the_settings():
    fields = RiskLimits.__dataclass_fields__
    assert set(REASONS) == set(fields) - {"var_level"} | {"halt"}
    assert (REASONS[STOP_LOSS], REASONS[TAKE_PROFIT]) == ("stop_loss", "take_profit")
    assert len(LIMITS) == STOP_LOSS


def decide(quantity, held=0.0, equity=10_000.0, day=10_000.0, curve=4e-4, **limits):
    bounds = pack_limits(RiskLimits(**limits))
    standing = Standing(equity, 10_000.0, day, 0.0, 0.0, False)
    exposure = Exposure(held * 10.0, 0.0, 0.0, False, 0.0, 0.0, curve)
    return allow_order(bounds, standing, exposure, quantity, 10.0, held, 0.0)


def test_nothing_opens_without_equity_or_with_an_unknown_value_at_risk():
    for equity in (0.0, -5.0):
        allowed, limit = decide(10.0, equity=equity, max_drawdown=0.5)
        assert (allowed, LIMITS[limit]) == (0.0, "max_drawdown")
        allowed, limit = decide(10.0, equity=equity, max_drawdown=math.inf, max_daily_loss=math.inf)
        assert allowed == 0.0
        assert decide(-10.0, held=10.0, equity=equity) == (-10.0, NO_REASON)
    assert decide(10.0, day=-1.0)[0] == 0.0
    assert decide(10.0, curve=np.nan) == (0.0, VAR)
    assert decide(10.0, curve=np.nan, max_var=math.inf) == (10.0, NO_REASON)
    assert decide(-30.0, held=10.0, curve=np.nan) == (-10.0, VAR)


def test_the_smallest_room_is_the_limit_that_is_named():
    names = {
        "max_position": {"max_position": 0.01},
        "max_leverage": {"max_leverage": 0.01},
        "max_daily_volume": {"max_daily_volume": 0.01},
        "max_var": {"max_var": 0.01 * 0.02 * 1.6448536269514722},
    }
    for name, change in names.items():
        allowed, limit = decide(1_000.0, **change)
        assert (allowed, LIMITS[limit]) == (pytest.approx(10.0), name)


def test_exits_look_at_the_side_of_the_position():
    bounds = pack_limits(replace(RiskLimits(), stop_loss=0.05, take_profit=0.1))
    assert find_exit(bounds, 1.0, 95.0, 100.0)[1] == STOP_LOSS
    assert find_exit(bounds, -1.0, 105.0, 100.0)[1] == STOP_LOSS
    assert find_exit(bounds, -1.0, 90.0, 100.0) == (pytest.approx(0.1), TAKE_PROFIT)
    assert find_exit(bounds, 1.0, 109.9, 100.0)[1] == NO_REASON


def test_the_entry_is_the_average_of_what_was_opened():
    assert average_entry(0.0, math.nan, 10.0, 5.0) == 5.0
    assert average_entry(10.0, 5.0, 30.0, 7.0) == pytest.approx(6.5)
    assert average_entry(-10.0, 5.0, 4.0, 7.0) == 5.0
    assert average_entry(-10.0, 5.0, 14.0, 7.0) == 7.0
    assert math.isnan(average_entry(-10.0, 5.0, 10.0, 7.0))
