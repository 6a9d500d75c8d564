"""Speed of the bar features, of the stream, and against all features of `ta`.

`python -m benchmarks.features` prints these figures alone; `ta` is what our
features go through where it is fast, so the ratio shows what the rest costs.
"""

import statistics
import warnings

import numpy as np
import pandas as pd
import ta

from benchmarks.timing import Result, median_seconds, time_call
from hftlib.features.indicators import FEATURES, compute_features
from hftlib.features.stream import FeatureStream

N_TA_RUNS = 3  # of several seconds each
N_PUSHES = 20
CEILING_S = 2.0


def make_bars(n_bars: int, rng: np.random.Generator) -> pd.DataFrame:
    """A martingale of one-minute bars as `schema.BARS`."""
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, n_bars)))
    open_ = np.concatenate([[100.0], close[:-1]])
    reach = np.exp(np.abs(rng.normal(0, 5e-4, (2, n_bars))))
    return pd.DataFrame(
        {
            "symbol": "SYNTHETIC",
            "source": "benchmarks",
            "ts": pd.date_range("2020-01-01", periods=n_bars, freq="min", tz="UTC", unit="ns"),
            "open": open_,
            "high": np.maximum(open_, close) * reach[0],
            "low": np.minimum(open_, close) / reach[1],
            "close": close,
            "volume": rng.lognormal(8, 1, n_bars),
            "is_synthetic": True,
        }
    )


def run_ta(bars: pd.DataFrame) -> pd.DataFrame:
    """Every feature of the package, as its own one-line function gives them."""
    names = ("open", "high", "low", "close", "volume")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # chained assignment, of which pandas 3 complains
        return ta.add_all_ta_features(bars.copy(), *names, fillna=False)


def measure_stream(n_bars: int) -> Result:
    """Milliseconds from a bar to its features, behind a history of `n_bars`."""
    bars = make_bars(n_bars + N_PUSHES, np.random.default_rng(6))
    stream = FeatureStream("SYNTHETIC")
    stream.extend(bars[:n_bars])
    columns = ["ts", "open", "high", "low", "close", "volume"]
    newest = bars.loc[n_bars:, columns].to_dict("records")
    seconds = [time_call(lambda bar=bar: stream.push(bar.pop("ts"), **bar)) for bar in newest]
    return Result(f"features_stream_{n_bars}", 1_000 * statistics.median(seconds), "ms")


def measure_features() -> list[Result]:
    """All features of one symbol: 100,000 bars, 10,000 against `ta`, and the stream."""
    bars = make_bars(100_000, np.random.default_rng(3))
    seconds = median_seconds(lambda: compute_features(bars))
    ours = median_seconds(lambda: compute_features(bars[:10_000]))
    peer = f"ta {n_features_of_ta(bars)} features"
    theirs = statistics.median(time_call(lambda: run_ta(bars[:10_000])) for _ in range(N_TA_RUNS))
    return [
        Result(f"features_{len(FEATURES)}x100k", seconds, "s", ceiling=CEILING_S),
        Result(f"features_{len(FEATURES)}x10k", ours, "s", peer, theirs),
        Result("features_over_ta", theirs / ours, "times", peer, 1.0),
        measure_stream(1_000),
        measure_stream(10_000),
    ]


def n_features_of_ta(bars: pd.DataFrame) -> int:
    """Columns that `run_ta` adds."""
    return run_ta(bars[:200]).shape[1] - bars.shape[1]


if __name__ == "__main__":
    for result in measure_features():
        peer = f"; {result.peer} {result.peer_value:.3g}" if result.peer else ""
        print(f"{result.name}: {result.value:.3g} {result.unit}{peer}")
