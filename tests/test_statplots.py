import numpy as np
import pandas as pd
import pytest

from hftlib import statplots
from hftlib.plots import COLOURS


def ratios():
    return pd.DataFrame(
        {"sharpe": [0.8, 0.1, 0.2], "low": [0.0, -0.7, -0.6], "high": [1.6, 0.9, 1.0]},
        index=["buy_and_hold", "ppo 3", "ensemble_rolling"],
    )


def test_ratios_have_their_intervals_and_the_colour_of_their_algorithm():
    figure = statplots.ratio_figure(ratios(), 0.9, "best of 59")
    (points,) = figure.data
    assert list(points.y) == ["buy and hold", "ppo 3", "ensemble rolling"]
    assert list(points.marker.color) == [COLOURS[k] for k in ("buy_and_hold", "ppo", "ensemble")]
    np.testing.assert_allclose(points.error_x.arrayminus, [0.8, 0.8, 0.8])
    np.testing.assert_allclose(points.error_x.array, [0.8, 0.8, 0.8])
    assert figure.layout.shapes[1].x0 == 0.9
    assert figure.layout.annotations[0].text == "best of 59"


def test_the_count_of_trials_stands_at_its_place_on_the_log_axis():
    hurdles = pd.Series([0.0, 0.6, 1.5], index=[1, 10, 10_000])
    figure = statplots.hurdle_figure(hurdles, 100, {"ppo 1": 0.5})
    assert figure.layout.shapes[0].x0 == 100
    assert figure.layout.annotations[0].x == pytest.approx(2.0)
    assert figure.layout.xaxis.range == (0.0, 4.0)
    assert list(figure.data[1].y) == [0.5, 0.5]


def test_only_what_survives_has_a_star():
    names = ["a", "b"]
    effects = pd.DataFrame([[np.nan, 0.05], [-0.05, np.nan]], index=names, columns=names)
    real = pd.DataFrame([[False, True], [False, False]], index=names, columns=names)
    (heat,) = statplots.pair_figure(effects, real).data
    assert heat.text.tolist() == [["", "0.050 *"], ["-0.050", ""]]
    assert heat.zmin == -heat.zmax


def test_pairs_that_were_all_left_out_still_make_a_figure():
    nothing = pd.DataFrame(np.nan, index=["a"], columns=["a"])
    (heat,) = statplots.pair_figure(nothing, nothing > 0).data
    assert heat.text.tolist() == [[""]]


def test_shares_of_splits_sum_to_all_and_the_middle_parts_the_colours():
    logits = np.array([-5.0, -1.0, 0.0, 0.0, 3.0])
    figure = statplots.rank_figure({"rules": logits, "agents": logits + 9})
    for bars in figure.data:
        assert np.sum(bars.y) == pytest.approx(100)
    bars = figure.data[0]
    below = np.array(bars.marker.color) == bars.marker.color[0]
    overfit = 100 * np.mean(logits <= 0)
    assert np.sum(np.array(bars.y)[below]) == pytest.approx(overfit)


def test_the_gap_has_a_group_a_family_and_a_diagonal():
    table = pd.DataFrame(
        {"family": ["ppo", "ppo", "rule"], "train": [2.0, 3.0, 0.5], "test": [0.1, -0.4, 0.6]},
        index=["ppo 0", "ppo 1", "rule 1"],
    )
    figure = statplots.gap_figure(table)
    assert [trace.name for trace in figure.data[:2]] == ["ppo", "rule"]
    assert figure.data[0].marker.color == COLOURS["ppo"]
    assert list(figure.data[2].x) == list(figure.data[2].y) == [-0.4, 0.6]


def test_profiles_are_in_percent_with_a_band():
    part = pd.DataFrame({"value": [1.0, 0.5], "low": [0.8, 0.1], "high": [1.0, 0.9]})
    figure = statplots.profile_figure(np.array([-1.0, 1.0]), {"td3": part})
    low, high, line = figure.data
    np.testing.assert_allclose(low.y, [80, 10])
    np.testing.assert_allclose(high.y, [100, 90])
    np.testing.assert_allclose(line.y, [100, 50])


def test_controls_have_two_standard_errors_and_the_level_as_a_line():
    shares = pd.DataFrame({"GARCH": [0.04, 0.5]}, index=["corrected", "not corrected"])
    figure = statplots.control_figure(shares, 0.05, 400)
    (points,) = figure.data
    np.testing.assert_allclose(points.x, [4, 50])
    np.testing.assert_allclose(points.error_x.array, [200 * (0.04 * 0.96 / 400) ** 0.5, 5])
    assert figure.layout.shapes[0].x0 == pytest.approx(5)


def test_power_has_a_line_of_theory_and_dots_of_counts_for_each_number_of_trials():
    found = pd.DataFrame(
        {
            "sharpe": [0.0, 1.0] * 2,
            "trials": [1, 1, 59, 59],
            "power": [0.05, 0.6, 0.0, 0.1],
            "theory": [0.05, 0.61, 0.001, 0.12],
            "error": 0.01,
        }
    )
    figure = statplots.power_figure(found, ["one trial", "59 trials"])
    lines, dots = figure.data[::2], figure.data[1::2]
    assert [line.name for line in lines] == ["one trial", "59 trials"]
    np.testing.assert_allclose(lines[1].y, [0.1, 12])
    np.testing.assert_allclose(dots[0].y, [5, 60])
    np.testing.assert_allclose(dots[0].error_y.array, [2, 2])
