"""Policies in fresh games: known values of plain ones, pairing, what is counted."""

import numpy as np
import pytest

from hftlib.envs.session_rules import SessionRules
from hftlib.evaluation.session_play import (
    BuyOnce,
    RandomActions,
    SidebetAlways,
    WaitAlways,
    compare_policies,
    play_policy,
)
from hftlib.sessions.game import play_games
from hftlib.sessions.theory import holding_values, sidebet_value

BET = 0.01
FREE = SessionRules(fee=0.0, latency_ticks=0, initial_cash=1.0, first_bet=BET)
SIZE = {"n_chains": 40, "n_games": 5}


def test_doing_nothing_wins_and_loses_nothing():
    played = play_policy(WaitAlways(), 0, **SIZE)
    assert not played.profit.any()
    assert not (played.n_executed.any() or played.n_invalid.any() or played.n_refused.any())


def test_of_two_ticks_the_second_is_discounted():
    whole, first, half = (
        play_policy(BuyOnce(2), 3, rules=FREE, gamma=gamma, **SIZE).profit for gamma in (1, 0, 0.5)
    )
    np.testing.assert_allclose(half, first + 0.5 * (whole - first), atol=1e-15)
    assert (whole != first).any()


def test_games_are_those_of_the_chains_seeds():
    played = play_policy(WaitAlways(), 7, n_chains=3, n_games=4)
    expected = [play_games(4, 7 + chain).rug_tick for chain in range(3)]
    np.testing.assert_array_equal(played.n_ticks, expected)


def test_all_policies_play_the_same_games():
    lengths = [
        play_policy(policy, 3, **SIZE).n_ticks
        for policy in (WaitAlways(), BuyOnce(5), RandomActions(np.random.default_rng(0)))
    ]
    np.testing.assert_array_equal(lengths[0], lengths[1])
    np.testing.assert_array_equal(lengths[0], lengths[2])


@pytest.mark.parametrize("n_ticks", [1, 40])
def test_buying_and_holding_earns_what_theory_says(n_ticks):
    played = play_policy(BuyOnce(n_ticks), 100, n_chains=500, n_games=8, rules=FREE)
    shares = played.profit.ravel() / BET
    error = shares.std() / np.sqrt(shares.size)
    assert abs(shares.mean() - holding_values(n_ticks)[-1]) < 4 * error
    sold = played.n_ticks > n_ticks
    np.testing.assert_array_equal(played.n_executed, 1 + sold)


def test_buying_and_holding_is_paid_by_the_prices_of_the_game():
    played = play_policy(BuyOnce(10), 5, n_chains=1, n_games=6, rules=FREE)
    games = play_games(6, 5)
    expected = [prices[min(10, len(prices) - 1)] - 1 for prices in (games[k] for k in range(6))]
    np.testing.assert_allclose(played.profit[0], BET * np.array(expected), rtol=1e-12)


def test_side_bets_lose_what_theory_says():
    played = play_policy(SidebetAlways(), 200, n_chains=500, n_games=4, rules=FREE)
    # Wald: the expectation is that of one bet for each bet placed
    gaps = (played.profit / BET - sidebet_value() * played.n_executed).ravel()
    assert abs(gaps.mean()) < 4 * gaps.std() / np.sqrt(gaps.size)
    assert (played.n_executed <= played.n_ticks // 40 + 1).all()


def test_random_actions_follow_their_generator_and_cannot_lose_more_than_the_cash():
    played = play_policy(RandomActions(np.random.default_rng(0)), 0, rules=FREE, **SIZE)
    again = play_policy(RandomActions(np.random.default_rng(0)), 0, rules=FREE, **SIZE)
    np.testing.assert_array_equal(played.profit, again.profit)
    assert (played.profit >= -1.0 - 1e-9).all()  # of a cash of 1, up to rounding
    assert played.n_executed.any()


def test_the_comparison_is_paired_and_has_an_interval():
    policies = {
        "nothing": [WaitAlways()],
        "hold": [BuyOnce(40)],
        "random": [RandomActions(np.random.default_rng(k)) for k in range(3)],
    }
    table = compare_policies(policies, "nothing", 0, rules=FREE, **SIZE).set_index("policy")
    assert table["seeds"].to_dict() == {"nothing": 1, "hold": 1, "random": 3}
    assert (table["games"] == 200).all()
    assert (table.loc["nothing", "value":] == 0).all()
    profit = play_policy(BuyOnce(40), 0, rules=FREE, **SIZE).profit
    assert table.loc["hold", "value"] == pytest.approx(profit.mean())
    for name in ("value", "difference"):  # nothing earns 0 in every game
        low, high = ("low", "high") if name == "value" else (f"{name}_low", f"{name}_high")
        assert table.loc["hold", low] < table.loc["hold", name] < table.loc["hold", high]
    assert table.loc["hold", "difference"] == pytest.approx(table.loc["hold", "value"])


def test_requests_without_games_and_unknown_baselines_are_refused():
    with pytest.raises(ValueError, match="n_games=0"):
        play_policy(WaitAlways(), 0, n_chains=1, n_games=0)
    with pytest.raises(ValueError, match="baseline 'x' is not among nothing"):
        compare_policies({"nothing": [WaitAlways()]}, "x", 0, **SIZE)
