"""The Fisher information of a policy as an operator: products with it, never the matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from npTRPO._typing import Array
from npTRPO.autograd import linearize
from npTRPO.policies.mlp import MLP
from npTRPO.policies.policy import Policy
from npTRPO.trust_region.kronecker import KroneckerPreconditioner
from npTRPO.trust_region.linearized import LinearizedRows, checked_weights

__all__ = ["FisherOperator"]


class FisherOperator(LinearOperator):  # type: ignore[misc]
    """E21, E22: F + λI, with F = 1/N Σ_n J_nᵀ M_n J_n, as a SciPy linear operator.

    J_n is the Jacobian of the distribution's outputs in state n with respect to θ, and M_n the Fisher
    information of the distribution in its outputs, which is known in closed form. The product is
    exact: no sampling of actions, no differences, and no second differentiation. F is also the
    Hessian at θ of the mean KL divergence from π_θ (E20, E23).

    Parameters
    ----------
    policy : Policy
        The family of distributions.
    theta : array, shape (p,)
        Parameters θ at which to linearise.
    observations : array, shape (N, features)
        Encoded observations. To sub-sample, give only some of them.
    damping : float
        λ ≥ 0, added to the diagonal.
    linearized : LinearizedRows, optional
        ``policy.outputs`` already linearised at θ for these observations.
    weights : array, shape (N,), optional
        Weights of the observations, not negative and with sum 1, in place of 1/N: exact state
        probabilities, for instance.

    Raises
    ------
    ValueError
        For negative damping, no observations, a θ of the wrong length, or weights that aren't any.

    References
    ----------
    Schulman et al. 2015, "Trust region policy optimization", Appendix C.1.

    Examples
    --------
    >>> import numpy as np
    >>> from gymnasium import spaces
    >>> from npTRPO import Policy
    >>> policy = Policy.for_spaces(spaces.Box(-1, 1, (3,)), spaces.Discrete(2), net_arch=(4,))
    >>> theta = policy.init(np.random.default_rng(0))
    >>> F = FisherOperator(policy, theta, np.eye(3))
    >>> F.shape, F.dtype, (F @ theta).shape
    ((26, 26), dtype('float64'), (26,))
    """

    def __init__(
        self,
        policy: Policy,
        theta: Array,
        observations: Array,
        damping: float = 0.0,
        linearized: LinearizedRows | None = None,
        weights: Array | None = None,
    ) -> None:
        if np.shape(theta) != (policy.n_parameters,):
            raise ValueError(f"theta must have shape ({policy.n_parameters},), not {np.shape(theta)}")
        if not len(observations):
            raise ValueError("the Fisher information is a mean over observations, but there are none")
        if not damping >= 0:
            raise ValueError(f"damping must not be negative, but it is {damping!r}")
        super().__init__(dtype=theta.dtype, shape=(theta.size, theta.size))
        self._policy = policy
        self.damping = float(damping)
        self._rows = LinearizedRows(policy.outputs, theta, observations) if linearized is None else linearized
        self._metrics = [policy.family(lin.value).fisher_product for _, lin in self._rows.blocks]
        self._are_weighted = weights is not None
        if weights is not None:
            weights = checked_weights(weights, len(observations)).astype(self.dtype, copy=False)
            pairs = zip(self._metrics, self._rows.blocks, strict=True)
            self._metrics = [partial(_weighted, metric, weights[block]) for metric, (block, _) in pairs]

    def _matvec(self, v: Array) -> Array:
        v = np.asarray(v).ravel().astype(self.dtype, copy=False)
        product = self._undamped(v)
        return product + self.damping * v if self.damping else product

    def _undamped(self, v: Array) -> Array:
        return self._rows.gauss_newton(v, self._metrics, self._are_weighted)

    def quadratic_form(self, v: Array) -> float:
        """vᵀFv ≥ 0 (E24), twice the quadratic model of mean KL along ``v`` (E20), without the damping."""
        product = self._undamped(v.astype(self.dtype, copy=False))
        return float(np.dot(v.astype(np.float64, copy=False), product.astype(np.float64, copy=False)))

    def preconditioner(self, actions: Array) -> KroneckerPreconditioner | None:
        """E35: M ≈ (F + λI)⁻¹ for conjugate gradients; None for networks that aren't :class:`MLP`.

        Parameters
        ----------
        actions : array, shape (N, ...)
            Drawn by the policy in the states of ``observations``: the mean of ∇ log π ∇ log πᵀ over them
            stands for the Fisher information.
        """
        if not isinstance(self._policy.network, MLP):
            return None

        def scores(block: slice, outputs: Any) -> Any:
            log_prob = linearize(partial(_log_prob, self._policy, actions[block]), outputs)
            return log_prob.vjp(np.ones_like(log_prob.value))

        # Behind the network's parameters are those of log σ, in which M is 2 (E22).
        return KroneckerPreconditioner(self._policy.network, self._rows, scores, self.damping, rest=2.0)

    def _adjoint(self) -> FisherOperator:
        """F is symmetric (E24)."""
        return self


def _log_prob(policy: Policy, actions: Array, outputs: Any) -> Any:
    return policy.family(outputs).log_prob(actions)


def _weighted(metric: Callable[[Any], Any], weights: Array, v: Any) -> Any:
    """M v with every row times its weight."""
    product = metric(v)
    if isinstance(product, tuple):
        return tuple(part * weights[:, None] for part in product)
    return product * weights[:, None]
