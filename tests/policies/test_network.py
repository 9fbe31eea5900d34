import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import Policy
from npTRPO.policies.network import FunctionNetwork
from tests.policies.oracles import EPS, complex_step
from tests.policies.own import Tempered, residual_block, tempered
from tests.strategies import arrays, generators, seeds

PLANE = spaces.Box(-np.inf, np.inf, (2,), np.float64)


@given(seeds, arrays((3, 2)))
def test_a_network_of_ones_own_functions_is_those_functions(seed, x):
    forward, initialise = residual_block(2, 3)
    network = FunctionNetwork(forward, initialise)
    theta = network.init(np.random.default_rng(seed))
    np.testing.assert_array_equal(theta, initialise(np.random.default_rng(seed)))
    assert network.n_parameters == theta.size == 10
    np.testing.assert_array_equal(network(theta, x), forward(theta, x))


@pytest.mark.parametrize(
    "bad",
    [np.ones((2, 2)), np.ones(3, int), np.array([1.0, np.nan]), np.array([np.inf]), 1.0, ["a"]],
    ids=repr,
)
def test_an_initialiser_must_return_a_vector_of_finite_floats(bad):
    network = FunctionNetwork(lambda theta, x: x, lambda rng: bad)
    with pytest.raises(ValueError, match="a vector of finite floats"):
        network.init(np.random.default_rng(0))


@given(seeds, generators(), st.sampled_from([np.float32, np.float64]))
def test_a_policy_takes_such_a_network_and_puts_log_sigma_behind_its_parameters(seed, rng, dtype):
    space = spaces.Box(-1, 1, (3,))
    policy = Policy.for_spaces(PLANE, space, network=residual_block, log_std_init=-0.5)
    theta = policy.init(np.random.default_rng(seed), dtype)
    assert theta.dtype == dtype
    assert theta.size == policy.n_parameters == 10 + 3
    np.testing.assert_array_equal(theta[-3:], dtype(-0.5))
    x = rng.standard_normal((4, 2)).astype(dtype)
    mean, log_std = policy.outputs(theta, x)
    np.testing.assert_array_equal(mean, residual_block(2, 3)[0](theta[:10], x))
    np.testing.assert_array_equal(log_std, np.full((4, 3), -0.5))


@given(generators())
def test_a_policy_takes_a_distribution_of_ones_own(rng):
    space = spaces.MultiBinary(2)
    policy = Policy.for_spaces(PLANE, space, net_arch=(), distribution=tempered)
    theta, x = rng.standard_normal(policy.n_parameters), rng.standard_normal((3, 2))
    assert policy.n_parameters == 3 * 2
    distribution = policy(theta, x)
    assert type(distribution) is Tempered
    logits = 0.5 * (x @ theta[:4].reshape(2, 2) + theta[4:])
    assert np.all(np.abs(distribution.probs - 1 / (1 + np.exp(-logits))) <= 20 * EPS)
    actions = distribution.sample(rng)
    score = complex_step(lambda t: np.sum(policy(t, x).log_prob(actions)), theta, np.eye(6)[5])
    # ∂ log π / ∂b = ½ (a − p) for each state.
    assert abs(score - 0.5 * np.sum(actions - distribution.probs, axis=0)[1]) <= 40 * EPS


def test_a_box_with_a_distribution_of_ones_own_has_no_log_sigma_of_ours():
    policy = Policy.for_spaces(PLANE, spaces.Box(-1, 1, (2,)), net_arch=(), distribution=tempered)
    assert policy.n_log_std == 0
    assert policy.n_parameters == 6
