"""Derivatives from plain NumPy at complex points, in which the engine has no part.

Order one is the complex step. Order two is Cauchy's formula for the second Taylor coefficient on a
circle around the point (Lyness and Moler, 1967), which is exact to rounding as well.

How far a result may be from its oracle follows from how both are computed. A sum of n products is
off by at most n machine epsilons of the sum of their absolute values. On the tests' domains every
factor takes at most eight operations, and none of these multiplies a relative error by more than
eight, so 64 more epsilons cover the factors.
"""

from __future__ import annotations

import numpy as np

from npTRPO.autograd import jvp, linearize, vjp

STEP = 1e-100
POINTS, RADIUS = 16, 1 / 16  # what the domains keep away from singularities is eight times the radius
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


def complex_step(f, xs):
    """Jacobian of f(*xs) in each argument, as a matrix."""
    matrices = []
    for k, x in enumerate(xs):
        moved = np.repeat(x.reshape(1, -1), x.size, axis=0) + 1j * STEP * np.eye(x.size)
        columns = [np.imag(f(*xs[:k], row.reshape(x.shape), *xs[k + 1 :])).ravel() / STEP for row in moved]
        matrices.append(np.stack(columns, axis=-1) if columns else np.zeros((np.size(f(*xs)), 0)))
    return matrices


def second_derivative(f, xs, vs, ws):
    """D²f[v, w], and the largest number that went into it."""
    circle = np.exp(2j * np.pi * np.arange(POINTS) / POINTS)
    largest = 0.0

    def along(direction):
        nonlocal largest
        values = [f(*(x + RADIUS * c * d for x, d in zip(xs, direction, strict=True))) for c in circle]
        largest = max(largest, float(np.max(np.abs(values), initial=0)))
        return np.real(np.tensordot(circle**-2, values, 1)) * 2 / (POINTS * RADIUS**2)

    plus = [v + w for v, w in zip(vs, ws, strict=True)]
    minus = [v - w for v, w in zip(vs, ws, strict=True)]
    return (along(plus) - along(minus)) / 4, largest


def assert_derivatives(f, *xs, plain=None, cancels=0):
    """Value to the bit, order one by both modes, and order two by all four nestings of the modes.

    ``plain`` is the same function for complex numbers, where NumPy has no complex version of ``f``.
    ``cancels`` bounds what cancels within an entry of the Jacobian, such as the 1 in 1 − p.
    """
    analytic = f if plain is None else plain

    def packed(parts):
        return f(*parts)

    lin = linearize(packed, xs)
    assert_same_bits(lin.value, f(*xs))
    rng = np.random.default_rng(7)
    vs, ws = (tuple(np.asarray(rng.uniform(-0.5, 0.5, x.shape)) for x in xs) for _ in range(2))
    u = np.asarray(rng.uniform(-1, 1, lin.value.shape))
    terms = max([u.size, sum(x.size for x in xs)])

    jacobians = complex_step(analytic, xs)
    expected = sum(J @ v.ravel() for J, v in zip(jacobians, vs, strict=True))
    magnitude = sum((np.abs(J) + cancels) @ np.abs(v.ravel()) for J, v in zip(jacobians, vs, strict=True))
    assert_near(lin.jvp(vs), expected.reshape(u.shape), magnitude.reshape(u.shape), terms)
    for x, J, cotangent in zip(xs, jacobians, lin.vjp(u), strict=True):
        expected, magnitude = u.ravel() @ J, np.abs(u.ravel()) @ (np.abs(J) + cancels)
        assert_near(cotangent, expected.reshape(x.shape), magnitude.reshape(x.shape), terms)

    def forward(z):
        return jvp(packed, z, vs)[1]

    def backward(z):
        return vjp(packed, z)[1](u)

    curvature, largest = second_derivative(analytic, xs, vs, ws)
    # Cauchy's sum is off by the rounding of f, whose terms are bounded by its values and arguments.
    magnitude = 2 / RADIUS**2 * (largest + sum(float(np.max(np.abs(x), initial=0)) for x in xs))
    assert_near(jvp(forward, xs, ws)[1], curvature, magnitude, terms)
    weighed, magnitude = np.sum(u * curvature), magnitude * np.sum(np.abs(u))
    assert_near(_dot(vjp(forward, xs)[1](u), ws), weighed, magnitude, terms)
    assert_near(_dot(jvp(backward, xs, ws)[1], vs), weighed, magnitude, terms)
    assert_near(_dot(vjp(backward, xs)[1](vs), ws), weighed, magnitude, terms)


def _dot(left, right):
    return sum(np.sum(a * b) for a, b in zip(left, right, strict=True))
