"""What a monitor remembers: closes, equity, fills and the words of the engine, from its file.

All but the prices is read from the store, each row once, so that a process that was started
again shows the past as the first one did. Prices come from the moments that are shown.
"""

import math
import sqlite3
from collections import deque
from typing import Any

import numpy as np

from hftlib.live.store_tables import OPEN
from hftlib.live.ticks import Moment
from hftlib.portfolio.measures import periods_per_year, sharpe, simple_returns

N_POINTS = 300  # of equity and of each symbol's prices
N_FILLS = 100
N_ROWS = 50  # of orders, checks and alerts
N_CLOSES = 20_000  # that the Sharpe ratio is of
MIN_CLOSES = 20  # below which there is none
COLUMNS = {
    "orders": "client_id, symbol, venue, quantity, limit_price, kind, status, filled, sent_ns, "
    "reason",
    "checks": "ts_ns, symbol, action, asked, allowed, reasons",
    "alerts": "ts_ns, name, text",
}
AMOUNTS = {"quantity", "limit_price", "filled", "asked", "allowed", "price", "fee", "mark"}


class MonitorHistory:
    """Rows for JSON, oldest first; `read` and the rest are of the thread of the store.

    Parameters
    ----------
    cash : float
        Paid in at the start, the first peak of the equity.
    """

    def __init__(self, database: sqlite3.Connection, cash: float) -> None:
        self._database = database
        self.equity: deque[dict[str, Any]] = deque(maxlen=N_POINTS)
        self.fills: deque[dict[str, Any]] = deque(maxlen=N_FILLS)
        self.words: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
        self._prices: dict[str, deque[dict[str, Any]]] = {}
        self._closes: deque[tuple[int, float]] = deque(maxlen=N_CLOSES)
        self._peak, self._fall, self._notional = cash, 0.0, 0.0
        self._mark_ns = self._fill = self._n_closes = 0
        self._counts = (0, 0, 0)  # orders that traded; that won; that won or lost

    def see(self, moment: Moment) -> None:
        """Keep the prices of a moment at which targets are decided."""
        for tick in moment.ticks if moment.decides else ():
            row = {"ts_ns": moment.ts_ns, "close": tick.price, "volume": tick.volume}
            self._prices.setdefault(tick.symbol, deque(maxlen=N_POINTS)).append(row)

    @property
    def prices(self) -> dict[str, list[dict[str, Any]]]:
        """Closes by symbol."""
        return {symbol: list(rows) for symbol, rows in self._prices.items()}

    def read(self) -> None:
        """Take in what is new in the file; raises `sqlite3.Error` if it cannot be read."""
        query = "SELECT ts_ns, kind, equity FROM marks WHERE ts_ns > ? ORDER BY ts_ns"
        for row in self._select(query, self._mark_ns):
            self._mark_ns, worth = row["ts_ns"], float(row["equity"])
            self._peak = max(self._peak, worth)
            fall = 1.0 - worth / self._peak
            self._fall = max(self._fall, fall)
            if row["kind"] != "open":
                self._n_closes += 1
                self._closes.append((row["ts_ns"], worth))
                self.equity.append({"ts_ns": row["ts_ns"], "equity": worth, "drawdown": fall})
        query = (
            "SELECT rowid, ts_ns, symbol, venue, quantity, price, fee, mark FROM fills "
            "WHERE rowid > ? ORDER BY rowid"
        )
        for row in self._select(query, self._fill):
            self._fill = row.pop("rowid")
            self._notional += abs(row["quantity"]) * row["price"]
            worse = math.copysign(1.0, row["quantity"]) * (row["price"] / row["mark"] - 1.0)
            self.fills.append(row | {"slippage_bps": worse * 1e4})
        for table, columns in COLUMNS.items():
            query = f"SELECT {columns} FROM {table} ORDER BY number DESC LIMIT {N_ROWS}"
            self.words[table] = self._select(query)[::-1]
        query = (
            "SELECT SUM(CAST(filled AS REAL) != 0) AS n_traded, "
            "SUM(is_over AND result > 0) AS n_won, SUM(is_over AND result != 0) AS n_closed FROM "
            "(SELECT filled, CAST(result AS REAL) AS result, status NOT IN (?, ?) AS is_over "
            "FROM orders)"
        )
        (row,) = self._select(query, *OPEN)
        n_traded, n_won, n_closed = (0 if n is None else n for n in row.values())
        self._counts = (n_traded, n_won, n_closed)

    def measure(self) -> dict[str, Any]:
        """Statistics of the whole file; nan where there is too little for one.

        Returns
        -------
        dict
            n_trades (orders that traded), win_rate (of orders that closed something at a profit
            or loss after fees), sharpe (a year, of the newest 20 000 closes), max_drawdown,
            turnover (notional traded over the mean equity at closes), n_bars.
        """
        n_trades, n_won, n_closed = self._counts
        clock = np.array([ts_ns for ts_ns, _ in self._closes], dtype=np.int64)
        worth = np.array([equity for _, equity in self._closes])
        ratio = math.nan
        if len(worth) >= MIN_CLOSES and (worth > 0).all():
            ratio = float(sharpe(simple_returns(worth), periods_per_year(clock)))
        return {
            "n_trades": n_trades,
            "win_rate": n_won / n_closed if n_closed else math.nan,
            "sharpe": ratio,
            "max_drawdown": self._fall,
            "turnover": self._notional / float(worth.mean()) if len(worth) else math.nan,
            "n_bars": self._n_closes,
        }

    def _select(self, query: str, *values: Any) -> list[dict[str, Any]]:
        cursor = self._database.execute(query, values)
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        for row in rows:
            for name in AMOUNTS & row.keys():
                row[name] = None if row[name] is None else float(row[name])
        return rows
