import hashlib
import json
from copy import deepcopy
from datetime import date

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.reference_game import Arc4, play_slowly
from hftlib.compute import compile_kernel
from hftlib.market.draws import open_streams
from hftlib.sessions import game
from hftlib.sessions.arc4 import draw, open_arc4
from hftlib.sessions.game import (
    MAX_TICKS,
    RUG_SHARE,
    Games,
    advance,
    drift_price,
    play_games,
    prices,
    rug_price,
    simulated_seed,
    verify,
)
from tests.conftest import SHARED_DATA

REAL_GAMES = SHARED_DATA / "sessions/seeded_games.jsonl"
DAY = date(2026, 1, 2)
# a game that was played, as its server published it
PLAYED = "3ebcc4cd5daa7e41cb996efb2c4b73f0235b8e385617c142f17eee9b685d9a7d"
PLAYED_ID = "20251215-1a211bfc7caf41d6"


def make_record(number: int = 0, version: str = "v3") -> dict:
    """The record of a simulated game."""
    server_seed, game_id = simulated_seed(3, number, DAY)
    listed = prices(server_seed, game_id, version)
    return {
        "id": game_id,
        "gameVersion": version,
        "prices": listed,
        "peakMultiplier": max(listed),
        "rugged": True,
        "provablyFair": {
            "serverSeed": server_seed,
            "serverSeedHash": hashlib.sha256(server_seed.encode()).hexdigest(),
        },
    }


@pytest.fixture(scope="module")
def replayed() -> Games:
    """20,000 games of server seeds."""
    return Games.from_lists([prices(*simulated_seed(0, k, DAY)) for k in range(20_000)])


# numbers


def test_the_generator_gives_the_numbers_that_its_author_published():
    state = open_arc4("hello.")
    assert [draw(state), draw(state)] == [0.9282578795792454, 0.3752569768646784]


@given(st.text(st.characters(codec="ascii"), max_size=600))
@example("")
@example("a" * 256)
@example("a" * 257)
def test_numbers_of_any_seed_are_those_of_plain_python(seed):
    state, slow = open_arc4(seed), Arc4(seed)
    assert [draw(state) for _ in range(20)] == [slow.draw() for _ in range(20)]


def test_numbers_are_uniform():
    state = open_arc4("uniform")
    numbers = [draw(state) for _ in range(50_000)]
    assert min(numbers) >= 0 and max(numbers) < 1
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3


def test_a_seed_beyond_ascii_is_refused_with_its_place():
    with pytest.raises(ValueError, match="expected ASCII, received 'é' at place 3"):
        prices("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "x")


# games of server seeds


def test_a_published_seed_gives_the_published_prices():
    listed = prices(PLAYED, PLAYED_ID)
    assert len(listed) == 8
    assert listed[:3] == [1, 0.9799510872982831, 0.9777456387635755]
    assert listed[-1] == 0.014782661565813707


def test_real_games_come_out_bit_for_bit():
    if not REAL_GAMES.is_file():
        pytest.skip(f"no real games at {REAL_GAMES}")
    verdicts = [verify(json.loads(line)) for line in REAL_GAMES.read_text().splitlines()]
    assert len(verdicts) == 20
    assert [verdict.faults for verdict in verdicts] == [()] * 20


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_games_are_those_of_plain_python(version):
    for number in range(40):
        pair = simulated_seed(1, number, DAY)
        assert prices(*pair, version) == play_slowly(*pair, version)


def test_games_with_a_god_candle_or_beyond_100_are_those_of_plain_python():
    pairs = [simulated_seed(2, number, DAY) for number in range(4_000)]
    rare = []
    for version in ("v1", "v3"):
        for pair in pairs:
            listed = np.array(prices(*pair, version))
            # an ordinary v3 tick moves by 25 % at most
            has_god = version == "v3" and (listed[1:] > 1.3 * listed[:-1]).any()
            if has_god or listed.max() > 100:
                rare.append((*pair, version))
    assert {version for *_, version in rare} == {"v1", "v3"}
    assert len(rare) >= 20
    for seed in rare[::-1][:8] + rare[:4]:
        assert prices(*seed) == play_slowly(*seed)


def test_versions_differ_in_the_law_not_in_the_first_draw():
    pair = simulated_seed(1, 0, DAY)
    assert prices(*pair, "v1") != prices(*pair, "v3")
    with pytest.raises(ValueError, match="version 'v2'; expected one of"):
        prices(*pair, "v2")


def test_the_noise_is_bounded_in_v3_only():
    wide, bounded = (drift_price(400.0, 0.5, 0.4, 1.0, root) for root in (np.inf, 10.0))
    # size .4 is no drift; the noise is .005 times the root
    assert wide == pytest.approx(400 * 1.1, rel=1e-12)
    assert bounded == pytest.approx(400 * 1.05, rel=1e-12)
    assert drift_price(1e6, 0.5, 0.4, 0.0, np.inf) == 0


def test_a_game_ends_after_its_longest_time(monkeypatch):
    out = np.empty(MAX_TICKS + 2)
    monkeypatch.setattr(game, "RUG_CHANCE", 0.0)
    assert game._replay.py_func(open_arc4("long"), False, out) == MAX_TICKS + 2
    assert out[-1] == RUG_SHARE * out[:-1].min()
    monkeypatch.setattr(game, "advance", lambda stream, price: (price * 1.001, False))
    offsets = np.zeros(2, dtype=np.int64)
    assert game._play.py_func(open_streams(0, 0), 0, out, offsets) == 1
    assert offsets[1] == MAX_TICKS + 2
    assert out[-1] == RUG_SHARE


def test_simulated_seeds_are_distinct_hexadecimal_and_stay():
    server_seed, game_id = simulated_seed(5, 7, DAY)
    assert (len(server_seed), len(game_id)) == (64, 25)
    assert game_id.startswith("20260102-")
    int(server_seed + game_id[9:], 16)
    assert simulated_seed(5, 7, DAY) == (server_seed, game_id)
    assert simulated_seed(5, 7, date(2026, 1, 3)) == (server_seed, f"20260103-{game_id[9:]}")
    pairs = {simulated_seed(s, k, DAY) for s in (0, 1, 11) for k in (0, 1, 10, 11)}
    assert len({secret for secret, _ in pairs}) == len({name for _, name in pairs}) == 12


# verification


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_a_fair_game_is_found_fair(version):
    verdict = verify(make_record(4, version))
    assert verdict.is_fair
    assert verdict.first_difference is None
    assert verdict.is_hash_right and verdict.are_prices_right
    assert verdict.is_rug_price_right and verdict.is_peak_right


@given(st.data())
def test_a_price_changed_in_its_last_bit_is_found_at_its_tick(data):
    record = make_record(data.draw(st.integers(0, 50)))
    tick = data.draw(st.integers(0, len(record["prices"]) - 1))
    record["prices"][tick] = np.nextafter(record["prices"][tick], 9).item()
    verdict = verify(record)
    assert not verdict.is_fair and not verdict.are_prices_right
    assert verdict.first_difference == tick
    assert verdict.faults[0].startswith(f"prices differ from tick {tick} on: ")
    assert verdict.is_hash_right and verdict.is_peak_right


def test_a_cut_or_prolonged_game_differs_where_the_shorter_list_ends():
    record = make_record(1)
    n = len(record["prices"])
    longer = record | {"prices": [*record["prices"], 0.5]}
    assert verify(longer).first_difference == n
    assert "0.5 in the record, nothing from the seed" in verify(longer).faults[0]
    shorter = record | {"prices": record["prices"][:-1]}
    assert verify(shorter).first_difference == n - 1
    assert "nothing in the record" in verify(shorter).faults[0]


def test_each_fault_is_named_alone():
    record = make_record(2)
    fair = record["provablyFair"]
    verdict = verify(record | {"provablyFair": fair | {"serverSeedHash": "0" * 64}})
    assert not verdict.is_hash_right
    assert len(verdict.faults) == 1 and "SHA-256" in verdict.faults[0]
    verdict = verify(record | {"peakMultiplier": 99.0})
    assert not verdict.is_peak_right
    assert len(verdict.faults) == 1 and "the peak is 99.0 in the record" in verdict.faults[0]
    wrong_rug = [*record["prices"][:-1], 0.019]
    verdict = verify(record | {"prices": wrong_rug})
    assert not verdict.is_rug_price_right
    assert verdict.first_difference == len(wrong_rug) - 1


def test_another_server_seed_is_found_by_hash_and_prices():
    record = make_record(3)
    record["provablyFair"]["serverSeed"] = simulated_seed(3, 99, DAY)[0]
    verdict = verify(record)
    assert not verdict.is_hash_right and not verdict.are_prices_right
    assert verdict.is_rug_price_right  # the record agrees with itself


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prices": None}, r"prices: .*; received None"),
        ({"prices": [1.0]}, "prices: List should have at least 2 items"),
        ({"prices": [1.0, "0.02"]}, r"prices\.1: .*received '0.02'"),
        ({"prices": [1.0, float("nan")]}, r"prices\.1: .*finite"),
        ({"gameVersion": "v2"}, "gameVersion: .*received 'v2'"),
        ({"provablyFair": {"serverSeedHash": ""}}, r"provablyFair\.serverSeed: Field required"),
    ],
)
def test_a_malformed_record_is_refused_by_field(change, message):
    with pytest.raises(ValueError, match=f"record of game 2026.*: {message}"):
        verify(deepcopy(make_record()) | change)


@pytest.mark.parametrize("record", [None, [], "game", {}])
def test_what_is_no_record_is_refused(record):
    with pytest.raises(ValueError, match=r"record of game None: .* expected id, gameVersion"):
        verify(record)


# games in bulk


@given(st.integers(0, 2**64 - 1), st.integers(0, 60), st.integers(0, 12))
def test_a_game_depends_on_seed_and_number_alone(seed, first, n_games):
    batch = play_games(n_games, seed, first)
    assert len(batch) == n_games
    for k, one in enumerate(batch):
        np.testing.assert_array_equal(one, play_games(1, seed, first + k).prices)


def test_games_resumed_in_a_larger_array_are_the_same():
    whole = play_games(300, 1)
    streams, offsets = open_streams(1, np.arange(300)), np.zeros(301, dtype=np.int64)
    small = np.empty(4 * MAX_TICKS)
    played = game._play(streams, 0, small, offsets)
    assert 0 < played < 300
    large = np.concatenate([small[: offsets[played]], np.empty(100 * MAX_TICKS)])
    assert game._play(streams, played, large, offsets) == 300
    np.testing.assert_array_equal(offsets, whole.offsets)
    np.testing.assert_array_equal(large[: offsets[-1]], whole.prices)


@compile_kernel
def walk(stream, out):
    """A game tick by tick, as an environment steps it; returns its rug tick."""
    price = lowest = out[0] = 1.0
    tick = 0
    while True:
        tick += 1
        price, is_rug = advance(stream, price)
        if is_rug:
            out[tick] = rug_price(lowest)
            return tick
        lowest = min(lowest, price)
        out[tick] = price


def test_games_stepped_tick_by_tick_are_those_of_the_batch():
    batch = play_games(30, 11)
    for k, one in enumerate(batch):
        out = np.empty(MAX_TICKS + 2)
        assert walk(open_streams(11, k)[0], out) == batch.rug_tick[k]
        np.testing.assert_array_equal(out[: len(one)], one)


def test_every_game_begins_at_one_and_ends_by_the_rug_law():
    batch = play_games(2_000, 2)
    for one, peak in zip(batch, batch.peak_multiplier, strict=True):
        assert one[0] == 1.0
        assert one[-1] == RUG_SHARE * one[:-1].min()
        assert peak == one[:-1].max()
    assert batch.offsets[-1] == len(batch.prices)
    np.testing.assert_array_equal(batch.rug_tick, [len(one) - 1 for one in batch])


def test_batch_and_server_seeds_follow_one_law(replayed):
    batch = play_games(20_000, 6)

    def alive_at(games: Games, tick: int) -> np.ndarray:
        return games.prices[games.offsets[:-1][games.rug_tick > tick] + tick]

    samples = {
        "rug tick": lambda games: games.rug_tick,
        "first price": lambda games: alive_at(games, 1),
        "price at 40": lambda games: alive_at(games, 40),
        "price at 200": lambda games: alive_at(games, 200),
        "peak": lambda games: games.peak_multiplier,
        "rug price": lambda games: games.prices[games.offsets[1:] - 1],
    }
    for name, sample in samples.items():
        # the p-value of equal laws is below .001 once in 1,000 seeds
        assert stats.ks_2samp(sample(replayed), sample(batch)).pvalue > 1e-3, name


def test_lists_become_games_with_their_gaps_and_ends():
    nan = float("nan")
    games = Games.from_lists([[1, 1.1, 0.02], [nan, nan, 1.2, nan, 1.3]], [True, False])
    np.testing.assert_array_equal(games.offsets, [0, 3, 8])
    np.testing.assert_array_equal(games.first_tick, [0, 2])
    np.testing.assert_array_equal(games.last_tick, [2, 4])
    np.testing.assert_array_equal(games.rug_tick, [2, -1])
    np.testing.assert_array_equal(games.peak_multiplier, [1.1, 1.3])
    assert len(Games.from_lists([])) == len(Games.from_lists([]).peak_multiplier) == 0


@pytest.mark.parametrize(
    ("lists", "complete", "message"),
    [
        ([[1.0]], None, "game 0: expected a list of two prices"),
        ([[1.0, 0.02], [1.0, 1.1, np.nan]], None, "game 1: .* the last one seen"),
        ([[0.9, 0.02]], None, r"game 0 begins with 0\.9; expected 1\.0"),
        ([[1.0, 0.02]], [True, False], r"is_complete has shape \(2,\); expected \(1,\)"),
    ],
)
def test_lists_that_are_no_games_are_refused(lists, complete, message):
    with pytest.raises(ValueError, match=message):
        Games.from_lists(lists, complete)


def test_a_negative_number_of_games_is_refused():
    with pytest.raises(ValueError, match="n_games=-1, first=0"):
        play_games(-1, 0)
    with pytest.raises(IndexError, match="game 3 of 3"):
        play_games(3, 0)[3]
