"""E26 to E32 and E38: the step that the trust region allows, and the search along it.

H is F + λI here, positive definite, so that H⁻¹ exists; its other computation is the dense matrix of
scores, solved directly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.theory.cases import Case
from npTRPO.theory.divergences import table_kl
from npTRPO.theory.statements import COUNTED, KRYLOV, ROUNDING, AtMost, Comparison, Equal, Kind, states
from npTRPO.trust_region.conjugate_gradient import conjugate_gradient
from npTRPO.trust_region.line_search import line_search
from npTRPO.trust_region.objective import mean_kl
from npTRPO.trust_region.update import lagrange_multiplier, natural_step, predicted_improvement

__all__ = ["compatible_weights"]


def _full_step(case: Case) -> tuple[Array, float]:
    """The step Δ and its multiplier λ."""
    x, curvature = case.solution
    return natural_step(x, curvature, case.target_kl), lagrange_multiplier(curvature, case.target_kl)


def _direct(case: Case) -> tuple[Array, float]:
    """H⁻¹g and gᵀH⁻¹g by factorising the dense matrix."""
    x = np.linalg.solve(case.dense, case.gradient)
    return x, float(case.gradient @ x)


@states(
    "E26",
    Kind.INEQUALITY,
    KRYLOV,
    "npTRPO.trust_region.update.update",
    "npTRPO.trust_region.update.natural_step",
)
def model_problem(case: Case) -> tuple[Comparison, ...]:
    """E26: the step is feasible, and no better than it are other steps on the region's boundary.

    These are in random directions, some of them near to the step's own.
    """
    if not np.any(case.gradient):
        return ()
    rng, (step, _) = case.rng(26), _full_step(case)
    directions = rng.standard_normal((32, len(step)))
    directions[::2] = step + 1e-3 * np.linalg.norm(step) * directions[::2]
    quadratic = np.sum(directions * (directions @ case.dense), axis=1) / 2
    others = directions * np.sqrt(case.target_kl / quadratic)[:, None]
    best = float(case.gradient @ step)
    return (
        AtMost(float(step @ case.dense @ step) / 2, case.target_kl),
        AtMost(others @ case.gradient, best),
    )


@states("E27", Kind.IDENTITY, KRYLOV, "npTRPO.trust_region.update.lagrange_multiplier")
def kkt_conditions(case: Case) -> tuple[Comparison, ...]:
    """E27: stationarity, feasibility of both problems, complementary slackness."""
    if not np.any(case.gradient):
        return ()
    step, multiplier = _full_step(case)
    divergence = float(step @ case.dense @ step) / 2
    slackness = multiplier * (divergence - case.target_kl)
    return (
        Equal(case.gradient, multiplier * (case.dense @ step)),
        AtMost(divergence, case.target_kl),
        AtMost(0.0, multiplier),
        Equal(slackness, 0.0, scale=multiplier * case.target_kl),
    )


@states("E28", Kind.IDENTITY, KRYLOV, "npTRPO.trust_region.update.lagrange_multiplier")
def multiplier_formula(case: Case) -> tuple[Comparison, ...]:
    """E28: from xᵀHx, against √(gᵀH⁻¹g / 2δ) with a direct solve."""
    if not np.any(case.gradient):
        return ()
    _, quadratic = _direct(case)
    return (Equal(_full_step(case)[1], np.sqrt(quadratic / (2 * case.target_kl))),)


@states("E29", Kind.IDENTITY, KRYLOV, "npTRPO.trust_region.update.natural_step")
def closed_form_step(case: Case) -> tuple[Comparison, ...]:
    """E29: from conjugate gradients, against √(2δ / gᵀH⁻¹g) H⁻¹g with a direct solve."""
    if not np.any(case.gradient):
        return ()
    x, quadratic = _direct(case)
    return (Equal(_full_step(case)[0], np.sqrt(2 * case.target_kl / quadratic) * x),)


@states("E30", Kind.IDENTITY, ROUNDING, "npTRPO.trust_region.update.natural_step")
def on_the_boundary(case: Case) -> tuple[Comparison, ...]:
    """E30: ½ΔᵀFΔ = δ after one, two and three steps of conjugate gradients, converged or not."""
    comparisons = []
    for iterations in (1, 2, 3):
        x = conjugate_gradient(case.damped, case.gradient, rtol=0.0, maxiter=iterations).x
        curvature = case.fisher.quadratic_form(x)
        if curvature > 0:
            step = natural_step(x, curvature, case.target_kl)
            along = case.scores @ step  # the quadratic form once more, without the operator
            comparisons.append(Equal(float(case.batch.weights @ along**2) / 2, case.target_kl))
    return tuple(comparisons)


@states("E31", Kind.IDENTITY, KRYLOV, "npTRPO.trust_region.update.predicted_improvement")
def linear_improvement(case: Case) -> tuple[Comparison, ...]:
    """E31: gᵀΔ against √(2δ gᵀH⁻¹g) with a direct solve."""
    if not np.any(case.gradient):
        return ()
    step, _ = _full_step(case)
    expected = np.sqrt(2 * case.target_kl * _direct(case)[1])
    return (Equal(predicted_improvement(case.gradient, step), expected),)


def compatible_weights(scores: Array, weights: Array, advantages: Array) -> Array:
    """E32: the least w that minimises Σ weights (wᵀ∇log π − A)², shape (p,), by least squares.

    Parameters
    ----------
    scores : array, shape (N, p)
        ∇log π(a|s).
    weights, advantages : array, shape (N,)
    """
    roots = np.sqrt(weights)
    found: Array = np.linalg.lstsq(roots[:, None] * scores, roots * advantages, rcond=1e-12)[0]
    return found


@states("E32", Kind.IDENTITY, KRYLOV, "npTRPO.theory.steps.compatible_weights")
def compatible_functions(case: Case) -> tuple[Comparison, ...]:
    """E32: w solves F w = (1 − γ)∇J, and conjugate gradients on that find as good a fit.

    F is singular, so there are many; both are compared by what they do: F w, and the error of the fit.
    """
    batch = case.batch
    exact = (1 - case.gamma) * case.mdp.policy_gradient(case.table, case.theta)
    w = compatible_weights(case.scores, batch.weights, batch.advantages)
    natural = conjugate_gradient(case.fisher, exact, rtol=1e-12, maxiter=4 * len(w)).x
    size = float(np.max(np.abs(batch.advantages)))
    errors = [float(batch.weights @ (case.scores @ fit - batch.advantages) ** 2) for fit in (w, natural)]
    return Equal(case.fisher @ w, exact, size), Equal(errors[0], errors[1], size**2)


@states(
    "E38",
    Kind.IDENTITY,
    COUNTED,
    "npTRPO.trust_region.line_search.line_search",
)
def backtracking(case: Case) -> tuple[Comparison, ...]:
    """E38: the fraction that was taken is the first good one of a list; θ itself where none is.

    The step is made up to eight times too long, so that there is something to search for.
    """
    if not np.any(case.gradient):
        return ()
    rng = case.rng(38)
    shrinking, limit = float(rng.uniform(0.2, 0.8)), int(rng.integers(1, 8))
    step = 2 ** rng.uniform(-1, 3) * _full_step(case)[0]
    options = {"target_kl": case.target_kl, "shrinking_factor": shrinking, "max_iter": limit}
    start = float(case.surrogate(case.theta))

    def evaluate(theta: Array) -> tuple[float, float]:
        new: Any = case.policy(theta, case.states)
        divergence = mean_kl(case.old_distribution, new, case.old.visitation)
        return float(case.surrogate(theta)), float(divergence)

    found = line_search(evaluate, case.theta, step, start, **options)  # type: ignore[arg-type]
    good = [i for i in range(limit) if _is_good(case, case.theta + shrinking**i * step)]
    expected = case.theta + shrinking ** good[0] * step if good else case.theta
    never = line_search(lambda theta: (start, 0.0), case.theta, step, start, **options)  # type: ignore[arg-type]
    return (
        Equal(found.tries, good[0] + 1 if good else limit),
        Equal(found.theta, expected),
        Equal(float(found.theta is case.theta), float(not good)),
        Equal(float(never.theta is case.theta), 1.0),
    )


def _is_good(case: Case, theta: Array) -> bool:
    """Whether KL ≤ δ and the surrogate is larger than at the old parameters, by tables."""
    new = case.table(theta)
    inside = float(case.old.visitation @ table_kl(case.old.policy, new)) <= case.target_kl
    gain = float(case.old.visitation @ np.sum((new - case.old.policy) * case.old.advantages, axis=1))
    return inside and gain > 0
