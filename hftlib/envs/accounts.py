"""Accounts on one panel of bars: the state that both trading environments step."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from hftlib.data.panel import BarPanel
from hftlib.envs import kernel
from hftlib.envs.bar_risk import Guard, build_guard, copy_refusals, open_tallies
from hftlib.envs.bar_state import ACCOUNT, RULES, Records, Rules
from hftlib.envs.rewards import KINDS, N_TERMS, RewardSettings
from hftlib.envs.trading_rules import TradingRules
from hftlib.features.scaling import CLIP
from hftlib.portfolio.costs import BPS

YEAR_NS = 365 * 86_400 * 10**9

Observation = npt.NDArray[np.float32]


class Accounts:
    """State of n accounts on one panel, and the moves both environments share.

    Raises
    ------
    ValueError
        If a symbol is shorter than a window, features are not scaled, or impact is
        charged without volumes, or a sector is given for a symbol that the panel has not.
    PanelError
        If a portfolio's symbols do not share one clock.
    """

    def __init__(self, panel: BarPanel, rules: TradingRules, n_envs: int) -> None:
        _check_panel(panel, rules)
        self.panel, self.rules = panel, rules
        segments = panel.segments
        if rules.is_portfolio:
            panel.common_clock()
            self.offsets = segments[:, 0] - segments[0, 0]
            segments = segments[:1]
        else:
            self.offsets = np.zeros(1, dtype=np.int64)
        self.n_assets = len(self.offsets)
        self.bars = _stack(panel)
        self.features = np.ascontiguousarray(panel.features).reshape(-1)
        self.settings = _pack_rules(rules, panel.n_features)
        self.records = np.zeros(n_envs, dtype=ACCOUNT)
        self.units = np.zeros((n_envs, self.n_assets))
        self._fresh = np.zeros((), dtype=ACCOUNT)
        for name in ("cash", "equity", "peak"):
            self._fresh[name] = rules.initial_cash
        self._growths = np.zeros((n_envs, rules.reward.window_bars))
        self._terms = np.zeros((n_envs, N_TERMS))
        self._targets = np.zeros(self.n_assets)
        self._actions = np.zeros((n_envs, self.n_assets))
        self._asked = self._actions.reshape((n_envs, *(self.action_space.shape or ())))  # a view
        # one symbol: a tuple, whose length the compiler knows, makes its own, faster kernel
        offsets = self.offsets if rules.is_portfolio else (0,)
        self._fixed = (self.settings, self.features, self.bars, offsets)
        self.guard = _build_guard(panel, rules, n_envs)
        window = rules.window_bars * panel.n_features
        self.n_inputs = self.n_assets * (window + 2) + rules.shows_drawdown
        self.first, self.last = segments[:, 0] + rules.window_bars - 1, segments[:, 1] - 1
        latest = np.maximum(self.first, self.last - rules.episode_bars)
        self.starts = np.concatenate(
            [np.arange(a, b + 1) for a, b in zip(self.first, latest, strict=True)]
        )
        lasts = np.repeat(self.last, latest - self.first + 1)
        self._stops = np.minimum(self.starts + rules.episode_bars, lasts)

    @cached_property
    def observation_space(self) -> spaces.Box:
        """Scaled features and the account, all within the scaler's bounds."""
        return spaces.Box(-CLIP, CLIP, (self.n_inputs,), np.float32)

    @cached_property
    def action_space(self) -> spaces.Space[Any]:
        """That of one account."""
        if self.rules.action_kind == "continuous":
            lowest = -1.0 if self.rules.allow_short else 0.0
            return spaces.Box(lowest, 1.0, (self.n_assets,), np.float32)
        if self.rules.is_portfolio:
            return spaces.MultiDiscrete([3] * self.n_assets)
        return spaces.Discrete(3)

    def check_actions(self, actions: npt.ArrayLike, n: int) -> npt.NDArray[Any]:
        """`actions` of n accounts as an array.

        Raises
        ------
        ValueError
            If its shape or its kind of number is not that of the action space.
        """
        values = np.asarray(actions)
        is_continuous = self.rules.action_kind == "continuous"
        shape = (n, *(self.action_space.shape or ()))
        if values.shape != shape or values.dtype.kind not in ("f" if is_continuous else "iu"):
            raise ValueError(
                f"actions are {values.dtype} of shape {values.shape}; expected "
                f"{'floats' if is_continuous else 'integers'} of shape {shape}"
            )
        return values

    @property
    def expected(self) -> str:
        """What an action may be, for messages."""
        if self.rules.action_kind == "continuous":
            return f"expected a weight from {-1 if self.rules.allow_short else 0} to 1"
        return "expected 0, 1 or 2"

    def begin(
        self,
        which: Sequence[int] | npt.NDArray[np.int64],
        rngs: Sequence[np.random.Generator],
        segments: Sequence[int | None],
    ) -> None:
        """Open accounts at a random row each, or at the first row of a segment until its end."""
        n_starts = len(self.starts)
        rows, stops = [], []
        for rng, segment in zip(rngs, segments, strict=True):
            if segment is None:
                k = rng.integers(n_starts)
                rows.append(self.starts[k])
                stops.append(self._stops[k])
            elif isinstance(segment, int) and 0 <= segment < len(self.first):
                rows.append(self.first[segment])
                stops.append(self.last[segment])
            else:
                names = ", ".join(self.panel.symbols)
                if self.rules.is_portfolio:
                    names = f"{names} at once"
                raise ValueError(
                    f"segment is {segment!r}; expected 0 to {len(self.first) - 1} ({names})"
                )
        self.records[which] = self._fresh
        self.records["row"][which] = rows
        self.records["stop"][which] = stops
        self.units[which] = 0.0
        if self.guard is not None:
            first = np.searchsorted(self.panel.segments[:, 1], rows, side="right")
            open_tallies(self.guard, which, self.rules.initial_cash, first)

    def observe(self) -> Observation:
        """Observations now, a new array of shape (n_envs, n_inputs)."""
        out = np.empty((len(self.records), self.n_inputs), dtype=np.float32)
        self.observe_some(np.ones(len(self.records), dtype=np.bool_), out)
        return out

    def observe_some(self, wanted: npt.NDArray[np.bool_], out: Observation) -> None:
        """Write the observations of the accounts that `wanted` marks into `out`."""
        kernel.observe(*self._fixed, self.records, self.units, wanted, out)

    def step(self, actions: npt.ArrayLike) -> tuple[Observation, int]:
        """Move by one bar; observations, and -1 or the place of the first bad action."""
        self._asked[...] = actions
        out = np.empty((len(self.records), self.n_inputs), dtype=np.float32)
        bad: int = kernel.step(
            *self._fixed,
            self.records,
            self.units,
            self._growths,
            self._terms,
            self._targets,
            self._actions,
            out,
            self.guard,
        )
        return out, bad

    def save_state(self) -> list[npt.NDArray[Any]]:
        """Copies of all that changes."""
        return [values.copy() for values in self._changing()]

    def load_state(self, arrays: list[npt.NDArray[Any]]) -> None:
        """Go on from `save_state`."""
        for mine, saved in zip(self._changing(), arrays, strict=True):
            mine[...] = saved

    def _changing(self) -> list[npt.NDArray[Any]]:
        own: list[npt.NDArray[Any]] = [self.records, self.units, self._growths]
        return own if self.guard is None else [*own, self.guard.tallies, self.guard.entries]

    def position(self) -> npt.NDArray[np.int64]:
        """Signs, shape (n_envs,), of a portfolio (n_envs, n_assets)."""
        if self.rules.is_portfolio:
            return np.sign(self.units).astype(np.int64)
        return self.records["position"].copy()

    def terms(self) -> list[float]:
        """Those of the reward of the first account."""
        values: list[float] = self._terms[0].tolist()
        return values

    def info(self) -> dict[str, Any]:
        """Copies: an info kept by the caller must not change under it."""
        records = self.records
        info = {
            "row": records["row"].copy(),
            "equity": records["equity"].copy(),
            "position": self.position(),
            "exposure": records["exposure"].copy(),
            "traded": records["traded"].copy(),
            "paid": records["paid"].copy(),
            "financing": records["financing"].copy(),
            "end": records["end"].copy(),
            "reward_terms": dict(zip(self.rules.reward.terms, self._terms.T.copy(), strict=False)),
        }
        return info if self.guard is None else info | copy_refusals(self.guard)


def _check_panel(panel: BarPanel, rules: TradingRules) -> None:
    lengths = panel.segments[:, 1] - panel.segments[:, 0]
    if (lengths < rules.window_bars + 1).any():
        k = int(np.argmin(lengths))
        raise ValueError(
            f"{panel.symbols[k]} has {lengths[k]} bars; window_bars={rules.window_bars} needs at "
            f"least {rules.window_bars + 1}: use a longer split or a shorter window"
        )
    largest = float(np.abs(panel.features).max(initial=0.0))
    if largest > CLIP:
        raise ValueError(
            f"features reach {largest:.3g}; expected at most {CLIP:g} in size: "
            "scale them with features.scaling.RobustScaler"
        )
    if rules.costs.impact_bps > 0 and panel.volume is None:
        raise ValueError(
            f"impact_bps is {rules.costs.impact_bps:g}, but the panel has no volume; build it "
            "from bars with a column volume, or set impact_bps to 0"
        )
    if rules.reward.kind == "hybrid" and panel.forecast is None:
        raise ValueError(
            "the hybrid reward needs forecasts, and the panel has none; build it from rows with "
            "columns forecast and uncertainty, or choose another reward.kind"
        )


def _build_guard(panel: BarPanel, rules: TradingRules, n_envs: int) -> Guard | None:
    if rules.risk is None:
        return None
    closes = [panel.close[start:stop] for start, stop in panel.segments]
    return build_guard(
        rules.risk,
        symbols=panel.symbols,
        sectors=rules.sectors,
        ts=panel.ts,
        closes=[np.column_stack(closes)] if rules.is_portfolio else [c[:, None] for c in closes],
        var_decay=rules.var_decay,
        n_accounts=n_envs,
    )


def _stack(panel: BarPanel) -> npt.NDArray[np.float64]:
    """Columns as the kernel wants them, nan where the panel has none."""
    absent = np.full(len(panel.ts), np.nan)
    optional = (panel.volume, panel.forecast, panel.uncertainty)
    volume, forecast, uncertainty = (absent if x is None else x for x in optional)
    columns = [panel.open, panel.close, volume, _years(panel), forecast, uncertainty]
    return np.column_stack(columns)


def _years(panel: BarPanel) -> npt.NDArray[np.float64]:
    """Time since the bar before, in years of 365 days; 0 at the first bar of a symbol."""
    years = np.diff(panel.ts, prepend=panel.ts[:1]) / YEAR_NS
    years[panel.segments[:, 0]] = 0.0
    return years


def _pack_rules(rules: TradingRules, n_features: int) -> Records:
    values = Rules(
        n_window=rules.window_bars * n_features,
        n_features=n_features,
        is_continuous=rules.action_kind == "continuous",
        lowest=-1 if rules.allow_short else 0,
        shows_drawdown=rules.shows_drawdown,
        max_weight=rules.max_weight,
        min_trade_weight=rules.min_trade_weight,
        max_leverage=rules.limits.max_leverage,
        maintenance=rules.limits.maintenance_fraction,
        max_drawdown=rules.limits.max_drawdown,
        ruin=rules.ruin_fraction * rules.initial_cash,
        borrow=rules.financing.borrow_bps * BPS,
        interest=rules.financing.interest_bps * BPS,
        **rules.costs._asdict(),
        reward=KINDS.index(rules.reward.kind),
        **{
            name: getattr(rules.reward, name)
            for name in Rules._fields
            if name in RewardSettings.__dataclass_fields__
        },
    )
    return np.array([tuple(values)], dtype=RULES)
