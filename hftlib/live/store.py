"""The state of paper trading in one SQLite file: what was decided, sent, filled, and why not.

Everything that leads to an order is written, and synced, before the order is sent; a fill and
the account that it makes are one transaction with the number of the venue's event. After a kill
at any instruction the file says what may be on its way, and the venues say the rest.

A halt is kept apart, in a file that a full disk cannot refuse (`halt_file`). One process trades
on a store: a lock, which dies with its process, keeps a second one out.
"""

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd

from hftlib.live.broker import Event, OrderRequest
from hftlib.live.halt_file import HaltFile
from hftlib.live.parents import Parent
from hftlib.live.store_tables import OPEN, TABLES, OpenOrder, StoreError, to_order
from hftlib.live.venue_store import insert, open_database, transact


class Store:
    """The file; every method raises `StoreError` if it cannot be read or written.

    Raises
    ------
    StoreError
        Also if another process trades on it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_name(path.name + ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StoreError(f"{path}: another process trades on it; stop that one first") from None
        with self._guarded():
            self._halt = HaltFile(path.with_name(path.name + ".halt"))
            self.database = open_database(path, TABLES)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"{self.path}: {error}; nothing was sent after this. Free the disk, or restore the "
                "file, and start again: open orders are reconciled with the venues"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of a block, or nothing of it."""
        with self._guarded(), transact(self.database):
            yield

    def get(self, name: str, default: Any = None) -> Any:
        """A value by name, as JSON keeps it."""
        with self._guarded():
            query = "SELECT value FROM state WHERE name = ?"
            row = self.database.execute(query, (name,)).fetchone()
        return default if row is None else json.loads(row[0])

    def put(self, name: str, value: Any) -> None:
        """Keep a value under a name."""
        with self._guarded():
            query = "INSERT OR REPLACE INTO state VALUES (?, ?)"
            self.database.execute(query, (name, json.dumps(value)))

    def read_halt(self) -> str:
        """Why trading is halted; "" if it is not."""
        with self._guarded():
            return self._halt.read()

    def write_halt(self, reason: str) -> None:
        """Keep why trading is halted, also on a disk that is full; "" clears it."""
        with self._guarded():
            self._halt.write(reason)

    def add(self, table: str, **values: Any) -> None:
        """Insert one row; decimals become text."""
        with self._guarded():
            insert(self.database, table, **_plain(values))

    def alert(self, ts_ns: int, name: str, text: str) -> None:
        """Write down what somebody has to know."""
        self.add("alerts", ts_ns=ts_ns, name=name, text=text)

    def add_parent(self, parent: Parent) -> None:
        """Write a parent order down."""
        self.add(
            "parents",
            parent_id=parent.parent_id,
            symbol=parent.symbol,
            quantity=parent.quantity,
            algorithm=parent.algorithm,
            purpose=parent.purpose,
            detail=json.dumps(_plain(asdict(parent))),
            status="active",
            reason="",
        )

    def active_parents(self) -> list[Parent]:
        """Parents that are worked, oldest first."""
        query = "SELECT detail FROM parents WHERE status = 'active' ORDER BY number"
        with self._guarded():
            rows = self.database.execute(query).fetchall()
        found = []
        for (detail,) in rows:
            fields = json.loads(detail)
            fields["quantity"] = Decimal(fields["quantity"])
            fields["trajectory"] = tuple(fields["trajectory"])
            found.append(Parent(**fields))
        return found

    def progress(self, parent_id: str) -> tuple[Decimal, Decimal]:
        """Signed units of a parent that have traded, and that may still trade."""
        query = "SELECT quantity, filled, status FROM orders WHERE parent_id = ?"
        with self._guarded():
            rows = self.database.execute(query, (parent_id,)).fetchall()
        done, left = Decimal(0), Decimal(0)
        for quantity, filled, status in rows:
            done += Decimal(filled)
            left += Decimal(quantity) - Decimal(filled) if status in OPEN else 0
        return done, left

    def count_orders(self, parent_id: str) -> int:
        """Orders written for a parent."""
        query = "SELECT COUNT(*) FROM orders WHERE parent_id = ?"
        with self._guarded():
            return int(self.database.execute(query, (parent_id,)).fetchone()[0])

    def was_worked(self, parent_id: str, cursor_ns: int) -> bool:
        """Whether orders of a parent were written at a moment."""
        query = "SELECT worked_ns FROM parents WHERE parent_id = ?"
        with self._guarded():
            return bool(self.database.execute(query, (parent_id,)).fetchone()[0] == cursor_ns)

    def follow_volume(self, parent: Parent, units: float) -> None:
        """Keep the volume that a POV parent has seen."""
        detail = json.dumps(_plain(asdict(parent) | {"volume": parent.volume + units}))
        self.set_parent(parent.parent_id, detail=detail)

    def set_parent(self, parent_id: str, **values: Any) -> None:
        """Change columns of a parent."""
        self._update("parents", "parent_id", parent_id, values)

    def add_order(self, request: OrderRequest, venue: str, parent_id: str) -> None:
        """Write an order down before it is sent."""
        values: dict[str, Any] = request._asdict()
        self.add("orders", **values, venue=venue, parent_id=parent_id, status="new")

    def set_order(self, client_id: str, **values: Any) -> None:
        """Change columns of an order."""
        self._update("orders", "client_id", client_id, values)

    def open_orders(self) -> dict[str, OpenOrder]:
        """Orders that are not over, oldest first, by client id."""
        query = "SELECT * FROM orders WHERE status IN (?, ?) ORDER BY number"
        with self._guarded():
            cursor = self.database.execute(query, OPEN)
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return {row["client_id"]: to_order(row) for row in rows}

    def add_fill(self, venue: str, event: Event, symbol: str, mark: float) -> None:
        """Write a fill down; the same event twice is an error, not a second fill."""
        names = ("client_id", "ts_ns", "quantity", "price", "fee", "is_maker")
        values = {name: getattr(event, name) for name in names}
        self.add("fills", venue=venue, event=event.number, symbol=symbol, mark=str(mark), **values)

    def _update(self, table: str, key: str, value: str, values: dict[str, Any]) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        query = f"UPDATE {table} SET {names} WHERE {key} = ?"
        with self._guarded():
            self.database.execute(query, (*_plain(values).values(), value))

    def close(self) -> None:
        """Close the file and let another process trade on it."""
        self.database.close()
        self._halt.close()
        self._lock.close()


def read_table(path: Path, table: str) -> pd.DataFrame:
    """One table of the file, also while it is traded on; amounts are text that keeps all digits.

    Raises
    ------
    StoreError
        If there is no such file or table.
    """
    known = [line.split()[5] for line in TABLES.splitlines() if line.startswith("CREATE")]
    if table not in known or not path.exists():
        raise StoreError(f"{table} of {path}: expected a file of paper trading and {known}")
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return pd.read_sql_query(f"SELECT * FROM {table}", database)
    finally:
        database.close()


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Decimals as text, which keeps every digit."""
    return {k: str(v) if isinstance(v, Decimal) else v for k, v in values.items()}
