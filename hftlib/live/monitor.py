"""What others may see of paper trading while it runs.

The engine's thread builds a snapshot after it has traded a moment, and puts it in the place of
the one before; any other thread gets the newest at once, and never touches account, file or
venues. A snapshot is of one instant: cash and positions at its prices are its equity.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from hftlib.live.monitor_history import MonitorHistory
from hftlib.live.monitor_views import (
    measure_limits,
    to_plain,
    view_books,
    view_positions,
    view_standing,
)
from hftlib.live.paper import PaperEngine

BURST = 3  # snapshots in a row; a close and the open after it are a nanosecond apart


class PaperMonitor:
    """A view of an engine for other threads; to be made in the engine's own.

    Parameters
    ----------
    engine : PaperEngine
        Its `on_moment` and `on_change` are set.
    model : callable, optional
        `name` and `version` of what trades, or None; called by the threads that look.
    every_s : float
        Seconds between two snapshots on average, three in a row at most; halts and ends are
        shown at once.
    """

    def __init__(
        self,
        engine: PaperEngine,
        *,
        model: Callable[[], Mapping[str, Any] | None] | None = None,
        every_s: float = 0.25,
    ) -> None:
        self._engine, self._model, self._every_s = engine, model, every_s
        self._drift: Any = None
        desk = engine.desk
        self._history = MonitorHistory(desk.store.database, float(desk.rules.cash))
        self._left, self._seen_s = float(BURST), time.monotonic()
        engine.on_moment, engine.on_change = self._history.see, self._refresh
        self._snapshot = self._build()

    def snapshot(self) -> dict[str, Any]:
        """The newest state, of any thread; not to be changed.

        Returns
        -------
        dict
            ts_ns, halted, model, breaker, standing, positions, equity, prices, books,
            fills, orders, checks, alerts, limits, statistics, drift: numbers, text and None, as
            JSON has them; None where something is not known or not defined. Rows are the newest,
            oldest first; shares are not percent.
        """
        engine = self._engine
        return self._snapshot | {
            "halted": engine.halted or engine.switch.asked,
            "model": None if self._model is None else to_plain(self._model()),
            "drift": self._drift,
        }

    def set_drift(self, report: Mapping[str, Any]) -> None:
        """Show what was found about drift, from any thread."""
        self._drift = to_plain(report)

    def _refresh(self, at_once: bool) -> None:
        now_s = time.monotonic()
        self._left = min(self._left + (now_s - self._seen_s) / self._every_s, BURST)
        self._seen_s = now_s
        if at_once or self._left >= 1:
            self._left = max(self._left - 1, 0.0)
            self._snapshot = self._build()

    def _build(self) -> dict[str, Any]:
        engine, history = self._engine, self._history
        desk = engine.desk
        with suppress(sqlite3.Error):  # what was read before is still shown, and trading goes on
            history.read()
        account = {"fees": float(desk.account.fees), "realised": float(desk.account.realised)}
        return to_plain(
            {
                "ts_ns": engine.cursor_ns,
                "breaker": desk.breaker.to_dict(),
                "standing": view_standing(desk),
                "positions": view_positions(desk),
                "equity": list(history.equity),
                "prices": history.prices,
                "books": view_books(desk),
                "fills": list(history.fills),
                **history.words,
                "limits": measure_limits(desk),
                "statistics": history.measure() | account,
            }
        )
