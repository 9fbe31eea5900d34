"""A preconditioner for the Fisher and Gauss–Newton systems of layered networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from npTRPO._typing import Array
from npTRPO.autograd import LinearMap
from npTRPO.policies.mlp import MLP, LayerMap
from npTRPO.trust_region.linearized import BatchLinearization, Block, weighted_sum

# The eigenvectors of a factor of this width take a quarter of an update of 2,048 rows; those of twice
# the width would take longer than all else.
_WIDEST = 512
_FEW_ROWS = 256
MOST_BLOCKS = 4
"""Blocks of rows that factors are averages over."""


class KroneckerPreconditioner:
    """E35: M ≈ (H + λI)⁻¹ for H = 1/N Σ_n J_nᵀ M_n J_n of a multilayer perceptron, layer by layer.

    Let x̄ be a layer's input with a 1 appended, and g the gradient in the layer's output of a random cotangent
    u of the network's outputs with E[uuᵀ] = M_n. Then the layer's block of H (E21) is E[x̄x̄ᵀ ⊗ ggᵀ]. It is
    approximated by A ⊗ G, with A = E[x̄x̄ᵀ] and G = E[ggᵀ], and the blocks between layers by 0. With the
    eigenvalues a, c and eigenvectors U, V of A and G, (A ⊗ G + λI)⁻¹ maps X to U ((Uᵀ X V) / (a cᵀ + λ)) Vᵀ.

    The eigenvectors of a factor of more than 512 inputs or outputs would take longer than all else. Such a
    factor is approximated from 256 of the rows that it is a mean over: by their eigenvectors, and in all
    directions orthogonal to them by the mean of the other eigenvalues, estimated from as many other rows.

    Parameters
    ----------
    network : MLP
        Whose parameters come first in θ.
    factors : KroneckerMeans
        A and G of every layer.
    dtype : dtype
        Of θ.
    damping : float
        λ ≥ 0.
    rest : float
        The diagonal of H for the parameters after the network's.

    References
    ----------
    Martens and Grosse 2015, "Optimizing neural networks with Kronecker-factored approximate curvature",
    arXiv 1503.05671, sections 3 and 6.
    """

    def __init__(
        self,
        network: MLP,
        factors: KroneckerMeans,
        dtype: np.dtype[Any],
        damping: float,
        rest: float = 0.0,
    ) -> None:
        self._layers = [
            (layer, _Inverse(A, G, damping, dtype))
            for layer, (A, G) in zip(network.layers, factors.decomposed(), strict=True)
        ]
        self._rest = dtype.type(1 / ((rest + damping) or 1.0))

    def __call__(self, v: Array) -> Array:
        """M v, shape (p,)."""
        product: Array = v * self._rest
        for layer, inverse in self._layers:
            product[layer] = inverse(v[layer].reshape(inverse.shape)).ravel()
        return product


class _Factor(NamedTuple):
    """A symmetric matrix U diag(values) Uᵀ + rest (I − U Uᵀ), U of shape (n, k) with k ≤ n."""

    values: Array
    vectors: Array
    rest: float

    @property
    def is_whole(self) -> bool:
        """True if U is square, and so nothing is left for the rest."""
        n, k = self.vectors.shape
        return bool(n == k)


class _Inverse:
    """(A ⊗ G + λI)⁻¹ as a function of matrices X."""

    def __init__(self, A: _Factor, G: _Factor, damping: float, dtype: np.dtype[Any]) -> None:
        a, c = np.append(A.values, A.rest), np.append(G.values, G.rest)
        products = np.outer(a, c)
        # Products below the rounding of the largest are as good as zero; this keeps them invertible.
        least = float(np.max(products)) * np.finfo(dtype).eps
        scale = (1 / (products + (max(damping, least) or 1.0))).astype(dtype)
        self.shape = len(A.vectors), len(G.vectors)
        self._A, self._G = (factor._replace(vectors=factor.vectors.astype(dtype)) for factor in (A, G))
        self._scale = scale[:-1]
        self._rest_of_A = scale[-1]

    def __call__(self, X: Array) -> Any:
        V = self._G.vectors
        Z = X @ V
        product = self._along_A(Z, slice(-1)) @ V.T
        return product if self._G.is_whole else product + self._along_A(X - Z @ V.T, slice(-1, None))

    def _along_A(self, Y: Array, of_G: slice) -> Any:
        """Return the product with each column of Y scaled as one or several directions of G ask for."""
        U, scale = self._A.vectors, self._scale[:, of_G]
        if self._A.is_whole:
            return U @ (U.T @ Y * scale)
        rest = self._rest_of_A[of_G]
        return Y * rest + U @ (U.T @ Y * (scale - rest))


class KroneckerMeans(NamedTuple):
    """The factors A and G of each layer: means of x̄x̄ᵀ and ggᵀ over rows of a batch.

    Attributes
    ----------
    matrices : tuple of arrays
        G and A of each layer, from the last layer to the first.
    of_rows : dict
        By their position, those that are too wide for a matrix, as they are made from a few rows.
    """

    matrices: tuple[Array, ...]
    of_rows: dict[int, _Factor]

    @classmethod
    def merged(cls, weights: Sequence[float], parts: Sequence[Self]) -> Self:
        """Return the means over a batch in parts; what is made from a few rows is the first part's."""
        return cls(weighted_sum(weights, [part.matrices for part in parts]), parts[0].of_rows)

    def decomposed(self) -> list[tuple[_Factor, _Factor]]:
        """Return A and G of each layer, in their order in θ, by eigenvalues and eigenvectors."""
        wide = self.of_rows
        factors = [wide[i] if i in wide else _factor(mean) for i, mean in enumerate(self.matrices)]
        factors.reverse()
        return list(zip(factors[::2], factors[1::2], strict=True))


@np.errstate(over="ignore", invalid="ignore")  # factors that aren't finite are replaced
def kronecker_means(
    batch: BatchLinearization, cotangents: Callable[[slice, Any], Any], most_blocks: int = MOST_BLOCKS
) -> KroneckerMeans:
    """E35: Compute the factors of H = 1/N Σ_n J_nᵀ M_n J_n for all layers of a multilayer perceptron.

    Parameters
    ----------
    batch : BatchLinearization
        The network, or a policy that begins with it, linearised at θ for N rows.
    cotangents : callable
        From a block of rows and the outputs for them to cotangents u of the outputs, one for each row. For a
        policy, ∇ log π(a|s) in the outputs, of the actions that were drawn; for least squares, 1.
    most_blocks : int
        Largest number of blocks of rows that the factors are averages over; more make them hardly better.
    """
    of_rows: dict[int, _Factor] = {}  # of the first block alone

    def of_block(block: Block) -> tuple[Array, ...]:
        seen: list[Array] = []

        def visit(linear: LinearMap, g: Array) -> bool:
            for rows in (g, linear.rows) if isinstance(linear, LayerMap) else ():
                if rows.shape[1] <= _WIDEST:
                    seen.append(block.mean_outer(rows))
                    continue
                if len(seen) not in of_rows:
                    of_rows[len(seen)] = _factor_of_rows(rows, block.weights)
                seen.append(np.zeros(1))
            return isinstance(linear, LayerMap)

        block.linearized().vjp(cotangents(block.rows, block.value), visit)
        return tuple(seen)

    return KroneckerMeans(batch.mean(of_block, every=-(-len(batch.blocks) // most_blocks)), of_rows)


def _factor(symmetric: Array) -> _Factor:
    """Return eigenvalues, those below 0 by rounding as 0, and eigenvectors; of what isn't finite, 0 and I."""
    if not np.all(np.isfinite(symmetric)):
        return _Factor(np.zeros(len(symmetric)), np.eye(len(symmetric)), 0.0)
    values, vectors = np.linalg.eigh(symmetric.astype(np.float64))
    return _Factor(np.maximum(values, 0.0), vectors, 0.0)


def _factor_of_rows(rows: Array, weights: Array | None) -> _Factor:
    """Return the eigenvectors of some rows' mean outer product, and the mean eigenvalue beside them."""
    if weights is not None:
        rows = rows * np.sqrt(weights * len(weights))[:, None]
    every = max(1, len(rows) // _FEW_ROWS)
    few, others = rows[::every][:_FEW_ROWS], rows[every // 2 :: every][:_FEW_ROWS]
    gram = few @ few.T / len(few)
    of_gram = _factor(gram)
    kept = of_gram.values > len(few) * np.finfo(rows.dtype).eps * np.max(of_gram.values)
    values = of_gram.values[kept]
    vectors = few.T @ (of_gram.vectors[:, kept] / np.sqrt(len(few) * values)).astype(rows.dtype)
    beside = np.mean(np.sum(others**2, axis=1)) - np.mean(np.sum((others @ vectors) ** 2, axis=1))
    return _Factor(values, vectors, max(0.0, float(beside)) / (rows.shape[1] - len(values)))
