"""A function of parameters and rows of data, linearised in the parameters once and used many times.

Work goes by blocks of rows that fit the processor's cache: the passes over a block's activations
then cost little beside its matrix products, however many rows there are. All that is averaged over a
batch is summed over its blocks in one place, :meth:`BatchLinearization.mean`.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from npTRPO._typing import Array
from npTRPO.autograd import Linearization, linearize

BLOCK_ROWS = 2048
# A linearisation takes several times its rows' own memory. Beyond this many rows it isn't kept, but made anew
# for each product: that takes a third more time, but memory then doesn't grow with the batch.
KEPT_ROWS = 65_536

# glibc returns blocks of memory of this size to the system when they are freed, and getting them back, page
# by page, costs a quarter of a product's time. Once a larger block has been freed it keeps them. (This one is
# never touched, so it takes no memory; with other C libraries it has no effect.)
np.empty(2**24, np.uint8)


def row_blocks(n_rows: int, block_rows: int = BLOCK_ROWS) -> Iterator[slice]:
    """Return slices that cover ``n_rows`` rows, block by block."""
    return (slice(start, min(start + block_rows, n_rows)) for start in range(0, n_rows, block_rows))


def checked_weights(weights: Array, n: int) -> Array:
    """Return the weights of ``n`` rows, or raise a ValueError if they are invalid."""
    weights = np.asarray(weights)
    # The sum may be off by the rounding of weights in float32.
    if weights.shape != (n,) or not np.all(weights >= 0) or abs(float(np.sum(weights)) - 1) > 1e-5:
        raise ValueError(
            f"weights must be {n} numbers that aren't negative and have sum 1, "
            f"not shape {weights.shape} with sum {np.sum(weights)}"
        )
    return weights


def weighted_mean(values: Any, weights: Any = None) -> Any:
    """Return the mean of ``values`` (N,), or Σ_n w_n values_n if ``weights`` (N,) are given."""
    return np.mean(values) if weights is None else np.sum(weights * values)


def weighted_sum(weights: Iterable[float], terms: Iterable[Any]) -> Any:
    """Return Σ w_i terms_i, added in their order; the terms are numbers, arrays, or tuples of them."""
    total = None
    for weight, term in zip(weights, terms, strict=True):
        weighted = _each(partial(operator.mul, weight), term)
        total = weighted if total is None else _each(operator.add, total, weighted)
    return total


def cast(outputs: Any, dtype: npt.DTypeLike) -> Any:
    """Return outputs (an array or a tuple of arrays) in a dtype."""
    return _each(lambda part: part.astype(dtype), outputs)


def outputs_in_blocks(f: Callable[[Any, Any], Any], theta: Array, rows: Array) -> Any:
    """Return f(θ, rows), an array or a tuple of arrays, computed block by block."""
    blocks = [f(theta, rows[block]) for block in row_blocks(len(rows))] or [f(theta, rows)]
    return _each(lambda *parts: np.concatenate(parts), *blocks)


def part(outputs: Any, rows: slice) -> Any:
    """Return some rows of outputs (an array or a tuple of arrays)."""
    return _each(operator.itemgetter(rows), outputs)


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of a batch, next to each other, with the function of θ that they give.

    A mean over the block is Σ_n w_n f_n, where w_n is 1/N_b or the row's explicit weight in the whole batch.

    Attributes
    ----------
    rows : slice
        Which rows of the batch they are.
    weights : array, optional
        Their explicit weights.
    linearized : callable
        Returns the function linearised at θ, which isn't kept for the last blocks of a large batch.
    """

    rows: slice
    weights: Array | None
    linearized: Callable[[], Linearization]

    def __len__(self) -> int:
        return int(self.rows.stop - self.rows.start)

    @cached_property
    def value(self) -> Any:
        """The function's outputs for these rows at θ."""
        return self.linearized().value

    def mean_vjp(self, u: Any, linearized: Linearization | None = None) -> Any:
        """Return Σ_n w_n J_nᵀ u_n, shape (p,)."""
        return (linearized or self.linearized()).vjp(self._weighted(u)) / self._count

    def mean_outer(self, x: Array) -> Any:
        """Return Σ_n w_n x_n x_nᵀ for ``x`` of shape (N_b, m)."""
        return self._weighted(x).T @ x / self._count

    @property
    def _count(self) -> int:
        return len(self) if self.weights is None else 1

    def _weighted(self, u: Any) -> Any:
        w = self.weights
        return u if w is None else _each(lambda part: part * w.astype(part.dtype)[:, None], u)


class BatchLinearization:
    """f(θ, rows), whose outputs for one row depend on θ and that row alone, near one θ.

    Parameters
    ----------
    f : callable
        ``f(theta, rows)`` gives an array, or a tuple of arrays, with one row for each row of data.
    theta : array, shape (p,)
        Where to linearise.
    rows : array, shape (N, ...)
        The data, N > 0.
    weights : array, shape (N,), optional
        Weights of the rows in all means, not negative and with sum 1, in place of 1/N.
    block_rows : int
        Rows that are worked on together.
    kept_rows : int
        The linearisation of so many rows stays in memory; that of further blocks is made for each pass.

    Attributes
    ----------
    theta, rows, weights : array
        As given; ``weights`` is None where they are 1/N.
    blocks : list of Block
        The rows, in their order.

    Raises
    ------
    ValueError
        If there are no rows, or the weights are invalid.

    Examples
    --------
    >>> import numpy as np
    >>> batch = BatchLinearization(lambda theta, x: x * theta, np.ones(2), np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> batch.gauss_newton(np.ones(2), [lambda jv: jv])  # 1/N Σ x_n² v
    array([ 5., 10.])
    """

    def __init__(
        self,
        f: Callable[[Any, Any], Any],
        theta: Array,
        rows: Array,
        weights: Array | None = None,
        *,
        block_rows: int = BLOCK_ROWS,
        kept_rows: int = KEPT_ROWS,
    ) -> None:
        if not len(rows):
            raise ValueError("a batch must have at least one row, but it has none")
        self.theta, self.rows = theta, rows
        self.weights = None if weights is None else checked_weights(weights, len(rows))
        self.blocks = []
        for block in row_blocks(len(rows), block_rows):
            linearized = partial(linearize, partial(_of_theta, f, rows[block]), theta)
            kept = functools.cache(linearized) if block.stop <= kept_rows else linearized
            self.blocks.append(Block(block, None if self.weights is None else self.weights[block], kept))

    def mean(self, term: Callable[..., Any], *of_blocks: Iterable[Any], every: int = 1) -> Any:
        """Return Σ_n w_n f_n, summed over blocks in their order; w_n is 1/N without explicit weights.

        Parameters
        ----------
        term : callable
            ``term(block, ...)`` returns the mean over a block: 1/N_b Σ f_n over its rows, or Σ w_n f_n where
            ``block.weights`` are given. A number, an array, or a tuple of them.
        *of_blocks : iterables
            What ``term`` is given beside the block, one for each block.
        every : int
            Use every k-th block, as an estimate of the mean over all.
        """
        blocks = self.blocks[::every]
        n = sum(map(len, blocks))
        # Explicit weights are parts of the whole batch already.
        whole = len(self.blocks) / len(blocks)
        weights = (len(block) / n if self.weights is None else whole for block in blocks)
        return weighted_sum(weights, itertools.starmap(term, zip(blocks, *of_blocks, strict=True)))

    def mean_vjp(self, u: Array) -> Any:
        """Return Σ_n w_n J_nᵀ u_n, shape (p,), for an array ``u`` with a row for each row of data."""
        return self.mean(lambda block: block.mean_vjp(u[block.rows]))

    def quadratic_form(self, v: Array, form: Callable[[Block, Any], Array]) -> float:
        """Return Σ_n w_n (J_n v)ᵀ M_n (J_n v), without a way back and but for J v in float64.

        ``form(block, u)`` is given a block and J v for its rows, and returns uᵀMu of each row.
        """

        def of_block(block: Block) -> Any:
            return weighted_mean(form(block, cast(block.linearized().jvp(v), np.float64)), block.weights)

        return float(self.mean(of_block))

    def gauss_newton(self, v: Array, metrics: Iterable[Callable[[Any], Any]]) -> Any:
        """Return Σ_n w_n J_nᵀ M_n J_n v, shape (p,).

        ``metrics`` has for each block the product with M, which is block-diagonal by rows.
        """

        def of_block(block: Block, metric: Callable[[Any], Any]) -> Any:
            linearized = block.linearized()
            return block.mean_vjp(metric(linearized.jvp(v)), linearized)

        return self.mean(of_block, metrics)


def _of_theta(f: Callable[[Any, Any], Any], rows: Array, theta: Any) -> Any:
    return f(theta, rows)


def _each(function: Callable[..., Any], *outputs: Any) -> Any:
    """Apply a function to arrays, or to tuples of arrays part by part."""
    return tuple(map(function, *outputs)) if isinstance(outputs[0], tuple) else function(*outputs)
