"""Limits on weights: what is broken, what contradicts, what is nearest."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.portfolio.asset_frames import AllocationError
from hftlib.portfolio.constraints import (
    Constraints,
    UnknownAssetError,
    WeightError,
    bind_constraints,
    check_weights,
)
from hftlib.portfolio.limits import InfeasibleConstraintsError

ASSETS = ["a", "b", "c"]
SECTORS = {"a": "x", "b": "x", "c": "y"}


def weights(*values):
    return pd.Series(values, index=ASSETS)


def test_the_nearest_weights_of_a_sum_are_shifted_alike():
    # the projection on sum(w) = 1 adds the same to each
    limits = bind_constraints(Constraints(lower=-9.0, upper=9.0), ASSETS)
    found = limits.nearest(np.array([0.5, 0.3, 0.5]))
    np.testing.assert_allclose(found, [0.4, 0.2, 0.4], atol=1e-8)


def test_the_largest_mean_is_at_a_corner():
    limits = bind_constraints(Constraints(upper=0.6), ASSETS)
    assert limits.largest(np.array([0.01, 0.03, 0.02])) == pytest.approx(0.6 * 0.03 + 0.4 * 0.02)


@pytest.mark.parametrize(
    ("constraints", "previous", "conflict"),
    [
        (Constraints(upper=0.3, leverage=5.0),
         None, ("upper bounds of the weights", "sum of the weights, 1")),
        (Constraints(lower=0.4, leverage=5.0),
         None, ("lower bounds of the weights", "sum of the weights, 1")),
        (Constraints(lower=-1.0, leverage=0.8, sectors=SECTORS, sector_caps=1.0),
         None, ("sum of the weights, 1", "leverage, 0.8")),
        (Constraints(sectors=SECTORS, sector_caps={"x": 0.5, "y": 0.4}),
         None, ("sum of the weights, 1", "cap of sector x, 0.5", "cap of sector y, 0.4")),
        (Constraints(upper={"a": 0.2, "b": 1.0, "c": 1.0}, turnover=0.5),
         weights(1.0, 0.0, 0.0), ("upper bounds of the weights", "turnover, 0.5")),
        (Constraints(budget=1.0, turnover=0.5, lower=-1.0),
         weights(0.2, 0.1, 0.1), ("sum of the weights, 1", "turnover, 0.5")),
        (Constraints(upper=0.34), None, ()),
    ],
)  # fmt: skip
def test_the_smallest_contradiction_is_found(constraints, previous, conflict):
    limits = bind_constraints(constraints, ASSETS, previous)
    assert limits.conflict() == conflict
    if conflict:
        with pytest.raises(InfeasibleConstraintsError):
            limits.nearest(np.zeros(3))
        with pytest.raises(InfeasibleConstraintsError):
            limits.largest(np.zeros(3))


@settings(max_examples=40, deadline=None)
@given(
    target=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    cap=st.floats(0.0, 1.0),
    leverage=st.floats(0.5, 3.0),
    turnover=st.floats(0.0, 2.0),
    low=st.floats(-1.0, 0.4),
)
def test_the_nearest_weights_obey_the_limits_or_these_contradict(
    target, cap, leverage, turnover, low
):
    constraints = Constraints(
        lower=low, upper=0.9, sectors=SECTORS, sector_caps={"x": cap},
        leverage=leverage, turnover=turnover,
    )  # fmt: skip
    limits = bind_constraints(constraints, ASSETS, weights(0.5, 0.2, 0.3))
    if limits.conflict():
        with pytest.raises(InfeasibleConstraintsError):
            limits.nearest(np.array(target))
    else:
        assert limits.broken_by(limits.nearest(np.array(target))) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.5, 0.5, 0.1), r"weights sum to 1\.1, expected 1"),
        ((-0.3, 0.7, 0.6), "weight of a, -0.3, is below its lower bound"),
        ((0.95, 0.0, 0.05), "weight of a, 0.95, is above its upper bound"),
        ((0.4, 0.4, 0.2), r"sector x has 0\.8, its cap is 0\.7"),
        ((-0.2, 0.6, 0.6), r"leverage is 1\.4, its limit 1\.2"),
        ((0.0, 0.2, 0.8), r"turnover is 1\.2, its limit 1"),
        ((np.nan, 0.5, 0.5), "weights of a are not finite"),
    ],
)
def test_weights_that_break_a_limit_are_refused_with_the_limit(values, message):
    constraints = Constraints(
        lower=-0.2, upper=0.9, sectors=SECTORS, sector_caps={"x": 0.7},
        leverage=1.2, turnover=1.0,
    )  # fmt: skip
    previous = weights(0.6, 0.2, 0.2)
    fine = weights(0.3, 0.4, 0.3)
    assert check_weights(fine, constraints, previous) is fine
    with pytest.raises(WeightError, match=message):
        check_weights(weights(*values), constraints, previous)


def test_a_sector_cap_holds_for_shorts_too():
    constraints = Constraints(lower=-1.0, upper=2.0, sectors=SECTORS, sector_caps={"x": 0.5})
    with pytest.raises(WeightError, match=r"sector x has -0\.8"):
        check_weights(weights(-0.4, -0.4, 1.8), constraints)


@pytest.mark.parametrize(
    ("constraints", "error", "message"),
    [
        (Constraints(upper={"a": 1.0, "b": 1.0}), UnknownAssetError, "upper has no entry for c"),
        (Constraints(sectors={"a": "x"}, sector_caps=0.5), UnknownAssetError, "sectors has no"),
        (Constraints(sectors=SECTORS, sector_caps={"z": 0.5}), UnknownAssetError, "names z"),
        (Constraints(sectors=SECTORS, sector_caps=-0.5), AllocationError, "cap of sector x is"),
        (Constraints(lower=0.5, upper=0.4), AllocationError, "lower bound 0.5 of a is above"),
        (Constraints(upper=np.inf), AllocationError, "upper of a is inf"),
        (Constraints(budget=0.0), AllocationError, "budget is 0"),
        (Constraints(leverage=-1.0), AllocationError, "leverage is -1"),
        (Constraints(turnover=np.nan), AllocationError, "turnover is nan"),
    ],
)
def test_limits_that_mean_nothing_are_refused(constraints, error, message):
    with pytest.raises(error, match=message):
        bind_constraints(constraints, ASSETS)


def test_an_asset_held_before_that_has_no_returns_is_named():
    previous = pd.Series({"a": 0.5, "b": 0.3, "c": 0.0, "old": 0.2, "flat": 0.0})
    with pytest.raises(UnknownAssetError, match="previous weights hold old,"):
        bind_constraints(Constraints(), ASSETS, previous)
    with pytest.raises(UnknownAssetError, match="previous has no entry for c"):
        bind_constraints(Constraints(), ASSETS, previous[["a", "b"]])
