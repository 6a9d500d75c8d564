"""A circuit breaker: stops opening trades when something is wrong, and tries again later.

closed → open when drawdown, daily loss, losses in a row or the age of the data pass a limit.
open → half open after the cool-down, if no limit is passed any more; else it stays open for
another. half open → closed after a trade that does not lose, → open after one that does, or
when a limit is passed again.

Pure functions of a state and an explicit clock. Whether orders may open is `is_halted`, which
goes into `risk_state.build_state`.

Source: Nygard (2018), Release It!, 2nd ed., ch. 5, for the pattern.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, get_args

from hftlib.portfolio.risk_state import RiskError

Phase = Literal["closed", "open", "half_open"]


@dataclass(frozen=True)
class BreakerRules:
    """When the breaker trips and for how long.

    Attributes
    ----------
    max_drawdown, max_daily_loss : float
        Shares; beyond trips.
    max_losses : int
        Losing trades in a row that trip.
    max_age_ns : int
        Age of the newest data beyond which they are stale.
    cooldown_ns : int
    """

    max_drawdown: float = 0.10
    max_daily_loss: float = 0.03
    max_losses: int = 5
    max_age_ns: int = 60 * 10**9
    cooldown_ns: int = 15 * 60 * 10**9

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise RiskError(f"{name} is {value}; expected above 0")


@dataclass(frozen=True)
class Breaker:
    """Phase and memory of a breaker; plain values, so that it can be kept as JSON."""

    phase: Phase = "closed"
    reason: str = ""  # of the last trip, "" when closed
    opened_ns: int = 0
    losses: int = 0  # in a row
    clock_ns: int = 0  # of the last call
    n_trips: int = 0

    @property
    def is_halted(self) -> bool:
        """Whether only orders that reduce may be sent."""
        return self.phase == "open"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Back from `to_dict`.

        Raises
        ------
        RiskError
            If a field is missing, unknown, or the phase is none.
        """
        try:
            breaker = cls(**values)
        except TypeError as error:
            raise RiskError(f"these are no fields of a breaker: {sorted(values)}") from error
        if breaker.phase not in get_args(Phase):
            raise RiskError(f"phase is {breaker.phase!r}; expected one of {get_args(Phase)}")
        return breaker


def update_breaker(
    breaker: Breaker,
    rules: BreakerRules,
    *,
    now_ns: int,
    data_ns: int,
    drawdown: float,
    daily_loss: float,
) -> Breaker:
    """Look at the account and the data now.

    Parameters
    ----------
    now_ns, data_ns : int
        The clock, and the time of the newest data; nanoseconds.
    drawdown, daily_loss : float
        Shares, as `RiskState` has them.

    Raises
    ------
    RiskError
        If the clock goes back, data come from the future, or a share is not finite.
    """
    breaker = _tick(breaker, now_ns)
    if data_ns > now_ns:
        raise RiskError(f"data_ns {data_ns} is after now_ns {now_ns}; expected one clock for both")
    if not (math.isfinite(drawdown) and math.isfinite(daily_loss)):
        raise RiskError(f"drawdown is {drawdown} and daily_loss {daily_loss}; expected numbers")
    reason = ""
    if drawdown > rules.max_drawdown:
        reason = "drawdown"
    elif daily_loss > rules.max_daily_loss:
        reason = "daily loss"
    elif now_ns - data_ns > rules.max_age_ns:
        reason = "stale data"
    if breaker.phase == "open":
        if now_ns - breaker.opened_ns < rules.cooldown_ns:
            return breaker
        if reason:
            return replace(breaker, reason=reason, opened_ns=now_ns)
        return replace(breaker, phase="half_open")
    return _trip(breaker, reason) if reason else breaker


def record_result(breaker: Breaker, rules: BreakerRules, *, now_ns: int, profit: float) -> Breaker:
    """Count a closed trade's profit (currency): below 0 is a loss.

    While the breaker is open, trades that close count towards the losses in a row but change no
    phase.

    Raises
    ------
    RiskError
        If the clock goes back or the profit is not finite.
    """
    breaker = _tick(breaker, now_ns)
    if not math.isfinite(profit):
        raise RiskError(f"profit is {profit}; expected a finite number")
    breaker = replace(breaker, losses=breaker.losses + 1 if profit < 0 else 0)
    if breaker.phase == "half_open":
        if profit < 0:
            return _trip(breaker, "loss when half open")
        return replace(breaker, phase="closed", reason="")
    if breaker.phase == "closed" and breaker.losses >= rules.max_losses:
        return _trip(breaker, "losses in a row")
    return breaker


def _trip(breaker: Breaker, reason: str) -> Breaker:
    return replace(
        breaker,
        phase="open",
        reason=reason,
        opened_ns=breaker.clock_ns,
        n_trips=breaker.n_trips + 1,
    )


def _tick(breaker: Breaker, now_ns: int) -> Breaker:
    if now_ns < breaker.clock_ns:
        raise RiskError(
            f"now_ns {now_ns} is before {breaker.clock_ns}, that of the last call; sort events by "
            "time"
        )
    return replace(breaker, clock_ns=now_ns)
