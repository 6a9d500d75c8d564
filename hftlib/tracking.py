"""Runs and models in MLflow: a record to look back at, on SQLite, without a server.

A store is a folder with `mlflow.db` and `artefacts`; `make mlflow` shows it. It
is a record only: what the reports say comes from DVC's files, and nothing reads
a number from here to decide another, but for the count of trials that were made
(`evaluation.trial_store`), which is about the record itself. So a store that
fails, because it is locked or the disk is full, costs a warning and the rest of
the record, never the training. Several processes may write to one store at once; a process that
was forked from one which had it open must not.

Metrics go by `split/measure` (validation/sharpe) and, through training, by
train/reward, train/policy_loss, train/value_loss, train/entropy, train/kl,
train/episode_log_growth and train/episode_bars, as far as an algorithm has them;
the last two are means of the episodes that ended since the value before. MLflow
takes seconds to import: done when first used.
"""

import fcntl
import logging
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MLflowRun

Result = TypeVar("Result")

DATABASE = "mlflow.db"
ARTEFACTS = "artefacts"
BUFFER_SIZE = 500  # values kept before they are written
BUFFER_S = 5.0
LOCK_S = 20.0  # how long one process waits for another
PAUSES_S = (0.1, 1.0, 5.0)  # before each further attempt on a store that is busy


class TrackingError(Exception):
    """A store, run or model that cannot be used; the message names it and the remedy."""


def open_store(store: Path, *, create: bool = False) -> "MlflowClient":
    """MLflow's client of a store, telemetry off and its chatter silenced.

    Raises
    ------
    TrackingError
        If there is none and `create` is not set, or it cannot be opened.
    """
    file = store.resolve() / DATABASE
    if not create and not file.is_file():
        raise TrackingError(f"{file}: no such store; track a run first")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with warnings.catch_warnings():  # in a notebook it asks for widgets
        warnings.filterwarnings("ignore", "IProgress not found")
        import mlflow

    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    url = f"sqlite:///{file}"
    try:
        store.mkdir(parents=True, exist_ok=True)
        with hold_store(store):  # two that make the tables at once fail each other
            connection = sqlite3.connect(file, timeout=LOCK_S)
            connection.execute("PRAGMA journal_mode = WAL")  # readers then do not stop writers
            connection.close()
            client = mlflow.MlflowClient(tracking_uri=url, registry_uri=url)
            client.search_experiments(max_results=1)
    except _faults() as error:
        raise TrackingError(
            f"{file} cannot be opened ({error}); make the folder writable, or move it away to "
            "begin a new store"
        ) from error
    return client


@contextmanager
def hold_store(store: Path) -> Iterator[None]:
    """One process at a time, for what MLflow does in several steps.

    Raises
    ------
    TrackingError
        If another one holds it for `LOCK_S`.
    """
    file = store / ".lock"
    patience = time.monotonic() + LOCK_S
    with file.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > patience:
                    raise TrackingError(
                        f"{file} has been held by another process for {LOCK_S:g} s; end it "
                        f"(`fuser {file}` names it)"
                    ) from None
                time.sleep(0.01)
        yield


class Run:
    """One run in a store, or, where the store has failed, one that records nothing."""

    def __init__(self, store: Path, client: "MlflowClient | None", run_id: str | None) -> None:
        self.store, self.run_id = store, run_id
        self._client = client
        self._buffer: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()

    @property
    def is_recording(self) -> bool:
        """False once the store has failed."""
        return self._client is not None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics at one step of the training, such as an update.

        Kept for a moment and written together. nan stays nan.
        """
        now = int(time.time() * 1000)
        self._buffer += [(name, float(value), now, int(step)) for name, value in values.items()]
        late = time.monotonic() - self._flushed > BUFFER_S
        if late or len(self._buffer) >= BUFFER_SIZE:
            self.flush()

    def log_curve(self, curve: pd.DataFrame) -> None:
        """A learning curve: metrics in columns, steps as the index; nan is not measured."""
        for name, column in curve.items():
            for step, value in column.dropna().items():
                self._buffer.append((str(name), float(value), int(time.time() * 1000), int(step)))
        self.flush()

    def log_evaluation(self, split: str, measures: Mapping[str, float], *, step: int = 0) -> None:
        """Measures of the finished policy on one split, such as `measures.evaluate_returns`.

        Where a learning curve has the same measures, `step` is its last: a run shows what was
        logged last at the highest step.
        """
        self.log(step, {f"{split}/{name}": value for name, value in measures.items()})
        self.flush()

    def tag(self, key: str, value: str) -> None:
        """A word on the run as it turned out, such as the state of a trial."""
        self.attempt(lambda client, run_id: client.set_tag(run_id, key, value))

    def log_artefact(self, path: Path) -> None:
        """Copy a file, or a folder under its name, into the run."""
        if not path.exists():
            raise TrackingError(f"{path}: no such artefact; write it before it is tracked")

        def copy(client: "MlflowClient", run_id: str) -> None:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), path.name)
            else:
                client.log_artifact(run_id, str(path))

        self.attempt(copy)

    def flush(self) -> None:
        """Write what is kept."""
        kept, self._buffer = self._buffer, []
        self._flushed = time.monotonic()

        def write(client: "MlflowClient", run_id: str) -> None:
            from mlflow.entities import Metric

            metrics = [Metric(*entry) for entry in kept]
            for k in range(0, len(metrics), 1000):  # MLflow's limit
                client.log_batch(run_id, metrics=metrics[k : k + 1000])

        self.attempt(write)

    def attempt(self, action: "Callable[[MlflowClient, str], Result]") -> Result | None:
        """The result of `action(client, run_id)`, tried again while the store is busy.

        None where it fails; from then on the run records nothing.
        """
        if self._client is None or self.run_id is None:
            return None
        from mlflow.exceptions import MlflowException

        try:
            for pause_s in PAUSES_S:
                try:
                    return action(self._client, self.run_id)
                except MlflowException as error:
                    if error.error_code != "TEMPORARILY_UNAVAILABLE":
                        raise
                    time.sleep(pause_s)
            return action(self._client, self.run_id)
        except _faults() as error:
            self._client = None
            _warn(self.store, error)
            return None


@contextmanager
def track_run(
    store: Path,
    experiment: str,
    name: str,
    params: Any,
    *,
    algo: str,
    seed: int | None = None,
    lineage: Mapping[str, str] | None = None,
    parent: Run | None = None,
) -> Iterator[Run]:
    """Record what happens in the block; it ends as FINISHED, FAILED or, interrupted, KILLED.

    Parameters
    ----------
    store : folder
        `paths.tracking`; created if absent.
    experiment, name : str
        The stage, and the run within it.
    params : mapping or dataclass
        Nested ones under dotted names.
    algo, seed, lineage
        Tags; `lineage.describe_lineage` gives the last: revision and hashes.
    parent : Run, optional
        Of which this is a part, as a seed is of a stage. Only its identity is used.

    Yields
    ------
    Run
        If the store cannot be used, a `RuntimeWarning` says why, and the run records nothing.
    """
    tags = {"algo": algo, **({} if lineage is None else lineage)}
    if seed is not None:
        tags["seed"] = str(seed)
    if parent is not None and parent.run_id is not None:
        tags["mlflow.parentRunId"] = parent.run_id
    run = _begin(store, experiment, name, flatten(params), tags)
    status = "FINISHED"
    try:
        yield run
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        run.tag("error", f"{type(error).__name__}: {error}"[:500])
        raise
    finally:
        run.flush()
        run.attempt(lambda client, run_id: client.set_terminated(run_id, status))


def compare_runs(store: Path, experiment: str, *, differing: bool = True) -> pd.DataFrame:
    """Runs of an experiment, the oldest first.

    Parameters
    ----------
    differing : bool
        Leave out params and tags that are the same in all runs.

    Returns
    -------
    frame
        run_id, name, status, then `params.*` and `tags.*` as text and `metrics.*` as the last
        value logged; missing where a run has none.

    Raises
    ------
    TrackingError
        If there is no such store or experiment.
    """
    client = open_store(store)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        names = ", ".join(sorted(e.name for e in client.search_experiments()))
        raise TrackingError(f"{store} has no experiment {experiment!r}; it has {names}")
    rows: list[dict[str, Any]] = []
    token: str | None = None
    while token != "":
        page = client.search_runs(
            [found.experiment_id], order_by=["attributes.start_time"], page_token=token
        )
        rows += [_tabulate(run) for run in page]
        token = page.token if page.token is not None else ""
    frame = pd.DataFrame(rows, columns=None if rows else ["run_id", "name", "status"])
    same = [
        column
        for column in frame
        if column.startswith(("params.", "tags.")) and frame[column].nunique(dropna=False) == 1
    ]
    frame = frame.drop(columns=same) if differing and len(frame) > 1 else frame
    order = {"params": 1, "tags": 2, "metrics": 3}
    return frame[sorted(frame, key=lambda column: order.get(column.partition(".")[0], 0))]


def _tabulate(run: "MLflowRun") -> dict[str, Any]:
    """One row of `compare_runs`."""
    row: dict[str, Any] = {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
    }
    row |= {f"params.{key}": value for key, value in run.data.params.items()}
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    row |= {f"tags.{key}": value for key, value in tags.items()}
    return row | {f"metrics.{key}": value for key, value in run.data.metrics.items()}


def flatten(params: Any, prefix: str = "") -> dict[str, str]:
    """Leaves of nested mappings and dataclasses as text, under dotted names."""
    if is_dataclass(params) and not isinstance(params, type):
        params = asdict(params)
    if not isinstance(params, Mapping):
        return {prefix: str(params)}
    parts = (flatten(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in params.items())
    return {key: value for part in parts for key, value in part.items()}


def _begin(
    store: Path, experiment: str, name: str, params: Mapping[str, str], tags: Mapping[str, str]
) -> Run:
    try:
        client = open_store(store, create=True)  # the first import of MLflow, telemetry off
        identity = _find_experiment(client, store, experiment)
        run_id = client.create_run(identity, tags=dict(tags), run_name=name).info.run_id
    except _faults() as error:
        _warn(store, error)
        return Run(store, None, None)
    from mlflow.entities import Param

    run = Run(store, client, run_id)
    entries = [Param(key, value) for key, value in params.items()]

    def write(client: "MlflowClient", run_id: str) -> None:
        for k in range(0, len(entries), 100):  # MLflow's limit
            client.log_batch(run_id, params=entries[k : k + 100])

    run.attempt(write)
    return run


def _find_experiment(client: "MlflowClient", store: Path, name: str) -> str:
    """Identity of an experiment, created if there is none."""
    place = (store.resolve() / ARTEFACTS / name).as_uri()
    with hold_store(store):
        found = client.get_experiment_by_name(name)
        if found is None:
            return client.create_experiment(name, artifact_location=place)
    if found.artifact_location != place:
        raise TrackingError(
            f"{store} was made in another place and would write artefacts to "
            f"{found.artifact_location}; move it back, or away to begin a new store"
        )
    return str(found.experiment_id)


def _faults() -> tuple[type[Exception], ...]:
    """All that a store may raise."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, sqlite3.Error, OSError, TrackingError


def _warn(store: Path, error: Exception) -> None:
    warnings.warn(
        f"{store}: this run is no longer tracked ({error}); its results are not affected",
        RuntimeWarning,
        stacklevel=3,
    )
