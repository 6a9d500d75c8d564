"""Background participants: when somebody acts, who it is and what they send.

Acts arrive as a Hawkes process: each raises the rate of the next ones on three
time scales, which clusters events, volume and volatility. An act belongs to
one of six roles: passive noise, aggressive noise, value, momentum, market
making, and splitters that work long parent orders in small pieces and so give
trade signs their long memory. Orders rest for exponential times of three
kinds. Both simulators call these kernels; they see quotes, never the book.

Sources: Bacry, Mastromatteo & Muzy (2015), Hawkes processes in finance;
Lillo, Mike & Farmer (2005), Theory for long memory in supply and demand;
Chiarella & Iori (2002), A simulation analysis of the microstructure of double
auction markets.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.market.book import BookError
from hftlib.market.draws import Stream, exponential, normal, uniform
from hftlib.market.matching import IOC, LIMIT

PASSIVE, NOISE, VALUE, MOMENTUM, MAKER, SPLITTER = range(6)
ROLES = ("passive noise", "aggressive noise", "value", "momentum", "market making", "splitting")
N_ROLES = len(ROLES)
FLEETING, PATIENT, STANDING = range(3)
N_SCALES = 3
N_PARENTS = 4  # parent orders that one market can work at once
CAREFUL_SHARE = 0.85  # aggressive orders no larger than what rests at the best price
FARTHEST = 5_000  # ticks behind the best price
MOST_PIECES = 500  # of a parent order, or the longest of them would fill a day


class FlowParams(NamedTuple):
    """Everything about the background flow; rates a second, distances in ticks, sizes in lots."""

    rate_hz: float  # mean acts a second over a day
    branching: tuple[float, float, float]  # acts that one act causes, by time scale; sum < 1
    decay_hz: tuple[float, float, float]  # 1 / time scale of the excitation
    news_hz: float  # bursts of activity that come from outside
    news_share: float  # acts caused by these, of those that no act caused; they fade slowest
    day_shape: float  # U: opening and closing excess over the day's mean, in [0, 1)
    day_tilt: float  # J: excess at the open that falls in a line to a lack at the close
    role_shares: tuple[float, float, float, float, float, float]  # by role; sum 1
    inside_share: float  # resting orders that improve the best price
    best_share: float  # resting orders that join it; the others queue behind
    behind_scale: float  # distance behind the best: Pareto scale
    behind_exponent: float  # and tail exponent
    lifetime_shares: tuple[float, float, float]  # fleeting, patient, standing; sum 1
    lifetimes_s: tuple[float, float, float]  # mean rest before the cancel, at the mean pace
    order_size: float  # mean size of a resting order
    take_size: float  # mean size of an aggressive one
    n_parents: int  # parent orders worked at once, at most N_PARENTS
    parent_exponent: float  # Pareto tail of the number of pieces
    parent_pieces: float  # least number of pieces
    value_threshold: float  # mispricing at which value traders take
    value_noise: float  # standard deviation of their error
    trend_s: float  # memory of the trend
    trend_threshold: float  # ticks away from its mean at which momentum traders take
    maker_spread: float  # a maker's mean distance from the reference price
    maker_skew: float  # and its shift for each tick of trend against the maker
    maker_information: float  # how far a maker's reference goes from the mid to the value, 0 to 1


def _are_positive(*numbers: float) -> bool:
    return all(0 < number < math.inf for number in numbers)


def _are_shares(shares: tuple[float, ...], n: int) -> bool:
    return len(shares) == n and min(shares) >= 0 and math.isclose(sum(shares), 1.0)


# parameters, what is expected of them, and whether it holds
_RANGES: tuple[tuple[tuple[str, ...], str, Callable[..., bool]], ...] = (
    (("rate_hz",), "a positive number", _are_positive),
    (
        ("branching",),
        f"{N_SCALES} numbers from 0 up with a sum below 1",
        lambda x: len(x) == N_SCALES and min(x) >= 0 and sum(x) < 1,
    ),
    (
        ("decay_hz",),
        f"{N_SCALES} positive numbers",
        lambda x: len(x) == N_SCALES and _are_positive(*x),
    ),
    (
        ("news_hz", "news_share"),
        "a share in [0, 1), and a positive rate unless it is 0",
        lambda hz, share: 0 <= share < 1 and (share == 0 or _are_positive(hz)),
    ),
    (("day_shape",), "a number in [0, 1)", lambda x: 0 <= x < 1),
    (("day_tilt",), "a number in (-1, 1)", lambda x: -1 < x < 1),
    (("role_shares",), f"{N_ROLES} shares with sum 1", lambda x: _are_shares(x, N_ROLES)),
    (
        ("inside_share", "best_share"),
        "shares with a sum of at most 1",
        lambda a, b: min(a, b) >= 0 and a + b <= 1,
    ),
    (("lifetime_shares",), "3 shares with sum 1", lambda x: _are_shares(x, 3)),
    (("lifetimes_s",), "3 positive numbers", lambda x: len(x) == 3 and _are_positive(*x)),
    (("order_size", "take_size"), "1 lot or more", lambda a, b: a >= 1 and b >= 1),
    (("parent_pieces",), "1 or more", lambda x: x >= 1),
    (("maker_information",), "a number in [0, 1]", lambda x: 0 <= x <= 1),
    (("n_parents",), f"1 to {N_PARENTS}", lambda x: x in range(1, N_PARENTS + 1)),
    (
        ("behind_scale", "behind_exponent", "parent_exponent", "trend_s", "maker_spread"),
        "positive numbers",
        _are_positive,
    ),
)


def check_flow(p: FlowParams) -> FlowParams:
    """The parameters, whole numbers made floats since the kernels are compiled for these.

    Raises
    ------
    BookError
        Names the first parameters that are out of their range.
    """
    for names, expected, holds in _RANGES:
        values = [getattr(p, name) for name in names]
        if not holds(*values):
            received = ", ".join(f"{n} {v}" for n, v in zip(names, values, strict=True))
            raise BookError(f"{received}: expected {expected}")
    floats = (tuple(map(float, x)) if isinstance(x, tuple) else float(x) for x in p)
    return FlowParams._make(floats)._replace(n_parents=p.n_parents)


class Quotes(NamedTuple):
    """What a participant sees; prices in ticks, 0 where a side is empty."""

    bid: int
    bid_qty: int
    ask: int
    ask_qty: int


@compile_kernel
def day_rate(p: FlowParams, u: float) -> float:
    """Baseline rate at the share `u` of the session, over its mean."""
    x = 2.0 * u - 1.0
    return 1.0 + p.day_shape * (3.0 * x * x - 1.0) / 2.0 - p.day_tilt * x


@compile_kernel
def next_act(
    excitation: npt.NDArray[np.float64],
    seconds: float,
    until: float,
    base_hz: float,
    p: FlowParams,
    stream: Stream,
) -> float:
    """Time of the next act by thinning, or inf if none comes before `until`.

    `excitation` holds the rate of each time scale at `seconds` and is brought
    forward to the returned time, or to `until`; an act raises it.
    """
    while True:
        bound = base_hz + excitation[0] + excitation[1] + excitation[2]
        wait = exponential(stream) / bound
        step = min(wait, until - seconds)
        for k in range(N_SCALES):
            excitation[k] *= math.exp(-p.decay_hz[k] * step)
        seconds += step
        if wait > step or seconds >= until:
            return np.inf
        rate = base_hz + excitation[0] + excitation[1] + excitation[2]
        if uniform(stream) * bound <= rate:
            for k in range(N_SCALES):
                excitation[k] += p.branching[k] * p.decay_hz[k]
            return seconds


@compile_kernel
def base_rate(p: FlowParams, u: float) -> float:
    """Rate of acts that neither an act nor news caused, at the share `u` of the session."""
    caused = p.branching[0] + p.branching[1] + p.branching[2]
    return p.rate_hz * (1.0 - caused) * (1.0 - p.news_share) * day_rate(p, u)


@compile_kernel
def hear_news(
    excitation: npt.NDArray[np.float64], seconds: float, u: float, p: FlowParams, stream: Stream
) -> None:
    """Let news of an exponential weight come in, or not, during a short interval."""
    if uniform(stream) < p.news_hz * day_rate(p, u) * seconds:
        caused = p.branching[0] + p.branching[1] + p.branching[2]
        acts = p.rate_hz * (1.0 - caused) * p.news_share / p.news_hz
        excitation[2] += acts * exponential(stream) * p.decay_hz[2]


@compile_kernel
def settle(excitation: npt.NDArray[np.float64], p: FlowParams) -> None:
    """Set the excitation to its mean over a day."""
    caused = p.branching[0] + p.branching[1] + p.branching[2]
    for k in range(N_SCALES):
        excitation[k] = p.rate_hz * p.branching[k]
    excitation[2] += p.rate_hz * (1.0 - caused) * p.news_share


@compile_kernel
def activity(excitation: npt.NDArray[np.float64], base_hz: float, p: FlowParams) -> float:
    """Rate of acts over its mean: the pace at which news reach the value.

    Source: Clark (1973), A subordinated stochastic process model with finite
    variance for speculative prices.
    """
    return (base_hz + excitation[0] + excitation[1] + excitation[2]) / p.rate_hz


@compile_kernel
def draw_index(shares: Any, stream: Stream) -> int:
    """Index drawn with the given probabilities."""
    u, k = uniform(stream), 0
    while k < len(shares) - 1 and u >= shares[k]:
        u -= shares[k]
        k += 1
    return k


@compile_kernel
def draw_size(mean: float, stream: Stream) -> int:
    """Geometric size of at least one lot with the given mean."""
    return 1 + int(exponential(stream) / -math.log1p(-1.0 / mean))


@compile_kernel
def place(side: int, q: Quotes, value: float, p: FlowParams, stream: Stream) -> int:
    """Price of a resting order: inside the spread, at the best or behind it."""
    best, other = (q.bid, q.ask) if side > 0 else (q.ask, q.bid)
    if best == 0:  # nobody to join: stand aside from the other side, or from the value
        anchor = other if other != 0 else int(value)
        return max(1, anchor - side * (1 + int(p.behind_scale)))
    u = uniform(stream)
    if u < p.inside_share and other != 0 and abs(other - best) > 1:
        room = abs(other - best) - 1
        return best + side * (1 + int(uniform(stream) ** 2 * room))
    if u < p.inside_share + p.best_share:
        return best
    tail = uniform(stream) ** (-1.0 / p.behind_exponent) - 1.0
    return max(1, best - side * (1 + int(min(p.behind_scale * tail, FARTHEST))))


@compile_kernel
def work_parent(parents: npt.NDArray[np.int64], p: FlowParams, stream: Stream) -> int:
    """Side of the next piece of one of the parent orders; a finished one is replaced.

    `parents` has shape (N_PARENTS, 2): side and pieces left.
    """
    k = int(uniform(stream) * p.n_parents)
    if parents[k, 1] <= 0:
        parents[k, 0] = 1 if uniform(stream) < 0.5 else -1
        pieces = p.parent_pieces * uniform(stream) ** (-1.0 / p.parent_exponent)
        parents[k, 1] = int(min(pieces, MOST_PIECES))
    parents[k, 1] -= 1
    return int(parents[k, 0])


@compile_kernel
def take(side: int, q: Quotes, p: FlowParams, stream: Stream) -> tuple[int, int, int, int]:
    """Aggressive order, most often no larger than what rests at the best price."""
    price, there = (q.ask, q.ask_qty) if side > 0 else (q.bid, q.bid_qty)
    qty = draw_size(p.take_size, stream)
    if there > 0 and uniform(stream) < CAREFUL_SHARE:
        qty = min(qty, there)
    return IOC, side, price, qty


@compile_kernel
def decide(
    role: int,
    q: Quotes,
    value: float,
    trend: float,
    parents: npt.NDArray[np.int64],
    p: FlowParams,
    stream: Stream,
) -> tuple[int, int, int, int]:
    """One order of a participant: kind, side, price, lots.

    Parameters
    ----------
    role : int
        Any but MAKER, whose quotes come from `quote`.
    q : Quotes
        What the participant sees now.
    value, trend : float
        Fundamental value, and the mid's distance from its running mean, ticks.
    parents : array of shape (N_PARENTS, 2)
        Parent orders of splitters.

    Returns
    -------
    kind, side, price, qty
        An order that would take but finds nothing rests instead.
    """
    side = 1 if uniform(stream) < 0.5 else -1
    takes = role == NOISE
    if q.bid != 0 and q.ask != 0:
        mid = (q.bid + q.ask) / 2.0
        if role == VALUE:
            gap = value + p.value_noise * normal(stream) - mid
            side = 1 if gap > 0 else -1
            takes = abs(gap) > p.value_threshold + (q.ask - q.bid) / 2.0
        elif role == MOMENTUM:
            if trend != 0:
                side = 1 if trend > 0 else -1
            takes = abs(trend) > p.trend_threshold
    if role == SPLITTER:
        side, takes = work_parent(parents, p, stream), True
    if takes and (q.ask if side > 0 else q.bid) != 0:
        return take(side, q, p, stream)
    return LIMIT, side, place(side, q, value, p, stream), draw_size(p.order_size, stream)


@compile_kernel
def quote(
    q: Quotes, value: float, shift: float, p: FlowParams, stream: Stream
) -> tuple[int, int, int]:
    """A maker's bid, ask and size around its reference moved by `shift`; neither crosses."""
    mid = (q.bid + q.ask) / 2.0 if q.bid != 0 and q.ask != 0 else value
    mid += p.maker_information * (value - mid)
    reach = p.maker_spread * (0.5 + uniform(stream))
    bid, ask = math.floor(mid + shift - reach), math.ceil(mid + shift + reach)
    if q.ask != 0:
        bid = min(bid, q.ask - 1)
    if q.bid != 0:
        ask = max(ask, q.bid + 1)
    return max(1, bid), max(2, ask), draw_size(p.order_size, stream)
