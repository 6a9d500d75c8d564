"""What all reports claim, as one list of tests, so that they can be corrected together.

A reader who looks at twenty intervals of 95 % finds one that misses its truth. Each claim here
is a difference that would be 0 if there were nothing to claim; its p-value is that of
its test where the report has one, else that of a normal estimate with the interval's width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from hftlib.evaluation.market_report import verdict_rows
from hftlib.evaluation.superiority import correct_p_values

COLUMNS = ("report", "claim", "value", "low", "high", "p")
YARDSTICKS = ("buy_and_hold", "do_nothing", "random")


def interval_p_value(
    value: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike, confidence: float
) -> Any:
    """Two-sided p-value of an expected value of 0, from a central interval, as if it were normal.

    Returns
    -------
    number or array
        nan where a bound is missing or the interval has no width: nothing was estimated.

    Raises
    ------
    ValueError
        If `confidence` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected between 0 and 1, such as .95")
    width = np.asarray(high, dtype=np.float64) - np.asarray(low, dtype=np.float64)
    error = width / (2.0 * stats.norm.ppf(0.5 + confidence / 2.0))
    error = np.where(error > 0, error, np.nan)
    return 2.0 * stats.norm.sf(np.abs(np.asarray(value, dtype=np.float64)) / error)


def backtest_claims(headline: Mapping[str, Any], confidence: float) -> pd.DataFrame:
    """Sharpe ratio of each strategy less buy-and-hold's; columns `COLUMNS`."""
    names = [name for name in headline if name not in YARDSTICKS]
    claims = [f"{name} less buy-and-hold, Sharpe ratio" for name in names]
    entries = [headline[name]["excess_sharpe"] for name in names]
    return _frame("51_backtest", claims, entries, confidence)


def walk_claims(headline: Mapping[str, Any], confidence: float) -> pd.DataFrame:
    """Sharpe ratio of what was trained or chosen anew less buy-and-hold's; columns `COLUMNS`.

    Parameters
    ----------
    headline : mapping of scheme to what `backtest_claims` takes
    """
    parts = []
    for scheme, results in headline.items():
        part = backtest_claims(results, confidence)
        if part.empty:  # yardsticks alone
            continue
        claim = "walk-forward, " + scheme + ", " + part["claim"]
        parts.append(part.assign(report="45_walk_forward", claim=claim))
    return pd.concat(parts, ignore_index=True)


def portfolio_claims(results: Mapping[str, Any], confidence: float) -> pd.DataFrame:
    """Sharpe ratio of each monthly allocation less equal weight's; columns `COLUMNS`."""
    gaps = {
        name: row["excess_sharpe"]
        for name, row in results["allocations"].items()
        if name != "equal_weight" and not name.endswith(", drift")
    }
    claims = [f"{name} less equal weight, Sharpe ratio" for name in gaps]
    return _frame("50_portfolio_risk", claims, list(gaps.values()), confidence)


def market_claims(
    results: Mapping[str, Any], algorithms: Sequence[str], confidence: float
) -> pd.DataFrame:
    """Learnt agents of the order book less their rivals, and the controls; columns `COLUMNS`."""
    rows = verdict_rows(results, algorithms)
    is_control = rows["measure"].str.startswith("control")
    kind = np.where(is_control, "profit", "less its rival")
    claims = rows["strategy"] + " " + rows["measure"] + ", " + kind
    entries = rows[["value", "low", "high"]].to_dict("records")
    return _frame("42_multi_agent", list(claims), entries, confidence)


def session_claims(results: Mapping[str, Any], confidence: float) -> pd.DataFrame:
    """Worth of each offline learner in fresh games, where doing nothing is 0; columns `COLUMNS`."""
    learners = results["learners"]
    claims = [f"{name}, worth of play, SOL" for name in learners]
    return _frame("43_offline", claims, list(learners.values()), confidence)


def forecast_claims(results: Mapping[str, Any], confidence: float) -> pd.DataFrame:
    """Forecasts against nothing, and of variance against HAR's; columns `COLUMNS`.

    The second has the p-value of Diebold and Mariano's test, and no interval.
    """
    parts = []
    for symbol, row in results.items():
        variance = row["log_variance"]
        gain = variance["correlation"] - variance["har_correlation"]
        beats = {"claim": f"{symbol} log variance, correlation less HAR's", "value": gain}
        names = {"next_return": "next return", "shuffled": "shuffled outcomes"}
        claims = [f"{symbol} {name}, correlation" for name in names.values()]
        entries = [row[key] | {"value": row[key]["correlation"]} for key in names]
        parts.append(pd.DataFrame([beats | {"report": "40_forecaster", "p": variance["dm_p"]}]))
        parts.append(_frame("40_forecaster", claims, entries, confidence))
    return pd.concat(parts, ignore_index=True).reindex(columns=[*COLUMNS])


def judge_claims(parts: Sequence[pd.DataFrame], level: float) -> pd.DataFrame:
    """All claims in one list, corrected together.

    Returns
    -------
    frame with `COLUMNS`, holm (corrected p-value) and verdict: better, worse, "not told apart", or
    "not tested" where there is no p-value
    """
    table = pd.concat(parts, ignore_index=True)
    found = correct_p_values(table["p"], "holm", level)
    side = np.where(table["value"] > 0, "better", "worse")
    verdict = np.where(found.is_rejected, side, "not told apart")
    return table.assign(
        holm=found.p_values, verdict=np.where(table["p"].isna(), "not tested", verdict)
    )


def _frame(
    report: str, claims: Sequence[str], entries: Sequence[Mapping[str, Any]], confidence: float
) -> pd.DataFrame:
    bounds = pd.DataFrame(
        [[entry[key] for key in ("value", "low", "high")] for entry in entries],
        columns=["value", "low", "high"],
        dtype="float64",
    )
    p = interval_p_value(bounds["value"], bounds["low"], bounds["high"], confidence)
    named = pd.DataFrame({"report": report, "claim": [text.replace("_", " ") for text in claims]})
    return pd.concat([named, bounds], axis=1).assign(p=p)
