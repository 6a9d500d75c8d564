"""What does not change during an episode on bars: settings, their ranges, and their check."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from hftlib.envs.ranges import check_ranges
from hftlib.envs.rewards import RewardSettings
from hftlib.portfolio.costs import Costs, check_costs
from hftlib.portfolio.risk import RiskLimits
from hftlib.portfolio.risk_covariance import DECAY

ActionKind = Literal["discrete", "continuous"]
ACTION_KINDS: tuple[ActionKind, ...] = ("discrete", "continuous")


@dataclass(frozen=True)
class Limits:
    """How far an account may go.

    Attributes
    ----------
    max_leverage : float
        Most that all positions together, long plus short, may be when an order
        is sent, as a multiple of equity; orders beyond are scaled down. But for costs:
        orders are sized at mid, and what a short sale costs lowers the equity, so that
        one may end slightly beyond. At least `max_weight`.
    maintenance_fraction : float
        Equity that a position needs, as a share of long plus short, [0, 1). Below it at
        a close all is closed at the next open, costs included, which ends the
        episode; 0 is no margin call.
    max_drawdown : float
        Fall of the equity from its highest close at which the episode ends, as a share
        of that, (0, 1]; 1 is no limit.
    """

    max_leverage: float = 1.0
    maintenance_fraction: float = 0.0
    max_drawdown: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {
                "max_leverage": 0 < self.max_leverage < float("inf"),
                "maintenance_fraction": 0 <= self.maintenance_fraction < 1,
                "max_drawdown": 0 < self.max_drawdown <= 1,
            },
        )


@dataclass(frozen=True)
class Financing:
    """Yearly rates, basis points; what they cost accrues by the time between bars, ACT/365.

    Attributes
    ----------
    borrow_bps : float
        On the value of what is sold short.
    interest_bps : float
        On negative cash: on what is bought beyond the equity and the proceeds of short
        sales, which count as cash. 150 % long and 50 % short pays none. Cash earns nothing.
    """

    borrow_bps: float = 0.0
    interest_bps: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            {
                "borrow_bps": 0 <= self.borrow_bps < float("inf"),
                "interest_bps": 0 <= self.interest_bps < float("inf"),
            },
        )


@dataclass(frozen=True)
class TradingRules:
    """What does not change during an episode.

    Attributes
    ----------
    costs : Costs
        Basis points.
    window_bars : int
        Bars of features in one observation.
    episode_bars : int
        Steps after which a training episode is truncated.
    initial_cash : float
        Equity at the start, currency.
    max_weight : float
        Share of equity put into a position: when it is opened (discrete actions), or at
        an action of 1 (continuous ones). At most `limits.max_leverage`.
    allow_short : bool
        Whether a position may be negative.
    ruin_fraction : float
        Equity at or below this share of `initial_cash` terminates.
    action_kind : "discrete" or "continuous"
        Moves by one notch, or target weights.
    min_trade_weight : float
        Continuous actions: changes up to this share of equity are not traded, [0, 1).
    is_portfolio : bool
        Whether one account holds all symbols of the panel at once, which must share one
        clock, instead of one symbol an episode.
    shows_drawdown : bool
        Whether the observation has the drawdown so far.
    limits : Limits
    financing : Financing
    reward : RewardSettings
    risk : portfolio.risk.RiskLimits, optional
        Every order passes them, see `envs.bar_risk`; none by default. Their drawdown and
        leverage end no episode and scale no order: they keep orders from opening.
    sectors : mapping of symbol to str
        For `risk.max_sector`; a symbol left out has no sector limit.
    var_decay : float
        For `risk.max_var`: weight of a bar's return as a share of that of the next, (0, 1).
        With .94 half of the weight is on the last 11 bars.
    """

    costs: Costs
    window_bars: int = 30
    episode_bars: int = 252
    initial_cash: float = 10_000.0
    max_weight: float = 1.0
    allow_short: bool = False
    ruin_fraction: float = 0.1
    action_kind: ActionKind = "discrete"
    min_trade_weight: float = 0.0
    is_portfolio: bool = False
    shows_drawdown: bool = False
    limits: Limits = field(default_factory=Limits)
    financing: Financing = field(default_factory=Financing)
    reward: RewardSettings = field(default_factory=RewardSettings)
    risk: RiskLimits | None = None
    sectors: Mapping[str, str] = field(default_factory=dict, hash=False)
    var_decay: float = DECAY

    @classmethod
    def from_values(
        cls,
        *,
        costs: Mapping[str, Any],
        trading: Mapping[str, Any],
        limits: Mapping[str, Any],
        financing: Mapping[str, Any],
        reward: Mapping[str, Any],
        risk: Mapping[str, Any] | None = None,
    ) -> Self:
        """Rules from values by name; each mapping has fields of its class, `trading` of this one.

        Without `risk` orders pass no limits.

        Raises
        ------
        TypeError
            If a class has no field of that name.
        ValueError
            If a value is out of range.
        """
        return cls(
            Costs(**costs),
            limits=Limits(**limits),
            financing=Financing(**financing),
            reward=RewardSettings(**reward),
            risk=None if risk is None else RiskLimits(**risk),
            **trading,
        )

    def __post_init__(self) -> None:
        object.__setattr__(self, "costs", check_costs(self.costs))
        check_ranges(
            self,
            {
                "window_bars": self.window_bars >= 1,
                "episode_bars": self.episode_bars >= 1,
                "initial_cash": self.initial_cash > 0,
                "max_weight": 0 < self.max_weight <= self.limits.max_leverage,
                "ruin_fraction": 0 <= self.ruin_fraction < 1,
                "action_kind": self.action_kind in ACTION_KINDS,
                "min_trade_weight": 0 <= self.min_trade_weight < 1,
                "risk": self.risk is None or isinstance(self.risk, RiskLimits),
                "var_decay": 0 < self.var_decay < 1,
            },
        )
