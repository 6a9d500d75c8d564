"""Trained models by version in an MLflow store; `best` is the one of the best validation.

A version holds a copy of the model's folder and the MD5 of it, so that what is
loaded is what was judged. Sharpe ratios are compared only where they were
measured on the same thing: new data or other costs begin a new contest, and
going back to the old ones takes up theirs. Like all of the store it is a
record: the pipeline takes its models from DVC.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from hftlib.lineage import hash_path
from hftlib.tracking import Run, TrackingError, hold_store, open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

Model = TypeVar("Model")

BEST = "best"


class Version(NamedTuple):
    """One version of a registered model.

    folder : the copy of the model's folder
    validation_sharpe : annual, after costs; nan if it has none
    measured_on : what that was measured on
    """

    number: int
    folder: Path
    md5: str
    validation_sharpe: float
    measured_on: str
    run_id: str


def register_model(
    run: Run, model: str, folder: Path, *, validation_sharpe: float, measured_on: str
) -> int | None:
    """Make a folder the newest version of a model, and find the best of its validation anew.

    The best is the one of the highest Sharpe ratio among all versions measured on the same as this
    one, the earliest of equal ones. Where none of them has a ratio it stays what it was.

    Parameters
    ----------
    run : Run
        That trained it.
    model : str
        Such as "ppo".
    validation_sharpe : float
        Never of the test span, which a choice would spoil. nan never wins.
    measured_on : str
        Says which validation it is, such as a hash of data and costs.

    Returns
    -------
    int or None
        The version's number; that of the earlier one if the same bytes, judged alike, are
        registered already. None if the run is not tracked.

    Raises
    ------
    TrackingError
        If the folder does not exist or is empty.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        raise TrackingError(f"{folder}: no such folder, or an empty one; save the model first")
    md5 = hash_path(folder)
    tags = {
        "md5": md5,
        "validation_sharpe": repr(float(validation_sharpe)),
        "measured_on": measured_on,
    }

    def register(client: "MlflowClient", run_id: str) -> int:
        with hold_store(run.store):
            if not client.search_registered_models(f"name = '{model}'"):
                client.create_registered_model(model)
            known = client.search_model_versions(f"name = '{model}'")
            version = next((v for v in known if tags.items() <= v.tags.items()), None)
            if version is None:
                version = _add_version(client, run_id, run.store, model, folder, tags)
                known = [*known, version]
            best = _choose_best([_describe(run.store, v) for v in known], measured_on)
            if best is not None:
                client.set_registered_model_alias(model, BEST, str(best.number))
        return int(version.version)

    return run.attempt(register)


def find_best(store: Path, model: str) -> Version:
    """The version that has the alias `best`.

    Raises
    ------
    TrackingError
        If the store or the model is unknown, or no version has a Sharpe ratio.
    """
    best = _current_best(open_store(store), store, model)
    if best is None:
        raise TrackingError(
            f"{store} has no best version of {model!r}; register one whose validation Sharpe ratio "
            "is a number"
        )
    return best


def load_best(store: Path, model: str, read: Callable[[Path], Model]) -> Model:
    """What `read` makes of the folder of the best version, after a check of its bytes.

    Raises
    ------
    TrackingError
        If there is none, or its folder is no longer what was registered.
    """
    best = find_best(store, model)
    now = hash_path(best.folder)
    if now != best.md5:
        raise TrackingError(
            f"{best.folder} is no longer version {best.number} of {model!r} (MD5 {now}, not "
            f"{best.md5}); register the model again"
        )
    return read(best.folder)


def _add_version(
    client: "MlflowClient",
    run_id: str,
    store: Path,
    model: str,
    folder: Path,
    tags: Mapping[str, str],
) -> "ModelVersion":
    """Copy the folder into the run and make a version of the copy."""
    place = f"models/{model}"
    client.log_artifacts(run_id, str(folder), place)
    copy = _to_path(client.get_run(run_id).info.artifact_uri) / place
    where = copy.relative_to(store.resolve()).as_posix()
    return client.create_model_version(model, copy.as_uri(), run_id, tags={**tags, "folder": where})


def _current_best(client: "MlflowClient", store: Path, model: str) -> Version | None:
    from mlflow.exceptions import MlflowException

    try:
        return _describe(store, client.get_model_version_by_alias(model, BEST))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _describe(store: Path, version: "ModelVersion") -> Version:
    tags: dict[str, Any] = version.tags
    return Version(
        number=int(version.version),
        folder=store.resolve() / tags["folder"],
        md5=tags["md5"],
        validation_sharpe=float(tags["validation_sharpe"]),
        measured_on=tags["measured_on"],
        run_id=str(version.run_id),
    )


def _to_path(url: str) -> Path:
    """The path of a file URL."""
    return Path(unquote(urlsplit(url).path))


def _choose_best(versions: Sequence[Version], measured_on: str) -> Version | None:
    """The earliest of the highest Sharpe ratio on `measured_on`; None if none has a ratio."""
    rivals = [v for v in versions if v.measured_on == measured_on]
    rivals = [v for v in rivals if not math.isnan(v.validation_sharpe)]
    return max(rivals, key=lambda v: (v.validation_sharpe, -v.number), default=None)
