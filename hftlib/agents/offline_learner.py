"""What is learnt from recorded transitions: three algorithms on the 36 coded actions.

- behaviour cloning: what did the players do?
- implicit Q-learning: which of what they did turned out better than usual? No action that
  was not recorded is ever asked about.
- conservative Q-learning: what is best, with the values of actions that were not recorded
  pushed down?

Actions that an observation does not allow have no part in any maximum or softmax. A player
may still have pressed them, as buying on top of a position: such transitions have weight 0,
and the curve says how many they are. The loop over updates is `offline.train_offline`.

Source: Kostrikov, Nair & Levine (2021), Offline reinforcement learning with implicit
Q-learning, arXiv 2110.06169; Kumar et al. (2020), Conservative Q-learning for offline
reinforcement learning, arXiv 2006.04779, CQL(H); van Hasselt, Guez & Silver (2016), Deep
reinforcement learning with double Q-learning, AAAI 30.
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from hftlib.agents.maddpg_learner import follow_weights
from hftlib.compute import derive_seed
from hftlib.models.networks import MLP, make_mlp
from hftlib.sessions.observation import FEATURE_COUNT
from hftlib.sessions.vocabulary import N_ACTIONS

LOWEST = -1e9  # of an action that is not allowed; times a weight of 0 it is 0, which -inf is not


@dataclass(frozen=True, kw_only=True)
class OfflineSettings:
    """What the three algorithms have in common."""

    n_updates: int
    """Gradient steps."""
    batch_size: int = 256
    """Transitions of one gradient step, drawn with replacement."""
    learning_rate: float = 3e-4
    """Adam's step size, of every network."""
    hidden: tuple[int, ...] = (64, 64)
    """Units of each hidden layer, of every network."""
    max_grad_norm: float = 10.0
    """Longest gradient of a network; a longer one is shortened to it."""
    n_evaluations: int = 10
    """Points of the learning curve, evenly spaced, the end included."""

    algo: ClassVar[str]

    def __post_init__(self) -> None:
        limits = {
            "n_updates": self.n_updates >= 1,
            "batch_size": self.batch_size >= 1,
            "learning_rate": self.learning_rate > 0,
            "max_grad_norm": self.max_grad_norm > 0,
            "n_evaluations": 1 <= self.n_evaluations <= self.n_updates,
        }
        self._check(limits)

    def _check(self, limits: dict[str, bool]) -> None:
        for name, holds in limits.items():
            if not holds:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; see {type(self).__name__} for its range"
                )


@dataclass(frozen=True, kw_only=True)
class BCSettings(OfflineSettings):
    """Behaviour cloning."""

    algo: ClassVar[str] = "bc"


@dataclass(frozen=True, kw_only=True)
class ValueSettings(OfflineSettings):
    """What the two learners of values add."""

    gamma: float = 0.99
    """Discount a tick, in [0, 1]."""
    reward_scale: float = 1.0
    """Factor on the rewards, in SOL, so that values are of order one."""
    tau: float = 0.005
    """Step of the target networks toward the learnt ones at each update, in (0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = {
            "gamma": 0 <= self.gamma <= 1,
            "reward_scale": self.reward_scale > 0,
            "tau": 0 < self.tau <= 1,
        }
        self._check(limits)


@dataclass(frozen=True, kw_only=True)
class IQLSettings(ValueSettings):
    """Implicit Q-learning."""

    expectile: float = 0.7
    """Of the values of recorded actions that a state is worth, in (0, 1): .5 is their mean, 1
    would be their maximum, luck included."""
    sharpness: float = 3.0
    """An action's weight in the policy's loss is exp(sharpness * advantage); 0 is cloning."""
    max_weight: float = 100.0
    """Largest such weight."""

    algo: ClassVar[str] = "iql"

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = {
            "expectile": 0 < self.expectile < 1,
            "sharpness": self.sharpness >= 0,
            "max_weight": self.max_weight > 0,
        }
        self._check(limits)


@dataclass(frozen=True, kw_only=True)
class CQLSettings(ValueSettings):
    """Conservative Q-learning for discrete actions."""

    penalty: float = 1.0
    """Weight of log sum exp of all actions' values less the value of the recorded one; 0 is
    double Q-learning."""

    algo: ClassVar[str] = "cql"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check({"penalty": self.penalty >= 0})


class Sample(NamedTuple):
    """Transitions of one update.

    inputs, next_inputs : float32 tensors of shape (n, 36)
        Scaled.
    actions : int64 tensor of shape (n, 1)
        Coded.
    rewards : tensor of shape (n,)
        SOL.
    continues : tensor of shape (n,), 1 or 0
        0 after the rug; the end of a capture ends no game.
    valid, next_valid : bool tensors of shape (n, 36)
        The actions allowed before and after.
    weights : tensor of shape (n,), 1 or 0
        0 where the recorded action is not allowed.
    """

    inputs: Tensor
    actions: Tensor
    rewards: Tensor
    next_inputs: Tensor
    continues: Tensor
    valid: Tensor
    next_valid: Tensor
    weights: Tensor


class Learner(nn.Module, ABC):
    """Networks of one algorithm.

    `actor` is the network that decides: its outputs are those of an `OfflinePolicy`.
    """

    actor: MLP

    @abstractmethod
    def find_losses(self, sample: Sample) -> dict[str, Tensor]:
        """What is minimised, by name; their sum is differentiated."""

    def follow(self) -> None:
        """Move the targets, if there are any, after an update."""


class BC(Learner):
    """The recorded action's negative log-likelihood."""

    def __init__(self, settings: BCSettings, seed: int) -> None:
        super().__init__()
        origin = torch.Generator().manual_seed(derive_seed(seed, "offline", "weights"))
        self.actor = _make(settings, N_ACTIONS, 0.01, origin)

    def find_losses(self, sample: Sample) -> dict[str, Tensor]:
        """The loss of the policy."""
        surprise = -log_policy(self.actor(sample.inputs), sample.valid).gather(1, sample.actions)
        return {"policy_loss": weighted_mean(surprise[:, 0], sample.weights)}


class IQL(Learner):
    """A state's value as an expectile, two critics on it, and an advantage-weighted policy."""

    def __init__(self, settings: IQLSettings, seed: int) -> None:
        super().__init__()
        self.settings = settings
        origin = torch.Generator().manual_seed(derive_seed(seed, "offline", "weights"))
        self.actor = _make(settings, N_ACTIONS, 0.01, origin)
        self.value = _make(settings, 1, 1.0, origin)
        self.critics = nn.ModuleList(_make(settings, N_ACTIONS, 1.0, origin) for _ in range(2))
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)

    def find_losses(self, sample: Sample) -> dict[str, Tensor]:
        """Losses of three kinds of networks; none changes another's."""
        settings, rewards = self.settings, sample.rewards * self.settings.reward_scale
        with torch.no_grad():
            twins = [net(sample.inputs).gather(1, sample.actions) for net in self.target_critics]
            worth = torch.cat(twins, dim=1).amin(dim=1)
            next_value = self.value(sample.next_inputs)[:, 0]
            target = rewards + settings.gamma * sample.continues * next_value
        advantage = worth - self.value(sample.inputs)[:, 0]
        value_loss = expectile_loss(advantage, settings.expectile)
        critic_loss = torch.stack(
            [
                (net(sample.inputs).gather(1, sample.actions)[:, 0] - target).square()
                for net in self.critics
            ]
        ).sum(dim=0)
        push = (settings.sharpness * advantage.detach()).exp().clamp(max=settings.max_weight)
        surprise = -log_policy(self.actor(sample.inputs), sample.valid).gather(1, sample.actions)
        return {
            "value_loss": weighted_mean(value_loss, sample.weights),
            "critic_loss": weighted_mean(critic_loss, sample.weights),
            "policy_loss": weighted_mean(push * surprise[:, 0], sample.weights),
        }

    def follow(self) -> None:
        """Move the target critics."""
        follow_weights(self.target_critics, self.critics, self.settings.tau)


class CQL(Learner):
    """Double Q-learning with a penalty on the values of actions that were not recorded."""

    def __init__(self, settings: CQLSettings, seed: int) -> None:
        super().__init__()
        self.settings = settings
        origin = torch.Generator().manual_seed(derive_seed(seed, "offline", "weights"))
        self.actor = _make(settings, N_ACTIONS, 1.0, origin)  # its outputs are action values
        self.target = copy.deepcopy(self.actor).requires_grad_(False)

    def find_losses(self, sample: Sample) -> dict[str, Tensor]:
        """Half the squared TD error, and the penalty."""
        settings, rewards = self.settings, sample.rewards * self.settings.reward_scale
        with torch.no_grad():
            best = mask_values(self.actor(sample.next_inputs), sample.next_valid).argmax(dim=1)
            next_value = self.target(sample.next_inputs).gather(1, best[:, None])[:, 0]
            target = rewards + settings.gamma * sample.continues * next_value
        values = self.actor(sample.inputs)
        recorded = values.gather(1, sample.actions)[:, 0]
        excess = mask_values(values, sample.valid).logsumexp(dim=1) - recorded
        return {
            "critic_loss": weighted_mean((recorded - target).square() / 2, sample.weights),
            "penalty": settings.penalty * weighted_mean(excess, sample.weights),
        }

    def follow(self) -> None:
        """Move the target."""
        follow_weights(self.target, self.actor, self.settings.tau)


def make_learner(settings: OfflineSettings, seed: int) -> Learner:
    """The learner that the kind of the settings asks for; `seed` fixes its initial weights."""
    if isinstance(settings, IQLSettings):
        return IQL(settings, seed)
    if isinstance(settings, CQLSettings):
        return CQL(settings, seed)
    if isinstance(settings, BCSettings):
        return BC(settings, seed)
    raise TypeError(f"settings are {settings!r}; expected BCSettings, IQLSettings or CQLSettings")


def mask_values(values: Tensor, valid: Tensor) -> Tensor:
    """Values of shape (n, 36), `LOWEST` where an action is not allowed."""
    return values.masked_fill(~valid, LOWEST)


def log_policy(outputs: Tensor, valid: Tensor) -> Tensor:
    """Log-probabilities of shape (n, 36) over the allowed actions."""
    return mask_values(outputs, valid).log_softmax(dim=1)


def expectile_loss(gaps: Tensor, expectile: float) -> Tensor:
    """Squares of shape (n,), those of positive gaps times `expectile`, others times the rest.

    Its mean is least where a constant subtracted from the gaps is their expectile.
    """
    return torch.where(gaps > 0, expectile, 1 - expectile) * gaps.square()


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of values of shape (n,); 0 where no weight is positive."""
    return (values * weights).sum() / weights.sum().clamp(min=1)


def _make(settings: OfflineSettings, n_outputs: int, gain: float, origin: torch.Generator) -> MLP:
    sizes = (FEATURE_COUNT, *settings.hidden, n_outputs)
    return make_mlp(sizes, gain, origin, activation="relu")
