"""Where every file of the project lives, and how files are written whole.

Notebooks name files through `Paths` only, so that one test can compare what a
notebook reads and writes with the stage that declares it. Writers put the
bytes under a temporary name and rename: a reader sees the old file or the new
one, never half of either.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def project_root(start: Path | None = None) -> Path:
    """The nearest folder, from `start` (default: the working directory) upwards, with `dvc.yaml`.

    Raises
    ------
    FileNotFoundError
        If there is none: the caller stands outside the project.
    """
    here = (start if start is not None else Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"no dvc.yaml in {here} or above it; change into the project's folder first"
    )


@dataclass(frozen=True)
class Paths:
    """Files and folders of the pipeline; every attribute is absolute."""

    root: Path

    @property
    def raw_bars(self) -> Path:
        """The user's own CSV and Parquet bars."""
        return self.root / "data/raw/bars"

    @property
    def raw_lobster(self) -> Path:
        """The user's own LOBSTER days."""
        return self.root / "data/raw/lobster"

    @property
    def raw_depth(self) -> Path:
        """The user's own captures of an exchange's depth feed."""
        return self.root / "data/raw/depth"

    @property
    def raw_sentiment(self) -> Path:
        """The user's own sentiment scores."""
        return self.root / "data/raw/sentiment"

    @property
    def raw_sessions(self) -> Path:
        """The user's own captures of the crash game."""
        return self.root / "data/raw/sessions"

    @property
    def simulated(self) -> Path:
        """Folder: snapshots and messages of the simulated sessions."""
        return self.root / "data/market/simulated"

    @property
    def book(self) -> Path:
        """Folder: clean snapshots and messages of every source, one file a session."""
        return self.root / "data/market/book"

    @property
    def bars(self) -> Path:
        """Clean bars of every source."""
        return self.root / "data/market/bars.parquet"

    @property
    def quarantine(self) -> Path:
        """Rows that validation refused, with file, line and reason."""
        return self.root / "data/market/quarantine.parquet"

    @property
    def session_events(self) -> Path:
        """Folder: the event store of recorded sessions."""
        return self.root / "data/sessions/recorded"

    @property
    def session_captures(self) -> Path:
        """Folder: the event store of the user's own captures."""
        return self.root / "data/sessions/captured"

    @property
    def session_transitions(self) -> Path:
        """Folder: transitions of the recorded sessions, and their games."""
        return self.root / "data/sessions/transitions"

    @property
    def session_players(self) -> Path:
        """Whose game each recorded session is."""
        return self.root / "data/sessions/players.parquet"

    @property
    def bar_features(self) -> Path:
        """Causal indicators, one row a bar."""
        return self.root / "data/features/bars.parquet"

    @property
    def regime_models(self) -> Path:
        """A hidden Markov model for each symbol, fitted on training rows."""
        return self.root / "data/features/regimes.json"

    @property
    def selected_features(self) -> Path:
        """Names of the features that training rows chose, and how."""
        return self.root / "data/features/selected.json"

    @property
    def bar_datasets(self) -> Path:
        """Folder: train, validation and test panels, and the scaler."""
        return self.root / "data/datasets/bars"

    @property
    def book_datasets(self) -> Path:
        """Folder: train, dev, val and test tensors of the book, and the scaler."""
        return self.root / "data/datasets/book"

    def model(self, algo: str) -> Path:
        """Folder: weights of each seed and the manifest."""
        return self.root / f"data/models/{algo}"

    @property
    def exported(self) -> Path:
        """Folder: this run's policies as artefacts that can be served."""
        return self.root / "data/models/exported"

    @property
    def served(self) -> Path:
        """Folder: every registered model, and which one is the champion. No stage writes it."""
        return self.root / "data/served"

    @property
    def forecasts(self) -> Path:
        """Forecasts of every bar, out of fold."""
        return self.root / "data/results/forecasts.parquet"

    @property
    def weights(self) -> Path:
        """Target weights of every allocation, at the bar of the decision."""
        return self.root / "data/results/weights.parquet"

    @property
    def risk(self) -> Path:
        """Returns and the tails that were forecast for them, one row a model and level."""
        return self.root / "data/results/risk.parquet"

    @property
    def rollouts(self) -> Path:
        """Every bar of every strategy on the test span."""
        return self.root / "data/results/rollouts.parquet"

    @property
    def equity(self) -> Path:
        """Equity curves of the strategies, summed over symbols."""
        return self.root / "data/results/equity.parquet"

    @property
    def trades(self) -> Path:
        """Round trips of every strategy on bars."""
        return self.root / "data/results/trades.parquet"

    @property
    def fills(self) -> Path:
        """Every fill of every strategy on bars."""
        return self.root / "data/results/fills.parquet"

    @property
    def orders(self) -> Path:
        """What limits made of every order of the portfolios."""
        return self.root / "data/results/orders.parquet"

    @property
    def walk_forward(self) -> Path:
        """Equity of the strategies that were trained or chosen anew in every fold."""
        return self.root / "data/results/walk_forward.parquet"

    @property
    def paper(self) -> Path:
        """Decisions of the served model in every replay."""
        return self.root / "data/results/paper.parquet"

    def metrics(self, name: str) -> Path:
        """Machine-readable results of one stage."""
        return self.root / f"reports/metrics/{name}.json"

    def curves(self, name: str) -> Path:
        """Points for `dvc plots`."""
        return self.root / f"reports/metrics/{name}.csv"

    @property
    def figures(self) -> Path:
        """Folder: the thesis figures."""
        return self.root / "reports/figures"

    @property
    def tables(self) -> Path:
        """Folder: the thesis tables."""
        return self.root / "reports/tables"

    @property
    def index(self) -> Path:
        """The supervisor's door."""
        return self.root / "reports/index.html"

    @property
    def trials(self) -> Path:
        """One row a trial of the search for hyper-parameters."""
        return self.root / "data/results/trials.parquet"

    @property
    def tracking(self) -> Path:
        """Folder: MLflow's runs and models. A record only: no stage reads it."""
        return self.root / "mlruns"

    @property
    def scratch(self) -> Path:
        """Checkpoints and other files that may vanish at any time."""
        return self.root / ".cache"


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it becomes `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; on success it takes the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            path.rename(old / path.name)
            temporary.rename(path)
            shutil.rmtree(old)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` with sorted keys; nan and inf are refused, since JSON has neither."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    with replace_file(path) as temporary:
        temporary.write_text(text + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote."""
    return json.loads(path.read_text())
