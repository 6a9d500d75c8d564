"""What the service needs of a model, of the place where models lie, and of paper trading.

The service is written against these alone: any predictor that has these few
names can be served, and a fake of thirty lines tests every route.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

NAME = r"^[a-z0-9][a-z0-9_.-]{0,63}$"  # of a model; no path and no option of a command
FloatArray = npt.NDArray[np.floating[Any]]


class ModelError(ValueError):
    """A model that cannot be served, or rows it cannot take: what, where, and a remedy."""


class Bar(NamedTuple):
    """One bar of a symbol, as `schema.BARS` without its text columns."""

    ts_ns: int  # start of the bar, UTC
    open: float
    high: float
    low: float
    close: float
    volume: float  # nan where the source has none


@dataclass(frozen=True)
class ModelCard:
    """What a model says of itself.

    Attributes
    ----------
    takes : str
        `bars`, or `book` for snapshots of the order book.
    min_rows : int
        Bars or snapshots before the first action.
    low, high : float
        Bounds of an action.
    unit : str
        Meaning of an action, as "target weight, signed share of equity".
    choices : tuple of str
        Names of the discrete actions, in the order of `probabilities`; empty for a
        policy that gives a number.
    metrics : mapping
        Measured on the validation span.
    state : tuple of str
        What a request must say of the client's own order, as `requests.StateBody`; empty for
        models of bars.
    """

    name: str
    version: str
    kind: str
    symbols: tuple[str, ...]
    features: tuple[str, ...]
    min_rows: int
    low: float
    high: float
    unit: str
    takes: Literal["bars", "book"] = "bars"
    choices: tuple[str, ...] = ()
    git_revision: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    state: tuple[str, ...] = ()


class Prediction(NamedTuple):
    """Answers of a model to n observations.

    `spread` is the standard deviation of the action over the model's seeds or members, in
    the action's unit; None for a model of one. Forecasts are of the next bar's log return.
    `limit_ticks` is the limit price of an action that is an order, less the mid; nan without one.
    """

    action: FloatArray  # (n,) or (n, 1)
    spread: FloatArray | None = None  # as action
    probabilities: FloatArray | None = None  # (n, n_choices)
    forecast_mean: FloatArray | None = None  # (n,)
    forecast_sd: FloatArray | None = None  # (n,)
    limit_ticks: FloatArray | None = None  # (n,)


class SymbolState(Protocol):
    """History of one symbol, bar by bar."""

    def push(self, bar: Bar) -> None:
        """Take in the next bar; `ModelError` if it is not sound, the state is then as before."""

    def observe(self, position: float, exposure: float) -> FloatArray | None:
        """Observation of the newest bar, shape (n_inputs,); None while bars are missing."""


class Predictor(Protocol):
    """A loaded model; `predict` and `observe` are called from one thread only."""

    @property
    def card(self) -> ModelCard:
        """What it is."""

    def open_state(self, symbol: str) -> SymbolState:
        """An empty history."""

    def observe(self, rows: pd.DataFrame, position: float, exposure: float) -> FloatArray:
        """Observation of the last of `rows` of one symbol, `schema.BARS` or book snapshots.

        Snapshots have the client's own order beside them, as `frames.book_frame` puts it there.
        Equal to the last bit to that of a state that was pushed the same rows. `ModelError`
        if the rows are too few or not sound.
        """

    def predict(self, observations: FloatArray) -> Prediction:
        """Actions for observations of shape (n, n_inputs)."""


class ModelStore(Protocol):
    """The registered models."""

    def names(self) -> Sequence[str]:
        """Names that can be loaded."""

    def load(self, name: str) -> Predictor:
        """The model, every file checked; a `ValueError` that says what is wrong otherwise."""


class PaperView(Protocol):
    """What is shown of paper trading; both are called from the event loop and must be quick."""

    def snapshot(self) -> Mapping[str, Any]:
        """Equity, positions, orders, limits, alerts, halted or not and why: values for JSON."""

    def halt(self, reason: str, flatten: bool = False) -> None:
        """The kill switch: no order opens a position until somebody resumes trading.

        `flatten` closes positions as well, as soon as they can be traded.
        """

    def resume(self, who: str) -> None:
        """Trade again after a halt; `who` decided so is written down."""
