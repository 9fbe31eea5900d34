"""Experience of some environments, and its part of everything that learning takes over the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np

from npTRPO._typing import Array
from npTRPO.agent.model import Model
from npTRPO.sampling.advantages import gae
from npTRPO.sampling.batch import Batch, Episodes
from npTRPO.sampling.normalization import Moments, RewardScale, standardize
from npTRPO.sampling.statistics import Spread
from npTRPO.trust_region.linearized import cast, outputs_in_blocks, weighted_mean
from npTRPO.trust_region.objective import PolicyObjective, mean_kl
from npTRPO.trust_region.parts import Parts
from npTRPO.trust_region.value_fit import LeastSquares, predict_values


@dataclass(frozen=True)
class Summary:
    """What the whole must know of a part of it, once its steps are taken.

    Attributes
    ----------
    n_steps : int
        Steps taken, over all of its environments.
    n_transitions : int
        Those that don't only reset.
    episodes : Episodes
        Those that ended.
    rewards : RewardScale
        Of these steps alone, with the running returns after them.
    observations : Moments
        Of the raw observations.
    first_time : int
        Earliest step within an episode at which a transition began.
    """

    n_steps: int
    n_transitions: int
    episodes: Episodes
    rewards: RewardScale
    observations: Moments
    first_time: int


class Experience:
    """A batch of some of the environments, of which all of learning's sums are computed.

    The methods are called in their order here.

    Parameters
    ----------
    model : Model
        Policy, value network and options.
    batch : Batch
        What was experienced.
    """

    def __init__(self, model: Model, batch: Batch) -> None:
        self.batch = batch
        self._model = model
        self._weights: Array | None = None
        self._old: Any = None

    @np.errstate(over="ignore", invalid="ignore")  # what isn't finite is refused in the end
    def summary(self, running: Array) -> Summary:
        """Summarise the batch, given the running discounted returns (n_envs,) before it."""
        batch, config = self.batch, self._model.config
        rewards = RewardScale(Moments.empty(1), running)
        if config.normalize_rewards:
            rewards = RewardScale.of(batch.rewards, batch.ended, batch.valid, config.gamma, running)
        raw = batch.raw_observations[batch.valid]
        return Summary(
            n_steps=batch.rewards.size,
            n_transitions=len(raw),
            episodes=batch.episodes,
            rewards=rewards,
            observations=Moments.of(raw) if config.normalize_observations else Moments.empty(raw.shape[1]),
            first_time=int(np.min(batch.times[batch.valid], initial=np.iinfo(np.int64).max)),
        )

    def estimate(self, scale: RewardScale, value_theta: Array) -> tuple[Spread, Spread, Spread]:
        """Estimate advantages and returns; return the spread of both, and of the values' errors."""
        batch, config, valid = self.batch, self._model.config, self.batch.valid
        rewards = scale.apply(batch.rewards) if config.normalize_rewards else batch.rewards
        values, next_values = batch.values(partial(predict_values, self._model.value_network, value_theta))
        ends, discounts = (batch.terminated, batch.truncated), (config.gamma, config.gae_lambda)
        self._advantages = gae(rewards, values, next_values, *ends, *discounts)[valid]
        self._returns = self._advantages + values[valid]
        errors = self._returns - values[valid]
        return Spread.of(self._advantages), Spread.of(self._returns), Spread.of(errors)

    def discount(self, first_time: int) -> float:
        """Weigh states by γᵗ (E10), where t counts from ``first_time``; return the sum of their weights."""
        times = self.batch.times[self.batch.valid]
        self._weights, total = discounted(times, self._model.config.gamma, first_time)
        return total

    def renew(self, theta: Array, new_theta: Array, moments: Moments) -> float:
        """Take up new moments; return mean KL from π_θ with the old ones to π with these and new θ (E57)."""
        batch, policy = self.batch, self._model.policy
        observations, raw = batch.observations[batch.valid], batch.raw_observations[batch.valid]
        self._rows = standardize(raw, moments.normalizer(observations.dtype, policy.observation_eps))
        self._old = outputs_in_blocks(policy.outputs, theta, self._with_masks(observations))
        both = self._old, outputs_in_blocks(policy.outputs, new_theta, self._with_masks(self._rows))
        before, after = (policy.family(cast(each, np.float64)) for each in both)
        return float(mean_kl(before, after, self._weights))

    def _with_masks(self, observations: Array) -> Array:
        """Return observations of the transitions as the policy takes them."""
        masks = self.batch.masks
        return self._model.policy.rows(observations, None if masks is None else masks[self.batch.valid])

    def keep(self) -> None:
        """Keep the moments, or go back to them."""
        self._rows, self._old = self.batch.observations[self.batch.valid], None

    def entropy(self) -> float:
        """Return the mean entropy of the policy that acted, in nats, after :meth:`renew`."""
        old = self._model.policy.family(cast(self._old, np.float64))
        return float(weighted_mean(old.entropy(), self._weights))

    def linearize(self, theta: Array, advantages: Spread | None) -> tuple[Array, float, float, float]:
        """Make the objectives of policy and value function; return what :meth:`PolicyObjective.model` does.

        Advantages are normalised by their spread in the whole batch, if it is given.
        """
        config, chosen = self._model.config, self._advantages
        self._policy: PolicyObjective | None = PolicyObjective(
            self._model.policy,
            theta,
            self._with_masks(self._rows),
            self.batch.actions[self.batch.valid],
            chosen if advantages is None else advantages.normalized(chosen),
            weights=self._weights,
            cg_damping=config.cg_damping,
            sub_sampling_factor=config.sub_sampling_factor,
            old=self._old,
        )
        targets = self._returns.astype(theta.dtype, copy=False)
        self._values = LeastSquares(self._model.value_network, self._rows, targets)
        return self._policy.model()

    def policy(self, method: str, *arguments: Any) -> Any:
        """Call a method of the :class:`PolicyObjective`."""
        return getattr(self._policy, method)(*arguments)

    def values(self, method: str, *arguments: Any) -> Any:
        """Call a method of the value function's :class:`LeastSquares`, when the policy's update is made."""
        self._policy = None  # which holds the activations of all rows
        return getattr(self._values, method)(*arguments)

    def targets(self) -> tuple[Array, Array]:
        """Return normalised observations (N, features), and returns (N,), after the update of the policy."""
        self._policy = None
        return self._rows, self._returns


@dataclass(frozen=True)
class WholeBatch:
    """All parts of a batch, in this process or in others.

    Attributes
    ----------
    call : callable
        ``call(method, *arguments)`` calls a method of the :class:`Experience` of every part that has
        transitions, and returns the results in their order.
    summaries : sequence of Summary
        Of all parts.
    policy_weights : sequence of float, optional
        Weights of the parts that have transitions in the means over states, if they aren't in proportion
        to their number.
    """

    call: Callable[..., Sequence[Any]]
    summaries: Sequence[Summary]
    policy_weights: Sequence[float] | None = None

    @classmethod
    def of(cls, model: Model, batches: Sequence[Batch], running: Array) -> Self:
        """Make the whole of batches in this process, given the running returns of all their environments."""
        ends = np.cumsum([batch.rewards.shape[1] for batch in batches])[:-1]
        experiences = [Experience(model, batch) for batch in batches]
        summaries = [
            experience.summary(before)
            for experience, before in zip(experiences, np.split(running, ends), strict=True)
        ]
        pairs = zip(experiences, summaries, strict=True)
        parts = Parts.of(*(experience for experience, summary in pairs if summary.n_transitions))
        return cls(parts.each, summaries)

    @property
    def n_steps(self) -> int:
        """Steps taken, over all environments."""
        return sum(summary.n_steps for summary in self.summaries)

    @property
    def n_transitions(self) -> int:
        """Steps that don't only reset."""
        return sum(summary.n_transitions for summary in self.summaries)

    @property
    def episodes(self) -> Episodes:
        """Episodes that ended, part by part."""
        return Episodes.concatenate([summary.episodes for summary in self.summaries])

    def discounted(self) -> Self:
        """Weigh states by γᵗ."""
        sums = self.call("discount", min(summary.first_time for summary in self.summaries))
        return replace(self, policy_weights=[part / sum(sums) for part in sums])

    @property
    def weights(self) -> Sequence[float]:
        """The parts' weights in means over transitions."""
        return [s.n_transitions / self.n_transitions for s in self.summaries if s.n_transitions]

    @property
    def states(self) -> Parts:
        """The parts, in means over states as they are weighed for the policy."""
        return Parts(self.call, self.policy_weights or self.weights)

    @property
    def policy(self) -> Parts:
        """The parts of the policy's objective."""
        return Parts(partial(self.call, "policy"), self.states.weights)

    @property
    def values(self) -> Parts:
        """The parts of the value function's squared error."""
        return Parts(partial(self.call, "values"), self.weights)


def discounted(times: Array, gamma: float, first_time: int) -> tuple[Array, float]:
    """Return weights γᵗ / Σ γᵗ of states, in which steps t, (N,), of their episodes they were met (E10).

    And Σ γᵗ, where t counts from ``first_time``, the earliest step in the whole batch; it may round to 0. The
    weights don't, as they count from the earliest step of these states.
    """
    earliest = int(np.min(times))
    weights = gamma ** (times - earliest).astype(np.float64)
    total = np.sum(weights)
    return np.asarray(weights / total), float(total) * gamma ** float(earliest - first_time)
