"""What weights must obey: bounds, sectors, leverage, turnover, and their sum."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.portfolio.asset_frames import AllocationError, name_some
from hftlib.portfolio.limits import Limits

FloatArray = npt.NDArray[np.float64]


class WeightError(AllocationError):
    """Weights that break a limit, or do not sum to what they should."""


class UnknownAssetError(AllocationError):
    """An asset that a limit, a view or a set of weights names or leaves out."""


@dataclass(frozen=True)
class Constraints:
    """Limits on weights.

    Attributes
    ----------
    lower, upper
        Bounds of each weight: one number, or one an asset.
    budget
        What the weights sum to, above 0; the rest of equity is cash. None leaves the
        sum free, which only `kelly` can do.
    sectors
        Sector of every asset; needed with `sector_caps`.
    sector_caps
        Largest |sum of weights| of a sector: one number for all, or one for some.
    leverage
        Largest sum of |weight|; None for no limit beyond the bounds.
    turnover
        Largest sum of |weight - previous weight|, half of it bought and half sold where
        the sums agree; without previous weights it does not bind.
    """

    lower: float | Mapping[str, float] = 0.0
    upper: float | Mapping[str, float] = 1.0
    budget: float | None = 1.0
    sectors: Mapping[str, str] = field(default_factory=dict)
    sector_caps: float | Mapping[str, float] | None = None
    leverage: float | None = None
    turnover: float | None = None


def bind_constraints(
    constraints: Constraints, assets: list[str], previous: pd.Series | None = None
) -> Limits:
    """`constraints` as arrays in the order of `assets`; `previous` weights by asset.

    Raises
    ------
    UnknownAssetError
        If a bound, a sector or a previous weight is missing, or an asset held before is
        not among `assets` (sell it first, or keep it in the frame).
    AllocationError
        If a bound is not finite or crosses its counterpart, the budget is not above 0,
        or a cap, leverage or turnover is negative.
    """
    lower = _per_asset(constraints.lower, assets, "lower")
    upper = _per_asset(constraints.upper, assets, "upper")
    if (lower > upper).any():
        k = int((lower > upper).argmax())
        raise AllocationError(
            f"lower bound {lower[k]:g} of {assets[k]} is above its upper bound {upper[k]:g}"
        )
    for name in ("leverage", "turnover"):
        value = getattr(constraints, name)
        if value is not None and not 0 <= value < np.inf:
            raise AllocationError(f"{name} is {value}; expected a finite number from 0, or None")
    if constraints.budget is not None and not 0 < constraints.budget < np.inf:
        raise AllocationError(
            f"budget is {constraints.budget}; expected the sum of the weights, above 0, or None"
        )
    names, rows, caps = _sector_limits(constraints, assets)
    before = np.zeros(len(assets))
    if previous is not None:
        surplus = [str(a) for a in previous.index[previous != 0] if a not in set(assets)]
        if surplus:
            raise UnknownAssetError(
                f"previous weights hold {name_some(surplus)}, of which the frame has no returns"
            )
        before = _per_asset(dict(previous), assets, "previous")
    return Limits(
        tuple(assets), lower, upper, constraints.budget, names, rows, caps,
        constraints.leverage, constraints.turnover if previous is not None else None, before,
    )  # fmt: skip


def check_weights(
    weights: pd.Series, constraints: Constraints, previous: pd.Series | None = None
) -> pd.Series:
    """Return `weights`, indexed by asset, if they obey `constraints` to 1e-6.

    Raises
    ------
    WeightError
        If a weight is not finite, a limit is broken or the sum is not the budget.
    UnknownAssetError, AllocationError
        As `bind_constraints`.
    """
    values = weights.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        bad = [str(a) for a in weights.index[~np.isfinite(values)]]
        raise WeightError(f"weights of {name_some(bad)} are not finite")
    broken = bind_constraints(constraints, list(weights.index), previous).broken_by(values)
    if broken:
        raise WeightError("; ".join(broken))
    return weights


def _per_asset(value: float | Mapping[str, float], assets: list[str], name: str) -> FloatArray:
    if isinstance(value, Mapping):
        missing = [asset for asset in assets if asset not in value]
        if missing:
            raise UnknownAssetError(f"{name} has no entry for {name_some(missing)}")
        found = np.array([float(value[asset]) for asset in assets])
    else:
        found = np.full(len(assets), float(value))
    if not np.isfinite(found).all():
        k = int((~np.isfinite(found)).argmax())
        raise AllocationError(f"{name} of {assets[k]} is {found[k]}; expected a finite number")
    return found


def _sector_limits(
    constraints: Constraints, assets: list[str]
) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """Names, rows of ones (k, n) and caps (k,) of the sectors with a cap."""
    if constraints.sector_caps is None:
        return (), np.zeros((0, len(assets))), np.zeros(0)
    missing = [asset for asset in assets if asset not in constraints.sectors]
    if missing:
        raise UnknownAssetError(f"sectors has no entry for {name_some(missing)}")
    present = sorted({constraints.sectors[asset] for asset in assets})
    caps = constraints.sector_caps
    if isinstance(caps, Mapping):
        unknown = sorted(set(caps) - set(constraints.sectors.values()))
        if unknown:
            raise UnknownAssetError(f"sector_caps names {name_some(unknown)}, of no asset")
        by_name = {name: float(caps[name]) for name in present if name in caps}
    else:
        by_name = {name: float(caps) for name in present}
    for name, cap in by_name.items():
        if not 0 <= cap < np.inf:
            raise AllocationError(f"cap of sector {name} is {cap}; expected a number from 0")
    members = [[float(constraints.sectors[a] == name) for a in assets] for name in by_name]
    rows = np.array(members).reshape(len(by_name), len(assets))
    return tuple(by_name), rows, np.array(list(by_name.values()))
