"""Polled bars that come late, and answers that are none."""

import numpy as np
import pytest

from hftlib.live.clock import AcceleratedClock
from hftlib.live.feeds import run_paper
from hftlib.live.polling import PolledBars
from hftlib.live.store import read_table
from hftlib.live.ticks import FeedError
from tests.conftest import make_bars
from tests.paper_cases import DAY, close_engine, open_engine

SYMBOLS = ("AAA", "BBB")
BARS = make_bars(8, SYMBOLS)
TIMES = sorted(BARS["ts"].unique())


def answer(n_first, n_second):
    """The first bars of each symbol, as many as said."""
    table = BARS.sort_values(["symbol", "ts"]).groupby("symbol")
    parts = [table.get_group(s).head(n) for s, n in zip(SYMBOLS, (n_first, n_second), strict=True)]
    return BARS.loc[np.concatenate([part.index for part in parts])].sort_values(["ts", "symbol"])


def feed_of(answers, start_ns=0):
    left = iter(answers)
    return PolledBars(lambda now: next(left), bar_ns=DAY, every_ns=DAY, start_ns=start_ns)


def poll_all(answers):
    """Number of the bar, kind and symbols of each moment, call by call."""
    feed = feed_of(answers)
    number = {time.value + DAY: k for k, time in enumerate(TIMES)}
    return [
        [(number[m.ts_ns], m.kind, [t.symbol for t in m.ticks]) for m in feed.poll(k)]
        for k in range(len(answers))
    ]


BOTH = ["AAA", "BBB"]


def test_a_bar_that_is_missing_is_waited_for_for_one_call():
    calls = poll_all([answer(3, 3), answer(4, 3), answer(4, 4), answer(5, 5)])
    assert [len(call) for call in calls] == [3, 0, 1, 1]
    assert calls[2:] == [[(3, "quote", BOTH)], [(4, "quote", BOTH)]]


def test_a_bar_that_comes_later_is_late_and_not_lost():
    calls = poll_all([answer(3, 3), answer(4, 3), answer(4, 3), answer(5, 5)])
    assert calls[1:] == [
        [],
        [(3, "quote", ["AAA"])],
        [(3, "late", ["BBB"]), (4, "quote", BOTH)],
    ]


def test_bars_of_a_symbol_that_ended_do_not_stop_the_others():
    calls = poll_all([answer(5, 2), answer(5, 2), answer(6, 2), answer(6, 2)])
    shown = [number for call in calls for number, _, names in call if "AAA" in names]
    assert shown == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("fault", [lambda: BARS.drop(columns="volume"), lambda: int("x")])
def test_an_answer_that_is_no_table_of_bars_is_a_failed_call(fault):
    feed = PolledBars(lambda now: fault(), bar_ns=DAY, every_ns=1, start_ns=0)
    assert feed.poll(0) == feed.poll(1) == []
    with pytest.raises(FeedError, match="3 calls in a row failed"):
        feed.poll(2)


def test_a_late_bar_is_shown_and_not_traded(tmp_path):
    engine = open_engine(tmp_path, SYMBOLS, np.ones((9, 2)), dead_after_ns=9 * DAY)
    seen = []
    engine.on_moment = lambda moment: seen.append((moment.kind, len(moment.ticks)))
    answers = [answer(2, 2), answer(3, 2), answer(3, 2), answer(4, 4)]
    feed = feed_of(answers, TIMES[1].value + DAY)
    feed.next_ns = lambda due=feed.next_ns: due() if len(seen) < 5 else None
    run_paper(engine, feed, AcceleratedClock())
    assert engine.halted == ""
    assert seen == [("quote", 2), ("quote", 2), ("quote", 1), ("late", 1), ("quote", 2)]
    assert engine.strategy.row == 3
    alerts = read_table(tmp_path / "paper.db", "alerts").query("name == 'late'")
    assert alerts["text"].str.startswith("BBB at ").tolist() == [True]
    assert len(read_table(tmp_path / "paper.db", "marks")) == 4
    close_engine(engine)
