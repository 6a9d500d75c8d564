"""What limits, alerts and a circuit breaker would have said to an account, bar by bar.

They watch and do not act: the account goes on as it did, so that what they say is about one
known path. Bars are days here: a day's loss is that of its bar, and the breaker counts each
day as one trade, won or lost.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.portfolio.breakers import Breaker, BreakerRules, record_result, update_breaker
from hftlib.portfolio.measures import drawdown
from hftlib.portfolio.risk import ROUNDING, RiskLimits, portfolio_var
from hftlib.portfolio.risk_alerts import Alert, AlertLevels, find_alerts
from hftlib.portfolio.risk_measures import BenchmarkError
from hftlib.portfolio.risk_state import RiskState, build_state
from hftlib.schema import UTC

FloatArray = npt.NDArray[np.float64]


class Watch(NamedTuple):
    """What happened on the path of one account.

    Attributes
    ----------
    alerts : frame with columns ts, name, place, value, level
        One row an alert; one that holds for many bars is given on each.
    trips : frame with columns ts, reason
        Bars at which the breaker opened.
    halted : series of shape (n_bars,)
        Whether the breaker was open after the bar.
    """

    alerts: pd.DataFrame
    trips: pd.DataFrame
    halted: pd.Series


def watch_account(
    returns: pd.Series, held: pd.DataFrame, levels: AlertLevels, rules: BreakerRules
) -> Watch:
    """Look at an account after each bar.

    Parameters
    ----------
    returns : series of shape (n_bars,)
        Of equity, after costs; index ts (UTC), increasing.
    held : frame of shape (n_bars, n_assets)
        Weights after the bar's trades.

    Raises
    ------
    BenchmarkError
        If the two are not indexed by the same bars.
    RiskError
        If a return is not finite or leaves no equity.
    """
    if not returns.index.equals(held.index):
        raise BenchmarkError(
            f"{len(returns)} returns and {len(held)} rows of weights are not of the same bars; "
            "cut both to one span"
        )
    equity = np.cumprod(1.0 + returns.to_numpy(dtype=np.float64))
    clock = pd.DatetimeIndex(returns.index).as_unit("ns").asi8
    breaker, peak, before = Breaker(), 1.0, 1.0
    alerts: list[Alert] = []
    trips: list[tuple[int, str]] = []
    halted = np.zeros(len(equity), dtype=bool)
    for t, (now, worth) in enumerate(zip(clock.tolist(), equity.tolist(), strict=True)):
        peak = max(peak, worth)
        state = _state(held.columns, held.to_numpy()[t], worth, peak, before, now)
        alerts += find_alerts(state, levels)
        n_trips = breaker.n_trips
        breaker = update_breaker(
            breaker,
            rules,
            now_ns=now,
            data_ns=now,
            drawdown=state.drawdown,
            daily_loss=state.daily_loss,
        )
        breaker = record_result(breaker, rules, now_ns=now, profit=worth - before)
        if breaker.n_trips > n_trips:
            trips.append((now, breaker.reason))
        halted[t] = breaker.is_halted
        before = worth
    return Watch(
        _stamped(pd.DataFrame(alerts, columns=list(Alert._fields)).rename(columns={"ts_ns": "ts"})),
        _stamped(pd.DataFrame(trips, columns=["ts", "reason"])),
        pd.Series(halted, index=returns.index, name="halted"),
    )


def count_breaches(
    targets: pd.DataFrame,
    covariances: FloatArray,
    returns: pd.Series,
    turnover: pd.Series,
    sectors: npt.NDArray[np.int64],
    limits: RiskLimits,
) -> pd.DataFrame:
    """How often target weights or the account would have been beyond each limit.

    Parameters
    ----------
    targets : frame of shape (n_decisions, n_assets)
    covariances : array of shape (n_decisions, n_assets, n_assets)
        Of one bar's returns, known at the decision.
    returns, turnover : series of shape (n_bars,)
        Of the account after costs, and the notional traded at each bar, share of equity.
    sectors : array of int of shape (n_assets,)
        As `weight_limits.number_sectors` gives them; -1 is none.

    Returns
    -------
    frame indexed by limit
        allowed; checked, at "decisions" or "bars"; n of them; n_beyond; share; largest value seen.
    """
    table = targets.to_numpy(dtype=np.float64)
    sizes = np.abs(table)
    totals = np.stack([sizes[:, sectors == k].sum(axis=1) for k in range(sectors.max() + 1)], 1)
    tails = [
        portfolio_var(_state(targets.columns, w, 1.0, 1.0, 1.0, 0, c), limits.var_level)
        for w, c in zip(table, covariances, strict=True)
    ]
    made = returns.to_numpy(dtype=np.float64)
    path = np.concatenate([[1.0], np.cumprod(1.0 + made)])
    seen = {
        "max_position": ("decisions", sizes.max(axis=1)),
        "max_sector": ("decisions", totals.max(axis=1)),
        "max_leverage": ("decisions", sizes.sum(axis=1)),
        "max_var": ("decisions", np.array(tails)),
        "max_daily_volume": ("bars", turnover.to_numpy(dtype=np.float64)),
        "max_daily_loss": ("bars", np.maximum(-made, 0.0)),
        "max_drawdown": ("bars", drawdown(path)[1:]),
    }
    rows = {}
    for name, (where, values) in seen.items():
        allowed = float(getattr(limits, name))
        # optimisers reach their own caps to 1e-6, which is no breach
        beyond = int((values > allowed * (1 + ROUNDING) + 1e-6).sum())
        rows[name] = (allowed, where, len(values), beyond, beyond / len(values), values.max())
    columns = ["allowed", "checked", "n", "n_beyond", "share", "largest"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("limit")


def _state(
    symbols: pd.Index,
    weights: FloatArray,
    equity: float,
    peak: float,
    before: float,
    now: int,
    covariance: FloatArray | None = None,
) -> RiskState:
    """An account whose units are worth 1 each."""
    names = [str(name) for name in symbols]
    return build_state(
        prices=dict.fromkeys(names, 1.0),
        units=dict(zip(names, (weights * equity).tolist(), strict=True)),
        equity=equity,
        peak_equity=peak,
        day_equity=before,
        covariance=covariance,
        ts_ns=now,
    )


def _stamped(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(ts=pd.to_datetime(frame["ts"], utc=True).astype(UTC))
