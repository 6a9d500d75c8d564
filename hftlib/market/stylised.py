"""Estimators of stylised facts, and a block bootstrap that serves them all.

Nearly every stylised fact is a function of sums over observations (moments,
products at a lag, counts). `Additive` keeps the two halves apart, the terms of
each observation and the function of their sums, so that a bootstrap sample
costs one weighted sum over blocks of time instead of a pass over the events.
Lagged products are formed before resampling, hence none straddles two blocks
(the "blocks of blocks" bootstrap). The second half reads from a tape what the
estimators take; `market.realism` judges the values.

Source: Cont (2001), Empirical properties of asset returns, Quantitative
Finance 1; Politis & Romano (1994), JASA 89(428), for the stationary bootstrap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hftlib.market.tape import ADD, DELETE, EXECUTE, REDUCE, Tape

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SECOND = 1_000_000_000  # ns
NO_ASK = np.iinfo(np.int32).max
N_FIFTHS = 5
EXPONENTS = np.arange(0.0, 2.0005, 0.005)  # searched by `power_law_exponent`


@dataclass(frozen=True)
class Additive:
    """A statistic `finish(sum of terms)`.

    terms : array of shape (n_observations, n_terms)
    finish : maps sums of shape (..., n_terms) to values of shape (...) or (..., k);
        nan where the statistic is undefined
    """

    terms: FloatArray
    finish: Callable[[FloatArray], FloatArray]

    @property
    def value(self) -> FloatArray:
        """The statistic of the whole sample."""
        return self.finish(self.terms.sum(axis=0))


def divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Quotient of broadcastable arrays; nan where the denominator is not positive."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    out = np.full(shape, np.nan)
    np.divide(numerator, denominator, out=out, where=np.broadcast_to(denominator > 0, shape))
    return out


def block_weights(
    n_cells: int, mean_block: float, n_bootstrap: int, rng: np.random.Generator
) -> FloatArray:
    """How often each cell of time enters each sample of the stationary bootstrap.

    Parameters
    ----------
    n_cells : int
        Consecutive cells of equal duration.
    mean_block : float
        Mean number of consecutive cells drawn together, at least 1; the
        session is taken as a circle.

    Returns
    -------
    array of shape (n_bootstrap, n_cells)
        Each row sums to `n_cells`.
    """
    position = np.arange(n_cells)
    is_start = rng.random((n_bootstrap, n_cells)) < 1 / mean_block
    is_start[:, :1] = True
    start = rng.integers(n_cells, size=(n_bootstrap, n_cells))
    begun = np.maximum.accumulate(np.where(is_start, position, 0), axis=1)
    drawn = (np.take_along_axis(start, begun, axis=1) + position - begun) % n_cells
    flat = drawn + n_cells * np.arange(n_bootstrap)[:, None]
    counts = np.bincount(flat.ravel(), minlength=n_bootstrap * n_cells)
    return counts.reshape(n_bootstrap, n_cells).astype(np.float64)


def autocorrelation(x: FloatArray, n_lags: int) -> Additive:
    """Autocorrelation at lags 1..n_lags of a series of shape (n,), n > n_lags.

    The mean is that of the whole sample in every bootstrap sample too.
    """
    y = x - x.mean()
    terms = np.zeros((len(y), n_lags + 1))
    terms[:, 0] = y * y
    for lag in range(1, n_lags + 1):
        terms[:-lag, lag] = y[:-lag] * y[lag:]
    return Additive(terms, lambda sums: divide(sums[..., 1:], sums[..., :1]))


def power_law_exponent(acf: FloatArray) -> FloatArray:
    """Exponent b of the least-squares fit c / lag**b, c > 0, to autocorrelations.

    The fit is to the values, not to their logarithms: sampling errors of an
    autocorrelation are about equal at all lags, and it may be negative at some.

    Parameters
    ----------
    acf : array of shape (..., n_lags)
        At lags 1..n_lags.

    Returns
    -------
    array of shape (...)
        Between 0 (no decay) and 2, to .005; nan where no c > 0 fits.
    """
    lags = np.arange(1, acf.shape[-1] + 1)
    basis = lags[:, None] ** -EXPONENTS
    overlap = acf @ (basis / np.linalg.norm(basis, axis=0))
    best = np.argmax(overlap, axis=-1)
    return np.where(overlap.max(axis=-1) > 0, EXPONENTS[best], np.nan)


def kurtosis(x: FloatArray) -> Additive:
    """Excess kurtosis of a sample of shape (n,); 0 for a normal one."""
    y2 = (x - x.mean()) ** 2
    terms = np.stack([np.ones_like(y2), y2, y2 * y2], axis=1)
    return Additive(terms, lambda s: divide(s[..., 0] * s[..., 2], s[..., 1] ** 2) - 3)


def variance_ratio(returns: FloatArray, n_aggregated: int) -> Additive:
    """Variance of sums of `n_aggregated` returns over that many times their variance.

    1 for a random walk, above for trends, below for reversals. Sums do not
    overlap; returns of shape (n,) that fill no whole sum are left out.

    Source: Lo & MacKinlay (1988), Review of Financial Studies 1(1).
    """
    n_sums = len(returns) // n_aggregated
    parts = returns[: n_sums * n_aggregated].reshape(n_sums, n_aggregated)
    parts = parts - parts.mean()
    terms = np.stack([parts.sum(axis=1) ** 2, (parts**2).sum(axis=1)], axis=1)
    return Additive(terms, lambda sums: divide(sums[..., 0], sums[..., 1]))


def variation(x: FloatArray) -> Additive:
    """Standard deviation over mean of a sample of shape (n,); 1 for gaps of a Poisson process."""
    mean = x.mean()
    y = x - mean  # centred first, so that equal gaps have exactly 0
    terms = np.stack([np.ones_like(y), y, y * y], axis=1)

    def finish(sums: FloatArray) -> FloatArray:
        shift = divide(sums[..., 1], sums[..., 0])
        variance = divide(sums[..., 2], sums[..., 0]) - shift**2
        return divide(np.sqrt(np.maximum(variance, 0)), mean + shift)

    return Additive(terms, finish)


def correlation(x: FloatArray, y: FloatArray) -> Additive:
    """Pearson correlation of two samples of shape (n,)."""
    x, y = x - x.mean(), y - y.mean()
    terms = np.stack([x * x, y * y, x * y], axis=1)
    return Additive(terms, lambda s: divide(s[..., 2], np.sqrt(s[..., 0] * s[..., 1])))


def mean_r_squared(x: FloatArray, y: FloatArray, part: IntArray) -> Additive:
    """R² of the regression of y on x, run in each part and averaged by size.

    Parameters
    ----------
    x, y : arrays of shape (n,)
    part : array of shape (n,)
        Part 0, 1, ... of each observation. A part in which x or y does not
        vary is left out; nan where that leaves none.
    """
    n_parts = int(part.max()) + 1
    moments = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    terms = np.zeros((len(x), n_parts, moments.shape[1]))
    terms[np.arange(len(x)), part] = moments

    def finish(sums: FloatArray) -> FloatArray:
        n, sx, sy, sxx, syy, sxy = np.moveaxis(
            sums.reshape(*sums.shape[:-1], n_parts, moments.shape[1]), -1, 0
        )
        spread = np.maximum(n * sxx - sx**2, 0) * np.maximum(n * syy - sy**2, 0)
        r_squared = divide((n * sxy - sx * sy) ** 2, spread)
        size = np.where(np.isnan(r_squared), 0.0, n)
        return divide((np.nan_to_num(r_squared) * size).sum(axis=-1), size.sum(axis=-1))

    return Additive(terms.reshape(len(x), -1), finish)


def response(sign: FloatArray, mid: FloatArray, lags: Sequence[int]) -> Additive:
    """Price response R(l), the mean of sign(t) * (mid(t + l) - mid(t)), in units of `mid`.

    Parameters
    ----------
    sign : array of shape (n_trades,)
        +1 where a buyer started the trade, -1 where a seller did.
    mid : array of shape (n_trades,)
        Just before each trade.
    lags : sequence of int
        In trades, each below n_trades.

    Source: Bouchaud, Gefen, Potters & Wyart (2004), Quantitative Finance 4(2).
    """
    moves = np.zeros((len(sign), len(lags)))
    counts = np.zeros_like(moves)
    for k, lag in enumerate(lags):
        moves[:-lag, k] = sign[:-lag] * (mid[lag:] - mid[:-lag])
        counts[:-lag, k] = 1
    n = len(lags)
    return Additive(
        np.concatenate([moves, counts], axis=1), lambda s: divide(s[..., :n], s[..., n:])
    )


def share_by_fifth(imbalance: FloatArray, is_up: npt.NDArray[np.bool_]) -> Additive:
    """Share of upward next moves in each fifth of the range of imbalance.

    The range [-1, 1] is cut at -.6, -.2, .2 and .6, cuts being part of the inner
    fifth: sample quintiles would split the ties that round lots produce.

    Parameters
    ----------
    imbalance, is_up : arrays of shape (n,)

    Returns
    -------
    Additive with values of shape (..., 5)
        nan in a fifth without observations.
    """
    outwards = np.ceil(np.abs(imbalance) * N_FIFTHS / 2 - 0.5)
    fifth = N_FIFTHS // 2 + (np.sign(imbalance) * outwards).astype(np.int64)
    terms = np.zeros((len(imbalance), 2, N_FIFTHS))
    terms[np.arange(len(fifth)), 0, fifth] = is_up
    terms[np.arange(len(fifth)), 1, fifth] = 1
    return Additive(
        terms.reshape(len(fifth), -1), lambda s: divide(s[..., :N_FIFTHS], s[..., N_FIFTHS:])
    )


def tail_exponent(size: FloatArray, weight: FloatArray, share: float) -> float:
    """Hill estimate of a from P(size > s) ~ s**-a, on the largest `share` of a sample.

    Parameters
    ----------
    size : array of shape (n,)
        Positive, in falling order.
    weight : array of shape (n,)
        How often each entry counts.

    Returns
    -------
    float
        nan where the tail has fewer than two different sizes, or nothing counts.

    Source: Hill (1975), Annals of Statistics 3(5).
    """
    counted = np.cumsum(weight)
    if counted[-1] == 0:
        return float("nan")
    n_tail = int(share * counted[-1])
    threshold = size[np.searchsorted(counted, n_tail, side="right")]
    excess = float(np.sum(weight * np.log(np.maximum(size / threshold, 1.0))))
    return n_tail / excess if excess > 0 else float("nan")


def weighted_median(value: FloatArray, weight: FloatArray) -> float:
    """Lower median of values of shape (n,) in rising order, each counted `weight` times.

    nan where nothing counts.
    """
    counted = np.cumsum(weight)
    if counted[-1] == 0:
        return float("nan")
    return float(value[np.searchsorted(counted, counted[-1] / 2)])


def shares(is_member: npt.NDArray[np.bool_]) -> Additive:
    """Share of observations in each class; membership of shape (n, n_classes)."""
    terms = np.column_stack([is_member, np.ones(len(is_member))]).astype(np.float64)
    return Additive(terms, lambda sums: divide(sums[..., :-1], sums[..., -1:]))


def mid_ticks(tape: Tape) -> FloatArray:
    """Mid after each event, shape (n_events,); the last one while a side is empty.

    The first event must leave both sides quoted.
    """
    is_quoted = (tape.best_bid > 0) & (tape.best_ask > 0)
    row = np.maximum.accumulate(np.where(is_quoted, np.arange(len(tape)), 0))
    return (tape.best_bid[row].astype(np.float64) + tape.best_ask[row]) / 2


@dataclass(frozen=True)
class Trades:
    """Visible executions, those of one time stamp and sign merged; shape (n_trades,).

    ts : nanoseconds UTC; sign : +1 a buyer started it, -1 a seller did
    size : lots; mid : ticks, just before the trade
    """

    ts: IntArray
    sign: FloatArray
    size: FloatArray
    mid: FloatArray


def trades(tape: Tape) -> Trades:
    """Trades of a tape whose first event leaves both sides quoted."""
    rows = np.flatnonzero(tape.kind == EXECUTE)
    ts, sign = tape.ts[rows], -tape.direction[rows].astype(np.float64)
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = (np.diff(ts) != 0) | (np.diff(sign) != 0)
    size = np.bincount(np.cumsum(is_first) - 1, tape.size[rows]).astype(np.float64)
    before = mid_ticks(tape)[np.maximum(rows[is_first] - 1, 0)]
    return Trades(ts[is_first], sign[is_first], size, before)


def next_moves(tape: Tape) -> tuple[IntArray, FloatArray, npt.NDArray[np.bool_]]:
    """Rows with both sides quoted that a move of the mid follows; imbalance; is the move up.

    Imbalance is (bid - ask) / (bid + ask) of the sizes at the best prices.
    """
    move = np.diff(mid_ticks(tape))
    moves = np.flatnonzero(move)
    is_used = (tape.best_bid > 0) & (tape.best_ask > 0)
    is_used[moves[-1] + 1 if len(moves) else 0 :] = False
    rows = np.flatnonzero(is_used)
    bid, ask = tape.bid_qty[rows].astype(np.float64), tape.ask_qty[rows].astype(np.float64)
    is_up = move[moves[np.searchsorted(moves, rows)]] > 0
    return rows, (bid - ask) / (bid + ask), is_up


def order_lifetimes(tape: Tape) -> tuple[IntArray, FloatArray, int]:
    """Rows on which orders were added, their lifetimes in seconds, and the orders never added.

    Returns
    -------
    rows : array of shape (n_orders,)
    lifetime : array of shape (n_orders,)
        From the add to the deletion or the execution of the last lot; inf
        where the order still rests at the end.
    n_orphans : int
        Orders that appear on the tape without their add.
    """
    rows = np.flatnonzero(np.isin(tape.kind, (ADD, REDUCE, DELETE, EXECUTE)) & (tape.order_id != 0))
    if len(rows) == 0:
        return rows, np.zeros(0), 0
    rows = rows[np.argsort(tape.order_id[rows], kind="stable")]
    is_add = tape.kind[rows] == ADD
    starts = np.flatnonzero(np.append(True, np.diff(tape.order_id[rows]) != 0))
    ends = np.append(starts[1:], len(rows)) - 1
    size = tape.size[rows].astype(np.int64)
    resting = np.add.reduceat(np.where(is_add, size, -size), starts)
    is_gone = (tape.kind[rows[ends]] == DELETE) | (resting <= 0)
    lifetime = np.where(is_gone, (tape.ts[rows[ends]] - tape.ts[rows[starts]]) / SECOND, np.inf)
    whole = is_add[starts]
    return rows[starts][whole], lifetime[whole], int((~whole).sum())


def depth_at_add(tape: Tape, rows: IntArray) -> IntArray:
    """Ticks from the best price of its side back to each order added on `rows`.

    The quotes are those before the add, so `rows` has no 0. Negative inside
    the spread, or where the side was empty; shape (n_rows,).
    """
    bid, ask = tape.best_bid.astype(np.int64)[rows - 1], _ask_ticks(tape)[rows - 1]
    return np.where(tape.direction[rows] > 0, bid - tape.price[rows], tape.price[rows] - ask)


def order_flow(tape: Tape) -> IntArray:
    """Signed contribution of each event to the pressure at the best quotes, in lots.

    Returns
    -------
    array of shape (n_events,)
        Positive where demand grew or supply shrank; the first entry is 0.

    Source: Cont, Kukanov & Stoikov (2014), Journal of Financial Econometrics 12(1), eq. 2.
    """
    bid, bid_qty = tape.best_bid, tape.bid_qty.astype(np.int64)
    ask, ask_qty = _ask_ticks(tape), tape.ask_qty.astype(np.int64)
    flow = np.zeros(len(tape), dtype=np.int64)
    flow[1:] += np.where(bid[1:] >= bid[:-1], bid_qty[1:], 0)
    flow[1:] -= np.where(bid[1:] <= bid[:-1], bid_qty[:-1], 0)
    flow[1:] -= np.where(ask[1:] <= ask[:-1], ask_qty[1:], 0)
    flow[1:] += np.where(ask[1:] >= ask[:-1], ask_qty[:-1], 0)
    return flow


def _ask_ticks(tape: Tape) -> IntArray:
    """Best ask; where there is none, a price above all others."""
    return np.where(tape.best_ask > 0, tape.best_ask, NO_ASK).astype(np.int64)
