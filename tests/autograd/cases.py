"""One call of every function that the engine knows, as a list that tests of all rules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.special

from npTRPO.autograd import log_softmax, logsumexp
from npTRPO.policies.mlp import affine

__all__ = ["CASES", "COMPLEX_CASES", "CONSTANTS", "POINT", "Case"]

# Distinct numbers in (1/2, 2), 1/8 from each other and at least 1/32 from the constants below.
POINT = 0.53 + np.random.default_rng(0).permutation(12).reshape(3, 4) / 8
MASK = np.array([[True, False, True, True], [False, True, False, True], [True, True, False, False]])
ORDER = np.array([[2, 0, 1, 1], [0, 0, 1, 2]])


class Case(NamedTuple):
    """A function of one array shaped (3, 4)."""

    name: str
    function: Callable[[Any], Any]
    is_complex: bool = True  # whether NumPy has it for complex numbers, as an analytic function

    def __repr__(self) -> str:
        return self.name


def _twice(theta: Any, x: Any) -> Any:
    part = slice(1, 5)
    return affine(x[:, :1], theta, part) + affine(2 * x[:, 1:2], theta, part)


CASES = [
    Case("x + y", lambda x: x + x[0]),
    Case("x + 2", lambda x: 2 + x + 2.5),
    Case("x - y", lambda x: x[:, :1] - x),
    Case("2 - x", lambda x: 2 - x - 0.5),
    Case("x * y", lambda x: x * x[:, 1:2]),
    Case("3 * x", lambda x: 3 * x * 0.7),
    Case("x / y", lambda x: x / x[1]),
    Case("1 / x", lambda x: 1 / x / 3),
    Case("x ** y", lambda x: x ** x[1]),
    Case("np.power", lambda x: np.power(x, x[1])),
    Case("x ** 3", lambda x: x**3),
    Case("x ** 1", lambda x: x**1),
    Case("x ** 0", lambda x: x**0),
    Case("x ** -0.5", lambda x: x**-0.5),
    Case("2.5 ** x", lambda x: 2.5**x),
    Case("+x", lambda x: +x),
    Case("-x", lambda x: -x),
    Case("abs", lambda x: abs(x - 1.22), is_complex=False),
    Case("exp", np.exp),
    Case("expm1", np.expm1),
    Case("log", np.log),
    Case("log1p", np.log1p),
    Case("sqrt", np.sqrt),
    Case("square", np.square),
    Case("sin", np.sin),
    Case("cos", np.cos),
    Case("tanh", np.tanh),
    Case("expit", scipy.special.expit, is_complex=False),
    Case("maximum", lambda x: np.maximum(x, x[1])),
    Case("maximum of a number", lambda x: np.maximum(x, 1.22)),
    Case("minimum", lambda x: np.minimum(x[:, :1], x)),
    Case("minimum of a number", lambda x: np.minimum(1.22, x)),
    Case("clip", lambda x: np.clip(x, 0.84, 1.6)),
    Case("clip from below", lambda x: np.clip(x, 0.84, None)),
    Case("clip from above", lambda x: np.clip(x, None, 1.6)),
    Case("crossed bounds", lambda x: np.clip(x, 1.6, x[1])),
    Case("where", lambda x: np.where(MASK, x * x, x[0])),
    Case("where with a number", lambda x: np.where(MASK, x, 0.0) + np.where(MASK, 1.5, x)),
    Case("matrix @ matrix", lambda x: x @ x.T),
    Case("matrix @ vector", lambda x: x @ x[0]),
    Case("vector @ matrix", lambda x: x[:, 0] @ x),
    Case("vector @ vector", lambda x: x[0] @ x[1]),
    Case("batch @ matrix", lambda x: x[:, None, :] @ x.T),
    Case("affine", lambda x: affine(x, np.concatenate([x, x[0, :3]], axis=None), slice(None))),
    Case(
        "affine of a row",
        lambda x: affine(
            x[0], np.concatenate([x[0], x, x[0, :3], x[1]], axis=None), slice(len(x[0]), -len(x[0]))
        ),
    ),
    Case(
        "affine of a batch",
        lambda x: affine(x[:, None], np.concatenate([x, x[0, :3]], axis=None), slice(None)),
    ),
    Case("affine twice by one part of a vector", lambda x: _twice(np.ravel(x), x)),
    Case("dot", lambda x: np.dot(x, x[0])),
    Case("dot of a batch", lambda x: np.dot(x[None], x.T)),
    Case("dot of a scalar", lambda x: np.dot(x[0, 0], x)),
    Case("sum", np.sum),
    Case("sum over an axis", lambda x: np.sum(x, axis=-1, keepdims=True)),
    Case("mean", np.mean),
    Case("mean over axes", lambda x: np.mean(x, (0, -1))),
    Case("max", np.max),
    Case("max over an axis", lambda x: np.max(x, axis=0)),
    Case("min", np.min),
    Case("min over an axis", lambda x: np.min(x, axis=1, keepdims=True)),
    Case("logsumexp", logsumexp),
    Case("logsumexp over an axis", lambda x: logsumexp(x, axis=0, keepdims=True)),
    Case("log_softmax", log_softmax),
    Case("log_softmax over an axis", lambda x: log_softmax(x, axis=-1)),
    Case("reshape", lambda x: np.reshape(x, (2, -1))),
    Case("ravel", np.ravel),
    Case("transpose", np.transpose),
    Case("transpose of axes", lambda x: np.transpose(x[None], (2, 0, -2))),
    Case(".T", lambda x: x.T),
    Case("swapaxes", lambda x: np.swapaxes(x, 0, -1)),
    Case("broadcast_to", lambda x: np.broadcast_to(x[:, :1], (2, 3, 4))),
    Case("expand_dims", lambda x: np.expand_dims(x, (0, -1))),
    Case("squeeze", lambda x: np.squeeze(x[:1])),
    Case("squeeze of an axis", lambda x: np.squeeze(x[None, :, :1], axis=0)),
    Case("an element", lambda x: x[1, -1]),
    Case("a slice", lambda x: x[::-2, 1:3]),
    Case("a new axis", lambda x: x[..., None, 0]),
    Case("integer array", lambda x: x[ORDER]),
    Case("list of integers", lambda x: x[[0, 0, 1]]),
    Case("boolean mask", lambda x: x[MASK]),
    Case("mixed index", lambda x: x[:2, [1, 1, 3]]),
    Case("rows", lambda x: np.stack(list(x))),
    Case("take_along_axis", lambda x: np.take_along_axis(x, ORDER, axis=0)),
    Case("take_along_axis of all", lambda x: np.take_along_axis(x, np.array([11, 0, 0]), axis=None)),
    Case("concatenate", lambda x: np.concatenate([x, x[:1], np.ones((1, 4), x.dtype)])),
    Case("concatenate an axis", lambda x: np.concatenate([x, x[:, :2]], axis=-1)),
    Case("concatenate all", lambda x: np.concatenate([x, x[0]], axis=None)),
    Case("stack", lambda x: np.stack([x, 2 * x])),
    Case("stack an axis", lambda x: np.stack([x[0], x[1]], axis=-1)),
    Case("full_like", lambda x: np.full_like(x, 2.0) * x + np.full_like(x, x[0])),
    Case("unpacking", lambda x: (lambda a, b, c: len(x) * a - b * c)(*x)),
    Case("x.squeeze of an axis", lambda x: x[None].squeeze(0) * x.mean(axis=-1, keepdims=True)),
    Case("x.sum", lambda x: x.sum(0) + x.mean(axis=0) + x.max(0) - x.min(0)),
    Case("x.reshape", lambda x: x.reshape(4, 3) @ x.reshape((3, 4)) * x.reshape(-1)[0]),
    Case("x.transpose", lambda x: x.transpose(1, 0) + x.transpose((1, 0)) + x.transpose()),
    Case("x.ravel", lambda x: x.ravel() * x.flatten()),
    Case("x.swapaxes", lambda x: x.swapaxes(0, 1) * x[:1].squeeze()[:, None]),
    Case("x.clip", lambda x: x.clip(0.84, 1.6).dot(x.T)),
]
COMPLEX_CASES = [case for case in CASES if case.is_complex]
# Functions that are locally constant or only look at shapes; they give plain arrays.
CONSTANTS = {
    "x > y": lambda x: x > x[0],
    "x >= 1": lambda x: x >= 1,
    "1 > x": lambda x: 1 > x,  # noqa: SIM300 (the reflected operator is what is tested)
    "x <= y": lambda x: x <= x[:, :1],
    "x == y": lambda x: x == x[0],
    "x != y": lambda x: x != x[0],
    "logical_and": lambda x: np.logical_and(x, x > 1),
    "logical_or": lambda x: np.logical_or(x > 1, x),
    "logical_not": np.logical_not,
    "isfinite": np.isfinite,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "sign": lambda x: np.sign(x - 1),
    "signbit": np.signbit,
    "floor": np.floor,
    "ceil": np.ceil,
    "rint": np.rint,
    "argmax": lambda x: np.argmax(x, axis=1),
    "argmin": np.argmin,
    "argsort": lambda x: np.argsort(x, axis=0),
    "zeros_like": np.zeros_like,
    "ones_like": lambda x: np.ones_like(x, dtype=int),
    "all": lambda x: np.all(x > 1),
    "any": lambda x: np.any(x),
    "isclose": lambda x: np.isclose(x, x[0]),
    "isclose to a list": lambda x: np.isclose(x, [1.03, 1.0, 1.28, 0.0]),
    "allclose": lambda x: np.allclose(x, x),
    "array_equal": lambda x: np.array_equal(x, x),
    "shape": np.shape,
    "ndim": np.ndim,
    "size": np.size,
    "empty_like": lambda x: np.empty_like(x).shape,
    "iscomplexobj": np.iscomplexobj,
    "x.shape": lambda x: x.shape,
    "x.ndim": lambda x: x.ndim,
    "x.size": lambda x: x.size,
}
