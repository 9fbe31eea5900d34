"""E10, E56 and E57: what is trained in practice, on batches of episodes and normalised observations."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.autograd import grad, linearize
from npTRPO.policies.mlp import MLP
from npTRPO.sampling.normalization import Moments, standardize
from npTRPO.theory.checks import ROUNDING, SOLVED, AtMost, Comparison, Equal, Kind, measures
from npTRPO.theory.exact import ExactBatch, local_approximation, table, tabular_policy
from npTRPO.theory.instances import Instance
from npTRPO.theory.mdp import Evaluation, TabularMDP
from npTRPO.theory.simulation import simulate
from npTRPO.trust_region.objective import mean_kl, surrogate
from npTRPO.trust_region.value_fit import AdamState

STEPS, EPISODES = 6, 20


def expected_visits(
    mdp: Any, now: Evaluation, discount: Any, solve: Callable[[Array, Array], Array] = np.linalg.solve
) -> Array:
    """Return E_π[Σ_{t<T} discountᵗ 1(s_t = s)] of episodes that end in absorbing states, shape (S,).

    E10: with γ for the discount it is what weights γᵗ count, and its sum is E_π[Σ_{t<T} γᵗ]. E56: with a
    discount of 1 it counts visits, and its sum is the mean length of episodes, E_π[T], which must be finite.
    ``solve`` solves linear systems of the numbers that the MDP has.
    """
    going_on = now.transition * ~mdp.absorbing
    return solve(np.eye(len(mdp.start)) - discount * going_on.T, mdp.start)


def state_weights(mdp: TabularMDP, now: Evaluation, discount: float) -> Array:
    """E10, E56: return the weight that a long batch of episodes gives to each state, with sum 1, shape (S,).

    With γ for the discount it is that of weights w_n ∝ γᵗ, with 1 that of equal ones, d^π.
    """
    visits = expected_visits(mdp, now, discount)
    weights: Array = visits / np.sum(visits)
    return weights


def long_run(transition: Array) -> Array:
    """E56: return the shares of states in a policy's steps without end, the d with dᵀP = dᵀ, shape (S,).

    They are the same from any start if ``transition``, P (S, S), has one recurrent class, as it must.
    """
    n = len(transition)
    shares: Array = np.linalg.solve(transition.T - np.eye(n) + 1, np.ones(n))  # Σ d = 1 is in every row
    return shares


def mean_over_time(transition: Array, start: Array) -> Array:
    """Return the mean distribution of states over 2⁵⁰ steps, by doubling their number.

    Of each start in ``start``, (S,) or (n, S), the shape of what is returned.
    """
    for _ in range(50):
        start, transition = (start + start @ transition) / 2, transition @ transition
        transition = transition / np.sum(transition, axis=1, keepdims=True)  # or rounding would double too
    return start


def batch_weights(states: Array, policy: Array) -> Array:
    """Return the weights of all pairs (s, a) in an :class:`ExactBatch`, given the states', shape (S·A,)."""
    return np.ravel(states[:, None] * policy)


@measures("E10", Kind.IDENTITY, SOLVED, surrogate, expected_visits, state_weights)
def sample_surrogate(instance: Instance) -> tuple[Comparison, ...]:
    """E10: compare the surrogate of simulated steps with weights γᵗ with a sum of ratios, one by one.

    In the limit of many episodes, compare it with (L_π(π') − J(π)) / E[Σ γᵗ], and its gradient with ∇J
    divided by the same.
    """
    path = simulate(instance.mdp, instance.old.policy, STEPS, EPISODES, instance.rng(10))
    s, a = path.states[:-1].ravel(), path.actions.ravel()
    estimates = instance.rng(110).standard_normal(s.size)
    weights = np.repeat(instance.gamma ** np.arange(STEPS), EPISODES)
    weights = weights / np.sum(weights)
    old_log_prob = instance.old_distribution.log_probs[s, a]
    ours = surrogate(
        instance.policy(instance.new_theta, instance.states[s]), old_log_prob, a, estimates, weights
    )
    terms = [
        float(w * instance.new.policy[i, j] / instance.old.policy[i, j] * x)
        for i, j, w, x in zip(s, a, weights, estimates, strict=True)
    ]

    episodic = instance.episodic
    old, gamma = episodic.old, episodic.gamma
    in_the_limit = batch_weights(state_weights(episodic.mdp, old, gamma), old.policy)
    total = float(np.sum(expected_visits(episodic.mdp, old, gamma)))
    gradient = episodic.mdp.policy_gradient(episodic.table, episodic.theta)
    size = float(np.max(np.abs(old.values)))
    gain = local_approximation(old, episodic.new.policy, gamma) - old.objective
    return (
        Equal(float(ours), math.fsum(terms), scale=max(abs(term) for term in terms)),
        Equal(float(episodic.surrogate(episodic.new_theta, in_the_limit)), gain / total, size),
        Equal(
            grad(lambda theta: episodic.surrogate(theta, in_the_limit))(episodic.theta),
            gradient / total,
            size,
        ),
    )


@measures("E56", Kind.IDENTITY, SOLVED, expected_visits, state_weights, long_run)
def weighted_by_visits(instance: Instance) -> tuple[Comparison, ...]:
    """E56: compare the surrogate weighted by visits with the sum over time of where the policy is.

    The gradient of a softmax table must not point against ∇J; where states share parameters, it may. Without
    episodes the mean over time takes the place of the sum, from any start.
    """
    mdp, old = instance.episodic.mdp, instance.episodic.old
    weights = state_weights(mdp, old, 1.0)
    going_on, visits = (old.transition * ~mdp.absorbing).T, mdp.start
    for _ in range(50):  # doubles the number of steps
        visits, going_on = visits + going_on @ visits, going_on @ going_on
    gains = np.sum(instance.episodic.new.policy * old.advantages, axis=1)
    size = float(np.max(np.abs(old.values)))

    policy, logits = tabular_policy(mdp), np.log(old.policy).ravel()
    theta = np.append(logits, np.zeros(mdp.n_actions))
    batch = ExactBatch.of(policy, old)
    old_log_prob, pairs = np.log(old.policy).ravel(), batch_weights(weights, old.policy)
    by_visits = grad(
        lambda t: surrogate(
            policy(t, batch.observations), old_log_prob, batch.actions, batch.advantages, pairs
        )
    )(theta)
    exact = mdp.policy_gradient(lambda t: table(policy, t), theta)
    of_states = slice(logits.size)  # the biases are the states' common part
    return (
        Equal(
            float(
                instance.episodic.surrogate(instance.episodic.new_theta, batch_weights(weights, old.policy))
            ),
            float(visits @ gains / np.sum(visits)),
            size,
        ),
        AtMost(0.0, float(by_visits[of_states] @ exact[of_states]), size**2),
        *_without_episodes(instance),
    )


def _without_episodes(instance: Instance) -> tuple[Comparison, ...]:
    """Compare the surrogate weighted by long-run shares with its mean over time, from ρ₀ and the last state.

    Where each state follows each, so that there is one recurrent class.
    """
    old = instance.old
    if not np.all(old.transition > 0):
        return ()
    gains = np.sum(instance.new.policy * old.advantages, axis=1)
    weights = batch_weights(long_run(old.transition), old.policy)
    starts = np.stack([instance.mdp.start, np.eye(len(gains))[-1]])
    means = mean_over_time(old.transition, starts) @ gains
    ours = float(instance.surrogate(instance.new_theta, weights))
    return (Equal(np.full(2, ours), means, float(np.max(np.abs(old.values)))),)


@measures("E57", Kind.IDENTITY, ROUNDING, MLP.absorb, Moments.change, AdamState.absorbed)
def renewed_moments(instance: Instance) -> tuple[Comparison, ...]:
    """E57: compare the outputs of a policy for raw observations before and after its moments are renewed.

    One feature in three hadn't varied before, so that its divisor was 1. The mean KL of the two is 0. The
    value network's outputs are compared too, and the gradient that Adam's mean carries over.
    """
    rng = instance.rng(57)
    policy: Any = instance.gaussian.policy
    d = policy.n_features
    variance = np.exp(rng.standard_normal(d)) * (rng.random(d) < 2 / 3)
    before = Moments(10 * rng.standard_normal(d), variance, 100)
    raw = before.mean + before.scale * rng.uniform(-3, 3, (6, d))
    shifted = before.mean + 0.3 * before.scale * rng.standard_normal(d)
    after = Moments(shifted, before.scale**2 * np.exp(rng.uniform(-1, 1, d)), 200)
    theta = instance.gaussian.theta
    split = theta.size - policy.n_log_std
    renewed = np.append(policy.network.absorb(theta[:split], *before.change(after)), theta[split:])
    rows = [standardize(raw, moments.normalizer(np.float64)) for moments in (before, after)]
    old, new = policy(theta, rows[0]), policy(renewed, rows[1])
    size = float(np.max(np.abs(theta))) * 30

    values, change = MLP((d, 3, 1), "tanh"), before.change(after)
    w, u = rng.standard_normal(values.n_parameters), rng.standard_normal((6, 1))
    old_values, new_values = (
        linearize(partial(_swapped, values, x), at)
        for x, at in zip(rows, (w, values.absorb(w, *change)), strict=True)
    )
    slope = old_values.vjp(u)
    carried = replace(AdamState.zero(w), mean=slope).absorbed(values, *change).mean
    return (
        Equal(old.mean, new.mean, size),
        Equal(float(mean_kl(old, new)), 0.0, scale=1.0),
        Equal(old_values.value, new_values.value, scale=30.0 * float(np.max(np.abs(w)))),
        Equal(carried, new_values.vjp(u), scale=30.0 * float(np.max(np.abs(slope)))),
    )


def _swapped(network: MLP, x: Array, theta: Any) -> Any:
    return network(theta, x)
