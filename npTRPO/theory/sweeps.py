"""Four equations of the derivation over a range, as the verification page draws them.

Each is computed by the functions that training uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from npTRPO._typing import Array
from npTRPO.policies.distributions import Categorical
from npTRPO.sampling.advantages import gae
from npTRPO.theory.bounds import average_bound, worst_case_bound
from npTRPO.theory.curvature import cubic_bound
from npTRPO.theory.exact import local_approximation, tabular_policy
from npTRPO.theory.instances import Instance
from npTRPO.theory.krylov import errors_and_bounds
from npTRPO.theory.mdp import Evaluation, TabularMDP
from npTRPO.theory.performance import residuals_of_all
from npTRPO.theory.random_mdps import random_mdp
from npTRPO.theory.simulation import Trajectories, simulate
from npTRPO.trust_region.conjugate_gradient import conjugate_gradient
from npTRPO.trust_region.fisher import FisherOperator
from npTRPO.trust_region.objective import mean_kl

SIZES = np.geomspace(1e-3, 3.0, 29)
"""Lengths of the steps whose remainder is computed."""

LAMBDAS = np.linspace(0.0, 1.0, 21)
TRAJECTORIES, HORIZON = 12_000, 50


@dataclass(frozen=True, eq=False)
class Gaps:
    """The error of the surrogate and its bounds E11 and E13, for n pairs of policies.

    Attributes
    ----------
    error, average, worst : array, shape (n,)
        |J(π') − L_π(π')|, the bound of E13 and that of E11, in units of discounted reward.
    """

    error: Array
    average: Array
    worst: Array


def gaps(instances: Iterable[Instance]) -> Gaps:
    """E11, E13: return the surrogate's error and its bounds for each instance whose error isn't rounding."""
    rows = []
    for instance in instances:
        error = abs(
            instance.new.objective - local_approximation(instance.old, instance.new.policy, instance.gamma)
        )
        if error > 1e-12 * float(np.max(np.abs(instance.old.values))) / (1 - instance.gamma):
            rows.append((error, average_bound(instance), worst_case_bound(instance)))
    return Gaps(*np.array(rows).reshape(-1, 3).T)


@dataclass(frozen=True, eq=False)
class Curve:
    """A measurement and its bound over a range.

    Attributes
    ----------
    at, measured, bound : array, shape (n,)
    parameter : float
        The setting in which this curve differs from others of its kind.
    """

    at: Array
    measured: Array
    bound: Array
    parameter: float = 0.0


def remainder(rng: np.random.Generator) -> Curve:
    """E20: return |KL − ½ΔᵀFΔ| of a softmax policy over the length of Δ, and the cubic bound of it."""
    mdp = random_mdp(rng, 4, 3)
    instance, policy = Instance.draw(rng, mdp), tabular_policy(mdp)
    theta, direction = rng.standard_normal((2, policy.n_parameters))
    direction = direction / np.linalg.norm(direction)
    weights = instance.old.visitation
    old = Categorical(policy.outputs(theta, instance.states))
    fisher = FisherOperator(policy, theta, instance.states, weights=weights)
    rows = []
    for size in SIZES:
        new = Categorical(policy.outputs(theta + size * direction, instance.states))
        model = fisher.quadratic_form(size * direction) / 2
        bound = cubic_bound(new.logits - old.logits, weights)
        rows.append((abs(float(mean_kl(old, new, weights)) - model), bound))
    measured, bounds = np.array(rows).T
    return Curve(SIZES, measured, bounds)


def cg_errors(rng: np.random.Generator, damping: float, steps: int = 24) -> Curve:
    """E36: return ‖e_k‖_H / ‖e_0‖_H over the steps k on a policy's own system, and Chebyshev's bound.

    ``parameter`` is the condition number κ of H.
    """
    mdp = random_mdp(rng, 12, 4, discount=0.9)
    policy = tabular_policy(mdp)
    theta = rng.standard_normal(policy.n_parameters)
    drawn = Instance.draw(rng, mdp)
    instance = replace(drawn, policy=policy, theta=theta, new_theta=theta, damping=damping)
    points = [np.zeros_like(theta)]
    conjugate_gradient(instance.damped, instance.gradient, rtol=1e-10, maxiter=steps, callback=points.append)
    norms, bounds, condition = errors_and_bounds(instance.dense, instance.gradient, np.array(points))
    return Curve(np.arange(len(points)), norms / norms[0], bounds, condition)


@dataclass(frozen=True, eq=False)
class Sweep:
    """The errors of GAE with a wrong V over λ (E41, E43); each array (n,).

    Attributes
    ----------
    lambdas : array
    bias : array
        Squared bias, averaged over states and actions; without what all actions of a state have in common,
        as that moves no policy gradient.
    variance : array
        Variance of the estimate for a given state and action, averaged likewise.
    """

    lambdas: Array
    bias: Array
    variance: Array


@dataclass(frozen=True, eq=False)
class WrongValues:
    """A policy in an MDP, and values that aren't its own.

    Attributes
    ----------
    mdp : TabularMDP
    now : Evaluation
        Of the policy.
    values : array, shape (S,)
        The V that advantages are estimated with.
    """

    mdp: TabularMDP
    now: Evaluation
    values: Array

    @classmethod
    def draw(cls, rng: np.random.Generator) -> WrongValues:
        """Draw a deterministic MDP, and values around those of its uniform policy."""
        mdp = replace(random_mdp(rng, 6, 3, kind="deterministic", discount=0.9), start=np.full(6, 1 / 6))
        now = mdp.evaluate(np.full((6, 3), 1 / 3))
        return cls(mdp, now, now.values + 2 * rng.standard_normal(6))

    def sweep(self, lambdas: Array, moments: Callable[[float], tuple[Array, Array]]) -> Sweep:
        """Return errors over λ, given the mean and the variance (S, A) of the estimates at each λ."""
        weights = self.now.visitation[:, None] * self.now.policy
        bias, variance = np.empty((2, len(lambdas)))
        for i, lam in enumerate(lambdas):
            mean, spread = moments(float(lam))
            error = mean - self.now.advantages
            error = error - np.sum(self.now.policy * error, axis=1, keepdims=True)
            bias[i], variance[i] = np.sum(weights * error**2), np.sum(weights * spread)
        return Sweep(lambdas, bias, variance)

    def exact(self, lam: float) -> tuple[Array, Array]:
        """E41: return moments of Σ_l (γλ)ˡ δ_l for each first pair (s, a), by linear systems; each (S, A)."""
        now, step, decay = self.now, self.mdp.transition, self.mdp.discount * lam
        residuals = residuals_of_all(self.mdp, self.values, self.mdp.reward)

        def later(per_pair: Array, decay: float) -> Array:
            """Sum what every pair (s, a) adds over the steps from each state on, shape (S,)."""
            system = np.eye(len(now.values)) - decay * now.transition
            return np.linalg.solve(system, np.sum(now.policy * per_pair, axis=1))

        expected = np.sum(step * residuals, axis=2)
        following = later(expected, decay)
        squares = np.sum(step * (residuals**2 + 2 * decay * residuals * following), axis=2)
        mean = expected + decay * (step @ following)
        return mean, squares + decay**2 * (step @ later(squares, decay**2)) - mean**2

    def sampled(self, path: Trajectories, lam: float) -> tuple[Array, Array]:
        """E41: return moments of the estimates for the first pair of each trajectory, by :func:`gae`."""
        pairs = path.states[0] * self.mdp.n_actions + path.actions[0]
        never = np.zeros(path.rewards.shape, dtype=bool)
        reached = self.values[path.states]
        first = gae(path.rewards, reached[:-1], reached[1:], never, never, self.mdp.discount, lam)[0]
        count = np.bincount(pairs, minlength=self.mdp.reward.size)
        mean = np.bincount(pairs, first, len(count)) / count
        variance = np.bincount(pairs, (first - mean[pairs]) ** 2, len(count)) / count
        return mean.reshape(self.mdp.reward.shape), variance.reshape(self.mdp.reward.shape)


def lambda_sweep(rng: np.random.Generator) -> tuple[Sweep, Sweep]:
    """E41, E43: return bias and variance over λ by linear systems, and by :func:`gae` on trajectories."""
    problem = WrongValues.draw(rng)
    path = simulate(problem.mdp, problem.now.policy, HORIZON, TRAJECTORIES, rng)
    sampled = problem.sweep(LAMBDAS[::4], partial(problem.sampled, path))
    return problem.sweep(LAMBDAS, problem.exact), sampled
