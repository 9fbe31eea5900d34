"""Derivatives from plain NumPy at complex points, and comparisons with a tolerance that is derived.

How far a result may be from its oracle follows from how both are computed. A sum of n products is
off by at most n machine epsilons of the sum of their absolute values. On the tests' domains every
factor takes at most eight operations, and none of these multiplies a relative error by more than
eight, so 64 more epsilons cover the factors.
"""

import numpy as np
import pytest

from npTRPO.autograd import check_derivatives, linearize

STEP = 1e-100
FACTORS = 64


def assert_near(actual, expected, magnitude, terms, dtype=float):
    """Equal up to the rounding of a sum of ``terms`` products whose absolute values sum to ``magnitude``."""
    assert np.shape(actual) == np.shape(expected)
    error = np.abs(np.asarray(actual) - expected)
    allowed = (terms + FACTORS) * np.finfo(dtype).eps * np.asarray(magnitude)
    assert np.all(error <= allowed), f"{actual} is {error} from {expected}, but {allowed} are allowed"


def assert_same_bits(actual, expected):
    """Equal in shape, dtype and every bit."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    assert actual.tobytes() == expected.tobytes()


def curved(function):
    """A linear function made nonlinear on both sides, from positive numbers, so that no sum cancels."""
    return lambda x: np.square(function(np.exp(x)))


def parts(tree):
    return tree if isinstance(tree, tuple) else (tree,)


def each(function, *trees):
    """What a function gives for each array of tuples, or for arrays."""
    mapped = tuple(function(*arrays) for arrays in zip(*map(parts, trees), strict=True))
    return mapped if isinstance(trees[0], tuple) else mapped[0]


def dot(left, right):
    return sum(np.sum(a * b) for a, b in zip(parts(left), parts(right), strict=True))


def along(f, x, v):
    """Derivative of f at x along v, by the complex step."""
    return each(lambda part: np.imag(part) / STEP, f(each(lambda a, b: a + 1j * STEP * b, x, v)))


def complex_step(f, x):
    """Jacobian of f at x, as a matrix."""
    columns = [np.ravel(along(f, x, unit)) for unit in np.eye(x.size).reshape(x.size, *x.shape)]
    return np.stack(columns, axis=-1) if columns else np.zeros((np.size(f(x)), 0))


def assert_derivatives(f, *xs, **options):
    """Value to the bit, and derivatives of orders one and two in both modes."""
    assert_same_bits(linearize(lambda xs: f(*xs), xs).value, f(*xs))
    check_derivatives(lambda xs: f(*xs), xs, **options)


def each_of(names, table):
    """Run a test for every row of a table, whose keys say what each is."""
    return pytest.mark.parametrize(names, table.values(), ids=table)
