"""The agent: collect, learn from the batch, repeat; act; save and load."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any, Self, Unpack

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from npTRPO._checks import whole_number
from npTRPO._typing import Array
from npTRPO.agent.attributes import part_of
from npTRPO.agent.checkpoint import Checkpoint, checkpoint_file, read_checkpoint, write_checkpoint
from npTRPO.agent.collection import Collector, before_loss
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.experience import WholeBatch
from npTRPO.agent.learner import Learner, learn
from npTRPO.agent.logging import listeners
from npTRPO.agent.model import Model
from npTRPO.agent.options import LoadArguments, TRPOArguments
from npTRPO.agent.parameters import Parametrised
from npTRPO.agent.record import Callback, Record, mean_of, means_by_name, stops
from npTRPO.agent.resets import Resets
from npTRPO.agent.sb3 import changed, checked_options, config_and_code, own_update
from npTRPO.agent.shards import checked_workers, make_env, with_shards
from npTRPO.files.errors import UnreadableFileError as CheckpointError
from npTRPO.files.errors import reason
from npTRPO.policies.network import Network
from npTRPO.policies.policy import Policy
from npTRPO.policies.spaces import Space
from npTRPO.sampling.environments import EnvLike, check_spaces
from npTRPO.sampling.makers import EnvMaker, Wrapper
from npTRPO.sampling.normalization import Moments
from npTRPO.sampling.vec_env import FromVecEnv
from npTRPO.sampling.workers import LostWorkerError
from npTRPO.trust_region.update import Update


class TRPO(Parametrised):
    """Trust Region Policy Optimization on Gymnasium environments.

    Parameters
    ----------
    policy : {"MlpPolicy", "MultiInputPolicy"}
        Kind of policy; both are multilayer perceptrons on the encoded observation.
    env : str, EnvSpec, callable, gymnasium.Env, gymnasium.vector.VectorEnv or None
        Environment to train on. An id, a specification, a class, or another callable that returns a new
        environment is made ``n_envs`` times. None for an agent that only acts, whose spaces must be given.
    config : TRPOConfig, optional
        All options at once.
    policy_kwargs : dict, optional
        ``net_arch``, ``activation_fn`` (a name, or a class of torch.nn that has it), ``log_std_init`` and
        ``ortho_init``, which are options too; and ``network`` and ``distribution``, factories of one's own
        (see :meth:`Policy.for_spaces`), of which the first makes the value function's network too.
    tensorboard_log : path, optional
        Directory for TensorBoard events (needs the ``tensorboard`` extra).
    verbose : int
        1 prints a line per update.
    spaces : (observation space, action space), optional
        In place of an environment, for an agent that only acts.
    entropy : int, optional
        In place of a seed: that of a run to repeat whose seed came from the system.
    workers : int or str, optional
        Processes that collect experience and compute their parts of every sum; "auto" for as many as there
        are cores, or shards if these are fewer; "ray" or what ``ray.init`` takes for a Ray cluster. The
        environment must be made here, in a script behind ``if __name__ == "__main__":``. What is learned
        depends on ``n_shards`` only.
    env_kwargs : dict, optional
        Keyword arguments for the environments, if they are made here.
    wrappers : sequence of callables or str, optional
        Put around each environment that is made here, in order; a str names one as "module:callable".
    improve : callable, optional
        In place of :func:`npTRPO.trust_region.update`: ``improve(objective, theta)`` is given an
        :class:`npTRPO.trust_region.Objective` and returns an :class:`npTRPO.trust_region.Update`. No file
        has it: ``load`` must be given it again.
    **options
        Any field of :class:`TRPOConfig`. Arguments of Stable-Baselines3's that have no meaning here, such as
        ``device`` and ``use_sde``, are taken with the values that ask for nothing else.

    Attributes
    ----------
    learner : Learner
        All that it has learned, as one immutable value, which also holds what follows.
    theta, value_theta : array, shape (p,) and (q,)
        Parameters of policy and value function. An array that is assigned is copied into a new learner, and
        writing into ``theta[...]`` changes the learner that is there.
    num_timesteps, n_updates : int
        Environment steps trained on, and updates.
    model, config, policy, env
        What it was made with. A copy or pickle of an agent has no environment.

    References
    ----------
    Schulman, Levine, Moritz, Jordan and Abbeel 2015, "Trust region policy optimization",
    arXiv 1502.05477.

    Examples
    --------
    >>> from npTRPO import TRPO
    >>> agent = TRPO("MlpPolicy", "CartPole-v1", n_envs=2, n_steps=32, seed=0).learn(128)
    >>> agent.num_timesteps
    128
    """

    model: Model
    learner: Learner
    env: VectorEnv[Any, Any, Any] | None
    maker: EnvMaker | None

    theta: Array = part_of("learner", "theta")
    value_theta: Array = part_of("learner", "value_theta")
    observation_moments: Moments | None = part_of("learner", "observation_moments")
    num_timesteps: int = part_of("learner", "num_timesteps")
    n_updates: int = part_of("learner", "n_updates")
    entropy: int = part_of("learner", "entropy")
    config: TRPOConfig = part_of("model", "config")
    policy: Policy = part_of("model", "policy")
    value_network: Network = part_of("model", "value_network")
    observation_space: Space = part_of("policy", "observation_space")
    action_space: Space = part_of("policy", "action_space")

    def __init__(
        self,
        policy: str = "MlpPolicy",
        env: EnvLike | None = None,
        config: TRPOConfig | None = None,
        *,
        policy_kwargs: Mapping[str, Any] | None = None,
        tensorboard_log: str | os.PathLike[str] | None = None,
        verbose: int = 0,
        spaces: tuple[Space, Space] | None = None,
        entropy: int | None = None,
        workers: int | str | None = None,
        improve: Callable[[Any, Array], Update] | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[Wrapper] = (),
        **options: Unpack[TRPOArguments],
    ) -> None:
        config, code = config_and_code(policy, config, policy_kwargs, options, improve)
        self.workers = checked_workers(workers, config, entropy is not None)
        made, maker = None, EnvMaker.of(env, env_kwargs, wrappers)
        if env is not None:
            if entropy is None:  # otherwise it was settled when that run began
                config = with_shards(config, self.workers)
            made = make_env(maker or env, config, self.workers)
            spaces = made.single_observation_space, made.single_action_space
        elif spaces is None:
            raise TypeError("TRPO needs an env: the id of an environment, or an environment")
        if entropy is None:
            entropy = int(np.random.SeedSequence(config.seed).entropy)  # type: ignore[arg-type]
        model = Model.for_spaces(*spaces, config, code)
        self._take_up(Checkpoint(model, Learner.initial(model, entropy), maker))
        self.env, self.tensorboard_log, self.verbose = made, tensorboard_log, verbose

    def _take_up(self, checkpoint: Checkpoint) -> None:
        """Be the agent of a checkpoint, without an environment."""
        self.model, self.maker, self.env = checkpoint.model, checkpoint.maker, None
        self._return_to(checkpoint)
        self._rng_act = replace(self.learner, n_updates=0).rng("predict")
        self.resets = Resets(self.n_updates)
        self._start: Checkpoint | None = None  # as it was when the environments were reset

    def _return_to(self, checkpoint: Checkpoint) -> None:
        """Have learned what a checkpoint holds, and begin with a reset."""
        self.learner = checkpoint.learner
        self.recent_returns = deque(checkpoint.recent_returns, maxlen=100)
        self.recent_lengths = deque(checkpoint.recent_lengths, maxlen=100)
        self.leave_episodes()

    # --- environments ---------------------------------------------------------------------------

    def get_env(self) -> Any:
        """Return the vector environment that the agent learns in, if any; a VecEnv, if one was given."""
        return self.env.venv if isinstance(self.env, FromVecEnv) else self.env

    @property
    def env_id(self) -> str | None:
        """Id of the environments that the agent learns in, if they are made by one."""
        return None if self.maker is None else self.maker.id

    def set_env(
        self, env: EnvLike, env_kwargs: Mapping[str, Any] | None = None, wrappers: Sequence[Wrapper] = ()
    ) -> None:
        """Learn in another environment from now on; a ValueError names both spaces if they differ."""
        config = self.config if self.n_updates else with_shards(self.config, self.workers)
        maker = EnvMaker.of(env, env_kwargs, wrappers)
        made = make_env(maker or env, config, self.workers)
        try:
            check_spaces(self.policy, made)
        except ValueError:
            if maker is not None:
                made.close()
            raise
        name = getattr(made.spec, "id", None)
        now = maker or (EnvMaker(name) if name else None)
        if now is None or not now.like(self.maker):
            self._forget_episodes()  # which were another environment's
        self.env, self.maker, self.config = made, maker, config
        self.leave_episodes()

    def leave_episodes(self) -> None:
        """Begin the next batch with a reset of the environments, as after others have stepped them."""
        self._collector: Collector | None = None

    def _forget_episodes(self) -> None:
        """Begin with a reset, and count the returns of episodes anew."""
        self.leave_episodes()
        self.recent_returns.clear()
        self.recent_lengths.clear()

    # --- learning -----------------------------------------------------------------------------

    def learn(
        self,
        total_timesteps: int,
        callback: Callback | Sequence[Callback] | None = None,
        log_interval: int = 1,
        tb_log_name: str = "TRPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train until at least ``total_timesteps`` environment steps are taken; returns the agent.

        Parameters
        ----------
        total_timesteps : int
            Steps, over all environments; the last update's batch is completed.
        callback : callable or sequence of callables, optional
            Given a :class:`Record` after each update; training stops when one returns False.
        log_interval : int
            Updates between two lines, with ``verbose``, or with a bar where output is no terminal.
        tb_log_name : str
            With ``tensorboard_log``: events go to its directory ``{tb_log_name}_1``, or with the next number
            that isn't taken.
        reset_num_timesteps : bool
            Reset the environments and count from 0; otherwise go on in both for ``total_timesteps``, with
            events in the last directory that is there.
        progress_bar : bool
            Show a bar (needs the ``progress`` extra); plain lines where output is no terminal.
        """
        total_timesteps = whole_number("total_timesteps", total_timesteps, least=1, floats=True)
        with listeners(
            self, callback, total_timesteps, log_interval, tb_log_name, reset_num_timesteps, progress_bar
        ) as callbacks:
            for record in self.updates(total_timesteps, reset_num_timesteps):
                if any([stops(each, record) for each in callbacks]):  # noqa: C419 (all are called)
                    break
        return self

    def updates(self, total_timesteps: int, reset_num_timesteps: bool = True) -> Iterator[Record]:
        """Train as :meth:`learn` does, and yield a :class:`Record` after each update."""
        if self.env is None:
            raise RuntimeError("this agent has no environment to learn in: load or make it with env=...")
        total_timesteps = whole_number("total_timesteps", total_timesteps, least=1, floats=True)
        self.config.check_batch(self.n_envs)
        if reset_num_timesteps:
            self.num_timesteps = 0
            self._forget_episodes()
        until = self.num_timesteps + total_timesteps
        began = time.perf_counter()
        seen, failures = self.n_updates, 0
        while self.num_timesteps < until:
            start = time.perf_counter()
            try:
                batch = self._collect()
                if not batch.n_transitions:  # all environments only reset: there is nothing to learn from
                    self.num_timesteps += batch.n_steps
                    self._collector.leave(self.model, self.learner)  # type: ignore[union-attr]
                    continue
                self.learner, update = learn(self.model, self.learner, batch, self.learner.rng("value fit"))
            except LostWorkerError as error:
                failures += 1
                self._return_to(before_loss(self._start, error, failures, self.num_timesteps))
                continue
            episodes, n_steps = batch.episodes, batch.n_steps
            del batch  # there is room for one
            self._collector.leave(self.model, self.learner)  # type: ignore[union-attr]
            self.resets = self.resets.after(len(episodes.returns))
            self.recent_returns.extend(episodes.returns.tolist())
            self.recent_lengths.extend(episodes.lengths.tolist())
            if self.n_updates <= seen:  # which is repeated after a worker was lost
                continue
            seen, failures = self.n_updates, 0
            now = time.perf_counter()
            yield Record(
                agent=self,
                num_timesteps=self.num_timesteps,
                n_updates=self.n_updates,
                episode_return=mean_of(self.recent_returns),
                episode_length=mean_of(self.recent_lengths),
                metrics=means_by_name(episodes.infos),
                steps_per_second=n_steps / (now - start),
                time_elapsed=now - began,
                update=update,
            )

    def _collect(self) -> WholeBatch:
        """Collect a batch of experience, after a reset if episodes were left or a checkpoint is due."""
        collector, due = self._collector, self.resets.due(self.n_updates, self.config.checkpoint_interval)
        if collector is None or not collector.undisturbed or due:
            self.resets = Resets(self.n_updates)
            self.learner = self.learner.at_reset(self.n_envs)
            self._start = self.checkpoint()
            self._collector = collector = Collector(self.env, self.model, self.learner)  # type: ignore[arg-type]
        elif collector.changed(self.model, self.learner):
            self._start = None
        try:
            return collector.collect(self.model, self.learner)
        except BaseException:
            self.leave_episodes()  # it stopped on the way
            raise

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has: all but the environment and the episodes under way in it."""
        maker = None if self.maker is None else self.maker.by_name()
        return self.__dict__ | {"env": None, "_collector": None, "maker": maker, "_start": None}

    def checkpoint(self) -> Checkpoint:
        """Return what a file holds, as it is now; learning on doesn't change it."""
        recent = tuple(self.recent_returns), tuple(self.recent_lengths)
        return Checkpoint(self.model, self.learner, self.maker, *recent)

    def save(self, path: str | os.PathLike[str] | IO[bytes]) -> None:
        """Write everything needed to act and to go on learning; directories that are missing are made.

        ``.npz`` is appended to the name, unless it ends so or in ``.zip``. A file that is open for writing,
        such as a BytesIO, is written to.
        """
        write_checkpoint(path, self.checkpoint())

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | IO[bytes],
        env: EnvLike | None = None,
        device: str = "auto",
        custom_objects: None = None,
        *,
        policy_kwargs: Mapping[str, Any] | None = None,
        tensorboard_log: str | os.PathLike[str] | None = None,
        verbose: int = 0,
        workers: int | str | None = None,
        improve: Callable[[Any, Array], Update] | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[Wrapper] = (),
        **options: Unpack[LoadArguments],
    ) -> Self:
        """Read an agent from a file that :meth:`save` wrote; nothing in it is executed.

        Parameters
        ----------
        path : path or file
            With or without ``.npz``; or a file that is open for reading.
        env : optional
            Environment to go on learning in.
        policy_kwargs : dict, optional
            ``network`` and ``distribution``, if the agent was made with one's own: no file has code.
        improve : callable, optional
            If the agent was made with one.
        tensorboard_log, verbose, workers, env_kwargs, wrappers
            As for a new agent.
        **options
            Fields of :class:`TRPOConfig` to go on with, in place of the file's.
        device, custom_objects
            Taken for compatibility; nothing in a file is an object.

        Raises
        ------
        CheckpointError
            If the file isn't one, is damaged, or doesn't fit the environment.
        """
        given = checked_options({**options, "device": device, "custom_objects": custom_objects})
        agent = cls.__new__(cls)
        found = read_checkpoint(path, {**(policy_kwargs or {}), **own_update(improve)})
        found = replace(found, model=replace(found.model, config=changed(found.model.config, given)))
        agent.workers = checked_workers(workers, found.model.config, found.learner.n_updates > 0)
        agent._take_up(found)
        agent.tensorboard_log, agent.verbose = tensorboard_log, verbose
        if env is not None:
            try:
                agent.set_env(env, env_kwargs, wrappers)
            except (ValueError, ImportError, gymnasium.error.Error) as error:
                raise CheckpointError(
                    f"{checkpoint_file(path)} can't go on in the environment given: {reason(error)}"
                ) from error
        return agent
