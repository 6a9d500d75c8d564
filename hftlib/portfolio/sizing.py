"""How much to put into a position: shares of equity, and units from them.

All are sizes before the limits, which `risk.check_order` and `weight_limits` apply; those of Kelly
are in `kelly`. Arrays are taken element by element.

Source: Moskowitz, Ooi & Pedersen (2012), Journal of Financial Economics 104(2), for volatility
targets.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hftlib.portfolio.risk_state import RiskError


def volatility_target(volatility: npt.ArrayLike, target: float, max_weight: float) -> Any:
    """Share of equity that brings a position's volatility to `target`, at most `max_weight`.

    Both volatilities are of the same period.

    Raises
    ------
    RiskError
        If one is not above 0 and finite.
    """
    wanted = _positive("target", target) / _positive("volatility", volatility)
    return np.minimum(wanted, _positive("max_weight", max_weight))


def var_budget(value_at_risk: npt.ArrayLike, budget: float, max_weight: float) -> Any:
    """Share of equity whose value at risk is `budget` (share of equity), at most `max_weight`.

    `value_at_risk` is that of the asset itself, as `var_models.forecast_var` gives it.

    Raises
    ------
    RiskError
        If one is not above 0 and finite.
    """
    wanted = _positive("budget", budget) / _positive("value_at_risk", value_at_risk)
    return np.minimum(wanted, _positive("max_weight", max_weight))


def size_units(
    weight: npt.ArrayLike, equity: float, prices: npt.ArrayLike, lot_size: float = 1.0
) -> Any:
    """Units, signed, whole lots towards zero, of a fixed share `weight` of equity.

    Raises
    ------
    RiskError
        If a weight is not finite, or equity, a price or the lot not above 0.
    """
    value = _finite("weight", weight) * _positive("equity", equity)
    lots = value / _positive("price", prices) / _positive("lot_size", lot_size)
    # 0.3 / 0.1 is 2.9999999999999996
    return np.trunc(lots * (1 + 1e-12)) * lot_size


def _finite(name: str, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
    values = np.asarray(value, dtype=np.float64)
    if not np.isfinite(values).all():
        raise RiskError(f"{name} is {value!r}; expected finite numbers")
    return values


def _positive(name: str, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
    values = _finite(name, value)
    if not (values > 0).all():
        raise RiskError(f"{name} is {value!r}; expected above 0")
    return values
