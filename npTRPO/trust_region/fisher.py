"""The Fisher information of a policy as an operator: products with it, never the matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.autograd import grad
from npTRPO.policies.distributions import Distribution
from npTRPO.policies.mlp import MLP
from npTRPO.policies.policy import Policy
from npTRPO.trust_region.curvature import Curvature
from npTRPO.trust_region.kronecker import (
    MOST_BLOCKS,
    KroneckerMeans,
    KroneckerPreconditioner,
    kronecker_means,
)
from npTRPO.trust_region.linearized import BatchLinearization, Block, cast


class FisherOperator(Curvature):
    """E21, E22: F + λI, with F = 1/N Σ_n J_nᵀ M_n J_n, as a SciPy linear operator.

    J_n is the Jacobian of the distribution's outputs in state n with respect to θ, and M_n the Fisher
    information of the distribution in its outputs, which is known in closed form; a Gaussian's may depend
    on the state through σ (E58). The product is
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
    weights : array, shape (N,), optional
        Weights of the observations, not negative and with sum 1, in place of 1/N: exact state
        probabilities, for instance.

    Raises
    ------
    ValueError
        For negative damping, no observations, a θ of the wrong length, or invalid weights.

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
        *,
        weights: Array | None = None,
    ) -> None:
        if np.shape(theta) != (policy.n_parameters,):
            raise ValueError(f"theta must have shape ({policy.n_parameters},), not {np.shape(theta)}")
        if not len(observations):
            raise ValueError("the Fisher information is a mean over observations, but there are none")
        super().__init__(theta.size, theta.dtype, damping)
        self._policy = policy
        self._batch = BatchLinearization(policy.outputs, theta, observations, weights)

    @classmethod
    def of(cls, batch: BatchLinearization, policy: Policy, damping: float = 0.0) -> FisherOperator:
        """Make the operator from outputs that are already linearised, which hold θ, states and weights.

        Parameters
        ----------
        batch : BatchLinearization
            Of ``policy.outputs``.
        policy : Policy
            The family of distributions.
        damping : float
            λ ≥ 0, added to the diagonal.

        Raises
        ------
        ValueError
            For negative damping, or a θ that isn't the policy's.

        Examples
        --------
        >>> import numpy as np
        >>> from gymnasium import spaces
        >>> from npTRPO import Policy
        >>> from npTRPO.trust_region import BatchLinearization
        >>> policy = Policy.for_spaces(spaces.Box(-1, 1, (3,)), spaces.Discrete(2), net_arch=(4,))
        >>> batch = BatchLinearization(policy.outputs, policy.init(np.random.default_rng(0)), np.eye(3))
        >>> FisherOperator.of(batch, policy, damping=0.1).shape
        (26, 26)
        """
        operator = cls(policy, batch.theta, batch.rows, damping, weights=batch.weights)
        operator._batch = batch
        return operator

    @cached_property
    def _metrics(self) -> list[Callable[[Any], Any]]:
        """The product with M of each block of rows."""
        return [self._policy.family(block.value).fisher_product for block in self._batch.blocks]

    def product(self, v: Array) -> Any:
        """E21: Return F v = 1/N Σ_n J_nᵀ M_n J_n v, without the damping."""
        return self._batch.gauss_newton(v, self._metrics)

    def form(self, v: Array) -> float:
        """E24: Return vᵀFv = Σ_n w_n (J_n v)ᵀ M_n (J_n v) ≥ 0.

        It is twice the quadratic model of mean KL along ``v`` (E20). Only J v is computed in the dtype of θ,
        all else in float64: where F is nearly singular along v, F v would be off by more than vᵀFv.
        """

        def of_block(block: Block, u: Any) -> Any:
            return _fisher_form(self._policy.family(cast(block.value, np.float64)), u)

        return self._batch.quadratic_form(v, of_block)

    def preconditioner(self, actions: Array) -> KroneckerPreconditioner | None:
        """E35: M ≈ (F + λI)⁻¹ for conjugate gradients; None for networks that aren't :class:`MLP`.

        Parameters
        ----------
        actions : array, shape (N, ...)
            Drawn by the policy in the states of ``observations``: the mean of ∇ log π ∇ log πᵀ over them
            stands for the Fisher information.
        """
        network = self._policy.network
        if not isinstance(network, MLP):
            return None
        return policy_preconditioner(network, self.factors(actions), self.dtype, self.damping)

    def factors(self, actions: Array, most_blocks: int = MOST_BLOCKS) -> KroneckerMeans:
        """Return the means that :meth:`preconditioner` is made of."""
        family = self._policy.family

        def scores(block: slice, outputs: Any) -> Any:
            return grad(lambda z: np.sum(family(z).log_prob(actions[block])))(outputs)

        return kronecker_means(self._batch, scores, most_blocks)


def policy_preconditioner(
    network: MLP, factors: KroneckerMeans, dtype: np.dtype[Any], damping: float
) -> KroneckerPreconditioner:
    """Return the preconditioner of a policy, from :meth:`FisherOperator.factors`."""
    # After the network's parameters come the log σ, for which M is 2 (E22).
    return KroneckerPreconditioner(network, factors, dtype, damping, rest=2.0)


def _fisher_form(distribution: Distribution, v: Any) -> Any:
    """Return vᵀMv of each row; a distribution of one's own need not have it in a form of its own."""
    if hasattr(distribution, "fisher_form"):
        return distribution.fisher_form(v)
    products = zip(*map(_as_tuple, (v, distribution.fisher_product(v))), strict=True)
    return sum(np.sum(part * product, axis=tuple(range(1, part.ndim))) for part, product in products)


def _as_tuple(outputs: Any) -> tuple[Any, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
