"""Teams: one policy for each agent of a market, trained together, kept and loaded.

Training is a pure function of its arguments, meant for a process of its own
(`compute.map_parallel`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from hftlib.agents.checkpoint import check_same
from hftlib.agents.execution import ScheduledExecutor, twap_trajectory
from hftlib.agents.fixed_others import FixedOthers
from hftlib.agents.learnt import LearntActor, Trained, Weights
from hftlib.agents.maddpg import MADDPGSettings, train_maddpg
from hftlib.agents.mappo import MAPPOSettings, train_mappo
from hftlib.agents.orders import NoOrders
from hftlib.agents.policy import Policy
from hftlib.agents.rollout import play_market, risk_adjusted_profit
from hftlib.envs.market_batch import MarketVecEnv
from hftlib.envs.roles import Executor
from hftlib.envs.scene import MarketScene
from hftlib.paths import replace_file

Settings = MAPPOSettings | MADDPGSettings
Team = dict[str, Policy]
SCENE = "scene"  # entry of a file of weights; those of networks have a "/" in their name
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
    prices_at_value: bool = True,
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
    prices_at_value : bool
        Whether the rewards of the training price trades at the value, see `MarketVecEnv`: less
        noise where the mid follows it, but noise and a bias where not (`MarketScene.control`).
    scratch : folder, optional
        For checkpoints.
    """
    watched = scene.build(n_curve_worlds)

    def evaluate(team: Mapping[str, Policy]) -> dict[str, float]:
        rollout = play_market(watched, team, curve_seed)
        measures = {
            "profit": rollout.profit,
            "risk_adjusted_profit": risk_adjusted_profit(rollout),
        }
        return {
            f"{agent}/{name}": float(values[:, a].mean())
            for a, agent in enumerate(rollout.agents)
            for name, values in measures.items()
        }

    # One process a core leaves none for threads.
    threads = {"n_threads": 1} if isinstance(settings, MAPPOSettings) else {}
    return _trainer(settings)(
        scene.build(n_envs, prices_at_value=prices_at_value),
        settings,
        seed,
        evaluate=evaluate,
        scratch=scratch,
        fingerprint=json.dumps([str(scene), curve_seed, n_curve_worlds, prices_at_value]),
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


def save_team(path: Path, weights: Weights, scene: MarketScene | MarketVecEnv) -> None:
    """Write the weights of a team and the roles, market and limits that it was trained with.

    These say what its observations and actions mean; the entry "scene" holds them as JSON.
    """
    text = {SCENE: np.array(_describe_scene(scene))}
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **weights, **text)


def load_team(path: Path, scene: MarketScene | MarketVecEnv) -> Team:
    """The team that `save_team` wrote.

    Raises
    ------
    ValueError
        If it was trained with other roles, another market or other limits than the scene's, or
        does not say with which; names the first field that differs.
    """
    with np.load(path, allow_pickle=False) as data:
        weights: Weights = {name: data[name] for name in data.files if name != SCENE}
        if SCENE not in data.files:
            raise ValueError(f"{path} does not say what it was trained in; write it by save_team()")
        kept, now = json.loads(str(data[SCENE])), json.loads(_describe_scene(scene))
    check_same(path, kept, now, "retrain, or build the scene with the recorded value")
    return as_team(weights, scene.build(1) if isinstance(scene, MarketScene) else scene)


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


def _describe_scene(scene: MarketScene | MarketVecEnv) -> str:
    roles = {name: {"kind": role.kind, **asdict(role)} for name, role in scene.roles.items()}
    about = {"roles": roles, "market": asdict(scene.market), "risk": asdict(scene.risk)}
    return json.dumps(about, default=float)  # of numbers of numpy too


def _trainer(settings: Settings) -> Callable[..., Trained]:
    for kind, train in ALGORITHMS.values():
        if isinstance(settings, kind):
            return train
    raise ValueError(f"settings are {type(settings).__name__}; expected those of an algorithm")
