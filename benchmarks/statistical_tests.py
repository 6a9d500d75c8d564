"""Time of the statistical tests at the size of a study.

Returns are noise: the time does not depend on their values. Not called `statistics`: a script
that runs in this folder, as the peers' do, would then import it for the standard library's.
"""

import numpy as np
import pandas as pd

from benchmarks.timing import Result, median_seconds, time_call
from hftlib.evaluation.controls import negative_control
from hftlib.evaluation.overfitting import cross_validate
from hftlib.evaluation.superiority import beat_benchmark

N_STRATEGIES = 50
N_DAYS = 2_500
N_PATHS = 1_000


def measure_statistical_tests() -> list[Result]:
    """Tests against a benchmark, cross-validation with 16 blocks, the negative control."""
    rng = np.random.default_rng(7)
    dates = pd.date_range("2010-01-01", periods=N_DAYS, freq="B")
    returns = pd.DataFrame(rng.normal(0, 0.01, (N_DAYS, N_STRATEGIES)), index=dates)
    benchmark = pd.Series(rng.normal(0, 0.01, N_DAYS), index=dates)
    superiority = time_call(lambda: beat_benchmark(returns, benchmark, n_bootstrap=1_000, seed=0))
    overfitting = median_seconds(lambda: cross_validate(returns.to_numpy()[:1_000]))
    control = time_call(lambda: negative_control(law="garch", n_paths=N_PATHS, n_bars=500, seed=0))
    return [
        Result(f"spa_1000x{N_STRATEGIES}x{N_DAYS}", superiority, "s", ceiling=10),
        Result(f"pbo_16_blocks_1000x{N_STRATEGIES}", overfitting, "s", ceiling=1),
        Result(f"negative_control_{N_PATHS}_paths", control, "s"),
    ]


if __name__ == "__main__":
    for result in measure_statistical_tests():
        print(f"{result.name}: {result.value:.3g} {result.unit}")
