"""Exchange depth captures: L2 snapshots on a clock, and trades.

Reads what a recorder of a public feed writes (see `depth_lines`), keeps the
book (`depth_book`) and samples it: the row at time t holds the last state
received at or before t, on the local clock, which is what a trader there could
know. No row is made while the book is invalid or the feed silent.

A refused depth difference leaves a hole in the sequence: it shows as a gap and
ends the valid span, since the book after it is not known. Because the sequence
proves what came before complete, a capture that breaks off is used up to
there. Memory holds the book, a chunk of lines and the result.

Source: Binance spot API, "How to manage a local order book correctly".
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.data.depth_book import DepthBook, TickerCheck
from hftlib.data.depth_lines import (
    INT32_MAX,
    Diff,
    Line,
    Snapshot,
    Ticker,
    Trade,
    Units,
    in_time_order,
    parse_lines,
)
from hftlib.market.tape import EXECUTE
from hftlib.schema import MESSAGES, Schema, snapshots, validate

SILENCE_NS = 60_000_000_000  # no line for so long: the recorder was down, the state is stale
MAX_DUST = 0.01  # share of quantities between two lots; beyond it the lot is wrong
REPEAT_IDS = 4096  # a trade so little behind the last was sent twice; else the numbers restart


class DepthError(ValueError):
    """A capture that cannot be used at all."""


@dataclass
class DepthReport:
    """What a capture held; a line is a diff, snapshot, ticker, trade or quarantined."""

    lines: int = 0  # the unreadable rest of a damaged gzip counts as one
    diffs: int = 0
    snapshots: int = 0
    tickers: int = 0
    trades: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)  # by reason
    first_line: dict[str, int] = field(default_factory=dict)  # of each reason
    updates: int = 0  # differences applied to a valid book
    snapshots_used: int = 0  # the others met a valid book or were too old
    gaps: int = 0  # holes in the sequence of updates
    crossed: int = 0  # books thrown away because bid >= ask
    silences: int = 0  # pauses longer than SILENCE_NS
    trade_gaps: int = 0  # holes in the sequence of trades
    dust: int = 0  # quantities of which less than one lot was dropped
    tickers_compared: int = 0
    ticker_mismatches: int = 0

    def refuse(self, line: int, reason: str) -> None:
        """Count a line that left, and why."""
        self.quarantined[reason] += 1
        self.first_line.setdefault(reason, line)


@dataclass(frozen=True)
class DepthCapture:
    """What a capture became.

    snapshots : table as `schema.snapshots(levels)`, one row each interval;
        traded_qty counts all trades since the row before, also across a pause
    trades : table as `schema.MESSAGES`, type 4, order_id 0 (the feed names none)
    report : DepthReport
    """

    snapshots: pd.DataFrame
    trades: pd.DataFrame
    report: DepthReport


def read_depth(
    file: Path, *, symbol: str, source: str, tick: str, lot: str, levels: int, interval_ns: int
) -> DepthCapture:
    """Read a .jsonl or .jsonl.gz capture of one symbol.

    Parameters
    ----------
    symbol : str
        As in the lines; lines of another symbol are refused.
    source : str
        Name of the venue or recorder, for the tables.
    tick, lot : str
        Steps of price and quantity as decimal text, such as "0.01". They are
        not guessed: a step read off the data could be too coarse. Of a quantity
        between two lots the whole lots count.
    levels : int
        Price levels a side.
    interval_ns : int
        The clock's step; rows stand at its multiples since the epoch.

    Raises
    ------
    DepthError
        If the file cannot be opened, no line is good, the lot is too coarse for
        the quantities, or the trades of one interval exceed 32 bits.
    """
    for name, value in (("levels", levels), ("interval_ns", interval_ns)):
        if value < 1:
            raise DepthError(f"{name} is {value}; expected at least 1")
    try:
        units = Units(tick, lot)
    except (ValueError, ZeroDivisionError):
        units = None
    if units is None or units.tick <= 0 or units.lot <= 0:
        raise DepthError(f"tick={tick!r}, lot={lot!r}; expected positive decimals such as '0.01'")
    report = DepthReport()
    sampler = _Sampler(levels, interval_ns, report)
    try:
        lines = parse_lines(file, symbol, units, report.refuse)
        for line in in_time_order(lines, report.refuse):
            sampler.take(line)
    except OSError as error:
        raise DepthError(
            f"{file.name}: cannot be read ({error.strerror}); check the path"
        ) from None
    sampler.finish()
    n_refused = report.quarantined.total()
    report.lines = n_refused + report.diffs + report.snapshots + report.tickers + report.trades
    if report.lines == n_refused:
        common = ", ".join(reason for reason, _ in report.quarantined.most_common(3))
        raise DepthError(f"{file.name}: no good line; most common reasons: {common or 'no lines'}")
    report.dust = units.n_dust
    if units.n_dust > MAX_DUST * units.n_quantities:
        raise DepthError(
            f"{file.name}: {units.n_dust} of {units.n_quantities} quantities are no multiples of "
            f"lot={lot!r}; give a finer lot"
        )
    names = {"symbol": symbol, "source": source}
    return DepthCapture(
        _to_frame(sampler.rows, snapshots(levels), names, file),
        _to_frame(sampler.trades, MESSAGES, names, file),
        report,
    )


class _Sampler:
    """Applies lines in time order and writes rows as the clock passes."""

    def __init__(self, levels: int, interval_ns: int, report: DepthReport) -> None:
        self.levels, self.interval_ns, self.report = levels, interval_ns, report
        self.book, self.check = DepthBook(), TickerCheck()
        self.rows, self.trades = array("q"), array("q")  # row-major, 8 bytes a value
        self.now: int | None = None  # time of the last line
        self.clock = 0  # time of the next row
        self.last_price = self.traded = 0
        self.last_trade: int | None = None

    def take(self, line: Line) -> None:
        """Apply a line; rows up to, but not at, its time come before it."""
        self._advance(line.ts)
        self.now = line.ts
        event, report = line.event, self.report
        if isinstance(event, Diff):
            report.diffs += 1
            self.check.on_quotes(self.book.on_diff(event))
        elif isinstance(event, Snapshot):
            report.snapshots += 1
            self.check.on_quotes(self.book.on_snapshot(event))
        elif isinstance(event, Ticker):
            report.tickers += 1
            self.check.on_ticker(event)
        else:
            self._trade(line, event)

    def _trade(self, line: Line, trade: Trade) -> None:
        if self.last_trade is not None:
            behind = self.last_trade - trade.trade_id
            if 0 <= behind < REPEAT_IDS:
                self.report.refuse(line.number, "trade was sent twice")
                return
            self.report.trade_gaps += behind != -1
        self.report.trades += 1
        self.last_trade = trade.trade_id
        self.last_price = trade.price
        self.traded += trade.size
        self.trades.extend((line.ts, EXECUTE, 0, trade.size, trade.price, trade.direction))

    def finish(self) -> None:
        """Rows up to and at the time of the last line; counts into the report."""
        if self.now is not None:
            self._advance(self.now + 1)
        report, book, check = self.report, self.book, self.check
        report.updates, report.snapshots_used = book.n_updates, book.n_snapshots
        report.gaps, report.crossed = book.n_gaps, book.n_crossed
        report.tickers_compared = check.n_compared
        report.ticker_mismatches = check.n_mismatches

    def _advance(self, until: int) -> None:
        """Write the rows at times in [now, until), where the state is valid and fresh."""
        if self.now is not None and self.book.is_valid:
            fresh = min(until, self.now + SILENCE_NS)
            if self.clock < fresh:
                state = self.book.row(self.levels)
            while self.clock < fresh:
                self.rows.append(self.clock)
                self.rows.extend(state)
                self.rows.extend((self.last_price, self.traded))
                self.traded = 0
                self.clock += self.interval_ns
        self.report.silences += self.now is not None and until - self.now > SILENCE_NS
        if self.clock < until:
            self.clock = -(-until // self.interval_ns) * self.interval_ns


def _to_frame(
    values: "array[int]", schema: Schema, names: dict[str, str], file: Path
) -> pd.DataFrame:
    """Table of the schema from its row-major integers; the session is the UTC date."""
    numbers = [c for c in schema.columns if c.dtype != "str"]
    table: npt.NDArray[np.int64] = np.array(values, dtype=np.int64).reshape(-1, len(numbers))
    if table.size and table[:, 1:].max() > INT32_MAX:
        raise DepthError(
            f"{file.name}: more lots traded in an interval than 32 bits hold; raise lot"
        )
    ts = table[:, 0]
    days = np.datetime_as_string(ts.astype("datetime64[ns]"), unit="D")
    columns = {**names, "session": days} | {c.name: table[:, k] for k, c in enumerate(numbers)}
    frame = pd.DataFrame(columns, index=range(len(ts)))[schema.names]
    return validate(frame.astype({c.name: c.dtype for c in schema.columns}), schema)
