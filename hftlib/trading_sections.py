"""Sections of `params.yaml` about an account that trades bars: costs, rules, limits, reward.

But for their bounds they are `portfolio.costs.Costs`, `envs.trading_rules` and
`envs.rewards.RewardSettings`, which say more about each field; `uses_risk_limits` switches
`risk_limits` on in every environment and backtest that takes these rules.
"""

from typing import Annotated, Literal

from pydantic import Field

from hftlib.sections import Integer, Number, Section

Rate = Annotated[Number, Field(ge=0, lt=10_000)]
Weight = Annotated[Number, Field(ge=0)]


class Costs(Section):
    fee_bps: Rate = Field(description="fee, bp of traded notional")
    spread_bps: Rate = Field(description="full bid-ask spread, bp of mid; a trade pays half")
    slippage_bps: Rate = Field(description="further adverse move of the fill price, bp of mid")
    impact_bps: Rate = Field(
        description="adverse move by an order as large as a bar's volume, bp of mid; smaller ones "
        "move by the square root of their share"
    )


class Trading(Section):
    window_bars: Annotated[Integer, Field(ge=1)] = Field(description="bars in one observation")
    episode_bars: Annotated[Integer, Field(ge=2)] = Field(
        description="length of a training episode, bars"
    )
    initial_cash: Annotated[Number, Field(gt=0)] = Field(description="starting equity, currency")
    max_weight: Annotated[Number, Field(gt=0)] = Field(
        description="largest position, as a share of equity; at most trading_limits.max_leverage"
    )
    min_trade_weight: Annotated[Number, Field(ge=0, lt=1)] = Field(
        description="smaller changes of a target weight are not traded, share of equity"
    )
    allow_short: Annotated[bool, Field(strict=True)] = Field(description="may sell from flat")
    ruin_fraction: Annotated[Number, Field(ge=0, lt=1)] = Field(
        description="equity at or below this share of initial_cash ends the episode"
    )
    shows_drawdown: Annotated[bool, Field(strict=True)] = Field(
        description="the observation has the drawdown so far"
    )
    uses_risk_limits: Annotated[bool, Field(strict=True)] = Field(
        description="orders pass the limits of risk_limits; no symbol has a sector"
    )


class TradingLimits(Section):
    max_leverage: Annotated[Number, Field(gt=0)] = Field(
        description="long plus short, as a multiple of equity; larger orders are scaled down"
    )
    maintenance_fraction: Annotated[Number, Field(ge=0, lt=1)] = Field(
        description="equity below this share of long plus short is a margin call: all is closed "
        "and the episode ends; 0 is none"
    )
    max_drawdown: Annotated[Number, Field(gt=0, le=1)] = Field(
        description="fall from the highest equity that ends the episode, share of it; 1 is none"
    )


class TradingFinancing(Section):
    borrow_bps: Weight = Field(description="bp a year on what is sold short")
    interest_bps: Weight = Field(description="bp a year on negative cash")


class TradingReward(Section):
    kind: Literal[
        "simple", "risk_adjusted", "sharpe", "differential_sharpe", "sortino", "hybrid"
    ] = Field(description="formula of the reward; all start from the log growth of the equity")
    window_bars: Annotated[Integer, Field(ge=1)] = Field(
        description="last steps that deviations and means are taken over"
    )
    cost_weight: Weight = Field(description="risk_adjusted: weight of costs; 1 counts them once")
    volatility_weight: Weight = Field(description="risk_adjusted: weight of the deviation")
    drawdown_weight: Weight = Field(description="risk_adjusted: weight of the drawdown")
    adaptation_rate: Annotated[Number, Field(gt=0, le=1)] = Field(
        description="differential_sharpe: weight of the newest step in its averages"
    )
    volatility_floor: Annotated[Number, Field(gt=0)] = Field(
        description="least deviation that a mean is divided by, log growth a bar"
    )
    accuracy_weight: Weight = Field(description="hybrid: gain of following a right forecast")
    sizing_weight: Weight = Field(
        description="hybrid: charge for the squared distance from the position that forecast and "
        "uncertainty call for"
    )
    full_ratio: Annotated[Number, Field(gt=0)] = Field(
        description="hybrid: forecast over uncertainty that calls for a full position"
    )
