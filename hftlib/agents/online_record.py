"""What is watched while a policy trains: the learning curve, each update, the checkpoints.

The recorder is a callback of Stable-Baselines3. It looks at rollout boundaries
only, where the state of a training is small enough to be kept whole.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback

from hftlib.agents.checkpoint import load_checkpoint, save_checkpoint
from hftlib.agents.online_policy import Design, LearntPolicy, Weights, save_policy
from hftlib.agents.online_settings import OffPolicySettings, OnlineSettings
from hftlib.agents.policy import play
from hftlib.data.panel import BarPanel
from hftlib.envs.trading import TradingVecEnv
from hftlib.envs.trading_rules import TradingRules
from hftlib.portfolio import measures

logger = logging.getLogger(__name__)
MAX_ENTRIES = 200  # of SAC and TD3, whose updates are many; points of the curve come on top
LEAST_EQUITY = 1e-12  # share of the start, below which a logarithm says nothing
# What Stable-Baselines3 logs of an update: our name and the sign.
LOGGED = {
    "train/policy_gradient_loss": ("policy_loss", 1),
    "train/actor_loss": ("policy_loss", 1),
    "train/value_loss": ("value_loss", 1),
    "train/critic_loss": ("value_loss", 1),
    "train/entropy_loss": ("entropy", -1),
    "train/approx_kl": ("approx_kl", 1),
    "train/ent_coef": ("entropy_weight", 1),
}


class StopTraining(Exception):  # noqa: N818 - no error, as StopIteration
    """Ends a training early; its result is what it has learnt so far."""


class CurvePoint(NamedTuple):
    """One greedy walk through one split during training; rates are annual, after costs."""

    step: int
    split: str
    sharpe: float
    log_growth: float
    turnover: float


class Update(NamedTuple):
    """Mean of one measure since the entry before.

    PPO has an entry a rollout, with the update on it; SAC and TD3 at most `MAX_ENTRIES` at even
    distances; and all of them one at each point of the curve.

    "reward" a step in units of the environment; of the episodes that ended "episode_log_growth"
    and "episode_bars"; of the updates "policy_loss", "value_loss" (of the critics with SAC and
    TD3), for PPO "entropy" and "approx_kl", for SAC "entropy_weight". What did not happen has no
    entry.
    """

    step: int
    measure: str
    value: float


class WatchedEnv(TradingVecEnv):
    """Copies to train on that tell how their episodes went.

    ended : log growth of the equity and bars of each episode that the last step ended
    """

    ended: Sequence[tuple[float, int]] = ()

    def step(self, actions: npt.NDArray[Any]) -> Any:
        """As `TradingVecEnv`."""
        lengths = self._accounts.records["age"] + 1
        result = super().step(actions)
        which = np.flatnonzero(result[2] | result[3])
        shares = result[4]["equity"][which] / self._accounts.rules.initial_cash
        growths = np.log(np.maximum(shares, LEAST_EQUITY))
        self.ended = list(zip(growths.tolist(), lengths[which].tolist(), strict=True))
        return result


def evaluate_policy(
    policy: LearntPolicy, split: str, panel: BarPanel, rules: TradingRules, step: int
) -> CurvePoint:
    """Walk through a whole split."""
    rollout = play(policy, panel, rules)
    total = rollout.total_equity[:, 0]
    per_year = measures.periods_per_year(panel.ts[slice(*panel.segments[0])])
    return CurvePoint(
        step,
        split,
        float(measures.sharpe(measures.simple_returns(total), per_year)),
        float(np.log(max(total[-1], LEAST_EQUITY)) / (len(total) - 1) * per_year),
        float(rollout.turnover[0] * per_year),
    )


def score_of(point: CurvePoint) -> float:
    """The Sharpe ratio, 0 for an account that never traded."""
    return 0.0 if np.isnan(point.sharpe) else point.sharpe


class Recorder(BaseCallback):
    """At rollout boundaries: what the updates were like, and, at evenly spaced ones, a point of
    the curve a split, and a checkpoint.

    Attributes
    ----------
    curve, updates : what was recorded so far
    best_step, best_weights : of the best point on the split "validation", if `patience` is set
    """

    def __init__(
        self,
        splits: Mapping[str, BarPanel],
        rules: TradingRules,
        settings: OnlineSettings,
        design: Design,
        checkpoint: Path | None,
        about: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.splits, self.rules, self.settings, self.design = splits, rules, settings, design
        self.checkpoint, self.about = checkpoint, about
        self.curve: list[CurvePoint] = []
        self.updates: list[Update] = []
        self.best_step, self.best_score, self.best_weights = 0, -np.inf, Weights()
        n_rollouts = -(-settings.total_steps // settings.rollout_steps)
        at = np.linspace(0, n_rollouts, settings.n_evaluations).round().astype(int)
        # the last one: after learn()
        self._due = {int(k) * settings.rollout_steps for k in at[:-1]}
        is_thinned = isinstance(settings, OffPolicySettings)
        stride = -(-n_rollouts // MAX_ENTRIES) if is_thinned else 1
        self._steps_per_entry = stride * settings.rollout_steps
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self.last_good_step: int | None = None
        self._last_good = Weights()

    @property
    def is_over(self) -> bool:
        """Whether patience has run out."""
        if self.settings.patience is None or not self.curve:
            return False
        since = {point.step for point in self.curve if point.step > self.best_step}
        return len(since) >= self.settings.patience

    def _on_step(self) -> bool:
        rewards = self.locals["rewards"]
        self._count("reward", float(rewards.mean()) / self.settings.reward_scale)
        env: Any = self.training_env
        for growth, n_bars in env.env.ended:
            self._count("episode_log_growth", growth)
            self._count("episode_bars", n_bars)
        return True

    def _on_rollout_start(self) -> None:
        self._read_losses()
        step = self.model.num_timesteps
        if step in self._due:
            self.record(self.model)
        elif step % self._steps_per_entry == 0:
            self._add_entry(step)

    def _count(self, measure: str, value: float) -> None:
        self._sums[measure] = self._sums.get(measure, 0.0) + value
        self._counts[measure] = self._counts.get(measure, 0) + 1

    def _read_losses(self) -> None:
        """Take what the last update logged."""
        logged = self.model.logger.name_to_value
        for name, (measure, sign) in LOGGED.items():
            if name in logged:
                value = sign * float(logged[name])
                if not np.isfinite(value):
                    raise self.divergence(self.model.num_timesteps, f"{measure} is {value}")
                self._count(measure, value)
        logged.clear()
        self.model.logger.name_to_excluded.clear()

    def _add_entry(self, step: int) -> None:
        """Add the means since the entry before."""
        for name, total in self._sums.items():
            value = total / self._counts[name]
            self.updates.append(Update(step, name, value))
            self.model.logger.record(name, value)
        self._sums, self._counts = {}, {}
        self.model.logger.dump(step)

    def record(self, model: Any) -> None:
        """Add a point a split, keep a checkpoint.

        Raises
        ------
        StopTraining
            If patience has run out.
        """
        step = model.num_timesteps
        if self.curve and self.curve[-1].step == step:
            return  # resumed right at this point
        self._read_losses()
        weights = read_weights(model)
        if not is_finite(weights):
            raise self.divergence(step, "a weight is not finite")
        with torch.random.fork_rng(devices=[]):  # looking must not change the training
            policy = LearntPolicy(weights, self.design)
        points = [
            evaluate_policy(policy, split, panel, self.rules, step)
            for split, panel in self.splits.items()
        ]
        self._add_entry(step)
        self.curve += points
        if self.settings.patience is not None:
            score = next(score_of(point) for point in points if point.split == "validation")
            if score > self.best_score:
                self.best_step, self.best_score, self.best_weights = step, score, weights
        if self.checkpoint is not None:
            save_checkpoint(self.checkpoint, self.about, self._save_state(model))
        self.last_good_step, self._last_good = step, weights
        for point in points:
            rates = {"sharpe": score_of(point), "log_growth": point.log_growth}
            rates["turnover"] = point.turnover
            for name, value in rates.items():
                model.logger.record(f"{point.split}/{name}", value)
        model.logger.dump(step)
        if self.is_over:
            raise StopTraining(f"no better validation since step {self.best_step}")

    def divergence(self, step: int, what: str) -> FloatingPointError:
        """The error for numbers that are none any more; saves the last good weights for others.

        The checkpoint itself only serves a call with the same arguments, which diverges again.
        """
        good = "none"
        if self.checkpoint is not None and self.last_good_step is not None:
            file = self.checkpoint.with_suffix(".npz")
            save_policy(file, self._last_good, self.design)
            good = (
                f"step {self.last_good_step}, {self.checkpoint}; its weights, for load_policy() "
                f"or train_agent(start=read_policy(...)[0]): {file}"
            )
        return FloatingPointError(
            f"training diverged: {what} at step {step}; lower learning_rate or reward_scale. "
            f"Last good checkpoint: {good}"
        )

    def resume(self, model: Any) -> None:
        """Put model, environment and generators where the checkpoint has them."""
        assert self.checkpoint is not None
        saved = load_checkpoint(self.checkpoint, self.about)
        model.set_parameters(saved["parameters"])
        if saved["log_ent_coef"] is not None:
            model.log_ent_coef.data.copy_(saved["log_ent_coef"])
        for name, value in saved["model"].items():
            setattr(model, name, value)
        if saved["replay"] is not None:
            unpack_replay(model.replay_buffer, saved["replay"])
        model.env.env.load_state(saved["env"])
        model.env._reset_seeds()
        model.action_space.np_random.bit_generator.state = saved["action_space"]
        torch.set_rng_state(saved["torch"])
        np.random.set_state(saved["numpy"])  # noqa: NPY002 - Stable-Baselines3 draws from it
        self.curve = [CurvePoint(*point) for point in saved["curve"]]
        self.updates = [Update(*update) for update in saved["updates"]]
        self.best_step, self.best_score, self.best_weights = saved["best"]
        self.last_good_step, self._last_good = model.num_timesteps, read_weights(model)
        logger.info("resumed at step %d", model.num_timesteps)

    def _save_state(self, model: Any) -> dict[str, Any]:
        kept = ("num_timesteps", "_n_updates", "_episode_num", "_last_obs", "_last_episode_starts")
        buffer = getattr(model, "replay_buffer", None)
        return {
            "parameters": model.get_parameters(),
            "log_ent_coef": getattr(model, "log_ent_coef", None),
            "model": {name: getattr(model, name) for name in kept},
            "replay": None if buffer is None else pack_replay(buffer),
            "env": model.env.env.save_state(),
            "action_space": model.action_space.np_random.bit_generator.state,
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state(),  # noqa: NPY002
            "curve": [tuple(point) for point in self.curve],
            "updates": [tuple(update) for update in self.updates],
            "best": (self.best_step, self.best_score, self.best_weights),
        }


def read_weights(model: Any) -> Weights:
    """Copies of the policy's state dict and, with SAC, the logarithm of the entropy weight."""
    weights = {name: value.numpy().copy() for name, value in model.policy.state_dict().items()}
    if getattr(model, "log_ent_coef", None) is not None:
        weights["log_ent_coef"] = model.log_ent_coef.detach().numpy().copy()
    return weights


def is_finite(weights: Weights) -> bool:
    """Whether no weight is nan or infinite."""
    return all(bool(np.isfinite(values).all()) for values in weights.values())


def pack_replay(buffer: ReplayBuffer) -> dict[str, Any]:
    """The filled part of a replay buffer, about half its size.

    The next observation is stored only where it is not the one in the row below.
    """
    n = buffer.buffer_size if buffer.full else buffer.pos
    seen, after = buffer.observations[:n], buffer.next_observations[:n]
    differs = _as_bits(after) != _as_bits(np.roll(seen, -1, axis=0))
    elsewhere: npt.NDArray[np.bool_] = differs.any(axis=2)
    names = ("actions", "rewards", "dones", "timeouts")
    return {
        "pos": buffer.pos,
        "full": buffer.full,
        "observations": seen.copy(),
        "elsewhere": elsewhere,
        "next_observations": after[elsewhere],
        **{name: getattr(buffer, name)[:n].copy() for name in names},
    }


def unpack_replay(buffer: ReplayBuffer, packed: Mapping[str, Any]) -> None:
    """Fill a buffer of the same size with what `pack_replay` gave."""
    buffer.pos, buffer.full = packed["pos"], packed["full"]
    seen, elsewhere = packed["observations"], packed["elsewhere"]
    n = len(seen)
    buffer.observations[:n] = seen
    buffer.next_observations[:n] = np.roll(seen, -1, axis=0)
    buffer.next_observations[:n][elsewhere] = packed["next_observations"]
    for name in ("actions", "rewards", "dones", "timeouts"):
        getattr(buffer, name)[:n] = packed[name]


def _as_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(values).view(np.uint32)
