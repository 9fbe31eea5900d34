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
# A linearisation holds several times its rows' own memory. Beyond so many rows it isn't kept, but made anew
# for each product: at a third more time, memory then doesn't grow with the batch.
KEPT_ROWS = 65_536

# glibc gives pieces of memory of this size back to the system when they are freed, and having them anew, page
# by page, costs a quarter of a product's time. Once a larger piece was freed it keeps them. (This one is
# never touched, and so takes no memory. Elsewhere it does nothing.)
np.empty(2**24, np.uint8)


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
        self.blocks = _Blocks(f, theta, rows)

    def vjp(self, u: Any) -> Array:
        """Jᵀ u, shape (p,), for ``u`` shaped as the outputs for all rows."""
        return self._sum(lin.vjp(_rows(u, block)) for block, lin in self.blocks)

    def mean_vjp(self, u: Any) -> Array:
        """1/N Jᵀ u, shape (p,): the mean of the blocks' means."""
        return self._sum(self._part(block, lin.vjp(_rows(u, block))) for block, lin in self.blocks)

    def _part(self, block: slice, total: Array) -> Array:
        """The block's mean, times its share in the whole."""
        n = block.stop - block.start
        return total / n * (n / self.n_rows)  # type: ignore[no-any-return]

    def gauss_newton(
        self, v: Array, metrics: Sequence[Callable[[Any], Any]], are_weighted: bool = False
    ) -> Array:
        """1/N Jᵀ M J v, or the sum if the metrics have weights, shape (p,).

        ``metrics`` has for each block the product with M, which is block-diagonal by rows.
        """
        pairs = zip(self.blocks, metrics, strict=True)
        products = ((block, lin.vjp(metric(lin.jvp(v)))) for (block, lin), metric in pairs)
        return self._sum(total if are_weighted else self._part(block, total) for block, total in products)

    def _sum(self, parts: Iterator[Array]) -> Array:
        total = np.zeros_like(self.theta)
        for part in parts:
            total += part
        return total


class _Blocks(Sequence[tuple[slice, Linearization]]):
    """Each block of rows with its linearisation, kept or made when it is asked for."""

    def __init__(self, f: Callable[[Any, Any], Any], theta: Array, rows: Array) -> None:
        self._f, self._theta, self._rows = f, theta, rows
        self._slices = list(row_blocks(len(rows)))
        self._kept = [self._linearized(block) for block in self._slices if block.stop <= KEPT_ROWS]

    def _linearized(self, block: slice) -> Linearization:
        return linearize(partial(_swapped, self._f, self._rows[block]), self._theta)

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, i: Any) -> Any:
        block = self._slices[i]
        return block, self._kept[i] if i < len(self._kept) else self._linearized(block)


def _swapped(f: Callable[[Any, Any], Any], rows: Array, theta: Any) -> Any:
    return f(theta, rows)


def _rows(outputs: Any, block: slice) -> Any:
    return tuple(part[block] for part in outputs) if isinstance(outputs, tuple) else outputs[block]
