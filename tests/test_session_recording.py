"""Recorded sessions say what the wire says, and what the server did."""

import itertools
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from hftlib.sessions.buttons import ButtonEvent, assign_sequences
from hftlib.sessions.event_rows import parse_time
from hftlib.sessions.game import verify
from hftlib.sessions.players import PLAYERS, propensities
from hftlib.sessions.recording import RecordingReport, record_sessions
from hftlib.sessions.vocabulary import (
    ACTION_BUTTONS,
    BET_BUTTONS,
    BUTTON_EVENT,
    COMPLETE_GAME,
    GAME_PLAYER_STATE,
    GAME_STATE,
    NEW_TRADE,
    PLAYER_ACTION,
    PLAYER_STATE,
    WS_EVENT,
)
from hftlib.sessions.wire import unwrap

NAMES = ["early", "partial", "explorer", "sidebettor", "restless"]
N_GAMES = 10
COUNTDOWN_KEYS = {
    "gameId",
    "cooldownTimer",
    "cooldownPaused",
    "allowPreRoundBuys",
    "leaderboard",
    "connectedPlayers",
    "provablyFair",
}


def record(root, **changes):
    settings = {"n_sessions": len(NAMES), "games_per_session": N_GAMES, "players": NAMES, "seed": 4}
    return record_sessions(root, **(settings | changes))


def read_rows(root):
    """Rows by document type, then by session in order of seq."""
    rows = {}
    for file in sorted(root.rglob("*.parquet")):
        for row in pq.read_table(file, partitioning=None).to_pylist():
            rows.setdefault(row["doc_type"], {}).setdefault(row["session_id"], []).append(row)
    return rows


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    return root, record(root)


@pytest.fixture(scope="module")
def rows(store):
    return read_rows(store[0])


@pytest.fixture(scope="module")
def sessions(rows):
    """Wire events of each player's session: (time in ns, name, data)."""
    found = {}
    for events in rows[WS_EVENT].values():
        texts = [(parse_time(row["ts"]), json.loads(row["raw_json"])) for row in events]
        found[events[0]["username"]] = [(ns, raw["event"], raw["data"]) for ns, raw in texts]
    return found


def states(events):
    """Times and payloads of `gameStateUpdate`."""
    return [(ns, data) for ns, name, data in events if name == GAME_STATE]


@pytest.mark.parametrize("name", NAMES)
def test_rugs_are_told_twice_and_the_next_round_may_come_between(sessions, name):
    seen = states(sessions[name])
    rugs = {}
    for place, (ns, data) in enumerate(seen):
        if data.get("rugged"):
            rugs.setdefault(data["gameId"], []).append((place, ns, data))
    assert len(rugs) == N_GAMES
    n_between = 0
    for (first, first_ns, rug), (second, second_ns, again) in rugs.values():
        assert rug["active"] and again["active"]
        assert again["tickCount"] - rug["tickCount"] in (2, 3)
        assert again["price"] == rug["price"] == list(rug["partialPrices"]["values"].values())[-1]
        # delays of a client differ by less than a second or two
        assert 0 < second_ns - first_ns < 8e9
        n_between += any(data["gameId"] != rug["gameId"] for _, data in seen[first:second])
    assert 0 < n_between < N_GAMES


@pytest.mark.parametrize("name", NAMES)
def test_cooldown_updates_say_only_what_the_wire_says(sessions, name):
    timers = {}
    for _, data in states(sessions[name]):
        if data["cooldownTimer"] > 0 and len(data) < 10:
            assert set(data) == COUNTDOWN_KEYS
            assert data["allowPreRoundBuys"] == (data["cooldownTimer"] <= 10_000)
            timers.setdefault(data["gameId"], []).append(data["cooldownTimer"])
    whole = list(timers.values())[1:]
    assert all(each == list(range(14_900, 0, -100)) for each in whole)
    assert len(whole) == N_GAMES - 1


def test_ticks_repeat_as_often_as_they_should(sessions):
    keys = [
        (data["gameId"], data["tickCount"])
        for events in sessions.values()
        for _, data in states(events)
        if data.get("active") and not data.get("rugged")
    ]
    share = len(keys) / len(set(keys))
    assert 1.2 < share < 1.3  # 1 + 0.15 + 2 * 0.05, of some 10,000 ticks
    gaps = [
        1 + b["tickCount"] - a["tickCount"]
        for events in sessions.values()
        for (_, a), (_, b) in itertools.pairwise(
            [each for each in states(events) if each[1].get("active")]
        )
        if a["gameId"] == b["gameId"] and not b["rugged"]
    ]
    assert set(gaps) == {1, 2}


def test_rare_fields_and_player_updates_are_rare(sessions):
    for name, events in sessions.items():
        whole = sum("gameHistory" in data for _, data in states(events))
        assert 0 < whole < 0.02 * len(events)
        if name != "restless":
            n_updates = sum(kind == PLAYER_STATE for _, kind, _ in events)
            assert 0 < n_updates < 0.03 * len(events)


def test_some_payloads_are_lost_and_some_are_lists(sessions):
    trades = [data for e in sessions.values() for _, name, data in e if name == NEW_TRADE]
    lost = [data for data in trades if isinstance(data, dict)]
    assert all(data == {"__trace": True} for data in lost)
    assert 0.02 < len(lost) / len(trades) < 0.2
    for data in trades:
        if isinstance(data, list):
            assert data[1]["amount"] == pytest.approx(data[1]["qty"] * data[1]["price"], rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_board_changes_only_when_a_game_ends(sessions, name):
    keys = ("averageMultiplier", "count2x", "count10x", "count50x", "count100x")
    boards = {}
    for _, data in states(sessions[name]):
        if "averageMultiplier" in data:
            boards.setdefault(data["gameId"], set()).add(tuple(data[key] for key in keys))
    assert len(boards) == N_GAMES + 1
    assert all(len(values) == 1 for values in boards.values())
    assert len(set.union(*boards.values())) > N_GAMES / 2


@pytest.mark.parametrize("name", NAMES)
def test_every_game_can_be_verified_from_the_game_history(sessions, name):
    history, hashes, prices = {}, {}, {}
    for _, data in states(sessions[name]):
        hashes[data["gameId"]] = data["provablyFair"]["serverSeedHash"]
        history |= {game["id"]: game for game in data.get("gameHistory", [])}
        if data.get("active"):
            prices.setdefault(data["gameId"], {})[data["tickCount"]] = data["price"]
    assert len(prices) == N_GAMES
    for game_id, seen in prices.items():
        record = history[game_id]
        assert verify(record).is_fair
        assert hashes[game_id] == record["provablyFair"]["serverSeedHash"]
        assert [seen[tick] for tick in range(len(record["prices"]))] == record["prices"]


def test_windows_of_prices_are_those_of_the_game(sessions):
    for _, data in states(sessions["early"]):
        if data.get("active") and not data["rugged"]:
            window = data["partialPrices"]
            ticks = [int(tick) for tick in window["values"]]
            assert ticks == list(range(max(0, data["tickCount"] - 4), data["tickCount"] + 1))
            assert (window["startTick"], window["endTick"]) == (ticks[0], ticks[-1])
            assert window["values"][str(ticks[-1])] == data["price"]


def test_rows_of_a_session_are_numbered_in_order_of_time(rows):
    for session_id in rows[WS_EVENT]:
        own = [row for kind in rows.values() for row in kind[session_id]]
        own.sort(key=lambda row: row["seq"])
        assert [row["seq"] for row in own] == list(range(1, len(own) + 1))
        times = [row["ts"] for row in own]
        assert times == sorted(times)


def test_wire_rows_name_the_game_of_their_payload(rows):
    for events in rows[WS_EVENT].values():
        for row in events:
            raw = json.loads(row["raw_json"])
            payload = unwrap(raw["data"]).payload or {}
            assert row["event_name"] == raw["event"]
            assert row["game_id"] == payload.get("gameId")
            assert row["tick"] is None and row["price"] is None


def test_press_rows_are_those_of_the_button_model(rows):
    for session_id, own in rows[BUTTON_EVENT].items():
        presses = [ButtonEvent.from_row(row) for row in own]
        for row, press, numbered in zip(
            own, presses, assign_sequences(presses, session_id), strict=True
        ):
            assert press == numbered
            written = press.to_row(
                seq=row["seq"], session_id=session_id, player_id=row["player_id"]
            )
            assert {**written, "username": row["username"]}.items() - row.items() <= {
                ("raw_json", written["raw_json"])
            }
            assert ButtonEvent.model_validate_json(written["raw_json"]) == press
            is_answered = press.server_ts is not None
            assert (
                is_answered == (press.execution_tick is not None) == (press.latency_ms is not None)
            )
            if is_answered:
                took_ms = (parse_time(press.server_ts) - parse_time(press.ts)) / 1e6
                assert press.latency_ms == pytest.approx(took_ms, abs=1e-6)


def test_executed_orders_agree_in_presses_actions_and_player_updates(rows, sessions):
    for session_id, actions in rows[PLAYER_ACTION].items():
        presses = [json.loads(row["raw_json"]) for row in rows[BUTTON_EVENT][session_id]]
        executed = {p["trade_id"]: p for p in presses if p["execution_tick"] is not None}
        updates = {
            ns: d for ns, name, d in sessions[actions[0]["username"]] if name == PLAYER_STATE
        }
        assert len(executed) == len(actions)
        for row in actions:
            raw = json.loads(row["raw_json"])
            press = executed[raw["id"]]
            assert row["action_type"].upper() == press["button_id"]
            assert (row["tick"], float(row["price"]) or press["execution_price"]) == (
                press["execution_tick"],
                press["execution_price"],
            )
            update = updates[parse_time(press["server_ts"])]
            assert (float(row["cash"]), float(row["position_qty"])) == (
                update["cash"],
                update["positionQty"],
            )


def test_complete_games_are_recorded_when_the_history_lists_them(rows, sessions):
    for games in rows[COMPLETE_GAME].values():
        assert len(games) == N_GAMES
        first_seen = {}
        for ns, data in states(sessions[games[0]["username"]]):
            for game in data.get("gameHistory", []):
                first_seen.setdefault(game["id"], (ns, game))
        for row in games:
            assert first_seen[row["game_id"]] == (
                parse_time(row["ts"]),
                json.loads(row["raw_json"]),
            )


@pytest.mark.parametrize("name", ["explorer", "restless"])
def test_recorded_presses_have_the_propensities_of_their_screens(rows, sessions, name):
    (session_id,) = [key for key, own in rows[BUTTON_EVENT].items() if own[0]["username"] == name]
    presses = [
        (parse_time(row["ts"]), json.loads(row["raw_json"]))
        for row in rows[BUTTON_EVENT][session_id]
    ]
    screens, stakes, pressed = [], [], []
    account, bet, waiting, seen = {}, 0.0, iter(presses), set()
    press = next(waiting, None)
    for ns, kind, data in sessions[name]:
        while press is not None and press[0] < ns:
            bet = press[1]["bet_amount"]
            place = 9 * (
                ["", *ACTION_BUTTONS].index(press[1]["button_id"])
                if press[1]["button_category"] == "action"
                else 0
            )
            if press[1]["button_category"] == "bet_adjust":
                place = 1 + BET_BUTTONS.index(press[1]["button_id"])
            pressed[-1] += place
            press = next(waiting, None)
        if kind == PLAYER_STATE:
            account = data
        is_tick = kind == GAME_STATE and data.get("active") and not data["rugged"]
        if not is_tick or (data["gameId"], data["tickCount"]) in seen:
            continue
        seen.add((data["gameId"], data["tickCount"]))
        screen = np.zeros(36, dtype=np.float32)
        screen[[0, 1, 2, 31]] = data["tickCount"], data["price"], 2, bet
        screen[9:12] = account["cash"], account["positionQty"], account["avgCost"]
        screens.append(screen)
        stakes.append(account["sideBet"] is not None)
        pressed.append(0)
    chances = propensities(name, np.array(screens), stakes)
    taken = chances[np.arange(len(pressed)), pressed]
    assert len(taken) > 1_000
    assert taken.min() > 0
    # counts of 36 kinds of press: 4.5 standard deviations of a sum of independent draws
    counts = np.bincount(pressed, minlength=36)
    spread = np.sqrt((chances * (1 - chances)).sum(axis=0))
    assert (np.abs(counts - chances.sum(axis=0)) <= 4.5 * spread + 1e-9).all()
    assert (counts > 0).sum() > 15


def test_same_seed_gives_the_same_bytes(store, tmp_path):
    root, report = store
    assert record(tmp_path) == report
    first, second = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.parquet")}
        for folder in (root, tmp_path)
    )
    assert first == second
    other = tmp_path / "other"
    record(other, seed=5, n_sessions=1)
    assert not {file.read_bytes() for file in other.rglob("*.parquet")} & set(first.values())


def test_a_session_does_not_depend_on_those_beside_it(store, tmp_path):
    record(tmp_path, n_sessions=2)
    for file in tmp_path.rglob("*.parquet"):
        assert file.read_bytes() == (store[0] / file.relative_to(tmp_path)).read_bytes()


def test_report_counts_what_was_written(store, rows):
    _, report = store
    assert report == RecordingReport(
        n_games=len(NAMES) * N_GAMES,
        n_ticks=report.n_ticks,
        n_events=sum(map(len, rows[WS_EVENT].values())),
        n_presses=sum(map(len, rows[BUTTON_EVENT].values())),
        n_executed=sum(map(len, rows[PLAYER_ACTION].values())),
        players={f"simulated-4-{k:05d}": name for k, name in enumerate(NAMES)},
    )
    records = [json.loads(r["raw_json"]) for own in rows[COMPLETE_GAME].values() for r in own]
    assert report.n_ticks == sum(len(game["prices"]) for game in records)


def test_later_captures_say_the_rugpool_and_earlier_ones_do_not(tmp_path):
    record(tmp_path, n_sessions=1, games_per_session=1, has_pool_events=False)
    (events,) = read_rows(tmp_path)[WS_EVENT].values()
    assert GAME_PLAYER_STATE not in {row["event_name"] for row in events}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"players": ["early", "nobody"]}, "nobody"),
        ({"players": []}, "expected names of"),
        ({"n_sessions": 0}, "expected one or more"),
        ({"fee": -0.1}, "fee=-0.1"),
        ({"cash": float("nan")}, "cash=nan"),
    ],
)
def test_recording_refuses_what_it_cannot_play(tmp_path, changes, text):
    with pytest.raises(ValueError, match=text):
        record(tmp_path, **changes)
    assert not list(tmp_path.rglob("*.parquet"))


def test_every_player_can_be_recorded(tmp_path):
    report = record(tmp_path, players=list(PLAYERS), n_sessions=len(PLAYERS), games_per_session=2)
    assert list(report.players.values()) == list(PLAYERS)
