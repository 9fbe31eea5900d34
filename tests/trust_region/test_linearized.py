import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO.trust_region import BatchLinearization
from npTRPO.trust_region.linearized import checked_weights, row_blocks
from tests.policies.oracles import EPS, complex_jacobian
from tests.strategies import generators

N_FEATURES, N_OUTPUTS = 3, 2
N_PARAMETERS = N_FEATURES * N_OUTPUTS


def one_array(theta, x):
    return np.tanh(x @ theta.reshape(N_FEATURES, N_OUTPUTS))


def two_arrays(theta, x):
    """A second output that is not made of the first, and one that the rows don't enter."""
    return one_array(theta, x), np.broadcast_to(np.exp(theta[-2:]), (len(x), N_OUTPUTS))


functions = st.sampled_from([one_array, two_arrays])
block_sizes = st.sampled_from([1, 2, 3, 5, 1024])


def joined(outputs):
    """Join the outputs of all rows to one array (N, n)."""
    return np.concatenate(outputs, axis=-1) if isinstance(outputs, tuple) else outputs


@st.composite
def cases(draw):
    """Draw f, θ, rows, and the Jacobian (N, n, p) by complex steps."""
    f, rng = draw(functions), draw(generators())
    theta = rng.standard_normal(N_PARAMETERS)
    x = rng.standard_normal((draw(st.integers(1, 7)), N_FEATURES))
    return f, theta, x, complex_jacobian(lambda t: joined(f(t, x)), theta)


# An entry of J is a slope of tanh, at most 1, times an input, or an exponential; a product sums N rows of
# up to 4 outputs. Inputs, parameters and vectors are standard normal, so below 8 each in what follows.
def rounding(jacobian, *vectors):
    sizes = float(np.prod([1 + np.abs(v).max(initial=0) for v in vectors]))
    return 40 * EPS * jacobian.shape[0] * (1 + np.abs(jacobian).max(initial=0)) ** 2 * sizes * N_PARAMETERS


def like_outputs(f, u):
    return (u[:, :2], u[:, 2:]) if f is two_arrays else u


def metric_of(f, diagonal):
    """The product with a diagonal M."""
    if f is two_arrays:
        return lambda jv: (jv[0] * diagonal[:, :2], jv[1] * diagonal[:, 2:])
    return lambda jv: jv * diagonal


def gauss_newton(batch, f, v, diagonal):
    return batch.gauss_newton(v, [metric_of(f, diagonal[block.rows]) for block in batch.blocks])


def means_vjp(batch, f, u):
    return batch.mean(lambda block: block.mean_vjp(like_outputs(f, u[block.rows])))


def some_weights(rng, n):
    weights = rng.uniform(size=n)
    return weights / weights.sum()


@given(st.integers(0, 20), st.integers(1, 8))
def test_blocks_cover_every_row_once_in_order_and_none_is_too_large(n_rows, block):
    slices = list(row_blocks(n_rows, block))
    covered = [i for s in slices for i in range(n_rows)[s]]
    assert covered == list(range(n_rows))
    assert all(0 < s.stop - s.start <= block for s in slices)
    assert len(slices) == -(-n_rows // block)


@given(cases(), generators(), block_sizes, st.booleans())
def test_e21_products_are_means_of_those_with_the_jacobian_whatever_blocks_and_weights(
    case, rng, block, are_weighted
):
    f, theta, x, jacobian = case
    weights = some_weights(rng, len(x)) if are_weighted else None
    batch = BatchLinearization(f, theta, x, weights, block_rows=block)
    w = np.full(len(x), 1 / len(x)) if weights is None else weights
    u, v = rng.standard_normal(jacobian.shape[:2]), rng.standard_normal(N_PARAMETERS)
    diagonal = rng.uniform(0, 2, jacobian.shape[:2])
    expected = np.einsum("n,nip,ni->p", w, jacobian, u)
    np.testing.assert_allclose(means_vjp(batch, f, u), expected, rtol=0, atol=rounding(jacobian, u))
    expected = np.einsum("n,nip,ni,niq,q->p", w, jacobian, diagonal, jacobian, v)
    product = gauss_newton(batch, f, v, diagonal)
    np.testing.assert_allclose(product, expected, rtol=0, atol=rounding(jacobian, v, diagonal))
    found = batch.mean(lambda block: block.mean_outer(x[block.rows]))
    np.testing.assert_allclose(found, np.einsum("n,ni,nj->ij", w, x, x), rtol=0, atol=rounding(x, x, x))
    if f is one_array:
        np.testing.assert_array_equal(batch.mean_vjp(u), means_vjp(batch, f, u))


@given(cases(), generators(), block_sizes, st.integers(0, 8))
def test_linearisations_made_anew_give_the_same_bits_as_kept_ones(case, rng, block, kept):
    f, theta, x, jacobian = case
    v, u = rng.standard_normal(N_PARAMETERS), rng.standard_normal(jacobian.shape[:2])
    products = []
    for rows_kept in (1024, kept):
        batch = BatchLinearization(f, theta, x, block_rows=block, kept_rows=rows_kept)
        products += [gauss_newton(batch, f, v, u), means_vjp(batch, f, u)]
    np.testing.assert_array_equal(products[:2], products[2:])


@pytest.mark.parametrize(("kept", "again"), [(0, 3), (2, 2), (4, 1), (5, 0)])
def test_only_so_many_rows_stay_linearised(kept, again):
    calls = []

    def counted(theta, x):
        calls.append(len(x))
        return one_array(theta, x)

    x = np.ones((5, N_FEATURES))
    batch = BatchLinearization(counted, np.ones(N_PARAMETERS), x, block_rows=2, kept_rows=kept)
    assert calls == []
    for n in (3, 3 + again):
        gauss_newton(batch, one_array, np.ones(N_PARAMETERS), np.ones((5, N_OUTPUTS)))
        assert len(calls) == n


@given(cases(), block_sizes)
def test_the_blocks_values_are_those_of_the_function(case, block):
    f, theta, x, jacobian = case
    batch = BatchLinearization(f, theta, x, block_rows=block)
    assert sum(map(len, batch.blocks)) == len(x)
    values = np.concatenate([joined(block.value) for block in batch.blocks])
    np.testing.assert_allclose(values, joined(f(theta, x)), rtol=0, atol=rounding(jacobian))


@given(cases(), generators())
def test_products_change_neither_theta_nor_each_other(case, rng):
    f, theta, x, _ = case
    before = theta.copy()
    batch = BatchLinearization(f, theta, x)
    v = rng.standard_normal(N_PARAMETERS)
    first = batch.gauss_newton(v, [lambda jv: jv])
    kept = first.copy()
    np.testing.assert_array_equal(batch.gauss_newton(v, [lambda jv: jv]), kept)
    np.testing.assert_array_equal(batch.gauss_newton(-v, [lambda jv: jv]), -kept)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(theta, before)


@pytest.mark.parametrize("are_weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(dtype, are_weighted):
    weights = np.full(3, 1 / 3) if are_weighted else None
    x = np.ones((3, N_FEATURES), dtype)
    batch = BatchLinearization(one_array, np.ones(N_PARAMETERS, dtype), x, weights, block_rows=2)
    assert batch.gauss_newton(np.ones(N_PARAMETERS, dtype), [lambda jv: jv] * 2).dtype == dtype
    assert batch.mean_vjp(np.ones((3, N_OUTPUTS), dtype)).dtype == dtype


def test_a_mean_over_every_second_block_is_that_of_its_rows():
    x = np.array([1.0, 2.0, 4.0, 5.0, 6.0])
    batch = BatchLinearization(one_array, np.ones(N_PARAMETERS), x, block_rows=2)
    means = batch.mean(lambda block: (np.mean(x[block.rows]), x[block.rows].sum() / len(block)), every=2)
    assert means == pytest.approx((3, 3))  # of 1, 2 and 6


def test_a_batch_without_rows_is_refused():
    with pytest.raises(ValueError, match="a batch must have at least one row, but it has none"):
        BatchLinearization(one_array, np.ones(N_PARAMETERS), np.ones((0, N_FEATURES)))


def test_each_block_needs_its_metric():
    batch = BatchLinearization(one_array, np.ones(N_PARAMETERS), np.ones((3, N_FEATURES)))
    with pytest.raises(ValueError, match="longer"):
        batch.gauss_newton(np.ones(N_PARAMETERS), [lambda jv: jv] * 2)


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
def test_what_cannot_be_weights_is_refused(weights):
    with pytest.raises(ValueError, match="weights must be 3 numbers that aren't negative and have sum 1"):
        checked_weights(np.array(weights), 3)


def test_weights_may_be_rounded_to_float32():
    weights = np.full(1000, 1e-3, np.float32)
    np.testing.assert_array_equal(checked_weights(weights, 1000), weights)
