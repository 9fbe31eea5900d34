"""E39 to E44: advantages estimated from experience."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from npTRPO._typing import Array, BoolArray
from npTRPO.sampling.advantages import gae, td_residuals
from npTRPO.theory.checks import ROUNDING, SOLVED, Comparison, Equal, Estimate, Kind, measures
from npTRPO.theory.instances import SAMPLES, Instance
from npTRPO.theory.simulation import Trajectories, all_paths, simulate

STEPS, COLUMNS = 10, 3
LONG = 8
"""Steps of the trajectories over which the sampled estimator of E44 sums."""
PATHS = 5000
"""Paths that are enumerated at most; they have three steps where that is few enough, and else two."""


@dataclass(frozen=True, eq=False)
class Experience:
    """Steps of several environments with ends of episodes among them, each array (T, n).

    Values are those of any function, not of the policy's value function; the last observation of an
    episode has a value of its own, which is not that of the next row.
    """

    rewards: Array
    values: Array
    next_values: Array
    terminated: BoolArray
    truncated: BoolArray

    @classmethod
    def draw(cls, instance: Instance, rng: np.random.Generator) -> Experience:
        """Simulate the old policy; one step in four ends an episode, in one way, the other, or both."""
        path = simulate(instance.mdp, instance.old.policy, STEPS, COLUMNS, rng)
        values = rng.standard_normal(instance.mdp.n_states)[path.states]
        how = rng.choice(4, (STEPS, COLUMNS), p=(0.76, 0.08, 0.08, 0.08))
        next_values = np.where(how == 0, values[1:], rng.standard_normal((STEPS, COLUMNS)))
        return cls(path.rewards, values[:-1], next_values, how % 2 == 1, how >= 2)

    def advantages(self, gamma: float, lam: float) -> Array:
        """Return GAE's estimates, (T, n)."""
        return gae(self.rewards, self.values, self.next_values, self.terminated, self.truncated, gamma, lam)

    def residuals(self, gamma: float) -> Array:
        """Return TD residuals, (T, n)."""
        return td_residuals(self.rewards, self.values, self.next_values, self.terminated, gamma)

    def episodes(self) -> Iterator[tuple[tuple[slice, int], Array, Array]]:
        """Yield steps and column of every episode, its n rewards, and V before each step and after the last.

        After the last step V is 0 if the episode was terminated, and else that of the last observation. The
        last episode of a column may be under way.
        """
        for column in range(self.rewards.shape[1]):
            ends = np.flatnonzero(self.terminated[:, column] | self.truncated[:, column]) + 1
            for first, end in itertools.pairwise(np.unique([0, *ends, len(self.rewards)]).tolist()):
                where, last = (slice(first, end), column), (end - 1, column)
                after = 0.0 if self.terminated[last] else self.next_values[last]
                yield where, self.rewards[where], np.append(self.values[where], after)


def k_step_estimates(rewards: Array, values: Array, gamma: float) -> Array:
    """E40: return −V(s₀) + r₀ + … + γᵏ⁻¹ r_{k−1} + γᵏ V(s_k) for k = 1 … n, shape (n,).

    Parameters
    ----------
    rewards : array, shape (n,)
        Of an episode's last n steps.
    values : array, shape (n + 1,)
        V before each step and after the last one.
    gamma : float
    """
    powers = gamma ** np.arange(len(rewards) + 1)
    estimates: Array = np.cumsum(powers[:-1] * rewards) + powers[1:] * values[1:] - values[0]
    return estimates


@measures("E39", Kind.IDENTITY, ROUNDING, td_residuals)
def residuals_at_ends(instance: Instance) -> tuple[Comparison, ...]:
    """E39: compare with residuals one by one, and with those of any V for absorbing states."""
    rng = instance.rng(39)
    some = Experience.draw(instance, rng)
    one_by_one = np.empty_like(some.rewards)
    for where, rewards, v in some.episodes():
        one_by_one[where] = [r + instance.gamma * v[t + 1] - v[t] for t, r in enumerate(rewards)]

    sample, values = instance.sample, instance.old.values
    arrived, reward = sample.next_states, instance.mdp.reward[sample.states, sample.actions]
    terminated = instance.mdp.absorbing[arrived]
    spoilt = np.where(instance.mdp.absorbing, rng.standard_normal(len(values)), values)
    here, never = values[sample.states], np.zeros_like(terminated)
    return (
        Equal(some.residuals(instance.gamma), one_by_one),
        Equal(
            td_residuals(reward, here, spoilt[arrived], terminated, instance.gamma),
            td_residuals(reward, here, values[arrived], never, instance.gamma),
        ),
    )


@measures("E40", Kind.IDENTITY, ROUNDING, gae, k_step_estimates)
def k_step(instance: Instance) -> tuple[Comparison, ...]:
    """E40: compare GAE with λ = 1, cut off after k steps, with the k-step estimator."""
    rng = instance.rng(40)
    path = simulate(instance.mdp, instance.old.policy, STEPS, 1, rng)
    values = rng.standard_normal(instance.mdp.n_states)[path.states[:, 0]]
    rewards, never = path.rewards[:, 0], np.zeros(STEPS, dtype=bool)
    ours = []
    for k in range(1, STEPS + 1):
        cut = np.arange(k) == k - 1
        cut_short = gae(rewards[:k], values[:k], values[1 : k + 1], never[:k], cut, instance.gamma, lam=1.0)
        ours.append(cut_short[0])
    size = float(max(np.max(np.abs(rewards)), np.max(np.abs(values))))
    return (Equal(np.array(ours), k_step_estimates(rewards, values, instance.gamma), size),)


@measures("E41", Kind.IDENTITY, ROUNDING, gae)
def weighted_mean(instance: Instance) -> tuple[Comparison, ...]:
    """E41: compare with the mean of k-step estimators with weights (1 − λ)λᵏ⁻¹, their tail on the last."""
    some, lam = Experience.draw(instance, instance.rng(41)), instance.lam
    expected = np.empty_like(some.rewards)
    for where, rewards, values in some.episodes():
        for t, left in enumerate(range(len(rewards), 0, -1)):
            weights = (1 - lam) * lam ** np.arange(left)
            weights[-1] = lam ** (left - 1)
            estimates = k_step_estimates(rewards[t:], values[t:], instance.gamma)
            expected[where][t] = weights @ estimates
    return (Equal(some.advantages(instance.gamma, lam), expected),)


@measures("E42", Kind.IDENTITY, ROUNDING, gae)
def recursion(instance: Instance) -> tuple[Comparison, ...]:
    """E42: compare with the solution of Â_t − γλ Â_{t+1} = δ_t as one linear system, cut at every end."""
    some = Experience.draw(instance, instance.rng(42))
    residuals, ours = some.residuals(instance.gamma), some.advantages(instance.gamma, instance.lam)
    expected = np.empty_like(ours)
    for column in range(COLUMNS):
        goes_on = ~(some.terminated | some.truncated)[:-1, column]
        system = np.eye(STEPS) - instance.gamma * instance.lam * np.diag(goes_on.astype(float), k=1)
        expected[:, column] = np.linalg.solve(system, residuals[:, column])
    return (Equal(ours, expected),)


@measures("E43", Kind.IDENTITY, ROUNDING, gae)
def extremes(instance: Instance) -> tuple[Comparison, ...]:
    """E43: compare λ = 0 with TD residuals, and λ = 1 with discounted sums of rewards less V."""
    some, gamma = Experience.draw(instance, instance.rng(43)), instance.gamma
    expected = np.empty_like(some.rewards)
    for where, rewards, values in some.episodes():
        worth = np.append(rewards, values[-1])
        for t in range(len(rewards)):
            expected[where][t] = gamma ** np.arange(len(worth) - t) @ worth[t:] - values[t]
    return (
        Equal(some.advantages(gamma, 0.0), some.residuals(gamma)),
        Equal(some.advantages(gamma, 1.0), expected),
    )


@measures("E44", Kind.STATISTICAL, SOLVED, gae)
def gae_is_unbiased(instance: Instance) -> tuple[Comparison, ...]:
    """E44: compare the mean of GAE with A^π, over all short paths and over simulated trajectories."""
    mdp, old = instance.mdp, instance.old
    n_pairs, n_states = mdp.reward.size, mdp.n_states
    paths = all_paths(mdp, old.policy, 3 if n_pairs**3 * n_states <= PATHS else 2)
    pairs = paths.states[0] * mdp.n_actions + paths.actions[0]
    weighted = paths.probabilities * _first_advantage(instance, paths)
    exact = np.bincount(pairs, weights=weighted, minlength=n_pairs).reshape(mdp.reward.shape)

    path = simulate(mdp, old.policy, LONG, SAMPLES, instance.rng(44))
    errors = _first_advantage(instance, path) - old.advantages[path.states[0], path.actions[0]]
    (variance, bound), scale = _spread(instance), float(np.max(np.abs(old.values)))
    return (
        Equal(exact, old.advantages, scale),
        Estimate(float(np.mean(errors)), 0.0, variance, bound, SAMPLES, scale),
    )


def _first_advantage(instance: Instance, path: Trajectories) -> Array:
    """Return GAE of the first step of every trajectory, with the exact values, shape (n,)."""
    values = instance.old.values[path.states]
    never = np.zeros(path.actions.shape, dtype=bool)
    estimates = gae(path.rewards, values[:-1], values[1:], never, never, instance.gamma, instance.lam)
    first: Array = estimates[0]
    return first


def _spread(instance: Instance) -> tuple[float, float]:
    """Return the exact variance of the first step's Â − A^π over trajectories, and a bound of its size.

    It is δ₀ − A^π + Σ_{l≥1} (γλ)ˡ δ_l, whose terms are uncorrelated: each has mean 0 given all before.
    """
    mdp, old, decay = instance.mdp, instance.old, instance.gamma * instance.lam
    residuals = mdp.reward[:, :, None] + instance.gamma * old.values - old.values[:, None, None]
    pairs = old.policy[:, :, None] * mdp.transition
    first = residuals - old.advantages[:, :, None]
    variance = mdp.start @ np.sum(pairs * first**2, axis=(1, 2))
    later, reached = np.sum(pairs * residuals**2, axis=(1, 2)), mdp.start
    for step in range(1, LONG):
        reached = old.transition.T @ reached
        variance += decay ** (2 * step) * (reached @ later)
    weights = float(np.sum(decay ** np.arange(1, LONG)))
    bound = np.max(np.abs(first)) + weights * np.max(np.abs(residuals))
    return float(variance), float(bound)
