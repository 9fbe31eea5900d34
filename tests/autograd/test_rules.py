"""Every function that the engine knows, in the list of cases, and derivatives that need a convention."""

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
    hvp,
    jacobian,
    linearize,
    log_softmax,
    logsumexp,
    softmax,
    supported_functions,
)
from npTRPO.policies.mlp import relu
from tests.autograd.cases import CASES, COMPLEX_CASES, CONSTANTS, POINT
from tests.autograd.oracles import assert_near, assert_same_bits, each_of
from tests.strategies import generators

SUPPORTED = supported_functions()  # before any test has added its own

every_case = pytest.mark.parametrize("case", CASES, ids=repr)
every_complex_case = pytest.mark.parametrize("case", COMPLEX_CASES, ids=repr)


class Spy(np.ndarray):
    """An array that notes which functions NumPy is asked for."""

    seen = set()  # noqa: RUF012 (of all arrays)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        self.seen.add(ufunc)
        plain = [np.array(x, subok=False) if isinstance(x, Spy) else x for x in (*inputs, *kwargs.values())]
        keywords = dict(zip(kwargs, plain[len(inputs) :], strict=True))
        return np.array(getattr(ufunc, method)(*plain[: len(inputs)], **keywords), subok=False).view(Spy)

    def __array_function__(self, func, types, args, kwargs):
        self.seen.add(func)
        return super().__array_function__(func, types, args, kwargs)


def test_the_cases_leave_no_function_out():
    for function in [*(case.function for case in CASES), *CONSTANTS.values()]:
        function(POINT.view(Spy))
    assert {name for name, function in SUPPORTED.items() if function not in Spy.seen} == set()


def hvp_of_squares(function, x, v):
    return hvp(lambda z: np.sum(np.square(function(z))), x, v)


@every_case
def test_a_traced_value_is_the_plain_one_to_the_bit(case):
    for x in (POINT, POINT.astype(np.float32)):
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
def test_complex_stays_complex_and_its_derivatives_are_complex_linear(case):
    for dtype in (np.complex128, np.complex64):
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
    assert_near(grad(logsumexp)(x), [0.5, 0.5, 0], 1, terms=3)
    assert_near(grad(lambda x: log_softmax(x)[0])(x), [0.5, -0.5, 0], 1, terms=3)


@given(generators(), st.integers(1, 6), st.sampled_from([1e4, -1e4, 1e9]))
def test_log_softmax_and_logsumexp_lose_nothing_to_a_common_offset(rng, n, offset):
    x = offset + rng.uniform(-5, 5, n)  # as it is rounded here; the differences below are exact
    p = scipy.special.softmax(x - x[0])
    assert_near(log_softmax(x), scipy.special.log_softmax(x - x[0]), 16, n)
    assert_near(grad(logsumexp)(x), p, 1, n)
    assert_near(hessian(logsumexp)(x), np.diag(p) - np.outer(p, p), 1, n)


@each_of(
    "function, x, expected",
    {
        "expm1 of a large negative number": (np.expm1, -40.0, np.exp(-40.0)),
        "xlog1py of a small number": (lambda x: scipy.special.xlog1py(x, 1e-12), 2.0, np.log1p(1e-12)),
        "arcsin near 1": (np.arcsin, 1 - 2.0**-40, 2.0**19.5 / np.sqrt(1 - 2.0**-41)),
        "arctanh near 1": (np.arctanh, 1 - 2.0**-40, 2.0**39 / (1 - 2.0**-41)),
        "log_expit of a large number": (scipy.special.log_expit, 40.0, np.exp(-40.0)),
        "logaddexp with a larger number": (lambda x: np.logaddexp(x, 40.0), 0.0, np.exp(-40.0)),
        "arctan2 of small numbers": (lambda x: np.arctan2(x, 1e-200), 1e-200, 0.5e200),
        "hypot of large numbers": (lambda x: np.hypot(x, 3e200), 4e200, 0.8),
    },
)
def test_derivatives_keep_their_digits_where_a_formula_could_lose_them(function, x, expected):
    np.testing.assert_allclose(grad(function)(x), expected, rtol=1e-14)


def test_logsumexp_of_a_case_ruled_out_by_minus_infinity():
    x = np.array([-np.inf, 0.0, 0.0])
    np.testing.assert_array_equal(grad(logsumexp)(x), [0, 0.5, 0.5])


# --- where derivatives need a convention ----------------------------------------------------------

CONVENTIONS = {
    "abs at 0": (abs, [0.0], [0.0]),
    "maximum with the traced argument first": (lambda x: np.maximum(x, 1.0), [1.0], [0.5]),
    "maximum with the traced argument second": (lambda x: np.maximum(1.0, x), [1.0], [0.5]),
    "minimum with the traced argument first": (lambda x: np.minimum(x, 1.0), [1.0], [0.5]),
    "minimum with the traced argument second": (lambda x: np.minimum(1.0, x), [1.0], [0.5]),
    "fmax of equals": (lambda x: np.fmax(x, 1.0), [1.0, 2.0, 0.0], [0.5, 1.0, 0.0]),
    "fmax and fmin beside not-a-number": (lambda x: np.fmax(x, np.nan) + np.fmin(np.nan, x), [1.0], [2.0]),
    "the softplus in its stable form": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-abs(x))), [0.0], [0.5]),
    "relu at 0": (relu, [0.0, -1.0, 1.0], [0.0, 0.0, 1.0]),
    "maximum of itself": (lambda x: np.maximum(x, x), [1.0, -2.0], [1.0, 1.0]),
    "minimum of itself": (lambda x: np.minimum(x, x), [1.0, -2.0], [1.0, 1.0]),
    "clip at its bounds": (lambda x: np.clip(x, -1.0, 1.0), [-1.0, 1.0, -1.5, 1.5, 0], [1.0, 1.0, 0, 0, 1]),
    "max of equals": (np.max, [2.0, 1.0, 2.0, 2.0], [1 / 3, 0, 1 / 3, 1 / 3]),
    "min of equals": (np.min, [2.0, 1.0, 1.0, 2.0], [0, 0.5, 0.5, 0]),
    "max of equals over an axis": (
        lambda x: np.max(x.reshape(2, 2), axis=1),
        [1.0, 1.0, 0, 3],
        [0.5, 0.5, 0, 1],
    ),
    "clip's lower bound at its bound": (lambda x: np.clip(1.0, x, 2.0), [1.0, 1.5], [0.0, 1.0]),
    "max and its initial value": (lambda x: np.max(x, initial=2.0), [2.0, 1.0], [0.5, 0.0]),
    "abs and fabs at 0": (lambda x: np.fabs(x) + np.hypot(x, 0.0), [0.0], [0.0]),
    "the norm of 0": (
        lambda x: np.linalg.norm(x) + np.linalg.norm(x, 3) + np.linalg.norm(x, 1),
        [0.0] * 2,
        [0.0] * 2,
    ),
    "the deviation of equals": (lambda x: np.std(x), [2.0, 2.0], [0.0, 0.0]),
    "logaddexp of the same infinities": (lambda x: np.logaddexp(x[:1], x[1:]), [-np.inf] * 2, [0.5, 0.5]),
    "logaddexp of unequal infinities": (lambda x: np.logaddexp(x[:1], x[1:]), [np.inf, -np.inf], [1.0, 0.0]),
    "arctan2 at 0": (lambda x: np.arctan2(x[0], x[1]), [0.0, 0.0], [0.0, 0.0]),
    "remainders of a multiple, as rounded": (
        lambda x: np.remainder(1.0, x) + np.fmod(1.0, x),
        [0.1],
        [-18.0],
    ),
    "remainder by infinity": (lambda x: np.remainder(-1.0, x), [np.inf], [1.0]),
    "0 log 0": (
        lambda x: scipy.special.xlogy(x[0], x[1]) + scipy.special.xlogy(x[0], x[2]),
        [0.0, 0.0, np.e],
        [1.0, 0.0, 0.0],
    ),
    "products with zeros": (
        lambda x: np.prod(x[:3]) + np.prod(x[3:]),
        [2.0, 0.0, 3.0, 0.0, 0.0],
        [0.0, 6.0, 0, 0, 0],
    ),
    "sorting equals": (np.sort, [1.0, 1.0], [1.0, 1.0]),
    "logsumexp of inf": (logsumexp, [np.inf, 1e4, np.inf], [0.5, 0.0, 0.5]),
    "logsumexp of -inf": (logsumexp, [-np.inf, -np.inf], [0.0, 0.0]),
    "logsumexp of rows": (
        lambda x: logsumexp(x.reshape(2, 2), 1),
        [-np.inf, 0, np.inf, 1],
        [0, 1.0, 1.0, 0.0],
    ),
    "x ** 0 at 0": (lambda x: x**0, [0.0, 2.0], [0.0, 0.0]),
    "x ** 1 at 0": (lambda x: x**1, [0.0, 2.0], [1.0, 1.0]),
    "x ** 2 at 0": (lambda x: x**2.0, [0.0, -3.0], [0.0, -6.0]),
    "x ** 3 left of 0": (lambda x: x**3, [-2.0], [12.0]),
    "x ** [0, 1, 2]": (lambda x: x ** np.arange(3), [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
    "0 ** x": (lambda x: 0.0**x, [1.0, 2.5], [0.0, 0.0]),
    "[0, 1] ** x": (lambda x: np.array([0.0, 1.0]) ** x, [2.0, 2.0], [0.0, 0.0]),
    "a mask hides a pole": (
        lambda x: np.where(x > 0, 1 / np.where(x > 0, x, 1.0), 0.0),
        [0.0, 2.0],
        [0, -0.25],
    ),
}


@each_of("function, x, expected", CONVENTIONS)
def test_derivatives_at_kinks_and_corners(function, x, expected):
    np.testing.assert_array_equal(grad(lambda x: np.sum(function(x)))(np.array(x)), expected)


@given(generators())
@pytest.mark.parametrize("power", [operator.pow, np.power])
def test_powers_of_numpys_scalars_are_its_own_to_the_bit(power, rng):
    # A NumPy scalar's ** is C's pow, and np.power is not: one value in twenty differs in the last bit.
    for f in (lambda x: power(x[0], 3), lambda x: power(2.5, x[1]), lambda x: power(x[0], x[1])):
        for x in rng.uniform(0.5, 2, (16, 2)):
            assert_same_bits(linearize(f, x).value, f(x))


@pytest.mark.parametrize(
    ("x", "y"), [(2.0, 0.0), (0.5, 0.0), (2.0, 1.0), (3.0, -1.0), (0.0, 2.0), (0.0, 3.0)]
)
def test_powers_have_mixed_second_derivatives_at_exponents_and_bases_of_zero(x, y):
    log, power = (np.log(x), x**y) if x else (0.0, 0.0)  # x² log x and x log x have the limit 0
    mixed = x ** (y - 1) * (1 + y * log)
    expected = [[y * (y - 1) * x ** (y - 2), mixed], [mixed, power * log**2]]
    ours = hessian(lambda xy: xy[0] ** xy[1])(np.array([x, y]))
    np.testing.assert_allclose(ours, expected, rtol=1e-14)


def test_a_division_by_zero_warns_as_numpys_does():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        lin = linearize(lambda x: x / 0, np.ones(2, np.float32))
    assert_same_bits(lin.value, np.full(2, np.inf, np.float32))
    assert_same_bits(lin.jvp(np.ones(2, np.float32)), lin.value)


INFINITIES = [
    [-np.inf, -np.inf],
    [np.inf, 0.0],
    [np.inf, np.inf],
    [-np.inf, 1.0],
    [np.inf, -np.inf],
    [np.nan, 1.0],
]


@pytest.mark.parametrize("x", INFINITIES)
def test_logsumexp_of_infinities_is_that_of_scipy(x):
    np.testing.assert_array_equal(logsumexp(np.array(x)), scipy.special.logsumexp(x))


def test_logsumexp_takes_negative_factors_and_none():
    x = np.log([3.0, 1.0, 7.0])
    assert_near(logsumexp(x, b=[2.0, -1.0, 0.0]), np.log(5.0), 8, 3)
    assert logsumexp(np.array([0.0, np.inf]), b=[1.0, 0.0]) == 0
    np.testing.assert_array_equal(grad(lambda b: logsumexp(np.zeros(2), b=b))(np.array([1.0, 0.0])), [1, 1])


@given(generators(), st.integers(1, 4))
def test_logsumexp_with_factors_and_softmax_are_those_of_scipy(rng, n):
    x, b = rng.uniform(-5, 5, (3, n)), rng.uniform(0.5, 2, n)
    for axis in (None, 0, (1,)):
        ours, theirs = logsumexp(x, axis, b=b), scipy.special.logsumexp(x, axis, b=b)
        assert_near(ours, theirs, 8, 3 * n)
    assert_near(softmax(x, 1), scipy.special.softmax(x, 1), 16, n)


def test_powers_have_second_derivatives_at_zero():
    slopes = hessian(lambda x: np.sum(x ** np.arange(4)))(np.zeros(4))
    np.testing.assert_array_equal(slopes, np.diag([0.0, 0, 2, 0]))
