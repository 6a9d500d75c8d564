"""Parameters of the background flow, estimated from one session of order-by-order events.

What a tape shows is measured; what it does not show comes from `start`.

- rate_hz, role_shares: orders that rest and orders that take are counted. Signs
  tell which takers split parent orders; others keep their proportions.
- branching, decay_hz: least squares on the Allan factors of the act times, from
  10 ms to a sixteenth of the session. A likelihood would spend all three time
  scales below .1 s: for AAPL it leaves 15 of the factor 368 at 300 s.
- day_shape, day_tilt: least squares on the counts of equal parts of the session.
- inside_share, best_share, behind_*: maximum likelihood of the distance from the
  own side's best price before each add, the adds of `start`'s makers apart.
- lifetime_shares, lifetimes_s: maximum likelihood of three exponentials from add
  to cancel in business time, censored by executions and the close; makers' orders
  count as patient, as `market.lane` has it and `market.floor` has not.
- order_size, take_size: means; trades of all that rested at the best are censored.
- parent_exponent, share of splitters: least squares on the autocorrelation of
  trade signs; its exponent is parent_exponent - 1, its level grows with the
  share and falls with n_parents, which stays unless all takers had to split.
- Kept: parent_pieces, which moves that level too; news_*, which counts cannot
  tell from slow branching; value_*, trend_*, maker_*, which no event shows.

Sources: Thurner et al. (1997), Fractals 5(4), Allan factor; Da Fonseca & Zaatour
(2014), J. Futures Markets 34(6), Hawkes processes from moments; Lillo, Mike &
Farmer (2005), Phys. Rev. E 71, and Sato & Kanazawa (2024), J. Stat. Phys. 191,
signs; Liang & Zeger (1986), Biometrika 73(1), errors of dependent observations.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares, minimize
from scipy.signal import lfilter
from scipy.special import ndtr, sici
from scipy.stats import binom

from hftlib.market import flow, stylised
from hftlib.market.flow import FlowParams
from hftlib.market.stylised import SECOND, FloatArray, IntArray
from hftlib.market.tape import ADD, DELETE, EXECUTE, Tape

N_PARTS = 60  # of the session; standard errors take them as independent, and `start` as exact
STEP_S = 0.1  # of business time, as in the simulators
LEAST = 100  # seconds, adds, trades and cancels of a session
SHORTEST_S, FEWEST_WINDOWS = 0.01, 16  # of the Allan factors
MODEL_ERROR = 0.05  # of an Allan factor: no market is three exponentials
PRIOR = np.array([-2.0, -2.0, -2.0, 0.0, 0.0, 0.0])  # logits of branching ratios, of log scales
PRIOR_SPREAD = 3.0  # weak: it decides what a session does not
MOST_BRANCHING = 0.95  # beyond, the rate of a day says nothing about the next
SIGN_LAGS = np.arange(1, 201)  # trades
MOST_SPLITTING = 0.95  # of the takers; somebody must bring the value into the price
TAKING = 0.3  # of the acts of value and momentum traders, in our markets
MISPRICING = 0.7  # standard deviation, over the mispricing at which value traders take, there too
FREQUENCIES = np.geomspace(1e-6, 1e5, 700)  # rad / s

Function = Callable[[FloatArray], FloatArray]


class CalibrationError(ValueError):
    """A tape that a flow cannot be calibrated to."""


class Estimate(NamedTuple):
    """A parameter as in FlowParams, standard errors or None, and why it is kept or limited."""

    value: Any
    error: Any
    note: str = ""


Found = dict[str, Estimate]  # by field of FlowParams


class _Day:
    """A tape from its first two-sided quote on, and the orders that it shows."""

    def __init__(self, tape: Tape) -> None:
        is_quoted = (tape.best_bid > 0) & (tape.best_ask > 0)
        if not is_quoted.any():
            raise CalibrationError(
                f"expected a bid and an ask, no event of {len(tape)} has both; rebuild the quotes"
            )
        first = int(np.argmax(is_quoted))
        self.tape = tape = Tape(**{f.name: getattr(tape, f.name)[first:] for f in fields(Tape)})
        self.seconds = float(tape.ts[-1] - tape.ts[0]) / SECOND
        self.trades = stylised.trades(tape)
        self.rows, self.lifetime, n_orphans = stylised.order_lifetimes(tape)
        self.is_cancelled = np.isin(tape.order_id[self.rows], tape.order_id[tape.kind == DELETE])
        self.depth = stylised.depth_at_add(tape, np.maximum(self.rows, 1))
        self.is_level_1 = n_orphans > 0 and not (self.depth > 0).any()
        counts = {"seconds": self.seconds, "adds": len(self.rows), "trades": len(self.trades.ts)}
        for what, n in (counts | {"cancels": self.is_cancelled.sum()}).items():
            if n < LEAST:
                raise CalibrationError(
                    f"expected {LEAST} {what} or more, the tape has {n:.0f}; "
                    "take a longer session, with all its messages"
                )
        self.acts = (np.unique(tape.ts[np.isin(tape.kind, (ADD, EXECUTE))]) - tape.ts[0]) / SECOND

    def part(self, ts: IntArray) -> IntArray:
        """Part of the session in which each time lies."""
        whole = (ts - self.tape.ts[0]) / SECOND / self.seconds
        return np.minimum((whole * N_PARTS).astype(np.int64), N_PARTS - 1)


def calibrate(tape: Tape, *, start: FlowParams) -> tuple[FlowParams, Found]:
    """Background flow of a session, and an estimate for each of its fields.

    Parameters
    ----------
    tape : Tape
        One session in which no order id is used twice, taken as a whole day
        from the first event that leaves both sides quoted. Messages of level 1
        lack the orders behind the best price: place and life are then kept.
    start : FlowParams
        Supplies what the tape does not show.

    Raises
    ------
    CalibrationError
        If quotes are missing, or there are too few seconds, adds, trades or cancels.
    """
    start = flow.check_flow(start)
    day = _Day(tape)
    shape, note = _fit_day(day)
    arrivals, fano = _fit_arrivals(day, shape, start)
    shape_error = np.sqrt(fano / len(day.acts) * np.array([5.0, 3.0]))
    parents, split = _fit_signs(day, start)
    roles, maker_share = _fit_roles(day, split, fano, start)
    found = _found("day_shape day_tilt", shape, shape_error, note)
    found |= arrivals | parents | roles | _fit_sizes(day)
    note = "kept: the tape does not show it"
    if day.is_level_1:
        note = "level 1 shows acts at the best price only: others as in start"
        for name in ("rate_hz", "role_shares", "branching", "decay_hz", "order_size"):
            found[name] = found[name]._replace(note=note)
    else:
        found |= _fit_places(day, maker_share, start) | _fit_lifetimes(day, maker_share, found)
    report = {name: found.get(name, Estimate(x, None, note)) for name, x in start._asdict().items()}
    return flow.check_flow(FlowParams(*(found.value for found in report.values()))), report


def _found(names: str, values: Iterable[Any], errors: Iterable[Any], note: str = "") -> Found:
    """Estimates by name, each of a number or of several."""
    rows = [[tuple(x.tolist()) if np.ndim(x) else float(x) for x in y] for y in (values, errors)]
    return {name: Estimate(x, e, note) for name, x, e in zip(names.split(), *rows, strict=True)}


def _slopes(function: Function, x: FloatArray) -> FloatArray:
    """Derivatives of a function of any shape, by the last axis."""
    steps = 1e-5 * np.eye(len(x))
    return np.stack([(function(x + step) - function(x - step)) / 2e-5 for step in steps], axis=-1)


def _propagate(function: Function, x: FloatArray, covariance: FloatArray) -> FloatArray:
    """Standard errors of `function(x)` by the delta method."""
    slopes = _slopes(function, x)
    return np.sqrt((slopes @ covariance * slopes).sum(axis=-1))


def _maximise(fit: Function, starts: Any, part: IntArray, read: Function, names: str) -> Found:
    """What `read` makes of the most likely x; `fit` is the log-likelihood of each observation."""
    options: Any = {"bounds": [(-20.0, 20.0)] * len(starts[0]), "options": {"ftol": 1e-11}}
    found = [minimize(lambda x: -fit(x).mean(), x, **options) for x in starts]
    x = min(found, key=lambda one: one.fun).x
    scores = _slopes(fit, x).T
    by_part = np.stack([np.bincount(part, row, N_PARTS) for row in scores])
    moves = np.linalg.pinv(scores @ scores.T) @ by_part
    return _found(names, read(x), _propagate(read, x, moves @ moves.T))


def _ratio(above: FloatArray, below: FloatArray, part: IntArray) -> Estimate:
    """Sum over sum of arrays of shape (n,)."""
    ratio = above.sum() / below.sum()
    error = np.linalg.norm(np.bincount(part, above - ratio * below)) / below.sum()
    return Estimate(float(ratio), float(error))


def _shares(x: FloatArray) -> FloatArray:
    """Positive shares with sum 1 from their logarithms over that of the last."""
    weight = np.exp(np.append(x, 0.0))
    return weight / weight.sum()


def _fit_day(day: _Day) -> tuple[FloatArray, str]:
    """Shape and tilt, and a note where they are limited: no rate is negative."""
    counts = np.histogram(day.acts, N_PARTS, (0.0, day.seconds))[0]
    x = 2.0 * (np.arange(N_PARTS) + 0.5) / N_PARTS - 1.0
    columns = np.stack([np.ones(N_PARTS), (3.0 * x * x - 1.0) / 2.0, -x], axis=1)
    fit = np.linalg.lstsq(columns, counts, rcond=None)[0]
    raw = fit[1:] / fit[0]
    shape: Any = np.clip(raw, [0.0, -0.95], 0.95)
    shape *= min(1.0, 0.95 / max(-(columns[:, 1:] @ shape).min(), 0.95))
    return shape, f"the fit gives {raw[0]:.2f} and {raw[1]:.2f}" if (shape != raw).any() else ""


def _allan_factors(day: _Day, shape: FloatArray) -> FloatArray:
    """Windows in octaves, seconds; Allan factors, less the day's profile; numbers of windows."""
    rate, n = len(day.acts) / day.seconds, int(day.seconds / SHORTEST_S)
    counts = np.bincount((day.acts / SHORTEST_S).astype(np.int64), minlength=n)[:n] * 1.0
    found, window = [], SHORTEST_S
    while len(counts) >= FEWEST_WINDOWS:
        x = 2.0 * window * np.arange(len(counts) + 1) / day.seconds - 1.0
        profile = np.diff(shape[0] * (x**3 - x) - shape[1] * x * x) / 4.0
        moves = np.diff(counts - rate * day.seconds * profile)
        found.append((window, (moves @ moves) / len(moves) / (2 * rate * window), len(counts)))
        counts, window = counts[: len(counts) // 2 * 2].reshape(-1, 2).sum(axis=1), 2 * window
    return np.array(found, dtype=np.float64).T


def _spectrum(scales: FloatArray, rate: float, start: FlowParams) -> FloatArray:
    """Spectrum of the acts over their rate (Hawkes 1971); news are a shot noise in it."""
    branching, decay = scales
    caused = (branching * decay / (decay + 1j * FREQUENCIES[:, None])).sum(axis=1)
    level = 2 * (start.news_share * (1 - branching.sum())) ** 2 * rate
    news = level / start.news_hz / (1 + (FREQUENCIES / decay[-1]) ** 2) if level > 0 else 0.0
    return (1 + news) / np.abs(1 - caused) ** 2


def _fit_arrivals(day: _Day, shape: FloatArray, start: FlowParams) -> tuple[Found, float]:
    """Branching and decays, and the variance of a long count over its mean."""
    windows, factors, n_windows = _allan_factors(day, shape)
    rate = len(day.acts) / day.seconds
    # 8 / pi times the integral of spectrum * sin(x / 2)**4 / x**2, x = frequency * window
    x = np.append(1e-9, np.sqrt(FREQUENCIES[1:] * FREQUENCIES[:-1])) * windows[:, None]
    area = -(np.sin(x / 2) ** 4) / x + sici(x)[0] / 2 - sici(2 * x)[0] / 4
    kernel = np.diff(area, axis=1, append=np.pi / 8) * 8 / np.pi
    weight = 1 / np.sqrt(MODEL_ERROR**2 + 3 / n_windows)
    low, high = np.log(0.5 / windows[-1]), np.log(2 / windows[0])

    def scales(x: FloatArray) -> FloatArray:
        """Branching ratios, and decays from the fastest down, of six free numbers."""
        decay = np.exp(high - (high - low) * np.cumsum(_shares(x[3:])[:-1]))
        return np.stack([MOST_BRANCHING * _shares(x[:3])[:-1], decay])

    def residuals(x: FloatArray) -> FloatArray:
        spectrum = _spectrum(scales(x), rate, start)
        error = np.log(kernel @ spectrum / np.maximum(factors, 1e-3)) * weight
        return np.append(error, (x - PRIOR) / PRIOR_SPREAD)

    places = np.array([(1, 3, 5.5), (3, 3, 3.5), (1.5, 6.5, 1.5), (4, 3, 2.5)])  # it has valleys
    firsts = np.append(0 * places - 1, np.log(places / (10 - places.sum(axis=1)[:, None])), axis=1)
    best = min((least_squares(residuals, x) for x in firsts), key=lambda fit: fit.cost)
    covariance = np.linalg.inv(best.jac.T @ best.jac)
    values, errors = scales(best.x), _propagate(scales, best.x, covariance)
    total = _propagate(lambda x: scales(x)[0].sum(), best.x, covariance)
    note = f"branching sums to {values[0].sum():.2f}, standard error {total:.2f}"
    fano = float(_spectrum(values, rate, start)[0])
    return _found("branching decay_hz", values, errors, note), fano


def _sign_acf(share: float, exponent: float, n_parents: int, least: float) -> FloatArray:
    """Chance at SIGN_LAGS that two trades are of splitters, of one of their orders and its life."""
    longer = np.minimum(1.0, (np.arange(1, flow.MOST_PIECES + 1) / least) ** -exponent)
    left = np.cumsum(longer[::-1])[::-1]
    works = share / n_parents
    between = binom.pmf(SIGN_LAGS - 1, SIGN_LAGS[:, None] - 1, works)
    return share * works * (between @ (left[SIGN_LAGS] / left[0]))


def _fit_signs(day: _Day, start: FlowParams) -> tuple[Found, Estimate]:
    """Parent orders, and the share of takers that split them."""
    sign, part = day.trades.sign, day.part(day.trades.ts)
    products, counts = np.zeros((2, N_PARTS, len(SIGN_LAGS)))
    for k, lag in enumerate(SIGN_LAGS[: len(sign) // 2]):
        products[:, k] = np.bincount(part[:-lag], sign[:-lag] * sign[lag:], N_PARTS)
        counts[:, k] = np.bincount(part[:-lag], minlength=N_PARTS)
    total = np.maximum(counts.sum(axis=0), 1)
    acf = products.sum(axis=0) / total
    weight = np.where(counts.any(axis=0), SIGN_LAGS**-0.5, 0.0)  # each octave counts alike

    def residuals(x: FloatArray, n: int) -> FloatArray:
        return weight * (_sign_acf(x[0], x[1], n, start.parent_pieces) - acf)

    limits: Any = {"bounds": ([0.0, 1.02], [MOST_SPLITTING, 4.0])}
    numbers = range(1, flow.N_PARENTS + 1)
    fits = {n: least_squares(residuals, [0.5, 1.6], args=(n,), **limits) for n in numbers}
    is_full = fits[start.n_parents].x[0] > 0.99 * MOST_SPLITTING
    n_parents = min(fits, key=lambda n: fits[n].cost) if is_full else start.n_parents
    best = fits[n_parents]
    sums = np.linalg.pinv(best.jac) @ (weight * (products - acf * counts) / total).T
    error = np.linalg.norm(sums, axis=1)
    if best.x[0] < 3 * error[0]:  # no memory
        return {}, Estimate(0.0, 0.0)
    found = {"n_parents": Estimate(n_parents, None, "start's, unless all takers had to split")}
    return found | _found("parent_exponent", best.x[1:], error[1:]), Estimate(best.x[0], error[0])


def _fit_roles(day: _Day, split: Estimate, fano: float, start: FlowParams) -> tuple[Found, float]:
    """Rate and roles of all who act, and the share of adds that makers send."""
    part = day.part(np.append(day.trades.ts, day.tape.ts[day.tape.kind == ADD]))
    takes = (np.arange(len(part)) < len(day.trades.ts)).astype(np.float64)
    taking = _ratio(takes, np.ones(len(part)), part)
    seen = start.inside_share + start.best_share if day.is_level_1 else 1.0
    was = np.array(start.role_shares)
    either, rests = [flow.VALUE, flow.MOMENTUM], [flow.PASSIVE, flow.MAKER]

    def acts(x: FloatArray) -> FloatArray:
        """Acts by role for each order seen, of the shares that take and that then split."""
        others = max(was[flow.NOISE] + TAKING * was[either].sum(), 1e-9)
        found = was * x[0] * (1 - x[1]) / others
        adds = max((1 - x[0]) / seen - (1 - TAKING) * found[either].sum(), 0.0)
        found[rests] = was[rests] * adds / max(was[flow.PASSIVE] + 2 * was[flow.MAKER], 1e-9)
        found[flow.SPLITTER] = x[0] * x[1]
        return found

    x = np.array([taking.value, split.value])
    covariance = np.diag([taking.error, split.error]) ** 2
    counts, errors = acts(x), _propagate(lambda y: acts(y) / acts(y).sum(), x, covariance)
    rate = len(part) * counts.sum() / day.seconds
    rate_error = np.sqrt(rate * fano / day.seconds)
    found = _found("rate_hz role_shares", [rate, counts / counts.sum()], [rate_error, errors])
    return found, float(2 * counts[flow.MAKER] * seen / (1 - x[0]))


def _fit_sizes(day: _Day) -> Found:
    tape, trades = day.tape, day.trades
    adds = tape.kind == ADD
    order = _ratio(tape.size[adds], np.ones(adds.sum()), day.part(tape.ts[adds]))
    rows = np.flatnonzero(tape.kind == EXECUTE)
    before = np.maximum(rows[np.searchsorted(tape.ts[rows], trades.ts)] - 1, 0)
    there = np.where(trades.sign > 0, tape.ask_qty[before], tape.bid_qty[before])
    ends = (trades.size != there) * 1.0  # before the lots did
    take = _ratio(trades.size - 1 + ends, ends, day.part(trades.ts)) if ends.any() else None
    return {"order_size": order} | ({"take_size": take} if take else {})


def _fit_places(day: _Day, maker_share: float, start: FlowParams) -> Found:
    before = np.maximum(day.rows, 1) - 1
    bid, ask = day.tape.best_bid[before].astype(np.int64), day.tape.best_ask[before]
    kept = (day.rows > 0) & (bid > 0) & (ask > bid) & (day.depth > bid - ask)
    spread, depth = (ask - bid)[kept] * 1.0, day.depth[kept] * 1.0
    # A maker's distance from the mid is even from half to one and a half of its mean, with
    # a normal error as it looks at the value. No quote reaches the other side.
    error = start.maker_information * MISPRICING * (start.value_threshold + spread / 2) + 1e-3
    away = np.stack([depth, depth - 1]) + spread / 2
    z = (away - start.maker_spread * np.array([[[0.5]], [[1.5]]])) / error
    area = error * (z * ndtr(z) + np.exp(-z * z / 2) / np.sqrt(2 * np.pi))
    below = (area[0] - area[1]) / start.maker_spread
    makers = maker_share * (below[0] - np.where(depth == 1 - spread, 0.0, below[1]))
    inside, behind = np.maximum(-depth, 1.0), np.maximum(depth, 1.0)
    where_inside = (np.sqrt(inside) - np.sqrt(inside - 1)) / np.sqrt(np.maximum(spread - 1, 1))

    def log_likelihood(x: FloatArray) -> FloatArray:
        shares, (scale, exponent) = _shares(x[:2]), np.exp(x[2:])
        tail = (1 + (behind - 1) / scale) ** -exponent - (1 + behind / scale) ** -exponent
        own = np.where(depth < 0, shares[0] * where_inside, shares[2] * tail)
        own = np.where(depth == 0, shares[1] + shares[0] * (spread == 1), own)
        return np.log(makers + (1 - maker_share) * own + 1e-300)

    def places(x: FloatArray) -> FloatArray:
        return np.append(_shares(x[:2])[:2], np.exp(x[2:]))

    names, first = "inside_share best_share behind_scale behind_exponent", [-1.0, -1.0, 2.3, 0.4]
    return _maximise(log_likelihood, [first], day.part(day.tape.ts[day.rows])[kept], places, names)


def _business_time(day: _Day, known: Found, seconds: FloatArray) -> FloatArray:
    """Times on a clock whose pace is the rate of acts over its mean."""
    branching, decay = (np.array(known[name].value) for name in ("branching", "decay_hz"))
    step = np.arange(0.0, day.seconds + STEP_S, STEP_S)
    coming = (day.acts // STEP_S).astype(np.int64) + 1
    local, edges = np.histogram(day.acts, N_PARTS, (0.0, day.seconds), density=True)
    pace = np.interp(step, (edges[1:] + edges[:-1]) / 2, local * (1 - branching.sum()))
    for n, hz in zip(branching, decay, strict=True):
        kicks = n * hz * np.exp(-hz * (coming * STEP_S - day.acts)) / len(day.acts)
        left = np.bincount(coming, kicks, len(step))[: len(step)]  # at the end of each step
        pace += lfilter([1.0], [1.0, -np.exp(-hz * STEP_S)], left)
    passed = np.append(0.0, np.cumsum(pace[:-1]) * STEP_S * day.seconds)
    return np.interp(seconds, step, passed)


def _fit_lifetimes(day: _Day, maker_share: float, known: Found) -> Found:
    added, is_cancelled = day.tape.ts[day.rows], day.is_cancelled[:, None]
    begin = (added - day.tape.ts[0]) / SECOND
    times = np.stack([begin, np.minimum(begin + day.lifetime, day.seconds)])
    seconds = np.diff(_business_time(day, known, times), axis=0).T

    def log_likelihood(x: FloatArray) -> FloatArray:
        ends = np.exp(-x[2:])
        chances = np.where(is_cancelled, ends, 1.0) * np.exp(-seconds * ends)
        return np.log(chances @ _shares(x[:2]) + 1e-300)

    def kinds(x: FloatArray) -> FloatArray:
        """Shares without makers, whose orders are patient, and lifetimes; the shortest first."""
        rising = np.argsort(x[2:])
        shares = _shares(x[:2])[rising]
        shares[flow.PATIENT] = max(shares[flow.PATIENT] - maker_share, 0.0)
        return np.stack([shares / shares.sum(), np.exp(x[2:][rising])])

    around = np.array([[-1.4, 2.3, 6.9], [-3.9, 1.4, 5.0]])  # the likelihood has two tops
    middle = np.log(np.median(seconds[is_cancelled]) + 1e-6)
    starts = np.insert(middle + around, [0, 0], 0.0, axis=1)
    names = "lifetime_shares lifetimes_s"
    found = _maximise(log_likelihood, starts, day.part(added), kinds, names)
    value, error = np.array(found["lifetimes_s"][:2])
    error = np.hypot(error, value * known["rate_hz"].error / known["rate_hz"].value)  # of the clock
    return found | _found("lifetimes_s", [value], [error])
