"""Whole recordings to observations: batches against single events and against the contract."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.sessions.event_rows import parse_times
from hftlib.sessions.observation import FEATURE_NAMES
from hftlib.sessions.observe import ObservationStream, ObservedTicks
from hftlib.sessions.presses import load_presses
from hftlib.sessions.reader import EventBatch, EventReader
from hftlib.sessions.recording import record_sessions
from hftlib.sessions.store import EventWriter
from hftlib.sessions.vocabulary import (
    GAME_STATE,
    NEW_TRADE,
    OBSERVED_EVENTS,
    PLAYER_STATE,
    WS_EVENT,
)
from tests.reference_session import ReferenceSession
from tests.wire_events import (
    START_NS,
    TICK_NS,
    Row,
    cooldown_update,
    feed,
    make_batch,
    make_press,
    make_presses,
    make_rows,
    play,
    player_update,
    recordings,
    split,
    tick_update,
)

PRICES = [1.0, 1.1, 0.9, 1.4, 0.018]


def observe(rows: list[Row], presses: dict | None = None, cuts: list[int] | None = None):
    """The stream after all rows, its ticks and its settlements."""
    stream = ObservationStream(None if presses is None else make_presses(presses))
    parts = [stream.push(batch) for batch in split(rows, cuts or [])] if rows else []
    return stream, parts


def join(parts: list[ObservedTicks], name: str) -> np.ndarray:
    return np.concatenate([getattr(part, name) for part in parts])


def settlements(stream: ObservationStream, parts: list[ObservedTicks]) -> list[tuple]:
    """(session, game, equity, is_confirmed) in the order of settling."""
    return [
        (stream.session_ids[seen.session], seen.game_id, equity, is_confirmed)
        for settled in [*(part.settlement for part in parts), stream.close()]
        for game, equity, is_confirmed in zip(
            settled.game, settled.equity, settled.is_confirmed, strict=True
        )
        for seen in [stream.games[game]]
    ]


@settings(deadline=None, max_examples=100)
@given(recordings(), st.lists(st.integers(0, 40), max_size=4))
def test_batches_equal_single_events_and_the_contract_whatever_comes(recording, cuts):
    rows, presses = recording
    stream, parts = observe(rows, presses, cuts)
    single, builders = feed(rows, presses)
    references: dict[str, ReferenceSession] = {}
    expected = []
    for session, name, data, ts_ns, text in rows:
        reference = references.setdefault(session, ReferenceSession(presses.get(session, [])))
        n_before = len(reference.rows)
        if text is None and name != "standard/newTrade":
            reference.update(name, data, ts_ns)
        expected += reference.rows[n_before:]
    observations = join(parts, "observations") if parts else np.empty((0, 36), np.float32)
    assert observations.shape == (len(expected), 36)
    assert np.isfinite(observations).all()
    assert observations.tobytes() == b"".join(row.tobytes() for row in single)
    for row, other in zip(observations, expected, strict=True):
        assert np.array_equal(row, other.astype(np.float32)), [
            (name, a, b) for name, a, b in zip(FEATURE_NAMES, row, other, strict=True) if a != b
        ]
    found = settlements(stream, parts)
    for session, reference in references.items():
        mine = [(game, equity, sure) for s, game, equity, sure in found if s == session]
        waiting = [(game, False) for game in reference.waiting]
        assert mine == [
            (game or "", reference.equity[game], sure) for game, sure in reference.settled + waiting
        ]
    for name in ("n_kept", "n_duplicates", "n_late", "n_set_back", "n_clipped"):
        both = sum(getattr(builder.counts, name) for builder in builders.values())
        assert getattr(stream.counts, name) == both, name
    refused = sum((builder.counts.refused for builder in builders.values()), Counter())
    readable, _ = observe([row for row in rows if row[4] is None], presses)
    assert readable.counts.refused == refused


@settings(deadline=None, max_examples=40)
@given(recordings(), recordings(), st.integers(0, 40))
def test_what_comes_later_changes_no_observation(recording, future, n_past):
    rows, presses = recording
    past = rows[:n_past]
    now = max((row[3] for row in past), default=START_NS)
    others = {session: [press.copy() for press in mine] for session, mine in presses.items()}
    for press in (press for mine in others.values() for press in mine):
        if press["ts"] >= now:
            press |= {"bet_amount": 77.0, "tick": 3}
        if press["server_ts"] is not None and press["server_ts"] > now:
            press |= {"execution_tick": 99, "execution_price": 88.0, "latency_ms": 66.0}
    later = [(*row[:3], row[3] + TICK_NS, row[4]) for row in future[0]]
    _, expected = observe(past, presses)
    _, found = observe(past + later, others)
    for kept, other in zip(expected, found, strict=False):
        n = len(kept)
        assert other.observations[:n].tobytes() == kept.observations.tobytes()
        assert np.array_equal(other.ts_ns[:n], kept.ts_ns)


@settings(deadline=None, max_examples=40)
@given(recordings())
def test_sessions_do_not_touch_one_another(recording):
    rows, presses = recording
    stream, parts = observe(rows, presses)
    for number, session in enumerate(stream.session_ids):
        _, alone = observe([row for row in rows if row[0] == session], presses)
        mine = np.concatenate([part.observations[part.session == number] for part in parts])
        assert mine.tobytes() == join(alone, "observations").tobytes()


def test_a_round_gives_one_observation_for_each_tick_to_the_rug():
    stream, (ticks,) = observe(make_rows(play("a", PRICES, after="b") + play("b", [1.0, 0.02])))
    assert ticks.tick.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert ticks.price.tolist() == [*PRICES, 1.0, 0.02]
    assert ticks.is_rug.tolist() == [False] * 4 + [True, False, True]
    assert ticks.game.tolist() == [0] * 5 + [1] * 2
    assert [seen.game_id for seen in stream.games] == ["a", "b"]
    assert np.array_equal(ticks.observations[:, 1], ticks.price.astype(np.float32))
    assert stream.counts.n_late == 2
    assert stream.counts.defaults == {"s": 7}
    assert (np.diff(ticks.ts_ns) > 0).all()


def test_three_updates_of_a_tick_give_one_observation_the_first():
    events = [(GAME_STATE, tick_update("a", t // 3, 1.0 + t)) for t in range(9)]
    stream, (ticks,) = observe(make_rows(events))
    assert ticks.price.tolist() == [1.0, 4.0, 7.0]
    assert stream.counts.n_duplicates == 6


@pytest.mark.parametrize(
    ("before", "after", "equity", "is_confirmed"),
    [
        ([player_update(2.0)], [player_update(9.0)], 2.0, True),
        ([player_update(2.0, 5.0)], [player_update(2.5)], 2.5, True),
        ([player_update(2.0, 5.0)], [player_update(2.0, 5.0)], 2.0 + 5.0 * PRICES[-1], True),
        ([player_update(2.0, 5.0)], [player_update(float("nan")), player_update(2.5)], 2.5, True),
        ([player_update(2.0, sideBet={"betAmount": 1})], [player_update(7.0)], 7.0, True),
        ([player_update(2.0, sidebets=[{"betAmount": 1}])], [player_update(7.0)], 7.0, True),
        ([player_update(2.0, 5.0)], [], 2.0 + 5.0 * PRICES[-1], False),
    ],
)
def test_a_game_is_settled_by_the_next_update_of_a_player_who_held_something(
    before, after, equity, is_confirmed
):
    events = [(PLAYER_STATE, data) for data in before] + play("a", PRICES)
    events += [(PLAYER_STATE, data) for data in after]
    events += [*play("b", [1.0, 0.02]), (PLAYER_STATE, player_update(100.0))]
    for cuts in ([], list(range(len(events)))):
        stream, parts = observe(make_rows(events), cuts=cuts)
        (first, *_) = settlements(stream, parts)
        assert first == ("s", "a", equity, is_confirmed)


def test_a_game_that_the_capture_leaves_unsettled_is_handed_out_at_the_end():
    events = [(PLAYER_STATE, player_update(2.0, 5.0)), *play("a", PRICES)]
    stream, parts = observe(make_rows(events))
    assert len(parts[0].settlement.game) == 0
    assert settlements(stream, parts) == [("s", "a", 2.0 + 5.0 * PRICES[-1], False)]
    assert len(stream.close().game) == 0


def test_an_open_side_bet_is_seen_until_an_update_says_otherwise():
    updates = [
        player_update(1.0),
        player_update(1.0, sideBet={"betAmount": 1}),
        player_update(1.0, sideBet=7),
        {"cash": 2.0},
        player_update(1.0, sidebets=[{}]),
        player_update(1.0, sidebets=[]),
    ]
    events = []
    for tick, update in enumerate(updates):
        events += [(PLAYER_STATE, update), (GAME_STATE, tick_update("a", tick, 1.0))]
    stream, (ticks,) = observe(make_rows(events))
    assert ticks.stake_open.tolist() == [False, True, True, False, True, False]
    assert stream.counts.refused == {"sideBet": 1}


def test_faults_are_kept_with_file_and_row():
    rows = make_rows(play("a", PRICES))
    rows[2] = (*rows[2][:4], '{"event": "gameStateUpdate", "data": {"gameId"')
    rows[4] = (*rows[4][:2], None, rows[4][3], None)
    rows[5] = (*rows[5][:2], rows[5][2] | {"price": "1.5"}, rows[5][3], None)
    stream, _ = observe(rows, cuts=[3])
    assert [(fault.row, fault.reason) for fault in stream.counts.examples] == [
        (2, "malformed JSON"),
        (4, "lost payload"),
        (5, "price"),
    ]
    assert {fault.file for fault in stream.counts.examples} == {"made-up.parquet"}


def test_a_clock_that_is_set_back_does_not_reorder_presses():
    updates = [(GAME_STATE, tick_update("a", tick, 1.0)) for tick in range(4)]
    rows = [
        ("s", name, data, START_NS + when * TICK_NS, None)
        for (name, data), when in zip(updates, (0, 5, 1, 2), strict=True)
    ]
    presses = {"s": [make_press("BUY", "a", 0, START_NS + 3 * TICK_NS, bet_amount=0.5)]}
    stream, (ticks,) = observe(rows, presses)
    assert ticks.observations[:, 31].tolist() == [0, 0.5, 0.5, 0.5]
    assert stream.counts.n_set_back == 2


def test_presses_of_sessions_and_games_that_were_not_recorded_do_no_harm():
    presses = {
        name: [make_press("BUY", game, 1, START_NS)] for name, game in (("x", "a"), ("s", "zzz"))
    }
    stream, (ticks,) = observe(make_rows(play("a", PRICES)), presses)
    assert len(ticks) == len(PRICES)
    assert [seen.game_id for seen in stream.games] == ["a"]


def test_a_batch_of_other_events_is_empty():
    _, (ticks,) = observe(make_rows([("standard/newTrade", {"type": "buy"})] * 3))
    assert len(ticks) == 0
    assert ticks.observations.shape == (0, 36)


def test_without_a_session_a_row_is_refused():
    batch = make_batch([(None, GAME_STATE, cooldown_update("a", 100), START_NS, None)])
    with pytest.raises(ValueError, match="session_id"):
        ObservationStream().push(batch)


def test_rows_of_a_store_give_the_same_observations_as_batches_in_memory(tmp_path):
    rows = make_rows([(PLAYER_STATE, player_update(1.0)), *play("a", PRICES)])
    table = make_batch(rows).table.to_pylist()
    with EventWriter(tmp_path, "s") as writer:
        for seq, row in enumerate(table):
            writer.write(row | {"seq": seq, "doc_type": WS_EVENT})
            writer.write(row | {"seq": 99 + seq, "doc_type": WS_EVENT, "event_name": NEW_TRADE})
    columns = ("session_id", "ts", "event_name", "raw_json", "game_id")
    stream = ObservationStream()
    reader = EventReader(tmp_path)
    batches = reader.batches(doc_type=WS_EVENT, event_names=OBSERVED_EVENTS, columns=columns)
    parts = [stream.push(batch) for batch in batches]
    _, expected = observe(rows)
    assert join(parts, "observations").tobytes() == join(expected, "observations").tobytes()
    assert stream.counts.events == {GAME_STATE: len(rows) - 1, PLAYER_STATE: 1}


# every feature of recorded play


def vary_pool(text: str, k: int) -> str:
    """The event with a rugpool that differs from row to row; the recorded one is constant."""
    values = {"rugpoolAmount": k, "threshold": 2 * k + 7, "instarugCount": k}
    for name, value in values.items():
        text = re.sub(rf'("{name}": ?)[0-9.]+', rf"\g<1>{value}", text)
    return text


@pytest.fixture(scope="module")
def two_futures(tmp_path_factory):
    """Observations up to a moment of a session, as recorded and with all that is later changed."""
    root = tmp_path_factory.mktemp("store")
    record_sessions(root, n_sessions=1, games_per_session=30, players=["restless"], seed=8)
    (batch,) = EventReader(root).batches(
        doc_type=WS_EVENT,
        event_names=OBSERVED_EVENTS,
        columns=("session_id", "ts", "event_name", "raw_json", "game_id"),
    )
    texts = [vary_pool(text, k) for k, text in enumerate(batch.table["raw_json"].to_pylist())]
    table = batch.table.set_column(3, "raw_json", pa.array(texts))
    presses = load_presses(EventReader(root))
    ts_ns = parse_times(table["ts"])
    executed = np.flatnonzero(presses.execution_tick >= 0)
    n_past = np.searchsorted(ts_ns, presses.server_ns[executed[len(executed) // 2]])
    now_ns = ts_ns[n_past - 1]  # an order is on its way
    n = len(table)
    order = np.append(np.arange(n_past), np.random.default_rng(0).permutation(np.arange(n_past, n)))
    later = table.take(pa.array(order)).set_column(1, "ts", table["ts"])
    is_unpressed, is_unanswered = presses.ts_ns >= now_ns, presses.server_ns > now_ns
    changed = replace(
        presses,
        tick=np.where(is_unpressed, 3, presses.tick),
        bet_amount=np.where(is_unpressed, 77.0, presses.bet_amount),
        execution_tick=np.where(is_unanswered, 99, presses.execution_tick),
        execution_price=np.where(is_unanswered, 88.0, presses.execution_price),
        latency_ms=np.where(is_unanswered, 66.0, presses.latency_ms),
    )
    streams = ObservationStream(presses), ObservationStream(changed)
    ticks = [
        s.push(EventBatch(rows, "", 0)) for s, rows in zip(streams, (table, later), strict=True)
    ]
    assert ticks[0].observations.tobytes() != ticks[1].observations.tobytes()
    return [seen.observations[seen.ts_ns <= now_ns] for seen in ticks]


@pytest.mark.parametrize("feature", FEATURE_NAMES)
def test_feature_does_not_know_the_future(two_futures, feature):
    one, other = (observations[:, FEATURE_NAMES.index(feature)] for observations in two_futures)
    assert one.tobytes() == other.tobytes()
    constant = {"cooldown_timer_ms", "allow_pre_round_buys", "active"}  # 0, 0 and 1 in a round
    assert (len(np.unique(one)) > 1) == (feature not in constant)


def test_no_observation_of_recorded_play_is_nan_or_infinite(two_futures):
    for observations in two_futures:
        assert np.isfinite(observations).all()
