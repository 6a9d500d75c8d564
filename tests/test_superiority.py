"""Tests against a benchmark: size under the null, power, symmetry, corrections by hand."""

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import SPA
from scipy import stats

from hftlib.evaluation.samples import (
    ConstantError,
    DatesDifferError,
    TooFewError,
    UndefinedError,
)
from hftlib.evaluation.superiority import (
    _long_run_deviation,
    beat_benchmark,
    compare_pair,
    confidence_set,
    correct_p_values,
)

DATES = pd.date_range("2015-01-01", periods=300, tz="UTC")
QUICK = {"n_bootstrap": 300, "seed": 0}


def noise(n_strategies=6, seed=0, edge=0.0, n_bars=300):
    values = np.random.default_rng(seed).normal(0, 0.01, (n_bars, n_strategies))
    values[:, 0] += edge
    names = [f"s{k}" for k in range(n_strategies)]
    return pd.DataFrame(values, index=DATES[:n_bars], columns=names)


BENCHMARK = noise(1, seed=99)["s0"]


def test_weights_of_lags_are_those_that_arch_takes():
    excess = noise(4).to_numpy()
    spa = SPA(np.zeros(300), -excess, 7, 10, seed=0)
    spa.compute()
    np.testing.assert_allclose(_long_run_deviation(excess, 7) ** 2, spa._loss_diff_var, rtol=1e-10)


def test_strategies_without_an_edge_are_called_better_as_rarely_as_the_level_says():
    p = [
        beat_benchmark(noise(4, seed, n_bars=120), BENCHMARK[:120], n_bootstrap=99, seed=seed)
        for seed in range(1, 121)
    ]
    # 120 samples: 5 % is known to 2 %; 3 errors above
    assert np.mean([found.spa <= 0.05 for found in p]) < 0.11
    assert np.mean([found.reality_check <= 0.05 for found in p]) < 0.11
    assert 0.3 < np.mean([found.spa_upper for found in p]) < 0.7


def test_a_planted_edge_is_found_and_named():
    found = beat_benchmark(noise(edge=0.006), BENCHMARK, **QUICK)
    assert found.spa <= 0.01 and found.reality_check <= 0.01
    assert found.best == "s0" and found.better == ("s0",)
    assert found.to_dict()["better"] == ["s0"]


def test_no_p_value_is_zero():
    found = beat_benchmark(noise(edge=0.05), BENCHMARK, **QUICK)
    assert found.spa == found.reality_check == pytest.approx(1 / 301)


def test_a_wild_worthless_strategy_hides_an_edge_from_the_reality_check_only():
    table = noise(edge=0.003)
    wild = table.assign(wild=np.random.default_rng(1).normal(-0.01, 0.3, 300))
    calm = BENCHMARK * 0.1
    plain, hidden = (beat_benchmark(t, calm, **QUICK) for t in (table, wild))
    assert plain.spa < 0.01 and hidden.spa < 0.02
    assert plain.reality_check < 0.01 and hidden.reality_check > 0.3


def test_bounds_of_hansens_p_value_are_in_order():
    found = beat_benchmark(noise() - 0.0005, BENCHMARK, **QUICK)
    assert found.spa_lower <= found.spa <= found.spa_upper


def test_same_seed_same_result_and_order_of_strategies_is_immaterial():
    table = noise(edge=0.002)
    first = beat_benchmark(table, BENCHMARK, **QUICK)
    assert first == beat_benchmark(table, BENCHMARK, **QUICK)
    assert first.spa == beat_benchmark(table[table.columns[::-1]], BENCHMARK, **QUICK).spa


def test_confidence_set_keeps_the_best_and_drops_a_plainly_worse_one():
    table = noise(5)
    table["s4"] -= 0.01
    found = confidence_set(table, **QUICK).set_index("strategy")
    assert found["p"].iloc[0] == 1.0 and found["mean"].idxmax() == found.index[0]
    assert not found.loc["s4", "is_included"]
    assert found.drop("s4")["is_included"].all()


def test_confidence_set_may_hold_cash():
    table = noise(3).assign(cash=0.0)
    assert set(confidence_set(table, **QUICK)["strategy"]) == {"s0", "s1", "s2", "cash"}


def test_holm_and_benjamini_hochberg_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    # Holm, sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .06 (never falling)
    holm = correct_p_values(p, "holm")
    np.testing.assert_allclose(holm.p_values, [0.03, 0.06, 0.06, 0.02])
    assert holm.is_rejected.tolist() == [True, False, False, True]
    # Benjamini-Hochberg, times 4/1 4/2 4/3 4/4: .02 .02 .04 .04
    rate = correct_p_values(p, "benjamini_hochberg")
    np.testing.assert_allclose(rate.p_values, [0.02, 0.04, 0.04, 0.02])
    assert rate.is_rejected.all()


def test_a_test_that_was_not_made_is_not_counted():
    found = correct_p_values([0.03, np.nan, 0.04])
    np.testing.assert_allclose(found.p_values, [0.06, np.nan, 0.06])
    assert not found.is_rejected.any()
    assert np.isnan(correct_p_values([np.nan]).p_values).all()


def test_a_correction_that_is_none_is_refused():
    with pytest.raises(ValueError, match="method is 'bonferoni'"):
        correct_p_values([0.1], "bonferoni")
    with pytest.raises(ValueError, match=r"1\.2"):
        correct_p_values([0.1, 1.2])


def test_pair_of_independent_days_agrees_with_students_t():
    first = noise(1, seed=4)["s0"]
    found = compare_pair(first, BENCHMARK, n_bootstrap=4000, seed=0)
    gaps = (first - BENCHMARK).to_numpy()
    p = stats.ttest_1samp(gaps, 0).pvalue
    # 4,000 replications: .008; blocks of estimated length move p by some .05
    assert found.p_value == pytest.approx(p, abs=0.08)
    assert found.effect_size == pytest.approx(gaps.mean() / gaps.std(ddof=1))
    assert found.difference.low < found.difference.value < found.difference.high


def test_pair_mirrored_has_the_mirrored_difference():
    first = noise(1, seed=4)["s0"]
    one, other = compare_pair(first, BENCHMARK, **QUICK), compare_pair(BENCHMARK, first, **QUICK)
    assert other.effect_size == -one.effect_size
    assert other.p_value == one.p_value
    assert other.difference.low == pytest.approx(-one.difference.high)


def test_a_constant_edge_over_the_same_luck_is_significant():
    first = BENCHMARK + 0.001 + noise(1, seed=5)["s0"] * 0.1
    found = compare_pair(first, BENCHMARK, **QUICK)
    assert found.p_value == pytest.approx(1 / 301)
    assert found.effect_size == pytest.approx(1.0, abs=0.25)
    assert found.to_dict()["difference"]["low"] > 0


def test_few_days_of_different_positions_are_too_few_however_long_the_span():
    first = BENCHMARK.copy()
    first.iloc[:29] += 0.01
    with pytest.raises(TooFewError, match="differ in 29 of 300 observations; it needs at least 30"):
        compare_pair(first, BENCHMARK, **QUICK)
    assert compare_pair(first, BENCHMARK, n_least=29, **QUICK).n_differing == 29


@pytest.mark.parametrize("test", [beat_benchmark, compare_pair])
def test_a_benchmark_of_other_dates_is_refused(test):
    first = noise(2) if test is beat_benchmark else noise(1)["s0"]
    shifted = BENCHMARK.set_axis(DATES + pd.Timedelta(days=1))
    with pytest.raises(DatesDifferError, match=r"1 dates that the benchmark lacks.*2015-01-01"):
        test(first, shifted, **QUICK)
    with pytest.raises(DatesDifferError, match="not in the same order"):
        test(first, BENCHMARK[::-1], **QUICK)


def test_unfit_returns_are_refused_by_name():
    table = noise(3)
    with pytest.raises(TooFewError, match="29 observations"):
        beat_benchmark(table[:29], BENCHMARK[:29], **QUICK)
    with pytest.raises(TooFewError, match="1 strategy"):
        confidence_set(table[["s0"]], **QUICK)
    with pytest.raises(UndefinedError, match="'s1' at bar 5 is nan"):
        beat_benchmark(table.mask(table == table.iloc[5, 1]), BENCHMARK, **QUICK)
    with pytest.raises(UndefinedError):
        confidence_set(table.mask(table == table.iloc[5, 1]), **QUICK)
    with pytest.raises(UndefinedError, match="2015-01-03"):
        compare_pair(BENCHMARK.where(DATES[2] != DATES), table["s0"], **QUICK)
    with pytest.raises(ConstantError, match="'same' do not vary"):
        beat_benchmark(table.assign(same=BENCHMARK), BENCHMARK, **QUICK)
    with pytest.raises(ConstantError, match="'s2' and 'twin' differ by the same"):
        confidence_set(table.assign(twin=table["s2"]), **QUICK)
    with pytest.raises(ConstantError):
        compare_pair(BENCHMARK + 0.01, BENCHMARK, **QUICK)
