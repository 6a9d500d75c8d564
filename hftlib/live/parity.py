"""Is what is served what was trained? Policies and features of both, held together."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.policy import Policy
from hftlib.data.panel import BarPanel
from hftlib.live.predictor import Predictor

Float32Array = npt.NDArray[np.float32]


def draw_observations(
    panel: BarPanel, window_bars: int, n: int, rng: np.random.Generator
) -> Float32Array:
    """Observations of `TradingEnv` at random bars of a panel, in random states of the account.

    Returns
    -------
    array of shape (n, window_bars * n_features + 2)

    Raises
    ------
    ValueError
        If no symbol has `window_bars` bars.
    """
    ends = np.concatenate(
        [np.arange(start + window_bars, stop + 1) for start, stop in panel.segments]
    )
    if not len(ends):
        raise ValueError(f"no symbol has {window_bars} bars; pass a longer panel")
    drawn = rng.choice(ends, n)
    rows = (drawn[:, None] + np.arange(-window_bars, 0)).ravel()
    windows = panel.features[rows].reshape(n, -1)
    exposure = rng.uniform(-1, 1, n) * (rng.random(n) < 0.9)
    account = np.stack([np.sign(exposure), exposure], axis=1).astype(np.float32)
    return np.concatenate([windows, account], axis=1)


def compare_policies(
    predictor: Predictor, policy: Policy, observations: Float32Array
) -> dict[str, float]:
    """Actions of the served graph and of the policy that it was made from.

    Returns
    -------
    dict
        observations: their number; largest: largest absolute difference of an action; range:
        largest less smallest action, so that a policy which always says the same is told.
    """
    served = predictor.predict(observations).action
    trained = np.asarray(policy.act(observations), dtype=np.float64).reshape(served.shape)
    return {
        "observations": len(observations),
        "largest": float(np.abs(served - trained).max()),
        "range": float(np.ptp(trained)),
    }


def compare_panels(served: BarPanel, trained: BarPanel) -> pd.DataFrame:
    """Features that the predictor makes of raw bars, and those of the dataset.

    Parameters
    ----------
    served : of one symbol
    trained : that has it too

    Returns
    -------
    frame indexed by feature
        rows: bars that both have; differing: bars whose values differ at all; largest: largest
        absolute difference, in units of the scaled feature.

    Raises
    ------
    ValueError
        If features or their order differ, or no bar is in both.
    """
    if served.feature_names != trained.feature_names:
        raise ValueError(
            f"served {served.feature_names}, trained {trained.feature_names}: expected the same"
        )
    start, stop = trained.segments[trained.symbols.index(served.symbols[0])]
    both, mine, theirs = np.intersect1d(served.ts, trained.ts[start:stop], return_indices=True)
    if not len(both):
        raise ValueError("no bar is in both panels; pass bars of the dataset's span")
    gap = np.abs(served.features[mine] - trained.features[start:stop][theirs])
    return pd.DataFrame(
        {"rows": len(both), "differing": (gap != 0).sum(axis=0), "largest": gap.max(axis=0)},
        index=pd.Index(served.feature_names, name="feature"),
    )


class Latency(NamedTuple):
    """Milliseconds of one call."""

    p50: float
    p99: float


def time_calls(call: Callable[[], object], n_calls: int) -> Latency:
    """Median and 99th percentile of the time of a call, after three that are not counted."""
    seconds = np.empty(n_calls)
    for k in range(-3, n_calls):
        start = time.perf_counter()
        call()
        if k >= 0:
            seconds[k] = time.perf_counter() - start
    return Latency(*(1e3 * np.percentile(seconds, [50, 99])).tolist())
