"""Depth captures of a made-up exchange, and the truth behind them."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hftlib.data.depth import DepthCapture, read_depth

START = pd.Timestamp("2024-08-08 12:00", tz="UTC").value
MS = 1_000_000
LEVELS = 3
INTERVAL_NS = 10 * MS


class Message(NamedTuple):
    """A line before it is text."""

    ts: int
    body: dict


class Capture(NamedTuple):
    """Lines, and the true book after each difference: (ts, bids, asks)."""

    lines: list[Message]
    truth: list[tuple[int, dict[int, int], dict[int, int]]]


def price_text(ticks: int) -> str:
    return f"{ticks // 100}.{ticks % 100:02d}000000"


def lots_text(lots: int) -> str:
    return f"{lots // 100_000}.{lots % 100_000:05d}000"


def pairs(levels: dict[int, int]) -> list[list[str]]:
    return [[price_text(price), lots_text(lots)] for price, lots in levels.items()]


def diff_body(first: int, last: int, bids: dict[int, int], asks: dict[int, int]) -> dict:
    fields = {"e": "depthUpdate", "s": "BTC", "U": first, "u": last}
    return {"stream": "btc@depth", "data": {**fields, "b": pairs(bids), "a": pairs(asks)}}


def trade_body(trade_id: int, price: int, lots: int, buyer_is_maker: bool) -> dict:
    text = {"p": price_text(price), "q": lots_text(lots)}
    return {"data": {"e": "trade", "s": "BTC", "t": trade_id, **text, "m": buyer_is_maker}}


def snapshot_body(last: int, bids: dict[int, int], asks: dict[int, int]) -> dict:
    return {"lastUpdateId": last, "bids": pairs(bids), "asks": pairs(asks)}


def best(bids: dict[int, int], asks: dict[int, int]) -> tuple[int, int, int, int]:
    bid, ask = max(bids, default=0), min(asks, default=0)
    return bid, bids.get(bid, 0), ask, asks.get(ask, 0)


def make_capture(seed: int, n_diffs: int = 40, snapshots_at: tuple[int, ...] = (3,)) -> Capture:
    """An exchange that moves at random and tells everything it should.

    Each change of a level is an update. A difference gathers about five; a
    ticker follows each change of the best. A snapshot is taken in the middle
    of a difference and arrives after it.
    """
    rng = np.random.default_rng(seed)
    mid, update, trade_id, ts = 6_000_000, 1000, 50, START
    sides: dict[str, dict[int, int]] = {
        "b": {mid - k: 100 * k for k in range(1, 6)},
        "a": {mid + k: 100 * k for k in range(1, 6)},
    }
    lines, truth = [], []

    def change(side: str, price: int, lots: int) -> None:
        nonlocal update, ts
        before = best(sides["b"], sides["a"])
        update += 1
        changes[side][price] = lots
        sides[side][price] = lots
        if not lots:
            del sides[side][price]
        now = best(sides["b"], sides["a"])
        if now != before:
            ts += int(rng.integers(1, 2 * MS))
            prices = {"b": price_text(now[0]), "a": price_text(now[2])}
            sizes = {"B": lots_text(now[1]), "A": lots_text(now[3])}
            lines.append(Message(ts, {"data": {"s": "BTC", "u": update, **prices, **sizes}}))

    for k in range(n_diffs):
        first, changes, taken = update + 1, {"b": {}, "a": {}}, None
        for step in range(int(rng.integers(2, 9))):
            side = str(rng.choice(["b", "a"]))
            sign = 1 if side == "a" else -1
            change(side, mid + sign * int(rng.integers(1, 9)), int(rng.integers(1, 500)))
            if rng.random() < 0.3:
                mid += int(rng.choice([-1, 1]))
                for side in ("b", "a"):
                    beyond = [p for p in sides[side] if (p >= mid if side == "b" else p <= mid)]
                    for price in beyond:
                        change(side, price, 0)
            if k in snapshots_at and step == 1:
                taken = snapshot_body(update, sides["b"], sides["a"])
        ts += int(rng.integers(1, 30 * MS))
        lines.append(Message(ts, diff_body(first, update, changes["b"], changes["a"])))
        truth.append((ts, dict(sides["b"]), dict(sides["a"])))
        if taken:
            lines.append(Message(ts := ts + MS, taken))
        if rng.random() < 0.5:
            trade_id, ts = trade_id + 1, ts + MS
            is_maker = bool(rng.random() < 0.5)
            lines.append(Message(ts, trade_body(trade_id, mid, int(rng.integers(1, 99)), is_maker)))
    return Capture(lines, truth)


def line_text(message: Message) -> str:
    return f"{message.ts} {json.dumps(message.body)}\n"


def read_lines(folder: Path, lines: list[Message | str], **options) -> DepthCapture:
    """Capture of messages, or of lines that are text already."""
    file = folder / "capture.jsonl"
    file.write_text("".join(x if isinstance(x, str) else line_text(x) for x in lines))
    return read_file(file, **options)


def read_file(file: Path, *, interval_ns: int = INTERVAL_NS, lot: str = "0.00001") -> DepthCapture:
    return read_depth(
        file,
        symbol="BTC",
        source="test",
        tick="0.01",
        lot=lot,
        levels=LEVELS,
        interval_ns=interval_ns,
    )


def is_diff(message: Message) -> bool:
    return message.body.get("data", {}).get("e") == "depthUpdate"


def is_snapshot(message: Message) -> bool:
    return "lastUpdateId" in message.body
