"""Books and messages for tests: written out, drawn at random, sent in pieces."""

from dataclasses import dataclass

import numpy as np

from hftlib.market import ladder
from hftlib.market.book import ACK, FILL, KINDS, MESSAGE, SELF_TRADE, OrderBook

SMALLEST, LARGEST = -(2**31), 2**31 - 1  # int32


@dataclass(frozen=True)
class Case:
    """A book and what is sent to it."""

    messages: np.ndarray
    window: int
    capacity: int
    self_trade: str
    n_owners: int

    def open(self, window: int | None = None) -> OrderBook:
        return OrderBook(
            window=self.window if window is None else window,
            capacity=self.capacity,
            self_trade=self.self_trade,
            n_owners=self.n_owners,
        )


def read_levels(book: OrderBook, n: int) -> list[tuple[int, ...]]:
    """Rows of depth: bid price and lots, ask price and lots."""
    return [tuple(row) for row in book.depth(n).to_numpy().tolist()]


def make_messages(*rows: dict[str, int | str]) -> np.ndarray:
    """Messages from dictionaries; a kind may be a name."""
    messages = np.zeros(len(rows), MESSAGE)
    for message, row in zip(messages, rows, strict=True):
        for name, value in row.items():
            message[name] = KINDS.get(value, value)
    return messages


def vectors(book: OrderBook) -> list[bytes]:
    """Every bit of a book and its accounts."""
    return [book.state.tobytes(), book.accounts.tobytes()]


def draw_prices(rng: np.random.Generator, side: np.ndarray) -> np.ndarray:
    """Quotes around a centre that wanders and now and then jumps far beyond any ladder."""
    n = len(side)
    width = rng.choice([1, 4, 30, 1_000, 10**6])
    centre = rng.choice([1 + width, 10_000, 5 * 10**7, 2**30 - width])
    jumps = rng.choice([0, 0, 0, 0, 1, -1], n) * width
    jumps += (rng.random(n) < 0.01) * rng.integers(-40 * width, 40 * width + 1, n)
    offset = rng.exponential(width, n) - rng.choice([0.3, 1.0]) * width
    prices = centre + np.cumsum(jumps) - side * offset.astype(np.int64)
    return np.clip(prices, 1, ladder.MAX_PRICE)


def draw_sizes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Small lots, or lots of which a side holds two or three before its sum is full."""
    small = rng.integers(1, rng.choice([2, 6, 200]), n)
    huge = LARGEST - rng.integers(0, 2**30, n) // rng.choice([1, 2**10, 2**30], n)
    return np.where(rng.random(n) < rng.choice([0.0, 0.0, 0.3]), huge, small)


def draw_case(rng: np.random.Generator, n: int) -> Case:
    """A book of random shape and messages that mostly make sense, some that do not."""
    capacity = int(rng.choice([2, 4, 8, 16, 64, 256]))
    n_owners = int(rng.integers(1, 5))
    weights = [0.38, 0.06, 0.07, 0.07, 0.08, 0.12, 0.08, 0.14]
    kind = rng.choice([KINDS[name] for name in KINDS], n, p=weights)
    side = rng.choice([-1, 1], n)
    price, qty = draw_prices(rng, side), draw_sizes(rng, n)
    owner, handle = rng.integers(0, n_owners, n), rng.integers(0, 6 * capacity, n)
    # cancels and the like name a recent order, mostly of the same owner
    opens = np.isin(kind, [KINDS["limit"], KINDS["post_only"]])
    for kinds in ([KINDS["modify"]], [KINDS["cancel"], KINDS["reduce"]]):
        rows, candidates = np.flatnonzero(np.isin(kind, kinds)), np.flatnonzero(opens)
        back = rng.geometric(min(1.0, 3 / capacity), len(rows))
        place = np.searchsorted(candidates, rows) - back
        rows, place = rows[place >= 0], place[place >= 0]
        named = candidates[place]
        handle[rows] = -1 - named
        owner[rows] = np.where(rng.random(len(rows)) < 0.95, owner[named], owner[rows])
        same = rows[rng.random(len(rows)) < 0.4]
        price[same] = price[-1 - handle[same]]
        opens |= kind == KINDS["modify"]
    messages = np.zeros(n, MESSAGE)
    for name, values in {
        "kind": kind,
        "side": side,
        "price": price,
        "qty": qty,
        "owner": owner,
        "handle": handle,
        "tag": rng.integers(SMALLEST, LARGEST + 1, n),
    }.items():
        messages[name] = values
        spoilt = rng.random(n) < 0.006
        garbage = np.where(
            rng.random(n) < 0.5, rng.integers(SMALLEST, LARGEST + 1, n), rng.integers(-4, 12, n)
        )
        extreme = rng.choice([SMALLEST, LARGEST, 0, 2**30, 2**30 + 1], n)
        messages[name][spoilt] = np.where(rng.random(n) < 0.3, extreme, garbage)[spoilt]
    return Case(
        messages=messages,
        window=int(rng.choice([8, 8, 16, 32, 1024])),
        capacity=capacity,
        self_trade=str(rng.choice(list(SELF_TRADE))),
        n_owners=n_owners,
    )


def send_in_pieces(
    engine: OrderBook, messages: np.ndarray, cuts: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Fills and acknowledgements of an array sent in pieces, as if it had been sent whole."""
    fills, acks = [np.zeros(0, FILL)], np.zeros(len(messages), ACK)
    for start, stop in zip([0, *cuts], [*cuts, len(messages)], strict=True):
        piece = messages[start:stop].copy()
        handles = piece["handle"]
        opened = -1 - handles.astype(np.int64)  # message that the handle refers to
        before = (handles < 0) & (opened < start)
        later = (handles < 0) & (opened >= start)
        handles[before] = acks["handle"][opened[before]]
        handles[later] = np.maximum(-1 - (opened[later] - start), SMALLEST)
        filled, acks[start:stop] = engine.process(piece)
        filled["message"] += start
        fills.append(filled)
    return np.concatenate(fills), acks
