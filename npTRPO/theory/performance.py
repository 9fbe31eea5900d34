"""E1 to E10: how much better the new policy is, and the surrogate for it."""

from __future__ import annotations

import math

import numpy as np

from npTRPO._typing import Array
from npTRPO.sampling.advantages import td_residuals
from npTRPO.theory.cases import COMPLEX_STEP, SAMPLES, Case
from npTRPO.theory.exact import local_approximation
from npTRPO.theory.mdp import Evaluation
from npTRPO.theory.simulation import draw, sample_visitation
from npTRPO.theory.statements import ROUNDING, SOLVED, AtMost, Comparison, Equal, Estimate, Kind, states
from npTRPO.trust_region.objective import surrogate

__all__: list[str] = []


def discounted_sum(transition: Array, start: Array, discount: float) -> Array:
    """Σ_t γᵗ (Pᵀ)ᵗ ρ by adding terms up until those left are below rounding: no system is solved.

    E1, E5: the discounted occupation of states, ν / (1 − γ). Terms are doubled by squaring γPᵀ; what is
    left after n terms is at most γⁿ / (1 − γ).
    """
    total, power, terms = start, discount * transition.T, 1
    while discount**terms > 1e-17 * (1 - discount):
        total, power, terms = total + power @ total, power @ power, 2 * terms
    return total


def _expected_residuals(case: Case, values: Array, reward: Array) -> Array:
    """E[r + γV(s') − V(s) | s, a] over next states, shape (S, A), by the function that training uses."""
    shape = case.mdp.transition.shape
    sides = np.broadcast_to(values[:, None, None], shape), np.broadcast_to(values, shape)
    residuals = td_residuals(reward[:, :, None], *sides, np.zeros(shape, dtype=bool), case.gamma)
    return np.asarray(np.sum(case.mdp.transition * residuals, axis=2))


def _along(case: Case, policy: Evaluation, per_pair: Array) -> float:
    """E_{τ~π}[Σ_t γᵗ f(s_t, a_t)] for f of shape (S, A), by following the distribution of s_t."""
    occupation = discounted_sum(policy.transition, case.mdp.start, case.gamma)
    return float(occupation @ np.sum(policy.policy * per_pair, axis=1))


@states("E1", Kind.IDENTITY, SOLVED, "npTRPO.theory.mdp.TabularMDP.evaluate")
def objective(case: Case) -> tuple[Comparison, ...]:
    """E1: V by a linear solve, and J, against sums of discounted rewards over time."""
    old, start = case.old, case.mdp.start
    reward = np.sum(old.policy * case.mdp.reward, axis=1)
    summed = discounted_sum(old.transition.T, reward, case.gamma)
    return (
        Equal(old.values, summed),
        Equal(float(start @ old.values), _along(case, old, case.mdp.reward), scale=_size(summed)),
        Equal(old.objective, float(start @ old.values)),
    )


@states("E2", Kind.STATISTICAL, SOLVED, "npTRPO.sampling.advantages.td_residuals")
def telescoping(case: Case) -> tuple[Comparison, ...]:
    """E2: any V, here a random one; exactly, and by simulation of the new policy."""
    rng, new, gamma = case.rng(2), case.new, case.gamma
    values = rng.standard_normal(case.mdp.n_states)
    left = float(case.mdp.start @ values)
    nothing = np.zeros_like(case.mdp.reward)
    right = -_along(case, new, _expected_residuals(case, values, nothing))

    sample = sample_visitation(case.mdp, new.policy, SAMPLES, rng)
    none, never = np.zeros(SAMPLES), np.zeros(SAMPLES, dtype=bool)
    differences = td_residuals(none, values[sample.states], values[sample.next_states], never, gamma)
    possible = (values[:, None] - gamma * values) / (1 - gamma)  # of one sample, by s and s'
    second_moment = new.visitation @ np.sum(new.transition * possible**2, axis=1)
    mean = -float(np.mean(differences)) / (1 - gamma)
    scale = _size(values) / (1 - gamma)
    return (
        Equal(left, right, scale),
        Estimate(mean, left, second_moment - left**2, np.max(np.abs(possible - left)), SAMPLES, scale),
    )


@states("E3", Kind.IDENTITY, SOLVED, "npTRPO.sampling.advantages.td_residuals")
def performance_difference(case: Case) -> tuple[Comparison, ...]:
    """E3: the difference of two solved objectives against TD residuals and against advantages."""
    old, new = case.old, case.new
    left, scale = new.objective - old.objective, _size(old.values, new.values)
    residuals = _expected_residuals(case, old.values, case.mdp.reward)
    return (
        Equal(left, _along(case, new, residuals), scale),
        Equal(left, _along(case, new, old.advantages), scale),
    )


@states("E4", Kind.STATISTICAL, SOLVED, "npTRPO.sampling.advantages.td_residuals")
def residual_is_unbiased(case: Case) -> tuple[Comparison, ...]:
    """E4: for every pair (s, a), the mean of δ over next states; exactly, and over drawn ones."""
    rng, old, mdp = case.rng(4), case.old, case.mdp
    expected = _expected_residuals(case, old.values, mdp.reward)
    rows = np.repeat(mdp.transition.reshape(-1, mdp.n_states), SAMPLES, axis=0)
    arrived = old.values[draw(rows, rng)].reshape(mdp.n_states, mdp.n_actions, SAMPLES)
    here = np.broadcast_to(old.values[:, None, None], arrived.shape)
    never = np.zeros(arrived.shape, dtype=bool)
    residuals = td_residuals(mdp.reward[:, :, None], here, arrived, never, case.gamma)
    spread = old.values - (mdp.transition @ old.values)[:, :, None]
    variance = case.gamma**2 * np.sum(mdp.transition * spread**2, axis=2)
    bound = case.gamma * np.max(np.abs(spread), axis=2)
    return (
        Equal(expected, old.advantages, _size(old.values)),
        Estimate(np.mean(residuals, axis=2), old.advantages, variance, bound, SAMPLES, _size(old.values)),
    )


@states("E5", Kind.IDENTITY, SOLVED, "npTRPO.theory.mdp.TabularMDP.evaluate")
def visitation(case: Case) -> tuple[Comparison, ...]:
    """E5: a solved system against the sum over time; ν is a distribution and solves the system."""
    nu, gamma = case.old.visitation, case.gamma
    stationary = (1 - gamma) * case.mdp.start + gamma * (case.old.transition.T @ nu)
    return (
        Equal(nu, (1 - gamma) * discounted_sum(case.old.transition, case.mdp.start, gamma)),
        Equal(float(np.sum(nu)), 1.0),
        Equal(nu, stationary),
        AtMost(0.0, nu, scale=1.0),
    )


@states("E6", Kind.IDENTITY, SOLVED, "npTRPO.theory.mdp.Evaluation")
def advantages_over_visitation(case: Case) -> tuple[Comparison, ...]:
    """E6: along trajectories of the new policy, against a mean over its visitation."""
    old, new = case.old, case.new
    mean = float(new.visitation @ np.sum(new.policy * old.advantages, axis=1))
    return (Equal(_along(case, new, old.advantages), mean / (1 - case.gamma), _size(old.values, new.values)),)


@states("E7", Kind.IDENTITY, SOLVED, "npTRPO.theory.exact.local_approximation")
def surrogate_is_linear_part(case: Case) -> tuple[Comparison, ...]:
    """E7: L_π(π') − J(π) is how fast J changes from π towards π' along mixtures (1 − ε)π + επ'.

    The rate is found by a complex step through the linear solve, without advantages or visitation.
    [Kakade and Langford 2002, theorem 4.1]
    """
    old, new = case.old, case.new
    mixture = old.policy + 1j * COMPLEX_STEP * (new.policy - old.policy)
    rate = case.mdp.evaluate(mixture).objective.imag / COMPLEX_STEP
    gain = local_approximation(old, new.policy, case.gamma) - old.objective
    return (Equal(gain, rate, _size(old.values) / (1 - case.gamma)),)


@states("E8", Kind.IDENTITY, SOLVED, "npTRPO.theory.mdp.TabularMDP.policy_gradient")
def first_order_agreement(case: Case) -> tuple[Comparison, ...]:
    """E8: values; gradients of L by the engine, of J by the policy gradient theorem and a complex step."""
    old, gamma = case.old, case.gamma
    ours = case.gradient / (1 - gamma)
    exact = case.mdp.policy_gradient(case.table, case.theta)
    direction = case.rng(8).standard_normal(case.theta.size)
    moved = case.mdp.evaluate(case.table(case.theta + 1j * COMPLEX_STEP * direction))
    scale = _size(old.values) / (1 - gamma)
    return (
        Equal(local_approximation(old, old.policy, gamma), old.objective, _size(old.values)),
        Equal(ours, exact, scale),
        Equal(float(exact @ direction), moved.objective.imag / COMPLEX_STEP, scale * _size(direction)),
    )


@states("E9", Kind.STATISTICAL, SOLVED, "npTRPO.trust_region.objective.surrogate")
def importance_sampling(case: Case) -> tuple[Comparison, ...]:
    """E9: the surrogate over all weighted pairs, exactly; and over simulated ones."""
    old, new, gamma = case.old, case.new, case.gamma
    approximation = local_approximation(old, new.policy, gamma)
    exact = float(case.surrogate(case.new_theta))

    s, a = case.sample.states, case.sample.actions
    ratios = case.policy(case.new_theta, case.states[s])
    estimate = float(surrogate(ratios, case.old_distribution.log_probs[s, a], a, old.advantages[s, a]))
    possible = new.policy / old.policy * old.advantages
    variance = case.batch.weights @ possible.ravel() ** 2 - exact**2
    bound, scale = np.max(np.abs(possible - exact)), _size(old.values)
    return (
        Equal(old.objective + exact / (1 - gamma), approximation, scale / (1 - gamma)),
        Estimate(estimate, (1 - gamma) * (approximation - old.objective), variance, bound, SAMPLES, scale),
    )


@states("E10", Kind.IDENTITY, ROUNDING, "npTRPO.trust_region.objective.surrogate")
def sample_surrogate(case: Case) -> tuple[Comparison, ...]:
    """E10: on a batch of simulated transitions, against a sum of ratios of table entries one by one."""
    s, a = case.sample.states, case.sample.actions
    estimates = case.rng(10).standard_normal(SAMPLES)
    ours = surrogate(
        case.policy(case.new_theta, case.states[s]), case.old_distribution.log_probs[s, a], a, estimates
    )
    terms = [
        float(case.new.policy[i, j] / case.old.policy[i, j] * x)
        for i, j, x in zip(s, a, estimates, strict=True)
    ]
    return (Equal(float(ours), math.fsum(terms) / SAMPLES, scale=max(abs(term) for term in terms)),)


def _size(*arrays: Array) -> float:
    """Largest magnitude in any of the arrays."""
    return max(float(np.max(np.abs(array))) for array in arrays)
