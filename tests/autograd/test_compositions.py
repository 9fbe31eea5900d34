import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO.autograd import grad, linearize
from tests.autograd.cases import POINT
from tests.autograd.oracles import assert_derivatives, assert_same_bits, curved
from tests.strategies import (
    broadcastable,
    distinct,
    filled_shapes,
    generators,
    joinings,
    reductions,
    reshapings,
    shapes,
    takings,
    transpositions,
)

UNIT = (-1.0, 1.0)


def numbers(rng, shape):
    return np.asarray(rng.uniform(*UNIT, shape))


@given(reductions(shapes), generators())
def test_sum_over_any_axes(reduction, rng):
    shape, axis, keepdims = reduction
    assert_derivatives(curved(lambda x: np.sum(x, axis, keepdims=keepdims)), numbers(rng, shape))


@given(reductions(filled_shapes), generators())
def test_mean_over_any_axes(reduction, rng):
    shape, axis, keepdims = reduction
    assert_derivatives(curved(lambda x: np.mean(x, axis, keepdims=keepdims)), numbers(rng, shape))


@pytest.mark.parametrize("function", [np.max, np.min])
@given(data=st.data())
def test_max_and_min_over_any_axes(function, data):
    shape, axis, keepdims = data.draw(reductions(filled_shapes))
    (x,) = data.draw(distinct(st.just((shape,))))
    assert_derivatives(lambda x: np.square(function(x, axis, keepdims=keepdims)), x)


@given(reshapings(), generators())
def test_reshape_and_ravel(reshaping, rng):
    shape, wanted = reshaping
    x = numbers(rng, shape)
    assert_derivatives(curved(lambda x: np.reshape(x, wanted)), x)
    assert_derivatives(curved(np.ravel), x)


@given(transpositions(), generators(), st.data())
def test_swapaxes_expand_dims_and_squeeze(transposition, rng, data):
    shape, _ = transposition
    x = numbers(rng, shape)
    new = data.draw(st.integers(-x.ndim - 1, x.ndim))
    assert_derivatives(curved(lambda x: np.expand_dims(x, new)), x)
    assert_derivatives(curved(lambda x: np.squeeze(np.expand_dims(x, new), axis=new)), x)
    assert_derivatives(curved(np.squeeze), x)
    if x.ndim:
        axes = st.integers(-x.ndim, x.ndim - 1)
        first, second = data.draw(axes), data.draw(axes)
        assert_derivatives(curved(lambda x: np.swapaxes(x, first, second)), x)


@given(distinct(broadcastable(UNIT, UNIT).map(lambda xs: tuple(x.shape for x in xs))))
def test_clip_away_from_its_bounds(arrays):
    x, bound = arrays
    # `distinct` keeps 1/4 from every integer.
    assert_derivatives(lambda x: np.square(np.clip(x, -2, 3)), x)
    assert_derivatives(lambda x: np.square(np.clip(x, None, 1)), x)
    assert_derivatives(lambda x, bound: np.square(np.clip(x, bound, None)), x, bound)
    assert_derivatives(lambda bound: np.square(np.clip(x, bound, 4)), bound)


@given(joinings(), generators())
def test_concatenate_of_traced_and_plain_arrays(joining, rng):
    parts, axis = joining
    xs = [numbers(rng, shape) for shape in parts]
    plain = numbers(rng, parts[0])
    assert_derivatives(lambda *xs: np.square(np.concatenate([*map(np.exp, xs), plain], axis=axis)), *xs)
    assert_derivatives(lambda *xs: np.square(np.concatenate([plain, *map(np.exp, xs)], axis=None)), *xs)


@given(shapes, generators(), st.data())
def test_stack_of_traced_and_plain_arrays(shape, rng, data):
    x, y, plain = (numbers(rng, shape) for _ in range(3))
    axis = data.draw(st.integers(-x.ndim - 1, x.ndim))
    assert_derivatives(lambda x, y: np.square(np.stack([np.exp(x), plain, np.exp(y)], axis=axis)), x, y)


@given(takings(), generators())
def test_take_along_axis(taking, rng):
    shape, indices, axis = taking
    assert_derivatives(curved(lambda x: np.take_along_axis(x, indices, axis)), numbers(rng, shape))


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


@pytest.mark.parametrize("function", [np.sum, np.mean, np.max, np.min])
def test_a_reduction_over_an_axis_that_is_not_there_is_refused(function):
    with pytest.raises(np.exceptions.AxisError, match="axis -3 is out of bounds for an array with 2 axes"):
        grad(lambda x: function(x, axis=-3))(POINT)


def test_the_fill_of_full_like_is_differentiated():
    np.testing.assert_array_equal(grad(lambda x: np.sum(np.full_like(x, x[1])))(np.ones(3)), [0, 3, 0])


def test_full_like_of_a_traced_array_with_a_plain_fill_is_plain():
    def f(x):
        filled = np.full_like(x, True, dtype=bool)
        assert_same_bits(filled, np.ones((3, 4), bool))
        return np.full_like(x, 2)

    assert_same_bits(linearize(f, POINT).value, np.full((3, 4), 2.0))


def test_the_mean_of_half_precision_numbers_is_numpys_and_does_not_overflow():
    x = np.full(4, 60000, np.float16)
    assert_same_bits(linearize(np.mean, x).value, np.mean(x))
    assert_same_bits(grad(np.mean)(x), np.full(4, 0.25, np.float16))


# --- constants: what is locally constant or only looks at shapes ----------------------------------

PLAIN = [
    ("x > y", lambda x: x > x[0]),
    ("x >= 1", lambda x: x >= 1),
    ("1 > x", lambda x: 1 > x),  # noqa: SIM300 (the reflected operator is what is tested)
    ("x <= y", lambda x: x <= x[:, :1]),
    ("x == y", lambda x: x == x[0]),
    ("x != y", lambda x: x != x[0]),
    ("logical_and", lambda x: np.logical_and(x, x > 1)),
    ("logical_or", lambda x: np.logical_or(x > 1, x)),
    ("logical_not", np.logical_not),
    ("isfinite", np.isfinite),
    ("isnan", np.isnan),
    ("isinf", np.isinf),
    ("sign", lambda x: np.sign(x - 1)),
    ("signbit", np.signbit),
    ("floor", np.floor),
    ("ceil", np.ceil),
    ("rint", np.rint),
    ("argmax", lambda x: np.argmax(x, axis=1)),
    ("argmin", np.argmin),
    ("argsort", lambda x: np.argsort(x, axis=0)),
    ("zeros_like", np.zeros_like),
    ("ones_like", lambda x: np.ones_like(x, dtype=int)),
    ("all", lambda x: np.all(x > 1)),
    ("any", lambda x: np.any(x)),
    ("isclose", lambda x: np.isclose(x, x[0])),
    ("isclose to a list", lambda x: np.isclose(x, [1.03, 1.0, 1.28, 0.0])),
    ("allclose", lambda x: np.allclose(x, x)),
    ("array_equal", lambda x: np.array_equal(x, x)),
    ("shape", np.shape),
    ("ndim", np.ndim),
    ("size", np.size),
    ("empty_like", lambda x: np.empty_like(x).shape),
    ("iscomplexobj", np.iscomplexobj),
    ("x.shape", lambda x: x.shape),
    ("x.ndim", lambda x: x.ndim),
    ("x.size", lambda x: x.size),
]


@pytest.mark.parametrize("function", [pytest.param(f, id=name) for name, f in PLAIN])
def test_what_has_no_derivative_gives_a_plain_array(function):
    seen = []

    def nested(x):
        seen.append(function(x))
        return np.sum(x)

    grad(nested)(POINT)
    grad(lambda x: np.sum(grad(nested)(x)))(POINT)
    for value in seen:
        assert type(value) is type(function(POINT))
        assert_same_bits(value, function(POINT))


def test_result_type_sees_the_dtype_of_a_traced_array():
    seen = []
    grad(lambda x: seen.append(np.result_type(x, x.dtype)) or np.sum(x))(POINT.astype(np.float32))
    assert seen == [np.float32]


def test_a_branch_that_looks_at_a_traced_value_is_followed():
    f = grad(lambda x: x * x if x > 0 else -x)
    assert (f(3.0), f(-3.0)) == (6, -1)
