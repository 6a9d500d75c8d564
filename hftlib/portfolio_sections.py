"""Sections of `params.yaml` about many assets: limits of an account, allocation, tail risk.

`RiskLimits` is `portfolio.risk.RiskLimits` but for its bounds, which says more about each field.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from hftlib.sections import Day, Distinct, Integer, Number, Section

Share = Annotated[Number, Field(gt=0, lt=1)]
Above = Annotated[Number, Field(gt=0)]
Bars = Annotated[Integer, Field(ge=1)]
TailLevel = Annotated[Number, Field(gt=0.5, lt=1)]


class RiskLimits(Section):
    max_var: Above = Field(description="value at risk of one bar, share of equity")
    var_level: TailLevel = Field(description="its confidence")
    max_drawdown: Above = Field(description="fall from the highest equity, share of it")
    max_leverage: Above = Field(description="long plus short, multiple of equity")
    max_position: Above = Field(description="one symbol, share of equity")
    max_sector: Above = Field(description="long plus short in one sector, share of equity")
    stop_loss: Above = Field(description="loss at which an exit is proposed, share of the entry")
    take_profit: Above = Field(description="gain at which one is, share of the entry")
    max_daily_trades: Bars = Field(description="trades a day")
    max_daily_volume: Above = Field(
        description="traded notional of a day, multiple of the equity at its start"
    )
    max_daily_loss: Above = Field(description="fall since the start of the day, share")


class PortfolioRisk(Section):
    first_day: Day = Field(description="first day of the stocks; decisions begin a lookback later")
    last_day: Day = Field(description="last day of the stocks")
    lookback_bars: Annotated[Integer, Field(ge=60)] = Field(
        description="returns that a decision sees, bars"
    )
    max_weight: Annotated[Number, Field(gt=0, le=1)] = Field(
        description="largest target weight of a stock"
    )
    max_sector: Annotated[Number, Field(gt=0, le=1)] = Field(
        description="largest sum of target weights in a sector"
    )
    max_turnover: Above = Field(
        description="largest sum of |weight traded| at a decision; 0.5 sells a quarter of all "
        "and buys as much"
    )
    drift_threshold: Share = Field(
        description="distance of a weight from its target that calls for a decision"
    )
    cvar_level: TailLevel = Field(description="confidence of mean-CVaR's expected shortfall")
    cvar_aversion: Annotated[Number, Field(ge=0)] = Field(
        description="weight of the shortfall against the mean return of a bar"
    )
    kelly_fraction: Annotated[Number, Field(gt=0, le=1)] = Field(
        description="share of the full Kelly weights"
    )
    view_bars: Bars = Field(description="bars between two decisions on the forecaster's views")
    view_scales: Annotated[tuple[Above, ...], Field(min_length=1), Distinct] = Field(
        description="factors on the forecaster's standard deviations; below 1 it is believed more"
    )
    var_levels: Annotated[tuple[TailLevel, ...], Field(min_length=1), Distinct] = Field(
        description="confidences of the tested value at risk"
    )
    var_window_bars: Annotated[Integer, Field(ge=100)] = Field(
        description="returns that a forecast of the tail looks at, bars"
    )
    var_refit_bars: Bars = Field(description="bars between two estimates of a tail model")
    worst_bars: Annotated[tuple[Bars, ...], Field(min_length=1), Distinct] = Field(
        description="lengths of the worst windows to find, bars"
    )
    max_losses: Bars = Field(description="losing days in a row that trip the circuit breaker")
    cooldown_days: Bars = Field(description="calendar days that the breaker stays open at least")
    n_bootstrap: Annotated[Integer, Field(ge=20)] = Field(
        description="stationary-bootstrap samples behind each interval"
    )
    confidence: TailLevel = Field(description="level of the intervals; 1 less it, of the tests")

    @model_validator(mode="after")
    def _span_is_a_span(self) -> Self:
        if self.first_day >= self.last_day:
            raise ValueError(f"first_day {self.first_day} must lie before last_day {self.last_day}")
        return self
