"""MADDPG and MATD3: deterministic actors, each with critics that see all agents in training.

`train_maddpg` is the loop over steps, `maddpg_learner.Learner` what is learnt. A
step of all copies together is followed by updates on transitions of the replay.
The same arguments give the same weights, whether the call ran through or was
stopped and resumed.

Source: Lowe et al. (2017), Multi-agent actor-critic for mixed
cooperative-competitive environments, arXiv 1706.02275; Ackermann et al. (2019),
Reducing overestimation bias in multi-agent domains using double centralized
critics, arXiv 1910.01465 (MATD3); Fujimoto et al. (2018), arXiv 1802.09477 (TD3).
"""

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hftlib.agents.checkpoint import (
    describe_training,
    load_checkpoint,
    name_checkpoint,
    save_checkpoint,
)
from hftlib.agents.experience import begin, follow
from hftlib.agents.learnt import LearntActor, Trained
from hftlib.agents.maddpg_learner import Learner, MADDPGSettings
from hftlib.agents.multiagent import MultiAgentEnv
from hftlib.agents.noise import ActionNoise, decay_scale
from hftlib.agents.policy import Policy
from hftlib.agents.replay import ReplayBuffer
from hftlib.compute import derive_rng, derive_seed

__all__ = ["MADDPGSettings", "Trained", "train_maddpg"]
logger = logging.getLogger(__name__)


def train_maddpg(
    env: MultiAgentEnv,
    settings: MADDPGSettings,
    seed: int,
    *,
    evaluate: Callable[[Mapping[str, Policy]], Mapping[str, float]] | None = None,
    scratch: Path | None = None,
    fingerprint: str = "",
    device: str = "auto",
) -> Trained:
    """Train the agents of an environment together; their actions are Boxes.

    Parameters
    ----------
    env : MultiAgentEnv
        Reset with a seed derived from `seed`.
    seed : int
        Fixes initial weights, episodes, noise and draws from the replay.
    evaluate : function from policies by agent to measures by name, optional
        Called at every evaluation with policies that do not explore; needs an environment of its
        own. Looking does not change the training.
    scratch : folder, optional
        Holds the last checkpoint, the replay included; a later call with the same arguments and
        the same code goes on from there.
    fingerprint : str
        Tells environments apart for the checkpoint, where their spaces do not.
    device : "auto", "cpu" or "cuda"
        "auto" is cuda where there is one.

    Returns
    -------
    Trained
        Weights of the actors, for `LearntActor.from_weights`. The curve has the measures of
        `evaluate` and, since the evaluation before, the means over steps of "<agent>/reward" and
        over updates of "td_error" (in standard deviations of the rewards).

    Raises
    ------
    ValueError
        If an agent's actions are no Box; names it.
    FloatingPointError
        If a weight or gradient becomes nan or infinite; names the step.
    """
    torch.set_num_threads(1)  # more lose time on layers this small
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    learner = Learner(env, settings, seed, torch.device(device))
    n_steps = math.ceil(settings.total_steps / env.n_envs)  # of all copies
    n_joint = sum(learner.n_actions)
    replay = ReplayBuffer(
        min(settings.buffer_size, n_steps * env.n_envs),
        sum(learner.columns),
        settings.priority_alpha,
    )
    noise = ActionNoise(
        settings.noise_kind,
        (env.n_envs, n_joint),
        derive_rng(seed, "maddpg", "noise"),
        settings.noise_theta,
    )
    rng = derive_rng(seed, "maddpg", "draws")
    parts: tuple[Any, ...] = (env, learner, replay, noise)
    due = set(np.linspace(n_steps, 0, settings.n_evaluations).round().astype(int).tolist())
    now = begin(env, derive_seed(seed, "maddpg", "env"))
    curve: list[tuple[int, str, float]] = []
    first, n_episodes, path, is_resumed = 0, 0, None, False
    about = describe_training("maddpg", env, settings, seed, fingerprint)
    if scratch is not None:
        path = name_checkpoint(scratch, about)
        if path.exists():
            saved = load_checkpoint(path, about)
            first, n_episodes, now, curve = (
                saved[name] for name in ("step", "n_episodes", "now", "curve")
            )
            rng.bit_generator.state = saved["rng"]
            for part, state in zip(parts, saved["parts"], strict=True):
                part.load_state(state)
            is_resumed = True
            logger.info("resumed at step %d", first * env.n_envs)

    counted = learner.reward_sums.copy()  # since the last evaluation, and these
    td_errors: list[float] = []
    for t in range(first, n_steps + 1):
        step = t * env.n_envs
        if t in due and not (is_resumed and t == first):
            if not learner.is_finite():
                raise _diverge(step, "a weight is not finite", path)
            n, total = (learner.reward_sums - counted)[:2]
            measures = {
                f"{name}/reward": total[k] / n[k] / settings.reward_scale
                for k, name in enumerate(env.agents)
                if n[k] > 0
            }
            if td_errors:
                measures["td_error"] = float(np.mean(td_errors))
            if evaluate is not None:
                measures |= evaluate(_make_policies(env, learner))
            curve += [(step, name, float(value)) for name, value in measures.items()]
            shown = ", ".join(f"{name} {value:.4g}" for name, value in measures.items())
            logger.info("step %d of %d: %s", step, n_steps * env.n_envs, shown)
            counted, td_errors = learner.reward_sums.copy(), []
            if path is not None:
                state = {"step": t, "n_episodes": n_episodes, "now": now, "curve": curve}
                state["rng"] = rng.bit_generator.state
                state["parts"] = [part.save_state() for part in parts]
                save_checkpoint(path, about, state)
        if t == n_steps:
            break

        is_warm = step >= settings.n_warmup_steps
        if is_warm:
            scale = decay_scale(
                settings.noise_scale, settings.noise_decay, settings.noise_floor, n_episodes
            )
            actions = np.clip(learner.act(now.observations) + scale * noise.step(), -1, 1)
        else:
            actions = rng.uniform(-1, 1, (env.n_envs, n_joint)).astype(np.float32)
        actions *= now.alive.repeat(learner.n_actions, axis=1)
        before = learner.before(now, actions)
        transition = env.step(learner.stretch(actions))
        replay.add(np.hstack([before, learner.after(transition)]))
        learner.count_rewards(transition.rewards, now.alive)
        now = follow(transition)
        noise.restart(now.starts)
        n_episodes += int(now.starts.sum())
        if is_warm:
            beta = 1 - (1 - settings.priority_beta) * (1 - t / n_steps)
            ratio = settings.updates_per_step
            for _ in range(math.floor((t + 1) * ratio) - math.floor(t * ratio)):
                sample = replay.sample(settings.batch_size, beta, rng)
                try:
                    errors = learner.update(learner.read(sample.rows, sample.weights))
                    replay.set_priorities(sample.slots, errors)
                except FloatingPointError as error:
                    raise _diverge(step, str(error), path) from error
                td_errors.append(float(errors.mean()))
    return Trained(seed, learner.export_actors(), curve)


def _make_policies(env: MultiAgentEnv, learner: Learner) -> dict[str, Policy]:
    weights = learner.export_actors()
    spaces = zip(env.agents, env.observation_spaces, env.action_spaces, strict=True)
    return {
        name: LearntActor.from_weights(weights, name, seen, done) for name, seen, done in spaces
    }


def _diverge(step: int, what: str, path: Path | None) -> FloatingPointError:
    return FloatingPointError(
        f"training diverged: {what} at step {step}; lower actor_learning_rate or "
        f"critic_learning_rate, or set normalises_rewards. Last good checkpoint: {path}"
    )
