"""Rows of the event store, and stores made of them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hftlib.sessions.event_rows import COLUMNS, DAY_NS, SCHEMA, iso_time
from hftlib.sessions.reader import EventReader
from hftlib.sessions.store import EventWriter
from hftlib.sessions.vocabulary import GAME_STATE, WS_EVENT

START = 1_767_323_045_678_901_000  # 2026-01-02T03:04:05.678901 UTC
TICK_NS = 250_000_000


def make_row(seq: int, session_id: str = "s", **changes: Any) -> dict[str, Any]:
    """A tick of game `g<seq // 10>`, written 250 ms after the one before."""
    game = f"g{seq // 10:05d}"
    data = {"gameId": game, "tickCount": seq % 10, "price": 1 + seq / 7}
    return {
        "seq": seq,
        "ts": iso_time(START + seq * TICK_NS),
        "source": "replay",
        "doc_type": WS_EVENT,
        "session_id": session_id,
        "direction": "received",
        "raw_json": json.dumps({"event": GAME_STATE, "data": data}),
        "game_id": game,
        "event_name": GAME_STATE,
        **changes,
    }


def make_rows(n: int, session_id: str = "s") -> list[dict[str, Any]]:
    return [make_row(seq, session_id) for seq in range(n)]


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row.get(name) for row in rows] for name in COLUMNS}


def write_rows(root: Path, rows: list[dict[str, Any]], **settings: Any) -> None:
    with EventWriter(root, rows[0]["session_id"], **settings) as writer:
        for row in rows:
            writer.write(row)


def write_parquet(path: Path, rows: list[dict[str, Any]], row_group_size: int = 65_536) -> Path:
    """A file of the store as another tool might write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns_of(rows), schema=SCHEMA)
    pq.write_table(table, path, row_group_size=row_group_size, write_page_checksum=True)
    return path


def folder_of(root: Path, doc_type: str = WS_EVENT, ns: int = START) -> Path:
    day = iso_time(ns // DAY_NS * DAY_NS)[:10]
    return root / "events_parquet" / f"doc_type={doc_type}" / f"date={day}"


def read_rows(reader: EventReader, doc_type: str = WS_EVENT, **filters: Any) -> list[dict]:
    """Rows as `write_rows` was given them: without nulls."""
    rows = []
    for batch in reader.batches(doc_type=doc_type, columns=list(COLUMNS), **filters):
        rows += batch.table.to_pylist()
    return [{name: v for name, v in row.items() if v is not None} for row in rows]


def files_of(root: Path) -> dict[str, bytes]:
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}
