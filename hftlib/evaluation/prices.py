"""Bars of several assets on one clock, as the backtest engine takes them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.panel import BarPanel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Prices:
    """Bars of several assets on one clock.

    Attributes
    ----------
    symbols : tuple of str, length n_assets
    ts : int64 array of shape (n_bars,)
        Start of the bar, nanoseconds UTC, increasing.
    open, close : float64 arrays of shape (n_bars, n_assets)
        Positive, finite.
    volume : float64 array of shape (n_bars, n_assets), optional
        Units traded in the bar, at least 0; needed for impact.

    Raises
    ------
    ValueError
        If shapes differ, a price is not positive and finite, a volume is negative or not
        finite, or the clock does not increase.
    """

    symbols: tuple[str, ...]
    ts: IntArray
    open: FloatArray
    close: FloatArray
    volume: FloatArray | None = None

    def __post_init__(self) -> None:
        shape = (len(self.ts), len(self.symbols))
        for name in ("open", "close", "volume"):
            values = getattr(self, name)
            if values is None:
                continue
            if values.shape != shape:
                raise ValueError(
                    f"{name} has shape {values.shape}; expected {shape}, one row for each ts and "
                    "one column for each symbol"
                )
            fine = np.isfinite(values) & ((values >= 0) if name == "volume" else (values > 0))
            if not fine.all():
                row, column = np.argwhere(~fine)[0]
                raise ValueError(
                    f"{name} of {self.symbols[column]} in row {row} is {values[row, column]}; "
                    f"expected a finite number {'of at least' if name == 'volume' else 'above'} 0"
                )
        back = np.flatnonzero(np.diff(self.ts) <= 0)
        if back.size:
            raise ValueError(f"ts does not increase after row {back[0]}; sort and drop duplicates")

    @classmethod
    def from_panel(cls, panel: BarPanel) -> Self:
        """All symbols of a panel.

        Raises
        ------
        PanelError
            If they do not share one clock.
        """
        ts = panel.common_clock()

        def columns(values: FloatArray) -> FloatArray:
            return np.column_stack([values[start:stop] for start, stop in panel.segments])

        volume = None if panel.volume is None else columns(panel.volume)
        return cls(panel.symbols, ts, columns(panel.open), columns(panel.close), volume)

    @property
    def clock(self) -> pd.DatetimeIndex:
        """`ts` as times."""
        return self.times(slice(None))

    def times(self, rows: IntArray | slice) -> pd.DatetimeIndex:
        """The times of some rows."""
        return pd.DatetimeIndex(self.ts[rows].astype("datetime64[ns]"), tz="UTC")

    def rows(self, start: int, stop: int) -> Self:
        """Rows `start` to `stop` - 1."""
        cut = slice(start, stop)
        volume = None if self.volume is None else self.volume[cut]
        return type(self)(self.symbols, self.ts[cut], self.open[cut], self.close[cut], volume)

    def split(self) -> list[Self]:
        """Each asset by itself, for one account each."""
        return [
            type(self)(
                (symbol,),
                self.ts,
                self.open[:, [k]],
                self.close[:, [k]],
                None if self.volume is None else self.volume[:, [k]],
            )
            for k, symbol in enumerate(self.symbols)
        ]
