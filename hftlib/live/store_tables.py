"""What the file of paper trading holds, table by table."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from hftlib.live.broker import OrderRequest

TABLES = """
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS parents (
    number INTEGER PRIMARY KEY, parent_id TEXT UNIQUE NOT NULL, symbol TEXT, quantity TEXT,
    algorithm TEXT, purpose TEXT, detail TEXT, status TEXT, reason TEXT,
    worked_ns INTEGER);
CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY, client_id TEXT UNIQUE NOT NULL, parent_id TEXT NOT NULL,
    venue TEXT, symbol TEXT, quantity TEXT, limit_price TEXT, kind TEXT, sent_ns INTEGER,
    status TEXT, filled TEXT DEFAULT '0', result TEXT DEFAULT '0', reason TEXT DEFAULT '',
    cancel_ns INTEGER);
CREATE TABLE IF NOT EXISTS fills (
    venue TEXT, event INTEGER, client_id TEXT, symbol TEXT, ts_ns INTEGER, quantity TEXT,
    price TEXT, fee TEXT, mark TEXT, is_maker INTEGER, PRIMARY KEY (venue, event));
CREATE TABLE IF NOT EXISTS checks (
    number INTEGER PRIMARY KEY, ts_ns INTEGER, parent_id TEXT, symbol TEXT, venue TEXT,
    action TEXT, asked TEXT, allowed TEXT, reasons TEXT);
CREATE TABLE IF NOT EXISTS marks (
    ts_ns INTEGER PRIMARY KEY, kind TEXT, equity TEXT, cash TEXT, fees TEXT);
CREATE TABLE IF NOT EXISTS alerts (
    number INTEGER PRIMARY KEY, ts_ns INTEGER, name TEXT, text TEXT);
"""
OPEN = ("new", "sent")


class StoreError(RuntimeError):
    """State that cannot be read or written, a full disk for one."""


class OpenOrder(NamedTuple):
    """An order that may still trade: signed units asked for and filled.

    `cancel_ns` is when its cancellation was asked for, None if it was not.
    """

    request: OrderRequest
    venue: str
    parent_id: str
    status: str
    filled: Decimal
    result: Decimal
    cancel_ns: int | None = None

    @property
    def left(self) -> Decimal:
        """Signed units that may still trade."""
        return self.request.quantity - self.filled


def to_order(row: Mapping[str, Any]) -> OpenOrder:
    """An order of a row of `orders`."""
    price = row["limit_price"]
    request = OrderRequest(
        row["client_id"],
        row["symbol"],
        Decimal(row["quantity"]),
        None if price is None else Decimal(price),
        row["kind"],
        row["sent_ns"],
    )
    filled, result = Decimal(row["filled"]), Decimal(row["result"])
    place = row["venue"], row["parent_id"], row["status"]
    return OpenOrder(request, *place, filled, result, row["cancel_ns"])
