"""Train the forecaster walk-forward, and forecast every row out of fold.

Each fold has an ensemble of its own, trained and calibrated on earlier rows
alone: no row gets a forecast from networks that saw it, or anything later. Nor may
its inputs: a feature with a model of its own, fitted on later rows, does not belong here.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hftlib.compute import derive_seed, map_parallel
from hftlib.data.folds import Fold
from hftlib.models.calibration import fit_margin
from hftlib.models.examples import Examples, FloatArray, IntArray
from hftlib.models.forecast_training import (
    ForecasterSettings,
    Member,
    forecast_windows,
    train_member,
)
from hftlib.models.forecaster import Ensemble, Forecaster, Outputs
from hftlib.schema import FORECASTS, validate

TARGETS = ("log_variance", "next_return")  # in the order of the outcomes and of `Outputs`


class Task(NamedTuple):
    """One training."""

    fold: Fold
    number: int  # of the member


class Forecasts(NamedTuple):
    """What the ensembles of all folds say of the rows after the first test span began."""

    table: pd.DataFrame  # as `schema.FORECASTS`, one row a forecast
    rows: IntArray  # rows of the examples, in the same order
    attention: FloatArray  # (n_forecasts, n_states), mean over members
    margins: list[dict[str, float]]  # by fold: half widths of the intervals, in sd


def train_folds(
    examples: Examples,
    folds: Sequence[Fold],
    settings: ForecasterSettings,
    *,
    n_members: int,
    seed: int,
    scratch: Path | None = None,
    label: str = "forecaster",
) -> list[list[Member]]:
    """Train `n_members` networks on each fold, one process a core.

    Returns
    -------
    list of lists of Member
        By fold, then by member. A member's seed depends on `seed`, its fold and its number alone.
    """
    tasks = [Task(fold, k) for fold in reversed(folds) for k in range(n_members)]  # longest first
    train = partial(_train, examples, settings, seed, scratch)
    trained = map_parallel(train, tasks, label)
    return [
        [member for task, member in zip(tasks, trained, strict=True) if task.fold == fold]
        for fold in folds
    ]


def _train(
    examples: Examples, settings: ForecasterSettings, seed: int, scratch: Path | None, task: Task
) -> Member:
    own = derive_seed(seed, "fold", task.fold.number, "member", task.number)
    return train_member(examples, task.fold, settings, own, scratch=scratch)


def build_ensemble(members: Sequence[Member]) -> Ensemble:
    """The networks of one fold together."""
    return Ensemble([Forecaster.from_weights(member.weights) for member in members])


def forecast_folds(
    examples: Examples, folds: Sequence[Fold], members: Sequence[Sequence[Member]], coverage: float
) -> Forecasts:
    """Forecast each fold's test span with its own ensemble.

    Parameters
    ----------
    examples : Examples
        Of channels that are known at the close of their own bar.
    members : sequences of Member
        As from `train_folds`.
    coverage : float
        Of the intervals from low to high, approximately (see `calibration`). They are calibrated
        on errors of the fold's own ensemble on its validation span, and of earlier folds on the
        days they tested before it.

    Returns
    -------
    Forecasts
        Rows without a known outcome have forecasts too: the newest bar of each symbol.
    """
    tables, rows, attention, margins = [], [], [], []
    past: dict[str, list[tuple[IntArray, FloatArray]]] = {name: [] for name in TARGETS}
    for fold, own in zip(folds, members, strict=True):
        ensemble = build_ensemble(own)
        judged = examples.between(fold.validation, is_known=True)
        seen = forecast_windows(ensemble, examples, judged)
        ends = examples.between(fold.test, is_known=False)
        made = forecast_windows(ensemble, examples, ends)
        columns: dict[str, object] = {
            "symbol": np.array(examples.symbols)[examples.symbol[ends]],
            "ts": pd.to_datetime(examples.clock[examples.time[ends]], utc=True),
            "fold": fold.number,
        }
        widths = {}
        for k, name in enumerate(TARGETS):
            before = [
                scores[(examples.time[rows_before] < fold.validation[0]) & np.isfinite(scores)]
                for rows_before, scores in past[name]
            ]
            known = _score(seen, k, examples.outcomes[judged, k])
            widths[name] = fit_margin(np.concatenate([*before, known]), coverage)
            mean, sd = (values.numpy().astype(np.float64) for values in made[2 * k : 2 * k + 2])
            past[name].append((ends, _score(made, k, examples.outcomes[ends, k])))
            columns[f"{name}_mean"], columns[f"{name}_sd"] = mean, sd
            columns[f"{name}_low"] = mean - widths[name] * sd
            columns[f"{name}_high"] = mean + widths[name] * sd
        columns["up_probability"] = made.up_probability.numpy().astype(np.float64)
        tables.append(pd.DataFrame(columns))
        rows.append(ends)
        attention.append(made.attention.numpy())
        margins.append(widths)
    every = np.concatenate(rows)
    order = np.argsort(every)
    table = pd.concat(tables, ignore_index=True).iloc[order].reset_index(drop=True)
    return Forecasts(
        validate(table, FORECASTS), every[order], np.concatenate(attention)[order], margins
    )


def _score(outputs: Outputs, k: int, outcome: FloatArray) -> FloatArray:
    """Errors of target k in standard deviations, without a sign."""
    mean, sd = (values.numpy().astype(np.float64) for values in outputs[2 * k : 2 * k + 2])
    return np.asarray(np.abs(outcome - mean) / sd)
