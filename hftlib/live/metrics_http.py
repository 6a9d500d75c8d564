"""Counters of the service in Prometheus' text format.

Labels take few values: the route as it is declared, never the path that came.
"""

import math
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCY_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
BATCH = (1, 2, 5, 10, 20, 50, 100, 200, 500)
PAPER = {
    "paper_equity": "Equity of paper trading, in the account's currency",
    "paper_drawdown": "Fall from the highest equity, share of it",
    "paper_halted": "1 while paper trading is halted",
    "paper_fills": "Orders that traded, since the account was opened",
    "drift": "1 if the newest bars differ from those of the training",
}
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters of one application, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "hftlib_requests_total",
            "Requests answered",
            ("route", "method", "status"),
            registry=registry,
        )
        self.latency = Histogram(
            "hftlib_request_seconds",
            "From the first byte to the answer",
            ("route",),
            buckets=LATENCY_S,
            registry=registry,
        )
        self.refused = Counter(
            "hftlib_refused_total", "Requests refused, by code", ("code",), registry=registry
        )
        self.predictions = Counter(
            "hftlib_predictions_total", "Symbols answered", ("model",), registry=registry
        )
        self.batch = Histogram(
            "hftlib_batch_items",
            "Symbols the model answered at once",
            buckets=BATCH,
            registry=registry,
        )
        self.in_flight = Gauge("hftlib_in_flight", "Requests being worked on", registry=registry)
        self.waiting = Gauge(
            "hftlib_waiting_items", "Symbols waiting for the model", registry=registry
        )
        self.streams = Gauge("hftlib_streams", "Clients of the live stream", registry=registry)
        self.dropped = Counter(
            "hftlib_streams_dropped_total", "Clients dropped as too slow", registry=registry
        )
        self.model = Gauge(
            "hftlib_model", "1 for the active model", ("name", "version"), registry=registry
        )
        self.jobs = Counter(
            "hftlib_backtests_total", "Backtests ended", ("status",), registry=registry
        )

        self.paper = {
            name: Gauge(f"hftlib_{name}", about, registry=registry) for name, about in PAPER.items()
        }
        self.forget_paper()

    def name_model(self, name: str, version: str) -> None:
        """Make it the active one."""
        self.model.clear()
        self.model.labels(name, version).set(1)

    def show_paper(self, snapshot: Mapping[str, Any]) -> None:
        """Set the gauges of paper trading from `PaperView.snapshot`; nan for what it leaves out.

        Entries of another kind are an error (`TypeError`, `ValueError`, `AttributeError`) that
        leaves all gauges nan.
        """
        self.forget_paper()
        standing, drift = snapshot.get("standing") or {}, snapshot.get("drift") or {}
        traded, halted = snapshot.get("statistics") or {}, snapshot.get("halted")
        found = {
            "paper_equity": standing.get("equity", math.nan),
            "paper_drawdown": standing.get("drawdown", math.nan),
            "paper_halted": math.nan if halted is None else bool(halted),
            "paper_fills": traded.get("n_trades", math.nan),
            "drift": drift.get("is_drift", math.nan),
        }
        values = {name: float(value) for name, value in found.items()}
        for name, value in values.items():
            self.paper[name].set(value)

    def forget_paper(self) -> None:
        """Nothing is known of paper trading, which no alert takes for a calm account."""
        for gauge in self.paper.values():
            gauge.set(math.nan)

    def text(self) -> bytes:
        """All counters, for a scrape."""
        return generate_latest(self._registry)
