"""Schedules for a parent order, and the two strategies that work one.

A trajectory is the share of the parent order still to trade at each decision,
an array of shape (n_steps + 1,) from 1 to 0. `ScheduledExecutor` follows any:
TWAP, VWAP, Almgren and Chriss, all at once.

Source: Almgren and Chriss (2000), Optimal execution of portfolio transactions,
Journal of Risk 3(2).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hftlib.agents.multiagent import MultiAgentEnv
from hftlib.agents.orders import (
    Actions,
    FloatArray,
    NoOrders,
    Observations,
    check_begun,
    observed_lots,
    read,
    slice_action,
)
from hftlib.envs.roles import MARKET_OBSERVATION, TICKS, Executor, Role


def twap_trajectory(n_steps: int) -> FloatArray:
    """The same share each step."""
    return np.linspace(1, 0, n_steps + 1)


def vwap_trajectory(volume_curve: npt.ArrayLike) -> FloatArray:
    """Shares of shape (n_steps,) in proportion to the volume expected in each step.

    Raises
    ------
    ValueError
        If a volume is negative or nan, or all are 0.
    """
    volume = np.asarray(volume_curve, dtype=np.float64)
    if volume.ndim != 1 or not (volume >= 0).all() or not volume.sum() > 0:
        raise ValueError(
            f"volume_curve of shape {volume.shape} has a sum of {volume.sum():g}; "
            "expected one volume a step, none negative, not all 0"
        )
    left = 1 - np.concatenate([[0], np.cumsum(volume)]) / volume.sum()
    left[-1] = 0  # not a rounding error
    return left


def immediate_trajectory(n_steps: int) -> FloatArray:
    """All at the first step; with a patience of 0 it crosses at once."""
    return np.concatenate([[1], np.zeros(n_steps)])


def almgren_chriss_trajectory(n_steps: int, kappa: float, step: float) -> FloatArray:
    """sinh(kappa * (T - t)) / sinh(kappa * T) at t = 0, step, …, T = n_steps * step.

    kappa, the urgency, is one over time; for short steps it tends to the root of
    risk aversion * variance of the price over time / temporary impact.

    Raises
    ------
    ValueError
        If kappa is negative or the step not above 0.
    """
    if not (kappa >= 0 and step > 0):
        raise ValueError(f"kappa is {kappa}, step {step}; expected at least 0 and above 0")
    if kappa * step * n_steps < 1e-9:
        return twap_trajectory(n_steps)
    t = kappa * step * np.arange(n_steps + 1)
    # sinh(K - t) / sinh(K) without its overflow at a large K
    return np.exp(-t) * np.expm1(2 * (t - t[-1])) / np.expm1(-2 * t[-1])


def estimate_volume_curve(env: MultiAgentEnv, roles: Sequence[Role], seed: int) -> FloatArray:
    """Mean lots traded in each step of an episode in which no agent trades, shape (n_steps,).

    Parameters
    ----------
    env : MultiAgentEnv
        Is reset; its copies are the worlds seed, seed + 1, …, which should be
        those of training.
    roles : sequence
        Of its agents, in their order: makers and takers.

    Raises
    ------
    ValueError
        If there is an executor: it would trade its parent order at the end.
    """
    if any(isinstance(role, Executor) for role in roles):
        raise ValueError("the volume would include an executor's own; use an idle Maker instead")
    idle = [NoOrders(role) for role in roles]
    column = MARKET_OBSERVATION.index("traded")
    volume, is_over = [], False
    observations, _ = env.reset(seed=seed)
    while not is_over:
        after = env.step([policy.act(x) for policy, x in zip(idle, observations, strict=True)])
        traded = after.final_observations[0][:, column].astype(np.float64)
        volume.append(observed_lots(traded).mean())
        observations, is_over = after.observations, bool(after.truncated.all())
    return np.array(volume)


class _Worker:
    """Turns lots that are due into an order that rests or crosses."""

    def __init__(self, role: Executor, n_steps: int, patience: int) -> None:
        if n_steps < 1 or patience < 0:
            raise ValueError(
                f"n_steps is {n_steps}, patience {patience}; expected at least 1 and 0 steps"
            )
        self.role, self.n_steps, self.patience = role, n_steps, patience

    def _progress(self, observations: Observations) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Lots left and the number of the step, each of shape (n,)."""
        remaining, time_left = read(self.role, observations, "remaining", "time_left")
        step = np.rint((1 - time_left) * self.n_steps).astype(np.int64)
        return np.rint(remaining * self.role.parent_lots), step

    def _work(
        self, observations: Observations, due: FloatArray, crosses: npt.NDArray[np.bool_]
    ) -> Actions:
        """Lots join the best price of the own side, or cross as far as the role reaches."""
        names = ("side", "bid_distance_1", "ask_distance_1")
        side, bid, ask = read(self.role, observations, *names)
        near = np.where(side > 0, bid, ask) * TICKS
        depth = np.where(crosses, -self.role.reach_ticks, near)
        return slice_action(self.role, depth, np.maximum(due, 0))


class ScheduledExecutor(_Worker):
    """Follows a trajectory: rests first, and crosses once a slice has waited too long.

    What is due by the end of the step joins the best price of the own side. If
    some of it was due `patience` steps earlier, all of it crosses the spread.

    Parameters
    ----------
    trajectory : array of shape (n_steps + 1,)
        Share of the parent order left at each decision, from 1 to 0.
    patience : int
        Steps; with 0 every slice crosses.

    Attributes
    ----------
    target_lots : array of shape (n_steps + 1,)
        The trajectory in whole lots.
    """

    def __init__(self, role: Executor, trajectory: FloatArray, patience: int = 5) -> None:
        super().__init__(role, len(trajectory) - 1, patience)
        falls = trajectory.ndim == 1 and (np.diff(trajectory) <= 0).all()
        if not falls or trajectory[0] != 1 or trajectory[-1] != 0:
            raise ValueError(
                f"trajectory of shape {trajectory.shape} goes from {trajectory[0]} to "
                f"{trajectory[-1]}; expected shares that fall from 1 to 0"
            )
        self.target_lots = np.rint(trajectory * role.parent_lots)

    def act(self, observations: Observations) -> Actions:
        """Orders of shape (n, 2)."""
        left, step = self._progress(observations)
        end = np.minimum(step + 1, self.n_steps)
        late = left - self.target_lots[np.maximum(end - self.patience, 0)]
        return self._work(observations, left - self.target_lots[end], late > 0)


class ParticipationExecutor(_Worker):
    """POV: trades in proportion to the volume that others have traded since the start.

    The observed volume of a step includes the executor's own trades; they are
    taken out. If lots were called for `patience` steps ago and have not traded,
    all that is due crosses the spread.

    Parameters
    ----------
    n_steps : int
        Length of the episode.
    rate : float
        Own lots over those of the others, above 0.
    """

    def __init__(self, role: Executor, n_steps: int, rate: float, patience: int = 5) -> None:
        super().__init__(role, n_steps, patience)
        if not rate > 0:
            raise ValueError(f"rate is {rate}; expected a share of the others' volume above 0")
        self.rate = rate
        self.begin(0)

    def begin(self, n: int) -> None:
        """Forget the volume of the last episode."""
        self._total = np.zeros(n)
        self._called = np.zeros((self.patience + 1, n))

    def act(self, observations: Observations) -> Actions:
        """Orders of shape (n, 2)."""
        check_begun(len(self._total), observations)
        left, _ = self._progress(observations)
        (traded,) = read(self.role, observations, "traded")
        parent = self.role.parent_lots
        done = parent - left
        self._total = self._total + observed_lots(traded)
        called = np.rint(np.clip(self.rate * (self._total - done), 0, parent))
        self._called = np.concatenate([self._called[1:], called[None]])
        return self._work(observations, called - done, self._called[0] > done)
