"""Running moments against NumPy's of everything at once, and the running return against a loop."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npTRPO.sampling.normalization import CLIP, Moments, RewardScale, standardize
from tests.strategies import fractions, generators, row_batches


def exact_moments(column):
    """Mean and variance of a column in rational numbers."""
    numbers = [Fraction(float(x)) for x in column]
    mean = sum(numbers) / len(numbers)
    return float(mean), float(sum((x - mean) ** 2 for x in numbers) / len(numbers))


def rounding(rows, batches):
    """Bounds on the errors of mean and variance, per column.

    A mean of N numbers up to M is off by at most N ε M, whatever the order of its sums; each merge of two
    means adds at most 4 ε M for its four operations. With e the sum of these, a batch's variance (around
    its own mean) and the squared shift between two means, neither larger than the squared range r², are
    off by N ε r² for their sums and by 2 r e + e² for the error e of the means; each merge adds 6 ε r².
    """
    largest, reach = np.abs(rows).max(axis=0), np.ptp(rows, axis=0)
    unit = np.finfo(float).eps * (len(rows) + 6 * batches)
    in_mean = unit * largest
    return in_mean, unit * reach**2 + 4 * reach * in_mean + 2 * in_mean**2


def moments_of(batches, size):
    moments = Moments.empty(size)
    for batch in batches:
        moments = moments.updated(batch)
    return moments


@given(row_batches())
def test_moments_are_those_of_all_rows_however_they_came(batches):
    rows = np.concatenate(batches)
    moments = moments_of(batches, rows.shape[1])
    in_mean, in_variance = rounding(rows, len(batches))
    assert moments.count == len(rows)
    for i, column in enumerate(rows.T):
        mean, variance = exact_moments(column)
        assert abs(moments.mean[i] - mean) <= in_mean[i]
        assert abs(moments.variance[i] - variance) <= in_variance[i]
    np.testing.assert_allclose(moments.mean, np.mean(rows, axis=0), rtol=0, atol=2 * in_mean.max())
    np.testing.assert_allclose(moments.variance, np.var(rows, axis=0), rtol=0, atol=2 * in_variance.max())


@given(row_batches())
def test_moments_are_values_that_an_update_leaves_alone(batches):
    rows = np.concatenate(batches)
    before = Moments.empty(rows.shape[1]).updated(rows)
    copies = before.mean.copy(), before.variance.copy()
    after = before.updated(rows + 1)
    assert (before.count, after.count) == (len(rows), 2 * len(rows))
    np.testing.assert_array_equal(before.mean, copies[0])
    np.testing.assert_array_equal(before.variance, copies[1])


def test_moments_of_float32_rows_are_computed_in_float64():
    rows = np.full((3000, 1), 0.1, dtype=np.float32)
    moments = Moments.empty(1).updated(rows)
    assert moments.mean.dtype == moments.variance.dtype == np.float64
    # In float32 a sum of 3000 terms would be off by some 1e-7 of itself, and in float64 by 3000 ε.
    assert abs(moments.mean[0] - float(np.float32(0.1))) <= 3000 * np.finfo(float).eps


def test_moments_of_nothing_have_mean_0_and_scale_1():
    moments = Moments.empty(2).updated(np.zeros((0, 2)))
    assert moments.count == 0
    np.testing.assert_array_equal(standardize(np.array([[3.0, -4.0]]), moments.normalizer(float)), [[3, -4]])


@given(
    st.floats(-1e12, 1e12),
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.sampled_from([np.float32, np.float64]),
)
def test_a_constant_feature_has_scale_1(constant, sizes, dtype):
    """However its mean is rounded: 0.1 repeated has a variance of some 1e-34."""
    batches = [np.full((n, 1), constant, dtype=dtype) for n in sizes]
    moments = moments_of(batches, 1)
    assert moments.scale == 1
    rows = standardize(batches[0], moments.normalizer(dtype))
    assert rows.dtype == dtype
    in_mean = (sum(sizes) + 6 * len(sizes)) * np.finfo(float).eps + np.finfo(dtype).eps  # see rounding
    assert np.all(np.abs(rows) <= in_mean * abs(constant))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-44, 1e-39, 1e-30, 1e-3, 1e30])
def test_no_size_of_a_feature_makes_its_rows_infinite_or_nan(dtype, size):
    rows = np.array([[0.0], [size]], dtype=dtype) - dtype(size) / 2
    moments = Moments.empty(1).updated(rows)
    mean, factor = moments.normalizer(dtype)
    assert np.isfinite(mean)
    assert np.isfinite(factor)
    assert np.all(np.abs(standardize(rows, (mean, factor))) <= 1 + 4 * np.finfo(dtype).eps)


@given(row_batches(), st.sampled_from([np.float32, np.float64]))
def test_standardized_rows_have_mean_0_and_deviation_1(batches, dtype):
    rows = np.concatenate(batches)
    assume(len(rows) > 1)
    largest, deviation = np.abs(rows).max(), rows.std(axis=0).min()
    assume(largest < 1e5 * deviation)  # well below 1/ε of float32, from where on a feature counts as constant
    offset = float(largest / deviation)
    moments = moments_of(batches, rows.shape[1])
    given_rows = rows.astype(dtype)
    seen = standardize(given_rows, moments.normalizer(dtype))
    assert seen.dtype == dtype
    # Rows and mean are rounded to the dtype, by ε of the offset in standard deviations; the rest by ε.
    unit = (len(rows) + 8) * np.finfo(dtype).eps * (offset + 1)
    np.testing.assert_allclose(seen.mean(axis=0, dtype=float), 0, atol=unit)
    np.testing.assert_allclose(seen.std(axis=0, dtype=float), 1, atol=2 * unit)


def test_standardized_rows_are_clipped_at_ten_deviations():
    moments = Moments(np.array([1.0]), np.array([4.0]), 100)
    rows = np.array([[1.0], [3.0], [20.5], [21.0], [21.5], [np.inf], [-1e30], [-19.5]])
    seen = standardize(rows, moments.normalizer(float))
    assert CLIP == 10
    np.testing.assert_array_equal(seen[:, 0], [0, 1, 9.75, 10, 10, 10, -10, -10])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(1, 3), fractions, generators())
def test_the_scale_of_rewards_is_the_deviation_of_the_running_return(lengths, n, gamma, rng):
    """Against a loop over environments and steps, with ends and resets anywhere, in several batches."""
    scale, seen, running, size = RewardScale.empty(n), [], [0.0] * n, np.zeros(n)
    for steps in lengths:
        rewards = rng.standard_normal((steps, n))
        ended, valid = rng.random((steps, n)) < 0.3, rng.random((steps, n)) < 0.8
        scale = scale.updated(rewards, ended, valid, gamma)
        for t in range(steps):
            for i in range(n):
                running[i] = gamma * running[i] + rewards[t, i]
                size[i] += abs(rewards[t, i])
                if valid[t, i]:
                    seen.append(running[i])
                if ended[t, i]:
                    running[i] = 0.0
    # Sums of up to 18 rewards, in whatever order, differ by less than 2 × 18 roundings of all their sizes.
    off = 36 * np.finfo(float).eps * size
    assert np.all(np.abs(scale.running - running) <= off)
    assert scale.moments.count == len(seen)
    if seen:
        column = np.array(seen)[:, None]
        in_mean, in_variance = rounding(column, len(lengths))
        in_mean += off.max()
        in_variance += 4 * off.max() * np.abs(column).max()  # a square moves by twice what its root does
        mean, variance = exact_moments(column[:, 0])
        assert abs(scale.moments.mean[0] - mean) <= in_mean[0]
        assert abs(scale.moments.variance[0] - variance) <= in_variance[0]


@pytest.mark.parametrize("split", [1, 3, 6])
def test_the_running_return_restarts_at_every_end_and_goes_on_across_batches(split):
    rewards = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])[:, None]
    ended = np.array([False, True, False, False, True, False])[:, None]
    scale = RewardScale.empty(1)
    for part in (slice(0, split), slice(split, None)):
        scale = scale.updated(rewards[part], ended[part], np.ones_like(ended[part]), 0.5)
    # 1, 2½; 4, 10, 21; 32.
    assert scale.running == 32
    assert scale.moments.mean[0] == pytest.approx(70.5 / 6, rel=1e-15)


def test_rewards_are_divided_but_not_centred_and_clipped_at_ten():
    scale = RewardScale(Moments(np.array([5.0]), np.array([4.0]), 100), np.zeros(2))
    rewards = np.array([[1.0, 0.0], [-3.0, 20.5], [-1e9, 19.0]])
    np.testing.assert_array_equal(scale.apply(rewards), [[0.5, 0], [-1.5, 10], [-10, 9.5]])


@pytest.mark.parametrize("constant", [0.0, 0.1, -3.0])
def test_rewards_whose_returns_do_not_vary_are_left_as_they_are(constant):
    rewards = np.full((4, 2), constant)
    ends = np.ones((4, 2), dtype=bool)
    scale = RewardScale.empty(2).updated(rewards, ends, ends, 0.9)
    np.testing.assert_array_equal(scale.apply(rewards), rewards)


@given(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=4))
def test_before_any_reward_the_scale_is_1(shape):
    rewards = np.linspace(-1, 1, shape[0] * shape[1]).reshape(shape)
    np.testing.assert_array_equal(RewardScale.empty(shape[1]).apply(rewards), rewards)
