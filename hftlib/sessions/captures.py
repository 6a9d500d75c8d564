"""Import of socket captures: JSON lines into the event store, every line accounted for.

A line is an object `{seq, ts, event, data}`, perhaps with `source` and
`direction`. The text of `data` is taken over as it stands, so no digit changes.
What is odd but readable is kept and counted; a line that is no event is
reported by its number and reason.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from hftlib.data.depth_lines import LineError, read_lines
from hftlib.sessions.event_rows import has_zone, iso_times, parse_time
from hftlib.sessions.store import EventWriter
from hftlib.sessions.vocabulary import (
    DIRECTIONS,
    GAME_STATE,
    KNOWN_EVENTS,
    PLAYER_STATE,
    SOURCES,
    WS_EVENT,
)
from hftlib.sessions.wire import unwrap

CHUNK: Final = 4096  # events written together
SOURCE_NAMES: Final = {"cdp_intercept": "cdp", **{source: source for source in SOURCES}}
BLANKS = re.compile(r"[ \t\r\n]*")


@dataclass
class CaptureReport:
    """What became of a capture's lines: `n_lines == n_events + n_blank + len(malformed)`.

    session_id : str
    n_lines, n_blank : int; where a gzip stream breaks off, the broken rest counts as a line
    malformed : (line number from 1, reason) of each line that is no event
    events : events in the store by name, those of unknown name included
    n_lists, n_lost : int, events whose data is a list; whose payload the recorder dropped
    n_naive : int, times without a zone, taken as UTC
    n_backwards : int, times before an earlier line's; the order of lines is kept
    n_seq_gaps, n_seq_missing : int, jumps of `seq`, and the numbers they leave out
    n_seq_repeated : int, `seq` that does not exceed an earlier one
    n_duplicate_ticks : int, `gameStateUpdate` of a game and tick that was there before
    """

    session_id: str
    n_lines: int = 0
    n_blank: int = 0
    malformed: list[tuple[int, str]] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    n_lists: int = 0
    n_lost: int = 0
    n_naive: int = 0
    n_backwards: int = 0
    n_seq_gaps: int = 0
    n_seq_missing: int = 0
    n_seq_repeated: int = 0
    n_duplicate_ticks: int = 0

    @property
    def n_events(self) -> int:
        """Rows written."""
        return self.events.total()

    @property
    def unknown_events(self) -> dict[str, int]:
        """Events by a name that is not in the vocabulary."""
        return {name: n for name, n in self.events.items() if name not in KNOWN_EVENTS}


def import_capture(path: Path, root: Path, *, session_id: str | None = None) -> CaptureReport:
    """Write the events of a capture into the store below `root`, in the order of lines.

    Imported again, a capture replaces itself.

    Parameters
    ----------
    path : Path
        JSON lines, plain or `.gz`.
    session_id : str, optional
        Default: the file's name up to its first dot.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    report = CaptureReport(path.name.split(".")[0] if session_id is None else session_id)
    counter = _Counter(report)
    events = _read_events(path, report)
    with EventWriter(root, report.session_id, max_events=CHUNK) as writer:
        while chunk := list(islice(events, CHUNK)):
            for event in chunk:
                counter.add(event)
            writer.write_columns(
                {
                    "ts": iso_times(np.array([event.ts_ns for event in chunk])),
                    "doc_type": [WS_EVENT] * len(chunk),
                    "session_id": [report.session_id] * len(chunk),
                    **{name: [getattr(event, name) for event in chunk] for name in COPIED},
                }
            )
    return report


class _Event(NamedTuple):
    seq: int
    source: str
    direction: str
    raw_json: str
    game_id: str | None
    player_id: str | None
    username: str | None
    event_name: str
    ts_ns: int
    tick: Any  # tickCount of a gameStateUpdate
    is_naive: bool
    is_list: bool
    is_lost: bool


COPIED: Final = _Event._fields[:8]


class _Counter:
    """Counts what is odd about events that are kept."""

    def __init__(self, report: CaptureReport) -> None:
        self._report = report
        self._latest_ns: int | None = None
        self._last_seq: int | None = None
        self._ticks: set[tuple[str, int]] = set()

    def add(self, event: _Event) -> None:
        report = self._report
        report.events[event.event_name] += 1
        report.n_lists += event.is_list
        report.n_lost += event.is_lost
        report.n_naive += event.is_naive
        if self._latest_ns is None or event.ts_ns >= self._latest_ns:
            self._latest_ns = event.ts_ns
        else:
            report.n_backwards += 1
        if self._last_seq is None or event.seq > self._last_seq:
            n_missing = 0 if self._last_seq is None else event.seq - self._last_seq - 1
            report.n_seq_gaps += n_missing > 0
            report.n_seq_missing += n_missing
            self._last_seq = event.seq
        else:
            report.n_seq_repeated += 1
        if event.game_id is not None and type(event.tick) is int:
            report.n_duplicate_ticks += (event.game_id, event.tick) in self._ticks
            self._ticks.add((event.game_id, event.tick))


def _read_events(path: Path, report: CaptureReport) -> Iterator[_Event]:
    try:
        for line in read_lines(path):
            report.n_lines += 1
            if not line.strip():
                report.n_blank += 1
                continue
            try:
                event = _parse_line(line.decode())
            except (ValueError, RecursionError) as error:
                report.malformed.append((report.n_lines, str(error)))
            else:
                yield event
    except LineError as error:
        report.n_lines += 1
        report.malformed.append((report.n_lines, str(error)))


def _parse_line(line: str) -> _Event:
    fields = split_object(line)
    values = {name: value for name, (value, _) in fields.items()}
    key = "event" if "event" in fields else "event_name"
    name, ts, seq = values.get(key), values.get("ts"), values.get("seq")
    if not isinstance(name, str):
        raise ValueError(f"{key} is {name!r}: expected a name")
    if not isinstance(ts, str):
        raise ValueError(f"ts is {ts!r}: expected an ISO 8601 time")
    if type(seq) is not int or not -(2**63) <= seq < 2**63:
        raise ValueError(f"seq is {seq!r}: expected a whole number")
    source = "public_ws" if values.get("source") is None else values["source"]
    if not isinstance(source, str) or source not in SOURCE_NAMES:
        raise ValueError(f"source is {source!r}: expected one of {', '.join(SOURCES)}")
    direction = "received" if values.get("direction") is None else values["direction"]
    if direction not in DIRECTIONS:
        raise ValueError(f"direction is {direction!r}: expected one of {', '.join(DIRECTIONS)}")
    data, data_text = fields.get("data", (None, "null"))
    payload, is_lost = unwrap(data, name)
    payload = {} if payload is None else payload
    ids = {
        "game_id": payload.get("gameId"),
        "player_id": payload.get("id" if name == PLAYER_STATE else "playerId"),
        "username": payload.get("username"),
    }
    texts = {column: text for column, text in ids.items() if isinstance(text, str)}
    for text in (name, *texts.values()):
        text.encode()  # a lone surrogate, escaped in JSON, is no text
    return _Event(
        seq=seq,
        source=SOURCE_NAMES[source],
        direction=direction,
        raw_json=f'{{"event": {fields[key][1]}, "data": {data_text}}}',
        **{column: texts.get(column) for column in ids},
        event_name=name,
        ts_ns=parse_time(ts),
        tick=payload.get("tickCount") if name == GAME_STATE else None,
        is_naive=not has_zone(ts),
        is_list=isinstance(data, list),
        is_lost=is_lost,
    )


def split_object(text: str) -> dict[str, tuple[Any, str]]:
    """Fields of a JSON object: each one's value and the text that it was read from.

    Raises
    ------
    ValueError
        If the text is no JSON object, or holds NaN or Infinity, which JSON lacks.
    """
    fields = {}
    at, opener = _skip_blanks(text, 0), "{"
    while text[at : at + 1] == opener:
        name, at = DECODER.raw_decode(text, _skip_blanks(text, at + 1))
        at = _skip_blanks(text, at)
        if not isinstance(name, str) or text[at : at + 1] != ":":
            raise ValueError(f"no JSON object: expected a name and a colon at character {at}")
        begin = _skip_blanks(text, at + 1)
        value, end = DECODER.raw_decode(text, begin)
        fields[name] = value, text[begin:end]
        at, opener = _skip_blanks(text, end), ","
    if not fields or text[at : at + 1] != "}" or _skip_blanks(text, at + 1) != len(text):
        raise ValueError(f"no JSON object: unexpected text or end at character {at}")
    return fields


def _skip_blanks(text: str, at: int) -> int:
    return BLANKS.match(text, at).end()  # type: ignore[union-attr]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
