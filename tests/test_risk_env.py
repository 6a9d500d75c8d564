"""Limits of an account in the environment and the backtest: both do what `check_order` says."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data.panel import BarPanel
from hftlib.envs import Financing, Limits, TradingEnv, TradingRules, TradingVecEnv
from hftlib.envs.bar_checks import check_trading
from hftlib.envs.checks import has_passed
from hftlib.evaluation.engine import Prices, run_backtest
from hftlib.portfolio.risk import ROUNDING, RiskLimits, portfolio_var
from hftlib.portfolio.risk_state import RiskError
from tests.risk_walk import (
    DEAR,
    FREE,
    OPEN_ALL,
    SECTORS,
    draw_panel,
    draw_weights,
    limit_sets,
    make_rules,
    play_all,
    walk_account,
)

# One engine: each order is what check_order makes of it


@settings(max_examples=60)
@given(limit_sets, st.integers(0, 10**6), st.sampled_from([FREE, DEAR]), st.booleans())
def test_the_backtest_fills_what_the_check_of_each_order_allows(limits, seed, costs, in_units):
    panel = draw_panel(seed)
    prices, targets = Prices.from_panel(panel), draw_weights(seed).astype(np.float64)
    if in_units:
        targets = targets * 100.0
    settings_ = {"kind": "units"} if in_units else {"max_leverage": 1.2, "min_trade_weight": 0.02}
    result = run_backtest(prices, targets, costs, risk=limits, sectors=SECTORS, **settings_)
    by_hand = {"in_units": True} if in_units else {"max_leverage": 1.2, "band": 0.02}
    path, end = walk_account(prices, targets, costs, limits, sectors=SECTORS, **by_hand)
    np.testing.assert_allclose(result.units[:end, 0], path.units[:end], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(result.equity[:end, 0], path.equity[:end], rtol=1e-9)
    table = result.event_table()[: len(path.events)]
    assert table["action"].tolist() == [event[2] for event in path.events]
    assert [prices.symbols[e[1]] for e in path.events] == table["symbol"].tolist()
    for limit, event in zip(table["limit"], path.events, strict=True):
        assert limit in (event[5] or [""])
    numbers = np.array([event[3:5] for event in path.events]).reshape(-1, 2)
    np.testing.assert_allclose(table[["asked", "allowed"]], numbers, rtol=1e-8, atol=1e-8)


@settings(max_examples=40)
@given(limit_sets, st.integers(0, 10**6), st.sampled_from([FREE, DEAR]))
def test_the_environment_fills_what_the_check_of_each_order_allows(limits, seed, costs):
    panel, actions = draw_panel(seed), draw_weights(seed)
    prices = Prices.from_panel(panel)
    units, equity, infos = play_all(TradingEnv(panel, make_rules(limits, costs)), actions)
    path, end = walk_account(
        prices, actions, costs, limits, sectors=SECTORS, max_leverage=1.5, band=0.01
    )
    stop = min(end, len(units) + 1)
    np.testing.assert_allclose(units[: stop - 1], path.units[1:stop], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(equity[: stop - 1], path.equity[1:stop], rtol=1e-9)
    for t, info in enumerate(infos[: stop - 1], start=1):
        events = [event for event in path.events if event[0] == t]
        cut = [event for event in events if event[2] in ("shrink", "reject")]
        missing = sum(abs(e[3] - e[4]) * prices.open[t, e[1]] for e in cut)
        assert info["n_cut"] == len(cut)
        assert info["n_exits"] == sum(event[2] == "exit" for event in events)
        assert info["refused"] == pytest.approx(missing, rel=1e-8, abs=1e-6)


@settings(max_examples=30)
@given(limit_sets, st.integers(0, 10**6))
def test_environment_and_backtest_are_one_account(limits, seed):
    panel, actions = draw_panel(seed), draw_weights(seed)
    rates = Financing(100.0, 300.0)
    rules = make_rules(limits, financing=rates, var_decay=0.9)
    units, equity, _ = play_all(TradingEnv(panel, rules), actions)
    result = run_backtest(
        Prices.from_panel(panel),
        actions,
        DEAR,
        max_leverage=1.5,
        min_trade_weight=0.01,
        financing=rates,
        risk=limits,
        sectors=SECTORS,
        var_decay=0.9,
    )
    np.testing.assert_allclose(result.units[1:, 0], units, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.equity[1:, 0], equity, rtol=0, atol=1e-8)


def broken(state, limits, covariance):
    """Limits on what is held that an account breaks, and by how much it holds."""
    sizes = abs(state.weights)
    found = {("max_position", s): w for s, w in zip(state.symbols, sizes, strict=True)}
    for sector in {s for s in state.sectors if s}:
        members = [o == sector for o in state.sectors]
        found["max_sector", sector] = sizes[members].sum()
    found["max_leverage", ""] = sizes.sum()
    if covariance is not None and math.isfinite(limits.max_var):
        found["max_var", ""] = portfolio_var(
            replace(state, covariance=covariance), limits.var_level
        )
    over = {k: v for k, v in found.items() if v > getattr(limits, k[0]) * (1 + 4 * ROUNDING)}
    return over


@settings(max_examples=40)
@given(limit_sets, st.integers(0, 10**6))
def test_no_fill_breaks_a_limit_that_was_kept_before_it(limits, seed):
    prices, weights = Prices.from_panel(draw_panel(seed)), draw_weights(seed)
    path, _ = walk_account(prices, weights, FREE, limits, sectors=SECTORS)
    result = run_backtest(prices, weights, FREE, risk=limits, sectors=SECTORS)
    assert len(path.fills) == len(result.fills)
    for before, after, _, covariance in path.fills:
        was, now = broken(before, limits, covariance), broken(after, limits, covariance)
        k = int(np.flatnonzero(before.units != after.units)[0])
        reduces = abs(after.units[k]) <= abs(before.units[k])
        for name, value in now.items():
            if name[0] == "max_var" and reduces:
                continue  # a position that hedged another may be closed
            assert name in was, f"{name} was kept before"
            assert value <= was[name] * (1 + 4 * ROUNDING)
        if not reduces:
            assert after.trades_today <= limits.max_daily_trades
            assert after.drawdown <= limits.max_drawdown * (1 + 4 * ROUNDING)
            assert after.daily_loss <= limits.max_daily_loss * (1 + 4 * ROUNDING)
            most = limits.max_daily_volume * after.day_equity
            assert after.volume_today <= most * (1 + 4 * ROUNDING)


# Laws


def test_limits_at_infinity_are_none():
    panel, actions = draw_panel(3), draw_weights(3)
    one, other = (
        play_all(TradingEnv(panel, make_rules(limits)), actions) for limits in (None, OPEN_ALL)
    )
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert "n_cut" not in one[2][0]
    assert sum(info["n_cut"] + info["n_exits"] for info in other[2]) == 0
    prices = Prices.from_panel(panel)
    free, open_ = (run_backtest(prices, actions, DEAR, risk=risk) for risk in (None, OPEN_ALL))
    np.testing.assert_array_equal(free.equity, open_.equity)
    np.testing.assert_array_equal(free.fills, open_.fills)
    assert len(free.events) == len(free.event_table()) == 0
    assert len(open_.events) == len(open_.fills) > 0


def test_limits_do_bind_on_these_panels():
    table = run_backtest(
        Prices.from_panel(draw_panel(1)),
        draw_weights(1),
        DEAR,
        risk=RiskLimits(stop_loss=0.02),
        sectors=SECTORS,
    ).event_table()
    assert {"accept", "shrink", "reject", "exit"} == set(table["action"])


def test_fills_are_the_events_of_which_something_was_allowed():
    prices, weights = Prices.from_panel(draw_panel(2)), draw_weights(2)
    result = run_backtest(prices, weights, DEAR, risk=RiskLimits(), sectors=SECTORS)
    sent = result.events[result.events["allowed"] != 0]
    assert len(sent) < len(result.events)
    for ours, theirs in (("row", "row"), ("asset", "asset"), ("allowed", "quantity")):
        np.testing.assert_array_equal(sent[ours], result.fills[theirs])


def test_strategies_side_by_side_have_their_own_counters():
    prices, targets = (
        Prices.from_panel(draw_panel(4)),
        np.stack([draw_weights(k) for k in range(3)]),
    )
    both = run_backtest(
        prices, targets.transpose(1, 0, 2), DEAR, risk=RiskLimits(), sectors=SECTORS
    )
    for k in range(3):
        alone = run_backtest(prices, targets[k], DEAR, risk=RiskLimits(), sectors=SECTORS)
        np.testing.assert_array_equal(both.equity[:, k], alone.equity[:, 0])
        mine = both.event_table().query("strategy == @name", local_dict={"name": str(k)})
        rest = alone.event_table().assign(strategy=str(k))
        assert mine.reset_index(drop=True).equals(rest.astype(mine.dtypes))


@pytest.mark.parametrize("max_var", [0.01, math.inf])
def test_the_future_changes_no_decision(max_var):
    panel, actions, cut = draw_panel(5), draw_weights(5), 35
    limits = RiskLimits(max_var=max_var, max_position=0.4, max_sector=0.6)
    rng = np.random.default_rng(0)
    prices = Prices.from_panel(panel)
    noise = np.exp(rng.normal(0, 0.05, prices.close.shape))
    noise[:cut] = 1.0
    later = replace(prices, open=prices.open * noise, close=prices.close * noise)
    one, other = (
        run_backtest(p, actions, DEAR, risk=limits, sectors=SECTORS) for p in (prices, later)
    )
    np.testing.assert_array_equal(one.equity[:cut], other.equity[:cut])
    np.testing.assert_array_equal(one.units[:cut], other.units[:cut])
    past = [result.events[result.events["row"] < cut] for result in (one, other)]
    np.testing.assert_array_equal(*past)
    assert not np.array_equal(one.units[cut:], other.units[cut:])
    again = run_backtest(prices, actions, DEAR, risk=limits, sectors=SECTORS)
    np.testing.assert_array_equal(one.events, again.events)


@pytest.mark.parametrize("is_portfolio", [False, True])
@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_copies_follow_the_single_environment_bit_for_bit(kind, is_portfolio):
    panel = draw_panel(6, n_bars=120)
    limits = RiskLimits(max_position=0.4, max_sector=0.5, stop_loss=0.02, take_profit=0.02)
    changes = {"episode_bars": 30, "window_bars": 5, "is_portfolio": is_portfolio}
    rules = make_rules(limits, action_kind=kind, **changes)
    batch, single = TradingVecEnv(panel, rules, 3), TradingEnv(panel, rules)
    batch.action_space.seed(1)
    observations, _ = batch.reset(seed=10)
    first, _ = single.reset(seed=12)
    np.testing.assert_array_equal(observations[2], first)
    n_exits = n_cut = 0
    for _ in range(80):
        actions = batch.action_space.sample()
        observations, rewards, _, _, info = batch.step(actions)
        seen, reward, terminated, truncated, own = single.step(actions[2])
        for name in ("equity", "n_cut", "n_exits", "refused"):
            assert info[name][2] == own[name]
        assert rewards[2] == reward
        if terminated or truncated:
            np.testing.assert_array_equal(info["final_obs"][2], seen)
            seen, _ = single.reset()
        np.testing.assert_array_equal(observations[2], seen)
        n_exits, n_cut = n_exits + own["n_exits"], n_cut + own["n_cut"]
    assert n_exits > 0
    assert n_cut > 0


def test_a_saved_state_goes_on_bit_for_bit():
    panel = draw_panel(7, n_bars=200)
    rules = make_rules(RiskLimits(max_position=0.4, stop_loss=0.02), episode_bars=50)
    env = TradingVecEnv(panel, rules, 4)
    env.action_space.seed(2)
    env.reset(seed=3)
    actions = [env.action_space.sample() for _ in range(60)]
    for action in actions[:30]:
        env.step(action)
    saved = env.save_state()
    ahead = [env.step(action) for action in actions[30:]]
    other = TradingVecEnv(panel, rules, 4)
    other.reset(seed=99)
    other.load_state(saved)
    for before, action in zip(ahead, actions[30:], strict=True):
        after = other.step(action)
        np.testing.assert_array_equal(before[0], after[0])
        np.testing.assert_array_equal(before[1], after[1])
        for name in ("equity", "n_cut", "n_exits", "refused"):
            np.testing.assert_array_equal(before[4][name], after[4][name])
    assert sum(step[4]["n_exits"].sum() for step in ahead) > 0


def test_an_episode_starts_with_fresh_counters():
    panel = draw_panel(8)
    env = TradingEnv(panel, make_rules(replace(OPEN_ALL, max_daily_trades=1)))
    for _ in range(2):
        env.reset(options={"segment": 0})
        *_, info = env.step(np.array([0.3, 0.0, 0.0], np.float32))
        assert info["n_cut"] == 0
        assert info["traded"] > 0


def test_a_margin_call_is_not_held_up_by_the_limits():
    panel = draw_panel(9)
    close = panel.close.copy()
    close[3:60] *= 0.45
    panel = replace(panel, close=close, open=np.r_[panel.open[:3], close[2:-1]])
    limits = replace(OPEN_ALL, max_daily_trades=1, max_drawdown=0.01)
    rules = make_rules(limits, FREE, is_portfolio=False, max_weight=1.5, limits=Limits(1.5, 0.3))
    env = TradingEnv(panel, rules)
    env.reset(options={"segment": 0})
    for _ in range(10):
        *_, terminated, _, info = env.step(np.ones(1, np.float32))
        if terminated:
            break
    assert info["end"] == 3  # margin call
    assert env._accounts.units[0, 0] == 0


def test_the_laws_of_the_environment_hold_within_limits():
    panel = draw_panel(3, n_bars=120)
    rules = make_rules(RiskLimits(max_position=0.4, stop_loss=0.02), window_bars=5)
    assert has_passed(check_trading(panel, rules, seed=0)).all()


@pytest.mark.parametrize("is_portfolio", [False, True])
def test_the_checker_of_gymnasium_passes_without_a_warning(is_portfolio):
    rules = make_rules(RiskLimits(), window_bars=5, is_portfolio=is_portfolio)
    env = TradingEnv(draw_panel(0), rules)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)


# Bad input


def test_a_sector_of_an_unknown_symbol_is_named():
    panel = draw_panel(0)
    with pytest.raises(RiskError, match="sectors are given for Z"):
        TradingEnv(panel, make_rules(RiskLimits(), sectors={"Z": "energy"}))
    prices, weights = Prices.from_panel(panel), draw_weights(0)
    with pytest.raises(RiskError, match="sectors are given for Z"):
        run_backtest(prices, weights, FREE, risk=RiskLimits(), sectors={"Z": "energy"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"risk": {"max_var": 0.1}}, "risk is {'max_var': 0.1}"),
        ({"var_decay": 1.0}, "var_decay is 1.0"),
        ({"var_decay": 0.0}, "var_decay is 0.0"),
    ],
)
def test_impossible_rules_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        replace(make_rules(None), **change)


def test_limits_and_decays_out_of_range_are_named():
    prices, weights = Prices.from_panel(draw_panel(0)), draw_weights(0)
    with pytest.raises(RiskError, match="max_position is -1"):
        RiskLimits(max_position=-1)
    with pytest.raises(RiskError, match=r"decay is 1\.5; expected above 0 and below 1"):
        run_backtest(prices, weights, FREE, risk=RiskLimits(), var_decay=1.5)


def test_what_rounding_leaves_of_a_kept_position_is_no_trade_in_either():
    """Three assets that move alike, scaled down to the leverage: nothing is to be traded."""
    rng = np.random.default_rng(0)
    n_bars, n_assets = 40, 3
    close = np.tile(100 * np.exp(np.cumsum(rng.normal(0, 0.01, n_bars))), n_assets)
    edges = np.arange(n_assets + 1) * n_bars
    panel = BarPanel(
        symbols=("A", "B", "C"),
        segments=np.stack([edges[:-1], edges[1:]], axis=1),
        ts=np.tile(np.arange(n_bars) * 86_400 * 10**9, n_assets),
        open=close,
        close=close,
        features=np.zeros((len(close), 1), dtype=np.float32),
        feature_names=("none",),
    )
    actions = np.ones((n_bars, n_assets))
    actions[12:] = [-1.0, 1.0, 1.0]  # three orders on one day, as many as are allowed
    limits = RiskLimits(
        max_var=math.inf,
        max_drawdown=1.0,
        max_position=math.inf,
        max_sector=math.inf,
        max_leverage=math.inf,
        stop_loss=math.inf,
        take_profit=math.inf,
        max_daily_trades=3,
        max_daily_volume=math.inf,
        max_daily_loss=math.inf,
    )
    rules = TradingRules(
        FREE,
        window_bars=1,
        allow_short=True,
        action_kind="continuous",
        is_portfolio=True,
        limits=Limits(max_leverage=1.0),
        risk=limits,
    )
    env = TradingEnv(panel, rules)
    env.reset(options={"segment": 0})
    infos = [env.step(action.astype(np.float32))[-1] for action in actions[:-1]]
    assert [info["traded"] > 0 for info in infos[:13]] == [k in (0, 12) for k in range(13)]
    assert all(info["n_cut"] == 0 for info in infos)
    result = run_backtest(Prices.from_panel(panel), actions, FREE, max_leverage=1.0, risk=limits)
    np.testing.assert_allclose(result.equity[1:, 0], [info["equity"] for info in infos])
    assert (np.sign(result.units[13, 0]) == [-1, 1, 1]).all()
