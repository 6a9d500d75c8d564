"""Paper trading that never trades: a seeded snapshot of every part, moved on by hand or clock.

`python -m tests.dashboard_cases` serves the page with it, one step a second, on `PORT`.
"""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from hftlib.live.service import create_app, make_server, run
from hftlib.live.settings import ServiceSettings
from tests.live_cases import AUTH, TOKEN, FakePredictor, FakeStore, make_bar

START_NS = 1_767_610_800 * 10**9  # 2026-01-05 11:00 UTC
BAR_NS = 60 * 10**9
SYMBOLS = {"SP500": 6880.0, "NASDAQ": 23_450.0, "GOLD": 4310.0, "CRUDE": 57.4, "EURUSD": 1.1742}
VENUES = ("north", "south", "east")
CASH = 100_000.0
BROWSERS = ("chromium", "google-chrome", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
PHONE = {"viewport": {"width": 375, "height": 812}, "is_mobile": True, "has_touch": True}
DASH = "\N{EN DASH}"  # what the page shows for null
COLUMNS = ("returns", "volatility", "spread", "imbalance", "microprice", "rsi_14", "macd", "atr_14")


class FakeDesk:
    """A `PaperView` with the whole contract of `GET /paper`.

    Parameters
    ----------
    seed : int
    n_bars : int
        Bars behind it at the start.
    has_traded : bool
        Whether there are fills, checks and alerts yet.
    moves : bool
        Whether every snapshot is one bar later than the one before.
    symbols : mapping of name to first price
    """

    def __init__(self, seed=7, n_bars=240, *, has_traded=True, moves=False, symbols=SYMBOLS):
        self.symbols = dict(symbols)
        self.rng = np.random.default_rng(seed)
        self.halted = ""
        self.state = "running"  # of the session
        self.moves = moves
        self.has_traded = has_traded
        self.error: Exception | None = None
        self.n = 0
        self.closes = {name: [price] for name, price in self.symbols.items()}
        self.volumes = {name: [1000.0] for name in self.symbols}
        self.units = dict.fromkeys(self.symbols, 0.0)
        self.costs = dict.fromkeys(self.symbols, 0.0)
        self.cash, self.fees, self.realised, self.peak = CASH, 0.0, 0.0, CASH
        self.equity, self.fills, self.orders, self.checks, self.alerts = [], [], [], [], []
        for _ in range(n_bars):
            self.step()

    @property
    def ts_ns(self):
        return START_NS + self.n * BAR_NS

    def step(self):
        """One bar on: prices move, and now and then something trades."""
        self.n += 1
        for name, closes in self.closes.items():
            scale = 2e-4 if name == "EURUSD" else 9e-4
            closes.append(closes[-1] * float(np.exp(scale * self.rng.standard_normal())))
            self.volumes[name].append(float(self.rng.gamma(4, 250)))
        if self.has_traded and self.n % 7 == 0 and not self.halted:
            self._trade()
        value = self._value()
        self.peak = max(self.peak, value)
        self.equity.append(
            {"ts_ns": self.ts_ns, "equity": value, "drawdown": 1 - value / self.peak}
        )

    def _value(self):
        held = sum(self.units[name] * self.closes[name][-1] for name in self.symbols)
        return self.cash + held

    def _trade(self):
        name = str(self.rng.choice(list(self.symbols)))
        mark = self.closes[name][-1]
        target = float(self.rng.uniform(-0.09, 0.09))
        wanted = target * self._value() / mark - self.units[name]
        allowed = wanted * (0.5 if self.n % 21 == 0 else 1.0)
        slip_bps = float(abs(self.rng.normal(0.8, 0.6)))
        sign = 1.0 if allowed > 0 else -1.0
        price = mark * (1 + sign * slip_bps * 1e-4)
        fee = abs(allowed) * price * 1e-4
        venue = VENUES[self.n % 3]
        before = self.units[name]
        closed = min(abs(before), abs(allowed)) if before * allowed < 0 else 0.0
        self.realised -= sign * closed * (price - self.costs[name])
        if before * allowed >= 0:
            whole = before + allowed
            self.costs[name] = (before * self.costs[name] + allowed * price) / whole
        elif abs(allowed) > abs(before):
            self.costs[name] = price
        self.units[name] += allowed
        self.cash -= allowed * price + fee
        self.fees += fee
        reasons = "max_position: 0.10 of equity in one symbol" if allowed != wanted else ""
        self.checks.append(
            {
                "ts_ns": self.ts_ns,
                "symbol": name,
                "action": "resize" if reasons else "accept",
                "asked": wanted,
                "allowed": allowed,
                "reasons": reasons,
            }
        )
        self.fills.append(
            {
                "ts_ns": self.ts_ns,
                "symbol": name,
                "venue": venue,
                "quantity": allowed,
                "price": price,
                "fee": fee,
                "mark": mark,
                "slippage_bps": slip_bps,
            }
        )
        self.orders.append(
            {
                "client_id": f"o-{self.n}",
                "symbol": name,
                "venue": venue,
                "quantity": allowed,
                "limit_price": price * 1.0005,
                "kind": "limit",
                "status": "filled",
                "filled": allowed,
                "sent_ns": self.ts_ns,
                "reason": "",
            }
        )
        if self.n % 49 == 0:
            text = f"{venue} answered after 2.4 s; expected below 1 s"
            self.alert("slow_venue", text)

    def alert(self, name, text):
        self.alerts.append({"ts_ns": self.ts_ns, "name": name, "text": text})

    def _book(self, price, k):
        rng = np.random.default_rng([self.n, k])
        tick = price * 1e-4
        middle = price + tick * float(rng.normal(0, 0.3))
        return {
            side: [
                [middle + sign * tick * (level + 0.6), float(rng.gamma(3, 40 + 15 * level))]
                for level in range(10)
            ]
            for side, sign in (("bids", -1), ("asks", 1))
        }

    def snapshot(self):
        if self.error is not None:
            raise self.error
        if self.moves:
            self.step()
        value, last = self._value(), self.equity[-1]
        day = self.equity[min(60, self.n - 1)]["equity"]
        weights = {name: self.units[name] * self.closes[name][-1] / value for name in self.symbols}
        gross = sum(map(abs, weights.values()))
        used = {
            "max_drawdown": (last["drawdown"], 0.02),
            "max_daily_loss": (max(0.0, 1 - value / day), 0.03),
            "max_leverage": (gross, 0.4),
            "max_position": (max(map(abs, weights.values())), 0.1),
            "max_sector": (sum(map(abs, list(weights.values())[:2])), 0.3),
            "max_var": (0.0042 if self.has_traded else None, 0.02),
            "max_daily_trades": (float(len(self.fills)), 100.0),
            "max_daily_volume": (
                sum(abs(f["quantity"] * f["price"]) for f in self.fills) / CASH,
                None,
            ),
        }
        return {
            "ts_ns": self.ts_ns,
            "halted": self.halted,
            "session": {"name": "replay of 2026-01-05", "speed": 60.0, "state": self.state},
            "model": {"name": "alpha", "version": "1"},
            "breaker": {"phase": "closed", "reason": "", "opened_ns": 0, "losses": 1, "n_trips": 0},
            "standing": {
                "equity": value,
                "cash": self.cash,
                "peak_equity": self.peak,
                "day_equity": day,
                "drawdown": last["drawdown"],
                "daily_loss": max(0.0, 1 - value / day),
                "volume_today": sum(abs(f["quantity"] * f["price"]) for f in self.fills),
                "trades_today": len(self.fills),
                "initial_cash": CASH,
            },
            "positions": [self._position(name, weights[name]) for name in self.symbols],
            "equity": self.equity[-300:],
            "prices": {name: self._bars(name) for name in self.symbols},
            "books": {
                name: {
                    venue: self._book(closes[-1], k)
                    for k, venue in enumerate(VENUES[: 1 if name == "EURUSD" else 3])
                }
                for name, closes in self.closes.items()
            },
            "fills": self.fills[-100:],
            "orders": self.orders[-50:],
            "checks": self.checks[-50:],
            "alerts": self.alerts[-50:],
            "limits": [{"name": k, "used": u, "limit": limit} for k, (u, limit) in used.items()],
            "statistics": self._statistics(),
            "drift": self._drift(),
        }

    def _position(self, name, weight):
        units, price = self.units[name], self.closes[name][-1]
        return {
            "symbol": name,
            "units": units,
            "average_cost": self.costs[name] if units else None,
            "price": price,
            "value": units * price,
            "weight": weight,
            "unrealised": units * (price - self.costs[name]),
        }

    def _bars(self, name):
        first = max(0, len(self.closes[name]) - 300)
        rows = zip(self.closes[name][first:], self.volumes[name][first:], strict=True)
        return [
            {"ts_ns": START_NS + (first + k) * BAR_NS, "close": close, "volume": volume}
            for k, (close, volume) in enumerate(rows)
        ]

    def _statistics(self):
        if not self.has_traded:
            empty = dict.fromkeys(("win_rate", "sharpe", "max_drawdown", "turnover", "realised"))
            return {**empty, "n_trades": 0, "fees": 0.0, "n_bars": self.n}
        return {
            "n_trades": len(self.fills),
            "win_rate": 0.5294,
            "sharpe": 0.84,
            "max_drawdown": max(row["drawdown"] for row in self.equity),
            "turnover": sum(abs(f["quantity"] * f["price"]) for f in self.fills) / CASH,
            "fees": self.fees,
            "realised": self.realised,
            "n_bars": self.n,
        }

    def _drift(self):
        if not self.has_traded:
            return None
        rng = np.random.default_rng(3)
        p = np.sort(rng.uniform(0.02, 1.0, len(COLUMNS)))
        p[0] = 0.004
        columns = [
            {"name": name, "psi": 0.22 / (k + 1), "ks": 0.19 / (k + 1), "ks_p": float(p[k])}
            for k, name in enumerate(COLUMNS)
        ]
        about = {"is_drift": True, "level": 0.05, "mmd_p": 0.21, "n_current": 200}
        return {**about, "columns": columns, "ts_ns": self.ts_ns - 10 * BAR_NS}

    def halt(self, reason, flatten=False):
        self.halted = reason

    def resume(self, who):
        self.halted = ""


def make_store():
    return FakeStore(FakePredictor(symbols=tuple(SYMBOLS)))


class Service:
    """A server in a thread of this process, so that a test holds the desk that it shows."""

    def __init__(self, paper=None, store=None, port=0, **settings):
        settings = {"token": TOKEN, "heartbeat_s": 0.5} | settings
        app = create_app(store or make_store(), ServiceSettings(**settings), paper)
        self.runtime = app.state.runtime
        self._server = make_server(app, port)
        self._server.config.timeout_graceful_shutdown = 1
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError(f"no server on port {port}; is it taken?")
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def stop(self):
        self._server.should_exit = True
        self._thread.join(10)


@contextmanager
def shown(paper=None, **options) -> Iterator[Service]:
    """A service, ended at the end."""
    service = Service(paper, **options)
    try:
        yield service
    finally:
        service.stop()


def push(service, n_bars=4):
    """Bars of every symbol on the model's streams, so that it predicts."""
    for k in range(n_bars):
        for symbol in SYMBOLS:
            body = {"symbol": symbol, "bars": [make_bar(k, 100.0 + k)]}
            assert httpx.post(f"{service.address}/predict", json=body, headers=AUTH).is_success


def launch():
    """A browser, for a fixture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def visits(browser):
    """A function that opens a service's page, for a fixture; what failed is in `page.faults`."""
    contexts = []

    def visit(service, before=None, **options):
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.faults, page.asked = [], []
        page.on("console", lambda said: page.faults.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("requestfailed", lambda request: page.faults.append(f"failed: {request.url}"))
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("websocket", lambda socket: page.asked.append(socket.url))
        if before is not None:
            before(page)
        page.goto(service.address)
        return page

    yield visit
    for context in contexts:
        context.close()


def fill_in(page, name, token=TOKEN, **fields):
    """Fill in the open dialog `name` of a page, confirm and send."""
    for field, text in {**fields, "token": token}.items():
        page.fill(f"#{name}-{field}", text)
    page.check(f"#{name}-sure")
    page.click(f"#{name}-send")


def main() -> None:
    kind = os.environ.get("DESK", "moving")
    desk = None if kind == "none" else FakeDesk(has_traded=kind != "fresh", moves=True)
    run(make_store(), ServiceSettings.from_environment(), desk)


if __name__ == "__main__":
    main()
