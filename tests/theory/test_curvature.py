import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings

from npTRPO import Categorical, DiagGaussian, FisherOperator, conjugate_gradient
from npTRPO.autograd import grad, hessian
from npTRPO.policies.mlp import MLP
from npTRPO.theory.curvature import (
    Reparametrised,
    StateDependentGaussian,
    cubic_bound,
    kl_derivatives,
    third_order_difference,
)
from npTRPO.theory.instances import GaussianPair, complex_step_jacobian
from npTRPO.trust_region import mean_kl, natural_step
from tests.strategies import generators, instances


def remainder(policy, theta, rows, step):
    """Mean KL less its quadratic model."""
    model = FisherOperator(policy, theta, rows).quadratic_form(step) / 2
    return float(mean_kl(policy(theta, rows), policy(theta + step, rows))) - model


@given(instances())
@settings(max_examples=15)
def test_e20_halving_a_step_makes_the_rest_eight_times_smaller(instance):
    """For networks with a hidden layer and Gaussians too, whose rest no formula bounds here."""
    gaussian = instance.gaussian
    for policy, theta, rows in (
        (instance.policy, instance.theta, instance.states),
        (gaussian.policy, gaussian.theta, gaussian.observations),
    ):
        direction = instance.rng(120).standard_normal(theta.size)
        lengths = 2e-2, 1e-2, 5e-3
        rests = [remainder(policy, theta, rows, t * direction) for t in lengths]
        assume(abs(rests[0]) > 1e-9)
        # Over the cube of its length, the rest of a step tends to a sixth of the third derivative, linearly:
        # each change is about half of the one before. It would be double were the model off in second order.
        cubed = [rest / t**3 for rest, t in zip(rests, lengths, strict=True)]
        first, second = abs(cubed[1] - cubed[0]), abs(cubed[2] - cubed[1])
        assert second <= 0.75 * first + 0.02 * max(map(abs, cubed))


@given(generators())
def test_e20_the_cubic_bound_is_attained_by_two_actions(rng):
    """At p = ½ − √3/6 the third cumulant is as large as it can be, and the rest nearly the bound."""
    p = 0.5 - np.sqrt(3) / 6
    old = np.log([[p, 1 - p]])
    change = np.array([[1e-2, 0.0]]) * rng.uniform(0.5, 1)
    new = np.exp(old + change) / np.sum(np.exp(old + change))
    kl = float(np.sum(np.exp(old) * (old - np.log(new))))
    rest = abs(kl - 0.5 * p * (1 - p) * change[0, 0] ** 2)
    bound = cubic_bound(change, np.ones(1))
    assert 0.98 * bound <= rest <= bound


@given(instances())
@settings(max_examples=15)
def test_e21_the_dense_matrix_is_the_operator_column_by_column(instance):
    identity = np.eye(instance.theta.size)
    np.testing.assert_allclose(instance.damped @ identity, instance.dense, rtol=0, atol=1e-12)


def by_quadrature(policy, theta, observations):
    """F of a Gaussian policy, by scores that are found by complex steps and weighted sums over actions."""
    now = policy(theta, observations)
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    size = now.mean.shape[1]
    total = np.zeros((theta.size,) * 2)
    for chosen in itertools.product(range(4), repeat=size):
        actions = now.mean + np.exp(now.log_std) * nodes[list(chosen)]
        scores = complex_step_jacobian(lambda t, a=actions: policy(t, observations).log_prob(a), theta)
        total += np.prod(weights[list(chosen)] / np.sum(weights)) * scores.T @ scores / len(scores)
    return total


@given(instances())
@settings(max_examples=10)
def test_e21_for_gaussians_by_quadrature_over_actions(instance):
    gaussian = instance.gaussian
    total = by_quadrature(gaussian.policy, gaussian.theta, gaussian.observations)
    operator = FisherOperator(gaussian.policy, gaussian.theta, gaussian.observations)
    scale = 1 + np.max(np.abs(total))
    np.testing.assert_allclose(operator @ np.eye(len(total)), total, rtol=0, atol=1e-12 * scale)


@given(instances(max_states=3, max_actions=3))
@settings(max_examples=10)
def test_e23_the_whole_hessian_of_mean_kl_is_the_fisher_information(instance):
    nu = instance.old.visitation
    dense = hessian(
        lambda theta: mean_kl(instance.old_distribution, instance.policy(theta, instance.states), nu)
    )(instance.theta)
    np.testing.assert_allclose(instance.fisher @ np.eye(len(dense)), dense, rtol=0, atol=1e-12)


@given(instances())
@settings(max_examples=15)
def test_e24_no_eigenvalue_is_negative(instance):
    dense = instance.fisher @ np.eye(instance.theta.size)
    np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-13)
    assert np.min(np.linalg.eigvalsh(dense)) >= -1e-13


def steps_in_two_parametrisations(damping):
    """The step of a Gaussian policy with regular Fisher information, and that from φ = B⁻¹θ mapped back."""
    rng = np.random.default_rng(7)
    gaussian = GaussianPair.draw(rng, ())
    matrix = np.eye(gaussian.theta.size) + 0.5 * np.triu(rng.standard_normal((gaussian.theta.size,) * 2), 1)
    g = rng.standard_normal(gaussian.theta.size)
    fisher = FisherOperator(gaussian.policy, gaussian.theta, gaussian.observations)
    dense = fisher @ np.eye(g.size)
    found = []
    for F, gradient, back in ((dense, g, np.eye(g.size)), (matrix.T @ dense @ matrix, matrix.T @ g, matrix)):
        x = conjugate_gradient(F + damping * np.eye(g.size), gradient, rtol=1e-14).x
        found.append(back @ natural_step(x, float(x @ F @ x), 0.01))
    return found[0], found[1]


def test_e25_without_damping_the_steps_themselves_agree_and_with_it_they_do_not():
    exact, damped = steps_in_two_parametrisations(0.0), steps_in_two_parametrisations(0.1)
    np.testing.assert_allclose(exact[0], exact[1], rtol=0, atol=1e-10 * np.max(np.abs(exact[0])))
    assert np.max(np.abs(damped[0] - damped[1])) > 1e-3 * np.max(np.abs(damped[0]))


def test_e25_a_reparametrised_network_is_the_same_network():
    gaussian = GaussianPair.draw(np.random.default_rng(0), (3,))
    size = gaussian.policy.network.n_parameters
    matrix = np.eye(size) + np.triu(np.ones((size, size)), 1)
    other = Reparametrised(gaussian.policy.network, matrix)
    rng = np.random.default_rng
    phi, theta = other.init(rng(1)), gaussian.policy.network.init(rng(1))
    assert other.n_parameters == size
    np.testing.assert_allclose(
        other(phi, gaussian.observations), gaussian.policy.network(theta, gaussian.observations)
    )
    first, second = (
        grad(lambda t, network=network: np.sum(network(t, gaussian.observations) ** 2))(t)
        for network, t in ((other, phi), (gaussian.policy.network, theta))
    )
    np.testing.assert_allclose(first, matrix.T @ second, atol=1e-12)


def test_weighted_fisher_information_is_that_of_repeated_states():
    gaussian = GaussianPair.draw(np.random.default_rng(2), (3,))
    policy, theta, rows = gaussian.policy, gaussian.theta, gaussian.observations
    counts = np.array([1, 2, 1, 3, 1, 4])
    repeated = FisherOperator(policy, theta, np.repeat(rows, counts, axis=0))
    weighted = FisherOperator(policy, theta, rows, weights=counts / 12)
    v = np.random.default_rng(3).standard_normal(theta.size)
    np.testing.assert_allclose(weighted @ v, repeated @ v, rtol=1e-12)
    assert weighted.quadratic_form(v) == pytest.approx(repeated.quadratic_form(v))
    single = (x.astype(np.float32) for x in (theta, rows))
    assert (FisherOperator(policy, *single, weights=counts / 12) @ v).dtype == np.float32


def test_e52_two_actions_by_hand_and_half_of_what_is_allowed_in_the_middle():
    p, change = 0.3, np.array([[0.0, 0.5]])
    third, _ = third_order_difference(np.array([[1 - p, p]]), change, np.ones(1))
    assert third == pytest.approx(-p * (1 - p) * (1 - 2 * p) * 0.5**3 / 6)
    # At ½ the third cumulant is 0 and the fourth −R⁴/8: the difference is R⁴/96 to leading order.
    old, new = Categorical(np.zeros((1, 2))), Categorical(np.array([[0.0, 0.1]]))
    third, allowed = third_order_difference(old.probs, np.array([[0.0, 0.1]]), np.ones(1))
    assert third == 0
    assert abs((old.kl(new) - new.kl(old)).item()) == pytest.approx(allowed / 2, rel=0.01)


def test_e53_in_mean_and_log_deviation_by_differentiating_the_formula_of_e17():
    old = DiagGaussian(np.array([[0.3]]), np.array([[0.1]]))

    def divergence(outputs):
        mean, log_std = outputs[0], outputs[1]
        squares = np.exp(2 * 0.1) + (mean - 0.3) ** 2
        return log_std - 0.1 + squares * np.exp(-2 * log_std) / 2 - 0.5

    at = np.array([1.9, -0.2])
    new = DiagGaussian(at[None, :1], at[None, 1:])
    columns = [kl_derivatives(old, new, (np.array([[a]]), np.array([[b]]))) for a, b in ((1, 0), (0, 1))]
    np.testing.assert_allclose(np.ravel(columns[0][0]), grad(divergence)(at), rtol=1e-12)
    K = np.array([np.ravel(product) for _, product in columns])
    np.testing.assert_allclose(K, hessian(divergence)(at), rtol=1e-12)
    assert np.min(np.linalg.eigvalsh(K)) < 0  # d² > σ²


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_e58_by_quadrature_over_actions(bound):
    rng = np.random.default_rng(58)
    gaussian = GaussianPair.draw(rng, ())
    network = StateDependentGaussian(MLP((gaussian.policy.n_features, 3, 2)), bound)
    policy = replace(gaussian.policy, network=network, n_log_std=0)
    theta = policy.init(rng) + 0.3 * rng.standard_normal(policy.n_parameters)
    ours = FisherOperator(policy, theta, gaussian.observations) @ np.eye(theta.size)
    np.testing.assert_allclose(ours, by_quadrature(policy, theta, gaussian.observations), rtol=0, atol=1e-12)
    spread = policy(theta, gaussian.observations).log_std
    assert np.ptp(spread) > 0.01
    assert np.max(np.abs(spread)) <= bound
