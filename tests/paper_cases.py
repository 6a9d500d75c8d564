"""Accounts, venues and feeds with known content, for the tests of paper trading."""

import numpy as np

from hftlib.live.book_venue import BookVenue
from hftlib.live.clock import AcceleratedClock
from hftlib.live.feeds import Recording, read_bars, run_paper
from hftlib.live.paper import PaperEngine
from hftlib.live.paper_rules import PaperRules
from hftlib.live.store import Store
from hftlib.live.target_orders import SizingRules
from hftlib.live.venue_rules import VenueRules
from hftlib.portfolio.breakers import BreakerRules
from hftlib.portfolio.risk import RiskLimits

DAY = 86_400 * 10**9
NO_LIMITS = RiskLimits(**{n: np.inf for n in vars(RiskLimits()) if n != "var_level"})
NEVER = BreakerRules(
    max_drawdown=9.0, max_daily_loss=9.0, max_losses=10**9, max_age_ns=DAY, cooldown_ns=DAY
)
FINE = VenueRules(
    tick_size=1e-4, lot_size=1e-3, taker_fee_bps=2.0, latency_ns=0, spread_bps=4.0, level_units=1e5
)


class Table:
    """Targets by the number of the decision, which it counts from the moments shown."""

    def __init__(self, symbols, targets):
        self.symbols, self.targets, self.row = symbols, targets, -1

    def observe(self, moment):
        self.row += moment.decides

    def decide(self, moment, account):
        return dict(zip(self.symbols, self.targets[self.row], strict=True))


def open_engine(folder, symbols, targets, *, venues=None, now_ns=None, **rules):
    """An engine, its store and its venues in one folder, as they were left there."""
    venues = {"one": FINE} if venues is None else venues
    opened = [BookVenue(n, folder / f"{n}.db", symbols, r) for n, r in venues.items()]
    store = Store(folder / "paper.db")
    settings = {"limits": NO_LIMITS, "breaker": NEVER, "sizing": SizingRules("units")} | rules
    rules = PaperRules(symbols=symbols, **settings)
    return PaperEngine(store, opened, Table(symbols, targets), rules, now_ns=now_ns)


def close_engine(engine):
    engine.desk.store.close()
    for broker in engine.desk.brokers.values():
        broker.close()


def trade_bars(folder, bars, targets, **settings):
    """Trade targets on bars to their end; the engine."""
    symbols = tuple(dict.fromkeys(bars["symbol"]))
    engine = open_engine(folder, symbols, targets, **settings)
    run_paper(engine, Recording(read_bars(bars)), AcceleratedClock())
    return engine


def whole_targets(n_bars, n_assets, seed=0):
    """Targets in whole units, some left alone."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(-20, 21, (n_bars, n_assets)).astype(float)
    targets[rng.random(targets.shape) < 0.3] = np.nan
    return targets
