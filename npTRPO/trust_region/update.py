"""One TRPO update: gradient, conjugate gradients, scale, line search.

E15, the problem that an update solves approximately: maximise the surrogate L_π(π_θ') subject to
E_{s~ν^π}[KL(π_θ(·|s) ‖ π_θ'(·|s))] ≤ δ, by its linear and quadratic models at θ (E26) and a search
along the solution (E38).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from npTRPO._typing import Array
from npTRPO.autograd import linearize
from npTRPO.policies.distributions import Distribution
from npTRPO.policies.policy import Policy
from npTRPO.trust_region.conjugate_gradient import CGResult, conjugate_gradient
from npTRPO.trust_region.fisher import FisherOperator
from npTRPO.trust_region.line_search import LineSearchResult, line_search
from npTRPO.trust_region.linearized import LinearizedRows, checked_weights

__all__ = [
    "Update",
    "UpdateOutcome",
    "lagrange_multiplier",
    "mean_kl",
    "natural_step",
    "predicted_improvement",
    "surrogate",
    "update",
]


class UpdateOutcome(enum.Enum):
    """What became of an update."""

    IMPROVED = "The policy moved to a better surrogate within the trust region."
    ZERO_GRADIENT = "The policy stays: the gradient of the surrogate is zero."
    NOT_FINITE = "The policy stays: the gradient of the surrogate, or what was learned by it, is not finite."
    NO_CURVATURE = "The policy stays: xᵀFx is not positive and finite along the solution x of F x = g."
    LINE_SEARCH_FAILED = "The policy stays: no step along the solution was accepted."


@dataclass(frozen=True)
class Update:
    """What an update did.

    Attributes
    ----------
    theta : array, shape (p,)
        New parameters; the very array that was given if the policy stays.
    outcome : UpdateOutcome
        What happened; its value is a sentence.
    kl : float
        Mean KL(old ‖ new) in nats; 0 if the policy stays.
    predicted_improvement : float
        gᵀΔ (E31) of the full step.
    improvement : float
        Surrogate at the new parameters minus that at the old ones.
    gradient_norm, step_norm : float
        ‖g‖ and ‖Δ‖ of the full step.
    entropy : float
        Mean entropy of the old policy in nats.
    cg : CGResult or None
        The linear solve, if it came to one.
    line_search : LineSearchResult or None
        The search, if it came to one.
    explained_variance : float
        Explained variance of the returns by the values before their fit; NaN where no values are fitted.
    """

    theta: Array
    outcome: UpdateOutcome
    gradient_norm: float
    entropy: float
    kl: float = 0.0
    predicted_improvement: float = 0.0
    improvement: float = 0.0
    step_norm: float = 0.0
    cg: CGResult | None = None
    line_search: LineSearchResult | None = None
    explained_variance: float = math.nan


def surrogate(
    new: Distribution, old_log_prob: Any, actions: Any, advantages: Any, weights: Any = None
) -> Any:
    """E10: 1/N Σ_n exp(log π_θ'(a_n|s_n) − log π_θ(a_n|s_n)) Â_n, in units of the advantages.

    E9: by importance sampling this estimates E_{s~ν^π, a~π'}[A^π(s, a)], which is
    (1 − γ)(L_π(π') − J(π)). The factor and the constant don't move the maximiser and are left away.
    ``weights``, shape (N,), take the place of 1/N; with all pairs (s, a) as the batch and ν^π(s) π(a|s)
    as their weights, it isn't an estimate but that expectation itself.

    References
    ----------
    Schulman et al. 2015, "Trust region policy optimization", equation 14.
    """
    return _mean(np.exp(new.log_prob(actions) - old_log_prob) * advantages, weights)


def mean_kl(old: Distribution, new: Distribution, weights: Any = None) -> Any:
    """E19: mean over the states of a batch of KL(old ‖ new), in nats.

    Exact in the actions (E16–E18) and, unless ``weights`` (N,) are the states' own probabilities, Monte
    Carlo in the states.
    """
    return _mean(old.kl(new), weights)


def _mean(values: Any, weights: Any) -> Any:
    return np.mean(values) if weights is None else np.sum(weights * values)


def natural_step(x: Array, curvature: float, target_kl: float) -> Array:
    """E29, E30: Δ = √(2δ / xᵀFx) x, which puts the quadratic model on the boundary: ½ΔᵀFΔ = δ.

    With F x = g it solves E26, and is the same step in all linear parametrisations (E25) if F isn't damped.

    Parameters
    ----------
    x : array, shape (p,)
        Approximate solution of F x = g.
    curvature : float
        xᵀFx, which is gᵀF⁻¹g when x is exact. (xᵀF⁻¹x, as some texts print it, is a slip.)
    target_kl : float
        δ in nats.
    """
    step: Array = x.dtype.type(math.sqrt(2 * target_kl / curvature)) * x
    return step


def lagrange_multiplier(curvature: float, target_kl: float) -> float:
    """E28: λ = √(gᵀF⁻¹g / (2δ)), the multiplier of the constraint ½ΔᵀFΔ ≤ δ (E27)."""
    return math.sqrt(curvature / (2 * target_kl))


def predicted_improvement(gradient: Array, step: Array) -> float:
    """E31: gᵀΔ, the improvement of the surrogate by its linear model."""
    return float(np.dot(gradient.astype(np.float64, copy=False), step.astype(np.float64, copy=False)))


@np.errstate(over="ignore", invalid="ignore")  # what isn't finite is refused, not warned about
def update(
    policy: Policy,
    theta: Array,
    observations: Array,
    actions: Array,
    advantages: Array,
    *,
    target_kl: float = 0.01,
    cg_max_steps: int = 15,
    cg_damping: float = 0.1,
    cg_rtol: float = 1e-2,
    cg_beta: Literal["fletcher-reeves", "polak-ribiere"] = "fletcher-reeves",
    cg_preconditioner: Literal["kronecker", "identity"] = "identity",
    line_search_shrinking_factor: float = 0.5,
    line_search_max_iter: int = 10,
    sub_sampling_factor: int = 1,
    weights: Array | None = None,
) -> Update:
    """Improve a policy on a batch by one trust-region step (the algorithm box of TRPO).

    E15, E26: maximises the surrogate within the trust region, by their linear and quadratic models at θ.

    Parameters
    ----------
    policy : Policy
        The family of distributions.
    theta : array, shape (p,)
        Parameters of the old policy, which took the actions. They aren't changed.
    observations : array, shape (N, features)
        Encoded observations.
    actions : array, shape (N, ...)
        Actions as the distribution gave them.
    advantages : array, shape (N,)
        Advantage estimates, in any unit.
    target_kl : float
        δ: largest mean KL(old ‖ new), in nats.
    cg_max_steps, cg_rtol, cg_beta
        Limits and formula of :func:`conjugate_gradient`.
    cg_preconditioner : {"kronecker", "identity"}
        Solve with :meth:`FisherOperator.preconditioner` or without.
    cg_damping : float
        λ of (F + λI) x = g. It isn't part of xᵀFx in E30.
    line_search_shrinking_factor, line_search_max_iter
        Of :func:`line_search`.
    sub_sampling_factor : int
        Every so-manieth state is used for F; gradient, surrogate and KL use all.
    weights : array, shape (N,), optional
        Weights of the batch's rows, not negative and with sum 1, in place of 1/N. With all pairs (s, a) of
        a finite problem as the batch and their exact probabilities as weights, the update is exact.

    Returns
    -------
    Update

    References
    ----------
    Schulman et al. 2015, "Trust region policy optimization", Algorithm 1 and Appendix C.
    """
    rows = LinearizedRows(policy.outputs, theta, observations)
    if weights is not None:
        weights = checked_weights(weights, len(observations))
    objective = _Objective(policy, rows, observations, actions, advantages, weights)
    g = objective.gradient
    stay = Update(theta, UpdateOutcome.ZERO_GRADIENT, float(np.linalg.norm(g)), objective.entropy)
    if not np.any(g):
        return stay
    if not np.all(np.isfinite(g)):
        return replace(stay, outcome=UpdateOutcome.NOT_FINITE)

    if sub_sampling_factor == 1:
        fisher = FisherOperator(policy, theta, observations, cg_damping, rows, weights)
    else:
        subset = slice(None, None, sub_sampling_factor)
        chosen = None if weights is None else weights[subset] / np.sum(weights[subset])
        fisher = FisherOperator(policy, theta, observations[subset], cg_damping, weights=chosen)
        actions = actions[subset]
    M = fisher.preconditioner(actions) if cg_preconditioner == "kronecker" else None
    cg = conjugate_gradient(fisher, g, rtol=cg_rtol, maxiter=cg_max_steps, M=M, beta=cg_beta)
    curvature = fisher.quadratic_form(cg.x)
    if not (math.isfinite(curvature) and curvature > 0):
        return replace(stay, outcome=UpdateOutcome.NO_CURVATURE, cg=cg)

    step = natural_step(cg.x, curvature, target_kl)
    search = line_search(
        objective,
        theta,
        step,
        objective.at_old,
        target_kl=target_kl,
        shrinking_factor=line_search_shrinking_factor,
        max_iter=line_search_max_iter,
    )
    return replace(
        stay,
        theta=search.theta,
        outcome=UpdateOutcome.IMPROVED if search.accepted else UpdateOutcome.LINE_SEARCH_FAILED,
        kl=search.kl,
        predicted_improvement=predicted_improvement(g, step),
        improvement=search.surrogate - objective.at_old,
        step_norm=float(np.linalg.norm(step)),
        cg=cg,
        line_search=search,
    )


class _Objective:
    """Surrogate and mean KL of new parameters on a batch, as the line search asks for them.

    The network runs in the dtype of θ, block by block; distributions are compared in float64, as a
    KL of 1e-8 would drown in float32's rounding.
    """

    def __init__(
        self,
        policy: Policy,
        rows: LinearizedRows,
        observations: Array,
        actions: Array,
        advantages: Array,
        weights: Array | None,
    ) -> None:
        self.policy = policy
        self.parts = []
        self.gradient: Array = np.zeros_like(rows.theta)
        """g = ∇L̂(θ), shape (p,): the gradient in the outputs carried back to θ."""
        self.at_old, self.entropy = 0.0, 0.0
        """The surrogate at the old parameters, where all ratios are 1, and the mean entropy there."""
        for block, lin in rows.blocks:
            outputs = _as(np.float64, lin.value)
            old, a, advantage = policy.family(outputs), actions[block], advantages[block]
            log_prob = old.log_prob(a)
            # The block's part of the whole; explicit weights are already parts of the whole.
            part = len(advantage) / rows.n_rows if weights is None else 1.0
            w = None if weights is None else weights[block]
            in_outputs = partial(_surrogate_of_outputs, policy, log_prob, a, advantage, w)
            score = linearize(in_outputs, outputs).vjp(np.asarray(part))
            self.gradient += lin.vjp(_as(rows.theta.dtype, score))
            self.at_old += part * float(_mean(advantage.astype(np.float64), w))
            self.entropy += part * float(_mean(old.entropy(), w))
            self.parts.append((part, observations[block], lin.value, log_prob, a, advantage, w))

    def __call__(self, theta: Array) -> tuple[float, float]:
        """Surrogate and mean KL at ``theta``."""
        total, divergence = 0.0, 0.0
        for part, observations, outputs, log_prob, actions, advantages, weights in self.parts:
            old = self.policy.family(_as(np.float64, outputs))
            new = self.policy.family(_as(np.float64, self.policy.outputs(theta, observations)))
            total += part * float(surrogate(new, log_prob, actions, advantages, weights))
            divergence += part * float(mean_kl(old, new, weights))
        return total, divergence


def _surrogate_of_outputs(
    policy: Policy, log_prob: Array, actions: Array, advantages: Array, weights: Any, outputs: Any
) -> Any:
    return surrogate(policy.family(outputs), log_prob, actions, advantages, weights)


def _as(dtype: npt.DTypeLike, outputs: Any) -> Any:
    """The outputs in a dtype."""
    if isinstance(outputs, tuple):
        return tuple(part.astype(dtype) for part in outputs)
    return outputs.astype(dtype)
