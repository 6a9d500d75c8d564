"""Depth captures: the sampled book is the true one, known at its time, or there is no row."""

import gzip
import time
from decimal import Decimal
from itertools import count, islice, pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.data.depth import SILENCE_NS, read_depth
from hftlib.data.depth_lines import CHUNK, LOOKAHEAD, Line, LineError, Trade, Units, in_time_order
from hftlib.schema import MESSAGES, snapshots, validate
from tests.captures import (
    INTERVAL_NS,
    LEVELS,
    MS,
    START,
    Capture,
    Message,
    diff_body,
    is_diff,
    is_snapshot,
    lots_text,
    make_capture,
    price_text,
    read_file,
    read_lines,
    snapshot_body,
    trade_body,
)
from tests.conftest import SHARED_DATA


def expected_rows(capture: Capture, since: int, until: int) -> dict[int, list[int]]:
    """Rows of a book valid in [since, until], from the truth, by time."""
    rows = {}
    for t in range(-(-since // INTERVAL_NS) * INTERVAL_NS, until + 1, INTERVAL_NS):
        _, bids, asks = [state for state in capture.truth if state[0] <= t][-1]
        levels = [
            [(price, side[price]) for price in sorted(side, reverse=side is bids)]
            + [(0, 0)] * LEVELS
            for side in (bids, asks)
        ]
        (bid, bid_qty), (ask, ask_qty) = levels[0][0], levels[1][0]
        rest = [value for k in range(1, LEVELS) for side in levels for value in side[k]]
        rows[t] = [bid, ask, bid_qty, ask_qty, *rest]
    return rows


def sampled_rows(frame: pd.DataFrame) -> dict[int, list[int]]:
    book = frame.loc[:, "best_bid" : f"ask_qty_{LEVELS}"]
    return dict(zip(frame["ts"], book.values.tolist(), strict=True))


def test_every_row_is_the_true_book_last_heard_of_at_its_time(tmp_path):
    for seed in range(5):
        capture = make_capture(seed)
        result = read_lines(tmp_path, capture.lines)
        frame, report = validate(result.snapshots, snapshots(LEVELS)), result.report
        since = next(line.ts for line in capture.lines if is_snapshot(line))
        assert sampled_rows(frame) == expected_rows(capture, since, capture.lines[-1].ts)
        assert len(frame) > 30
        assert set(frame["session"]) == {"2024-08-08"} and set(frame["source"]) == {"test"}
        n_known = sum(ts > since for ts, *_ in capture.truth) + 1  # one straddles the snapshot
        assert (report.updates, report.snapshots_used) == (n_known, 1)
        assert (report.gaps, report.crossed, report.trade_gaps) == (0, 0, 0)
        assert report.ticker_mismatches == 0 < report.tickers_compared <= n_known
        assert report.lines == len(capture.lines)


def test_the_past_does_not_depend_on_the_future(tmp_path):
    capture, other = make_capture(1), make_capture(2)
    whole = read_lines(tmp_path, capture.lines)
    for cut in (20, 60, 110):
        now = capture.lines[cut].ts
        shift = now - other.lines[0].ts + 1
        future = [Message(line.ts + shift, line.body) for line in other.lines]
        part = read_lines(tmp_path, [*capture.lines[: cut + 1], *future])
        for table in ("snapshots", "trades"):
            past = getattr(whole, table)
            past = past[past["ts"] <= now]
            again = getattr(part, table)
            pd.testing.assert_frame_equal(again[again["ts"] <= now], past)


def test_trades_bear_the_resting_side_and_no_lot_is_lost(tmp_path):
    capture = make_capture(3)
    result = read_lines(tmp_path, capture.lines)
    sent = [(m.ts, m.body["data"]) for m in capture.lines if "t" in m.body.get("data", {})]
    trades = validate(result.trades, MESSAGES)
    assert trades["ts"].tolist() == [ts for ts, _ in sent]
    assert trades["direction"].tolist() == [1 if body["m"] else -1 for _, body in sent]
    assert set(trades["type"]) == {4} and set(trades["order_id"]) == {0}
    assert [lots_text(size) for size in trades["size"]] == [body["q"] for _, body in sent]
    frame = result.snapshots
    last_row = frame["ts"].iloc[-1]
    assert frame["traded_qty"].sum() == trades.loc[trades["ts"] <= last_row, "size"].sum() > 0
    before = trades[trades["ts"] <= last_row].iloc[-1]
    assert frame["last_px"].iloc[-1] == before["price"]


def test_last_price_is_zero_before_the_first_trade_and_then_stays(tmp_path):
    book = {5_999_999: 7}, {6_000_001: 9}
    lines = [
        Message(START, diff_body(1, 2, *book)),
        Message(START, snapshot_body(2, *book)),
        Message(START + 15 * MS, trade_body(1, 6_000_001, 4, False)),
        Message(START + 16 * MS, trade_body(2, 5_999_999, 3, True)),
        Message(START + 30 * MS, trade_body(3, 6_000_001, 2, False)),  # at the time of a row
        Message(START + 35 * MS, diff_body(3, 3, {}, {})),
    ]
    frame = read_lines(tmp_path, lines).snapshots
    assert ((frame["ts"] - START) // MS).tolist() == [0, 10, 20, 30]
    assert frame["last_px"].tolist() == [0, 0, 5_999_999, 6_000_001]
    assert frame["traded_qty"].tolist() == [0, 0, 7, 2]
    assert frame["bid_px_2"].tolist() == [0] * 4


def test_sessions_are_utc_dates(tmp_path):
    midnight = pd.Timestamp("2024-08-09", tz="UTC").value
    lines = [
        Message(midnight - 15 * MS, diff_body(1, 2, {}, {})),
        Message(midnight - 15 * MS, snapshot_body(2, {1: 1}, {2: 1})),
        Message(midnight, diff_body(3, 3, {}, {})),
    ]
    frame = read_lines(tmp_path, lines).snapshots
    assert frame["session"].tolist() == ["2024-08-08", "2024-08-09"]


def test_a_hole_in_the_sequence_ends_the_rows_until_the_next_snapshot(tmp_path):
    capture = make_capture(4, snapshots_at=(3, 25))
    diffs = [line for line in capture.lines if is_diff(line)]
    lost, noticed = diffs[12], diffs[13]
    first, second = (line.ts for line in capture.lines if is_snapshot(line))
    result = read_lines(tmp_path, [line for line in capture.lines if line is not lost])
    # Until the hole shows, the state before the lost difference is the last one heard of.
    heard = Capture(capture.lines, [state for state in capture.truth if state[0] != lost.ts])
    expected = expected_rows(heard, first, noticed.ts - 1)
    expected |= expected_rows(capture, second, capture.lines[-1].ts)
    assert sampled_rows(result.snapshots) == expected
    assert (result.report.gaps, result.report.snapshots_used) == (1, 2)
    assert result.report.ticker_mismatches == 0


def test_a_snapshot_of_a_valid_book_changes_nothing(tmp_path):
    capture = make_capture(4, snapshots_at=(3, 25))
    lines = [line for line in capture.lines if not is_snapshot(line) or line.ts < START + 200 * MS]
    assert sum(map(is_snapshot, lines)) == 1
    once, twice = (read_lines(tmp_path, part).snapshots for part in (lines, capture.lines))
    common = once["ts"].isin(twice["ts"])
    assert common.all()
    pd.testing.assert_frame_equal(once, twice)


def test_a_snapshot_counts_once_a_difference_connects_to_it(tmp_path):
    book = {100: 1}, {102: 1}

    def n_rows(*lines) -> tuple[int, int, int]:
        stamped = [Message(START + k * INTERVAL_NS, body) for k, body in enumerate(lines)]
        result = read_lines(tmp_path, stamped)
        return len(result.snapshots), result.report.snapshots_used, result.report.gaps

    def diff(first, last):
        return diff_body(first, last, {}, {})

    assert n_rows(snapshot_body(9, *book)) == (0, 1, 0)  # nothing tells that it is current
    assert n_rows(diff(1, 9), snapshot_body(9, *book), diff(10, 11)) == (2, 1, 0)
    assert n_rows(diff(1, 5), snapshot_body(9, *book), diff(6, 12)) == (1, 1, 0)  # ahead
    assert n_rows(diff(1, 5), snapshot_body(9, *book), diff(6, 9)) == (1, 1, 0)
    assert n_rows(diff(1, 5), snapshot_body(9, *book), diff(6, 7)) == (0, 1, 0)
    ahead = snapshot_body(12, {90: 1}, {91: 1})  # of a valid book: it goes on
    assert n_rows(diff(1, 9), snapshot_body(9, *book), ahead, diff(10, 12)) == (3, 1, 0)
    assert n_rows(diff(5, 9), snapshot_body(3, *book), diff(10, 11)) == (0, 0, 0)  # too old
    assert n_rows(diff(5, 9), snapshot_body(4, *book), diff(10, 11)) == (2, 1, 0)
    assert n_rows(snapshot_body(4, *book), diff(6, 7), diff(8, 9)) == (0, 1, 1)
    assert n_rows(diff(1, 9), snapshot_body(9, *book), diff(3, 9)) == (1, 1, 1)  # goes back


def test_a_difference_sent_twice_in_a_row_counts_once(tmp_path):
    capture = make_capture(5)
    twice = [copy for line in capture.lines for copy in ([line, line] if is_diff(line) else [line])]
    once, doubled = read_lines(tmp_path, capture.lines), read_lines(tmp_path, twice)
    pd.testing.assert_frame_equal(once.snapshots, doubled.snapshots)
    assert doubled.report.gaps == 0 and doubled.report.updates == once.report.updates


def test_a_crossed_book_ends_the_rows(tmp_path):
    capture = make_capture(6, snapshots_at=(3, 25))
    diffs = [line for line in capture.lines if is_diff(line)]
    crossing = diffs[12]
    bid = [[price_text(6_001_000), lots_text(5)]]
    crossing.body["data"]["b"] += bid
    first, second = (line.ts for line in capture.lines if is_snapshot(line))
    result = read_lines(tmp_path, capture.lines)
    expected = expected_rows(capture, first, crossing.ts - 1)
    expected |= expected_rows(capture, second, capture.lines[-1].ts)
    assert sampled_rows(result.snapshots) == expected
    assert (result.report.crossed, result.report.gaps) == (1, 0)
    assert (result.snapshots["best_bid"] < result.snapshots["best_ask"]).all()


def test_a_ticker_that_contradicts_the_book_is_counted(tmp_path):
    capture = make_capture(7)
    honest = read_lines(tmp_path, capture.lines).report
    for line in capture.lines:
        if "B" in line.body.get("data", {}):
            line.body["data"]["B"] = "9.00000000"
    lying = read_lines(tmp_path, capture.lines).report
    assert lying.tickers_compared == honest.tickers_compared == lying.ticker_mismatches
    assert honest.ticker_mismatches == 0


def test_rows_pause_while_the_feed_is_silent(tmp_path):
    step = 1_000 * MS
    lines = [
        Message(START, diff_body(1, 2, {}, {})),
        Message(START, snapshot_body(2, {1: 1}, {2: 1})),
        Message(START + 1000 * SILENCE_NS, diff_body(3, 3, {}, {})),
        Message(START + 1000 * SILENCE_NS + 2 * step, diff_body(4, 4, {}, {})),
    ]
    result = read_lines(tmp_path, lines, interval_ns=step)
    at = (result.snapshots["ts"].to_numpy() - START) // step
    pause = SILENCE_NS // step
    assert at.tolist() == [*range(pause), 1000 * pause, 1000 * pause + 1, 1000 * pause + 2]
    assert (result.report.silences, result.report.gaps) == (1, 0)


def test_lines_are_held_a_chunk_at_a_time():
    drawn = count()
    stream = (Line(k, START + k, Trade(k, 1, 1, 1)) for k in drawn)
    kept = list(islice(in_time_order(stream, lambda *_: None), 10))
    assert [line.number for line in kept] == list(range(10))
    assert next(drawn) <= CHUNK + LOOKAHEAD


@given(st.integers(0, 2**31 - 1), st.sampled_from(["0.01", "0.00001", "0.5", "25", "0.025"]))
def test_decimal_text_becomes_whole_steps_exactly(n_steps, step):
    units = Units(step, step)
    text = f"{Decimal(step) * n_steps:f}"
    padded = (text if "." in text else text + ".") + "000"
    assert units.ticks(padded) == units.lots(padded) == n_steps
    assert units.n_dust == 0
    between = f"{Decimal(step) * n_steps + Decimal(step) / 5:f}"
    with pytest.raises(LineError, match="price off the tick"):
        units.ticks(between)
    assert units.lots(between) == n_steps and units.n_dust == 1


needs_capture = pytest.mark.skipif(
    not (SHARED_DATA / "book").is_dir(), reason=f"no capture in {SHARED_DATA}"
)


@needs_capture
def test_binance_capture_connects_and_agrees_with_every_ticker():
    file = SHARED_DATA / "book/binance_spot_btcusdt_20240808.jsonl.gz"
    started = time.perf_counter()
    names = {"symbol": "BTCUSDT", "source": "binance_spot"}
    units = {"tick": "0.01", "lot": "0.00001"}
    result = read_depth(file, **names, **units, levels=10, interval_ns=100 * MS)
    elapsed_s = time.perf_counter() - started
    report = result.report
    held = (report.lines, report.diffs, report.snapshots, report.tickers, report.trades)
    assert held == (41_249, 3_451, 1, 28_040, 9_757)
    assert not report.quarantined
    assert (report.gaps, report.crossed, report.trade_gaps, report.silences) == (0, 0, 0, 0)
    # The exchange tells its best in two ways; they agree after each of our updates.
    assert report.tickers_compared == report.updates == 3_449
    assert report.ticker_mismatches == 0
    assert report.dust == 3  # old orders far from the best, at 74,000 and beyond
    frame = validate(result.snapshots, snapshots(10))
    assert len(frame) == 3_457 and set(np.diff(frame["ts"])) == {100 * MS}
    assert (frame["best_bid"] < frame["best_ask"]).all()
    ladder = ["best_ask", *(f"ask_px_{k}" for k in range(2, 11))]
    assert all((frame[a] < frame[b]).all() for a, b in pairwise(ladder))
    assert len(result.trades) == 9_757
    assert elapsed_s < 15  # it takes 1 s; the slack is for a machine that others use


def test_gzip_and_plain_captures_give_the_same(tmp_path):
    capture = make_capture(8)
    plain = read_lines(tmp_path, capture.lines)
    file = tmp_path / "capture.jsonl.gz"
    file.write_bytes(gzip.compress((tmp_path / "capture.jsonl").read_bytes()))
    packed = read_file(file)
    pd.testing.assert_frame_equal(plain.snapshots, packed.snapshots)
    assert plain.report == packed.report
