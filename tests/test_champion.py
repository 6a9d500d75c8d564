"""Champion against challenger: what is promoted, what is not, and why."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hftlib.evaluation.champion import SeenError, decide_champion
from hftlib.evaluation.samples import DatesDifferError, TooFewError, UndefinedError
from hftlib.evaluation.superiority import compare_pair

DATES = pd.date_range("2020-01-01", periods=300, tz="UTC")
BEFORE = pd.Timestamp("2019-12-31", tz="UTC")
SETTINGS = {"seen_until": BEFORE, "n_bootstrap": 199, "seed": 1}


def series(seed, mean=0.0, sd=0.01, n=300):
    rng = np.random.default_rng(seed)
    return pd.Series(rng.normal(mean, sd, n), index=DATES[:n])


CHAMPION = series(0)


def test_a_clearly_better_challenger_is_promoted():
    found = decide_champion(CHAMPION, CHAMPION + series(1, 0.002, 0.003), **SETTINGS)
    assert found.promote and [r.name for r in found.reasons] == ["return", "drawdown"]
    assert all(reason.is_met for reason in found.reasons)
    assert found.p_value == pytest.approx(0.5 / 200)
    assert found.comparison.difference.low > 0


def test_a_worse_one_is_not_however_significant():
    found = decide_champion(CHAMPION, CHAMPION + series(1, -0.002, 0.003), **SETTINGS)
    assert not found.promote and found.p_value > 0.99
    assert not found.reasons[0].is_met and "bp a bar less" in found.reasons[0].text


def test_the_numbers_are_those_of_the_paired_comparison():
    challenger = series(2, 0.0005)
    found = decide_champion(CHAMPION, challenger, **SETTINGS)
    alone = compare_pair(challenger, CHAMPION, n_bootstrap=199, seed=1)
    assert found.comparison == alone
    one_sided = alone.p_value / 2 if alone.difference.value > 0 else 1 - alone.p_value / 2
    assert found.p_value == one_sided
    assert (found.first, found.last, found.n_bars) == (DATES[0], DATES[-1], 300)


def test_detectable_difference_is_found_four_times_in_five():
    gap = decide_champion(CHAMPION, series(2), **(SETTINGS | {"n_bootstrap": 999})).detectable
    # independent bars: (z.95 + z.80) times sd sqrt(2 / n)
    expected = (stats.norm.ppf(0.95) + stats.norm.ppf(0.8)) * 0.01 * (2 / 300) ** 0.5
    assert gap == pytest.approx(expected, rel=0.25)  # block and standard error are estimated
    wins = [
        decide_champion(
            series(2 * k + 100),
            series(2 * k + 101, expected),
            max_drawdown_ratio=99,
            **(SETTINGS | {"n_bootstrap": 99, "seed": k}),
        ).promote
        for k in range(80)
    ]
    assert np.mean(wins) == pytest.approx(0.8, abs=0.14)  # three standard errors of 80 contests


def test_a_challenger_that_is_no_better_is_promoted_as_rarely_as_the_level_says():
    wins = [
        decide_champion(
            series(2 * k),
            series(2 * k + 1),
            max_drawdown_ratio=99,
            **(SETTINGS | {"n_bootstrap": 99, "seed": k}),
        ).promote
        for k in range(160)
    ]
    assert np.mean(wins) <= 0.05 + 3 * (0.05 * 0.95 / 160) ** 0.5


def test_each_further_challenger_makes_the_level_stricter():
    challenger = CHAMPION + series(3, 0.0003, 0.003)
    alone = decide_champion(CHAMPION, challenger, **(SETTINGS | {"n_bootstrap": 999}))
    tenth = decide_champion(
        CHAMPION, challenger, n_challengers=50, **(SETTINGS | {"n_bootstrap": 999})
    )
    assert alone.promote and not tenth.promote
    assert tenth.level == alone.level / 50 and tenth.p_value == alone.p_value
    assert tenth.detectable > alone.detectable


def test_a_better_return_bought_with_a_deep_fall_is_refused():
    challenger = CHAMPION + series(1, 0.004, 0.003)
    challenger.iloc[100] = -0.4
    found = decide_champion(CHAMPION, challenger, **SETTINGS)
    refused = {reason.name: reason.is_met for reason in found.reasons}
    assert not refused["drawdown"] and not found.promote and found.drawdowns[1] >= 0.4


def test_drawdown_counts_the_capital_at_the_start():
    fallen = CHAMPION.copy()
    fallen.iloc[0] = -0.3
    found = decide_champion(fallen, fallen + series(1, 0.0, 0.0001), **SETTINGS)
    assert found.drawdowns[0] >= 0.3


def test_a_twin_cannot_be_compared_and_the_champion_stays():
    for challenger in (CHAMPION, CHAMPION.where(DATES.day > 1, 0.0)):
        found = decide_champion(CHAMPION, challenger, **SETTINGS)
        assert not found.promote and found.comparison is None
        assert found.reasons[0].name == "comparable" and "differ" in found.reasons[0].text
        assert found.to_dict()["p_value"] is None


def test_a_decision_is_a_value_that_json_takes():
    challenger = series(2, 0.0005)
    first, second = (decide_champion(CHAMPION, challenger, **SETTINGS) for _ in range(2))
    assert first == second
    plain = json.loads(json.dumps(first.to_dict(), allow_nan=False))
    assert plain["reasons"][0]["name"] == "return"
    assert plain["last"] == DATES[-1].isoformat()


def test_bars_that_one_has_seen_are_refused():
    seen = SETTINGS | {"seen_until": DATES[4]}
    with pytest.raises(SeenError, match="5 of 300 bars are not after 2020-01-05"):
        decide_champion(CHAMPION, series(1), **seen)
    assert decide_champion(CHAMPION[5:], series(1)[5:], **seen).n_bars == 295


def test_unfit_contests_are_refused_by_name():
    with pytest.raises(DatesDifferError):
        decide_champion(CHAMPION, series(1)[1:], **SETTINGS)
    with pytest.raises(UndefinedError, match="2020-01-03"):
        decide_champion(CHAMPION, series(1).where(DATES[2] != DATES), **SETTINGS)
    with pytest.raises(ValueError, match="the challenger loses 120%"):
        decide_champion(CHAMPION, series(1).where(DATES[2] != DATES, -1.2), **SETTINGS)
    with pytest.raises(TooFewError, match="199 replications cannot show"):
        decide_champion(CHAMPION, series(1), n_challengers=50, **SETTINGS)
    with pytest.raises(TooFewError, match="no bars"):
        decide_champion(CHAMPION[:0], CHAMPION[:0], **SETTINGS)
    with pytest.raises(ValueError, match="need a time zone"):
        decide_champion(
            CHAMPION, series(1), **(SETTINGS | {"seen_until": pd.Timestamp("2019-01-01")})
        )
    for wrong in ({"n_challengers": 0}, {"level": 0.7}, {"max_drawdown_ratio": 0.5}):
        with pytest.raises(ValueError, match="expected at least 1, in"):
            decide_champion(CHAMPION, series(1), **SETTINGS, **wrong)
