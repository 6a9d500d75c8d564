"""Games of a recording, grouped event by event."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.sessions.episodes import EpisodeSegmenter
from hftlib.sessions.store import EventWriter


def wrap(game_id, tick, session_id="s1", **fields):
    """A gameStateUpdate as a row of the store says it."""
    payload = {"gameId": game_id, "tickCount": tick, "price": 1.0, "active": True, **fields}
    return {"session_id": session_id, "event_name": "gameStateUpdate", "data": payload}


def record_game(writer, session_id, game_id, n_ticks):
    """Write ticks 0 to n_ticks - 1 and the rug of one game."""
    for tick in range(n_ticks + 1):
        data = {"gameId": game_id, "tickCount": tick, "rugged": tick == n_ticks}
        row = {
            "seq": tick,
            "ts": f"2026-01-02T03:04:05.{tick:06d}+00:00",
            "doc_type": "ws_event",
            "session_id": session_id,
            "event_name": "gameStateUpdate",
            "game_id": game_id,
            "raw_json": json.dumps({"event": "gameStateUpdate", "data": data}),
        }
        writer.write(row)


class TestEpisodeSegmenter:
    """The calls and claims of the plan that this package follows."""

    def test_segments_by_game_id(self):
        """Events are grouped by game_id"""
        segmenter = EpisodeSegmenter()
        events = [
            {"game_id": "game-1", "tick": 1, "event_name": "gameStateUpdate"},
            {"game_id": "game-1", "tick": 2, "event_name": "gameStateUpdate"},
            {"game_id": "game-2", "tick": 1, "event_name": "gameStateUpdate"},
        ]
        episodes = segmenter.segment(events)
        assert len(episodes) == 2
        assert episodes[0].game_id == "game-1"
        assert len(episodes[0].events) == 2

    def test_detects_terminal_state(self):
        """Rug events mark episode as terminal"""
        segmenter = EpisodeSegmenter()
        events = [
            {"game_id": "game-1", "tick": 1, "rugged": False},
            {"game_id": "game-1", "tick": 2, "rugged": True},
        ]
        episodes = segmenter.segment(events)
        assert episodes[0].is_terminal
        assert episodes[0].terminal_tick == 2

    def test_filters_short_episodes(self):
        """Episodes with < min_ticks are filtered"""
        segmenter = EpisodeSegmenter(min_ticks=50)
        events = [{"game_id": "game-1", "tick": i} for i in range(10)]
        episodes = segmenter.segment(events)
        assert len(episodes) == 0

    def test_from_parquet(self, tmp_path):
        """Can load episodes from Parquet files"""
        with EventWriter(tmp_path, "s1") as writer:
            record_game(writer, "s1", "game-1", 7)
        segmenter = EpisodeSegmenter()
        episodes = segmenter.from_parquet(
            f"{tmp_path}/events_parquet/doc_type=ws_event/**/*.parquet", limit=1000
        )
        assert len(episodes) > 0
        assert episodes[0].is_complete
        assert episodes[0].ticks == tuple(range(8))


def test_limit_cuts_the_last_game_short(tmp_path):
    with EventWriter(tmp_path, "s1") as writer:
        record_game(writer, "s1", "game-1", 7)
    segmenter = EpisodeSegmenter()
    (episode,) = segmenter.from_parquet(tmp_path, limit=5)
    assert (episode.n_ticks, episode.is_terminal) == (5, False)
    assert segmenter.counts["events"] == 5


def test_malformed_rows_are_counted_and_stay_with_their_game(tmp_path):
    with EventWriter(tmp_path, "s1") as writer:
        record_game(writer, "s1", "game-1", 2)
        for seq, text in enumerate(["{", "[]", "7", '{"event": "x"}'], start=10):
            row = {"ts": "2026-01-02T03:04:06.000000+00:00", "doc_type": "ws_event"}
            writer.write(row | {"seq": seq, "session_id": "s1", "raw_json": text})
    segmenter = EpisodeSegmenter()
    (episode,) = segmenter.from_parquet(tmp_path)
    assert segmenter.counts["malformed"] == 4
    assert (len(episode.events), episode.n_ticks) == (7, 3)


def test_second_rug_and_next_games_countdown_do_not_disturb_a_finished_game():
    countdown = {"gameId": "b", "cooldownTimer": 14_000, "allowPreRoundBuys": False}
    events = [
        wrap("a", 0),
        wrap("a", 1, rugged=True),
        {"session_id": "s1", "event_name": "gameStateUpdate", "data": countdown},
        wrap("a", 3, rugged=True),
        wrap("b", 0),
    ]
    first, second = EpisodeSegmenter().segment(events)
    assert (first.ticks, first.terminal_tick, len(first.events)) == ((0, 1), 1, 3)
    assert (second.ticks, second.is_terminal, len(second.events)) == ((0,), False, 2)


def test_events_without_game_go_to_the_game_that_last_ticked():
    player = {"session_id": "s1", "event_name": "playerUpdate", "data": {"cash": 1.0}}
    countdown = {"gameId": "b", "cooldownTimer": 14_000}
    events = [
        player,
        wrap("a", 0),
        player,
        {"session_id": "s1", "event_name": "gameStateUpdate", "data": countdown},
        player,
    ]
    segmenter = EpisodeSegmenter()
    (only,) = segmenter.segment(events)
    assert only.events.count(player) == 2
    assert segmenter.counts == {
        "events": 5,
        "malformed": 0,
        "without_game": 1,
        "games": 2,
        "too_short": 1,
        "kept": 1,
    }


def test_tick_without_game_is_refused_and_given_to_no_game():
    events = [wrap("a", 0), wrap(None, 1), wrap("a", 2), wrap("", 3), wrap("b", 0, rugged=True)]
    del events[1]["data"]["gameId"]
    segmenter = EpisodeSegmenter()
    episodes = segmenter.segment(events)
    assert [(e.game_id, e.ticks) for e in episodes] == [("a", (0, 2)), ("b", (0,))]
    assert segmenter.counts["without_game"] == 2
    assert segmenter.refused == [("", 1, "no gameId"), ("", 3, "no gameId")]


def test_refused_tick_of_a_store_says_its_file_and_row(tmp_path):
    with EventWriter(tmp_path, "s1") as writer:
        record_game(writer, "s1", "game-1", 2)
        data = {"tickCount": 3, "price": 1.0}
        row = {"ts": "2026-01-02T03:04:06.000000+00:00", "doc_type": "ws_event", "seq": 10}
        text = json.dumps({"event": "gameStateUpdate", "data": data})
        writer.write(row | {"session_id": "s1", "raw_json": text})
    segmenter = EpisodeSegmenter()
    (episode,) = segmenter.from_parquet(tmp_path)
    (fault,) = segmenter.refused
    assert episode.ticks == (0, 1, 2)
    assert (tmp_path / fault.file).is_file()
    assert (fault.row, fault.reason) == (3, "no gameId")


def test_two_sessions_of_one_game_are_two_episodes():
    events = [wrap("a", tick, session) for tick in range(3) for session in ("s1", "s2")]
    episodes = EpisodeSegmenter().segment(events)
    assert [(e.session_id, e.game_id, e.n_ticks) for e in episodes] == [
        ("s1", "a", 3),
        ("s2", "a", 3),
    ]


def test_min_ticks_counts_distinct_ticks():
    events = [wrap("a", 5) for _ in range(10)]
    assert EpisodeSegmenter(min_ticks=2).segment(events) == []
    assert len(EpisodeSegmenter().segment(events)) == 1


def test_incomplete_episodes_go_only_if_asked():
    events = [wrap("a", 0), wrap("a", 1, rugged=True), wrap("b", 0), wrap("c", 4, rugged=True)]
    assert len(EpisodeSegmenter().segment(events)) == 3
    segmenter = EpisodeSegmenter(only_complete=True)
    assert [episode.game_id for episode in segmenter.segment(events)] == ["a"]
    assert segmenter.counts["incomplete"] == 2


def test_payload_behind_a_trace_is_found():
    event = wrap("a", 4, rugged=True)
    event["data"] = [{"__trace": True, "traceparent": "00"}, event["data"]]
    (episode,) = EpisodeSegmenter().segment([event])
    assert episode.terminal_tick == 4


def test_refuses_a_minimum_below_one_tick():
    with pytest.raises(ValueError, match="expected at least 1"):
        EpisodeSegmenter(min_ticks=0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["s1", "s2"]), st.sampled_from("abc"), st.integers(0, 4), st.booleans()
        ),
        max_size=40,
    )
)
def test_grouping_does_not_depend_on_how_games_are_interleaved(drawn):
    events = [wrap(game, tick, session, rugged=rug) for session, game, tick, rug in drawn]
    apart = sorted(events, key=lambda e: (e["session_id"], e["data"]["gameId"]))
    segmenter = EpisodeSegmenter()
    mixed = {(e.session_id, e.game_id): e for e in segmenter.segment(events)}
    assert mixed == {(e.session_id, e.game_id): e for e in segmenter.segment(apart)}
    assert sum(len(e.events) for e in mixed.values()) == len(events)
    assert segmenter.counts["games"] == segmenter.counts["kept"] == len(mixed)
