from functools import partial

import numpy as np
import pytest

from hftlib.agents.making import avellaneda_stoikov_quotes, glft_quotes
from hftlib.envs.arrivals import ArrivalParams, simulate_arrivals
from hftlib.evaluation.replication import replicate_avellaneda_stoikov

PAPER = ArrivalParams()


def inventory_quotes(gamma, params=PAPER):
    def quotes(t, q):
        return avellaneda_stoikov_quotes(
            q, params.horizon - t, risk_aversion=gamma, sigma=params.sigma, decay=params.decay
        )

    return quotes


def symmetric_quotes(spread):
    return lambda t, q: (np.full(len(q), spread / 2), np.full(len(q), spread / 2))


def sd_error(x):
    """Standard error of the standard deviation of len(x) draws."""
    z = (x - x.mean()) / x.std()
    return x.std() * np.sqrt(((z**4).mean() - 1) / (4 * len(x)))


@pytest.mark.parametrize("gamma", [0.1, 0.01])
def test_the_published_tables_are_replicated(gamma):
    """1,000 paths as published: within three standard errors of such a run."""
    table = replicate_avellaneda_stoikov(gamma, 1_000, seed=2008).dropna(subset="published")
    is_spread = table["measure"] == "spread"
    assert len(table) == (8 if gamma == 0.1 else 4)
    spread = table[is_spread]
    np.testing.assert_allclose(spread["value"], spread["published"], rtol=0.01)
    assert (table[~is_spread]["z"].abs() < 3).all(), table


def test_a_replication_says_so_where_nothing_is_published():
    table = replicate_avellaneda_stoikov(0.5, 200, seed=1)
    assert table["published"].isna().all()
    assert (table["high"] >= table["low"]).all()


@pytest.mark.parametrize("half_spread", [0.3, 0.745, 2.0])
def test_fills_at_a_fixed_spread_are_as_many_as_the_closed_form_says(half_spread):
    n_paths = 4_000
    paths = simulate_arrivals(
        symmetric_quotes(2 * half_spread), PAPER, n_paths, np.random.default_rng(1)
    )
    p = PAPER.intensity * np.exp(-PAPER.decay * half_spread) * PAPER.dt
    error = np.sqrt(PAPER.n_steps * p * (1 - p) / n_paths)
    for fills in (paths.n_bought, paths.n_sold):
        assert abs(fills.mean() - PAPER.n_steps * p) < 4 * error
        variance = PAPER.n_steps * p * (1 - p)
        # of a sample variance: relative standard error sqrt(2 / n), 2.2 %
        assert fills.var() == pytest.approx(variance, rel=0.09)


def test_mean_and_variance_of_a_symmetric_profit_follow_from_the_model():
    n_paths, half = 20_000, 0.745
    paths = simulate_arrivals(symmetric_quotes(2 * half), PAPER, n_paths, np.random.default_rng(2))
    p, n = PAPER.intensity * np.exp(-PAPER.decay * half) * PAPER.dt, PAPER.n_steps
    var_fill = 2 * p * (1 - p)
    mean = 2 * n * p * half
    # spread earned, and the inventory after fill i carried through a move of variance sigma^2 dt
    variance = n * var_fill * half**2 + PAPER.sigma**2 * PAPER.dt * var_fill * n * (n + 1) / 2
    assert abs(paths.profit.mean() - mean) < 4 * np.sqrt(variance / n_paths)
    assert abs(paths.profit.std() - np.sqrt(variance)) < 4 * sd_error(paths.profit)


def test_the_mid_is_a_martingale_with_the_stated_volatility():
    params = ArrivalParams(sigma=3.0)
    n_paths = 20_000
    paths = simulate_arrivals(symmetric_quotes(1.0), params, n_paths, np.random.default_rng(3))
    assert abs(paths.price.mean() - 100) < 4 * 3.0 / np.sqrt(n_paths)
    assert paths.price.std() == pytest.approx(3.0, rel=4 / np.sqrt(2 * n_paths))


def test_inventory_and_cash_are_conserved():
    """Without moves of the mid the profit is the distance earned on each fill."""
    params = ArrivalParams(sigma=0.0, initial_inventory=5)

    def lopsided(t, q):
        return np.full(len(q), 0.4), np.full(len(q), 0.9)

    paths = simulate_arrivals(lopsided, params, 200, np.random.default_rng(4))
    np.testing.assert_allclose(
        paths.profit, 0.4 * paths.n_bought + 0.9 * paths.n_sold, rtol=0, atol=1e-9
    )
    np.testing.assert_array_equal(paths.inventory, 5 + paths.n_bought - paths.n_sold)
    np.testing.assert_allclose(paths.spread, 1.3)


def test_a_side_that_is_not_quoted_never_trades():
    quotes = partial(
        glft_quotes, risk_aversion=0.1, sigma=2.0, decay=1.5, intensity=140.0, max_units=3
    )
    paths = simulate_arrivals(lambda t, q: quotes(q), PAPER, 500, np.random.default_rng(5))
    assert np.abs(paths.inventory).max() == 3
    assert np.isfinite(paths.profit).all()
    one_sided = simulate_arrivals(
        lambda t, q: (np.full(len(q), np.inf), np.full(len(q), 0.5)),
        PAPER,
        50,
        np.random.default_rng(5),
    )
    assert (one_sided.n_bought == 0).all()
    assert (one_sided.n_sold > 0).all()


def test_a_quote_far_beyond_the_mid_trades_every_step():
    paths = simulate_arrivals(
        lambda t, q: (np.full(len(q), -1e4), np.full(len(q), np.inf)),
        PAPER,
        3,
        np.random.default_rng(6),
    )
    assert (paths.n_bought == PAPER.n_steps).all()


def test_one_seed_gives_one_result():
    runs = [
        simulate_arrivals(inventory_quotes(0.1), PAPER, 20, np.random.default_rng(7))
        for _ in range(2)
    ]
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dt": 0.3}, "horizon 1.0 is no whole number of steps of dt=0.3"),
        ({"decay": 0.0}, "decay is 0.0; expected a number above 0"),
        ({"sigma": -1.0}, "sigma is -1.0; expected at least 0"),
    ],
)
def test_parameters_without_a_meaning_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ArrivalParams(**change)


def test_nan_quotes_are_refused():
    with pytest.raises(ValueError, match="quotes are nan at t=0; expected distances"):
        simulate_arrivals(lambda t, q: (q * np.nan, q), PAPER, 2, np.random.default_rng(8))
