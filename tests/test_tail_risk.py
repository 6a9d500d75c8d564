import numpy as np
import pandas as pd
import pytest

from hftlib.evaluation.tail_risk import (
    TESTS,
    forecast_tails,
    format_tails,
    judge_tails,
    list_rejections,
    tails_frame,
    tails_overview,
)
from hftlib.portfolio.var_models import VarError, forecast_var
from hftlib.portfolio.var_tests import kupiec_test
from tests.asset_cases import days

SETTINGS = {"window_bars": 120, "refit_bars": 50}


@pytest.fixture(scope="module")
def returns():
    rng = np.random.default_rng(3)
    return {name: pd.Series(rng.normal(0, 0.01, 400), index=days(400)) for name in ("B", "A")}


@pytest.fixture(scope="module")
def risk(returns):
    return forecast_tails(returns, ["normal", "historical"], (0.95, 0.99), **SETTINGS)


def test_every_series_model_and_level_has_a_row_a_bar_in_their_order(risk):
    groups = risk.groupby(["series", "model", "level"], sort=False).size()
    assert (groups == 400).all()
    assert [*groups.index][:3] == [("B", "normal", 0.95), ("B", "normal", 0.99),
                                   ("B", "historical", 0.95)]  # fmt: skip


def test_the_forecasts_are_those_of_the_model(risk, returns):
    found = forecast_var(returns["A"], "normal", (0.99,), **SETTINGS)
    part = risk.query("series == 'A' and model == 'normal' and level == .99")
    np.testing.assert_array_equal(part["value_at_risk"], found.value_at_risk[:, 0])
    np.testing.assert_array_equal(part["expected_shortfall"], found.expected_shortfall[:, 0])
    np.testing.assert_array_equal(part["return"], returns["A"])


def made(losses, level=0.95, value=0.02, shortfall=0.03):
    n = len(losses)
    return pd.DataFrame(
        {
            "series": "A",
            "ts": days(n),
            "model": "normal",
            "level": level,
            "return": losses,
            "value_at_risk": value,
            "expected_shortfall": shortfall,
        }
    )


def test_a_judgement_in_closed_form():
    losses = np.full(100, 0.001)
    losses[[10, 50, 90]] = -0.03, -0.04, -0.05
    (row,) = judge_tails(made(losses)).to_dict("records")
    assert (row["n_bars"], row["n_exceptions"]) == (100, 3)
    assert row["n_expected"] == pytest.approx(5)
    assert row["Kupiec"] == kupiec_test(3, 100, 0.95).p_value
    assert row["shortfall_ratio"] == pytest.approx(0.12 / 0.09)


def test_bars_without_a_forecast_are_not_judged():
    losses = np.full(100, -0.03)
    losses[40:] = 0.0
    table = made(losses)
    table.loc[:39, ["value_at_risk", "expected_shortfall"]] = np.nan
    (row,) = judge_tails(table).to_dict("records")
    assert (row["n_bars"], row["n_exceptions"]) == (60, 0)
    assert np.isnan(row["shortfall_ratio"])
    assert np.isnan(row["independence"])


def test_rejections_are_the_p_values_below_the_significance():
    losses = np.full(200, 0.001)
    losses[20:60] = -0.05  # too many and in one run
    judged = judge_tails(pd.concat([made(losses), made(np.tile([0.0, -0.03] + [0.0] * 18, 10))
                                    .assign(model="other")]))  # fmt: skip
    found = list_rejections(judged, 0.05)
    assert set(found["model"]) == {"normal"}
    assert set(found["test"]) == set(TESTS.values())
    assert (found["p_value"] < 0.05).all()
    assert len(list_rejections(judged, 0.0)) == 0


def test_a_reader_sees_words(risk):
    table = tails_frame(judge_tails(risk))
    assert ("B", "historical", "99%") in table.index
    assert {"days", "beyond", "expected", "shortfall ratio", "Kupiec"} <= set(table)


def test_rejected_p_values_stand_out_and_small_ones_are_bounds():
    losses = np.full(200, 0.001)
    losses[20:60] = -0.05
    page = format_tails(tails_frame(judge_tails(made(losses))), 0.05).to_html()
    assert page.count("&lt; 0.001") + page.count("< 0.001") == 3
    assert "font-weight: bold" in page
    assert "bold" not in format_tails(tails_frame(judge_tails(made(losses))), 0.0).to_html()


def test_the_overview_has_models_by_series_and_level():
    row = {"n_exceptions": 12, "n_expected": 10.0, "Christoffersen": 0.25}
    other = {"n_exceptions": 40, "n_expected": 10.0, "Christoffersen": 1e-9}
    judged = pd.DataFrame(
        [
            {"series": "B", "model": "normal", "level": 0.95, **other},
            {"series": "B", "model": "cornish_fisher", "level": 0.95, **row},
            {"series": "A", "model": "normal", "level": 0.95, **row},
            {"series": "A", "model": "cornish_fisher", "level": 0.95, **row},
        ]
    )
    table = tails_overview(judged)
    assert list(table.columns) == ["B, 95%", "A, 95%"]
    assert list(table.index) == ["normal", "cornish-fisher"]
    assert table.loc["normal"].tolist() == ["40 of 10, p < 0.001", "12 of 10, p 0.250"]


def test_an_unknown_model_is_named(returns):
    with pytest.raises(VarError, match="'magic' is not known"):
        forecast_tails(returns, ["magic"], (0.95,), **SETTINGS)
