"""The books of a simulated exchange on disk: orders, events, and the state of each order book.

An order is on disk before it is acknowledged, and what it does to a book is written in one
transaction with the book: a venue that is killed and opened again is the venue that it was.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TABLES = """
CREATE TABLE IF NOT EXISTS clock (one INTEGER PRIMARY KEY CHECK (one = 1), ts_ns INTEGER);
CREATE TABLE IF NOT EXISTS books (symbol TEXT PRIMARY KEY, state BLOB, external TEXT);
CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY, client_id TEXT UNIQUE NOT NULL, symbol TEXT, kind TEXT,
    side INTEGER, lots INTEGER, ticks INTEGER, status TEXT, handle INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS inbox (
    number INTEGER PRIMARY KEY, arrives_ns INTEGER, client_id TEXT, cancels INTEGER);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, client_id TEXT, kind TEXT, ts_ns INTEGER, quantity TEXT,
    price TEXT, fee TEXT, is_maker INTEGER, reason TEXT);
"""


def open_database(path: Path, tables: str) -> sqlite3.Connection:
    """A database that survives the death of its process at any instruction, and a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.executescript(tables)
    return database


@contextmanager
def transact(database: sqlite3.Connection) -> Iterator[None]:
    """All of a block, or nothing of it; a block inside another is part of that one."""
    if database.in_transaction:
        yield
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # a full disk may have rolled back by itself
            database.execute("ROLLBACK")
        raise


def insert(database: sqlite3.Connection, table: str, **values: Any) -> None:
    """Insert one row."""
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))


def find_row(database: sqlite3.Connection, column: str, value: str | int) -> dict[str, Any] | None:
    """An order by its client id or number; None if there is none."""
    cursor = database.execute(f"SELECT * FROM orders WHERE {column} = ?", (value,))
    row = cursor.fetchone()
    return None if row is None else dict(zip([c[0] for c in cursor.description], row, strict=True))
