"""Values, gradients and Hessian-vector products of each call, against those of torch.

Torch comes with the ``bench`` extra; without it these tests are skipped.
"""

import numpy as np
import pytest
import scipy.special

from npTRPO.autograd import grad, hvp, log_softmax, logsumexp, softmax
from npTRPO.policies.mlp import relu
from tests.autograd.cases import MASK, ORDER, POINT
from tests.autograd.oracles import each_of

torch = pytest.importorskip("torch")
T = torch.as_tensor
EYE = 3 * np.eye(3)
EINSUMS = ["ij,kj->ik", "ij,kl->jk", "ij,ij->i", "ij,kj->", "ij,ik->kj", "ij,ij->ij"]

CALLS = {
    "add": (lambda x: x + x[0], lambda x: x + x[0]),
    "subtract": (lambda x: x[:, :1] - x, lambda x: x[:, :1] - x),
    "multiply": (lambda x: x * x[1], lambda x: x * x[1]),
    "divide": (lambda x: x / x[1], lambda x: x / x[1]),
    "power": (lambda x: x ** x[1], lambda x: x ** x[1]),
    "power of a number": (lambda x: 2.5**x - x**1.5, lambda x: 2.5**x - x**1.5),
    "remainder": (lambda x: x % 0.3, lambda x: x % 0.3),
    "maximum": (lambda x: np.maximum(x, x[1]), lambda x: torch.maximum(x, x[1])),
    "minimum": (lambda x: np.minimum(x, x[:, :1]), lambda x: torch.minimum(x, x[:, :1])),
    "fmax": (lambda x: np.fmax(x, x[1]), lambda x: torch.fmax(x, x[1])),
    "fmin": (lambda x: np.fmin(x, x[1]), lambda x: torch.fmin(x, x[1])),
    "relu": (lambda x: relu(x - 1.2), lambda x: torch.relu(x - 1.2)),
    "arctan2": (lambda x: np.arctan2(x, x[1]), lambda x: torch.atan2(x, x[1].expand(3, 4))),
    "hypot": (lambda x: np.hypot(x, x[1]), lambda x: torch.hypot(x, x[1].expand(3, 4))),
    "logaddexp": (lambda x: np.logaddexp(x, x[1]), lambda x: torch.logaddexp(x, x[1])),
    "logaddexp2": (lambda x: np.logaddexp2(x, x[1]), lambda x: torch.logaddexp2(x, x[1])),
    "clip": (lambda x: np.clip(x, 0.84, 1.6), lambda x: torch.clamp(x, 0.84, 1.6)),
    "where": (lambda x: np.where(MASK, x, x[0]), lambda x: torch.where(T(MASK), x, x[0])),
    "xlogy": (lambda x: scipy.special.xlogy(x, x[1]), lambda x: torch.xlogy(x, x[1])),
    "sum": (lambda x: np.sum(x, 0) * np.sum(x), lambda x: x.sum(0) * x.sum()),
    "prod": (lambda x: np.prod(x, 0) * np.prod(x), lambda x: x.prod(0) * x.prod()),
    "prod with a zero": (lambda x: np.prod(x - x[0], 0), lambda x: (x - x[0]).prod(0)),
    "mean": (lambda x: np.mean(x, 1), lambda x: x.mean(1)),
    "var": (lambda x: np.var(x, 0, ddof=1), lambda x: x.var(0, correction=1)),
    "std": (lambda x: np.std(x, 1), lambda x: x.std(1, correction=0)),
    "max": (lambda x: np.max(x, 0), lambda x: x.amax(0)),
    "min": (lambda x: np.min(x, 1), lambda x: x.amin(1)),
    "cumsum": (lambda x: np.cumsum(x, 1), lambda x: x.cumsum(1)),
    "sort": (lambda x: np.sort(x, 0) * [1, 2, 3, 4], lambda x: x.sort(0)[0] * T([1, 2, 3, 4])),
    "norm": (lambda x: np.linalg.norm(x), torch.linalg.norm),
    "logsumexp": (lambda x: logsumexp(x, 0), lambda x: x.logsumexp(0)),
    "log_softmax": (lambda x: log_softmax(x, 1), lambda x: x.log_softmax(1)),
    "softmax": (lambda x: softmax(x, 0), lambda x: x.softmax(0)),
    "matmul": (lambda x: x @ x.T, lambda x: x @ x.T),
    "matmul of a batch": (lambda x: x[:, None] @ x.T, lambda x: x[:, None] @ x.T),
    "dot": (lambda x: np.dot(x[0], x[1]), lambda x: torch.dot(x[0], x[1])),
    "tensordot": (lambda x: np.tensordot(x, x.T, 1), lambda x: torch.tensordot(x, x.T, 1)),
    "inner": (lambda x: np.inner(x, x), lambda x: torch.inner(x, x)),
    "outer": (lambda x: np.outer(x[0], x[1]), lambda x: torch.outer(x[0], x[1])),
    "kron": (lambda x: np.kron(x, x[:2]), lambda x: torch.kron(x, x[:2].contiguous())),
    "cross": (lambda x: np.cross(x[:, :3], x[:, 1:]), lambda x: torch.linalg.cross(x[:, :3], x[:, 1:])),
    "solve": (
        lambda x: np.linalg.solve(x[:, :3] + EYE, x),
        lambda x: torch.linalg.solve(x[:, :3] + T(EYE), x),
    ),
    "inv": (lambda x: np.linalg.inv(x[:, :3] + EYE), lambda x: torch.linalg.inv(x[:, :3] + T(EYE))),
    "det": (lambda x: np.linalg.det(x[:, :3]), lambda x: torch.linalg.det(x[:, :3])),
    "slogdet": (lambda x: np.linalg.slogdet(x[:, :3])[1], lambda x: torch.linalg.slogdet(x[:, :3])[1]),
    "cholesky": (
        lambda x: np.linalg.cholesky(x @ x.T + EYE),
        lambda x: torch.linalg.cholesky(x @ x.T + T(EYE)),
    ),
    "reshape": (lambda x: np.reshape(x, (2, 6))[0], lambda x: x.reshape(2, 6)[0]),
    "transpose": (lambda x: np.transpose(x)[1:], lambda x: x.T[1:]),
    "an index": (lambda x: x[ORDER], lambda x: x[T(ORDER)]),
    "take_along_axis": (lambda x: np.take_along_axis(x, ORDER, 0), lambda x: x.gather(0, T(ORDER))),
    "roll": (lambda x: np.roll(x, 1, 1) * x, lambda x: x.roll(1, 1) * x),
    "flip": (lambda x: np.flip(x, 0) * x, lambda x: x.flip(0) * x),
    "tile": (lambda x: np.tile(x, (2, 2)), lambda x: x.tile(2, 2)),
    "repeat": (lambda x: np.repeat(x, [1, 2, 3], 0), lambda x: x.repeat_interleave(T([1, 2, 3]), 0)),
    "pad": (lambda x: np.pad(x, ((0, 0), (1, 2))), lambda x: torch.nn.functional.pad(x, (1, 2))),
    "windows": (
        lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, 1),
        lambda x: x.unfold(1, 2, 1),
    ),
    "diag": (lambda x: np.diag(x[0], 1), lambda x: torch.diag(x[0], 1)),
    "tril": (lambda x: np.tril(x, -1), lambda x: x.tril(-1)),
    "diff": (lambda x: np.diff(x, 2), lambda x: x.diff(2)),
    "hstack": (lambda x: np.hstack([x, x[:, :1]]), lambda x: torch.hstack([x, x[:, :1]])),
    "split": (lambda x: np.split(x, 2, 1)[1], lambda x: x.split(2, 1)[1]),
    "nan_to_num": (lambda x: np.nan_to_num(x), torch.nan_to_num),
}
for _equation in EINSUMS:
    CALLS[f"einsum {_equation}"] = (
        lambda x, e=_equation: np.einsum(e, x, x[:3]),
        lambda x, e=_equation: torch.einsum(e, x, x[:3]),
    )
for _name in (
    *("abs", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "square", "sin", "cos", "tan"),
    *("tanh", "sinh", "cosh", "arctan", "arcsinh", "reciprocal", "negative", "fabs", "sign"),
):
    _theirs = {"fabs": "abs", "arctan": "atan", "arcsinh": "asinh"}.get(_name, _name)
    CALLS[_name] = (getattr(np, _name), getattr(torch, _theirs))
for _name in (
    "expit",
    "erf",
    "erfc",
    "gammaln",
    "digamma",
    "log_ndtr",
    "ndtr",
    "entr",
    "i0",
    "i1",
    "i0e",
    "i1e",
):
    CALLS[_name] = (getattr(scipy.special, _name), getattr(torch.special, _name))
BELOW_1 = [(getattr(np, name), getattr(torch, name)) for name in ("arcsin", "arccos", "arctanh")]
BELOW_1 += [(getattr(scipy.special, name), getattr(torch.special, name)) for name in ("logit", "erfinv")]
for _f, _g in BELOW_1:
    CALLS[_f.__name__] = (lambda x, f=_f: f(x / 2.5), lambda x, g=_g: g(x / 2.5))
# Both are sums of at most 144 products, each off by a few dozen epsilons; torch's trigamma has ten digits.
PRECISION = {"gammaln": 1e-9, "digamma": 1e-9}
ROWS = {name: (*call, PRECISION.get(name, 1e-11)) for name, call in CALLS.items()}


@each_of("ours, theirs, precision", ROWS)
def test_value_gradient_and_hessian_vector_product_are_those_of_torch(ours, theirs, precision):
    v = np.cos(np.arange(12.0)).reshape(3, 4)

    def square(x):
        return np.sum(ours(x) ** 2)

    def square_in_torch(x):
        return torch.sum(theirs(x) ** 2)

    x = torch.tensor(POINT, requires_grad=True)
    (slope,) = torch.autograd.grad(square_in_torch(x), x)
    product = torch.autograd.functional.hvp(square_in_torch, T(POINT), T(v))[1]
    for actual, expected in [
        (ours(POINT), theirs(T(POINT))),
        (grad(square)(POINT), slope),
        (hvp(square, POINT, v), product),
    ]:
        expected = expected.numpy()
        assert np.shape(actual) == expected.shape
        np.testing.assert_allclose(
            actual, expected, rtol=0, atol=precision * max(1, np.max(np.abs(expected)))
        )


TIES = {
    "maximum": (lambda x: np.maximum(x, 1.0), lambda x: torch.maximum(x, torch.ones_like(x))),
    "minimum": (lambda x: np.minimum(x, 1.0), lambda x: torch.minimum(x, torch.ones_like(x))),
    "max": (np.max, torch.amax),
    "min": (np.min, torch.amin),
    "clip": (lambda x: np.clip(x, 0.0, 1.0), lambda x: torch.clamp(x, 0.0, 1.0)),
    "abs": (np.abs, torch.abs),
    "relu": (relu, torch.relu),
    "norm": (lambda x: np.linalg.norm(x[4:]), lambda x: torch.linalg.norm(x[4:])),
    "logaddexp": (lambda x: np.logaddexp(x, 1.0), lambda x: torch.logaddexp(x, torch.ones_like(x))),
    "prod": (np.prod, torch.prod),
    "logsumexp": (lambda x: logsumexp(x), lambda x: x.logsumexp(0)),
}


@each_of("ours, theirs", TIES)
def test_derivatives_at_ties_are_those_of_torch(ours, theirs):
    point = np.array([1.0, -1.0, 1.0, 0.5, 0.0, 0.0])
    x = torch.tensor(point, requires_grad=True)
    (expected,) = torch.autograd.grad(torch.sum(theirs(x)), x)
    np.testing.assert_allclose(grad(lambda x: np.sum(ours(x)))(point), expected.numpy(), rtol=1e-14)
