import numpy as np
import pandas as pd
import pytest
from ta.momentum import RSIIndicator

from hftlib.agents.orders import NoOrders, trade_action
from hftlib.agents.taking import RSI, MeanReversion, Momentum, SMACross
from hftlib.envs.desk import Terms, want
from hftlib.envs.roles import Taker
from tests.market_views import draw_observations, mirror, observe

ROLE = Taker(max_size=100)
LIMITS = {"size": 40, "max_inventory": 1_000}
TAKERS = {
    "momentum": lambda: Momentum(ROLE, threshold_ticks=2.0, **LIMITS),
    "mean_reversion": lambda: MeanReversion(ROLE, threshold_ticks=2.0, **LIMITS),
    "sma_cross": lambda: SMACross(ROLE, fast=2, slow=5, **LIMITS),
    "rsi": lambda: RSI(ROLE, window=4, **LIMITS),
    "nothing": lambda: NoOrders(ROLE),
}
takers = pytest.mark.parametrize("make", TAKERS.values(), ids=TAKERS)


def begin(policy, n):
    if hasattr(policy, "begin"):
        policy.begin(n)
    return policy


def lots_of_actions(actions, role=ROLE):
    """Signed lots by the environment's own rule, far from every limit."""
    terms = Terms(1e-9, 0.1, 0.0, 0.0, 1e9, 1e9, 1e9, 1e9, 0.0, 0.0, 0.0, 0.0, 10, True, False)
    view = np.array([99.0, 1, 101.0, 1, 100.0, 100.0, 0, 0, 0, 0])
    lots = []
    for row in np.asarray(actions, dtype=np.float64):
        orders = [
            want(role.code, side, row, view, 0, role.reach_ticks, 0.0, role.max_size, terms, False)
            for side in (1, -1)
        ]
        lots.append(sum(side * qty for _, side, _, qty in orders))
    return np.array(lots)


def walk(n_steps, rng, n=1):
    """Mids of a walk on half ticks, shape (n_steps, n)."""
    return np.cumsum(rng.integers(-6, 7, (n_steps, n)) / 2, axis=0)


def play_path(policy, mids, inventory=0.0):
    """Signed lots wanted at each point of a path of one copy; what is held never changes."""
    begin(policy, 1)
    changes = np.diff(mids, prepend=mids[0])
    seen = [observe(ROLE, last_return=c / 10, inventory=inventory) for c in changes]
    return np.concatenate([lots_of_actions(policy.act(x)) for x in seen])


@pytest.mark.parametrize("max_size", [1, 7, 100])
def test_wanted_trades_come_back_from_the_role_s_own_map(max_size):
    role = Taker(max_size=max_size)
    lots = np.arange(-max_size, max_size + 1, dtype=np.float64)
    np.testing.assert_array_equal(lots_of_actions(trade_action(role, lots), role), lots)
    beyond = trade_action(role, np.array([-3.0 * max_size, 3.0 * max_size]))
    np.testing.assert_array_equal(beyond, [[-1], [1]])


def test_momentum_follows_a_trend_beyond_the_threshold_and_closes_after():
    trend = np.array([3.0, 1.0, -1.0, -3.0])
    momentum, reversion = TAKERS["momentum"](), TAKERS["mean_reversion"]()
    flat = observe(ROLE, 4, trend=trend / 10)
    assert lots_of_actions(momentum.act(flat)).tolist() == [40, 0, 0, -40]
    assert lots_of_actions(reversion.act(flat)).tolist() == [-40, 0, 0, 40]
    long = observe(ROLE, 4, trend=trend / 10, inventory=0.04)
    assert lots_of_actions(momentum.act(long)).tolist() == [0, -40, -40, -80]
    assert lots_of_actions(reversion.act(long)).tolist() == [-80, -40, -40, 0]


def test_sma_cross_agrees_with_averages_of_the_path():
    mids = walk(300, np.random.default_rng(0))[:, 0]
    path = pd.Series(mids)
    gap = path.rolling(3).mean() - path.rolling(8).mean()
    wanted = 40 * np.sign(np.where(np.abs(gap) < 1e-9, 0, gap.fillna(0)))
    got = play_path(SMACross(ROLE, fast=3, slow=8, **LIMITS), mids)
    np.testing.assert_array_equal(got, wanted)
    assert {-40, 0, 40} == set(got)


def test_equal_averages_are_no_signal():
    """Moves that float32 tenths do not hold exactly, back to the start: all means are 0."""
    mids = np.tile([0.0, 0.5, 0.0, -0.5], 6)
    got = play_path(SMACross(ROLE, fast=4, slow=8, **LIMITS), mids)
    np.testing.assert_array_equal(got, 0)


def test_rsi_by_hand():
    """Window 2, changes 0, 2, -1, 3: rises 0, 1, .5, 1.75 and falls 0, 0, .5, .25."""
    policy = begin(RSI(ROLE, window=2, **LIMITS), 1)
    got = [policy.index(observe(ROLE, last_return=c / 10))[0] for c in (0, 2, -1, 3)]
    np.testing.assert_allclose(got, [np.nan, 100, 50, 87.5])


def test_rsi_agrees_with_ta():
    mids = walk(300, np.random.default_rng(1))[:, 0] + 1_000
    policy = begin(RSI(ROLE, window=14, **LIMITS), 1)
    changes = np.diff(mids, prepend=mids[0])
    got = [policy.index(observe(ROLE, last_return=c / 10))[0] for c in changes]
    np.testing.assert_allclose(got, RSIIndicator(pd.Series(mids), window=14).rsi(), rtol=1e-9)


def test_rsi_buys_what_is_oversold_sells_what_is_overbought_and_closes_between():
    falling = np.arange(20, 0, -1) / 1.0
    policy = TAKERS["rsi"]()
    assert play_path(policy, falling)[-1] == 40
    assert play_path(policy, -falling)[-1] == -40
    assert play_path(policy, np.tile([0.0, 1.0], 20), inventory=0.04)[-1] == -40
    assert play_path(policy, np.zeros(20))[-1] == 0


@pytest.mark.parametrize("name", ["sma_cross", "rsi"])
def test_no_signal_before_the_window_is_full(name):
    got = play_path(TAKERS[name](), np.arange(20) * 2.0)
    first = {"sma_cross": 4, "rsi": 3}[name]
    assert (got[:first] == 0).all()
    assert (got[first:] != 0).all()


@pytest.mark.parametrize("name", ["sma_cross", "rsi"])
def test_begin_forgets_the_last_episode(name):
    policy, mids = TAKERS[name](), walk(40, np.random.default_rng(2))[:, 0]
    first = play_path(policy, mids)
    play_path(policy, np.arange(40) * 9.0)
    np.testing.assert_array_equal(play_path(policy, mids), first)


@pytest.mark.parametrize("name", ["sma_cross", "rsi"])
def test_the_return_before_the_first_decision_is_not_read(name):
    policies = [begin(TAKERS[name](), 1) for _ in range(2)]
    steps = np.random.default_rng(3).integers(-6, 7, 20) / 20
    for t, step in enumerate(steps):
        views = [observe(ROLE, last_return=x) for x in (step, 0.9 if t == 0 else step)]
        first, second = (p.act(v) for p, v in zip(policies, views, strict=True))
        np.testing.assert_array_equal(first, second)


@takers
def test_a_mirrored_market_gives_mirrored_trades(make):
    rng = np.random.default_rng(4)
    policy, image = begin(make(), 200), begin(make(), 200)
    n_signals = 0
    for _ in range(12):
        seen = draw_observations(ROLE, 200, rng)
        action = policy.act(seen)
        np.testing.assert_array_equal(image.act(mirror(ROLE, seen)), -action)
        n_signals += len(np.unique(action))
    assert n_signals > 12 or isinstance(policy, NoOrders)


@takers
def test_a_batch_acts_as_its_rows_do(make):
    rng = np.random.default_rng(5)
    policy, singles = begin(make(), 12), [begin(make(), 1) for _ in range(12)]
    for _ in range(8):
        seen = draw_observations(ROLE, 12, rng)
        together = policy.act(seen)
        assert together.dtype == np.float32
        assert together.shape == (12, 1)
        assert np.abs(together).max() <= 1
        for k in range(12):
            np.testing.assert_array_equal(together[k], singles[k].act(seen[k : k + 1])[0])


def test_memory_of_another_number_of_copies_is_refused():
    with pytest.raises(ValueError, match=r"of 1 copies, memory of 0; call begin\(1\)"):
        TAKERS["rsi"]().act(observe(ROLE))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Momentum(ROLE, threshold_ticks=-1, **LIMITS), "threshold_ticks is -1"),
        (lambda: SMACross(ROLE, fast=5, slow=5, **LIMITS), "fast is 5, slow 5; expected 1 <="),
        (lambda: RSI(ROLE, low=80, **LIMITS), "window is 14, low 80, high 70.0; expected"),
        (lambda: Momentum(ROLE, threshold_ticks=1, size=9, max_inventory=8), "size is 9; expected"),
    ],
)
def test_settings_without_a_meaning_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
