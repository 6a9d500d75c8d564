import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hftlib.evaluation.paired import compare_measures, mean_estimate, paired_difference
from hftlib.evaluation.statistics import Estimate

RNG = np.random.default_rng(0)
WORLDS = RNG.normal(0, 10, 40)


def width(estimate):
    return estimate.high - estimate.low


def test_luck_of_the_world_cancels_between_strategies_in_the_same_worlds():
    gap = paired_difference(WORLDS + 0.1, WORLDS)
    assert gap.value == pytest.approx(0.1)
    assert width(gap) < 1e-9
    assert gap.low > 0


def test_unpaired_worlds_leave_the_luck_in():
    gap = paired_difference(WORLDS + 0.1, WORLDS[::-1])
    assert gap.low < 0 < gap.high


def test_the_interval_of_one_strategy_is_that_of_a_mean():
    # normal theory: 2 * 1.96 standard errors; 2,000 samples move its quantiles by some 5 %
    expected = 2 * 1.96 * WORLDS.std(ddof=0) / 40**0.5
    estimate = mean_estimate(WORLDS)
    assert estimate.value == pytest.approx(WORLDS.mean())
    assert width(estimate) == pytest.approx(expected, rel=0.12)


def test_seeds_that_disagree_widen_the_interval_though_worlds_agree():
    alike = np.tile(WORLDS + 1, (5, 1))
    apart = alike + np.linspace(-2, 2, 5)[:, None]
    assert width(paired_difference(alike, WORLDS)) < 1e-9
    gap = paired_difference(apart, WORLDS)
    assert gap.value == pytest.approx(1.0)
    error = np.linspace(-2, 2, 5).std(ddof=1) / 5**0.5
    assert width(gap) == pytest.approx(2 * stats.t.ppf(0.975, 4) * error, rel=0.15)


def test_variances_of_seeds_and_worlds_add():
    offsets = np.linspace(-3, 3, 5)[:, None]
    of_worlds, of_seeds = width(mean_estimate(WORLDS)), width(mean_estimate(0 * WORLDS + offsets))
    both = width(mean_estimate(WORLDS + offsets))
    assert both == pytest.approx((of_worlds**2 + of_seeds**2) ** 0.5, rel=0.1)


def test_the_difference_of_a_strategy_with_itself_is_nothing():
    assert paired_difference(WORLDS, WORLDS) == Estimate(0.0, 0.0, 0.0)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    n = 300
    covered = 0
    for k in range(n):
        table = rng.normal(0, 1, 48) + rng.normal(0, 1, (5, 48))
        gap = paired_difference(table, rng.normal(0, 0.1, 48), n_bootstrap=400, seed=k)
        covered += gap.low <= 0 <= gap.high
    # 95 % nominal; standard error .013
    assert 0.91 <= covered / n <= 0.99


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_few_seeds_do_not_make_intervals_short(n_seeds):
    rng = np.random.default_rng(2)
    n = 300
    covered = 0
    for k in range(n):
        table = rng.normal(0, 1, (n_seeds, 1)) + rng.normal(0, 1, 48)
        estimate = mean_estimate(table, n_bootstrap=400, seed=k)
        covered += estimate.low <= 0 <= estimate.high
    assert covered / n >= 0.91  # of the plain bootstrap about a half, 3/4 and 5/6


def test_undefined_episodes_are_left_out():
    holes = WORLDS.copy()
    holes[::4] = np.nan
    assert mean_estimate(holes).value == pytest.approx(np.nanmean(holes))
    assert np.isfinite(mean_estimate(holes).low)
    nothing = mean_estimate(np.full(5, np.nan))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_other_numbers_of_episodes_are_refused():
    with pytest.raises(ValueError, match="40 episodes and the baseline 39"):
        paired_difference(WORLDS, WORLDS[:-1])
    with pytest.raises(ValueError, match=r"shape \(1, 0\)"):
        mean_estimate([])


def table_of(values, agents=("m0", "m1")):
    worlds = np.arange(len(values))
    parts = [pd.DataFrame({"world": worlds, "agent": a, "profit": values}) for a in agents]
    return pd.concat(parts, ignore_index=True)


def test_a_table_compares_every_strategy_with_the_baseline():
    tables = {
        "twap": [table_of(WORLDS)],
        "mappo": [table_of(WORLDS + shift) for shift in (1.0, 2.0)],
    }
    found = compare_measures(tables, "twap", ["profit"], n_bootstrap=200)
    rows = found.set_index("strategy")
    assert rows.loc["mappo", "seeds"] == 2
    assert rows.loc["mappo", "episodes"] == 40
    assert rows.loc["mappo", "difference"] == pytest.approx(1.5)
    # two seeds: the sample means of their offsets are 1, 1.5 and 2, stretched
    stretch = 2**0.5 * stats.t.ppf(0.975, 1) / stats.norm.ppf(0.975)
    assert rows.loc["mappo", "difference_low"] == pytest.approx(1.5 - 0.5 * stretch)
    assert rows.loc["mappo", "difference_high"] == pytest.approx(1.5 + 0.5 * stretch)
    assert (rows.loc["twap", ["difference", "difference_low", "difference_high"]] == 0).all()


def test_agents_of_a_world_count_as_one_value():
    # two agents in the same world share its luck: they are no more evidence than one
    one, two = (
        compare_measures({"a": [table_of(WORLDS, agents)]}, "a", ["profit"]).loc[0]
        for agents in (("m0",), ("m0", "m1"))
    )
    assert one["low"] == two["low"]


def test_rows_in_another_order_are_paired_by_their_world():
    shuffled = table_of(WORLDS + 1).sample(frac=1, random_state=0)
    found = compare_measures({"a": [table_of(WORLDS)], "b": [shuffled]}, "a", ["profit"])
    row = found.set_index("strategy").loc["b"]
    assert row["difference_low"] == pytest.approx(1.0)
    assert row["difference_high"] == pytest.approx(1.0)


def test_tables_of_other_worlds_are_refused():
    moved = table_of(WORLDS).assign(world=lambda t: t["world"] + 1)
    with pytest.raises(ValueError, match="'late' was played in 40 worlds from 1 to 40, the base"):
        compare_measures({"early": [table_of(WORLDS)], "late": [moved]}, "early", ["profit"])
    with pytest.raises(ValueError, match="'missing' is not among early"):
        compare_measures({"early": [table_of(WORLDS)]}, "missing", ["profit"])
