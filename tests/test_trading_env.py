import warnings
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from hftlib.envs import TradingEnv, TradingRules, TradingVecEnv
from hftlib.portfolio.costs import Costs
from tests.conftest import make_panel

FREE = Costs(0.0, 0.0, 0.0)
BUY, SELL, HOLD = 1, 2, 0


def walk(env, actions, **reset):
    """All that an environment returns for a list of actions."""
    steps = [env.reset(**reset)]
    steps += [env.step(action) for action in actions]
    return steps


def copy_of(info, i, keys):
    """The infos of copy i of a batch, nested as those of a single environment."""
    return {
        key: copy_of(info[key], i, info[key]) if isinstance(info[key], dict) else info[key][i]
        for key in keys
    }


def test_checker_of_gymnasium_passes_without_a_warning(panel, rules):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # it asks for a registered spec only to re-make the environment
        warnings.filterwarnings("ignore", message=".*spec.*")
        check_env(TradingEnv(panel, rules), skip_render_check=True)


def test_checker_of_stable_baselines_passes_without_a_warning(panel, rules):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env_sb3(TradingEnv(panel, rules))


def test_a_purchase_is_priced_at_the_next_open_and_marked_at_the_next_close(panel):
    rules = TradingRules(FREE, window_bars=5, initial_cash=1_000.0)
    env = TradingEnv(panel, rules)
    env.reset(options={"segment": 0})
    _, reward, _, _, info = env.step(BUY)
    assert info["row"] == 5
    assert info["equity"] == pytest.approx(1_000 * panel.close[5] / panel.open[5], rel=1e-12)
    assert reward == pytest.approx(np.log(panel.close[5] / panel.open[5]), rel=1e-9)


def test_what_a_purchase_pays_is_fee_half_spread_and_slippage(panel):
    rules = TradingRules(Costs(10.0, 20.0, 5.0), window_bars=5, initial_cash=1_000.0)
    env = TradingEnv(panel, rules)
    env.reset(options={"segment": 0})
    info = env.step(BUY)[4]
    fill = 1 + 15e-4
    units_at_mid = 1_000 / (fill * (1 + 10e-4))
    assert info["traded"] == pytest.approx(units_at_mid, rel=1e-12)
    assert info["paid"] == pytest.approx(1_000 - units_at_mid, rel=1e-9)


@pytest.mark.parametrize(
    ("allow_short", "actions", "positions"),
    [
        (True, [BUY, BUY, SELL, SELL, SELL, HOLD, BUY], [1, 1, 0, -1, -1, -1, 0]),
        (False, [SELL, BUY, HOLD, SELL, SELL], [0, 1, 1, 0, 0]),
    ],
)
def test_actions_move_the_position_by_one_notch(panel, rules, allow_short, actions, positions):
    env = TradingEnv(panel, replace(rules, allow_short=allow_short))
    seen = [step[4]["position"] for step in walk(env, actions, seed=0)[1:]]
    assert seen == positions


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 2), min_size=1, max_size=45))
def test_rewards_sum_to_log_growth_and_the_ledger_balances(seed, actions):
    rules = TradingRules(Costs(3.0, 4.0, 1.0), window_bars=5, episode_bars=50, allow_short=True)
    env = TradingEnv(make_panel(), rules)
    steps = walk(env, actions, seed=seed)[1:]
    rewards = sum(step[1] for step in steps)
    final = steps[-1][4]["equity"]
    # sums of at most 45 logarithms of order .01
    assert rewards == pytest.approx(np.log(final / rules.initial_cash), abs=1e-10)


def test_holding_a_position_costs_nothing(panel, rules):
    env = TradingEnv(panel, rules)
    steps = walk(env, [BUY, HOLD, BUY, HOLD], seed=0)
    assert [step[4]["paid"] > 0 for step in steps[1:]] == [True, False, False, False]


def test_mirrored_prices_and_actions_give_mirrored_first_returns(panel):
    rules = TradingRules(FREE, window_bars=5, allow_short=True)
    gain = walk(TradingEnv(panel, rules), [BUY], options={"segment": 0})[1][4]["equity"]
    loss = walk(TradingEnv(panel, rules), [SELL], options={"segment": 0})[1][4]["equity"]
    assert gain - 10_000 == pytest.approx(10_000 - loss, abs=1e-8)


def test_observation_is_the_window_then_position_and_exposure(panel, rules):
    env = TradingEnv(panel, replace(rules, costs=FREE, max_weight=0.5))
    env.reset(options={"segment": 1})
    start = panel.segments[1, 0]
    observation = env.step(SELL)[0]
    expected = panel.features[start + 1 : start + 6].reshape(-1)
    np.testing.assert_array_equal(observation[:-2], expected)
    units = -0.5 * 10_000 / panel.open[start + 5]
    equity = 15_000 + units * panel.close[start + 5]
    assert observation[-2] == -1
    assert observation[-1] == pytest.approx(units * panel.close[start + 5] / equity, rel=1e-6)


def test_observations_are_copies(panel, rules):
    env = TradingEnv(panel, rules)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    env.step(BUY)
    np.testing.assert_array_equal(first, kept)


def test_the_clock_truncates_and_does_not_terminate(panel, rules):
    steps = walk(TradingEnv(panel, rules), [HOLD] * 50, seed=0)
    assert [step[3] for step in steps[1:]] == [False] * 49 + [True]
    assert not any(step[2] for step in steps[1:])


def test_ruin_terminates_and_does_not_truncate(panel):
    crash = panel.close.copy()
    crash[6:] /= 1_000
    broke = replace(panel, close=crash)
    env = TradingEnv(broke, TradingRules(FREE, window_bars=5, ruin_fraction=0.1))
    env.reset(options={"segment": 0})
    assert env.step(BUY)[2:4] == (False, False)
    assert env.step(HOLD)[2:4] == (True, False)


def test_a_short_that_loses_everything_keeps_a_finite_reward(panel):
    squeeze = panel.close.copy()
    squeeze[6:] *= 5
    broke = replace(panel, close=squeeze)
    rules = TradingRules(FREE, window_bars=5, allow_short=True, ruin_fraction=0.0)
    env = TradingEnv(broke, rules)
    env.reset(options={"segment": 0})
    env.step(SELL)
    observation, reward, terminated, _, info = env.step(HOLD)
    assert terminated
    assert info["equity"] < 0
    assert np.isfinite(reward)
    assert env.observation_space.contains(observation)


def test_an_episode_stays_in_its_segment_and_the_last_bar_ends_it(panel, rules):
    env = TradingEnv(panel, rules)
    for k, (start, stop) in enumerate(panel.segments):
        _, info = env.reset(options={"segment": k})
        rows = [info["row"]]
        truncated = False
        while not truncated:
            _, _, _, truncated, info = env.step(HOLD)
            rows.append(info["row"])
        assert rows == list(range(start + rules.window_bars - 1, stop))


def test_random_starts_never_reach_over_a_seam(panel, rules):
    env = TradingEnv(panel, rules)
    for seed in range(200):
        row = env.reset(seed=seed)[1]["row"]
        start, stop = panel.segments[int(row >= panel.segments[1, 0])]
        assert start + rules.window_bars - 1 <= row <= stop - 1 - rules.episode_bars


def test_one_seed_gives_one_trajectory(panel, rules):
    actions = np.random.default_rng(3).integers(3, size=45).tolist()
    one, two = (walk(TradingEnv(panel, rules), actions, seed=11) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        assert a[1:] == b[1:]


@pytest.mark.parametrize("cut", [60, 150, 390])
def test_the_future_changes_no_observation_and_no_fill(panel, rules, cut):
    """Bars after row `cut` are scrambled; all up to and including its close must not move."""
    rng = np.random.default_rng(0)
    later = slice(cut + 1, panel.segments[0, 1])
    scrambled = {}
    for name in ("open", "close", "features"):
        values = getattr(panel, name).copy()
        values[later] = rng.permutation(values[later] * 0.5)
        scrambled[name] = values
    actions = rng.integers(3, size=cut - rules.window_bars + 1).tolist()
    options = {"segment": 0}
    before = walk(TradingEnv(panel, rules), actions, options=options)
    after = walk(TradingEnv(replace(panel, **scrambled), rules), actions, options=options)
    assert before[-1][4]["row"] == cut
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        assert a[1:] == b[1:]


def test_copies_follow_the_single_environment_bit_for_bit(panel, rules):
    n_envs, n_steps = 7, 180  # over three episodes each
    actions = np.random.default_rng(5).integers(3, size=(n_steps, n_envs))
    batch = TradingVecEnv(panel, rules, n_envs)
    observations, _ = batch.reset(seed=21)
    singles = [TradingEnv(panel, rules) for _ in range(n_envs)]
    for i, env in enumerate(singles):
        np.testing.assert_array_equal(env.reset(seed=21 + i)[0], observations[i])
    for t in range(n_steps):
        observations, rewards, terminated, truncated, info = batch.step(actions[t])
        for i, env in enumerate(singles):
            one = env.step(actions[t, i])
            assert one[1:4] == (rewards[i], terminated[i], truncated[i])
            assert one[4] == copy_of(info, i, one[4])
            seen = observations[i]
            if one[2] or one[3]:
                np.testing.assert_array_equal(one[0], info["final_obs"][i])
                one = env.reset()
            np.testing.assert_array_equal(one[0], seen)


def test_what_a_batch_returned_does_not_change_later(panel, rules):
    env = TradingVecEnv(panel, rules, 4)
    env.reset(seed=0)
    returned = env.step(np.array([1, 2, 0, 1]))
    kept = [array.copy() for array in returned[:4]] + [a.copy() for a in returned[4].values()]
    for _ in range(60):
        env.step(np.array([2, 1, 1, 0]))
    for now, then in zip([*returned[:4], *returned[4].values()], kept, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_saved_state_goes_on_bit_for_bit(panel, rules):
    actions = np.random.default_rng(8).integers(3, size=(140, 5))
    env = TradingVecEnv(panel, rules, 5)
    env.reset(seed=1)
    for row in actions[:30]:
        env.step(row)
    saved = env.save_state()
    other = TradingVecEnv(panel, rules, 5)
    other.load_state(saved)
    for row in actions[30:]:
        a, b = env.step(row), other.step(row)
        for x, y in zip(a[:4], b[:4], strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("action", [-1, 3, 1.5, np.nan, None, "buy"])
def test_an_action_out_of_range_is_refused_and_moves_nothing(panel, rules, action):
    env = TradingEnv(panel, rules)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected 0 \(hold\), 1 \(buy\) or 2 \(sell\)"):
        env.step(action)
    assert env.step(BUY)[4]["position"] == 1


def test_a_bad_action_in_a_batch_is_named_and_moves_nothing(panel, rules):
    env = TradingVecEnv(panel, rules, 3)
    _, info = env.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions\[1\] is 7"):
        env.step(np.array([1, 7, 1]))
    np.testing.assert_array_equal(env.step(np.array([0, 0, 0]))[4]["row"], info["row"] + 1)
    with pytest.raises(ValueError, match="float64 of shape"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(2,\); expected integers of shape \(3,\)"):
        env.step(np.zeros(2, dtype=int))


def test_stepping_past_the_end_is_refused(panel, rules):
    env = TradingEnv(panel, replace(rules, episode_bars=1))
    with pytest.raises(RuntimeError, match="reset"):
        env.step(HOLD)
    walk(env, [HOLD], seed=0)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(HOLD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"costs": Costs(-1.0, 0.0, 0.0)}, "fee_bps is -1"),
        ({"window_bars": 0}, "window_bars is 0"),
        ({"max_weight": 1.2}, "max_weight is 1.2"),
        ({"initial_cash": 0.0}, "initial_cash is 0"),
        ({"ruin_fraction": 1.0}, "ruin_fraction is 1"),
    ],
)
def test_impossible_rules_are_refused_by_name(rules, change, message):
    with pytest.raises(ValueError, match=message):
        replace(rules, **change)


def test_a_window_longer_than_the_data_is_refused(panel, rules):
    with pytest.raises(ValueError, match="S0 has 400 bars; window_bars=400 needs at least 401"):
        TradingEnv(panel, replace(rules, window_bars=400))


def test_unscaled_features_are_refused(panel, rules):
    raw = replace(panel, features=panel.features * 100)
    with pytest.raises(ValueError, match="RobustScaler"):
        TradingEnv(raw, rules)


def test_an_unknown_segment_is_refused(panel, rules):
    for segment in (2, "S0"):
        with pytest.raises(
            ValueError, match=rf"segment is {segment!r}; expected 0 to 1 \(S0, S1\)"
        ):
            TradingEnv(panel, rules).reset(options={"segment": segment})


def test_stepping_copies_before_a_reset_is_refused(panel, rules):
    with pytest.raises(RuntimeError, match="reset"):
        TradingVecEnv(panel, rules, 2).step(np.array([0, 0]))
