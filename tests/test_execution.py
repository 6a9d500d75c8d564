import math

import numpy as np
import pytest

from hftlib.agents.execution import (
    ParticipationExecutor,
    ScheduledExecutor,
    almgren_chriss_trajectory,
    estimate_volume_curve,
    immediate_trajectory,
    twap_trajectory,
    vwap_trajectory,
)
from hftlib.agents.multiagent import Transition
from hftlib.agents.orders import RandomOrders, slice_action
from hftlib.envs.desk import lots_of, round_price
from hftlib.envs.roles import Executor, Maker, Taker
from tests.market_views import draw_observations, mirror, observe

ROLE = Executor(parent_lots=1_000, max_slice=1_000, reach_ticks=8.0)
N_STEPS = 40
CURVE = np.abs(np.linspace(-1, 1, N_STEPS)) + 0.2
EXECUTORS = {
    "twap": lambda: ScheduledExecutor(ROLE, twap_trajectory(N_STEPS)),
    "vwap": lambda: ScheduledExecutor(ROLE, vwap_trajectory(CURVE)),
    "almgren_chriss": lambda: ScheduledExecutor(
        ROLE, almgren_chriss_trajectory(N_STEPS, kappa=0.5, step=0.1)
    ),
    "immediate": lambda: ScheduledExecutor(ROLE, immediate_trajectory(N_STEPS), patience=0),
    "pov": lambda: ParticipationExecutor(ROLE, N_STEPS, rate=0.2),
}
executors = pytest.mark.parametrize("make", EXECUTORS.values(), ids=EXECUTORS)


def price_of(action, mid, side, role=ROLE):
    """As the environment rounds it: away from the other side."""
    return round_price(mid + side * float(action[0]) * role.reach_ticks, side)


def lots_of_actions(actions, role=ROLE):
    return np.array([lots_of(float(a), role.max_slice) for a in actions[:, 1]])


def work(policy, fills, volume=None, n_steps=N_STEPS, role=ROLE):
    """Lots traded each step; `fills(crosses)` is the share of an order that trades."""
    if hasattr(policy, "begin"):
        policy.begin(1)
    left, traded, last = role.parent_lots, [], 0
    for t in range(n_steps):
        others = 0 if volume is None or t == 0 else volume[t - 1]
        seen = observe(
            role,
            side=1,
            remaining=left / role.parent_lots,
            time_left=1 - t / n_steps,
            bid_distance_1=0.05,
            ask_distance_1=0.05,
            traded=np.log1p(others + last) / 10,
        )
        action = policy.act(seen)
        wanted = min(left, lots_of_actions(action, role)[0])
        last = round(wanted * fills(action[0, 0] > 0))
        left -= last
        traded.append(last)
    return np.array(traded)


@pytest.mark.parametrize("name", [name for name in EXECUTORS if name != "pov"])
def test_a_trajectory_falls_from_all_to_nothing(name):
    sizes = -np.diff(EXECUTORS[name]().target_lots)
    assert sizes.sum() == ROLE.parent_lots
    assert (sizes >= 0).all()


def test_twap_s_slices_are_even_and_sum_to_the_parent_order():
    role = Executor(parent_lots=1_003, max_slice=1_003)
    slices = work(ScheduledExecutor(role, twap_trajectory(40), patience=0), lambda _: 1, role=role)
    assert slices.sum() == 1_003
    assert set(slices) == {25, 26}


def test_vwap_follows_the_volume_curve():
    slices = work(ScheduledExecutor(ROLE, vwap_trajectory(CURVE)), lambda _: 1)
    assert slices.sum() == ROLE.parent_lots
    # two ends of a slice are rounded to whole lots
    assert np.abs(slices - ROLE.parent_lots * CURVE / CURVE.sum()).max() <= 1


def test_a_flat_volume_curve_is_twap():
    np.testing.assert_allclose(
        vwap_trajectory(np.full(30, 7.0)), twap_trajectory(30), rtol=0, atol=1e-15
    )


def test_all_at_once_is_gone_after_a_step():
    slices = work(EXECUTORS["immediate"](), lambda _: 1)
    assert slices[0] == ROLE.parent_lots
    assert slices[1:].sum() == 0


def test_almgren_chriss_by_hand():
    """T = 3, kappa = ln 2: sinh(3 ln 2) = 63 / 16, sinh(2 ln 2) = 15 / 8, sinh(ln 2) = 3 / 4."""
    got = almgren_chriss_trajectory(3, kappa=math.log(2), step=1.0)
    np.testing.assert_allclose(got, [1, 30 / 63, 12 / 63, 0], rtol=1e-14, atol=1e-16)


def test_almgren_chriss_is_its_closed_form_and_does_not_overflow():
    t = np.arange(51) * 0.2
    closed = np.sinh(0.7 * (10 - t)) / np.sinh(7)
    np.testing.assert_allclose(almgren_chriss_trajectory(50, 0.7, 0.2), closed, atol=1e-15)
    urgent = almgren_chriss_trajectory(50, 1e4, 0.2)
    np.testing.assert_array_equal(urgent, immediate_trajectory(50))


def test_almgren_chriss_tends_to_twap_as_urgency_vanishes():
    gaps = []
    for kappa in (0.3, 0.03, 0.003, 0.0):
        gap = almgren_chriss_trajectory(20, kappa, 0.5) - twap_trajectory(20)
        gaps.append(np.abs(gap).max())
    assert gaps[0] > 50 * gaps[1] > 2_500 * gaps[2] > 0
    assert gaps[3] == 0


def test_no_other_schedule_costs_less():
    """Expected cost plus lambda times variance, equations 4 and 5 of Almgren and Chriss.

    Its minimum has 2 / tau^2 * (cosh(kappa * tau) - 1) = lambda * sigma^2 / eta, eta less
    permanent * tau / 2.
    """
    risk_aversion, sigma, eta, permanent, tau, n = 0.02, 0.9, 0.1, 0.03, 0.5, 20

    def cost(x):
        trades = -np.diff(x)
        expected = 0.5 * permanent * x[0] ** 2
        expected += (eta - 0.5 * permanent * tau) / tau * (trades**2).sum()
        return expected + risk_aversion * sigma**2 * tau * (x[1:] ** 2).sum()

    ratio = risk_aversion * sigma**2 / (eta - 0.5 * permanent * tau)
    kappa = 2 / tau * math.asinh(tau / 2 * math.sqrt(ratio))
    best = almgren_chriss_trajectory(n, kappa, tau)
    rng = np.random.default_rng(0)
    for scale in (1e-1, 1e-3, 1e-5):
        for _ in range(20):
            other = best.copy()
            other[1:-1] += scale * rng.normal(size=n - 1)
            assert cost(other) > cost(best)
    for factor in (0.99, 1.01):
        assert cost(almgren_chriss_trajectory(n, kappa * factor, tau)) > cost(best)


def test_participation_trades_its_share_of_the_others_volume():
    rng = np.random.default_rng(1)
    volume = rng.integers(0, 80, N_STEPS)
    slices = work(EXECUTORS["pov"](), lambda _: 1, volume)
    due = np.rint(0.2 * np.cumsum(volume))
    assert slices[0] == 0
    np.testing.assert_array_equal(np.cumsum(slices)[1:], due[:-1])


def test_participation_crosses_for_volume_that_its_patience_has_outlived():
    """10 lots of volume a step call for 2 each; only every third order trades."""
    policy = ParticipationExecutor(ROLE, N_STEPS, rate=0.2, patience=2)
    slices = work(policy, lambda crosses: float(crosses), np.full(N_STEPS, 10))
    steps = np.arange(N_STEPS)
    np.testing.assert_array_equal(slices, np.where((steps % 3 == 0) & (steps > 0), 6, 0))


def test_participation_never_wants_more_than_the_parent_order():
    slices = work(EXECUTORS["pov"](), lambda _: 1, np.full(N_STEPS, 10_000))
    assert slices.sum() == ROLE.parent_lots


def test_participation_forgets_the_volume_of_the_last_episode():
    policy = EXECUTORS["pov"]()
    volume = np.full(N_STEPS, 50)
    first, second = (work(policy, lambda _: 1, volume) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_slice_rests_first_and_crosses_when_its_patience_ends():
    """Nobody trades with resting orders: every third order crosses, for all that is due."""
    policy = ScheduledExecutor(ROLE, twap_trajectory(N_STEPS), patience=2)
    slices = work(policy, lambda crosses: float(crosses))
    np.testing.assert_array_equal(slices, np.where(np.arange(N_STEPS) % 3 == 2, 75, 0))


@pytest.mark.parametrize("side", [1, -1])
def test_resting_orders_join_the_best_price_of_their_side(side):
    """Book 9,998 to 10,001, mid 9,999.5; a buyer joins at 9,998, a seller at 10,001."""
    policy = ScheduledExecutor(ROLE, twap_trajectory(N_STEPS))
    own = "bid_distance_1" if side > 0 else "ask_distance_1"  # the other side is empty
    (action,) = policy.act(observe(ROLE, side=side, remaining=1, time_left=1, **{own: 0.15}))
    assert price_of(action, 9_999.5, side) == (9_998 if side > 0 else 10_001)
    assert lots_of_actions(action[None])[0] == 25


@pytest.mark.parametrize("side", [1, -1])
def test_late_orders_cross_as_far_as_the_role_reaches(side):
    seen = observe(ROLE, side=side, remaining=1, time_left=0.5, bid_distance_1=0.1)
    (action,) = EXECUTORS["twap"]().act(seen)
    assert price_of(action, 10_000.0, side) == 10_000 + side * 8
    assert lots_of_actions(action[None])[0] == 525


def test_who_is_ahead_of_schedule_waits():
    seen = observe(ROLE, side=1, remaining=0.2, time_left=0.5)
    assert lots_of_actions(EXECUTORS["twap"]().act(seen))[0] == 0


def test_wanted_slices_come_back_from_the_role_s_own_map():
    role = Executor(parent_lots=500, max_slice=60, reach_ticks=7.0)
    depth = np.repeat(np.arange(-14, 15) / 2, 3)
    lots = np.tile([0.0, 1.0, 60.0], 29)
    actions = slice_action(role, depth, lots)
    assert lots_of_actions(actions, role).tolist() == lots.tolist()
    for mid in (10_000.0, 10_000.5):
        for wanted, action in zip(depth, actions, strict=True):
            assert price_of(action, mid, 1, role) == math.floor(mid - wanted)
            assert price_of(action, mid, -1, role) == math.ceil(mid + wanted)


@pytest.mark.parametrize("mid", [20_000.0, 20_000.5])
@pytest.mark.parametrize("reach", [3.0, 7.0, 333.3, 10_000.0])
def test_a_float32_limit_lands_on_exactly_the_tick_it_stands_for(reach, mid):
    """At every whole and half tick in reach, behind the mid and beyond it."""
    role = Executor(reach_ticks=reach)
    depth = np.arange(-2 * int(reach), 2 * int(reach) + 1) / 2
    actions = slice_action(role, depth, np.ones(len(depth)))
    assert actions.dtype == np.float32
    for side, rounded in ((1, np.floor), (-1, np.ceil)):
        prices = [price_of(action, mid, side, role) for action in actions]
        np.testing.assert_array_equal(prices, rounded(mid - side * depth))


@executors
def test_a_mirrored_market_gives_the_same_order_on_the_other_side(make):
    seen = draw_observations(ROLE, 300, np.random.default_rng(2))
    actions = []
    for view in (seen, mirror(ROLE, seen)):
        policy = make()
        if hasattr(policy, "begin"):
            policy.begin(300)
        actions.append(policy.act(view))
    np.testing.assert_array_equal(*actions)
    assert len(np.unique(actions[0], axis=0)) > 2


@executors
def test_a_batch_acts_as_its_rows_do(make):
    rng = np.random.default_rng(3)
    steps = [draw_observations(ROLE, 12, rng) for _ in range(8)]
    policies = [make() for _ in range(13)]
    for policy, n in zip(policies, [12] + [1] * 12, strict=True):
        if hasattr(policy, "begin"):
            policy.begin(n)
    for seen in steps:
        together = policies[0].act(seen)
        assert together.dtype == np.float32
        assert np.abs(together).max() <= 1
        for k in range(12):
            np.testing.assert_array_equal(together[k], policies[1 + k].act(seen[k : k + 1])[0])


def test_memory_of_another_number_of_copies_is_refused():
    policy = EXECUTORS["pov"]()
    with pytest.raises(ValueError, match=r"of 3 copies, memory of 0; call begin\(3\)"):
        policy.act(observe(ROLE, 3))


class Days:
    """Two copies in which 10 * (t + 1) and 30 * (t + 1) lots trade in step t."""

    n_envs = 2

    def __init__(self, role, n_steps):
        self.role, self.n_steps = role, n_steps

    def reset(self, seed=None):
        self.t, self.seed = 0, seed
        return (observe(self.role, 2),), None

    def step(self, actions):
        assert (actions[0][:, 2:4] == -1).all()
        self.t += 1
        lots = np.array([10, 30]) * self.t + self.seed
        after = (observe(self.role, 2, traded=np.log1p(lots) / 10),)
        is_over = np.full(2, self.t == self.n_steps)
        now = self.reset(self.seed)[0] if is_over.all() else after
        return Transition(now, None, None, None, is_over, after, None)


def test_the_volume_curve_is_the_mean_of_the_training_days():
    curve = estimate_volume_curve(Days(Maker(), 5), (Maker(),), seed=4)
    np.testing.assert_array_equal(curve, 20 * np.arange(1, 6) + 4)


def test_a_volume_curve_with_an_executor_in_it_is_refused():
    with pytest.raises(ValueError, match="use an idle Maker instead"):
        estimate_volume_curve(Days(Taker(), 5), (Taker(), ROLE), seed=0)


@pytest.mark.parametrize("curve", [[0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [[1.0]]])
def test_a_volume_curve_without_a_meaning_is_refused(curve):
    with pytest.raises(ValueError, match="expected one volume a step, none negative, not all 0"):
        vwap_trajectory(curve)


@pytest.mark.parametrize("trajectory", [[1, 0.5, 0.6, 0], [1, 0.5], [0.9, 0.0]])
def test_a_trajectory_that_is_no_schedule_is_refused(trajectory):
    with pytest.raises(ValueError, match="expected shares that fall from 1 to 0"):
        ScheduledExecutor(ROLE, np.array(trajectory))


def test_a_random_executor_stays_in_its_box():
    actions = RandomOrders(ROLE, np.random.default_rng(4)).act(observe(ROLE, 1_000))
    assert actions.shape == (1_000, 2)
    assert np.abs(actions).max() <= 1
    assert lots_of_actions(actions).max() > 0.95 * ROLE.max_slice
