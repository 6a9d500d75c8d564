"""What a study has found: the table of its trials, the best one, which parameters matter.

Source: Hutter, Hoos & Leyton-Brown (2014), An efficient approach for assessing
hyperparameter importance, ICML 31 (fANOVA).
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from hftlib.agents.space import Space, decode_settings, distributions_of
from hftlib.agents.study import Direction

SLOT = "slot"
DIVERGED = "diverged"
COLUMNS = (SLOT, "state", "value", "last_step", "last_value")


def tabulate_trials(trials: Sequence[FrozenTrial], names: Sequence[str]) -> pd.DataFrame:
    """One row a finished trial, in the order of the slots; failed ones are left out.

    Returns
    -------
    frame
        slot (int); state: "complete", "pruned" or "diverged"; value, nan unless complete;
        last_step and last_value as reported, missing where nothing was; then the parameters, a
        tuple as its `repr`. Nothing in it depends on the clock.
    """
    rows = []
    for trial in trials:
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            continue
        complete = trial.state == TrialState.COMPLETE
        state = "diverged" if trial.user_attrs.get(DIVERGED) else trial.state.name.lower()
        step = trial.last_step
        last = np.nan if step is None else trial.intermediate_values[step]
        value = trial.value if complete else np.nan
        rows.append(
            (trial.user_attrs[SLOT], state, value, step, last, *map(trial.params.get, names))
        )
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *names])
    kinds = {SLOT: "int64", "value": "float64", "last_step": "Int64", "last_value": "float64"}
    return frame.astype(kinds).sort_values(SLOT, ignore_index=True)


def find_best(trials: pd.DataFrame, space: Space, direction: Direction) -> dict[str, Any]:
    """Settings of the best complete trial; of equal ones the first.

    Raises
    ------
    ValueError
        If none is complete.
    """
    complete = _complete(trials)
    values = complete["value"]
    row = complete.loc[values.idxmax() if direction == "maximize" else values.idxmin()]
    return decode_settings(space, row.to_dict())


def rank_parameters(
    trials: pd.DataFrame,
    space: Space,
    seed: int,
    *,
    n_bootstrap: int = 50,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Share of the values' variance that each parameter explains by itself or with others.

    Importances by fANOVA, on complete trials only, which sum to 1 whether or not anything matters:
    the interval, over trials drawn with replacement, tells whether the order means something.
    Samplers that look where values are good make them describe that region.

    Parameters
    ----------
    trials : frame as `tabulate_trials` gives it
    seed : int
        Fixes the forests and the draws.
    n_bootstrap : int
        Draws.

    Returns
    -------
    frame
        parameter, importance, low, high; the most important first.

    Raises
    ------
    ValueError
        If fewer than 4 trials are complete, or all their values are the same.
    """
    complete = _complete(trials)
    if len(complete) < 4 or complete["value"].nunique() < 2:
        raise ValueError(
            f"{len(complete)} complete trials with {complete['value'].nunique()} distinct values; "
            "importance needs at least 4 trials whose values differ"
        )
    rng = np.random.default_rng(seed)
    names = list(space)
    found = _fanova(complete, space, seed, n_trees=64)
    draws: list[list[float]] = []
    while len(draws) < n_bootstrap:
        chosen = complete.iloc[rng.integers(len(complete), size=len(complete))]
        if chosen["value"].nunique() > 1:
            draws.append(_fanova(chosen, space, seed, n_trees=16))
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail), axis=0)
    table = pd.DataFrame({"parameter": names, "importance": found, "low": low, "high": high})
    return table.sort_values("importance", ascending=False, ignore_index=True)


def _fanova(complete: pd.DataFrame, space: Space, seed: int, n_trees: int) -> list[float]:
    """Importance of each parameter, in the order of the space."""
    logging.getLogger("optuna").setLevel(logging.WARNING)
    distributions = distributions_of(space)
    study = optuna.create_study()
    study.add_trials(
        optuna.trial.create_trial(
            params={name: row[name] for name in space},
            distributions=distributions,
            value=row["value"],
        )
        for row in complete.to_dict("records")
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=n_trees, seed=seed)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return [float(found[name]) for name in space]


def _complete(trials: pd.DataFrame) -> pd.DataFrame:
    complete = trials[trials["state"] == "complete"]
    if complete.empty:
        states = ", ".join(f"{n} {state}" for state, n in trials["state"].value_counts().items())
        raise ValueError(
            f"no trial is complete ({states if states else 'none at all'}); widen the space, or "
            "prune later"
        )
    return complete
