import math

import numpy as np
import pytest

from hftlib.agents import orders
from hftlib.agents.making import (
    GLFT,
    AvellanedaStoikov,
    FixedSpread,
    avellaneda_stoikov_quotes,
    glft_quotes,
)
from hftlib.agents.orders import (
    NoOrders,
    RandomOrders,
    lots_to_action,
    offset_to_action,
    quote_action,
)
from hftlib.envs import settlement
from hftlib.envs.desk import lots_of, quote, round_price
from hftlib.envs.roles import Executor, Maker, Taker
from tests.market_views import draw_observations, mirror, observe

ROLE = Maker(max_offset_ticks=20.0, max_size=50, max_skew_ticks=8.0)
MODEL = {"risk_aversion": 0.01, "decay": 0.3, "size": 10, "max_inventory": 100, "decision_s": 0.1}
MAKERS = {
    "avellaneda_stoikov": AvellanedaStoikov(role=ROLE, horizon_s=60.0, **MODEL),
    "glft": GLFT(role=ROLE, intensity=0.9, **MODEL),
    "fixed": FixedSpread(ROLE, half_spread_ticks=1.5, size=10),
    "nothing": NoOrders(ROLE),
}
makers = pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)


def prices_of(role, actions, mid, bid=0.0, ask=0.0):
    """Bid and ask in ticks by the environment's own rule; 0 stands for an empty side."""
    view = np.array([bid, 0.0, ask, 0.0, mid, 0, 0, 0, 0, 0])
    row = np.asarray(actions, dtype=np.float64)
    return [quote(row, view, side, role.reach_ticks, role.max_skew_ticks) for side in (1, -1)]


def test_avellaneda_stoikov_by_hand():
    """gamma .1, sigma 2, k 1.5, T - t = .5: risk .2, half spread .1 + 10 * ln(16 / 15)."""
    half = 0.1 + 10 * math.log(16 / 15)
    bid, ask = avellaneda_stoikov_quotes(
        np.array([0.0, 3.0]), 0.5, risk_aversion=0.1, sigma=2.0, decay=1.5
    )
    np.testing.assert_allclose(bid, [half, half + 0.6], rtol=1e-14)
    np.testing.assert_allclose(ask, [half, half - 0.6], rtol=1e-14)


def test_the_reservation_price_falls_with_inventory_and_the_spread_does_not_change():
    q = np.arange(-5.0, 6)
    bid, ask = avellaneda_stoikov_quotes(q, 0.3, risk_aversion=0.1, sigma=2.0, decay=1.5)
    reservation = (ask - bid) / 2
    np.testing.assert_allclose(np.diff(reservation), -0.1 * 4 * 0.3, rtol=1e-12)
    assert np.ptp(ask + bid) < 1e-12
    at_end = avellaneda_stoikov_quotes(q, 0.0, risk_aversion=0.1, sigma=2.0, decay=1.5)
    np.testing.assert_array_equal(*at_end)


def asymptotic_quotes(q, gamma, sigma, k, intensity, bound):
    """Exact limits far from the horizon: theorem 2 of Guéant, Lehalle and Fernandez-Tapia."""
    units = np.arange(-bound, bound + 1)
    eta = intensity * (1 + gamma / k) ** -(1 + k / gamma)
    matrix = np.diag(k / 2 * gamma * sigma**2 * units**2.0)
    matrix -= eta * (np.eye(2 * bound + 1, k=1) + np.eye(2 * bound + 1, k=-1))
    f = np.abs(np.linalg.eigh(matrix)[1][:, 0])
    base, at = np.log(1 + gamma / k) / gamma, q + bound
    return base + np.log(f[at] / f[at + 1]) / k, base + np.log(f[at] / f[at - 1]) / k


def test_glft_tends_to_the_exact_solution_as_inventory_risk_becomes_small():
    """The closed form is the limit of slowly varying f: its error falls with sigma."""
    q = np.arange(-2, 3)
    errors = []
    for sigma in (1.0, 0.3, 0.1):
        exact = asymptotic_quotes(q, 0.01, sigma, 0.3, 0.9, bound=60)
        closed = glft_quotes(q, risk_aversion=0.01, sigma=sigma, decay=0.3, intensity=0.9)
        skew = [ask - bid for bid, ask in (exact, closed)]
        errors.append(np.abs(skew[1] - skew[0])[[0, -1]].max() / np.abs(skew[0]).max())
        assert np.abs(np.array(exact) - closed).max() < 0.05 * sigma
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.01


def test_glft_by_hand():
    """gamma = k: base ln(2) / k, slope sigma * sqrt(2 / A)."""
    bid, ask = glft_quotes(
        np.array([0.0, 2.0]), risk_aversion=0.5, sigma=0.3, decay=0.5, intensity=8.0
    )
    base, slope = 2 * math.log(2), 0.3 * math.sqrt(0.5 / (2 * 0.5 * 8) * 4)
    np.testing.assert_allclose(bid, [base + slope / 2, base + 2.5 * slope], rtol=1e-14)
    np.testing.assert_allclose(ask, [base + slope / 2, base - 1.5 * slope], rtol=1e-14)


def test_glft_quotes_no_bid_at_the_upper_bound_and_no_ask_at_the_lower():
    maker = GLFT(role=ROLE, intensity=0.9, bound=40, **MODEL)
    inventory = np.array([-50, -40, -35, 0, 35, 40, 50]) / 100
    actions = maker.act(observe(ROLE, 7, inventory=inventory, volatility=0.05))
    bids, asks = ([lots_of(float(a), ROLE.max_size) for a in actions[:, k]] for k in (2, 3))
    assert bids == [10, 10, 10, 10, 5, 0, 0]
    assert asks == [0, 0, 5, 10, 10, 10, 10]


@makers
def test_a_mirrored_market_gives_mirrored_quotes(maker):
    seen = draw_observations(ROLE, 300, np.random.default_rng(0), max_inventory=100)
    action, image = maker.act(seen), maker.act(mirror(ROLE, seen))
    np.testing.assert_allclose(image[:, [1, 0, 3, 2]], action[:, :4], atol=1e-6)
    np.testing.assert_allclose(image[:, 4], -action[:, 4], atol=1e-6)


@makers
def test_a_batch_acts_as_its_rows_do(maker):
    seen = draw_observations(ROLE, 20, np.random.default_rng(1), max_inventory=100)
    together = maker.act(seen)
    assert together.dtype == np.float32
    assert together.shape == (20, 5)
    assert np.abs(together).max() <= 1
    for k in range(20):
        np.testing.assert_array_equal(together[k], maker.act(seen[k : k + 1])[0])


def test_quotes_reach_the_book_where_the_model_wants_them():
    """sigma .5 ticks a step of .1 s, 40 lots long at half time: q = 4."""
    maker = MAKERS["avellaneda_stoikov"]
    seen = observe(ROLE, 1, inventory=0.4, volatility=0.05, time_left=0.5)
    risk = 0.01 * (0.5**2 / 0.1) * 30
    half = risk / 2 + math.log(1 + 0.01 / 0.3) / 0.01
    (action,) = maker.act(seen)
    bid, ask = prices_of(ROLE, action, mid=10_000.5)
    assert bid == math.floor(10_000.5 - 4 * risk - half)
    assert ask == math.ceil(10_000.5 - 4 * risk + half)
    assert [lots_of(float(a), ROLE.max_size) for a in action[2:4]] == [10, 10]


def test_a_given_sigma_replaces_the_observed_one():
    fixed = AvellanedaStoikov(role=ROLE, horizon_s=60.0, sigma=0.5 / math.sqrt(0.1), **MODEL)
    seen = observe(ROLE, 3, inventory=0.4, volatility=0.05, time_left=0.5)
    np.testing.assert_allclose(fixed.act(seen), MAKERS["avellaneda_stoikov"].act(seen), rtol=1e-6)
    np.testing.assert_array_equal(
        fixed.act(seen), fixed.act(observe(ROLE, 3, inventory=0.4, volatility=0.3, time_left=0.5))
    )


@pytest.mark.parametrize("mid", [10_000.0, 10_000.5])
def test_wanted_distances_come_back_from_the_role_s_own_map(mid):
    """The price is the first at the distance or beyond it, on either side of the mid."""
    wanted = np.array([(b / 4, a / 4) for b in range(-20, 61, 3) for a in range(2, 61, 3)])
    wanted = wanted[wanted.sum(axis=1) >= 1]  # closer together than .5 each is out of reach
    wanted = wanted[np.abs(wanted[:, 0] - wanted[:, 1]) / 2 <= ROLE.max_skew_ticks]
    actions = quote_action(ROLE, wanted[:, 0], wanted[:, 1], 10, 10)
    for (bid, ask), action in zip(wanted, actions, strict=True):
        assert prices_of(ROLE, action, mid) == [math.floor(mid - bid), math.ceil(mid + ask)]


@pytest.mark.parametrize("mid", [10_000.0, 10_000.5])
@pytest.mark.parametrize("reach", [7.0, 20.0, 333.3, 10_000.0])
def test_a_float32_quote_lands_on_exactly_the_tick_it_stands_for(reach, mid):
    """At every whole and half tick in reach, with the skew used or not."""
    role = Maker(max_offset_ticks=reach, max_skew_ticks=reach)
    ticks = np.arange(1, 2 * int(reach) + 1) / 2
    for bids, asks in ((ticks, ticks), (ticks, ticks[::-1])):
        actions = quote_action(role, bids, asks, 10, 10)
        assert actions.dtype == np.float32
        prices = np.array([prices_of(role, action, mid) for action in actions])
        np.testing.assert_array_equal(prices[:, 0], np.floor(mid - bids))
        np.testing.assert_array_equal(prices[:, 1], np.ceil(mid + asks))


@pytest.mark.parametrize("side", [1, -1])
def test_a_price_is_rounded_away_from_the_mid_but_for_a_thousandth_of_a_tick(side):
    cases = [(-2.0, 2), (-2.0009, 2), (-1.9991, 2), (-2.0011, 3), (-2.5, 3), (-1.0011, 2)]
    for through, behind in cases:
        assert round_price(10_000 + side * through, side) == 10_000 - side * behind


def test_beyond_the_skew_s_reach_the_offsets_carry_the_rest():
    """Half the difference is 9, a tick more than the skew goes."""
    (action,) = quote_action(ROLE, np.array([1.0]), np.array([19.0]), 10, 10)
    assert action[4] == 1
    assert prices_of(ROLE, action, mid=500.0) == [499, 519]


def test_lots_come_back_from_the_role_s_own_map():
    for max_size in (1, 7, 100, 12_345):
        lots = np.unique(np.linspace(0, max_size, 101).round())
        actions = lots_to_action(lots, max_size).astype(np.float32)
        assert [lots_of(float(a), max_size) for a in actions] == lots.tolist()
        beyond = lots_to_action(np.array([0.0, 2.0 * max_size]), max_size)
        np.testing.assert_array_equal(beyond, [-1, 1])


def test_observations_are_read_on_the_environment_s_scale():
    lots = np.array([0, 1, 17, 4_321, 98_765])
    seen = np.array([settlement.log_lots(float(k)) for k in lots], dtype=np.float32)
    np.testing.assert_array_equal(orders.observed_lots(seen.astype(np.float64)), lots)


def test_offsets_out_of_reach_become_the_nearest_in_reach():
    np.testing.assert_array_equal(
        offset_to_action(np.array([-3.0, 0.5, 5.5, 10.5, 90.0]), 10.0), [-1, -1, 0, 1, 1]
    )


@pytest.mark.parametrize("role", [Maker(), Executor(), Taker()], ids=lambda role: role.kind)
def test_no_orders_wants_no_lots_of_any_role(role):
    (action,) = NoOrders(role).act(observe(role))
    for name, value in zip(role.action_names, action, strict=True):
        if name == "trade":
            assert value == 0
        elif name.endswith(("size", "slice")):
            assert lots_of(float(value), role.max_size) == 0


def test_random_orders_cover_the_box_evenly():
    actions = RandomOrders(ROLE, np.random.default_rng(2)).act(observe(ROLE, 5_000))
    assert actions.dtype == np.float32
    assert actions.min() >= -1
    assert actions.max() <= 1
    # a uniform's mean has a standard error of .0082 here, its sd one of .0037
    np.testing.assert_allclose(actions.mean(axis=0), 0, atol=0.035)
    np.testing.assert_allclose(actions.std(axis=0), 1 / math.sqrt(3), atol=0.016)
    assert np.abs(np.corrcoef(actions.T) - np.eye(5)).max() < 0.06


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 60}, "size is 60; see AvellanedaStoikov for its range"),
        ({"risk_aversion": 0.0}, "risk_aversion is 0.0; see"),
        ({"sigma": -1.0}, "sigma is -1.0; see"),
        ({"horizon_s": 0.0}, "horizon_s is 0.0; expected seconds above 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AvellanedaStoikov(**({"role": ROLE, "horizon_s": 60.0} | MODEL | change))


def test_glft_refuses_a_bound_beyond_the_limit():
    with pytest.raises(ValueError, match="bound is 101; expected lots, 1 to max_inventory=100"):
        GLFT(role=ROLE, intensity=1.0, bound=101, **MODEL)


def test_observations_of_another_role_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 23\); expected \(n, 26\), those of a maker"):
        MAKERS["glft"].act(observe(Taker(), 2))
