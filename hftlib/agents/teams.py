"""Teams: one policy for each agent of a market, trained together, kept and loaded.

Training is a pure function of its arguments, meant for a process of its own
(`compute.map_parallel`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from hftlib.agents.execution import ScheduledExecutor, twap_trajectory
from hftlib.agents.fixed_others import FixedOthers
from hftlib.agents.learnt import LearntActor, Trained, Weights
from hftlib.agents.maddpg import MADDPGSettings, train_maddpg
from hftlib.agents.mappo import MAPPOSettings, train_mappo
from hftlib.agents.orders import NoOrders
from hftlib.agents.policy import Policy
from hftlib.agents.rollout import play_market
from hftlib.envs.market_batch import MarketVecEnv
from hftlib.envs.roles import Executor
from hftlib.envs.scene import MarketScene

Settings = MAPPOSettings | MADDPGSettings
Team = dict[str, Policy]
ALGORITHMS: dict[str, tuple[type[Any], Callable[..., Trained]]] = {
    "mappo": (MAPPOSettings, train_mappo),
    "maddpg": (MADDPGSettings, train_maddpg),
}


def make_settings(algo: str, values: Mapping[str, Any], **changes: Any) -> Settings:
    """The settings of an algorithm from values by name, some of them changed.

    Raises
    ------
    ValueError
        If there is no such algorithm, or it has no such setting; names those there are.
    """
    if algo not in ALGORITHMS:
        raise ValueError(f"algo is {algo!r}; expected one of {', '.join(ALGORITHMS)}")
    kind = ALGORITHMS[algo][0]
    known = {field.name for field in fields(kind)}
    for name in {**values, **changes}:
        if name not in known:
            raise ValueError(f"{algo} has no setting {name!r}; it has {', '.join(sorted(known))}")
    settings: Settings = kind(**{**values, **changes})
    return settings


def train_team(
    scene: MarketScene,
    settings: Settings,
    seed: int,
    *,
    n_envs: int,
    curve_seed: int,
    n_curve_worlds: int,
    scratch: Path | None = None,
) -> Trained:
    """Train all agents of a scene together.

    Parameters
    ----------
    seed : int
        Training worlds, weights and exploration follow from it.
    n_envs : int
        Copies that are stepped side by side.
    curve_seed, n_curve_worlds : int
        Worlds of the learning curve, the same for all seeds: measures "<agent>/profit" and
        "<agent>/risk_adjusted_profit" of an episode, currency, without exploration.
    scratch : folder, optional
        For checkpoints.
    """
    watched = scene.build(n_curve_worlds)

    def evaluate(team: Mapping[str, Policy]) -> dict[str, float]:
        rollout = play_market(watched, team, curve_seed)
        measures = {"profit": rollout.profit, "risk_adjusted_profit": rollout.rewards.sum(axis=0)}
        return {
            f"{agent}/{name}": float(values[:, a].mean())
            for a, agent in enumerate(rollout.agents)
            for name, values in measures.items()
        }

    # One process a core leaves none for threads.
    threads = {"n_threads": 1} if isinstance(settings, MAPPOSettings) else {}
    return _trainer(settings)(
        scene.build(n_envs, prices_at_value=True),
        settings,
        seed,
        evaluate=evaluate,
        scratch=scratch,
        fingerprint=json.dumps([str(scene), curve_seed, n_curve_worlds]),
        **threads,
    )


def train_response(env: FixedOthers, settings: Settings, seed: int) -> Policy:
    """Train the one learner of an environment whose other agents are fixed."""
    trained = _trainer(settings)(env, settings, seed)
    return as_team(trained.weights, env)[env.agents[0]]


def as_team(weights: Mapping[str, Any], env: MarketVecEnv | FixedOthers) -> Team:
    """The policies that weights hold, for each agent of the environment."""
    spaces = zip(env.agents, env.observation_spaces, env.action_spaces, strict=True)
    return {
        name: LearntActor.from_weights(weights, name, seen, actions)
        for name, seen, actions in spaces
    }


def load_team(path: Path, env: MarketVecEnv) -> Team:
    """The team that `agents.online.save_weights` wrote."""
    with np.load(path, allow_pickle=False) as data:
        weights: Weights = {name: data[name] for name in data.files}
    return as_team(weights, env)


def classical_team(scene: MarketScene, maker: Policy) -> Team:
    """A maker among partners who do not learn: a TWAP where there is an executor, idle takers."""
    trajectory = twap_trajectory(scene.market.episode_steps)
    team: Team = {}
    for name, role in scene.roles.items():
        if isinstance(role, Executor):
            team[name] = ScheduledExecutor(role, trajectory)
        else:
            team[name] = maker if role.kind == "maker" else NoOrders(role)
    return team


def _trainer(settings: Settings) -> Callable[..., Trained]:
    for kind, train in ALGORITHMS.values():
        if isinstance(settings, kind):
            return train
    raise ValueError(f"settings are {type(settings).__name__}; expected those of an algorithm")
