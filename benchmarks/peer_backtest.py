"""The same strategies in `backtesting`, `vectorbt` and here, to the cent.

A person runs `python -m benchmarks.peer_backtest --peers PYTHON`, PYTHON having
`backtesting` 0.6.6 and `vectorbt` 1.2.0 (`benchmarks/peers_backtest.txt`). Bars are the
daily open and close of the S&P 500 that `arch` carries. The table shows final
equities and statistics of closed trades; `tests/test_engine.py` keeps them.

How the semantics are made alike:

- targets are computed once, here, at closes; the peers are only told them;
- all fill at the next open: `backtesting` by default (`trade_on_close` False), `vectorbt` is
  given the next open as its price, and the targets one row later;
- `backtesting` trades whole units, so that it gets fixed numbers of units (`UNITS`), long,
  flat and short, and more cash than they cost. It takes orders from row 1 on: row 0 has no
  target. `finalize_trades` is off: open positions are marked at the last close;
- `vectorbt` gets weights of 0, 1 and nan, sized at the price of the order;
- fees are relative to the notional. `backtesting` applies its spread to entries alone,
  and so has none here; `vectorbt`'s slippage moves the price of both sides, as ours does.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

FEE_BPS = 10.0
SLIPPAGE_BPS = 2.0
CASH = 100_000.0
UNITS = 20.0
NAMES = ("cross_averages", "break_out", "hold", "revert_rsi")
Arrays = dict[str, npt.NDArray[np.float64]]
Figures = dict[str, dict[str, float]]


def make_task() -> Arrays:
    """Open, close and a target for each strategy, shape (n_bars,): -1, 0, 1, nan is no change."""
    from arch.data import sp500

    from hftlib.agents import bar_rules

    bars = sp500.load()
    close = bars[["Close"]].to_numpy(dtype=np.float64)
    rules = (
        bar_rules.cross_averages(close, 20, 100, allow_short=True),
        bar_rules.break_out(close, 50, allow_short=True),
        np.ones_like(close),
        bar_rules.revert_rsi(close, 14, allow_short=True),
    )
    task = {"open": bars["Open"].to_numpy(dtype=np.float64), "close": close[:, 0]}
    for name, weights in zip(NAMES, rules, strict=True):
        weights[0] = np.nan
        task[name] = bar_rules.change_only(weights)[:, 0]
    return task


def run_ours(task: Arrays) -> Figures:
    """`{strategy: {units_equity, n_trades, win_rate, mean_return, weights_equity}}`."""
    from hftlib.evaluation.engine import Prices, run_backtest
    from hftlib.evaluation.trades import summarise_trades
    from hftlib.portfolio.costs import Costs

    ts = np.arange(len(task["open"])) * 86_400 * 10**9
    prices = Prices(("SP500",), ts, task["open"][:, None], task["close"][:, None])
    sides = np.stack([task[name] for name in NAMES], axis=1)[:, :, None]
    costs = Costs(FEE_BPS, 0.0, 0.0)
    of_units = run_backtest(
        prices, sides * UNITS, costs, kind="units", initial_cash=CASH, strategies=NAMES
    )
    slipping = Costs(FEE_BPS, 0.0, SLIPPAGE_BPS)
    of_weights = run_backtest(prices, np.maximum(sides, 0.0), slipping, initial_cash=CASH)
    table = summarise_trades(of_units, 252, min_trades=1)
    return {
        name: {
            "units_equity": float(of_units.equity[-1, k]),
            **{key: float(table.loc[name, key]) for key in ("n_trades", "win_rate", "mean_return")},
            "weights_equity": float(of_weights.equity[-1, k]),
        }
        for k, name in enumerate(NAMES)
    }


def run_peers(task: Arrays) -> Figures:
    """What `run_ours` gives, from the peers; in their interpreter."""
    import backtesting
    import pandas as pd
    import vectorbt

    open_, close = task["open"], task["close"]
    index = pd.date_range("1999-01-04", periods=len(open_), freq="B")
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    bars = pd.DataFrame({"Open": open_, "High": high, "Low": low, "Close": close}, index)

    class Follow(backtesting.Strategy):  # type: ignore[misc]
        targets = None

        def init(self) -> None:
            """Nothing to prepare."""

        def next(self) -> None:
            """Order the way from the position to the target."""
            target = self.targets[len(self.data) - 1]
            wanted = 0 if np.isnan(target) else round(target * UNITS - self.position.size)
            if wanted > 0:
                self.buy(size=wanted)
            elif wanted < 0:
                self.sell(size=-wanted)

    found = {}
    for name in NAMES:
        test = backtesting.Backtest(bars, Follow, cash=CASH, commission=FEE_BPS * 1e-4)
        answer = test.run(targets=task[name])
        found[name] = {
            "units_equity": float(answer["Equity Final [$]"]),
            "n_trades": float(answer["# Trades"]),
            "win_rate": float(answer["Win Rate [%]"]) / 100,
            "mean_return": float(answer["_trades"]["ReturnPct"].mean()),
        }
    late = np.stack([np.maximum(task[name], 0.0) for name in NAMES], axis=1)
    late = np.concatenate([np.full((1, len(NAMES)), np.nan), late[:-1]])
    tile = (1, len(NAMES))
    portfolio = vectorbt.Portfolio.from_orders(
        np.tile(close[:, None], tile),
        size=late,
        size_type="targetpercent",
        price=np.tile(open_[:, None], tile),
        val_price=np.tile(open_[:, None], tile),
        fees=FEE_BPS * 1e-4,
        slippage=SLIPPAGE_BPS * 1e-4,
        init_cash=CASH,
        freq="1D",
    )
    for name, equity in zip(NAMES, portfolio.value().iloc[-1].tolist(), strict=True):
        found[name]["weights_equity"] = equity
    return found


def main() -> None:
    """Run both, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer_backtest")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter with both packages")
    parser.add_argument("--task", metavar="FILE", help="set by the call of the peers' interpreter")
    arguments = parser.parse_args()
    if arguments.task is not None:
        with np.load(arguments.task) as data:
            print(json.dumps(run_peers(dict(data))))
        return
    task = make_task()
    ours, theirs = run_ours(task), {}
    if arguments.peers is not None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "task.npz"
            np.savez(file, allow_pickle=False, **task)
            command = [arguments.peers, __file__, "--task", str(file)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        theirs = json.loads(done.stdout.splitlines()[-1])
    for name, figures in ours.items():
        for key, value in figures.items():
            peer = theirs[name][key] if theirs else float("nan")
            package = "vectorbt" if key == "weights_equity" else "backtesting"
            print(f"{name:<16}{key:<16}{value:>18,.8f}{peer:>18,.8f}  {package}")


if __name__ == "__main__":
    main()
