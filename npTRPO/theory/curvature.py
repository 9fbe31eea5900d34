"""E20 to E25, E52, E53 and E58: the quadratic model of mean KL, and the Fisher information."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from npTRPO._typing import Array
from npTRPO.autograd import grad, hvp, linearize
from npTRPO.policies.distributions import Bernoulli, Categorical, DiagGaussian, Distribution, MultiCategorical
from npTRPO.policies.mlp import MLP
from npTRPO.policies.network import Network
from npTRPO.theory.checks import DIFFERENCES, KRYLOV, ROUNDING, AtMost, Comparison, Equal, Kind, measures
from npTRPO.theory.divergences import (
    COMPONENTS,
    gaussian_by_quadrature,
    gaussian_nodes,
    joint_actions,
    log_prob_of_all,
)
from npTRPO.theory.exact import tabular_policy
from npTRPO.theory.instances import COMPLEX_STEP, GaussianPair, Instance, complex_step_jacobian
from npTRPO.trust_region.conjugate_gradient import conjugate_gradient
from npTRPO.trust_region.fisher import FisherOperator
from npTRPO.trust_region.objective import mean_kl
from npTRPO.trust_region.update import natural_step


def cubic_bound(change: Array, weights: Array) -> float:
    """E20: bound |KL − ½ΔᵀHΔ| for softmax logits that change by ``change`` (S, A), linearly in Δ.

    KL(z ‖ z + d) is the Bregman divergence of log Σ exp, whose third derivative along d is the third
    cumulant of d under a softmax. The third central moment of what varies over a range R is at most
    R³ / (6√3) (with two values, at p = ½ ± √3/6), so that the remainder of the second-order Taylor
    polynomial is at most R³ / (36√3) in each state.
    """
    span = np.max(change, axis=1) - np.min(change, axis=1)
    return float(weights @ span**3) / (36 * math.sqrt(3))


@measures("E20", Kind.INEQUALITY, ROUNDING, FisherOperator, FisherOperator.form, cubic_bound)
def quadratic_model(instance: Instance) -> tuple[Comparison, ...]:
    """E20: check that KL and its gradient are 0 at Δ = 0, and compare the remainder with a cubic bound."""
    rng, nu = instance.rng(20), instance.old.visitation
    linear = tabular_policy(instance.mdp)
    theta = rng.standard_normal(linear.n_parameters)
    step = 10 ** rng.uniform(-3, 0) * rng.standard_normal(linear.n_parameters)
    old, new = (Categorical(linear.outputs(t, instance.states)) for t in (theta, theta + step))
    model = FisherOperator(linear, theta, instance.states, weights=nu).quadratic_form(step) / 2
    change = new.logits - old.logits
    slope = grad(lambda t: mean_kl(old, linear(t, instance.states), nu))(theta)
    size = float(np.max(np.abs(old.log_probs)))
    return (
        AtMost(abs(float(mean_kl(old, new, nu)) - model), cubic_bound(change, nu), size),
        Equal(float(mean_kl(old, old, nu)), 0.0),
        Equal(slope, np.zeros_like(slope), scale=1.0),
    )


@measures("E21", Kind.IDENTITY, ROUNDING, FisherOperator)
def fisher_information(instance: Instance) -> tuple[Comparison, ...]:
    """E21: compare F v by JᵀMJ with E[∇log π (∇log πᵀ v)], a sum over all pairs (s, a)."""
    v = instance.rng(21).standard_normal(instance.theta.size)
    expected = instance.scores.T @ (instance.batch.weights * (instance.scores @ v))
    return (Equal(instance.fisher @ v, expected, scale=float(np.max(np.abs(instance.scores @ v)))),)


@measures(
    "E22",
    Kind.IDENTITY,
    ROUNDING,
    *(kind.fisher_product for kind in (Categorical, MultiCategorical, Bernoulli, DiagGaussian)),
)
def fisher_in_outputs(instance: Instance) -> tuple[Comparison, ...]:
    """E22: compare M v of every kind of distribution with E[∇log π (∇log πᵀ v)] in its outputs."""
    rng, rows = instance.rng(22), 3
    comparisons = []
    for make, width, nvec in (
        (Categorical, 4, (4,)),
        (lambda z: MultiCategorical(z, COMPONENTS), sum(COMPONENTS), COMPONENTS),
        (Bernoulli, 2, (2, 2)),
    ):
        outputs, v = rng.standard_normal((2, rows, width))
        actions = joint_actions(nvec)[:, None, :] + np.zeros((1, rows, 1), dtype=int)
        actions = actions[..., 0] if make is Categorical else actions
        weights = np.exp(log_prob_of_all(make, outputs, actions))
        comparisons.append(
            Equal(make(outputs).fisher_product(v), fisher_of_outputs(make, outputs, actions, weights, v))
        )
    mean, log_std, along_mean, along_log_std = rng.standard_normal((4, rows, 1))
    points, weights = gaussian_nodes(mean, log_std)
    ours = DiagGaussian(mean, log_std).fisher_product((along_mean, along_log_std))
    outputs, v = np.hstack([mean, log_std]), np.hstack([along_mean, along_log_std])
    expected = fisher_of_outputs(_gaussian_of_columns, outputs, points, weights[:, None], v)
    return (*comparisons, Equal(np.hstack(ours), expected))


def fisher_of_outputs(
    make: Callable[[Array], Distribution], outputs: Array, actions: Array, weights: Array, v: Array
) -> Array:
    """E22: return Σ_a w_a ∇log π(a) (∇log π(a)ᵀ v) of each state, shape (N, k).

    Scores are found by complex steps in the ``outputs`` (N, k); ``actions`` (m, N, ...) and their
    ``weights`` (m, N) or (m, 1) integrate over the distribution.
    """
    n, k = outputs.shape
    moved = outputs + 1j * COMPLEX_STEP * np.eye(k)[:, None]  # along each output, (k, N, k)
    tiled = np.tile(actions, (1, k) + (1,) * (actions.ndim - 2))
    log_probs = log_prob_of_all(make, moved.reshape(k * n, k), tiled).reshape(len(actions), k, n)
    scores = np.swapaxes(np.imag(log_probs) / COMPLEX_STEP, 1, 2)
    along = np.sum(scores * v, axis=-1)
    total: Array = np.sum((weights * along)[..., None] * scores, axis=0)
    return total


def _gaussian_of_columns(outputs: Array) -> DiagGaussian:
    """Return the Gaussian of means and log standard deviations that stand side by side."""
    half = outputs.shape[1] // 2
    return DiagGaussian(outputs[:, :half], outputs[:, half:])


@measures("E23", Kind.IDENTITY, ROUNDING, FisherOperator)
def differentiated_twice(instance: Instance) -> tuple[Comparison, ...]:
    """E23: compare F v with the derivative along v of the engine's gradient of mean KL.

    Half of the instances take the softmax policy, the others the Gaussian one.
    """
    rng = instance.rng(23)
    drawn: Any = instance if rng.random() < 0.5 else instance.gaussian
    policy, theta = drawn.policy, drawn.theta
    rows = instance.states if drawn is instance else drawn.observations
    weights = instance.old.visitation if drawn is instance else None
    old, v = policy(theta, rows), rng.standard_normal(theta.size)
    information = instance.fisher if drawn is instance else FisherOperator(policy, theta, rows)
    twice = hvp(lambda new: mean_kl(old, policy(new, rows), weights), theta, v)
    return (Equal(information @ v, twice, scale=1.0),)


@measures("E24", Kind.IDENTITY, DIFFERENCES, FisherOperator.form)
def properties(instance: Instance) -> tuple[Comparison, ...]:
    """E24: check symmetry, vᵀFv ≥ 0, and that KL is ½ΔᵀFΔ for a Gaussian with linear mean and fixed σ."""
    rng = instance.rng(24)
    u, v = rng.standard_normal((2, instance.theta.size))
    linear = GaussianPair.draw(rng, ())
    step = linear.new_theta - linear.theta
    step[-linear.policy.n_log_std :] = 0
    moved = linear.policy(linear.theta + step, linear.observations)
    information = FisherOperator(linear.policy, linear.theta, linear.observations)
    return (
        Equal(float(u @ (instance.fisher @ v)), float(v @ (instance.fisher @ u)), scale=1.0),
        AtMost(0.0, instance.fisher.quadratic_form(v), scale=1.0),
        Equal(float(mean_kl(linear.old, moved)), information.quadratic_form(step) / 2),
    )


@dataclass(frozen=True)
class Reparametrised:
    """E25: use a network with other parameters φ, where θ = Bφ.

    Attributes
    ----------
    network : Network
        In the parameters θ.
    matrix : array, shape (p, p)
        B, regular.
    """

    network: Network
    matrix: Array

    @property
    def n_parameters(self) -> int:
        """Length of φ."""
        return len(self.matrix)

    def init(self, rng: np.random.Generator, dtype: npt.DTypeLike = np.float64) -> Array:
        """The φ of the network's own initial parameters."""
        phi: Array = np.linalg.solve(self.matrix, self.network.init(rng)).astype(dtype)
        return phi

    def __call__(self, theta: Any, x: Any) -> Any:
        """Outputs of the network with parameters Bφ; φ is called ``theta``, as in every network."""
        return self.network(self.matrix @ theta, x)


@measures("E25", Kind.IDENTITY, KRYLOV, natural_step, needs_gradient=True)
def invariance(instance: Instance) -> tuple[Comparison, ...]:
    """E25: compare how the step found in φ, mapped back, and the step found in θ move the outputs.

    F is singular, as adding a constant to all logits changes no policy; so the steps may differ in
    directions that change nothing, and F times them is compared.
    """
    n, nu = instance.theta.size, instance.old.visitation
    rng = instance.rng(25)
    rotation, _ = np.linalg.qr(rng.standard_normal((n, n)))
    matrix = rotation * 2 ** rng.uniform(-1, 1, n)
    other = replace(instance.policy, network=Reparametrised(instance.policy.network, matrix))
    phi = np.linalg.solve(matrix, instance.theta)
    steps = [
        _undamped_step(fisher, gradient, instance.target_kl)
        for fisher, gradient in (
            (instance.fisher, instance.gradient),
            (FisherOperator(other, phi, instance.states, weights=nu), matrix.T @ instance.gradient),
        )
    ]
    return (Equal(instance.fisher @ steps[0], instance.fisher @ (matrix @ steps[1])),)


def _undamped_step(fisher: FisherOperator, gradient: Array, target_kl: float) -> Array:
    x = conjugate_gradient(fisher, gradient, rtol=1e-12, maxiter=4 * len(gradient)).x
    return natural_step(x, fisher.quadratic_form(x), target_kl)


def third_order_difference(probs: Array, change: Array, weights: Array) -> tuple[float, float]:
    """E52: return −κ₃/6, and how far KL(θ ‖ θ+Δ) − KL(θ+Δ ‖ θ) may be from it, for logits that change.

    κ₃ is the third cumulant of the change (S, A) under π (S, A), averaged over states. The difference is
    −1/6 of the cumulant at some point between the two policies (the error of the trapezoidal rule for the
    cumulant generating function's derivative), and the fourth cumulant of what varies over a range R is at
    most R⁴ / 8: so they differ by R⁴ / 48 at most.
    """
    centred = change - np.sum(probs * change, axis=1, keepdims=True)
    third = np.sum(probs * centred**3, axis=1)
    return -float(weights @ third) / 6, float(weights @ np.ptp(change, axis=1) ** 4) / 48


@measures("E52", Kind.INEQUALITY, ROUNDING, third_order_difference)
def both_directions(instance: Instance) -> tuple[Comparison, ...]:
    """E52: check the difference of the two KLs for logits; for a linear mean with fixed σ there is none."""
    rng, nu = instance.rng(52), instance.old.visitation
    logits, direction = rng.standard_normal((2, *instance.mdp.reward.shape))
    change = 10 ** rng.uniform(-2, 0.5) * direction
    old, new = Categorical(logits), Categorical(logits + change)
    expected, allowed = third_order_difference(old.probs, change, nu)
    difference = float(mean_kl(old, new, nu)) - float(mean_kl(new, old, nu))
    size = float(np.max(np.abs(old.log_probs))) + float(np.max(np.abs(new.log_probs)))
    fixed = instance.gaussian.old
    moved = DiagGaussian(instance.gaussian.new.mean, fixed.log_std)
    return (
        AtMost(abs(difference - expected), allowed, size),
        Equal(fixed.kl(moved), moved.kl(fixed)),
    )


def kl_derivatives(old: Any, new: Any, v: Any) -> tuple[Any, Any]:
    """E53: return the gradient of KL(old ‖ new) in the new outputs, and K v, its Hessian there times v.

    For logits they are p' − p and M' v. For (μ, log σ) of a Gaussian, with d = μ' − μ, K is
    [[1/σ'², −2d/σ'²], [−2d/σ'², 2(σ² + d²)/σ'²]], which is M only at the old parameters and needn't be
    positive semi-definite.
    """
    if isinstance(new, Categorical):
        return new.probs - old.probs, new.fisher_product(v)
    precision, d = np.exp(-2 * new.log_std), new.mean - old.mean
    second = (np.exp(2 * old.log_std) + d**2) * precision
    gradient = d * precision, 1 - second
    mixed = -2 * d * precision
    return gradient, (precision * v[0] + mixed * v[1], mixed * v[0] + 2 * second * v[1])


@measures("E53", Kind.IDENTITY, ROUNDING, kl_derivatives)
def away_from_the_old_parameters(instance: Instance) -> tuple[Comparison, ...]:
    """E53: compare JᵀKJ v and the outputs' own curvature with KL differentiated twice by the engine.

    Half of the instances take the softmax policy, the others the Gaussian one.
    """
    rng = instance.rng(53)
    drawn: Any = instance if rng.random() < 0.5 else instance.gaussian
    rows = instance.states if drawn is instance else drawn.observations
    policy, at, v = drawn.policy, drawn.new_theta, rng.standard_normal(drawn.theta.size)
    old, lin = policy(drawn.theta, rows), linearize(lambda theta: policy.outputs(theta, rows), at)
    slope, curved = kl_derivatives(old, policy(at, rows), lin.jvp(v))

    def weighted(theta: Any) -> Any:
        outputs = policy.outputs(theta, rows)
        pairs = zip(outputs, slope, strict=True) if isinstance(outputs, tuple) else [(outputs, slope)]
        return sum(np.sum(part * weight) for part, weight in pairs)

    twice = hvp(lambda theta: np.sum(old.kl(policy(theta, rows))), at, v)
    parts = lin.vjp(curved), hvp(weighted, at, v)
    return (Equal(parts[0] + parts[1], twice, scale=max(1.0, *(float(np.max(np.abs(x))) for x in parts))),)


@dataclass(frozen=True)
class StateDependentGaussian:
    """E58: a network whose outputs are the means and the log standard deviations of a Gaussian.

    Attributes
    ----------
    network : Network
        With twice as many outputs as there are action dimensions.
    bound : float
        log σ is bound · tanh of the network's output; J carries that derivative.
    """

    network: Network
    bound: float

    @property
    def n_parameters(self) -> int:
        """Length of θ."""
        return self.network.n_parameters

    def init(self, rng: np.random.Generator, dtype: npt.DTypeLike = np.float64) -> Array:
        """Draw θ."""
        return self.network.init(rng, dtype)

    def __call__(self, theta: Any, x: Any) -> tuple[Any, Any]:
        """Return means and log standard deviations, each (N, n)."""
        outputs = self.network(theta, x)
        half = outputs.shape[1] // 2
        return outputs[:, :half], self.bound * np.tanh(outputs[:, half:])


@measures("E58", Kind.IDENTITY, ROUNDING, FisherOperator, StateDependentGaussian)
def state_dependent_deviations(instance: Instance) -> tuple[Comparison, ...]:
    """E58: compare F v with Σ JᵀMJ v / N, where each state has its own σ and J is found by complex steps.

    KL is compared with Gauss–Hermite quadrature, as in E17.
    """
    rng, features = instance.rng(58), instance.gaussian.policy.n_features
    size = instance.gaussian.policy.n_log_std
    network = StateDependentGaussian(MLP((features, 3, 2 * size), "tanh"), float(rng.uniform(0.5, 2)))
    policy: Any = replace(instance.gaussian.policy, network=network, n_log_std=0)
    theta, shift, v = rng.standard_normal((3, policy.n_parameters))
    rows = instance.gaussian.observations
    old, new = (policy(t, rows) for t in (theta, theta + 0.3 * shift))
    J = complex_step_jacobian(lambda t: np.hstack(network(t, rows)), theta)
    M = np.hstack([np.exp(-2 * old.log_std), np.full_like(old.log_std, 2.0)])
    ours = FisherOperator(policy, theta, rows) @ v
    return (
        Equal(ours, J.T @ (M.ravel() * (J @ v)) / len(rows), scale=1.0),
        gaussian_by_quadrature(old, new),
    )
