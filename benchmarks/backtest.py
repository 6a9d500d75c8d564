"""Speed of the backtest engine: targets in, equity, fills and trades out.

`python -m benchmarks.backtest` prints these figures alone. A bar is one row of one
account; the time of the crossing averages includes the averages.
"""

import numpy as np

from benchmarks.timing import Result, median_seconds
from hftlib.agents.bar_rules import change_only, cross_averages
from hftlib.evaluation.engine import Prices, run_backtest
from hftlib.evaluation.trades import list_trades
from hftlib.portfolio.costs import Costs

N_BARS = 1_000_000
N_STRATEGIES = 100
N_ASSETS = 50
COSTS = Costs(fee_bps=1.0, spread_bps=2.0, slippage_bps=0.5, impact_bps=10.0)
TARGET = 2_000_000.0


def make_prices(n_bars: int, n_assets: int) -> Prices:
    """Martingales of one-minute bars."""
    rng = np.random.default_rng(7)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, (n_bars, n_assets)), axis=0))
    open_ = np.concatenate([np.full((1, n_assets), 100.0), close[:-1]])
    ts = np.arange(n_bars) * 60 * 10**9
    volume = rng.lognormal(8, 1, (n_bars, n_assets))
    return Prices(tuple(f"S{k}" for k in range(n_assets)), ts, open_, close, volume)


def measure_backtest() -> list[Result]:
    """One asset long, many strategies of one asset, and an account that rebalances many."""
    one = make_prices(N_BARS, 1)

    def cross() -> None:
        run_backtest(one, change_only(cross_averages(one.close, 20, 50)), COSTS)

    crossed = run_backtest(one, change_only(cross_averages(one.close, 20, 50)), COSTS)
    short = one.rows(0, N_BARS // N_STRATEGIES)
    rng = np.random.default_rng(8)
    steps = np.where(rng.random((len(short.ts), N_STRATEGIES, 1)) < 0.1, 1.0, np.nan)
    sides = steps * rng.choice([-1.0, 0.0, 1.0], steps.shape)
    many = make_prices(N_BARS // N_ASSETS, N_ASSETS)
    weights = rng.dirichlet(np.ones(N_ASSETS), len(many.ts))
    return [
        Result("backtest_cross_1m", N_BARS / median_seconds(cross), "bars/s", target=TARGET),
        Result(
            "backtest_100_strategies_10k",
            N_BARS / median_seconds(lambda: run_backtest(short, sides, COSTS)),
            "bars/s",
            target=TARGET,
        ),
        Result(
            "backtest_50_assets_rebalanced",
            N_BARS / median_seconds(lambda: run_backtest(many, weights, COSTS)),
            "asset-bars/s",
        ),
        Result(
            "backtest_trades",
            len(crossed.fills) / median_seconds(lambda: list_trades(crossed)),
            "fills/s",
        ),
    ]


if __name__ == "__main__":
    for result in measure_backtest():
        print(f"{result.name}: {result.value:,.0f} {result.unit}")
