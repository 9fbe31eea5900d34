import math

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, cg

from npTRPO import FisherOperator, Policy
from npTRPO.autograd import grad, hvp
from npTRPO.trust_region import BatchLinearization, mean_kl
from tests.policies.oracles import EPS, complex_step
from tests.strategies import generators, policy_batches
from tests.trust_region.oracles import (
    fisher_by_definition,
    fisher_by_scores,
    fisher_rounding,
)

ACTION_SPACES = [
    spaces.Discrete(3),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(2),
    spaces.Box(-np.inf, np.inf, (2,), np.float64),
]
each_family = pytest.mark.parametrize("space", ACTION_SPACES, ids=lambda space: type(space).__name__)


def kl_from(batch):
    """θ' ↦ mean KL(π_θ ‖ π_θ'), as the engine differentiates it."""
    old = batch.policy(batch.theta, batch.observations)
    return lambda new: mean_kl(old, batch.policy(new, batch.observations))


# --- four ways to the same product ----------------------------------------------------------------


@each_family
@given(data=st.data())
@settings(max_examples=20)
def test_e21_e22_e23_the_product_four_ways(space, data):
    batch = data.draw(policy_batches(st.just(space)))
    policy, theta, observations, *_ = batch
    v = data.draw(generators()).standard_normal(theta.size)
    kl = kl_from(batch)
    product = FisherOperator(policy, theta, observations) @ v
    others = {
        "Jᵀ M J as a matrix": fisher_by_definition(policy, theta, observations) @ v,
        "scores of all actions": fisher_by_scores(policy, theta, observations) @ v,
        "gradient of the gradient times v": grad(lambda t: grad(kl)(t) @ v)(theta),
        "derivative of the gradient along v": hvp(kl, theta, v),
        "complex step through the reverse pass": complex_step(grad(kl), theta, v),
    }
    atol = fisher_rounding(policy, theta, observations) * float(np.linalg.norm(v))
    for name, other in others.items():
        np.testing.assert_allclose(product, other, rtol=0, atol=atol, err_msg=name)


@given(policy_batches())
def test_e20_kl_and_its_gradient_are_zero_at_the_old_parameters(batch):
    policy, theta, observations, *_ = batch
    kl = kl_from(batch)
    assert kl(theta) == 0
    # Σ p − 1 is at most a few ε per component, and reaches θ through J.
    gradient = grad(kl)(theta)
    atol = fisher_rounding(policy, theta, observations)
    np.testing.assert_allclose(gradient, 0, rtol=0, atol=0 if policy.n_log_std else atol)


# --- the operator ---------------------------------------------------------------------------------


@given(policy_batches(), generators(), st.floats(0, 10))
def test_damping_is_added_once_to_products_and_never_to_the_quadratic_form(batch, rng, damping):
    policy, theta, observations, *_ = batch
    v = rng.standard_normal(theta.size)
    plain, damped = (FisherOperator(policy, theta, observations, damping=d) for d in (0.0, damping))
    np.testing.assert_array_equal(damped @ v, plain @ v + damping * v)
    assert damped.damping == damping
    assert damped.quadratic_form(v) == plain.quadratic_form(v)
    expected = v @ fisher_by_definition(policy, theta, observations) @ v
    atol = fisher_rounding(policy, theta, observations) * theta.size * float(v @ v)
    assert abs(damped.quadratic_form(v) - expected) <= atol


@given(policy_batches(), generators(), st.sampled_from([1, 2, 3, 1024]), st.booleans())
def test_it_is_a_mean_over_rows_by_their_weights_whatever_the_blocks(batch, rng, block, are_weighted):
    policy, theta, observations, *_ = batch
    n = len(observations)
    weights = rng.uniform(size=n) ** 2 if are_weighted else np.ones(n)
    weights /= weights.sum()
    given = weights if are_weighted else None
    rows = BatchLinearization(policy.outputs, theta, observations, given, block_rows=block)
    by_row = [fisher_by_definition(policy, theta, row[None]) for row in observations]
    expected, atol = np.tensordot(weights, by_row, axes=1), fisher_rounding(policy, theta, observations)
    for F in (FisherOperator(policy, theta, observations, weights=given), FisherOperator.of(rows, policy)):
        np.testing.assert_allclose(F @ np.eye(theta.size), expected, rtol=0, atol=atol)


@given(policy_batches(), generators(), st.booleans())
def test_a_linearisation_at_hand_gives_the_same_bits_and_is_used(batch, rng, are_weighted):
    policy, theta, observations, *_ = batch
    v, weights = rng.standard_normal(theta.size), np.full(len(observations), 1 / len(observations))
    calls = []

    def outputs(theta, rows):
        calls.append(len(rows))
        return policy.outputs(theta, rows)

    given = weights if are_weighted else None
    F = FisherOperator.of(BatchLinearization(outputs, theta, observations, given), policy, damping=0.1)
    expected = FisherOperator(policy, theta, observations, 0.1, weights=given) @ v
    np.testing.assert_array_equal(F @ v, expected)
    np.testing.assert_array_equal(F @ v, expected)
    assert calls == [len(observations)]


@given(policy_batches(), generators())
def test_float32_stays_float32(batch, rng):
    policy = batch.policy
    theta, observations = batch.theta.astype(np.float32), batch.observations.astype(np.float32)
    v = rng.standard_normal(theta.size).astype(np.float32)
    F = FisherOperator(policy, theta, observations, damping=0.5)
    assert F.dtype == (F @ v).dtype == np.float32
    assert (F @ v.astype(np.float64)).dtype == np.float32
    double = FisherOperator(policy, theta.astype(float), observations.astype(float), damping=0.5)
    eps = float(np.finfo(np.float32).eps)
    size = float(np.linalg.norm(v.astype(float)))
    atol = (fisher_rounding(policy, theta, observations, eps) + 2 * eps) * size
    np.testing.assert_allclose(F @ v, double @ v.astype(float), rtol=0, atol=atol)
    assert abs(F.quadratic_form(v) - double.quadratic_form(v.astype(float))) <= atol * theta.size * size


@given(policy_batches(), generators())
def test_it_is_a_linear_operator_that_scipys_own_solver_accepts(batch, rng):
    policy, theta, observations, *_ = batch
    F = FisherOperator(policy, theta, observations, damping=0.1)
    assert isinstance(F, LinearOperator)
    assert F.shape == (theta.size, theta.size)
    v = rng.standard_normal(theta.size)
    for transposed in (F.T, F.H):
        np.testing.assert_array_equal(transposed @ v, F @ v)
    assert (F @ v[:, None]).shape == (theta.size, 1)
    dense = fisher_by_definition(policy, theta, observations) + 0.1 * np.eye(theta.size)
    x, code = cg(F, v, rtol=1e-8, maxiter=1000 * theta.size)
    assert code == 0
    # ‖b − Ax‖ ≤ 1e-8 ‖b‖ and λ_min ≥ 0.1; the products' rounding reaches x in the same way.
    rounding = theta.size * fisher_rounding(policy, theta, observations)
    error = (2e-8 * np.linalg.norm(v) + 100 * rounding * np.linalg.norm(x)) / 0.1
    assert np.linalg.norm(x - np.linalg.solve(dense, v)) <= error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"damping": -1e-3}, "damping must not be negative, but it is -0.001"),
        ({"damping": math.nan}, "damping must not be negative, but it is nan"),
        ({"theta": np.zeros(3)}, r"theta must have shape \(26,\), not \(3,\)"),
        ({"observations": np.zeros((0, 3))}, "a mean over observations, but there are none"),
        ({"weights": np.ones(1) / 2}, "weights must be 1 numbers .* with sum 0.5"),
    ],
)
def test_mistakes_are_refused(changes, message):
    policy = Policy.for_spaces(spaces.Box(-1, 1, (3,)), spaces.Discrete(2), net_arch=(4,))
    arguments = {"policy": policy, "theta": np.zeros(26), "observations": np.zeros((1, 3)), **changes}
    with pytest.raises(ValueError, match=message):
        FisherOperator(**arguments)


def test_a_linearisation_of_another_policy_is_refused():
    policy = Policy.for_spaces(spaces.Box(-1, 1, (3,)), spaces.Discrete(2), net_arch=(4,))
    batch = BatchLinearization(lambda theta, x: x * theta, np.ones(3), np.eye(3))
    with pytest.raises(ValueError, match=r"theta must have shape \(26,\), not \(3,\)"):
        FisherOperator.of(batch, policy)


@given(policy_batches(), generators())
def test_e24_the_quadratic_form_is_that_of_the_product_and_never_negative(batch, rng):
    """In float64 it is vᵀFv to rounding; with λ it is vᵀ(F + λI)v."""
    operator = FisherOperator(batch.policy, batch.theta, batch.observations, damping=0.1)
    v = rng.standard_normal(batch.theta.size)
    product = operator @ v - 0.1 * v
    size = float(np.abs(v) @ np.abs(product)) + 1e-300
    assert operator.quadratic_form(v) >= 0
    assert abs(operator.quadratic_form(v) - v @ product) <= 1e4 * EPS * (size + 0.1 * v @ v)
    assert operator.quadratic_form(v, damped=True) == pytest.approx(
        operator.quadratic_form(v) + 0.1 * v @ v, rel=10 * EPS
    )


def test_e24_in_float32_it_is_right_where_the_product_is_only_rounding():
    """v moves all logits alike but for a small part: F v in float32 is mostly rounding."""
    policy = Policy.for_spaces(spaces.Box(-1, 1, (2,)), spaces.Discrete(3), net_arch=())
    rng = np.random.default_rng(0)
    theta, x = policy.init(rng), rng.standard_normal((50, 2))
    v = np.concatenate([np.zeros(6), 1000 + 1e-2 * rng.standard_normal(3)]).astype(np.float32)
    exact = FisherOperator(policy, theta, x).quadratic_form(v.astype(float))
    theta32, x32 = theta.astype(np.float32), x.astype(np.float32)
    single = FisherOperator(policy, theta32, x32)
    # J v is exact here up to 2⁻¹⁴ of 1000, half an ulp of which is 3e-5 beside a spread of 1e-2.
    assert single.quadratic_form(v) == pytest.approx(exact, rel=0.02)
