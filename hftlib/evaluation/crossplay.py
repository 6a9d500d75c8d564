"""Whether learnt behaviour holds against agents it was not trained with.

Cross-play lets the makers of one team meet the other agents of another. The
exploitability of an agent is what a freshly trained best response in its place
gains while the others stay as they are.

Source: Lanctot et al. (2017), A unified game-theoretic approach to multiagent
reinforcement learning, NeurIPS 30 (joint-policy correlation); Timbers et al.
(2022), Approximate exploitability, IJCAI.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from hftlib.agents.fixed_others import FixedOthers
from hftlib.agents.policy import Policy
from hftlib.agents.rollout import play_market, risk_adjusted_profit
from hftlib.envs import MarketVecEnv
from hftlib.evaluation.making import tabulate
from hftlib.evaluation.paired import mean_estimate, paired_difference
from hftlib.evaluation.statistics import Estimate

MAKER = "maker"


def play_crossplay(
    make_env: Callable[[], MarketVecEnv],
    teams: Mapping[str, Mapping[str, Policy]],
    seed: int,
    n_episodes: int = 1,
) -> pd.DataFrame:
    """Makers of each team among the other agents of each team, all in the same worlds.

    Parameters
    ----------
    make_env : function
        Gives the environment to play in.
    teams : mapping of name to policies by agent
        Such as the agents of one algorithm and seed; each team has a policy for every agent.
    seed, n_episodes : int
        Of `play_market`: worlds that no team was trained on.

    Returns
    -------
    frame with columns makers, others (names of teams), role, world, value
        The risk-adjusted profit of an episode, mean over the agents of the role, currency.
    """
    env = make_env()
    parts = []
    for makers, first in teams.items():
        for others, second in teams.items():
            mixed = {
                agent: (first if env.roles[agent].kind == MAKER else second)[agent]
                for agent in env.agents
            }
            rollout = play_market(env, mixed, seed, n_episodes)
            profit = risk_adjusted_profit(rollout)
            for role in dict.fromkeys(rollout.kinds):
                part = tabulate(rollout, role, {"value": profit})
                part = part.groupby("world", as_index=False)["value"].mean()
                parts.append(part.assign(makers=makers, others=others, role=role))
    table = pd.concat(parts, ignore_index=True)
    return table[["makers", "others", "role", "world", "value"]]


def summarise_crossplay(
    episodes: pd.DataFrame, *, n_bootstrap: int = 2000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Mean of each pairing and role over the worlds of `play_crossplay`, with its interval.

    Returns
    -------
    frame with columns makers, others, role, value, low, high, episodes
    """
    rows = []
    for key, part in episodes.groupby(["makers", "others", "role"], sort=False):
        estimate = mean_estimate(
            part["value"], n_bootstrap=n_bootstrap, confidence=confidence, seed=seed
        )
        rows.append((*key, *vars(estimate).values(), len(part)))
    columns = ["makers", "others", "role", "value", "low", "high", "episodes"]
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class Exploitability:
    """What a best response gained in the place of one agent.

    `gain` is paired over worlds, currency an episode; `n_steps` of the training, counted in every
    copy. A response is only as good as its budget: the gain is a lower bound, and may be negative.
    """

    agent: str
    n_steps: int
    incumbent: Estimate
    response: Estimate
    gain: Estimate

    def to_dict(self) -> dict[str, object]:
        """For JSON; undefined numbers are null."""
        estimates = {
            name: getattr(self, name).to_dict() for name in ("incumbent", "response", "gain")
        }
        return {**asdict(self), **estimates}


def exploitability(
    make_env: Callable[[], MarketVecEnv],
    policies: Mapping[str, Policy],
    learner: str,
    train: Callable[[FixedOthers], Policy],
    seed: int,
    n_episodes: int = 1,
    *,
    make_course: Callable[[], MarketVecEnv] | None = None,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
) -> Exploitability:
    """Train a best response to the others; compare its risk-adjusted profit with the incumbent's.

    Parameters
    ----------
    make_env : function
        Gives a new environment for the comparison.
    policies : mapping of agent to policy
        The incumbents.
    learner : str
        The agent that is replaced.
    train : function
        Trains on an environment of this one agent and gives its policy, for instance
        `train_mappo` and `LearntActor.from_weights`.
    seed, n_episodes : int
        Of `play_market`: worlds apart from those of the training.
    make_course : function, optional
        Gives the environment of the training, where that has other rewards.

    Raises
    ------
    ValueError
        If `learner` or `policies` do not fit the environment.
    """
    others = {agent: policy for agent, policy in policies.items() if agent != learner}
    training = make_env() if make_course is None else make_course()
    course = FixedOthers(training, learner, others)
    response = train(course)
    env = make_env()
    values = []
    for policy in (policies[learner], response):
        rollout = play_market(env, {**others, learner: policy}, seed, n_episodes)
        values.append(risk_adjusted_profit(rollout)[:, rollout.agents.index(learner)])
    settings: dict[str, Any] = {"n_bootstrap": n_bootstrap, "confidence": confidence}
    return Exploitability(
        learner,
        course.n_steps,
        mean_estimate(values[0], **settings),
        mean_estimate(values[1], **settings),
        paired_difference(values[1], values[0], **settings),
    )
