"""A preconditioner for the Fisher and Gauss–Newton systems of layered networks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from npTRPO._typing import Array
from npTRPO.autograd import LinearMap
from npTRPO.policies.mlp import MLP, LayerMap
from npTRPO.trust_region.linearized import BatchLinearization, Block

# The eigenvectors of a factor of this width take a quarter of an update of 2,048 rows; those of twice
# the width would take longer than all else.
_WIDEST = 512
_FEW_ROWS = 256


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
    batch : BatchLinearization
        The network, or a policy that begins with it, linearised at θ for N rows.
    cotangents : callable
        From a block of rows and the outputs for them to cotangents u of the outputs, one for each row. For a
        policy, ∇ log π(a|s) in the outputs, of the actions that were drawn; for least squares, 1.
    damping : float
        λ ≥ 0.
    rest : float
        The diagonal of H for the parameters after the network's.
    most_blocks : int
        Largest number of blocks of rows that the factors are averages over; more make them hardly better.

    References
    ----------
    Martens and Grosse 2015, "Optimizing neural networks with Kronecker-factored approximate curvature",
    arXiv 1503.05671, sections 3 and 6.
    """

    def __init__(
        self,
        network: MLP,
        batch: BatchLinearization,
        cotangents: Callable[[slice, Any], Any],
        damping: float,
        rest: float = 0.0,
        *,
        most_blocks: int = 4,
    ) -> None:
        dtype = batch.theta.dtype
        with np.errstate(over="ignore", invalid="ignore"):  # factors that aren't finite are replaced
            factors = _factors(batch, cotangents, most_blocks)
        self._layers = [
            (layer, _Inverse(A, G, damping, dtype))
            for layer, (A, G) in zip(network.layers, factors, strict=True)
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


def _factors(
    batch: BatchLinearization, cotangents: Callable[[slice, Any], Any], most_blocks: int
) -> list[tuple[_Factor, _Factor]]:
    """Return A and G of each layer, in their order in θ."""
    of_wide: dict[int, _Factor] = {}  # of the first block alone

    def of_block(block: Block) -> tuple[Array, ...]:
        seen: list[Array] = []

        def visit(linear: LinearMap, g: Array) -> bool:
            for rows in (g, linear.rows) if isinstance(linear, LayerMap) else ():
                if rows.shape[1] <= _WIDEST:
                    seen.append(block.mean_outer(rows))
                    continue
                if len(seen) not in of_wide:
                    of_wide[len(seen)] = _factor_of_rows(rows, block.weights)
                seen.append(np.zeros(1))
            return isinstance(linear, LayerMap)

        block.linearized().vjp(cotangents(block.rows, block.value), visit)
        return tuple(seen)

    means = batch.mean(of_block, every=-(-len(batch.blocks) // most_blocks))
    factors = [of_wide[i] if i in of_wide else _factor(mean) for i, mean in enumerate(means)]
    factors.reverse()  # they came from the last layer to the first, and G before A
    return list(zip(factors[::2], factors[1::2], strict=True))


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
