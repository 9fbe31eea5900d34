from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO.trust_region import linearized as rows_module
from npTRPO.trust_region.linearized import LinearizedRows, checked_weights, row_blocks
from tests.policies.oracles import EPS, complex_jacobian
from tests.strategies import generators

N_FEATURES, N_OUTPUTS = 3, 2
N_PARAMETERS = N_FEATURES * N_OUTPUTS


@contextmanager
def blocks_of(n_rows: int, kept: int = 1024) -> Iterator[None]:
    """Work in blocks of so many rows, and keep the linearisations of the first ``kept`` rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "BLOCK_ROWS", n_rows)
        patch.setattr(rows_module, "KEPT_ROWS", kept)
        yield


def one_array(theta: Any, x: Any) -> Any:
    return np.tanh(x @ theta.reshape(N_FEATURES, N_OUTPUTS))


def two_arrays(theta: Any, x: Any) -> Any:
    """A second output that is not made of the first, and one that the rows don't enter."""
    return one_array(theta, x), np.broadcast_to(np.exp(theta[-2:]), (len(x), N_OUTPUTS))


functions = st.sampled_from([one_array, two_arrays])
block_sizes = st.sampled_from([1, 2, 3, 5, 1024])


def joined(outputs: Any) -> np.ndarray:
    """Outputs of all rows as one array (N, n)."""
    return np.concatenate(outputs, axis=-1) if isinstance(outputs, tuple) else outputs


@st.composite
def cases(draw: st.DrawFn) -> tuple[Callable[..., Any], np.ndarray, np.ndarray, np.ndarray]:
    """f, θ, rows, and the Jacobian (N, n, p) by complex steps."""
    f, rng = draw(functions), draw(generators())
    theta = rng.standard_normal(N_PARAMETERS)
    x = rng.standard_normal((draw(st.integers(1, 7)), N_FEATURES))
    return f, theta, x, complex_jacobian(lambda t: joined(f(t, x)), theta)


# An entry of J is a slope of tanh, at most 1, times an input, or an exponential; a product sums N rows of
# up to 4 outputs. Inputs, parameters and vectors are standard normal, so below 8 each in what follows.
def rounding(jacobian: np.ndarray, *vectors: np.ndarray) -> float:
    sizes = float(np.prod([1 + np.abs(v).max(initial=0) for v in vectors]))
    return 40 * EPS * jacobian.shape[0] * (1 + np.abs(jacobian).max(initial=0)) ** 2 * sizes * N_PARAMETERS


@given(st.integers(0, 20), st.integers(1, 8))
def test_blocks_cover_every_row_once_in_order_and_none_is_too_large(n_rows: int, block: int) -> None:
    with blocks_of(block):
        slices = list(row_blocks(n_rows))
    covered = [i for s in slices for i in range(n_rows)[s]]
    assert covered == list(range(n_rows))
    assert all(0 < s.stop - s.start <= block for s in slices)
    assert len(slices) == -(-n_rows // block)


@given(cases(), generators(), block_sizes)
def test_vjp_is_the_transposed_jacobian_whatever_the_blocks(
    case: Any, rng: np.random.Generator, block: int
) -> None:
    f, theta, x, jacobian = case
    u = rng.standard_normal(jacobian.shape[:2])
    with blocks_of(block):
        product = LinearizedRows(f, theta, x).vjp((u[:, :2], u[:, 2:]) if f is two_arrays else u)
    expected = np.einsum("nip,ni->p", jacobian, u)
    np.testing.assert_allclose(product, expected, rtol=0, atol=rounding(jacobian, u))


@given(cases(), generators(), block_sizes)
def test_e21_gauss_newton_is_jmj_whatever_the_blocks(case: Any, rng: np.random.Generator, block: int) -> None:
    f, theta, x, jacobian = case
    v, weights = rng.standard_normal(N_PARAMETERS), rng.uniform(0, 2, jacobian.shape[:2])
    with blocks_of(block):
        linearized = LinearizedRows(f, theta, x)
        metrics = [metric_of(f, weights[part]) for part, _ in linearized.blocks]
        product = linearized.gauss_newton(v, metrics)
    expected = np.einsum("nip,ni,niq,q->p", jacobian, weights, jacobian, v) / len(x)
    np.testing.assert_allclose(product, expected, rtol=0, atol=rounding(jacobian, v, weights))


def metric_of(f: Callable[..., Any], weights: np.ndarray) -> Callable[[Any], Any]:
    """The product with a diagonal M."""
    if f is two_arrays:
        return lambda jv: (jv[0] * weights[:, :2], jv[1] * weights[:, 2:])
    return lambda jv: jv * weights


@given(cases(), generators(), block_sizes, st.integers(0, 8))
def test_linearisations_made_anew_give_the_same_bits_as_kept_ones(
    case: Any, rng: np.random.Generator, block: int, kept: int
) -> None:
    f, theta, x, jacobian = case
    v, u = rng.standard_normal(N_PARAMETERS), rng.standard_normal(jacobian.shape[:2])
    products = []
    for rows_kept in (1024, kept):
        with blocks_of(block, rows_kept):
            linearized = LinearizedRows(f, theta, x)
            metrics = [metric_of(f, u[part]) for part, _ in linearized.blocks]
            products.append(linearized.gauss_newton(v, metrics))
            products.append(linearized.vjp((u[:, :2], u[:, 2:]) if f is two_arrays else u))
    np.testing.assert_array_equal(products[:2], products[2:])


@pytest.mark.parametrize(("kept", "again"), [(0, 3), (2, 2), (4, 1), (5, 0)])
def test_only_so_many_rows_stay_linearised(kept: int, again: int) -> None:
    calls = []

    def counted(theta: Any, x: Any) -> Any:
        calls.append(len(x))
        return one_array(theta, x)

    with blocks_of(2, kept):
        linearized = LinearizedRows(counted, np.ones(N_PARAMETERS), np.ones((5, N_FEATURES)))
        assert len(calls) == 3 - again
        linearized.vjp(np.ones((5, N_OUTPUTS)))
        assert len(calls) == 3


@given(cases(), block_sizes)
def test_the_blocks_values_are_those_of_the_function(case: Any, block: int) -> None:
    f, theta, x, jacobian = case
    with blocks_of(block):
        linearized = LinearizedRows(f, theta, x)
    assert linearized.n_rows == len(x)
    assert len(linearized.blocks) == -(-len(x) // block)
    values = np.concatenate([joined(lin.value) for _, lin in linearized.blocks])
    np.testing.assert_allclose(values, joined(f(theta, x)), rtol=0, atol=rounding(jacobian))


@given(cases(), generators())
def test_products_change_neither_theta_nor_each_other(case: Any, rng: np.random.Generator) -> None:
    f, theta, x, _ = case
    before = theta.copy()
    linearized = LinearizedRows(f, theta, x)
    v = rng.standard_normal(N_PARAMETERS)
    metrics: list[Any] = [lambda jv: jv] * len(linearized.blocks)
    first = linearized.gauss_newton(v, metrics)
    kept = first.copy()
    np.testing.assert_array_equal(linearized.gauss_newton(v, metrics), kept)
    np.testing.assert_array_equal(linearized.gauss_newton(-v, metrics), -kept)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(theta, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(dtype: Any) -> None:
    linearized = LinearizedRows(one_array, np.ones(N_PARAMETERS, dtype), np.ones((3, N_FEATURES), dtype))
    product = linearized.gauss_newton(np.ones(N_PARAMETERS, dtype), [lambda jv: jv])
    assert product.dtype == dtype
    assert linearized.vjp(np.ones((3, N_OUTPUTS), dtype)).dtype == dtype


def test_no_rows_give_zeros() -> None:
    linearized = LinearizedRows(one_array, np.ones(N_PARAMETERS), np.ones((0, N_FEATURES)))
    np.testing.assert_array_equal(linearized.vjp(np.zeros((0, N_OUTPUTS))), np.zeros(N_PARAMETERS))


def test_each_block_needs_its_metric() -> None:
    linearized = LinearizedRows(one_array, np.ones(N_PARAMETERS), np.ones((3, N_FEATURES)))
    with pytest.raises(ValueError, match="longer"):
        linearized.gauss_newton(np.ones(N_PARAMETERS), [lambda jv: jv] * 2)


@pytest.mark.parametrize(
    "weights",
    [
        [0.5, 0.25],
        [0.5, 0.25, 0.25, 0.0],
        [[0.5, 0.25, 0.25]],
        [0.5, 0.75, -0.25],
        [0.5, 0.25, 0.2],
        [np.nan, 0.5, 0.5],
        [np.inf, 0.0, 0.0],
    ],
)
def test_what_cannot_be_weights_is_refused(weights: Any) -> None:
    with pytest.raises(ValueError, match="weights must be 3 numbers that aren't negative and have sum 1"):
        checked_weights(np.array(weights), 3)


def test_weights_may_be_rounded_to_float32() -> None:
    weights = np.full(1000, 1e-3, np.float32)
    np.testing.assert_array_equal(checked_weights(weights, 1000), weights)
