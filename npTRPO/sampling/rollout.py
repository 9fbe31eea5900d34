"""Experience: steps of a policy in a vector environment, as one frozen batch.

The only room that knows terminated from truncated, and the autoreset modes of Gymnasium's vector
environments. In NEXT_STEP mode the step after an episode's end only resets: its action is ignored and
its reward is no reward, so it is marked and never becomes a transition. In SAME_STEP mode the observation
returned at an episode's end is already the next episode's first; the true last one is in the infos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

from npTRPO._typing import Array, BoolArray
from npTRPO.policies.policy import Policy
from npTRPO.policies.spaces import batch_of_one
from npTRPO.sampling.advantages import running_sums
from npTRPO.sampling.blame import explained
from npTRPO.sampling.normalization import Moments, standardize

__all__ = ["Batch", "Episodes", "Sampler", "autoreset_mode"]


@dataclass(frozen=True)
class Episodes:
    """Episodes that ended within a batch.

    Attributes
    ----------
    returns : array, shape (k,)
        Undiscounted sums of the environment's own rewards.
    lengths : array, shape (k,)
        Numbers of steps.
    """

    returns: Array
    lengths: Array


@dataclass(frozen=True)
class Batch:
    """T steps in each of n environments, n·T less the resets of them transitions.

    Attributes
    ----------
    raw_observations : array, shape (T, n, d)
        Encoded observations before each step.
    observations : array, shape (T, n, d)
        The same, normalised as the policy saw them.
    actions : array, shape (T, n, ...)
        As the distribution gave them.
    rewards : array, shape (T, n)
        The environment's own, float64.
    terminated, truncated : bool array, shape (T, n)
        Whether the step ended an episode, and how.
    valid : bool array, shape (T, n)
        False for the steps that only reset.
    final_steps : int array, shape (k, 2)
        Steps (t, environment) whose next observation isn't the one in the following row.
    final_observations : array, shape (k, d)
        Their next observations, normalised: the true last ones of their episodes.
    last_observations : array, shape (n, d)
        Observations after the last step, normalised.
    episodes : Episodes
        Those that ended.
    """

    raw_observations: Array
    observations: Array
    actions: Array
    rewards: Array
    terminated: BoolArray
    truncated: BoolArray
    valid: BoolArray
    final_steps: Array
    final_observations: Array
    last_observations: Array
    episodes: Episodes

    @property
    def ended(self) -> BoolArray:
        """Whether the step ended an episode, shape (T, n)."""
        return self.terminated | self.truncated

    def values(self, predict: Any) -> tuple[Array, Array]:
        """V of each observation and of the one each step led to, both (T, n), in one call of ``predict``.

        ``predict`` maps observations (N, d) to values (N,).
        """
        steps, n, d = self.observations.shape
        rows = np.concatenate(
            [self.observations.reshape(-1, d), self.last_observations, self.final_observations]
        )
        predicted = predict(rows)
        values = predicted[: steps * n].reshape(steps, n)
        next_values = np.concatenate([values[1:], predicted[None, steps * n : (steps + 1) * n]])
        next_values[tuple(self.final_steps.T)] = predicted[(steps + 1) * n :]
        return values, next_values


def autoreset_mode(env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    """How a vector environment resets the environments whose episodes ended.

    Raises
    ------
    ValueError
        If it doesn't.
    """
    # The first versions of Gymnasium 1 share one metadata among all vectors of a kind of environment.
    own = getattr(env.unwrapped, "autoreset_mode", None)
    mode = AutoresetMode(own or env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
    if mode is AutoresetMode.DISABLED:
        raise ValueError(
            "the vector environment has autoreset disabled: make it with autoreset_mode "
            "AutoresetMode.SAME_STEP or AutoresetMode.NEXT_STEP"
        )
    return mode


class Sampler:
    """Steps a vector environment with a policy, and remembers where it stopped.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        With NEXT_STEP or SAME_STEP autoreset.
    policy : Policy
        For the environment's single observation and action space.
    seed : int
        For the environment's first reset.

    Raises
    ------
    ValueError
        If the environment doesn't reset by itself, or observes what isn't in its space.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], policy: Policy, seed: int) -> None:
        self.env = env
        self.policy = policy
        self.mode = autoreset_mode(env)
        self._n_features = policy.n_features
        try:
            observations, _ = env.reset(seed=seed)
        except (Exception, SystemExit) as error:
            raise explained(env, error, "reset") from error.__cause__
        self._steps_before = 0
        self._current = self._encoded(observations, np.float64, -1)
        self._resets = np.zeros(env.num_envs, dtype=bool)  # environments whose next step only resets
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs)

    def collect(self, theta: Array, n_steps: int, moments: Moments | None, rng: np.random.Generator) -> Batch:
        """Take ``n_steps`` steps in every environment with π_θ.

        Parameters
        ----------
        theta : array, shape (p,)
            Parameters; observations take their dtype.
        n_steps : int
            T.
        moments : Moments or None
            Normalise observations by these, or not at all.
        rng : numpy.random.Generator
            Draws the actions.

        Raises
        ------
        ValueError
            For observations or rewards that aren't finite or have the wrong shape, naming environment
            and step.
        """
        dtype = theta.dtype
        n, d = self._current.shape
        raw = np.empty((n_steps + 1, n, d), dtype=dtype)
        seen = np.empty((n_steps + 1, n, d), dtype=dtype)
        rewards = np.zeros((n_steps, n))
        terminated, truncated = (np.zeros((n_steps, n), dtype=bool) for _ in range(2))
        valid = np.ones((n_steps, n), dtype=bool)
        actions: list[Array] = []
        finals: list[tuple[int, int, Array]] = []
        normalizer = None if moments is None else moments.normalizer(dtype)
        next_step = self.mode is AutoresetMode.NEXT_STEP

        def view(t: int, encoded: Array) -> Array:
            raw[t] = encoded
            seen[t] = shown = raw[t] if normalizer is None else standardize(raw[t], normalizer)
            return shown

        policy = self.policy.at(theta)
        observation, encoded = None, self._current
        for t in range(n_steps):
            with np.errstate(
                over="ignore", invalid="ignore"
            ):  # what isn't finite is refused, not warned about
                if t:
                    encoded = self._encoded(observation, dtype, t - 1)
                action = policy(view(t, encoded)).sample(rng)
                sent = self.policy.to_env(action)
            actions.append(action)
            if next_step:
                valid[t] = ~self._resets
            try:
                observation, reward, terminated[t], truncated[t], info = self.env.step(sent)
                if np.shape(reward) != (n,):
                    raise self._misshapen("rewards", reward, (n,), t)
                rewards[t] = reward
            except (Exception, SystemExit) as error:
                # The environment may have choked on its own NaN.
                self._check(raw[: t + 1], rewards[:t], finals, actions)
                raise explained(self.env, error, self._when(t)) from error.__cause__
            ended = terminated[t] | truncated[t]
            if next_step:
                self._resets = ended
            elif True in (ends := ended.tolist()):
                finals += [(t, i, self._final(info, i, dtype, t)) for i, end in enumerate(ends) if end]
        with np.errstate(over="ignore", invalid="ignore"):
            view(n_steps, self._encoded(observation, dtype, n_steps - 1))
        rewards[~valid] = 0.0
        self._check(raw, rewards, finals, actions)
        self._current = raw[n_steps]
        self._steps_before += n_steps

        last = np.array([o for _, _, o in finals], dtype=dtype).reshape(len(finals), d)
        return Batch(
            raw_observations=raw[:-1],
            observations=seen[:-1],
            actions=np.array(actions),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            final_steps=np.array([(t, i) for t, i, _ in finals], dtype=np.int64).reshape(len(finals), 2),
            final_observations=last if normalizer is None else standardize(last, normalizer),
            last_observations=seen[-1],
            episodes=self._episodes(rewards, terminated | truncated, valid),
        )

    def _final(self, info: dict[str, Any], i: int, dtype: npt.DTypeLike, t: int) -> Array:
        """The true last observation of the episode that ended in environment ``i``, encoded."""
        observation = _element(info["final_obs"], i) if "final_obs" in info else None
        if observation is None:
            raise ValueError(
                f"environment {i} ended an episode at its {self._when(t)} without final_obs in the infos, "
                "where SAME_STEP autoreset has the last observation"
            )
        alone = batch_of_one(self.policy.observation_space, observation)
        with np.errstate(over="ignore", invalid="ignore"):
            row: Array = self._encoded(alone, dtype, t, i)[0]
        return row

    def _when(self, t: int) -> str:
        step = self._steps_before + t + 1
        return f"step {step}" if step else "reset"

    def _encoded(self, observations: Any, dtype: npt.DTypeLike, t: int, i: int | None = None) -> Array:
        """What step ``t`` observed as rows: in all environments, or in environment ``i`` alone."""
        shape = (self.env.num_envs if i is None else 1, self._n_features)
        try:
            rows = self.policy.encode(observations, dtype)
            if rows.shape == shape:
                return rows
        except (KeyError, TypeError, ValueError) as error:
            space = self.policy.observation_space
            raise ValueError(
                f"{self._whence(t, i)} returned observations that aren't of {space}: {error}"
            ) from error
        raise self._misshapen("observations", rows, shape, t, i)

    def _whence(self, t: int, i: int | None) -> str:
        return self._when(t) if i is None else f"{self._when(t)} of environment {i}"

    def _misshapen(
        self, what: str, array: Any, shape: tuple[int, ...], t: int, i: int | None = None
    ) -> ValueError:
        return ValueError(
            f"{self._whence(t, i)} returned {what} of shape {np.shape(array)}, not {shape}: "
            "does the environment keep to its spaces?"
        )

    def _check(
        self, raw: Array, rewards: Array, finals: list[tuple[int, int, Array]], actions: list[Array]
    ) -> None:
        """Raise for the first number that isn't finite, naming environment and step."""
        for t, i, *_ in np.argwhere(~np.isfinite(actions)):
            if np.all(np.isfinite(raw[: t + 1])):  # and so it isn't the environments' fault alone
                largest = float(np.max(np.abs(raw[t, i])))
                raise ValueError(
                    f"the policy has no finite action in environment {i} at its {self._when(int(t))}, where "
                    f"the largest number observed is {largest:g}; nothing was learned from this batch"
                )
            break
        last = np.zeros_like(raw)
        for t, i, row in finals:
            last[t + 1, i] = row
        for what, array, offset in (
            ("observation", raw, 0),
            ("reward", rewards, 1),
            ("last observation", last, 0),
        ):
            if not np.all(np.isfinite(array)):
                t, i, *feature = (int(k) for k in np.argwhere(~np.isfinite(array))[0])
                where = f" (feature {feature[0]})" if feature else ""
                raise ValueError(
                    f"environment {i} returned the {what} {array[(t, i, *feature)]}{where} at its step "
                    f"{self._steps_before + t + offset}; nothing was learned from this batch"
                )

    def _episodes(self, rewards: Array, ended: BoolArray, valid: BoolArray) -> Episodes:
        """Returns and lengths of the episodes that ended, in order of time."""
        with np.errstate(over="ignore", invalid="ignore"):
            returns = running_sums(rewards, 1.0, ended, self._returns)
        for t, i in np.argwhere(~np.isfinite(returns)):
            when = self._when(int(t) - len(rewards))  # the batch is counted already
            raise ValueError(
                f"the rewards of environment {i} add up to {returns[t, i]} at its {when}; "
                "nothing was learned from this batch"
            )
        lengths = running_sums(valid.astype(float), 1.0, ended, self._lengths)
        self._returns = np.where(ended[-1], 0.0, returns[-1])
        self._lengths = np.where(ended[-1], 0.0, lengths[-1])
        return Episodes(returns[ended], lengths[ended].astype(np.int64))


def _element(observations: Any, i: int) -> Any:
    """Observation ``i`` of the infos, in which some versions of Gymnasium hold a dict of arrays for dicts."""
    if isinstance(observations, dict):
        return {key: _element(part, i) for key, part in observations.items()}
    return observations[i]
