"""E11 to E14: how wrong the surrogate can be."""

from __future__ import annotations

import numpy as np

from npTRPO._typing import Array
from npTRPO.theory.cases import Case
from npTRPO.theory.exact import local_approximation, penalty
from npTRPO.theory.statements import ROUNDING, AtMost, Comparison, Kind, states

__all__ = ["average_bound", "mean_total_variation_bound", "total_variation", "worst_case_bound"]


def total_variation(old: Array, new: Array) -> Array:
    """D_TV of two tables of policies (S, A), state by state: ½ Σ_a |π(a|s) − π'(a|s)|, shape (S,)."""
    distance: Array = np.sum(np.abs(old - new), axis=1) / 2
    return distance


def worst_case_bound(case: Case) -> float:
    """E11: 4εγ / (1 − γ)² · α² with α the largest total variation of any state."""
    alpha = float(np.max(total_variation(case.old.policy, case.new.policy)))
    return penalty(case.old, case.gamma) * alpha**2


def average_bound(case: Case) -> float:
    """E13: 2γε' / (1 − γ)² · E_{s~ν^π}[D_TV], with ε' = max_s |E_{a~π'}[A^π(s, a)]|."""
    gain = float(np.max(np.abs(np.sum(case.new.policy * case.old.advantages, axis=1))))
    distance = float(case.old.visitation @ total_variation(case.old.policy, case.new.policy))
    return 2 * case.gamma * gain / (1 - case.gamma) ** 2 * distance


def mean_total_variation_bound(mean_kl: float) -> float:
    """E14: √(½ E[D_KL]), which is no less than E[D_TV] (Pinsker, Jensen)."""
    return float(np.sqrt(mean_kl / 2))


def _error(case: Case) -> tuple[float, float]:
    """L_π(π') − J(π') and the scale of what it is the difference of."""
    approximation = local_approximation(case.old, case.new.policy, case.gamma)
    scale = float(np.max(np.abs(case.old.values))) / (1 - case.gamma)
    return approximation - case.new.objective, scale


@states("E11", Kind.INEQUALITY, ROUNDING, "npTRPO.theory.bounds.worst_case_bound")
def worst_case(case: Case) -> tuple[Comparison, ...]:
    """E11: J(π') ≥ L_π(π') − 4εγ / (1 − γ)² · α²."""
    error, scale = _error(case)
    return (AtMost(error, worst_case_bound(case), scale),)


@states("E12", Kind.INEQUALITY, ROUNDING, "npTRPO.theory.exact.penalty", "npTRPO.theory.exact.penalised_step")
def worst_case_in_kl(case: Case) -> tuple[Comparison, ...]:
    """E12: D_TV² ≤ D_KL in every state, and J(π') ≥ L_π(π') − C · max_s D_KL."""
    error, scale = _error(case)
    divergence = case.old_distribution.kl(case.new_distribution)
    return (
        AtMost(total_variation(case.old.policy, case.new.policy) ** 2, divergence),
        AtMost(error, penalty(case.old, case.gamma) * float(np.max(divergence)), scale),
    )


@states("E13", Kind.INEQUALITY, ROUNDING, "npTRPO.theory.bounds.average_bound")
def on_average(case: Case) -> tuple[Comparison, ...]:
    """E13: |J(π') − L_π(π')| ≤ 2γε' / (1 − γ)² · E[D_TV], a bound that is never looser than E11's."""
    error, scale = _error(case)
    bound = average_bound(case)
    return AtMost(abs(error), bound, scale), AtMost(bound, worst_case_bound(case), scale)


@states("E14", Kind.INEQUALITY, ROUNDING, "npTRPO.theory.bounds.mean_total_variation_bound")
def pinsker(case: Case) -> tuple[Comparison, ...]:
    """E14: E[D_TV] ≤ √(½ E[D_KL])."""
    nu = case.old.visitation
    mean_kl = float(nu @ case.old_distribution.kl(case.new_distribution))
    distance = float(nu @ total_variation(case.old.policy, case.new.policy))
    return (AtMost(distance, mean_total_variation_bound(mean_kl)),)
