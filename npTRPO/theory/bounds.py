"""E11 to E14, E45 to E51 and E55: how wrong the surrogate can be, and how far apart policies are."""

from collections.abc import Callable

import numpy as np

from npTRPO._typing import Array
from npTRPO.policies.distributions import Categorical, DiagGaussian
from npTRPO.theory.checks import ROUNDING, SOLVED, AtMost, Comparison, Equal, Kind, measures
from npTRPO.theory.exact import guaranteed, local_approximation, penalised_step, penalty
from npTRPO.theory.instances import Instance, Pair, SharpPair
from npTRPO.theory.mdp import Evaluation


def total_variation(old: Array, new: Array) -> Array:
    """Return D_TV of two tables of policies (S, A) in each state: ½ Σ_a |π(a|s) − π'(a|s)|, shape (S,)."""
    distance: Array = np.sum(np.abs(old - new), axis=1) / 2
    return distance


def expected_advantages(pair: Pair) -> Array:
    """Return f(s) = E_{a~π'}[A^π(s, a)], shape (S,)."""
    expected: Array = np.sum(pair.new.policy * pair.old.advantages, axis=1)
    return expected


def _distances(pair: Pair) -> tuple[float, float]:
    """Return the largest total variation of any state, α, and its mean over ν^π."""
    distance = total_variation(pair.old.policy, pair.new.policy)
    return float(np.max(distance)), float(pair.old.visitation @ distance)


def worst_case_bound(pair: Pair) -> float:
    """E11: return 4εγ / (1 − γ)² · α² with α the largest total variation of any state."""
    return penalty(pair.old, pair.gamma) * _distances(pair)[0] ** 2


def tighter_worst_case_bound(pair: Pair) -> float:
    """E47: return 4εγα² / ((1 − γ)(1 − γ(1 − α))), E11 before its last simplification."""
    alpha = _distances(pair)[0]
    return worst_case_bound(pair) * (1 - pair.gamma) / (1 - pair.gamma * (1 - alpha))


def average_bound(pair: Pair) -> float:
    """E13: return 2γε' / (1 − γ)² · E_{s~ν^π}[D_TV] with ε' = max_s |E_{a~π'}[A^π(s, a)]|."""
    gain = float(np.max(np.abs(expected_advantages(pair))))
    return 2 * pair.gamma * gain / (1 - pair.gamma) ** 2 * _distances(pair)[1]


def span_bound(pair: Pair) -> float:
    """E49: return γ / (1 − γ)² · (max f − min f) · E_{s~ν^π}[D_TV] with f(s) = E_{a~π'}[A^π(s, a)].

    ν^π' − ν^π sums to zero, so that a constant may be taken from f in E13; the best one leaves half the span.
    """
    span = float(np.ptp(expected_advantages(pair)))
    return pair.gamma * span / (1 - pair.gamma) ** 2 * _distances(pair)[1]


def visitation_bound(pair: Pair) -> float:
    """E45: return 2γ / (1 − γ) · E_{s~ν^π}[D_TV], which is no less than ‖ν^π' − ν^π‖₁."""
    return 2 * pair.gamma / (1 - pair.gamma) * _distances(pair)[1]


def mean_total_variation_bound(mean_kl: float) -> float:
    """E14: return √(½ E[D_KL]), which is no less than E[D_TV] (Pinsker, Jensen)."""
    return float(np.sqrt(mean_kl / 2))


def squared_total_variation_bound(kl: Array) -> Array:
    """E50: return min(KL / 2, 1 − exp(−KL)), which is no less than TV²; the second is less beyond 1.594."""
    bound: Array = np.minimum(kl / 2, -np.expm1(-kl))
    return bound


def moved_to_better_actions(old: Evaluation, share: float) -> Array:
    """E46: return a policy (S, A) that moves a share of the worse actions' probability to better ones.

    Every action of negative advantage loses the share, and those of positive advantage gain it, each in
    proportion to its probability.
    """
    better = old.policy * (old.advantages > 0)
    worse = old.policy * (old.advantages < 0)
    gaining = np.sum(better, axis=1, keepdims=True)
    moved = share * np.sum(worse, axis=1, keepdims=True) * (gaining > 0)
    policy: Array = (
        old.policy - share * worse * (gaining > 0) + moved * better / np.where(gaining > 0, gaining, 1)
    )
    return policy


def chi_squared(new: Array, old: Array) -> Array:
    """E55: return χ²(π' ‖ π) = Σ_a (π' − π)² / π of two tables (S, A) in each state, shape (S,)."""
    divergence: Array = np.sum((new - old) ** 2 / old, axis=1)
    return divergence


def gaussian_chi_squared(new: DiagGaussian, old: DiagGaussian) -> Array:
    """E55: return χ²(π' ‖ π) of diagonal Gaussians in each state, shape (N,); infinite once σ'² ≥ 2σ².

    1 + χ² is the product over dimensions of σ² / (σ' √(2σ² − σ'²)) · exp((μ' − μ)² / (2σ² − σ'²)).
    """
    ratio, d = np.exp(2 * (new.log_std - old.log_std)), (new.mean - old.mean) / np.exp(old.log_std)
    left = np.maximum(2 - ratio, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(left > 0, d**2 / left - (np.log(ratio) + np.log(left)) / 2, np.inf)
    divergence: Array = np.expm1(np.sum(logs, axis=1))
    return divergence


def _error(pair: Pair) -> tuple[float, float]:
    """Return L_π(π') − J(π'), and the size of what it is the difference of."""
    approximation = local_approximation(pair.old, pair.new.policy, pair.gamma)
    scale = max(float(np.max(np.abs(x))) for x in (pair.old.values, pair.old.advantages)) / (1 - pair.gamma)
    return approximation - pair.new.objective, scale


def _bounded(
    instance: Instance,
    bound: Callable[[Pair], float],
    no_looser_than: Callable[[Pair], float] | None = None,
    sides: int = 1,
) -> tuple[Comparison, ...]:
    """Check that the surrogate of an instance and of its sharp pair is too large by no more than a bound.

    With two sides, nor too small; and that no bound is larger than another one.
    """
    comparisons = []
    for pair in instance.pairs:
        error, scale = _error(pair)
        comparisons.append(AtMost(error if sides == 1 else abs(error), bound(pair), scale))
        if no_looser_than is not None:
            comparisons.append(AtMost(bound(pair), no_looser_than(pair), scale))
    return tuple(comparisons)


def _moved(pair: Pair) -> float:
    """Return ‖ν^π' − ν^π‖₁."""
    return float(np.sum(np.abs(pair.new.visitation - pair.old.visitation)))


@measures("E11", Kind.INEQUALITY, ROUNDING, worst_case_bound)
def worst_case(instance: Instance) -> tuple[Comparison, ...]:
    """E11: check J(π') ≥ L_π(π') − 4εγ / (1 − γ)² · α², also where it is nearly attained (E48)."""
    return _bounded(instance, worst_case_bound)


@measures("E12", Kind.INEQUALITY, ROUNDING, penalty, guaranteed)
def worst_case_in_kl(instance: Instance) -> tuple[Comparison, ...]:
    """E12: check D_TV² ≤ D_KL in every state, and J(π') ≥ L_π(π') − C · max_s D_KL."""
    divergence = instance.old_distribution.kl(instance.new_distribution)
    bound = guaranteed(instance.old, instance.new.policy, instance.gamma, float(np.max(divergence)))
    return (
        AtMost(total_variation(instance.old.policy, instance.new.policy) ** 2, divergence),
        AtMost(bound, instance.new.objective, _error(instance)[1]),
    )


@measures("E13", Kind.INEQUALITY, ROUNDING, average_bound)
def on_average(instance: Instance) -> tuple[Comparison, ...]:
    """E13: check |J(π') − L_π(π')| ≤ 2γε' / (1 − γ)² · E[D_TV], and that this is no looser than E11.

    Both also for a pair of policies that nearly attains them (E48).
    """
    return _bounded(instance, average_bound, worst_case_bound, sides=2)


@measures("E14", Kind.INEQUALITY, ROUNDING, mean_total_variation_bound)
def pinsker(instance: Instance) -> tuple[Comparison, ...]:
    """E14: check E[D_TV] ≤ √(½ E[D_KL])."""
    mean_kl = float(instance.old.visitation @ instance.old_distribution.kl(instance.new_distribution))
    return (AtMost(_distances(instance)[1], mean_total_variation_bound(mean_kl)),)


@measures("E45", Kind.INEQUALITY, ROUNDING, visitation_bound)
def close_visitations(instance: Instance) -> tuple[Comparison, ...]:
    """E45: check ‖ν^π' − ν^π‖₁ ≤ 2γ / (1 − γ) · E[D_TV], also where it is nearly attained (E48).

    The identity behind it is ν^π' − ν^π = γ (I − γP_π'ᵀ)⁻¹ (P_π' − P_π)ᵀ ν^π.
    """
    return tuple(AtMost(_moved(p), visitation_bound(p), 1 / (1 - p.gamma)) for p in instance.pairs)


@measures("E46", Kind.INEQUALITY, ROUNDING, moved_to_better_actions)
def policy_improvement(instance: Instance) -> tuple[Comparison, ...]:
    """E46: check that a policy which takes better actions more often, worse ones less, has no smaller J.

    The share that is moved is drawn, up to all of it; E_{a~π'}[A^π(s, a)] must not be negative in any state.
    """
    old = instance.old
    new = moved_to_better_actions(old, float(instance.rng(46).uniform(0, 1)))
    size = _error(instance)[1]
    return (
        AtMost(0.0, np.sum(new * old.advantages, axis=1), size),
        AtMost(old.objective, instance.mdp.evaluate(new).objective, size),
        Equal(np.sum(new, axis=1), np.ones(len(new))),
    )


@measures("E47", Kind.INEQUALITY, ROUNDING, tighter_worst_case_bound)
def before_simplification(instance: Instance) -> tuple[Comparison, ...]:
    """E47: check that the bound holds and is no looser than E11, also where it is attained (E48)."""
    return _bounded(instance, tighter_worst_case_bound, worst_case_bound)


@measures("E48", Kind.IDENTITY, SOLVED, SharpPair)
def attained(instance: Instance) -> tuple[Comparison, ...]:
    """E48: compare the error with the bounds of E47, E11, E13 and E49, and distances of visitations with E45.

    The error is E47's bound, and (1 − γ) / (1 − γ(1 − α)) of the others; those on average also for α > ½.
    """
    gamma, comparisons = instance.gamma, []
    for pair in (instance.sharp, SharpPair.of(1 - instance.sharp.alpha, gamma)):
        (error, scale), share = _error(pair), (1 - gamma) / (1 - gamma * (1 - pair.alpha))
        comparisons.append(Equal(_moved(pair), share * visitation_bound(pair), 1.0))
        bounds = [share * average_bound(pair), share * span_bound(pair)]
        if pair.alpha <= 0.5:
            bounds += [tighter_worst_case_bound(pair), share * worst_case_bound(pair)]
        comparisons += [Equal(error, bound, scale) for bound in bounds]
    return tuple(comparisons)


@measures("E49", Kind.INEQUALITY, ROUNDING, span_bound)
def half_the_span(instance: Instance) -> tuple[Comparison, ...]:
    """E49: check the bound from both sides of zero, and that it is no looser than E13."""
    return _bounded(instance, span_bound, average_bound, sides=2)


@measures("E50", Kind.INEQUALITY, ROUNDING, squared_total_variation_bound)
def variation_within_divergence(instance: Instance) -> tuple[Comparison, ...]:
    """E50: check both bounds of TV² for either direction of KL, near and far, and E12 with half of C."""
    far = (Categorical(6 * logits) for logits in instance.rng(50).standard_normal((2, 8, 3)))
    comparisons: list[Comparison] = []
    for old, new in ((instance.old_distribution, instance.new_distribution), tuple(far)):
        squared = total_variation(old.probs, new.probs) ** 2
        comparisons += (
            AtMost(squared, squared_total_variation_bound(kl)) for kl in (old.kl(new), new.kl(old))
        )
    largest = float(np.max(instance.old_distribution.kl(instance.new_distribution)))
    bound = guaranteed(instance.old, instance.new.policy, instance.gamma, largest / 2)
    return (*comparisons, AtMost(bound, instance.new.objective, _error(instance)[1]))


@measures("E51", Kind.INEQUALITY, ROUNDING, guaranteed, penalised_step)
def monotonic_improvement(instance: Instance) -> tuple[Comparison, ...]:
    """E51: check J(π') ≥ M(π') and M(π) = J(π), and J(π') ≥ M(π') ≥ J(π) for the π' that maximises M.

    The latter in one instance of eight, as the search for the maximum takes its time.
    """
    old, gamma, (_, size) = instance.old, instance.gamma, _error(instance)
    largest = float(np.max(instance.old_distribution.kl(instance.new_distribution)))
    always = (
        AtMost(guaranteed(old, instance.new.policy, gamma, largest), instance.new.objective, size),
        Equal(guaranteed(old, old.policy, gamma, 0.0), old.objective, size),
    )
    if instance.seed % 8:
        return always
    best = penalised_step(instance.mdp, old.policy)
    return (
        *always,
        AtMost(old.objective, best.bound, size),
        AtMost(best.bound, instance.mdp.evaluate(best.policy).objective, size),
    )


@measures("E55", Kind.IDENTITY, ROUNDING, chi_squared, gaussian_chi_squared)
def spread_of_weights(instance: Instance) -> tuple[Comparison, ...]:
    """E55: compare second moments of the ratios of training with 1 + χ², and χ² with KL / min π.

    For Gaussians, moments are sums over a fine grid of actions. In each state a single ratio times advantage
    has a variance of at most max A² times 1 + χ².
    """
    old, new = instance.old_distribution, instance.new_distribution
    ratios = np.exp(new.log_probs - old.log_probs)
    chi, advantages = chi_squared(new.probs, old.probs), instance.old.advantages
    moment = np.sum(old.probs * ratios**2, axis=1)
    mean = np.sum(old.probs * ratios * advantages, axis=1, keepdims=True)
    variance = np.sum(old.probs * (ratios * advantages - mean) ** 2, axis=1)
    return (
        Equal(moment, 1 + chi),
        AtMost(variance, np.max(advantages**2, axis=1) * (1 + chi)),
        AtMost(chi, old.kl(new) / np.min(old.probs, axis=1), scale=1.0),
        *_gaussian_spread(instance),
    )


def _gaussian_spread(instance: Instance) -> tuple[Comparison, ...]:
    """Compare 1 + χ² of Gaussians with a sum over a grid, where the ratio's square has a finite mean."""
    draws = instance.rng(55).uniform(-1, 1, (4, 3, 1))
    spread = np.exp(draws[1])
    old = DiagGaussian(draws[0], draws[1])
    new = DiagGaussian(draws[0] + spread * draws[2], draws[1] + 0.2 * draws[3])
    grid = old.mean + 30 * spread * np.linspace(-1, 1, 4001)[:, None, None]
    logs = 2 * new.log_prob(grid) - old.log_prob(grid)
    summed = np.sum(np.exp(logs), axis=0) * (60 * spread[:, 0] / 4000)
    return (Equal(summed, 1 + gaussian_chi_squared(new, old)),)
