"""`python -m benchmarks.measures --peers PYTHON`: our measures beside those of other packages.

On the daily simple returns of `arch.data.sp500`'s adjusted close, 1999 to 2018, 252
periods a year. PYTHON is an interpreter with quantstats and empyrical-reloaded.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from arch.data import sp500

from hftlib.portfolio import measures

PERIODS_PER_YEAR = 252
LEVEL = 0.95
EQUAL = 1e-9


def load_returns() -> pd.Series:
    """Simple returns, 5,030 days."""
    return sp500.load()["Adj Close"].pct_change().iloc[1:]


def measure_returns(returns: npt.NDArray[np.float64]) -> dict[str, float]:
    """Ours, by name."""
    equity = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    return {
        "sharpe": float(measures.sharpe(returns, PERIODS_PER_YEAR)),
        "sortino": float(measures.sortino(returns, PERIODS_PER_YEAR)),
        "max_drawdown": float(measures.max_drawdown(equity)),
        "calmar": float(measures.calmar(returns, PERIODS_PER_YEAR)),
        "value_at_risk": float(measures.value_at_risk(returns, LEVEL)),
        "expected_shortfall": float(measures.expected_shortfall(returns, LEVEL)),
        "tail_ratio": float(measures.tail_ratio(returns, LEVEL)),
    }


def measure_peers(returns: pd.Series, python: str) -> dict[str, dict[str, float]]:
    """Theirs, by package."""
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.npz"
        ts = returns.index.as_unit("ns").asi8
        np.savez(task, returns=returns, ts=ts, periods_per_year=PERIODS_PER_YEAR)
        script = Path(__file__).with_name("peer_measures.py")
        done = subprocess.run([python, script, task], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measures", description=__doc__)
    parser.add_argument("--peers", metavar="PYTHON", required=True)
    returns = load_returns()
    ours = measure_returns(returns.to_numpy())
    for package, theirs in measure_peers(returns, parser.parse_args().peers).items():
        print(package)
        for name, value in theirs.items():
            own = ours.get(name, ours.get(name.removesuffix("_historical"), float("nan")))
            verdict = "equal" if abs(value - own) <= EQUAL else "defined otherwise"
            print(f"  {name:<30}{value:>20.15f}  ours {own:>20.15f}  {verdict}")


if __name__ == "__main__":
    main()
