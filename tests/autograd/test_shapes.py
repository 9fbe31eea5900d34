"""Derivatives over shapes, axes and indices of every kind that NumPy accepts."""

import operator

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from npTRPO.autograd import grad, jacobian, jvp, linearize, log_softmax, logsumexp
from tests.autograd.cases import POINT
from tests.autograd.oracles import assert_derivatives, assert_same_bits, curved
from tests.strategies import (
    axes_of,
    broadcastable,
    distinct,
    dot_operands,
    filled_shapes,
    generators,
    indexings,
    joinings,
    matmul_operands,
    reductions,
    reshapings,
    shapes,
    takings,
    transpositions,
)

# The cases and the random programs go through every rule as well; these add shapes.
few = settings(max_examples=settings.default.max_examples // 4)
REAL, UNIT, POSITIVE = (-3.0, 3.0), (-1.0, 1.0), (0.5, 2.0)


def numbers(rng, shape):
    return np.asarray(rng.uniform(*UNIT, shape))


ELEMENTWISE = {
    "+x": (operator.pos, REAL),
    "-x": (operator.neg, REAL),
    "exp": (np.exp, UNIT),
    "expm1": (np.expm1, UNIT),
    "log": (np.log, POSITIVE),
    "log1p": (np.log1p, (-0.5, 2)),
    "sqrt": (np.sqrt, POSITIVE),
    "square": (np.square, REAL),
    "sin": (np.sin, REAL),
    "cos": (np.cos, REAL),
    "tanh": (np.tanh, UNIT),
    "x ** -2": (lambda x: x**-2, POSITIVE),
    "(-x) ** 3": (lambda x: (-x) ** 3, POSITIVE),
    "2.5 ** x": (lambda x: 2.5**x, UNIT),
    "x + y": (operator.add, REAL, REAL),
    "x - y": (operator.sub, REAL, REAL),
    "x * y": (operator.mul, REAL, REAL),
    "x / y": (operator.truediv, REAL, POSITIVE),
    "x / -y": (lambda x, y: x / -y, REAL, POSITIVE),
    "x ** y": (operator.pow, POSITIVE, (1.25, 3)),
}
KINKED = {
    "maximum": (np.maximum, 2),
    "minimum": (np.minimum, 2),
    "maximum of a number": (lambda x: np.maximum(0.0, x), 1),
}


@settings(max_examples=settings.default.max_examples)
@given(st.sampled_from(sorted(ELEMENTWISE)), st.data())
def test_elementwise_rules_over_broadcast_shapes(name, data):
    function, *intervals = ELEMENTWISE[name]
    xs = data.draw(broadcastable(*intervals))
    assert_derivatives(function, *xs)
    if len(xs) == 2:  # where both are traced, the larger one's derivative could broadcast the other's
        assert_derivatives(lambda x: function(x, xs[1]), xs[0])
        assert_derivatives(lambda y: function(xs[0], y), xs[1])


@few
@given(st.sampled_from(sorted(KINKED)), st.data())
def test_kinked_rules_away_from_their_kinks(name, data):
    function, count = KINKED[name]
    xs = data.draw(distinct(broadcastable(*[UNIT] * count).map(lambda xs: tuple(x.shape for x in xs))))
    assert_derivatives(function, *xs)


@few
@given(distinct(broadcastable(REAL).map(lambda xs: (xs[0].shape,))))
def test_functions_without_a_complex_version_over_any_shape(xs):
    assert_derivatives(lambda x: abs(x) * scipy.special.expit(x), *xs, method="central difference")


@few
@given(broadcastable(UNIT, REAL, REAL))
def test_where_over_broadcast_shapes(arrays):
    condition, x, y = arrays
    assert_derivatives(lambda x, y: np.where(condition > 0, x * x, y * y), x, y)
    assert_derivatives(lambda x: np.where(condition > 0, x * x, y), x)
    assert_derivatives(lambda y: np.where(condition > 0, x, y * y), y)
    assert_derivatives(lambda x: np.where(condition > 0, x, 2.0) * np.where(condition > 0.5, 3.0, x), x)


@few
@given(distinct(broadcastable(UNIT, UNIT).map(lambda xs: tuple(x.shape for x in xs))))
def test_clip_away_from_its_bounds(arrays):
    x, bound = arrays
    # `distinct` keeps 1/4 from every integer.
    assert_derivatives(lambda x: np.square(np.clip(x, -2, 3)) + np.square(np.clip(x, None, 1)), x)
    assert_derivatives(lambda x, bound: np.square(np.clip(x, bound, None)), x, bound)
    assert_derivatives(lambda bound: np.square(np.clip(x, bound, 4)), bound)


@few
@given(matmul_operands(), dot_operands())
def test_matmul_and_dot_in_every_combination_of_dimensions(matrices, operands):
    assert_derivatives(operator.matmul, *matrices)
    assert_derivatives(np.dot, *operands)


@few
@given(transpositions(), generators())
def test_transpose_in_every_order_of_axes(transposition, rng):
    shape, axes = transposition
    x = numbers(rng, shape)
    assert_derivatives(curved(lambda x: np.transpose(x, axes)), x)
    assert_derivatives(curved(lambda x: x.T), x)


@few
@given(broadcastable(UNIT, UNIT))
def test_broadcast_to(arrays):
    x, other = arrays
    shape = np.broadcast_shapes(x.shape, other.shape)
    assert_derivatives(curved(lambda x: np.broadcast_to(x, shape)), x)


@few
@given(indexings(), generators())
def test_every_kind_of_index(indexing, rng):
    shape, index = indexing
    assert_derivatives(curved(lambda x: x[index]), numbers(rng, shape))


@pytest.mark.parametrize("function", [np.sum, np.prod, np.mean, np.max, np.min, np.var, np.std])
@few
@given(data=st.data())
def test_reductions_over_any_axes(function, data):
    shape, axis, keepdims = data.draw(reductions(shapes if function is np.sum else filled_shapes))
    (x,) = data.draw(distinct(st.just((shape,))))
    method = "central difference" if function in (np.var, np.std) else "complex step"
    assert_derivatives(lambda x: np.square(function(x / 2, axis, keepdims=keepdims)), x, method=method)


@few
@given(st.lists(st.text("abc", max_size=3), min_size=1, max_size=3), st.data(), generators())
def test_einsum_over_any_indices(terms, data, rng):
    found = sorted(set("".join(terms)))
    outer = "".join(data.draw(st.permutations(found))[: data.draw(st.integers(0, len(found)))])
    sizes = {name: data.draw(st.integers(0, 3)) for name in found}
    xs = [numbers(rng, [sizes[name] for name in term]) for term in terms]
    assert_derivatives(lambda *xs: np.einsum(",".join(terms) + "->" + outer, *map(np.exp, xs)), *xs)


@few
@given(filled_shapes.flatmap(lambda s: st.tuples(st.just(s), axes_of(len(s)))), generators(), st.booleans())
def test_logsumexp_and_log_softmax_over_any_axes(drawn, rng, keepdims):
    shape, axis = drawn
    x = numbers(rng, shape)
    assert_derivatives(lambda x: logsumexp(x, axis, keepdims), x)
    assert_derivatives(lambda x: log_softmax(x, axis), x)


@few
@given(reshapings(), generators())
def test_reshape_and_ravel(reshaping, rng):
    shape, wanted = reshaping
    x = numbers(rng, shape)
    assert_derivatives(curved(lambda x: np.reshape(x, wanted)), x)
    assert_derivatives(curved(np.ravel), x)


@few
@given(transpositions(), generators(), st.data())
def test_swapaxes_expand_dims_and_squeeze(transposition, rng, data):
    shape, _ = transposition
    x = numbers(rng, shape)
    new = data.draw(st.integers(-x.ndim - 1, x.ndim))
    assert_derivatives(curved(lambda x: np.expand_dims(x, new)), x)
    assert_derivatives(curved(lambda x: np.squeeze(np.expand_dims(x, new), axis=new)), x)
    assert_derivatives(curved(np.squeeze), x)
    if x.ndim:
        first, second = (data.draw(st.integers(-x.ndim, x.ndim - 1)) for _ in range(2))
        assert_derivatives(curved(lambda x: np.swapaxes(x, first, second)), x)


@few
@given(joinings(), generators())
def test_concatenate_of_traced_and_plain_arrays(joining, rng):
    parts, axis = joining
    xs = [numbers(rng, shape) for shape in parts]
    plain = numbers(rng, parts[0])
    assert_derivatives(lambda *xs: np.square(np.concatenate([*map(np.exp, xs), plain], axis=axis)), *xs)
    assert_derivatives(lambda *xs: np.square(np.concatenate([plain, *map(np.exp, xs)], axis=None)), *xs)


@few
@given(shapes, generators(), st.data())
def test_stack_of_traced_and_plain_arrays(shape, rng, data):
    x, y, plain = (numbers(rng, shape) for _ in range(3))
    axis = data.draw(st.integers(-x.ndim - 1, x.ndim))
    assert_derivatives(lambda x, y: np.square(np.stack([np.exp(x), plain, np.exp(y)], axis=axis)), x, y)


@few
@given(takings(), generators())
def test_take_along_axis(taking, rng):
    shape, indices, axis = taking
    assert_derivatives(curved(lambda x: np.take_along_axis(x, indices, axis)), numbers(rng, shape))


# --- shapes and operands out of the ordinary ------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name, (_, *intervals) in ELEMENTWISE.items() if len(intervals) == 1]
)
def test_a_python_number_is_differentiated_as_an_array_without_axes(name):
    function, (low, high) = ELEMENTWISE[name]
    x = (low + 3 * high) / 4
    value, slope = jvp(function, x, 1.0)
    assert (np.shape(value), np.shape(slope), np.shape(grad(function)(x))) == ((), (), ())
    assert slope == grad(function)(x) == grad(lambda x: np.sum(function(x)))(np.array([x]))[0]


EMPTY = {
    "x * 2": (lambda x: x * 2, (0, 3)),
    "x * y": (lambda x: x * np.ones((4, 1, 3)), (4, 0, 3)),
    "sum": (lambda x: np.sum(x, axis=0), (3,)),
    "max": (lambda x: np.max(x, axis=1), (0,)),
    "reshape": (lambda x: x.reshape(3, 0, 1), (3, 0, 1)),
    "transpose": (lambda x: x.T, (3, 0)),
    "matmul": (lambda x: x.T @ x, (3, 3)),
    "an empty product": (lambda x: x @ np.ones((3, 2)), (0, 2)),
    "slice": (lambda x: x[:, 1:], (0, 2)),
    "no integers": (lambda x: x[np.zeros(0, int)], (0, 3)),
    "mask": (lambda x: x[np.zeros((0, 3), bool)], (0,)),
    "concatenate": (lambda x: np.concatenate([x, x, np.ones((2, 3))]), (2, 3)),
    "stack": (lambda x: np.stack([x, x]), (2, 0, 3)),
    "broadcast_to": (lambda x: np.broadcast_to(x, (2, 0, 3)), (2, 0, 3)),
    "logsumexp": (lambda x: logsumexp(x, axis=1), (0,)),
    "log_softmax": (lambda x: log_softmax(x, axis=1), (0, 3)),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_array_without_elements_passes_through(name):
    function, shape = EMPTY[name]
    x = np.zeros((0, 3))
    lin = linearize(function, x)
    assert_same_bits(lin.value, function(x))
    assert lin.value.shape == shape
    assert_same_bits(lin.jvp(x), np.zeros(shape))
    assert_same_bits(lin.vjp(np.ones(shape)), x)
    assert jacobian(function)(x).shape == (*shape, 0, 3)


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul]


@pytest.mark.parametrize("operation", [*OPERATORS, np.maximum, np.dot], ids=lambda f: f.__name__)
def test_a_list_is_an_operand_as_in_numpy(operation):
    x, plain = np.array([1.5, 2.5, 3.5]), [2.0, 3.0, 1.0]
    for in_list, in_array in [
        (lambda x: operation(x, plain), lambda x: operation(x, np.array(plain))),
        (lambda x: operation(plain, x), lambda x: operation(np.array(plain), x)),
    ]:
        assert_same_bits(linearize(in_list, x).value, in_list(x))
        assert_same_bits(jacobian(in_list)(x), jacobian(in_array)(x))


def test_integers_with_repeats_add_up_and_do_not_overwrite():
    index = np.array([1, 1, 1, 0])
    np.testing.assert_array_equal(grad(lambda x: np.sum(x[index]))(np.ones(3)), [1, 3, 0])
    np.testing.assert_array_equal(jvp(lambda x: x[index], np.ones(3), np.arange(3.0))[1], [1, 1, 1, 0])


@pytest.mark.parametrize(
    ("axis", "indices", "error"),
    [(2, [[0], [1], [0]], np.exceptions.AxisError), (0, [0, 1], ValueError), (None, [[0, 1]], ValueError)],
)
def test_take_along_axis_refuses_what_numpy_refuses(axis, indices, error):
    def take(x):
        return np.take_along_axis(x, np.array(indices), axis)

    for attempt in (take, grad(take)):
        with pytest.raises(error):
            attempt(POINT)


@pytest.mark.parametrize("function", [np.sum, np.mean, np.max, np.min, logsumexp, log_softmax])
def test_a_reduction_over_an_axis_that_is_not_there_is_refused(function):
    with pytest.raises(np.exceptions.AxisError, match="axis -3 is out of bounds for an array with 2 axes"):
        grad(lambda x: function(x, axis=-3))(POINT)
