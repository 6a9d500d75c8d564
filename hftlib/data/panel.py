"""Aligned arrays of several symbols, ready for an environment.

Rows of one symbol lie together in time order and form a *segment*; an episode
or a window never crosses from one segment to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.paths import replace_file
from hftlib.schema import UTC

FloatArray = npt.NDArray[np.float64]
OPTIONAL = ("volume", "forecast", "uncertainty")


class PanelError(ValueError):
    """Arrays that do not fit together or hold impossible prices."""


@dataclass(frozen=True)
class BarPanel:
    """Prices and features of one split.

    Attributes
    ----------
    symbols : tuple of str, length n_segments
    segments : int64 array of shape (n_segments, 2)
        First row, and one past the last row, of each symbol.
    ts : int64 array of shape (n_rows,)
        Start of the bar, nanoseconds UTC.
    open, close : float64 arrays of shape (n_rows,)
        Quote currency, positive.
    features : float32 array of shape (n_rows, n_features)
        Known at the close of their bar; scaled; finite.
    feature_names : tuple of str, length n_features
    volume : float64 array of shape (n_rows,), optional
        Traded in the bar, units; at least 0, finite.
    forecast, uncertainty : float64 arrays of shape (n_rows,), optional, both or none
        Log return to the next close as expected at this one, and its standard deviation,
        unscaled; nan where there is no forecast.
    """

    symbols: tuple[str, ...]
    segments: npt.NDArray[np.int64]
    ts: npt.NDArray[np.int64]
    open: FloatArray
    close: FloatArray
    features: npt.NDArray[np.float32]
    feature_names: tuple[str, ...]
    volume: FloatArray | None = None
    forecast: FloatArray | None = None
    uncertainty: FloatArray | None = None

    def __post_init__(self) -> None:
        n_rows = len(self.ts)
        for name in ("open", "close", "features", *self._optional()):
            if len(getattr(self, name)) != n_rows:
                raise PanelError(
                    f"{name} has {len(getattr(self, name))} rows, ts has {n_rows}; pass equal ones"
                )
        if self.features.shape[1] != len(self.feature_names):
            raise PanelError(
                f"{self.features.shape[1]} feature columns, {len(self.feature_names)} names"
            )
        ends = [*self.segments[:, 1]]
        starts = [0, *ends[:-1]]
        if (
            len(self.symbols) != len(ends)
            or ends[-1:] != [n_rows]
            or list(self.segments[:, 0]) != starts
            or (self.segments[:, 1] <= self.segments[:, 0]).any()
            or len(set(self.symbols)) != len(self.symbols)
        ):
            raise PanelError(
                f"segments {self.segments.tolist()} must tile rows 0 to {n_rows}, "
                f"one for each of {len(self.symbols)} symbols"
            )
        for symbol, (start, stop) in zip(self.symbols, self.segments, strict=True):
            back = np.flatnonzero(np.diff(self.ts[start:stop]) <= 0)
            if back.size:
                raise PanelError(
                    f"{symbol}: ts does not increase after row {start + back[0]}; sort its rows "
                    "and drop duplicates"
                )
        for name in ("open", "close"):
            prices = getattr(self, name)
            bad = np.flatnonzero(~((prices > 0) & np.isfinite(prices)))
            if bad.size:
                raise PanelError(f"{name}[{bad[0]}] is {prices[bad[0]]}; prices must be positive")
        self._check_optional()
        holes = np.argwhere(~np.isfinite(self.features))
        if holes.size:
            row, column = holes[0]
            raise PanelError(
                f"feature {self.feature_names[column]} is {self.features[row, column]} in row "
                f"{row}; drop the warm-up rows and scale before building a panel"
            )

    @classmethod
    def from_frame(
        cls, rows: pd.DataFrame, features: npt.NDArray[np.float32], names: Sequence[str]
    ) -> "BarPanel":
        """Panel of `rows` (columns symbol, ts, open, close), one symbol after the other.

        `features` has shape (n_rows, n_features), one column for each of `names`. Columns
        volume, if none of it is missing, forecast and uncertainty are taken as well.
        """
        optional = {
            name: rows[name].to_numpy(dtype=np.float64)
            for name in OPTIONAL
            if name in rows and (name != "volume" or rows[name].notna().all())
        }
        symbol = rows["symbol"].to_numpy()
        changes = np.flatnonzero(symbol[1:] != symbol[:-1]) + 1
        edges = np.array([0, *changes, len(rows)], dtype=np.int64)
        return cls(
            symbols=tuple(str(symbol[start]) for start in edges[:-1]),
            segments=np.stack([edges[:-1], edges[1:]], axis=1),
            ts=rows["ts"].astype(UTC).astype("int64").to_numpy(),
            open=rows["open"].to_numpy(),
            close=rows["close"].to_numpy(),
            features=features,
            feature_names=tuple(names),
            **optional,
        )

    def _optional(self) -> dict[str, FloatArray]:
        """The optional columns that are there."""
        columns = {name: getattr(self, name) for name in OPTIONAL}
        return {name: values for name, values in columns.items() if values is not None}

    def _check_optional(self) -> None:
        if (self.forecast is None) != (self.uncertainty is None):
            raise PanelError("forecast and uncertainty go together; pass both or none")
        for name, values in self._optional().items():
            bad = np.isnan(values) if name == "volume" else np.zeros(len(values), dtype=np.bool_)
            bad |= np.isinf(values) | ((values < 0) & (name != "forecast"))
            rows = np.flatnonzero(bad)
            if rows.size:
                raise PanelError(
                    f"{name}[{rows[0]}] is {values[rows[0]]}; expected a finite number"
                    f"{'' if name == 'forecast' else ', 0 or more'}: correct it, or pass no {name}"
                )

    @property
    def n_features(self) -> int:
        """Columns of `features`."""
        return self.features.shape[1]

    def common_clock(self) -> npt.NDArray[np.int64]:
        """Times shared by all symbols, nanoseconds, shape (n_bars,).

        Raises
        ------
        PanelError
            If two symbols have bars at different times.
        """
        clocks = [self.ts[start:stop] for start, stop in self.segments]
        for symbol, clock in zip(self.symbols, clocks, strict=True):
            if not np.array_equal(clock, clocks[0]):
                day = pd.Timestamp(np.setxor1d(clock, clocks[0])[0], tz="UTC")
                raise PanelError(
                    f"{symbol} and {self.symbols[0]} have bars at different times, first at {day}; "
                    "put symbols of one calendar into datasets.symbols"
                )
        return clocks[0]

    def save(self, path: Path) -> None:
        """Write an `.npz`; equal panels give equal bytes."""
        with replace_file(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                symbols=np.array(self.symbols),
                segments=self.segments,
                ts=self.ts,
                open=self.open,
                close=self.close,
                features=self.features,
                feature_names=np.array(self.feature_names),
                **self._optional(),
            )

    @classmethod
    def load(cls, path: Path) -> "BarPanel":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            return cls(
                symbols=tuple(data["symbols"].tolist()),
                segments=data["segments"],
                ts=data["ts"],
                open=data["open"],
                close=data["close"],
                features=data["features"],
                feature_names=tuple(data["feature_names"].tolist()),
                **{name: data[name] for name in OPTIONAL if name in data},
            )
