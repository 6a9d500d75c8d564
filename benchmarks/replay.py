"""Speed of the historical replay on a simulated day, which is like a recorded one.

The replay compares the book of each row; the rebuild has no book to compare
with; the historical market plays the day for callers, at once and in steps of
a second with two quotes replaced in each.
"""

from datetime import date

import numpy as np

from benchmarks.timing import Result, median_seconds
from hftlib.data.injection import HistoricalMarket
from hftlib.data.replay import History, rebuild, replay_tape, to_messages
from hftlib.market.book import KINDS, MESSAGE
from hftlib.market.presets import record_jaxlob

MINUTES = 390
STEP_NS = 1_000_000_000
# hftbacktest replays 4.8 to 8.2 million rows a second on two cores
HFTBACKTEST_ROWS_PER_S = 4_800_000


def play(history: History) -> None:
    """A day that nobody trades in."""
    HistoricalMarket(history, has_impact=False).advance(int(history.ts[-1]))


def quote(history: History) -> int:
    """A day with a quote a side at the best price, replaced every second; returns the steps."""
    market = HistoricalMarket(history, has_impact=True)
    messages = np.zeros(4, dtype=MESSAGE)
    messages["kind"] = [KINDS[name] for name in ("cancel", "cancel", "post_only", "post_only")]
    messages["owner"], messages["qty"], messages["side"] = 1, 100, [1, -1, 1, -1]
    n_steps = 0
    while not market.is_over:
        market.advance(market.now_ns + STEP_NS)
        quotes = market.quotes
        messages["price"][2:] = max(quotes.bid, 1), max(quotes.ask, 1)
        messages["handle"][:2] = -1 - (4 * (n_steps - 1) + np.array([2, 3]))
        market.send(messages)
        n_steps += 1
    return n_steps


def measure_replay() -> list[Result]:
    """Rows a second against a figure of hftbacktest from another run, and decisions a second."""
    (record,) = record_jaxlob([date(2024, 1, 2)], [0], minutes=MINUTES, snapshot_ms=1_000, levels=1)
    tape, n_rows = record.tape, len(record.tape)
    messages = to_messages(tape, symbol="SIM", source="jaxlob", session="2024-01-02")
    history = rebuild(messages).history
    n_steps = quote(history)
    seconds = median_seconds(lambda: quote(history))
    peer = "hftbacktest, another run"
    return [
        Result("replay", n_rows / median_seconds(lambda: replay_tape(tape)), "rows/s"),
        Result("rebuild", n_rows / median_seconds(lambda: rebuild(messages)), "rows/s"),
        Result(
            "historical_market",
            n_rows / median_seconds(lambda: play(history)),
            "rows/s",
            peer,
            HFTBACKTEST_ROWS_PER_S,
            HFTBACKTEST_ROWS_PER_S,
        ),
        Result("historical_market_steps", n_steps / seconds, "steps/s"),
    ]
