"""PPO, SAC and TD3 through Stable-Baselines3 on the vectorised environment: train, resume.

Training is a pure function of its arguments: the same call gives the same
weights, whether it ran through or was stopped and resumed. Stable-Baselines3
draws from the global generators of torch and numpy, so a call is meant for a
process of its own (`compute.map_parallel`).

Source: Schulman et al. (2017), Proximal policy optimization, arXiv 1707.06347;
Haarnoja et al. (2018), Soft actor-critic algorithms and applications, arXiv
1812.05905; Fujimoto et al. (2018), Addressing function approximation error in
actor-critic methods, arXiv 1802.09477.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise

from hftlib.agents.checkpoint import name_checkpoint
from hftlib.agents.online_policy import (
    NOT_OF_THE_POLICY,
    Design,
    LearntPolicy,
    Weights,
    load_policy,
    read_policy,
    save_policy,
)
from hftlib.agents.online_record import (
    CurvePoint,
    Recorder,
    StopTraining,
    Update,
    WatchedEnv,
    is_finite,
    read_weights,
)
from hftlib.agents.online_settings import (
    OffPolicySettings,
    OnlineSettings,
    PPOSettings,
    SACSettings,
    TD3Settings,
    make_settings,
)
from hftlib.compute import hash_sources
from hftlib.data.panel import OPTIONAL, BarPanel
from hftlib.envs.stable import StableVecEnv
from hftlib.envs.trading_rules import TradingRules

__all__ = [
    "CurvePoint",
    "Design",
    "LearntPolicy",
    "PPOSettings",
    "SACSettings",
    "TD3Settings",
    "Trained",
    "Update",
    "Weights",
    "load_policy",
    "make_settings",
    "read_policy",
    "save_policy",
    "train_agent",
]


class Trained(NamedTuple):
    """What a training gives.

    seed : of the call
    step : environment steps behind `weights`; fewer than were taken if the best were kept
    weights, design : for `online_policy.LearntPolicy` and `save_policy`
    curve : the learning curve
    updates : rewards, episodes and losses, update by update, see `Update`
    """

    seed: int
    step: int
    weights: Weights
    design: Design
    curve: list[CurvePoint]
    updates: list[Update]


def train_agent(
    train: BarPanel,
    validation: BarPanel,
    rules: TradingRules,
    settings: OnlineSettings,
    seed: int,
    *,
    scratch: Path | None = None,
    start: Weights | None = None,
    tensorboard_log: Path | None = None,
) -> Trained:
    """Train one policy.

    Parameters
    ----------
    train : BarPanel
        Episodes start at random rows of it.
    validation : BarPanel
        Only looked at for the learning curve; a choice is made by it if `settings.patience` is set.
    rules : TradingRules
        With continuous actions for SAC and TD3.
    settings : PPOSettings, SACSettings or TD3Settings
        Their class is the algorithm.
    seed : int
        Fixes initial weights, episodes, actions and minibatches.
    scratch : folder, optional
        Holds the last checkpoint, one a point of the learning curve, the replay buffer included;
        a later call with the same arguments and the same code goes on from there.
    start : weights by name, optional
        Of a former training of the same design; instead of random ones.
    tensorboard_log : folder, optional
        Gets curve and updates for TensorBoard, in a folder named by the seed.

    Returns
    -------
    Trained

    Raises
    ------
    FloatingPointError
        If a loss or weight becomes nan or infinite; names the step, the last good checkpoint, and
        beside it the file of its weights, as `save_policy` writes them: to act with, or to start
        from with other settings.
    ValueError
        If SAC or TD3 get discrete actions, or `start` is of another design.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    env = StableVecEnv(WatchedEnv(train, rules, settings.n_envs), settings.reward_scale)
    design = describe_policy(settings, train, rules, env)
    log = None if tensorboard_log is None else tensorboard_log / f"seed_{seed}"
    model = _make_model(env, settings, design, seed, log)
    if start is not None:
        _load_start(model, start)
    splits = {"train": train, "validation": validation}
    about = _describe_training(splits, rules, settings, seed, start)
    checkpoint = None if scratch is None else name_checkpoint(scratch, about)
    recorder = Recorder(splits, rules, settings, design, checkpoint, about)
    if checkpoint is not None and checkpoint.exists():
        recorder.resume(model)
    remaining = settings.total_steps - model.num_timesteps
    try:
        if remaining > 0 and not recorder.is_over:
            model.learn(remaining, recorder, log_interval=None, reset_num_timesteps=False)
            recorder.record(model)
    except StopTraining:
        pass
    except ValueError as error:  # torch refuses a distribution with nan in it
        if _gives_numbers(model):
            raise
        what = "an action is not a number"
        raise recorder.divergence(model.num_timesteps, what) from error
    if settings.patience is None:
        step, weights = model.num_timesteps, read_weights(model)
    else:
        step, weights = recorder.best_step, recorder.best_weights
    return Trained(seed, step, weights, design, recorder.curve, recorder.updates)


def describe_policy(
    settings: OnlineSettings, panel: BarPanel, rules: TradingRules, env: StableVecEnv
) -> Design:
    """The design of the policies that these settings train.

    Raises
    ------
    ValueError
        If the algorithm needs continuous actions and the environment's are discrete.
    """
    actions = env.action_space
    is_box = isinstance(actions, spaces.Box)
    if isinstance(settings, OffPolicySettings) and not is_box:
        raise ValueError(
            f"{settings.algo} needs continuous actions, the environment has {actions}; "
            'set action_kind="continuous"'
        )
    assert env.observation_space.shape is not None
    n_assets = len(panel.symbols) if rules.is_portfolio else 1
    n_window = n_assets * rules.window_bars * panel.n_features
    choices: tuple[int, ...] = ()
    if isinstance(actions, spaces.Discrete):
        choices = (int(actions.n),)
    elif isinstance(actions, spaces.MultiDiscrete):
        choices = tuple(actions.nvec.tolist())
    return Design(
        algo=settings.algo,
        extractor=settings.extractor,
        extractor_width=settings.extractor_width,
        hidden=tuple(settings.hidden),
        shares_value_network=isinstance(settings, PPOSettings) and settings.shares_value_network,
        window_bars=rules.window_bars,
        feature_names=panel.feature_names,
        n_assets=n_assets,
        n_account=env.observation_space.shape[0] - n_window,
        action_kind=type(actions).__name__,
        choices=choices,
        low=tuple(actions.low.tolist()) if isinstance(actions, spaces.Box) else (),
        high=tuple(actions.high.tolist()) if isinstance(actions, spaces.Box) else (),
    )


def _make_model(
    env: StableVecEnv, settings: OnlineSettings, design: Design, seed: int, log: Path | None
) -> Any:
    common: dict[str, Any] = {
        "learning_rate": settings.learning_rate,
        "batch_size": settings.batch_size,
        "gamma": settings.gamma,
        "policy_kwargs": design.policy_options(),
        "tensorboard_log": None if log is None else str(log),
        "seed": seed,
        "device": "cpu",
    }
    if isinstance(settings, PPOSettings):
        return PPO(
            "MlpPolicy",
            env,
            n_steps=settings.n_steps,
            n_epochs=settings.n_epochs,
            gae_lambda=settings.gae_lambda,
            clip_range=settings.clip_range,
            ent_coef=settings.entropy_weight,
            **common,
        )
    assert isinstance(settings, OffPolicySettings)
    n_rollouts = -(-settings.total_steps // settings.rollout_steps)
    common |= {
        "tau": settings.tau,
        "buffer_size": min(settings.buffer_size, n_rollouts * settings.rollout_steps),
        "learning_starts": settings.n_warmup_steps,
        "train_freq": settings.rollout_steps // settings.n_envs,
        "gradient_steps": settings.rollout_steps // settings.steps_per_update,
    }
    if isinstance(settings, SACSettings):
        return SAC("MlpPolicy", env, ent_coef=f"auto_{settings.initial_entropy_weight}", **common)
    assert isinstance(settings, TD3Settings)
    n_actions = len(design.low)
    noise = NormalActionNoise(np.zeros(n_actions), np.full(n_actions, settings.noise_scale))
    return TD3(
        "MlpPolicy",
        env,
        action_noise=noise,
        policy_delay=settings.policy_delay,
        target_policy_noise=settings.target_noise,
        target_noise_clip=settings.target_noise_clip,
        **common,
    )


def _gives_numbers(model: Any) -> bool:
    """Whether weights are finite, and actions too: finite weights can overflow."""
    if not is_finite(read_weights(model)):
        return False
    try:
        actions, _ = model.predict(model._last_obs, deterministic=True)
    except ValueError:
        return False
    return bool(np.isfinite(actions).all())


def _load_start(model: Any, start: Weights) -> None:
    tensors = {name: torch.as_tensor(values) for name, values in start.items()}
    beside = {name: tensors.pop(name) for name in NOT_OF_THE_POLICY if name in tensors}
    try:
        model.policy.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"the weights to start from are of another design: {error}; use the settings, "
            "features and rules of the training that gave them"
        ) from error
    for name, values in beside.items():
        getattr(model, name).data.copy_(values)


def _describe_training(
    splits: Mapping[str, BarPanel],
    rules: TradingRules,
    settings: OnlineSettings,
    seed: int,
    start: Weights | None,
) -> dict[str, Any]:
    """All that a training depends on: settings, data, and the code that runs it."""
    bars = hashlib.sha256()
    for panel in splits.values():
        bars.update("\n".join(panel.feature_names).encode())
        for name in ("segments", "ts", "open", "close", "features", *OPTIONAL):
            values = getattr(panel, name)
            bars.update(b"-" if values is None else np.ascontiguousarray(values).tobytes())
    first = hashlib.sha256()
    for name, values in (start or {}).items():
        first.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return {
        "algo": settings.algo,
        "settings": asdict(settings),
        "rules": asdict(rules),
        "seed": seed,
        "bars": bars.hexdigest(),
        "start": None if start is None else first.hexdigest(),
        "code": hash_sources(Path(__file__).parents[1]),
        "torch": torch.__version__,
    }
