"""Settings of PPO, SAC and TD3 on the vectorised trading environment.

Meanings, units and bounds of the same fields in `params.yaml`: `hftlib.sections`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

EXTRACTORS = ("mlp", "lstm", "attention")


@dataclass(frozen=True, kw_only=True)
class OnlineSettings(ABC):
    """What the three algorithms have in common."""

    total_steps: int
    """Environment steps, of all copies together; rounded up to whole rollouts."""
    n_envs: int
    """Copies of the environment that are stepped together."""
    batch_size: int
    """Transitions of one gradient step."""
    learning_rate: float
    """Adam's step size, of every network."""
    gamma: float
    """Discount a bar."""
    reward_scale: float
    """Factor on the rewards, so that values are of order one."""
    hidden: tuple[int, ...]
    """Units of each hidden layer, in actor and critic alike."""
    n_evaluations: int
    """Points of the learning curve, start and end included."""
    extractor: str = "mlp"
    """What reads the window: mlp (as one long vector), lstm or attention (as time)."""
    extractor_width: int = 32
    """Columns into which lstm and attention turn the window."""
    patience: int | None = None
    """Points of the curve without a better Sharpe ratio on validation before training ends, and
    the best weights are returned; None never ends it and returns the last ones."""

    algo: ClassVar[str]

    def __post_init__(self) -> None:
        limits = {
            "total_steps": self.total_steps >= 1,
            "n_envs": self.n_envs >= 1,
            "batch_size": self.batch_size >= 2,
            "n_evaluations": self.n_evaluations >= 2,
            "hidden": len(self.hidden) >= 1,
            "patience": self.patience is None or self.patience >= 1,
        }
        for name, holds in limits.items():
            if not holds:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; see {type(self).__name__} for its range"
                )
        if self.extractor not in EXTRACTORS:
            raise ValueError(
                f"extractor is {self.extractor!r}; expected one of {', '.join(EXTRACTORS)}"
            )

    @property
    @abstractmethod
    def rollout_steps(self) -> int:
        """Environment steps between two learning phases."""

    @property
    @abstractmethod
    def updates_per_step(self) -> float:
        """Gradient steps for each environment step, warm-up aside."""


@dataclass(frozen=True, kw_only=True)
class PPOSettings(OnlineSettings):
    """Proximal policy optimisation: on-policy, discrete or continuous actions."""

    n_steps: int
    """Steps of a copy per rollout."""
    n_epochs: int
    """Passes over each rollout."""
    gae_lambda: float
    """Lambda of the generalised advantage estimate."""
    clip_range: float
    """Clipping of the ratio of the new policy to the old."""
    entropy_weight: float
    """Weight of the entropy bonus."""
    shares_value_network: bool = False
    """Whether actor and critic have one extractor; with mlp, one network but for the last layer."""

    algo: ClassVar[str] = "ppo"

    @property
    def rollout_steps(self) -> int:
        """One rollout of all copies."""
        return self.n_envs * self.n_steps

    @property
    def updates_per_step(self) -> float:
        """Minibatches of all passes over a rollout, for each step of it."""
        return self.n_epochs / self.batch_size


@dataclass(frozen=True, kw_only=True)
class OffPolicySettings(OnlineSettings):
    """What the two algorithms with a replay buffer share; continuous actions only."""

    tau: float
    """Step of the target networks toward the learnt ones, each update."""
    buffer_size: int
    """Transitions kept."""
    n_warmup_steps: int
    """Environment steps of random actions before the first update."""
    steps_per_update: int
    """Environment steps for one update of all networks; divides n_envs or is a multiple of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        few, many = sorted((self.n_envs, self.steps_per_update))
        if few < 1 or many % few:
            raise ValueError(
                f"steps_per_update is {self.steps_per_update}; expected a divisor or a multiple "
                f"of n_envs={self.n_envs}"
            )
        if self.buffer_size < self.n_envs:
            raise ValueError(
                f"buffer_size is {self.buffer_size}; expected at least n_envs={self.n_envs}"
            )

    @property
    def rollout_steps(self) -> int:
        """One step of all copies, or as many as one update waits for."""
        return max(self.n_envs, self.steps_per_update)

    @property
    def updates_per_step(self) -> float:
        """One in `steps_per_update`."""
        return 1 / self.steps_per_update


@dataclass(frozen=True, kw_only=True)
class SACSettings(OffPolicySettings):
    """Soft actor-critic: a random policy whose entropy is held at minus the number of actions."""

    initial_entropy_weight: float = 0.1
    """Weight of the entropy at first; then it is learnt."""

    algo: ClassVar[str] = "sac"


@dataclass(frozen=True, kw_only=True)
class TD3Settings(OffPolicySettings):
    """Twin delayed deterministic policy gradient."""

    policy_delay: int = 2
    """Updates of the critics for one of the actor and the targets."""
    noise_scale: float = 0.2
    """Standard deviation of the exploration noise; actions reach from -1 to 1."""
    target_noise: float = 0.2
    """Standard deviation of the noise on target actions."""
    target_noise_clip: float = 0.5
    """Bound of that noise."""

    algo: ClassVar[str] = "td3"


SETTINGS: dict[str, type[OnlineSettings]] = {
    kind.algo: kind for kind in (PPOSettings, SACSettings, TD3Settings)
}


def make_settings(algo: str, **values: Any) -> OnlineSettings:
    """The settings of an algorithm from their values by name.

    Raises
    ------
    ValueError
        If there is no such algorithm; lists those there are.
    """
    if algo not in SETTINGS:
        raise ValueError(f"algo is {algo!r}; expected one of {', '.join(SETTINGS)}")
    return SETTINGS[algo](**values)
