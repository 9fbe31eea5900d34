"""Linear algebra: products of arrays, and functions of matrices.

Products are linear in each factor; the transpose of one is another product. The derivatives of
inverses, determinants and factorisations are those of Giles, "Collected matrix derivative results
for forward and reverse mode algorithmic differentiation", 2008; that of the Cholesky factor is by
Murray, "Differentiation of the Cholesky decomposition", 2016.
"""

import functools
import math
import string
from collections import Counter
from typing import Any

import numpy as np

from npTRPO.autograd.elementwise import refuse_complex
from npTRPO.autograd.rules import as_array, as_axes, scattered
from npTRPO.autograd.tracer import (
    LinearMap,
    as_plain,
    define_composition,
    define_rule,
    define_variadic_rule,
    primitive,
    unbroadcast,
)

# --- products --------------------------------------------------------------------------------------


def _matmul_left(answer: Any, x: Any, y: Any) -> LinearMap:
    if x.ndim == y.ndim == 2:
        return LinearMap(lambda t: t @ y, lambda g: g @ y.T)
    transposed = np.swapaxes(y[:, None] if y.ndim == 1 else y, -1, -2)
    rows = (1, *x.shape) if x.ndim == 1 else x.shape

    def vjp(g: Any) -> Any:
        return np.reshape(unbroadcast(_as_matrices(g, x.ndim, y.ndim) @ transposed, rows), x.shape)

    return LinearMap(lambda t: t @ y, vjp)


def _matmul_right(answer: Any, x: Any, y: Any) -> LinearMap:
    if x.ndim == y.ndim == 2:
        return LinearMap(lambda t: x @ t, lambda g: x.T @ g)
    transposed = np.swapaxes(x[None, :] if x.ndim == 1 else x, -1, -2)
    columns = (*y.shape, 1) if y.ndim == 1 else y.shape

    def vjp(g: Any) -> Any:
        return np.reshape(unbroadcast(transposed @ _as_matrices(g, x.ndim, y.ndim), columns), y.shape)

    return LinearMap(lambda t: x @ t, vjp)


def _as_matrices(product: Any, left_ndim: int, right_ndim: int) -> Any:
    """Put back the axes that matmul drops for operands with one axis."""
    if right_ndim == 1:
        product = product[..., None]
    if left_ndim == 1:
        product = product[..., None, :]
    return product


define_rule(np.matmul, _matmul_left, _matmul_right)


def _dot_rule(position: int, answer: Any, x: Any, y: Any) -> Any:
    """Differentiate np.dot: a product by a number, matmul, or a sum over the last axis but one of y."""
    x, y = as_array(x), as_array(y)
    if x.ndim == 0 or y.ndim == 0:
        return (y, x)[position]
    if y.ndim <= 2:
        return (_matmul_left, _matmul_right)[position](answer, x, y)
    outer = x.ndim - 1  # the axes of the result that come from x
    if position == 0:
        kept = [i for i in range(y.ndim) if i != y.ndim - 2]
        return LinearMap(
            lambda t: np.dot(t, y), lambda g: np.tensordot(g, y, (list(range(outer, g.ndim)), kept))
        )
    axes = list(range(outer))
    return LinearMap(lambda t: np.dot(x, t), lambda g: np.swapaxes(np.tensordot(g, x, (axes, axes)), -1, -2))


define_rule(np.dot, functools.partial(_dot_rule, 0), functools.partial(_dot_rule, 1))


@define_composition(np.tensordot)
def _np_tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = as_array(a), as_array(b)
    if isinstance(axes, (int, np.integer)):
        left, right = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    else:
        left, right = as_axes(axes[0], a.ndim), as_axes(axes[1], b.ndim)
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise ValueError(f"np.tensordot sums over axes {axes}, which differ in {a.shape} and {b.shape}")
    rows = tuple(i for i in range(a.ndim) if i not in left)
    columns = tuple(i for i in range(b.ndim) if i not in right)
    n = math.prod(a.shape[i] for i in left)
    shape = tuple(a.shape[i] for i in rows) + tuple(b.shape[i] for i in columns)
    flat_a = np.reshape(np.transpose(a, rows + left), (math.prod(a.shape[i] for i in rows), n))
    flat_b = np.reshape(np.transpose(b, right + columns), (n, math.prod(b.shape[i] for i in columns)))
    return np.reshape(np.dot(flat_a, flat_b), shape)


@define_composition(np.inner)
def _np_inner(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    return a * b if a.ndim == 0 or b.ndim == 0 else np.tensordot(a, b, (-1, -1))


@define_composition(np.vdot)
def _np_vdot(a: Any, b: Any) -> Any:
    refuse_complex("np.vdot", a)
    return np.dot(np.ravel(as_array(a)), np.ravel(as_array(b)))


@define_composition(np.outer)
def _np_outer(a: Any, b: Any) -> Any:
    return np.ravel(as_array(a))[:, None] * np.ravel(as_array(b))


@define_composition(np.kron)
def _np_kron(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    ndim = max(a.ndim, b.ndim)
    left, right = ((1,) * (ndim - x.ndim) + x.shape for x in (a, b))
    product = np.reshape(a, [n for side in left for n in (side, 1)]) * np.reshape(
        b, [n for side in right for n in (1, side)]
    )
    return np.reshape(product, [m * n for m, n in zip(left, right, strict=True)])


@define_composition(np.cross)
def _np_cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis, axis, axis)
    a, b = np.moveaxis(as_array(a), axisa, 0), np.moveaxis(as_array(b), axisb, 0)
    if len(a) != 3 or len(b) != 3:
        raise ValueError(f"np.cross needs vectors with 3 elements, but they have {len(a)} and {len(b)}")
    parts = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    return np.stack(parts, axisc)


# --- sums over named indices -----------------------------------------------------------------------


@primitive
def _einsum(*operands: Any, text: Any, terms: tuple[str, ...], optimize: Any) -> Any:
    """Sum products of the operands: as ``text`` says to np.einsum, and ``terms`` without omissions.

    The last of ``terms`` is the result's.
    """
    return np.einsum(text, *operands, optimize=optimize)


def _einsum_rule(
    position: int, answer: Any, *operands: Any, text: Any, terms: Any, optimize: Any
) -> LinearMap:
    *inner, outer = terms
    own, shape = inner[position], operands[position].shape
    rest = [i for i in range(len(operands)) if i != position]
    others = [operands[i] for i in rest]
    names = "".join(dict.fromkeys(own))  # each once
    known = {name for term in (outer, *(inner[i] for i in rest)) for name in term}
    found = "".join(name for name in names if name in known)  # the others are summed in own alone
    back = ",".join([outer, *(inner[i] for i in rest)]) + "->" + found
    sizes = dict(zip(own, shape, strict=True))
    whole = tuple(sizes[name] for name in names)

    def jvp(t: Any) -> Any:
        return _einsum(
            *operands[:position], t, *operands[position + 1 :], text=text, terms=terms, optimize=optimize
        )

    def vjp(g: Any) -> Any:
        x = np.einsum(back, g, *others, optimize=optimize)
        x = np.expand_dims(x, tuple(i for i, name in enumerate(names) if name not in known))
        # An axis of length 1 may have been broadcast, here or in the other operands.
        x = unbroadcast(x, tuple(1 if n == 1 else m for n, m in zip(whole, x.shape, strict=True)))
        x = np.broadcast_to(x, whole)
        if len(names) == len(own):
            return x
        places = np.meshgrid(*(np.arange(n) for n in whole), indexing="ij")  # on the diagonals
        return scattered(x, tuple(places[names.index(name)] for name in own), shape)

    return LinearMap(jvp, vjp)


define_variadic_rule(_einsum, _einsum_rule)


@define_composition(np.einsum)
def _np_einsum(subscripts: Any, *operands: Any, optimize: Any = False) -> Any:
    if not isinstance(subscripts, str):  # operands and lists of numbers in turn, then a list for the result
        given = (subscripts, *operands)
        n = len(given) // 2
        operands, lists = given[: 2 * n : 2], given[1 : 2 * n : 2] + given[2 * n :]
        terms = ["".join("..." if i is ... else string.ascii_letters[i] for i in x) for x in lists]
        subscripts = ",".join(terms[:n]) + "".join("->" + term for term in terms[n:])
    arrays = tuple(map(as_array, operands))
    text = subscripts.replace(" ", "")
    return _einsum(
        *arrays, text=text, terms=_without_omissions(text, [x.ndim for x in arrays]), optimize=optimize
    )


def _without_omissions(text: str, ndims: list[int]) -> tuple[str, ...]:
    """Return the terms of np.einsum's text, with letters for "..." and with the result's, the last."""
    inputs, arrow, outer = text.partition("->")
    pairs = list(zip(inputs.split(","), ndims, strict=True))
    omitted = [ndim - len(term.replace("...", "")) if "." in term else 0 for term, ndim in pairs]
    dots = "".join(name for name in string.ascii_letters if name not in text)[: max(omitted)]
    inner = [term.replace("...", dots[len(dots) - n :]) for (term, _), n in zip(pairs, omitted, strict=True)]
    once = sorted(name for name, n in Counter("".join(inner)).items() if n == 1 and name not in dots)
    return (*inner, outer.replace("...", dots) if arrow else dots + "".join(once))


# --- functions of matrices -------------------------------------------------------------------------


def _transposed(a: Any) -> Any:
    return np.swapaxes(a, -1, -2)


@primitive
def _solved(a: Any, b: Any) -> Any:
    return np.linalg.solve(a, b)


define_rule(
    _solved,
    lambda ans, a, b: LinearMap(
        lambda t: -_solved(a, t @ ans),
        lambda g: -unbroadcast(_solved(_transposed(a), g) @ _transposed(ans), a.shape),
    ),
    lambda ans, a, b: LinearMap(
        lambda t: _solved(a, t), lambda g: unbroadcast(_solved(_transposed(a), g), b.shape)
    ),
)


@define_composition(np.linalg.solve)
def _np_solve(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    return _solved(a, b[:, None])[..., 0] if b.ndim == 1 else _solved(a, b)


define_rule(
    np.linalg.inv,
    lambda ans, a: LinearMap(
        lambda t: -(ans @ t @ ans), lambda g: -(_transposed(ans) @ g @ _transposed(ans))
    ),
)


def _det_rule(answer: Any, a: Any) -> LinearMap:
    cofactors = answer[..., None, None] * _transposed(np.linalg.inv(a))
    return LinearMap(lambda t: np.sum(t * cofactors, axis=(-2, -1)), lambda g: g[..., None, None] * cofactors)


define_rule(np.linalg.det, _det_rule)


@primitive
def _log_abs_det(a: Any) -> Any:
    return np.linalg.slogdet(a)[1]


def _log_abs_det_rule(answer: Any, a: Any) -> LinearMap:
    inverse = _transposed(np.linalg.inv(a))
    return LinearMap(lambda t: np.sum(t * inverse, axis=(-2, -1)), lambda g: g[..., None, None] * inverse)


define_rule(_log_abs_det, _log_abs_det_rule)


@define_composition(np.linalg.slogdet)
def _np_slogdet(a: Any) -> Any:
    refuse_complex("np.linalg.slogdet", a)
    plain = np.linalg.slogdet(as_plain(a))
    return type(plain)(plain[0], _log_abs_det(a))  # the sign is locally constant


@primitive
def _cholesky(a: Any) -> Any:
    return np.linalg.cholesky(a)


def _half(a: Any) -> Any:
    """Return the lower triangle with half the diagonal."""
    weights = np.tri(a.shape[-1], dtype=a.dtype)
    np.fill_diagonal(weights, 0.5)
    return a * weights


def _cholesky_rule(answer: Any, a: Any) -> LinearMap:
    def jvp(t: Any) -> Any:
        return answer @ _half(_solved(answer, _transposed(_solved(answer, _transposed(t)))))

    def vjp(g: Any) -> Any:
        inner = _half(_transposed(answer) @ g)
        upper = _transposed(answer)
        return _transposed(_solved(upper, _transposed(_solved(upper, inner))))

    return LinearMap(jvp, vjp)


define_rule(_cholesky, _cholesky_rule)


@define_composition(np.linalg.cholesky)
def _np_cholesky(a: Any) -> Any:
    """Factorise the symmetric matrix whose lower triangle is given, as NumPy does."""
    refuse_complex("np.linalg.cholesky", a)
    return _cholesky(np.tril(a) + _transposed(np.tril(a, -1)))


@define_composition(np.linalg.matrix_power)
def _np_matrix_power(a: Any, n: int) -> Any:
    if n < 0:
        a, n = np.linalg.inv(a), -n
    result = np.linalg.matrix_power(np.zeros(a.shape, a.dtype), 0) if n == 0 else a
    for _ in range(n - 1):
        result = result @ a
    return result
