"""Fitting the value function to returns: least squares in three ways."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from npTRPO._typing import Array
from npTRPO.policies.mlp import MLP
from npTRPO.policies.network import Network
from npTRPO.trust_region.conjugate_gradient import ConjugateGradient
from npTRPO.trust_region.kronecker import (
    MOST_BLOCKS,
    KroneckerMeans,
    KroneckerPreconditioner,
    kronecker_means,
)
from npTRPO.trust_region.linearized import BatchLinearization, Block, outputs_in_blocks
from npTRPO.trust_region.parts import Parts, PartsCurvature


def predict_values(network: Network, theta: Array, observations: Array) -> Array:
    """Return V(s) for encoded observations (N, features), shape (N,), computed block by block."""
    values: Array = outputs_in_blocks(network, theta, observations)[:, 0]
    return values.astype(theta.dtype, copy=False)


def fit_trust_region(
    network: Network,
    theta: Array,
    observations: Array,
    returns: Array,
    *,
    steps: int = 2,
    cg_max_steps: int = 15,
    cg_rtol: float = 1e-2,
    cg_preconditioner: Literal["kronecker", "identity"] = "identity",
    damping: float = 0.1,
    max_change: float = 0.5,
    max_iter: int = 10,
) -> Array:
    """Take Gauss–Newton steps within a trust region on the values themselves, solved by conjugate gradients.

    Each step minimises 1/N Σ (V − R)² in its Gauss–Newton model H = JᵀJ/N, the same product as the
    policy's Fisher information with M = I, over the region 1/N Σ (ΔV)² / (2σ²) ≤ ε with σ² the mean
    squared error before the step, and is halved until the error falls. The damping λ bends the step towards
    the gradient, and is no part of its length: 1/N Σ (ΔV)² is stepᵀH step (E30).

    Parameters
    ----------
    network : Network
        With one output.
    theta : array, shape (p,)
        Parameters of the value function, which aren't changed.
    observations : array, shape (N, features)
        Encoded observations.
    returns : array, shape (N,)
        Targets, in units of discounted reward.
    steps : int
        Number of Gauss–Newton steps.
    cg_max_steps, cg_rtol
        Limits of :func:`conjugate_gradient`.
    cg_preconditioner : {"kronecker", "identity"}
        Solve with a :class:`KroneckerPreconditioner` or without.
    damping : float
        Added to the diagonal of H.
    max_change : float
        ε.
    max_iter : int
        Largest number of halvings; if none lowers the error, the fit ends where it is.

    Returns
    -------
    array, shape (p,)

    References
    ----------
    Schulman et al. 2015 (GAE), arXiv 1506.02438, section 5, equations 29 and 30.
    """
    whole = Parts.of(LeastSquares(network, observations, returns.astype(theta.dtype, copy=False)))
    return fit_in_parts(
        whole,
        network if cg_preconditioner == "kronecker" and isinstance(network, MLP) else None,
        theta,
        ConjugateGradient(cg_rtol, maxiter=cg_max_steps),
        steps=steps,
        damping=damping,
        max_change=max_change,
        max_iter=max_iter,
    )


class LeastSquares:
    """The mean squared error of a network's values, and its Gauss–Newton model where it was linearised last.

    Parameters
    ----------
    network : Network
        With one output.
    observations : array, shape (N, features)
        Encoded observations.
    targets : array, shape (N,)
        What the values are to be, in the dtype of θ.
    """

    def __init__(self, network: Network, observations: Array, targets: Array) -> None:
        self._network, self._observations, self._targets = network, observations, targets

    def linearize(self, theta: Array) -> tuple[float, Array]:
        """Linearise at θ; return the error there, and the gradient of −½ error."""
        self._batch = BatchLinearization(self._network, theta, self._observations)
        residual = self._targets - _values(self._batch)
        return _mean_square(residual), self._batch.mean_vjp(residual[:, None])

    def error(self, theta: Array) -> float:
        """Return the mean squared error at other parameters."""
        return _mean_square(self._targets - predict_values(self._network, theta, self._observations))

    def product(self, v: Array) -> Any:
        """Return H v, with H = JᵀJ/N."""
        return self._batch.gauss_newton(v, [lambda jv: jv] * len(self._batch.blocks))

    def form(self, v: Array) -> float:
        """Return vᵀHv = 1/N Σ (J_n v)²."""
        return self._batch.quadratic_form(v, lambda _, change: np.sum(change**2, axis=1))

    def factors(self, most_blocks: int = MOST_BLOCKS) -> KroneckerMeans:
        """Return the Kronecker factors of H."""
        return kronecker_means(self._batch, lambda _, values: np.ones_like(values), most_blocks)


def fit_in_parts(
    errors: Parts,
    layered: MLP | None,
    theta: Array,
    solver: ConjugateGradient,
    *,
    steps: int = 2,
    damping: float = 0.1,
    max_change: float = 0.5,
    max_iter: int = 10,
) -> Array:
    """Take the steps of :func:`fit_trust_region` on a batch in parts.

    Parameters
    ----------
    errors : Parts
        Of :class:`LeastSquares`.
    layered : MLP or None
        The network, to solve with its Kronecker factors.
    theta : array, shape (q,)
        Parameters of the value function.
    solver : ConjugateGradient
        Solves (H + λI) x = g.
    steps, damping, max_change, max_iter
        As in :func:`fit_trust_region`.
    """
    hessian, M = PartsCurvature(errors, theta, damping), None
    M = None
    for _ in range(steps):
        error, gradient = errors.mean("linearize", theta)
        if not np.any(gradient) or not np.all(np.isfinite(gradient)):
            return theta
        if layered is not None and M is None:  # the first step's serves the others too
            M = KroneckerPreconditioner(layered, hessian.factors(), theta.dtype, damping)
        step = solver.solve(hessian, gradient, M=M).x
        curvature = hessian.form(step)
        if not curvature > 0:
            return theta
        step = step * step.dtype.type(min(1.0, math.sqrt(2 * max_change * error / curvature)))
        for _ in range(max_iter):
            if errors.mean("error", theta + step) < error:
                theta = theta + step
                break
            step = step / 2
        else:
            return theta
    return theta


def fit_lbfgs(
    network: Network, theta: Array, observations: Array, returns: Array, *, max_iter: int = 20
) -> Array:
    """Run L-BFGS on the whole batch, by :func:`scipy.optimize.minimize`.

    Parameters and result as in :func:`fit_trust_region`; ``max_iter`` is the largest number of steps.
    """
    import scipy.optimize

    targets = returns.astype(theta.dtype, copy=False)

    def objective(flat: Array) -> tuple[float, Array]:
        batch = BatchLinearization(network, flat.astype(theta.dtype), observations)
        residual = _values(batch) - targets
        return _mean_square(residual), _gradient(batch, residual).astype(np.float64)

    found = scipy.optimize.minimize(
        objective, theta.astype(np.float64), jac=True, method="L-BFGS-B", options={"maxiter": max_iter}
    )
    fitted: Array = found.x.astype(theta.dtype)
    return fitted if np.all(np.isfinite(fitted)) else theta


@dataclass(frozen=True)
class AdamState:
    """Running moments of the gradient that Adam carries from one fit to the next.

    Attributes
    ----------
    mean, square : array, shape (p,)
        Decaying averages of the gradient and of its square.
    steps : int
        Number of steps taken so far.
    """

    mean: Array
    square: Array
    steps: int = 0

    @classmethod
    def zero(cls, theta: Array) -> AdamState:
        """Return the state before the first step."""
        return cls(np.zeros_like(theta), np.zeros_like(theta))

    def absorbed(self, network: MLP, factor: Array, shift: Array) -> AdamState:
        """E57: Return the moments of the gradient in the parameters that :meth:`MLP.absorb` gives.

        A gradient in W₁ becomes diag(1 / factor) (∇W₁ − shift ∇b₁ᵀ). The mean follows exactly; the square, as
        if gradients in W₁ and b₁ were uncorrelated.
        """

        def carried(average: Array, power: int) -> Array:
            changed, first, n = average.copy(), network.layers[0], network.sizes[0]
            matrix = average[first].astype(np.float64).reshape(n + 1, -1)
            matrix[:-1] += np.outer((-shift) ** power, matrix[-1])
            matrix[:-1] /= factor[:, None] ** power
            changed[first] = matrix.ravel()
            return changed

        return AdamState(carried(self.mean, 1), carried(self.square, 2), self.steps)


def fit_adam(
    network: Network,
    theta: Array,
    observations: Array,
    returns: Array,
    state: AdamState | None = None,
    rng: np.random.Generator | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
) -> tuple[Array, AdamState]:
    """Run Adam on shuffled minibatches, as the usual implementations do.

    Parameters
    ----------
    network, theta, observations, returns
        As in :func:`fit_trust_region`.
    state : AdamState, optional
        From the fit before; ``AdamState.zero(theta)`` unless given.
    rng : numpy.random.Generator, optional
        Shuffles the batch; a generator of seed 0 unless given.
    epochs, batch_size : int
        Passes over the batch, and rows per step.
    learning_rate : float
        Step size.

    Returns
    -------
    theta : array, shape (p,)
    state : AdamState

    References
    ----------
    Kingma and Ba 2015, "Adam: a method for stochastic optimization", Algorithm 1, with their β₁ = 0.9,
    β₂ = 0.999, ε = 1e-8.
    """
    targets = returns.astype(theta.dtype, copy=False)
    state = state or AdamState.zero(theta)
    rng = rng or np.random.default_rng(0)
    mean, square, steps = state.mean, state.square, state.steps
    for _ in range(epochs):
        order = rng.permutation(len(observations))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = BatchLinearization(network, theta, observations[chosen])
            gradient = _gradient(batch, _values(batch) - targets[chosen])
            steps += 1
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            rate = learning_rate * math.sqrt(1 - 0.999**steps) / (1 - 0.9**steps)
            theta = theta - rate * mean / (np.sqrt(square) + 1e-8 * math.sqrt(1 - 0.999**steps))
    return theta, AdamState(mean, square, steps)


def _values(batch: BatchLinearization) -> Array:
    return np.concatenate([block.value[:, 0] for block in batch.blocks])


def _gradient(batch: BatchLinearization, residual: Array) -> Any:
    """Return 2/N Jᵀ (V − R), the gradient of the mean of (V − R)²."""

    def of_block(block: Block) -> Any:
        return block.linearized().vjp(residual[block.rows, None] * residual.dtype.type(2 / len(block)))

    return batch.mean(of_block)


def _mean_square(x: Array) -> float:
    return float(np.mean(np.square(x, dtype=np.float64)))
