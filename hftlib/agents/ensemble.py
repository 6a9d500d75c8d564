"""Several learnt policies as one: a weighted mean over one continuous action space.

A member is a group of policies, its seeds; its action is their mean. How much
each member counts is decided at every step by a `Weighting`: by numbers fixed
beforehand (`FixedWeights`, with `weigh_by_sharpe` from validation), by the
members' own recent results on paper (`RollingWeights`), or by how much a
member's seeds agree (`CertaintyWeights`). None of them knows more at a step
than the observations and prices up to it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hftlib.agents.policy import Policy, StatefulPolicy, play
from hftlib.data.panel import BarPanel
from hftlib.envs.trading_rules import TradingRules

FloatArray = npt.NDArray[np.float64]
DEFAULT_WEIGHTS = {"sac": 0.4, "td3": 0.3, "ppo": 0.3}


class Weighting(Protocol):
    """Decides how much each member counts."""

    def weigh(self, step: int, actions: FloatArray, variances: FloatArray) -> FloatArray:
        """Weights of shape (n, n_members), none negative, each row summing to 1.

        Parameters
        ----------
        step : int
            Decisions since the episodes began.
        actions, variances : arrays of shape (n_members, n, n_actions)
            Of each member's seeds: mean, and variance (0 of a single one).
        """


class FixedWeights:
    """The same weights at every step; they are scaled to sum to 1.

    Parameters
    ----------
    weights : numbers of shape (n_members,)
        Not negative, not all 0.
    """

    def __init__(self, weights: Sequence[float] | FloatArray) -> None:
        values = np.asarray(weights, dtype=np.float64)
        if values.ndim != 1 or not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(f"weights are {weights}; expected numbers in a row, none negative")
        if values.sum() <= 0:
            raise ValueError(f"weights are {weights}; at least one must be above 0")
        self.weights = values / values.sum()

    def weigh(self, step: int, actions: FloatArray, variances: FloatArray) -> FloatArray:
        """One row for each of n, see `Weighting`."""
        if len(self.weights) != len(actions):
            raise ValueError(
                f"{len(self.weights)} weights for {len(actions)} members; pass as many"
            )
        return np.tile(self.weights, (actions.shape[1], 1))


class RollingWeights:
    """Softmax of the members' recent results, each on a paper account of its own.

    The score of a member is the t-statistic of the mean of its last
    `lookback_bars` log returns, costs included, so that it has no unit; 0 if they
    do not vary. Until there are as many, all members count alike.

    Parameters
    ----------
    paper_equity : array of shape (n_bars, n, n_members)
        As of `paper_accounts`: row t is known when decision t is due. Rows beyond are not read.
    lookback_bars : int
        At least 2.
    temperature : float
        Differences of scores that matter; a large one gives equal weights.
    """

    def __init__(
        self, paper_equity: FloatArray, lookback_bars: int, temperature: float = 1.0
    ) -> None:
        if lookback_bars < 2:
            raise ValueError(f"lookback_bars is {lookback_bars}; expected at least 2")
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; expected a number above 0")
        self.paper_equity = paper_equity
        self.lookback_bars, self.temperature = lookback_bars, temperature

    def weigh(self, step: int, actions: FloatArray, variances: FloatArray) -> FloatArray:
        """Shape (n, n_members), see `Weighting`."""
        n_bars, n, n_members = self.paper_equity.shape
        if (actions.shape[1], len(actions)) != (n, n_members):
            raise ValueError(
                f"paper accounts of {n} episodes and {n_members} members, decisions for "
                f"{actions.shape[1]} and {len(actions)}; make them by paper_accounts() on the "
                "same panel"
            )
        if step >= n_bars:
            raise ValueError(
                f"decision {step} needs paper accounts up to bar {step}, there are {n_bars}; "
                "make them by paper_accounts() on the same panel"
            )
        if step < self.lookback_bars:
            return np.full((n, n_members), 1 / n_members)
        past = np.maximum(self.paper_equity[step - self.lookback_bars : step + 1], 1e-12)
        returns = np.diff(np.log(past), axis=0)
        sd = returns.std(axis=0, ddof=1)
        varies = sd > 1e-15
        score = returns.mean(axis=0) / np.where(varies, sd, 1.0) * self.lookback_bars**0.5
        return softmax(np.where(varies, score, 0.0) / self.temperature)


class CertaintyWeights:
    """Inverse variance between a member's seeds: who agrees with itself counts more.

    Parameters
    ----------
    floor : float
        Standard deviation, in units of the actions, that is added to each: below it,
        agreement makes no difference.
    """

    def __init__(self, floor: float = 0.05) -> None:
        if floor <= 0:
            raise ValueError(f"floor is {floor}; expected a number above 0")
        self.floor = floor

    def weigh(self, step: int, actions: FloatArray, variances: FloatArray) -> FloatArray:
        """Shape (n, n_members), see `Weighting`; variances are averaged over the assets."""
        inverse = 1 / (variances.mean(axis=2).T + self.floor**2)
        weights: FloatArray = inverse / inverse.sum(axis=1, keepdims=True)
        return weights


class Ensemble:
    """The policy whose action is the weighted mean of its members'.

    Parameters
    ----------
    members : sequence of policies by name
        One policy a seed, all for the same continuous actions.
    weighting : Weighting
    """

    def __init__(self, members: Mapping[str, Sequence[Policy]], weighting: Weighting) -> None:
        if not members or not all(len(policies) for policies in members.values()):
            sizes = {name: len(policies) for name, policies in members.items()}
            raise ValueError(
                f"members are {sizes}; expected at least one, with at least one policy"
            )
        self.members, self.weighting = dict(members), weighting
        self._weights: list[FloatArray] = []
        self._disagreement: list[FloatArray] = []

    @property
    def weights(self) -> FloatArray:
        """Of every decision since `begin`, shape (n_steps, n, n_members)."""
        return np.array(self._weights)

    @property
    def disagreement(self) -> FloatArray:
        """Standard deviation between the members' actions, shape (n_steps, n, n_actions)."""
        return np.array(self._disagreement)

    def begin(self, n: int) -> None:
        """Forget all: n episodes start, side by side."""
        self._weights, self._disagreement = [], []
        for policies in self.members.values():
            for policy in policies:
                if isinstance(policy, StatefulPolicy):
                    policy.begin(n)

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Actions of shape (n, n_actions), within the bounds that the members keep.

        Raises
        ------
        ValueError
            If a member gives whole numbers, or not as many actions as the others.
        """
        by_member = [
            self._ask(name, policies, observations) for name, policies in self.members.items()
        ]
        shapes = {
            name: seeds.shape[1:] for name, seeds in zip(self.members, by_member, strict=True)
        }
        if len(set(shapes.values())) > 1:
            raise ValueError(f"members give actions of shapes {shapes}; train them on one task")
        actions = np.stack([seeds.mean(axis=0) for seeds in by_member])
        variances = np.stack([seeds.var(axis=0) for seeds in by_member])
        weights = self.weighting.weigh(len(self._weights), actions, variances)
        self._weights.append(weights)
        self._disagreement.append(actions.std(axis=0))
        return np.einsum("nm,mnk->nk", weights, actions).astype(np.float32)

    def _ask(
        self, name: str, policies: Sequence[Policy], observations: npt.NDArray[np.float32]
    ) -> FloatArray:
        """Actions of one member's seeds, shape (n_seeds, n, n_actions)."""
        answers = [np.asarray(policy.act(observations)) for policy in policies]
        if any(answer.dtype.kind != "f" for answer in answers):
            raise ValueError(
                f"member {name} chooses among {answers[0].dtype} numbers; an ensemble needs target "
                'weights: train it with action_kind="continuous"'
            )
        return np.stack(answers).astype(np.float64)


def weigh_by_sharpe(sharpes: Mapping[str, float], temperature: float = 1.0) -> dict[str, float]:
    """Weights from Sharpe ratios on validation: the softmax of ratio / temperature.

    Parameters
    ----------
    sharpes : annual ratios by member
        nan, of an account that never traded, counts as 0.
    temperature : float
        Differences of ratios that matter.

    Returns
    -------
    dict of weights by member, none negative, summing to 1
    """
    values = np.nan_to_num(np.array(list(sharpes.values()), dtype=np.float64))
    weights = softmax(values / temperature)
    return dict(zip(sharpes, weights.tolist(), strict=True))


def paper_accounts(
    members: Mapping[str, Sequence[Policy]], panel: BarPanel, rules: TradingRules
) -> FloatArray:
    """Equity of each member trading alone through a panel, for `RollingWeights`.

    Returns
    -------
    array of shape (n_bars, n, n_members)
        Episodes as `play` starts them; row t is the equity at the close that decision t sees.
    """
    rollouts = []
    for name, policies in members.items():
        rollout = play(Ensemble({name: policies}, FixedWeights([1.0])), panel, rules)
        rollouts.append(rollout.equity.reshape(len(rollout.equity), -1))
    return np.stack(rollouts, axis=2)


def softmax(scores: FloatArray) -> FloatArray:
    """Along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return weights
