import numpy as np
import pandas as pd
import pytest

from hftlib.portfolio.breakers import BreakerRules
from hftlib.portfolio.risk import RiskLimits
from hftlib.portfolio.risk_alerts import AlertLevels
from hftlib.portfolio.risk_measures import BenchmarkError
from hftlib.portfolio.watch import count_breaches, watch_account
from tests.asset_cases import days

DAY_NS = 86_400 * 10**9
LEVELS = AlertLevels(drawdown=0.05, daily_loss=0.02, concentration=0.6)
RULES = BreakerRules(max_drawdown=0.10, max_daily_loss=0.03, max_losses=3, cooldown_ns=DAY_NS)


def account(*moves, weights=(0.5, 0.5)):
    index = days(len(moves))
    held = pd.DataFrame([weights] * len(moves), index=index, columns=["A", "B"])
    return pd.Series(moves, index=index), held


def test_alerts_name_what_passed_its_level_on_which_day():
    returns, held = account(0.01, -0.025, -0.03, 0.01)
    watched = watch_account(returns, held, LEVELS, RULES)
    table = watched.alerts
    seen = [*zip(table["ts"].dt.day, table["name"], strict=True)]
    # the drawdown is 1 - .975 * .97 = 5.4 % on the third day, and 4.5 % after the gain
    assert seen == [(2, "daily_loss"), (3, "drawdown"), (3, "daily_loss")]
    assert watched.alerts["value"].iloc[1] == pytest.approx(1 - 0.975 * 0.97)


def test_a_large_position_is_named():
    watched = watch_account(*account(0.0, weights=(0.7, 0.3)), LEVELS, RULES)
    assert watched.alerts[["name", "place"]].values.tolist() == [["concentration", "A"]]


def test_a_loss_of_a_day_opens_the_breaker_until_a_gain_after_the_cool_down():
    returns, held = account(0.01, -0.04, 0.005, 0.005, 0.005)
    watched = watch_account(returns, held, LEVELS, RULES)
    assert watched.trips.values.tolist() == [[returns.index[1], "daily loss"]]
    # open for a day, then half open, closed by the gain of that day
    assert watched.halted.tolist() == [False, True, False, False, False]


def test_losses_in_a_row_trip_at_their_number():
    returns, held = account(-0.001, -0.001, -0.001, 0.001)
    watched = watch_account(returns, held, LEVELS, RULES)
    assert watched.trips["reason"].tolist() == ["losses in a row"]
    assert watched.trips["ts"].tolist() == [returns.index[2]]


def test_a_quiet_account_hears_nothing():
    watched = watch_account(*account(0.01, 0.0, 0.01), LEVELS, RULES)
    assert len(watched.alerts) == len(watched.trips) == watched.halted.sum() == 0


def test_what_was_said_does_not_change_with_the_future():
    moves = np.random.default_rng(0).normal(0, 0.02, 60)
    first = watch_account(*account(*moves), LEVELS, RULES)
    moves[40:] *= -1
    second = watch_account(*account(*moves), LEVELS, RULES)
    cut = first.halted.index[40]
    for name in ("alerts", "trips"):
        one, other = (getattr(watched, name) for watched in (first, second))
        assert (one["ts"] < cut).any()
        pd.testing.assert_frame_equal(one[one["ts"] < cut], other[other["ts"] < cut])


def test_returns_and_weights_of_other_bars_are_refused():
    returns, held = account(0.0, 0.0)
    with pytest.raises(BenchmarkError, match="2 returns and 1 rows"):
        watch_account(returns, held.head(1), LEVELS, RULES)


def breaches(**changes):
    index = days(4)
    targets = pd.DataFrame(
        [[0.5, 0.3, 0.2], [0.2, 0.2, 0.1]], index=index[:2], columns=["A", "B", "C"]
    )
    covariance = np.stack([np.diag([0.01, 0.0, 0.0]) ** 2] * 2)
    return count_breaches(
        targets,
        covariance,
        pd.Series([0.0, 0.1, -0.2, 0.1], index=index),
        pd.Series([0.0, 1.0, 0.5, 0.0], index=index),
        np.array([0, 0, -1]),
        RiskLimits(**changes),
    )


def test_each_limit_counts_what_lies_beyond_it():
    found = breaches(max_position=0.4, max_sector=0.4, max_leverage=0.9, max_daily_volume=0.7)
    assert found["n_beyond"].to_dict() == {
        "max_position": 1,
        "max_sector": 1,  # .8, then exactly .4, which is allowed
        "max_leverage": 1,
        "max_var": 0,
        "max_daily_volume": 1,
        "max_daily_loss": 1,
        "max_drawdown": 2,
    }
    assert found.loc["max_daily_loss", "share"] == 0.25
    assert found["checked"].value_counts().to_dict() == {"decisions": 4, "bars": 3}


def test_the_value_at_risk_is_the_normal_one():
    # weight .5 of an asset with a deviation of 1 %
    assert breaches().loc["max_var", "largest"] == pytest.approx(1.6448536 * 0.005)
    assert breaches(max_var=0.008).loc["max_var", "n_beyond"] == 1


def test_the_largest_drawdown_counts_the_start():
    assert breaches().loc["max_drawdown", "largest"] == pytest.approx(0.2)
