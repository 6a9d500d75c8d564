"""The value that informed participants trade on: two processes, exact in time.

An Ornstein-Uhlenbeck value with rare large shocks drives `market.simulator`; a
Merton jump-diffusion, which may be pulled to its start, `market.batch`. Both
steps are exact for any interval, except that the OU value's shocks land at its
end.

Sources: Byrd, Hybinette & Balch (2020), ABIDES (OU value with megashocks);
Merton (1976), Option pricing when underlying stock returns are discontinuous;
Schwartz (1997), The stochastic behavior of commodity prices (its first model).
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel
from hftlib.market.draws import Stream, normal, open_streams, poisson, uniform


class OUParams(NamedTuple):
    """Ornstein-Uhlenbeck value with normal shocks at Poisson times; prices in ticks."""

    mean: float  # ticks
    reversion_hz: float  # 1 / mean time to return, 1 / s
    volatility: float  # ticks / sqrt(s)
    shock_hz: float  # shocks a second
    shock_scale: float  # standard deviation of a shock, ticks


class JumpParams(NamedTuple):
    """Geometric Brownian motion with log-normal jumps at Poisson times, and a pull to the start."""

    start: float  # ticks
    drift: float  # expected growth, 1 / s
    volatility: float  # 1 / sqrt(s)
    jump_hz: float  # jumps a second
    jump_mean: float  # mean of a jump's logarithm
    jump_scale: float  # standard deviation of a jump's logarithm
    reversion_hz: float = 0.0  # pull of the log value to that of `start`, 1 / s


@compile_kernel
def step_ou(value: float, seconds: float, p: OUParams, stream: Stream) -> float:
    """The value `seconds` later."""
    decay = math.exp(-p.reversion_hz * seconds)
    if p.reversion_hz > 0:
        variance = p.volatility**2 * -math.expm1(-2 * p.reversion_hz * seconds)
        variance /= 2 * p.reversion_hz
    else:
        variance = p.volatility**2 * seconds
    value = p.mean + (value - p.mean) * decay + math.sqrt(variance) * normal(stream)
    for _ in range(poisson(stream, p.shock_hz * seconds)):
        value += p.shock_scale * normal(stream)
    return value


@compile_kernel
def step_jump(value: float, seconds: float, p: JumpParams, stream: Stream) -> float:
    """The value `seconds` later; without reversion its expectation grows by `drift` alone."""
    k, forgotten, variance = p.reversion_hz, 0.0, seconds
    span = seconds
    if k > 0:
        forgotten = -math.expm1(-k * seconds)  # share of a log distance that is gone by then
        span, variance = forgotten / k, -math.expm1(-2 * k * seconds) / (2 * k)
    compensator = p.jump_hz * (math.exp(p.jump_mean + p.jump_scale**2 / 2) - 1)
    growth = (p.drift - p.volatility**2 / 2 - compensator) * span
    growth += p.volatility * math.sqrt(variance) * normal(stream)
    for _ in range(poisson(stream, p.jump_hz * seconds)):
        jump = p.jump_mean + p.jump_scale * normal(stream)
        growth += jump * math.exp(-k * seconds * uniform(stream)) if k > 0 else jump
    if k > 0:
        growth -= forgotten * math.log(value / p.start)
    return value * math.exp(growth)


@compile_kernel
def _walk_ou(path: npt.NDArray[np.float64], seconds: float, p: OUParams, stream: Stream) -> None:
    for i in range(1, len(path)):
        path[i] = step_ou(path[i - 1], seconds, p, stream)


@compile_kernel
def _walk_jump(
    path: npt.NDArray[np.float64], seconds: float, p: JumpParams, stream: Stream
) -> None:
    for i in range(1, len(path)):
        path[i] = step_jump(path[i - 1], seconds, p, stream)


def simulate_ou(n_steps: int, seconds: float, p: OUParams, seed: int) -> npt.NDArray[np.float64]:
    """Path of shape (n_steps + 1,), ticks, from the mean, one value every `seconds`."""
    path = np.full(n_steps + 1, float(p.mean))
    _walk_ou(path, seconds, p, open_streams(seed, 0)[0])
    return path


def simulate_jump(
    n_steps: int, seconds: float, p: JumpParams, seed: int
) -> npt.NDArray[np.float64]:
    """Path of shape (n_steps + 1,), ticks, from `start`, one value every `seconds`."""
    path = np.full(n_steps + 1, float(p.start))
    _walk_jump(path, seconds, p, open_streams(seed, 0)[0])
    return path
