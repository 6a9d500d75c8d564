"""Laws of the simulated server: causality, fills, money, and how players press."""

import numpy as np
import pytest

from hftlib.sessions import account as acc
from hftlib.sessions.client import BUTTONS, FIRST_ACTION, FIRST_SHARE, GAP_US, NEVER
from hftlib.sessions.game import Games, play_games
from hftlib.sessions.journal import ACCOUNT, BOUGHT, DECIDED, SOLD, STAKED
from hftlib.sessions.players import PLAYERS, propensities
from hftlib.sessions.rounds import RUG, SETTLEMENT, START, TICK, schedule_rounds
from hftlib.sessions.server import TOP_UP, play_session
from hftlib.sessions.vocabulary import ACTIVE, MIN_BET, N_ADJUSTMENTS, PRESALE, SIDEBET_TICKS

N_GAMES, SEED, CASH, FEE = 12, 5, 1.0, 0.01
RANDOM = sorted(name for name, player in PLAYERS.items() if player.is_random)
HABITUAL = sorted(set(PLAYERS) - set(RANDOM))


@pytest.fixture(scope="module")
def games():
    return play_games(N_GAMES, 11)


@pytest.fixture(scope="module")
def recordings(games):
    return {
        name: play_session(games, player, SEED, cash=CASH, fee=FEE)
        for name, player in PLAYERS.items()
    }


def server_ticks(recording):
    """Events that begin a tick at the server, in order."""
    return recording.events[np.isin(recording.events["kind"], (START, TICK, RUG))]


def shown_ticks(recording):
    """The same events as the client has them, and when."""
    entries = recording.log[recording.log["event"] >= 0]
    events = recording.events[entries["event"]]
    is_tick = np.isin(events["kind"], (START, TICK, RUG))
    return events[is_tick], entries["ts_us"][is_tick]


def buttons(recording):
    return np.array(BUTTONS)[recording.presses["button"]]


@pytest.mark.parametrize("name", PLAYERS)
def test_client_has_everything_once_in_the_order_sent(recordings, name):
    recording = recordings[name]
    log = recording.log
    assert np.diff(log["ts_us"]).min() >= GAP_US
    events, messages = log["event"][log["event"] >= 0], -1 - log["event"][log["event"] < 0]
    np.testing.assert_array_equal(events, np.arange(len(recording.events)))
    np.testing.assert_array_equal(messages, np.arange(len(recording.messages)))
    is_event = log["event"] >= 0
    assert (log["ts_us"][is_event] > recording.events["send_us"]).all()


@pytest.mark.parametrize("name", PLAYERS)
def test_presses_are_made_on_what_the_screen_shows(recordings, games, name):
    recording = recordings[name]
    events, shown_us = shown_ticks(recording)
    presses = recording.presses[np.isin(recording.presses["phase"], (ACTIVE,))]
    latest = np.searchsorted(shown_us, presses["press_us"], side="right") - 1
    np.testing.assert_array_equal(presses["game"], events["game"][latest])
    np.testing.assert_array_equal(presses["tick"], events["tick"][latest])
    place = games.offsets[presses["game"]] + presses["tick"]
    np.testing.assert_array_equal(presses["price"], games.prices[place])


@pytest.mark.parametrize("name", PLAYERS)
def test_no_press_is_filled_before_it_arrives(recordings, games, name):
    recording = recordings[name]
    done = recording.presses[recording.presses["executed_tick"] >= 0]
    assert len(done) > 0
    place = games.offsets[done["game"]] + done["executed_tick"]
    np.testing.assert_array_equal(done["executed_price"], games.prices[place])
    assert (done["executed_tick"] < games.rug_tick[done["game"]]).all()
    ticks = server_ticks(recording)
    keys = {(game, tick): k for k, (game, tick) in enumerate(ticks[["game", "tick"]].tolist())}
    active = done[done["phase"] == ACTIVE]
    at = np.array([keys[pair] for pair in active[["game", "executed_tick"]].tolist()], dtype=int)
    # the tick after the one of the fill begins after the press, and the fill before the answer
    assert (ticks["send_us"][at + 1] > active["press_us"]).all()
    assert (ticks["send_us"][at] < active["answer_us"]).all()
    assert (done["press_us"] < done["answer_us"]).all()
    # a purchase before the round that is late is executed on its first ticks
    assert (done["executed_tick"][done["phase"] == PRESALE] <= 2).all()


def test_orders_that_miss_the_game_are_refused():
    games = Games.from_lists([[1.0, 1.1, 0.02]] * 60)
    recording = play_session(games, PLAYERS["early"], 2)
    orders = recording.presses[recording.presses["button"] >= FIRST_ACTION]
    refused = orders[orders["executed_tick"] < 0]
    assert 0 < len(refused) < len(orders)
    assert (refused["answer_us"] == NEVER).all()


@pytest.mark.parametrize("name", PLAYERS)
def test_players_see_only_the_past(recordings, games, name):
    game, tick = 6, 10
    prices = games.prices.copy()
    at = games.offsets[game] + tick
    prices[at:] = np.random.default_rng(1).permutation(prices[at:])
    other = Games(prices, games.offsets, games.first_tick, games.is_complete)
    before, after = recordings[name], play_session(other, PLAYERS[name], SEED, cash=CASH, fee=FEE)
    ticks = server_ticks(before)
    is_first = (ticks["game"] == game) & (ticks["tick"] == tick)
    (scrambled_us,) = ticks["send_us"][is_first]
    early = [one.presses[one.presses["press_us"] < scrambled_us] for one in (before, after)]
    fields = [
        field for field in early[0].dtype.names if not field.startswith(("exec", "ans", "mes"))
    ]
    assert len(early[0]) > 0
    np.testing.assert_array_equal(early[0][fields], early[1][fields])
    early = [one[one["answer_us"] < scrambled_us] for one in early]
    np.testing.assert_array_equal(early[0], early[1])


@pytest.mark.parametrize("name", PLAYERS)
def test_cash_changes_by_fills_settlements_and_top_ups_alone(recordings, games, name):
    messages = recordings[name].messages
    accounts = messages["account"]
    # the first account is that of the connection; later ones follow what changed them
    assert messages["kind"][0] == ACCOUNT
    assert accounts[0, acc.CASH] == CASH
    cash, qty, n_checked = CASH, 0.0, 0
    for k in range(1, len(messages)):
        kind, amount = messages["kind"][k], messages["amount"][k]
        if kind != ACCOUNT:
            continue
        follows = messages["kind"][k + 1] if k + 1 < len(messages) else ACCOUNT
        amount = messages["amount"][k + 1] if follows != ACCOUNT else 0.0
        new_cash, new_qty = accounts[k, acc.CASH], accounts[k, acc.QTY]
        game, tick = messages["game"][k], messages["tick"][k]
        expected = {BOUGHT: -amount, SOLD: amount, STAKED: -amount, DECIDED: amount, ACCOUNT: 0.0}
        change = expected[follows]
        if tick == games.rug_tick[min(game, N_GAMES - 1)] and follows in (ACCOUNT, DECIDED):
            change += qty * games[game][-1]
            assert new_qty == 0
        if new_cash == CASH and cash < TOP_UP * CASH and follows == ACCOUNT and tick == 0:
            change = CASH - cash
        # sums of a few floats near 1
        assert new_cash == pytest.approx(cash + change, abs=1e-12)
        cash, qty, n_checked = new_cash, new_qty, n_checked + 1
    assert n_checked > 10


@pytest.mark.parametrize("name", ["early", "bracket", "presale", "partial", "restless"])
def test_profit_of_a_game_is_what_came_in_less_what_was_paid(recordings, games, name):
    messages = recordings[name].messages
    n_games = 0
    for game in range(N_GAMES):
        own = messages[messages["game"] == game]
        bought, sold = (own["amount"][own["kind"] == kind].sum() for kind in (BOUGHT, SOLD))
        if bought == 0:
            continue
        held = own["qty"][own["kind"] == BOUGHT].sum() - own["qty"][own["kind"] == SOLD].sum()
        expected = sold + held * games[game][-1] - bought
        # differences of quantities lose digits
        assert own["account"][-1, acc.PNL] == pytest.approx(expected, abs=1e-10)
        n_games += 1
    assert n_games > 3


@pytest.mark.parametrize("name", ["sidebettor", "restless"])
def test_side_bets_are_decided_by_the_rug_or_after_forty_ticks(recordings, games, name):
    messages = recordings[name].messages
    decided = messages[messages["kind"] == DECIDED]
    age = games.rug_tick[decided["game"]] - decided["since"]
    is_won = age <= SIDEBET_TICKS
    assert 0 < is_won.sum() < len(decided)
    np.testing.assert_array_equal(
        decided["amount"], np.where(is_won, 5 * decided["decided_stake"], 0)
    )
    last = np.minimum(games.rug_tick[decided["game"]], decided["since"] + SIDEBET_TICKS)
    np.testing.assert_array_equal(decided["tick"], last)
    assert len(decided) == (messages["kind"] == STAKED).sum()


def test_player_with_little_cash_pays_in_between_games(recordings, games):
    recording = recordings["restless"]
    cash = recording.messages["account"][:, acc.CASH]
    begins = recording.messages["tick"] == 0
    topped = np.flatnonzero(begins[1:] & (np.diff(cash) > 0) & (cash[:-1] < TOP_UP * CASH)) + 1
    assert len(topped) > 0
    assert (cash[topped] == CASH).all()
    sent = recording.events[recording.events["kind"] == SETTLEMENT]
    assert len(sent) == N_GAMES


def test_fee_is_lost_on_both_sides(games):
    free, dear = (play_session(games, PLAYERS["early"], SEED, fee=fee) for fee in (0.0, 0.1))
    for recording, fee in ((free, 0.0), (dear, 0.1)):
        for kind, share in ((BOUGHT, 1 / (1 - fee)), (SOLD, 1 - fee)):
            done = recording.messages[recording.messages["kind"] == kind]
            # one rounding each in quantity and amount
            np.testing.assert_allclose(
                done["amount"], share * done["qty"] * done["price"], rtol=1e-9
            )


@pytest.mark.parametrize("name", PLAYERS)
def test_same_seed_gives_the_same_session(recordings, games, name):
    again = play_session(games, PLAYERS[name], SEED, cash=CASH, fee=FEE)
    for table in ("events", "log", "messages", "presses"):
        np.testing.assert_array_equal(getattr(again, table), getattr(recordings[name], table))
    other = play_session(games, PLAYERS[name], SEED + 1, cash=CASH, fee=FEE)
    assert not np.array_equal(other.events["send_us"], again.events["send_us"])


@pytest.mark.parametrize("name", RANDOM)
def test_random_players_press_on_the_tick_they_see_one_of_each_at_the_most(recordings, name):
    recording = recordings[name]
    presses = recording.presses
    assert (presses["phase"] == ACTIVE).all()
    assert not np.isin(presses["button"], range(FIRST_SHARE, FIRST_ACTION)).any()
    _, shown_us = shown_ticks(recording)
    latest = np.searchsorted(shown_us, presses["press_us"], side="right") - 1
    next_us = np.append(recording.log["ts_us"], NEVER)
    after = np.searchsorted(recording.log["ts_us"], shown_us[latest], side="right")
    assert (presses["press_us"] < next_us[after]).all()  # nothing else was shown in between
    is_action = presses["button"] >= FIRST_ACTION
    for part in (presses[is_action], presses[~is_action]):
        pairs = np.stack([part["game"], part["tick"]], axis=1)
        assert len(np.unique(pairs, axis=0)) == len(part) > 0


@pytest.mark.parametrize("name", RANDOM)
def test_random_players_press_what_the_screen_allows(recordings, name):
    presses = recordings[name].presses
    which = np.array(BUTTONS)[presses["button"]]
    assert (presses["qty"][which == "BUY"] == 0).all()
    assert (presses["qty"][which == "SELL"] > 0).all()
    needs_bet = np.isin(which, ("BUY", "SIDEBET"))
    # the player reads its screen in single precision
    assert (presses["bet"][needs_bet] >= MIN_BET * (1 - 1e-7)).all()
    assert (presses["balance"][needs_bet] >= MIN_BET * (1 - 1e-7)).all()


def test_habits_show_in_what_is_pressed(recordings, games):
    own = {name: buttons(recordings[name]).tolist() for name in HABITUAL}
    assert set(own["sidebettor"]) >= {"SIDEBET"}
    assert not {"BUY", "SELL"} & set(own["sidebettor"])
    assert {"SELL_25", "SELL_100", "SELL"} <= set(own["partial"])
    shares = [one for one in own["partial"] if one.startswith("SELL_")]
    assert shares.count("SELL_25") <= shares.count("SELL_100") + 1
    assert "DOUBLE" in own["doubler"]
    assert "CLEAR" in own["hesitant"]
    bought = recordings["presale"].presses[np.array(own["presale"]) == "BUY"]
    assert (bought["phase"] == PRESALE).all()
    text = " ".join(own["hesitant"])
    assert "INC_01 INC_01" in text


def test_propensities_of_a_closed_form():
    screens = np.zeros((4, 36), dtype=np.float32)
    screens[:, 2] = ACTIVE
    screens[:, 9] = 1.0  # balance
    screens[0, 31] = 0.01  # flat, with a bet
    screens[1, 10] = screens[1, 11] = screens[1, 1] = 0.5  # in position at no profit, without a bet
    screens[2, 9] = 0.0  # broke
    screens[3, 2] = PRESALE
    chances = propensities("restless", screens, np.zeros(4, dtype=bool)).reshape(4, 4, 9)
    np.testing.assert_allclose(chances.sum(axis=(1, 2)), 1.0, rtol=1e-12)
    # flat: after CLEAR and with HALF, DOUBLE, MAX as they come
    assert chances[0, :, 0].tolist() == pytest.approx([1 / 27, 1 / 27, 0, 1 / 27])
    assert chances[0, :, 1].tolist() == pytest.approx([1 / 9, 0, 0, 0])
    # in position without a bet: waiting or selling; a side bet once the bet is set
    assert chances[1, :, 0].tolist() == pytest.approx([1 / 18, 0, 1 / 18, 0])
    assert chances[1, :, 8].tolist() == pytest.approx([1 / 27, 0, 1 / 27, 1 / 27])
    assert chances[2, 0].tolist() == pytest.approx([1 / 9] * N_ADJUSTMENTS)
    assert chances[3, 0, 0] == 1.0
    staked = propensities("restless", screens, np.ones(4, dtype=bool)).reshape(4, 4, 9)
    assert staked[:, 3].sum() == 0


def test_leaner_sells_gains_sooner_than_losses():
    screens = np.zeros((2, 36), dtype=np.float32)
    screens[:, 2], screens[:, 10], screens[:, 11] = ACTIVE, 1.0, 1.0
    screens[:, 1] = 0.8, 1.3
    loss, gain = propensities("leaner", screens, np.zeros(2)).reshape(2, 4, 9)[:, 2].sum(axis=1)
    assert 0 < loss < gain


@pytest.mark.parametrize(
    ("name", "columns", "text"),
    [
        ("early", 36, "no propensities"),
        ("nobody", 36, "expected one of"),
        ("explorer", 35, "shape"),
    ],
)
def test_propensities_refuse_what_they_cannot_know(name, columns, text):
    with pytest.raises(ValueError, match=text):
        propensities(name, np.zeros((3, columns), dtype=np.float32), np.zeros(3))


def test_server_refuses_what_it_cannot_play(games):
    open_end = Games(games.prices, games.offsets, games.first_tick, ~games.is_complete)
    with pytest.raises(ValueError, match="no rug"):
        play_session(open_end, PLAYERS["early"], 1)
    with pytest.raises(ValueError, match="fee=1"):
        play_session(games, PLAYERS["early"], 1, fee=1.0)
    with pytest.raises(ValueError, match="rug_ticks"):
        schedule_rounds(np.array([0, 3]), np.random.default_rng(0))
