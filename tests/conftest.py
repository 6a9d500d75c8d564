"""Fixtures: small panels and bars with known content."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from hftlib.data.panel import BarPanel
from hftlib.envs import TradingRules
from hftlib.portfolio.costs import Costs

ROOT = Path(__file__).parents[1]
# The first example of a compiled function includes its compilation: time is no verdict here.
settings.register_profile("hftlib", deadline=None)
settings.load_profile("hftlib")

SHARED_DATA = ROOT.parent / "shared/data"


def make_panel(n_bars: int = 400, n_features: int = 3, seed: int = 0, n_symbols: int = 2):
    """Random walks with overnight gaps; features are noise within the scaler's bounds."""
    rng = np.random.default_rng(seed)
    n_rows = n_bars * n_symbols
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n_rows)))
    edges = np.arange(n_symbols + 1) * n_bars
    return BarPanel(
        symbols=tuple(f"S{k}" for k in range(n_symbols)),
        segments=np.stack([edges[:-1], edges[1:]], axis=1),
        ts=np.tile(np.arange(n_bars) * 86_400_000_000_000, n_symbols),
        open=close * np.exp(rng.normal(0, 0.003, n_rows)),
        close=close,
        features=np.clip(rng.normal(size=(n_rows, n_features)), -9, 9).astype(np.float32),
        feature_names=tuple(f"f{k}" for k in range(n_features)),
    )


def make_bars(n_bars: int = 300, symbols: tuple[str, ...] = ("AAA",), seed: int = 0):
    """Valid bars as `schema.BARS`, daily."""
    rng = np.random.default_rng(seed)
    parts = []
    for symbol in symbols:
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.015, n_bars)))
        open_ = close * np.exp(rng.normal(0, 0.004, n_bars))
        wick = 1 + np.abs(rng.normal(0, 0.004, (2, n_bars)))
        parts.append(
            pd.DataFrame(
                {
                    "symbol": pd.Series([symbol] * n_bars, dtype="str"),
                    "source": pd.Series(["test"] * n_bars, dtype="str"),
                    "ts": pd.date_range("2010-01-01", periods=n_bars, tz="UTC", unit="ns"),
                    "open": open_,
                    "high": np.maximum(open_, close) * wick[0],
                    "low": np.minimum(open_, close) / wick[1],
                    "close": close,
                    "volume": rng.integers(1_000, 9_000, n_bars).astype(float),
                    "is_synthetic": False,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def panel() -> BarPanel:
    return make_panel()


@pytest.fixture
def rules() -> TradingRules:
    return TradingRules(
        Costs(fee_bps=1.0, spread_bps=2.0, slippage_bps=1.0),
        window_bars=5,
        episode_bars=50,
        allow_short=True,
    )


@pytest.fixture(scope="module")
def browser():
    """A Chromium of one module: while its driver runs, asyncio of others cannot."""
    from tests.dashboard_cases import launch

    yield from launch()


@pytest.fixture
def visit(browser):
    """What opens a service's page, as `dashboard_cases.visits`."""
    from tests.dashboard_cases import visits

    yield from visits(browser)


@pytest.fixture
def desk():
    """Paper trading that never trades, for the dashboard."""
    from tests.dashboard_cases import FakeDesk

    return FakeDesk()


@pytest.fixture
def service(desk):
    """A service that shows `desk`."""
    from tests.dashboard_cases import shown

    with shown(desk) as service:
        yield service


@pytest.fixture
def ready(service, visit):
    """A visit that waits until trading is shown."""
    from playwright.sync_api import expect

    def ready(**options):
        page = visit(service, **options)
        expect(page.locator("#pill")).to_have_text("● Trading")
        return page

    return ready
