"""Days for replays: events written out, random orders through the engine, shallow records."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from hftlib.data.lobster import LobsterDay, find_days, read_day
from hftlib.data.replay import rebuild, to_messages
from hftlib.market.book import FILL_FIELDS, KINDS, OrderBook
from hftlib.market.record import N_COLUMNS, send, tape_of
from hftlib.market.tape import Tape
from tests.conftest import SHARED_DATA

NAMES = {"symbol": "SIM", "source": "test", "session": "2024-01-02"}


def make_tape(*events: tuple[int, ...], quotes: list[tuple[int, ...]] | None = None) -> Tape:
    """Events are kind, id, size, price, direction; quotes bid, lots, ask, lots."""
    rows = np.array(events, dtype=np.int64).reshape(-1, 5)
    shown = np.zeros((len(rows), 4)) if quotes is None else np.array(quotes)
    kind, order_id, size, price, direction = rows.T
    return Tape(
        np.arange(len(rows), dtype=np.int64),
        kind.astype(np.int8),
        order_id,
        size.astype(np.int32),
        price.astype(np.int32),
        direction.astype(np.int8),
        *shown.T.astype(np.int32),
    )


def select(tape: Tape, rows) -> Tape:
    return Tape(*(getattr(tape, field.name)[rows] for field in fields(tape)))


def join(*tapes: Tape) -> Tape:
    columns = zip(*(vars(tape).values() for tape in tapes), strict=True)
    return Tape(*(np.concatenate(column) for column in columns))


def record_stream(n: int, seed: int) -> Tape:
    """Random orders, cancels and modifications through the engine and its recorder."""
    rng = np.random.default_rng(seed)
    book = OrderBook(capacity=1024)
    fills = np.zeros((1025, len(FILL_FIELDS)), dtype=np.int32)
    rows = np.zeros((4 * n + 2000, N_COLUMNS), dtype=np.int64)
    live, mid, used = [0], 10_000, 0
    for tag in range(1, n + 1):
        mid += int(rng.choice([-1, 0, 1], p=[0.02, 0.96, 0.02]))
        side, handle = int(rng.choice([-1, 1])), live.pop(int(rng.integers(len(live))))
        kind = rng.choice(["limit", "ioc", "cancel", "modify"], p=[0.5, 0.15, 0.25, 0.1])
        away = int(rng.geometric(0.15)) if kind == "limit" else -8
        price = book_price = mid - side * away
        if kind == "modify":
            price = book_price + int(rng.integers(-9, 10))
        qty = int(rng.integers(1, 20))
        m = np.array([KINDS[kind], side, price, qty, 0, handle, tag], dtype=np.int32)
        used, ack = send(book.state, book.accounts, fills, m, tag // 3, rows, used)
        live += [handle] if kind in ("limit", "ioc") else []
        live += [ack[2]] if ack[2] > 0 else []
        live = live or [0]
    return tape_of(rows[:used])


def make_shallow(tape: Tape, levels: int) -> tuple[Tape, np.ndarray]:
    """What LOBSTER would tell of a day's second half: events that touch the best levels, and those.

    Returns the messages and the book after each, in LOBSTER's columns.
    """
    book = rebuild(to_messages(tape, **NAMES), levels=levels).book
    touches = (np.diff(book, axis=0, prepend=0) != 0).any(axis=1)
    rows = np.flatnonzero(touches & (np.arange(len(book)) > len(book) // 2))
    return select(tape, rows), book[rows]


def read_real(symbol: str, folder: Path) -> LobsterDay:
    """A day of the shared samples, linked into an empty folder."""
    samples = SHARED_DATA / "book"
    if not samples.exists():
        pytest.skip(f"{samples} is absent: LOBSTER's samples may not be redistributed")
    for file in samples.glob(f"{symbol}_*"):
        (folder / file.name).symlink_to(file)
    (files,) = find_days(folder)
    return read_day(files)
