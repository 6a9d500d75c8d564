"""One session's observations, event by event: schema, derived features, presses, faults."""

import dataclasses

import numpy as np
import pytest

from hftlib.sessions.observation import (
    FEATURE_COUNT,
    FEATURE_NAMES,
    Observation,
    ObservationBuilder,
)
from hftlib.sessions.payloads import FLOAT32_MAX
from hftlib.sessions.vocabulary import ACTIVE, COOLDOWN, PRESALE, RUGGED
from tests.wire_events import (
    START_NS,
    TICK_NS,
    TRACE,
    cooldown_update,
    iso_time,
    player_update,
    rug_update,
    tick_update,
)


class TestObservationSchema:
    def test_feature_count_matches_spec(self):
        """36 features as defined in observation-space-design.md"""
        assert FEATURE_COUNT == 36
        assert len(FEATURE_NAMES) == 36

    def test_observation_to_numpy(self):
        """Observation converts to numpy array of correct shape"""
        obs = Observation(
            tick=100, price=2.5, game_phase=2, cooldown_timer_ms=0,
            allow_pre_round_buys=False, active=True, rugged=False,
            connected_players=200, game_id="test-game",
            balance=1.0, position_qty=0.1, avg_entry_price=2.0,
            cumulative_pnl=0.05, total_invested=0.2,
            rugpool_amount=5.0, rugpool_threshold=10.0, instarug_count=3,
            average_multiplier=3.5, count_2x=40, count_10x=5,
            count_50x=1, count_100x=0, highest_today=150.0,
            price_velocity=0.1, price_acceleration=0.01,
            unrealized_pnl=0.05, position_pnl_pct=0.25,
            rugpool_ratio=0.5, balance_at_risk_pct=0.09,
            time_in_position=50, ticks_since_last_action=10,
            bet_amount=0.01,
        )  # fmt: skip
        arr = obs.to_numpy()
        assert arr.shape == (36,)
        assert arr.dtype == np.float32

    def test_feature_names_order(self):
        """Feature names match observation dataclass field order"""
        assert FEATURE_NAMES[0] == "tick"
        assert FEATURE_NAMES[8] == "game_id"  # Will be encoded
        assert FEATURE_NAMES[35] == "latency_ms"


class TestObservationBuilder:
    def test_builds_from_game_state_update(self):
        """Extracts server state features from gameStateUpdate"""
        builder = ObservationBuilder()
        event = {
            "event_name": "gameStateUpdate",
            "data": {
                "tickCount": 100, "price": 2.5, "active": True,
                "rugged": False, "connectedPlayers": 200,
                "cooldownTimer": 0, "allowPreRoundBuys": False,
                "rugpool": {"rugpoolAmount": 5.0, "threshold": 10.0, "instarugCount": 3},
                "averageMultiplier": 3.5, "count2x": 40, "count10x": 5,
                "count50x": 1, "count100x": 0, "highestToday": 150.0,
                "gameId": "test-game",
            }
        }  # fmt: skip
        builder.update(event)
        obs = builder.build()
        assert obs.tick == 100
        assert obs.price == 2.5
        assert obs.rugpool_ratio == 0.5

    def test_computes_derived_features(self):
        """Velocity, acceleration, unrealized_pnl calculated correctly"""
        builder = ObservationBuilder()
        # Feed 3 ticks to compute velocity and acceleration
        for i, price in enumerate([1.0, 1.5, 2.5]):
            builder.update({"data": {"tickCount": i, "price": price}})
        obs = builder.build()
        assert obs.price_velocity > 0  # Price increasing
        assert obs.price_acceleration > 0  # Acceleration increasing

    def test_updates_from_player_update(self):
        """Player state features from playerUpdate"""
        builder = ObservationBuilder()
        builder.update({
            "event_name": "playerUpdate",
            "data": {
                "cash": 1.5, "positionQty": 0.1, "avgCost": 2.0,
                "cumulativePnL": 0.05, "totalInvested": 0.2,
            }
        })  # fmt: skip
        obs = builder.build()
        assert obs.balance == 1.5
        assert obs.position_qty == 0.1

    def test_to_numpy_shape(self):
        """Output numpy array has correct shape"""
        builder = ObservationBuilder()
        builder.update({"data": {"tickCount": 1, "price": 1.0}})
        arr = builder.to_numpy()
        assert arr.shape == (FEATURE_COUNT,)
        assert arr.dtype == np.float32


def at(n_ticks: float) -> str:
    """Time so many ticks after the start."""
    return iso_time(START_NS + int(n_ticks * TICK_NS))


def game_event(payload: dict, n_ticks: float | None = None) -> dict:
    event = {"event": "gameStateUpdate", "data": payload}
    return event if n_ticks is None else event | {"ts": at(n_ticks)}


def player_event(*args: float, **fields: object) -> dict:
    return {"event": "playerUpdate", "data": player_update(*args, **fields)}


def test_every_field_of_the_dataclass_is_a_feature_but_the_trade():
    assert [field.name for field in dataclasses.fields(Observation)] == [*FEATURE_NAMES, "trade_id"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_an_observation_that_float32_cannot_hold_is_refused_by_name(value):
    fields = dict.fromkeys(FEATURE_NAMES, 0.0) | {"game_id": "g", "price": value}
    with pytest.raises(ValueError, match="price="):
        Observation(**fields).to_numpy()


def test_before_the_first_event_everything_is_zero_but_the_price():
    expected = np.zeros(36, np.float32)
    expected[1] = 1.0
    assert np.array_equal(ObservationBuilder().to_numpy(), expected)


@pytest.mark.parametrize(
    "event",
    [
        {"event_name": "gameStateUpdate", "data": tick_update("g", 7, 1.5)},
        {"event": "gameStateUpdate", "data": [TRACE, tick_update("g", 7, 1.5)]},
        {"data": tick_update("g", 7, 1.5)},
        {"game_id": "g", "tick": 7, "price": 1.5, "rugged": False},
        {"game_id": "g", "tick": 7, "price": 1.5, "event_name": "gameStateUpdate"},
    ],
)
def test_every_shape_of_an_event_says_the_same(event):
    builder = ObservationBuilder()
    assert builder.update(event)
    seen = builder.build()
    assert (seen.tick, seen.price, seen.game_id, seen.game_phase) == (7, 1.5, "g", ACTIVE)


@pytest.mark.parametrize(
    ("payload", "phase", "is_kept"),
    [
        (cooldown_update("g", 15_000), COOLDOWN, False),
        (cooldown_update("g", 10_000), PRESALE, False),
        (tick_update("g", 0, 1.0, active=False, cooldownTimer=10_000), COOLDOWN, False),
        (tick_update("g", 0, 1.0), ACTIVE, True),
        (tick_update("g", 0, 1.0, allowPreRoundBuys=True), ACTIVE, True),
        (rug_update("g", 5, 0.02), RUGGED, True),
        (rug_update("g", 5, 0.02) | {"active": False}, RUGGED, True),
        ({"gameId": "g", "tickCount": 3, "cooldownTimer": 100}, COOLDOWN, False),
        ({"gameId": "g", "active": True}, ACTIVE, False),
    ],
)
def test_phase_is_rugged_before_active_before_presale(payload, phase, is_kept):
    builder = ObservationBuilder()
    assert builder.update(game_event(payload)) is is_kept
    assert builder.build().game_phase == phase


def test_velocity_and_acceleration_are_per_tick_and_begin_anew_with_each_game():
    builder = ObservationBuilder()
    seen = []
    for game, tick, price in [
        ("a", 0, 1.0),
        ("a", 2, 2.0),
        ("a", 3, 4.0),
        ("a", 7, 4.0),
        ("b", 0, 9.0),
    ]:
        builder.update(game_event(tick_update(game, tick, price)))
        seen.append((builder.build().price_velocity, builder.build().price_acceleration))
    assert seen == [(0, 0), (0.5, 0), (2, 1.5), (0, -0.5), (0, 0)]


def test_derived_features_of_a_position_have_their_closed_forms():
    builder = ObservationBuilder()
    builder.update(player_event(3.0, 2.0, avgCost=1.25))
    builder.update(game_event(tick_update("g", 4, 1.5)))
    seen = builder.build()
    assert seen.unrealized_pnl == 0.5
    assert seen.position_pnl_pct == 0.2
    assert seen.balance_at_risk_pct == 0.5
    assert seen.rugpool_ratio == 0.0


def test_an_update_without_a_field_leaves_it_as_it_was():
    builder = ObservationBuilder()
    builder.update(
        game_event(tick_update("g", 0, 1.0, averageMultiplier=4.5, rugpool={"threshold": 10}))
    )
    builder.update({"event": "gameStatePlayerUpdate", "data": {"rugpool": {"rugpoolAmount": 2.5}}})
    builder.update(game_event({"gameId": "g", "tickCount": 1, "price": 1.25, "active": True}))
    seen = builder.build()
    assert (seen.average_multiplier, seen.connected_players, seen.rugpool_ratio) == (4.5, 201, 0.25)


def test_time_in_position_counts_from_the_tick_of_the_entry():
    builder = ObservationBuilder()
    seen = []
    for tick in range(8):
        builder.update(game_event(tick_update("g", tick, 1.0)))
        seen.append(builder.build().time_in_position)
        if tick in (1, 6):
            builder.update(player_event(1.0, 2.0))
        if tick == 2:
            builder.update(player_event(0.5, 3.0))  # more of the same position
        if tick == 4:
            builder.update(player_event(4.0, 0.0))
    assert seen == [0, 0, 1, 2, 3, 0, 0, 1]


def test_a_position_bought_before_the_round_is_entered_at_tick_0():
    builder = ObservationBuilder()
    builder.update(game_event(rug_update("a", 30, 0.02)))
    builder.update(game_event(cooldown_update("b", 5_000)))
    builder.update(player_event(1.0, 2.0))
    builder.update(game_event(tick_update("b", 3, 1.0)))
    assert builder.build().time_in_position == 3


def press_event(button: str, tick: int, n_ticks: float, **fields: object) -> dict:
    data = {"button_id": button, "game_id": "g", "tick": tick, "ts": at(n_ticks), **fields}
    return {"event_name": "button_event", "data": data}


def test_ticks_since_the_last_action_are_those_of_this_game():
    builder = ObservationBuilder()
    builder.update(press_event("BUY", 2, 2.5, bet_amount=0.1))
    builder.update(press_event("INC_01", 4, 4.5, bet_amount=0.11))
    seen = []
    for tick in range(6):
        builder.update(game_event(tick_update("g", tick, 1.0), tick))
        seen.append((builder.build().ticks_since_last_action, builder.build().bet_amount))
    builder.update(game_event(tick_update("h", 1, 1.0), 10))
    assert seen == [(0, 0), (1, 0), (2, 0), (1, 0.1), (2, 0.1), (3, 0.11)]
    assert builder.build().ticks_since_last_action == 1
    assert builder.build().bet_amount == 0.11


def test_a_press_is_seen_after_its_time_and_its_execution_from_the_answer_on():
    builder = ObservationBuilder()
    fate = {"execution_tick": 2, "execution_price": 1.75, "latency_ms": 500.0, "trade_id": "t1"}
    builder.update(press_event("BUY", 1, 1.0, server_ts=at(3), bet_amount=0.5, **fate))
    seen = []
    for tick in range(5):
        builder.update(game_event(tick_update("g", tick, 1.0), tick))
        now = builder.build()
        seen.append((now.bet_amount, now.execution_tick, now.execution_price, now.trade_id))
    before, pressed, answered = (0, 0, 0, None), (0.5, 0, 0, None), (0.5, 2, 1.75, "t1")
    assert seen == [before, before, pressed, answered, answered]
    assert builder.build().client_timestamp == 250.0
    assert builder.build().latency_ms == 500.0
    builder.update(game_event(tick_update("h", 0, 1.0), 9))
    assert builder.to_numpy()[32:].tolist() == [0, 0, 0, 0]


def test_a_press_that_was_refused_leaves_no_execution():
    builder = ObservationBuilder()
    builder.update(press_event("BUY", 1, 1.0, server_ts=at(2), bet_amount=0.5))
    builder.update(game_event(tick_update("g", 3, 1.0), 3))
    assert builder.build().bet_amount == 0.5
    assert builder.to_numpy()[32:].tolist() == [0, 0, 0, 0]


def test_without_time_stamps_the_order_of_the_calls_is_that_of_time():
    builder = ObservationBuilder()
    builder.update(game_event(tick_update("g", 5, 1.0)))
    builder.press({"button_id": "SELL", "tick": 5, "bet_amount": 0.2})
    assert builder.build().bet_amount == 0.0
    builder.update(game_event(tick_update("g", 7, 1.0)))
    assert (builder.build().bet_amount, builder.build().ticks_since_last_action) == (0.2, 2)


def test_a_game_after_its_rug_and_an_earlier_tick_are_ignored_and_counted():
    builder = ObservationBuilder()
    for payload in (
        tick_update("a", 0, 1.0),
        rug_update("a", 1, 0.02),
        tick_update("b", 0, 1.0),
        tick_update("b", 1, 1.5),
    ):
        assert builder.update(game_event(payload))
    before = builder.to_numpy()
    assert not builder.update(game_event(rug_update("a", 4, 0.02)))
    assert not builder.update(game_event(tick_update("b", 0, 7.0)))
    assert np.array_equal(builder.to_numpy(), before)
    assert builder.counts.n_late == 2


def test_a_cooldown_before_the_second_rug_event_leaves_the_unfinished_game_alone():
    builder = ObservationBuilder()
    builder.update(game_event(tick_update("a", 0, 1.0)))
    builder.update(game_event(tick_update("a", 1, 2.0)))
    builder.update(game_event(cooldown_update("b", 15_000)))
    assert (builder.build().tick, builder.build().price) == (0, 1.0)
    builder.update(game_event(tick_update("a", 2, 4.0)))
    seen = builder.build()
    assert (seen.price_velocity, seen.price_acceleration, seen.game_id) == (2.0, 1.0, "a")


def test_the_game_feature_is_in_the_unit_interval_and_the_same_all_game():
    builder = ObservationBuilder()
    codes = []
    for game in ("a", "a", "b"):
        builder.update(game_event(tick_update(game, len(codes), 1.0)))
        codes.append(float(builder.to_numpy()[8]))
    assert codes[0] == codes[1] != codes[2]
    assert all(0 <= code < 1 for code in codes)


def test_refused_fields_are_named_and_the_last_good_value_stays():
    builder = ObservationBuilder()
    builder.update(game_event(tick_update("g", 0, 1.5)))
    builder.update(game_event(tick_update("g", 1, float("nan"), connectedPlayers=True)))
    builder.update({"event": "playerUpdate", "data": [TRACE]})
    seen = builder.build()
    assert (seen.tick, seen.price, seen.connected_players) == (1, 1.5, 201)
    assert builder.counts.refused == {"price": 1, "connectedPlayers": 1, "lost payload": 1}
    assert builder.counts.defaults == {"": 2}


def test_derived_features_beyond_float32_are_clipped_and_counted():
    builder = ObservationBuilder()
    builder.update(player_event(1.0, 3e38, avgCost=2.0))
    builder.update(game_event(tick_update("g", 0, 3e38)))
    assert np.isfinite(builder.to_numpy()).all()
    assert builder.build().unrealized_pnl == FLOAT32_MAX
    assert builder.counts.n_clipped == 1
