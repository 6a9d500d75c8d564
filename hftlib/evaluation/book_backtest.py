"""Every strategy of the order book in the same held-out worlds, among the same partners.

One agent at a time is played by each strategy of its role, while the others
follow classical rules. Learnt agents meet partners here that they were not
trained with; `evaluation.contest` judges them among their own.

Risk is that of an episode's profit over worlds: ratios are those of one
episode, not annualised. Calmar and the losses it counts follow the worlds in
their order, which is one of many: they are independent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.agents.catalogue import classical_executors, classical_makers, classical_takers
from hftlib.agents.execution import estimate_volume_curve
from hftlib.agents.orders import RandomOrders
from hftlib.agents.policy import Policy
from hftlib.agents.rollout import play_market
from hftlib.agents.teams import Team
from hftlib.compute import map_parallel
from hftlib.envs.roles import Executor, Maker, Taker
from hftlib.envs.scene import MarketScene
from hftlib.evaluation.execution import execution_table
from hftlib.evaluation.making import trading_table
from hftlib.evaluation.paired import compare_measures, seed_estimate
from hftlib.portfolio import measures

FloatArray = npt.NDArray[np.float64]
Strategies = dict[str, list[Policy]]  # by name, one policy a training seed
Tables = dict[str, list[pd.DataFrame]]  # the same, as they were played

RIVALS = {"maker": "avellaneda_stoikov", "executor": "twap", "taker": "do_nothing"}
HORIZON_STEPS = 5  # of the adverse selection
TRADING = (
    *("profit", "risk_adjusted_profit", "spread_captured", "inventory_profit", "fees"),
    *("closing_cost", "adverse_selection", "fill_ratio", "rms_inventory"),
    *("inventory_deviation", "max_loss"),
)
EXECUTION = (
    *("profit", "risk_adjusted_profit", "shortfall_ticks", "twap_slippage_ticks"),
    *("completion", "passive_share"),
)
RISK = ("sharpe", "sortino", "calmar", "value_at_risk", "expected_shortfall", "tail_ratio")
LEVEL = 0.95  # of the value at risk, the expected shortfall and the tail ratio
DECISIVE = ("risk_adjusted_profit", "shortfall_ticks")  # where these are measured
LESS_RIVAL = "_less_rival"
COLUMNS = ["strategy", "measure", "seeds", "value", "low", "high"]


def expect_volume(scene: MarketScene, seed: int, n_worlds: int) -> FloatArray:
    """Lots that the background trades in each step of an episode, shape (n_steps,)."""
    idle = Maker()
    env = replace(scene, roles={"idle": idle}).build(n_worlds)
    return estimate_volume_curve(env, [idle], seed)


def gather_strategies(
    scene: MarketScene,
    *,
    risk_aversion: float,
    decay: float,
    volume_curve: FloatArray,
    teams: Mapping[str, Sequence[Team]],
    seed: int,
) -> dict[str, Strategies]:
    """Learnt, classical and random strategies of every agent of a scene.

    Parameters
    ----------
    risk_aversion, decay : float
        Of the classical makers, as `contest.tune_stoikov` found them; 1 / tick.
    volume_curve : array of shape (n_steps,)
        Lots expected in each step.
    teams : mapping of algorithm to teams
        One team a training seed.
    seed : int
        Of those who trade at random.

    Returns
    -------
    dict of agent to dict of strategy to policies, one a training seed; classical ones have one
    """
    gathered = {}
    for agent, role in scene.roles.items():
        own: dict[str, Policy] = {}
        if isinstance(role, Maker):
            own = classical_makers(scene, role, risk_aversion, decay)
        elif isinstance(role, Executor):
            own = classical_executors(scene, role, volume_curve)
        elif isinstance(role, Taker):
            own = classical_takers(scene, role)
        if not isinstance(role, Executor):
            own["random"] = RandomOrders(role, np.random.default_rng(seed))
        learnt = {algo: [team[agent] for team in members] for algo, members in teams.items()}
        gathered[agent] = {**learnt, **{name: [policy] for name, policy in own.items()}}
    return gathered


class _Entry(NamedTuple):
    agent: str
    strategy: str
    policies: list[Policy]


def play_strategies(
    scene: MarketScene,
    partners: Team,
    strategies: Mapping[str, Strategies],
    *,
    seed: int,
    n_worlds: int,
) -> dict[str, Tables]:
    """Play each strategy in its agent's place among the partners, one process a core.

    Parameters
    ----------
    partners : mapping of agent to policy
        Such as `teams.classical_team`.
    strategies : mapping of agent to strategies
        As `gather_strategies` gives them.
    seed, n_worlds : int
        Worlds that no strategy was trained or tuned on.

    Returns
    -------
    dict of agent to dict of strategy to frames, one a training seed, one row a world, with the
    columns of `execution.execution_table` for executors, else of `making.trading_table`
    """
    entries = [
        _Entry(agent, name, policies)
        for agent, own in strategies.items()
        for name, policies in own.items()
    ]
    entries.sort(key=lambda entry: -len(entry.policies))  # the longest first: no core waits
    play = partial(_play, scene, partners, seed, n_worlds)
    tables = map_parallel(play, entries, "strategies")
    played = {(e.agent, e.strategy): frames for e, frames in zip(entries, tables, strict=True)}
    return {agent: {name: played[agent, name] for name in own} for agent, own in strategies.items()}


def summarise_role(
    role: str, tables: Tables, *, n_bootstrap: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Means, differences to the role's rival and risk, with intervals over seeds and worlds.

    Parameters
    ----------
    role : {"maker", "executor", "taker"}
        Its rival is that of `RIVALS`.
    tables : mapping of strategy to frames, one a training seed
        As `play_strategies` gives them, all of the same worlds.

    Returns
    -------
    frame with columns strategy, measure, seeds, value, low, high
        Measures are `TRADING` or `EXECUTION`; those of `DECISIVE` less the rival's, named with
        `LESS_RIVAL`, paired by world; and `RISK`, of an episode. nan where undefined.

    Raises
    ------
    ValueError
        If the rival is missing, or tables are not of the same worlds.
    """
    settings: dict[str, Any] = {
        "n_bootstrap": n_bootstrap,
        "confidence": confidence,
        "seed": seed,
    }
    names = EXECUTION if role == "executor" else TRADING
    means = compare_measures(tables, RIVALS[role], names, **settings)
    gaps = means[means["measure"].isin(DECISIVE)].drop(columns=["value", "low", "high"])
    gaps = gaps.assign(measure=gaps["measure"] + LESS_RIVAL)
    ends = {"difference": "value", "difference_low": "low", "difference_high": "high"}
    rows = []
    for strategy, parts in tables.items():
        profits = np.stack([part["profit"] for part in parts])
        estimates = seed_estimate(measure_risk, profits, **settings)
        for measure, estimate in zip(RISK, estimates, strict=True):
            rows.append((strategy, measure, len(parts), *vars(estimate).values()))
    risk = pd.DataFrame(rows, columns=COLUMNS)
    return pd.concat([means[COLUMNS], gaps.rename(columns=ends)[COLUMNS], risk], ignore_index=True)


def summarise_roles(
    played: Mapping[str, Tables], *, n_bootstrap: int, confidence: float, seed: int
) -> dict[str, pd.DataFrame]:
    """`summarise_role` of every agent that bears the name of its role, one process a core."""
    summarise = partial(
        _summarise, {"n_bootstrap": n_bootstrap, "confidence": confidence, "seed": seed}
    )
    return dict(zip(played, map_parallel(summarise, list(played.items()), "roles"), strict=True))


def measure_risk(profits: FloatArray) -> FloatArray:
    """The measures `RISK` of the profits of episodes, shape (n,), at `LEVEL`."""
    return np.array(
        [
            measures.sharpe(profits, 1.0),
            measures.sortino(profits, 1.0),
            measures.profit_calmar(profits, 1.0),
            measures.value_at_risk(profits, LEVEL),
            measures.expected_shortfall(profits, LEVEL),
            measures.tail_ratio(profits, LEVEL),
        ]
    )


def _play(
    scene: MarketScene, partners: Team, seed: int, n_worlds: int, entry: _Entry
) -> list[pd.DataFrame]:
    env = scene.build(n_worlds)
    kind = scene.roles[entry.agent].kind
    tables = []
    for policy in entry.policies:
        rollout = play_market(env, {**partners, entry.agent: policy}, seed)
        table = (
            execution_table(rollout)
            if kind == "executor"
            else trading_table(rollout, kind, HORIZON_STEPS)
        )
        tables.append(table[table["agent"] == entry.agent].reset_index(drop=True))
    return tables


def _summarise(settings: dict[str, Any], item: tuple[str, Tables]) -> pd.DataFrame:
    return summarise_role(*item, **settings)
