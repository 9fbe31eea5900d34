"""E11 to E14: how wrong the surrogate can be."""

import numpy as np

from npTRPO._typing import Array
from npTRPO.theory.checks import ROUNDING, AtMost, Comparison, Kind, measures
from npTRPO.theory.exact import local_approximation, penalised_step, penalty
from npTRPO.theory.instances import Instance


def total_variation(old: Array, new: Array) -> Array:
    """Return D_TV of two tables of policies (S, A) in each state: ½ Σ_a |π(a|s) − π'(a|s)|, shape (S,)."""
    distance: Array = np.sum(np.abs(old - new), axis=1) / 2
    return distance


def worst_case_bound(instance: Instance) -> float:
    """E11: return 4εγ / (1 − γ)² · α² with α the largest total variation of any state."""
    alpha = float(np.max(total_variation(instance.old.policy, instance.new.policy)))
    return penalty(instance.old, instance.gamma) * alpha**2


def average_bound(instance: Instance) -> float:
    """E13: return 2γε' / (1 − γ)² · E_{s~ν^π}[D_TV] with ε' = max_s |E_{a~π'}[A^π(s, a)]|."""
    gain = float(np.max(np.abs(np.sum(instance.new.policy * instance.old.advantages, axis=1))))
    distance = float(instance.old.visitation @ total_variation(instance.old.policy, instance.new.policy))
    return 2 * instance.gamma * gain / (1 - instance.gamma) ** 2 * distance


def mean_total_variation_bound(mean_kl: float) -> float:
    """E14: return √(½ E[D_KL]), which is no less than E[D_TV] (Pinsker, Jensen)."""
    return float(np.sqrt(mean_kl / 2))


def _error(instance: Instance) -> tuple[float, float]:
    """Return L_π(π') − J(π'), and the size of what it is the difference of."""
    approximation = local_approximation(instance.old, instance.new.policy, instance.gamma)
    scale = float(np.max(np.abs(instance.old.values))) / (1 - instance.gamma)
    return approximation - instance.new.objective, scale


@measures("E11", Kind.INEQUALITY, ROUNDING, worst_case_bound)
def worst_case(instance: Instance) -> tuple[Comparison, ...]:
    """E11: check J(π') ≥ L_π(π') − 4εγ / (1 − γ)² · α²."""
    error, scale = _error(instance)
    return (AtMost(error, worst_case_bound(instance), scale),)


@measures("E12", Kind.INEQUALITY, ROUNDING, penalty, penalised_step)
def worst_case_in_kl(instance: Instance) -> tuple[Comparison, ...]:
    """E12: check D_TV² ≤ D_KL in every state, and J(π') ≥ L_π(π') − C · max_s D_KL."""
    error, scale = _error(instance)
    divergence = instance.old_distribution.kl(instance.new_distribution)
    return (
        AtMost(total_variation(instance.old.policy, instance.new.policy) ** 2, divergence),
        AtMost(error, penalty(instance.old, instance.gamma) * float(np.max(divergence)), scale),
    )


@measures("E13", Kind.INEQUALITY, ROUNDING, average_bound)
def on_average(instance: Instance) -> tuple[Comparison, ...]:
    """E13: check |J(π') − L_π(π')| ≤ 2γε' / (1 − γ)² · E[D_TV], and that this is no looser than E11."""
    error, scale = _error(instance)
    bound = average_bound(instance)
    return AtMost(abs(error), bound, scale), AtMost(bound, worst_case_bound(instance), scale)


@measures("E14", Kind.INEQUALITY, ROUNDING, mean_total_variation_bound)
def pinsker(instance: Instance) -> tuple[Comparison, ...]:
    """E14: check E[D_TV] ≤ √(½ E[D_KL])."""
    nu = instance.old.visitation
    mean_kl = float(nu @ instance.old_distribution.kl(instance.new_distribution))
    distance = float(nu @ total_variation(instance.old.policy, instance.new.policy))
    return (AtMost(distance, mean_total_variation_bound(mean_kl)),)
