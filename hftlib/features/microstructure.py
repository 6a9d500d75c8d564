"""Book features: twelve of the best quotes, fifteen of depth and order flow.

A feature at a snapshot uses that snapshot and earlier ones of its session, a
run of rows of equal symbol, source and session. Prices are in ticks and sizes
in lots, as float64: a mid in half ticks can exceed what float32 holds exactly.
Each row is computed by the same operations whatever rows follow, so the
features of the first n rows are, to the last bit, the first n rows of the
features. nan in the warm-up, and where a side that the formula reads is empty
(price 0).

Sources: Cont, Kukanov and Stoikov (2014), The price impact of order book
events, Journal of Financial Econometrics 12(1); Cont, Cucuringu and Zhang
(2023), Cross-impact of order flow imbalance in equity markets, Quantitative
Finance 23(10), here with levels of equal weight; Lee and Ready (1991),
Inferring trade direction from intraday data, Journal of Finance 46(2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numba import njit

from hftlib.data.splits import SESSION
from hftlib.features.sides import LEVELS, Book, FloatArray, Side, SnapshotError

VOLATILITY_ROWS = 20


@dataclass(frozen=True)
class Feature:
    """One column: nan in the first `warmup` rows of a session; reads `levels` of the book."""

    name: str
    formula: str
    warmup: int
    compute: Callable[[Book], FloatArray]
    levels: int = 1


@njit
def _rolling_deviation(x: FloatArray, n: int) -> FloatArray:
    """Sample deviation (ddof 1) of each n values in a row; nan where one of them is nan.

    Two passes over each window: running sums would carry rounding, and a
    nan, from one window to the next.
    """
    out = np.full(len(x), np.nan)
    for i in range(n - 1, len(x)):
        mean = 0.0
        for j in range(i - n + 1, i + 1):
            mean += x[j]
        mean /= n
        squares = 0.0
        for j in range(i - n + 1, i + 1):
            squares += (x[j] - mean) ** 2
        out[i] = np.sqrt(squares / (n - 1))
    return out


def _share(bid: FloatArray, ask: FloatArray) -> FloatArray:
    return (bid - ask) / (bid + ask)


def _returns(book: Book) -> FloatArray:
    before = book.before(book.mid)
    return (book.mid - before) / before


def _microprice(book: Book) -> FloatArray:
    bid, ask = book.bid, book.ask
    return (ask.px * bid.qty + bid.px * ask.qty) / (bid.qty + ask.qty)


def _where_known(x: FloatArray, condition: FloatArray) -> FloatArray:
    """`x`, but nan where `condition` is."""
    return np.where(np.isnan(condition), np.nan, x)


def _imbalance_all(book: Book) -> FloatArray:
    bid, ask = book.bid.sizes.sum(axis=0), book.ask.sizes.sum(axis=0)
    return _share(_where_known(bid, book.mid), ask)


def _flow(book: Book, n_levels: int) -> FloatArray:
    """Order-flow imbalance of the best levels, lots; nan where a level 1 is or was empty."""
    flow = np.sum([book.bid.flow(k) - book.ask.flow(k) for k in range(n_levels)], axis=0)
    return _where_known(book.since(flow), book.mid + book.before(book.mid))


def _scaled_flow(book: Book) -> FloatArray:
    depth = book.bid.depth + book.ask.depth
    return _flow(book, LEVELS) / ((depth + book.before(depth)) / 4)


def _trade_sign(book: Book) -> FloatArray:
    """A trade at the mid takes the sign of the last change of the trade price (tick rule)."""
    last = book.last_px.astype(np.float64)
    before = book.before(last)
    step = np.where(before > 0, last - before, 0.0)
    changed = np.where(step != 0, np.arange(len(last)), 0)
    changed[book.opens] = book.opens
    tick = np.sign(step[np.maximum.accumulate(changed)])
    quote = np.sign(last - book.before(book.mid))
    sign = np.where(quote == 0, tick, quote)
    return _where_known(np.where(book.traded_qty > 0, sign, 0.0), before)


def _depletion(book: Book, side: Side) -> FloatArray:
    left = book.since(side.queue_left()) / book.before(side.qty)
    return _where_known(1 - left, side.qty)


def _pressure(book: Book) -> FloatArray:
    bid, ask = book.bid, book.ask
    weighted = bid.mean_price() * ask.depth + ask.mean_price() * bid.depth
    deviation = weighted / (bid.depth + ask.depth) - book.mid
    return deviation / np.where(book.spread > 0, book.spread, np.nan)


_BEST = (
    Feature("best_bid", "highest bid, ticks", 0, lambda book: book.bid.px),
    Feature("best_ask", "lowest ask, ticks", 0, lambda book: book.ask.px),
    Feature("bid_qty_1", "size at the best bid, lots", 0, lambda book: book.bid.qty),
    Feature("ask_qty_1", "size at the best ask, lots", 0, lambda book: book.ask.qty),
    Feature("spread", "best_ask - best_bid, ticks", 0, lambda book: book.spread),
    Feature(
        "imbalance",
        "(bid_qty_1 - ask_qty_1) / (bid_qty_1 + ask_qty_1)",
        0,
        lambda book: _share(book.bid.qty, book.ask.qty),
    ),
    Feature(
        "microprice",
        "(best_ask bid_qty_1 + best_bid ask_qty_1) / (bid_qty_1 + ask_qty_1), ticks",
        0,
        _microprice,
    ),
    Feature("mid_price", "(best_bid + best_ask) / 2, ticks", 0, lambda book: book.mid),
    Feature("returns", "mid_t / mid_t-1 - 1", 1, _returns),
    Feature(
        "volatility",
        "sample standard deviation (ddof 1) of the last 20 returns",
        VOLATILITY_ROWS,
        lambda book: _rolling_deviation(_returns(book), VOLATILITY_ROWS),
    ),
    Feature("bid_value", "best_bid bid_qty_1, ticks lots", 0, lambda b: b.bid.px * b.bid.qty),
    Feature("ask_value", "best_ask ask_qty_1, ticks lots", 0, lambda b: b.ask.px * b.ask.qty),
)
_DEPTH = (
    Feature(
        "imbalance_5",
        "(bid_depth_5 - ask_depth_5) / (bid_depth_5 + ask_depth_5)",
        0,
        lambda book: _share(book.bid.depth, book.ask.depth),
        LEVELS,
    ),
    Feature("imbalance_all", "the same over all levels of the snapshot", 0, _imbalance_all),
    Feature(
        "ofi_1",
        "order-flow imbalance of level 1 since t-1, lots: size that came to the bid less size "
        "that came to the ask; a better price counts its whole queue, a worse one the lost queue",
        1,
        lambda book: _flow(book, 1),
    ),
    Feature(
        "ofi_5",
        "sum of the order-flow imbalances of levels 1 to 5 / mean five-level depth of a side, "
        "over both sides and t-1, t",
        1,
        _scaled_flow,
        LEVELS,
    ),
    Feature(
        "trade_sign",
        "sign(last_px_t - mid_t-1); at the mid that of the last change of last_px; 0 without trade",
        1,
        _trade_sign,
    ),
    Feature(
        "signed_volume",
        "trade_sign traded_qty, lots",
        1,
        lambda book: _trade_sign(book) * book.traded_qty,
    ),
    Feature(
        "bid_queue_share",
        "bid_qty_1 / bid_depth_5",
        0,
        lambda book: book.bid.qty / book.bid.depth,
        LEVELS,
    ),
    Feature(
        "ask_queue_share",
        "ask_qty_1 / ask_depth_5",
        0,
        lambda book: book.ask.qty / book.ask.depth,
        LEVELS,
    ),
    Feature(
        "bid_depletion",
        "1 - size at t at the price best_bid_t-1 / bid_qty_1_t-1; nan where that price is behind "
        "the last level",
        1,
        lambda book: _depletion(book, book.bid),
        LEVELS,
    ),
    Feature(
        "ask_depletion",
        "1 - size at t at the price best_ask_t-1 / ask_qty_1_t-1; nan as for bids",
        1,
        lambda book: _depletion(book, book.ask),
        LEVELS,
    ),
    Feature(
        "bid_depth_5",
        "size of the best 5 bid levels, lots",
        0,
        lambda book: book.bid.depth,
        LEVELS,
    ),
    Feature(
        "ask_depth_5",
        "size of the best 5 ask levels, lots",
        0,
        lambda book: book.ask.depth,
        LEVELS,
    ),
    Feature(
        "bid_reach_5",
        "best_bid less the last filled of the best 5 bid prices, ticks",
        0,
        lambda book: book.bid.reach(),
        LEVELS,
    ),
    Feature(
        "ask_reach_5",
        "the last filled of the best 5 ask prices less best_ask, ticks",
        0,
        lambda book: book.ask.reach(),
        LEVELS,
    ),
    Feature(
        "pressure_5",
        "(five-level microprice - mid) / spread, with size-weighted mean prices and depths of the "
        "best 5 levels; at one level it would be imbalance / 2; nan where the spread is not > 0",
        0,
        _pressure,
        LEVELS,
    ),
)
FEATURES = _BEST + _DEPTH
BOOK_FEATURES = tuple(feature.name for feature in _BEST)
DEPTH_FEATURES = tuple(feature.name for feature in _DEPTH)
_BY_NAME = {feature.name: feature for feature in FEATURES}


def feature_matrix(snapshots: pd.DataFrame, names: Sequence[str] = BOOK_FEATURES) -> FloatArray:
    """Features as one array of shape (n_rows, n_features), a column for each of `names`.

    Arguments and errors are those of `compute_book_features`.
    """
    unknown = [name for name in names if name not in _BY_NAME]
    if unknown:
        raise SnapshotError(f"{', '.join(unknown)}: no such feature; known: {', '.join(_BY_NAME)}")
    book = Book(snapshots)
    deep = [name for name in names if _BY_NAME[name].levels > book.levels]
    if deep:
        raise SnapshotError(
            f"{', '.join(deep)}: expected {LEVELS} levels, the snapshots have {book.levels}; leave "
            "these features out or take deeper snapshots"
        )
    matrix = np.empty((len(snapshots), len(names)))
    for column, name in enumerate(names):
        matrix[:, column] = _BY_NAME[name].compute(book)
    return matrix


def compute_book_features(
    snapshots: pd.DataFrame, names: Sequence[str] = BOOK_FEATURES
) -> pd.DataFrame:
    """Features of every session in `snapshots`.

    Parameters
    ----------
    snapshots : frame as `schema.snapshots(levels)`
        Any number of sessions, one after the other, each in time order.
    names : sequence of str
        From `BOOK_FEATURES` and `DEPTH_FEATURES`; most of the latter need 5 levels.

    Returns
    -------
    frame of shape (n_rows, 4 + n_features)
        symbol, source, session, ts and `names` as float64, in the order of
        `snapshots` and on its index; nan as the module says.

    Raises
    ------
    SchemaError
        If `snapshots` departs from the schema.
    SnapshotError
        If a feature is unknown or needs more levels, or a session's ts falls.
    """
    features = pd.DataFrame(
        feature_matrix(snapshots, names), index=snapshots.index, columns=list(names)
    )
    return pd.concat([snapshots[[*SESSION, "ts"]], features], axis=1)
