import itertools
import math

import numpy as np
import pytest
from hypothesis import given

from npTRPO.autograd import (
    LinearMap,
    define_rule,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    linearize,
    primitive,
    value_and_grad,
    vjp,
)
from tests.autograd.oracles import assert_near, assert_same_bits, complex_step, each, each_of, parts
from tests.strategies import arrays, generators

# --- nesting --------------------------------------------------------------------------------------

TAYLOR = {
    "sin": (np.sin, [np.sin, np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin]),
    "exp": (np.exp, [np.exp] * 5),
    "x ** 4": (
        lambda x: x**4,
        [lambda x, k=k, c=c: c * x ** (4 - k) for k, c in enumerate((1, 4, 12, 24, 24))],
    ),
    "1 / x": (
        lambda x: 1 / x,
        [lambda x, k=k, c=c: c / x ** (k + 1) for k, c in enumerate((1, -1, 2, -6, 24))],
    ),
    "log": (np.log, [np.log, *(lambda x, k=k, c=c: c / x ** (k + 1) for k, c in enumerate((1, -1, 2, -6)))]),
}


def forward(f):
    return lambda x: jvp(f, x, 1.0)[1]


def backward(f):
    return lambda x: vjp(f, x)[1](1.0)


@each_of("f, expected", TAYLOR)
@pytest.mark.parametrize("modes", list(itertools.product([forward, backward], repeat=4)), ids=lambda m: "")
def test_derivatives_up_to_order_four_in_every_nesting_of_the_modes(f, expected, modes):
    x = 1.25
    for order, closed_form in enumerate(expected):
        nested = f
        for mode in modes[:order]:
            nested = mode(nested)
        # Each order sums at most 2⁴ products, each of them smaller than the largest derivative.
        assert_near(nested(np.array(x)), closed_form(x), magnitude=24, terms=16)


# Each level has its own perturbation: what an outer one sees must not reach an inner derivative.
CONFUSIONS = {
    "d/dx [x d/dy (x + y)]": (lambda x: x * grad(lambda y: x + y)(1.0), 1),
    "d/dx [x d/dy (x y)]": (lambda x: x * grad(lambda y: x * y)(1.0), 6),
    "d/dx [x d/dy (x y²)] at y = x": (lambda x: x * grad(lambda y: x * y * y)(x), 54),
    "d/dx d/dy (x² y)": (lambda x: grad(lambda y: x * x * y)(5.0), 6),
    "d/dx d/dy y² at y = x": (lambda x: grad(lambda y: y * y)(x), 2),
    "d/dx d/dy y² at y = x²": (lambda x: grad(lambda y: y * y)(x * x), 12),
    "d/dx d/dy 7": (lambda x: x + grad(lambda y: x)(1.0), 1),
    "d/dx [x d/dy (y d/dz (x y z))]": (
        lambda x: x * grad(lambda y: y * grad(lambda z: x * y * z)(1.0))(2.0),
        24,
    ),
    "d/dx [x · jvp]": (lambda x: x * jvp(lambda y: x * y, 1.0, 1.0)[1], 6),
    "d/dx [x · jvp along x]": (lambda x: x * jvp(lambda y: x * y, 1.0, x)[1], 27),
    "d/dx [vjp of x]": (lambda x: vjp(lambda y: x * y, 1.0)[1](x), 6),
    "d/dx of the value of a vjp": (lambda x: vjp(lambda y: x * y, 2.0)[0], 2),
    "d/dx of a value_and_grad": (lambda x: np.sum(np.stack(value_and_grad(lambda y: x * y)(2.0))), 3),
    "d/dx of an hvp": (lambda x: hvp(lambda y: x * y**3, 1.0, x), 36),
    "d/dx of a hessian": (lambda x: np.sum(hessian(lambda y: np.sum(x * y**3))(np.ones(2))), 12),
    "d/dx of a tall jacobian": (lambda x: np.sum(jacobian(lambda y: np.stack([y, x * y]))(x)), 1),
}


@each_of("f, expected", CONFUSIONS)
@pytest.mark.parametrize("mode", [forward, backward])
def test_nested_perturbations_stay_apart(mode, f, expected):
    assert mode(f)(np.array(3.0)) == expected


# --- linearize ------------------------------------------------------------------------------------


def test_linearize_runs_the_function_once_and_its_products_not_again():
    runs = []

    def f(x):
        runs.append(x)
        return np.tanh(x * x[::-1])

    lin = linearize(f, np.ones(3))
    for _ in range(3):
        lin.jvp(np.ones(3))
        lin.vjp(np.ones(3))
    assert len(runs) == 1


def test_a_linearization_cannot_be_changed():
    lin = linearize(np.sin, 1.0)
    with pytest.raises(AttributeError):
        lin.value = 2.0


def test_what_is_changed_afterwards_changes_no_derivative():
    x, v, u = np.array([0.5, 1.5]), np.array([1.0, 2.0]), np.array([3.0, 4.0])
    lin = linearize(lambda x: np.exp(x * x), x)
    before = lin.jvp(v), lin.vjp(u)
    x[:], lin.value[:] = np.nan, np.nan
    assert_same_bits(lin.jvp(v), before[0])
    assert_same_bits(lin.vjp(u), before[1])


@each_of(
    "f",
    {
        "the same": lambda xy: xy,
        "a sum": lambda xy: xy[0] + xy[1],
        "twice": lambda xy: (xy[0], xy[0]),
        "views": lambda xy: (xy[0].T, xy[1][1:], np.sum(xy[0])),
    },
)
def test_every_result_can_be_written_into_and_shares_no_memory(f):
    x = (np.ones((2, 2)), np.ones((2, 2)))
    lin = linearize(f, x)
    u = each(np.ones_like, lin.value)
    arrays = [*x, *parts(lin.value), *parts(u), *parts(lin.jvp(x)), *parts(lin.vjp(u))]
    assert all(part.flags.writeable for part in arrays if isinstance(part, np.ndarray))
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


# --- fan-out: an argument that is used several times ----------------------------------------------


def quadratic(x):
    return x * x + x[...] - 3 * x[::-1]


@given(arrays((5,)))
def test_an_argument_used_several_times_receives_every_contribution(x):
    u = np.arange(1.0, 6.0)
    # Each entry sums four products of at most 3 and 5.
    assert_near(vjp(quadratic, x)[1](u), 2 * x * u + u - 3 * u[::-1], 4 * 15, 4)


@pytest.mark.parametrize(
    ("f", "u", "expected"),
    [
        (lambda x: (x[:1] * 1j, x[1:]), (np.ones(1, complex), np.ones(1)), [1j, 1]),
        (lambda x: (x[:1], x[1:] * 1j), (np.ones(1), np.ones(1, complex)), [1, 1j]),
        (lambda x: (x[:1] * 0.5, x[[1]]), (np.ones(1), np.ones(1, np.float32)), [0.5, 1]),
        (lambda x: x[:1] * 0.5 + x[1:], [1], [0.5, 1]),
    ],
    ids=["complex before real", "real before complex", "double before single", "integers"],
)
def test_cotangents_of_different_dtypes_accumulate_in_the_wider_one(f, u, expected):
    result = linearize(f, np.ones(2)).vjp(u)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == np.asarray(expected).dtype


# --- outputs that don't depend on the input -------------------------------------------------------

INDEPENDENT = {
    "a constant": lambda x: np.ones((2, 3)),
    "a Python number": lambda x: 3.5,
    "an outer variable": lambda x: OUTSIDE,
    "locally constant": lambda x: np.sign(x),
    "a comparison": lambda x: (x > 0).astype(float),
    "zeros_like": lambda x: np.zeros_like(x) + 2.0,
}
OUTSIDE = np.arange(4.0)


@each_of("f", INDEPENDENT)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_output_that_does_not_depend_on_the_input_has_zero_derivatives(f, dtype):
    x = np.ones((3, 2), dtype)
    lin = linearize(f, x)
    assert_same_bits(lin.value, f(x))
    assert_same_bits(lin.jvp(x), np.zeros(np.shape(f(x)), np.asarray(f(x)).dtype))
    assert_same_bits(lin.vjp(np.ones(np.shape(f(x)), dtype)), np.zeros_like(x))
    assert_same_bits(jacobian(f)(x), np.zeros((*np.shape(f(x)), 3, 2), np.asarray(f(x)).dtype))


def test_an_input_that_is_not_used_has_zero_derivatives():
    x = (np.ones(2), np.ones((2, 3)))
    np.testing.assert_array_equal(grad(lambda xy: np.sum(xy[0]))(x)[1], np.zeros((2, 3)))
    np.testing.assert_array_equal(jvp(lambda xy: xy[0] * 2, x, x)[1], [2, 2])


def test_a_step_that_leads_nowhere_is_left_out():
    def f(x):
        np.exp(x) * x
        return x * 2

    lin = linearize(f, np.ones(2))
    np.testing.assert_array_equal(lin.vjp(np.ones(2)), [2, 2])
    seen = []
    lin.vjp(np.ones(2), lambda linear, g: seen.append(linear.jvp(g)))
    np.testing.assert_array_equal(seen, [[2, 2]])


# --- tuples in and out ----------------------------------------------------------------------------


def test_a_tuple_of_one_stays_a_tuple():
    lin = linearize(lambda xs: (xs[0] * 2,), (np.ones(2),))
    assert (type(lin.value), type(lin.jvp((np.ones(2),))), type(lin.vjp((np.ones(2),)))) == (tuple,) * 3


def test_the_gradient_and_the_hvp_of_a_function_of_a_tuple_are_tuples():
    def f(xy):
        return np.sum(xy[0] * xy[0] * xy[1])

    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    value, slopes = value_and_grad(f)((x, y))
    assert value == 19
    np.testing.assert_array_equal(slopes, [2 * x * y, x * x])
    np.testing.assert_array_equal(hvp(f, (x, y), (np.ones(2), np.ones(2))), [2 * y + 2 * x, 2 * x])


# --- jacobian, hvp, hessian -----------------------------------------------------------------------

SHAPES = {
    "wide": ((4,), (2,)),
    "tall": ((2,), (4,)),
    "wide, of matrices": ((2, 3), (2, 1)),
    "tall, of matrices": ((1, 2), (3, 2)),
    "of a scalar": ((), (3,)),
    "with a scalar value": ((3,), ()),
    "square": ((), ()),
    "of nothing": ((0,), (2,)),
    "with nothing as value": ((2,), (0, 3)),
}


@each_of("inner, outer", SHAPES)
def test_jacobians_of_every_shape_agree_with_the_complex_step(inner, outer):
    rng = np.random.default_rng(0)
    x = np.asarray(rng.uniform(-1, 1, inner))
    weights = rng.uniform(-1, 1, (int(np.prod(outer)), x.size))

    def f(x):
        return np.reshape(weights @ np.sin(np.reshape(x, -1)), outer)

    ours = jacobian(f)(x)
    assert ours.shape == outer + inner
    theirs = complex_step(f, x)
    assert_near(ours, theirs.reshape(outer + inner), np.abs(theirs).reshape(outer + inner), terms=1)


@pytest.mark.parametrize(
    ("size", "expected"), [(3, "vjp"), (1, "jvp")], ids=["wide: reverse mode", "tall: forward mode"]
)
def test_the_jacobian_takes_the_cheaper_mode(size, expected):
    used = set()

    @primitive
    def twice(x):
        return 2 * x

    def mode(name):
        return lambda t: used.add(name) or 2 * t

    define_rule(twice, lambda ans, x: LinearMap(mode("jvp"), mode("vjp")))
    jacobian(lambda x: np.sum(twice(x)) * np.ones(2))(np.ones(size))
    assert used == {expected}


def well(x):
    return np.sum(np.exp(x) * np.sin(x[::-1])) + np.sum(x @ x) * x[0]


@given(arrays((4,), -1, 1), arrays((4,), -1, 1))
def test_hvp_and_hessian_agree_with_the_complex_step_of_the_gradient(x, v):
    expected = complex_step(grad(well), x)
    # No second derivative of `well` is above 2e + 6 < 16 on the cube, nor is a sum of its terms.
    assert_near(hessian(well)(x), expected, 16, 4)
    assert_near(hvp(well, x, v), expected @ v, 16 * 4, 4)
    assert_near(hessian(well)(x), hessian(well)(x).T, 16, 4)


@given(generators())
def test_the_hessian_of_a_quadratic_form_is_its_matrix(rng):
    A = rng.uniform(-1, 1, (3, 3))
    np.testing.assert_array_equal(hessian(lambda x: x @ A @ x)(rng.uniform(-1, 1, 3)), A + A.T)


def test_the_hessian_of_a_function_of_a_matrix_has_its_shape_twice():
    x = np.arange(6.0).reshape(2, 3)
    H = hessian(lambda x: np.sum(x**3))(x)
    assert H.shape == (2, 3, 2, 3)
    np.testing.assert_array_equal(H.reshape(6, 6), np.diag(6 * x.ravel()))


def test_third_derivatives_are_jacobians_of_hessians():
    third = jacobian(hessian(lambda x: np.sum(x**3)))(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(third, 6 * np.eye(2)[:, :, None] * np.eye(2)[:, None, :])


# --- mistakes -------------------------------------------------------------------------------------

X, LIN = np.ones((2, 3)), linearize(lambda x: x[0], np.ones((2, 3)))
MISTAKES = {
    "integers": (lambda: grad(np.sum)(np.arange(3)), TypeError, r"int64: use np\.asarray\(x, float\)"),
    "a Python integer": (lambda: grad(np.sin)(2), TypeError, "dtype int64"),
    "booleans": (lambda: linearize(np.sum, np.ones(2, bool)), TypeError, "dtype bool"),
    "integers in a tuple": (lambda: grad(lambda xy: xy[0])((1.0, 2)), TypeError, "dtype int64"),
    "a tangent's shape": (lambda: LIN.jvp(np.ones(3)), ValueError, r"shape \(2, 3\).* has shape \(3,\)"),
    "a cotangent's shape": (lambda: LIN.vjp(X), ValueError, r"vjp needs shape \(3,\).* has shape \(2, 3\)"),
    "a broadcastable tangent": (lambda: LIN.jvp(1.0), ValueError, r"has shape \(\)"),
    "the direction of an hvp": (lambda: hvp(np.sum, X, X.T), ValueError, r"jvp needs shape \(2, 3\)"),
    "too short a tuple": (lambda: jvp(lambda xy: xy[0], (X, X), (X,)), ValueError, r"\(\(2, 3\), \(2, 3\)\)"),
    "a vector-valued grad": (
        lambda: grad(np.sin)(X),
        ValueError,
        r"scalar value, .* returned shape \(2, 3\)",
    ),
    "a tuple-valued grad": (lambda: grad(lambda x: (x, x))(1.0), ValueError, "returned a tuple"),
    "a vector-valued hessian": (lambda: hessian(np.sin)(X), ValueError, "scalar value"),
    "the jacobian in a tuple": (lambda: jacobian(lambda xy: xy[0])((X, X)), TypeError, "one array"),
    "the jacobian of a tuple": (lambda: jacobian(lambda x: (x, x))(X), TypeError, "one array"),
    "a list of results": (lambda: linearize(lambda x: [x[0], x[1]], X), TypeError, r"use np\.stack"),
    "a dict of results": (lambda: linearize(lambda x: {"x": x}, X), TypeError, "this one returned a dict"),
    "a tuple in the results": (lambda: linearize(lambda x: ((x, x), x), X), TypeError, "returned a tuple"),
    "no result": (lambda: linearize(lambda x: None, X), TypeError, "this one returned a NoneType"),
    "a dict of parameters": (
        lambda: grad(lambda p: np.sum(p["W"]))({"W": X}),
        TypeError,
        r"x is or holds a dict: give all arrays in one tuple, .* f\(dict\(zip\(x, arrays\)\)\)",
    ),
    "tuples in a tuple": (
        lambda: grad(lambda p: np.sum(p[0][0]))(((X, X), X)),
        TypeError,
        "holds a tuple: give",
    ),
    "a list of parameters": (
        lambda: grad(lambda p: np.sum(p[0]))([X, X[0]]),
        TypeError,
        "holds a list: give",
    ),
}


@each_of("mistake, error, message", MISTAKES)
def test_a_mistake_is_an_exception_that_says_what_came(mistake, error, message):
    with pytest.raises(error, match=message):
        mistake()


def test_a_visitor_sees_every_map_from_the_last_to_the_first_and_may_end_the_way_back():
    lin = linearize(lambda x: np.sin(2.0 * x), np.array([0.3]))
    seen: list[float] = []

    def visit(linear, g):
        seen.append(float(g[0]))
        return False

    assert lin.vjp(np.ones(1), visit) == lin.vjp(np.ones(1))
    assert seen == [1.0, math.cos(0.6)]
    assert lin.vjp(np.ones(1), lambda linear, g: True) == 0
