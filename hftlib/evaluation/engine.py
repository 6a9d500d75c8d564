"""Backtest of target positions: n assets in one account, n strategies side by side.

The clock is that of the trading environment: a target decided at the close of row t
fills at the open of t + 1 (later with `latency_bars`), at a price not yet seen, and
the account is marked at the close of that row. The sizing, the cost model and the ledger
are those of the environment too, so that `agents.policy.play` with the same
positions gives the same equity. For rules whose targets are known as arrays; a
policy that reacts to its own account is played instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.policy import PORTFOLIO, Rollout
from hftlib.data.panel import BarPanel
from hftlib.envs.accounts import YEAR_NS
from hftlib.envs.bar_risk import Guard, build_guard, open_tallies
from hftlib.envs.bar_state import EMPTY
from hftlib.envs.trading_rules import Financing
from hftlib.evaluation.engine_kernel import EVENT, FILL, Sizing, Walk, walk
from hftlib.evaluation.prices import Prices
from hftlib.portfolio import measures
from hftlib.portfolio.costs import BPS, Costs, check_costs
from hftlib.portfolio.risk import RiskLimits
from hftlib.portfolio.risk_covariance import DECAY
from hftlib.portfolio.risk_kernel import N_LIMITS, NO_REASON, REASONS

__all__ = ["Backtest", "Prices", "as_rollout", "run_backtest"]

FloatArray = npt.NDArray[np.float64]
TargetKind = Literal["weights", "units"]


@dataclass(frozen=True)
class Backtest:
    """Accounts of all strategies; row 0 is the start, before any order.

    Attributes
    ----------
    prices : Prices
    strategies : tuple of str, length n_strategies
    equity, cash : float64 arrays of shape (n_bars, n_strategies)
        At the close, currency; equity is cash + units @ close.
    traded, paid, financing : float64 arrays of shape (n_bars, n_strategies)
        In the bar, currency: notional at mid; fee, half-spread, slippage and impact;
        borrowing and interest.
    units : float64 array of shape (n_bars, n_strategies, n_assets)
    fills : array of `engine_kernel.FILL`, by strategy, then row, then asset
    events : array of `engine_kernel.EVENT`, in the same order
        Every order that the limits judged, accepted ones too; empty without limits.
    """

    prices: Prices
    strategies: tuple[str, ...]
    equity: FloatArray
    cash: FloatArray
    traded: FloatArray
    paid: FloatArray
    financing: FloatArray
    units: FloatArray
    fills: npt.NDArray[np.void]
    events: npt.NDArray[np.void]

    @property
    def returns(self) -> FloatArray:
        """Simple returns, shape (n_bars - 1, n_strategies); row t is earned in bar t + 1."""
        return measures.simple_returns(self.equity)

    @property
    def exposure(self) -> FloatArray:
        """Long less short at the close, share of equity, shape (n_bars, n_strategies)."""
        held = np.einsum("tsa,ta->ts", self.units, self.prices.close)
        return held / np.maximum(self.equity, EMPTY)

    def fill_table(self) -> pd.DataFrame:
        """The fills: strategy, ts, symbol and the fields of `FILL` after its first three."""
        numbers = [name for name in FILL.names or () if name not in ("strategy", "row", "asset")]
        return self._name(self.fills, {name: self.fills[name] for name in numbers})

    def event_table(self) -> pd.DataFrame:
        """What the limits said: one row an order.

        Returns
        -------
        frame with columns strategy, ts, symbol, action, asked, allowed, limit
            `action` is accept, shrink, reject or exit; `asked` and `allowed` are signed units;
            `limit` is the field of `RiskLimits` that bound the order or called for the exit,
            empty for an order that was accepted.
        """
        events = self.events
        reason, allowed = events["reason"], events["allowed"]
        cut = np.where(allowed == 0, "reject", "shrink")
        action = np.where(reason == NO_REASON, "accept", np.where(reason < N_LIMITS, cut, "exit"))
        limit = np.array([*REASONS, ""])[reason]  # the last is NO_REASON
        return self._name(
            events,
            {
                "action": pd.Series(action, dtype="str"),
                "asked": events["asked"],
                "allowed": allowed,
                "limit": pd.Series(limit, dtype="str"),
            },
        )

    def _name(self, records: npt.NDArray[np.void], rest: Mapping[str, Any]) -> pd.DataFrame:
        strategies, symbols = np.array(self.strategies), np.array(self.prices.symbols)
        named = {
            "strategy": pd.Series(strategies[records["strategy"]], dtype="str"),
            "ts": self.prices.times(records["row"]),
            "symbol": pd.Series(symbols[records["asset"]], dtype="str"),
        }
        return pd.DataFrame(named | dict(rest))


def run_backtest(
    prices: Prices,
    targets: npt.ArrayLike,
    costs: Costs,
    *,
    kind: TargetKind = "weights",
    initial_cash: float = 10_000.0,
    latency_bars: int = 1,
    max_leverage: float = np.inf,
    min_trade_weight: float = 0.0,
    ruin_fraction: float = 0.0,
    financing: Financing | None = None,
    strategies: Sequence[str] | None = None,
    risk: RiskLimits | None = None,
    sectors: Mapping[str, str] | None = None,
    var_decay: float = DECAY,
    earlier: FloatArray | None = None,
) -> Backtest:
    """Trade to targets decided at closes.

    Parameters
    ----------
    targets : array of shape (n_bars, n_assets) or (n_bars, n_strategies, n_assets)
        Row t is decided at the close of t and must not know more. Shares of equity at the
        open at which they are traded, or signed units; nan leaves a position alone.
    latency_bars : int
        From the close that decides to the bar at whose open it is filled; 1 is the next.
    max_leverage : float
        Weights that come to more, long plus short, are scaled down to it; inf takes them
        as they are. Units are always taken as they are.
    min_trade_weight : float
        Changes up to this share of equity are not traded, [0, 1); weights only.
    ruin_fraction : float
        After a close with equity at or below this share of `initial_cash` all is closed at
        the next open, costs included, and nothing is traded any more, [0, 1).
    financing : Financing, optional
        Rates on short positions and negative cash; none by default.
    strategies : sequence of str, optional
        Names; by default their numbers.
    risk : RiskLimits, optional
        Every order passes them at the open where it fills, see `envs.bar_risk`; what became of
        it is among the events. None by default.
    sectors : mapping of symbol to str, optional
        For `risk.max_sector`; a symbol left out has no sector limit.
    var_decay : float
        For `risk.max_var`: weight of a bar's return as a share of that of the next, (0, 1).
        The value at risk at an open is that of the covariance at the close before.
    earlier : array of shape (n_earlier, n_assets), optional
        For `risk.max_var`: closes before the first row, without which nothing is opened until
        the covariance has seen enough returns.

    Raises
    ------
    ValueError
        If a target is infinite or has another shape, a setting is out of range, impact is
        charged without volumes, or a sector is given for a symbol that the prices have not.
    """
    costs = check_costs(costs)
    wanted = np.asarray(targets, dtype=np.float64)
    wanted = wanted[:, None] if wanted.ndim == 2 else wanted
    n_bars, n_assets = prices.close.shape
    _check_targets(wanted, n_bars, n_assets)
    n_strategies = wanted.shape[1]
    names = tuple(map(str, range(n_strategies) if strategies is None else strategies))
    if len(names) != n_strategies:
        raise ValueError(f"{len(names)} names for {n_strategies} strategies; give one each")
    in_range = {
        "kind": (kind, kind in ("weights", "units"), "'weights' or 'units'"),
        "initial_cash": (initial_cash, 0 < initial_cash < np.inf, "more than 0"),
        "latency_bars": (latency_bars, latency_bars >= 1, "at least 1: an open not yet seen"),
        "max_leverage": (max_leverage, max_leverage > 0, "more than 0"),
        "min_trade_weight": (min_trade_weight, 0 <= min_trade_weight < 1, "a share, [0, 1)"),
        "ruin_fraction": (ruin_fraction, 0 <= ruin_fraction < 1, "a share, [0, 1)"),
    }
    for name, (value, is_fine, expected) in in_range.items():
        if not is_fine:
            raise ValueError(f"{name} is {value!r}; expected {expected}")
    if costs.impact_bps > 0 and prices.volume is None:
        raise ValueError(
            f"impact_bps is {costs.impact_bps:g}, but the prices have no volume; give volumes, "
            "or set impact_bps to 0"
        )
    rates = financing if financing is not None else Financing()
    sizing = Sizing(
        is_continuous=True,
        lowest=-1,
        max_weight=1.0,
        min_trade_weight=float(min_trade_weight),
        max_leverage=float(max_leverage),
        in_units=kind == "units",
        ruin=ruin_fraction * initial_cash,
        borrow=rates.borrow_bps * BPS,
        interest=rates.interest_bps * BPS,
    )
    asked = np.full((n_strategies, n_bars, n_assets), np.nan)
    asked[:, latency_bars:] = wanted[: max(n_bars - latency_bars, 0)].transpose(1, 0, 2)
    guard = None
    if risk is not None:
        guard = build_guard(
            risk,
            symbols=prices.symbols,
            sectors={} if sectors is None else sectors,
            ts=prices.ts,
            closes=[prices.close],
            var_decay=var_decay,
            n_accounts=1,
            earlier=earlier,
        )
    return _walk_all(prices, names, costs, sizing, asked, float(initial_cash), guard)


def _check_targets(wanted: FloatArray, n_bars: int, n_assets: int) -> None:
    if wanted.ndim != 3 or wanted.shape[0] != n_bars or wanted.shape[2] != n_assets:
        raise ValueError(
            f"targets have shape {wanted.shape}; expected ({n_bars}, {n_assets}) or "
            f"({n_bars}, n_strategies, {n_assets}), as the prices have"
        )
    bad = np.argwhere(np.isinf(wanted))
    if bad.size:
        row, strategy, asset = bad[0]
        raise ValueError(
            f"the target in row {row} of strategy {strategy}, asset {asset} is "
            f"{wanted[row, strategy, asset]}; expected a finite number, or nan to leave it"
        )


def _walk_all(
    prices: Prices,
    names: tuple[str, ...],
    costs: Costs,
    sizing: Sizing,
    asked: FloatArray,
    cash: float,
    guard: Guard | None,
) -> Backtest:
    """One walk a strategy; arrays have the strategy first, so that each is one block."""
    n_strategies, n_bars, n_assets = asked.shape
    bars = _stack(prices)
    # one asset: a tuple, whose length the compiler knows, makes its own, faster kernel
    offsets = (0,) if n_assets == 1 else np.arange(n_assets) * n_bars
    series = {field: np.zeros((n_strategies, n_bars)) for field in Walk._fields if field != "units"}
    units = np.zeros((n_strategies, n_bars, n_assets))
    scratch = np.zeros(n_assets)
    buffer = np.empty(n_bars * n_assets, dtype=FILL)  # untouched pages cost nothing
    log = np.empty(0 if guard is None else n_bars * n_assets, dtype=EVENT)
    fills, events = [], []
    for k in range(n_strategies):
        out = Walk(**{field: values[k] for field, values in series.items()}, units=units[k])
        if guard is not None:
            open_tallies(guard, [0], cash)
        n_fills, n_events = walk(
            sizing, costs, bars, offsets, asked[k], scratch, cash, k, out, buffer, guard, log
        )
        fills.append(buffer[:n_fills].copy())
        events.append(log[:n_events].copy())
    return Backtest(
        prices,
        names,
        **{field: values.T for field, values in series.items()},
        units=units.transpose(1, 0, 2),
        fills=np.concatenate(fills) if fills else buffer[:0],
        events=np.concatenate(events) if events else log[:0],
    )


def _stack(prices: Prices) -> FloatArray:
    """Open, close, volume and years since the bar before, one asset after the other."""
    volume = prices.volume if prices.volume is not None else np.full_like(prices.close, np.nan)
    years = np.diff(prices.ts, prepend=prices.ts[:1]) / YEAR_NS
    by_asset = np.broadcast_to(years[:, None], prices.close.shape)
    columns = [prices.open, prices.close, volume, by_asset]
    return np.stack([column.T.reshape(-1) for column in columns], axis=1)


def as_rollout(parts: Sequence[Backtest], panel: BarPanel) -> Rollout:
    """Backtests as `play` would have returned them, for the tables of `evaluation.backtest`.

    Parameters
    ----------
    parts : sequence of Backtest
        One of a single asset for each symbol of the panel, in its order, or one of all assets
        in one account. Strategies become copies. Rows must be those of the panel.

    Raises
    ------
    ValueError
        If symbols or times are not those of the panel, or lengths differ.
    """
    is_portfolio = len(parts) == 1 and len(panel.symbols) > 1
    found = parts[0].prices.symbols if is_portfolio else tuple(p.prices.symbols[0] for p in parts)
    lengths = {part.equity.shape for part in parts}
    if found != panel.symbols or len(lengths) != 1:
        raise ValueError(
            f"backtests of {found} of shapes {sorted(lengths)}; expected {panel.symbols}, "
            "one each or all at once, and equal shapes"
        )
    rows = []
    for part, (start, stop) in zip(parts, panel.segments, strict=False):
        place = np.searchsorted(panel.ts[start:stop], part.prices.ts)
        at = start + np.minimum(place, stop - start - 1)
        if not np.array_equal(panel.ts[at], part.prices.ts):
            raise ValueError(
                f"{part.prices.symbols[0]}: the backtest has times that the panel has not"
            )
        rows.append(np.tile(at[:, None], (1, part.equity.shape[1])))
    names = {field.name for field in fields(Rollout)} & {"equity", "exposure", "traded", "paid"}
    walked = {name: np.stack([getattr(part, name) for part in parts], axis=2) for name in names}
    position = np.sign(walked["exposure"]).astype(np.int64)
    symbols = (PORTFOLIO,) if is_portfolio else panel.symbols
    return Rollout(symbols, np.stack(rows, axis=2), position=position, **walked)
