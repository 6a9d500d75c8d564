import re
import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from hftlib.envs import SessionEnv, SessionRules, SessionVecEnv, TradingVecEnv
from hftlib.envs.stable import StableVecEnv
from hftlib.sessions.game import play_games
from hftlib.sessions.observation import FEATURE_NAMES
from hftlib.sessions.vocabulary import ADJUSTMENTS, BUY, SELL, SIDEBET, WAIT

NAME = "hftlib/Session-v0"
NONE, CLEAR, INC_001, INC_01, INC_10, INC_1, HALF, DOUBLE, MAX = range(len(ADJUSTMENTS))
RISING = [1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 0.02]  # rugs on tick 6


def open_env(prices=None, **rules):
    """An environment at the start of a game of these prices."""
    env = SessionEnv(SessionRules(**rules))
    env.reset(seed=0, options={"prices": RISING if prices is None else prices})
    return env


def act(env, *actions):
    """What the environment returns for each of (choice, adjustment)."""
    return [env.step(np.array(action)) for action in actions]


def draw_actions(seed, *shape):
    return np.random.default_rng(seed).integers((4, 9), size=(*shape, 2))


@pytest.mark.parametrize("check", [check_env_sb3, check_env])
def test_checkers_pass_without_a_warning(check):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # it asks for a registered spec only to re-make the environment
        warnings.filterwarnings("ignore", message=".*spec.*")
        check(SessionEnv(), **({"skip_render_check": True} if check is check_env else {}))


def test_gymnasium_makes_one_copy_or_many():
    rules = SessionRules(latency_ticks=2)
    env = gymnasium.make(NAME, rules=rules)
    assert env.reset(seed=1)[0].shape == (36,)
    assert env.get_wrapper_attr("action_masks")().shape == (13,)
    batch = gymnasium.make_vec(NAME, num_envs=3, rules=rules)
    assert isinstance(batch, SessionVecEnv)
    assert batch.reset(seed=1)[0].shape == (3, 36)
    assert batch.action_masks().shape == (3, 13)


def test_the_table_of_the_docstring_names_the_features_in_order():
    rows = re.findall(r"^ *\| ([\d-]+) \| ([\w, ]+) \|", SessionEnv.__doc__, re.MULTILINE)
    named = [(index, name) for index, names in rows for name in names.split(", ")]
    table = named[-len(FEATURE_NAMES) :]
    assert tuple(name for _, name in table) == FEATURE_NAMES
    assert [index for index, _ in table[:18]] == [str(k) for k in range(18)]
    assert [index for index, _ in table[22:]] == [str(k) for k in range(22, 36)]


@pytest.mark.parametrize("latency", [0, 1, 3])
def test_an_order_is_executed_latency_ticks_later_at_the_price_of_then(latency):
    env = open_env(latency_ticks=latency)
    steps = act(env, (BUY, MAX), *[(WAIT, NONE)] * 3)
    at = RISING[latency]
    first_seen = max(latency, 1)
    assert [step[4]["n_executed"] for step in steps] == [int(t >= first_seen) for t in (1, 2, 3, 4)]
    observation, _, _, _, info = steps[-1]
    assert info["qty"] == 1 / at
    assert info["equity"] == pytest.approx(RISING[4] / at, rel=1e-15)
    assert observation[32:].tolist() == [latency, at, 0, 250 * latency]
    assert observation[29] == 4 - latency
    assert observation[30] == 4


def test_an_order_that_the_rug_overtakes_is_refused():
    env = open_env(latency_ticks=2)
    steps = act(env, *[(WAIT, NONE)] * 4, (BUY, MAX), (WAIT, NONE))
    assert steps[-1][2]
    assert steps[-1][4]["n_refused"] == 1
    assert steps[-1][4]["cash"] == 1.0


def test_a_position_is_worth_the_rug_price_after_the_rug():
    env = open_env(fee=0.01)
    steps = act(env, (BUY, MAX), *[(WAIT, NONE)] * 5)
    assert steps[-1][4]["equity"] == pytest.approx(0.99 / 1.25 * 0.02, rel=1e-15)
    assert sum(step[1] for step in steps) == pytest.approx(0.99 / 1.25 * 0.02 - 1, rel=1e-12)


@pytest.mark.parametrize(
    ("adjustments", "bet"),
    [
        ([NONE], 0.25),
        ([CLEAR], 0.0),
        ([CLEAR, CLEAR, HALF], 0.0),
        ([INC_001], 0.251),
        ([INC_01, INC_10], 0.36),
        ([HALF], 0.125),
        ([DOUBLE], 0.5),
        ([INC_1], 1.0),
        ([DOUBLE, DOUBLE, DOUBLE], 1.0),
        ([CLEAR, MAX], 1.0),
    ],
)
def test_a_button_changes_the_bet_at_once_and_never_beyond_the_cash(adjustments, bet):
    env = open_env(first_bet=0.25, latency_ticks=3)
    observation, _, _, _, info = act(env, *[(WAIT, k) for k in adjustments])[-1]
    assert info["bet"] == pytest.approx(bet, rel=1e-12)
    assert observation[31] == np.float32(info["bet"])
    assert info["n_invalid"] == 0


def test_an_order_keeps_the_bet_that_it_was_sent_with():
    env = open_env(first_bet=0.25, latency_ticks=2)
    info = act(env, (BUY, NONE), (WAIT, MAX))[-1][4]
    assert info["cash"] == 0.75
    assert info["bet"] == 1.0


def test_an_order_spends_what_cash_is_left_and_is_refused_if_too_little_is():
    steps = act(open_env(latency_ticks=3), (BUY, MAX), (SIDEBET, HALF), (WAIT, NONE), (WAIT, NONE))
    assert steps[2][4]["cash"] == 0.0
    assert steps[3][4]["n_refused"] == 1
    steps = act(open_env(latency_ticks=2), (SIDEBET, MAX), (BUY, HALF), (WAIT, NONE))
    assert (steps[1][4]["stake"], steps[2][4]["n_refused"]) == (1.0, 1)
    steps = act(open_env(latency_ticks=2), (SIDEBET, INC_10), (BUY, MAX), (WAIT, NONE))
    assert steps[2][4]["cash"] == 0.0
    assert steps[2][4]["qty"] == pytest.approx((1 - 0.11) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("before", "invalid"),
    [
        ([], (SELL, NONE)),
        ([], (BUY, CLEAR)),
        ([(WAIT, CLEAR)], (SIDEBET, NONE)),
        ([(WAIT, CLEAR), (WAIT, INC_001)], (BUY, HALF)),
        ([(BUY, NONE)], (BUY, NONE)),  # while the first is on its way
        ([(BUY, NONE), (WAIT, NONE), (SELL, NONE)], (SELL, NONE)),
        ([(SIDEBET, NONE)], (SIDEBET, NONE)),
        ([(BUY, NONE), (WAIT, NONE), (WAIT, NONE)], (BUY, NONE)),  # while it is held
        ([(SIDEBET, NONE), (WAIT, NONE), (WAIT, NONE)], (SIDEBET, NONE)),
        ([(BUY, MAX), (WAIT, NONE), (WAIT, NONE)], (SIDEBET, NONE)),  # out of cash
    ],
)
def test_an_invalid_choice_is_counted_and_is_otherwise_a_wait(before, invalid):
    choice, adjustment = invalid
    assert choice != WAIT
    one, two = (open_env(latency_ticks=2) for _ in range(2))
    rest = [(WAIT, NONE)] * (5 - len(before))
    refused = act(one, *before, invalid, *rest)
    waited = act(two, *before, (WAIT, adjustment), *rest)
    assert refused[-1][4].pop("n_invalid") == 1
    assert waited[-1][4].pop("n_invalid") == 0
    assert refused[-1][4] == waited[-1][4]
    for a, b in zip(refused, waited, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        assert a[1:4] == b[1:4]


def test_a_button_that_makes_the_bet_large_enough_makes_the_order_valid():
    info = act(open_env(first_bet=0.0), (BUY, INC_001))[-1][4]
    assert (info["n_invalid"], info["n_executed"], info["cash"]) == (0, 1, 0.999)


@pytest.mark.parametrize("latency", [0, 1, 4])
def test_masks_allow_what_is_valid_with_some_button_and_nothing_else(latency):
    """All 36 actions are tried from each state of random play, in a copy each."""
    rules = SessionRules(latency_ticks=latency, initial_cash=0.02, first_bet=0.004, fee=0.01)
    env = SessionVecEnv(36, rules)
    every = np.stack(np.divmod(np.arange(36), 9), axis=1)
    masks_seen = set()
    for t, action in enumerate(draw_actions(latency, 300)):
        if t % 30 == 0:  # before all cash is lost
            env.reset(seed=0, options={"prices": [[1.0] * 31 + [0.02]] * 36})
        masks = env.action_masks()
        assert (masks == masks[0]).all()
        assert masks[:, 4:].all()
        state = env.save_state()
        n_before = env.step(np.zeros((36, 2), dtype=int))[4]["n_invalid"]
        env.load_state(state)
        is_valid = env.step(every)[4]["n_invalid"] == n_before
        assert is_valid.reshape(4, 9).any(axis=1).tolist() == masks[0, :4].tolist()
        env.load_state(state)
        env.step(np.broadcast_to(action, (36, 2)))
        masks_seen.add(tuple(masks[0, :4].tolist()))
    assert len(masks_seen) > 4


def test_nothing_can_be_chosen_after_the_rug():
    env = open_env()
    act(env, *[(WAIT, NONE)] * 6)
    assert env.action_masks()[:4].tolist() == [True, False, False, False]


def test_a_rug_terminates_and_never_truncates():
    for max_ticks in (6, 100):
        steps = act(open_env(max_ticks=max_ticks), *[(WAIT, NONE)] * 6)
        assert [step[2] for step in steps] == [False] * 5 + [True]
        assert not any(step[3] for step in steps)
        assert steps[-1][0][[0, 1, 2, 5, 6]].tolist() == [6, np.float32(0.02), 3, 1, 1]


def test_the_clock_truncates_and_never_terminates():
    steps = act(open_env(max_ticks=5), (BUY, MAX), *[(WAIT, NONE)] * 4)
    assert [step[3] for step in steps] == [False] * 4 + [True]
    assert not any(step[2] for step in steps)
    assert steps[-1][4]["equity"] == pytest.approx(3.0 / 1.25, rel=1e-15)  # at the price of then


def test_being_out_of_cash_ends_nothing():
    prices = [1.0] * 60 + [0.02]
    env = open_env(prices=prices)
    steps = act(env, (SIDEBET, MAX), *[(WAIT, NONE)] * 58)
    assert steps[39][4]["stake"] == 1.0
    assert steps[40][4]["stake"] == 0.0  # 40 ticks after it was placed on tick 1
    assert steps[-1][4]["equity"] == 0.0
    assert not any(step[2] or step[3] for step in steps)
    assert env.action_masks()[:4].tolist() == [True, False, False, False]


@pytest.mark.parametrize(("rug_tick", "paid"), [(41, 5.0), (42, 0.0)])
def test_a_side_bet_wins_if_the_rug_comes_within_forty_ticks_of_it(rug_tick, paid):
    env = open_env(prices=[1.0] * rug_tick + [0.02])
    steps = act(env, (SIDEBET, MAX), *[(WAIT, NONE)] * (rug_tick - 1))
    assert steps[-1][2]
    assert steps[-1][4]["equity"] == paid


def test_games_of_a_chain_are_those_of_the_law_whatever_is_played():
    games = play_games(4, seed=7)
    env = SessionEnv()
    for k in range(4):
        observation, info = env.reset(seed=7) if k == 0 else env.reset()
        prices, is_over = [info["price"]], False
        actions = iter(draw_actions(k, 5_000))
        while not is_over and not (k == 2 and len(prices) == 5):  # one is left in the middle
            observation, _, is_over, _, info = env.step(next(actions))
            prices.append(info["price"])
        assert prices == games[k][: len(prices)].tolist()
        assert observation[1] == np.float32(prices[-1])
        assert is_over == (len(prices) == len(games[k]))


def test_copies_follow_the_single_environment_bit_for_bit():
    n_envs, n_steps = 7, 900
    rules = SessionRules(fee=0.01, latency_ticks=2, max_ticks=150)
    actions = draw_actions(5, n_steps, n_envs)
    batch = SessionVecEnv(n_envs, rules)
    observations, infos = batch.reset(seed=21)
    singles = [SessionEnv(rules) for _ in range(n_envs)]
    for i, env in enumerate(singles):
        observation, info = env.reset(seed=21 + i)
        np.testing.assert_array_equal(observation, observations[i])
        assert info == {key: values[i] for key, values in infos.items()}
    ends = set()
    for t in range(n_steps):
        masks = batch.action_masks()
        observations, rewards, terminated, truncated, infos = batch.step(actions[t])
        for i, env in enumerate(singles):
            np.testing.assert_array_equal(env.action_masks(), masks[i])
            observation, reward, *end, info = env.step(actions[t, i])
            assert (reward, *end) == (rewards[i], terminated[i], truncated[i])
            assert info == {key: infos[key][i] for key in info}
            if any(end):
                ends.add(tuple(end))
                np.testing.assert_array_equal(observation, infos["final_obs"][i])
                observation = env.reset()[0]
            np.testing.assert_array_equal(observation, observations[i])
    assert len(ends) == 2


def test_copies_replay_the_games_they_are_given_and_go_on_with_their_chains():
    chain = [play_games(2, seed=3 + i) for i in range(3)]
    given = [RISING, None, [1.0, 0.02]]
    expected = [[RISING, chain[0][0]], [chain[1][0], chain[1][1]], [[1.0, 0.02], chain[2][0]]]
    env = SessionVecEnv(3)
    _, info = env.reset(seed=3, options={"prices": given})
    seen = [[1.0] for _ in range(3)]
    for _ in range(60):
        _, _, terminated, _, info = env.step(np.zeros((3, 2), dtype=int))
        for i in range(3):
            seen[i] += [info["price"][i]] + [1.0] * int(terminated[i])
    for i in range(3):
        np.testing.assert_array_equal(seen[i], np.concatenate(expected[i])[: len(seen[i])])


def test_the_board_shows_the_last_hundred_games_and_stands_still_during_one():
    env = SessionVecEnv(1)
    games = play_games(130, seed=2)
    observation, _ = env.reset(seed=2)
    peaks, boards, n_waited = [], [observation[0, 14:23]], 0
    while len(peaks) < 130:
        observation, _, terminated, _, info = env.step(np.zeros((1, 2), dtype=int))
        last = info["final_obs"] if terminated[0] else observation
        np.testing.assert_array_equal(last[0, 14:23], boards[-1])
        n_waited += 1
        if terminated[0]:
            peaks.append(games[len(peaks)].max())
            boards.append(observation[0, 14:23])
    assert n_waited == games.rug_tick.sum()
    recent = np.array(peaks[-100:])
    counts = [(recent >= bound).sum() for bound in (2, 10, 50, 100)]
    assert boards[-1][4:8].tolist() == counts
    assert boards[-1][3] == pytest.approx(recent.mean(), rel=1e-6)  # float32
    assert boards[-1][8] >= np.float32(max(peaks))


def test_a_truncated_game_does_not_enter_the_board():
    env = SessionEnv(SessionRules(max_ticks=1))
    first, _ = env.reset(seed=0)
    for _ in range(5):
        if env.step(np.zeros(2, dtype=int))[3]:
            np.testing.assert_array_equal(env.reset()[0], first)


def test_what_a_batch_returned_does_not_change_later():
    env = SessionVecEnv(4)
    env.reset(seed=0)
    actions = draw_actions(3, 300, 4)
    returned = env.step(actions[0])
    arrays = [*returned[:4], *returned[4].values(), env.action_masks()]
    kept = [array.copy() for array in arrays]
    for row in actions[1:]:
        env.step(row)
        env.action_masks()
    for now, then in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_saved_state_goes_on_bit_for_bit():
    actions = draw_actions(8, 600, 5)
    env, other = SessionVecEnv(5), SessionVecEnv(5)
    env.reset(seed=1, options={"prices": [None, play_games(1, seed=9)[0], None, RISING, None]})
    for row in actions[:30]:
        env.step(row)
    other.load_state(env.save_state())
    for row in actions[30:]:
        for a, b in zip(env.step(row)[:4], other.step(row)[:4], strict=True):
            np.testing.assert_array_equal(a, b)


def test_learners_that_mask_actions_find_the_masks_of_the_copies():
    """As sb3-contrib asks for them: `has_attr`, then `np.stack(env_method(...))`."""
    env = StableVecEnv(SessionVecEnv(5))
    env.seed(3)
    env.reset()
    assert env.has_attr("action_masks")
    env.step(np.array([[BUY, NONE], [WAIT, NONE], [SIDEBET, NONE], [BUY, MAX], [WAIT, NONE]]))
    masks = np.stack(env.env_method("action_masks"))
    np.testing.assert_array_equal(masks, env.env.action_masks())
    assert masks[:, :4].tolist()[0] == [True, False, True, True]
    np.testing.assert_array_equal(env.env_method("action_masks", indices=[2, 0]), masks[[2, 0]])
    with pytest.raises(AttributeError, match="no methods but action_masks"):
        env.env_method("render")


def test_an_environment_without_masks_has_none_for_learners_either(panel, rules):
    env = StableVecEnv(TradingVecEnv(panel, rules, 2))
    assert not env.has_attr("action_masks")
    with pytest.raises(AttributeError, match="action_masks"):
        env.env_method("action_masks")


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([4, 0], r"is \[4, 0\]; expected a choice from 0 to 3 and an adjustment from 0 to 8"),
        ([0, 9], r"is \[0, 9\]"),
        ([-1, 0], r"is \[-1, 0\]"),
        ([0.0, 1.0], r"float64 of shape \(2,\); expected integers of shape \(2,\)"),
        (1, r"shape \(\)"),
        ([1, 0, 0], r"shape \(3,\)"),
    ],
)
def test_an_action_out_of_the_space_is_refused_and_moves_nothing(action, message):
    env = open_env()
    with pytest.raises(ValueError, match=message):
        env.step(action)
    assert act(env, (WAIT, NONE))[0][4]["tick"] == 1


def test_a_bad_action_in_a_batch_is_named_and_moves_nothing():
    env = SessionVecEnv(3)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"copy 2 is \[1, 12\]"):
        env.step(np.array([[1, 0], [0, 0], [1, 12]]))
    with pytest.raises(ValueError, match=r"shape \(2, 2\); expected integers of shape \(3, 2\)"):
        env.step(np.zeros((2, 2), dtype=int))
    info = env.step(np.zeros((3, 2), dtype=int))[4]
    assert info["tick"].tolist() == [1, 1, 1]
    assert info["n_executed"].tolist() == [0, 0, 0]


def test_stepping_before_a_reset_or_past_the_end_is_refused():
    env = SessionEnv(SessionRules(max_ticks=1))
    with pytest.raises(RuntimeError, match="reset"):
        act(env, (WAIT, NONE))
    env.reset(seed=0)
    act(env, (WAIT, NONE))
    with pytest.raises(RuntimeError, match="reset"):
        act(env, (WAIT, NONE))
    with pytest.raises(RuntimeError, match="reset"):
        SessionVecEnv(2).step(np.zeros((2, 2), dtype=int))


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ([1.0], r"shape \(1,\); expected those of one game"),
        ([[1.0, 2.0]], r"shape \(1, 2\)"),
        ([1.2, 1.0, 0.02], r"price 1.2 on tick 0 of a given game; expected .* at 1.0"),
        ([1.0, np.nan, 0.02], "price nan on tick 1"),
        ([1.0, 1.1, -0.02], "price -0.02 on tick 2"),
    ],
)
def test_prices_that_are_no_game_are_refused_and_change_nothing(prices, message):
    env = SessionVecEnv(2)
    env.reset(seed=0)
    state = env.save_state()
    with pytest.raises(ValueError, match=message):
        env.reset(seed=1, options={"prices": [None, prices]})
    after = env.step(np.zeros((2, 2), dtype=int))[0]
    env.load_state(state)
    np.testing.assert_array_equal(env.step(np.zeros((2, 2), dtype=int))[0], after)


def test_as_many_games_as_copies_are_expected():
    with pytest.raises(ValueError, match="1 games for 2 copies; pass one each"):
        SessionVecEnv(2).reset(options={"prices": [RISING]})
    with pytest.raises(ValueError, match="num_envs is 0"):
        SessionVecEnv(0)


@pytest.mark.parametrize("seed", [-1, 2**64 - 1])
def test_a_seed_that_no_stream_has_is_refused(seed):
    with pytest.raises(ValueError, match=r"expected a whole number in \[0, 2\*\*64\)"):
        SessionVecEnv(2).reset(seed=seed)


@pytest.mark.parametrize(
    "change",
    [
        {"fee": 1.0},
        {"fee": float("nan")},
        {"latency_ticks": -1},
        {"latency_ticks": 0.5},
        {"initial_cash": 0.0005},
        {"first_bet": 2.0},
        {"max_ticks": 0},
        {"max_ticks": 5_001},
    ],
)
def test_impossible_rules_are_refused_by_name(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))} is .*; see SessionRules"):
        replace(SessionRules(), **change)
