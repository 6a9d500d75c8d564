"""What the law of the crash game (v3) says in numbers.

The rug hazard is constant and no price move depends on the past, hence no
strategy has an edge, and the answers are known: `answers.check_answers` holds
a pipeline against them. T is the tick of the rug, P_t the price at tick t,
M_t the lowest price up to it. The end of a game after `MAX_TICKS`, which one
game in 10^11 reaches, is left out.
"""

import math
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve

from hftlib.compute import compile_kernel
from hftlib.sessions.game import (
    BIG_CHANCE,
    BIG_LOW,
    BIG_SPAN,
    DRIFT_LOW,
    DRIFT_SPAN,
    GOD_CEILING,
    GOD_CHANCE,
    GOD_FACTOR,
    MAX_TICKS,
    NOISE,
    RUG_CHANCE,
    RUG_SHARE,
    WIDEST_ROOT,
)
from hftlib.sessions.vocabulary import SIDEBET_PAYOUT, SIDEBET_TICKS

FloatArray = npt.NDArray[np.float64]

GRID = 1 / 1024  # step of the log price in recursions
DEPTH, HEIGHT = 8, 12  # they run from exp(-DEPTH) to exp(HEIGHT)
N_NODES = 4_000, 64  # with which a tick's change is spread over the grid: first number, second


def survival(ticks: int) -> float:
    """P(T > ticks): the chance that a game is alive at this tick.

    Each tick ends the game with chance h = .005, whatever came before:
    P(T > t) = (1 - h)^t. From any later tick s the same holds for T - s, since
    P(T > s + t | T > s) = (1 - h)^(s + t) / (1 - h)^s: the hazard is h at every age.
    """
    return (1 - RUG_CHANCE) ** ticks


@compile_kernel
def change_moments(price: float) -> tuple[float, float, float, float]:
    """E[X], E[X^2], E[X^3], E[X^4] of the change X = P_t / P_(t-1) - 1 of a tick without a rug.

    X is a mixture: up to a price of 100, +9 with chance g (a god candle); otherwise B with
    chance 1/8, else D + W. B is symmetric and |B| uniform on (.15, .25); D is uniform on
    (-.02, .03); W uniform on (-s, s) with s = .005 min(10, sqrt(price)), independent of D.
    Moments of a uniform number on (a, b) are (b^(k+1) - a^(k+1)) / ((k + 1)(b - a)), odd ones of
    B and W vanish, and E[(D + W)^k] expands. Only s and g depend on the price.

    The standard deviation is .0781 at price 1.0, .0786 at 10, .0826 at 100. An eighth of the
    variance is god candles, one tick in 100,000: without one a sample shows .0728.
    """
    low, high = DRIFT_LOW, DRIFT_LOW + DRIFT_SPAN
    d1 = (high**2 - low**2) / (2 * DRIFT_SPAN)
    d2 = (high**3 - low**3) / (3 * DRIFT_SPAN)
    d3 = (high**4 - low**4) / (4 * DRIFT_SPAN)
    d4 = (high**5 - low**5) / (5 * DRIFT_SPAN)
    s = NOISE * min(WIDEST_ROOT, math.sqrt(price))
    w2, w4 = s**2 / 3, s**4 / 5
    top = BIG_LOW + BIG_SPAN
    b2 = (top**3 - BIG_LOW**3) / (3 * BIG_SPAN)
    b4 = (top**5 - BIG_LOW**5) / (5 * BIG_SPAN)
    small, big = 1 - BIG_CHANCE, BIG_CHANCE
    god = GOD_CHANCE if price <= GOD_CEILING else 0.0
    gain = GOD_FACTOR - 1
    m1 = god * gain + (1 - god) * small * d1
    m2 = god * gain**2 + (1 - god) * (small * (d2 + w2) + big * b2)
    m3 = god * gain**3 + (1 - god) * small * (d3 + 3 * d1 * w2)
    m4 = god * gain**4 + (1 - god) * (small * (d4 + 6 * d2 * w2 + w4) + big * b4)
    return m1, m2, m3, m4


def change_mean(price: float = 1.0) -> float:
    """E[X]: .9 g + (1 - g)(7/8)(.005), .004465 at every price up to 100; .004375 above.

    The first moment of `change_moments`; s plays no part in it.
    """
    return change_moments(price)[0]


def sidebet_chance() -> float:
    """P(T - s <= 40 | T > s) = 1 - .995^40 = .18168, at every tick s: see `survival`."""
    return 1 - survival(SIDEBET_TICKS)


def sidebet_value() -> float:
    """Expected gain of a stake of 1: it is lost, and pays 5 with `sidebet_chance`; -.0916."""
    return SIDEBET_PAYOUT * sidebet_chance() - 1


def holding_values(n_ticks: int) -> FloatArray:
    """Expected gain of 1 SOL of tokens bought at price 1.0 at tick 0 and held h ticks, no fees.

    If the game is alive then they are sold at P_h; if it rugged at T = t <= h they
    are worth .02 M_(t-1). The rug being independent of the price,

        V_h = (1 - h0)^h E[P_h] + sum over t = 1..h of h0 (1 - h0)^(t-1) .02 E[M_(t-1)] - 1

    with h0 = .005: -.0457 % at 1 tick, -1.890 % at 40, -4.795 % at 100 and -9.613 % at 200.

    Returns
    -------
    array of shape (n_ticks + 1,)
        V_0 = 0 to V_n. The error is below 5e-6 up to 200 ticks: both recursions take the noise
        W at price 1.0 instead of its present price (3e-6), on a grid (1e-7).

    Raises
    ------
    ValueError
        If `n_ticks` is negative or above `MAX_TICKS`.
    """
    if not 0 <= n_ticks <= MAX_TICKS:
        raise ValueError(f"n_ticks={n_ticks}: expected 0 to {MAX_TICKS}")
    ticks = np.arange(n_ticks + 1)
    alive = (1 - RUG_CHANCE) ** ticks
    rugged = np.cumsum(RUG_CHANCE * alive[:-1] * RUG_SHARE * mean_minima(n_ticks)[:-1])
    values: FloatArray = alive * mean_prices(n_ticks) - 1
    values[1:] += rugged
    return values


@cache
def mean_minima(n_ticks: int) -> FloatArray:
    """E[M_0] to E[M_n] of a price that never rugs: shape (n_ticks + 1,), read-only.

    The log price is a random walk S. Its steps read backwards have the same
    law, so min(S_0, ..., S_k) is distributed as L_k with L_0 = 0 and
    L_k = min(0, L_(k-1) + step) (Feller, vol. II, XII.2; Lindley 1952): one density
    on a half-line instead of the joint one of price and minimum.
    """
    law, low = _step_law(GOD_CHANCE)
    at = np.arange(-round(DEPTH / GRID), 1) * GRID
    mass = np.zeros(len(at))
    mass[-1] = 1.0
    means = [1.0]
    for _ in range(n_ticks):
        mass = _convolve(mass, law, low)
        means.append(float(mass @ np.exp(at)))
    return _freeze(means)


@cache
def mean_prices(n_ticks: int) -> FloatArray:
    """E[P_0] to E[P_n] of a price that never rugs: shape (n_ticks + 1,), read-only.

    E[P_k] = E[P_(k-1)] (1 + a) - (a - b) E[P_(k-1); P_(k-1) > 100] with a and b the
    `change_mean` below and above 100: below it P grows by the same factor at every
    price. The last term, 2e-5 of the price at 200 ticks, comes from the density of the log price.
    """
    below, above = change_mean(GOD_CEILING), change_mean(2 * GOD_CEILING)
    law, low = _step_law(0.0)
    at = np.arange(-round(DEPTH / GRID), round(HEIGHT / GRID) + 1) * GRID
    mass = np.where(at == 0, 1.0, 0.0)
    god = np.where(at <= math.log(GOD_CEILING), GOD_CHANCE, 0.0)
    shift = round(math.log(GOD_FACTOR) / GRID)
    means = [1.0]
    for _ in range(n_ticks):
        high = mass[god == 0] @ np.exp(at[god == 0])
        means.append(means[-1] * (1 + below) - (below - above) * float(high))
        lifted = god * mass
        mass = _convolve(mass - lifted, law, low)
        mass[shift:] += lifted[:-shift]
    return _freeze(means)


def _freeze(values: list[float]) -> FloatArray:
    """An array that no caller can change."""
    array = np.array(values)
    array.setflags(write=False)
    return array


def _step_law(god: float) -> tuple[FloatArray, int]:
    """Masses of log(1 + X) at price 1.0 on nodes of the grid from number `low` on, and `low`.

    X is spread evenly over many values, and each shared between the two nodes
    about it such that the mean stays.
    """
    many, few = ((np.arange(n) + 0.5) / n for n in N_NODES)
    big = BIG_LOW + BIG_SPAN * many
    small = (DRIFT_LOW + DRIFT_SPAN * many[:, None] + NOISE * (2 * few - 1)).ravel()
    parts = [
        (big, (1 - god) * BIG_CHANCE / 2),
        (-big, (1 - god) * BIG_CHANCE / 2),
        (small, (1 - god) * (1 - BIG_CHANCE)),
        (np.array([GOD_FACTOR - 1]), god),
    ]
    place = np.log1p(np.concatenate([change for change, _ in parts])) / GRID
    chance = np.concatenate([np.full(len(change), p / len(change)) for change, p in parts])
    node = np.floor(place).astype(np.int64)
    low, above = int(node.min()), place - node
    size = int(node.max()) - low + 2
    law: FloatArray = np.bincount(node - low, chance * (1 - above), size).astype(np.float64)
    law += np.bincount(node - low + 1, chance * above, size)
    return law, low


def _convolve(mass: FloatArray, law: FloatArray, low: int) -> FloatArray:
    """One step of the walk; mass that would leave the grid stays at its ends."""
    spread = fftconvolve(mass, law)
    moved: FloatArray = spread[-low : len(mass) - low].copy()
    moved[0] += spread[:-low].sum()
    moved[-1] += spread[len(mass) - low :].sum()
    return moved
