"""From the ticks and lots of a strategy to the numbers of its role, and back.

Each map is the inverse of the one in `envs.roles`. Two strategies need no more
than this: `NoOrders` and `RandomOrders`.
"""

import numpy as np
import numpy.typing as npt

from hftlib.envs.roles import LOG_LOTS, NO_SIZE, NO_TRADE, Executor, Maker, Role, Taker

MIN_OFFSET_TICKS = 0.5

Observations = npt.NDArray[np.float32]
Actions = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]


def read(role: Role, observations: Observations, *names: str) -> list[FloatArray]:
    """Columns of observations of shape (n, n_inputs) by name, float64, each of shape (n,)."""
    known = role.observation_names
    if observations.ndim != 2 or observations.shape[1] != len(known):
        raise ValueError(
            f"observations have shape {observations.shape}; "
            f"expected (n, {len(known)}), those of a {role.kind}"
        )
    return [observations[:, known.index(name)].astype(np.float64) for name in names]


def check_begun(n_begun: int, observations: Observations) -> None:
    """Refuse observations of another number of copies than a policy with memory began with."""
    if len(observations) != n_begun:
        raise ValueError(
            f"observations of {len(observations)} copies, memory of {n_begun}; "
            f"call begin({len(observations)}) at the start of each episode"
        )


def observed_lots(value: FloatArray) -> FloatArray:
    """Lots of `traded`, `bid_lots_k` and `ask_lots_k`, whole numbers."""
    return np.rint(np.expm1(value * LOG_LOTS))


def observed_position(inventory: FloatArray, max_inventory: int) -> FloatArray:
    """Lots of `inventory`, whole numbers."""
    return np.rint(inventory * max_inventory)


def offset_to_action(ticks: FloatArray, max_offset_ticks: float) -> FloatArray:
    """Action of a maker's offset; what is out of reach becomes the nearest in reach."""
    return np.clip(2 * (ticks - MIN_OFFSET_TICKS) / max_offset_ticks - 1, -1, 1)


def lots_to_action(lots: FloatArray, max_size: int) -> FloatArray:
    """Action of a size: -1 for 0 lots, 1 for max_size and more."""
    size = np.minimum(lots / max_size, 1)
    return np.where(lots > 0, NO_SIZE + (1 - NO_SIZE) * size, -1)


def quote_action(
    role: Maker,
    bid_ticks: FloatArray,
    ask_ticks: FloatArray,
    bid_lots: FloatArray | float,
    ask_lots: FloatArray | float,
) -> Actions:
    """Maker's action for quotes at given distances.

    The skew carries half the difference of the distances, as far as it goes,
    the offsets the rest: a quote may stand beyond the mid, as far as the book
    lets it rest.

    Parameters
    ----------
    bid_ticks, ask_ticks : array of shape (n,)
        Mid less bid and ask less mid; inf for no quote.
    bid_lots, ask_lots : array of shape (n,) or number

    Returns
    -------
    array of shape (n, 5), float32
    """
    bid_lots = np.where(np.isfinite(bid_ticks), bid_lots, 0)
    ask_lots = np.where(np.isfinite(ask_ticks), ask_lots, 0)
    bid = np.where(np.isfinite(bid_ticks), bid_ticks, role.max_offset_ticks)
    ask = np.where(np.isfinite(ask_ticks), ask_ticks, role.max_offset_ticks)
    skew = np.clip((ask - bid) / 2, -role.max_skew_ticks, role.max_skew_ticks)
    columns = (
        offset_to_action(bid + skew, role.max_offset_ticks),
        offset_to_action(ask - skew, role.max_offset_ticks),
        lots_to_action(bid_lots, role.max_size),
        lots_to_action(ask_lots, role.max_size),
        skew / role.max_skew_ticks if role.max_skew_ticks > 0 else skew,
    )
    return np.stack(columns, axis=1).astype(np.float32)


def slice_action(role: Executor, depth_ticks: FloatArray, lots: FloatArray) -> Actions:
    """Executor's action for `lots` at `depth_ticks` behind the mid, negative beyond it.

    Both of shape (n,); the result has shape (n, 2), float32.
    """
    aggressiveness = np.clip(-depth_ticks / role.reach_ticks, -1, 1)
    columns = (aggressiveness, lots_to_action(lots, role.max_slice))
    return np.stack(columns, axis=1).astype(np.float32)


def trade_action(role: Taker, lots: FloatArray) -> Actions:
    """Taker's action for `lots` of shape (n,), negative to sell; the result has shape (n, 1)."""
    size = np.minimum(np.abs(lots) / role.max_size, 1)
    action = np.sign(lots) * (NO_TRADE + (1 - NO_TRADE) * size)
    return action.astype(np.float32)[:, None]


class NoOrders:
    """Sends nothing, whatever the role: no quotes, no slices, no trades."""

    def __init__(self, role: Role) -> None:
        is_size = [name.endswith(("size", "slice")) for name in role.action_names]
        self._action = np.where(is_size, -1, 0).astype(np.float32)

    def act(self, observations: Observations) -> Actions:
        """The same action for each row, shape (n, n_actions)."""
        return np.tile(self._action, (len(observations), 1))


class RandomOrders:
    """Draws each number of the action uniformly, whatever the role."""

    def __init__(self, role: Role, rng: np.random.Generator) -> None:
        self._n_actions = len(role.action_names)
        self._rng = rng

    def act(self, observations: Observations) -> Actions:
        """Independent numbers in [-1, 1), shape (n, n_actions)."""
        shape = (len(observations), self._n_actions)
        return self._rng.uniform(-1, 1, shape).astype(np.float32)
