import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npTRPO.policies import MLP
from npTRPO.policies.network import FunctionNetwork
from npTRPO.trust_region import AdamState, fit_adam, fit_lbfgs, fit_trust_region
from npTRPO.trust_region.value_fit import predict_values
from tests.strategies import activations, generators

EPS = np.finfo(float).eps
LINEAR = MLP((3, 1))
CURVED = MLP((3, 8, 1))


def batch(rng, n=40):
    """Observations, and returns that no network of ours represents exactly."""
    x = rng.standard_normal((n, 3))
    return x, np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * rng.standard_normal(n)


def error(network, theta, x, y):
    return float(np.mean((network(theta, x)[:, 0] - y) ** 2))


def least_squares(x, y):
    """Weights and bias in the order of θ."""
    return np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]


@given(generators(), st.sampled_from([np.float32, np.float64]))
@settings(max_examples=20)
def test_every_fit_lowers_the_error_and_keeps_dtype_and_arguments(rng, dtype):
    x, y = batch(rng)
    x, theta = x.astype(dtype), CURVED.init(rng, dtype=dtype)
    kept = theta.copy(), x.copy(), y.copy()
    fits = [
        fit_trust_region(CURVED, theta, x, y),
        fit_lbfgs(CURVED, theta, x, y),
        fit_adam(CURVED, theta, x, y)[0],
        fit_adam(CURVED, theta, x, y, AdamState.zero(theta), rng, batch_size=10, learning_rate=1e-2)[0],
    ]
    for fitted in fits:
        assert fitted.dtype == dtype
        assert error(CURVED, fitted, x, y) < error(CURVED, theta, x, y)
    for now, before in zip((theta, x, y), kept, strict=True):
        np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_the_fit_stays_where_the_gradient_is_zero_or_not_finite(bad):
    x, theta = np.ones((4, 3)), np.zeros(LINEAR.n_parameters)
    with np.errstate(invalid="ignore"):
        assert fit_trust_region(LINEAR, theta, x, np.array([0, 0, 0, bad])) is theta
        if bad:
            np.testing.assert_array_equal(fit_lbfgs(LINEAR, theta, x, np.array([0, 0, 0, bad])), theta)


@given(generators(), st.sampled_from([40, 5000]))
@settings(max_examples=10)
def test_lbfgs_reaches_linear_least_squares(rng, n):
    x, y = batch(rng, n)
    fitted = fit_lbfgs(LINEAR, LINEAR.init(rng), x, y, max_iter=500)
    best = error(LINEAR, least_squares(x, y), x, y)
    # SciPy stops when a step lowers the error by less than 2e-9 of it; the last steps are still geometric.
    assert error(LINEAR, fitted, x, y) <= best * (1 + 1e-6)


def adam_by_the_book(theta, x, y, batches, rate):
    """Kingma and Ba's Algorithm 1 on the linear network, with the gradient by hand."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    design = np.column_stack([x, np.ones(len(x))])
    for t, chosen in enumerate(batches, 1):
        g = 2 * design[chosen].T @ (design[chosen] @ theta - y[chosen]) / len(chosen)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theta = theta - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return theta


@given(st.integers(1, 50), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_adam_is_the_published_algorithm_on_shuffled_minibatches(batch_size, epochs, seed):
    x, y = batch(np.random.default_rng(seed))
    theta = LINEAR.init(np.random.default_rng(seed))
    options = {"batch_size": batch_size, "learning_rate": 0.05}
    rng = np.random.default_rng(1)
    half, state = fit_adam(LINEAR, theta, x, y, AdamState.zero(theta), rng, epochs=epochs, **options)
    both, state = fit_adam(LINEAR, half, x, y, state, rng, epochs=1, **options)  # the moments are carried on
    shuffles = np.random.default_rng(1)
    orders = [shuffles.permutation(len(x)) for _ in range(epochs + 1)]
    batches = [order[i : i + batch_size] for order in orders for i in range(0, len(x), batch_size)]
    assert state.steps == len(batches)
    # Each step divides by √v, which may be small: rounding grows by about 1/√v per step.
    expected = adam_by_the_book(theta, x, y, batches, 0.05)
    np.testing.assert_allclose(both, expected, rtol=0, atol=1e5 * len(batches) * EPS)


@pytest.mark.parametrize("n", [0, 10, 5000])
def test_values_are_the_networks_outputs_however_many(n):
    rng = np.random.default_rng(n)
    theta, x = CURVED.init(rng), rng.standard_normal((n, 3))
    np.testing.assert_allclose(
        predict_values(CURVED, theta, x), CURVED(theta, x)[:, 0], rtol=0, atol=100 * EPS
    )


# --- the trust region on any network --------------------------------------------------------------


@st.composite
def value_batches(draw):
    """A value network of any shape, its parameters, observations, and returns of any size."""
    n_features = draw(st.integers(1, 3))
    hidden = draw(st.lists(st.integers(1, 4), max_size=2))
    network, rng = MLP((n_features, *hidden, 1), draw(activations)), draw(generators())
    n_rows = draw(st.integers(1, 8))
    theta = network.init(rng) + 0.3 * rng.standard_normal(network.n_parameters)
    returns = 10.0 ** draw(st.integers(-3, 3)) * rng.standard_normal(n_rows)
    return network, theta, rng.standard_normal((n_rows, n_features)), returns


@given(value_batches(), st.sampled_from([1e-3, 0.5, 1e6]), st.sampled_from([0.0, 0.1]), st.integers(1, 3))
def test_the_trust_region_lowers_the_error_or_returns_the_very_same_theta(
    case, max_change, damping, max_iter
):
    network, theta, x, y = case
    before = theta.copy(), x.copy(), y.copy()
    fitted = fit_trust_region(
        *case,
        steps=2,
        cg_max_steps=10,
        cg_rtol=1e-3,
        damping=damping,
        max_change=max_change,
        max_iter=max_iter,
    )
    assert fitted is theta or error(network, fitted, x, y) < error(network, theta, x, y)
    for now, copy in zip((theta, x, y), before, strict=True):
        np.testing.assert_array_equal(now, copy)


def test_a_step_that_raises_the_error_is_halved_until_it_does_not_or_not_taken():
    # V = tanh θ at θ = 3: the slope is 0.0099, so the step to V = 0 is −101, where V = −1. Six halvings
    # make it −1.6.
    network = FunctionNetwork(lambda theta, x: np.tanh(x * theta), lambda rng: np.full(1, 3.0))
    theta, x, y = np.full(1, 3.0), np.ones((1, 1)), np.zeros(1)
    options = {"steps": 1, "cg_max_steps": 1, "cg_rtol": 0.0, "damping": 0.0, "max_change": 1e9}
    full = -math.tanh(3) * math.cosh(3) ** 2
    fitted = fit_trust_region(network, theta, x, y, max_iter=7, **options)
    halvings = next(i for i in range(10) if math.tanh(3 + full / 2**i) ** 2 < math.tanh(3) ** 2)
    assert 0 < halvings <= 6
    np.testing.assert_allclose(fitted, 3 + full / 2**halvings, rtol=100 * EPS * math.cosh(3) ** 2)
    assert fit_trust_region(network, theta, x, y, max_iter=halvings, **options) is theta
    assert fit_trust_region(network, theta, x, y, max_iter=0, **options) is theta


@given(
    generators(),
    st.sampled_from([40, 5000]),
    st.sampled_from([1e-4, 1e-2, 1.0, 1e9]),
    st.one_of(st.just(0.0), st.floats(0.01, 10)),
)
def test_a_linear_step_is_ridge_regression_cut_to_the_trust_region(rng, n, max_change, damping):
    x, y = batch(rng, n)
    theta = LINEAR.init(rng)
    design = np.column_stack([x, np.ones(len(x))])
    gram = design.T @ design / len(x)
    residual = y - design @ theta
    step = np.linalg.solve(gram + damping * np.eye(4), design.T @ residual / len(x))
    curvature = step @ gram @ step  # without the damping
    cut = math.sqrt(2 * max_change * np.mean(residual**2) / curvature)
    step *= min(1.0, cut)
    fitted = fit_trust_region(
        LINEAR, theta, x, y, steps=1, cg_max_steps=20, cg_rtol=1e-13, damping=damping, max_change=max_change
    )
    change = np.mean((design @ step) ** 2) / (2 * np.mean(residual**2))
    assert change <= max_change * (1 + 1e3 * EPS)
    assert change >= max_change * (1 - 1e3 * EPS) or cut >= 1  # a region that cuts the step is used up
    # As in the test of least squares above, and CG's tolerance times a condition below 100.
    np.testing.assert_allclose(fitted, theta + step, rtol=0, atol=(1e4 * EPS + 1e-11) * (1 + np.abs(y).max()))


def test_no_steps_no_products_and_no_epochs_change_nothing():
    theta, x, y = LINEAR.init(np.random.default_rng(0)), np.ones((2, 3)), np.ones(2)
    assert fit_trust_region(LINEAR, theta, x, y, steps=0, cg_max_steps=5, cg_rtol=0.1) is theta
    assert fit_trust_region(LINEAR, theta, x, y, steps=1, cg_max_steps=0, cg_rtol=0.1) is theta
    state = AdamState.zero(theta)
    rng = np.random.default_rng(0)
    fitted, after = fit_adam(LINEAR, theta, x, y, state, rng, epochs=0, batch_size=1, learning_rate=0.1)
    assert fitted is theta
    assert after.steps == 0
