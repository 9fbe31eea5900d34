import dataclasses
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from npTRPO.autograd import grad
from npTRPO.policies import MLP
from npTRPO.policies.mlp import ACTIVATIONS
from tests.policies.oracles import EPS, complex_step
from tests.strategies import activations, arrays, generators

CLOSED_FORMS = {
    "tanh": math.tanh,
    "relu": lambda z: z if z > 0 else 0.0,
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "silu": lambda z: z / (1 + math.exp(-z)),
}
SLOPES = {
    "tanh": lambda z: 1 / math.cosh(z) ** 2,
    "relu": lambda z: float(z > 0),
    "sigmoid": lambda z: math.exp(-z) / (1 + math.exp(-z)) ** 2,
    "silu": lambda z: (1 + math.exp(-z) + z * math.exp(-z)) / (1 + math.exp(-z)) ** 2,
}
every_activation = pytest.mark.parametrize("name", sorted(ACTIVATIONS))

sizes = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)


@st.composite
def evaluations(draw):
    """A network, parameters of any kind, and a few inputs."""
    network = MLP(draw(sizes), draw(activations))
    theta = draw(arrays((network.n_parameters,)))
    return network, theta, draw(arrays((draw(st.integers(1, 3)), network.sizes[0])))


def by_loops(network, theta, x):
    """The outputs for one input, one number at a time, and a bound of their rounding in units of ε.

    An affine map of m inputs rounds each output with at most m + 1 units of Σ|x w| + |b| and passes its
    inputs' errors on through |w|. An activation passes errors on by at most its steepest slope, 1.1,
    and adds a few units of its own argument and value.
    """
    numbers = iter(theta.tolist())
    values, errors = x.tolist(), [0.0] * x.size
    layers = list(zip(network.sizes[:-1], network.sizes[1:], strict=True))
    for number, (fan_in, fan_out) in enumerate(layers):
        weights = [[next(numbers) for _ in range(fan_out)] for _ in range(fan_in)]
        biases = [next(numbers) for _ in range(fan_out)]
        new_values, new_errors = [], []
        for j in range(fan_out):
            total, size, error = biases[j], abs(biases[j]) + 1e-20, 0.0  # a product may underflow
            for i in range(fan_in):
                total += values[i] * weights[i][j]
                size += abs(values[i] * weights[i][j])
                error += errors[i] * abs(weights[i][j])
            error += (fan_in + 1) * size
            if number < len(layers) - 1:
                total = CLOSED_FORMS[network.activation_fn](total)
                error = 1.1 * error + 4 * (size + 1)
            new_values.append(total)
            new_errors.append(error)
        values, errors = new_values, new_errors
    return values, max(errors)


@given(evaluations())
def test_outputs_equal_those_of_an_explicit_loop(case):
    network, theta, x = case
    for row, outputs in zip(x, network(theta, x), strict=True):
        expected, units = by_loops(network, theta, row)
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=2 * units * EPS)  # both sides round


@given(evaluations(), st.sampled_from([(), (1,), (2, 3)]))
def test_inputs_may_have_any_number_of_leading_axes(case, leading):
    network, theta, x = case
    outputs = network(theta, np.broadcast_to(x[0], (*leading, x.shape[1])))
    assert outputs.shape == (*leading, network.sizes[-1])
    expected, units = by_loops(network, theta, x[0])
    np.testing.assert_allclose(
        outputs, np.broadcast_to(expected, outputs.shape), rtol=0, atol=2 * units * EPS
    )


@given(evaluations())
def test_float32_stays_float32(case):
    network, theta, x = case
    theta, x = theta.astype(np.float32), x.astype(np.float32)
    outputs = network(theta, x)
    assert outputs.dtype == np.float32
    for row, single in zip(x, outputs, strict=True):
        expected, units = by_loops(network, theta, row)
        np.testing.assert_allclose(single, expected, rtol=0, atol=units * np.finfo(np.float32).eps)


# --- activations ----------------------------------------------------------------------------------


@every_activation
@given(z=st.floats(-700, 700))
def test_an_activation_equals_its_closed_form(name, z):
    # 0.5 tanh(z/2) + 0.5 has an absolute error of a few ε, which silu multiplies by z.
    expected = CLOSED_FORMS[name](z)
    assert abs(float(ACTIVATIONS[name](np.array(z))) - expected) <= 4 * EPS * max(1, abs(z))


@every_activation
@given(z=arrays((4,), -20, 20))
def test_the_slope_of_an_activation_equals_the_complex_step_and_its_closed_form(name, z):
    assume(name != "relu" or np.all(z != 0))  # at its kink it has no slope
    activation = ACTIVATIONS[name]
    slopes = grad(lambda x: np.sum(activation(x)))(z)
    # z enters the slope of silu as a factor; 1 − tanh² has an absolute error of a few ε.
    atol = 8 * EPS * max(1, np.max(np.abs(z)))
    np.testing.assert_allclose(slopes, complex_step(activation, z, np.ones(4)), rtol=0, atol=atol)
    np.testing.assert_allclose(slopes, [SLOPES[name](x) for x in z.tolist()], rtol=0, atol=atol)


@every_activation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_activation_neither_overflows_nor_changes_the_dtype(name, dtype):
    z = np.array([-1e30, -1e4, -0.0, 0.0, 1e4, 1e30], dtype=dtype)
    values = ACTIVATIONS[name](z)
    assert values.dtype == dtype
    below, above = (-1, 1) if name == "tanh" else (0, 1 if name == "sigmoid" else 1e30)
    assert np.all((values >= np.array(below, dtype)) & (values <= np.array(above, dtype)))


# --- initial parameters ---------------------------------------------------------------------------


def layers_of(network, theta):
    """(W, b) of each layer, cut from θ in the order of the module's docstring."""
    layers, start = [], 0
    for m, n in zip(network.sizes[:-1], network.sizes[1:], strict=True):
        weights, biases = np.split(theta[start : start + (m + 1) * n], [m * n])
        layers.append((weights.reshape(m, n), biases))
        start += (m + 1) * n
    return layers


@given(st.lists(st.integers(1, 20), min_size=2, max_size=4).map(tuple), generators(), st.floats(0.01, 3))
def test_initial_weights_are_orthogonal_with_their_gains_and_biases_are_zero(shape, rng, gain):
    network = MLP(shape, output_gain=gain)
    layers = layers_of(network, network.init(rng))
    for i, (weights, biases) in enumerate(layers):
        expected = gain if i == len(layers) - 1 else math.sqrt(2)
        m, n = weights.shape
        gram = weights.T @ weights if m >= n else weights @ weights.T
        # Householder's Q is orthogonal to within a small multiple of m n √n ε (Higham 2002, 19.3).
        rounding = 10 * m * n * math.sqrt(min(m, n)) * EPS
        np.testing.assert_allclose(gram / expected**2, np.eye(min(m, n)), rtol=0, atol=rounding)
        np.testing.assert_array_equal(biases, 0)


def test_no_direction_is_favoured_by_orthogonal_weights():
    # Without a sign convention, LAPACK's Q of a 1 × 1 matrix is always 1; 5 standard errors.
    rng = np.random.default_rng(0)
    signs = np.array([MLP((1, 1)).init(rng)[0] for _ in range(1000)])
    assert set(signs) == {-1.0, 1.0}
    assert abs(signs.mean()) < 5 / math.sqrt(1000)


@given(sizes, st.floats(0.01, 3))
@settings(max_examples=10)
def test_uniform_weights_fill_their_interval(shape, gain):
    network = MLP(shape, output_gain=gain, orthogonal=False)
    rng = np.random.default_rng(0)
    draws = [layers_of(network, network.init(rng)) for _ in range(200)]
    for i in range(len(shape) - 1):
        scaled = np.array([draw[i][0] for draw in draws]) * math.sqrt(shape[i])
        scaled /= gain if i == len(shape) - 2 else 1
        assert np.all(np.abs(scaled) <= 1 + 4 * EPS)
        # Uniform on ±1: P(max |w| < 0.8) = 0.8^200 = 4e-20, and Var |w| = 1/12; 5 standard errors.
        assert np.abs(scaled).max() > 0.8
        assert abs(np.abs(scaled).mean() - 0.5) < 5 / math.sqrt(12 * scaled.size)
        assert not np.any(np.array([draw[i][1] for draw in draws]))


@given(sizes, st.integers(0, 2**32 - 1), st.booleans())
def test_initial_numbers_depend_on_the_seed_and_not_on_the_dtype(shape, seed, orthogonal):
    network = MLP(shape, orthogonal=orthogonal)

    def init(seed, dtype):
        return network.init(np.random.default_rng(seed), dtype=dtype)

    single, double = init(seed, np.float32), init(seed, np.float64)
    assert single.dtype == np.float32
    assert double.dtype == np.float64
    np.testing.assert_array_equal(single, double.astype(np.float32))
    np.testing.assert_array_equal(double, init(seed, np.float64))
    if not orthogonal:
        assert not np.array_equal(double, init(seed + 1, np.float64))


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [(), (3,), (3, 0), (3, -1, 2), (2.5, 2), (3.0, 2), ("3", 2)])
def test_sizes_must_be_whole_numbers_for_inputs_and_outputs(bad):
    with pytest.raises(ValueError, match="sizes of at least 1 for inputs and outputs"):
        MLP(bad)


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"\['relu', 'sigmoid', 'silu', 'tanh'\], not 'gelu'"):
        MLP((2, 2), "gelu")


def test_a_network_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MLP((2, 2)).sizes = (3, 3)  # type: ignore[misc]
