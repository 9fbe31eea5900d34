import numpy as np
import pytest
from hypothesis import given, settings

from npTRPO.theory.instances import Instance
from npTRPO.theory.random_mdps import random_mdp
from npTRPO.theory.simulation import all_paths
from npTRPO.theory.sweeps import WrongValues, cg_errors, gaps, lambda_sweep, remainder
from tests.strategies import generators


@given(generators())
@settings(max_examples=10)
def test_e11_e13_each_bound_holds_and_the_average_one_is_the_tighter(rng):
    found = gaps(Instance.draw(rng) for _ in range(5))
    assert np.all(found.error <= found.average * (1 + 1e-12))
    assert np.all(found.average <= found.worst * (1 + 1e-12))
    assert np.all(found.error > 0)


def test_instances_whose_surrogate_is_exact_are_left_out():
    one_state = random_mdp(np.random.default_rng(0), 1, 3)
    found = gaps([Instance.draw(np.random.default_rng(1), one_state)])
    assert len(found.error) == len(found.average) == len(found.worst) == 0


@given(generators())
@settings(max_examples=10)
def test_e20_the_remainder_rises_with_the_third_power_below_its_bound(rng):
    curve = remainder(rng)
    assert np.all(curve.measured <= curve.bound * (1 + 1e-9))
    np.testing.assert_allclose(np.diff(np.log(curve.bound)), 3 * np.diff(np.log(curve.at)), rtol=1e-6)
    # Where the step is small, (remainder / size³) doesn't depend on it, up to the next order.
    cubic = curve.measured / curve.at**3
    assert abs(cubic[6] - cubic[3]) <= 30 * curve.at[6] * curve.bound[0] / curve.at[0] ** 3


@pytest.mark.parametrize("damping", [0.1, 0.01])
@given(generators())
@settings(max_examples=5)
def test_e36_errors_start_at_one_fall_and_keep_chebyshevs_promise(damping, rng):
    curve = cg_errors(rng, damping)
    assert curve.measured[0] == 1
    assert np.all(np.diff(curve.measured) < 0)
    assert np.all(curve.measured <= curve.bound * (1 + 1e-9))
    assert 1 <= curve.parameter <= 1 + 1 / damping  # no eigenvalue of F exceeds 1, with one-hot states twice


def test_e43_without_lambda_there_is_no_variance_and_with_it_no_bias():
    exact, sampled = lambda_sweep(np.random.default_rng(0))
    assert exact.variance[0] == pytest.approx(0, abs=1e-12)  # the MDP is deterministic
    assert exact.bias[-1] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(exact.variance[-5:]) > 0)
    chosen = np.isin(exact.lambdas, sampled.lambdas)
    np.testing.assert_allclose(sampled.variance, exact.variance[chosen], rtol=0.1, atol=1e-12)
    np.testing.assert_allclose(sampled.bias, exact.bias[chosen], rtol=0.1, atol=0.02)


def test_e41_the_exact_moments_are_those_over_all_paths():
    problem = WrongValues.draw(np.random.default_rng(3))
    mdp, policy, values = problem.mdp, problem.now.policy, problem.values
    lam = 0.2  # (γλ)⁶ is 3e-5, so that six steps are nearly all
    paths = all_paths(mdp, policy, 5)
    decay = (mdp.discount * lam) ** np.arange(5)
    steps = paths.rewards + mdp.discount * values[paths.states[1:]] - values[paths.states[:-1]]
    estimates = decay @ steps
    pairs = paths.states[0] * mdp.n_actions + paths.actions[0]
    mean = np.bincount(pairs, weights=paths.probabilities * estimates)
    square = np.bincount(pairs, weights=paths.probabilities * estimates**2)
    ours, variance = problem.exact(lam)
    left = decay[-1] * mdp.discount * lam / (1 - mdp.discount * lam) * np.max(np.abs(steps))
    np.testing.assert_allclose(ours.ravel(), mean, atol=left)
    np.testing.assert_allclose(variance.ravel(), square - mean**2, atol=4 * left * np.max(np.abs(estimates)))
