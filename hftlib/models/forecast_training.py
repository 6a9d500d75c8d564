"""Train one member of the forecaster on one fold: a pure function of its arguments.

Early stopping looks at the validation windows, gradients are clipped, and a
checkpoint after every epoch holds weights, optimiser and generator, so that a
call that was stopped goes on to the same weights, bit for bit. Scaling and the
skip's first coefficients are fitted on training rows only.
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hftlib.compute import derive_seed, hash_sources
from hftlib.data.folds import Fold
from hftlib.features.scaling import RobustScaler
from hftlib.models.examples import Examples, IntArray
from hftlib.models.forecaster import (
    Ensemble,
    Forecaster,
    Outputs,
    Weights,
    find_loss,
    make_forecaster,
    start_from_data,
)
from hftlib.paths import replace_file

logger = logging.getLogger(__name__)
BLOCK = 1_024  # windows of a forward pass without gradients


@dataclass(frozen=True)
class ForecasterSettings:
    """Hyper-parameters; meanings and units in `forecast_sections.Forecaster`."""

    filters: tuple[int, ...] = (64, 128, 256)
    n_hidden: int = 128
    dropout: float = 0.5
    return_weight: float = 0.1
    learning_rate: float = 5e-4
    weight_decay: float = 0.1
    batch_size: int = 128
    max_epochs: int = 6
    patience: int = 2
    max_gradient: float = 1.0


class CurvePoint(NamedTuple):
    """The network after an epoch: `loss` is `find_loss`, `mse` that of the log variance.

    On training windows taken evenly, about as many as of validation: all would cost a quarter of
    the time.
    """

    epoch: int
    split: str
    loss: float
    mse: float


class Member(NamedTuple):
    """Weights of the epoch with the smallest validation loss; epoch 0 is the linear skip alone."""

    seed: int
    weights: Weights
    curve: list[CurvePoint]
    best_epoch: int


def train_member(
    examples: Examples,
    fold: Fold,
    settings: ForecasterSettings,
    seed: int,
    *,
    scratch: Path | None = None,
) -> Member:
    """Train one network on the fold's training span.

    Parameters
    ----------
    examples : Examples
        Only rows before the end of the fold's validation span are read.
    seed : int
        Fixes initial weights, the order of the windows and dropout.
    scratch : folder, optional
        Holds a checkpoint; a later call with the same arguments and the same code goes on there.

    Raises
    ------
    ValueError
        If the fold has no training or no validation window.
    FloatingPointError
        If a loss or a gradient is not finite; names the step and the last good checkpoint, if any.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train = examples.between(fold.train, is_known=True)
    validation = examples.between(fold.validation, is_known=True)
    for name, rows in (("training", train), ("validation", validation)):
        if not len(rows):
            raise ValueError(
                f"fold {fold.number} has no {name} window; start the tests later, or shorten window"
            )
    path = None
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
        path = scratch / f"{_fingerprint(examples, fold, settings, seed)}.pt"
    run = _Run(examples, train, validation, fold, settings, seed, path)
    if path is not None and path.exists():
        run.load(path)
    while run.epoch < settings.max_epochs and run.epoch - run.best_epoch < settings.patience:
        run.train_epoch()
        run.judge()
        if path is not None:
            run.save(path)
    return Member(seed, run.best, run.curve, run.best_epoch)


class _Run:
    """All that changes during a training."""

    def __init__(
        self,
        examples: Examples,
        train: IntArray,
        validation: IntArray,
        fold: Fold,
        settings: ForecasterSettings,
        seed: int,
        path: Path | None,
    ) -> None:
        self.examples, self.train, self.validation = examples, train, validation
        self.settings, self.path = settings, path
        self.generator = torch.Generator().manual_seed(derive_seed(seed, "forecaster"))
        self.network = make_forecaster(
            len(examples.channels), settings.filters, settings.n_hidden, self.generator
        )
        rows = examples.rows_until(fold.train[1])
        scaler = RobustScaler.fit(examples.values[rows], examples.channels, allow_ties=True)
        known = examples.terms[train], examples.outcomes[train]
        start_from_data(self.network, scaler.median, scaler.iqr, *known)
        # Decay pulls to 0: right for the network, wrong for the skip's coefficients and for biases.
        named = list(self.network.named_parameters())
        spared = [v for name, v in named if name.startswith("skip") or v.ndim == 1]
        decayed = [v for name, v in named if not (name.startswith("skip") or v.ndim == 1)]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": spared, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        self.epoch, self.best_epoch, self.curve = 0, 0, list[CurvePoint]()
        self.best, self.best_loss = Weights(), np.inf
        self.judge()

    def train_epoch(self) -> None:
        """One pass over the training windows in a new order."""
        settings, self.epoch = self.settings, self.epoch + 1
        order = torch.randperm(len(self.train), generator=self.generator).numpy()
        n_batches = -(-len(order) // settings.batch_size)
        for number, part in enumerate(np.array_split(order, n_batches)):
            windows, terms, outcomes = map(
                torch.from_numpy, self.examples.batch(self.train[np.sort(part)])
            )
            outputs = self.network(windows, terms, settings.dropout, self.generator)
            loss = find_loss(outputs, outcomes, settings.return_weight)
            self.optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.max_gradient)
            self.check(loss.item(), norm.item(), (self.epoch - 1) * n_batches + number)
            self.optimizer.step()

    def judge(self) -> None:
        """A point of the curve for both spans; keep the weights if validation improved."""
        every = -(-len(self.train) // len(self.validation))  # as many as of validation
        for split, rows in (("train", self.train[::every]), ("validation", self.validation)):
            outputs = forecast_windows(self.network, self.examples, rows)
            outcomes = torch.from_numpy(self.examples.outcomes[rows].astype(np.float32))
            loss = find_loss(outputs, outcomes, self.settings.return_weight).item()
            mse = (outputs.variance_mean - outcomes[:, 0]).square().mean().item()
            self.check(loss, 0.0, self.epoch * -(-len(self.train) // self.settings.batch_size))
            self.curve.append(CurvePoint(self.epoch, split, loss, mse))
        if self.curve[-1].loss < self.best_loss:
            self.best_loss, self.best_epoch = self.curve[-1].loss, self.epoch
            self.best = self.network.export_weights()

    def check(self, loss: float, gradient: float, step: int) -> None:
        """Stop a training that has diverged."""
        if not np.isfinite([loss, gradient]).all():
            is_saved = self.path is not None and self.path.exists()
            raise FloatingPointError(
                f"training diverged: loss {loss}, gradient {gradient} at step {step} "
                f"(epoch {self.epoch}); lower learning_rate. "
                f"Last good checkpoint: {self.path if is_saved else 'none yet'}"
            )

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": (self.epoch, self.best_epoch, self.best_loss),
            "best": {name: torch.from_numpy(values) for name, values in self.best.items()},
            "curve": [tuple(point) for point in self.curve],
        }
        with replace_file(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on from the checkpoint."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.epoch, self.best_epoch, self.best_loss = state["epoch"]
        self.best = {name: values.numpy() for name, values in state["best"].items()}
        self.curve = [CurvePoint(*point) for point in state["curve"]]
        logger.info("resumed after epoch %d", self.epoch)


def forecast_windows(network: Forecaster | Ensemble, examples: Examples, ends: IntArray) -> Outputs:
    """Forecasts of the windows that end at these rows, without gradients."""
    parts = []
    with torch.no_grad():
        for first in range(0, len(ends), BLOCK):
            windows, terms, _ = examples.batch(ends[first : first + BLOCK])
            parts.append(network(torch.from_numpy(windows), torch.from_numpy(terms)))
    return Outputs(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _fingerprint(examples: Examples, fold: Fold, settings: ForecasterSettings, seed: int) -> str:
    """A name for one training: its data, fold, settings and the code that runs it."""
    digest = hashlib.sha256()
    for array in (examples.values, examples.terms, examples.outcomes, examples.ends, examples.time):
        digest.update(np.ascontiguousarray(array).tobytes())
    text = json.dumps([examples.window, fold, asdict(settings), seed, torch.__version__])
    digest.update(text.encode() + hash_sources(Path(__file__).parents[1]).encode())
    return digest.hexdigest()[:16]
