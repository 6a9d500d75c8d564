import numpy as np
import pytest
from scipy import stats

from hftlib.compute import compile_kernel
from hftlib.market.draws import (
    GAMMA,
    exponential,
    mix,
    normal,
    open_streams,
    poisson,
    uniform,
)

MASK = 2**64 - 1
# first outputs of SplitMix64 for the seed 1234567, as published with its reference code
SPLITMIX = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


@compile_kernel
def fill(draw, stream, out):
    for i in range(len(out)):
        out[i] = draw(stream)


@compile_kernel
def fill_poisson(stream, mean, out):
    for i in range(len(out)):
        out[i] = poisson(stream, mean)


def sample(draw, n: int, seed: int = 0, name: int = 0) -> np.ndarray:
    out = np.empty(n)
    fill(draw, open_streams(seed, name)[0], out)
    return out


def unmix(z: int) -> int:
    """The number that `mix` hashes to z: each of its steps undone."""
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        shifted = z
        for _ in range(64 // shift):
            shifted = z ^ (shifted >> shift)
        z = shifted * pow(factor, -1, 2**64) & MASK
    return z


# streams


def test_the_hash_gives_the_published_numbers():
    step = int(GAMMA)
    assert [int(mix(np.uint64(1234567 + n * step & MASK))) for n in range(1, 6)] == SPLITMIX
    stream = np.array([1234567, 0], dtype=np.uint64)
    numbers = [uniform(stream) for _ in SPLITMIX]
    # 52 bits of the hash and half a unit
    assert numbers == [((z >> 12) + 0.5) / 2**52 for z in SPLITMIX]


def test_the_nth_number_depends_on_seed_name_and_n_alone():
    together, apart = open_streams(7, [0, 3, 2**64 - 1]), open_streams(7, 3)
    interleaved = np.array([[uniform(stream) for stream in together] for _ in range(50)])
    np.testing.assert_array_equal(interleaved[:, 1], [uniform(apart[0]) for _ in range(50)])
    ahead = open_streams(7, 3)[0]
    ahead[1] = 49
    assert uniform(ahead) == interleaved[-1, 1]


def test_seed_zero_and_name_zero_are_streams_of_their_own():
    keys = {
        int(open_streams(seed, name)[0, 0])
        for seed in (*range(60), 2**31, 2**64 - 1)
        for name in (*range(60), 2**31, 2**64 - 1)
    }
    assert len(keys) == 62**2
    assert 0 not in keys


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_beyond_64_bits_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed {seed}: expected a whole number"):
        open_streams(seed, 0)


def test_streams_of_neighbouring_seeds_and_names_do_not_correlate():
    n = 20_000
    draws = np.stack([sample(uniform, n, s, k) for s in range(5) for k in range(8)])
    draws = (draws - draws.mean(1, keepdims=True)) / draws.std(1, keepdims=True)
    for lag in (0, 1, 2):
        correlation = draws[:, : n - lag] @ draws[:, lag:].T / (n - lag)
        if lag == 0:
            np.fill_diagonal(correlation, 0)
        # 1,600 entries of standard deviation n^-1/2: 5 of these are exceeded once in 1,000 runs
        assert np.abs(correlation).max() < 5 / np.sqrt(n)


# distributions; a p-value below .001 would be a rare accident of the seed


def test_uniform_numbers_are_uniform():
    numbers = sample(uniform, 1_000_000)
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    assert numbers.mean() == pytest.approx(1 / 2, abs=4 * np.sqrt(1 / 12 / len(numbers)))
    # variance of a squared deviation: 1/80 - 1/144
    assert numbers.var() == pytest.approx(1 / 12, abs=4 * np.sqrt((1 / 80 - 1 / 144) / 1e6))
    pairs, *_ = np.histogram2d(numbers[::2], numbers[1::2], bins=20)
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3


@pytest.mark.parametrize(("hashed", "number"), [(0, 2.0**-53), (MASK, 1 - 2.0**-53)])
def test_the_extreme_hashes_stay_inside_the_open_interval(hashed, number):
    key = unmix(hashed) - int(GAMMA) & MASK
    stream = np.array([key, 0], dtype=np.uint64)
    assert uniform(stream) == number
    assert 0 < number < 1


def test_exponential_numbers_are_exponential():
    numbers = sample(exponential, 200_000)
    assert stats.kstest(numbers, "expon").pvalue > 1e-3
    assert numbers.mean() == pytest.approx(1, abs=4 / np.sqrt(len(numbers)))


def test_normal_numbers_are_normal_and_independent():
    numbers = sample(normal, 200_000)
    assert stats.kstest(numbers, "norm").pvalue > 1e-3
    root = np.sqrt(len(numbers))
    assert numbers.mean() == pytest.approx(0, abs=4 / root)
    assert numbers.var() == pytest.approx(1, abs=4 * np.sqrt(2) / root)
    assert stats.kurtosis(numbers) == pytest.approx(0, abs=4 * np.sqrt(24) / root)
    assert np.corrcoef(numbers[1:], numbers[:-1])[0, 1] == pytest.approx(0, abs=4 / root)


@pytest.mark.parametrize("mean", [0.0, 0.02, 0.7, 5.0, 60.0])
def test_poisson_counts_are_poisson(mean):
    counts = np.empty(100_000, dtype=np.int64)
    fill_poisson(open_streams(1, 0)[0], mean, counts)
    bins = np.arange(stats.poisson.ppf(1e-4, mean), stats.poisson.ppf(1 - 1e-4, mean) + 1)
    expected = stats.poisson.pmf(bins, mean) * len(counts)
    seen = (counts[:, None] == bins).sum(0)
    if mean == 0:
        assert (counts == 0).all()
    else:
        rest = len(counts) - np.array([seen.sum(), expected.sum()])
        assert stats.chisquare([*seen, rest[0]], [*expected, rest[1]]).pvalue > 1e-3


def test_a_poisson_count_of_a_large_mean_is_no_smaller_than_it_should_be():
    # exp(-2000) is 0 in doubles
    counts = np.empty(2_000, dtype=np.int64)
    fill_poisson(open_streams(2, 0)[0], 2_000.0, counts)
    assert counts.mean() == pytest.approx(2_000, abs=4 * np.sqrt(2_000 / len(counts)))
    assert counts.var() == pytest.approx(2_000, rel=4 * np.sqrt(2 / len(counts)))
