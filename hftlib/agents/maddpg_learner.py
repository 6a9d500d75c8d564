"""What MADDPG and MATD3 learn: actors, central critics, and the targets of both.

The loop over steps is `train_maddpg`. An agent that has ended acts 0 in the eyes
of the critics and takes part in no mean or loss until its copy starts anew.

Source: as `hftlib.agents.maddpg`.
"""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn

from hftlib.agents.experience import Situation
from hftlib.agents.learnt import Weights
from hftlib.agents.multiagent import BoolArray, FloatArray, MultiAgentEnv, Outcome
from hftlib.agents.noise import NoiseKind
from hftlib.compute import derive_seed
from hftlib.models.networks import MLP, make_mlp


@dataclass(frozen=True)
class MADDPGSettings:
    """Hyper-parameters; a step is one of one copy of the environment, with all its agents.

    The defaults are MATD3. MADDPG has has_twin_critics=False, policy_delay=1, target_noise=0.
    Actions are measured in [-1, 1], whatever the bounds of their Box.
    """

    total_steps: int  # rounded up to whole steps of all copies
    actor_learning_rate: float = 1e-4
    critic_learning_rate: float = 1e-3
    gamma: float = 0.99  # discount a step
    tau: float = 0.005  # share of the new weights in the targets' at each of their updates
    batch_size: int = 256  # transitions of an update
    buffer_size: int = 1_000_000  # transitions; no more than total_steps are allocated
    updates_per_step: float = 1.0  # for each step of all copies: 1 is one for n_envs transitions
    n_warmup_steps: int = 1000  # of uniform random actions, without updates
    has_twin_critics: bool = True  # two for each agent; targets take the smaller value
    policy_delay: int = 2  # updates of the critics for one of the actors and of all targets
    target_noise: float = 0.2  # sd of the noise on the targets' actions
    target_noise_clip: float = 0.5  # most of it
    noise_kind: NoiseKind = "gaussian"  # of the exploration; "ou" is correlated in time
    noise_theta: float = 0.15  # speed of mean reversion of "ou", per step
    noise_scale: float = 0.1  # sd of the exploration noise at first
    noise_decay: float = 0.9995  # its factor for every episode that ends, in any copy
    noise_floor: float = 0.01  # it does not fall below
    priority_alpha: float = 0.6  # draws go with |TD error|^alpha; 0 draws uniformly
    priority_beta: float = 0.4  # of the importance weights at first; rises linearly to 1
    max_grad_norm: float = 10.0  # of each actor's gradient, and of each agent's critics'
    saturation_penalty: float = 1e-3  # of the mean square before the tanh, in the actor's loss
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers, actors and critics
    activation: Literal["tanh", "relu"] = "relu"
    reward_scale: float = 1.0  # rewards are multiplied by it first
    normalises_rewards: bool = True  # and divided by the standard deviation of all so far
    n_evaluations: int = 10  # evenly spaced, from before the training to after it; 1: after it

    def __post_init__(self) -> None:
        for name in ("total_steps", "batch_size", "buffer_size", "policy_delay", "n_evaluations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        for name in ("gamma", "tau", "noise_decay", "priority_alpha", "priority_beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")


class Batch(NamedTuple):
    """Transitions, one a row.

    state, next_state : tensors of shape (n, state_size)
    observations, next_observations : one tensor of shape (n, n_inputs) an agent
    actions : tensor of shape (n, n_actions of all agents)
        In [-1, 1]; 0 for agents that have ended.
    alive, continues : tensors of shape (n_agents, n), 1 or 0
        Whether the agent takes part in the step, and after it: the clock ends no one's future.
    rewards : tensor of shape (n_agents, n)
    weights : tensor of shape (n,)
        Importance weights, see `replay.Sample`.
    """

    state: Tensor
    observations: tuple[Tensor, ...]
    actions: Tensor
    alive: Tensor
    next_state: Tensor
    next_observations: tuple[Tensor, ...]
    rewards: Tensor
    continues: Tensor
    weights: Tensor


class Critics(nn.Module):
    """Perceptrons of equal sizes; each layer of all of them is one batched product."""

    def __init__(self, networks: Sequence[MLP]) -> None:
        super().__init__()
        linear = ([x for x in net if isinstance(x, nn.Linear)] for net in networks)
        layers = list(zip(*linear, strict=True))
        self.weights = nn.ParameterList(
            torch.stack([x.weight.detach().T for x in layer]) for layer in layers
        )
        self.biases = nn.ParameterList(
            torch.stack([x.bias.detach()[None] for x in layer]) for layer in layers
        )
        self.is_relu = bool(networks[0].relu)

    def forward(self, inputs: Tensor, step: int = 1) -> Tensor:
        """Values, shape (n_networks, n), of every `step`-th network.

        Parameters
        ----------
        inputs : tensor of shape (n, n_inputs), or (n_networks, n, n_inputs)
        """
        hidden = inputs.expand(len(self.biases[0][::step]), *inputs.shape[-2:])
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias[::step], hidden, weight[::step])
            if k < len(self.weights) - 1:
                # With gradients 4 times as fast as relu in `compute.DETERMINISTIC_ENVIRONMENT`.
                hidden = hidden * (hidden > 0) if self.is_relu else hidden.tanh()
        return hidden[:, :, 0]


class Learner:
    """Networks of all agents; `update` is one descent.

    Critics see the state and the actions of all agents; twin j of agent k is number
    k * n_twins + j.
    """

    def __init__(
        self, env: MultiAgentEnv, settings: MADDPGSettings, seed: int, device: torch.device
    ) -> None:
        self.settings, self.device, self.names = settings, device, env.agents
        boxes = [_check_box(*own) for own in zip(env.agents, env.action_spaces, strict=True)]
        self.low = np.concatenate([box.low for box in boxes])
        self.half_range = (np.concatenate([box.high for box in boxes]) - self.low) / 2
        self.n_actions = [box.shape[0] for box in boxes]
        n_inputs = [space.shape[0] for space in env.observation_spaces]
        n_agents, n_joint = len(env.agents), sum(self.n_actions)
        self.owners = torch.repeat_interleave(torch.tensor(self.n_actions)).to(device)
        before = [env.state_size, *n_inputs, n_joint, n_agents]
        self.columns = [*before, env.state_size, *n_inputs, n_agents, n_agents]
        origin = torch.Generator().manual_seed(derive_seed(seed, "maddpg", "weights"))

        def make(n_in: int, n_out: int, gain: float) -> MLP:
            sizes = (n_in, *settings.hidden, n_out)
            return make_mlp(sizes, gain, origin, activation=settings.activation)

        self.n_twins = 2 if settings.has_twin_critics else 1
        self.actors = nn.ModuleList(
            make(*sizes, 0.01) for sizes in zip(n_inputs, self.n_actions, strict=True)
        ).to(device)
        self.critics = Critics(
            [make(env.state_size + n_joint, 1, 1.0) for _ in range(n_agents * self.n_twins)]
        ).to(device)
        self.target_actors = copy.deepcopy(self.actors).requires_grad_(False)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor_parameters = list(self.actors.parameters())
        self.critic_parameters = list(self.critics.parameters())
        # Adam treats every weight for itself: one optimiser is as good as one for each agent.
        self.actor_optimiser = torch.optim.Adam(
            self.actor_parameters, settings.actor_learning_rate, fused=True
        )
        self.critic_optimiser = torch.optim.Adam(
            self.critic_parameters, settings.critic_learning_rate, fused=True
        )
        self.generator = torch.Generator(device).manual_seed(derive_seed(seed, "maddpg", "targets"))
        self.n_updates = 0
        self.reward_sums = np.zeros((3, n_agents))  # of 1, r and r^2 over living agents

    @torch.no_grad()
    def act(self, observations: Sequence[FloatArray]) -> FloatArray:
        """Actions of all agents without noise, shape (n, n_actions of all agents)."""
        inputs = (torch.as_tensor(x).to(self.device) for x in observations)
        raw = [actor(x) for actor, x in zip(self.actors, inputs, strict=True)]
        return torch.cat(raw, dim=1).tanh().cpu().numpy()

    def stretch(self, actions: FloatArray) -> list[FloatArray]:
        """Actions in [-1, 1] of all agents as the environment takes them."""
        stretched = self.low + (actions + 1) * self.half_range
        return np.split(stretched, np.cumsum(self.n_actions)[:-1], axis=1)

    def before(self, now: Situation, actions: FloatArray) -> FloatArray:
        """First columns of the rows of a replay: what is known before a step."""
        return np.hstack([now.state, *now.observations, actions, now.alive], dtype=np.float32)

    def after(self, transition: Outcome) -> FloatArray:
        """The columns that follow: what the step brought, at the end of the old episode."""
        outcome = (transition.rewards * self.settings.reward_scale, ~transition.terminated)
        last = (transition.final_state, *transition.final_observations)
        return np.hstack([*last, *outcome], dtype=np.float32)

    def count_rewards(self, rewards: npt.NDArray[np.float64], alive: BoolArray) -> None:
        """Take in the rewards of a step of all copies, shape (n_envs, n_agents)."""
        rewards = rewards * self.settings.reward_scale
        self.reward_sums += (np.stack([alive, rewards, rewards**2]) * alive).sum(axis=1)

    def reward_spread(self) -> FloatArray:
        """Standard deviation of each agent's rewards so far, shape (n_agents,); 1 if none."""
        n, total, squares = self.reward_sums
        n = np.maximum(n, 1)
        variance = squares / n - (total / n) ** 2
        is_spread = self.settings.normalises_rewards & (variance > 1e-12 * squares / n)
        return np.sqrt(np.where(is_spread, variance, 1.0)).astype(np.float32)

    def read(self, rows: FloatArray, weights: FloatArray) -> Batch:
        """The batch that rows of the replay are; rewards in units of their spread."""
        k = len(self.names)
        parts = torch.from_numpy(rows).to(self.device).split(self.columns, dim=1)
        state, seen, (actions, alive, next_state) = parts[0], parts[1 : k + 1], parts[k + 1 : k + 4]
        next_seen, (rewards, continues) = parts[k + 4 : -2], parts[-2:]
        return Batch(
            state,
            seen,
            actions,
            alive.T,
            next_state,
            next_seen,
            rewards.T / torch.from_numpy(self.reward_spread()).to(self.device)[:, None],
            continues.T,
            torch.from_numpy(weights).to(self.device),
        )

    def update(self, batch: Batch) -> FloatArray:
        """Fit the critics, and after `policy_delay` times the actors and the targets.

        Returns
        -------
        array of shape (n,)
            Mean |TD error| over living agents and twins, the priority of a transition.

        Raises
        ------
        FloatingPointError
            If a gradient is not finite; the weights stay as they are.
        """
        errors = self.fit_critics(batch)
        self.n_updates += 1
        if self.n_updates % self.settings.policy_delay == 0:
            self.fit_actors(batch)
            follow_weights(self.target_actors, self.actors, self.settings.tau)
            follow_weights(self.target_critics, self.critics, self.settings.tau)
        return errors

    def fit_critics(self, batch: Batch) -> FloatArray:
        """One descent on the squared TD errors of every agent's critics; returns as `update`."""
        targets, alive = self.estimate_targets(batch), batch.alive
        values = self.critics(torch.cat([batch.state, batch.actions], dim=1))
        errors = (values.view(len(alive), self.n_twins, -1) - targets[:, None]) * alive[:, None]
        n_samples = alive.sum(dim=1).clamp(min=1)
        losses = (batch.weights * errors.square()).sum(dim=(1, 2)) / n_samples
        parameters = self.critic_parameters
        gradients = torch.autograd.grad(losses.sum(), parameters)
        by_agent = zip(*(x.split(self.n_twins) for x in gradients), strict=True)
        self._descend(self.critic_optimiser, parameters, gradients, by_agent)
        spread = errors.detach().abs().mean(dim=1).sum(dim=0)
        return (spread / alive.sum(dim=0).clamp(min=1)).cpu().numpy()

    @torch.no_grad()
    def estimate_targets(self, batch: Batch) -> Tensor:
        """What the critics should say, shape (n_agents, n): reward and discounted next value."""
        settings = self.settings
        pairs = zip(self.target_actors, batch.next_observations, strict=True)
        joint = torch.cat([actor(x) for actor, x in pairs], dim=1).tanh()
        if settings.target_noise > 0:
            noise = torch.empty_like(joint).normal_(generator=self.generator)
            clip = settings.target_noise_clip
            joint = (joint + (settings.target_noise * noise).clamp(-clip, clip)).clamp(-1, 1)
        joint = joint * batch.continues[self.owners].T
        next_values = self.target_critics(torch.cat([batch.next_state, joint], dim=1))
        least = next_values.view(len(self.names), self.n_twins, -1).amin(dim=1)
        return batch.rewards + settings.gamma * batch.continues * least

    def fit_actors(self, batch: Batch) -> None:
        """One descent of every actor on its first critic, the others acting as in the replay."""
        inputs, penalties = [], []
        for k, actor in enumerate(self.actors):
            raw = actor(batch.observations[k])
            actions = list(batch.actions.split(self.n_actions, dim=1))
            actions[k] = raw.tanh()
            inputs.append(torch.cat([batch.state, *actions], dim=1))
            penalties.append(self.settings.saturation_penalty * raw.square().mean(dim=1))
        values = self.critics(torch.stack(inputs), step=self.n_twins)
        losses = ((torch.stack(penalties) - values) * batch.alive).sum(dim=1)
        losses = losses / batch.alive.sum(dim=1).clamp(min=1)
        parameters = self.actor_parameters
        gradients = torch.autograd.grad(losses.sum(), parameters)  # those of the critics are not
        n = len(parameters) // len(self.names)
        by_agent = (gradients[k : k + n] for k in range(0, len(parameters), n))
        self._descend(self.actor_optimiser, parameters, gradients, by_agent)

    def _descend(
        self,
        optimiser: torch.optim.Optimizer,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        by_agent: Iterable[Sequence[Tensor]],
    ) -> None:
        """Clip the gradient of each agent, views of `gradients`, for itself, and take one step."""
        for name, own in zip(self.names, by_agent, strict=True):
            norm = nn.utils.get_total_norm(own).item()
            if not math.isfinite(norm):
                raise FloatingPointError(f"a gradient of {name!r} is not finite")
            if norm > self.settings.max_grad_norm:
                for gradient in own:
                    gradient *= self.settings.max_grad_norm / norm
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()

    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        return all(
            bool(x.isfinite().all()) for part in self._parts()[:4] for x in part.parameters()
        )

    def export_actors(self) -> Weights:
        """Weights for `LearntActor`, under "<agent>/actor/"."""
        return {
            f"{name}/actor/{key}": values.detach().cpu().numpy().copy()
            for name, actor in zip(self.names, self.actors, strict=True)
            for key, values in actor.state_dict().items()
        }

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit."""
        return {
            "parts": [part.state_dict() for part in self._parts()],
            "generator": self.generator.get_state(),
            "n_updates": self.n_updates,
            "reward_sums": self.reward_sums.copy(),
        }

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state`."""
        for part, state in zip(self._parts(), saved["parts"], strict=True):
            part.load_state_dict(state)
        self.generator.set_state(saved["generator"].cpu())
        self.n_updates = saved["n_updates"]
        self.reward_sums = saved["reward_sums"].copy()

    def _parts(self) -> tuple[Any, ...]:
        networks = (self.actors, self.critics, self.target_actors, self.target_critics)
        return (*networks, self.actor_optimiser, self.critic_optimiser)


@torch.no_grad()
def follow_weights(targets: nn.Module, networks: nn.Module, tau: float) -> None:
    """Polyak average: targets become (1 - tau) targets + tau networks."""
    for target, source in zip(targets.parameters(), networks.parameters(), strict=True):
        target.lerp_(source, tau)


def _check_box(name: str, space: spaces.Space[Any]) -> spaces.Box:
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ValueError(
            f"agent {name!r} has the action space {space}; MADDPG needs a one-dimensional Box: "
            "take the environment's continuous actions, or train_mappo"
        )
    if not space.is_bounded():
        raise ValueError(f"agent {name!r} has unbounded actions, {space}; give the Box bounds")
    return space
