"""Measures of quantstats and empyrical-reloaded on the returns of `benchmarks.measures`.

Runs in an interpreter that has the two, and no `hftlib`: `python peer_measures.py FILE`,
FILE being an `.npz` with `returns` (n,), `ts` (n,) in nanoseconds and `periods_per_year`.
Prints one JSON line, `{package version: {measure: value}}`. Losses are made
positive, as ours are; `value_at_risk` and `expected_shortfall` are of 95 %. A package that
cannot be imported is left out.
"""

import json
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd


def measure_quantstats(returns: pd.Series, periods_per_year: int) -> dict[str, float]:
    """By its own defaults, which for VaR and the shortfall are those of a normal law."""
    from quantstats import stats

    return {
        "sharpe": stats.sharpe(returns, periods=periods_per_year),
        "sortino": stats.sortino(returns, periods=periods_per_year),
        "max_drawdown": -stats.max_drawdown(returns),
        "calmar": stats.calmar(returns, periods=periods_per_year),
        "value_at_risk": -stats.value_at_risk(returns),
        "expected_shortfall": -stats.conditional_value_at_risk(returns),
        "expected_shortfall_historical": -stats.conditional_value_at_risk(
            returns, method="historical"
        ),
        "tail_ratio": stats.tail_ratio(returns),
    }


def measure_empyrical(returns: pd.Series, periods_per_year: int) -> dict[str, float]:
    """By its own defaults."""
    import empyrical

    return {
        "sharpe": empyrical.sharpe_ratio(returns, annualization=periods_per_year),
        "sortino": empyrical.sortino_ratio(returns, annualization=periods_per_year),
        "max_drawdown": -empyrical.max_drawdown(returns),
        "calmar": empyrical.calmar_ratio(returns, annualization=periods_per_year),
        "value_at_risk": -empyrical.value_at_risk(returns),
        "expected_shortfall": -empyrical.conditional_value_at_risk(returns),
        "tail_ratio": empyrical.tail_ratio(returns),
    }


def main() -> None:
    """Measure, print."""
    with np.load(sys.argv[1]) as data:
        returns = pd.Series(data["returns"], pd.DatetimeIndex(data["ts"]))
        periods_per_year = int(data["periods_per_year"])
    answer = {}
    for package, measure in (
        ("quantstats", measure_quantstats),
        ("empyrical-reloaded", measure_empyrical),
    ):
        try:
            found = measure(returns, periods_per_year)
        except ImportError as fault:
            print(f"{package} is left out: {fault}", file=sys.stderr)
            continue
        answer[f"{package} {version(package)}"] = {k: float(v) for k, v in found.items()}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
