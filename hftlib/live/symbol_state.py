"""History of one symbol, bar by bar, and the rows of it that an observation shows.

A bar costs nothing until it is looked at: `push` checks and keeps it, `refresh` computes its
row from the whole history, as `features.stream` does and for the same reason, and `observe`
reads the rows. Who wants `observe` to be quick calls `refresh` when a bar has come.
"""

from collections import deque
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.panel import BarPanel
from hftlib.envs.bar_state import EXPOSURE_LIMIT
from hftlib.features.feature import BarSeries, FeatureError
from hftlib.features.zscore import COLUMNS
from hftlib.live.protocols import Bar, ModelError
from hftlib.schema import UTC

Float32Array = npt.NDArray[np.float32]


class ObservationError(ModelError):
    """Bars, a position or observations that the model cannot be asked with."""


class History:
    """Bars of one symbol since its first, checked as they come."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self._n_bars = 0
        self._ts: npt.NDArray[np.int64] = np.empty(64, dtype=np.int64)
        self._values = np.empty((len(COLUMNS), 64))

    @classmethod
    def from_frame(cls, bars: pd.DataFrame) -> Self:
        """Bars of one symbol as `schema.BARS`.

        Raises
        ------
        ObservationError
            If there is no bar, a column is missing, or there is more than one symbol; as `extend`.
        """
        missing = [name for name in ("symbol", "ts", *COLUMNS) if name not in bars]
        if missing:
            raise ObservationError(
                f"bars have no {', '.join(missing)}; expected symbol, ts, {', '.join(COLUMNS)}"
            )
        symbols = bars["symbol"].unique()
        if len(symbols) != 1:
            raise ObservationError(
                f"bars are of {len(symbols)} symbols {list(symbols[:5])}; send one at a time"
            )
        history = cls(str(symbols[0]))
        history.extend(bars)
        return history

    def __len__(self) -> int:
        return self._n_bars

    @property
    def last_ts(self) -> int:
        """Start of the newest bar, nanoseconds UTC."""
        return int(self._ts[self._n_bars - 1])

    def append(self, bar: Bar) -> None:
        """Take in the next bar; `ObservationError` as `extend`."""
        self._append(np.array([bar.ts_ns], dtype=np.int64), np.array([bar[1:]], dtype=np.float64).T)

    def extend(self, bars: pd.DataFrame) -> None:
        """Take in bars, all or none.

        Raises
        ------
        ObservationError
            If a price is missing, infinite or not positive, a volume infinite or negative, `ts`
            has no time zone or does not increase; names symbol, field and bar.
        """
        if not isinstance(bars["ts"].dtype, pd.DatetimeTZDtype):
            raise ObservationError(
                f"ts of {self.symbol} is {bars['ts'].dtype}; expected times with a zone, as "
                "pandas.to_datetime(..., utc=True)"
            )
        try:
            values = np.stack([bars[name].to_numpy(dtype=np.float64) for name in COLUMNS])
        except (TypeError, ValueError) as fault:
            raise ObservationError(f"bars of {self.symbol} are no numbers: {fault}") from None
        self._append(bars["ts"].astype(UTC).astype("int64").to_numpy(), values)

    def frame(self) -> pd.DataFrame:
        """Columns symbol, ts and those of `COLUMNS`, one row a bar."""
        n = self._n_bars
        columns = dict(zip(COLUMNS, self._values[:, :n].copy(), strict=True))
        ts = pd.to_datetime(self._ts[:n], utc=True)
        return pd.DataFrame(
            {"symbol": pd.Series([self.symbol] * n, dtype="str"), "ts": ts} | columns
        )

    def _append(self, ts: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        before, n_bars = self._n_bars, self._n_bars + len(ts)
        while n_bars > len(self._ts):
            self._ts = np.concatenate([self._ts, self._ts])
            self._values = np.concatenate([self._values, self._values], axis=1)
        self._ts[before:n_bars], self._values[:, before:n_bars] = ts, values
        since = max(before - 1, 0)  # time must go on from the bar before
        fresh = dict(zip(COLUMNS, self._values[:, since:n_bars], strict=True))
        try:
            BarSeries(self.symbol, self._ts[since:n_bars], fresh)
        except FeatureError as fault:
            raise ObservationError(str(fault)) from None
        volume = fresh["volume"]
        bad = np.flatnonzero(np.isinf(volume) | (volume < 0))
        if len(bad):
            at = pd.Timestamp(self._ts[since + bad[0]], tz="UTC")
            raise ObservationError(
                f"volume of {self.symbol} is {volume[bad[0]]} at {at}; expected 0 or more, or nan "
                "where it is unknown"
            )
        self._n_bars = n_bars


class _Maker(Protocol):
    """What a state asks of its predictor."""

    @property
    def min_rows(self) -> int: ...

    @property
    def window_bars(self) -> int: ...

    def build_panel(self, history: History, n_last: int | None) -> BarPanel: ...


class SymbolState:
    """One symbol of a `Predictor`; equal to the batch to the last bit."""

    def __init__(self, predictor: _Maker, history: History) -> None:
        self._predictor, self.history = predictor, history
        self._rows: deque[Float32Array] = deque(maxlen=predictor.window_bars)
        self._row_ts = -1  # of the newest row
        self._n_seen = 0  # bars of the history that have been computed

    def push(self, bar: Bar) -> None:
        """Take in the next bar.

        Raises
        ------
        ObservationError
            If it is not sound or not later than the one before; the state is then as it was.
        """
        self.history.append(bar)

    def refresh(self) -> None:
        """Compute the rows of the bars that came since; nothing while bars are missing.

        Raises
        ------
        ObservationError
            If no bar has every feature, as without volumes.
        """
        n_new = len(self.history) - self._n_seen
        if not n_new or len(self.history) < self._predictor.min_rows:
            return
        n_last = min(n_new, self._predictor.window_bars)
        panel = self._predictor.build_panel(self.history, n_last)
        for ts, row in zip(panel.ts.tolist(), panel.features, strict=True):
            if ts > self._row_ts:
                self._rows.append(row)
                self._row_ts = ts
        self._n_seen = len(self.history)

    def observe(self, position: float, exposure: float) -> Float32Array | None:
        """Observation of the newest bar, shape (n_inputs,); None while bars are missing.

        Raises
        ------
        ObservationError
            If the newest bar has not every feature, or position and exposure contradict each
            other or are no finite numbers.
        """
        if not np.isfinite([position, exposure]).all() or np.sign(position) != np.sign(exposure):
            raise ObservationError(
                f"position is {position} and exposure {exposure}; expected finite numbers of one "
                "sign: what is held, and its value over equity"
            )
        self.refresh()
        if len(self._rows) < self._predictor.window_bars:
            return None
        if self._row_ts != self.history.last_ts:
            at = pd.Timestamp(self.history.last_ts, tz="UTC")
            raise ObservationError(
                f"the bar of {self.history.symbol} at {at} has not every feature, so there is no "
                "observation of it; send its volume, and those of the bars before"
            )
        held = min(max(exposure, -EXPOSURE_LIMIT), EXPOSURE_LIMIT)
        account = np.array([np.sign(position), held], dtype=np.float32)
        return np.concatenate([*self._rows, account])
