import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.portfolio.risk_state import RiskError
from hftlib.portfolio.sizing import (
    size_units,
    var_budget,
    volatility_target,
)


def test_volatility_and_value_at_risk_reach_their_target_or_the_cap():
    np.testing.assert_allclose(volatility_target([0.2, 0.02], 0.1, 1.5), [0.5, 1.5])
    np.testing.assert_allclose(var_budget([0.04, 0.001], 0.02, 1.0), [0.5, 1.0])


def test_units_are_whole_lots_towards_zero():
    assert size_units(0.1, 10_000.0, 30.0) == 33.0
    assert size_units(-0.1, 10_000.0, 30.0) == -33.0
    assert size_units(0.3, 1.0, 0.1) == 3.0  # in floats .3 / .1 is below 3
    np.testing.assert_allclose(size_units([0.5, 0.0], 99.0, [10.0, 5.0], 0.5), [4.5, 0.0])


@given(st.floats(-2, 2), st.floats(1, 1e6), st.floats(0.01, 1e4), st.sampled_from([1.0, 0.01]))
def test_units_never_exceed_the_weight(weight, equity, price, lot):
    units = float(size_units(weight, equity, price, lot))
    assert abs(units) * price <= abs(weight) * equity * (1 + 1e-9)
    assert (abs(units) + lot) * price >= abs(weight) * equity * (1 - 1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: volatility_target(0.0, 0.1, 1.0), "volatility is 0"),
        (lambda: var_budget(-0.01, 0.02, 1.0), "value_at_risk is -0.01"),
        (lambda: size_units(0.1, -5.0, 1.0), "equity is -5"),
        (lambda: size_units(np.inf, 5.0, 1.0), "weight is inf"),
        (lambda: size_units(0.1, 5.0, [1.0, 0.0]), r"price is \[1.0, 0.0\]"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(RiskError, match=message):
        call()
