"""Limits on position, sector and leverage for whole tables of target weights, for backtests.

Row by row what `risk.check_order` makes of the same orders sent from a flat account in the
order of the columns: the first column is served first. The arithmetic is that of `risk_kernel`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.portfolio.risk import RiskLimits, pack_limits
from hftlib.portfolio.risk_kernel import Bounds, Exposure, find_exposure_room
from hftlib.portfolio.risk_state import NO_SECTOR, RiskError

FloatArray = npt.NDArray[np.float64]


def number_sectors(
    symbols: Sequence[str], sectors: Mapping[str, str]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Sector of each symbol as a number, -1 for none, and the names by number.

    Raises
    ------
    RiskError
        If a sector is given for a symbol that is not among `symbols`.
    """
    unknown = [name for name in sectors if name not in symbols]
    if unknown:
        raise RiskError(f"sectors are given for {', '.join(unknown)}; not among the symbols")
    own = [sectors.get(name, NO_SECTOR) for name in symbols]
    names = tuple(dict.fromkeys(name for name in own if name != NO_SECTOR))
    numbers = [names.index(name) if name != NO_SECTOR else -1 for name in own]
    return np.array(numbers, dtype=np.int64), names


def clip_weights(
    weights: npt.ArrayLike, sector_numbers: npt.ArrayLike, limits: RiskLimits
) -> FloatArray:
    """Target weights cut to the limits on position, sector and leverage.

    Parameters
    ----------
    weights : array of shape (n_assets,) or (n_rows, n_assets)
        Shares of equity, signed.
    sector_numbers : array of int of shape (n_assets,)
        As `number_sectors` gives them; -1 has no sector limit.
    limits : RiskLimits
        The others are not looked at.

    Returns
    -------
    array of the shape of `weights`
        Never larger in size and never of another sign. Clipping twice changes nothing.

    Raises
    ------
    RiskError
        If a weight is not finite or the sectors are not one a column.
    """
    asked = np.asarray(weights, dtype=np.float64)
    table = np.ascontiguousarray(np.atleast_2d(asked))
    sector_of = np.asarray(sector_numbers, dtype=np.int64)
    if asked.ndim not in (1, 2) or sector_of.shape != table.shape[1:]:
        raise RiskError(
            f"weights have the shape {asked.shape} and sectors {sector_of.shape}; expected "
            "(n_rows, n_assets) and (n_assets,)"
        )
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        row, column = (int(n) for n in bad[0])
        raise RiskError(
            f"the weight in row {row}, column {column} is {table[row, column]}; expected a number"
        )
    used = np.zeros(int(sector_of.max(initial=-1)) + 1)
    clipped = np.empty_like(table)
    _clip(table, sector_of, pack_limits(limits), used, clipped)
    return clipped.reshape(asked.shape)


@compile_kernel
def _clip(
    weights: FloatArray,
    sector_of: npt.NDArray[np.int64],
    bounds: Bounds,
    used: FloatArray,
    out: FloatArray,
) -> None:
    for row in range(weights.shape[0]):
        gross = 0.0
        used[:] = 0.0
        for k in range(weights.shape[1]):
            has_sector = sector_of[k] >= 0
            in_sector = used[sector_of[k]] if has_sector else 0.0
            exposure = Exposure(0.0, gross, in_sector, has_sector, 0.0, 0.0, 0.0)
            room, _ = find_exposure_room(bounds, 1.0, exposure, 0.0)
            size = min(abs(weights[row, k]), max(room, 0.0))
            out[row, k] = size if weights[row, k] >= 0 else -size
            gross += size
            if has_sector:
                used[sector_of[k]] += size
