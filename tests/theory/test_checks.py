import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO.theory.checks import FALSE_ALARM, AtMost, Equal, Estimate, threshold
from tests.strategies import arrays


def test_a_residual_is_relative_to_the_largest_magnitude():
    assert Equal(np.array([1.0, 200.0]), np.array([1.0, 202.0])).residual == pytest.approx(2 / 202)
    assert Equal(1.0, 3.0, scale=100.0).residual == pytest.approx(0.02)
    assert Equal(0.0, 0.0).residual == 0
    assert Equal(0.0, 1e-300).residual == 1


def test_a_slack_is_the_smallest_and_keeps_its_sign():
    assert AtMost(np.array([1.0, 4.0]), np.array([3.0, 5.0])).slack == pytest.approx(1 / 5)
    assert AtMost(2, 1).slack == -0.5
    assert AtMost(0.0, 0.0).slack == 0
    assert AtMost(1.0, 0.0, scale=10.0).slack == pytest.approx(-0.1)


def test_what_is_not_a_number_is_never_within_a_tolerance():
    assert Equal(np.array([1.0, math.nan]), np.ones(2)).residual == math.inf
    assert Equal(math.inf, math.inf).residual == math.inf
    assert AtMost(math.nan, 1.0).slack == -math.inf
    assert Estimate(math.nan, 0.0, 1.0, 1.0, 10).deviation == math.inf


@given(arrays(4), arrays(4), st.floats(1e-6, 1e6))
def test_residuals_do_not_depend_on_units(left, right, unit):
    assert Equal(unit * left, unit * right).residual == pytest.approx(
        Equal(left, right).residual, rel=1e-6, abs=1e-9
    )


def test_a_deviation_counts_standard_errors_and_corrects_for_bounds():
    # ε = 0.5, σ = 1, n = 100: 5 standard errors, or 5 / √(1 + 2·0.5/3) after the correction for b = 2.
    assert Estimate(0.5, 0.0, 1.0, 0.0, 100).deviation == pytest.approx(5)
    assert Estimate(0.5, 0.0, 1.0, 2.0, 100).deviation == pytest.approx(5 / math.sqrt(4 / 3))
    assert Estimate(
        np.array([0.0, 0.1]), np.zeros(2), np.ones(2), np.zeros(2), 100
    ).deviation == pytest.approx(1)


def test_without_variance_only_rounding_is_allowed():
    assert Estimate(1.0 + 1e-15, 1.0, 0.0, 0.0, 10**6).deviation == 0
    assert Estimate(1.0 + 1e-6, 1.0, 0.0, 0.0, 100).deviation == math.inf
    assert Estimate(1e-15, 0.0, 0.0, 1e-15, 10**6, scale=1.0).deviation == 0


@pytest.mark.parametrize("p", [0.5, 0.1, 0.003])
def test_correct_means_deviate_no_more_than_bernstein_allows(p):
    n, repeats = 50, 200_000
    means = np.random.default_rng(0).binomial(n, p, repeats) / n
    deviations = np.array([Estimate(m, p, p * (1 - p), 1 - p, n).deviation for m in np.unique(means)])
    order = np.searchsorted(np.unique(means), means)
    for t in (1.5, 2.0, 3.0, 4.0):
        allowed = 2 * math.exp(-(t**2) / 2)
        assert np.mean(deviations[order] > t) <= allowed + 4 * math.sqrt(allowed / repeats)


def test_the_threshold_keeps_the_false_alarm_of_all_comparisons_together():
    for m in (1, 200, 10**6):
        assert m * 2 * math.exp(-(threshold(m) ** 2) / 2) == pytest.approx(FALSE_ALARM)
    assert threshold(0) == threshold(1)
