"""What one actor and one critic of multi-agent PPO store, estimate and learn.

The loop over rollouts is `train_mappo`. Dead agents take part in no mean, loss
or statistic until their copy starts anew. Actor and critic have their own
optimiser and generator and share nothing that they write while they learn, so
that each can have a thread.

Source: Yu et al. (2022), The surprising effectiveness of PPO in cooperative
multi-agent games, arXiv 2103.01955; Schulman et al. (2017), arXiv 1707.06347.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from hftlib.agents.experience import Experience
from hftlib.agents.gae import estimate_advantages
from hftlib.agents.learnt import Weights
from hftlib.agents.multiagent import MultiAgentEnv
from hftlib.agents.value_norm import RunningNorm
from hftlib.compute import derive_seed
from hftlib.models.networks import (
    MLP,
    Network,
    SquashedGaussian,
    make_head,
    make_mlp,
    make_recurrent,
)

VALUE_DECAY = 0.95  # of the running norms, a rollout: returns drift as the policies learn
INPUT_DECAY = 0.99


@dataclass(frozen=True)
class MAPPOSettings:
    """Hyper-parameters; a step is one of one copy of the environment, with all its agents."""

    total_steps: int  # rounded up to whole rollouts
    n_steps: int = 128  # of each copy in a rollout
    n_epochs: int = 10  # passes over a rollout
    n_minibatches: int = 1  # of a pass; whole sequences with a memory
    actor_learning_rate: float = 5e-4
    critic_learning_rate: float = 5e-4
    anneals_learning_rates: bool = False  # linearly, to 0 at the end of the training
    gamma: float = 0.99  # discount a step
    gae_lambda: float = 0.95  # 0: one-step advantages, 1: returns less values
    clip_range: float = 0.2  # of the ratio of new to old probabilities, around 1
    value_clip_range: float = 0.2  # of a value around the old one, in normalised units; inf: none
    huber_delta: float = 10.0  # the critic's loss is linear beyond, in normalised units
    entropy_weight: float = 0.01  # of the entropy (nats) in the actor's objective
    initial_std: float = 1.0  # of a box's actions before the tanh, at first; then it is learnt
    max_grad_norm: float = 10.0  # of each network's gradient
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers, actors and critics
    activation: Literal["tanh", "relu"] = "tanh"
    has_central_critic: bool = True  # sees state and own observation; else the latter (IPPO)
    shares_parameters: bool = False  # one actor and critic for agents of equal spaces, told apart
    is_recurrent: bool = False  # a GRU after the hidden layers, as wide as the last
    normalises_values: bool = True  # the critic learns returns less their mean, over their spread
    normalises_inputs: bool = False  # the same for what networks see; frozen into the weights
    reward_scale: float = 1.0  # rewards are multiplied by it first
    n_evaluations: int = 10  # evenly spaced, from before the training to after it; 1: after it

    def __post_init__(self) -> None:
        for name in ("total_steps", "n_steps", "n_epochs", "n_minibatches", "n_evaluations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if not self.initial_std > 0:
            raise ValueError(f"initial_std is {self.initial_std}; expected above 0")
        if not self.hidden and self.is_recurrent:
            raise ValueError("hidden is empty; a recurrent network needs one width at least")


class Learner:
    """One actor and one critic, for one agent or for several that share them."""

    def __init__(
        self,
        env: MultiAgentEnv,
        members: Sequence[int],
        settings: MAPPOSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        self.settings = settings
        self.names = [env.agents[k] for k in members]
        self.head = make_head(env.action_spaces[members[0]]).to(device)
        if isinstance(self.head, SquashedGaussian):
            nn.init.constant_(self.head.log_std, math.log(settings.initial_std))
        self.experience = Experience(
            env,
            members,
            settings.n_steps,
            self.head.n_actions,
            self.head.raw_type,
            has_state=settings.has_central_critic,
            device=device,
        )
        n_columns, n_seen = self.experience.inputs.shape[2], self.experience.n_seen
        make = make_recurrent if settings.is_recurrent else make_mlp
        origin = torch.Generator().manual_seed(derive_seed(seed, "mappo", "weights", *self.names))
        kind = settings.activation
        self.actor: Network = make(
            (n_seen, *settings.hidden, self.head.n_outputs), 0.01, origin, activation=kind
        ).to(device)
        self.critic: Network = make(
            (n_columns, *settings.hidden, 1), 1.0, origin, activation=kind
        ).to(device)
        self.actor_parameters = [*self.actor.parameters(), *self.head.parameters()]
        self.critic_parameters = list(self.critic.parameters())
        self.actor_optimiser = torch.optim.Adam(
            self.actor_parameters, settings.actor_learning_rate, eps=1e-5, fused=True
        )
        self.critic_optimiser = torch.optim.Adam(
            self.critic_parameters, settings.critic_learning_rate, eps=1e-5, fused=True
        )
        self.value_norm = RunningNorm(1, VALUE_DECAY).to(device)
        self.input_norm = RunningNorm(n_columns, INPUT_DECAY).to(device)
        # One a network: the order in which threads get to them does not matter.
        self.actor_generator, self.critic_generator = (
            torch.Generator(device).manual_seed(derive_seed(seed, "mappo", name, *self.names))
            for name in ("actor", "critic")
        )
        n_lanes = self.experience.n_lanes
        self.actor_memory = torch.zeros(n_lanes, self.actor.hidden_size, device=device)
        self.critic_memory = torch.zeros(n_lanes, self.critic.hidden_size, device=device)
        self.begin_rollout()

    def anneal(self, progress: float) -> None:
        """Set the learning rates for this share of the training, 0 to 1."""
        left = 1 - progress if self.settings.anneals_learning_rates else 1.0
        self.actor_optimiser.param_groups[0]["lr"] = left * self.settings.actor_learning_rate
        self.critic_optimiser.param_groups[0]["lr"] = left * self.settings.critic_learning_rate

    def begin_rollout(self) -> None:
        """Keep the memories that the sequences of this rollout start from."""
        self.experience.clear()
        self.actor_memory_at_start = self.actor_memory
        self.critic_memory_at_start = self.critic_memory

    @torch.no_grad()
    def act(self, t: int) -> dict[int, Any]:
        """Draw actions for step `t`; by agent, as the environment takes them."""
        store = self.experience
        inputs = self.input_norm.normalise(store.inputs[t])[:, : store.n_seen]
        memory = torch.where(store.starts[t, :, None], 0.0, self.actor_memory)
        outputs, self.actor_memory = self.actor.step(inputs, memory)
        store.raw_actions[t], store.log_probs[t] = self.head.sample(outputs, self.actor_generator)
        actions = self.head.to_actions(store.raw_actions[t]).cpu().numpy()
        return dict(zip(store.members, np.split(actions, len(store.members)), strict=True))

    @torch.no_grad()
    def estimate(self) -> None:
        """Advantages and targets of the critic, for all steps of the rollout at once."""
        settings, store = self.settings, self.experience
        self.inputs = self.input_norm.normalise(store.inputs)
        outputs, memories = self.critic.unroll(
            self.inputs, store.starts, self.critic_memory_at_start
        )
        values = self.value_norm.denormalise(outputs)[:, :, 0]
        next_values = values[1:].clone()
        steps, lanes, final_inputs = store.final()
        final_outputs, _ = self.critic.step(
            self.input_norm.normalise(final_inputs), memories[steps, lanes]
        )
        next_values[steps, lanes] = self.value_norm.denormalise(final_outputs)[:, 0]
        self.critic_memory = memories[settings.n_steps - 1]
        advantages = estimate_advantages(
            store.rewards,
            values[:-1],
            next_values,
            store.terminated,
            store.ended,
            settings.gamma,
            settings.gae_lambda,
        )
        self.valid = store.alive[:-1].flatten().nonzero()[:, 0]
        returns = (advantages + values[:-1]).flatten()
        if settings.normalises_values and len(self.valid):
            last = self.critic[-1] if isinstance(self.critic, MLP) else self.critic.head
            assert isinstance(last, nn.Linear)
            self.value_norm.update_and_keep(returns[self.valid, None], last)
        self.targets = self.value_norm.normalise(returns)
        self.old_values = self.value_norm.normalise(values[:-1].flatten())
        self.advantages = advantages.flatten()
        spread, mean = torch.std_mean(self.advantages[self.valid], correction=0)
        self.advantages = (self.advantages - mean) / (spread + 1e-8)

    def fit_critic(self) -> dict[str, float]:
        """Fit the critic to the rollout; returns diagnostics."""
        settings = self.settings
        if not len(self.valid):
            return {}
        clip = settings.value_clip_range
        for rows, outputs in self._walk(
            self.critic, self.inputs[:-1], self.critic_memory_at_start, self.critic_generator
        ):
            values, old, target = outputs[:, 0], self.old_values[rows], self.targets[rows]
            clipped = old + (values - old).clamp(-clip, clip)
            losses = [
                huber_loss(v, target, reduction="none", delta=settings.huber_delta)
                for v in (values, clipped)
            ]
            loss = torch.maximum(*losses).mean()
            self._descend(self.critic_optimiser, self.critic_parameters, loss)
        unexplained = (self.targets - self.old_values)[self.valid].var(correction=0)
        spread = self.targets[self.valid].var(correction=0)
        return self._report(explained_variance=1 - unexplained / (spread + 1e-8))

    def fit_actor(self) -> dict[str, float]:
        """Fit the actor to the rollout; returns diagnostics."""
        settings, store = self.settings, self.experience
        if not len(self.valid):
            return {}
        raw_actions, old = store.raw_actions.flatten(0, 1), store.log_probs.flatten()
        reports = []
        for rows, outputs in self._walk(
            self.actor,
            self.inputs[:-1, :, : store.n_seen],
            self.actor_memory_at_start,
            self.actor_generator,
        ):
            log_ratio = self.head.log_prob(outputs, raw_actions.index_select(0, rows)) - old[rows]
            ratio, advantages = log_ratio.exp(), self.advantages[rows]
            clipped = ratio.clamp(1 - settings.clip_range, 1 + settings.clip_range)
            gain = torch.minimum(ratio * advantages, clipped * advantages).mean()
            entropy = self.head.entropy(outputs, self.actor_generator).mean()
            self._descend(
                self.actor_optimiser,
                self.actor_parameters,
                -gain - settings.entropy_weight * entropy,
            )
            with torch.no_grad():
                far = ((ratio - 1).abs() > settings.clip_range).float().mean()
                reports.append(torch.stack([entropy, (ratio - 1 - log_ratio).mean(), far]))
        entropy, kl, far = torch.stack(reports).mean(dim=0)
        reward = store.rewards.flatten()[self.valid].mean() / settings.reward_scale
        return self._report(reward=reward, entropy=entropy, kl=kl, clipped=far)

    def end_rollout(self) -> None:
        """Let the next rollout see its inputs through the statistics of this one too."""
        if self.settings.normalises_inputs and len(self.valid):
            self.input_norm.update(self.experience.inputs[:-1].flatten(0, 1)[self.valid])

    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        return all(
            bool(values.isfinite().all())
            for values in (*self.actor_parameters, *self.critic_parameters)
        )

    def export_actors(self) -> Weights:
        """Weights for `LearntActor`, under "<agent>/actor/".

        The first layer takes in what stands before it: the norm of the inputs, and the columns
        that tell the members apart, each of which is a bias of its member.
        """
        store = self.experience
        state = {k: v.detach().cpu() for k, v in self.actor.state_dict().items()}
        state |= {k: v.detach().cpu() for k, v in self.head.named_parameters()}
        first = "0" if isinstance(self.actor, MLP) else "body.0"
        mean, sd = (x[: store.n_seen].cpu() for x in (self.input_norm.mean, self.input_norm.sd))
        weight = state[f"{first}.weight"] / sd
        bias = state[f"{first}.bias"] - weight @ mean
        weights: Weights = {}
        for m, name in enumerate(self.names):
            mark = weight[:, store.n_observed + m] if len(self.names) > 1 else 0.0
            own = state | {
                f"{first}.weight": weight[:, : store.n_observed],
                f"{first}.bias": bias + mark,
            }
            weights |= {f"{name}/actor/{k}": v.clone().numpy() for k, v in own.items()}
        return weights

    def save_state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on bit for bit, between two rollouts."""
        return {
            "parts": [part.state_dict() for part in self._parts()],
            "generators": [self.actor_generator.get_state(), self.critic_generator.get_state()],
            "memories": [self.actor_memory, self.critic_memory],
        }

    def load_state(self, saved: dict[str, Any]) -> None:
        """Go on from `save_state`."""
        for part, state in zip(self._parts(), saved["parts"], strict=True):
            part.load_state_dict(state)
        self.actor_generator.set_state(saved["generators"][0])
        self.critic_generator.set_state(saved["generators"][1])
        self.actor_memory, self.critic_memory = (
            memory.to(self.experience.device) for memory in saved["memories"]
        )

    def _parts(self) -> tuple[Any, ...]:
        networks = (self.actor, self.head, self.critic, self.value_norm, self.input_norm)
        return (*networks, self.actor_optimiser, self.critic_optimiser)

    def _walk(
        self, network: Network, inputs: Tensor, memory: Tensor, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Minibatches of all epochs: flat indices of their valid samples, and the outputs there.

        A perceptron gets single samples in a random order, a recurrent network whole sequences
        of random lanes.
        """
        n_steps, n_lanes = inputs.shape[:2]
        is_recurrent = network.hidden_size > 0
        n = n_lanes if is_recurrent else len(self.valid)
        samples = torch.arange(n_steps * n_lanes, device=inputs.device).view(n_steps, n_lanes)
        for _ in range(self.settings.n_epochs):
            order = torch.randperm(n, generator=generator, device=inputs.device)
            for part in order.tensor_split(self.settings.n_minibatches):
                if is_recurrent:
                    alive = self.experience.alive[:-1, part]
                    starts = self.experience.starts[:-1, part]
                    outputs, _ = network.unroll(inputs[:, part], starts, memory[part])
                    rows, outputs = samples[:, part][alive], outputs[alive]
                else:
                    rows = self.valid[part]
                    outputs = network(inputs.flatten(0, 1).index_select(0, rows))
                if len(rows):
                    yield rows, outputs

    def _descend(
        self, optimiser: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor
    ) -> None:
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm)
        optimiser.step()

    def _report(self, **values: Tensor) -> dict[str, float]:
        label = "+".join(self.names)
        return {f"{label}/{name}": value.item() for name, value in values.items()}
