"""L2 book kept from snapshots and depth differences, and what is checked on the way.

Each difference carries absolute quantities and the range of update numbers
that it covers. The book follows while the numbers connect; after a gap, or
when it turns out crossed, it is invalid until the next snapshot.

Levels beyond the snapshot's depth are unknown until they change: far from the
best the book is a lower bound.

Source: Binance spot API, "How to manage a local order book correctly".
"""

from bisect import bisect_left, insort
from collections import deque

from hftlib.data.depth_lines import Diff, Levels, Snapshot, Ticker

MAX_WAITING = 4096  # differences held for a snapshot (minutes of a feed), tickers for a difference

Quote = tuple[int, int, int, int]  # best bid and its quantity, best ask and its quantity


class Side:
    """Price levels of one side: quantities by price, and the prices in order."""

    def __init__(self, sign: int) -> None:
        self.sign = sign  # +1 bids, best is highest; -1 asks, best is lowest
        self.lots: dict[int, int] = {}
        self.order: list[int] = []  # sign * price, ascending: the best is last

    def update(self, levels: Levels) -> None:
        """Set quantities; 0 removes a level, known or not."""
        for price, lots in levels:
            key = self.sign * price
            if lots == 0:
                if self.lots.pop(price, None) is not None:
                    del self.order[bisect_left(self.order, key)]
                continue
            if price not in self.lots:
                insort(self.order, key)
            self.lots[price] = lots

    def level(self, depth: int) -> tuple[int, int]:
        """Price and quantity of the level `depth` steps from the best; (0, 0) if empty."""
        if depth >= len(self.order):
            return 0, 0
        price = self.sign * self.order[-1 - depth]
        return price, self.lots[price]


class DepthBook:
    """The book of one symbol and the counts of its upkeep.

    is_valid : bool, whether the levels are proven to be those of update `last`
    """

    def __init__(self) -> None:
        self.bids, self.asks = Side(1), Side(-1)
        self.is_valid = False
        self.last: int | None = None  # update that the levels hold; None without a snapshot
        self.seen: tuple[int, int] | None = None  # range of the stream's last difference
        self.waiting: deque[Diff] = deque(maxlen=MAX_WAITING)  # connected, for a snapshot
        self.n_updates = self.n_snapshots = self.n_gaps = self.n_crossed = 0

    def on_snapshot(self, snapshot: Snapshot) -> list[tuple[int, Quote]]:
        """Start from a snapshot, unless the book is valid or the snapshot too old.

        A snapshot ahead of the stream proves nothing yet: the book is valid
        once a difference reaches it.

        Returns
        -------
        list of (update number, best quotes)
            After each difference that was applied.
        """
        if self.is_valid:
            return []
        oldest = self.waiting[0].first - 1 if self.waiting else self.seen and self.seen[1]
        if oldest is not None and snapshot.last < oldest:
            return []
        later, self.waiting = self.waiting, deque(maxlen=MAX_WAITING)
        self.bids, self.asks = Side(1), Side(-1)
        self.bids.update(snapshot.bids)
        self.asks.update(snapshot.asks)
        self.n_snapshots += 1
        self.last = snapshot.last
        self.is_valid = self.seen is not None and self.seen[1] == snapshot.last
        self._check_crossed()
        return [quote for diff in later for quote in self._apply(diff)]

    def on_diff(self, diff: Diff) -> list[tuple[int, Quote]]:
        """Apply a difference, or keep it for a snapshot; returns as `on_snapshot`."""
        if diff[:2] == self.seen:  # sent twice
            return []
        connects = self.seen is None or diff.first == self.seen[1] + 1
        self.seen = diff[:2]
        if not connects:
            self._break()
        return self._apply(diff)

    def _apply(self, diff: Diff) -> list[tuple[int, Quote]]:
        if self.last is not None and diff.first > self.last + 1:
            self._break()
        if self.last is None:
            self.waiting.append(diff)
            return []
        if diff.last <= self.last:  # the snapshot holds it already
            self.is_valid = self.is_valid or diff.last == self.last
            return []
        self.bids.update(diff.bids)
        self.asks.update(diff.asks)
        self.last, self.is_valid = diff.last, True
        self.n_updates += 1
        self._check_crossed()
        return [(diff.last, self.quote)] if self.is_valid else []

    @property
    def quote(self) -> Quote:
        """Best bid and its quantity, best ask and its quantity; 0 where empty."""
        return (*self.bids.level(0), *self.asks.level(0))

    def row(self, levels: int) -> list[int]:
        """The book's columns of `schema.snapshots(levels)`, best_bid to the last level."""
        bid, bid_qty, ask, ask_qty = self.quote
        row = [bid, ask, bid_qty, ask_qty]
        for depth in range(1, levels):
            row += (*self.bids.level(depth), *self.asks.level(depth))
        return row

    def _check_crossed(self) -> None:
        bid, _, ask, _ = self.quote
        if bid and ask and bid >= ask:
            self.n_crossed += 1
            self._invalidate()

    def _break(self) -> None:
        self.n_gaps += 1
        self._invalidate()

    def _invalidate(self) -> None:
        self.is_valid, self.last = False, None
        self.waiting.clear()


class TickerCheck:
    """Compares the book after each difference with the ticker stream.

    A ticker appears whenever the best changes, so the best after update u is
    the last ticker numbered at most u. It is known once a later one arrives.
    """

    def __init__(self) -> None:
        self.quotes: deque[tuple[int, Quote]] = deque(maxlen=MAX_WAITING)
        self.tickers: deque[Ticker] = deque(maxlen=MAX_WAITING)
        self.n_compared = self.n_mismatches = 0

    def on_quotes(self, quotes: list[tuple[int, Quote]]) -> None:
        """Note the book's best after differences."""
        self.quotes.extend(quotes)
        self._compare()

    def on_ticker(self, ticker: Ticker) -> None:
        """Note a ticker; where their numbers go back, compare from there on."""
        if self.tickers and ticker.last < self.tickers[-1].last:
            self.tickers.clear()
            self.quotes.clear()
        self.tickers.append(ticker)
        self._compare()

    def _compare(self) -> None:
        while self.quotes and self.tickers and self.tickers[-1].last > self.quotes[0][0]:
            update, quote = self.quotes.popleft()
            while len(self.tickers) > 1 and self.tickers[1].last <= update:
                self.tickers.popleft()
            if self.tickers[0].last <= update:
                self.n_compared += 1
                self.n_mismatches += quote != self.tickers[0][1:]
