"""From an event store to transitions."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.sessions.conversion import Conversion, write_transitions
from hftlib.sessions.dataset import DatasetError, TransitionDataset
from hftlib.sessions.layout import MANIFEST, QUARANTINE
from hftlib.sessions.observation import FEATURE_COUNT, FEATURE_NAMES
from hftlib.sessions.observe import ObservationStream
from hftlib.sessions.presses import no_presses
from hftlib.sessions.recording import record_sessions
from hftlib.sessions.stream import TransitionStream
from hftlib.sessions.transitions import TrainingDataGenerator
from hftlib.sessions.vocabulary import (
    ADJUSTMENTS,
    CHOICES,
    GAME_STATE,
    MIN_BET,
    PLAYER_STATE,
)
from tests.wire_events import (
    START_NS,
    cooldown_update,
    make_batch,
    make_press,
    make_presses,
    make_rows,
    play,
    player_update,
    recordings,
    rug_update,
    split,
    tick_update,
)

PLAYERS = ("bracket", "partial", "restless", "presale", "sidebettor")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Five recorded sessions of six games."""
    root = tmp_path_factory.mktemp("store")
    record_sessions(root, n_sessions=5, games_per_session=6, players=PLAYERS, seed=3, fee=0.01)
    return root


@pytest.fixture(scope="module")
def ws_events(store):
    return f"{store}/events_parquet/doc_type=ws_event/**/*.parquet"


@pytest.fixture(scope="module")
def button_events(store):
    return f"{store}/events_parquet/doc_type=button_event/**/*.parquet"


@pytest.fixture(scope="module")
def written(store, tmp_path_factory):
    """The report and the dataset of the whole store."""
    folder = tmp_path_factory.mktemp("data") / "transitions"
    report = write_transitions(store, folder)
    return report, TransitionDataset.open(folder, shows_game_id=True)


def convert(rows, presses=None, cuts=()):
    """The dataset of made-up rows, and the stream that made it."""
    stream = TransitionStream(no_presses() if presses is None else make_presses(presses))
    parts = [stream.push(batch) for batch in split(rows, list(cuts))]
    parts.append(stream.finish())
    return TransitionDataset.from_parts(parts, stream.list_games(), shows_game_id=True), stream


def everything(dataset):
    return dataset.batch(np.arange(len(dataset)))


def assert_equal_datasets(one, other):
    for name, a, b in zip(everything(one)._fields, everything(one), everything(other), strict=True):
        assert np.array_equal(a, b), name
    for name in ("row", "is_exact", "stake_open", "game"):
        assert np.array_equal(one.column(name), other.column(name)), name
    pd.testing.assert_frame_equal(one.games, other.games)


def assert_whole(counts):
    """The identities between the counts of a stream."""
    assert counts.n_ticks == counts.n_observations + counts.n_late + counts.n_short
    assert counts.n_observations == counts.n_transitions + counts.n_games
    assert counts.n_games == counts.n_terminated + counts.n_truncated


class TestTrainingDataGenerator:
    """The calls and claims of the plan that this package follows."""

    def test_generates_observation_action_pairs(self, ws_events, button_events):
        """Creates (obs, action, reward, next_obs, done) tuples"""
        generator = TrainingDataGenerator()
        # Load from Parquet
        dataset = generator.from_parquet(
            ws_events_path=ws_events, button_events_path=button_events, limit=1000
        )
        assert len(dataset) > 0
        obs, action, reward, next_obs, done = dataset[0]  # noqa: RUF059
        assert obs.shape == (FEATURE_COUNT,)
        assert next_obs.shape == (FEATURE_COUNT,)

    def test_aligns_actions_with_observations(self):
        """ButtonEvents matched to correct game tick"""
        generator = TrainingDataGenerator()
        # Mock data test
        ws_events = [
            {"game_id": "g1", "tick": 100, "price": 2.0},
            {"game_id": "g1", "tick": 101, "price": 2.1},
        ]
        button_events = [
            {"game_id": "g1", "tick": 100, "button_id": "BUY"},
        ]
        samples = generator.align_events(ws_events, button_events)
        assert len(samples) == 1
        assert samples[0]["action"] == "BUY"
        assert samples[0]["tick"] == 100

    def test_handles_terminal_states(self):
        """Rug events create terminal samples with done=True"""
        generator = TrainingDataGenerator()
        ws_events = [
            {"game_id": "g1", "tick": 100, "rugged": False},
            {"game_id": "g1", "tick": 101, "rugged": True},
        ]
        samples = generator.process_episode(ws_events)
        assert samples[-1]["done"] == True  # noqa: E712

    def test_batch_generation(self, ws_events, button_events):
        """Can generate batches for training"""
        generator = TrainingDataGenerator()
        dataset = generator.from_parquet(ws_events, button_events)
        batch = generator.get_batch(dataset, batch_size=32)
        assert batch["observations"].shape == (32, FEATURE_COUNT)
        assert batch["actions"].shape == (32,)
        assert batch["rewards"].shape == (32,)
        assert batch["next_observations"].shape == (32, FEATURE_COUNT)
        assert batch["dones"].shape == (32,)


class TestTrainingIntegration:
    """The end-to-end claims of that plan, on recorded sessions."""

    def test_full_pipeline_with_real_data(self, ws_events, button_events):
        """End-to-end test with actual Parquet data"""
        generator = TrainingDataGenerator()

        # Load real data
        dataset = generator.from_parquet(ws_events_path=ws_events, button_events_path=button_events)

        print(f"\nDataset size: {len(dataset)} samples")

        # Verify structure
        assert len(dataset) > 0, "No training samples generated"

        obs, action, reward, next_obs, done = dataset[0]

        # Check feature dimensions
        assert obs.shape == (FEATURE_COUNT,), f"Expected {FEATURE_COUNT} features, got {obs.shape}"

        # Check no NaN values
        assert not np.isnan(obs).any(), "NaN values in observation"
        assert not np.isnan(next_obs).any(), "NaN values in next_observation"

        # Report statistics
        print(f"Observation min: {obs.min():.4f}, max: {obs.max():.4f}")
        print(f"Action: {action}")
        print(f"Reward: {reward:.4f}")
        print(f"Done: {done}")

    def test_batch_shapes_correct(self, ws_events, button_events):
        """Batches have correct tensor shapes for RL training"""
        generator = TrainingDataGenerator()
        dataset = generator.from_parquet(ws_events, button_events)

        batch_size = min(32, len(dataset))
        batch = generator.get_batch(dataset, batch_size=batch_size)

        assert batch["observations"].shape == (batch_size, FEATURE_COUNT)
        assert batch["actions"].shape == (batch_size,)
        assert batch["rewards"].shape == (batch_size,)
        assert batch["next_observations"].shape == (batch_size, FEATURE_COUNT)
        assert batch["dones"].shape == (batch_size,)


# recorded sessions


def test_every_count_of_a_recording_adds_up(written):
    report, dataset = written
    counts = report.transitions
    assert_whole(counts)
    assert len(dataset) == counts.n_transitions > 1000
    assert counts.n_games == counts.n_terminated == 30
    assert counts.n_ticks == report.observations.n_kept
    assert sum(report.observations.events.values()) == report.events.n_taken
    fates = dict(report.presses)
    n_presses = fates.pop("n_presses")
    fates.pop("n_clock_set_back")
    assert n_presses == sum(fates.values()) > 100
    assert n_presses + sum(report.refused_presses.values()) == report.button_events.n_taken
    assert fates["no_game"] + fates["no_tick"] == len(report.unmatched) == 0


def test_every_used_press_of_a_recording_is_an_action(written):
    report, dataset = written
    n_choices = int((dataset.column("choice") > 0).sum())
    n_adjustments = int((dataset.column("adjustment") > 0).sum())
    assert n_choices + n_adjustments == report.presses["used"] + report.presses["moved"]
    assert {"WAIT", "BUY", "SELL_100", "SIDEBET"} == {
        CHOICES[code] for code in np.unique(dataset.column("choice"))
    }
    assert report.transitions.n_partial > 0
    assert not dataset.column("is_exact").all()


def test_games_name_their_player(written):
    games = written[1].games
    assert games["username"].tolist() == [PLAYERS[int(name[-1])] for name in games["session_id"]]


def test_rewards_of_each_game_add_up_to_what_was_won(written):
    _, dataset = written
    sums = np.bincount(dataset.column("game"), weights=dataset.column("rewards"))
    games = dataset.games
    # rounding of some hundred differences of numbers near 1
    assert np.allclose(sums, games["last_equity"] - games["first_equity"], rtol=0, atol=1e-11)
    assert (np.abs(sums) > 1e-3).sum() > 5


def test_games_begin_with_what_the_game_before_left(written):
    """But for a purchase before the round, which has a fee, and new money for the ruined."""
    _, dataset = written
    for session_id, games in dataset.games.groupby("session_id"):
        if PLAYERS[int(session_id[-1])] == "presale":
            continue
        left = games["last_equity"].to_numpy()[:-1]
        found = games["first_equity"].to_numpy()[1:]
        assert np.allclose(found[left >= MIN_BET], left[left >= MIN_BET], rtol=0, atol=1e-12)


def test_next_observation_is_the_observation_of_the_next_transition(written):
    _, dataset = written
    batch, game = everything(dataset), dataset.column("game")
    follows = game[1:] == game[:-1]
    assert np.array_equal(batch.next_observations[:-1][follows], batch.observations[1:][follows])
    ends = batch.terminated | batch.truncated
    assert np.array_equal(~ends[:-1], follows)
    rugged = FEATURE_NAMES.index("rugged")
    assert not batch.observations[:, rugged].any()
    assert np.array_equal(batch.next_observations[:, rugged] == 1, batch.terminated)


def test_ticks_without_a_press_are_there_and_wait(written):
    _, dataset = written
    ticks = everything(dataset).observations[:, 0]
    assert (dataset.actions == 0).mean() > 0.5
    for _, game in dataset.games.iterrows():
        rows = dataset.column("row") >= game["first_row"]
        rows &= dataset.column("row") < game["first_row"] + game["n_ticks"]
        assert ticks[rows].tolist() == list(range(game["first_tick"], game["last_tick"]))


def test_nothing_is_nan_or_infinite(written):
    for values in everything(written[1]):
        assert np.isfinite(values).all()


@pytest.mark.parametrize("batch_rows", [97, 1_000, 65_536])
def test_sizes_of_batches_make_no_difference(store, written, batch_rows, monkeypatch):
    monkeypatch.setattr("hftlib.sessions.conversion.BATCH_ROWS", batch_rows)
    monkeypatch.setattr("hftlib.sessions.stream.FLUSH_ROWS", 5 * batch_rows)
    conversion = Conversion(store, store, None)
    parts = list(conversion.run())
    dataset = TransitionDataset.from_parts(parts, conversion.list_games(), shows_game_id=True)
    assert sum(len(part.row) > 0 for part in parts) > (1 if batch_rows < 65_536 else 0)
    assert_equal_datasets(dataset, written[1])


def test_memory_and_folder_hold_the_same(ws_events, button_events, tmp_path):
    generator = TrainingDataGenerator()
    in_memory = generator.from_parquet(ws_events, button_events)
    report = generator.report
    on_disk = generator.from_parquet(ws_events, button_events, folder=tmp_path / "play")
    assert_equal_datasets(in_memory, on_disk)
    assert generator.report == report
    names = [path.name for path in tmp_path.iterdir()]
    assert names == ["play"]


def test_limit_truncates_the_game_it_cuts(ws_events, button_events):
    generator = TrainingDataGenerator()
    dataset = generator.from_parquet(ws_events, button_events, limit=700)
    assert sum(generator.report.observations.events.values()) == 700
    assert generator.report.transitions.n_truncated == 1
    batch = everything(dataset)
    assert batch.truncated[-1]
    assert not batch.terminated[-1]


def test_batches_are_drawn_without_replacement_from_the_seed(written):
    _, dataset = written
    one, same, other = (TrainingDataGenerator(seed).get_batch(dataset, 500) for seed in (1, 1, 2))
    assert np.array_equal(one["observations"], same["observations"])
    assert not np.array_equal(one["observations"], other["observations"])
    whole = TrainingDataGenerator().get_batch(dataset, len(dataset))
    assert np.array_equal(np.sort(whole["rewards"]), np.sort(dataset.column("rewards")))
    for size in (0, len(dataset) + 1):
        with pytest.raises(DatasetError, match=f"batch_size={size}: expected 1 to {len(dataset)}"):
            TrainingDataGenerator().get_batch(dataset, size)


def test_a_folder_that_is_not_whole_is_refused(written, store, tmp_path):
    folder = tmp_path / "play"
    with pytest.raises(DatasetError, match="holds no dataset"):
        TransitionDataset.open(folder)
    write_transitions(store, folder, limit=500)
    rewards = np.load(folder / "rewards.npy")
    (folder / "rewards.npy").unlink()
    with pytest.raises(DatasetError, match=r"rewards\.npy"):
        TransitionDataset.open(folder)
    np.save(folder / "rewards.npy", rewards)
    TransitionDataset.open(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"n_transitions": 1}))
    with pytest.raises(DatasetError, match="n_transitions is 1, expected"):
        TransitionDataset.open(folder)


# made-up rounds


def round_trip(prices, presses=(), session="s"):
    """One round, with presses given as (button, tick, ms after the tick's update)."""
    events = play("g1", prices)
    rows = make_rows(events, session)
    at = {data.get("tickCount"): row[3] for (_, data), row in zip(events, rows, strict=True)}
    made = [
        make_press(button, "g1", tick, at[min(tick, len(prices) - 1)] + int(ms * 1e6))
        for button, tick, ms in presses
    ]
    return convert(rows, {session: made})


@pytest.mark.parametrize(
    ("presses", "actions", "is_exact"),
    [
        ([("BUY", 1, 10)], {1: ("BUY", "NONE")}, True),
        ([("INC_01", 1, 10), ("BUY", 1, 20)], {1: ("BUY", "INC_01")}, True),
        ([("INC_01", 0, 10), ("BUY", 1, 20)], {0: ("WAIT", "INC_01"), 1: ("BUY", "NONE")}, True),
        ([("BUY", 1, 10), ("INC_01", 1, 20)], {1: ("BUY", "INC_01")}, False),
        ([("INC_01", 1, 10), ("MAX", 1, 20)], {1: ("WAIT", "MAX")}, False),
        ([("BUY", 1, 10), ("SIDEBET", 1, 20)], {1: ("SIDEBET", "NONE")}, False),
        ([("SELL_25", 0, 10), ("SELL", 2, 20)], {2: ("SELL_100", "NONE")}, False),
        ([("SELL_100", 0, 10), ("SELL", 2, 20)], {2: ("SELL_100", "NONE")}, True),
        ([("SELL_25", 0, 10), ("BUY", 2, 20)], {2: ("BUY", "NONE")}, True),
        (
            [("SELL_25", 0, 10), ("SELL_100", 1, 10), ("SELL", 2, 20)],
            {2: ("SELL_100", "NONE")},
            True,
        ),
    ],
)
def test_presses_of_a_tick_become_its_action(presses, actions, is_exact):
    dataset, stream = round_trip([1.0, 1.1, 1.2, 1.3, 0.02], presses)
    expected = {tick: ("WAIT", "NONE") for tick in range(4)} | actions
    found = zip(dataset.column("choice"), dataset.column("adjustment"), strict=True)
    assert [(CHOICES[c], ADJUSTMENTS[a]) for c, a in found] == list(expected.values())
    assert dataset.column("is_exact").all() == is_exact
    assert stream.counts.n_inexact == (not is_exact)
    fates = stream.count_presses()
    assert sum(fates.values()) == len(presses)
    assert fates["share"] == sum(button.startswith("SELL_") for button, _, _ in presses)


def test_press_of_an_unrecorded_tick_moves_back_then_forward():
    """Ticks 0, 1, 4 and 6 were recorded."""
    ticks = {0: 1.0, 1: 1.1, 4: 1.2, 6: 1.1}
    events = [(GAME_STATE, tick_update("g1", tick, price)) for tick, price in ticks.items()]
    events.append((GAME_STATE, rug_update("g1", 8, 0.02)))
    buttons = {1: "INC_1", 2: "BUY", 3: "SIDEBET", 5: "SELL"}
    presses = [make_press(b, "g1", tick, START_NS + 10**9 * tick) for tick, b in buttons.items()]
    dataset, stream = convert(make_rows(events), {"s": presses})
    # 2 goes back to 1, since 3 was not recorded either; 3 goes to 4, but 5 takes its place there
    assert [CHOICES[code] for code in dataset.column("choice")] == [
        "WAIT",
        "BUY",
        "SELL_100",
        "WAIT",
    ]
    assert dataset.column("adjustment").tolist() == [0, ADJUSTMENTS.index("INC_1"), 0, 0]
    assert dataset.column("is_exact").tolist() == [True, False, False, True]
    fates = stream.count_presses()
    assert (fates["used"], fates["moved"], fates["merged"]) == (1, 2, 1)
    assert stream.counts.n_gaps == 3


def test_presses_without_a_tick_are_told_by_file_and_row():
    dataset, stream = convert(
        make_rows(play("g1", [1.0, 1.1, 1.2, 0.02])),
        {
            "s": [
                make_press("BUY", "g1", 9, START_NS),
                make_press("BUY", "other", 1, START_NS + 1_000),
            ],
            "t": [make_press("BUY", "g1", 1, START_NS)],
        },
    )
    assert not dataset.actions.any()
    assert [(row.file, row.row, row.reason) for row in stream.list_unmatched()] == [
        ("presses.parquet", 0, "no recorded tick near"),
        ("presses.parquet", 1, "no tick of its game was recorded"),
        ("presses.parquet", 0, "no tick of its game was recorded"),
    ]


def test_press_at_the_rug_decides_nothing():
    dataset, stream = round_trip([1.0, 1.1, 0.02], [("SELL", 2, 10)])
    assert not dataset.actions.any()
    assert stream.count_presses()["at_end"] == 1


def test_last_reward_holds_what_is_settled_after_the_rug():
    events = play("g1", [1.0, 2.0, 0.5])
    # buys 1 token for 1 SOL on tick 0, and bets 0.1 on the rug
    events.insert(4, (PLAYER_STATE, player_update(0.9, 1.0, sideBet={"betAmount": 0.1})))
    events.insert(0, (PLAYER_STATE, player_update(2.0)))
    events.append((PLAYER_STATE, player_update(0.9 + 0.5 + 0.5)))
    dataset, _ = convert(make_rows(events))
    assert dataset.column("rewards") == pytest.approx([0.9 + 2.0 - 2.0, 1.9 - 2.9])
    assert dataset.column("stake_open").tolist() == [False, True]
    assert everything(dataset).terminated.tolist() == [False, True]


def test_capture_cut_in_a_game_truncates_it_and_keeps_its_equity():
    rows = make_rows([(PLAYER_STATE, player_update(1.0, 2.0)), *play("g1", [1.0, 1.5, 2.5, 0.02])])
    dataset, stream = convert(rows[:6])
    assert dataset.column("rewards").tolist() == [1.0]
    assert everything(dataset).truncated.tolist() == [True]
    assert not everything(dataset).terminated.any()
    assert stream.counts.n_truncated == 1


def test_next_games_countdown_before_the_second_rug_disturbs_neither_game():
    plain = play("g1", [1.0, 1.1, 0.02]) + play("g2", [1.0, 0.9, 0.01])
    mixed = play("g1", [1.0, 1.1, 0.02], after="g2") + play("g2", [1.0, 0.9, 0.01])
    one, two = (convert(make_rows(events))[0] for events in (plain, mixed))
    assert np.array_equal(everything(one).rewards, everything(two).rewards)
    assert np.array_equal(everything(one).terminated, everything(two).terminated)
    assert two.games["game_id"].tolist() == ["g1", "g2"]
    assert everything(two).terminated.tolist() == [False, True, False, True]


def test_two_sessions_of_one_game_are_two_episodes_that_split_together():
    rows = [
        row
        for pair in zip(
            make_rows(play("g1", [1.0, 1.1, 1.2, 0.02]), "s1"),
            make_rows(play("g1", [1.0, 1.1, 1.2, 0.02]), "s2"),
            strict=True,
        )
        for row in pair
    ]
    dataset, stream = convert(rows, {"s2": [make_press("BUY", "g1", 1, rows[9][3] + 10**6)]})
    assert stream.counts.n_games == 2
    assert dataset.games["session_id"].tolist() == ["s1", "s2"]
    assert [CHOICES[code] for code in dataset.column("choice")] == [
        *["WAIT", "WAIT", "WAIT"],
        *["WAIT", "BUY", "WAIT"],
    ]
    assert len(np.unique(dataset.game_ids)) == 1
    with pytest.raises(ValueError, match="gets none of 1 games"):
        dataset.split({"a": 0.5, "b": 0.5}, np.random.default_rng(0))


def test_a_game_is_over_when_a_later_one_has_rugged():
    def tick(game, number):
        return (GAME_STATE, tick_update(game, number, 1.0 + number))

    events = [tick("a", 0), tick("a", 1), tick("b", 0), tick("a", 2), tick("b", 1), tick("c", 0)]
    events += [(GAME_STATE, rug_update("b", 2, 0.02)), tick("c", 1), tick("a", 3)]
    events += [(GAME_STATE, rug_update("a", 4, 0.02)), tick("c", 2)]
    for cuts in ([], [7], [8, 9], range(12)):
        dataset, stream = convert(make_rows(events), cuts=cuts)
        assert stream.counts.n_late == 2
        assert dataset.games["game_id"].tolist() == ["a", "b", "c"]
        assert dataset.games["n_ticks"].tolist() == [3, 3, 3]
        assert dataset.games["is_terminated"].tolist() == [False, True, False]
        assert_whole(stream.counts)


def test_clock_set_back_reorders_nothing():
    events = play("g1", [1.0, 1.1, 1.2, 1.3, 0.02])
    rows = make_rows(events)
    back = [(*row[:3], row[3] - 10**12 * (k == 5), None) for k, row in enumerate(rows)]
    presses = {"s": [make_press("BUY", "g1", 0, rows[3][3] + 1000)]}
    one, two = (convert(r, presses) for r in (rows, back))
    assert np.array_equal(everything(one[0]).observations, everything(two[0]).observations)
    assert np.array_equal(one[0].actions, two[0].actions)
    assert two[1].observed.counts.n_set_back == 1


# all sorts of recordings


def reference(rows, presses):
    """Transitions by plain loops over what the observation stream yields at once."""
    observed = ObservationStream(make_presses(presses))
    ticks = observed.push(make_batch(rows)) if rows else None
    closing = observed.close()
    games = {}
    if ticks is None:
        return games
    equity = dict(zip(ticks.settlement.game, ticks.settlement.equity, strict=True))
    equity |= dict(zip(closing.game, closing.equity, strict=True))
    for k, number in enumerate(ticks.game.tolist()):
        games.setdefault(number, []).append(k)
    found = {}
    for number, places in games.items():
        session, game_id = observed.games[number]
        own = [ticks.balance[k] + ticks.position_qty[k] * ticks.price[k] for k in places]
        is_over = bool(ticks.is_rug[places[-1]])
        last = equity.get(number, own[-1]) if is_over else own[-1]
        found[observed.session_ids[session], game_id] = [
            (
                ticks.observations[a],
                (last if b == places[-1] else own[n + 1]) - own[n],
                ticks.observations[b],
                is_over and b == places[-1],
                not is_over and b == places[-1],
            )
            for n, (a, b) in enumerate(pairwise(places))
        ]
    return found


@settings(max_examples=60)
@given(recordings(), st.lists(st.integers(1, 40), max_size=4))
def test_transitions_are_those_of_plain_loops_whatever_the_batches(recording, cuts):
    rows, presses = recording
    dataset, stream = convert(rows, presses, cuts)
    assert_whole(stream.counts)
    assert sum(stream.count_presses().values()) == len(stream.fates)
    expected = reference(rows, presses)
    batch, game = everything(dataset), dataset.column("game")
    for number, row in dataset.games.iterrows():
        own = game == number
        wanted = expected[row["session_id"], row["game_id"]]
        if stream.counts.n_late:
            wanted = wanted[: own.sum()]  # the session had left it
        assert own.sum() == len(wanted)
        for k, (obs, reward, next_obs, terminated, truncated) in zip(
            np.flatnonzero(own), wanted, strict=True
        ):
            assert np.array_equal(batch.observations[k], obs)
            assert np.array_equal(batch.next_observations[k], next_obs)
            if not stream.counts.n_late:
                assert batch.rewards[k] == reward
                assert (batch.terminated[k], batch.truncated[k]) == (terminated, truncated)
    if not stream.counts.n_late:
        assert len(dataset) == sum(map(len, expected.values()))


@settings(max_examples=40)
@given(recordings(), st.integers(1, 40), st.randoms(use_true_random=False))
def test_later_events_change_no_earlier_transition(recording, cut, random):
    """Scramble what follows row `cut`: what was complete before is as it was."""
    rows, presses = recording
    before, after = rows[:cut], rows[cut:]
    clocks = [row[3] for row in after]
    random.shuffle(after)
    after = [(*row[:3], clock, row[4]) for row, clock in zip(after, clocks, strict=True)]
    whole, scrambled, first = (convert(r, presses)[0] for r in (rows, before + after, before))
    seen = {(g["session_id"], g["game_id"]): g for _, g in first.games.iterrows()}
    for dataset in (whole, scrambled):
        batch, game = everything(dataset), dataset.column("game")
        for number, row in dataset.games.iterrows():
            known = seen.get((row["session_id"], row["game_id"]))
            if known is None:
                continue
            start = int(np.flatnonzero(game == number)[0])
            own = np.flatnonzero(first.column("row") >= known["first_row"])[: known["n_ticks"] - 1]
            rows_here = start + np.arange(len(own))
            expected = first.batch(own)
            assert np.array_equal(batch.observations[rows_here], expected.observations)
            assert np.array_equal(batch.actions[rows_here], expected.actions)
            # the last one's may still hold a settlement
            assert np.array_equal(batch.rewards[rows_here[:-1]], expected.rewards[:-1])


@settings(max_examples=40)
@given(recordings())
def test_rewards_telescope_and_nothing_is_nan(recording):
    dataset, _ = convert(*recording)
    batch = everything(dataset)
    assert all(np.isfinite(values).all() for values in batch)
    for number, game in dataset.games.iterrows():
        own = dataset.column("game") == number
        won = game["last_equity"] - game["first_equity"]
        scale = np.abs(batch.rewards[own]).sum() + abs(won) + abs(game["first_equity"])
        assert abs(batch.rewards[own].sum() - won) <= 1e-13 * max(scale, 1) * own.sum()


# damaged stores


def copy_store(store, tmp_path):
    return shutil.copytree(store, tmp_path / "store")


def test_corrupt_file_costs_its_own_rows_only(store, written, tmp_path):
    root = copy_store(store, tmp_path)
    file = sorted(root.glob("events_parquet/doc_type=ws_event/*/*.parquet"))[1]
    file.write_bytes(file.read_bytes()[:2000])
    report = write_transitions(root, tmp_path / "play")
    assert any("unreadable" in line for line in report.events.describe())
    assert_whole(report.transitions)
    assert 0 < report.transitions.n_games < written[0].transitions.n_games
    assert report.presses["no_game"] == len(report.unmatched) > 0
    quarantine = pd.read_parquet(tmp_path / "play" / QUARANTINE)
    assert len(quarantine) == len(report.unmatched)
    assert set(quarantine["reason"]) == {"no tick of its game was recorded"}


def test_store_without_presses_is_all_waiting(store, written, tmp_path):
    root = copy_store(store, tmp_path)
    shutil.rmtree(root / "events_parquet/doc_type=button_event")
    report = write_transitions(root, tmp_path / "play")
    assert report.presses["n_presses"] == 0
    assert report.transitions.n_transitions == written[0].transitions.n_transitions
    assert not TransitionDataset.open(tmp_path / "play").actions.any()


def test_store_without_wire_events_has_no_transitions(store, tmp_path):
    root = copy_store(store, tmp_path)
    shutil.rmtree(root / "events_parquet/doc_type=ws_event")
    report = write_transitions(root, tmp_path / "play")
    assert len(TransitionDataset.open(tmp_path / "play")) == 0
    assert report.presses["no_game"] == report.presses["n_presses"] > 0


def test_empty_source_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no Parquet file"):
        write_transitions(tmp_path, tmp_path / "play")
    assert not (tmp_path / "play").exists()


def test_payloads_that_lack_or_garble_fields_cost_no_tick():
    events = play("g1", [1.0, 1.1, 1.2, 0.02])
    events[4] = (GAME_STATE, {**tick_update("g1", 1, 1.1), "price": "1.1"})
    del events[5][1]["connectedPlayers"]
    rows = make_rows(events)
    rows.insert(5, ("s", GAME_STATE, {}, rows[4][3], "{"))
    dataset, stream = convert(rows)
    assert len(dataset) == 3
    assert stream.observed.counts.refused == {"price": 1, "malformed JSON": 1}
    assert np.isfinite(everything(dataset).observations).all()


# plain dictionaries


def test_alignment_prefers_the_tick_itself_then_the_earlier_neighbour():
    ws_events = [{"game_id": "g", "tick": tick, "price": 1.0} for tick in (0, 2, 4, 9)]
    buttons = [{"game_id": "g", "tick": tick, "button_id": "BUY"} for tick in (2, 3, 5, 7)]
    generator = TrainingDataGenerator()
    ticks = [sample["tick"] for sample in generator.align_events(ws_events, buttons)]
    assert ticks == [2, 2, 4]
    ticks = [sample["tick"] for sample in generator.align_events(ws_events, buttons, tolerance=0)]
    assert ticks == [2]
    ticks = [sample["tick"] for sample in generator.align_events(ws_events, buttons, tolerance=2)]
    assert ticks == [2, 2, 4, 9]
    with pytest.raises(ValueError, match="tolerance=-1"):
        generator.align_events(ws_events, buttons, tolerance=-1)


def test_alignment_tells_games_and_sessions_apart():
    ws_events = [
        {"session_id": "s", "event_name": GAME_STATE, "data": tick_update("g", 1, 1.0)},
        {"session_id": "s", "event_name": GAME_STATE, "data": cooldown_update("h", 9_000)},
    ]
    press = {"session_id": "s", "game_id": "g", "tick": 1, "button_id": "SELL"}
    generator = TrainingDataGenerator()
    assert len(generator.align_events(ws_events, [press])) == 1
    for change in ({"game_id": "h"}, {"session_id": "t"}):
        assert generator.align_events(ws_events, [press | change]) == []


def test_an_episode_of_dictionaries_is_what_the_stream_makes_of_it():
    events = play("g1", [1.0, 1.1, 1.2, 0.02])
    events.insert(0, (PLAYER_STATE, player_update(1.0, 2.0)))
    samples = TrainingDataGenerator().process_episode(
        {"event_name": name, "data": data} for name, data in events
    )
    dataset, _ = convert(make_rows(events))
    assert [sample["tick"] for sample in samples] == [0, 1, 2]
    assert [sample["reward"] for sample in samples] == dataset.column("rewards").tolist()
    assert [sample["done"] for sample in samples] == [False, False, True]
    for k, sample in enumerate(samples):
        assert np.array_equal(sample["next_observation"][:8], everything(dataset)[3][k][:8])
