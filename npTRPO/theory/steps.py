"""E26 to E32 and E38: the step that the trust region allows, and the search along it.

H is F + λI here, positive definite, so that H⁻¹ exists; its other computation is the dense matrix of
scores, solved directly.
"""

from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.theory.checks import COUNTED, KRYLOV, ROUNDING, AtMost, Comparison, Equal, Kind, measures
from npTRPO.theory.divergences import table_kl
from npTRPO.theory.instances import Instance
from npTRPO.trust_region.conjugate_gradient import conjugate_gradient
from npTRPO.trust_region.line_search import line_search
from npTRPO.trust_region.objective import mean_kl
from npTRPO.trust_region.update import lagrange_multiplier, natural_step, predicted_improvement


def _full_step(instance: Instance) -> tuple[Array, float]:
    """Return the step Δ and its multiplier λ."""
    x, curvature = instance.solution
    return natural_step(x, curvature, instance.target_kl), lagrange_multiplier(curvature, instance.target_kl)


def _direct(instance: Instance) -> tuple[Array, float]:
    """Return H⁻¹g and gᵀH⁻¹g by factorising the dense matrix."""
    x = np.linalg.solve(instance.dense, instance.gradient)
    return x, float(instance.gradient @ x)


@measures("E26", Kind.INEQUALITY, KRYLOV, natural_step, needs_gradient=True)
def model_problem(instance: Instance) -> tuple[Comparison, ...]:
    """E26: check that the step is feasible, and no other step on the region's boundary better.

    The others are in random directions, some of them near to the step's own.
    """
    rng, (step, _) = instance.rng(26), _full_step(instance)
    directions = rng.standard_normal((32, len(step)))
    directions[::2] = step + 1e-3 * np.linalg.norm(step) * directions[::2]
    quadratic = np.sum(directions * (directions @ instance.dense), axis=1) / 2
    others = directions * np.sqrt(instance.target_kl / quadratic)[:, None]
    best = float(instance.gradient @ step)
    return (
        AtMost(float(step @ instance.dense @ step) / 2, instance.target_kl),
        AtMost(others @ instance.gradient, best),
    )


@measures("E27", Kind.IDENTITY, KRYLOV, lagrange_multiplier, needs_gradient=True)
def kkt_conditions(instance: Instance) -> tuple[Comparison, ...]:
    """E27: check stationarity, feasibility of both problems and complementary slackness."""
    step, multiplier = _full_step(instance)
    divergence = float(step @ instance.dense @ step) / 2
    slackness = multiplier * (divergence - instance.target_kl)
    return (
        Equal(instance.gradient, multiplier * (instance.dense @ step)),
        AtMost(divergence, instance.target_kl),
        AtMost(0.0, multiplier),
        Equal(slackness, 0.0, scale=multiplier * instance.target_kl),
    )


@measures("E28", Kind.IDENTITY, KRYLOV, lagrange_multiplier, needs_gradient=True)
def multiplier_formula(instance: Instance) -> tuple[Comparison, ...]:
    """E28: compare the multiplier from xᵀHx with √(gᵀH⁻¹g / 2δ) with a direct solve."""
    _, quadratic = _direct(instance)
    return (Equal(_full_step(instance)[1], np.sqrt(quadratic / (2 * instance.target_kl))),)


@measures("E29", Kind.IDENTITY, KRYLOV, natural_step, needs_gradient=True)
def closed_form_step(instance: Instance) -> tuple[Comparison, ...]:
    """E29: compare the step from conjugate gradients with √(2δ / gᵀH⁻¹g) H⁻¹g with a direct solve."""
    x, quadratic = _direct(instance)
    return (Equal(_full_step(instance)[0], np.sqrt(2 * instance.target_kl / quadratic) * x),)


@measures("E30", Kind.IDENTITY, ROUNDING, natural_step)
def on_the_boundary(instance: Instance) -> tuple[Comparison, ...]:
    """E30: check ½ΔᵀFΔ = δ after one, two and three steps of conjugate gradients, converged or not."""
    comparisons = []
    for iterations in (1, 2, 3):
        x = conjugate_gradient(instance.damped, instance.gradient, rtol=0.0, maxiter=iterations).x
        curvature = instance.fisher.quadratic_form(x)
        if curvature > 0:
            step = natural_step(x, curvature, instance.target_kl)
            along = instance.scores @ step  # the quadratic form once more, without the operator
            comparisons.append(Equal(float(instance.batch.weights @ along**2) / 2, instance.target_kl))
    return tuple(comparisons)


@measures("E31", Kind.IDENTITY, KRYLOV, predicted_improvement, needs_gradient=True)
def linear_improvement(instance: Instance) -> tuple[Comparison, ...]:
    """E31: compare gᵀΔ with √(2δ gᵀH⁻¹g) with a direct solve."""
    step, _ = _full_step(instance)
    expected = np.sqrt(2 * instance.target_kl * _direct(instance)[1])
    return (Equal(predicted_improvement(instance.gradient, step), expected),)


def compatible_weights(scores: Array, weights: Array, advantages: Array) -> Array:
    """E32: return the least w that minimises Σ weights (wᵀ∇log π − A)², shape (p,), by least squares.

    Parameters
    ----------
    scores : array, shape (N, p)
        ∇log π(a|s).
    weights, advantages : array, shape (N,)
    """
    roots = np.sqrt(weights)
    found: Array = np.linalg.lstsq(roots[:, None] * scores, roots * advantages, rcond=1e-12)[0]
    return found


@measures("E32", Kind.IDENTITY, KRYLOV, compatible_weights)
def compatible_functions(instance: Instance) -> tuple[Comparison, ...]:
    """E32: check F w = (1 − γ)∇J, and compare the fit with that of conjugate gradients.

    F is singular, so there are many; both are compared by what they do: F w, and the error of the fit.
    """
    batch = instance.batch
    exact = (1 - instance.gamma) * instance.mdp.policy_gradient(instance.table, instance.theta)
    w = compatible_weights(instance.scores, batch.weights, batch.advantages)
    natural = conjugate_gradient(instance.fisher, exact, rtol=1e-12, maxiter=4 * len(w)).x
    size = float(np.max(np.abs(batch.advantages)))
    errors = [float(batch.weights @ (instance.scores @ fit - batch.advantages) ** 2) for fit in (w, natural)]
    return Equal(instance.fisher @ w, exact, size), Equal(errors[0], errors[1], size**2)


@measures("E38", Kind.IDENTITY, COUNTED, line_search, needs_gradient=True)
def backtracking(instance: Instance) -> tuple[Comparison, ...]:
    """E38: compare the fraction taken with the first good one of a list; θ stays where there is none.

    The step is made up to eight times too long, so that there is something to search for.
    """
    rng = instance.rng(38)
    shrinking, limit = float(rng.uniform(0.2, 0.8)), int(rng.integers(1, 8))
    step = 2 ** rng.uniform(-1, 3) * _full_step(instance)[0]
    options = {"target_kl": instance.target_kl, "shrinking_factor": shrinking, "max_iter": limit}
    start = float(instance.surrogate(instance.theta))

    def evaluate(theta: Array) -> tuple[float, float]:
        new: Any = instance.policy(theta, instance.states)
        divergence = mean_kl(instance.old_distribution, new, instance.old.visitation)
        return float(instance.surrogate(theta)), float(divergence)

    found = line_search(evaluate, instance.theta, step, start, **options)  # type: ignore[arg-type]
    good = [i for i in range(limit) if _is_good(instance, instance.theta + shrinking**i * step)]
    expected = instance.theta + shrinking ** good[0] * step if good else instance.theta
    never = line_search(lambda theta: (start, 0.0), instance.theta, step, start, **options)  # type: ignore[arg-type]
    return (
        Equal(found.tries, good[0] + 1 if good else limit),
        Equal(found.theta, expected),
        Equal(float(found.theta is instance.theta), float(not good)),
        Equal(float(never.theta is instance.theta), 1.0),
    )


def _is_good(instance: Instance, theta: Array) -> bool:
    """Return whether KL ≤ δ and the surrogate is larger than at the old parameters, by tables."""
    new = instance.table(theta)
    inside = float(instance.old.visitation @ table_kl(instance.old.policy, new)) <= instance.target_kl
    gain = float(
        instance.old.visitation @ np.sum((new - instance.old.policy) * instance.old.advantages, axis=1)
    )
    return inside and gain > 0
