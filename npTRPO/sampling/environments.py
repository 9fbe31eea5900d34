"""Vector environments, made from an id, an environment or a vector environment."""

import contextlib
import importlib
import math
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, VectorEnv, VectorWrapper

from npTRPO.policies.policy import Policy
from npTRPO.sampling.makers import EnvMaker
from npTRPO.sampling.vec_env import FromVecEnv, is_vec_env
from npTRPO.sampling.vectors import AsyncVector, SyncVector

EnvLike: TypeAlias = (
    str | EnvSpec | Callable[..., Any] | EnvMaker | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]
)
"""What environments are made of; see :func:`make_vector_env`."""


def make_vector_env(
    env: EnvLike, n_envs: int, vectorization_mode: str | None = None
) -> VectorEnv[Any, Any, Any]:
    """Make a vector environment to train or evaluate on.

    Parameters
    ----------
    env : str, EnvSpec, callable, EnvMaker, gymnasium.Env or gymnasium.vector.VectorEnv
        An id, after "module:" where a module registers it, a specification, a class, or another callable that
        returns a new environment, is made ``n_envs`` times; a single environment becomes a vector of one,
        whatever ``n_envs``; a vector environment is taken as it is, one of Stable-Baselines3's too.
    n_envs : int
        Copies to make.
    vectorization_mode : {"sync", "async", "vector_entry_point", "envpool"}, optional
        For copies; unless given, the environment's own vectorised form if it has one and there are several
        copies, without keyword arguments and wrappers, and else sync.

    Raises
    ------
    ValueError
        For an id that isn't registered, with near matches.
    """
    if isinstance(env, VectorEnv):
        return env
    if isinstance(env, gymnasium.Env):
        return SyncVector(lambda: env)
    if is_vec_env(env):
        return FromVecEnv(env)
    maker = EnvMaker.of(env)
    if maker is None:
        raise TypeError(
            f"env must be the id of an environment, a class or callable that makes one, a gymnasium.Env or a "
            f"gymnasium.vector.VectorEnv, not {type(env).__name__}; make_vec_env's copies are made here too: "
            "give the id and n_envs"
        )
    spec = maker.spec
    own_form = spec is not None and spec.vector_entry_point is not None
    own_form = own_form and not maker.wrappers and not maker.kwargs  # which it may not know
    mode = vectorization_mode or ("vector_entry_point" if own_form and n_envs > 1 else "sync")
    if mode in ("vector_entry_point", "envpool") and (maker.wrappers or spec is None):
        raise ValueError(
            f"vectorization_mode {mode!r} is for environments with an id, and without wrappers: "
            "it must be 'sync', 'async' or None"
        )
    try:
        if mode == "envpool":
            return _make_envpool(maker, n_envs)
        if mode == "sync":
            return SyncVector(*[maker] * n_envs)
        if mode == "async":
            with interrupts_blocked():
                return AsyncVector(maker, n_envs)
        return maker.vectorized(n_envs, mode)
    except gymnasium.error.DependencyNotInstalled as error:
        raise missing_package_error(f"{maker} needs a package that isn't installed", error) from error


def longest_episode(maker: EnvMaker) -> int:
    """Return the largest number of steps of an episode that the environment's specification states, or 0."""
    try:
        stated = maker.spec.max_episode_steps if maker.spec is not None else 0
    except ValueError:  # there is none, as making it will say
        return 0
    return int(maker.kwargs.get("max_episode_steps") or stated or 0)


def missing_package_error(what: str, error: gymnasium.error.DependencyNotInstalled) -> ModuleNotFoundError:
    """Return an error that says what needs a missing package, and which extra of npTRPO installs it."""
    return ModuleNotFoundError(f"{what}: {_THEIR_EXTRA.sub(lambda found: _OURS[found[1]], str(error))}")


_OURS = {name: f"npTRPO[{name}]" for name in ("mujoco", "box2d")} | {"classic-control": "npTRPO[video]"}
_THEIR_EXTRA = re.compile(rf"gymnasium\[({'|'.join(_OURS)})\]")


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block the terminal's Ctrl-C in processes started meanwhile: this one decides when they end."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def force_close(env: VectorEnv[Any, Any, Any] | None) -> None:
    """Close a vector environment, if there is one, even if its processes hang or are dead."""
    inner = None if env is None else env.unwrapped
    if inner is None or inner.closed:
        return
    if not isinstance(inner, AsyncVectorEnv):
        with contextlib.suppress(Exception):
            inner.close()
        return
    for process in inner.processes:
        process.terminate()
    for process in inner.processes:
        process.join(5)
        if process.is_alive():
            process.kill()
    inner.closed = True


class StepTimeout(VectorWrapper):
    """Raise TimeoutError if a vector environment takes longer than a given time for a step or a reset.

    An alarm of the operating system interrupts it. The alarm comes in Python's main thread only, and in no
    code that doesn't return to Python; but environments in processes of their own
    (``vectorization_mode="async"``) may hang in any way.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        The vector environment to limit.
    seconds : float
        The longest time allowed.

    Raises
    ------
    ValueError
        If the time isn't positive and finite.
    RuntimeError
        On a system without alarms, and outside of Python's main thread.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], seconds: float) -> None:
        super().__init__(env)
        if not (seconds > 0 and math.isfinite(seconds)):
            raise ValueError(f"env_timeout must be a positive number of seconds, but it is {seconds!r}")
        if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
            raise RuntimeError("env_timeout needs a system with alarms, and Python's main thread")
        self.seconds = seconds

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments in time."""
        with self._alarm():
            return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments in time."""
        with self._alarm():
            return self.env.step(actions)

    @contextlib.contextmanager
    def _alarm(self) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, self._expired)
        # It repeats, in case the environment catches the error.
        signal.setitimer(signal.ITIMER_REAL, self.seconds, self.seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _expired(self, *_: object) -> None:
        raise TimeoutError(f"an environment took longer than {self.seconds:g} s")


def _make_envpool(maker: EnvMaker, n_envs: int) -> VectorEnv[Any, Any, Any]:
    """Make EnvPool's form of an environment, which steps in threads of C++."""
    try:
        envpool: Any = importlib.import_module("envpool")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'vectorization_mode "envpool" needs EnvPool: pip install "npTRPO[envpool]"'
        ) from error
    env, spec = str(maker), maker.spec
    if maker.kwargs:
        raise ValueError("EnvPool's environments have no env_kwargs: choose another vectorization_mode")
    if env not in envpool.list_all_envs():
        raise ValueError(f"EnvPool has no environment {env!r}: choose another vectorization_mode")

    def make(seed: int) -> VectorEnv[Any, Any, Any]:
        made: VectorEnv[Any, Any, Any] = envpool.make_gymnasium(env, num_envs=n_envs, seed=seed)
        with warnings.catch_warnings():  # about the precision of its own bounds, when they are first read
            warnings.simplefilter("ignore", UserWarning)
            _ = made.single_observation_space
        return made

    return _Reseeded(make, spec)


class _Reseeded(VectorWrapper):
    """Make EnvPool's environments anew for each seed, as it takes one only when it makes them."""

    def __init__(self, make: Callable[[int], VectorEnv[Any, Any, Any]], spec: EnvSpec | None) -> None:
        super().__init__(make(0))
        self._make, self._spec = make, spec

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]  # as in Gymnasium's own wrapper
        """Gymnasium's specification of the environment, as EnvPool's own has no id."""
        return self._spec

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments, made anew if there is a seed."""
        if seed is not None:
            self.env.close()
            self.env = self._make(int(seed))
        return self.env.reset(options=options)


def check_spaces(policy: Policy, env: gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> None:
    """Raise a ValueError that names both, if the environment's spaces aren't the policy's."""
    ours = policy.observation_space, policy.action_space
    if isinstance(env, VectorEnv):
        theirs = env.single_observation_space, env.single_action_space
    else:
        theirs = env.observation_space, env.action_space
    if ours != theirs:
        raise ValueError(
            f"the agent acts on {ours[0]} with {ours[1]}, but the environment has {theirs[0]} and {theirs[1]}"
        )
