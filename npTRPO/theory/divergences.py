"""E15 to E19: the trust region, and the KL divergence of every kind of policy."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.policies.distributions import Bernoulli, Categorical, DiagGaussian, Distribution, MultiCategorical
from npTRPO.theory.checks import DIFFERENCES, ROUNDING, SOLVED, AtMost, Comparison, Equal, Kind, measures
from npTRPO.theory.exact import local_approximation, practical_step
from npTRPO.theory.instances import Instance
from npTRPO.trust_region.objective import mean_kl
from npTRPO.trust_region.update import update

COMPONENTS = (2, 3)
"""Choices of the components of the products that are drawn."""


def table_kl(old: Array, new: Array) -> Array:
    """E16: return Σ_a π log(π / π') of two tables (S, A) for each state, shape (S,)."""
    divergence: Array = np.sum(old * np.log(old / new), axis=1)
    return divergence


def gaussian_nodes(mean: Array, log_std: Array) -> tuple[Array, Array]:
    """Return points and weights that integrate polynomials against normal densities, exactly up to degree 9.

    The points are shaped (5, ...) in front of the mean's shape, the weights (5,).
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    points = mean + np.exp(log_std) * nodes.reshape((5,) + (1,) * mean.ndim)
    return points, weights / np.sum(weights)


def joint_actions(nvec: tuple[int, ...]) -> Array:
    """Return all combinations of choices, shape (Π nvec, len(nvec))."""
    return np.array(list(itertools.product(*(range(n) for n in nvec))))


@measures("E15", Kind.IDENTITY, SOLVED, update)
def problem(instance: Instance) -> tuple[Comparison, ...]:
    """E15: compare the KL and the gain of an exact update with those of its tables, and check both."""
    old, gamma = instance.old, instance.gamma
    result = practical_step(instance.mdp, instance.policy, instance.theta, target_kl=instance.target_kl)
    new = instance.table(result.theta)
    divergence = float(old.visitation @ table_kl(old.policy, new))
    gain = local_approximation(old, new, gamma) - old.objective
    scale = float(np.max(np.abs(old.values))) / (1 - gamma)
    return (
        Equal(result.kl, divergence, _log_ratio(old.policy, new)),
        Equal(result.improvement / (1 - gamma), gain, scale),
        AtMost(divergence, instance.target_kl),
        AtMost(0.0, gain, scale),
    )


@measures("E16", Kind.IDENTITY, DIFFERENCES, Categorical.kl)
def softmax_kl(instance: Instance) -> tuple[Comparison, ...]:
    """E16: compare KL from logits with the sum over actions of probabilities, exponentials by their sum."""
    tables = []
    for distribution in (instance.old_distribution, instance.new_distribution):
        exponentials = np.exp(distribution.logits)
        tables.append(exponentials / np.sum(exponentials, axis=1, keepdims=True))
    ours = instance.old_distribution.kl(instance.new_distribution)
    return (Equal(ours, table_kl(*tables), _log_ratio(*tables)),)


@measures("E17", Kind.IDENTITY, ROUNDING, DiagGaussian.kl)
def gaussian_kl(instance: Instance) -> tuple[Comparison, ...]:
    """E17: compare with Gauss–Hermite quadrature of the log-ratio of densities, which is exact here."""
    return (gaussian_by_quadrature(instance.gaussian.old, instance.gaussian.new),)


def gaussian_by_quadrature(old: Any, new: Any) -> Equal:
    """Compare E17 with the mean of the log-ratio of densities over :func:`gaussian_nodes`."""
    points, weights = gaussian_nodes(old.mean, old.log_std)
    # One dimension at a time, as the log-ratio of the product is the sum over dimensions.
    ratio = _each_dimension(old).log_prob(points[..., None]) - _each_dimension(new).log_prob(
        points[..., None]
    )
    expected = np.sum(np.tensordot(weights, ratio, axes=1), axis=-1)
    return Equal(old.kl(new), expected, scale=float(np.max(np.abs(ratio))))


def _each_dimension(gaussian: Any) -> DiagGaussian:
    """Return the Gaussian with every dimension as a distribution of its own."""
    return DiagGaussian(gaussian.mean[..., None], gaussian.log_std[..., None])


@measures("E18", Kind.IDENTITY, ROUNDING, MultiCategorical.kl, Bernoulli.kl)
def product_kl(instance: Instance) -> tuple[Comparison, ...]:
    """E18: compare KL of several discrete or binary actions with sums over all joint actions."""
    rng, comparisons = instance.rng(18), []
    products: tuple[tuple[tuple[int, ...], Any, int], ...] = (
        (COMPONENTS, lambda z: MultiCategorical(z, COMPONENTS), sum(COMPONENTS)),
        ((2, 2, 2), Bernoulli, 3),
    )
    for nvec, make, width in products:
        outputs = rng.standard_normal((2, 4, width))
        joint = joint_actions(nvec)[:, None, :] + np.zeros((1, 4, 1), dtype=int)
        log_old, log_new = (log_prob_of_all(make, z, joint) for z in outputs)
        expected = np.sum(np.exp(log_old) * (log_old - log_new), axis=0)
        old, new = map(make, outputs)
        comparisons.append(Equal(old.kl(new), expected))
        comparisons.append(Equal(np.sum(np.exp(log_old), axis=0), np.ones(4)))
    return tuple(comparisons)


def log_prob_of_all(make: Callable[[Array], Distribution], outputs: Array, actions: Array) -> Array:
    """Return the log-probability of ``actions`` (m, N, ...) for each state, (m, N)."""
    tiled = np.tile(outputs, (len(actions), 1))
    return np.asarray(make(tiled).log_prob(actions.reshape(len(tiled), *actions.shape[2:]))).reshape(
        actions.shape[:2]
    )


@measures("E19", Kind.IDENTITY, DIFFERENCES, mean_kl)
def batch_kl(instance: Instance) -> tuple[Comparison, ...]:
    """E19: compare mean KL of a simulated batch, and with weights, with means of the tables' KL by state."""
    visited = instance.sample.states
    observations = instance.states[visited]
    old, new = (instance.policy(theta, observations) for theta in (instance.theta, instance.new_theta))
    per_state = table_kl(instance.old.policy, instance.new.policy)
    shares = np.bincount(visited, minlength=instance.mdp.n_states) / len(visited)
    exact = mean_kl(instance.old_distribution, instance.new_distribution, instance.old.visitation)
    scale = _log_ratio(instance.old.policy, instance.new.policy)
    return (
        Equal(float(mean_kl(old, new)), float(shares @ per_state), scale),
        Equal(float(exact), float(instance.old.visitation @ per_state), scale),
    )


def _log_ratio(old: Array, new: Array) -> float:
    """Return the largest |log π / π'|: a KL divergence is a mean of these, and may be much smaller."""
    return float(np.max(np.abs(np.log(old / new))))
