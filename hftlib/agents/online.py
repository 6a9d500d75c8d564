"""PPO through Stable-Baselines3 on the vectorised environment: train, resume, act.

Training is a pure function of its arguments: the same call gives the same
weights, whether it ran through or was stopped and resumed. Stable-Baselines3
draws from the global generators of torch and numpy, so a call is meant for a
process of its own (`compute.map_parallel`).

Source: Schulman et al. (2017), Proximal policy optimization, arXiv 1707.06347.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy

from hftlib.agents.policy import play
from hftlib.compute import hash_sources
from hftlib.data.panel import BarPanel
from hftlib.envs.stable import StableVecEnv
from hftlib.envs.trading import TradingVecEnv
from hftlib.envs.trading_rules import TradingRules
from hftlib.paths import replace_file
from hftlib.portfolio import measures

logger = logging.getLogger(__name__)
Weights = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class PPOSettings:
    """Hyper-parameters; meanings and units in `config.SingleAgent`."""

    total_steps: int
    n_envs: int
    n_steps: int
    batch_size: int
    n_epochs: int
    learning_rate: float
    gamma: float
    gae_lambda: float
    clip_range: float
    entropy_weight: float
    reward_scale: float
    hidden: tuple[int, ...]
    n_evaluations: int


class CurvePoint(NamedTuple):
    """One greedy walk through one split during training; rates are annual, after costs."""

    step: int
    split: str
    sharpe: float
    log_growth: float
    turnover: float


class Trained(NamedTuple):
    """Policy weights by name, and the learning curve."""

    seed: int
    weights: Weights
    curve: list[CurvePoint]


class LearntPolicy:
    """The greedy policy of trained weights."""

    def __init__(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        layers = [name for name in weights if name.startswith("mlp_extractor.policy_net")]
        hidden = [len(weights[name]) for name in layers if name.endswith("bias")]
        n_inputs = weights["mlp_extractor.policy_net.0.weight"].shape[1]
        n_actions = len(weights["action_net.bias"])
        self._policy = ActorCriticPolicy(
            spaces.Box(-np.inf, np.inf, (n_inputs,), np.float32),
            spaces.Discrete(n_actions),
            lambda _: 0.0,
            net_arch=hidden,
        )
        self._policy.load_state_dict({k: torch.as_tensor(v) for k, v in weights.items()})
        self._policy.set_training_mode(False)

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Most probable actions, shape (n,)."""
        with torch.no_grad():
            distribution = self._policy.get_distribution(torch.as_tensor(observations))
        actions: npt.NDArray[np.int64] = distribution.mode().numpy()
        return actions


def train_ppo(
    train: BarPanel,
    validation: BarPanel,
    rules: TradingRules,
    settings: PPOSettings,
    seed: int,
    *,
    scratch: Path | None = None,
) -> Trained:
    """Train one PPO policy.

    Parameters
    ----------
    train : BarPanel
        Episodes start at random rows of it.
    validation : BarPanel
        Only looked at for the learning curve, never for a choice.
    seed : int
        Fixes initial weights, episodes, actions and minibatches.
    scratch : folder, optional
        Holds a checkpoint per point of the learning curve; a later call with
        the same arguments and the same code goes on from there.

    Returns
    -------
    Trained
        `settings.total_steps` is rounded up to whole rollouts.

    Raises
    ------
    FloatingPointError
        If a weight becomes nan or infinite; names the step.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    env = StableVecEnv(TradingVecEnv(train, rules, settings.n_envs), settings.reward_scale)
    model = PPO(
        "MlpPolicy",
        env,
        learning_rate=settings.learning_rate,
        n_steps=settings.n_steps,
        batch_size=settings.batch_size,
        n_epochs=settings.n_epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip_range,
        ent_coef=settings.entropy_weight,
        policy_kwargs={"net_arch": list(settings.hidden)},
        seed=seed,
        device="cpu",
    )
    splits = {"train": train, "validation": validation}
    checkpoint = None
    if scratch is not None:
        checkpoint = scratch / f"{_fingerprint(splits, rules, settings, seed)}.pt"
    recorder = _Recorder(splits, rules, settings, checkpoint)
    if checkpoint is not None and checkpoint.exists():
        recorder.resume(model)
    remaining = settings.total_steps - model.num_timesteps
    if remaining > 0:
        try:
            model.learn(remaining, callback=recorder, reset_num_timesteps=False)
        except ValueError as error:  # torch refuses a distribution with nan in it
            if _is_finite(_weights(model)):
                raise
            raise recorder.divergence(model.num_timesteps) from error
        recorder.record(model)
    return Trained(seed, _weights(model), recorder.curve)


class _Recorder(BaseCallback):
    """At evenly spaced rollout boundaries: a point of the curve and a checkpoint."""

    def __init__(
        self,
        splits: dict[str, BarPanel],
        rules: TradingRules,
        settings: PPOSettings,
        checkpoint: Path | None,
    ) -> None:
        super().__init__()
        self.splits, self.rules, self.checkpoint = splits, rules, checkpoint
        self.curve: list[CurvePoint] = []
        rollout = settings.n_envs * settings.n_steps
        n_updates = -(-settings.total_steps // rollout)
        at = np.linspace(0, n_updates, settings.n_evaluations).round().astype(int)
        self._due = {int(update) * rollout for update in at[:-1]}  # the last one: after learn()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps in self._due:
            self.record(self.model)

    def record(self, model: Any) -> None:
        step = model.num_timesteps
        if self.curve and self.curve[-1].step == step:
            return  # resumed right at this point
        weights = _weights(model)
        if not _is_finite(weights):
            raise self.divergence(step)
        with torch.random.fork_rng(devices=[]):  # looking must not change the training
            policy = LearntPolicy(weights)
        for split, panel in self.splits.items():
            rollout = play(policy, panel, self.rules)
            total = rollout.total_equity[:, 0]
            per_year = measures.periods_per_year(panel.ts[slice(*panel.segments[0])])
            self.curve.append(
                CurvePoint(
                    step,
                    split,
                    measures.sharpe(measures.simple_returns(total), per_year),
                    float(np.log(max(total[-1], 1e-12)) / (len(total) - 1) * per_year),
                    float(rollout.turnover[0] * per_year),
                )
            )
        if self.checkpoint is not None:
            _save_checkpoint(self.checkpoint, model, self.curve)

    def divergence(self, step: int) -> FloatingPointError:
        """The error for weights that are no numbers any more."""
        return FloatingPointError(
            f"training diverged: a weight is not finite at step {step}; lower learning_rate or "
            f"reward_scale. Last good checkpoint: {self.checkpoint}"
        )

    def resume(self, model: Any) -> None:
        assert self.checkpoint is not None
        saved = torch.load(self.checkpoint, weights_only=False)
        model.policy.load_state_dict(saved["policy"])
        model.policy.optimizer.load_state_dict(saved["optimizer"])
        model.num_timesteps, model._n_updates = saved["num_timesteps"], saved["n_updates"]
        model._last_obs, model._last_episode_starts = saved["last"]
        model.env.env.load_state(saved["env"])
        model.env._reset_seeds()
        torch.set_rng_state(saved["torch"])
        np.random.set_state(saved["numpy"])  # noqa: NPY002 - Stable-Baselines3 shuffles with it
        self.curve = [CurvePoint(*point) for point in saved["curve"]]
        logger.info("resumed at step %d", model.num_timesteps)


def _save_checkpoint(path: Path, model: Any, curve: list[CurvePoint]) -> None:
    state = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "last": (model._last_obs, model._last_episode_starts),
        "env": model.env.env.save_state(),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "curve": [tuple(point) for point in curve],
    }
    with replace_file(path) as temporary:
        torch.save(state, temporary)


def _weights(model: Any) -> Weights:
    return {name: value.numpy().copy() for name, value in model.policy.state_dict().items()}


def _is_finite(weights: Weights) -> bool:
    return all(bool(np.isfinite(values).all()) for values in weights.values())


def _fingerprint(
    splits: Mapping[str, BarPanel], rules: TradingRules, settings: PPOSettings, seed: int
) -> str:
    """A name for one training: its settings, data and the code that runs it."""
    digest = hashlib.sha256()
    for panel in splits.values():
        for array in (panel.ts, panel.open, panel.close, panel.features, panel.segments):
            digest.update(np.ascontiguousarray(array).tobytes())
    text = json.dumps([asdict(rules), asdict(settings), seed])
    digest.update(text.encode() + hash_sources(Path(__file__).parents[1]).encode())
    return digest.hexdigest()[:16]


TRAINERS = {"ppo": train_ppo}


def find_trainer(algo: str) -> Callable[..., Trained]:
    """The training function of an algorithm.

    Raises
    ------
    ValueError
        If there is none; lists those there are.
    """
    if algo not in TRAINERS:
        raise ValueError(f"algo is {algo!r}; expected one of {', '.join(TRAINERS)}")
    return TRAINERS[algo]


def save_weights(path: Path, weights: Weights) -> None:
    """Write an `.npz`; unlike Stable-Baselines3's own format it is free of clocks and pickles."""
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **weights)


def load_policy(path: Path) -> LearntPolicy:
    """The greedy policy that `save_weights` wrote."""
    with np.load(path, allow_pickle=False) as data:
        return LearntPolicy({name: data[name] for name in data.files})
