"""Random programs against the complex step: views, aliases, fan-out, several inputs and outputs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

from npTRPO.autograd import grad, hvp, linearize, log_softmax, logsumexp
from npTRPO.policies.mlp import affine
from tests.autograd.oracles import along, assert_same_bits, dot, each, parts

EPS = np.finfo(float).eps
# All axes have length 1 or 3, so that any two arrays broadcast.
SHAPES = [(), (3,), (1, 3), (3, 1), (3, 3), (1, 3, 3)]
MASK = np.array([True, False, True])


class Plain:
    """What NumPy has no analytic version of for complex numbers, by the order of real parts."""

    abs = staticmethod(lambda x: np.where(x < 0, -x, x))
    expit = staticmethod(lambda x: 1 / (1 + np.exp(-x)))


class Traced:
    abs = np.abs
    expit = scipy.special.expit


def square(x):
    """Three rows and columns of any array of the programs."""
    return np.broadcast_to(x if x.ndim < 3 else x[0], (3, 3))


def axis_of(x, k):
    return k % x.ndim if x.ndim else None


# Of arrays x and y, a whole number k and the functions above; all values are bounded by 9, slopes by 16.
VIEWS: list[Callable[..., Any]] = [
    lambda x, y, k, m: x,
    lambda x, y, k, m: +x,
    lambda x, y, k, m: x.T,
    lambda x, y, k, m: np.transpose(square(x), (k % 2, 1 - k % 2)),
    lambda x, y, k, m: np.swapaxes(square(x), 0, -1),
    lambda x, y, k, m: x[...],
    lambda x, y, k, m: square(x)[k % 3],
    lambda x, y, k, m: square(x)[:, k % 3 : k % 3 + 1],
    lambda x, y, k, m: square(x)[::-1, None, 0],
    lambda x, y, k, m: np.reshape(square(x), (1, 3, 3)),
    lambda x, y, k, m: square(x).ravel()[2:8:2],
    lambda x, y, k, m: np.broadcast_to(x, np.broadcast_shapes(x.shape, (3,))),
    lambda x, y, k, m: np.squeeze(x),
    lambda x, y, k, m: np.expand_dims(square(x)[0], k % 2),
]
COMPUTATIONS: list[Callable[..., Any]] = [
    lambda x, y, k, m: x + y,
    lambda x, y, k, m: x - y,
    lambda x, y, k, m: -x,
    lambda x, y, k, m: x * y,
    lambda x, y, k, m: k * x + 0.5,
    lambda x, y, k, m: x / (2 + y * y),
    lambda x, y, k, m: (1.5 + np.sin(x)) ** y,
    lambda x, y, k, m: np.power(1.5 + np.cos(x), 1.5),
    lambda x, y, k, m: x**k,
    lambda x, y, k, m: 1.5**x,
    lambda x, y, k, m: np.exp(x) + np.expm1(y),
    lambda x, y, k, m: np.log(2 + np.sin(x)) + np.log1p(np.square(y)),
    lambda x, y, k, m: np.sqrt(2 + np.cos(x)) * np.tanh(y),
    lambda x, y, k, m: m.expit(x),
    lambda x, y, k, m: m.abs(x - 0.1),
    lambda x, y, k, m: np.maximum(x, y) + np.minimum(x, 0.3),
    lambda x, y, k, m: np.clip(x, -0.4, 0.6) + np.clip(x, y, None),
    lambda x, y, k, m: np.clip(x, 0.2, y),
    lambda x, y, k, m: np.where(MASK, x, y),
    lambda x, y, k, m: np.where(square(x) > square(y), square(x), 0.0),
    lambda x, y, k, m: np.sum(x, axis=axis_of(x, k)),
    lambda x, y, k, m: np.mean(x, axis=axis_of(x, k), keepdims=True) * y,
    lambda x, y, k, m: np.max(x, axis=axis_of(x, k)) - np.min(y),
    lambda x, y, k, m: square(x) @ square(y).T,
    lambda x, y, k, m: square(x)[0] @ square(y),
    lambda x, y, k, m: square(x) @ square(y)[:, k % 3],
    lambda x, y, k, m: np.dot(square(x)[1], square(y)[:, 0]),
    lambda x, y, k, m: np.reshape(x, (*x.shape[:-1], -1)[: x.ndim]) * y,
    lambda x, y, k, m: affine(square(x), np.concatenate([square(y), square(x)[:1]], axis=None), slice(None)),
    lambda x, y, k, m: logsumexp(square(x), axis=k % 2) + y,
    lambda x, y, k, m: log_softmax(square(x), axis=(0, 1)),
    lambda x, y, k, m: np.concatenate([square(x)[:1], square(y)[1:2], square(x)[2:]], axis=0),
    lambda x, y, k, m: np.stack([square(x)[0], square(y)[1], square(x)[0]], axis=k % 2),
    lambda x, y, k, m: square(x)[[2, 0, 0]],
    lambda x, y, k, m: square(x)[[0, 0, 1], [1, 1, k % 3]],
    lambda x, y, k, m: square(x)[np.eye(3) == 1],
    lambda x, y, k, m: np.take_along_axis(square(x), np.array([[1, 0, 1]] * 3), axis=k % 2),
    lambda x, y, k, m: np.einsum("ij,kj->ik", square(x), square(y)),
    lambda x, y, k, m: np.tensordot(square(x)[k], square(y), 0)[k] + np.outer(square(x)[k], square(y)[0]),
    lambda x, y, k, m: np.prod(square(x), axis=k % 2) + np.cumsum(square(y), axis=k % 2),
    lambda x, y, k, m: np.roll(square(x), k, axis=0) * np.flip(y),
    lambda x, y, k, m: np.pad(square(x), 1)[1:4, k : k + 3] - np.tril(square(y)),
    lambda x, y, k, m: np.sort(square(x), axis=k % 2) + np.diag(square(y)),
    lambda x, y, k, m: np.linalg.solve(square(x) + 4 * np.eye(3), square(y)),
    lambda x, y, k, m: np.hstack([np.ravel(x)[:1], np.split(square(y), 3)[k % 3][0, :2]]),
    lambda x, y, k, m: np.full_like(x, 2.0) * np.full_like(square(y), square(x)[0, 0]),
]
STEPS = 5


def program(seed):
    """A function of an array or a tuple of them, and a point; equal seeds give the same one."""
    rng = np.random.default_rng(seed)
    shapes = [SHAPES[i] for i in rng.integers(len(SHAPES), size=rng.integers(1, 4))]
    xs = tuple(np.asarray(rng.uniform(-1, 1, shape)) for shape in shapes)
    seed_of_steps, single = int(rng.integers(2**32)), len(xs) == 1

    def f(given, m=Traced):
        rng = np.random.default_rng(seed_of_steps)
        pool = [given] if single else list(given)
        for _ in range(STEPS):
            x, y = (pool[i] for i in rng.integers(len(pool), size=2))
            k = int(rng.integers(3))
            if rng.random() < 0.4:
                pool.append(VIEWS[rng.integers(len(VIEWS))](x, y, k, m))
            else:  # the sine keeps all numbers in (−1, 1)
                pool.append(np.sin(COMPUTATIONS[rng.integers(len(COMPUTATIONS))](x, y, k, m)))
        outputs = [pool[-1 - i] for i in rng.integers(len(pool) - 1, size=rng.integers(1, 4))]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    return f, (xs[0] if single else xs)


def check(seed):
    f, x = program(seed)
    rng = np.random.default_rng(seed)

    def direction(part):
        return np.asarray(rng.uniform(-1, 1, part.shape))

    def plain(z):
        return f(z, Plain)

    def assert_near(ours, expected, rounding):
        each(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=rounding), ours, expected)

    lin = linearize(f, x)
    each(assert_same_bits, lin.value, f(x))
    v, w, u = each(direction, x), each(direction, x), each(direction, lin.value)
    before = [part.tobytes() for tree in (v, u) for part in parts(tree)]
    forward, backward = lin.jvp(v), lin.vjp(u)
    each(assert_same_bits, lin.jvp(v), forward)  # nothing that is needed again was written into
    each(assert_same_bits, lin.vjp(u), backward)
    assert before == [part.tobytes() for tree in (v, u) for part in parts(tree)]
    # A step's slopes sum to at most 16, by which it multiplies the rounding of the steps before it.
    rounding = 64 * EPS * 16**STEPS
    assert_near(forward, along(plain, x, v), rounding)
    assert_near(dot(backward, v), dot(u, forward), rounding)
    assert_near(dot(backward, w), dot(u, along(plain, x, w)), rounding)
    # The gradient of a gradient goes through each step twice more.
    curvature = along(grad(lambda z: dot(plain(z), u)), x, v)
    assert_near(hvp(lambda z: dot(f(z), u), x, v), curvature, 16**2 * rounding)


SLOW = [pytest.param(first, marks=pytest.mark.slow) for first in range(150, 600, 50)]


@pytest.mark.parametrize("first", [*range(0, 150, 50), *SLOW])
def test_random_programs_have_the_derivatives_of_the_complex_step(first):
    for seed in range(first, first + 50):
        check(seed)
