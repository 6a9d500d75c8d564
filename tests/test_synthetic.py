"""Synthetic bars have the moments that their law has in closed form."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.data.bars import read_packaged
from hftlib.data.ingest import ingest_bars
from hftlib.data.laws import (
    LAWS,
    Garch,
    GeometricBrownian,
    LawError,
    MertonJumps,
    RegimeSwitching,
    fit_law,
)
from hftlib.data.synthetic import VolumeLaw, draw_bars, measure_shape
from hftlib.schema import BARS, validate

N_BARS = 200_000
EXAMPLES = {
    "gbm": GeometricBrownian(2e-4, 0.01),
    "jumps": MertonJumps(2e-4, 0.01, jump_rate=0.1, jump_mean=-0.01, jump_volatility=0.02),
    "regimes": RegimeSwitching((1e-3, -1e-3), (0.005, 0.02), ((0.98, 0.02), (0.05, 0.95))),
    "garch": Garch(1e-4, 1e-5, alpha=0.1, beta=0.8),
}


def make_clock(n_bars: int) -> pd.DatetimeIndex:
    return pd.date_range("2000-01-01", periods=n_bars, freq="h", tz="UTC", unit="ns")


def draw(law, n_bars: int = N_BARS, seed: int = 0, **how) -> pd.DataFrame:
    how = {"symbol": "SYN", **how}
    return draw_bars(law, make_clock(n_bars), np.random.default_rng(seed), **how)


def returns_of(bars: pd.DataFrame) -> np.ndarray:
    return np.diff(np.log(bars["close"]), prepend=np.log(100.0))


def block_error(values: np.ndarray, n_blocks: int = 100) -> float:
    """Standard error of a mean of dependent values, from means of blocks."""
    means = [block.mean() for block in np.array_split(values, n_blocks)]
    return float(np.std(means, ddof=1) / n_blocks**0.5)


@pytest.fixture(scope="module", params=LAWS)
def drawn(request):
    law = EXAMPLES[request.param]
    return law, draw(law)


def test_returns_have_the_law_s_mean_and_variance(drawn):
    law, bars = drawn
    returns = returns_of(bars)
    squares = (returns - law.mean) ** 2
    # four standard errors
    assert abs(returns.mean() - law.mean) < 4 * block_error(returns)
    assert abs(squares.mean() - law.variance) < 4 * block_error(squares)
    assert block_error(squares) < 0.05 * law.variance, "the test could not fail otherwise"


def test_bars_are_valid_flagged_and_name_their_law(drawn):
    law, bars = drawn
    validate(bars, BARS)
    assert bars["is_synthetic"].all()
    assert bars["source"].unique().tolist() == [f"synthetic {law.name}"]
    body = bars[["open", "close"]]
    assert (bars["high"] >= body.max(axis=1)).all()
    assert (bars["low"] <= body.min(axis=1)).all()
    assert (bars["low"] > 0).all() and (bars["volume"] > 0).all()


def test_the_expected_price_grows_by_the_drift():
    for law in (EXAMPLES["gbm"], EXAMPLES["jumps"]):
        growth = np.exp(returns_of(draw(law)))
        assert abs(growth.mean() - np.exp(law.drift)) < 4 * growth.std() / N_BARS**0.5


def test_jumps_give_merton_s_excess_kurtosis():
    law = EXAMPLES["jumps"]
    returns = np.concatenate([returns_of(draw(law, seed=seed)) for seed in range(3)])
    fourth = ((returns - law.mean) / law.variance**0.5) ** 4
    assert law.excess_kurtosis > 3
    assert abs(fourth.mean() - 3 - law.excess_kurtosis) < 4 * block_error(fourth)


def test_without_jumps_merton_is_geometric_brownian_motion():
    plain, merton = GeometricBrownian(1e-4, 0.02), MertonJumps(1e-4, 0.02, 0.0, 0.0, 0.0)
    assert (merton.mean, merton.variance) == (plain.mean, plain.variance)
    assert merton.excess_kurtosis == 0


def test_regimes_last_and_recur_as_their_chain_says():
    law = EXAMPLES["regimes"]
    assert law.stationary == pytest.approx([5 / 7, 2 / 7])
    assert law.durations == pytest.approx([50, 20])
    regimes = law.draw_regimes(N_BARS, np.random.default_rng(0))
    share = (regimes == 0).mean()
    assert abs(share - 5 / 7) < 4 * block_error(regimes == 0)
    for regime, duration in enumerate(law.durations):
        entered = ((regimes[1:] == regime) & (regimes[:-1] != regime)).sum()
        mean = (regimes == regime).sum() / entered
        # the standard deviation of a geometric duration is about its mean
        assert abs(mean - duration) < 4 * duration / entered**0.5


def test_garch_has_its_kurtosis_and_its_autocorrelation_of_squares():
    law = EXAMPLES["garch"]
    assert law.variance == pytest.approx(1e-4)
    assert law.kurtosis == pytest.approx(3 * (1 - 0.81) / (1 - 0.81 - 0.02))
    squares = (np.concatenate([returns_of(draw(law, seed=s)) for s in range(3)]) - law.mean) ** 2
    fourth = squares**2 / law.variance**2
    assert abs(fourth.mean() - law.kurtosis) < 4 * block_error(fourth)
    centred = squares - law.variance
    scale = (law.kurtosis - 1) * law.variance**2
    for lag in (1, 2, 5, 20):
        products = centred[lag:] * centred[:-lag] / scale
        assert abs(products.mean() - law.square_autocorrelation(lag)) < 4 * block_error(products)


def test_the_squared_range_is_parkinson_s_multiple_of_the_variance():
    bars = draw(GeometricBrownian(0.005**2 / 2, 0.005), gap_share=0.0)
    ratio = np.log(bars["high"] / bars["low"]) ** 2 / 0.005**2
    # E[(ln H/L)^2] = 4 ln 2 s^2 without drift; extremes of a step are drawn apart: 0.3 % are left
    assert ratio.mean() == pytest.approx(4 * np.log(2), rel=0.01)
    up = np.log(bars["high"] / bars["open"])
    assert up.mean() / 0.005 == pytest.approx((2 / np.pi) ** 0.5, rel=0.01)  # E max of a path


def test_the_measured_shape_is_the_law_s():
    shape = measure_shape(draw(EXAMPLES["garch"], gap_share=0.0))
    law = EXAMPLES["garch"]
    assert shape["volatility"] == pytest.approx(law.variance**0.5, rel=0.02)
    assert shape["excess_kurtosis"] == pytest.approx(law.kurtosis - 3, abs=0.3)
    for lag in (1, 20):
        expected = law.square_autocorrelation(lag)
        assert shape[f"square_autocorrelation_{lag}"] == pytest.approx(expected, abs=0.03)
    assert shape["range_ratio"] == pytest.approx(4 * np.log(2), rel=0.02)
    plain = measure_shape(draw(EXAMPLES["gbm"], gap_share=0.4))
    assert plain["range_ratio"] == pytest.approx(0.6 * 4 * np.log(2), rel=0.02)
    assert abs(plain["excess_kurtosis"]) < 4 * (24 / N_BARS) ** 0.5
    assert abs(plain["square_autocorrelation_1"]) < 4 / N_BARS**0.5


def test_gaps_take_their_share_of_the_variance():
    bars = draw(EXAMPLES["gbm"], gap_share=0.3)
    gap = np.log(bars["open"] / bars["close"].shift()).to_numpy()[1:]
    body = np.log(bars["close"] / bars["open"]).to_numpy()[1:]
    assert gap.var() == pytest.approx(0.3e-4, rel=0.02)
    assert body.var() == pytest.approx(0.7e-4, rel=0.02)
    assert abs(np.corrcoef(gap, body)[0, 1]) < 4 / N_BARS**0.5


def test_without_gaps_each_open_is_the_close_before():
    bars = draw(EXAMPLES["garch"], 500, gap_share=0.0)
    np.testing.assert_allclose(bars["open"].iloc[1:], bars["close"].iloc[:-1], rtol=1e-12)
    assert bars["open"].iloc[0] == pytest.approx(100.0)


def test_volume_has_its_mean_and_follows_the_squared_shock():
    law, volume = GeometricBrownian(0.0, 0.01), VolumeLaw(500.0, 0.4, 0.2)
    bars = draw(law, volume=volume)
    traded = bars["volume"].to_numpy()
    surprise = ((returns_of(bars) - law.mean) / 0.01) ** 2
    products = traded * (surprise - 1)
    assert abs(traded.mean() - 500) < 4 * traded.std() / N_BARS**0.5
    assert abs(products.mean() - 2 * 0.4 * 500) < 4 * products.std() / N_BARS**0.5


@pytest.mark.parametrize("name", LAWS)
def test_the_same_seed_draws_the_same_bars_and_another_others(name):
    first, again, other = (draw(EXAMPLES[name], 300, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first["close"], other["close"])


def test_no_bar_s_law_depends_on_a_later_shock():
    """The variance and regime of a bar are known before it."""
    rng = np.random.default_rng(3)
    pieces = EXAMPLES["garch"].draw(50_000, rng)
    later = np.corrcoef(pieces.volatility[:-1], pieces.shock[1:] ** 2)[0, 1]
    own = np.corrcoef(pieces.volatility, pieces.shock**2)[0, 1]
    before = np.corrcoef(pieces.volatility[1:], pieces.shock[:-1] ** 2)[0, 1]
    assert abs(own) < 4 / 50_000**0.5
    assert abs(later) < 4 / 50_000**0.5
    assert before > 0.1


@pytest.fixture(scope="module")
def real_returns():
    bars = ingest_bars(read_packaged(), as_of=pd.Timestamp("2025-01-01", tz="UTC")).bars
    return np.diff(np.log(bars.loc[bars["symbol"] == "SP500", "close"].to_numpy()))


@pytest.mark.parametrize("name", LAWS)
def test_a_fitted_law_has_the_mean_and_variance_of_the_returns(real_returns, name):
    law = fit_law(name, real_returns)
    assert law.name == name
    # the share of each regime at the ends of the sample is not quite the stationary one
    tolerance = 0.01 if name == "regimes" else 1e-9
    assert law.variance == pytest.approx(real_returns.var(), rel=tolerance)
    assert law.mean == pytest.approx(real_returns.mean(), rel=10 * tolerance, abs=1e-12)


def test_a_fit_finds_the_parameters_that_drew_the_returns():
    true = EXAMPLES["garch"]
    law = fit_law("garch", returns_of(draw(true, 20_000)))
    assert law.alpha == pytest.approx(true.alpha, abs=0.02)
    assert law.beta == pytest.approx(true.beta, abs=0.05)
    jumps = MertonJumps(0.0, 0.01, 0.01, 0.0, 0.1)
    found = fit_law("jumps", returns_of(draw(jumps, 50_000)))
    assert found.jump_volatility == pytest.approx(0.1, rel=0.25)  # small jumps hide in the noise
    assert found.volatility == pytest.approx(0.01, rel=0.05)
    assert fit_law("jumps", returns_of(draw(EXAMPLES["gbm"], 150))).jump_rate == 0


def test_real_returns_are_fitted_with_memory_and_with_jumps(real_returns):
    assert fit_law("garch", real_returns).persistence > 0.9
    assert fit_law("jumps", real_returns).excess_kurtosis > 1
    assert fit_law("regimes", real_returns).durations.min() > 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GeometricBrownian(0, -1), "volatility is -1; it must be at least 0"),
        (lambda: MertonJumps(0, 1, -0.1, 0, 0), "jump_rate is -0.1"),
        (lambda: Garch(0, 0, 0.1, 0.8), "omega is 0; it must be positive"),
        (lambda: Garch(0, 1, 0.5, 0.5), r"alpha \+ beta is 1.0; it must be below 1"),
        (lambda: RegimeSwitching((0,), (1, 2), ((1,),)), "1 means, 2 volatilities"),
        (lambda: RegimeSwitching((0, 0), (1, 2), ((0.9, 0.2), (0, 1))), "must be probabilities"),
        (lambda: fit_law("levy", np.zeros(500)), "'levy' is no law; choose one of gbm, jumps"),
        (lambda: fit_law("gbm", np.zeros(500)), "cannot fit gbm to 500 returns from 0.0 to 0.0"),
        (lambda: fit_law("gbm", np.arange(9.0)), "give at least 100 finite ones"),
        (lambda: draw(EXAMPLES["gbm"], 9, start_price=0.0), "start_price is 0.0"),
        (lambda: draw(EXAMPLES["gbm"], 9, gap_share=1.0), "gap_share is 1.0"),
    ],
)
def test_impossible_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    assert issubclass(LawError, ValueError)


@settings(max_examples=30)
@given(
    volatility=st.floats(0, 0.3),
    gap_share=st.floats(0, 0.99),
    n_bars=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
def test_every_bar_encloses_its_body_at_any_volatility(volatility, gap_share, n_bars, seed):
    bars = draw(GeometricBrownian(0.0, volatility), n_bars, seed, gap_share=gap_share)
    body = bars[["open", "close"]]
    assert (bars["high"] >= body.max(axis=1)).all()
    assert (bars["low"] <= body.min(axis=1)).all()
    assert np.isfinite(bars[["open", "high", "low", "close", "volume"]]).all(axis=None)
