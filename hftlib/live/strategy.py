"""What trades on paper: targets from moments, asked for and checked."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from hftlib.live.ticks import Moment
from hftlib.portfolio.positions import Account
from hftlib.portfolio.risk import RiskLimits, propose_exits
from hftlib.portfolio.risk_state import build_state


class StrategyError(RuntimeError):
    """A strategy that failed, or asked for what cannot be."""


class AccountView(NamedTuple):
    """What a strategy may know of its account."""

    equity: float
    units: Mapping[str, float]
    is_halted: bool


class Strategy(Protocol):
    """Targets from moments; after a restart it is shown the past again by `observe`."""

    def observe(self, moment: Moment) -> None:
        """Take a moment in; each is shown once, in order, before any `decide` at it."""

    def decide(self, moment: Moment, account: AccountView) -> Mapping[str, float]:
        """Targets by symbol, in the unit of the rules' sizing; nan or none leaves a position."""


def show_moment(strategy: Strategy, moment: Moment) -> None:
    """Let the strategy observe a moment; `StrategyError` if it raises anything."""
    try:
        strategy.observe(moment)
    except Exception as error:  # a strategy is anybody's code: whatever it raises must halt
        raise StrategyError(f"{type(error).__name__}: {error}") from error


def ask_targets(
    strategy: Strategy, moment: Moment, account: AccountView, symbols: Sequence[str]
) -> dict[str, float]:
    """The strategy's targets, without those that are nan.

    Raises
    ------
    StrategyError
        If it raises anything, or a target is infinite or of an unknown symbol.
    """
    try:
        targets = {s: float(v) for s, v in strategy.decide(moment, account).items()}
    except Exception as error:  # as above
        raise StrategyError(f"{type(error).__name__}: {error}") from error
    for symbol, target in targets.items():
        if symbol not in symbols or math.isinf(target):
            raise StrategyError(
                f"target {target} of {symbol!r}; expected a finite number, or nan, of one of "
                f"{', '.join(symbols)}"
            )
    return {symbol: target for symbol, target in targets.items() if not math.isnan(target)}


def find_exits(
    account: Account, marks: Mapping[str, float], equity: float, limits: RiskLimits
) -> list[str]:
    """Symbols whose position is beyond its stop loss or take profit."""
    held = {s: account.positions[s] for s in marks if account.units(s) != 0}
    state = build_state(
        prices=marks,
        units={symbol: float(position.units) for symbol, position in held.items()},
        entry_prices={s: float(p.average_cost) for s, p in held.items() if p.average_cost},
        equity=equity,
    )
    return [found.order.symbol for found in propose_exits(state, limits)]
