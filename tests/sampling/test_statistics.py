"""Spread of numbers, in one piece or several, and the explained variance of values."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from npTRPO.sampling.statistics import Spread, explained_variance
from tests.strategies import arrays, generators

EPS = np.finfo(np.float64).eps


@given(generators(), st.integers(1, 20), st.sampled_from([0.0, 1e-200, 1e-8, 1.0, 1e8]), st.floats(-1e3, 1e3))
def test_advantages_get_mean_0_and_deviation_1_and_are_zero_if_they_do_not_vary(rng, n, spread, offset):
    advantages = offset + spread * rng.standard_normal(n)
    result = Spread.of(advantages).normalized(advantages)
    scale = np.std(advantages)
    if np.ptp(advantages) == 0 or scale == 0:  # the squares of 1e-200 are 0
        assert not result.any()
        return
    # Means of n numbers are off by n ε of the largest, and that counts in units of the deviation.
    unit = 4 * n * np.finfo(float).eps * (1 + np.abs(advantages).max() / scale)
    assert abs(np.mean(result)) <= unit
    assert abs(np.std(result) - 1) <= unit


def test_explained_variance_is_one_for_perfect_values_and_zero_for_constant_ones():
    returns = np.array([1.0, 2.0, 4.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(np.full(3, 7.0), returns) == pytest.approx(0, abs=4 * EPS)
    assert explained_variance(-returns, returns) == pytest.approx(-3, abs=16 * EPS)


@given(arrays((6,)), arrays((6,)), st.floats(-100, 100))
def test_explained_variance_is_that_of_the_definition_and_ignores_a_constant_error(values, returns, offset):
    assume(np.ptp(returns) > 0.1)
    spread, left = statistics.pvariance(returns.tolist()), statistics.pvariance((returns - values).tolist())
    # Variances are means of squares that round with ε of the largest number squared, over a spread of at
    # least 0.1² / 12.
    atol = 50 * EPS * (6 + abs(offset)) ** 2 / spread * (1 + left / spread)
    assert explained_variance(values + offset, returns) == pytest.approx(1 - left / spread, rel=0, abs=atol)


@given(st.floats(-1e6, 1e6), st.integers(1, 50), generators())
def test_returns_that_do_not_vary_have_no_explained_variance(value, n, rng):
    # Also where rounding gives np.var of equal numbers a positive value, as for 0.1, 0.1, 0.1.
    assert math.isnan(explained_variance(rng.standard_normal(n), np.full(n, value)))


@given(generators(), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.floats(-1e3, 1e3))
def test_the_spread_of_parts_together_is_that_of_all_numbers(rng, sizes, offset):
    numbers = offset + rng.standard_normal(sum(sizes))
    merged = Spread.merged([Spread.of(part) for part in np.split(numbers, np.cumsum(sizes)[:-1])])
    assert (merged.least, merged.largest, merged.moments.count) == (min(numbers), max(numbers), len(numbers))
    # A mean rounds by at most n ε of the largest number, and its square enters the variance.
    atol = 8 * len(numbers) * EPS * (4 + abs(offset)) ** 2
    assert merged.mean == pytest.approx(statistics.fmean(numbers.tolist()), rel=0, abs=atol)
    assert merged.variance == pytest.approx(statistics.pvariance(numbers.tolist()), rel=0, abs=atol)
