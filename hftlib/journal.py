"""Stages 41 and 44 in the MLflow store: a run a stage, with one a seed or trial under it.

Called by the notebook once its results are safe, with what the workers gave
back: they need not import MLflow. A store that fails costs one warning and the
rest of the record.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from hftlib.registry import register_model
from hftlib.tracking import Run, track_run

NAMES = {"approx_kl": "kl"}  # of updates, where the store calls them otherwise


class Training(Protocol):
    """What is read of `agents.online.Trained`."""

    @property
    def seed(self) -> int:
        """Of the training."""

    @property
    def curve(self) -> Sequence[Any]:
        """`CurvePoint`s."""

    @property
    def updates(self) -> Sequence[Any]:
        """`Update`s."""


def track_agents(
    store: Path,
    algo: str,
    trained: Sequence[Training],
    judged: Sequence[Mapping[str, float]],
    folder: Path,
    *,
    params: Mapping[str, Any],
    lineage: Mapping[str, str],
    measured_on: str,
    artefacts: Sequence[Path] = (),
) -> None:
    """Record the trainings of one algorithm in "single_agent", and register their models.

    A seed has its learning curve as `<split>/<measure>`, its updates, each or thinned as
    `online_record.Update` says, as `train/<measure>`, and last, at the final step, what the
    finished policy is worth on validation. The stage has the means of that over its seeds.

    Parameters
    ----------
    store : folder
        `paths.tracking`.
    judged : sequence of mappings
        `measures.evaluate_returns` of each finished policy on validation. The registry goes by the
        mean Sharpe ratio, which counts as 0 for a policy that never trades.
    folder : path
        The models of all seeds.
    params, lineage : mappings
        As `tracking.track_run` takes them.
    measured_on : str
        Names the validation data and the rules, see `registry.register_model`.
    artefacts : sequence of paths
        Files that the stage's run gets a copy of, such as learning curves and manifest.

    Raises
    ------
    TrackingError
        If one of `artefacts` does not exist.
    """
    about: dict[str, Any] = {"params": params, "algo": algo, "lineage": lineage}
    with track_run(store, "single_agent", algo, **about) as stage:
        run = stage
        for k, (result, worth) in enumerate(zip(trained, judged, strict=True)):
            if not run.is_recording:
                return
            name = f"seed {k}"
            with track_run(
                store, "single_agent", name, seed=result.seed, parent=stage, **about
            ) as run:
                run.log_curve(_tabulate_curve(result))
                run.log_evaluation("validation", worth, step=result.curve[-1].step)
        means = pd.DataFrame(judged).assign(sharpe=lambda f: np.nan_to_num(f["sharpe"])).mean()
        stage.log_evaluation("validation", means.dropna().to_dict())
        version = register_model(
            stage, algo, folder, validation_sharpe=means["sharpe"], measured_on=measured_on
        )
        stage.tag("model_version", str(version))
        for path in artefacts:
            stage.log_artefact(path)


def track_trials(
    store: Path,
    algo: str,
    trials: pd.DataFrame,
    importance: pd.DataFrame,
    *,
    params: Mapping[str, Any],
    lineage: Mapping[str, str],
) -> None:
    """Record a study in "tuning": a run a trial, with the settings it tried.

    A trial has its state as a tag, its value, if it is complete, as the metric `value`, and its
    last report, at the step of that, as `last_value`. The study has the best value, and each
    parameter's importance and interval as `importance/<name>`, `importance_low/<name>` and
    `importance_high/<name>`.

    Parameters
    ----------
    store : folder
        `paths.tracking`.
    algo : str
        That is tuned.
    trials : frame
        As `tuning.tune` gives it.
    importance : frame
        As `trials.rank_parameters` gives it; its parameters are the columns that were tried.
    params, lineage : mappings
        As `tracking.track_run` takes them; `params` are those of the whole study.
    """
    about: dict[str, Any] = {"algo": algo, "lineage": lineage}
    with track_run(store, "tuning", f"study of {algo}", params, **about) as study:
        run: Run = study
        for row in trials.to_dict("records"):
            if not run.is_recording:
                return
            tried = {name: row[name] for name in importance["parameter"]}
            name = f"trial {row['slot']}"
            with track_run(store, "tuning", name, tried, parent=study, **about) as run:
                run.tag("state", row["state"])
                if not pd.isna(row["last_step"]):
                    run.log(row["last_step"], {"last_value": row["last_value"]})
                if row["state"] == "complete":
                    run.log(0, {"value": row["value"]})
        shares = importance.set_index("parameter").rename(
            columns={"low": "importance_low", "high": "importance_high"}
        )
        study.log(0, {f"{kind}/{name}": share for (name, kind), share in shares.stack().items()})
        study.log(0, {"value": trials["value"].max()})


def _tabulate_curve(result: Training) -> pd.DataFrame:
    """Measures in columns, the steps as the index; nan where not measured."""
    points = [
        (point.step, f"{point.split}/{name}", getattr(point, name))
        for point in result.curve
        for name in ("sharpe", "log_growth", "turnover")
    ]
    points += [
        (update.step, f"train/{NAMES.get(update.measure, update.measure)}", update.value)
        for update in result.updates
    ]
    frame = pd.DataFrame(points, columns=["step", "measure", "value"])
    return frame.pivot(index="step", columns="measure", values="value")
