"""E1 to E10: how much better the new policy is, and the surrogate for it."""

import math

import numpy as np

from npTRPO._typing import Array
from npTRPO.sampling.advantages import td_residuals
from npTRPO.theory.checks import ROUNDING, SOLVED, AtMost, Comparison, Equal, Estimate, Kind, measures
from npTRPO.theory.exact import local_approximation
from npTRPO.theory.instances import COMPLEX_STEP, SAMPLES, Instance
from npTRPO.theory.mdp import Evaluation, TabularMDP
from npTRPO.theory.simulation import draw, sample_visitation
from npTRPO.trust_region.objective import surrogate


def discounted_sum(transition: Array, start: Array, discount: float) -> Array:
    """Return Σ_t γᵗ (Pᵀ)ᵗ ρ by adding terms until the rest is below rounding, without solving a system.

    E1, E5: the discounted occupation of states, ν / (1 − γ). Terms are doubled by squaring γPᵀ; what is
    left after n terms is at most γⁿ / (1 − γ).
    """
    total, power, terms = start, discount * transition.T, 1
    while discount**terms > 1e-17 * (1 - discount):
        total, power, terms = total + power @ total, power @ power, 2 * terms
    return total


def residuals_of_all(mdp: TabularMDP, values: Array, reward: Array) -> Array:
    """E4: return r + γV(s') − V(s) for all s, a and s', by the function of training; shape (S, A, S)."""
    shape = mdp.transition.shape
    sides = np.broadcast_to(values[:, None, None], shape), np.broadcast_to(values, shape)
    never = np.zeros(shape, dtype=bool)
    return td_residuals(np.broadcast_to(reward[:, :, None], shape), *sides, never, mdp.discount)


def _expected_residuals(instance: Instance, values: Array, reward: Array) -> Array:
    """Return E[r + γV(s') − V(s) | s, a] over next states, shape (S, A)."""
    residuals = residuals_of_all(instance.mdp, values, reward)
    return np.asarray(np.sum(instance.mdp.transition * residuals, axis=2))


def _along(instance: Instance, policy: Evaluation, per_pair: Array) -> float:
    """Return E_{τ~π}[Σ_t γᵗ f(s_t, a_t)] for f of shape (S, A), by following the distribution of s_t."""
    occupation = discounted_sum(policy.transition, instance.mdp.start, instance.gamma)
    return float(occupation @ np.sum(policy.policy * per_pair, axis=1))


@measures("E1", Kind.IDENTITY, SOLVED, TabularMDP.evaluate)
def objective(instance: Instance) -> tuple[Comparison, ...]:
    """E1: compare V, by a linear solve, and J with sums of discounted rewards over time."""
    old, start = instance.old, instance.mdp.start
    reward = np.sum(old.policy * instance.mdp.reward, axis=1)
    summed = discounted_sum(old.transition.T, reward, instance.gamma)
    return (
        Equal(old.values, summed),
        Equal(float(start @ old.values), _along(instance, old, instance.mdp.reward), scale=_size(summed)),
        Equal(old.objective, float(start @ old.values)),
    )


@measures("E2", Kind.STATISTICAL, SOLVED, td_residuals)
def telescoping(instance: Instance) -> tuple[Comparison, ...]:
    """E2: compare both sides for a random V, exactly and by simulation of the new policy."""
    rng, new, gamma = instance.rng(2), instance.new, instance.gamma
    values = rng.standard_normal(instance.mdp.n_states)
    left = float(instance.mdp.start @ values)
    nothing = np.zeros_like(instance.mdp.reward)
    right = -_along(instance, new, _expected_residuals(instance, values, nothing))

    sample = sample_visitation(instance.mdp, new.policy, SAMPLES, rng)
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


@measures("E3", Kind.IDENTITY, SOLVED, td_residuals)
def performance_difference(instance: Instance) -> tuple[Comparison, ...]:
    """E3: compare the difference of two objectives with sums of TD residuals and of advantages."""
    old, new = instance.old, instance.new
    left, scale = new.objective - old.objective, _size(old.values, new.values)
    residuals = _expected_residuals(instance, old.values, instance.mdp.reward)
    return (
        Equal(left, _along(instance, new, residuals), scale),
        Equal(left, _along(instance, new, old.advantages), scale),
    )


@measures("E4", Kind.STATISTICAL, SOLVED, td_residuals)
def residual_is_unbiased(instance: Instance) -> tuple[Comparison, ...]:
    """E4: compare the mean of δ with the advantage of each (s, a), over all next states and drawn ones."""
    rng, old, mdp = instance.rng(4), instance.old, instance.mdp
    expected = _expected_residuals(instance, old.values, mdp.reward)
    rows = np.repeat(mdp.transition.reshape(-1, mdp.n_states), SAMPLES, axis=0)
    arrived = old.values[draw(rows, rng)].reshape(mdp.n_states, mdp.n_actions, SAMPLES)
    here = np.broadcast_to(old.values[:, None, None], arrived.shape)
    never = np.zeros(arrived.shape, dtype=bool)
    residuals = td_residuals(mdp.reward[:, :, None], here, arrived, never, instance.gamma)
    spread = old.values - (mdp.transition @ old.values)[:, :, None]
    variance = instance.gamma**2 * np.sum(mdp.transition * spread**2, axis=2)
    bound = instance.gamma * np.max(np.abs(spread), axis=2)
    return (
        Equal(expected, old.advantages, _size(old.values)),
        Estimate(np.mean(residuals, axis=2), old.advantages, variance, bound, SAMPLES, _size(old.values)),
    )


@measures("E5", Kind.IDENTITY, SOLVED, TabularMDP.evaluate)
def visitation(instance: Instance) -> tuple[Comparison, ...]:
    """E5: compare ν of a solved system with the sum over time; check that it is a distribution."""
    nu, gamma = instance.old.visitation, instance.gamma
    stationary = (1 - gamma) * instance.mdp.start + gamma * (instance.old.transition.T @ nu)
    return (
        Equal(nu, (1 - gamma) * discounted_sum(instance.old.transition, instance.mdp.start, gamma)),
        Equal(float(np.sum(nu)), 1.0),
        Equal(nu, stationary),
        AtMost(0.0, nu, scale=1.0),
    )


@measures("E6", Kind.IDENTITY, SOLVED, Evaluation)
def advantages_over_visitation(instance: Instance) -> tuple[Comparison, ...]:
    """E6: compare a sum along trajectories of the new policy with a mean over its visitation."""
    old, new = instance.old, instance.new
    mean = float(new.visitation @ np.sum(new.policy * old.advantages, axis=1))
    return (
        Equal(
            _along(instance, new, old.advantages), mean / (1 - instance.gamma), _size(old.values, new.values)
        ),
    )


@measures("E7", Kind.IDENTITY, SOLVED, local_approximation)
def surrogate_is_linear_part(instance: Instance) -> tuple[Comparison, ...]:
    """E7: compare L_π(π') − J(π) with the derivative of J along mixtures (1 − ε)π + επ' at ε = 0.

    The derivative is found by a complex step through the linear solve, without advantages or visitation.
    [Kakade and Langford 2002, theorem 4.1]
    """
    old, new = instance.old, instance.new
    mixture = old.policy + 1j * COMPLEX_STEP * (new.policy - old.policy)
    rate = instance.mdp.evaluate(mixture).objective.imag / COMPLEX_STEP
    gain = local_approximation(old, new.policy, instance.gamma) - old.objective
    return (Equal(gain, rate, _size(old.values) / (1 - instance.gamma)),)


@measures("E8", Kind.IDENTITY, SOLVED, TabularMDP.policy_gradient)
def first_order_agreement(instance: Instance) -> tuple[Comparison, ...]:
    """E8: compare gradients: of L by the engine, of J by the policy gradient theorem and a complex step."""
    old, gamma = instance.old, instance.gamma
    ours = instance.gradient / (1 - gamma)
    exact = instance.mdp.policy_gradient(instance.table, instance.theta)
    direction = instance.rng(8).standard_normal(instance.theta.size)
    moved = instance.mdp.evaluate(instance.table(instance.theta + 1j * COMPLEX_STEP * direction))
    scale = _size(old.values) / (1 - gamma)
    return (
        Equal(local_approximation(old, old.policy, gamma), old.objective, _size(old.values)),
        Equal(ours, exact, scale),
        Equal(float(exact @ direction), moved.objective.imag / COMPLEX_STEP, scale * _size(direction)),
    )


@measures("E9", Kind.STATISTICAL, SOLVED, surrogate)
def importance_sampling(instance: Instance) -> tuple[Comparison, ...]:
    """E9: compare the surrogate with sums over all weighted pairs, and with means over simulated ones."""
    old, new, gamma = instance.old, instance.new, instance.gamma
    approximation = local_approximation(old, new.policy, gamma)
    exact = float(instance.surrogate(instance.new_theta))

    s, a = instance.sample.states, instance.sample.actions
    ratios = instance.policy(instance.new_theta, instance.states[s])
    estimate = float(surrogate(ratios, instance.old_distribution.log_probs[s, a], a, old.advantages[s, a]))
    possible = new.policy / old.policy * old.advantages
    variance = instance.batch.weights @ possible.ravel() ** 2 - exact**2
    bound, scale = np.max(np.abs(possible - exact)), _size(old.values)
    return (
        Equal(old.objective + exact / (1 - gamma), approximation, scale / (1 - gamma)),
        Estimate(estimate, (1 - gamma) * (approximation - old.objective), variance, bound, SAMPLES, scale),
    )


@measures("E10", Kind.IDENTITY, ROUNDING, surrogate)
def sample_surrogate(instance: Instance) -> tuple[Comparison, ...]:
    """E10: compare a simulated batch's surrogate with a sum of ratios of table entries, one by one."""
    s, a = instance.sample.states, instance.sample.actions
    estimates = instance.rng(10).standard_normal(SAMPLES)
    ours = surrogate(
        instance.policy(instance.new_theta, instance.states[s]),
        instance.old_distribution.log_probs[s, a],
        a,
        estimates,
    )
    terms = [
        float(instance.new.policy[i, j] / instance.old.policy[i, j] * x)
        for i, j, x in zip(s, a, estimates, strict=True)
    ]
    return (Equal(float(ours), math.fsum(terms) / SAMPLES, scale=max(abs(term) for term in terms)),)


def _size(*arrays: Array) -> float:
    """Return the largest magnitude in any of the arrays."""
    return max(float(np.max(np.abs(array))) for array in arrays)
