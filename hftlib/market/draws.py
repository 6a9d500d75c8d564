"""Counter-based random numbers for the simulators' kernels.

A stream is a vector of two uint64: key and counter. The n-th number is a hash
of both, so a book draws the same numbers whatever the batch around it and
whichever thread runs it. Generators of numpy stay outside the kernels.

Source: Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3;
the hash is the finaliser of Steele et al. (2014), Fast splittable
pseudorandom number generators (SplitMix64).
"""

import math

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel

Stream = npt.NDArray[np.uint64]

GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
ONE = np.uint64(1)
SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(12)


@compile_kernel
def mix(z: np.uint64) -> np.uint64:
    """Hash 64 bits into 64 bits, one to one."""
    z = (z ^ (z >> SHIFTS[0])) * MIX_1
    z = (z ^ (z >> SHIFTS[1])) * MIX_2
    return z ^ (z >> SHIFTS[2])


@compile_kernel
def uniform(stream: Stream) -> float:
    """The stream's next number, uniform on the open interval (0, 1)."""
    stream[1] += ONE
    return float((mix(stream[0] + stream[1] * GAMMA) >> SHIFTS[3]) + 0.5) * 2.0**-52


@compile_kernel
def exponential(stream: Stream) -> float:
    """Exponential with mean 1."""
    return -math.log(uniform(stream))


@compile_kernel
def normal(stream: Stream) -> float:
    """Standard normal, by Box and Muller; two numbers of the stream."""
    radius = math.sqrt(-2.0 * math.log(uniform(stream)))
    return radius * math.cos(2.0 * math.pi * uniform(stream))


@compile_kernel
def poisson(stream: Stream, mean: float) -> int:
    """Poisson count: arrivals at unit rate before `mean`; takes time in proportion to it."""
    count, time = 0, exponential(stream)
    while time < mean:
        count += 1
        time += exponential(stream)
    return count


@compile_kernel
def _key(seed: np.uint64, name: np.uint64) -> np.uint64:
    return mix(mix(seed + GAMMA) + (name + ONE) * MIX_1)


def open_streams(seed: int, names: npt.ArrayLike) -> Stream:
    """Streams of shape (n, 2), one for each of n distinct whole numbers `names`.

    The stream of a name depends on `seed` and the name alone.

    Raises
    ------
    ValueError
        If the seed is no whole number of 64 bits.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed}: expected a whole number in [0, 2**64)")
    keys = np.atleast_1d(np.asarray(names, dtype=np.uint64))
    streams = np.zeros((len(keys), 2), dtype=np.uint64)
    for number, name in enumerate(keys):
        streams[number, 0] = _key(np.uint64(seed), name)
    return streams
