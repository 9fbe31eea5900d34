import operator

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from npTRPO.autograd import (
    check_derivatives,
    grad,
    hessian,
    jacobian,
    jvp,
    linearize,
    log_softmax,
    logsumexp,
    tracer,
)
from tests.autograd.cases import CASES, COMPLEX_CASES, POINT
from tests.autograd.oracles import assert_derivatives, assert_near, assert_same_bits, curved
from tests.strategies import (
    axes_of,
    broadcastable,
    distinct,
    dot_operands,
    filled_shapes,
    generators,
    indexings,
    matmul_operands,
    transpositions,
)

REAL, UNIT, POSITIVE = (-3.0, 3.0), (-1.0, 1.0), (0.5, 2.0)
RULES = frozenset(  # before any test has added its own
    function
    for function in tracer._rules.keys() | tracer._compositions.keys()
    if not getattr(function, "__module__", "").startswith("tests")
)

ELEMENTWISE = [
    ("+x", operator.pos, [REAL]),
    ("-x", operator.neg, [REAL]),
    ("exp", np.exp, [UNIT]),
    ("expm1", np.expm1, [UNIT]),
    ("log", np.log, [POSITIVE]),
    ("log1p", np.log1p, [(-0.5, 2)]),
    ("sqrt", np.sqrt, [POSITIVE]),
    ("square", np.square, [REAL]),
    ("sin", np.sin, [(0.25, 1.25)]),
    ("cos", np.cos, [(0.25, 1.25)]),
    ("tanh", np.tanh, [UNIT]),
    ("x + y", operator.add, [REAL, REAL]),
    ("x - y", operator.sub, [REAL, REAL]),
    ("x * y", operator.mul, [REAL, REAL]),
    ("x / y", operator.truediv, [REAL, POSITIVE]),
    ("x / -y", lambda x, y: x / -y, [REAL, POSITIVE]),
    ("x ** y", operator.pow, [POSITIVE, (1.25, 3)]),
    ("x ** -2", lambda x: x**-2, [POSITIVE]),
    ("(-x) ** 3", lambda x: (-x) ** 3, [POSITIVE]),
    ("2.5 ** x", lambda x: 2.5**x, [UNIT]),
]


@pytest.mark.parametrize(
    ("function", "intervals"), [pytest.param(f, i, id=name) for name, f, i in ELEMENTWISE]
)
@given(data=st.data())
def test_elementwise_rules_over_broadcast_shapes(function, intervals, data):
    xs = data.draw(broadcastable(*intervals))
    assert_derivatives(function, *xs)
    if len(xs) == 2:  # where both are traced, the larger one's derivative could broadcast the other's
        assert_derivatives(lambda x: function(x, xs[1]), xs[0])
        assert_derivatives(lambda y: function(xs[0], y), xs[1])


KINKED = [
    ("abs", abs, lambda x: np.sqrt(x * x), 1),
    ("maximum", np.maximum, np.maximum, 2),
    ("minimum", np.minimum, np.minimum, 2),
    ("maximum of a number", lambda x: np.maximum(0.0, x), lambda x: np.maximum(0.0, x), 1),
]


@pytest.mark.parametrize(
    ("function", "plain", "count"), [pytest.param(*case[1:], id=case[0]) for case in KINKED]
)
@given(data=st.data())
def test_kinked_rules_away_from_their_kinks(function, plain, count, data):
    xs = data.draw(distinct(broadcastable(*[UNIT] * count).map(lambda xs: tuple(x.shape for x in xs))))
    assert_derivatives(function, *xs, plain=plain)


@given(broadcastable(UNIT, REAL, REAL))
def test_where_over_broadcast_shapes(arrays):
    condition, x, y = arrays
    assert_derivatives(lambda x, y: np.where(condition > 0, x * x, y * y), x, y)
    assert_derivatives(lambda x: np.where(condition > 0, x * x, y), x)
    assert_derivatives(lambda y: np.where(condition > 0, x, y * y), y)
    assert_derivatives(lambda x: np.where(condition > 0, x, 2.0) * np.where(condition > 0.5, 3.0, x), x)


@given(broadcastable(REAL))
def test_expit_against_its_formula(xs):
    assert_derivatives(scipy.special.expit, *xs, plain=lambda x: 1 / (1 + np.exp(-x)))


@given(matmul_operands())
def test_matmul_in_every_combination_of_dimensions(operands):
    assert_derivatives(operator.matmul, *operands)


@given(dot_operands())
def test_dot_of_scalars_vectors_and_matrices(operands):
    assert_derivatives(np.dot, *operands)


@given(transpositions(), generators())
def test_transpose_in_every_order_of_axes(transposition, rng):
    shape, axes = transposition
    assert_derivatives(curved(lambda x: np.transpose(x, axes)), np.asarray(rng.uniform(*UNIT, shape)))
    assert_derivatives(curved(lambda x: x.T), np.asarray(rng.uniform(*UNIT, shape)))


@given(broadcastable(UNIT, UNIT))
def test_broadcast_to(arrays):
    x, other = arrays
    shape = np.broadcast_shapes(x.shape, other.shape)
    assert_derivatives(curved(lambda x: np.broadcast_to(x, shape)), x)


@given(indexings(), generators())
def test_every_kind_of_index(indexing, rng):
    shape, index = indexing
    assert_derivatives(curved(lambda x: x[index]), np.asarray(rng.uniform(*UNIT, shape)))


@given(
    filled_shapes.flatmap(lambda shape: st.tuples(st.just(shape), axes_of(len(shape)))),
    generators(),
    st.booleans(),
)
def test_logsumexp_and_log_softmax_over_any_axes(drawn, rng, keepdims):
    shape, axis = drawn
    x = rng.uniform(*UNIT, shape)

    def formula(x, keepdims=keepdims):
        return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))

    assert_derivatives(lambda x: logsumexp(x, axis, keepdims), x, plain=formula)
    assert_derivatives(lambda x: log_softmax(x, axis), x, plain=lambda x: x - formula(x, True), cancels=1)


# --- every rule, in the cases' list ---------------------------------------------------------------

every_case = pytest.mark.parametrize("case", CASES, ids=repr)
every_complex_case = pytest.mark.parametrize("case", COMPLEX_CASES, ids=repr)


def hvp_of_squares(function, x, v):
    return jvp(grad(lambda z: np.sum(np.square(function(z)))), x, v)[1]


def test_the_cases_leave_no_rule_out(monkeypatch):
    seen = set()

    class Recorded(dict):
        def get(self, function):
            seen.add(function)
            return super().get(function)

    monkeypatch.setattr(tracer, "_rules", Recorded(tracer._rules))
    for case in CASES:
        hvp_of_squares(case.function, POINT, POINT)
    assert seen >= RULES


@every_case
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_traced_value_is_the_plain_one_to_the_bit(case, dtype):
    x = POINT.astype(dtype)
    assert_same_bits(linearize(case.function, x).value, case.function(x))


@every_case
def test_float32_stays_float32(case):
    x = POINT.astype(np.float32)
    lin, exact = linearize(case.function, x), linearize(case.function, POINT)
    v, u = np.ones_like(x), np.ones_like(lin.value)
    for actual, expected in [(lin.jvp(v), exact.jvp(v)), (lin.vjp(u), exact.vjp(u))]:
        assert actual.dtype == np.float32
        # On the cases' domain no derivative exceeds 64, and neither does what x's own rounding moves it by.
        assert_near(actual, expected, magnitude=64, terms=x.size, dtype=np.float32)
    assert hvp_of_squares(case.function, x, v).dtype == np.float32


@every_complex_case
@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
def test_complex_stays_complex_and_its_derivatives_are_complex_linear(case, dtype):
    x = (POINT + 0.25j * POINT[::-1]).astype(dtype)
    lin = linearize(case.function, x)
    assert_same_bits(lin.value, case.function(x))
    v, u = x[::-1, ::-1], np.ones_like(lin.value)
    for product, along in [(lin.jvp, v), (lin.vjp, u)]:
        plain, turned = product(along), product(np.asarray(1j * along))
        assert plain.dtype == turned.dtype == dtype
        assert_near(turned, 1j * plain, 64 * np.max(np.abs(plain), initial=1), x.size, dtype)
    assert hvp_of_squares(case.function, x, v).dtype == dtype


@every_case
def test_the_checker_accepts_every_rule_at_orders_one_and_two(case):
    method = "complex step" if case.is_complex else "central difference"
    check_derivatives(case.function, POINT, method=method)


# --- second oracles: closed forms -----------------------------------------------------------------


@given(generators(), st.integers(1, 6))
def test_logsumexp_has_the_softmax_as_gradient_and_its_covariance_as_hessian(rng, n):
    x = rng.uniform(-5, 5, n)
    p = scipy.special.softmax(x)
    # No entry is larger than 1, and rounding x by up to 5 epsilons moves p by as many.
    assert_near(logsumexp(x), scipy.special.logsumexp(x), 8, n)
    assert_near(log_softmax(x), scipy.special.log_softmax(x), 16, n)
    assert_near(grad(logsumexp)(x), p, 1, n)
    assert_near(jacobian(log_softmax)(x), np.eye(n) - p, 1, n)
    assert_near(hessian(logsumexp)(x), np.diag(p) - np.outer(p, p), 1, n)


def test_logsumexp_of_huge_numbers_overflows_nowhere():
    x = np.array([1e4, 1e4, -1e4])
    assert linearize(logsumexp, x).value == 1e4 + np.log(2)
    # Rounding the largest number moves the probabilities by 10⁴ epsilons.
    assert_near(grad(logsumexp)(x), [0.5, 0.5, 0], 1e4, terms=3)
    assert_near(grad(lambda x: log_softmax(x)[0])(x), [0.5, -0.5, 0], 1e4, terms=3)


@given(generators(), st.integers(1, 6), st.sampled_from([1e4, -1e4, 1e9]))
def test_log_softmax_loses_nothing_to_a_common_offset(rng, n, offset):
    x = offset + rng.uniform(-5, 5, n)  # as it is rounded here; the differences below are exact
    assert_near(log_softmax(x), scipy.special.log_softmax(x - x[0]), 16, n)


def test_logsumexp_of_a_case_ruled_out_by_minus_infinity():
    x = np.array([-np.inf, 0.0, 0.0])
    np.testing.assert_array_equal(grad(logsumexp)(x), [0, 0.5, 0.5])


@pytest.mark.parametrize("function", [logsumexp, log_softmax])
def test_an_axis_that_is_not_there_is_refused(function):
    with pytest.raises(np.exceptions.AxisError, match="axis 2 is out of bounds for an array with 2 axes"):
        function(POINT, axis=2)


# --- where derivatives need a convention ----------------------------------------------------------

CONVENTIONS = [
    ("abs at 0", abs, [0.0], [0.0]),
    ("maximum with the traced argument first", lambda x: np.maximum(x, 1.0), [1.0], [1.0]),
    ("maximum with the traced argument second", lambda x: np.maximum(1.0, x), [1.0], [0.0]),
    ("minimum with the traced argument first", lambda x: np.minimum(x, 1.0), [1.0], [1.0]),
    ("minimum with the traced argument second", lambda x: np.minimum(1.0, x), [1.0], [0.0]),
    ("maximum of itself", lambda x: np.maximum(x, x), [1.0, -2.0], [1.0, 1.0]),
    ("minimum of itself", lambda x: np.minimum(x, x), [1.0, -2.0], [1.0, 1.0]),
    ("clip at its bounds", lambda x: np.clip(x, -1.0, 1.0), [-1.0, 1.0, -1.5, 1.5, 0], [1.0, 1.0, 0, 0, 1]),
    ("max of equals", np.max, [2.0, 1.0, 2.0, 2.0], [1 / 3, 0, 1 / 3, 1 / 3]),
    ("min of equals", np.min, [2.0, 1.0, 1.0, 2.0], [0, 0.5, 0.5, 0]),
    (
        "max of equals over an axis",
        lambda x: np.max(x.reshape(2, 2), axis=1),
        [1.0, 1.0, 0, 3],
        [0.5, 0.5, 0, 1],
    ),
    ("x ** 0 at 0", lambda x: x**0, [0.0, 2.0], [0.0, 0.0]),
    ("x ** 1 at 0", lambda x: x**1, [0.0, 2.0], [1.0, 1.0]),
    ("x ** 2 at 0", lambda x: x**2.0, [0.0, -3.0], [0.0, -6.0]),
    ("x ** 3 left of 0", lambda x: x**3, [-2.0], [12.0]),
    ("x ** [0, 1, 2]", lambda x: x ** np.arange(3), [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
    ("0 ** x", lambda x: 0.0**x, [1.0, 2.5], [0.0, 0.0]),
    ("[0, 1] ** x", lambda x: np.array([0.0, 1.0]) ** x, [2.0, 2.0], [0.0, 0.0]),
    (
        "a mask hides a pole",
        lambda x: np.where(x > 0, 1 / np.where(x > 0, x, 1.0), 0.0),
        [0.0, 2.0],
        [0, -0.25],
    ),
]


@pytest.mark.parametrize(
    ("function", "x", "expected"), [pytest.param(*case[1:], id=case[0]) for case in CONVENTIONS]
)
def test_derivatives_at_kinks_and_corners(function, x, expected):
    np.testing.assert_array_equal(grad(lambda x: np.sum(function(x)))(np.array(x)), expected)


@given(generators())
@pytest.mark.parametrize("power", [operator.pow, np.power])
def test_powers_of_numpys_scalars_are_its_own_to_the_bit(power, rng):
    # A NumPy scalar's ** is C's pow, and np.power is not: one value in twenty differs in the last bit.
    for f in (lambda x: power(x[0], 3), lambda x: power(2.5, x[1]), lambda x: power(x[0], x[1])):
        for x in rng.uniform(0.5, 2, (16, 2)):
            assert_same_bits(linearize(f, x).value, f(x))


def test_powers_have_second_derivatives_at_zero():
    slopes = hessian(lambda x: np.sum(x ** np.arange(4)))(np.zeros(4))
    np.testing.assert_array_equal(slopes, np.diag([0.0, 0, 2, 0]))


# --- shapes and operands out of the ordinary ------------------------------------------------------


@pytest.mark.parametrize("case", [c for c in ELEMENTWISE if len(c[2]) == 1], ids=lambda case: case[0])
def test_a_python_number_is_differentiated_as_an_array_without_axes(case):
    _, function, ((low, high),) = case
    x = (low + 3 * high) / 4
    value, slope = jvp(function, x, 1.0)
    assert (np.shape(value), np.shape(slope), np.shape(grad(function)(x))) == ((), (), ())
    assert slope == grad(function)(x) == grad(lambda x: np.sum(function(x)))(np.array([x]))[0]


EMPTY = [
    ("x * 2", lambda x: x * 2, (0, 3)),
    ("x * y", lambda x: x * np.ones((4, 1, 3)), (4, 0, 3)),
    ("sum", lambda x: np.sum(x, axis=0), (3,)),
    ("max", lambda x: np.max(x, axis=1), (0,)),
    ("reshape", lambda x: x.reshape(3, 0, 1), (3, 0, 1)),
    ("transpose", lambda x: x.T, (3, 0)),
    ("matmul", lambda x: x.T @ x, (3, 3)),
    ("an empty product", lambda x: x @ np.ones((3, 2)), (0, 2)),
    ("slice", lambda x: x[:, 1:], (0, 2)),
    ("no integers", lambda x: x[np.zeros(0, int)], (0, 3)),
    ("mask", lambda x: x[np.zeros((0, 3), bool)], (0,)),
    ("concatenate", lambda x: np.concatenate([x, x, np.ones((2, 3))]), (2, 3)),
    ("stack", lambda x: np.stack([x, x]), (2, 0, 3)),
    ("broadcast_to", lambda x: np.broadcast_to(x, (2, 0, 3)), (2, 0, 3)),
    ("logsumexp", lambda x: logsumexp(x, axis=1), (0,)),
    ("log_softmax", lambda x: log_softmax(x, axis=1), (0, 3)),
]


@pytest.mark.parametrize(("function", "shape"), [pytest.param(f, shape, id=name) for name, f, shape in EMPTY])
def test_an_array_without_elements_passes_through(function, shape):
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
    x, numbers = np.array([1.5, 2.5, 3.5]), [2.0, 3.0, 1.0]
    for in_list, in_array in [
        (lambda x: operation(x, numbers), lambda x: operation(x, np.array(numbers))),
        (lambda x: operation(numbers, x), lambda x: operation(np.array(numbers), x)),
    ]:
        assert_same_bits(linearize(in_list, x).value, in_list(x))
        assert_same_bits(jacobian(in_list)(x), jacobian(in_array)(x))


def test_dot_with_a_right_operand_of_three_axes_is_refused():
    with pytest.raises(NotImplementedError, match=r"np\.dot has no derivative rule for a right operand"):
        grad(lambda x: np.sum(np.dot(x, np.ones((2, 3, 2)))))(np.ones(3))


def test_integers_with_repeats_add_up_and_do_not_overwrite():
    index = np.array([1, 1, 1, 0])
    np.testing.assert_array_equal(grad(lambda x: np.sum(x[index]))(np.ones(3)), [1, 3, 0])
    np.testing.assert_array_equal(jvp(lambda x: x[index], np.ones(3), np.arange(3.0))[1], [1, 1, 1, 0])
