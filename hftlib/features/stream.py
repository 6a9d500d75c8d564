"""Features of the newest bar as bars arrive, equal to the batch to the last bit.

The stream keeps its whole history and computes the batch on it: indicators of
`ta`, and every exponential mean, depend on all bars since the first, and a
shortcut that is right to a few digits would let training and serving differ.
The cost of a bar is that of the batch, so it grows with the history; the
benchmarks state it.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.features.feature import PRICES, BarSeries, FeatureError, FloatArray
from hftlib.features.indicators import compute_columns
from hftlib.features.markov import RegimeModel

COLUMNS = (*PRICES, "volume")


class FeatureStream:
    """One symbol.

    Parameters
    ----------
    symbol : str
    regime : RegimeModel, optional
        Adds the features of the hidden states.
    scores : frame as from `read_sentiment`, optional
        Adds those of sentiment; scores of other symbols are passed over.
    """

    def __init__(
        self,
        symbol: str,
        *,
        regime: RegimeModel | None = None,
        scores: pd.DataFrame | None = None,
    ):
        self.symbol = symbol
        self._regime = regime
        self._scores = None if scores is None else scores[scores["symbol"] == symbol]
        self._n_bars = 0
        self._ts: npt.NDArray[np.int64] = np.empty(64, dtype=np.int64)
        self._columns: dict[str, FloatArray] = {name: np.empty(64) for name in COLUMNS}

    def __len__(self) -> int:
        """Bars so far."""
        return self._n_bars

    def extend(self, bars: pd.DataFrame) -> None:
        """Take in past bars, a frame as `schema.BARS`, without computing anything.

        Raises
        ------
        FeatureError
            As `push`; the stream is then as it was.
        """
        values = {name: bars[name].to_numpy(dtype=np.float64) for name in COLUMNS}
        self._append(bars["ts"].astype("int64").to_numpy(), values)

    def push(
        self,
        ts: pd.Timestamp,
        *,
        open: float,
        high: float,
        low: float,
        close: float,
        volume: float,
    ) -> dict[str, float]:
        """Take in the next bar and return its features by name.

        Parameters
        ----------
        ts : timestamp with time zone
            Start of the bar.

        Returns
        -------
        dict of float
            The last row of `compute_features` on all bars so far, in its order.

        Raises
        ------
        FeatureError
            If a price is missing or not positive, or `ts` is not later than
            that of the bar before, or has no time zone; the stream is then as
            it was.
        """
        if ts.tzinfo is None:
            raise FeatureError(f"ts {ts} has no time zone, expected one; bars are in UTC")
        bar = dict(zip(COLUMNS, (open, high, low, close, volume), strict=True))
        stamp = ts.tz_convert("UTC").as_unit("ns").value
        self._append(np.array([stamp]), {name: np.array([float(x)]) for name, x in bar.items()})
        columns = compute_columns(self._series(self._n_bars))
        return {name: float(values[-1]) for name, values in columns.items()}

    def _append(self, ts: npt.NDArray[np.int64], values: dict[str, FloatArray]) -> None:
        n_bars = self._n_bars + len(ts)
        if n_bars > len(self._ts):
            size = max(n_bars, 2 * len(self._ts))
            self._ts = np.resize(self._ts, size)
            self._columns = {name: np.resize(x, size) for name, x in self._columns.items()}
        self._ts[self._n_bars : n_bars] = ts
        for name, column in self._columns.items():
            column[self._n_bars : n_bars] = values[name]
        self._series(n_bars)  # refuses bars that are not sound
        self._n_bars = n_bars

    def _series(self, n_bars: int) -> BarSeries:
        columns = {name: column[:n_bars] for name, column in self._columns.items()}
        return BarSeries(self.symbol, self._ts[:n_bars], columns, self._regime, self._scores)
