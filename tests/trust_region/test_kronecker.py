import math
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from npTRPO import FisherOperator, Policy, conjugate_gradient
from npTRPO.policies import MLP
from npTRPO.trust_region import BatchLinearization, UpdateOutcome, update
from npTRPO.trust_region.kronecker import KroneckerPreconditioner, kronecker_means
from tests.policies.oracles import EPS
from tests.strategies import generators, policy_batches
from tests.trust_region.oracles import joined

dampings = st.sampled_from([1e-3, 0.1, 10.0])


def preconditioner(network, batch, cotangents, damping, **options):
    means = kronecker_means(batch, cotangents, **options)
    return KroneckerPreconditioner(network, means, batch.theta.dtype, damping)


def ones(_, values):
    return np.ones_like(values)


def dense(operator, n):
    return np.array([operator(unit) for unit in np.eye(n)]).T


def assert_inverse(found, matrix):
    """``found`` is matrix⁻¹, to the rounding of products and eigenvectors times the condition."""
    n = len(matrix)
    atol = 100 * n * EPS * float(np.linalg.cond(matrix))
    np.testing.assert_allclose(found @ matrix, np.eye(n), rtol=0, atol=atol)


@given(st.integers(1, 4), st.integers(1, 12), dampings, generators())
def test_e35_for_a_linear_function_it_is_the_inverse_itself(n, rows, damping, rng):
    """With one output, whose cotangent is 1, nothing is left out: A ⊗ 1 is all of H."""
    network, x = MLP((n, 1)), rng.standard_normal((rows, n))
    batch = BatchLinearization(network, network.init(rng), x)
    M = dense(preconditioner(network, batch, ones, damping), n + 1)
    with_bias = np.column_stack([x, np.ones(rows)])
    assert_inverse(M, with_bias.T @ with_bias / rows + damping * np.eye(n + 1))


def blocks_by_hand(network, theta, x, u):
    """A ⊗ G of each layer of a tanh network, by the chain rule on paper."""
    weights, inputs = [], [x]
    for layer, (m, n) in zip(
        network.layers, zip(network.sizes[:-1], network.sizes[1:], strict=True), strict=True
    ):
        weights.append(theta[layer][: m * n].reshape(m, n))
        inputs.append(np.tanh(inputs[-1] @ weights[-1] + theta[layer][m * n :]))
    blocks, g = [], u
    for i in reversed(range(len(weights))):
        with_bias = np.column_stack([inputs[i], np.ones(len(x))])
        blocks.append(np.kron(with_bias.T @ with_bias, g.T @ g) / len(x) ** 2)
        g = (g @ weights[i].T) * (1 - inputs[i] ** 2)
    return blocks[::-1]


@given(
    st.lists(st.integers(1, 3), min_size=2, max_size=4),
    st.integers(1, 9),
    dampings,
    st.sampled_from([3, 2048]),
    generators(),
)
def test_e35_each_layers_block_is_the_product_of_its_inputs_and_its_gradients(
    sizes, rows, damping, block, rng
):
    network = MLP(tuple(sizes))
    theta, x = rng.standard_normal(network.n_parameters), rng.standard_normal((rows, sizes[0]))
    u = rng.standard_normal((rows, sizes[-1]))
    batch = BatchLinearization(network, theta, x, block_rows=block)
    found = dense(preconditioner(network, batch, lambda part, _: u[part], damping), theta.size)
    for layer, expected in zip(network.layers, blocks_by_hand(network, theta, x, u), strict=True):
        assert_inverse(found[layer, layer], expected + damping * np.eye(len(expected)))
        found[layer, layer] = 0
    assert not found.any()  # between layers


def test_of_many_rows_it_takes_some_blocks_from_everywhere():
    rng = np.random.default_rng(0)
    network, x = MLP((2, 1)), rng.standard_normal((10, 2))
    batch = BatchLinearization(network, network.init(rng), x, block_rows=2)
    M = preconditioner(network, batch, ones, 0.1, most_blocks=2)
    some = np.column_stack([x, np.ones(10)])[[0, 1, 6, 7]]
    assert_inverse(dense(M, 3), some.T @ some / 4 + 0.1 * np.eye(3))


@given(st.sampled_from([1, 2, 2048]), generators())
def test_rows_with_weights_count_as_repeated_rows(block, rng):
    network, x, counts = MLP((2, 1)), rng.standard_normal((4, 2)), np.array([1, 3, 0, 2])
    batch = BatchLinearization(network, network.init(rng), x, counts / 6, block_rows=block)
    repeated = np.column_stack([x, np.ones(4)]).repeat(counts, axis=0)
    expected = repeated.T @ repeated / 6 + 0.1 * np.eye(3)
    assert_inverse(dense(preconditioner(network, batch, ones, 0.1), 3), expected)


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,))], ids=["Discrete", "Box"])
def test_a_policys_factors_are_those_of_the_scores_of_its_actions(space):
    rng = np.random.default_rng(0)
    policy = Policy.for_spaces(spaces.Box(-1, 1, (2,)), space, net_arch=(3,), log_std_init=0.5)
    theta, x = policy.init(rng), rng.standard_normal((7, 2))
    actions, network = policy(theta, x).sample(rng), policy.network
    if policy.n_log_std:
        scores = (actions - policy(theta, x).mean) * np.exp(-1)  # (a − μ) / σ²
    else:
        scores = np.eye(3)[actions] - policy(theta, x).probs
    M = dense(FisherOperator(policy, theta, x, 0.1).preconditioner(actions), theta.size)
    for layer, expected in zip(network.layers, blocks_by_hand(network, theta, x, scores), strict=True):
        assert_inverse(M[layer, layer], expected + 0.1 * np.eye(len(expected)))
    rest = M[network.n_parameters :, network.n_parameters :]
    np.testing.assert_allclose(rest, np.eye(policy.n_log_std) / 2.1, rtol=EPS)


@given(policy_batches(), dampings)
def test_for_every_policy_it_is_symmetric_and_positive_definite_and_solves_the_same_system(batch, damping):
    policy, theta, observations, actions, _ = batch
    F = FisherOperator(policy, theta, observations, damping)
    M = F.preconditioner(actions)
    matrix = dense(M, theta.size)
    scale = float(np.abs(matrix).max())
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=100 * theta.size * EPS * scale)
    assert np.linalg.eigvalsh((matrix + matrix.T) / 2).min() > 0
    b = np.random.default_rng(0).standard_normal(theta.size)
    solved = conjugate_gradient(F, b, rtol=1e-10, M=M)
    assert solved.converged
    # ‖x − x*‖ ≤ ‖(F + λI)⁻¹‖ ‖r‖, and r is as small as asked but for the recursion's rounding.
    exact = np.linalg.solve(F @ np.eye(theta.size), b)
    condition = float(np.linalg.cond(F @ np.eye(theta.size)))
    atol = (1e-10 + 1000 * theta.size * EPS * condition) * float(np.linalg.norm(b)) / damping
    np.testing.assert_allclose(solved.x, exact, rtol=0, atol=atol)


def test_of_a_policy_that_is_still_indifferent_it_saves_most_of_the_steps():
    """Only the last layer's block counts there, and it is nearly a product."""
    rng = np.random.default_rng(0)
    policy = Policy.for_spaces(spaces.Box(-1, 1, (6,)), spaces.Box(-1, 1, (3,)), (16, 16), log_std_init=-1.0)
    theta, observations = policy.init(rng), rng.standard_normal((500, 6)) + 1
    actions = policy(theta, observations).sample(rng)
    F = FisherOperator(policy, theta, observations, 0.1)
    b = F @ rng.standard_normal(theta.size)
    without, preconditioned = (
        conjugate_gradient(F, b, rtol=1e-2, M=M).iterations for M in (None, F.preconditioner(actions))
    )
    assert preconditioned <= without / 2


@pytest.mark.parametrize("damping", [0.0, 0.1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_factors_that_are_not_finite_or_zero_leave_a_layer_alone(bad, damping):
    rng = np.random.default_rng(0)
    network, x = MLP((2, 3, 1)), rng.standard_normal((5, 2))
    batch = BatchLinearization(network, network.init(rng), x)
    M = preconditioner(network, batch, lambda _, values: np.full_like(values, bad), damping)
    expected = np.eye(network.n_parameters) / (damping or 1.0)
    np.testing.assert_allclose(
        dense(M, network.n_parameters), expected, rtol=0, atol=100 * EPS / (damping or 1.0)
    )


@given(dampings, st.sampled_from([(600, 3, 1), (2, 520, 1), (2, 600, 530, 1)]), generators())
@settings(max_examples=6)
def test_e35_wide_layers_are_inverted_with_the_rows_that_there_are(damping, sizes, rng):
    """Of fewer rows than the factor is made from, it is exact; compared in random directions."""
    network, x = MLP(sizes), rng.standard_normal((20, sizes[0]))
    theta = network.init(rng)
    M = preconditioner(network, BatchLinearization(network, theta, x), ones, damping)
    v = rng.standard_normal(theta.size)
    found, inputs, weights = M(v), [x], []
    for layer, fan_in in zip(network.layers, sizes, strict=False):
        weights.append(theta[layer].reshape(fan_in + 1, -1))
        inputs.append(np.tanh(inputs[-1] @ weights[-1][:-1] + weights[-1][-1]))
    g = np.ones((20, 1))
    for i in reversed(range(len(weights))):
        with_bias = np.column_stack([inputs[i], np.ones(20)])
        A, G = with_bias.T @ with_bias / 20, g.T @ g / 20
        X = found[network.layers[i]].reshape(A.shape[0], -1)
        # (A ⊗ G + λI) undoes it; rounding is that of products of this size, divided by λ.
        undone, scale = A @ X @ G + damping * X, 1 + np.trace(A) * np.trace(G) / damping
        expected = v[network.layers[i]].reshape(X.shape)
        np.testing.assert_allclose(undone, expected, rtol=0, atol=1e5 * EPS * scale)
        g = (g @ weights[i][:-1].T) * (1 - inputs[i] ** 2)


def test_of_wide_observations_it_saves_steps():
    """Few rows for many inputs: what they have in common is still found."""
    rng = np.random.default_rng(0)
    network = MLP((1000, 8, 1))
    theta = network.init(rng)
    x = rng.standard_normal((2048, 20)) @ rng.standard_normal((20, 1000)) + 0.1 * rng.standard_normal(
        (2048, 1000)
    )
    batch = BatchLinearization(network, theta, x)
    b = batch.mean_vjp(rng.standard_normal((2048, 1)))

    def product(v):
        return batch.gauss_newton(v, [lambda jv: jv] * len(batch.blocks)) + 0.1 * v

    M = preconditioner(network, batch, ones, 0.1)
    assert conjugate_gradient(product, b, rtol=1e-2, M=M).iterations < (
        conjugate_gradient(product, b, rtol=1e-2).iterations / 2
    )


def test_a_network_of_ones_own_goes_without():
    def factory(n_features, n_outputs):
        shape = n_features, n_outputs
        return (lambda theta, x: x @ theta.reshape(shape)), lambda rng: rng.standard_normal(math.prod(shape))

    policy = Policy.for_spaces(spaces.Box(-1, 1, (2,)), spaces.Discrete(2), network=factory)
    theta, observations = policy.init(np.random.default_rng(0)), np.eye(2)
    assert FisherOperator(policy, theta, observations).preconditioner(np.zeros(2, int)) is None
    result = update(
        policy, theta, observations, np.array([0, 1]), np.array([1.0, -1.0]), cg_preconditioner="kronecker"
    )
    assert result.outcome is UpdateOutcome.IMPROVED


@given(policy_batches(), st.sampled_from([1, 2]))
def test_e30_e38_an_update_with_it_keeps_the_trust_region_and_takes_the_same_step_in_the_end(batch, every):
    options: dict[str, Any] = {"cg_damping": 0.1, "sub_sampling_factor": every}
    result = update(*batch, cg_preconditioner="kronecker", cg_max_steps=2, **options)
    assert result.kl <= 0.01
    assert result.improvement >= 0
    assert (result.theta is batch.theta) == (result.outcome is not UpdateOutcome.IMPROVED)
    one, other = (
        update(*batch, cg_preconditioner=name, cg_max_steps=10_000, cg_rtol=1e-12, **options)
        for name in ("kronecker", "identity")
    )
    if one.cg is not None and other.cg is not None and one.cg.converged and other.cg.converged:
        # Both are within 1e-12 ‖g‖ / λ of the solution.
        atol = 100 * (1e-12 + EPS * batch.theta.size) * one.gradient_norm / 0.1
        outputs = joined(batch.policy.outputs(batch.theta, batch.observations))
        assert np.isfinite(outputs).all()
        np.testing.assert_allclose(one.cg.x, other.cg.x, rtol=0, atol=atol * 1000)
