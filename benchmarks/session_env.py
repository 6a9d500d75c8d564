"""Speed of the crash game's environment, on uniform random actions drawn beforehand."""

import numpy as np

from benchmarks.timing import Result, median_seconds
from hftlib.envs import SessionEnv, SessionVecEnv
from hftlib.sessions.vocabulary import ADJUSTMENTS, CHOICES

N_COPIES = 1_024
N_STEPS = 1_000
N_SINGLE_STEPS = 10_000


def measure_session_env() -> list[Result]:
    """Steps a second of many copies, with and without their masks, and of one; resets included."""
    rng = np.random.default_rng(0)
    actions = rng.integers((len(CHOICES), len(ADJUSTMENTS)), size=(N_STEPS, N_COPIES, 2))
    batch, single = SessionVecEnv(N_COPIES), SessionEnv()
    batch.reset(seed=0)

    def walk() -> None:
        for move in actions:
            batch.step(move)

    def walk_masked() -> None:
        for move in actions:
            batch.action_masks()
            batch.step(move)

    def walk_single() -> None:
        single.reset(seed=0)
        for move in actions.reshape(-1, 2)[:N_SINGLE_STEPS]:
            _, _, terminated, truncated, _ = single.step(move)
            if terminated or truncated:
                single.reset()

    n_steps = N_STEPS * N_COPIES
    return [
        Result("session_vec_env", n_steps / median_seconds(walk), "env-steps/s", target=1_000_000),
        Result("session_vec_env_masked", n_steps / median_seconds(walk_masked), "env-steps/s"),
        Result("session_env", N_SINGLE_STEPS / median_seconds(walk_single), "steps/s"),
    ]
