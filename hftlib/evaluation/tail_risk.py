"""Forecasts of the tail by every model for every series, and how they held.

The forecasts are those of `portfolio.var_models`, each from returns before its bar, the tests
those of `portfolio.var_tests`. The shortfall is judged by a ratio: the losses of the bars beyond
the value at risk, over the shortfalls that were forecast for these bars; above 1 they were too
small.

Source: McNeil, Frey & Embrechts (2015), Quantitative Risk Management, 2nd ed., 9.3, for judging
a shortfall on the bars beyond the value at risk.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from hftlib.compute import map_parallel
from hftlib.evaluation.statistics import format_p
from hftlib.portfolio.var_models import forecast_var
from hftlib.portfolio.var_tests import backtest_var, find_exceptions
from hftlib.schema import RISK, validate

TESTS = {
    "unconditional": "Kupiec",
    "independence": "independence",
    "conditional": "Christoffersen",
}
MARKED = "font-weight: bold; color: #D55E00"


def forecast_tails(
    returns: Mapping[str, pd.Series],
    models: Sequence[str],
    levels: Sequence[float],
    *,
    window_bars: int,
    refit_bars: int,
) -> pd.DataFrame:
    """A table as `schema.RISK`: every bar of every series, by each model at each level.

    Parameters
    ----------
    returns : mapping of name to series indexed by ts (UTC)
        Simple returns.
    models, levels, window_bars, refit_bars
        As for `forecast_var`.

    Raises
    ------
    VarError
        As `forecast_var`.
    """
    tasks = [(name, series, model) for name, series in returns.items() for model in models]
    forecast = partial(_forecast, levels=levels, window_bars=window_bars, refit_bars=refit_bars)
    table = pd.concat(map_parallel(forecast, tasks, "tails"), ignore_index=True)
    return validate(table.astype({c.name: c.dtype for c in RISK.columns}), RISK)


def judge_tails(risk: pd.DataFrame) -> pd.DataFrame:
    """Exceptions and tests of each series, model and level of a table as `schema.RISK`.

    Returns
    -------
    frame indexed by series, model, level
        n_bars; n_exceptions; n_expected; the p-values "Kupiec", "independence" and
        "Christoffersen" (conditional coverage), nan where a test is not defined; and
        shortfall_ratio, see the module, nan without an exception.

    Raises
    ------
    VarTestError
        As `backtest_var`.
    """
    rows = {}
    for key, part in risk.groupby(["series", "model", "level"], sort=False):
        made, loss = part["return"].to_numpy(), part["value_at_risk"].to_numpy()
        tested = backtest_var(made, loss, float(part["level"].iloc[0]))
        known = part[part["value_at_risk"].notna()]
        beyond = known[find_exceptions(made, loss)]
        feared = beyond["expected_shortfall"].sum()
        rows[key] = {
            "n_bars": tested.n_bars,
            "n_exceptions": tested.n_exceptions,
            "n_expected": tested.n_expected,
            **{name: getattr(tested, test).p_value for test, name in TESTS.items()},
            "shortfall_ratio": -beyond["return"].sum() / feared if feared > 0 else np.nan,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(["series", "model", "level"])


def tails_frame(judged: pd.DataFrame) -> pd.DataFrame:
    """`judge_tails` with the names that a reader sees, levels and models as text."""
    index = [
        (series, model.replace("_", "-"), f"{level:.0%}") for series, model, level in judged.index
    ]
    counts = judged.astype({"n_bars": int, "n_exceptions": int}).rename(
        columns={
            "n_bars": "days",
            "n_exceptions": "beyond",
            "n_expected": "expected",
            "shortfall_ratio": "shortfall ratio",
        }
    )
    return counts.set_axis(pd.MultiIndex.from_tuples(index, names=judged.index.names))


def format_tails(table: pd.DataFrame, significance: float) -> Styler:
    """`tails_frame` for a page, p-values below `significance` in bold."""
    tests = [*TESTS.values()]
    numbers = {"expected": "{:.1f}", "shortfall ratio": "{:.2f}"}
    style = table.style.format({**dict.fromkeys(tests, format_p), **numbers}, na_rep="-")
    return style.map(lambda p: MARKED if p < significance else "", subset=tests)


def tails_overview(judged: pd.DataFrame) -> pd.DataFrame:
    """Models by series and level: losses beyond, those expected, p-value of `Christoffersen`.

    Parameters
    ----------
    judged : frame
        `judge_tails` with its index as columns.
    """
    cells = judged.assign(
        model=judged["model"].str.replace("_", "-"),
        where=judged["series"] + ", " + judged["level"].map("{:.0%}".format),
        cell=[
            f"{row.n_exceptions:.0f} of {row.n_expected:.0f}, p {format_p(row.Christoffersen)}"
            for row in judged.itertuples()
        ],
    )
    table = cells.pivot(index="model", columns="where", values="cell")
    return table.loc[cells["model"].unique(), cells["where"].unique()].rename_axis(columns=None)


def list_rejections(judged: pd.DataFrame, significance: float) -> pd.DataFrame:
    """Rows of `judge_tails` as series, model, level, test, p_value: those below `significance`."""
    long = judged[[*TESTS.values()]].rename_axis(columns="test").stack().rename("p_value")
    return long[long < significance].reset_index()


def _forecast(
    task: tuple[str, pd.Series, str], levels: Sequence[float], window_bars: int, refit_bars: int
) -> pd.DataFrame:
    name, series, model = task
    found = forecast_var(
        series.to_numpy(), model, levels, window_bars=window_bars, refit_bars=refit_bars
    )
    return pd.concat(
        pd.DataFrame(
            {
                "series": name,
                "ts": series.index,
                "model": model,
                "level": level,
                "return": series.to_numpy(),
                "value_at_risk": found.value_at_risk[:, k],
                "expected_shortfall": found.expected_shortfall[:, k],
            }
        )
        for k, level in enumerate(levels)
    )
