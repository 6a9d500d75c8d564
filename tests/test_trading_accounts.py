"""Accounts on bars beyond the defaults: target weights, portfolios, costs, limits, ends."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from hftlib.data.panel import PanelError
from hftlib.envs import (
    Financing,
    Limits,
    RewardSettings,
    TradingEnv,
    TradingRules,
    TradingVecEnv,
)
from hftlib.envs.bar_checks import check_trading
from hftlib.envs.bar_state import DRAWDOWN, MARGIN_CALL, RUIN, TIME
from hftlib.envs.checks import has_passed
from hftlib.envs.rewards import KINDS
from hftlib.portfolio.costs import Costs
from tests.conftest import make_panel

FREE = Costs(0.0, 0.0, 0.0)
DEAR = Costs(3.0, 4.0, 1.0, 50.0)
FIRST = {"segment": 0}
MODES = [
    (kind, is_portfolio) for kind in ("discrete", "continuous") for is_portfolio in (False, True)
]


def rich_panel(n_symbols=3, n_bars=120, seed=0):
    """With volumes and forecasts, a tenth of them missing."""
    panel = make_panel(n_bars=n_bars, n_symbols=n_symbols, seed=seed)
    rng = np.random.default_rng(seed)
    n = len(panel.ts)
    forecast = np.where(rng.random(n) < 0.1, np.nan, rng.normal(0, 0.01, n))
    volume = np.where(rng.random(n) < 0.05, 0.0, rng.lognormal(8, 1, n))
    return replace(panel, volume=volume, forecast=forecast, uncertainty=np.abs(forecast) + 0.01)


def every_rule(kind, is_portfolio, reward="simple", allow_short=True):
    """Rules with everything switched on."""
    return TradingRules(
        DEAR,
        window_bars=5,
        episode_bars=40,
        allow_short=allow_short,
        action_kind=kind,
        is_portfolio=is_portfolio,
        shows_drawdown=True,
        max_weight=0.8,
        limits=Limits(max_leverage=1.5, maintenance_fraction=0.2, max_drawdown=0.5),
        financing=Financing(borrow_bps=200.0, interest_bps=500.0),
        reward=RewardSettings(reward, 10, 2.0, 0.5, 0.1, accuracy_weight=0.01, sizing_weight=0.01),
    )


def weights(**changes):
    """Target weights without costs, one symbol an episode."""
    rules = {"window_bars": 5, "action_kind": "continuous", "allow_short": True} | changes
    return TradingRules(rules.pop("costs", FREE), **rules)


def walk(env, actions, **reset):
    """All that an environment returns until it ends."""
    steps = [env.reset(**reset)]
    for action in actions:
        steps.append(env.step(action))
        if steps[-1][2] or steps[-1][3]:
            break
    return steps


def with_closes(panel, closes, first=5):
    """The panel with these closes from a row on, 100 before; each bar opens at the last close."""
    prices = np.full(len(panel.ts), 100.0)
    prices[first : first + len(closes)] = closes
    prices[first + len(closes) :] = closes[-1]
    return replace(panel, open=np.concatenate([[100.0], prices[:-1]]), close=prices)


@pytest.mark.parametrize(("kind", "is_portfolio"), MODES)
@pytest.mark.parametrize("reward", KINDS)
def test_checkers_of_both_libraries_pass_without_a_warning(kind, is_portfolio, reward):
    panel, rules = rich_panel(), every_rule(kind, is_portfolio, reward)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*spec.*")
        check_env(TradingEnv(panel, rules), skip_render_check=True)
        check_env_sb3(TradingEnv(panel, rules))


@pytest.mark.parametrize(("kind", "is_portfolio"), MODES)
@pytest.mark.parametrize("reward", KINDS)
def test_laws_hold_with_everything_switched_on(kind, is_portfolio, reward):
    laws = check_trading(rich_panel(), every_rule(kind, is_portfolio, reward), seed=3)
    assert has_passed(laws).all(), laws


@pytest.mark.parametrize(("kind", "is_portfolio"), MODES)
def test_copies_follow_the_single_environment_bit_for_bit(kind, is_portfolio):
    panel, rules = rich_panel(), every_rule(kind, is_portfolio, "differential_sharpe")
    batch = TradingVecEnv(panel, rules, 3)
    batch.action_space.seed(1)
    batch.reset(seed=4)
    singles = [TradingEnv(panel, rules) for _ in range(3)]
    for i, env in enumerate(singles):
        env.reset(seed=4 + i)
    for _ in range(90):
        actions = batch.action_space.sample()
        seen, rewards, terminated, truncated, info = batch.step(actions)
        for i, env in enumerate(singles):
            one = env.step(actions[i])
            assert one[1:4] == (rewards[i], terminated[i], truncated[i])
            assert one[4]["equity"] == info["equity"][i]
            assert one[4]["reward_terms"] == {k: v[i] for k, v in info["reward_terms"].items()}
            if one[2] or one[3]:
                np.testing.assert_array_equal(one[0], info["final_obs"][i])
                one = env.reset()
            np.testing.assert_array_equal(one[0], seen[i])


def test_a_saved_state_goes_on_bit_for_bit_with_a_reward_that_remembers():
    panel, rules = rich_panel(), every_rule("continuous", True, "sortino")
    env, other = (TradingVecEnv(panel, rules, 2) for _ in range(2))
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(15):
        env.step(env.action_space.sample())
    other.load_state(env.save_state())
    for _ in range(60):
        actions = env.action_space.sample()
        for x, y in zip(env.step(actions)[:4], other.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(x, y)


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 1000), st.floats(0, 100), st.floats(0, 300), st.booleans())
def test_equity_is_cash_plus_inventories_less_all_charges(n, seed, fee_bps, impact_bps, short):
    """An account kept beside the environment from prices, positions and reported charges."""
    panel = rich_panel(n_symbols=n, n_bars=40, seed=seed % 3)
    rules = replace(
        every_rule("continuous", True, allow_short=short),
        costs=Costs(fee_bps, 4.0, 1.0, impact_bps),
        ruin_fraction=0.0,
    )
    env = TradingEnv(panel, rules)
    env.action_space.seed(seed)
    steps = walk(env, [env.action_space.sample() for _ in range(30)], options=FIRST)
    starts, units, cash = panel.segments[:, 0], np.zeros(n), rules.initial_cash
    for before, (seen, _, _, _, info) in zip(
        [steps[0][1], *(step[4] for step in steps[1:])], steps[1:], strict=False
    ):
        rows = starts + info["row"]
        held = seen[-n:].astype(float) * info["equity"] / panel.close[rows]  # float32 exposures
        cash -= ((held - units) * panel.open[rows]).sum() + info["paid"] + info["financing"]
        units = held
        assert info["row"] == before["row"] + 1
        scale = 1e4 + (np.abs(units) * panel.close[rows]).sum()
        # exposures are float32: 6e-8 of each position, a bar
        assert cash + units @ panel.close[rows] == pytest.approx(info["equity"], abs=3e-6 * scale)
    record, held = env._accounts.records[0], env._accounts.units[0]
    worth = record["cash"] + held @ panel.close[starts + record["row"]]
    assert record["equity"] == pytest.approx(worth, rel=1e-9)


def test_fifty_assets_at_once_keep_one_account(rules):
    panel = make_panel(n_bars=60, n_symbols=50)
    env = TradingEnv(panel, weights(is_portfolio=True, costs=Costs(1.0, 2.0, 1.0), max_weight=0.5))
    steps = walk(env, [np.full(50, 0.04, np.float32)] * 10, options=FIRST)
    assert steps[1][0].shape == (50 * (5 * 3 + 2),)
    # 50 weights of .04 * .5 = .02 sum to one: all is invested, nothing is borrowed
    assert steps[1][4]["exposure"] == pytest.approx(1.0, abs=1e-6)
    assert steps[1][4]["traded"] == pytest.approx(1e4 / (1 + 2e-4) / (1 + 1e-4), rel=1e-6)
    assert env._accounts.records["cash"][0] == pytest.approx(0.0, abs=10.0)


def test_a_portfolio_of_one_symbol_is_that_symbol():
    panel = make_panel(n_symbols=1)
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 1)).astype(np.float32)
    rules = weights(costs=DEAR._replace(impact_bps=0.0))
    one = walk(TradingEnv(panel, rules), actions, options=FIRST)
    other = walk(TradingEnv(panel, replace(rules, is_portfolio=True)), actions, options=FIRST)
    for a, b in zip(one[1:], other[1:], strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        assert a[1:4] == b[1:4]


def test_permuted_assets_give_the_same_equity():
    panel = rich_panel()
    order = [2, 0, 1]
    rows = np.concatenate([np.arange(*panel.segments[k]) for k in order])
    fields = ("ts", "open", "close", "features", "volume", "forecast", "uncertainty")
    other = replace(
        panel,
        symbols=tuple(panel.symbols[k] for k in order),
        **{name: getattr(panel, name)[rows] for name in fields},
    )
    rules = every_rule("continuous", True)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 3)).astype(np.float32)
    one = walk(TradingEnv(panel, rules), actions, options=FIRST)
    two = walk(TradingEnv(other, rules), actions[:, order], options=FIRST)
    for a, b in zip(one[1:], two[1:], strict=True):
        assert a[1] == pytest.approx(b[1], abs=1e-12)  # sums in another order


def test_target_weights_are_reached_without_costs(panel):
    env = TradingEnv(panel, weights(max_weight=0.5))
    for wanted in (1.0, 0.3, -0.6, -1.0, 0.0, 0.7):
        env.reset(options=FIRST)
        env.step(np.array([0.5], np.float32))
        info = env.step(np.array([wanted], np.float32))[4]
        row = info["row"]
        change = panel.close[row] / panel.open[row]
        weight = 0.5 * wanted * change / (1 + 0.5 * wanted * (change - 1))
        assert info["exposure"] == pytest.approx(weight, abs=1e-7)


def test_full_weight_leaves_no_cash_and_keeps_still(panel):
    env = TradingEnv(panel, weights(costs=DEAR._replace(impact_bps=0.0)))
    steps = walk(env, [np.ones(1, np.float32)] * 5, options=FIRST)
    assert [step[4]["traded"] > 0 for step in steps[1:]] == [True] + [False] * 4
    assert env._accounts.records["cash"][0] == pytest.approx(0.0, abs=1e-8)


def test_turning_round_at_full_weight_overdraws_nothing(panel):
    rules = weights(costs=Costs(20.0, 10.0, 5.0))
    env = TradingEnv(panel, rules)
    walk(env, [np.array([w], np.float32) for w in (-1, 1)], options=FIRST)
    assert env._accounts.records["cash"][0] == pytest.approx(0.0, abs=1e-8)


def test_changes_within_the_band_are_not_traded(panel):
    env = TradingEnv(panel, weights(min_trade_weight=0.1))
    steps = walk(env, [np.array([w], np.float32) for w in (0.5, 0.55, 0.7, 0.05)], options=FIRST)
    assert [step[4]["traded"] > 0 for step in steps[1:]] == [True, False, True, True]


def test_positions_beyond_the_leverage_are_scaled_down():
    panel = make_panel(n_symbols=4)
    rules = weights(is_portfolio=True, limits=Limits(max_leverage=2.0))
    info = walk(TradingEnv(panel, rules), [np.array([1, 1, -1, -1], np.float32)], options=FIRST)
    assert info[1][4]["traded"] == pytest.approx(2.0 * 1e4)
    buy_all = replace(rules, action_kind="discrete", max_weight=0.75)
    steps = walk(TradingEnv(panel, buy_all), [[1, 1, 0, 0], [0, 0, 1, 1]], options=FIRST)
    assert steps[1][4]["traded"] == pytest.approx(1.5 * 1e4)
    # those held stay; what is left of the leverage goes to the two new ones
    starts, row = panel.segments[:, 0], steps[1][4]["row"]
    units = 7_500 / panel.open[starts[:2] + row]
    held = units @ panel.open[starts[:2] + row + 1]
    room = 2 * (1e4 - 15_000 + held) - held
    assert steps[2][4]["traded"] == pytest.approx(min(room, 1.5 * (held - 5_000)), rel=1e-9)


def test_impact_is_the_root_of_the_share_of_volume(panel):
    volume = np.full(len(panel.ts), 1e4)
    rules = weights(costs=Costs(0.0, 0.0, 0.0, 100.0), max_weight=0.5)
    still = with_closes(replace(panel, volume=volume), [100.0])
    info = walk(TradingEnv(still, rules), [np.ones(1, np.float32)], options=FIRST)[1][4]
    quantity = info["traded"] / 100.0
    # 100 bp of the price for an order of a whole bar's volume
    assert info["paid"] == pytest.approx(info["traded"] * 0.01 * np.sqrt(quantity / 1e4), rel=1e-9)


def test_impact_needs_volumes(panel):
    with pytest.raises(ValueError, match="the panel has no volume"):
        TradingEnv(panel, weights(costs=Costs(0.0, 0.0, 0.0, 10.0)))


def test_a_short_pays_for_borrowing_by_the_day(panel):
    rules = weights(financing=Financing(borrow_bps=365.0))
    steps = walk(
        TradingEnv(with_closes(panel, [100.0]), rules), [-np.ones(1, np.float32)] * 3, options=FIRST
    )
    charged = [step[4]["financing"] for step in steps[1:]]
    # 365 bp a year on 10,000 currency over one day of 365
    assert charged == pytest.approx([0.0, 1.0, 0.9999], rel=1e-9)
    assert steps[3][4]["equity"] == pytest.approx(1e4 - 1.9999, rel=1e-12)


def test_negative_cash_pays_interest_and_positive_cash_earns_none(panel):
    limits = Limits(max_leverage=2.0)
    rules = weights(financing=Financing(interest_bps=365.0), max_weight=2.0, limits=limits)
    still = with_closes(panel, [100.0])
    lent = walk(TradingEnv(still, rules), [np.ones(1, np.float32)] * 2, options=FIRST)
    assert lent[2][4]["financing"] == pytest.approx(1.0)
    short = walk(TradingEnv(still, rules), [-np.ones(1, np.float32)] * 2, options=FIRST)
    assert short[2][4]["financing"] == 0.0


def test_a_margin_call_closes_at_the_next_open_and_terminates(panel):
    limits = Limits(max_leverage=2.0, maintenance_fraction=0.4)
    rules = weights(max_weight=2.0, limits=limits, costs=Costs(10.0, 0.0, 0.0))
    falling = with_closes(panel, [100.0, 80.0, 70.0, 60.0])
    steps = walk(TradingEnv(falling, rules), [np.ones(1, np.float32)] * 5, options=FIRST)
    ends = [step[4]["end"] for step in steps[1:]]
    # 2 x 10,000 bought at 100; at 80 the equity is 6,000 less costs, below .4 * 16,000
    assert ends == [0, 0, MARGIN_CALL]
    assert [step[2:4] for step in steps[2:]] == [(False, False), (True, False)]
    last = steps[-1][4]
    assert (last["position"], last["exposure"]) == (0, 0.0)
    assert last["paid"] == pytest.approx(last["traded"] * 1e-3)


@pytest.mark.parametrize(
    ("change", "end"),
    [
        ({"limits": Limits(max_drawdown=0.3)}, DRAWDOWN),
        ({"ruin_fraction": 0.75}, RUIN),
        ({"episode_bars": 3}, TIME),
    ],
)
def test_an_episode_says_why_it_ended(panel, change, end):
    falling = with_closes(panel, [100.0, 120.0, 110.0, 83.0, 70.0])
    env = TradingEnv(falling, weights(**{"episode_bars": 300} | change))
    options = FIRST
    if end == TIME:  # only training episodes have a clock
        options = None
    steps = walk(env, [np.ones(1, np.float32)] * 399, options=options, seed=0)
    assert steps[-1][4]["end"] == end
    assert steps[-1][2:4] == (end != TIME, end == TIME)


def test_the_drawdown_is_shown_before_the_position(panel):
    falling = with_closes(panel, [100.0, 120.0, 90.0])
    env = TradingEnv(falling, weights(shows_drawdown=True))
    steps = walk(env, [np.ones(1, np.float32)] * 3, options=FIRST)
    assert [step[0][-3] for step in steps[1:]] == pytest.approx([0.0, 0.0, 0.25])


@pytest.mark.parametrize("action", [[1.01], [np.nan], [-1.01], [np.inf]])
def test_a_weight_out_of_range_is_refused_and_moves_nothing(panel, action):
    env = TradingEnv(panel, weights())
    _, info = env.reset(seed=0)
    with pytest.raises(ValueError, match="expected a weight from -1 to 1"):
        env.step(np.array(action, np.float32))
    assert env.step(np.zeros(1, np.float32))[4]["row"] == info["row"] + 1


def test_weights_of_another_shape_or_kind_are_refused(panel):
    env = TradingEnv(panel, weights())
    env.reset(seed=0)
    for action in (1.0, np.zeros(2, np.float32), np.zeros(1, int), "buy"):
        with pytest.raises(ValueError, match=r"expected floats of shape \(1, 1\)"):
            env.step(action)


def test_a_portfolio_needs_one_clock(panel):
    late = panel.ts.copy()
    late[-1] += 1
    with pytest.raises(PanelError, match="different times"):
        TradingEnv(replace(panel, ts=late), weights(is_portfolio=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_weight": 1.5}, "max_weight is 1.5"),
        ({"action_kind": "both"}, "action_kind is 'both'"),
        ({"min_trade_weight": 1.0}, "min_trade_weight is 1.0"),
    ],
)
def test_impossible_rules_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        weights(**change)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Limits(max_leverage=0.0), "max_leverage is 0.0"),
        (lambda: Limits(maintenance_fraction=1.0), "maintenance_fraction is 1.0"),
        (lambda: Limits(max_drawdown=0.0), "max_drawdown is 0.0"),
        (lambda: Financing(borrow_bps=-1.0), "borrow_bps is -1.0"),
        (lambda: Financing(interest_bps=np.nan), "interest_bps is nan"),
    ],
)
def test_impossible_limits_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_episode_is_drawn_with_its_prices_positions_and_drawdown(panel):
    env = TradingEnv(panel, weights(), render_mode="plotly")
    with pytest.raises(RuntimeError, match="call reset"):
        env.render()
    steps = walk(env, [np.array([w], np.float32) for w in (1, 0.5, -1)], options=FIRST)
    price, weight, equity, drawdown = env.render().data
    np.testing.assert_array_equal(price.y, panel.close[4:8])
    np.testing.assert_allclose(weight.y, [step[-1]["exposure"] for step in steps], atol=1e-12)
    np.testing.assert_array_equal(equity.y, [step[-1]["equity"] for step in steps])
    assert drawdown.y.max() == 0.0
    env.reset()
    assert len(env.render().data[0].y) == 1


def test_a_portfolio_is_drawn_with_a_line_for_each_asset():
    panel = make_panel(n_symbols=3)
    env = TradingEnv(panel, weights(is_portfolio=True), render_mode="plotly")
    walk(env, [np.full(3, 0.2, np.float32)] * 4, options=FIRST)
    figure = env.render()
    assert [trace.name for trace in figure.data if trace.showlegend] == ["S0", "S1", "S2"]
    assert len(figure.data) == 8


def test_rendering_must_be_asked_for(panel):
    env = TradingEnv(panel, weights())
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="render_mode='plotly'"):
        env.render()
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        TradingEnv(panel, weights(), render_mode="human")
