"""Multi-agent PPO: every agent its own actor, and critics that see the whole state in training.

One file tells the algorithm: `train_mappo` is the loop over rollouts, `Learner`
what one actor and one critic store and learn. Agents that have ended ("dead")
take part in no mean, loss or statistic until their copy starts anew. The same
arguments give the same weights, whatever the number of threads, and whether the
call ran through or was stopped and resumed.

Source: Yu et al. (2022), The surprising effectiveness of PPO in cooperative
multi-agent games, arXiv 2103.01955; Schulman et al. (2017), arXiv 1707.06347.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
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
from hftlib.agents.experience import Situation, begin, follow
from hftlib.agents.learnt import LearntActor, Trained
from hftlib.agents.mappo_learner import Learner, MAPPOSettings
from hftlib.agents.multiagent import MultiAgentEnv
from hftlib.agents.policy import Policy
from hftlib.compute import derive_seed

__all__ = ["MAPPOSettings", "Trained", "train_mappo"]
logger = logging.getLogger(__name__)


def train_mappo(
    env: MultiAgentEnv,
    settings: MAPPOSettings,
    seed: int,
    *,
    evaluate: Callable[[Mapping[str, Policy]], Mapping[str, float]] | None = None,
    scratch: Path | None = None,
    fingerprint: str = "",
    device: str = "auto",
    n_threads: int | None = None,
) -> Trained:
    """Train the agents of an environment together.

    Parameters
    ----------
    env : MultiAgentEnv
        Reset with a seed derived from `seed`.
    seed : int
        Fixes initial weights, episodes, actions and minibatches.
    evaluate : function from policies by agent to measures by name, optional
        Called at every evaluation with policies that do not explore; needs an environment of its
        own. Looking does not change the training.
    scratch : folder, optional
        Holds the last checkpoint; a later call with the same arguments and the same code goes on
        from there.
    fingerprint : str
        Tells environments apart for the checkpoint, where their spaces do not.
    device : "auto", "cpu" or "cuda"
        "auto" is cuda where there is one.
    n_threads : int, optional
        Networks that learn at the same time, default one a core; weights do not depend on it.

    Returns
    -------
    Trained
        Weights of the actors, for `LearntActor.from_weights`. The curve has the measures of
        `evaluate` and, after the first evaluation, of the last rollout for each learner:
        "<agents>/reward" (mean a step), "/entropy" (nats), "/kl" (from the policy before the
        update), "/clipped" (share of clipped ratios), "/explained_variance" (of the returns).

    Raises
    ------
    FloatingPointError
        If a weight becomes nan or infinite; names the step.
    """
    torch.set_num_threads(1)  # each thread of the pool takes one network
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    learners = [
        Learner(env, members, settings, seed, torch.device(device))
        for members in _group_agents(env, settings.shares_parameters)
    ]
    rollout_steps = env.n_envs * settings.n_steps
    n_updates = -(-settings.total_steps // rollout_steps)
    due = set(np.linspace(n_updates, 0, settings.n_evaluations).round().astype(int).tolist())
    now = begin(env, derive_seed(seed, "mappo", "env"))
    curve: list[tuple[int, str, float]] = []
    diagnostics: dict[str, float] = {}
    first_update, path = 0, None
    about = describe_training("mappo", env, settings, seed, fingerprint)
    if scratch is not None:
        path = name_checkpoint(scratch, about)
        if path.exists():
            saved = load_checkpoint(path, about)
            first_update, now, curve = saved["update"], saved["now"], saved["curve"]
            env.load_state(saved["env"])
            for learner, state in zip(learners, saved["learners"], strict=True):
                learner.load_state(state)
            logger.info("resumed at step %d", first_update * rollout_steps)

    n_threads = os.cpu_count() if n_threads is None else n_threads
    with ThreadPoolExecutor(n_threads) as pool:
        # One thread alone is faster without a pool: glibc returns a pool thread's memory eagerly.
        each: Callable[..., Iterable[Any]] = map if n_threads == 1 else pool.map
        for update in range(first_update, n_updates + 1):
            step = update * rollout_steps
            if not all(learner.is_finite() for learner in learners):
                raise FloatingPointError(
                    f"training diverged: a weight is not finite at step {step}; lower "
                    "actor_learning_rate, critic_learning_rate or reward_scale. "
                    f"Last good checkpoint: {path}"
                )
            if update in due and not (curve and curve[-1][0] == step):
                measures = dict(diagnostics)
                if evaluate is not None:
                    measures |= evaluate(_make_policies(env, learners))
                curve += [(step, name, float(value)) for name, value in measures.items()]
                shown = ", ".join(f"{name} {value:.4g}" for name, value in measures.items())
                logger.info("step %d of %d: %s", step, n_updates * rollout_steps, shown)
                if path is not None:
                    state = {"update": update, "now": now, "curve": curve, "env": env.save_state()}
                    state["learners"] = [learner.save_state() for learner in learners]
                    save_checkpoint(path, about, state)
            if update < n_updates:
                now = _collect(env, learners, now)
                list(each(Learner.estimate, learners))
                for learner in learners:
                    learner.anneal(update / n_updates)
                # These tasks share nothing that they write. Critics first: they take longer.
                tasks = [learner.fit_critic for learner in learners]
                tasks += [learner.fit_actor for learner in learners]
                diagnostics = {}
                for part in each(lambda task: task(), tasks):
                    diagnostics |= part
                for learner in learners:
                    learner.end_rollout()
    weights = {k: v for learner in learners for k, v in learner.export_actors().items()}
    return Trained(seed, weights, curve)


def _collect(env: MultiAgentEnv, learners: list[Learner], now: Situation) -> Situation:
    """Play one rollout from `now` on, and return where it ends."""
    for learner in learners:
        learner.begin_rollout()
    n_steps = learners[0].settings.n_steps
    for t in range(n_steps):
        actions: dict[int, Any] = {}
        for learner in learners:
            learner.experience.observe(t, now)
            actions |= learner.act(t)
        transition = env.step([actions[k] for k in range(len(env.agents))])
        for learner in learners:
            learner.experience.store(t, transition, learner.settings.reward_scale)
        now = follow(transition)
    for learner in learners:
        learner.experience.observe(n_steps, now)
    return now


def _group_agents(env: MultiAgentEnv, shares_parameters: bool) -> list[list[int]]:
    """Indices of the agents of each learner, in the order of the agents."""
    if not shares_parameters:
        return [[k] for k in range(len(env.agents))]
    spaces = list(zip(env.observation_spaces, env.action_spaces, strict=True))
    firsts = [spaces.index(own) for own in spaces]
    return [[k for k, first in enumerate(firsts) if first == j] for j in sorted(set(firsts))]


def _make_policies(env: MultiAgentEnv, learners: list[Learner]) -> dict[str, Policy]:
    weights = {k: v for learner in learners for k, v in learner.export_actors().items()}
    return {
        name: LearntActor.from_weights(weights, name, seen, taken)
        for name, seen, taken in zip(
            env.agents, env.observation_spaces, env.action_spaces, strict=True
        )
    }
