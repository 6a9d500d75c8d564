"""Many lanes in lock-step, and the mail that callers send them.

A book's lane is a view of its part of arrays that lie side by side; see
`market.batch`, which calls these.
"""

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.market.book import ACK_FIELDS, BookError
from hftlib.market.flow import FlowParams
from hftlib.market.fundamental import JumpParams
from hftlib.market.ladder import CAPACITY, SELF_TRADE, WINDOW, clear, read_depth, wide
from hftlib.market.lane import MEAN, N_STEPS, SECONDS, Lane, Mail, Session, advance, open_lane
from hftlib.market.matching import POSITION
from hftlib.market.record import ROWS_OF_A_STEP, write_snapshot

OBSERVED_LEVELS = 3
OBSERVATION_SIZE = 4 + 4 * OBSERVED_LEVELS


@compile_kernel
def lane_of(lanes: Lane, b: int) -> Lane:
    """Views of one book."""
    return Lane(
        lanes.state[b],
        lanes.accounts[b],
        lanes.stream[b],
        lanes.course[b],
        lanes.excitation[b],
        lanes.clock[b],
        lanes.parents[b],
        lanes.resting[b],
        lanes.n_resting[b],
        lanes.counters[b],
        lanes.message[b],
    )


@compile_kernel
def run_lanes(
    lanes: Lane,
    p: FlowParams,
    value: JumpParams,
    session: Session,
    mail: Mail,
    n_steps: int,
    done: npt.NDArray[np.int64],
    fills: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
    n_rows: npt.NDArray[np.int64],
    snapshots: npt.NDArray[np.int64],
    n_snapshots: npt.NDArray[np.int64],
    every: int,
) -> None:
    """Advance each book from step `done` to `n_steps`, or until its `rows` are nearly full.

    Mail is of one step: with more of them there is none.
    """
    for b in range(len(lanes.state)):
        lane = lane_of(lanes, b)
        own_mail = Mail(mail.messages[b], mail.delays_s[b], mail.acks[b])
        mine, n = rows[b], wide(0)
        full = len(mine) - ROWS_OF_A_STEP - lane.state[CAPACITY]
        while done[b] < n_steps and (len(mine) == 0 or n < full):
            n = advance(lane, p, value, session, own_mail, fills, mine, n)
            done[b] += 1
            if every > 0 and lane.counters[N_STEPS] % every == 0:
                now = session.open_ns + round(lane.clock[SECONDS] * 1e9)
                n_snapshots[b] = write_snapshot(lane.state, now, snapshots[b], n_snapshots[b])
        n_rows[b] = n


@compile_kernel
def open_lanes(
    lanes: Lane,
    p: FlowParams,
    value: JumpParams,
    fills: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
) -> None:
    """Fill books anew; all of a lane but its book and its streams is 0 before."""
    for b in range(len(lanes.state)):
        s = lanes.state[b]
        clear(s, wide(s[WINDOW]), wide(s[CAPACITY]), wide(s[SELF_TRADE]))
        open_lane(lane_of(lanes, b), p, value, fills, rows)


@compile_kernel
def observe_lanes(
    lanes: Lane, owner: int, observation: npt.NDArray[np.float32], depth: npt.NDArray[np.int32]
) -> None:
    """Write down what an owner sees of each book; see `BatchMarket.observe`."""
    prices, lots = depth[0], depth[1]
    for b in range(len(lanes.state)):
        row = observation[b]
        read_depth(lanes.state[b], 1, prices[0], lots[0])
        read_depth(lanes.state[b], -1, prices[1], lots[1])
        mid = (prices[0, 0] + prices[1, 0]) / 2.0
        two_sided = prices[0, 0] > 0 and prices[1, 0] > 0
        total = lots[0, 0] + lots[1, 0]
        row[0] = prices[1, 0] - prices[0, 0] if two_sided else 0.0
        row[1] = (lots[0, 0] - lots[1, 0]) / total if total > 0 else 0.0
        row[2] = mid - lanes.clock[b, MEAN] if two_sided else 0.0
        row[3] = lanes.accounts[b, owner, POSITION]
        for side in range(2):
            for k in range(OBSERVED_LEVELS):
                there = two_sided and lots[side, k] > 0
                row[4 + 4 * k + 2 * side] = abs(prices[side, k] - mid) if there else 0.0
                row[5 + 4 * k + 2 * side] = lots[side, k]


def mail_of(messages: npt.NDArray[np.int32]) -> Mail:
    """A copy of messages, all to arrive at the start of the step."""
    shape = messages.shape[:2]
    acks = np.zeros((*shape, len(ACK_FIELDS)), dtype=np.int32)
    return Mail(messages.copy(), np.zeros(shape), acks)


def sort_mail(
    messages: npt.NDArray[np.int32], delays_s: npt.NDArray[np.float64]
) -> tuple[Mail, npt.NDArray[np.int64]]:
    """Messages in the order of arrival, and the row of the flattened mail that each went to."""
    n_books, n = delays_s.shape
    order = np.argsort(delays_s, axis=1, kind="stable") + n * np.arange(n_books)[:, None]
    rows = order.ravel()  # whole rows of the flattened arrays: much faster than take_along_axis
    mail = mail_of(
        messages.reshape(-1, messages.shape[2]).take(rows, axis=0).reshape(messages.shape)
    )
    mail.delays_s[:] = delays_s.ravel().take(order)
    places = np.empty_like(rows)
    places[rows] = np.arange(rows.size)
    return mail, places


def check_delays(delays_s: npt.NDArray[np.float64], shape: tuple[int, ...], step_s: float) -> None:
    """Refuse delays that lie outside the step.

    Raises
    ------
    BookError
        If shape or type are others, or names the first delay out of [0, step_s).
    """
    if delays_s.dtype != np.float64 or delays_s.shape != shape:
        raise BookError(
            f"delays_s: expected float64 of shape {shape}, one for each message, received "
            f"{delays_s.dtype} of shape {delays_s.shape}"
        )
    wrong = np.argwhere(~((delays_s >= 0) & (delays_s < step_s)))
    if len(wrong) > 0:
        b, k = wrong[0]
        raise BookError(
            f"delays_s: book {b}, message {k}: expected a number in [0, {step_s}) seconds, "
            f"received {delays_s[b, k]}; hold later messages back for a later step"
        )
