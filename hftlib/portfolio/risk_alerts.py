"""Warnings before a limit is reached, as data."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hftlib.portfolio.risk_state import RiskError, RiskState


@dataclass(frozen=True)
class AlertLevels:
    """Values above which an alert is given, shares.

    Attributes
    ----------
    drawdown : float
        Fall from the highest equity.
    daily_loss : float
        Fall since the start of the day.
    concentration : float
        Largest position, of equity.
    """

    drawdown: float = 0.05
    daily_loss: float = 0.02
    concentration: float = 0.15

    def __post_init__(self) -> None:
        for name, level in vars(self).items():
            if not level > 0:
                raise RiskError(f"alert level {name} is {level}; expected above 0")


class Alert(NamedTuple):
    """`name` is a field of AlertLevels, `place` the account or a symbol."""

    ts_ns: int
    name: str
    place: str
    value: float
    level: float


def find_alerts(state: RiskState, levels: AlertLevels) -> tuple[Alert, ...]:
    """Alerts of this moment: drawdown, daily loss, each position that is too large."""
    found = [
        ("drawdown", "account", state.drawdown, levels.drawdown),
        ("daily_loss", "account", state.daily_loss, levels.daily_loss),
    ]
    for symbol, weight in zip(state.symbols, np.abs(state.weights), strict=True):
        found.append(("concentration", symbol, float(weight), levels.concentration))
    return tuple(Alert(state.ts_ns, *entry) for entry in found if entry[2] > entry[3])
