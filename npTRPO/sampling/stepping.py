"""The one loop that steps environments: for training, for evaluation and for rendering.

The only file that knows terminated from truncated, and the autoreset modes of Gymnasium's vector
environments. In NEXT_STEP mode the step after an episode's end only resets: its action is ignored and
its reward is no reward, so it is marked and never becomes a transition. In SAME_STEP mode the observation
returned at an episode's end is already the next episode's first; the true last one is in the infos.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv

from npTRPO._typing import Array, BoolArray
from npTRPO.policies.masks import MaskError
from npTRPO.policies.policy import Policy
from npTRPO.policies.spaces import batch_of_one
from npTRPO.sampling.actor import Actor
from npTRPO.sampling.final_infos import final_numbers
from npTRPO.sampling.vectors import (
    SyncVector,
    action_masks,
    counting_calls,
    info_numbers,
    remembering_members,
)


def autoreset_mode(env: VectorEnv[Any, Any, Any]) -> AutoresetMode | None:
    """Return how a vector environment says that it resets the environments whose episodes ended.

    The outermost wrapper that states it in its metadata is right. None if nobody states it.

    Raises
    ------
    ValueError
        If it doesn't reset them.
    """
    base = env.unwrapped
    # The first versions of Gymnasium 1 share one metadata among all vectors of a kind of environment.
    own = getattr(base, "autoreset_mode", None) if env.metadata is base.metadata else None
    stated = own or env.metadata.get("autoreset_mode")
    mode = None if stated is None else AutoresetMode(stated)
    if mode is AutoresetMode.DISABLED:
        raise ValueError(
            "the vector environment has autoreset disabled: make it with autoreset_mode "
            "AutoresetMode.SAME_STEP or AutoresetMode.NEXT_STEP"
        )
    return mode


class Steps:
    """T steps of n environments, with the names and shapes of :class:`npTRPO.sampling.Batch`'s arrays.

    Observations have one row more, for those after the last step: zeros, unless :meth:`Stepper.look` is
    called. ``finals`` holds step, environment and last observation, encoded, of episodes that ended.
    """

    def __init__(
        self, n_steps: int, n: int, n_features: int, raw: npt.DTypeLike, dtype: npt.DTypeLike
    ) -> None:
        self.raw_observations = np.zeros((n_steps + 1, n, n_features), raw)
        self.observations = np.zeros((n_steps + 1, n, n_features), dtype)
        self.rewards = np.zeros((n_steps, n))
        self.terminated = np.zeros((n_steps, n), dtype=bool)
        self.truncated = np.zeros((n_steps, n), dtype=bool)
        self.valid = np.ones((n_steps, n), dtype=bool)
        self.actions: list[Array] = []
        self.masks: list[BoolArray] = []
        self.finals: list[tuple[int, int, Array]] = []
        self.infos: dict[str, list[Array]] = {}
        self.final_infos: list[dict[str, float]] = []


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
    first : int
        Number of the first environment in messages, where these are some of many.
    info_keys : sequence of str
        Keys of numbers in the infos to record at every step.

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
        first: int = 0,
        info_keys: Sequence[str] = (),
    ) -> None:
        self.env = env
        self._first, self._info_keys = first, tuple(info_keys)
        if isinstance(env.unwrapped, SyncVector):  # which leaves infos out unless they are asked for
            env.unwrapped.info_keys = self._info_keys
        self.policy = policy
        self.purpose = purpose
        self._consequence = "" if purpose else "; nothing was learned from this batch"
        stated = AutoresetMode.DISABLED if one_episode else autoreset_mode(env)
        self._stated, self.mode = stated is not None, stated or AutoresetMode.NEXT_STEP
        self._members = remembering_members(env)
        self._calls_now = counting_calls(env)
        self._calls = 0
        self._n_features, self._dtype = policy.n_features, policy.observation_dtype
        self.taken = 0
        self._resets = np.zeros(env.num_envs, dtype=bool)  # environments whose next step only resets
        try:
            self._observation, _ = env.reset(seed=seed)
        except (Exception, SystemExit) as error:
            raise self._explained(error) from error.__cause__
        self._encoded(self._observation, np.float64)
        self._calls = self._calls_now()

    @property
    def undisturbed(self) -> bool:
        """True unless others have stepped or reset the environments since."""
        return self._calls == self._calls_now()

    def advance(self, actor: Actor, n_steps: int) -> Steps:
        """Take ``n_steps`` steps in every environment.

        Raises
        ------
        ValueError
            For observations, actions or rewards that aren't finite, and for observations or rewards that
            have the wrong shape, naming environment and step.
        """
        n, dtype, next_step = self.env.num_envs, self._dtype, self.mode is AutoresetMode.NEXT_STEP
        wants_finals = self.mode is AutoresetMode.SAME_STEP and not self.purpose
        steps = Steps(n_steps, n, self._n_features, dtype, actor.dtype)
        raw, rewards, valid = steps.raw_observations, steps.rewards, steps.valid
        terminated, truncated = steps.terminated, steps.truncated
        for t in range(n_steps):
            with np.errstate(over="ignore", invalid="ignore"):  # what isn't finite is refused, in _check
                raw[t] = self._encoded(self._observation, dtype)
                steps.observations[t] = observations = actor.normalized(raw[t])
                masks = self._masks()
                actions = actor.act(observations, masks)
                sent = self.policy.to_env(actions)
            steps.actions.append(actions)
            if masks is not None:
                steps.masks.append(masks)
            if next_step:
                valid[t] = ~self._resets
            self.taken += 1
            try:
                self._observation, reward, terminated[t], truncated[t], info = self.env.step(sent)
                if np.shape(reward) != (n,):
                    raise self._misshapen("rewards", reward, (n,))
                rewards[t] = reward
            except (Exception, SystemExit) as error:
                # The environment may have failed because of its own NaN.
                self._check(steps)
                raise self._explained(error) from error.__cause__
            ended = terminated[t] | truncated[t]
            for key in self._info_keys:
                numbers = info_numbers(key, info, ended & (not next_step), valid[t], self._here)
                steps.infos.setdefault(key, []).append(numbers)
            if not self.purpose and True in (ends := ended.tolist()):
                last = info if next_step else info.get("final_info", {})
                steps.final_infos += [final_numbers(last, i) for i, end in enumerate(ends) if end]
            if next_step:
                self._check_resets(rewards[t], ended, info)
                self._resets = ended
            elif wants_finals and True in (ends := ended.tolist()):
                steps.finals += [(t, i, self._final(info, i, dtype)) for i, end in enumerate(ends) if end]
        rewards[~valid] = 0.0
        self._calls = self._calls_now()
        self._check(steps)
        return steps

    def _check_resets(self, rewards: Array, ended: BoolArray, info: dict[str, Any]) -> None:
        """Raise a ValueError if a vector environment doesn't reset in the step after an episode's end.

        Then an end has ``final_obs`` beside it, or a step that should only reset has a reward, or ends an
        episode; the last two are no sign where NEXT_STEP is stated, as a wrapper may have changed the reward.
        """
        if ended.any() and "final_obs" in info:
            sign = f"episodes ended in {self.when(self.taken)} with final_obs in the infos"
        elif not self._stated and (went_on := self._resets & (ended | (rewards != 0))).any():
            i = int(np.argmax(went_on))
            sign = f"{self.name(i)} went on in {self.when(self.taken)}, right after the end of an episode"
        else:
            return
        states = (
            "states NEXT_STEP"
            if self._stated
            else "doesn't state its autoreset_mode, which usually is NEXT_STEP"
        )
        raise ValueError(
            f"the vector environment {states}, but {sign}: if it resets in the same step, say so by "
            "env.metadata = {**env.metadata, 'autoreset_mode': gymnasium.vector.AutoresetMode.SAME_STEP}, "
            "and give final_obs in the infos"
        )

    def look(self, actor: Actor, steps: Steps) -> None:
        """Record the observations after the last step as well.

        Raises
        ------
        ValueError
            For those that aren't finite or have the wrong shape, naming environment and step.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            steps.raw_observations[-1] = self._encoded(self._observation, self._dtype)
            steps.observations[-1] = actor.normalized(steps.raw_observations[-1])
        self._check(steps)

    def _check(self, steps: Steps) -> None:
        """Raise a ValueError for the first number that isn't finite, naming environment and step."""
        raw, actions, before = steps.raw_observations, steps.actions, self.taken - len(steps.actions)
        numbers = [("observation", raw, 0), ("reward", steps.rewards, 1)]
        if (dtype := steps.observations.dtype) != raw.dtype:  # networks see no larger numbers
            with np.errstate(over="ignore"):
                numbers.insert(1, (f"{dtype} observation", raw.astype(dtype), 0))
        if steps.finals:
            last = np.zeros_like(raw)
            for t, i, row in steps.finals:
                last[t + 1, i] = row
            numbers.append(("last observation", last, 0))
        if np.isfinite(actions).all() and all(np.isfinite(array).all() for _, array, _ in numbers):
            return
        for t, i, *_ in np.argwhere(~np.isfinite(actions)).tolist():
            if np.all(np.isfinite(raw[: t + 1])):  # and so it isn't the environments' fault alone
                largest = float(np.max(np.abs(raw[t, i])))
                raise ValueError(
                    f"the policy has no finite action in {self.name(i)} {self._place(before + t + 1)}, "
                    f"where the largest number observed is {largest:g}{self._consequence}"
                )
            break
        for what, array, offset in numbers:
            for t, i, *feature in np.argwhere(~np.isfinite(array)).tolist():
                where = f" (feature {feature[0]})" if feature else ""
                raise ValueError(
                    f"{self.name(i)} returned the {what} {array[(t, i, *feature)]}{where} "
                    f"{self._place(before + t + offset)}{self._consequence}"
                )

    # --- observations -------------------------------------------------------------------------

    def _encoded(self, observations: Any, dtype: npt.DTypeLike, i: int | None = None) -> Array:
        """Return what the last step observed as rows: in all environments, or in environment ``i`` alone."""
        shape = (self.env.num_envs if i is None else 1, self._n_features)
        try:
            rows = self.policy.encode(observations, dtype)
            if rows.shape == shape:
                return rows
        except (KeyError, TypeError, ValueError) as error:
            space = self.policy.observation_space
            raise ValueError(
                f"{self._whence(i)} returned observations that aren't of {space}: {error}"
            ) from error
        raise self._misshapen("observations", rows, shape, i=i)

    def _here(self, i: int) -> str:
        return f"{self.name(i)} in {self.when(self.taken)}"

    def _masks(self) -> BoolArray | None:
        """Return which actions are allowed now; environments that only reset next may forbid them all."""
        if not self.policy.choices:
            return None
        try:
            given = None if self.policy.observes_masks else action_masks(self.env)
            return self.policy.masks(self._observation, given, self._resets)
        except MaskError as error:
            where = f"{self._place(self.taken)}{self._consequence}"
            raise ValueError(f"{self.name(error.row)} {error} {where}") from error
        except AttributeError as error:
            raise ValueError(
                "mask_actions needs an action_mask in Dict observations, or a method action_masks() of the "
                f"environments, but {error}"
            ) from error
        except Exception as error:
            raise self._explained(error) from error.__cause__

    def _final(self, info: dict[str, Any], i: int, dtype: npt.DTypeLike) -> Array:
        """Return the true last observation of the episode that ended in environment ``i``, encoded."""
        observation = _element(info["final_obs"], i) if "final_obs" in info else None
        if observation is None:
            raise ValueError(
                f"{self.name(i)} ended an episode at its step {self.taken} without final_obs in the infos, "
                "where SAME_STEP autoreset has the last observation"
            )
        alone = batch_of_one(self.policy.observation_space, observation)
        with np.errstate(over="ignore", invalid="ignore"):
            row: Array = self._encoded(alone, dtype, i)[0]
        return row

    # --- messages -----------------------------------------------------------------------------

    def name(self, i: int) -> str:
        """Return the name of the environment at a place in the vector."""
        return f"environment {self._first + i}"

    def when(self, step: int) -> str:
        """Return the name of a step, such as "step 17"; number 0 is the reset."""
        return (f"step {step}" if step else "reset") + (f" of {self.purpose}" if self.purpose else "")

    def _place(self, step: int) -> str:
        return f"in {self.when(step)}" if self.purpose else f"at its step {step}"

    def _whence(self, i: int | None) -> str:
        return self.when(self.taken) + ("" if i is None else f" of {self.name(i)}")

    def _misshapen(self, what: str, array: Any, shape: tuple[int, ...], i: int | None = None) -> ValueError:
        return ValueError(
            f"{self._whence(i)} returned {what} of shape {np.shape(array)}, not {shape}: "
            "does the environment keep to its spaces?"
        )

    def _explained(self, error: Exception | SystemExit) -> Exception:
        """Return the error with a note of environment and step, or one that says that a process ended.

        An environment that calls ``sys.exit`` is no reason to end without a message.
        """
        vector: Any = self.env.unwrapped
        when, culprits = self.when(self.taken), self._culprits()
        for i in culprits if isinstance(error, (EOFError, ConnectionError)) else ():
            if hasattr(vector, "processes") and vector.parent_pipes[i] is not None:
                process = vector.processes[i]
                process.join(1)
                code = process.exitcode or 0
                ended = (
                    f"was killed by signal {-code}" if code < 0 else f"ended with status {process.exitcode}"
                )
                return ChildProcessError(f"the process of {self.name(i)} {ended}, in {when}")
        who = " and ".join(map(self.name, culprits)) or "the environments"
        if isinstance(error, SystemExit):
            return RuntimeError(f"{who} would have ended the process with status {error.code}, in {when}")
        error.add_note(f"in {when} of {who}")
        return error

    def _culprits(self) -> list[int]:
        """Return which environments failed, as far as can be told: the one at work, or those misshapen."""
        n, last = self.env.num_envs, self._members.last
        if n == 1:
            return [0]
        if last is not None and last < n - 1:
            return [last]
        # Where all have had their turn, what failed may be to put their observations together.
        observed = getattr(self.env.unwrapped, "_env_obs", ())
        misshapen = [i for i, each in enumerate(observed) if each is not None and not self._fits(each)]
        return misshapen or ([] if last is None else [last])

    def _fits(self, observation: Any) -> bool:
        try:
            self._encoded(batch_of_one(self.policy.observation_space, observation), np.float64, 0)
        except (KeyError, TypeError, ValueError):
            return False
        return True


def _element(observations: Any, i: int) -> Any:
    """Return observation ``i`` of the infos, in which some versions of Gymnasium hold a dict of arrays."""
    if isinstance(observations, dict):
        return {key: _element(part, i) for key, part in observations.items()}
    return observations[i]
