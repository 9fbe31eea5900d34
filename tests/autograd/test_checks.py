import re

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from npTRPO.autograd import LinearMap, check_derivatives, define_rule, primitive
from tests.autograd.oracles import each_of
from tests.strategies import arrays

X = np.array([0.3, -1.2, 0.7])
A = np.array([[1.0, 2.0, 0.5], [-1.0, 1.0, 3.0], [0.5, 0.25, -2.0]])


def function_with(rule, function=np.sin):
    """A function of the caller's own with this rule."""
    step = primitive(lambda *args: function(*args))
    define_rule(step, *rule) if isinstance(rule, tuple) else define_rule(step, rule)
    return step


def right(ans, x):
    return np.cos(x)


def scaled(factor):
    return function_with(lambda ans, x: factor * np.cos(x))


def cut():
    """sin, right at order one, whose residual says that it is constant."""
    cosine = function_with(lambda ans, x: np.zeros_like(x), np.cos)
    return function_with(lambda ans, x: cosine(x))


def by_maps(jvp, vjp, function=lambda x: A @ x):
    return function_with(lambda ans, x: LinearMap(jvp, vjp), function)


def curved_by(factor):
    """sin, whose second derivative is wrong by a factor."""
    cosine = function_with(lambda ans, x: -factor * np.sin(x), np.cos)
    return function_with(lambda ans, x: cosine(x))


# --- what is wrong must fail ------------------------------------------------------------------------

FORWARD, TRANSPOSE = "J v of f, against the complex_step", "⟨u, J v⟩ of f, against ⟨Jᵀ u, v⟩"
WRONG = {
    "a factor of 1 + 1e-6": (scaled(1 + 1e-6), FORWARD),
    "a factor of 1 - 1e-9": (scaled(1 - 1e-9), FORWARD),
    "a sign": (scaled(-1), FORWARD),
    "a missing derivative": (scaled(0), FORWARD),
    "not a number": (scaled(np.nan), FORWARD),
    "one element": (function_with(lambda ans, x: np.cos(x) + 1e-6 * (x == X[1])), FORWARD),
    "a jvp that isn't the function's": (by_maps(lambda t: A.T @ t, lambda g: A @ g), FORWARD),
    "a vjp that isn't the jvp's transpose": (by_maps(lambda t: A @ t, lambda g: A @ g), TRANSPOSE),
    "a vjp of the wrong sign": (by_maps(lambda t: A @ t, lambda g: -(A.T @ g)), TRANSPOSE),
    "a vjp wrong by 1e-6": (by_maps(lambda t: A @ t, lambda g: (1 + 1e-6) * (A.T @ g)), TRANSPOSE),
    "a vjp of nothing": (by_maps(lambda t: A @ t, lambda g: 0 * g), TRANSPOSE),
}


@each_of("f, found", WRONG)
@pytest.mark.parametrize("order", [1, 2])
def test_a_wrong_rule_fails_and_the_check_says_where(f, found, order):
    with pytest.raises(AssertionError, match=f"^{re.escape(found)}: relative error"):
        check_derivatives(f, X, order=order)


@given(st.floats(1e-7, 1.0), st.sampled_from([-1, 1]), arrays((3,), 0.2, 1.2))
def test_a_factor_fails_wherever_it_is_checked(excess, sign, x):
    # cos > 0.36 here, and the directions of the checker's own generator are fixed: the largest is above 0.6.
    with pytest.raises(AssertionError, match="J v of f"):
        check_derivatives(scaled(1 + sign * excess), x, order=1)


@pytest.mark.parametrize("f", [cut(), curved_by(1 + 1e-6), curved_by(-1)], ids=["cut", "factor", "sign"])
def test_a_rule_that_is_wrong_from_order_two_passes_at_order_one_and_fails_at_order_two(f):
    check_derivatives(f, X, order=1)
    with pytest.raises(AssertionError, match=re.escape("J v of (f' v), against the complex_step")):
        check_derivatives(f, X, order=2)


def test_a_rule_that_is_wrong_from_order_three_passes_at_order_two():
    sine = curved_by(1)
    third = function_with(lambda ans, x: cut()(x), lambda x: -np.cos(x))
    check_derivatives(sine, X, order=3)
    check_derivatives(third, X, order=2)
    with pytest.raises(AssertionError, match=re.escape("J v of ((f' v)' v)")):
        check_derivatives(third, X, order=3)


def test_a_vjp_that_is_cut_from_the_trace_fails_at_order_two():
    constant = function_with(lambda ans, x: np.zeros_like(x), lambda x: +x)
    f = function_with(lambda ans, x: LinearMap(lambda t: t * np.cos(x), lambda g: g * constant(np.cos(x))))
    check_derivatives(f, X, order=1)
    with pytest.raises(AssertionError, match=re.escape("J v of (uᵀ f')")):
        check_derivatives(f, X, order=2)


# A sum over the copies, or the copies themselves, give the right number in any product with a direction,
# so that only the shape tells.
SHAPES = {
    "a vjp not summed": (lambda t: t + np.zeros(3), lambda g: g, "Jᵀ u of f: shape (3,) instead of (1,)"),
    "a vjp without its axis": (lambda t: t + np.zeros(3), np.sum, "Jᵀ u of f: shape () instead of (1,)"),
    "a jvp not copied": (lambda t: t, lambda g: np.sum(g)[None], "step: shape (1,) instead of (3,)"),
}


@each_of("jvp, vjp, found", SHAPES)
def test_a_derivative_of_the_wrong_shape_fails(jvp, vjp, found):
    with pytest.raises(AssertionError, match=re.escape(found)):
        check_derivatives(by_maps(jvp, vjp, lambda x: x + np.zeros(3)), np.ones(1))


PARTLY_WRONG = {
    "the second argument": function_with((lambda ans, x, y: y, lambda ans, x, y: 1.001 * x), np.multiply),
    "the first argument": function_with((lambda ans, x, y: 1.001 * y, lambda ans, x, y: x), np.multiply),
}


@each_of("f", PARTLY_WRONG)
def test_one_wrong_argument_or_output_of_several_fails(f):
    with pytest.raises(AssertionError, match="J v of f"):
        check_derivatives(lambda xy: f(*xy), (X, X + 1))
    with pytest.raises(AssertionError, match="J v of f"):
        check_derivatives(lambda xy: (xy[0], np.sin(xy[1]), f(*xy)), (X, X + 1))


# --- what is right must pass ------------------------------------------------------------------------

RIGHT = {
    "a rule of one's own": function_with(right),
    "linear maps of one's own": by_maps(lambda t: A @ t, lambda g: A.T @ g),
    "a composition": lambda x: np.log(1 + np.exp(np.tanh(A @ x))),
    "a scalar value": lambda x: x @ A @ x,
    "several values": lambda x: (x * x, np.sum(x), A @ x),
    "a constant": lambda x: np.ones(2),
    "a matrix": lambda x: x[:, None] * x,
}


@each_of("f", RIGHT)
@pytest.mark.parametrize("method", ["complex step", "central difference"])
def test_a_right_rule_passes_at_order_three(f, method):
    assert check_derivatives(f, X, order=3, method=method) is None


def test_tuples_numbers_and_integers_are_points_to_check_at():
    seen = []

    def f(xy):
        seen.append([np.asarray(getattr(part, "value", part)).dtype for part in xy])
        return xy[0] * np.sin(xy[1])

    check_derivatives(f, (2, [1, 2]), order=1)
    assert seen[0] == [np.float64, np.float64]
    with pytest.raises(AssertionError, match="J v of f"):
        check_derivatives(scaled(2), 1)


def test_what_is_not_analytic_is_checked_by_central_differences():
    check_derivatives(lambda x: abs(x) * scipy.special.expit(x), X, method="central difference")
    with pytest.raises(AssertionError, match="against the central_difference"):
        check_derivatives(scaled(1 + 1e-4), X, method="central difference")
    with pytest.raises(AssertionError, match=re.escape("J v of (f' v), against the central_difference")):
        check_derivatives(cut(), X, method="central difference")


# --- options ------------------------------------------------------------------------------------------


def test_the_tolerance_can_be_chosen():
    check_derivatives(scaled(1 + 1e-6), X, order=1, rtol=1e-5)
    with pytest.raises(AssertionError, match="exceeds 1e-07"):
        check_derivatives(scaled(1 + 1e-6), X, order=1, rtol=1e-7)


def test_the_directions_come_from_the_given_generator():
    def error(**options):
        with pytest.raises(AssertionError) as info:
            check_derivatives(scaled(1.5), X, **options)
        return str(info.value)

    assert error() == error() == error(rng=np.random.default_rng(0))
    assert error(rng=np.random.default_rng(1)) != error()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order must be at least 1, not 0"),
        ({"order": -1}, "order must be at least 1, not -1"),
        (
            {"method": "forward difference"},
            "method must be 'complex step' or 'central difference', not 'forward",
        ),
    ],
)
def test_an_unknown_option_is_refused_before_anything_runs(options, message):
    def f(x):
        raise RuntimeError("this ran")

    with pytest.raises(ValueError, match=message):
        check_derivatives(f, X, **options)
