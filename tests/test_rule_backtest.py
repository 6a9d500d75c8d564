"""Rules beside agents: the same account as in the environment, and nothing from the future."""

from dataclasses import replace

import numpy as np
import pytest

from hftlib.agents.baselines import BuyAndHold
from hftlib.agents.policy import play
from hftlib.evaluation.rule_backtest import choose_before, join_spans, play_rules, trade_grid
from hftlib.evaluation.rule_grid import WARM_UP
from hftlib.portfolio.risk import RiskLimits
from tests.conftest import make_panel

YEAR = 252.0
NAMED = {"hold": "buy_and_hold", "momentum": "momentum 20, long or short"}


def cut_panel(panel, start, stop):
    """Rows of each symbol, as a split of its own."""
    rows = np.concatenate([np.arange(a + start, a + stop) for a, _ in panel.segments])
    n = stop - start
    edges = np.arange(len(panel.symbols) + 1) * n
    taken = {name: getattr(panel, name)[rows] for name in ("ts", "open", "close", "features")}
    return replace(panel, segments=np.stack([edges[:-1], edges[1:]], axis=1), **taken)


@pytest.fixture
def splits():
    panel = make_panel(n_bars=900)
    return [cut_panel(panel, 0, 600), cut_panel(panel, 600, 900)]


def test_holding_is_the_account_of_the_environment(splits, rules):
    played = play_rules(NAMED, join_spans(splits), splits[1], rules, YEAR)["hold"][0]
    same = play(BuyAndHold(), splits[1], rules)
    np.testing.assert_allclose(played.equity, same.equity, rtol=1e-12)
    np.testing.assert_array_equal(played.row, same.row)


def test_a_rule_starts_with_what_it_wanted_last(splits, rules):
    history = join_spans(splits)
    played = play_rules(NAMED, history, splits[1], rules, YEAR)["momentum"][0]
    first = 600 + rules.window_bars - 1  # the bar at whose close agents and rules begin
    side = np.sign(history.close[first] - history.close[first - 20])
    np.testing.assert_array_equal(played.position[1, 0], side)


def test_scrambling_the_future_leaves_the_past_bit_for_bit(splits, rules):
    train, test = splits
    later = make_panel(n_bars=900, seed=9)
    open_, close = test.open.copy(), test.close.copy()
    known = 150
    for start, stop in test.segments:
        open_[start + known : stop] = later.open[: stop - start - known]
        close[start + known : stop] = later.close[: stop - start - known]
    changed = replace(test, open=open_, close=close)
    one, other = (
        play_rules(NAMED, join_spans([train, part]), part, rules, YEAR)["momentum"][0]
        for part in (test, changed)
    )
    n_same = known - rules.window_bars + 1
    np.testing.assert_array_equal(one.equity[:n_same], other.equity[:n_same])
    assert not np.array_equal(one.equity, other.equity)


def test_the_choice_sees_nothing_of_the_tested_span(splits, rules):
    train, test = splits
    choice = choose_before(trade_grid(join_spans(splits), rules, YEAR), test, YEAR)
    rng = np.random.default_rng(3)
    walk = 100 * np.exp(np.cumsum(rng.normal(0, 0.05, len(test.ts))))
    changed = replace(test, open=walk, close=walk)
    grid = trade_grid(join_spans([train, changed]), rules, YEAR)
    assert choose_before(grid, changed, YEAR) == choice


def test_the_choice_has_the_best_ratio(splits, rules):
    grid = trade_grid(join_spans(splits), rules, YEAR)
    choice = choose_before(grid, splits[1], YEAR)
    seen = grid.returns[WARM_UP - 1 : 599]
    assert grid.prices.ts[600] == splits[1].ts[0]
    deviation = np.where(seen.any(axis=0), seen.std(axis=0), np.inf)
    assert grid.strategies[int(np.argmax(seen.mean(axis=0) / deviation))] == choice


def test_too_short_a_history_is_named(splits, rules):
    early = cut_panel(splits[0], 0, 200)
    grid = trade_grid(join_spans(splits), rules, YEAR)
    idle = replace(grid, equity=np.full_like(grid.equity, 1e4))
    with pytest.raises(ValueError, match="none of 39 rules traded in the 0 bars"):
        choose_before(idle, early, YEAR)


def test_spans_of_other_symbols_are_refused(splits):
    other = replace(splits[1], symbols=("X", "Y"))
    with pytest.raises(ValueError, match="expected the same in all"):
        join_spans([splits[0], other])
    with pytest.raises(ValueError, match="ts does not increase"):
        join_spans(splits[::-1])


def test_limits_know_the_days_before_the_span(splits, rules):
    panel, limits = splits[1], RiskLimits(max_var=0.5, max_position=1.0, max_drawdown=1.0)
    within = replace(rules, risk=limits, sectors={"S0": "one"})
    played = play_rules(NAMED, join_spans(splits), panel, within, YEAR)["hold"][0]
    assert (played.position[1] == 1).all()  # at the first open, without waiting for returns
    alone = join_spans([panel])
    waiting = trade_grid(alone, within, YEAR)
    assert (waiting.traded[:10] == 0).all()
