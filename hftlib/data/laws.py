"""Laws of one-bar log returns, with their moments in closed form and a fit to real bars.

A law draws the pieces of a return, mean + volatility * shock + jump, and
`data.synthetic` makes bars of them. Everything is per bar; nothing here is
annualised.

Sources: Merton (1976), Option pricing when underlying stock returns are
discontinuous, Journal of Financial Economics 3; Hamilton (1989), A new
approach to the economic analysis of nonstationary time series, Econometrica
57; Bollerslev (1986), Generalized autoregressive conditional
heteroskedasticity, Journal of Econometrics 31.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from hftlib.compute import compile_kernel

FloatArray = npt.NDArray[np.float64]

LAWS = ("gbm", "jumps", "regimes", "garch")
JUMP_DEVIATIONS = 4.0  # a return further from the median than this is fitted as a jump
REGIME_BARS = 21  # window of the volatility that tells the two fitted regimes apart
WILD_SHARE = 0.25  # of the bars, the more volatile ones, are the second regime
MOST_PERSISTENT = 0.995  # of a fitted GARCH: its variance must exist


class LawError(ValueError):
    """Parameters without a law, or returns that none can be fitted to."""


class Draw(NamedTuple):
    """Pieces of log returns, arrays of shape (n_bars,); return = mean + volatility * shock + jump.

    `shock` is standard normal, given the past.
    """

    mean: FloatArray
    volatility: FloatArray
    shock: FloatArray
    jump: FloatArray


class Law(Protocol):
    """What every law here offers."""

    @property
    def name(self) -> str:
        """One of `LAWS`."""

    @property
    def mean(self) -> float:
        """Of a one-bar log return."""

    @property
    def variance(self) -> float:
        """Of a one-bar log return, unconditional."""

    def draw(self, n_bars: int, rng: np.random.Generator) -> Draw:
        """Draw the pieces of `n_bars` returns."""


@dataclass(frozen=True)
class GeometricBrownian:
    """Independent normal returns; the expected price grows by e^drift a bar."""

    drift: float
    volatility: float
    name: str = "gbm"

    def __post_init__(self) -> None:
        _require(self.volatility >= 0, "volatility", self.volatility, "at least 0")

    @property
    def mean(self) -> float:
        """Of a one-bar log return."""
        return self.drift - self.variance / 2

    @property
    def variance(self) -> float:
        """Of a one-bar log return."""
        return self.volatility**2

    def draw(self, n_bars: int, rng: np.random.Generator) -> Draw:
        """Draw the pieces of `n_bars` returns."""
        constant = np.ones(n_bars)
        shock = rng.standard_normal(n_bars)
        return Draw(self.mean * constant, self.volatility * constant, shock, 0 * constant)


@dataclass(frozen=True)
class MertonJumps:
    """Normal returns and, `jump_rate` times a bar, a normal jump; the expected price grows by
    e^drift a bar.
    """

    drift: float
    volatility: float
    jump_rate: float
    jump_mean: float
    jump_volatility: float
    name: str = "jumps"

    def __post_init__(self) -> None:
        for name in ("volatility", "jump_rate", "jump_volatility"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")

    @property
    def mean(self) -> float:
        """Of a one-bar log return."""
        return self._diffusive_mean + self.jump_rate * self.jump_mean

    @property
    def variance(self) -> float:
        """Of a one-bar log return."""
        return self.volatility**2 + self.jump_rate * (self.jump_mean**2 + self.jump_volatility**2)

    @property
    def excess_kurtosis(self) -> float:
        """Of a one-bar log return: fourth cumulant over squared variance."""
        m2, d2 = self.jump_mean**2, self.jump_volatility**2
        return self.jump_rate * (m2**2 + 6 * m2 * d2 + 3 * d2**2) / self.variance**2

    @property
    def _diffusive_mean(self) -> float:
        growth = np.expm1(self.jump_mean + self.jump_volatility**2 / 2)
        return self.drift - self.volatility**2 / 2 - self.jump_rate * float(growth)

    def draw(self, n_bars: int, rng: np.random.Generator) -> Draw:
        """Draw the pieces of `n_bars` returns."""
        constant = np.ones(n_bars)
        shock = rng.standard_normal(n_bars)
        n_jumps = rng.poisson(self.jump_rate, n_bars)
        spread = self.jump_volatility * np.sqrt(n_jumps) * rng.standard_normal(n_bars)
        jump = self.jump_mean * n_jumps + spread
        return Draw(self._diffusive_mean * constant, self.volatility * constant, shock, jump)


@dataclass(frozen=True)
class RegimeSwitching:
    """Normal returns whose mean and volatility follow a hidden Markov chain.

    Attributes
    ----------
    means, volatilities : tuple of float, length n_regimes
    transition : tuple of tuple of float, shape (n_regimes, n_regimes)
        Row i: probabilities of the next bar's regime, the present being i.
    """

    means: tuple[float, ...]
    volatilities: tuple[float, ...]
    transition: tuple[tuple[float, ...], ...]
    name: str = "regimes"

    def __post_init__(self) -> None:
        n_regimes, matrix = len(self.means), np.array(self.transition, dtype=float)
        if len(self.volatilities) != n_regimes or matrix.shape != (n_regimes, n_regimes):
            raise LawError(
                f"{n_regimes} means, {len(self.volatilities)} volatilities and a transition "
                f"matrix of shape {matrix.shape}; give as many of each as there are regimes"
            )
        _require(min(self.volatilities) >= 0, "volatilities", self.volatilities, "at least 0")
        if (matrix < 0).any() or not np.allclose(matrix.sum(axis=1), 1, atol=1e-12):
            raise LawError(f"transition {self.transition}: each row must be probabilities, sum 1")

    @property
    def stationary(self) -> FloatArray:
        """Long-run share of each regime, shape (n_regimes,)."""
        n_regimes = len(self.means)
        matrix = np.array(self.transition)
        equations = np.vstack([matrix.T - np.eye(n_regimes), np.ones(n_regimes)])
        share = np.linalg.lstsq(equations, np.append(np.zeros(n_regimes), 1.0), rcond=None)[0]
        return np.asarray(np.clip(share, 0, None) / np.clip(share, 0, None).sum())

    @property
    def durations(self) -> FloatArray:
        """Mean length of a stay in each regime, bars, shape (n_regimes,); inf if never left."""
        with np.errstate(divide="ignore"):
            return 1 / (1 - np.diag(np.array(self.transition)))

    @property
    def mean(self) -> float:
        """Of a one-bar log return."""
        return float(self.stationary @ np.array(self.means))

    @property
    def variance(self) -> float:
        """Of a one-bar log return, unconditional."""
        second = np.array(self.volatilities) ** 2 + np.array(self.means) ** 2
        return float(self.stationary @ second) - self.mean**2

    def draw_regimes(self, n_bars: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Regime of each bar, shape (n_bars,); the first has the stationary law."""
        cumulated = np.cumsum(np.array(self.transition), axis=1)
        regimes = np.empty(n_bars, dtype=np.int64)
        first = int(rng.choice(len(self.means), p=self.stationary))
        _walk_regimes(first, cumulated, rng.random(n_bars), regimes)
        return regimes

    def draw(self, n_bars: int, rng: np.random.Generator) -> Draw:
        """Draw the pieces of `n_bars` returns."""
        regimes = self.draw_regimes(n_bars, rng)
        mean, volatility = np.array(self.means)[regimes], np.array(self.volatilities)[regimes]
        return Draw(mean, volatility, rng.standard_normal(n_bars), np.zeros(n_bars))


@dataclass(frozen=True)
class Garch:
    """GARCH(1,1): variance_t = omega + alpha * (return_t-1 - mean)^2 + beta * variance_t-1."""

    mean: float
    omega: float
    alpha: float
    beta: float
    name: str = "garch"

    def __post_init__(self) -> None:
        _require(self.omega > 0, "omega", self.omega, "positive")
        _require(min(self.alpha, self.beta) >= 0, "alpha, beta", (self.alpha, self.beta), ">= 0")
        _require(self.persistence < 1, "alpha + beta", self.persistence, "below 1")

    @property
    def persistence(self) -> float:
        """Share of a variance shock that the next bar expects to keep."""
        return self.alpha + self.beta

    @property
    def variance(self) -> float:
        """Of a one-bar log return, unconditional."""
        return self.omega / (1 - self.persistence)

    @property
    def kurtosis(self) -> float:
        """Of a one-bar log return, 3 for a normal; inf where the fourth moment is."""
        rest = 1 - self.persistence**2 - 2 * self.alpha**2
        return 3 * (1 - self.persistence**2) / rest if rest > 0 else float("inf")

    def square_autocorrelation(self, lag: int) -> float:
        """Of (return - mean)^2 at `lag` >= 1 bars, where the kurtosis is finite."""
        a, b = self.alpha, self.beta
        first = a * (1 - a * b - b * b) / (1 - 2 * a * b - b * b)
        return first * self.persistence ** (lag - 1)

    def draw(self, n_bars: int, rng: np.random.Generator) -> Draw:
        """Draw the pieces of `n_bars` returns, from the unconditional variance on."""
        shock = rng.standard_normal(n_bars)
        variance = np.empty(n_bars)
        _walk_variance(self.variance, self.omega, self.alpha, self.beta, shock, variance)
        return Draw(np.full(n_bars, self.mean), np.sqrt(variance), shock, np.zeros(n_bars))


def fit_law(name: str, returns: FloatArray) -> Law:
    """A law whose mean and variance are those of `returns`, and more where it has more.

    Jumps are the returns beyond four robust deviations; the two regimes are the
    bars of lower and of higher volatility over three weeks; GARCH's alpha and
    beta are those of maximum likelihood, its omega gives the variance.

    Parameters
    ----------
    name : str
        One of `LAWS`.
    returns : array of shape (n_bars,)
        One-bar log returns, finite, at least 100, of the training span only.

    Raises
    ------
    LawError
        If the name is unknown, or the returns are too few, constant or not finite.
    """
    n_bars = len(returns)
    if name not in LAWS:
        raise LawError(f"{name!r} is no law; choose one of {', '.join(LAWS)}")
    if n_bars < 100 or not np.isfinite(returns).all() or np.ptp(returns) == 0:
        raise LawError(
            f"cannot fit {name} to {n_bars} returns from {np.min(returns, initial=np.inf)} to "
            f"{np.max(returns, initial=-np.inf)}; give at least 100 finite ones that vary"
        )
    mean, variance = float(returns.mean()), float(returns.var())
    if name == "gbm":
        return GeometricBrownian(mean + variance / 2, variance**0.5)
    if name == "jumps":
        return _fit_jumps(returns)
    if name == "regimes":
        return _fit_regimes(returns)
    from arch import arch_model

    scale = 1 / variance**0.5
    fitted = arch_model(scale * returns, vol="GARCH", p=1, q=1).fit(disp="off")
    alpha, beta = (float(fitted.params[key]) for key in ("alpha[1]", "beta[1]"))
    shrink = min(1.0, MOST_PERSISTENT / max(alpha + beta, 1e-12))
    alpha, beta = alpha * shrink, beta * shrink
    return Garch(mean, variance * (1 - alpha - beta), alpha, beta)


def _fit_jumps(returns: FloatArray) -> MertonJumps:
    median = np.median(returns)
    deviation = 1.4826 * np.median(np.abs(returns - median))
    is_jump = np.abs(returns - median) > JUMP_DEVIATIONS * deviation
    if not is_jump.any():
        return MertonJumps(returns.mean() + returns.var() / 2, returns.std(), 0.0, 0.0, 0.0)
    calm, jumps = returns[~is_jump], returns[is_jump] - returns[~is_jump].mean()
    rate, jump_mean = float(is_jump.mean()), float(jumps.mean())
    second = float((jumps**2).mean())  # the diffusion gives the rest of the variance
    volatility = max(returns.var() - rate * second, calm.var() * 1e-4) ** 0.5
    spread = max(second - jump_mean**2, 0.0) ** 0.5
    growth = np.expm1(jump_mean + spread**2 / 2)
    drift = returns.mean() - rate * jump_mean + volatility**2 / 2 + rate * growth
    return MertonJumps(float(drift), float(volatility), rate, jump_mean, spread)


def _fit_regimes(returns: FloatArray) -> RegimeSwitching:
    local = pd.Series(returns).rolling(REGIME_BARS, center=True, min_periods=2).std().to_numpy()
    regime = (local > np.quantile(local, 1 - WILD_SHARE)).astype(np.int64)
    counts = np.zeros((2, 2))
    np.add.at(counts, (regime[:-1], regime[1:]), 1)
    transition = counts / counts.sum(axis=1, keepdims=True)
    parts = [returns[regime == k] for k in (0, 1)]
    return RegimeSwitching(
        tuple(float(part.mean()) for part in parts),
        tuple(float(part.std()) for part in parts),
        tuple(tuple(float(p) for p in row) for row in transition),
    )


def _require(holds: bool, name: str, value: object, bound: str) -> None:
    if not holds:
        raise LawError(f"{name} is {value}; it must be {bound}")


@compile_kernel
def _walk_regimes(
    regime: int, cumulated: FloatArray, uniform: FloatArray, regimes: npt.NDArray[np.int64]
) -> None:
    """Fill `regimes` with a chain that starts in `regime`."""
    last = cumulated.shape[1] - 1
    for t in range(len(regimes)):
        if t > 0:
            row = regime
            regime = 0
            while regime < last and uniform[t] >= cumulated[row, regime]:
                regime += 1
        regimes[t] = regime


@compile_kernel
def _walk_variance(
    present: float, omega: float, alpha: float, beta: float, shock: FloatArray, out: FloatArray
) -> None:
    """Fill `out` with the conditional variances that the shocks make, the first being `present`."""
    for t in range(len(out)):
        out[t] = present
        present = omega + (alpha * shock[t] * shock[t] + beta) * present
