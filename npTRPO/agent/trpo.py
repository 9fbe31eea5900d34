"""The agent: collect, estimate advantages, update the policy, fit the value function, repeat."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from npTRPO._typing import Array
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.record import Callback, Record, stops
from npTRPO.agent.sb3 import OWN_CODE, check_policy, checked_options, policy_options
from npTRPO.policies.mlp import MLP
from npTRPO.policies.network import FunctionNetwork, Network, NetworkFactory
from npTRPO.policies.policy import Policy
from npTRPO.policies.spaces import Space, as_batch
from npTRPO.sampling.advantages import gae
from npTRPO.sampling.environments import check_spaces, make_vector_env
from npTRPO.sampling.normalization import Moments, RewardScale, standardize
from npTRPO.sampling.rollout import Batch, Sampler
from npTRPO.trust_region import value_fit as value
from npTRPO.trust_region.update import Update, UpdateOutcome, update

__all__ = ["TRPO"]

# What learning from a batch replaces.
_LEARNED = ("theta", "value_theta", "adam", "observation_moments", "reward_moments", "_rewards")

# What random numbers are drawn for; the position is part of the seed, so never reorder these.
_PURPOSES = ("initialisation", "sampling", "value fit", "reset", "predict")


class TRPO:
    """Trust Region Policy Optimization on Gymnasium environments.

    Parameters
    ----------
    policy : {"MlpPolicy", "MultiInputPolicy"}
        Kind of policy; both are multilayer perceptrons on the encoded observation.
    env : str, gymnasium.Env, gymnasium.vector.VectorEnv or None
        Environment to train on; None for an agent that only acts, whose spaces must then be given.
    config : TRPOConfig, optional
        All options at once.
    policy_kwargs : dict, optional
        ``net_arch``, ``activation_fn`` (a name, or a class of torch.nn that has it), ``log_std_init``,
        ``ortho_init``, as options of their own too; and
        ``network`` and ``distribution``, factories of one's own (see :meth:`Policy.for_spaces`); the value
        function's network comes from the same one, with one output.
    tensorboard_log : path, optional
        Directory for TensorBoard events (needs the ``tensorboard`` extra).
    verbose : int
        1 prints a line per update.
    spaces : (observation space, action space), optional
        In place of an environment, for an agent that only acts.
    entropy : int, optional
        In place of a seed: that of a run to repeat whose seed came from the system.
    **options
        Any field of :class:`TRPOConfig`. Arguments of Stable-Baselines3's that have no meaning here, such as
        ``device`` and ``use_sde``, are taken with the values that ask for nothing else.

    Attributes
    ----------
    theta : array, shape (p,)
        The policy's parameters.
    num_timesteps : int
        Environment steps trained on.
    config, policy, env
        What the agent was made with.
    observation_space, action_space, n_envs
        Of one environment, and how many there are.

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

    def __init__(
        self,
        policy: str = "MlpPolicy",
        env: str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | None = None,
        config: TRPOConfig | None = None,
        *,
        policy_kwargs: Mapping[str, Any] | None = None,
        tensorboard_log: str | os.PathLike[str] | None = None,
        verbose: int = 0,
        spaces: tuple[Space, Space] | None = None,
        entropy: int | None = None,
        **options: Any,
    ) -> None:
        check_policy(policy)
        if config is not None and not isinstance(config, TRPOConfig):
            raise TypeError(f"config must be a TRPOConfig, not {config!r}; options are given by name")
        options = checked_options(options)
        if config is not None and (options or set(policy_kwargs or {}) - set(OWN_CODE)):
            raise TypeError("give a config or options, not both")
        in_policy = dict(policy_kwargs or {})
        own = {name: in_policy.pop(name) for name in OWN_CODE if name in in_policy}
        network: NetworkFactory | None = own.get("network")
        self.config = config or TRPOConfig.from_dict({**options, **policy_options(in_policy)})
        self.verbose = verbose
        self.tensorboard_log = tensorboard_log
        self.env_id: str | None = None
        self.env: VectorEnv[Any, Any, Any] | None = None
        self._sampler: Sampler | None = None
        if env is not None:
            self._take_env(env)
        if self.env is not None:
            spaces = self.env.single_observation_space, self.env.single_action_space
        elif spaces is None:
            raise TypeError("TRPO needs an env: the id of an environment, or an environment")
        self.policy = Policy.for_spaces(
            *spaces,
            net_arch=self.config.policy_arch,
            activation_fn=self.config.activation_fn,
            log_std_init=self.config.log_std_init,
            ortho_init=self.config.ortho_init,
            **own,
        )
        features = self.policy.n_features
        self.own_code = sorted(own)
        self.value_network: Network = (
            FunctionNetwork.made_by(network, features, 1)
            if network is not None
            else MLP(
                (features, *self.config.value_arch, 1),
                self.config.activation_fn,
                orthogonal=self.config.ortho_init,
            )
        )

        self.num_timesteps = 0
        self.n_updates = 0
        if entropy is None:
            entropy = int(np.random.SeedSequence(self.config.seed).entropy)  # type: ignore[arg-type]
        self.entropy = entropy
        rng, dtype = self._rng("initialisation"), np.dtype(self.config.dtype)
        self.theta = self.policy.init(rng, dtype=dtype)
        self.value_theta = self.value_network.init(rng, dtype=dtype)
        self.adam = value.AdamState.zero(self.value_theta)
        self.observation_moments = Moments.empty(features) if self.config.normalize_observations else None
        self.reward_moments = Moments.empty(1)
        self._rng_act = self._rng("predict")
        self.recent_returns: deque[float] = deque(maxlen=100)
        self.recent_lengths: deque[float] = deque(maxlen=100)

    def _rng(self, purpose: str) -> np.random.Generator:
        """Random numbers for one purpose of the coming update.

        They follow from the seed, the purpose and the number of updates so far, and so need not be
        kept in a checkpoint.
        """
        key = (_PURPOSES.index(purpose), self.n_updates)
        return np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=key))

    # --- acting -------------------------------------------------------------------------------

    def predict(
        self,
        observation: Any,
        state: None = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, None]:
        """Action for one observation, or actions for a batch of them.

        Parameters
        ----------
        observation : array, dict or tuple
            An element of the observation space, or a batch with N in front of each array's shape.
        state, episode_start
            Taken for compatibility; the policy has no memory.
        deterministic : bool
            The most probable action instead of a random one.

        Returns
        -------
        action
            An element of the action space, or a batch.
        state : None

        Raises
        ------
        ValueError
            For observations of a wrong shape, or not finite.
        """
        batch, single = as_batch(self.policy.observation_space, observation)
        rows = self.policy.encode(batch, self.theta.dtype)
        if not np.all(np.isfinite(rows)):
            raise ValueError("the observation is not finite")
        if self.observation_moments is not None:
            rows = standardize(rows, self.observation_moments.normalizer(rows.dtype))
        distribution = self.policy(self.theta, rows)
        actions = distribution.mode() if deterministic else distribution.sample(self._rng_act)
        actions = self.policy.to_env(actions)
        if not single:
            return actions, None
        # A single number is an array in Gymnasium's Box, and none in its Discrete.
        box = isinstance(self.policy.action_space, gymnasium.spaces.Box)
        return (np.asarray(actions[0]) if box else actions[0]), None

    @property
    def observation_space(self) -> Space:
        """Space of one observation."""
        return self.policy.observation_space

    @property
    def action_space(self) -> Space:
        """Space of one action."""
        return self.policy.action_space

    @property
    def n_envs(self) -> int:
        """Number of environments that the agent learns in."""
        return self.config.n_envs if self.env is None else self.env.num_envs

    def get_env(self) -> VectorEnv[Any, Any, Any] | None:
        """The vector environment that the agent learns in, if it has one."""
        return self.env

    def set_env(self, env: str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> None:
        """Learn in another environment from now on; its spaces must be the policy's.

        Raises
        ------
        ValueError
            If they aren't, naming both.
        """
        made = make_vector_env(env, self.config.n_envs, self.config.vectorization_mode)
        try:
            check_spaces(self.policy, made)
        except ValueError:
            if isinstance(env, str):
                made.close()
            raise
        self._take_env(env if isinstance(env, str) else made, made)

    def _take_env(
        self,
        env: str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any],
        made: VectorEnv[Any, Any, Any] | None = None,
    ) -> None:
        self.env_id = env if isinstance(env, str) else None
        self.env = made or make_vector_env(env, self.config.n_envs, self.config.vectorization_mode)
        self.leave_episodes()

    def leave_episodes(self) -> None:
        """Learn on from a reset of the environments, as somebody else has stepped them."""
        self._sampler = None

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
        from npTRPO.agent.logging import ProgressBar, TensorBoardWriter, numbered, printer

        total_timesteps = _whole(total_timesteps)
        callbacks = list(callback) if isinstance(callback, Sequence) else [callback] if callback else []
        for listener in callbacks:
            if not callable(listener):
                raise TypeError(f"a callback is a function of a Record, which {listener!r} is not")
        done = 0 if reset_num_timesteps else self.num_timesteps
        with contextlib.ExitStack() as stack:
            plain = False
            if progress_bar:
                bar = stack.enter_context(ProgressBar(done + total_timesteps, done, log_interval))
                callbacks.append(bar)
                plain = bar.plain
            if self.verbose and not plain:
                callbacks.append(printer(log_interval))
            if self.tensorboard_log is not None:
                events = numbered(self.tensorboard_log, tb_log_name, new=reset_num_timesteps)
                writer = TensorBoardWriter(events)
                stack.callback(writer.close)
                callbacks.append(writer)
            for record in self.updates(total_timesteps, reset_num_timesteps):
                answers = [stops(listener, record) for listener in callbacks]
                if any(answers):
                    break
        return self

    def updates(self, total_timesteps: int, reset_num_timesteps: bool = True) -> Iterator[Record]:
        """The training loop as a generator: one :class:`Record` per update."""
        if self.env is None:
            raise RuntimeError("this agent has no environment to learn in: load or make it with env=...")
        total_timesteps = _whole(total_timesteps)
        if reset_num_timesteps:
            self.num_timesteps = 0
            self.leave_episodes()
        n_steps = self.config.steps_per_env(self.env.num_envs)
        until = self.num_timesteps + total_timesteps
        began = time.perf_counter()
        while self.num_timesteps < until:
            start = time.perf_counter()
            interval = self.config.checkpoint_interval
            if self._sampler is None or (interval and self.n_updates % interval == 0):
                self._sampler = Sampler(self.env, self.policy, int(self._rng("reset").integers(2**31)))
                self._rewards = RewardScale(self.reward_moments, np.zeros(self.env.num_envs))
            try:
                batch = self._sampler.collect(
                    self.theta, n_steps, self.observation_moments, self._rng("sampling")
                )
            except BaseException:
                self._sampler = None  # it stopped on the way: learning goes on with a reset
                raise
            steps = batch.rewards.size
            self.num_timesteps += steps
            if not batch.valid.any():  # all environments only reset: there is nothing to learn from
                continue
            explained, result = self._train(batch)
            now = time.perf_counter()
            self.n_updates += 1
            self.recent_returns.extend(batch.episodes.returns.tolist())
            self.recent_lengths.extend(batch.episodes.lengths.tolist())
            yield Record(
                agent=self,
                num_timesteps=self.num_timesteps,
                n_updates=self.n_updates,
                episode_return=_mean(self.recent_returns),
                episode_length=_mean(self.recent_lengths),
                explained_variance=explained,
                steps_per_second=steps / (now - start),
                time_elapsed=now - began,
                update=result,
            )

    def _train(self, batch: Batch) -> tuple[float, Update]:
        """Learn from one batch; or nothing from it, if anything that is learned isn't finite."""
        before = {name: getattr(self, name) for name in _LEARNED}
        with np.errstate(over="ignore", invalid="ignore"):  # what isn't finite is refused, not warned about
            explained, result = self._learn_from(batch)
        if all(np.all(np.isfinite(array)) for array in self._learned()):
            return explained, result
        for name, kept in before.items():
            setattr(self, name, kept)
        stay = Update(self.theta, UpdateOutcome.NOT_FINITE, result.gradient_norm, result.entropy)
        return explained, stay

    def _learned(self) -> list[Array]:
        """All numbers that come of learning."""
        moments = self.reward_moments, self.observation_moments or self.reward_moments
        return [
            *(self.theta, self.value_theta, self.adam.mean, self.adam.square, self._rewards.running),
            *(array for each in moments for array in (each.mean, each.variance)),
        ]

    def _learn_from(self, batch: Batch) -> tuple[float, Update]:
        config = self.config
        rewards = batch.rewards
        if config.normalize_rewards:
            self._rewards = self._rewards.updated(rewards, batch.ended, batch.valid, config.gamma)
            self.reward_moments = self._rewards.moments
            rewards = self._rewards.apply(rewards)
        values, next_values = batch.values(
            lambda rows: value.predict_values(self.value_network, self.value_theta, rows)
        )
        advantages = gae(
            rewards, values, next_values, batch.terminated, batch.truncated, config.gamma, config.gae_lambda
        )
        valid = batch.valid
        observations, chosen = batch.observations[valid], advantages[valid]
        returns = chosen + values[valid]
        explained = value.explained_variance(values[valid], returns)
        if config.normalize_advantage:
            chosen = _standardized(chosen)
        result = update(
            self.policy,
            self.theta,
            observations,
            batch.actions[valid],
            chosen,
            target_kl=config.target_kl,
            cg_max_steps=config.cg_steps(isinstance(self.policy.network, MLP)),
            cg_damping=config.cg_damping,
            cg_rtol=config.cg_rtol,
            cg_beta=config.cg_beta,
            cg_preconditioner=config.cg_preconditioner,
            line_search_shrinking_factor=config.line_search_shrinking_factor,
            line_search_max_iter=config.line_search_max_iter,
            sub_sampling_factor=config.sub_sampling_factor,
        )
        self.theta = result.theta
        self._fit_value(observations, returns)
        if self.observation_moments is not None:
            self.observation_moments = self.observation_moments.updated(batch.raw_observations[valid])
        return explained, result

    def _fit_value(self, observations: Array, returns: Array) -> None:
        config, given = self.config, (self.value_network, self.value_theta, observations, returns)
        if config.value_fit == "trust_region":
            self.value_theta = value.fit_trust_region(
                *given,
                steps=config.value_steps,
                cg_max_steps=config.cg_steps(isinstance(self.value_network, MLP)),
                cg_rtol=config.cg_rtol,
                cg_preconditioner=config.cg_preconditioner,  # type: ignore[arg-type]
            )
        elif config.value_fit == "lbfgs":
            self.value_theta = value.fit_lbfgs(*given, max_iter=config.value_steps)
        else:
            self.value_theta, self.adam = value.fit_adam(
                *given,
                self.adam,
                self._rng("value fit"),
                epochs=config.value_steps,
                batch_size=config.batch_size,
                learning_rate=config.learning_rate,
            )

    # --- keeping ------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything needed to act and to go on learning to ``path``.

        ``.npz`` is appended to it, unless it ends so or in ``.zip``; directories that are missing are made.
        """
        from npTRPO.agent.checkpoint import save

        save(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        env: str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | None = None,
        device: str = "auto",
        custom_objects: None = None,
        *,
        policy_kwargs: Mapping[str, Any] | None = None,
        tensorboard_log: str | os.PathLike[str] | None = None,
        verbose: int = 0,
        **options: Any,
    ) -> TRPO:
        """Read an agent from a file that :meth:`save` wrote; nothing in it is executed.

        Parameters
        ----------
        path : path
            With or without ``.npz``.
        env : optional
            Environment to go on learning in.
        policy_kwargs : dict, optional
            ``network`` and ``distribution``, for an agent that was made with one's own: code is never read
            from a file.
        tensorboard_log, verbose
            As for a new agent; a file doesn't say where to write.
        **options
            Fields of :class:`TRPOConfig` to go on with, in place of the file's.
        device, custom_objects
            Taken for compatibility; nothing in a file is an object.

        Raises
        ------
        CheckpointError
            If the file isn't one, is damaged, or doesn't fit the environment.
        """
        from npTRPO.agent.checkpoint import load

        options = checked_options({**options, "device": device, "custom_objects": custom_objects})
        agent = load(path, env, policy_kwargs, options)
        agent.tensorboard_log, agent.verbose = tensorboard_log, verbose
        return agent


def _whole(total_timesteps: Any) -> int:
    """A number of steps as Python's, which doesn't overflow as NumPy's do."""
    if (
        isinstance(total_timesteps, bool)
        or not isinstance(total_timesteps, (int, float, np.number))
        or int(total_timesteps) != total_timesteps
        or total_timesteps < 1
    ):
        raise ValueError(f"total_timesteps must be a whole number, at least 1, not {total_timesteps!r}")
    return int(total_timesteps)


def _standardized(advantages: Array) -> Array:
    """Advantages with mean 0 and standard deviation 1; all zero if they don't vary."""
    # Where they don't vary their deviation needn't be 0, as a mean is rounded.
    spread = float(np.std(advantages)) if np.ptp(advantages) > 0 else 0.0
    return np.asarray((advantages - np.mean(advantages)) / spread) if spread else np.zeros_like(advantages)


def _mean(numbers: deque[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else float("nan")
