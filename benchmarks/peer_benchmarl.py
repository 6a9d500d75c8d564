"""Train BenchMARL's MAPPO or MADDPG.

Runs in the interpreter of `peers_marl.txt`: `python peer_benchmarl.py FILE`.
Prints one JSON line. FILE is a JSON object: `algorithm`, `seed`, `n_steps` for
a training on `spread` and the evaluation of its policy; or `task` "market" with
`n_copies`, `n_steps`, `n_epochs`, `n_minibatches`, `hidden`, `n_rollouts` for
the speed of MAPPO on our market environment, imported from the folder above.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarl.algorithms import MaddpgConfig, MappoConfig
from benchmarl.environments.pettingzoo.common import PettingZooClass
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper
from spread import evaluate, make_spread
from tensordict import TensorDict
from torchrl.envs import PettingZooWrapper
from torchrl.envs.utils import ExplorationType, set_exploration_type

PACKAGE = "benchmarl"
ALGORITHMS = {"mappo": MappoConfig, "maddpg": MaddpgConfig}
ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
# The best of those that were tried on a seed of its own, as ours were.
SETTINGS: dict[str, dict[str, Any]] = {
    "mappo": {
        "on_policy_n_envs_per_worker": 50,
        "on_policy_collected_frames_per_batch": 2_000,
        "on_policy_minibatch_size": 400,
        "on_policy_n_minibatch_iters": 20,
        "lr": 1.5e-3,
        "gamma": 0.9,
        "hidden": [128, 128],
    },
    "maddpg": {
        "off_policy_n_envs_per_worker": 50,
        "off_policy_collected_frames_per_batch": 1_000,
        "off_policy_n_optimizer_steps": 100,
        "off_policy_train_batch_size": 256,
        "exploration_eps_init": 0.5,
        "polyak_tau": 0.01,
        "lr": 1e-3,
        "gamma": 0.9,
        "hidden": [128, 128],
    },
}


class Task(PettingZooClass):
    """A `ParallelEnv` with continuous actions; every copy is given a seed of its own.

    BenchMARL's class asks for `pettingzoo.mpe`, which has moved to mpe2, and
    gives all copies the same seed, hence the same starts.
    """

    def __init__(self, make: Callable[[], ParallelEnv], seed: int) -> None:
        super().__init__("SIMPLE_SPREAD", {"max_cycles": 25})  # critics read `env.state()`
        self.make = make
        self.seeds = count(1_000 * seed)

    def get_env_fun(self, num_envs: int, continuous_actions: bool, seed: Any, device: Any) -> Any:
        """A function that makes one copy."""
        return lambda: PettingZooWrapper(
            self.make(), return_state=True, device=device, seed=next(self.seeds)
        )


def make_experiment(
    task: Task,
    algorithm: str,
    seed: int,
    n_steps: int,
    settings: dict[str, Any],
    callbacks: Sequence[Callback] = (),
) -> Experiment:
    """BenchMARL's defaults but for `settings`; no logs, no evaluation of its own."""
    config, changes = ALGORITHMS[algorithm].get_from_yaml(), dict(settings)
    own = {name: changes.pop(name) for name in list(changes) if hasattr(config, name)}
    model = replace(
        MlpConfig.get_from_yaml(),
        num_cells=changes.pop("hidden"),
        activation_class=ACTIVATIONS[changes.pop("activation", "tanh")],
    )
    return Experiment(
        task=task,
        algorithm_config=replace(config, **own),
        model_config=model,
        critic_model_config=model,
        seed=seed,
        config=replace(
            ExperimentConfig.get_from_yaml(),
            max_n_frames=n_steps,
            evaluation=False,
            render=False,
            loggers=[],
            create_json=False,
            **changes,
        ),
        callbacks=list(callbacks),
    )


def make_actor(experiment: Experiment) -> Callable[[np.ndarray], np.ndarray]:
    """The deterministic policy, for `spread.evaluate`."""

    def act(observations: np.ndarray) -> np.ndarray:
        seen = TensorDict({("agent", "observation"): torch.as_tensor(observations)[None]}, [1])
        with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
            return experiment.policy(seen)["agent", "action"][0].numpy()

    return act


class Clock(Callback):
    """Notes when each rollout is there: from one to the next is a whole iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_batch_collected(self, batch: TensorDict) -> None:
        """Called by the experiment."""
        self.times.append(time.perf_counter())


class WithoutInfos(BaseParallelWrapper):
    """TorchRL wants infos to be arrays, ours hold dictionaries."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """As the environment's, the infos empty."""
        observations, infos = super().reset(seed, options)
        return observations, {name: {} for name in infos}

    def step(self, actions: dict[str, Any]) -> Any:
        """As the environment's, the infos empty."""
        *outcome, infos = super().step(actions)
        return *outcome, {name: {} for name in infos}


def make_market() -> ParallelEnv:
    """One copy of our market, its infos empty."""
    from exchange import make_scene

    return WithoutInfos(make_scene().build_parallel())


def train_on_spread(order: dict[str, Any]) -> dict[str, Any]:
    """Train once, evaluate."""
    algorithm, seed, n_steps = order["algorithm"], order["seed"], order["n_steps"]
    start = time.perf_counter()
    experiment = make_experiment(
        Task(make_spread, seed), algorithm, seed, n_steps, SETTINGS[algorithm]
    )
    experiment.run()
    seconds = time.perf_counter() - start
    return {"return": evaluate(make_actor(experiment)).mean(), "speed": n_steps / seconds}


def train_on_market(order: dict[str, Any]) -> dict[str, Any]:
    """Speed of whole iterations, the first not counted."""
    sys.path.append(str(Path(__file__).parents[1]))
    n_steps = order["n_copies"] * order["n_steps"]
    settings = {
        "hidden": order["hidden"],
        "on_policy_n_envs_per_worker": order["n_copies"],
        "on_policy_collected_frames_per_batch": n_steps,
        "on_policy_minibatch_size": n_steps // order["n_minibatches"],
        "on_policy_n_minibatch_iters": order["n_epochs"],
    }
    clock = Clock()
    n_iterations = order["n_rollouts"] + 1
    task = Task(make_market, 0)
    make_experiment(task, "mappo", 0, n_iterations * n_steps, settings, [clock]).run()
    return {"speed": order["n_rollouts"] * n_steps / (clock.times[-1] - clock.times[0])}


def main() -> None:
    """Do what the file says, print."""
    torch.set_num_threads(1)
    order = json.loads(Path(sys.argv[1]).read_text())
    run = train_on_market if order.get("task") == "market" else train_on_spread
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # BenchMARL writes where it is
        answer = run(order)
    print(json.dumps({"peer": f"{PACKAGE} {version(PACKAGE)}"} | answer))


if __name__ == "__main__":
    main()
