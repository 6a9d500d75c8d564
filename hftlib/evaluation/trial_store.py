"""How many strategies were ever tried, read from the runs in the tracking store.

The best of many trials is flattered by their number, and the number that counts
is that of all attempts on the data: failed, pruned and deleted ones too. A
run is one trial unless other runs are its parts, as the seeds of a stage or the
trials of a study are: then it is their sum, and only they count. The count is of
this store: what was tried elsewhere has to be added by hand.

Feeds `sharpe_tests.deflated_sharpe`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hftlib.tracking import TrackingError, open_store

RATIOS = ("validation/sharpe", "value")  # as `journal` names them: of agents, of trials
PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class TrialCount:
    """Runs of a store that stand for a trial each.

    Attributes
    ----------
    runs, without : dict of experiment to number
        All trials, and those among them that recorded no Sharpe ratio, or nan.
    sharpe : array of shape (n_trials - n_without,)
        Recorded ratios, per period.
    """

    runs: dict[str, int]
    without: dict[str, int]
    sharpe: npt.NDArray[np.float64]

    @property
    def n_trials(self) -> int:
        """All trials, with a ratio or without."""
        return sum(self.runs.values())

    @property
    def n_without(self) -> int:
        """Trials that count but have no ratio."""
        return sum(self.without.values())

    @property
    def variance(self) -> float:
        """Of the ratios per period (ddof 1); nan with fewer than two."""
        return float(self.sharpe.var(ddof=1)) if len(self.sharpe) > 1 else float("nan")

    def to_dict(self) -> dict[str, object]:
        """For a report: counts by experiment, totals, variance; None for nan."""
        return {
            "trials": self.n_trials,
            "without_ratio": self.n_without,
            "by_experiment": self.runs,
            "variance": self.variance if np.isfinite(self.variance) else None,
        }


def read_trials(
    store: Path, periods_per_year: float, experiments: Sequence[str] | None = None
) -> TrialCount:
    """Count the trials of a store and collect their Sharpe ratios.

    Parameters
    ----------
    store : folder
        `paths.tracking`.
    periods_per_year : float
        By which the recorded ratios were annualised: they are divided by its root.
    experiments : sequence of str, optional
        Those whose trials were made on the data in question; by default all.

    Returns
    -------
    TrialCount
        Of each trial the first of `RATIOS` that it has, the last value logged.

    Raises
    ------
    TrackingError
        If there is no such store or experiment.
    ValueError
        If `periods_per_year` is not positive.
    """
    if not periods_per_year > 0:
        raise ValueError(f"periods_per_year is {periods_per_year}; expected above 0, such as 252")
    client = open_store(store)
    from mlflow.entities import ViewType

    found = {e.experiment_id: e.name for e in client.search_experiments(view_type=ViewType.ALL)}
    unknown = sorted(set(experiments or ()) - set(found.values()))
    if unknown:
        names = ", ".join(sorted(found.values()))
        raise TrackingError(f"{store} has no experiment {', '.join(unknown)}; it has {names}")
    chosen = {k: name for k, name in found.items() if experiments is None or name in experiments}
    runs = []
    token: str | None = None
    while token != "":
        page = client.search_runs(list(chosen), run_view_type=ViewType.ALL, page_token=token)
        runs += list(page)
        token = page.token if page.token is not None else ""
    parents = {run.data.tags.get(PARENT) for run in runs}
    counted: Counter[str] = Counter()
    without: Counter[str] = Counter()
    ratios = []
    for run in runs:
        if run.info.run_id in parents:
            continue
        name = chosen[run.info.experiment_id]
        counted[name] += 1
        ratio = next((run.data.metrics[k] for k in RATIOS if k in run.data.metrics), np.nan)
        if np.isfinite(ratio):
            ratios.append(ratio)
        else:
            without[name] += 1
    return TrialCount(
        dict(sorted(counted.items())),
        {name: without[name] for name in sorted(counted)},
        np.array(sorted(ratios), dtype=np.float64) / periods_per_year**0.5,
    )
