"""The one loop that steps environments: for training, for evaluation and for rendering.

The only file that knows terminated from truncated, and the autoreset modes of Gymnasium's vector
environments. In NEXT_STEP mode the step after an episode's end only resets: its action is ignored and
its reward is no reward, so it is marked and never becomes a transition. In SAME_STEP mode the observation
returned at an episode's end is already the next episode's first; the true last one is in the infos.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

from npTRPO._typing import Array
from npTRPO.policies.policy import Policy
from npTRPO.policies.spaces import batch_of_one
from npTRPO.sampling.batch import Steps
from npTRPO.sampling.normalization import Moments, standardize

__all__ = ["Actor", "Stepper", "autoreset_mode"]


class Actor:
    """π_θ as a function from encoded observations to actions.

    Parameters
    ----------
    policy : Policy
    theta : array, shape (p,)
        Parameters; observations take their dtype.
    moments : Moments or None
        Normalise observations by these, or not at all.
    rng : numpy.random.Generator, optional
        Draws the actions; without it they are the most probable ones.
    """

    def __init__(
        self,
        policy: Policy,
        theta: Array,
        moments: Moments | None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.dtype = theta.dtype
        self._normalizer = None if moments is None else moments.normalizer(theta.dtype)
        self._distribution = policy.at(theta)
        self._rng = rng

    def normalized(self, rows: Array) -> Array:
        """Return encoded observations (..., d) as the policy sees them."""
        return rows if self._normalizer is None else standardize(rows, self._normalizer)

    def act(self, observations: Array) -> Array:
        """Return an action for each of the normalised observations (n, d), as the distribution gives it."""
        distribution = self._distribution(observations)
        return distribution.mode() if self._rng is None else distribution.sample(self._rng)


def autoreset_mode(env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    """Return how a vector environment resets the environments whose episodes ended.

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


class Stepper:
    """Steps a vector environment, and says which environment went wrong at which step.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        With NEXT_STEP or SAME_STEP autoreset; it is reset here.
    policy : Policy
        For the environment's single observation and action space.
    seed : int, optional
        For the reset.
    purpose : str
        What the steps are taken for, in messages, unless they are to be learned from: "an evaluation".
        Last observations of episodes are then not asked for.
    one_episode : bool
        Whether the steps end with the first episode; the environment then needs no autoreset.

    Raises
    ------
    ValueError
        If the environment doesn't reset by itself, or observes what isn't in its space.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        policy: Policy,
        seed: int | None = None,
        purpose: str = "",
        one_episode: bool = False,
    ) -> None:
        self.env = env
        self.policy = policy
        self.purpose = purpose
        self._consequence = "" if purpose else "; nothing was learned from this batch"
        self.mode = AutoresetMode.DISABLED if one_episode else autoreset_mode(env)
        self._members = _remembering(env)
        self._n_features = policy.n_features
        self._steps_before = 0
        self._resets = np.zeros(env.num_envs, dtype=bool)  # environments whose next step only resets
        try:
            self._observation, _ = env.reset(seed=seed)
        except (Exception, SystemExit) as error:
            raise self._explained(error, -1) from error.__cause__
        self._encoded(self._observation, np.float64, -1)

    def advance(self, actor: Actor, n_steps: int) -> Steps:
        """Take ``n_steps`` steps in every environment.

        Raises
        ------
        ValueError
            For observations, actions or rewards that aren't finite, and for observations or rewards that
            have the wrong shape, naming environment and step.
        """
        dtype, n = actor.dtype, self.env.num_envs
        raw, seen = (np.empty((n_steps + 1, n, self._n_features), dtype) for _ in range(2))
        rewards = np.zeros((n_steps, n))
        terminated, truncated = (np.zeros((n_steps, n), dtype=bool) for _ in range(2))
        valid = np.ones((n_steps, n), dtype=bool)
        actions: list[Array] = []
        finals: list[tuple[int, int, Array]] = []
        next_step = self.mode is AutoresetMode.NEXT_STEP
        wants_finals = self.mode is AutoresetMode.SAME_STEP and not self.purpose

        def look(t: int) -> Array:
            raw[t] = self._encoded(self._observation, dtype, t - 1)
            seen[t] = shown = actor.normalized(raw[t])
            return shown

        for t in range(n_steps):
            with np.errstate(over="ignore", invalid="ignore"):  # what isn't finite is refused, in _check
                action = actor.act(look(t))
                sent = self.policy.to_env(action)
            actions.append(action)
            if next_step:
                valid[t] = ~self._resets
            try:
                self._observation, reward, terminated[t], truncated[t], info = self.env.step(sent)
                if np.shape(reward) != (n,):
                    raise self._misshapen("rewards", reward, (n,), t)
                rewards[t] = reward
            except (Exception, SystemExit) as error:
                # The environment may have failed because of its own NaN.
                self._check(raw[: t + 1], rewards[:t], finals, actions)
                raise self._explained(error, t) from error.__cause__
            ended = terminated[t] | truncated[t]
            if next_step:
                self._resets = ended
            elif wants_finals and True in (ends := ended.tolist()):
                finals += [(t, i, self._final(info, i, dtype, t)) for i, end in enumerate(ends) if end]
        with np.errstate(over="ignore", invalid="ignore"):
            look(n_steps)
        rewards[~valid] = 0.0
        self._check(raw, rewards, finals, actions)
        self._steps_before += n_steps
        last = np.array([row for _, _, row in finals], dtype).reshape(len(finals), self._n_features)
        return Steps(
            raw_observations=raw[:-1],
            observations=seen[:-1],
            actions=np.array(actions),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            final_steps=np.array([(t, i) for t, i, _ in finals], dtype=np.int64).reshape(len(finals), 2),
            final_observations=actor.normalized(last),
            last_observations=seen[-1],
        )

    # --- observations -------------------------------------------------------------------------

    def _encoded(self, observations: Any, dtype: npt.DTypeLike, t: int, i: int | None = None) -> Array:
        """Return what step ``t`` observed as rows: in all environments, or in environment ``i`` alone."""
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

    def _final(self, info: dict[str, Any], i: int, dtype: npt.DTypeLike, t: int) -> Array:
        """Return the true last observation of the episode that ended in environment ``i``, encoded."""
        observation = _element(info["final_obs"], i) if "final_obs" in info else None
        if observation is None:
            raise ValueError(
                f"environment {i} ended an episode at its {self.when(t)} without final_obs in the infos, "
                "where SAME_STEP autoreset has the last observation"
            )
        alone = batch_of_one(self.policy.observation_space, observation)
        with np.errstate(over="ignore", invalid="ignore"):
            row: Array = self._encoded(alone, dtype, t, i)[0]
        return row

    def _check(
        self, raw: Array, rewards: Array, finals: list[tuple[int, int, Array]], actions: list[Array]
    ) -> None:
        """Raise for the first number that isn't finite, naming environment and step."""
        for t, i, *_ in np.argwhere(~np.isfinite(actions)):
            if np.all(np.isfinite(raw[: t + 1])):  # and so it isn't the environments' fault alone
                largest = float(np.max(np.abs(raw[t, i])))
                raise ValueError(
                    f"the policy has no finite action in environment {i} {self._place(int(t))}, where "
                    f"the largest number observed is {largest:g}{self._consequence}"
                )
            break
        last = np.zeros_like(raw)
        for t, i, row in finals:
            last[t + 1, i] = row
        for what, array, offset in (
            ("observation", raw, -1),
            ("reward", rewards, 0),
            ("last observation", last, -1),
        ):
            if not np.all(np.isfinite(array)):
                t, i, *feature = (int(k) for k in np.argwhere(~np.isfinite(array))[0])
                where = f" (feature {feature[0]})" if feature else ""
                raise ValueError(
                    f"environment {i} returned the {what} {array[(t, i, *feature)]}{where} "
                    f"{self._place(t + offset)}{self._consequence}"
                )

    # --- messages -----------------------------------------------------------------------------

    def when(self, t: int) -> str:
        """Return a name for step ``t`` of those to come, where −1 is the last one before: "step 17"."""
        step = self._steps_before + t + 1
        return (f"step {step}" if step else "reset") + (f" of {self.purpose}" if self.purpose else "")

    def _place(self, t: int) -> str:
        return f"in {self.when(t)}" if self.purpose else f"at its step {self._steps_before + t + 1}"

    def _whence(self, t: int, i: int | None) -> str:
        return self.when(t) if i is None else f"{self.when(t)} of environment {i}"

    def _misshapen(
        self, what: str, array: Any, shape: tuple[int, ...], t: int, i: int | None = None
    ) -> ValueError:
        return ValueError(
            f"{self._whence(t, i)} returned {what} of shape {np.shape(array)}, not {shape}: "
            "does the environment keep to its spaces?"
        )

    def _explained(self, error: Exception | SystemExit, t: int) -> Exception:
        """Return the error with a note of the environment and step, or one that says that a process ended.

        An environment that calls ``sys.exit`` is no reason to end without a message.
        """
        vector: Any = self.env.unwrapped
        culprits = self._culprits()
        for i in culprits if isinstance(error, (EOFError, ConnectionError)) else ():
            if hasattr(vector, "processes") and vector.parent_pipes[i] is not None:
                process = vector.processes[i]
                process.join(1)
                return ChildProcessError(f"the process of environment {i} {_end(process)}, in {self.when(t)}")
        who = " and ".join(f"environment {i}" for i in culprits) or "the environments"
        if isinstance(error, SystemExit):
            return RuntimeError(
                f"{who} would have ended the process with status {error.code}, in {self.when(t)}"
            )
        error.add_note(f"in {self.when(t)} of {who}")
        return error

    def _culprits(self) -> list[int]:
        """Return which environments failed, as far as that can be told: those at work, or those misshapen."""
        n, last = self.env.num_envs, self._members.last
        if n == 1:
            return [0]
        if last is not None and last < n - 1:
            return [last]
        # Where all have had their turn, what failed may be to put their observations together.
        observations = getattr(self.env.unwrapped, "_env_obs", ())
        seen = any(observation is not None for observation in observations)
        misshapen = [i for i, observation in enumerate(observations) if seen and not self._fits(observation)]
        return misshapen or ([] if last is None else [last])

    def _fits(self, observation: Any) -> bool:
        try:
            self._encoded(batch_of_one(self.policy.observation_space, observation), np.float64, 0, 0)
        except (KeyError, TypeError, ValueError):
            return False
        return True


class _RememberingList(list[Any]):
    """A list that remembers which of its elements is at work: it was handed out last.

    Gymnasium's vectors keep what they step, environments or pipes to them, in a list. While they go through
    it, ``last`` is the index of the element that it is the turn of, and None after the last one's.
    """

    last: int | None = None

    def __getitem__(self, index: Any) -> Any:
        self.last = index if isinstance(index, int) else None
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        for self.last, element in enumerate(super().__iter__()):
            yield element
        self.last = None


def _remembering(env: VectorEnv[Any, Any, Any]) -> _RememberingList:
    """Let a vector environment remember which of its environments is at work, if it keeps them in a list."""
    vector: Any = env.unwrapped
    for name in ("envs", "parent_pipes"):
        members = getattr(vector, name, None)
        if isinstance(members, list):
            if not isinstance(members, _RememberingList):
                members = _RememberingList(members)
                setattr(vector, name, members)
            return members
    return _RememberingList()


def _end(process: Any) -> str:
    if process.exitcode is None or process.exitcode >= 0:
        return f"ended with status {process.exitcode}"
    return f"was killed by signal {-process.exitcode}"


def _element(observations: Any, i: int) -> Any:
    """Return observation ``i`` of the infos, in which some versions of Gymnasium hold a dict of arrays."""
    if isinstance(observations, dict):
        return {key: _element(part, i) for key, part in observations.items()}
    return observations[i]
