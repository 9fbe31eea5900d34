from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
from hypothesis import assume, given, settings

from npTRPO import line_search
from npTRPO.policies.network import FunctionNetwork
from npTRPO.theory.steps import compatible_weights
from npTRPO.trust_region.update import lagrange_multiplier, natural_step, predicted_improvement
from tests.strategies import generators, instances, systems
from tests.theory.oracles import assert_holds


@given(systems(max_size=4, max_condition=30.0), generators())
@settings(max_examples=25)
def test_e26_scipy_finds_the_same_maximum(s, rng):
    g = s.b / np.linalg.norm(s.b)
    step = natural_step(np.linalg.solve(s.A, g), float(g @ np.linalg.solve(s.A, g)), 0.5)
    found = scipy.optimize.minimize(
        lambda x: -g @ x,
        0.1 * rng.standard_normal(g.size),
        jac=lambda x: -g,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda x: 0.5 - x @ s.A @ x / 2, "jac": lambda x: -s.A @ x},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert -found.fun == pytest.approx(predicted_improvement(g, step), rel=1e-5)


@given(systems(max_condition=1e4))
def test_e28_the_multiplier_is_the_price_of_the_region(s):
    """It is the rate at which the predicted improvement grows with δ, found by a difference."""
    x, quadratic = np.linalg.solve(s.A, s.b), float(s.b @ np.linalg.solve(s.A, s.b))
    assume(quadratic > 1e-12)
    gains = [
        predicted_improvement(s.b, natural_step(x, quadratic, delta)) for delta in (0.01 - 1e-6, 0.01 + 1e-6)
    ]
    assert (gains[1] - gains[0]) / 2e-6 == pytest.approx(lagrange_multiplier(quadratic, 0.01), rel=1e-5)


@given(systems(), generators())
def test_e30_whatever_the_direction(s, rng):
    x = rng.standard_normal(s.b.size)
    step = natural_step(x, float(x @ s.A @ x), 0.02)
    assert step @ s.A @ step / 2 == pytest.approx(0.02, rel=1e-12)
    np.testing.assert_allclose(step / np.linalg.norm(step), x / np.linalg.norm(x), rtol=0, atol=1e-14)


@given(instances(min_states=4))
@settings(max_examples=15)
def test_e32_the_fit_is_weighted_where_no_weights_fit_exactly(instance):
    """All states look the same to this policy, so that its scores can't tell their advantages apart."""
    logits = instance.theta[: instance.mdp.n_actions]
    network = FunctionNetwork(lambda theta, x: theta + np.zeros((len(x), 1)), lambda rng: logits)
    blind = replace(
        instance, policy=replace(instance.policy, network=network), theta=logits, new_theta=logits
    )
    fit = compatible_weights(blind.scores, blind.batch.weights, blind.batch.advantages)
    left = blind.scores @ fit - blind.batch.advantages
    assume(np.max(np.abs(left)) > 1e-3)
    # At the least weighted sum of squares, what is left has no weighted correlation with any score.
    size = np.max(np.abs(blind.batch.advantages))
    np.testing.assert_allclose(blind.scores.T @ (blind.batch.weights * left), 0, atol=1e-10 * size)
    assert_holds("E32", blind)


@given(instances(max_discount=0.9))
@settings(max_examples=20)
def test_e32_the_least_weights_are_the_pseudo_inverse_times_the_gradient(instance):
    fisher = instance.scores.T @ (instance.batch.weights[:, None] * instance.scores)
    eigenvalues = np.linalg.eigvalsh(fisher)
    rare = (instance.old.visitation > 0) & (instance.old.visitation < 1e-6)
    assume(not np.any(rare))  # γ = 2⁻⁵² makes states that rounding can't tell from such as are never visited
    positive = eigenvalues[eigenvalues > 1e-12]
    assume(len(positive) and positive[0] > 1e-6)  # else rounding decides what is zero
    expected = np.linalg.pinv(fisher, rcond=1e-10, hermitian=True) @ instance.gradient
    ours = compatible_weights(instance.scores, instance.batch.weights, instance.batch.advantages)
    size = np.max(np.abs(instance.batch.advantages)) / positive[0]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9 * size)


def test_e38_equal_is_within_the_region_but_no_improvement():
    theta, step = np.zeros(1), np.ones(1)
    found = line_search(lambda t: (float(t[0]), 0.01), theta, step, 0.0, target_kl=0.01)
    assert found.fraction == 1
    stays = line_search(lambda t: (0.0, 0.0), theta, step, 0.0, target_kl=0.01)
    assert stays.theta is theta
