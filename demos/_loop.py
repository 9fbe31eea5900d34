"""The loop of the demos that improve the policy in their own way: the whole algorithm but for that."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from npTRPO import Policy, gae
from npTRPO.policies import MLP
from npTRPO.sampling import Batch, Sampler
from npTRPO.trust_region import fit_trust_region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

N_ENVS, GAMMA, LAMBDA = 8, 0.99, 0.95


def train(
    improve: Callable[..., Any],
    env: str,
    total: int,
    seed: int,
    n_steps: int = 128,
    costs: tuple[str, ...] = (),
) -> Iterator[tuple[Batch, Any, float]]:
    """Train on ``total`` steps of an environment.

    Parameters
    ----------
    improve : callable
        ``improve(batch, policy, theta, observations, actions, advantages)`` returns the next θ; it is also
        given the advantages in each cost.
    env : str
        Its id.
    total, seed, n_steps : int
        ``n_steps`` in each of eight copies make a batch.
    costs : tuple of str
        Keys of the infos that have a value function too.

    Yields
    ------
    batch, theta, mean_return
        After each improvement, what it was made from, its result, and the mean of the last 50 returns.
    """
    envs = gymnasium.make_vec(env, N_ENVS, vectorization_mode="sync")
    policy = Policy.for_spaces(envs.single_observation_space, envs.single_action_space)
    critic, rng = MLP((policy.n_features, 64, 64, 1)), np.random.default_rng(seed)
    theta, recent = policy.init(rng), deque[float](maxlen=50)
    critics = [critic.init(rng) for _ in ("reward", *costs)]
    sampler = Sampler(envs, policy, seed, info_keys=costs)
    for _ in range(0, total, n_steps * N_ENVS):
        batch = sampler.collect(theta, n_steps, None, rng)
        observations, advantages = batch.observations[batch.valid], []
        for i, signal in enumerate([batch.rewards, *(batch.infos[key] for key in costs)]):
            values, next_values = batch.values(lambda rows, at=critics[i]: critic(at, rows)[:, 0])
            estimates = gae(signal, values, next_values, batch.terminated, batch.truncated, GAMMA, LAMBDA)
            critics[i] = fit_trust_region(critic, critics[i], observations, (estimates + values)[batch.valid])
            advantages.append(estimates[batch.valid])
        theta = improve(batch, policy, theta, observations, batch.actions[batch.valid], *advantages)
        recent.extend(batch.episodes.returns)
        yield batch, theta, float(np.mean(recent)) if recent else np.nan
    envs.close()


def curves(make: Callable[[int], Any], env: str, total: int, seeds: int, n_steps: int = 128) -> Any:
    """Train with several seeds, each with the improvement ``make(seed)``; mean returns (seeds, batches)."""
    runs = (train(make(seed), env, total, seed, n_steps) for seed in range(seeds))
    return np.array([[mean_return for *_, mean_return in run] for run in runs])
