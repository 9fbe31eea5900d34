"""One TRPO update: gradient, conjugate gradients, scale, line search.

E15, the problem that an update solves approximately: maximise the surrogate L_π(π_θ') subject to
E_{s~ν^π}[KL(π_θ(·|s) ‖ π_θ'(·|s))] ≤ δ, by its linear and quadratic models at θ (E26) and a search
along the solution (E38).
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.trust_region.conjugate_gradient import Beta, CGResult, ConjugateGradient
from npTRPO.trust_region.line_search import LineSearch, LineSearchResult
from npTRPO.trust_region.objective import Objective, PolicyObjective

SOLVER, SEARCH = ConjugateGradient(rtol=1e-2, maxiter=15), LineSearch()


class UpdateOutcome(enum.Enum):
    """Outcome of an update."""

    IMPROVED = "The policy moved to a better surrogate within the trust region."
    ZERO_GRADIENT = "The policy stays: the gradient of the surrogate is zero."
    NOT_FINITE = "The policy stays: the gradient of the surrogate, or what was learned by it, is not finite."
    NO_CURVATURE = "The policy stays: xᵀFx is not positive and finite along the solution x of F x = g."
    LINE_SEARCH_FAILED = "The policy stays: no step along the solution was accepted."
    MEASURED = (
        "Only the observations were measured: taking up their moments moved the policy out of the region."
    )


@dataclass(frozen=True)
class Update:
    """Result of an update.

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
    objective: Any,
    theta: Array,
    observations: Array | None = None,
    actions: Array | None = None,
    advantages: Array | None = None,
    *,
    target_kl: float = 0.01,
    solver: ConjugateGradient = SOLVER,
    search: Callable[..., LineSearchResult] = SEARCH,
    damped_step: bool = False,
    **settings: Any,
) -> Update:
    """Improve an objective by one trust-region step (the algorithm box of TRPO).

    E15, E26: maximises the surrogate within the trust region, by their linear and quadratic models at θ.

    ``update(objective, theta, target_kl=…, solver=…, search=…)`` is the general form. For
    ``update(policy, theta, observations, actions, advantages, **settings)`` the three are made from the
    batch and the settings below.

    Parameters
    ----------
    objective : Objective or Policy
        The objective; or, with a batch, the family of distributions.
    theta : array, shape (p,)
        The old parameters, at which the objective has its gradient and curvature. They aren't changed.
    observations, actions, advantages
        As in :class:`PolicyObjective`.
    target_kl : float
        δ: largest mean KL(old ‖ new), in nats.
    solver : ConjugateGradient
        Solves (F + λI) x = g.
    search : LineSearch or callable
        Searches along the full step: ``search(objective, theta, step, at_old, target_kl=…)``.
    damped_step : bool
        Scale the step by xᵀ(F + λI)x in place of xᵀFx in E30: the region of the quadratic model is then
        that of F + λI, and the step shorter.
    cg_max_steps, cg_rtol, cg_beta
        Limits and formula of :func:`conjugate_gradient`: 15, 1e-2 and "fletcher-reeves".
    cg_damping, cg_preconditioner, sub_sampling_factor, weights
        Of :class:`PolicyObjective`. With all pairs (s, a) of a finite problem as the batch and their exact
        probabilities as weights, the update is exact.
    line_search_shrinking_factor, line_search_max_iter
        Of :func:`line_search`: 0.5 and 10.

    Returns
    -------
    Update

    References
    ----------
    Schulman et al. 2015, "Trust region policy optimization", Algorithm 1 and Appendix C.
    """
    if observations is None and settings:
        raise TypeError(f"{', '.join(settings)}: such settings need observations, actions and advantages")
    if observations is not None:
        if (solver, search) != (SOLVER, SEARCH):
            raise TypeError("solver and search go with an objective; with a batch, give settings instead")
        objective, solver, search = _parts(objective, theta, observations, actions, advantages, **settings)
    g = objective.gradient
    stay = Update(theta, UpdateOutcome.ZERO_GRADIENT, float(np.linalg.norm(g)), objective.entropy)
    if not np.any(g):
        return stay
    if not np.all(np.isfinite(g)):
        return replace(stay, outcome=UpdateOutcome.NOT_FINITE)

    fisher, M = objective.system()
    cg = solver.solve(fisher, g, M=M)
    curvature = fisher.quadratic_form(cg.x, damped=damped_step)
    if not (math.isfinite(curvature) and curvature > 0):
        return replace(stay, outcome=UpdateOutcome.NO_CURVATURE, cg=cg)

    step = natural_step(cg.x, curvature, target_kl)
    found = search(objective, theta, step, objective.at_old, target_kl=target_kl)
    return replace(
        stay,
        theta=found.theta,
        outcome=UpdateOutcome.IMPROVED if found.accepted else UpdateOutcome.LINE_SEARCH_FAILED,
        kl=found.kl,
        predicted_improvement=predicted_improvement(g, step),
        improvement=found.surrogate - objective.at_old,
        step_norm=float(np.linalg.norm(step)),
        cg=cg,
        line_search=found,
    )


def _parts(
    *batch: Any,
    cg_max_steps: int = 15,
    cg_rtol: float = 1e-2,
    cg_beta: Beta = "fletcher-reeves",
    line_search_shrinking_factor: float = 0.5,
    line_search_max_iter: int = 10,
    **of_objective: Any,
) -> tuple[Objective, ConjugateGradient, LineSearch]:
    """Return the objective, solver and search of an update that is given by a batch and settings."""
    solver = ConjugateGradient(cg_rtol, maxiter=cg_max_steps, beta=cg_beta)
    search = LineSearch(line_search_shrinking_factor, line_search_max_iter)
    return PolicyObjective(*batch, **of_objective), solver, search
