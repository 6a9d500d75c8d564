"""Robust scaling by median and interquartile range, fitted on training rows only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

CLIP = 10.0  # in interquartile ranges; bounds what a network or an observation can meet
NORMAL_IQR = 1.349  # interquartile range of a normal, in standard deviations


@dataclass(frozen=True)
class RobustScaler:
    """`(x - median) / iqr`, clipped to [-CLIP, CLIP]."""

    names: tuple[str, ...]
    median: tuple[float, ...]
    iqr: tuple[float, ...]

    @classmethod
    def fit(cls, values: npt.ArrayLike, names: Sequence[str], *, allow_ties: bool = False) -> Self:
        """Fit on rows of the training split; anything later would leak.

        A constant column is centred and scales to 0.

        Parameters
        ----------
        values : array of shape (n_rows, n_features)
            Finite.
        names : sequence of str, length n_features
        allow_ties : bool
            Whether half a column may be one value, as a spread of one tick or
            the return of a price that rests: for its interquartile range,
            which is 0, stand `NORMAL_IQR` standard deviations.

        Raises
        ------
        ValueError
            If a value is not finite, or half a column but not all of it is one
            value and `allow_ties` is false.
        """
        x = np.asarray(values, dtype=np.float64)
        if not np.isfinite(x).all():
            row, column = np.argwhere(~np.isfinite(x))[0]
            raise ValueError(f"{names[column]} is {x[row, column]} in row {row}; drop warm-up rows")
        low, median, high = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
        width = high - low
        width[x.max(axis=0) == x.min(axis=0)] = 1.0  # constant: e.g. no volume in the source
        if allow_ties:
            width = np.where(width > 0, width, NORMAL_IQR * x.std(axis=0))
        flat = [name for name, value in zip(names, width, strict=True) if value <= 0]
        if flat:
            raise ValueError(f"interquartile range of {', '.join(flat)} is 0; leave it out")
        return cls(tuple(names), tuple(median.tolist()), tuple(width.tolist()))

    def transform(self, values: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Scale rows of shape (n_rows, n_features); nan stays nan."""
        x = np.asarray(values, dtype=np.float64)
        scaled = (x - np.array(self.median)) / np.array(self.iqr)
        return np.clip(scaled, -CLIP, CLIP).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """For `scaler.json`."""
        return asdict(self)
