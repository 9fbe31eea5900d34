"""A function of parameters and rows of data, linearised in the parameters once and used many times.

Work goes by blocks of rows that fit the processor's cache: the passes over a block's activations
then cost little beside its matrix products, however many rows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.autograd import Linearization, linearize

__all__ = ["LinearizedRows", "checked_weights", "row_blocks"]

BLOCK_ROWS = 2048


def row_blocks(n_rows: int) -> Iterator[slice]:
    """Slices that cover ``n_rows`` rows, block by block."""
    return (slice(start, min(start + BLOCK_ROWS, n_rows)) for start in range(0, n_rows, BLOCK_ROWS))


def checked_weights(weights: Array, n: int) -> Array:
    """The weights of ``n`` rows, or an error if they can't be any."""
    weights = np.asarray(weights)
    # The sum may be off by the rounding of weights in float32.
    if weights.shape != (n,) or not np.all(weights >= 0) or abs(float(np.sum(weights)) - 1) > 1e-5:
        raise ValueError(
            f"weights must be {n} numbers that aren't negative and have sum 1, "
            f"not shape {weights.shape} with sum {np.sum(weights)}"
        )
    return weights


class LinearizedRows:
    """f(θ, rows), whose outputs for one row depend on θ and that row alone, near one θ.

    Parameters
    ----------
    f : callable
        ``f(theta, rows)`` gives an array, or a tuple of arrays, with one row for each row of data.
    theta : array, shape (p,)
        Where to linearise.
    rows : array, shape (N, ...)
        The data.
    """

    def __init__(self, f: Callable[[Any, Any], Any], theta: Array, rows: Array) -> None:
        self.theta = theta
        self.n_rows = len(rows)
        self.blocks: list[tuple[slice, Linearization]] = []
        for block in row_blocks(len(rows)):
            self.blocks.append((block, linearize(partial(_swapped, f, rows[block]), theta)))

    def vjp(self, u: Any) -> Array:
        """Jᵀ u, shape (p,), for ``u`` shaped as the outputs for all rows."""
        return self._sum(lin.vjp(_rows(u, block)) for block, lin in self.blocks)

    def gauss_newton(self, v: Array, metrics: Sequence[Callable[[Any], Any]]) -> Array:
        """Jᵀ M J v, shape (p,): one Jacobian-vector product, M, one vector-Jacobian product.

        ``metrics`` has for each block the product with M, which is block-diagonal by rows.
        """
        pairs = zip(self.blocks, metrics, strict=True)
        return self._sum(lin.vjp(metric(lin.jvp(v))) for (_, lin), metric in pairs)

    def _sum(self, parts: Iterator[Array]) -> Array:
        total = np.zeros_like(self.theta)
        for part in parts:
            total += part
        return total


def _swapped(f: Callable[[Any, Any], Any], rows: Array, theta: Any) -> Any:
    return f(theta, rows)


def _rows(outputs: Any, block: slice) -> Any:
    return tuple(part[block] for part in outputs) if isinstance(outputs, tuple) else outputs[block]
