"""Hyper-parameter search through Optuna: grid, random and TPE, with pruning.

A study has `n_trials` slots. A worker takes the first slot that is free, and
what it tries there depends on the seed, the slot and, with TPE, on the trials
that are finished. The slot of a trial that failed, or whose worker was killed,
becomes free again. So one worker gives the same trials whether it ran through
or was stopped and resumed. With several workers, grid and random search still
try the same settings; TPE and pruning then depend on which trial ended first.

A person copies the winner into the parameters: nothing reads it from here. Every
trial counts among those that a deflated Sharpe ratio has to answer for.

Source: Bergstra et al. (2011), Algorithms for hyper-parameter optimization,
NeurIPS 24 (TPE); Li et al. (2020), A system for massively parallel
hyperparameter tuning, MLSys 2 (successive halving, ASHA).
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from hftlib.agents import study as studies
from hftlib.agents.space import Space, decode_settings, distributions_of, list_grid
from hftlib.agents.trials import COLUMNS, DIVERGED, SLOT, tabulate_trials
from hftlib.compute import derive_rng, derive_seed, map_parallel

Report = Callable[[int, float], None]
Objective = Callable[[dict[str, Any], Report], float]


_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_TAKEN = (*_FINISHED, TrialState.RUNNING)


@dataclass(frozen=True)
class Median:
    """Stop a trial that is worse than the median of the others at the same step.

    n_startup : finished trials before the first is stopped
    warmup_steps : no trial is stopped before this step
    """

    n_startup: int = 5
    warmup_steps: int = 0

    def build(self) -> optuna.pruners.BasePruner:
        """Optuna's own."""
        return optuna.pruners.MedianPruner(self.n_startup, self.warmup_steps)


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving: of each `factor` trials at a rung, one goes on to the next.

    min_steps : step of the first rung; each further one is `factor` times as far
    """

    min_steps: int
    factor: int = 3

    def build(self) -> optuna.pruners.BasePruner:
        """Optuna's own."""
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=self.min_steps, reduction_factor=self.factor
        )


@dataclass(frozen=True)
class Search:
    """What to search, and how.

    space : mapping of name to Choice, Uniform, LogUniform or IntRange
    method : "grid" tries every combination of choices and ranges once, in a shuffled order
    seed : fixes the settings that are tried
    n_trials : of the whole study, over all workers and resumptions; None for a grid
    pruning : None lets every trial run to its end
    n_startup : random trials before TPE models the space
    """

    space: Space
    method: Literal["grid", "random", "tpe"]
    seed: int
    n_trials: int | None = None
    direction: studies.Direction = "maximize"
    pruning: Median | Halving | None = None
    n_startup: int = 10

    def __post_init__(self) -> None:
        reserved = sorted({*COLUMNS} & {*self.space})
        if reserved or not self.space:
            raise ValueError(
                f"the space has the names {sorted(self.space)}; expected at least one, and none "
                f"of {', '.join(COLUMNS)}"
            )
        if self.method == "grid":
            if self.n_trials is not None:
                raise ValueError(
                    f"n_trials is {self.n_trials}; a grid has {len(list_grid(self.space))} points "
                    "and tries all: leave n_trials out, or use method='random'"
                )
            list_grid(self.space)
        elif self.n_trials is None or self.n_trials < 1:
            raise ValueError(f"n_trials is {self.n_trials}; expected at least 1 for {self.method}")

    @property
    def n_slots(self) -> int:
        """Trials of a complete study."""
        return len(list_grid(self.space)) if self.n_trials is None else self.n_trials

    def describe(self, about: Mapping[str, Any]) -> dict[str, str]:
        """All that a trial depends on, as text; `n_trials` is left out, since it may grow."""
        own = {
            "method": self.method,
            "seed": str(self.seed),
            "direction": self.direction,
            "pruning": repr(self.pruning),
            "n_startup": str(self.n_startup),
        }
        own |= {f"space.{name}": repr(spec) for name, spec in self.space.items()}
        return own | {f"about.{name}": repr(value) for name, value in about.items()}

    def build_pruner(self) -> optuna.pruners.BasePruner:
        """What stops trials."""
        return optuna.pruners.NopPruner() if self.pruning is None else self.pruning.build()

    def build_sampler(self, slot: int) -> optuna.samplers.BaseSampler:
        """What chooses the settings of one slot, with a seed of its own."""
        seed = derive_seed(self.seed, "slot", slot)
        if self.method == "grid":
            points = list_grid(self.space)
            order = derive_rng(self.seed, "grid").permutation(len(points))
            return _Point(points[order[slot]])
        if self.method == "random":
            return optuna.samplers.RandomSampler(seed)
        return optuna.samplers.TPESampler(
            n_startup_trials=self.n_startup, multivariate=True, constant_liar=True, seed=seed
        )


def name_study(scratch: Path, search: Search, about: Mapping[str, Any]) -> Path:
    """A file for this search and this objective: another configuration starts anew beside it."""
    digest = hashlib.sha256(json.dumps(search.describe(about)).encode()).hexdigest()
    return scratch / f"study-{digest[:16]}.db"


def tune(
    objective: Objective,
    search: Search,
    file: Path,
    about: Mapping[str, Any],
    *,
    n_workers: int = 1,
    timeout_s: float = 60.0,
) -> pd.DataFrame:
    """Fill the free slots of a study, with a line per trial; a complete one is only read.

    Parameters
    ----------
    objective : function of (settings, report) to a number
        `report(step, value)` hands over an intermediate value, before the last step, and ends the
        trial by an exception of Optuna's if it is to be stopped: let that pass. A result that is
        nan or infinite, and a FloatingPointError, count as divergence: the trial is finished, and
        is not repeated. Any other exception stops this worker and frees the slot. Picklable if
        `n_workers` > 1.
    file : path
        SQLite, created if absent. Other processes may work on the same study meanwhile.
    about : mapping
        What else the result depends on, such as data, code and fixed settings; its `repr` is kept,
        and a study goes on only under the same.
    n_workers : int
        Processes, through `compute.map_parallel`.
    timeout_s : float
        How long to wait for a study that others hold.

    Returns
    -------
    frame
        As `trials.tabulate_trials` gives it.

    Raises
    ------
    StudyError
        If the file is locked, unwritable, no study, or one of another search or objective.
    """
    work = partial(_work, objective, search, file, dict(about), timeout_s)
    if n_workers == 1:
        work(0)
    else:
        map_parallel(work, range(n_workers), "tuning worker")
    return read_trials(file, search.space, timeout_s=timeout_s)


def read_trials(file: Path, space: Space, *, timeout_s: float = 60.0) -> pd.DataFrame:
    """Trials of a study, as `trials.tabulate_trials` gives them.

    Raises
    ------
    StudyError
        If there is no such study, or it is locked.
    """
    if not file.is_file():
        raise studies.StudyError(f"{file}: no such study; run tuning.tune first")
    with studies.connect_study(file, timeout_s) as storage, studies.hold_study(file, timeout_s):
        study = optuna.load_study(study_name=None, storage=storage)
        return tabulate_trials(study.get_trials(deepcopy=False), list(space))


def _work(
    objective: Objective,
    search: Search,
    file: Path,
    about: Mapping[str, Any],
    timeout_s: float,
    _: int,
) -> None:
    """Fill slots until none is free."""
    hold = partial(studies.hold_study, file, timeout_s)
    with studies.connect_study(file, timeout_s) as storage:
        with hold():
            study = studies.open_study(storage, file, search.direction, search.describe(about))
        study.pruner = search.build_pruner()
        with studies.register_worker(file) as token:
            while True:
                with hold():
                    trial = _take_slot(study, search, file, token)
                if trial is None:
                    return
                _run_trial(study, trial, objective, search, hold)
                with hold():
                    n_done = len(study.get_trials(deepcopy=False, states=_FINISHED))
                print(f"tuning: {n_done} of {search.n_slots} trials done", flush=True)  # noqa: T201


def _take_slot(study: optuna.Study, search: Search, file: Path, token: str) -> optuna.Trial | None:
    studies.fail_abandoned(study, file)
    taken = {t.user_attrs[SLOT] for t in study.get_trials(deepcopy=False, states=_TAKEN)}
    slot = next((k for k in range(search.n_slots) if k not in taken), None)
    if slot is None:
        return None
    study.sampler = search.build_sampler(slot)
    trial = study.ask(distributions_of(search.space))
    trial.set_user_attr(SLOT, slot)
    trial.set_user_attr(studies.WORKER, token)
    return trial


def _run_trial(
    study: optuna.Study,
    trial: optuna.Trial,
    objective: Objective,
    search: Search,
    hold: Callable[[], Any],
) -> None:
    def report(step: int, value: float) -> None:
        with hold():
            trial.report(float(value), step)
            stops = trial.should_prune()
        if stops:
            raise optuna.TrialPruned

    state, value = TrialState.FAIL, None
    try:
        value = float(objective(decode_settings(search.space, trial.params), report))
        state = TrialState.COMPLETE if math.isfinite(value) else TrialState.PRUNED
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except FloatingPointError:
        state, value = TrialState.PRUNED, math.nan
    finally:
        with hold():
            if state == TrialState.PRUNED and value is not None:
                trial.set_user_attr(DIVERGED, True)
            study.tell(trial, value if state == TrialState.COMPLETE else None, state)


class _Point(optuna.samplers.BaseSampler):
    """One point of a grid."""

    def __init__(self, point: Mapping[str, Any]) -> None:
        self._point = point

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """None: parameters do not depend on each other."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Its coordinate."""
        return self._point[param_name]
