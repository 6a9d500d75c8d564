"""What a bar feature is, and the bars of one symbol as it sees them.

The value of a feature at bar t is made of bars up to and including t. It has
no unit, so that one scaler and one policy serve symbols of any price level.
Before `warmup` it is nan; a filler would peek. From there one rule holds where
a formula divides by zero (equal prices, no trade): the value is 0, and never
infinite. Where the volume of a bar is unknown, so are the features that reach
back to that bar.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from hftlib.features.markov import RegimeModel

FloatArray = npt.NDArray[np.float64]
Shared = TypeVar("Shared")

FAMILIES = ("technical", "price_action", "temporal", "regime", "sentiment")
PRICES = ("open", "high", "low", "close")


class FeatureError(ValueError):
    """Bars that no feature can be computed of, or a feature that there is not."""


class BarSeries:
    """Bars of one symbol as arrays of shape (n_bars,), and what features share.

    Parameters
    ----------
    symbol : str
        Named in errors.
    ts : int64 array
        Nanoseconds UTC, start of each bar.
    columns : mapping of open, high, low, close and volume to float64 arrays
    regime : RegimeModel, optional
        For the features of the hidden Markov model.
    scores : frame with columns ts (nanoseconds UTC) and score, optional
        In time order; for the features of sentiment.

    Attributes
    ----------
    step : log return of a bar, close to close; nan for the first.
    table : the columns as a frame on a plain range index, on which `ta` counts right.

    Raises
    ------
    FeatureError
        If a price is missing, not positive or infinite, or if time does not
        increase; names the symbol and the bar.
    """

    def __init__(
        self,
        symbol: str,
        ts: npt.NDArray[np.int64],
        columns: Mapping[str, FloatArray],
        regime: "RegimeModel | None" = None,
        scores: pd.DataFrame | None = None,
    ):
        _check(symbol, ts, columns)
        self.ts = ts
        self.open, self.high, self.low, self.close = (columns[name] for name in PRICES)
        self.volume = columns["volume"]
        self.regime, self.scores = regime, scores
        self._shared: dict[Callable[[BarSeries], Any], Any] = {}

    @classmethod
    def from_frame(
        cls,
        bars: pd.DataFrame,
        regime: "RegimeModel | None" = None,
        scores: pd.DataFrame | None = None,
    ) -> Self:
        """From bars of one symbol as `schema.BARS`, at least one."""
        columns = {name: bars[name].to_numpy(dtype=np.float64) for name in (*PRICES, "volume")}
        ts = bars["ts"].astype("int64").to_numpy()
        return cls(str(bars["symbol"].iloc[0]), ts, columns, regime, scores)

    def __len__(self) -> int:
        return len(self.ts)

    def shared(self, make: Callable[["BarSeries"], Shared]) -> Shared:
        """`make(self)`, computed once however many features ask for it."""
        if make not in self._shared:
            self._shared[make] = make(self)
        result: Shared = self._shared[make]
        return result

    @cached_property
    def table(self) -> pd.DataFrame:
        """Prices and volume as a frame."""
        return pd.DataFrame({name: getattr(self, name) for name in (*PRICES, "volume")})

    @property
    def hlc(self) -> tuple[pd.Series, pd.Series, pd.Series]:
        """High, low and close of `table`, as `ta` takes them."""
        return self.table["high"], self.table["low"], self.table["close"]

    @cached_property
    def log_close(self) -> FloatArray:
        """Natural logarithm of the close."""
        return np.log(self.close)

    @cached_property
    def step(self) -> FloatArray:
        """Log return since the bar before."""
        return lagged_difference(self.log_close, 1)

    @cached_property
    def typical(self) -> FloatArray:
        """Mean of high, low and close."""
        return (self.high + self.low + self.close) / 3


def _check(symbol: str, ts: npt.NDArray[np.int64], columns: Mapping[str, FloatArray]) -> None:
    for name in PRICES:
        is_bad = ~(np.isfinite(columns[name]) & (columns[name] > 0))
        if is_bad.any():
            row = int(np.argmax(is_bad))
            raise FeatureError(
                f"{name} of {symbol} is {columns[name][row]} at {pd.Timestamp(ts[row], tz='UTC')}, "
                "expected a positive number; remove the bar"
            )
    stalls = np.flatnonzero(np.diff(ts) <= 0)
    if len(stalls):
        stamp = pd.Timestamp(ts[stalls[0] + 1], tz="UTC")
        raise FeatureError(
            f"ts of {symbol} does not increase at {stamp}; sort the bars and keep one a time"
        )


@dataclass(frozen=True)
class Feature:
    """One column.

    Attributes
    ----------
    window : bars that it looks back on, as text; "-" where there is no window.
    unit : of the value: all are free of the bars' own units.
    warmup : bars before the first value.
    compute : maps a series to values of shape (n_bars,), nan or infinite where
        the formula divides by zero.
    """

    name: str
    family: str
    formula: str
    window: str
    unit: str
    warmup: int
    compute: Callable[[BarSeries], FloatArray]
    uses_volume: bool = False


def lagged(x: FloatArray, n_bars: int) -> FloatArray:
    """The value `n_bars` before; nan for the first bars."""
    out = np.full(len(x), np.nan)
    out[n_bars:] = x[: max(0, len(x) - n_bars)]
    return out


def lagged_difference(x: FloatArray, n_bars: int) -> FloatArray:
    """The change over `n_bars`; nan for the first bars."""
    return x - lagged(x, n_bars)


def evaluate(series: BarSeries, features: Iterable[Feature]) -> dict[str, FloatArray]:
    """Values of each feature by the rules at the head of this module, shape (n_bars,) each.

    A series that is not longer than a feature's warm-up has none of its values.
    """
    unknown_volume = np.concatenate([[0], np.cumsum(np.isnan(series.volume))])
    columns = {}
    for feature in features:
        out = np.full(len(series), np.nan)
        start = feature.warmup
        if len(series) > start:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.asarray(feature.compute(series), dtype=np.float64)[start:]
            if feature.family == "sentiment":  # nan says that there was no score yet
                out[start:] = values
            else:
                out[start:] = np.where(np.isfinite(values), values, 0.0)
            if feature.uses_volume:
                missing = unknown_volume[start + 1 :] > unknown_volume[: -1 - start]
                out[start:][missing] = np.nan
        columns[feature.name] = out
    return columns
