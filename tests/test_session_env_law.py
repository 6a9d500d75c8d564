"""What the crash game's environment must keep: money, causality, the law, the recorder's view."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.envs import SessionEnv, SessionRules, SessionVecEnv
from hftlib.envs.session_batch import WARM_UP_SEED
from hftlib.envs.session_kernel import CONNECTED_PLAYERS, INSTARUG_INCOME
from hftlib.sessions import board
from hftlib.sessions.game import play_games
from hftlib.sessions.observation import ObservationBuilder
from hftlib.sessions.theory import holding_values, sidebet_value
from hftlib.sessions.vocabulary import (
    ADJUSTMENTS,
    BUTTON_EVENT,
    BUY,
    GAME_STATE,
    PLAYER_STATE,
    SELL,
    SIDEBET,
    WAIT,
)

MAX = ADJUSTMENTS.index("MAX")
GAME_ID = "20251215-0000000000000001"
SEEDS = st.integers(0, 10_000)
LATENCIES = st.integers(0, 5)


@dataclass
class Server:
    """The rules in plain Python, with a queue of orders: slow, and written on its own."""

    rules: SessionRules
    prices: list[float]
    tick: int = 0
    cash: float = 0.0
    qty: float = 0.0
    average: float = 0.0
    spent: float = 0.0
    profit: float = 0.0
    invested: float = 0.0
    stake: float = 0.0
    stake_tick: int = 0
    bet: float = 0.0
    n_executed: int = 0
    n_invalid: int = 0
    n_refused: int = 0
    queue: list[dict] = field(default_factory=list)
    presses: list[dict] = field(default_factory=list)
    players: list[dict] = field(default_factory=list)  # payloads once a tick has been settled
    answers: list[dict] = field(default_factory=list)  # and after what was pressed on it

    def __post_init__(self):
        self.cash, self.bet = self.rules.initial_cash, self.rules.first_bet
        self.players.append(self.payload())

    @property
    def equity(self):
        return self.cash + self.qty * self.prices[self.tick]

    def payload(self):
        return {
            "cash": self.cash,
            "positionQty": self.qty,
            "avgCost": self.average,
            "cumulativePnL": self.profit,
            "totalInvested": self.invested,
        }

    def step(self, choice, adjustment):
        if adjustment:
            steps = {"CLEAR": 0.0, "HALF": self.bet / 2, "DOUBLE": 2 * self.bet, "MAX": self.cash}
            steps |= {"INC_001": self.bet + 0.001, "INC_01": self.bet + 0.01}
            steps |= {"INC_10": self.bet + 0.1, "INC_1": self.bet + 1}
            self.bet = min(steps[ADJUSTMENTS[adjustment]], self.cash)
            self.press(ADJUSTMENTS[adjustment])
        if choice != WAIT:
            if self.is_valid(choice):
                order = self.press({BUY: "BUY", SELL: "SELL", SIDEBET: "SIDEBET"}[choice])
                self.queue.append(order | {"press": order, "choice": choice})
            else:
                self.n_invalid += 1
        if self.rules.latency_ticks == 0:
            self.execute()
        self.answers.append(self.payload())
        self.tick += 1
        if self.tick == len(self.prices) - 1:
            self.settle()
        else:
            if self.stake and self.tick == self.stake_tick + 40:
                self.stake = 0.0
            self.execute()
        self.players.append(self.payload())

    def is_valid(self, choice):
        if choice in [order["choice"] for order in self.queue]:
            return False
        if choice == SELL:
            return self.qty > 0
        free = self.qty == 0 if choice == BUY else self.stake == 0
        return free and self.cash >= 0.001 and self.bet >= 0.001

    def press(self, button):
        press = {"button_id": button, "tick": self.tick, "bet_amount": self.bet}
        self.presses.append(press)
        return press

    def execute(self):
        due = [o for o in self.queue if o["tick"] + self.rules.latency_ticks == self.tick]
        for order in due:
            self.queue.remove(order)
            amount = min(order["bet_amount"], self.cash)
            price, kept = self.prices[self.tick], 1.0 - self.rules.fee
            if order["choice"] == SELL:
                received = self.qty * price * kept
                self.cash += received
                self.profit += received - self.spent
                self.qty = self.average = self.spent = 0.0
            elif amount < 0.001:
                self.n_refused += 1
                continue
            elif order["choice"] == BUY:
                bought = amount * kept / price
                self.average = price * bought / bought
                self.cash -= amount
                self.qty, self.spent = bought, amount
                self.invested += amount
            else:
                self.cash -= amount
                self.stake, self.stake_tick = amount, self.tick
            self.n_executed += 1
            order["press"] |= {
                "execution_tick": self.tick,
                "execution_price": price,
                "latency_ms": 250.0 * self.rules.latency_ticks,
            }

    def settle(self):
        self.n_refused += len(self.queue)
        self.queue.clear()
        received = self.qty * self.prices[self.tick]
        self.cash += received
        self.profit += received - self.spent
        self.qty = self.average = self.spent = 0.0
        if self.stake and self.tick - self.stake_tick <= 40:
            self.cash += 5 * self.stake
        self.stake = 0.0


def draw_actions(rng, n):
    """Half of the ticks a wait, half of the buttons none, so that positions are held."""
    actions = rng.integers((4, 9), size=(n, 2))
    actions[rng.random((n, 2)) < 0.5] = 0
    return actions


def draw_game(seed, max_ticks=400):
    """A game of the law, of at most `max_ticks`."""
    games = play_games(20, seed)
    return next(games[k].tolist() for k in range(20) if len(games[k]) <= max_ticks)


def play(rules, prices, actions):
    """Observation, reward, ends, info and masks of each step of a replay, from the reset on."""
    env = SessionEnv(rules)
    observation, info = env.reset(seed=0, options={"prices": prices})
    steps = [(observation, 0.0, False, False, info, env.action_masks())]
    for action in actions[: len(prices) - 1]:
        steps.append((*env.step(action), env.action_masks()))
        if steps[-1][3]:
            break
    return steps


def play_episodes(rules, choose, n_episodes, seed, n_envs=1_024):
    """Sums of rewards, shape (n_envs, n_episodes): the first ones of each copy.

    The first to end among all would be the short ones.
    """
    env = SessionVecEnv(n_envs, rules)
    observations, _ = env.reset(seed=seed)
    returns, done = np.zeros((n_envs, n_episodes + 1)), np.zeros(n_envs, dtype=int)
    copies = np.arange(n_envs)
    while done.min() < n_episodes:
        observations, rewards, terminated, truncated, _ = env.step(choose(env, observations))
        returns[copies, done] += rewards
        done = np.minimum(done + (terminated | truncated), n_episodes)
    return returns[:, :n_episodes]


def mean_and_error(returns):
    return returns.mean(), returns.std() / np.sqrt(returns.size)


@settings(max_examples=40, deadline=None)
@given(SEEDS, LATENCIES, st.sampled_from([0.0, 0.01]), st.sampled_from([0.0, 0.002, 0.3]))
def test_money_is_that_of_a_slow_accountant_to_the_last_bit(seed, latency, fee, first_bet):
    rules = SessionRules(fee=fee, latency_ticks=latency, first_bet=first_bet)
    prices = draw_game(seed)
    actions = draw_actions(np.random.default_rng(seed), len(prices) - 1)
    server = Server(rules, prices)
    steps = play(rules, prices, actions)
    equity = [server.equity]
    for action, (_, reward, terminated, truncated, info, _) in zip(actions, steps[1:], strict=True):
        server.step(*action)
        equity.append(server.equity)
        assert reward == equity[-1] - equity[-2]
        assert (terminated, truncated) == (server.tick == len(prices) - 1, False)
        for name in ("cash", "qty", "stake", "bet", "n_executed", "n_invalid", "n_refused"):
            assert info[name] == getattr(server, name), name
        assert info["equity"] == equity[-1]
    total = sum(step[1] for step in steps)
    # a sum of at most 400 differences of amounts of order 1
    assert total == pytest.approx(equity[-1] - rules.initial_cash, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(SEEDS, LATENCIES, st.data())
def test_the_future_changes_nothing_that_was_seen_earned_or_allowed(seed, latency, data):
    prices = draw_game(seed)
    cut = data.draw(st.integers(0, len(prices) - 2), label="last tick in common")
    rng = np.random.default_rng(seed)
    later = prices[cut + 1 :]
    other = rng.uniform(0.01, 5.0, int(rng.integers(1, 2 * len(later) + 1))).tolist()
    actions = draw_actions(rng, 1_000)
    rules = SessionRules(latency_ticks=latency, fee=0.01)
    one = play(rules, prices, actions)
    two = play(rules, prices[: cut + 1] + other, actions)
    for a, b in zip(one[: cut + 1], two[: cut + 1], strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[5], b[5])
        assert a[1:5] == b[1:5]


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_no_order_is_filled_at_a_price_that_was_seen_when_it_was_sent(seed, latency):
    prices = draw_game(seed)
    actions = draw_actions(np.random.default_rng(seed), len(prices) - 1)
    steps = play(SessionRules(latency_ticks=latency), prices, actions)
    seen = np.stack([step[0] for step in steps])
    fills = np.flatnonzero(np.diff([step[4]["n_executed"] for step in steps])) + 1
    for tick in fills:
        sent = round(seen[tick, 34] / 250)
        assert (seen[tick, 32], sent) == (tick, tick - latency)
        assert seen[tick, 33] == np.float32(prices[tick])
        assert actions[sent, 0] != WAIT
        assert prices[tick] not in prices[: sent + 1]


@pytest.mark.parametrize("hold_ticks", [1, 40, 100])
def test_holding_from_the_start_is_worth_what_theory_says(hold_ticks):
    rules = SessionRules(latency_ticks=0, max_ticks=hold_ticks + 1)

    def choose(env, observations):
        at = observations[:, 0]
        choice = np.where(at == 0, BUY, np.where(at == hold_ticks, SELL, WAIT))
        return np.stack([choice, np.where(at == 0, MAX, 0)], axis=1)

    returns = play_episodes(rules, choose, {1: 200, 40: 40, 100: 20}[hold_ticks], seed=hold_ticks)
    mean, error = mean_and_error(returns)
    assert abs(mean - holding_values(hold_ticks)[-1]) < 3 * error


@pytest.mark.parametrize("latency", [0, 1])
def test_a_side_bet_is_worth_what_theory_says(latency):
    """With a latency too, given that it is executed at all."""
    rules = SessionRules(latency_ticks=latency, max_ticks=41 + latency)

    def choose(env, observations):
        return np.where(observations[:, :1] == 0, [[SIDEBET, MAX]], [[WAIT, 0]])

    returns = play_episodes(rules, choose, 40, seed=1 + latency)
    assert set(np.unique(returns)) <= {-1.0, 0.0, 4.0}
    mean, error = mean_and_error(returns[returns != 0])
    assert error < 0.01
    assert abs(mean - sidebet_value()) < 3 * error


def test_random_play_loses():
    """With bets that stay as they are, so that luck does not drown the answer."""
    rng = np.random.default_rng(0)

    def choose(env, observations):
        choice = np.argmax(rng.random((len(observations), 4)) * env.action_masks()[:, :4], axis=1)
        return np.stack([choice, np.zeros_like(choice)], axis=1)

    mean, error = mean_and_error(play_episodes(SessionRules(), choose, 4, seed=5))
    assert mean < -3 * error


@pytest.mark.parametrize("latency", [0, 1, 3])
def test_observations_are_those_that_a_recording_of_the_same_play_gives(latency):
    """Wire events and presses of the slow server, through the builder of observations."""
    rules = SessionRules(fee=0.01, latency_ticks=latency, first_bet=0.05)
    game = play_games(4, seed=latency)
    env = SessionEnv(rules)
    boards, rings = board.open_boards(1)
    past = play_games(board.RING, WARM_UP_SEED)
    for peak, rug_tick in zip(past.peak_multiplier, past.rug_tick, strict=True):
        board.close_game(boards[0], rings[0], peak, rug_tick, INSTARUG_INCOME)
    for k in range(len(game)):
        prices = game[k].tolist()
        actions = draw_actions(np.random.default_rng((latency, k)), len(prices) - 1)
        server = Server(rules, prices)
        for action in actions:
            server.step(*action)
        observation, _ = env.reset(seed=latency) if k == 0 else env.reset()
        n_seen = 0
        for seen in record(server, boards[0]):
            assert observation[8] == 0
            np.testing.assert_array_equal(np.delete(observation, 8), np.delete(seen, 8))
            if n_seen < len(actions):
                observation = env.step(actions[n_seen])[0]
            n_seen += 1
        assert n_seen == len(prices)
        assert server.n_executed > 0
        board.close_game(
            boards[0], rings[0], game.peak_multiplier[k], game.rug_tick[k], INSTARUG_INCOME
        )


def record(server, shown):
    """What the builder gives on each tick, once the server has answered."""
    builder = ObservationBuilder()
    first = {"button_id": "INC_01", "bet_amount": server.rules.first_bet, "tick": 0}
    builder.update(press_event(-1, first))
    for tick, price in enumerate(server.prices):
        now = {"ts": stamp(tick)}
        payload = {
            "gameId": GAME_ID,
            "tickCount": tick,
            "price": price,
            "active": True,
            "rugged": tick == len(server.prices) - 1,
            "cooldownTimer": 0,
            "allowPreRoundBuys": False,
            "connectedPlayers": CONNECTED_PLAYERS,
            "averageMultiplier": shown[board.AVERAGE],
            "count2x": shown[board.COUNT_2X],
            "count10x": shown[board.COUNT_10X],
            "count50x": shown[board.COUNT_50X],
            "count100x": shown[board.COUNT_100X],
            "highestToday": shown[board.HIGHEST_TODAY],
            "rugpool": {
                "rugpoolAmount": shown[board.RUGPOOL],
                "threshold": board.RUGPOOL_THRESHOLD,
                "instarugCount": shown[board.INSTARUGS],
            },
        }
        builder.update({"event": GAME_STATE, "data": payload} | now)
        builder.update({"event": PLAYER_STATE, "data": server.players[tick]} | now)
        yield builder.to_numpy()
        for press in server.presses:
            if press["tick"] == tick:
                builder.update(press_event(tick, press))
        if tick < len(server.answers):
            builder.update({"event": PLAYER_STATE, "data": server.answers[tick]} | now)


def press_event(tick, press):
    server_ts = stamp(press["execution_tick"]) if "execution_tick" in press else None
    press = press | {"game_id": GAME_ID, "ts": stamp(tick), "server_ts": server_ts}
    return {"event": BUTTON_EVENT, "data": press, "ts": stamp(tick)}


def stamp(tick):
    """Time of a tick, 250 ms after the one before."""
    seconds, rest = divmod(250 * (tick + 1), 1_000)
    return f"2026-01-02T00:{seconds // 60:02d}:{seconds % 60:02d}.{rest:03d}000+00:00"
