import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hftlib.compute import compile_kernel
from hftlib.market import flow
from hftlib.market.book import BookError
from hftlib.market.draws import open_streams
from hftlib.market.flow import (
    FARTHEST,
    MAKER,
    MOMENTUM,
    MOST_PIECES,
    N_PARENTS,
    NOISE,
    PASSIVE,
    SPLITTER,
    VALUE,
    Quotes,
    check_flow,
)
from hftlib.market.matching import IOC, LIMIT
from tests.markets import FLOW

FLAT = FLOW._replace(day_shape=0.0, day_tilt=0.0)  # one rate all day
NO_NEWS = FLAT._replace(news_share=0.0)
POISSON = NO_NEWS._replace(branching=(0.0, 0.0, 0.0))
MIRROR = 44_001  # the sum of a price and its mirror image
QUOTES = Quotes(21_996, 300, 22_004, 120)

sides = st.sampled_from([1, -1])
seeds = st.integers(0, 2**32)


@st.composite
def quotes(draw, low=1, high=40_000):
    """A book that is two-sided, one-sided or empty; never crossed."""
    bid = draw(st.integers(low, high))
    ask = bid + draw(st.one_of(st.integers(1, 3), st.integers(1, 2_000)))
    lots = st.integers(1, 5_000)
    q = Quotes(bid, draw(lots), ask, draw(lots))
    empty = draw(st.sampled_from(["", "", "", "bid", "ask", "both"]))
    if empty in ("bid", "both"):
        q = q._replace(bid=0, bid_qty=0)
    if empty in ("ask", "both"):
        q = q._replace(ask=0, ask_qty=0)
    return q


def mirrored(q: Quotes) -> Quotes:
    bid, ask = (MIRROR - price if price else 0 for price in (q.ask, q.bid))
    return Quotes(bid, q.ask_qty, ask, q.bid_qty)


def a_stream(seed: int = 0):
    return open_streams(seed, 0)[0]


def no_parents():
    return np.zeros((N_PARENTS, 2), dtype=np.int64)


# arrivals


@compile_kernel
def fill_counts(p, step_s, steps_a_count, counts, excitation, sums, stream):
    flow.settle(excitation, p)
    base = flow.base_rate(p, 0.5)
    for i in range(len(counts)):
        for _ in range(steps_a_count):
            flow.hear_news(excitation, step_s, 0.5, p, stream)
            now = 0.0
            while True:
                now = flow.next_act(excitation, now, step_s, base, p, stream)
                if now == np.inf:
                    break
                counts[i] += 1
            for k in range(3):
                sums[k] += excitation[k]
            sums[3] += flow.activity(excitation, base, p)


def count_acts(p, n_counts: int, step_s: float, steps_a_count: int, seed: int = 0):
    """Acts in equal windows, and the means of excitation and activity at the ends of steps."""
    counts, sums = np.zeros(n_counts, dtype=np.int64), np.zeros(4)
    fill_counts(p, step_s, steps_a_count, counts, np.zeros(3), sums, a_stream(seed))
    return counts, sums / (n_counts * steps_a_count)


def mean_with_error(x, n_batches: int = 50):
    batches = np.array([batch.mean(0) for batch in np.split(np.asarray(x, float), n_batches)])
    return batches.mean(0), batches.std(0, ddof=1) / np.sqrt(n_batches)


@pytest.mark.parametrize(
    "p",
    [
        POISSON,
        NO_NEWS._replace(decay_hz=(10.0, 0.5, 0.1)),
        FLAT._replace(decay_hz=(10.0, 0.5, 0.1), news_hz=1 / 60),
    ],
)
def test_acts_come_at_the_stated_mean_rate(p):
    # windows of 200 s are long against the slowest excitation, 10 s and its offspring 50 s
    counts, means = count_acts(p, n_counts=2_000, step_s=1.0, steps_a_count=200)
    rate, error = mean_with_error(counts / 200)
    assert error < 0.02 * p.rate_hz
    assert rate == pytest.approx(p.rate_hz, abs=5 * error)
    start = np.zeros(3)
    flow.settle(start, p)
    assert start.sum() + flow.base_rate(p, 0.5) == pytest.approx(p.rate_hz)
    # news of a step of 1 s fades by a twentieth before it ends: within 6 %
    assert means[:3] == pytest.approx(start, rel=0.06, abs=1e-12)
    assert means[3] == pytest.approx(1, rel=0.06)


def test_counts_in_long_windows_vary_as_one_over_one_less_branching_squared():
    p = NO_NEWS._replace(rate_hz=2.0, decay_hz=(10.0, 0.5, 0.1))
    counts, _ = count_acts(p, n_counts=1_000, step_s=50.0, steps_a_count=40)
    # windows of 2,000 s fall short of the limit by 50 s / 2,000 s; sampling adds sqrt(2 / 1,000)
    assert counts.var() / counts.mean() == pytest.approx(1 / (1 - 0.8) ** 2, rel=0.025 + 4 * 0.045)


def test_without_branching_acts_are_a_poisson_process():
    counts, _ = count_acts(POISSON, n_counts=20_000, step_s=0.1, steps_a_count=5)
    bins = np.arange(15)
    expected = stats.poisson.pmf(bins, POISSON.rate_hz * 0.5) * len(counts)
    seen = np.array([(counts == k).sum() for k in bins])
    rest = len(counts) - np.array([seen.sum(), expected.sum()])
    assert stats.chisquare([*seen, rest[0]], [*expected, rest[1]]).pvalue > 1e-3


def test_excitation_decays_by_its_time_scales_until_the_end_of_the_step():
    excitation = np.array([1e-12, 2e-12, 3e-12])
    assert flow.next_act(excitation, 2.0, 5.0, 1e-12, FLOW, a_stream()) == np.inf
    expected = np.array([1e-12, 2e-12, 3e-12]) * np.exp(-3 * np.array(FLOW.decay_hz))
    np.testing.assert_allclose(excitation, expected, rtol=1e-12)


def test_an_act_raises_each_scale_by_branching_times_decay():
    excitation = np.zeros(3)
    at = flow.next_act(excitation, 2.0, 500.0, 9.0, FLOW, a_stream())
    assert 2 < at < 500
    # nothing was there to decay on the way
    np.testing.assert_allclose(excitation, np.array(FLOW.branching) * FLOW.decay_hz, rtol=1e-12)


@given(st.floats(0, 0.999), st.floats(-0.999, 0.999))
def test_the_day_has_mean_rate_one_and_never_a_negative_rate(shape, tilt):
    p = FLOW._replace(day_shape=shape, day_tilt=tilt)
    rate = np.array([flow.day_rate(p, u) for u in np.linspace(0, 1, 101)])
    # Simpson's rule is exact for a parabola
    weights = np.tile([2.0, 4.0], 51)[:101]
    weights[[0, -1]] = 1
    assert weights @ rate / 300 == pytest.approx(1)
    assert rate.min() > 0
    assert rate[0] + rate[100] - 2 * rate[50] == pytest.approx(3 * shape, abs=1e-12)
    assert rate[0] - rate[100] == pytest.approx(2 * tilt, abs=1e-12)


def test_news_come_at_their_rate_and_cause_their_share_of_acts():
    p = FLAT._replace(news_hz=0.2)
    jumps = np.zeros(50_000)
    stream = a_stream()
    for i in range(len(jumps)):
        excitation = np.zeros(3)
        flow.hear_news(excitation, 0.5, 0.5, p, stream)
        assert (excitation[:2] == 0).all()
        jumps[i] = excitation[2]
    heard = jumps[jumps > 0]
    share, error = mean_with_error(jumps > 0)
    assert share == pytest.approx(0.1, abs=5 * error)
    acts = p.rate_hz * (1 - 0.8) * p.news_share / p.news_hz
    assert stats.kstest(heard / p.decay_hz[2] / acts, "expon").pvalue > 1e-3


# draws


@compile_kernel
def fill_roles(shares, stream, out):
    for i in range(len(out)):
        out[i] = flow.draw_index(shares, stream)


@compile_kernel
def fill_sizes(mean, stream, out):
    for i in range(len(out)):
        out[i] = flow.draw_size(mean, stream)


def test_roles_are_drawn_by_their_shares():
    roles = np.empty(200_000, dtype=np.int64)
    fill_roles(FLOW.role_shares, a_stream(), roles)
    seen = np.bincount(roles, minlength=flow.N_ROLES)
    assert stats.chisquare(seen, np.array(FLOW.role_shares) * len(roles)).pvalue > 1e-3


def test_a_share_of_zero_is_never_drawn():
    roles = np.empty(20_000, dtype=np.int64)
    fill_roles((0.0, 0.5, 0.0, 0.5, 0.0, 0.0), a_stream(), roles)
    assert set(roles.tolist()) == {1, 3}


@pytest.mark.parametrize("mean", [1.0, 1.5, 4.0, 90.0])
def test_sizes_are_geometric_with_the_stated_mean(mean):
    sizes = np.empty(200_000, dtype=np.int64)
    fill_sizes(mean, a_stream(), sizes)
    assert sizes.min() == 1
    if mean == 1:
        assert sizes.max() == 1
        return
    bins = np.arange(1, stats.geom.ppf(1 - 1e-3, 1 / mean))
    expected = stats.geom.pmf(bins, 1 / mean) * len(sizes)
    seen = (sizes[:, None] == bins).sum(0)
    rest = len(sizes) - np.array([seen.sum(), expected.sum()])
    assert stats.chisquare([*seen, rest[0]], [*expected, rest[1]]).pvalue > 1e-3
    mean_size, error = mean_with_error(sizes)
    assert mean_size == pytest.approx(mean, abs=5 * error)


# parent orders


@compile_kernel
def fill_pieces(parents, p, stream, signs, pieces):
    """Signs of pieces in order, and the sizes of the parents begun; returns how many."""
    n = 0
    for i in range(len(signs)):
        begins = parents[0, 1] <= 0
        signs[i] = flow.work_parent(parents, p, stream)
        if begins:
            pieces[n] = parents[0, 1] + 1
            n += 1
    return n


def work_parents(p, n: int):
    signs, pieces = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    begun = fill_pieces(no_parents(), p, a_stream(), signs, pieces)
    return signs, pieces[:begun]


def test_parent_orders_have_pareto_many_pieces():
    p = FLOW._replace(n_parents=1)
    _, pieces = work_parents(p, 2_000_000)
    n = len(pieces)
    assert n > 100_000
    assert pieces.min() == p.parent_pieces
    for least in (4, 8, 30, 100, MOST_PIECES // 2, MOST_PIECES):
        expected = (least / p.parent_pieces) ** -p.parent_exponent
        error = np.sqrt(expected * (1 - expected) / n)
        assert (pieces >= least).mean() == pytest.approx(expected, abs=5 * error)
    assert pieces.max() <= MOST_PIECES


def test_signs_of_pieces_remember_as_long_as_their_parents_last():
    p = FLOW._replace(n_parents=1, parent_exponent=2.5)
    signs, _ = work_parents(p, 3_000_000)
    sizes = np.arange(1, MOST_PIECES + 1)
    survival = np.minimum(1.0, (sizes / p.parent_pieces) ** -p.parent_exponent)  # P(pieces >= size)
    for lag in (1, 3, 10, 40):
        # two pieces share their parent with the probability of a renewal process
        expected = survival[lag:].sum() / survival.sum()
        products = (signs[lag:] * signs[:-lag])[: (len(signs) - lag) // 50 * 50]
        seen, error = mean_with_error(products)
        assert seen == pytest.approx(expected, abs=5 * error)


def test_parents_buy_as_often_as_they_sell_and_several_take_turns():
    p = FLOW._replace(n_parents=4, parent_pieces=5.0, parent_exponent=3.0)
    signs, _ = work_parents(p, 1_000_000)
    mean, error = mean_with_error(signs)
    assert mean == pytest.approx(0, abs=5 * error)
    # a run within one parent, or by chance across the others: below the memory of one parent
    alone, _ = work_parents(p._replace(n_parents=1), 1_000_000)
    assert 0 < (signs[1:] * signs[:-1]).mean() < (alone[1:] * alone[:-1]).mean()


# prices of resting orders


@given(sides, quotes(), st.floats(1, 40_000), seeds)
def test_a_resting_order_never_crosses(side, q, value, seed):
    price = flow.place(side, q, value, FLOW, a_stream(seed))
    assert price >= 1
    other = q.ask if side > 0 else q.bid
    if other > 1:  # nothing fits below one tick
        assert side * (other - price) > 0


@given(sides, quotes(low=15_000, high=25_000), st.integers(15_000, 25_000), seeds)
def test_mirrored_quotes_give_mirrored_resting_orders(side, q, value, seed):
    price = flow.place(side, q, float(value), FLOW, a_stream(seed))
    image = flow.place(-side, mirrored(q), float(MIRROR - value), FLOW, a_stream(seed))
    assert image == MIRROR - price


@compile_kernel
def fill_places(side, q, p, stream, out):
    for i in range(len(out)):
        out[i] = flow.place(side, q, 0.0, p, stream)


def test_resting_orders_improve_join_and_queue_by_their_shares():
    distance = np.empty(200_000, dtype=np.int64)  # behind the best bid
    fill_places(1, QUOTES, FLOW, a_stream(), distance)
    distance = QUOTES.bid - distance
    n, p = len(distance), FLOW

    def assert_share(seen, expected):
        assert seen.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / n))

    assert_share(distance < 0, p.inside_share)
    assert_share(distance == 0, p.best_share)
    assert distance.min() == -7  # one tick below the ask
    for ticks in range(1, 8):  # the square of a uniform number favours small improvements
        share = np.sqrt(ticks / 7) - np.sqrt((ticks - 1) / 7)
        assert_share(distance == -ticks, p.inside_share * share)
    behind = 1 - p.inside_share - p.best_share
    for ticks in (2, 5, 20, 100, 1_000):
        tail = (1 + (ticks - 1) / p.behind_scale) ** -p.behind_exponent
        assert_share(distance >= ticks, behind * tail)
    assert distance.max() <= FARTHEST + 1


def test_a_spread_of_one_tick_has_no_inside():
    q = QUOTES._replace(ask=QUOTES.bid + 1)
    prices = np.empty(10_000, dtype=np.int64)
    fill_places(1, q, FLOW, a_stream(), prices)
    assert prices.max() == q.bid
    expected = FLOW.inside_share + FLOW.best_share
    error = np.sqrt(expected / len(prices))
    assert (prices == q.bid).mean() == pytest.approx(expected, abs=5 * error)


# orders that take


@given(sides, quotes(), seeds)
def test_taking_is_immediate_at_the_best_price(side, q, seed):
    kind, sent, price, qty = flow.take(side, q, FLOW, a_stream(seed))
    assert (kind, sent) == (IOC, side)
    assert price == (q.ask if side > 0 else q.bid)
    assert qty >= 1
    assert flow.take(-side, mirrored(q), FLOW, a_stream(seed)) == (
        IOC,
        -side,
        MIRROR - price if price else 0,
        qty,
    )


@compile_kernel
def fill_takes(q, p, stream, out):
    for i in range(len(out)):
        out[i] = flow.take(1, q, p, stream)[3]


def test_most_takers_take_no_more_than_rests_at_the_best_price():
    sizes = np.empty(100_000, dtype=np.int64)
    fill_takes(QUOTES._replace(ask_qty=60), FLOW, a_stream(), sizes)
    larger = (1 - 1 / FLOW.take_size) ** 60 * (1 - flow.CAREFUL_SHARE)
    assert (sizes > 60).mean() == pytest.approx(larger, abs=5 * np.sqrt(larger / len(sizes)))


# decisions


@given(
    st.sampled_from([PASSIVE, NOISE, VALUE, MOMENTUM, SPLITTER]),
    quotes(),
    st.floats(1, 40_000),
    st.floats(-50, 50),
    seeds,
)
def test_every_decision_is_a_sound_order(role, q, value, trend, seed):
    kind, side, price, qty = flow.decide(role, q, value, trend, no_parents(), FLOW, a_stream(seed))
    assert side in (1, -1)
    assert price >= 1
    assert qty >= 1
    other = q.ask if side > 0 else q.bid
    if kind == IOC:
        assert price == other
        assert role != PASSIVE
    else:
        assert kind == LIMIT
        assert other <= 1 or side * (other - price) > 0
        if role in (NOISE, SPLITTER):
            assert other == 0


@compile_kernel
def fill_decisions(role, q, value, trend, parents, p, stream, out):
    for i in range(len(out)):
        out[i] = flow.decide(role, q, value, trend, parents, p, stream)


def decisions(role, q=QUOTES, value=22_000.0, trend=0.0, p=FLOW, seed=0, n=40_000):
    """Columns kind, side, price, lots."""
    out = np.empty((n, 4), dtype=np.int64)
    fill_decisions(role, q, value, trend, no_parents(), p, a_stream(seed), out)
    return out.T


@pytest.mark.parametrize("role", [PASSIVE, NOISE, VALUE, MOMENTUM, SPLITTER])
def test_mirrored_markets_give_decisions_of_mirrored_distribution(role):
    # parents of few pieces, so that the sample holds many
    p = FLOW._replace(parent_exponent=4.0)
    q, value, trend = QUOTES, 22_007.0, 9.0
    kind, side, price, qty = decisions(role, q, value, trend, p)
    image = decisions(role, mirrored(q), MIRROR - value, -trend, p, seed=1)
    seen = [kind * side, price, qty]
    reflected = [image[0] * -image[1], MIRROR - image[2], image[3]]
    for a, b in zip(seen, reflected, strict=True):
        if role == SPLITTER and a is not qty:  # pieces depend on each other: take one in 50
            a, b = a[::50], b[::50]
        assert stats.ks_2samp(a, b).pvalue > 1e-3


def test_value_traders_follow_the_value_and_take_beyond_their_threshold():
    p = FLOW._replace(value_noise=0.0)
    reach = p.value_threshold + (QUOTES.ask - QUOTES.bid) / 2
    for gap in (-reach - 1, -reach, -1.0, 1.0, reach, reach + 1):
        kind, side, *_ = decisions(VALUE, value=22_000 + gap, p=p, n=100)
        assert (side == np.sign(gap)).all()
        assert (kind == (IOC if abs(gap) > reach else LIMIT)).all()


def test_the_error_of_value_traders_is_normal():
    kind, side, *_ = decisions(VALUE, value=22_003.0)
    assert (side > 0).mean() == pytest.approx(stats.norm.cdf(3 / FLOW.value_noise), abs=0.01)
    reach = FLOW.value_threshold + 4
    takes = stats.norm.sf((reach - 3) / FLOW.value_noise)
    takes += stats.norm.sf((reach + 3) / FLOW.value_noise)
    assert (kind == IOC).mean() == pytest.approx(takes, abs=0.01)


def test_momentum_traders_follow_the_trend_and_have_no_side_without_one():
    for trend in (-8.5, -8.0, -1.0, 1.0, 8.0, 8.5):
        kind, side, *_ = decisions(MOMENTUM, trend=trend, n=100)
        assert (side == np.sign(trend)).all()
        assert (kind == (IOC if abs(trend) > FLOW.trend_threshold else LIMIT)).all()
    kind, side, *_ = decisions(MOMENTUM, trend=0.0)
    assert (kind == LIMIT).all()
    assert side.mean() == pytest.approx(0, abs=5 / np.sqrt(len(side)))


def test_noise_has_no_side():
    for role in (PASSIVE, NOISE):
        _, side, *_ = decisions(role, value=22_050.0, trend=40.0)
        assert side.mean() == pytest.approx(0, abs=5 / np.sqrt(len(side)))


# makers


@given(quotes(), st.floats(1, 40_000), st.floats(-500, 500), seeds)
def test_a_makers_quotes_cross_neither_each_other_nor_the_market(q, value, shift, seed):
    bid, ask, qty = flow.quote(q, value, shift, FLOW, a_stream(seed))
    assert 1 <= bid < ask
    assert qty >= 1
    assert ask > q.bid
    if q.ask > 1:
        assert bid < q.ask


eighths = st.integers(15_000 * 8, 25_000 * 8).map(lambda n: n / 8)


@given(quotes(low=15_000, high=25_000), eighths, st.integers(-400, 400), seeds)
def test_mirrored_markets_give_mirrored_quotes(q, value, shift, seed):
    p = FLOW._replace(maker_information=0.25)  # exact in binary, as are values and shifts
    bid, ask, qty = flow.quote(q, value, shift / 8, p, a_stream(seed))
    image = flow.quote(mirrored(q), MIRROR - value, -shift / 8, p, a_stream(seed))
    assert image == (MIRROR - ask, MIRROR - bid, qty)


def test_a_maker_quotes_around_its_reference_at_its_mean_distance():
    p, value, shift = FLOW._replace(maker_spread=40.0), 22_030.0, -3.0
    pairs = np.array([flow.quote(QUOTES, value, shift, p, a_stream(s))[:2] for s in range(4_000)])
    reference = 22_000 + p.maker_information * (value - 22_000) + shift
    assert reference - pairs.sum(1) / 2 == pytest.approx(0, abs=0.5)
    half = (pairs[:, 1] - pairs[:, 0]) / 2
    # uniform over one to three halves of the spread, and half a tick of rounding outwards
    assert half.mean() == pytest.approx(40.5, abs=5 * 40 / np.sqrt(12 * len(half)))
    assert half.min() >= 20
    assert half.max() <= 61


# parameters


@pytest.mark.parametrize(
    ("change", "received", "expected"),
    [
        ({"rate_hz": 0.0}, "rate_hz 0.0", "a positive number"),
        ({"rate_hz": float("nan")}, "rate_hz nan", "a positive number"),
        ({"branching": (0.5, 0.3, 0.2)}, r"branching \(0.5, 0.3, 0.2\)", "sum below 1"),
        ({"branching": (0.5, -0.1, 0.2)}, r"branching \(0.5, -0.1, 0.2\)", "from 0 up"),
        ({"decay_hz": (1.0, 0.0, 1.0)}, "decay_hz", "3 positive numbers"),
        ({"news_hz": 0.0}, "news_hz 0.0, news_share 0.5", "a positive rate unless it is 0"),
        ({"news_share": 1.0}, "news_share 1.0", r"a share in \[0, 1\)"),
        ({"day_shape": 1.0}, "day_shape 1.0", r"\[0, 1\)"),
        ({"day_tilt": -1.0}, "day_tilt -1.0", r"\(-1, 1\)"),
        ({"role_shares": (0.5, 0.5)}, "role_shares", "6 shares with sum 1"),
        ({"role_shares": (0.9, 0.0, 0.0, 0.0, 0.0, 0.2)}, "role_shares", "6 shares with sum 1"),
        ({"best_share": 0.9}, "inside_share 0.12, best_share 0.9", "sum of at most 1"),
        ({"lifetime_shares": (0.5, 0.6, -0.1)}, "lifetime_shares", "3 shares with sum 1"),
        ({"lifetimes_s": (1.0, 1.0, 0.0)}, "lifetimes_s", "3 positive numbers"),
        ({"take_size": 0.5}, "order_size 100.0, take_size 0.5", "1 lot or more"),
        ({"take_size": float("nan")}, "take_size nan", "1 lot or more"),
        ({"parent_pieces": 0.5}, "parent_pieces 0.5", "1 or more"),
        ({"maker_information": 1.1}, "maker_information 1.1", r"\[0, 1\]"),
        ({"behind_scale": -1.0}, "behind_scale -1.0", "positive numbers"),
        ({"n_parents": 5}, "n_parents 5", "1 to 4"),
        ({"n_parents": 1.5}, "n_parents 1.5", "1 to 4"),
        ({"maker_spread": 0.0}, "maker_spread 0.0", "positive numbers"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused_by_name(change, received, expected):
    with pytest.raises(BookError, match=f"{received}.*: expected .*{expected}"):
        check_flow(FLOW._replace(**change))


def test_whole_numbers_become_floats_and_nothing_else_changes():
    assert check_flow(FLOW) == FLOW
    whole = FLOW._replace(role_shares=(1, 0, 0, 0, 0, 0), take_size=90, n_parents=2)
    checked = check_flow(whole)
    assert checked == whole
    assert {type(share) for share in checked.role_shares} == {float}
    assert type(checked.take_size) is float
    assert type(checked.n_parents) is int


def test_roles_have_names():
    assert len(flow.ROLES) == flow.N_ROLES == len(FLOW.role_shares)
    assert flow.ROLES[MAKER] == "market making"
