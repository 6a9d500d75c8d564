"""Windows of bars with the outcomes that follow, for the forecaster and its rivals.

The rows of all symbols lie below each other; a window never crosses from one
symbol into the next, nor a row with a value missing. A window is not copied
until a batch asks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.features.targets import (
    HAR_DAYS,
    har_terms,
    leverage_terms,
    log_variance,
    next_value,
)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
TERMS = tuple(f"{kind}_{n}" for kind in ("log_variance", "return_over_sd") for n in HAR_DAYS)


class ExampleError(ValueError):
    """Bars from which no window can be made."""


class Batch(NamedTuple):
    """Inputs and outcomes of n windows."""

    windows: Float32Array  # (n, window, n_channels), as they are: the network scales them
    terms: Float32Array  # (n, 6), as `TERMS`
    outcomes: Float32Array  # (n, 2): log variance and log return of the next bar


@dataclass(frozen=True)
class Examples:
    """Rows of several symbols; `ends` are the rows that end a window without a gap."""

    symbols: tuple[str, ...]
    channels: tuple[str, ...]
    window: int
    clock: IntArray  # (n_times,) ns UTC, every time that some symbol has
    symbol: IntArray  # (n_rows,) position in `symbols`
    time: IntArray  # (n_rows,) position on the clock
    values: Float32Array  # (n_rows, n_channels)
    terms: FloatArray  # (n_rows, 6), as `TERMS`
    outcomes: FloatArray  # (n_rows, 2), nan where the next bar is not known
    ends: IntArray  # (n_windows,)

    @classmethod
    def from_frames(
        cls, bars: pd.DataFrame, features: pd.DataFrame, symbols: Sequence[str], window: int
    ) -> Self:
        """Take the rows of `symbols` from bars and the features made from them.

        Parameters
        ----------
        bars : frame as `schema.BARS`
            Each symbol in time order.
        features : frame with columns symbol, ts and one for each feature
            Row by row that of `bars`; rows with nan, such as a warm-up, end no window.

        Raises
        ------
        ExampleError
            If a symbol is unknown, or has no window.
        """
        names = [name for name in features.columns if name not in ("symbol", "ts")]
        if len(bars) != len(features):
            raise ExampleError(
                f"{len(bars)} bars but {len(features)} rows of features; compute them from the bars"
            )
        parts = []
        for number, symbol in enumerate(symbols):
            mine = np.flatnonzero((bars["symbol"] == symbol).to_numpy())
            if not len(mine):
                known = ", ".join(sorted(bars["symbol"].unique()))
                raise ExampleError(f"symbol {symbol} is not in the data; known: {known}")
            parts.append(_read_symbol(bars.iloc[mine], features[names].iloc[mine], number, window))
        stamps, values, terms, outcomes, number_of, whole = map(
            np.concatenate, zip(*parts, strict=True)
        )
        clock, time = np.unique(stamps, return_inverse=True)
        return cls(
            tuple(symbols),
            (*TERMS, *names),
            window,
            clock,
            number_of,
            time,
            values.astype(np.float32),
            terms,
            outcomes,
            np.flatnonzero(whole),
        )

    def between(self, span: tuple[int, int], *, is_known: bool) -> IntArray:
        """Ends of windows with a time in [first, stop); if `is_known` only those with outcomes."""
        time = self.time[self.ends]
        inside = (time >= span[0]) & (time < span[1])
        if is_known:
            inside &= np.isfinite(self.outcomes[self.ends]).all(axis=1)
        return self.ends[inside]

    def rows_until(self, stop: int) -> IntArray:
        """Every row before a time of the clock that is part of a window."""
        covered = np.zeros(len(self.values) + 1, dtype=np.int64)
        np.add.at(covered, self.ends - self.window + 1, 1)
        np.add.at(covered, self.ends + 1, -1)
        return np.flatnonzero((covered.cumsum()[:-1] > 0) & (self.time < stop))

    def batch(self, ends: IntArray) -> Batch:
        """The windows that end at these rows."""
        rows = ends[:, None] + np.arange(1 - self.window, 1)
        return Batch(
            self.values[rows],
            self.terms[ends].astype(np.float32),
            self.outcomes[ends].astype(np.float32),
        )

    def shuffled(self, rng: np.random.Generator) -> Self:
        """The same inputs, outcomes permuted in time within each symbol: nothing to forecast."""
        outcomes = self.outcomes.copy()
        for number in range(len(self.symbols)):
            known = np.flatnonzero((self.symbol == number) & np.isfinite(outcomes).all(axis=1))
            outcomes[known] = outcomes[rng.permutation(known)]
        return replace(self, outcomes=outcomes)


def _read_symbol(
    bars: pd.DataFrame, features: pd.DataFrame, number: int, window: int
) -> tuple[npt.NDArray[np.generic], ...]:
    """Times, values, linear terms, outcomes, symbol and whether a window ends, of one symbol."""
    own = log_variance(bars)
    returns = np.diff(np.log(bars["close"].to_numpy()), prepend=np.nan)
    terms = np.hstack([har_terms(own), leverage_terms(returns, own)])
    values = np.column_stack([terms, features.to_numpy(dtype=np.float64)])
    usable = np.isfinite(values).all(axis=1)
    broken = np.where(usable, -1, np.arange(len(usable)))
    whole = np.arange(len(usable)) - np.maximum.accumulate(broken) >= window
    if not whole.any():
        names = [*TERMS, *features.columns]
        counts = np.isfinite(values).sum(axis=0)
        rare = int(counts.argmin())
        raise ExampleError(
            f"{bars['symbol'].iloc[0]}: none of {len(bars)} bars ends a window of {window} whole "
            f"rows; {names[rare]} has the fewest values, {counts[rare]}. "
            f"Give more than {window + HAR_DAYS[-1]} bars, prices that move, and features that "
            "the symbol has"
        )
    outcomes = np.column_stack([next_value(own), next_value(returns)])
    stamps = bars["ts"].dt.tz_convert("UTC").dt.as_unit("ns").astype("int64").to_numpy()
    return stamps, values, terms, outcomes, np.full(len(bars), number), whole
