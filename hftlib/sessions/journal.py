"""What is recorded of a session: messages to the player, the log of arrivals, presses.

Times are microseconds since the client connected. The log is in the order in
which the client received events of the timetable and messages to its player.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.sessions import account as acc
from hftlib.sessions.client import GAP_US

Table = npt.NDArray[np.void]

# kinds of message to the player alone
ACCOUNT = 0  # as it is after a change
BOUGHT = 1
SOLD = 2
STAKED = 3
DECIDED = 4  # the side bet has been

MESSAGE: Final = np.dtype(
    [
        ("kind", "i1"),
        ("game", "i4"),
        ("tick", "i4"),
        ("price", "f8"),  # of a trade
        ("qty", "f8"),  # tokens traded
        ("amount", "f8"),  # SOL paid, received, staked, or paid out
        ("decided_stake", "f8"),  # of the side bet decided, SOL
        ("since", "i4"),  # tick on which that was placed
        ("sidebet_pnl", "f8"),  # of this game, SOL
        ("account", "f8", (acc.N_FIELDS,)),
    ]
)
LOG: Final = np.dtype([("ts_us", "i8"), ("event", "i4")])  # event k, or message -1 - k


class Journal(NamedTuple):
    """Room for a session's records; kernels fill the tables from the front."""

    log: Table  # of `LOG`
    messages: Table  # of `MESSAGE`
    presses: Table  # of `client.PRESS`


@dataclass(frozen=True)
class Recording:
    """One session as its client recorded it.

    Attributes
    ----------
    events : array of `rounds.EVENT`
        What was sent to everybody.
    log : array of `LOG`
    messages : array of `MESSAGE`
        What was sent to the player alone.
    presses : array of `client.PRESS`
    """

    events: Table
    log: Table
    messages: Table
    presses: Table


@compile_kernel
def log_arrival(log: Table, n: int, event: int, arrival_us: int) -> int:
    """Write entry n of the log; its time, at least `GAP_US` after the entry before."""
    if n > 0:
        arrival_us = max(arrival_us, log[n - 1]["ts_us"] + GAP_US)
    log[n]["ts_us"], log[n]["event"] = arrival_us, event
    return arrival_us
