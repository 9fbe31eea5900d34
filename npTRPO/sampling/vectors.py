"""Gymnasium's vectors of environments, at less cost per step and for environments of any habits."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import partial
from types import MethodType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.vector.utils import create_empty_array

from npTRPO._typing import Array, BoolArray
from npTRPO.policies.spaces import batch_of_one
from npTRPO.sampling.makers import EnvMaker


class RememberingList(list[Any]):
    """A list that remembers which of its elements is at work: it was handed out last.

    Gymnasium's vectors keep what they step, environments or pipes to them, in a list. While they go through
    it, ``last`` is the index of the element that it is the turn of, and None after the last one's.
    """

    last: int | None = None

    def __getitem__(self, index: Any) -> Any:
        self.last = index if isinstance(index, int) else None
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        for i, element in enumerate(list.__iter__(self)):
            self.last = i
            yield element
        self.last = None


def remembering_members(env: VectorEnv[Any, Any, Any]) -> RememberingList:
    """Let a vector environment remember which of its environments is at work, if it keeps them in a list."""
    vector: Any = env.unwrapped
    for name in ("envs", "parent_pipes"):
        members = getattr(vector, name, None)
        if isinstance(members, list):
            if not isinstance(members, RememberingList):
                members = RememberingList(members)
                setattr(vector, name, members)
            return members
    return RememberingList()


def action_masks(env: VectorEnv[Any, Any, Any]) -> Any:
    """Return the masks of all environments of a vector: its own ``action_masks()``, or theirs.

    Raises
    ------
    AttributeError
        If there is no such method.
    """
    vector: Any = env
    while not callable(getattr(vector, "action_masks", None)):
        if not isinstance(vector, VectorWrapper):
            if not hasattr(vector, "call"):
                raise AttributeError(f"{type(vector).__name__} has no 'action_masks'")
            return vector.call("action_masks")
        vector = vector.env
    return vector.action_masks()


def counting_calls(env: VectorEnv[Any, Any, Any]) -> Callable[[], int]:
    """Let a vector environment count how often it is reset or stepped; return a function that tells.

    One that wasn't made here counts in methods of its own, which take the place of its class's. Those that
    can't be given any, or have some already, don't count.
    """
    vector: Any = env.unwrapped
    if not hasattr(vector, "nptrpo_calls"):
        with contextlib.suppress(AttributeError, TypeError):  # of classes with __slots__
            given = vars(vector)
            vector.nptrpo_calls = 0
            for name in ("reset", "step", "reset_async", "step_async"):
                if name not in given and hasattr(vector, name):
                    setattr(vector, name, MethodType(_counted(name), vector))
    return lambda: getattr(vector, "nptrpo_calls", 0)


def _counted(name: str) -> Callable[..., Any]:
    """Return a method that counts, and then does what the class's method of this name does."""

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        self.nptrpo_calls += 1
        return getattr(type(self), name)(self, *arguments, **options)

    call.__name__ = name  # by which a bound method is pickled
    return call


class _Vector(VectorEnv[Any, Any, Any]):
    """What vectors made here have beside Gymnasium's: infos of any kind, and a count of calls.

    Attributes
    ----------
    nptrpo_calls : int
        How often it was reset or stepped, by whomever; see :func:`counting_calls`.
    """

    nptrpo_calls = 0

    def _add_info(self, infos: dict[str, Any], info: dict[str, Any], i: int) -> dict[str, Any]:
        """Add an environment's infos to those of all; as objects, where they don't fit beside the others'."""
        for key, value in info.items():
            known = infos.get(key)
            if known is None or _fits_beside(known, value):
                infos = super()._add_info(infos, {key: value}, i)
                continue
            mask, objects = infos[f"_{key}"], np.full(self.num_envs, None, dtype=object)
            for j in np.flatnonzero(mask).tolist():
                objects[j] = info_of(known, j)
            objects[i], mask[i] = value, True
            infos[key] = objects
        return infos


def _fits_beside(known: Any, value: Any) -> bool:
    """Return whether a value of one environment can be stored with those of others as it is."""
    if isinstance(known, dict) or isinstance(value, dict):
        return isinstance(known, dict) and isinstance(value, dict)
    if known.dtype == object:
        return True
    try:
        array = np.asarray(value)
    except ValueError:  # a list of lists of different lengths
        return False
    return bool(array.dtype == known.dtype and array.shape == known.shape[1:])


def info_of(known: Any, i: int) -> Any:
    """Return what environment ``i`` has of the infos of all."""
    if not isinstance(known, dict):
        return known[i]
    there = {key: part for key, part in known.items() if f"_{key}" in known and known[f"_{key}"][i]}
    return {key: info_of(part, i) for key, part in there.items()}


def info_numbers(
    key: str, infos: dict[str, Any], ended: BoolArray, valid: BoolArray, here: Callable[[int], str]
) -> Array:
    """Return a number from the infos of every environment, shape (n,).

    Parameters
    ----------
    key : str
        Of the number.
    infos : dict
        What a step of a vector environment returned.
    ended : bool array, shape (n,)
        Which environments' infos are in ``final_info``, as their episodes ended.
    valid : bool array, shape (n,)
        Which are to have one; the numbers of the others are 0.
    here : callable
        Returns the name of an environment and the step, for messages.

    Raises
    ------
    ValueError
        If one is missing, or is no number.
    """
    numbers = np.zeros(len(ended))
    has = infos.get(f"_{key}", np.full(len(ended), key in infos))
    for i in np.flatnonzero(valid).tolist():
        found = (
            info_of(infos.get("final_info", {}), i) if ended[i] else {key: infos[key][i]} if has[i] else {}
        )
        if key not in found:
            raise ValueError(f"info_keys has {key!r}, which is not in the infos of {here(i)}")
        try:
            numbers[i] = found[key]
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"info_keys has {key!r}, which is {found[key]!r}, and not a number, in the infos of {here(i)}"
            ) from error
    return numbers


class _Copying(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Copies what an episode ends with, before a reset fills the environment's memory again."""

    def step(self, action: Any) -> Any:
        result: Any = self.env.step(action)
        return copy.deepcopy(result) if result[2] or result[3] else result


def _copying(maker: EnvMaker) -> gymnasium.Env[Any, Any]:
    return _Copying(maker())


class AsyncVector(_Vector, AsyncVectorEnv):
    """Gymnasium's :class:`AsyncVectorEnv`, with infos of any kind and last observations as they were.

    Parameters
    ----------
    maker : EnvMaker
        Makes the environment.
    n_envs : int
        Number of processes.
    """

    def __init__(self, maker: EnvMaker, n_envs: int) -> None:
        super().__init__([partial(_copying, maker)] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
        self.spec = maker.spec

    def reset_async(self, *arguments: Any, **options: Any) -> None:
        """Begin to reset all environments."""
        self.nptrpo_calls += 1
        super().reset_async(*arguments, **options)

    def step_async(self, actions: Any) -> None:
        """Begin to step all environments."""
        self.nptrpo_calls += 1
        super().step_async(actions)


class SyncVector(_Vector, SyncVectorEnv):
    """Gymnasium's :class:`SyncVectorEnv`, at less cost per step.

    Infos are passed on at the end of episodes only, but for those named by ``info_keys``. A lone
    environment's observations are passed on as it gives them, whatever their dtype.

    Parameters
    ----------
    *makers : callable
        Each makes one of the environments.
    autoreset_mode : AutoresetMode
        SAME_STEP or DISABLED.
    """

    def __init__(
        self,
        *makers: Callable[[], gymnasium.Env[Any, Any]],
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
    ) -> None:
        super().__init__(makers, autoreset_mode=autoreset_mode)
        if len({id(env.unwrapped) for env in self.envs}) < len(self.envs):
            raise ValueError(
                "what is to make the copies of the environment returned the same one again: it must return a "
                "new one each time, as lambda: MyEnv() does"
            )
        self.envs: RememberingList = RememberingList(self.envs)
        self.spec = self.envs[0].spec
        self.info_keys: tuple[str, ...] = ()

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments."""
        self.nptrpo_calls += 1
        if options and "reset_mask" in options:
            return super().reset(seed=seed, options=options)
        n, infos = self.num_envs, dict[str, Any]()
        seeds = (
            [seed + i for i in range(n)] if isinstance(seed, int) else [None] * n if seed is None else seed
        )
        memory = self._memory()
        for i, (env, its_seed) in enumerate(zip(self.envs, seeds, strict=True)):
            info = self._observe(memory, i, env.reset(seed=its_seed, options=options))
            infos = self._add_info(infos, info, i)
        return self._observed(memory), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments, and in SAME_STEP mode reset those whose episodes end."""
        self.nptrpo_calls += 1
        n, observed, memory = self.num_envs, self._env_obs, self._memory()
        rewards = np.zeros(n)
        terminated, truncated = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        infos: dict[str, Any] = {}
        # Without the list's own iterator, which takes 3 % of a step of one CartPole.
        for i, (env, action) in enumerate(zip(list.__iter__(self.envs), actions, strict=True)):
            self.envs.last = i
            result = env.step(action)
            if not isinstance(result, tuple) or len(result) != 5:
                raise ValueError(
                    f"step returned {_described(result)}, not the five of Gymnasium's API "
                    f"(observation, reward, terminated, truncated, info){_OLD_API}"
                )
            observed[i], reward, terminated[i], truncated[i], info = result
            if getattr(reward, "ndim", 0) or isinstance(reward, (list, tuple)):
                raise ValueError(f"step returned the reward {reward!r}, not one number")
            rewards[i] = reward
            if (terminated[i] or truncated[i]) and self.autoreset_mode is AutoresetMode.SAME_STEP:
                # The environment may use its memory again.
                ended = {"final_obs": copy.deepcopy(observed[i]), "final_info": copy.deepcopy(info)}
                infos = self._add_info(infos, ended, i)
                infos = self._add_info(infos, self._observe(memory, i, env.reset()), i)
                continue
            if memory is not None:
                _store(self.single_observation_space, memory, i, observed[i])
            for key in self.info_keys:
                if key in info:
                    infos = self._add_info(infos, {key: info[key]}, i)
        self.envs.last = None
        return self._observed(memory), rewards, terminated, truncated, infos

    def _memory(self) -> Any:
        """Return room for observations of all, or None where a lone one's are passed on as they are."""
        if self.num_envs == 1:
            return None
        return create_empty_array(self.single_observation_space, self.num_envs, np.empty)

    def _observe(self, memory: Any, i: int, of_reset: Any) -> dict[str, Any]:
        """Store the observation that a reset returned, and return its infos."""
        if not isinstance(of_reset, tuple) or len(of_reset) != 2 or not isinstance(of_reset[1], dict):
            raise ValueError(
                f"reset returned {_described(of_reset)}, not the two of Gymnasium's API "
                f"(observation, info){_OLD_API}"
            )
        self._env_obs[i], info = of_reset
        if memory is not None:
            _store(self.single_observation_space, memory, i, self._env_obs[i])
        return copy.deepcopy(info)

    def _observed(self, memory: Any) -> Any:
        return batch_of_one(self.single_observation_space, self._env_obs[0]) if memory is None else memory


_OLD_API = "; gymnasium.wrappers.StepAPICompatibility and shimmy convert environments of the old API"


def _described(result: Any) -> str:
    return f"{len(result)} values" if isinstance(result, tuple) else f"one {type(result).__name__}"


def _store(space: gymnasium.Space[Any], memory: Any, i: int, observation: Any) -> None:
    """Copy an observation to its place among those of all environments.

    Raises
    ------
    ValueError
        If it has another shape than the space, or is no whole number that fits where one is expected.
    """
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            _store(part, memory[key], i, observation[key])
    elif isinstance(space, spaces.Tuple):
        for part, place, of_part in zip(space.spaces, memory, observation, strict=True):
            _store(part, place, i, of_part)
    else:
        if np.shape(observation) != memory.shape[1:]:
            raise ValueError(f"an observation has shape {np.shape(observation)}, not that of {space}")
        memory[i] = observation
        exact = getattr(observation, "dtype", None) == memory.dtype or memory.dtype.kind not in "iu"
        if not exact and not np.array_equal(memory[i], observation):
            raise ValueError(f"the observation {observation!r} isn't of {space}")
