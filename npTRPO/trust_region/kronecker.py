"""A preconditioner for the Fisher and Gauss–Newton systems of layered networks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.autograd import LinearMap
from npTRPO.policies.mlp import MLP, LayerMap
from npTRPO.trust_region.linearized import BatchLinearization, Block


class KroneckerPreconditioner:
    """E35: M ≈ (H + λI)⁻¹ for H = 1/N Σ_n J_nᵀ M_n J_n of a multilayer perceptron, layer by layer.

    Let x̄ be a layer's input with a 1 appended, and g the gradient in the layer's output of a random cotangent
    u of the network's outputs with E[uuᵀ] = M_n. Then the layer's block of H (E21) is E[x̄x̄ᵀ ⊗ ggᵀ]. It is
    approximated by A ⊗ G, with A = E[x̄x̄ᵀ] and G = E[ggᵀ], and the blocks between layers by 0. With the
    eigenvalues a, c and eigenvectors U, V of A and G, (A ⊗ G + λI)⁻¹ maps X to U ((Uᵀ X V) / (a cᵀ + λ)) Vᵀ.

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
        self._layers: list[tuple[slice, Array, Array, Array]] = []
        with np.errstate(over="ignore", invalid="ignore"):  # _eigen replaces factors that aren't finite
            factors = _factors(batch, cotangents, most_blocks)
        for layer, (A, G) in zip(network.layers, factors, strict=True):
            (a, U), (c, V) = _eigen(A), _eigen(G)
            products = np.outer(a, c)
            # Products below the rounding of the largest are as good as zero; this keeps them invertible.
            least = float(np.max(products)) * np.finfo(dtype).eps
            scale = 1 / (products + (max(damping, least) or 1.0))
            U, V, scale = (x.astype(dtype) for x in (U, V, scale))
            self._layers.append((layer, U, V, scale))
        self._rest = dtype.type(1 / ((rest + damping) or 1.0))

    def __call__(self, v: Array) -> Array:
        """M v, shape (p,)."""
        product: Array = v * self._rest
        for layer, U, V, scale in self._layers:
            X = v[layer].reshape(scale.shape)
            product[layer] = (U @ (U.T @ X @ V * scale) @ V.T).ravel()
        return product


def _factors(
    batch: BatchLinearization, cotangents: Callable[[slice, Any], Any], most_blocks: int
) -> list[tuple[Array, Array]]:
    """Return A and G of each layer, in their order in θ."""

    def of_block(block: Block) -> tuple[Array, ...]:
        seen: list[Array] = []

        def visit(linear: LinearMap, g: Array) -> bool:
            if isinstance(linear, LayerMap):
                seen.extend([block.mean_outer(g), block.mean_outer(linear.rows)])
            return isinstance(linear, LayerMap)

        block.linearized().vjp(cotangents(block.rows, block.value), visit)
        return tuple(reversed(seen))  # which came from the last layer to the first

    means = batch.mean(of_block, every=-(-len(batch.blocks) // most_blocks))
    return list(zip(means[::2], means[1::2], strict=True))


def _eigen(symmetric: Array) -> tuple[Array, Array]:
    """Return eigenvalues, those below 0 by rounding as 0, and eigenvectors; of what isn't finite, 0 and I."""
    if not np.all(np.isfinite(symmetric)):
        return np.zeros(len(symmetric)), np.eye(len(symmetric))
    values, vectors = np.linalg.eigh(symmetric.astype(np.float64))
    return np.maximum(values, 0.0), vectors
