"""Bad depth captures: a line that cannot be used leaves, is counted, and takes no other with it."""

import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data.depth import DepthError, read_depth
from hftlib.data.depth_lines import CHUNK, LOOKAHEAD
from tests.captures import (
    INTERVAL_NS,
    MS,
    START,
    Message,
    diff_body,
    is_diff,
    is_snapshot,
    line_text,
    make_capture,
    read_file,
    read_lines,
    snapshot_body,
    trade_body,
)

TRADE = trade_body(7, 6_000_000, 12, True)
DIFF = diff_body(3, 4, {5: 1}, {})


def altered(body: dict, **fields: object) -> dict:
    return {"data": {k: v for k, v in (body["data"] | fields).items() if v is not None}}


def counts(report) -> int:
    return report.diffs + report.snapshots + report.tickers + report.trades


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n", "time is not nanoseconds since the epoch"),
        ("{}\n", "time is not nanoseconds since the epoch"),
        (f"{START // MS} {json.dumps(TRADE)}\n", "time is not nanoseconds since the epoch"),
        (f"-{START} {json.dumps(TRADE)}\n", "time is not nanoseconds since the epoch"),
        (f"{'9' * 19} {json.dumps(TRADE)}\n", "time is not nanoseconds since the epoch"),
        (f"{START}\n", "cut or malformed JSON"),
        (f"{START} {json.dumps(TRADE)[:-9]}\n", "cut or malformed JSON"),
        (f"{START} [1, 2]\n", "cut or malformed JSON"),
        (f"{START} {'[' * 100_000}\n", "cut or malformed JSON"),
        (f'{START} {{"data": 5}}\n', "field of a wrong type"),
        (altered(TRADE, s="ETH"), "another symbol"),
        (altered(TRADE, s=None), "missing field s"),
        (altered(TRADE, p=None), "missing field p"),
        (altered(TRADE, m=None), "missing field m"),
        (altered(TRADE, m="yes"), "field of a wrong type"),
        (altered(TRADE, e="kline"), "unknown event"),
        (altered(TRADE, t="7"), "t is not a count"),
        (altered(TRADE, t=-7), "t is not a count"),
        (altered(TRADE, t=10**30), "t is not a count"),
        (altered(TRADE, q="-0.00012000"), "quantity is negative"),
        (altered(TRADE, q="0.00000000"), "trade without price or quantity"),
        (altered(TRADE, q="1e-3"), "quantity is not decimal text"),
        (altered(TRADE, q=0.5), "quantity is not decimal text"),
        (altered(TRADE, q="99999999.0"), "quantity is too large for 32 bits"),
        (altered(TRADE, p="60000.005"), "price off the tick"),
        (altered(TRADE, p="NaN"), "price is not decimal text"),
        (altered(TRADE, p="-"), "price is not decimal text"),
        (altered(DIFF, U=5), "U is greater than u"),
        (altered(DIFF, u=True), "u is not a count"),
        (altered(DIFF, b=[["1.0"]]), "field of a wrong type"),
        (altered(DIFF, b=None), "missing field b"),
        (altered(DIFF, a=7), "field of a wrong type"),
        (altered(DIFF, a=[["0.00", "1.0"]]), "price is not positive"),
        ({"lastUpdateId": 9, "bids": []}, "missing field asks"),
        ({"lastUpdateId": "9", "bids": [], "asks": []}, "lastUpdateId is not a count"),
        (altered(TRADE, e=None, u=1), "missing field b"),
    ],
)
def test_bad_line_leaves_with_its_reason_and_harms_no_other(tmp_path, text, reason):
    capture = make_capture(0, n_diffs=12)
    whole = read_lines(tmp_path, capture.lines)
    bad = text if isinstance(text, str) else line_text(Message(START, text))
    result = read_lines(tmp_path, [*capture.lines[:20], bad, *capture.lines[20:]])
    assert result.report.quarantined == {reason: 1}
    assert result.report.first_line == {reason: 21}
    assert result.report.lines == len(capture.lines) + 1 == counts(result.report) + 1
    pd.testing.assert_frame_equal(result.snapshots, whole.snapshots)
    pd.testing.assert_frame_equal(result.trades, whole.trades)


def test_a_refused_difference_is_a_hole_in_the_sequence(tmp_path):
    capture = make_capture(4)
    diffs = [line for line in capture.lines if is_diff(line)]
    since = next(line.ts for line in capture.lines if is_snapshot(line))
    at = capture.lines.index(diffs[12])
    texts = [line_text(line) for line in capture.lines]
    texts[at] = texts[at][:-30] + "\n"
    result = read_lines(tmp_path, texts)
    assert result.report.quarantined == {"cut or malformed JSON": 1}
    assert result.report.gaps == 1
    ts = result.snapshots["ts"]
    assert ts.iloc[0] >= since and diffs[13].ts - INTERVAL_NS <= ts.iloc[-1] < diffs[13].ts


@pytest.mark.parametrize("shift_ns", [-(10**12), 10**12, 40 * 365 * 86_400 * 10**9])
def test_a_wrong_stamp_early_or_late_condemns_only_itself(tmp_path, shift_ns):
    capture = make_capture(0)
    whole = read_lines(tmp_path, capture.lines)
    body = trade_body(10**6, 6_000_000, 5, True)
    wrong = Message(capture.lines[20].ts + shift_ns, body)
    result = read_lines(tmp_path, [*capture.lines[:20], wrong, *capture.lines[20:]])
    assert result.report.quarantined == {"time goes back": 1}
    pd.testing.assert_frame_equal(result.snapshots, whole.snapshots)


def test_a_stamp_far_ahead_at_the_end_makes_no_rows_of_the_years_between(tmp_path):
    capture = make_capture(0)
    whole = read_lines(tmp_path, capture.lines)
    late = Message(START + 40 * 365 * 86_400 * 10**9, trade_body(10**6, 6_000_000, 5, True))
    result = read_lines(tmp_path, [*capture.lines, late], interval_ns=10**10)
    assert result.report.silences == 1
    assert len(result.snapshots) < 10
    assert len(whole.snapshots) > 30


def test_lines_in_disorder_are_judged_across_chunks(tmp_path):
    n = 3 * CHUNK
    rng = np.random.default_rng(0)
    shift = dict.fromkeys(rng.choice(n, 40, replace=False).tolist(), 10**11)
    shift |= dict.fromkeys((CHUNK - 1, CHUNK, 2 * CHUNK - 1), 10**11)
    shift |= dict.fromkeys((CHUNK - LOOKAHEAD, 2 * CHUNK - LOOKAHEAD), -(10**11))
    lines = [
        Message(START + k * MS + shift.get(k, 0), trade_body(k, 100, 1, True)) for k in range(n)
    ]
    result = read_lines(tmp_path, lines)
    assert result.report.quarantined == {"time goes back": len(shift)}
    assert result.trades["ts"].is_monotonic_increasing
    assert len(result.trades) == n - len(shift)


def test_trades_sent_twice_are_refused_and_lost_ones_counted(tmp_path):
    ids = [5, 6, 6, 5, 7, 9, 10, 100, 101]
    lines = [Message(START + k, trade_body(i, 100, i, True)) for k, i in enumerate(ids)]
    result = read_lines(tmp_path, lines)
    assert result.trades["size"].tolist() == [5, 6, 7, 9, 10, 100, 101]
    assert result.report.quarantined == {"trade was sent twice": 2}
    assert result.report.trade_gaps == 2
    assert result.snapshots.empty


def test_a_capture_whose_gzip_breaks_off_is_used_up_to_there(tmp_path):
    capture = make_capture(9, n_diffs=400)
    whole = read_lines(tmp_path, capture.lines)
    packed = gzip.compress((tmp_path / "capture.jsonl").read_bytes())
    file = tmp_path / "cut.jsonl.gz"
    for damaged, reason in (
        (packed[: len(packed) // 2], "gzip stream ends early"),
        (packed[:-8] + b"\x00" * 8, "gzip stream is damaged"),
    ):
        file.write_bytes(damaged)
        result = read_file(file)
        report = result.report
        assert report.quarantined == {reason: 1}
        assert report.first_line[reason] == report.lines == counts(report) + 1
        n_rows = len(result.snapshots)
        assert n_rows > 100 and report.gaps == 0
        pd.testing.assert_frame_equal(result.snapshots, whole.snapshots.iloc[:n_rows])


def test_unusable_captures_are_errors_that_name_the_file(tmp_path):
    file = tmp_path / "capture.jsonl"
    for content, said in ((b"", "no lines"), (b"\x00\xff" * 99 + b"\n", "reasons: time is not")):
        file.write_bytes(content)
        with pytest.raises(DepthError, match=rf"capture\.jsonl: no good line.*{said}"):
            read_file(file)
    packed = tmp_path / "text.jsonl.gz"
    packed.write_text("no gzip")
    with pytest.raises(DepthError, match=r"text\.jsonl\.gz: no good line.*gzip stream is damaged"):
        read_file(packed)
    with pytest.raises(DepthError, match=r"gone\.jsonl: cannot be read \(No such file"):
        read_file(tmp_path / "gone.jsonl")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"levels": 0}, "levels is 0; expected at least 1"),
        ({"interval_ns": 0}, "interval_ns is 0"),
        ({"tick": "0"}, "tick='0', lot='1'; expected positive decimals"),
        ({"lot": "one"}, "lot='one'; expected positive decimals"),
        ({"lot": "1/0"}, "lot='1/0'; expected positive decimals"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, option, said):
    options = {"tick": "1", "lot": "1", "levels": 1, "interval_ns": 1} | option
    with pytest.raises(DepthError, match=said):
        read_depth(tmp_path / "x.jsonl", symbol="BTC", source="test", **options)


def test_dust_below_a_lot_is_dropped_and_counted_and_a_coarse_lot_refused(tmp_path):
    levels = {price: 100_000 for price in range(1, 200)}
    snapshot = snapshot_body(2, levels, {300: 100_000})
    snapshot["bids"][0][1] = "1.00000900"
    lines = [Message(START, diff_body(1, 2, {}, {})), Message(START, snapshot)]
    result = read_lines(tmp_path, lines)
    assert result.report.dust == 1
    assert result.snapshots["bid_qty_1"].tolist() == [100_000]
    with pytest.raises(DepthError, match="200 of 200 quantities are no multiples of lot='3'"):
        read_lines(tmp_path, lines, lot="3")


def test_more_lots_in_an_interval_than_32_bits_hold_is_an_error(tmp_path):
    lines = [
        Message(START, diff_body(1, 2, {}, {})),
        Message(START, snapshot_body(2, {1: 1}, {2: 1})),
        Message(START + 1, trade_body(1, 1, 2**31 - 1, True)),
        Message(START + 2, trade_body(2, 1, 1, True)),
        Message(START + 20 * MS, diff_body(3, 3, {}, {})),
    ]
    with pytest.raises(DepthError, match="more lots traded in an interval"):
        read_lines(tmp_path, lines)


@settings(max_examples=80)
@given(st.data())
def test_any_damage_is_counted_and_never_crosses_or_disorders_the_rows(data):
    capture = make_capture(data.draw(st.integers(0, 3)), n_diffs=12, snapshots_at=(1, 8))
    text = bytearray("".join(map(line_text, capture.lines)).encode())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 400))] = data.draw(st.binary(max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "capture.jsonl"
        file.write_bytes(text)
        try:
            result = read_file(file)
        except DepthError as error:
            assert "capture.jsonl" in str(error)
            return
    report, frame = result.report, result.snapshots
    n_lines = bytes(text).count(b"\n") + (not text.endswith(b"\n"))
    assert report.lines == n_lines == counts(report) + report.quarantined.total()
    assert set(report.first_line) == set(report.quarantined)
    assert set(np.diff(frame["ts"]) % INTERVAL_NS) <= {0}
    assert frame["ts"].is_monotonic_increasing and frame["ts"].is_unique
    both = (frame["best_bid"] > 0) & (frame["best_ask"] > 0)
    assert (frame["best_bid"] < frame["best_ask"])[both].all()
    assert (frame.loc[:, "best_bid":] >= 0).all(axis=None)
