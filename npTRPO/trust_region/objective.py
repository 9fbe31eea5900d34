"""Objectives of an update: a surrogate that is improved and a divergence that is bounded.

:func:`npTRPO.trust_region.update` takes any :class:`Objective`; :class:`PolicyObjective` is TRPO's own.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from npTRPO._typing import Array
from npTRPO.autograd import value_and_grad
from npTRPO.policies.distributions import Distribution
from npTRPO.policies.policy import Policy
from npTRPO.trust_region.curvature import Curvature
from npTRPO.trust_region.fisher import FisherOperator
from npTRPO.trust_region.kronecker import KroneckerMeans
from npTRPO.trust_region.linearized import BLOCK_ROWS, BatchLinearization, Block, cast, part, weighted_mean


def surrogate(
    new: Distribution, old_log_prob: Any, actions: Any, advantages: Any, weights: Any = None
) -> Any:
    """E10: 1/N Σ_n exp(log π_θ'(a_n|s_n) − log π_θ(a_n|s_n)) Â_n, in units of the advantages.

    E9: by importance sampling this estimates E_{s~d, a~π'}[A^π(s, a)], where d weighs states as the batch
    does. With weights in proportion to γᵗ, t the step within the episode, d is ν^π, and that is (1 − γ)
    (L_π(π') − J(π)): the factor and the constant don't move the maximiser and are left out. With 1/N states
    count as often as they are visited (E56). That is what is usually trained; where states share parameters,
    its gradient may point against that of the discounted return.

    ``weights``, shape (N,), take the place of 1/N; with all pairs (s, a) as the batch and ν^π(s) π(a|s)
    as their weights, it isn't an estimate but that expectation itself.

    References
    ----------
    Schulman et al. 2015, "Trust region policy optimization", equation 14.
    """
    return weighted_mean(np.exp(new.log_prob(actions) - old_log_prob) * advantages, weights)


def mean_kl(old: Distribution, new: Distribution, weights: Any = None) -> Any:
    """E19: mean over the states of a batch of KL(old ‖ new), in nats.

    Exact in the actions (E16–E18) and, unless ``weights`` (N,) are the states' own probabilities, Monte
    Carlo in the states.
    """
    return weighted_mean(old.kl(new), weights)


class Trial(NamedTuple):
    """Values of an objective at new parameters.

    Attributes
    ----------
    surrogate : float
        The value to improve.
    divergence : float
        The value to bound, 0 at the old parameters; for a policy the mean KL divergence in nats.
    """

    surrogate: float
    divergence: float


class Objective(Protocol):
    """A surrogate to improve and a divergence to bound, with their models at the old parameters θ.

    Attributes
    ----------
    gradient : array, shape (p,)
        g, the gradient of the surrogate at θ.
    at_old : float
        The surrogate at θ.
    entropy : float
        Mean entropy of the old policy in nats, which is reported.
    """

    gradient: Array
    at_old: float
    entropy: float

    def system(self) -> tuple[Curvature, Callable[[Array], Array] | None]:
        """Return H + λI, where ½ ΔᵀHΔ models the divergence, and a preconditioner (E35) or None.

        Asked for only where the gradient is finite and not zero.
        """

    def __call__(self, theta: Array) -> Trial:
        """Evaluate surrogate and divergence at ``theta``."""


class PolicyObjective:
    """A policy's surrogate and mean KL divergence on a batch, with gradient and curvature at θ.

    The network runs in the dtype of θ, block by block; distributions are compared in float64, as a
    KL of 1e-8 would drown in float32's rounding.

    Parameters
    ----------
    policy : Policy
        The family of distributions.
    theta : array, shape (p,)
        Parameters of the old policy, which took the actions.
    observations : array, shape (N, features)
        Encoded observations.
    actions : array, shape (N, ...)
        Actions as the distribution gave them.
    advantages : array, shape (N,)
        Advantage estimates, in any unit.
    weights : array, shape (N,), optional
        Weights of the batch's rows, not negative and with sum 1, in place of 1/N.
    cg_damping : float
        λ of (F + λI) x = g.
    cg_preconditioner : {"kronecker", "identity"}
        Solve with :meth:`FisherOperator.preconditioner` or without.
    sub_sampling_factor : int
        Use every k-th state for F; gradient, surrogate and KL use all.
    block_rows : int
        Rows that are worked on together, as in :class:`BatchLinearization`.

    old : array, or tuple of arrays, with N rows; optional
        Outputs of the policy that acted, if they aren't the policy's own for these parameters and
        observations. The importance ratios and the KL divergence are then from that policy.

    Attributes
    ----------
    gradient : array, shape (p,)
        g = ∇L̂(θ): the gradient in the outputs carried back to θ.
    at_old, entropy : float
        The surrogate of the policy that acted, whose ratios are 1, and its mean entropy.
    """

    @np.errstate(over="ignore", invalid="ignore")  # what isn't finite is refused by the update
    def __init__(
        self,
        policy: Policy,
        theta: Array,
        observations: Array,
        actions: Array,
        advantages: Array,
        *,
        weights: Array | None = None,
        cg_damping: float = 0.1,
        cg_preconditioner: Literal["kronecker", "identity"] = "identity",
        sub_sampling_factor: int = 1,
        block_rows: int = BLOCK_ROWS,
        old: Any = None,
    ) -> None:
        self._policy, self._actions, self._advantages = policy, actions, advantages
        self._damping, self._preconditioner = cg_damping, cg_preconditioner
        self._every = slice(None, None, sub_sampling_factor)
        self._batch = BatchLinearization(policy.outputs, theta, observations, weights, block_rows=block_rows)
        self._acted = old
        self._old_log_probs: list[Array] = []
        self.gradient, at_old, entropy = self._batch.mean(self._model)
        self.at_old, self.entropy = float(at_old), float(entropy)

    def __call__(self, theta: Array) -> Trial:
        """Evaluate surrogate and mean KL at ``theta``."""
        return Trial(*map(float, self.trial(theta)))

    def trial(self, theta: Array) -> tuple[Any, Any]:
        """Return surrogate and mean KL at ``theta``, as means over the rows."""

        def of_block(block: Block, old_log_prob: Array) -> tuple[Any, Any]:
            outputs = self._policy.outputs(theta, self._batch.rows[block.rows])
            new = self._policy.family(cast(outputs, np.float64))
            return self._surrogate(block, new, old_log_prob), mean_kl(self._old(block), new, block.weights)

        return self._batch.mean(of_block, self._old_log_probs)  # type: ignore[no-any-return]

    def system(self) -> tuple[Curvature, Callable[[Array], Array] | None]:
        """Return F + λI, of every k-th state, and its Kronecker factors, where they are asked for."""
        is_plain = self._preconditioner == "identity"
        return self._fisher, None if is_plain else self._fisher.preconditioner(self._actions[self._every])

    @cached_property
    def _fisher(self) -> FisherOperator:
        batch, every = self._batch, self._every
        if every.step == 1:
            return FisherOperator.of(batch, self._policy, self._damping)
        w = None if batch.weights is None else batch.weights[every]
        if w is not None:  # states that all weigh nothing count equally
            w = w / np.sum(w) if np.any(w) else np.full(len(w), 1 / len(w))
        return FisherOperator(self._policy, batch.theta, batch.rows[every], self._damping, weights=w)

    # --- as a part of a batch --------------------------------------------------------------------

    def model(self) -> tuple[Array, float, float, float]:
        """Return gradient, surrogate and entropy, and which part of the rows' weight is used for F."""
        batch, every = self._batch, self._every
        if batch.weights is None:
            chosen = len(range(len(batch.rows))[every]) / len(batch.rows)
        else:
            chosen = float(np.sum(batch.weights[every]))
        return self.gradient, self.at_old, self.entropy, chosen

    def product(self, v: Array) -> Any:
        """Return F v, without the damping."""
        return self._fisher.product(v)

    def form(self, v: Array) -> float:
        """Return vᵀFv."""
        return self._fisher.form(v)

    def factors(self, most_blocks: int) -> KroneckerMeans:
        """Return the Kronecker factors of F."""
        return self._fisher.factors(self._actions[self._every], most_blocks)

    def _old(self, block: Block) -> Distribution:
        outputs = block.value if self._acted is None else part(self._acted, block.rows)
        return self._policy.family(cast(outputs, np.float64))

    def _surrogate(self, block: Block, new: Distribution, old_log_prob: Array) -> Any:
        rows = block.rows
        return surrogate(new, old_log_prob, self._actions[rows], self._advantages[rows], block.weights)

    def _model(self, block: Block) -> tuple[Any, Any, Any]:
        """Return the gradient at θ, and surrogate and entropy of the policy that acted."""
        old = self._old(block)
        old_log_prob = old.log_prob(self._actions[block.rows])
        self._old_log_probs.append(old_log_prob)

        def of_outputs(outputs: Any) -> Any:
            return self._surrogate(block, self._policy.family(outputs), old_log_prob)

        at_old, score = value_and_grad(of_outputs)(cast(block.value, np.float64))
        gradient = block.linearized().vjp(cast(score, self._batch.theta.dtype))
        if self._acted is not None:
            at_old = self._surrogate(block, old, old_log_prob)
        return gradient, at_old, weighted_mean(old.entropy(), block.weights)
