"""What the trust region is compared with: dense Fisher matrices, divergences and surrogates by definition."""

import math

import numpy as np

from tests.policies.oracles import (
    EPS,
    action_nodes,
    complex_jacobian,
    family_of,
    fisher_in_outputs,
    kl_by_definition,
    log_prob_by_definition,
)


def in_float64(outputs):
    """Outputs as float64."""
    return tuple(o.astype(float) for o in outputs) if isinstance(outputs, tuple) else outputs.astype(float)


def joined(outputs):
    """Outputs as one array (N, n)."""
    return np.concatenate(outputs, axis=-1) if isinstance(outputs, tuple) else outputs


def jacobian_rows(policy, theta, observations):
    """J (N, n, p) of the outputs in θ, by complex steps."""
    return complex_jacobian(lambda t: joined(policy.outputs(t, observations)), theta)


def fisher_by_definition(policy, theta, observations):
    """E21, the second form: 1/N Σ Jᵀ M J as a matrix."""
    family = family_of(policy.action_space)
    outputs = joined(policy.outputs(theta, observations))
    jacobian = jacobian_rows(policy, theta, observations)
    metrics = np.array([fisher_in_outputs(family, row) for row in outputs])
    return np.einsum("nip,nij,njq->pq", jacobian, metrics, jacobian) / len(observations)


def fisher_by_scores(policy, theta, observations):
    """E21, the first form: the mean of ∇log π ∇log πᵀ over all actions, or over quadrature nodes."""
    family, total = family_of(policy.action_space), np.zeros((theta.size, theta.size))
    for actions, weights in action_nodes(family, policy.outputs(theta, observations)):
        scores = complex_jacobian(
            lambda t, a=actions: policy(t, observations).log_prob(a),  # type: ignore[misc]
            theta,
        )
        total += (scores * weights[:, None]).T @ scores
    return total / len(observations)


def mean_kl_by_definition(policy, old, new, observations):
    """E19, with the network in θ's dtype and all else in float64."""
    family = family_of(policy.action_space)
    outputs = (in_float64(policy.outputs(theta, observations)) for theta in (old, new))
    return math.fsum(kl_by_definition(family, *outputs)) / len(observations)


def surrogate_by_loop(batch, new):
    """E10, one step of the batch after the other."""
    family = family_of(batch.policy.action_space)
    log_probs = [
        log_prob_by_definition(
            family, in_float64(batch.policy.outputs(theta, batch.observations)), batch.actions
        )
        for theta in (batch.theta, new)
    ]
    terms = [
        math.exp(new - old) * float(advantage)
        for old, new, advantage in zip(*log_probs, batch.advantages, strict=True)
    ]
    return math.fsum(terms) / len(terms)


def fisher_rounding(policy, theta, observations, eps=EPS):
    """How far an entry of F v may round, per unit of ‖v‖, by whichever way it is computed.

    ``slope`` bounds the norm of |J| and ``size`` that of a layer's inputs, layer by layer, with Frobenius
    norms, which bound the sums of magnitudes too; activations have slopes of at most 1.1. Each number
    takes part in as many operations as the layers have inputs, forwards and backwards, and a few more;
    the forward pass's rounding moves the slopes by as much again times ``size``.
    """
    start, slope, operations = 0, 0.0, 40
    size = max(1.0, float(np.max(np.linalg.norm(observations, axis=-1))))
    largest = size
    for m, n in zip(policy.network.sizes[:-1], policy.network.sizes[1:], strict=True):
        weights = float(np.linalg.norm(theta[start : start + m * n]))
        biases = float(np.linalg.norm(theta[start + m * n : start + (m + 1) * n]))
        slope = 1.1 * weights * slope + 1 + size
        size = 1.1 * (weights * size + biases) + math.sqrt(n)
        largest = max(largest, size)
        operations += 4 * (m + 2)
        start += (m + 1) * n
    metric = 1.0
    if policy.n_log_std:
        log_std = theta[-policy.n_log_std :].astype(float)
        metric, slope = max(2.0, float(np.exp(-2 * log_std.min()))), slope + 1
    return operations * eps * largest * slope**2 * metric
