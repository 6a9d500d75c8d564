"""Speed of gym-trading-env on the bars and actions that `benchmarks` hands over.

Runs in the peers' interpreter, which has no `hftlib`: `python
peer_gym_trading_env.py FILE`, FILE being an `.npz` with `open`, `close`,
`features`, `actions`, `window_bars`, `fee_bps`. Prints one JSON line. As in
`hftlib`, one episode is one walk through all bars; the actions are drawn
beforehand, and the time includes resets.
"""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
from gym_trading_env.environments import TradingEnv

PACKAGE = "gym-trading-env"


def run_steps(env: TradingEnv, actions: list[int]) -> float:
    """Steps a second."""
    start = time.perf_counter()
    env.reset()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return len(actions) / (time.perf_counter() - start)


def main() -> None:
    """Warm up, measure once, print."""
    with np.load(sys.argv[1]) as data:
        open_, close = data["open"], data["close"]
        columns = {f"feature_{k}": column for k, column in enumerate(data["features"].T)}
        actions = data["actions"].tolist()
        window_bars, fee_bps = int(data["window_bars"]), float(data["fee_bps"])
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    bars = pd.DataFrame(
        {"open": open_, "high": high, "low": low, "close": close, **columns},
        index=pd.date_range("2020-01-01", periods=len(close), freq="min"),
    )
    env = TradingEnv(
        bars,
        positions=[-1, 0, 1],
        windows=window_bars,
        trading_fees=fee_bps * 1e-4,
        initial_position=0,
        verbose=0,
    )
    run_steps(env, actions[:500])
    speed = run_steps(env, actions)
    print(json.dumps({"peer": f"{PACKAGE} {version(PACKAGE)}", "speed": speed}))


if __name__ == "__main__":
    main()
