"""The results of the multi-agent market in one file, and as text for a reader.

Agents are judged in two ways: among the team that they were trained with
(`contest`, by report 42) and among classical partners (`book_backtest`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hftlib.evaluation.book_backtest import DECISIVE, RIVALS
from hftlib.evaluation.statistics import Estimate

COSTS = ("shortfall_ticks", "twap_slippage_ticks")  # the smaller, the better
BOUNDS = ("value", "low", "high")
# what decides whether an agent beats its rival, its unit, and the rival
CRITERIA = {
    "maker": ("risk_adjusted_profit", "currency an episode", "Avellaneda and Stoikov's rule"),
    "executor": ("shortfall_ticks", "ticks a lot", "the TWAP"),
    "taker": ("risk_adjusted_profit", "currency an episode", "doing nothing"),
}


def merge_judgement(results: Mapping[str, Any]) -> dict[str, Any]:
    """What one algorithm's metrics of report 42 say, by agent and measure.

    Returns
    -------
    dict
        {agent: {measure: {learnt, rival, difference: {value, low, high}, seeds}}}, the last with
        each training seed's difference; `beats`: {agent: {measure: bool}}, see `is_better`; and
        all but the judgement as it was.
    """
    merged = {key: value for key, value in results.items() if key != "judgement"}
    beats: dict[str, dict[str, bool]] = {}
    for row in results["judgement"]:
        entry = merged.setdefault(row["agent"], {}).setdefault(row["measure"], {})
        entry[row["what"]] = {key: row[key] for key in BOUNDS}
        if row["what"] == "difference":
            entry["seeds"] = row["seeds"]
            is_surely = is_better(row["measure"], row)
            beats.setdefault(row["agent"], {})[row["measure"]] = is_surely
    return {**merged, "beats": beats}


def is_better(measure: str, difference: Mapping[str, Any]) -> bool:
    """Whether the interval of a difference lies on the good side of 0; False where undefined."""
    return compare(measure, difference) == "better"


def compare(measure: str, difference: Mapping[str, Any]) -> str:
    """ "better" or "worse" where the interval of a difference excludes 0, else "not told apart"."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None or not (low > 0 or high < 0):
        return "not told apart"
    return "better" if (high < 0) == (measure in COSTS) else "worse"


def to_metrics(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A frame of `summarise_role` for JSON: {strategy: {measure: {value, low, high}}}."""
    return {
        str(name): dict(zip(part["measure"], map(_to_dict, _rows(part)), strict=True))
        for name, part in table.groupby("strategy", sort=False)
    }


def crossplay_to_metrics(matrix: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A frame of `summarise_crossplay` for JSON: {makers of: {others of: {role: estimate}}}."""
    found: dict[str, dict[str, Any]] = {}
    for key, row in zip(_rows(matrix[["makers", "others", "role"]]), _rows(matrix), strict=True):
        pairing = found.setdefault(key["makers"], {}).setdefault(key["others"], {})
        pairing[key["role"]] = _to_dict(row)
    return found


def verdict_rows(results: Mapping[str, Any], algorithms: Sequence[str]) -> pd.DataFrame:
    """Learnt less rival, and the control's profits, for `marketplots.estimates_figure`.

    Parameters
    ----------
    results : mapping
        The metrics "multi_agent": by algorithm as `merge_judgement` gives them.

    Returns
    -------
    frame with columns strategy (the algorithm), measure (an agent, or "control <agent>"), value,
    low, high; units of `CRITERIA`, the profit's for the control. A gain is positive: a shortfall
    counts as what is saved
    """
    rows = []
    for algo in algorithms:
        for agent, (measure, _, _) in CRITERIA.items():
            entry = results[algo][agent][measure]["difference"]
            value, low, high = (entry[key] for key in BOUNDS)
            gain = (-value, -high, -low) if measure in COSTS else (value, low, high)
            rows.append((algo, agent, *gain))
        for agent, entry in results[algo]["control"].items():
            rows.append((algo, f"control {agent}", *(entry[key] for key in BOUNDS)))
    return pd.DataFrame(rows, columns=["strategy", "measure", *BOUNDS])


def verdict_frame(results: Mapping[str, Any], algorithms: Sequence[str]) -> pd.DataFrame:
    """Learnt agents against their rivals among the learnt partners, as text for a reader.

    Returns
    -------
    frame with one row an algorithm, agent and decisive measure; columns learnt, rival, learnt less
    rival, better seeds (how many of them), the rival (its name)
    """
    rows = {}
    for algo in algorithms:
        for agent, rival in RIVALS.items():
            for measure in (name for name in DECISIVE if name in results[algo][agent]):
                entry = results[algo][agent][measure]
                parts = {what: entry[what] for what in ("learnt", "rival", "difference")}
                text = format_intervals(pd.DataFrame(parts).T)
                sign = -1 if measure in COSTS else 1
                n_better = sum(sign * value > 0 for value in entry["seeds"])
                rows[f"{algo} {agent}, {_words(measure)}"] = {
                    "learnt": text["learnt"],
                    "rival": text["rival"],
                    "learnt less rival": text["difference"],
                    "better seeds": f"{n_better} of {len(entry['seeds'])}",
                    "the rival": _words(rival),
                }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("agent, measure")


def describe_verdicts(results: Mapping[str, Any], algorithms: Sequence[str]) -> str:
    """A sentence an algorithm: which of its agents beat their rivals, by their intervals."""
    verbs = {"better": "beat", "worse": "lose to", "not told apart": "are not told apart from"}
    sentences = []
    for algo in algorithms:
        parts = []
        for agent, (measure, unit, rival) in CRITERIA.items():
            gap = results[algo][agent][measure]["difference"]
            parts.append(
                f"{agent}s {verbs[compare(measure, gap)]} {rival} ({describe(gap)} {unit})"
            )
        sentences.append(f"{algo.upper()}: {', '.join(parts)}.")
    return " ".join(sentences)


def describe_control(results: Mapping[str, Any], algorithms: Sequence[str]) -> str:
    """Whether learners end at doing nothing where nothing can be earned, as a sentence."""
    verdicts: dict[str, list[str]] = {
        "end within noise of it": [],
        "go on losing": [],
        "earn, which is a fault": [],
    }
    nothing, losing, earning = verdicts.values()
    for algo in algorithms:
        for agent, row in results[algo]["control"].items():
            group = earning if row["low"] > 0 else losing if row["high"] < 0 else nothing
            group.append(
                f"{algo.upper()} {agent}s {describe(row, '')}, untrained {row['before']:.1f}"
            )
    parts = [f"{'; '.join(group)} {verdict}" for verdict, group in verdicts.items() if group]
    return f"On a control market, where doing nothing is best, {', and '.join(parts)}."


def interval_frame(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Measures of a frame of `summarise_role` as text, one row a strategy, for a reader."""
    frames = {
        _words(measure): format_intervals(table[table["measure"] == measure].set_index("strategy"))
        for measure in columns
    }
    return pd.DataFrame(frames).rename(index=_words).rename_axis("strategy")


def format_intervals(rows: pd.DataFrame) -> "pd.Series[str]":
    """Columns value, low, high as text such as "1.20 [0.95, 1.45]"; "-" where undefined.

    As many digits as give the largest value three, at most two after the point.
    """
    largest = rows["value"].abs().max()
    digits = int(np.clip(2 - np.floor(np.log10(largest)), 0, 2)) if largest > 0 else 0
    cells = []
    for row in _rows(rows):
        value, low, high = (f"{row[key]:.{digits}f}" for key in BOUNDS)
        cells.append(f"{value} [{low}, {high}]" if np.isfinite(row["value"]) else "-")
    return pd.Series(cells, rows.index, dtype="str")


def describe(estimate: Mapping[str, Any], sign: str = "+") -> str:
    """Value and interval such as "+1.2 [-0.3, 2.7]"; "undefined" without numbers.

    `sign` is that of Python's formats: "+" for a difference, "" for a level. A bound that would
    round to 0 gets a second decimal: it says on which side of 0 it is.
    """
    if estimate["value"] is None or not np.isfinite(estimate["value"]):
        return "undefined"
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    digits = 2 if any(0 < abs(bound) < 0.05 for bound in (low, high)) else 1
    return f"{value:{sign}.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _to_dict(row: Mapping[str, float]) -> dict[str, float | None]:
    return Estimate(row["value"], row["low"], row["high"]).to_dict()


def _words(name: str) -> str:
    return name.replace("_", " ")
