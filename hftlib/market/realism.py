"""Do a market's stylised facts look real? Value, interval, band and verdict of each.

`measure_realism` takes one session as a `Tape`, simulated or recorded, and
returns the facts of `RULES`. Conventions: the mid is that of the last quote
with both sides; clocks start at the first such quote and cover the whole
session, opening and close included; visible executions with one time stamp
and one sign are one trade; returns are of the logarithm of the mid, price
changes in ticks. A verdict is by the point value; the interval, from a
stationary bootstrap over minutes of the session, says how far to trust it.

Source: Vyetrenko et al. (2020), Get real: realism metrics for robust limit
order book market simulations, ICAIF; Cont (2001), Quantitative Finance 1; and
the sources named at each estimator in `market.stylised`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np

from hftlib.market import stylised
from hftlib.market.fundamental import OUParams, simulate_ou
from hftlib.market.stylised import SECOND, Additive, FloatArray, IntArray, Trades
from hftlib.market.tape import ADD, Tape

CELL = 60 * SECOND  # drawn whole by the bootstrap; no shorter than the longest return
MEAN_BLOCK = 10  # cells; ten minutes outlast every lag used here
CONFIDENCE = 0.95  # mass of the intervals
MIN_OBSERVATIONS = 20  # below, a fact is not measured
OBSERVATIONS_PER_LAG = 10  # of statistics over lags
RETURN_LAGS, TRADE_LAGS = 30, 50  # of the decay fits: 10 s returns, trades
TAIL_SHARE, TAIL_RETURNS = 0.05, 200  # of the returns other than 0; fewest of them
OFI_PART = 180  # 10 s intervals, half an hour: depth, hence the slope, drifts over a day
RESPONSE_LAGS = (1, 5, 10, 25, 50)  # trades
FOLLOWED = 60 * SECOND  # orders are watched that long, so the close cuts none short


@dataclass(frozen=True)
class Band:
    """Values, ends excluded, that real markets show; None leaves an end open.

    row : the fact as a reader knows it; a row of several numbers holds if all do
    """

    row: str
    low: float | None
    high: float | None

    @property
    def text(self) -> str:
        """The band in words, as "> 1" or "2 to 5"."""
        if self.low is None:
            return f"< {self.high:.2g}"
        return f"> {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"

    def contains(self, value: float) -> bool:
        """Whether a value lies inside."""
        return (self.low is None or value > self.low) and (self.high is None or value < self.high)


@dataclass(frozen=True)
class Fact:
    """One stylised fact of one session.

    value : None where it cannot be measured or is undefined; `reason` says why
    low, high : bounds of its bootstrap interval; None where most samples leave it undefined
    passes : whether the value is in the band; None where it cannot be measured
    detail : the curve or the shares behind the value, where there are any
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    band: Band
    passes: bool | None
    reason: str = ""
    detail: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """For JSON: value, low, high, band as [low, high] with null for an open end, passes."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {**numbers, "band": [self.band.low, self.band.high], "passes": self.passes}


class _UnmeasuredError(Exception):
    """A fact has no value; `passes` is False where that itself is unlike a market."""

    def __init__(self, reason: str, passes: bool | None = None) -> None:
        super().__init__(reason)
        self.passes = passes


class _Session:
    """A tape on its clocks, and the weights of its minutes in each bootstrap sample.

    Facts are arrays of draws, the session's own value first. What they rest on
    comes through checks, so that a fact is measured on enough observations or
    says what it lacked.
    """

    def __init__(self, tape: Tape, n_bootstrap: int, seed: int) -> None:
        self.tape, self.mid = tape, stylised.mid_ticks(tape)
        self.all_trades = stylised.trades(tape)
        self.start, self.end = int(tape.ts[0]), int(tape.ts[-1])
        self.n_cells = (self.end - self.start) // CELL + 1
        block = min(MEAN_BLOCK, max(1, self.n_cells // 10))
        rng = np.random.default_rng(seed)
        drawn = stylised.block_weights(self.n_cells, block, n_bootstrap, rng)
        self.weights = np.concatenate([np.ones((1, self.n_cells)), drawn])

    def draws(self, ts: IntArray, statistic: Additive) -> FloatArray:
        """Values of shape (1 + n_bootstrap, ...)."""
        cell = (ts - self.start) // CELL
        columns = [np.bincount(cell, column, self.n_cells) for column in statistic.terms.T]
        return statistic.finish(self.weights @ np.stack(columns, axis=1))

    def draws_weighted(self, ts: IntArray, statistic: Callable[[FloatArray], float]) -> FloatArray:
        """As `draws`, of a statistic that takes the weights of the observations."""
        cell = (ts - self.start) // CELL
        return np.array([statistic(weight[cell]) for weight in self.weights])

    def need(self, n: int, at_least: int, what: str) -> None:
        if n < at_least:
            raise _UnmeasuredError(f"needs {at_least} {what}, the session has {n}")

    def need_moves(self, mid: FloatArray) -> None:
        if np.ptp(mid) == 0:
            raise _UnmeasuredError("the mid does not move", passes=False)

    def clock(self, seconds: int) -> tuple[IntArray, IntArray]:
        """Times on a clock and the row in force at each."""
        times = np.arange(self.start, self.end + 1, seconds * SECOND)
        return times, np.searchsorted(self.tape.ts, times, side="right") - 1

    def returns(self, seconds: int, n_lags: int = 1) -> tuple[IntArray, FloatArray]:
        """Starts and log returns of the intervals of a clock."""
        times, rows = self.clock(seconds)
        at_least = max(MIN_OBSERVATIONS, OBSERVATIONS_PER_LAG * n_lags)
        self.need(len(times) - 1, at_least, f"returns of {seconds} s")
        self.need_moves(self.mid[rows])
        return times[:-1], np.diff(np.log(self.mid[rows]))

    def trades(self, n_lags: int = 1) -> Trades:
        """Trades of the session."""
        n = len(self.all_trades.ts)
        if n == 0:
            raise _UnmeasuredError("no trades", passes=False)
        self.need(n, max(MIN_OBSERVATIONS, OBSERVATIONS_PER_LAG * n_lags), "trades")
        return self.all_trades

    @cached_property
    def orders(self) -> tuple[IntArray, FloatArray, IntArray]:
        """Times of adds, lifetimes in seconds and depths in ticks."""
        rows, lifetime, n_orphans = stylised.order_lifetimes(self.tape)
        rows, lifetime = rows[rows > 0], lifetime[rows > 0]
        self.need(len(rows), MIN_OBSERVATIONS, "orders with an identity")
        depth = stylised.depth_at_add(self.tape, rows)
        if n_orphans and not (depth > 0).any():
            raise _UnmeasuredError("no order is seen behind the best: messages of level 1 only")
        return self.tape.ts[rows], lifetime, depth

    def followed(self) -> tuple[IntArray, FloatArray]:
        """Times of adds early enough to be followed, and lifetimes in seconds."""
        ts, lifetime, _ = self.orders
        kept = ts <= self.end - FOLLOWED
        self.need(int(kept.sum()), MIN_OBSERVATIONS, f"orders followed for {FOLLOWED // SECOND} s")
        return ts[kept], np.minimum(lifetime[kept], FOLLOWED / SECOND)

    def return_acf(self) -> FloatArray:
        ts, returns = self.returns(60)
        return self.draws(ts, stylised.autocorrelation(returns, 1))[:, 0]

    def kurtosis(self, seconds: int) -> FloatArray:
        ts, returns = self.returns(seconds)
        return self.draws(ts, stylised.kurtosis(returns))

    def tail_exponent(self) -> FloatArray:
        ts, returns = self.returns(10)
        size = np.abs(returns)
        moved = np.flatnonzero(size)
        self.need(len(moved), TAIL_RETURNS, "returns of 10 s other than 0")
        ranked = moved[np.argsort(-size[moved])]
        return self.draws_weighted(
            ts[ranked], lambda weight: stylised.tail_exponent(size[ranked], weight, TAIL_SHARE)
        )

    def abs_return_acf(self, n_lags: int) -> FloatArray:
        ts, returns = self.returns(10, n_lags)
        return self.draws(ts, stylised.autocorrelation(np.abs(returns), n_lags))

    def abs_return_decay(self) -> FloatArray:
        return stylised.power_law_exponent(self.abs_return_acf(RETURN_LAGS))

    def variance_ratio(self) -> FloatArray:
        ts, _ = self.returns(60)
        _, returns = self.returns(1)
        return self.draws(ts, stylised.variance_ratio(returns, 60))

    def sign_acf(self, n_lags: int) -> FloatArray:
        trades = self.trades(n_lags)
        return self.draws(trades.ts, stylised.autocorrelation(trades.sign, n_lags))

    def sign_decay(self) -> FloatArray:
        return stylised.power_law_exponent(self.sign_acf(TRADE_LAGS))

    def gap_variation(self, ts: IntArray) -> FloatArray:
        return self.draws(ts[:-1], stylised.variation(np.diff(ts).astype(np.float64)))

    def volume_volatility(self) -> FloatArray:
        trades = self.trades()
        times, _ = self.clock(60)
        ts, returns = self.returns(60)
        traded = np.append(0.0, np.cumsum(trades.size))
        volume = np.diff(traded[np.searchsorted(trades.ts, times, side="right")])
        return self.draws(ts, stylised.correlation(volume, np.abs(returns)))

    @cached_property
    def moves_up(self) -> FloatArray:
        self.need_moves(self.mid)
        rows, imbalance, is_up = stylised.next_moves(self.tape)
        statistic = stylised.share_by_fifth(imbalance, is_up)
        fewest = int(statistic.terms[:, stylised.N_FIFTHS :].sum(axis=0).min())
        self.need(fewest, MIN_OBSERVATIONS, "events in each fifth of imbalance")
        return self.draws(self.tape.ts[rows], statistic)

    def ofi_r_squared(self) -> FloatArray:
        ts, _ = self.returns(10)
        _, rows = self.clock(10)
        flow = np.diff(np.cumsum(stylised.order_flow(self.tape))[rows]).astype(np.float64)
        part = np.arange(len(ts)) // OFI_PART
        return self.draws(ts, stylised.mean_r_squared(flow, np.diff(self.mid[rows]), part))

    @cached_property
    def response(self) -> FloatArray:
        trades = self.trades(RESPONSE_LAGS[-1])
        return self.draws(trades.ts, stylised.response(trades.sign, trades.mid, RESPONSE_LAGS))

    def late_share(self) -> FloatArray:
        late = self.response[:, -1] - self.response[:, -2]
        return stylised.divide(late, self.response[:, -1] - self.response[:, 0])

    def median_lifetime(self) -> FloatArray:
        ts, lifetime = self.followed()
        ranked = np.argsort(lifetime)
        return self.draws_weighted(
            ts[ranked], lambda weight: stylised.weighted_median(lifetime[ranked], weight)
        )

    def gone_within_1s(self) -> FloatArray:
        ts, lifetime = self.followed()
        return self.draws(ts, stylised.shares(lifetime[:, None] <= 1))[:, 0]

    @cached_property
    def places(self) -> FloatArray:
        ts, _, depth = self.orders
        place = np.stack([depth < 0, depth == 0, depth > 0], axis=1)
        return self.draws(ts, stylised.shares(place))


@dataclass(frozen=True)
class _Rule:
    """How a fact is measured and judged, and why it may be undefined."""

    row: str
    low: float | None
    high: float | None
    measure: Callable[[_Session], FloatArray]
    undefined: str = "the sample does not vary"


_KURTOSIS = "excess kurtosis, 1 s to 60 s"
_CLUSTERS = "|return| ACF, 10 s"
_SIGNS = "trade-sign ACF"
_TRADE_GAPS = "trade inter-arrival CV"
_EVENT_GAPS = "event inter-arrival CV"
_VOLUME = "volume-volatility correlation, 1 min"
_MOVE = "P(next move up) by fifth of imbalance"
_RESPONSE = "price response R(1) to R(50), ticks"
_ORDERS = "life and place of orders"
_NO_DECAY = "no positive power law fits the autocorrelations"

# Decay exponents: .2 to .4 for |returns| (Cont 2001), .4 to .8 for signs (Lillo & Farmer 2004),
# each widened by .1, about its standard error in one liquid day. The smallest step of the
# imbalance curve says that it increases; its rise, .13 to .23 in liquid stocks, that this is no
# accident of a flat one. Of a response growing as the square root of the lag, .34 comes after
# lag 25: one that saturates stays below a third.
RULES = {
    "return_acf_60s": _Rule("return ACF(1), 60 s", -0.2, 0.2, _Session.return_acf),
    "kurtosis_1s": _Rule(_KURTOSIS, 1.0, None, lambda s: s.kurtosis(1)),
    "kurtosis_60s": _Rule(_KURTOSIS, 1.0, None, lambda s: s.kurtosis(60)),
    "kurtosis_fall": _Rule(_KURTOSIS, 0.0, None, lambda s: s.kurtosis(1) - s.kurtosis(60)),
    "tail_exponent_10s": _Rule("tail exponent (Hill), 10 s", 2.0, 5.0, _Session.tail_exponent),
    "abs_return_acf_10s": _Rule(_CLUSTERS, 0.05, None, lambda s: s.abs_return_acf(1)[:, 0]),
    "abs_return_decay_10s": _Rule(_CLUSTERS, 0.1, 0.5, _Session.abs_return_decay, _NO_DECAY),
    "variance_ratio_60s": _Rule("variance ratio, 60 s to 1 s", 0.6, 1.3, _Session.variance_ratio),
    "sign_acf": _Rule(_SIGNS, 0.3, None, lambda s: s.sign_acf(1)[:, 0]),
    "sign_decay": _Rule(_SIGNS, 0.3, 0.9, _Session.sign_decay, _NO_DECAY),
    "trade_gap_variation": _Rule(_TRADE_GAPS, 1.3, None, lambda s: s.gap_variation(s.trades().ts)),
    "volume_volatility": _Rule(_VOLUME, 0.1, None, _Session.volume_volatility),
    "imbalance_step": _Rule(_MOVE, 0.0, None, lambda s: np.diff(s.moves_up).min(axis=1)),
    "imbalance_rise": _Rule(_MOVE, 0.05, None, lambda s: s.moves_up[:, -1] - s.moves_up[:, 0]),
    "ofi_r2_10s": _Rule("order-flow-imbalance R², 10 s", 0.3, None, _Session.ofi_r_squared),
    "response_1": _Rule(_RESPONSE, 0.0, None, lambda s: s.response[:, 0]),
    "response_rise": _Rule(_RESPONSE, 0.0, None, lambda s: s.response[:, -1] - s.response[:, 0]),
    "response_late_share": _Rule(_RESPONSE, None, 1 / 3, _Session.late_share, "R does not rise"),
    "event_gap_variation": _Rule(_EVENT_GAPS, 1.5, None, lambda s: s.gap_variation(s.tape.ts)),
    "order_lifetime_s": _Rule(_ORDERS, 0.1, 5.0, _Session.median_lifetime),
    "gone_within_1s": _Rule(_ORDERS, 0.4, None, _Session.gone_within_1s),
    "placed_behind": _Rule(_ORDERS, 0.5, None, lambda s: s.places[:, 2]),
}
# curve of the session behind a fact, and its labels
CURVES = {
    "imbalance_rise": ("moves_up", [f"fifth_{k + 1}" for k in range(stylised.N_FIFTHS)]),
    "response_rise": ("response", [f"lag_{lag}" for lag in RESPONSE_LAGS]),
    "placed_behind": ("places", ["inside", "at", "behind"]),
}


def measure_realism(tape: Tape, *, n_bootstrap: int, seed: int) -> dict[str, Fact]:
    """All stylised facts of one session, in the order of `RULES`.

    Parameters
    ----------
    tape : Tape
        One session in which no order id is used twice. What precedes the
        first event with both sides quoted is left out.
    n_bootstrap : int
        Samples behind each interval.
    seed : int
        Of the bootstrap; values do not depend on it.

    Returns
    -------
    dict of str to Fact
        Too few observations leave a fact unmeasured (`passes` None). A market
        without trades fails the facts about trades, one whose mid never moves
        those about returns. Messages of level 1 show no order behind the best:
        facts about orders are then unmeasured.
    """
    is_quoted = (tape.best_bid > 0) & (tape.best_ask > 0)
    first = int(np.argmax(is_quoted)) if is_quoted.any() else len(tape)
    tape = Tape(**{f.name: getattr(tape, f.name)[first:] for f in fields(Tape)})
    session = _Session(tape, n_bootstrap, seed) if len(tape) >= MIN_OBSERVATIONS else None
    return {name: _measure(name, rule, session) for name, rule in RULES.items()}


def _measure(name: str, rule: _Rule, session: _Session | None) -> Fact:
    band = Band(rule.row, rule.low, rule.high)
    try:
        if session is None:
            raise _UnmeasuredError(f"fewer than {MIN_OBSERVATIONS} events with quotes")
        draws = rule.measure(session)
    except _UnmeasuredError as why:
        return Fact(name, None, None, None, band, why.passes, str(why))
    value, samples = float(draws[0]), draws[1:][np.isfinite(draws[1:])]
    if not np.isfinite(value):
        return Fact(name, None, None, None, band, False, rule.undefined)
    low = high = None
    if 2 * len(samples) > len(draws) - 1:
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(bound) for bound in np.quantile(samples, [tail, 1 - tail]))
    detail = {}
    if name in CURVES:
        curve, labels = CURVES[name]
        detail = dict(zip(labels, getattr(session, curve)[0].tolist(), strict=True))
    return Fact(name, value, low, high, band, band.contains(value), detail=detail)


def ou_snapshots(n: int, rng: np.random.Generator) -> Tape:
    """Quotes around a mean-reverting number: no orders, no trades, no market.

    The mid is an Ornstein-Uhlenbeck process (mean 100, speed .05 per second,
    volatility .02 per root second, tick .01) on a clock of 100 ms; sizes, and
    spreads of 5 basis points on average, are independent of everything. It
    stands beside real and simulated markets to show what the facts refuse.

    The tape has n >= 1 rows of kind `ADD` without order id, size or price.
    """
    process = OUParams(10_000.0, 0.05, 2.0, shock_hz=0.0, shock_scale=0.0)
    path = simulate_ou(n - 1, 0.1, process, seed=int(rng.integers(2**31)))
    mid = np.rint(path).astype(np.int32)
    half_spread = rng.integers(1, 5, size=n, dtype=np.int32)
    quantity = rng.integers(1, 1001, size=(2, n), dtype=np.int32)
    nothing = np.zeros(n, dtype=np.int32)
    return Tape(
        ts=np.int64(1_704_205_800) * SECOND + np.arange(n) * (SECOND // 10),
        kind=np.full(n, ADD, dtype=np.int8),
        order_id=nothing.astype(np.int64),
        size=nothing,
        price=nothing,
        direction=nothing.astype(np.int8),
        best_bid=mid - half_spread,
        bid_qty=quantity[0],
        best_ask=mid + half_spread,
        ask_qty=quantity[1],
    )
