"""The file of an Optuna study that several processes work on.

SQLite, and beside it a lock that whoever touches the study holds for that
moment. A worker holds a lock on a file of its own for as long as it lives;
the system drops it at the worker's death, however it died. So a trial that
no one works on any more is known at once, without heartbeats or a clock.

The folder must be on a file system with working locks: any local one, not
every network share.
"""

import fcntl
import logging
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

Direction = Literal["maximize", "minimize"]
DESCRIPTION = "description"  # user attribute of a study: what its trials depend on
WORKER = "worker"  # user attribute of a trial: the file that its worker has locked
_FAULTS = (OSError, sqlite3.Error, SQLAlchemyError, optuna.exceptions.StorageInternalError)


class StudyError(Exception):
    """A study that cannot be used; the message names the file and the remedy."""


@contextmanager
def hold_study(file: Path, timeout_s: float) -> Iterator[None]:
    """Be the only one to touch the study; faults of its storage come out as `StudyError`.

    Raises
    ------
    StudyError
        If another process holds it for longer than `timeout_s`, or the file cannot be read or
        written.
    """
    lock = file.with_name(f"{file.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as handle:
            _wait_for(handle, file, timeout_s)
            yield
    except _FAULTS as error:
        raise StudyError(_explain(file, error, timeout_s)) from error


@contextmanager
def connect_study(file: Path, timeout_s: float) -> Iterator[optuna.storages.RDBStorage]:
    """The storage of a file, created if there is none; closed at the end of the block.

    Raises
    ------
    StudyError
        As `hold_study`, and if another version of Optuna made the file.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(file, timeout=timeout_s, check_same_thread=False)
        # a commit need not wait for the disk; a killed process still loses nothing
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    logging.getLogger("optuna").setLevel(logging.WARNING)
    with hold_study(file, timeout_s):
        try:
            storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})
        except RuntimeError as error:  # its check of the tables
            raise StudyError(f"{file}: {error}; delete it to begin anew") from error
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def open_study(
    storage: optuna.storages.RDBStorage,
    file: Path,
    direction: Direction,
    description: Mapping[str, str],
) -> optuna.Study:
    """The one study of a file, created if there is none; within `hold_study`.

    Parameters
    ----------
    description : mapping of name to text
        All that the trials depend on. A study goes on only under its own.

    Raises
    ------
    StudyError
        If the file holds a study of another description; names the first entry that differs.
    """
    names = optuna.get_all_study_names(storage)
    if names:
        study = optuna.load_study(study_name=names[0], storage=storage)
    else:
        study = optuna.create_study(storage=storage, study_name=file.stem, direction=direction)
    kept = study.user_attrs.get(DESCRIPTION)
    if kept is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(DESCRIPTION, dict(description))
    else:
        _check_same(file, kept, description)
    return study


@contextmanager
def register_worker(file: Path) -> Iterator[str]:
    """A name under which this worker's trials are known to be alive until the block ends."""
    token = uuid.uuid4().hex
    mark = _mark(file, token)
    with mark.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield token
        finally:
            mark.unlink(missing_ok=True)


def fail_abandoned(study: optuna.Study, file: Path) -> list[FrozenTrial]:
    """Mark the running trials whose worker is dead as failed, and return them; in `hold_study`."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    abandoned = [t for t in running if not _is_alive(file, t.user_attrs.get(WORKER))]
    for trial in abandoned:
        study.tell(trial.number, state=TrialState.FAIL)
    return abandoned


def _is_alive(file: Path, token: str | None) -> bool:
    if token is None:  # it died before it could sign
        return False
    mark = _mark(file, token)
    try:
        with mark.open("r+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mark.unlink()
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _mark(file: Path, token: str) -> Path:
    return file.with_name(f"{file.name}.worker-{token}")


def _wait_for(handle: IO[str], file: Path, timeout_s: float) -> None:
    patience = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > patience:
                raise StudyError(_locked(file, timeout_s)) from None
            time.sleep(0.01)


def _locked(file: Path, timeout_s: float) -> str:
    return (
        f"{file} has been locked by another process for {timeout_s:g} s; close what has it open "
        f"(`fuser {file}` names it), or use another file"
    )


def _explain(file: Path, error: Exception, timeout_s: float) -> str:
    cause = error.__cause__ if error.__cause__ is not None else error
    text = str(getattr(cause, "orig", cause))
    if "locked" in text:
        return _locked(file, timeout_s)
    if "not a database" in text:
        return f"{file} is no SQLite database; choose another file"
    return f"{file} cannot be used ({text}); make its folder writable, or choose another"


def _check_same(file: Path, kept: Mapping[str, str] | None, now: Mapping[str, str]) -> None:
    if kept is None:
        raise StudyError(f"{file} holds a study of another program; choose another file")
    for name in {**kept, **now}:
        has, wants = kept.get(name, "absent"), now.get(name, "absent")
        if has != wants:
            raise StudyError(
                f"{file} holds a study with {name} = {has}, not {wants}; set it back, or choose "
                "another file"
            )
