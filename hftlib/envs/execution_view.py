"""What an executor sees, from a window of book snapshots instead of a simulated market.

The features are written by the functions of `envs.settlement` that wrote those of the
training: fed with the books that an executor of `MarketVecEnv` looked at, the observation is
the environment's to the last bit. Running means and the change since the arrival of the
parent order begin with the first snapshot, so that a window is the whole task: one snapshot a
decision, the first at the arrival.

Of the executor's own order only price and lots are seen, not its place in the queue; both are
known to who sent it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.envs.desk import Cast, Desk, Terms
from hftlib.envs.roles import N_LEVELS, Executor, MarketError
from hftlib.envs.rules import MarketSettings, RewardWeights, RiskLimits, cast_of, terms_of
from hftlib.envs.settlement import N_MARKET, describe_market, describe_self, look


class OwnOrder(NamedTuple):
    """What an executor knows of itself."""

    side: int  # 1 buys, -1 sells
    remaining_lots: int  # of the parent order
    resting_price: int  # ticks, 0 without an order in the book
    resting_lots: int


def observe_execution(
    role: Executor,
    market: MarketSettings,
    books: npt.NDArray[np.int64],
    traded_lots: int,
    own: OwnOrder,
) -> npt.NDArray[np.float32]:
    """Observation of an executor at the last of some books.

    Parameters
    ----------
    role, market : of the training
    books : array of shape (n, 2, 2, N_LEVELS)
        Bid and ask; prices in ticks, lots; best first, 0 where empty; without the executor's own
        order. One each `market.decision_ms` from the arrival of the parent order on, which is
        the start of an episode.
    traded_lots : number
        Traded by all since the book before; not read of the first.
    own : OwnOrder

    Returns
    -------
    array of shape (n_inputs,)
        As `role.observation_names`.

    Raises
    ------
    MarketError
        If the books have another shape, are none or more than the decisions of an episode, or
        the own order is not one of this parent order.
    """
    if books.ndim != 4 or books.shape[1:] != (2, 2, N_LEVELS):
        raise MarketError(f"books have shape {books.shape}; expected (n, 2, 2, {N_LEVELS})")
    if not 1 <= len(books) <= market.episode_steps:
        raise MarketError(
            f"{len(books)} books; expected 1 to {market.episode_steps}, one a decision from the "
            "arrival of the parent order on"
        )
    _check_own(role, own)
    desk = Desk.zeros(1, 1)
    desk.start[0, 0] = -own.side * role.parent_lots
    desk.resting[0, 0, 0 if own.side > 0 else 1] = own.resting_price, own.resting_lots
    terms = terms_of(market, RiskLimits(), RewardWeights(), is_in_book=True, prices_at_value=False)
    row = np.zeros(len(role.observation_names), dtype=np.float32)
    traded = traded_lots if len(books) > 1 else 0
    position = -own.side * own.remaining_lots
    _walk(desk, cast_of([role]), terms, np.ascontiguousarray(books), traded, position, row)
    return row


def _check_own(role: Executor, own: OwnOrder) -> None:
    if own.side not in (1, -1):
        raise MarketError(f"side is {own.side}; expected 1 to buy or -1 to sell")
    if not 0 <= own.remaining_lots <= role.parent_lots:
        raise MarketError(
            f"remaining_lots is {own.remaining_lots}; expected 0 to {role.parent_lots}, the parent "
            "order of the training"
        )
    if not 0 <= own.resting_lots <= min(role.max_slice, own.remaining_lots):
        raise MarketError(
            f"resting_lots is {own.resting_lots}; expected 0 to "
            f"{min(role.max_slice, own.remaining_lots)}, the largest slice of what remains"
        )
    if (own.resting_price > 0) != (own.resting_lots > 0) or own.resting_price < 0:
        raise MarketError(
            f"resting_price is {own.resting_price} and resting_lots {own.resting_lots}; expected "
            "both above 0, or both 0 without an order in the book"
        )


@compile_kernel
def _walk(
    desk: Desk,
    cast: Cast,
    terms: Terms,
    books: npt.NDArray[np.int64],
    traded: int,
    position: int,
    row: npt.NDArray[np.float32],
) -> None:
    """Look at the books one after another, and write what is seen of the last into the row."""
    view, step = desk.seen[0, 0], len(books) - 1
    for k in range(len(books)):
        look(view, books[k], terms, k == 0)
    describe_market(view, books[step], traded, step, terms, row)
    describe_self(desk, 0, 0, cast, terms, position, step, row[N_MARKET:])
