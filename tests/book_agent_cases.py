"""A small executor, trained for a few steps, as an artefact, and parent orders it worked."""

from dataclasses import dataclass
from pathlib import Path

from hftlib.agents.learnt import Weights
from hftlib.agents.teams import as_team, make_settings, save_team, train_team
from hftlib.envs import Executor, Maker, MarketSettings, RewardWeights, RiskLimits, Taker
from hftlib.envs.scene import MarketScene
from hftlib.live.book_export import export_book_agent
from hftlib.live.book_parity import Execution, record_executions
from hftlib.paths import write_json

SYMBOL, NAME = "SIM", "executor"
ROLE = Executor(parent_lots=200, max_slice=60, latency_ms=1.0)
SCENE = MarketScene(
    {"maker": Maker(max_size=30), "executor": ROLE, "taker": Taker()},
    MarketSettings(decision_ms=500, episode_steps=24, mean_reversion_speed=0.0),
    RiskLimits(max_inventory=200, max_position_value=1e6),
    RewardWeights(0.04, 0.0, 0.0, 0.0),
)


@dataclass(frozen=True)
class Case:
    root: Path  # of artefacts
    teams: Path  # as stage 42 leaves them
    seeds: list[Weights]
    executions: list[Execution]


def make_teams(folder: Path, n_seeds: int = 2, **changes) -> list[Weights]:
    """Teams of a few steps of training, written as stage 42 does."""
    quick = {"total_steps": 96, "n_steps": 24, "n_epochs": 1, "n_evaluations": 2}
    settings = make_settings("mappo", quick | changes, hidden=(8,), initial_std=1.0)
    folder.mkdir(parents=True)
    seeds = []
    for k in range(n_seeds):
        trained = train_team(SCENE, settings, k + 1, n_envs=2, curve_seed=50, n_curve_worlds=2)
        save_team(folder / f"seed_{k}.npz", trained.weights, SCENE)
        seeds.append(trained.weights)
    write_json(folder / "manifest.json", {"algo": "mappo", "seeds": list(range(n_seeds))})
    return seeds


def export(root: Path, teams: Path, name: str = NAME, **metrics):
    return export_book_agent(
        root, name, teams, symbols=(SYMBOL,), git_revision="abc", params={}, metrics=metrics
    )


def make_case(root: Path) -> Case:
    seeds = make_teams(root / "teams")
    export(root / "artefacts", root / "teams")
    env = SCENE.build(3)
    executions = record_executions(env, as_team(seeds[0], env), 7, SYMBOL)
    return Case(root / "artefacts", root / "teams", seeds, executions)
