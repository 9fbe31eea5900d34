"""Shards: groups of the agent's environments, each with its own random numbers and its part of every sum.

What is learned depends on how many shards there are, and on nothing else: not on the processes that they
live in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from npTRPO._checks import is_whole
from npTRPO._machine import cores, processor
from npTRPO._typing import Array
from npTRPO.agent.checkpoint import versions
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.experience import Experience, Summary, WholeBatch
from npTRPO.agent.learner import Learner
from npTRPO.agent.model import Model
from npTRPO.sampling.cluster import Actors
from npTRPO.sampling.environments import EnvLike, StepTimeout, force_close, make_vector_env
from npTRPO.sampling.makers import EnvMaker, register_again
from npTRPO.sampling.normalization import Moments
from npTRPO.sampling.rollout import Sampler
from npTRPO.sampling.workers import Group, Here, Workers, WorkerTraceback


class Shard:
    """A group of environments, what is experienced in them, and their part of the sums.

    Parameters
    ----------
    maker : EnvMaker
        Makes the environment.
    spec : EnvSpec or None
        Its specification, if it has an id.
    n_envs : int
        How many of it are in this shard.
    first : int
        How many are in the shards before.
    vectorization_mode : str or None
        As in :func:`make_vector_env`.
    timeout : float or None
        Seconds for a step, as in :class:`StepTimeout`.
    """

    def __init__(
        self,
        maker: EnvMaker,
        spec: EnvSpec | None,
        n_envs: int,
        first: int,
        vectorization_mode: str | None,
        timeout: float | None,
    ) -> None:
        register_again(maker, spec)
        self._env = make_vector_env(maker, n_envs, vectorization_mode)
        if timeout is not None:
            self._env = StepTimeout(self._env, timeout)
        self._first = first
        self._experience: Experience | None = None

    def begin(self, model: Model, seed: int) -> None:
        """Reset the environments; ``seed`` is that of the first environment of all shards."""
        self._model = model
        self._sampler = Sampler(
            self._env, model.policy, seed + self._first, self._first, model.config.info_keys
        )

    def go_on(self, model: Model) -> None:
        """Go on with other options."""
        self._model = model

    def collect(
        self, theta: Array, n_steps: int, moments: Moments | None, rng: np.random.Generator, running: Array
    ) -> Summary:
        """Take steps, keep the batch, and summarise it."""
        self._experience = None  # there is room for one
        batch = self._sampler.collect(theta, n_steps, moments, rng)
        experience = self._experience = Experience(self._model, batch)
        self._summary = experience.summary(running)
        return self._summary

    @np.errstate(over="ignore", invalid="ignore")  # what isn't finite is refused in the end
    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the experience; None if it has no transitions."""
        return getattr(self._experience, method)(*arguments) if self._summary.n_transitions else None

    def close(self) -> None:
        """Close the environments."""
        force_close(self._env)


class ShardedEnv(VectorEnv[Any, Any, Any]):
    """Environments in shards, in this process or in workers, which only their agent steps.

    They are made when they are first needed, and anew after a worker was lost.

    Parameters
    ----------
    env : str, EnvSpec, callable or EnvMaker
        Makes the environment; with workers it must be one that can be pickled.
    n_envs : int
        How many of it there are.
    n_shards : int
        Groups that they are in, which differ in size by one at most.
    workers : int, str or None
        Processes that the shards are in; "ray" or an address for a Ray cluster; None for this process.
    vectorization_mode : str or None
        As in :func:`make_vector_env`, for each shard.

    Raises
    ------
    ValueError
        If the numbers don't fit each other, or a mode other than "sync" is asked for in workers.
    """

    _group: Group | None = None  # also for one that couldn't be made, which Gymnasium closes too

    def __init__(
        self,
        env: EnvLike,
        n_envs: int,
        n_shards: int,
        workers: int | str | None,
        vectorization_mode: str | None,
    ) -> None:
        maker = EnvMaker.of(env)
        if maker is None:
            raise ValueError(
                f"{type(env).__name__} can't be split into shards: give the id of the environment instead, "
                "or its class, which is made in each of them"
            )
        if n_shards > n_envs:
            raise ValueError(
                f"n_shards={n_shards} is more than n_envs={n_envs}, and each shard has an environment"
            )
        if isinstance(workers, int) and workers > n_shards:
            raise ValueError(
                f"workers={workers} is more than n_shards={n_shards}, and each worker has a shard"
            )
        if workers is not None and vectorization_mode not in (None, "sync"):
            raise ValueError(
                f"vectorization_mode {vectorization_mode!r} starts processes or threads of its own: "
                "with workers it must be 'sync' or None"
            )
        alone = make_vector_env(maker, 1, vectorization_mode)
        self.spec, self.metadata = alone.spec, alone.metadata
        self.single_observation_space = alone.single_observation_space
        self.single_action_space = alone.single_action_space
        force_close(alone)
        self.observation_space = batch_space(self.single_observation_space, n_envs)
        self.action_space = batch_space(self.single_action_space, n_envs)
        self.num_envs, self.n_shards, self.workers = n_envs, n_shards, workers
        self.timeout: float | None = None
        self._maker, self._mode = maker, vectorization_mode
        self._sizes = [n_envs // n_shards + (i < n_envs % n_shards) for i in range(n_shards)]

    @property
    def pids(self) -> list[int]:
        """Ids of the worker processes that there are."""
        return self._group.pids if isinstance(self._group, (Workers, Actors)) else []

    @property
    def under_way(self) -> bool:
        """True if episodes are under way, as no worker was lost."""
        return self._group is not None

    def begin(self, model: Model, learner: Learner) -> None:
        """Reset all environments, with seeds that follow from the learner's."""
        self._each("begin", _without_update(model), reset_seed(learner))
        self._model = model

    def collect(self, model: Model, learner: Learner, n_steps: int) -> WholeBatch:
        """Take steps in all environments, and keep what is experienced where they are."""
        if model is not self._model:
            self._each("go_on", _without_update(model))
            self._model = model
        names = range(self.n_shards) if self.n_shards > 1 else [None]
        running = np.split(learner.reward_scale.running, np.cumsum(self._sizes)[:-1])
        own = [(learner.rng("sampling", name), part) for name, part in zip(names, running, strict=True)]
        summaries = self._each("collect", learner.theta, n_steps, learner.observation_moments, own=own)

        def call(method: str, *arguments: Any) -> Sequence[Any]:
            answers = zip(self._each("call", method, *arguments), summaries, strict=True)
            return [answer for answer, summary in answers if summary.n_transitions]

        return WholeBatch(call, summaries)

    def _each(self, method: str, *common: Any, own: Sequence[tuple[Any, ...]] | None = None) -> list[Any]:
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError("the environments are closed")
        if self._group is None:
            self._group = self._made()
        try:
            return self._group.each(method, *common, own=own)
        except BaseException as error:
            if not isinstance(error.__cause__, WorkerTraceback):  # there may be answers under way
                self._group.close()
                self._group = None
            raise

    def _made(self) -> Group:
        firsts = np.cumsum([0, *self._sizes[:-1]]).tolist()
        spec = self._maker.spec
        makers = [
            partial(Shard, self._maker, spec, size, first, self._mode, self.timeout)
            for size, first in zip(self._sizes, firsts, strict=True)
        ]
        if self.workers is None:
            return Here(makers)
        names = [_environments(first, size) for first, size in zip(firsts, self._sizes, strict=True)]
        if isinstance(self.workers, str):
            address = None if self.workers == "ray" else self.workers
            return Actors(makers, address, _about, names)
        return Workers(makers, self.workers, names)

    def reset(self, **_: Any) -> Any:
        """Refuse: only the agent steps them."""
        raise RuntimeError(
            "environments in shards are stepped by their agent only: make one of your own to step by hand"
        )

    def step(self, actions: Any) -> Any:
        """Refuse: only the agent steps them."""
        return self.reset()

    def close_extras(self, **_: Any) -> None:
        """End the workers, and close the environments."""
        if self._group is not None:
            self._group.close()
            self._group = None


def _without_update(model: Model) -> Model:
    """Return a model as shards need it: an update of one's own is made in this process, and stays here."""
    return replace(model, own={name: made for name, made in model.own.items() if name != "improve"})


def _environments(first: int, size: int) -> str:
    return f"environment {first}" if size == 1 else f"environments {first} to {first + size - 1}"


def limit_steps(env: VectorEnv[Any, Any, Any], seconds: float) -> VectorEnv[Any, Any, Any]:
    """Return environments whose steps take no longer than given; see :class:`StepTimeout`."""
    if not isinstance(env, ShardedEnv):
        return StepTimeout(env, seconds)
    env.timeout = seconds
    return env


def reset_seed(learner: Learner) -> int:
    """Return the seed of the first environment, when they are reset before the coming update."""
    return int(learner.rng("reset").integers(2**31))


def make_env(env: Any, config: TRPOConfig, workers: int | str | None) -> VectorEnv[Any, Any, Any]:
    """Make the environments to learn in, in shards if there are several, or workers."""
    n_shards = config.n_shards or 1
    if workers is None and n_shards == 1:
        return make_vector_env(env, config.n_envs, config.vectorization_mode)
    return ShardedEnv(env, config.n_envs, n_shards, workers, config.vectorization_mode)


def with_shards(config: TRPOConfig, workers: int | str | None) -> TRPOConfig:
    """Return the config with the number of shards that is settled when training begins.

    Raises
    ------
    ValueError
        If it isn't given and the shards are to be on a cluster.
    """
    if config.n_shards or workers is None:
        return config
    if isinstance(workers, str):
        raise ValueError(
            f"with workers={workers!r} the number of shards must be given too: n_shards=4, for instance"
        )
    return replace(config, n_shards=workers)


def checked_workers(workers: Any, config: TRPOConfig | None = None, begun: bool = False) -> int | str | None:
    """Return the number of worker processes that is asked for, or where the Ray cluster is; None for neither.

    "auto" is the number of cores, but with a config no more than there are shards; or environments, which are
    in none until training has begun.

    Raises
    ------
    ValueError
        If it is neither a whole number, at least 1, nor "auto", nor "ray", nor an address.
    """
    if workers == "auto":
        most = cores() if config is None else config.n_shards or (1 if begun else config.n_envs)
        return min(cores(), most)
    if workers is None or is_whole(workers, 1) or (isinstance(workers, str) and _is_cluster(workers)):
        return workers  # type: ignore[no-any-return]
    raise ValueError(
        "workers must be a whole number, at least 1, 'auto', 'ray', the address of a Ray cluster such as "
        f"'ray://host:10001', or None, not {workers!r}"
    )


def _is_cluster(workers: str) -> bool:
    return workers == "ray" or ":" in workers


def _about() -> dict[str, str]:
    """Return what the last bits depend on, and what must be the same on all machines of a cluster."""
    found = versions()
    return {"needed": f"npTRPO {found.pop('npTRPO')}", **found, "processor": processor()}
