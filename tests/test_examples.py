"""Targets, linear terms and windows of the forecaster."""

import numpy as np
import pandas as pd
import pytest

from hftlib.features.targets import (
    HAR_DAYS,
    MAX_SHOCK,
    har_terms,
    leverage_terms,
    log_variance,
    next_value,
)
from hftlib.models.examples import TERMS, ExampleError, Examples
from tests.forecast_cases import (
    SYMBOLS,
    WINDOW,
    make_bars,
    make_examples,
    make_features,
    scramble_after,
)


def test_variance_of_a_bar_that_closes_where_it_opened_is_half_its_squared_log_range():
    bars = pd.DataFrame({"open": [100.0], "high": [102.0], "low": [99.0], "close": [100.0]})
    assert log_variance(bars)[0] == pytest.approx(np.log(np.log(102 / 99) ** 2 / 2), abs=1e-12)


def test_variance_of_a_bar_that_runs_from_low_to_high_is_that_of_garman_and_klass():
    bars = pd.DataFrame({"open": [99.0], "high": [102.0], "low": [99.0], "close": [102.0]})
    move = np.log(102 / 99) ** 2
    assert np.exp(log_variance(bars)[0]) == pytest.approx((1.5 - 2 * np.log(2)) * move, rel=1e-12)


def test_garman_and_klass_estimate_the_variance_of_a_random_walk():
    steps = np.random.default_rng(0).normal(0, 0.01 / np.sqrt(2_000), (2_000, 2_000))
    paths = np.exp(np.hstack([np.zeros((2_000, 1)), steps.cumsum(axis=1)]))
    table = {"open": paths[:, 0], "close": paths[:, -1]}
    bars = pd.DataFrame(table | {"high": paths.max(axis=1), "low": paths.min(axis=1)})
    # standard error 1.2 %; discrete steps miss the extremes by some 2 %
    assert np.exp(log_variance(bars)).mean() == pytest.approx(1e-4, rel=0.06)


def test_a_bar_that_does_not_move_has_no_log_variance():
    bars = pd.DataFrame({"open": [5.0], "high": [5.0], "low": [5.0], "close": [5.0]})
    assert np.isnan(log_variance(bars)).all()


def test_terms_are_means_of_their_spans_and_nan_before():
    values = np.arange(30.0)
    terms = har_terms(values)
    for k, n_bars in enumerate(HAR_DAYS):
        assert np.isnan(terms[: n_bars - 1, k]).all()
        np.testing.assert_allclose(terms[n_bars - 1 :, k], values[n_bars - 1 :] - (n_bars - 1) / 2)
    assert next_value(values)[:-1].tolist() == values[1:].tolist()
    assert np.isnan(next_value(values)[-1])


def test_leverage_terms_are_sums_in_standard_deviations_and_clipped():
    returns = np.full(40, 0.01)
    returns[35] = 9.0
    terms = leverage_terms(returns, np.full(40, np.log(0.02**2)))
    np.testing.assert_allclose(terms[30], 0.5 * np.sqrt(HAR_DAYS), rtol=1e-12)
    assert terms[35].tolist() == [MAX_SHOCK] * 3


def test_no_input_depends_on_the_level_of_prices():
    bars = make_bars()
    scaled = bars.assign(**{name: bars[name] * 8 for name in ("open", "high", "low", "close")})
    one, other = make_examples(bars), make_examples(scaled)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-4, atol=1e-5)


def test_a_window_ends_at_its_row_and_the_outcome_is_the_next_bar_s():
    bars, examples = make_bars(), make_examples()
    end = examples.ends[17]
    windows, terms, outcomes = examples.batch(np.array([end]))
    assert windows.shape == (1, WINDOW, len(TERMS) + 2)
    np.testing.assert_array_equal(windows[0], examples.values[end - WINDOW + 1 : end + 1])
    np.testing.assert_allclose(terms[0], windows[0, -1, : len(TERMS)], rtol=1e-6)
    change = np.log(bars["close"][end + 1] / bars["close"][end])
    np.testing.assert_allclose(outcomes[0], [log_variance(bars)[end + 1], change], rtol=1e-5)


def test_windows_cross_neither_symbols_nor_missing_values():
    bars = make_bars()
    features = make_features(bars)
    features.loc[200, "change"] = np.nan
    examples = Examples.from_frames(bars, features, SYMBOLS, WINDOW)
    rows = examples.ends[:, None] + np.arange(1 - WINDOW, 1)
    assert np.isfinite(examples.values[rows]).all()
    assert (examples.symbol[rows] == examples.symbol[rows[:, :1]]).all()
    assert not set(range(200, 200 + WINDOW)) & set(examples.ends)
    assert {199, 200 + WINDOW} <= set(examples.ends)


def test_the_newest_bar_ends_a_window_but_has_no_known_outcome():
    examples = make_examples()
    everything = examples.between((0, len(examples.clock)), is_known=False)
    known = examples.between((0, len(examples.clock)), is_known=True)
    assert set(everything) - set(known) == {399, 799}


def test_rows_of_a_training_span_are_those_its_windows_read():
    examples = make_examples()
    ends = examples.between((0, 100), is_known=True)
    read = np.unique(ends[:, None] + np.arange(1 - WINDOW, 1))
    assert examples.rows_until(100).tolist() == read.tolist()


def test_scrambling_the_future_leaves_every_earlier_input_as_it_was():
    one, other = make_examples(), make_examples(scramble_after(make_bars(), 250))
    past = one.time <= 250
    np.testing.assert_array_equal(one.values[past], other.values[past])
    assert not np.array_equal(one.values[~past], other.values[~past])


def test_shuffling_permutes_outcomes_within_a_symbol_and_leaves_inputs():
    examples = make_examples()
    shuffled = examples.shuffled(np.random.default_rng(0))
    assert shuffled.values is examples.values
    for number in range(2):
        mine = examples.symbol == number
        one, other = examples.outcomes[mine], shuffled.outcomes[mine]
        assert not np.array_equal(one, other, equal_nan=True)
        assert sorted(map(tuple, one[~np.isnan(one).any(axis=1)])) == sorted(
            map(tuple, other[~np.isnan(other).any(axis=1)])
        )


def test_symbols_of_different_length_share_one_clock():
    bars = make_bars()
    bars = bars[(bars["symbol"] == "AAA") | (bars["ts"] >= "2020-06-01")].reset_index(drop=True)
    examples = make_examples(bars)
    assert len(examples.clock) == 400
    stamps = bars["ts"].dt.as_unit("ns").astype("int64").to_numpy()
    np.testing.assert_array_equal(examples.clock[examples.time], stamps)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda bars, features: (bars, features.iloc[1:]), "800 bars but 799 rows of features"),
        (
            lambda bars, features: (bars.assign(symbol="C"), features),
            "symbol AAA is not in the data; known: C",
        ),
        (
            lambda bars, features: (bars, features.assign(mean_5=np.nan)),
            "AAA: none of 400 bars ends a window of 9 whole rows; mean_5 has the fewest values, 0",
        ),
        (
            lambda bars, features: (bars.assign(open=5.0, high=5.0, low=5.0, close=5.0), features),
            "AAA: none of 400 bars.*log_variance_1 has the fewest values, 0.*prices that move",
        ),
        (
            lambda bars, features: (bars.groupby("symbol").head(25).reset_index(drop=True),
                                    features.groupby("symbol").head(25).reset_index(drop=True)),
            "Give more than 31 bars",
        ),
    ],
)  # fmt: skip
def test_data_without_a_window_are_refused_with_the_cause(spoil, words):
    bars = make_bars()
    with pytest.raises(ExampleError, match=words):
        Examples.from_frames(*spoil(bars, make_features(bars)), SYMBOLS, WINDOW)
