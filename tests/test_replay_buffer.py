"""Replay: sums of the tree, frequencies of draws, importance weights, the ring."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftlib.agents.replay import BRANCHES, ReplayBuffer, SumTree


def fill(priorities, alpha: float = 1.0, capacity: int | None = None) -> ReplayBuffer:
    """A buffer whose row i is (i, i) and has the priority i of `priorities`."""
    n = len(priorities)
    buffer = ReplayBuffer(capacity or n, 2, alpha)
    buffer.add(np.repeat(np.arange(n, dtype=np.float32)[:, None], 2, axis=1))
    buffer.set_priorities(np.arange(n), np.asarray(priorities, dtype=float))
    return buffer


values = st.floats(0, 1e6, allow_subnormal=False)


@given(
    n_leaves=st.sampled_from([1, 2, BRANCHES, BRANCHES + 1, BRANCHES**2, BRANCHES**2 + 3]),
    data=st.data(),
)
def test_every_sum_is_that_of_its_leaves_after_any_updates(n_leaves, data):
    tree, leaves = SumTree(n_leaves), np.zeros(n_leaves)
    pair = st.tuples(st.integers(0, n_leaves - 1), values)
    for update in data.draw(st.lists(st.lists(pair, min_size=1, max_size=20), max_size=5)):
        slots = np.array([slot for slot, _ in update])
        tree.set(slots, np.array([value for _, value in update]))
        for slot, value in update:  # the last of several values for one leaf
            leaves[slot] = value
    np.testing.assert_array_equal(tree.get(np.arange(n_leaves)), leaves)
    for depth, level in enumerate(reversed(tree.levels)):
        padded = np.zeros(level.size * BRANCHES**depth)
        padded[:n_leaves] = leaves
        np.testing.assert_allclose(
            level.reshape(-1), padded.reshape(-1, BRANCHES**depth).sum(axis=1), rtol=1e-12
        )


@given(
    leaves=st.lists(st.one_of(st.just(0.0), values), min_size=1, max_size=300).filter(
        lambda x: sum(x) > 0
    ),
    share=st.floats(0, 1),
)
def test_a_prefix_sum_leads_to_the_leaf_that_passes_it(leaves, share):
    tree = SumTree(len(leaves))
    tree.set(np.arange(len(leaves)), np.array(leaves))
    target = share * tree.total
    (found,) = tree.find(np.array([target]))
    tolerance = 1e-12 * tree.total
    assert leaves[found] > 0
    assert sum(leaves[:found]) <= target + tolerance
    assert sum(leaves[: found + 1]) >= target - tolerance


def test_draws_are_as_frequent_as_their_priorities():
    priorities = np.array([0.5, 1, 2, 4, 8, 0.25] * 10)
    alpha = 0.6
    buffer, rng = fill(priorities, alpha), np.random.default_rng(0)
    n_batches, n = 400, 64
    counts = np.zeros(len(priorities))
    for _ in range(n_batches):
        counts += np.bincount(buffer.sample(n, 0.4, rng).slots, minlength=len(priorities))
    expected = priorities**alpha / (priorities**alpha).sum()
    # Draws from equal parts vary no more than independent ones: a binomial bounds the error.
    error = np.sqrt(expected * (1 - expected) / (n_batches * n))
    assert (np.abs(counts / (n_batches * n) - expected) < 4 * error).all()


def test_each_part_of_the_sum_gets_its_own_draw():
    slots = fill(np.ones(64)).sample(64, 1.0, np.random.default_rng(1)).slots
    assert np.bincount(slots, minlength=64).max() <= 2  # a leaf touches two parts, by rounding
    assert len(np.unique(slots)) >= 62


def test_importance_weights_are_those_computed_by_hand():
    # Two rows drawn with probabilities 1/4 and 3/4: weights (2/4)^-beta and (6/4)^-beta.
    buffer = fill([1.0, 3.0])
    for beta in (0.0, 0.4, 1.0):
        sample = buffer.sample(64, beta, np.random.default_rng(0))
        expected = np.where(sample.slots == 0, 1.0, (1 / 3) ** beta)
        np.testing.assert_allclose(sample.weights, expected, rtol=1e-5)
        np.testing.assert_array_equal(sample.rows[:, 0], sample.slots)


def test_alpha_shapes_the_probabilities():
    buffer = fill([1.0, 16.0], alpha=0.5)  # priorities 1, 4
    weights = buffer.sample(100, 1.0, np.random.default_rng(0))
    np.testing.assert_allclose(weights.weights[weights.slots == 1], 0.25, rtol=1e-5)


def test_a_weighted_prioritised_sample_estimates_the_uniform_mean():
    rng = np.random.default_rng(5)
    losses = rng.gamma(0.5, size=500)
    buffer = fill(losses + 0.05, alpha=0.7)
    weighted, plain = [], []
    for _ in range(300):
        sample = buffer.sample(128, 1.0, rng)
        weights = sample.weights.astype(float)
        # The weights are known up to their largest, which differs from batch to batch.
        weighted.append((weights * losses[sample.slots]).sum() / weights.sum())
        plain.append(losses[sample.slots].mean())
    error = np.std(weighted) / math.sqrt(len(weighted))
    bias = np.var(weighted) / losses.mean()  # of a ratio, about its relative variance
    assert abs(np.mean(weighted) - losses.mean()) < 4 * error + bias
    assert np.mean(plain) > 1.5 * losses.mean()


def test_a_uniform_buffer_draws_all_rows_alike_and_weighs_them_alike():
    buffer, rng = fill([1.0, 100.0, 10_000.0], alpha=0.0), np.random.default_rng(0)
    sample = buffer.sample(30_000, 0.4, rng)
    assert (sample.weights == 1).all()
    error = math.sqrt(30_000 * 1 / 3 * 2 / 3)
    assert (np.abs(np.bincount(sample.slots) - 10_000) < 4 * error).all()


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_the_newest_rows_overwrite_the_oldest(alpha):
    buffer = ReplayBuffer(10, 1, alpha)
    for start in range(0, 24, 4):
        buffer.add(np.arange(start, start + 4, dtype=np.float32)[:, None])
    assert buffer.size == 10
    assert set(buffer.rows[:, 0]) == set(range(14, 24))
    drawn = buffer.sample(1_000, 1.0, np.random.default_rng(0))
    assert set(drawn.rows[:, 0]) == set(range(14, 24))


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_rows_never_written_are_never_drawn(alpha):
    buffer = ReplayBuffer(1_000, 1, alpha)
    buffer.rows[:] = np.nan
    buffer.add(np.ones((7, 1), dtype=np.float32))
    assert (buffer.sample(5_000, 1.0, np.random.default_rng(0)).rows == 1).all()


def test_new_rows_get_the_largest_priority_so_far():
    buffer = fill([1.0, 5.0, -7.0], capacity=8)
    buffer.set_priorities(np.array([2]), np.array([0.5]))
    buffer.add(np.zeros((2, 2), dtype=np.float32))
    np.testing.assert_allclose(buffer.tree.get(np.arange(5)), [1, 5, 0.5, 7, 7], rtol=1e-5)


def test_a_row_without_error_can_still_be_drawn():
    buffer = fill([0.0, 0.0])
    assert set(buffer.sample(64, 1.0, np.random.default_rng(0)).slots) == {0, 1}


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_a_buffer_goes_on_bit_for_bit_from_a_saved_state(alpha):
    buffer, rng = fill(np.arange(1.0, 9.0), alpha, capacity=12), np.random.default_rng(0)
    saved = buffer.save_state()
    other = ReplayBuffer(12, 2, alpha)
    other.load_state(saved)
    for each in (buffer, other):  # the first must not write into what was saved
        each.add(np.full((6, 2), 77, dtype=np.float32))
    first, second = (each.sample(200, 0.5, np.random.default_rng(3)) for each in (buffer, other))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    again = ReplayBuffer(12, 2, alpha)
    again.load_state(saved)
    assert set(again.sample(200, 0.5, rng).rows[:, 0]) == set(range(8))


def test_errors_name_the_remedy():
    with pytest.raises(MemoryError, match=r"of 100 numbers need .* GiB; lower buffer_size"):
        ReplayBuffer(10**15, 100)
    with pytest.raises(ValueError, match=r"alpha=1\.5"):
        ReplayBuffer(10, 1, alpha=1.5)
    with pytest.raises(ValueError, match="5 transitions at once do not fit in a buffer of 4"):
        ReplayBuffer(4, 1).add(np.zeros((5, 1), dtype=np.float32))
    with pytest.raises(ValueError, match="the buffer is empty"):
        ReplayBuffer(4, 1).sample(1, 1.0, np.random.default_rng(0))
    with pytest.raises(FloatingPointError, match="not finite"):
        fill([1.0, np.nan])
