"""Settings of the multi-agent market: the market itself, the limits of risk, the reward.

Names and defaults are those of the project's first design where they have a
meaning; units are stated here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hftlib.envs.backends import Simulated
from hftlib.envs.desk import Cast, Terms
from hftlib.envs.roles import MarketError, Role, check_ranges
from hftlib.market.flow import FlowParams
from hftlib.market.presets import JAXLOB_FLOW, JAXLOB_VALUE

DAY_S = 23_400.0  # a trading day, seconds


@dataclass(frozen=True)
class MarketSettings:
    """What is traded, how often, at which fees.

    Attributes
    ----------
    tick_size, lot_size : float
        Currency a tick, units a lot.
    decision_ms : float
        Interval between two decisions.
    episode_steps : int
        Decisions after which the clock truncates.
    maker_fee_bps, taker_fee_bps : float
        Basis points of the notional; negative is a rebate.
    volatility : float
        Standard deviation of the value's logarithm over a day of 6.5 hours,
        its jumps not counted; simulated books only.
    mean_reversion_speed : float
        Pull of that logarithm back to its start, 1 / minute; simulated books only.
    """

    tick_size: float = 0.01
    lot_size: float = 1.0
    decision_ms: float = 100.0
    episode_steps: int = 1000
    maker_fee_bps: float = 0.0
    taker_fee_bps: float = 0.0
    volatility: float = 0.02
    mean_reversion_speed: float = 0.05

    def __post_init__(self) -> None:
        check_ranges(
            self,
            whole=["episode_steps"],
            tick_size="(0, inf)",
            lot_size="(0, inf)",
            decision_ms="(0, 3600000]",
            episode_steps="[1, inf)",
            maker_fee_bps="[-100, 1000]",
            taker_fee_bps="[-100, 1000]",
            volatility="[0, 1)",
            mean_reversion_speed="[0, inf)",
        )
        if self.maker_fee_bps + self.taker_fee_bps < 0:
            raise MarketError(
                f"maker_fee_bps {self.maker_fee_bps} and taker_fee_bps {self.taker_fee_bps} pay "
                "traders more than they cost: raise one of them"
            )

    @property
    def decision_s(self) -> float:
        """Interval between two decisions, seconds."""
        return self.decision_ms / 1000.0

    def simulated(
        self, *, flow: FlowParams = JAXLOB_FLOW, warm_up_s: float = 30.0, n_threads: int = 1
    ) -> Simulated:
        """The calibrated market with this volatility and mean reversion."""
        value = JAXLOB_VALUE._replace(
            volatility=self.volatility / DAY_S**0.5,
            reversion_hz=self.mean_reversion_speed / 60.0,
        )
        return Simulated(flow, value, warm_up_s, n_threads)


@dataclass(frozen=True)
class RiskLimits:
    """What an agent may hold and lose; the tighter limit binds.

    Sizes are cut when an order is sent. Agents that reach `max_drawdown` (the
    kill switch) or lose all their money are ended: their orders are cancelled
    and their position is closed at the far side of the spread.

    Attributes
    ----------
    max_inventory : int
        Lots, long or short; makers and takers.
    max_position_value : float
        Currency; makers and takers. At least one lot at the start of each episode.
    max_drawdown : float
        Fall of the equity from its peak that ends an agent, currency.
    initial_cash : float
        Equity at the start, currency.
    """

    max_inventory: int = 1000
    max_position_value: float = 50_000.0
    max_drawdown: float = 10_000.0
    initial_cash: float = 100_000.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            whole=["max_inventory"],
            max_inventory="[1, 100000000]",
            max_position_value="(0, inf)",
            max_drawdown="(0, inf)",
            initial_cash="(0, inf)",
        )
        if self.max_drawdown > self.initial_cash:
            raise MarketError(
                f"max_drawdown {self.max_drawdown} exceeds initial_cash {self.initial_cash}: the "
                "kill switch could never act before ruin; lower it or raise the cash"
            )


@dataclass(frozen=True)
class RewardWeights:
    """Weights of the terms of a step's reward, all of them currency.

    profit + inventory + impact + spread + risk, where

    - profit: change of the equity, fees in;
    - inventory: -lambda_inventory * tick * q^2 / q_max a second, so that a full
      position costs lambda_inventory ticks on each lot a second (an executor's
      q is what is left of its parent order, and q_max that order);
    - impact: lambda_impact * cash flow of the step's trades valued at the mid of the
      decision, where that is negative (the price of taking);
    - spread: lambda_spread * the same where it is positive (the gain of making);
    - risk: -lambda_risk * growth of the drawdown.

    With impact and spread at 0 an episode's rewards sum to its risk-adjusted
    profit; the two are there to shape learning.
    """

    lambda_inventory: float = 0.5
    lambda_impact: float = 0.2
    lambda_spread: float = 0.1
    lambda_risk: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self, **dict.fromkeys(vars(self), "[0, inf)"))


def check_roles(
    roles: dict[str, Role], market: MarketSettings, risk: RiskLimits
) -> dict[str, Role]:
    """Refuse roles that contradict the settings.

    Raises
    ------
    MarketError
        Names the agent, the two values and the remedy.
    """
    if not roles:
        raise MarketError('no agents; pass roles, e.g. {"maker": Maker()}')
    for name, role in roles.items():
        if not isinstance(role, Role):
            raise MarketError(
                f"agent {name!r} is of unknown type {type(role).__name__}; expected Maker, "
                "Executor or Taker"
            )
        if role.latency_ms >= market.decision_ms:
            raise MarketError(
                f"agent {name!r}: latency_ms {role.latency_ms} is not below decision_ms "
                f"{market.decision_ms}; lower it or decide less often"
            )
        if not role.parent_lots and role.max_size > risk.max_inventory:
            raise MarketError(
                f"agent {name!r}: max_size {role.max_size} exceeds max_inventory "
                f"{risk.max_inventory}; lower it or raise the limit"
            )
    return dict(roles)


def cast_of(roles: Sequence[Role]) -> Cast:
    """The roles as the kernels take them."""
    return Cast(
        np.array([role.code for role in roles], dtype=np.int64),
        np.array([role.reach_ticks for role in roles], dtype=np.float64),
        np.array([role.max_skew_ticks for role in roles], dtype=np.float64),
        np.array([role.max_size for role in roles], dtype=np.int64),
        np.array([role.parent_lots for role in roles], dtype=np.int64),
        np.array([role.latency_ms / 1000.0 for role in roles], dtype=np.float64),
    )


def terms_of(
    market: MarketSettings,
    risk: RiskLimits,
    reward: RewardWeights,
    is_in_book: bool,
    prices_at_value: bool,
) -> Terms:
    """The settings as the kernels take them."""
    return Terms(
        unit=float(market.tick_size * market.lot_size),
        decision_s=float(market.decision_s),
        maker_fee=market.maker_fee_bps / 1e4,
        taker_fee=market.taker_fee_bps / 1e4,
        max_inventory=float(risk.max_inventory),
        max_position_value=float(risk.max_position_value),
        max_drawdown=float(risk.max_drawdown),
        initial_cash=float(risk.initial_cash),
        **{name: float(weight) for name, weight in vars(reward).items()},
        n_steps=market.episode_steps,
        is_in_book=is_in_book,
        prices_at_value=prices_at_value,
    )
