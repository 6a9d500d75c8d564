"""Learnt policies against the best of the classical ones, agent by agent.

A learnt agent and its stand-in play in the same held-out worlds among the same
partners, the learnt team of one training seed; what differs is the agent
alone. Classical makers are tuned on training worlds first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hftlib.agents.catalogue import make_stoikov
from hftlib.agents.learnt import Weights
from hftlib.agents.policy import Policy
from hftlib.agents.rollout import MarketRollout, play_market, risk_adjusted_profit
from hftlib.agents.teams import as_team, classical_team
from hftlib.envs.roles import Maker
from hftlib.envs.scene import MarketScene
from hftlib.evaluation.paired import mean_estimate

MEASURES = ("profit", "risk_adjusted_profit", "shortfall_ticks")


def tune_stoikov(
    scene: MarketScene,
    risk_aversions: Sequence[float],
    decays: Sequence[float],
    *,
    seed: int,
    n_worlds: int,
) -> pd.DataFrame:
    """Try every pair of gamma and k among classical partners, all in the same worlds.

    Returns
    -------
    frame with columns risk_aversion, decay (1 / tick), profit, risk_adjusted_profit (currency an
    episode) and error, the standard error of the last; the best row first
    """
    role = next(role for role in scene.roles.values() if isinstance(role, Maker))
    env = scene.build(n_worlds)
    rows = []
    for risk_aversion in risk_aversions:
        for decay in decays:
            maker = make_stoikov(scene, role, risk_aversion, decay)
            rollout = play_market(env, classical_team(scene, maker), seed)
            k = rollout.members("maker")[0]
            value = risk_adjusted_profit(rollout)[:, k]
            error = value.std(ddof=1) / np.sqrt(n_worlds)
            rows.append((risk_aversion, decay, rollout.profit[:, k].mean(), value.mean(), error))
    columns = ["risk_aversion", "decay", "profit", "risk_adjusted_profit", "error"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("risk_adjusted_profit", ascending=False, ignore_index=True)


def judge_team(
    scene: MarketScene, rivals: Mapping[str, Policy], seed: int, n_worlds: int, weights: Weights
) -> pd.DataFrame:
    """Play a team, and the team with one rival at a time in an agent's place.

    Returns
    -------
    frame with columns agent, player (learnt or rival), world and those of `MEASURES`
        Currency an episode; shortfall_ticks against the arrival price, a lot of the parent order,
        nan for agents without one.
    """
    env = scene.build(n_worlds)
    team = as_team(weights, env)
    home = play_market(env, team, seed)
    parts = []
    for agent, rival in rivals.items():
        away = play_market(env, {**team, agent: rival}, seed)
        for player, rollout in (("learnt", home), ("rival", away)):
            parts.append(_measure(rollout, agent).assign(agent=agent, player=player))
    return pd.concat(parts, ignore_index=True)


def summarise_judgement(
    tables: Sequence[pd.DataFrame], *, n_bootstrap: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Learnt, rival and their difference: means with intervals over seeds and worlds.

    Parameters
    ----------
    tables : sequence of frames
        Of `judge_team`, one a training seed, in the same worlds.

    Returns
    -------
    frame with columns agent, measure, what (learnt, rival or difference), value, low, high,
    seeds: the seeds' own values as a list
    """
    settings: dict[str, Any] = {
        "n_bootstrap": n_bootstrap,
        "confidence": confidence,
        "seed": seed,
    }
    rows = []
    for agent in tables[0]["agent"].unique():
        for measure in MEASURES:
            values = {
                player: np.stack([_pick(table, agent, player, measure) for table in tables])
                for player in ("learnt", "rival")
            }
            if np.isnan(values["learnt"]).all():
                continue
            values["difference"] = values["learnt"] - values["rival"]
            for what, array in values.items():
                estimate = mean_estimate(array, **settings)
                own = array.mean(axis=1).tolist()
                rows.append((agent, measure, what, *vars(estimate).values(), own))
    return pd.DataFrame(rows, columns=["agent", "measure", "what", "value", "low", "high", "seeds"])


def judge_control(scene: MarketScene, seed: int, n_worlds: int, weights: Weights) -> pd.DataFrame:
    """What a team does where nothing can be earned, one row an agent and world.

    Returns
    -------
    frame with columns agent, world, profit (currency an episode; doing nothing earns 0), lots
    """
    env = scene.build(n_worlds)
    rollout = play_market(env, as_team(weights, env), seed)
    parts = [
        pd.DataFrame(
            {
                "agent": agent,
                "world": rollout.worlds,
                "profit": rollout.profit[:, k],
                "lots": rollout.lots[-1, :, k],
            }
        )
        for k, agent in enumerate(rollout.agents)
    ]
    return pd.concat(parts, ignore_index=True)


def _measure(rollout: MarketRollout, agent: str) -> pd.DataFrame:
    k = rollout.agents.index(agent)
    lots = np.abs(rollout.parent[:, k])
    profit = rollout.profit[:, k]
    shortfall = -profit / (np.where(lots > 0, lots, np.nan) * rollout.unit)
    return pd.DataFrame(
        {
            "world": rollout.worlds,
            "profit": profit,
            "risk_adjusted_profit": risk_adjusted_profit(rollout)[:, k],
            "shortfall_ticks": shortfall,
        }
    )


def _pick(table: pd.DataFrame, agent: str, player: str, measure: str) -> Any:
    chosen = table[(table["agent"] == agent) & (table["player"] == player)]
    return chosen.sort_values("world")[measure].to_numpy()
