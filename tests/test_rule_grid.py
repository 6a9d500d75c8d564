"""The grid holds what it says, knows no future, and holds positions rather than drift."""

import numpy as np

from hftlib.evaluation.rule_grid import HOLD, WARM_UP, family_of, list_rules, stack_rules

N_BARS = 600


def closes(seed=0):
    moves = np.random.default_rng(seed).normal(0, 0.01, (N_BARS, 2))
    return 100 * np.exp(moves.cumsum(axis=0))


def held(weights):
    """What a target holds: nan leaves the row before."""
    out = np.zeros_like(weights)
    last = np.zeros(weights.shape[1])
    for t, row in enumerate(weights):
        last = np.where(np.isnan(row), last, row)
        out[t] = last
    return out


def test_every_rule_trades_and_no_two_are_the_same():
    rules = list_rules(closes(), 252)
    positions = {name: held(weights).tobytes() for name, weights in rules.items()}
    assert len(rules) == 39
    assert len(set(positions.values())) == len(rules)
    for name, weights in rules.items():
        assert np.abs(held(weights)[WARM_UP:]).max() > 0, name


def test_only_those_called_so_are_short_and_none_is_levered():
    for name, weights in list_rules(closes(), 252).items():
        own = held(weights)
        assert (own.min() < 0) == name.endswith("long or short"), name
        assert np.abs(own).sum(axis=1).max() <= 1 + 1e-12 or name == HOLD


def test_scrambling_the_future_changes_no_past_target():
    close = closes()
    other = close.copy()
    other[400:] = closes(1)[400:]
    before, after = (stack_rules(list_rules(c, 252))[:400] for c in (close, other))
    np.testing.assert_array_equal(before, after)
    assert before.shape == (400, 39, 2)


def test_a_flat_market_gives_no_side_to_follow():
    rules = list_rules(np.full((N_BARS, 1), 100.0), 252)
    for name, weights in rules.items():
        if name.startswith(("averages", "momentum", "breakout", "RSI")):
            assert not held(weights).any(), name


def test_families_are_sides():
    assert family_of(HOLD) == HOLD
    assert {family_of(name) for name in list_rules(closes(), 252)} == {
        HOLD,
        "rule, long or flat",
        "rule, long or short",
    }
