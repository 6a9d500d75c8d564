"""Twins are recognised, all pairs are tested once, and corrections are those of the whole."""

import numpy as np
import pandas as pd
import pytest

from hftlib.evaluation.pairs import compare_all, keep_distinct, square
from hftlib.evaluation.samples import UndefinedError
from hftlib.evaluation.superiority import compare_pair, correct_p_values

N_BARS = 250
SURE = {"n_bootstrap": 200, "seed": 3}


def returns(n=3, edge=0.0):
    rng = np.random.default_rng(0)
    days = pd.date_range("2020-01-01", periods=N_BARS, tz="UTC")
    values = rng.normal(0, 0.01, (N_BARS, n)) + edge * np.arange(n)
    return pd.DataFrame(values, index=days, columns=[f"s{k}" for k in range(n)])


def test_twins_shifted_twins_and_cash_are_left_out():
    table = returns(2)
    table["twin"] = table["s0"]
    table["shifted"] = table["s1"] + 0.001
    table["cash"] = 0.0
    table["short"] = -table["s0"]
    assert list(keep_distinct(table)) == ["s0", "s1", "short"]


def test_of_two_twins_the_first_stays():
    table = returns(2)
    assert list(keep_distinct(table[["s1", "s0"]].assign(twin=table["s1"]))) == ["s1", "s0"]


def test_nothing_that_trades_keeps_no_column():
    assert keep_distinct(returns(2) * 0.0).shape == (N_BARS, 0)


def test_every_pair_is_tested_once_as_by_itself():
    table = compare_all(returns(4), **SURE)
    assert len(table) == 6
    assert len(set(zip(table["first"], table["second"], strict=True))) == 6
    alone = compare_pair(returns(4)["s1"], returns(4)["s3"], **SURE)
    row = table[(table["first"] == "s1") & (table["second"] == "s3")].iloc[0]
    assert row["p"] == alone.p_value
    assert row["effect_size"] == alone.effect_size
    assert (row["difference"], row["low"], row["high"]) == tuple(vars(alone.difference).values())


def test_corrections_are_those_of_all_pairs():
    table = compare_all(returns(4, edge=0.001), **SURE)
    for how in ("holm", "benjamini_hochberg"):
        np.testing.assert_array_equal(table[how], correct_p_values(table["p"], how).p_values)
    assert (table["holm"] >= table["benjamini_hochberg"]).all()
    assert (table["benjamini_hochberg"] >= table["p"]).all()


def test_a_pair_that_hardly_differs_has_no_p_value_and_is_not_counted():
    table = returns(2, edge=0.002)
    with_twin = table.assign(twin=table["s0"], nearly=table["s0"].where(table.index.day > 1, 0.0))
    found = compare_all(with_twin, **SURE).set_index(["first", "second"])
    for other in ("twin", "nearly"):
        assert found.loc[("s0", other)].isna().all()
    made = found["p"].notna().sum()
    assert made == 3
    smallest = found["p"].min()
    assert found["holm"].min() == pytest.approx(smallest * made)


def test_a_clear_difference_is_found_and_none_where_there_is_none():
    assert compare_all(returns(3, edge=0.005), **SURE)["holm"].max() < 0.05
    assert compare_all(returns(3), **SURE)["holm"].min() > 0.05


def test_a_hole_in_the_returns_is_an_error():
    table = returns(2)
    table.iloc[5, 1] = np.nan
    with pytest.raises(UndefinedError, match="the difference at 2020-01-06"):
        compare_all(table, **SURE)


def test_the_matrix_is_antisymmetric_in_differences_and_symmetric_in_p():
    names = ["s0", "s1", "s2"]
    table = compare_all(returns(3, edge=0.002), **SURE)
    effects, p = square(table, "effect_size", names), square(table, "p", names)
    np.testing.assert_array_equal(effects, -effects.T)
    np.testing.assert_array_equal(p, p.T)
    assert np.isnan(np.diag(p)).all()
    first = table.iloc[0]
    assert effects.loc[first["first"], first["second"]] == first["effect_size"]
