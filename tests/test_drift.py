"""Drift of features: PSI by hand, Smirnov's distance, MMD, and false alarms under dependence."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hftlib.evaluation.drift import ColumnsDifferError, detect_drift
from hftlib.evaluation.drift_controls import control_drift, draw_autocorrelated
from hftlib.evaluation.drift_tests import (
    draw_labels,
    judge,
    kolmogorov_distance,
    mean_discrepancy,
    stability,
)
from hftlib.evaluation.samples import ConstantError, TooFewError, UndefinedError

QUICK = {"n_permutations": 199, "seed": 5}


def rows(n, seed=0, k=3, autocorrelation=0.5):
    drawn = draw_autocorrelated(autocorrelation, (n, k), np.random.default_rng(seed))
    return pd.DataFrame(drawn, columns=[f"x{j}" for j in range(k)])


def true_labels(n, m):
    return np.repeat([[False, True]], [n, m], axis=1)


def stability_index(reference, current, n_bins=10):
    pooled = np.concatenate([reference, current])[:, None]
    return stability(pooled, true_labels(len(reference), len(current)), n_bins)[0, 0]


def test_stability_index_by_hand():
    # quartiles of 1..8 cut it 2, 2, 2, 2; the current rows fall 4, 2, 1, 1
    reference = np.arange(1.0, 9.0)
    current = np.array([1, 1, 2, 2, 3, 4, 5, 8.0])
    c, r = np.array([4, 2, 1, 1]) / 8, np.full(4, 2 / 8)
    expected = 0.25 * np.log(2) + 2 * 0.125 * np.log(2)
    assert ((c - r) * np.log(c / r)).sum() == pytest.approx(expected)
    assert stability_index(reference, current, 4) == pytest.approx(expected, abs=1e-14)


def test_a_bin_that_nobody_fell_into_counts_half_a_row():
    reference, current = np.array([0.0, 1.0, 0.0, 1.0]), np.zeros(4)
    expected = (1 - 0.5) * np.log(1 / 0.5) + (0.125 - 0.5) * np.log(0.125 / 0.5)
    assert stability_index(reference, current, 2) == pytest.approx(expected)


@settings(max_examples=50)
@given(st.integers(0, 10**6))
def test_stability_index_is_never_negative_and_zero_of_the_same_rows(seed):
    x, y = np.random.default_rng(seed).standard_normal((2, 60))
    assert stability_index(x, x) == 0.0
    assert stability_index(x, y) >= 0.0
    # bins are shares of the reference, so a monotone change of units changes nothing
    assert stability_index(np.exp(x), np.exp(y)) == pytest.approx(stability_index(x, y))


def test_the_custom_of_a_tenth_calls_any_short_span_a_change():
    rng = np.random.default_rng(1)
    psi = [stability_index(rng.standard_normal(1000), rng.standard_normal(60)) for _ in range(300)]
    # (bins - 1) (1/n + 1/m) = .159 to first order; 300 draws with a deviation of some .08
    assert np.mean(psi) == pytest.approx(9 * (1 / 1000 + 1 / 60), rel=0.12)
    assert np.mean(np.array(psi) > 0.1) > 0.6


def test_smirnovs_distance_is_that_of_scipy_with_ties_too():
    rng = np.random.default_rng(2)
    for values in (rng.standard_normal((400, 3)), rng.integers(0, 4, (400, 3)).astype(float)):
        found = kolmogorov_distance(values, true_labels(300, 100))[0]
        theirs = [stats.ks_2samp(x[:300], x[300:]).statistic for x in values.T]
        np.testing.assert_allclose(found, theirs, atol=1e-12)


def test_blocks_of_one_row_give_kolmogorovs_p_value():
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.standard_normal(400), rng.standard_normal(120) + 0.12])[:, None]
    labels = draw_labels(400, 120, 1, 4000, rng)
    found = judge(kolmogorov_distance(values, labels))
    theirs = stats.ks_2samp(values[:400, 0], values[400:, 0])
    limit = stats.kstwobign.sf(theirs.statistic * np.sqrt(400 * 120 / 520))
    # 4,000 draws: a standard error of .008; the limit law is some .01 off at these sizes
    assert found.p_value[0] == pytest.approx(theirs.pvalue, abs=0.025)
    assert found.p_value[0] == pytest.approx(limit, abs=0.04)


def test_mean_discrepancy_by_all_pairs():
    rng = np.random.default_rng(4)
    values = rng.standard_normal((60, 2))
    ranks = (stats.rankdata(values, axis=0) - 0.5) / 60
    gaps = ((ranks[:, None] - ranks[None]) ** 2).sum(axis=2)
    width = np.median(np.sqrt(gaps[np.triu_indices(60, 1)]))
    kernel = np.exp(-gaps / (2 * width**2))
    expected = kernel[:40, :40].mean() + kernel[40:, 40:].mean() - 2 * kernel[:40, 40:].mean()
    assert mean_discrepancy(values, true_labels(40, 20))[0, 0] == pytest.approx(expected)


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(30, 90), st.integers(60, 200), st.integers(0, 99))
def test_labels_are_as_many_as_current_rows_and_lie_in_few_runs(block, m, n, seed):
    block = min(block, m)
    labels = draw_labels(n, m, block, 5, np.random.default_rng(seed))
    assert labels[0].tolist() == [False] * n + [True] * m
    assert (labels.sum(axis=1) == m).all()
    runs = (labels & ~np.roll(labels, 1, axis=1)).sum(axis=1)
    # one block in each draw may be shorter, where the circle closes
    assert (runs[1:] <= -(-m // block) + 1).all()


def test_a_correction_is_never_below_the_single_p_value_and_holds_family_wise():
    rng = np.random.default_rng(6)
    hits = []
    for _ in range(200):
        found = judge(rng.standard_normal((100, 8)))
        hits.append(found.corrected.min() <= 0.05)
        assert found.corrected.min() >= found.p_value.min() - 1e-9 or found.p_value.min() > 0.05
        assert found.p_value.min() >= 1 / 100
    assert np.mean(hits) < 0.1  # .05; three standard errors of .015 above it


def test_a_planted_change_is_found_and_its_column_named():
    old, new = rows(600), rows(150, seed=1)
    assert not detect_drift(old, new, **QUICK).is_drift
    report = detect_drift(old, new.assign(x1=new["x1"] + 1.0), **QUICK)
    assert report.is_drift and report.changed == ("x1",)
    assert report.columns["psi"].idxmax() == report.columns["ks"].idxmax() == "x1"
    assert report.block == 50


def test_a_change_of_dependence_alone_is_seen_by_all_columns_together():
    rng = np.random.default_rng(7)
    old = pd.DataFrame(rng.standard_normal((600, 2)), columns=["a", "b"])
    new = pd.DataFrame(rng.standard_normal((150, 2)), columns=["a", "b"])
    new["b"] = 0.95 * new["a"] + 0.05**0.5 * new["b"]
    report = detect_drift(old, new, **QUICK)
    assert report.mmd_p <= 0.025 and report.is_drift and not report.changed


def test_order_of_columns_and_units_are_immaterial():
    old, new = rows(300), rows(90, seed=1)
    report = detect_drift(old, new, **QUICK)
    turned = detect_drift(old[["x2", "x0", "x1"]] * 7 + 3, new[["x2", "x0", "x1"]] * 7 + 3, **QUICK)
    pd.testing.assert_frame_equal(turned.columns.loc[report.columns.index], report.columns)
    assert turned.mmd == pytest.approx(report.mmd) and turned.mmd_p == report.mmd_p


def test_same_seed_same_report_and_it_goes_into_json():
    report = detect_drift(rows(300), rows(90, seed=1), **QUICK).to_dict()
    assert report == detect_drift(rows(300), rows(90, seed=1), **QUICK).to_dict()
    assert report["changed"] == [] and set(report["columns"]) == {"x0", "x1", "x2"}
    assert report["is_drift"] is False


def test_independent_p_values_are_wrong_on_dependent_rows_and_blocks_are_not():
    found = control_drift(autocorrelation=0.9, n_samples=120, seed=1, n_permutations=99)
    # 120 samples: a standard error of .02; three of them above the level
    assert found.independent > 0.9
    assert found.blocks <= 0.05 + 3 * found.error
    assert found.found > 0.5


def test_without_dependence_both_keep_the_level():
    found = control_drift(autocorrelation=0.0, n_samples=100, seed=2, n_permutations=99, shift=0.4)
    assert max(found.independent, found.blocks) <= 0.05 + 3 * found.error
    assert found.found > 0.9
    assert found.to_dict()["n_samples"] == 100


def test_a_change_of_the_last_rows_only_is_found_later():
    few, many = (
        control_drift(
            autocorrelation=0.0, n_samples=12, seed=3, n_moved=n, n_permutations=99, shift=0.6
        ).found
        for n in (25, 250)
    )
    assert few < 0.5 and many > 0.9


def test_drawn_columns_have_the_autocorrelation_and_variance_that_was_asked_for():
    drawn = draw_autocorrelated(0.8, (40_000, 1), np.random.default_rng(0))[:, 0]
    # effective sample 40,000 / 9: three standard errors are .045
    assert drawn.var() == pytest.approx(1, abs=0.07)
    assert np.corrcoef(drawn[1:], drawn[:-1])[0, 1] == pytest.approx(0.8, abs=0.02)


def test_unfit_rows_are_refused_by_name():
    old, new = rows(300), rows(90, seed=1)
    with pytest.raises(ColumnsDifferError, match="differ in x2"):
        detect_drift(old, new.drop(columns="x2"), **QUICK)
    with pytest.raises(ColumnsDifferError, match="their order"):
        detect_drift(old, new[["x1", "x0", "x2"]], **QUICK)
    with pytest.raises(TooFewError, match="29 current"):
        detect_drift(old, new[:29], **QUICK)
    with pytest.raises(TooFewError, match="269 reference rows, 90 current"):
        detect_drift(old[:269], new, **QUICK)
    with pytest.raises(TooFewError, match="20 permutations"):
        detect_drift(old, new, seed=1, n_permutations=20)
    with pytest.raises(UndefinedError, match="x1 of the current is nan in row 4"):
        detect_drift(old, new.assign(x1=new["x1"].where(new.index != 4)), **QUICK)
    with pytest.raises(ConstantError, match="x0 of the reference"):
        detect_drift(old.assign(x0=1.0), new, **QUICK)
    assert "x0" in detect_drift(old, new.assign(x0=0.0), **QUICK).changed
    with pytest.raises(ValueError, match="n_bins=1"):
        detect_drift(old, new, n_bins=1, **QUICK)
    with pytest.raises(ValueError, match="block=91"):
        draw_labels(300, 90, 91, 9, np.random.default_rng(0))
    with pytest.raises(ConstantError, match="column 0"):
        stability_index(np.ones(5), np.arange(5.0))
    with pytest.raises(TooFewError, match="0 samples"):
        control_drift(autocorrelation=0.0, n_samples=0, seed=0)
    with pytest.raises(ValueError, match="n_moved=251"):
        control_drift(autocorrelation=0.0, n_samples=1, seed=0, n_moved=251)
    with pytest.raises(ValueError, match="autocorrelation=1"):
        draw_autocorrelated(1.0, (5, 1), np.random.default_rng(0))
