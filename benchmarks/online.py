"""Speed of whole single-agent trainings, and of stock Stable-Baselines3 on one copy.

Settings are the defaults of `params.yaml` with fewer steps and as many points of
the learning curve for each step; as short a training would otherwise be half
warm-up, SAC and TD3 warm up for `N_WARMUP_STEPS`. The peer is the same algorithm
of Stable-Baselines3 with its own defaults but for the layers, on one
`TradingEnv`: SAC and TD3 update once a step. Both run in this process on one
thread, in turns.
"""

import statistics
from dataclasses import replace
from functools import partial
from typing import Any

from stable_baselines3 import PPO, SAC, TD3

from benchmarks.timing import N_REPEATS, Result, time_call
from hftlib.agents.online import train_agent
from hftlib.agents.online_settings import make_settings
from hftlib.config import load
from hftlib.data.panel import BarPanel
from hftlib.envs import TradingEnv, TradingRules

TARGETS = {"ppo": 7_000, "sac": 500, "td3": 500}
N_STEPS = {"ppo": 36_864, "sac": 4_800, "td3": 6_400}
N_PEER_STEPS = {"ppo": 2_048, "sac": 150, "td3": 150}
PEERS = {"ppo": PPO, "sac": SAC, "td3": TD3}
PEER = "stable_baselines3, one copy"
N_WARMUP_STEPS = 256


def measure_online(train: BarPanel, validation: BarPanel) -> list[Result]:
    """For each algorithm: steps a second and the peer's, their ratio, steps for one update."""
    params = load()
    rules = replace(TradingRules.from_values(**params.trading_rules), action_kind="continuous")
    results = []
    for algo, section in (("ppo", params.ppo), ("sac", params.sac), ("td3", params.td3)):
        changes: dict[str, Any] = {"total_steps": N_STEPS[algo], "n_evaluations": 2}
        if algo != "ppo":
            changes["n_warmup_steps"] = N_WARMUP_STEPS
        settings = replace(make_settings(algo, **section.settings()), **changes)
        train_agent(train, validation, rules, settings, seed=0)  # compiles
        ours, theirs = [], []
        for _ in range(N_REPEATS):
            call = partial(train_agent, train, validation, rules, settings, seed=0)
            ours.append(settings.total_steps / time_call(call))
            theirs.append(_run_peer(algo, TradingEnv(train, rules), settings.hidden))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        name, value = f"train_{algo}", statistics.median(ours)
        results += [
            Result(name, value, "env-steps/s", PEER, statistics.median(theirs), TARGETS[algo]),
            Result(f"{name}_over_peer", ratio, "times", PEER, 1.0),
            Result(f"{name}_steps_per_update", 1 / settings.updates_per_step, "env-steps"),
        ]
    return results


def _run_peer(algo: str, env: TradingEnv, hidden: tuple[int, ...]) -> float:
    """Steps a second; SAC and TD3 once they learn."""
    options = {"net_arch": list(hidden)}
    model = PEERS[algo]("MlpPolicy", env, policy_kwargs=options, seed=0, device="cpu")
    if algo != "ppo":
        model.learn(model.learning_starts + 1)
    n_steps = N_PEER_STEPS[algo]
    return n_steps / time_call(lambda: model.learn(n_steps, reset_num_timesteps=False))
