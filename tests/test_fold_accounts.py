"""Folds joined to one account: positions are taken over, changes paid for, gaps by fold."""

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from hftlib.data.folds import Fold
from hftlib.data.panel import BarPanel
from hftlib.evaluation import fold_accounts
from hftlib.evaluation.engine import Prices, as_rollout
from hftlib.evaluation.gap import measure_gap
from hftlib.evaluation.walkforward import cut_combinatorial
from hftlib.evaluation_sections import WalkForward
from hftlib.portfolio import measures
from hftlib.schema import WALK_FORWARD
from tests.conftest import ROOT
from tests.fold_cases import FOLDS, N_BARS, RULES, make_rows

ROWS = make_rows()
MARKET = BarPanel.from_frame(ROWS, np.empty((len(ROWS), 0), np.float32), [])
PRICES = Prices.from_panel(MARKET)
NAN = np.nan


def test_a_fold_without_values_holds_nothing():
    values = {1: np.full((40, 2), 0.3)}
    joined = fold_accounts.join_targets(FOLDS, values, N_BARS)
    assert joined.shape == (N_BARS, 1, 2)
    assert np.isnan(joined[:80]).all()
    assert (joined[80] == 0).all()
    assert np.isnan(joined[81:120]).all(), "and stays as it is"
    assert (joined[120:] == 0.3).all()


def test_a_missing_combination_is_flat_in_its_own_paths_only():
    blocks = cut_combinatorial(PRICES.clock, 4, 2, horizon_bars=1, embargo_bars=1)
    values = {fold.number: np.full((80, 1), 0.5) for fold in blocks[1:]}
    joined = fold_accounts.join_targets(blocks, values, N_BARS)
    missing = blocks[0]
    for (start, stop), path in zip(missing.tests, missing.paths, strict=True):
        assert joined[start, path] == 0
        assert np.isnan(joined[start + 1 : stop, path]).all()
        others = [k for k in range(joined.shape[1]) if k != path]
        assert (joined[start, others] == 0.5).all()


def test_what_is_held_is_said_at_the_first_bar_of_each_span_only():
    targets = np.full((N_BARS, 2), NAN)
    targets[10] = (0.5, -0.5)
    targets[100, 0] = 0.1
    spelt = fold_accounts.spell_out(targets, FOLDS)
    np.testing.assert_array_equal(spelt[80], (0.5, -0.5))
    np.testing.assert_array_equal(spelt[120], (0.1, -0.5))
    changed = np.flatnonzero((np.isnan(targets) != np.isnan(spelt)).any(axis=1))
    assert changed.tolist() == [80, 120]
    before = fold_accounts.spell_out(np.full((N_BARS, 2), NAN), FOLDS)
    assert (before[80] == 0).all(), "nothing is held before the first target"


def test_an_account_that_changes_rules_takes_the_new_position_over_and_pays_for_it():
    long, short = (np.full((N_BARS, 2), NAN) for _ in range(2))
    long[0], short[0] = 0.5, -0.5
    rules = np.stack([long, short], axis=1)
    spelt = fold_accounts.spell_out(rules, FOLDS)
    values = {0: spelt[80:120, 0], 1: spelt[120:, 1]}
    joined = fold_accounts.join_targets(FOLDS, values, N_BARS)[80:, 0]
    result = fold_accounts.run_account(PRICES.rows(80, N_BARS), joined, RULES)
    exposure = result.exposure[:, 0]
    assert (exposure[1:41] > 0.9).all()
    assert (exposure[41:] < -0.9).all()
    assert np.flatnonzero(result.traded[:, 0]).tolist() == [1, 41]
    # twice the equity, at the open after the change
    assert result.traded[41, 0] / result.equity[40, 0] == pytest.approx(2, rel=0.05)
    rate = (RULES.costs.fee_bps + RULES.costs.spread_bps / 2 + RULES.costs.slippage_bps) / 1e4
    assert result.paid[41, 0] == pytest.approx(rate * result.traded[41, 0], rel=1e-3)


def test_a_book_earns_the_mean_of_its_members_equity():
    equity = np.array([[100.0, 100.0], [110.0, 90.0], [121.0, 99.0]])
    np.testing.assert_allclose(fold_accounts.bar_returns(equity), [0, 0, 0.1])


def test_returns_are_cut_where_the_folds_test():
    returns = np.arange(80.0)
    cut = fold_accounts.cut_returns(returns, FOLDS, 80)
    np.testing.assert_array_equal(cut[0], np.arange(40.0))
    np.testing.assert_array_equal(cut[1], np.arange(40.0, 80.0))


def test_training_returns_are_those_of_the_training_rows():
    targets = np.full((FOLDS[0].train[1], 1, 2), NAN)
    targets[0] = 0.5
    found = fold_accounts.earn_in_training(PRICES, FOLDS, {0: targets}, RULES)
    assert list(found) == [0]
    result = fold_accounts.run_account(PRICES.rows(0, 76), targets, RULES)
    np.testing.assert_array_equal(found[0][1:], result.returns[:, 0])
    assert len(found[0]) == 76


def test_an_ensemble_is_the_mean_over_all_seeds_in_the_folds_that_all_have():
    one, two = np.full((3, 1, 2), 0.3), np.full((3, 2, 2), -0.3)
    found = fold_accounts.add_ensemble({"a": {0: one, 1: one}, "b": {1: two}})
    assert list(found) == ["a", "b", "ensemble"]
    assert list(found["ensemble"]) == [1]
    np.testing.assert_allclose(found["ensemble"][1], np.full((3, 2), -0.1))
    assert fold_accounts.add_ensemble({}) == {}


def test_gaps_are_those_of_each_fold_and_strategies_may_lack_one():
    rng = np.random.default_rng(0)
    train = {name: {k: rng.normal(0.001, 0.01, 60) for k in (0, 1)} for name in "ab"}
    test = {name: {k: rng.normal(0, 0.01, 40) for k in (0, 1)} for name in "ab"}
    del train["b"][0]
    sure = {"n_bootstrap": 20, "seed": 2}
    found = fold_accounts.gaps_by_fold(train, test, 252, **sure)
    alone = measure_gap({"b": train["b"][1]}, {"b": test["b"][1]}, 252, **sure)
    pd.testing.assert_frame_equal(found.loc[1].loc[["b"]], alone)
    assert found.loc[0].index.unique("strategy").tolist() == ["a"]
    expected = measures.sharpe(train["a"][0], 252) - measures.sharpe(test["a"][0], 252)
    assert found.loc[(0, "a", "sharpe"), "gap"] == pytest.approx(expected)


def test_the_table_has_the_mean_equity_of_members_and_the_schema():
    span = PRICES.rows(80, N_BARS)
    targets = np.full((80, 2, 2), NAN)
    targets[0] = [[0.5, 0.5], [-0.5, -0.5]]
    result = fold_accounts.run_account(span, targets, RULES)
    accounts = {"mine": [as_rollout([result], MARKET)]}
    table = fold_accounts.walk_table({"anchored": accounts, "rolling": accounts}, MARKET)
    assert table.columns.tolist() == WALK_FORWARD.names
    assert len(table) == 160
    own = table[table["scheme"] == "rolling"]
    expected = result.equity.mean(axis=1) / RULES.initial_cash
    np.testing.assert_allclose(own["equity"], expected, rtol=1e-12)
    assert (own["ts"].to_numpy() == span.clock.to_numpy()).all()


def test_spans_are_named_by_their_first_and_last_days():
    spans = fold_accounts.spans_table({"x": [Fold(0, (0, 10), (10, 10), (12, 20))]}, PRICES.clock)
    assert spans["bars"].tolist() == [10, 8]
    assert spans["last"].tolist() == [PRICES.clock[9], PRICES.clock[19]]


def test_a_block_must_be_left_to_train_on():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["walk_forward"]
    WalkForward.model_validate(values)
    with pytest.raises(ValidationError, match="n_test_blocks 6 must be below n_blocks 6"):
        WalkForward.model_validate(values | {"n_test_blocks": 6})


def test_a_member_without_a_value_counts_as_flat_in_the_ensemble():
    one = np.array([[[1.0, 0.5]], [[np.nan, 0.5]]])  # 2 times, 1 seed, 2 assets
    two = np.array([[[0.0, -0.5], [0.5, 0.0]], [[1.0, 1.0], [-1.0, 0.0]]])
    found = fold_accounts.average_targets([one, two])
    np.testing.assert_allclose(found, [[0.5, 0.0], [0.0, 0.5]])
