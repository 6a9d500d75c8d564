import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hftlib.portfolio.risk import Order, RiskLimits, check_order
from hftlib.portfolio.risk_state import RiskError, build_state, record_fill
from hftlib.portfolio.weight_limits import clip_weights, number_sectors

SYMBOLS = tuple("ABCDEF")
SECTORS = {"A": "energy", "B": "technology", "C": "energy", "E": "technology", "F": "energy"}
NUMBERS, NAMES = number_sectors(SYMBOLS, SECTORS)
LIMITS = RiskLimits(
    max_var=math.inf, max_position=0.25, max_sector=0.4, max_leverage=0.9, max_daily_volume=math.inf
)
tables = arrays(np.float64, (3, 6), elements=st.floats(-0.6, 0.6))
LOT = 1e-4  # units of price 1 in an account of 1: a lot is .01 % of equity


def send_one_by_one(weights):
    state = build_state(
        prices=dict.fromkeys(SYMBOLS, 1.0),
        units={},
        equity=1.0,
        sectors=SECTORS,
        lot_size=LOT,
    )
    for symbol, weight in zip(SYMBOLS, weights, strict=True):
        decision = check_order(Order(symbol, float(weight)), state, LIMITS)
        state = record_fill(state, symbol, decision.quantity, 1.0)
    return state.weights


def test_sectors_are_numbered_in_order_of_appearance():
    assert NUMBERS.tolist() == [0, 1, 0, -1, 1, 0]
    assert NAMES == ("energy", "technology")


def test_weights_are_cut_to_position_sector_and_leverage_from_left_to_right():
    asked = [0.5, -0.1, 0.2, -0.3, -0.9, 0.1]
    # A to .25; C to the .15 left in energy; D to .25; E to the .15 left of .9
    np.testing.assert_allclose(
        clip_weights(asked, NUMBERS, LIMITS), [0.25, -0.1, 0.15, -0.25, -0.15, 0.0], atol=1e-15
    )


@given(tables)
def test_a_table_is_clipped_as_the_engine_does_order_by_order(table):
    clipped = clip_weights(table, NUMBERS, LIMITS)
    for row, asked in zip(clipped, table, strict=True):
        # each shrunk order leaves less than a lot unused, which a later one may take
        np.testing.assert_allclose(row, send_one_by_one(asked), atol=6 * LOT)


@given(tables.map(lambda table: np.round(table, 2)))
def test_in_whole_lots_the_table_and_the_engine_agree_exactly(table):
    for row, asked in zip(clip_weights(table, NUMBERS, LIMITS), table, strict=True):
        np.testing.assert_allclose(row, send_one_by_one(asked), atol=1e-12)


@given(tables)
def test_clipped_weights_keep_the_limits_their_signs_and_themselves(table):
    clipped = clip_weights(table, NUMBERS, LIMITS)
    sizes = np.abs(clipped)
    assert (sizes <= np.abs(table)).all()
    assert (clipped * table >= 0).all()
    assert sizes.max() <= LIMITS.max_position
    assert sizes.sum(axis=1).max() <= LIMITS.max_leverage + 1e-12
    for sector in (0, 1):
        assert sizes[:, np.equal(NUMBERS, sector)].sum(axis=1).max() <= LIMITS.max_sector + 1e-12
    np.testing.assert_allclose(clip_weights(clipped, NUMBERS, LIMITS), clipped, atol=1e-15)
    np.testing.assert_array_equal(clip_weights(-table, NUMBERS, LIMITS), -clipped)
    np.testing.assert_array_equal(clip_weights(table[1], NUMBERS, LIMITS), clipped[1])


def test_weights_within_all_limits_are_left_as_they_are():
    table = np.full((4, 6), 0.05)
    np.testing.assert_array_equal(clip_weights(table, NUMBERS, LIMITS), table)
    assert clip_weights(np.zeros((0, 6)), NUMBERS, LIMITS).shape == (0, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clip_weights([[0.1, np.nan]], [0, 0], LIMITS), "row 0, column 1 is nan"),
        (lambda: clip_weights([0.1, 0.2], [0], LIMITS), r"sectors \(1,\)"),
        (lambda: clip_weights(np.zeros((2, 2, 2)), [0, 0], LIMITS), r"shape \(2, 2, 2\)"),
        (lambda: number_sectors(SYMBOLS, {"Z": "energy"}), "Z; not among the symbols"),
    ],
)
def test_bad_tables_are_named(call, message):
    with pytest.raises(RiskError, match=message):
        call()
