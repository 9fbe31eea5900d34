"""Evaluation of an agent in whole episodes, of which each environment contributes its share."""

import math
import operator
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from gymnasium.vector import VectorEnv

from npTRPO._typing import Array
from npTRPO.agent.record import Agent
from npTRPO.sampling.actor import Actor
from npTRPO.sampling.environments import EnvLike, StepTimeout, check_spaces, make_vector_env
from npTRPO.sampling.makers import EnvMaker
from npTRPO.sampling.stepping import Stepper

Evaluated: TypeAlias = EnvLike | None


@overload
def evaluate_policy(
    model: Agent,
    env: Evaluated = None,
    n_eval_episodes: int = 20,
    deterministic: bool = True,
    render: bool = False,
    callback: None = None,
    reward_threshold: float | None = None,
    *,
    return_episode_rewards: Literal[True],
    warn: bool = True,
    seed: int | None = None,
    max_episode_steps: int | None = None,
    env_timeout: float | None = None,
) -> tuple[list[float], list[int]]: ...


@overload
def evaluate_policy(
    model: Agent,
    env: Evaluated = None,
    n_eval_episodes: int = 20,
    deterministic: bool = True,
    render: bool = False,
    callback: None = None,
    reward_threshold: float | None = None,
    return_episode_rewards: Literal[False] = False,
    warn: bool = True,
    *,
    seed: int | None = None,
    max_episode_steps: int | None = None,
    env_timeout: float | None = None,
) -> tuple[float, float]: ...


def evaluate_policy(
    model: Agent,
    env: Evaluated = None,
    n_eval_episodes: int = 20,
    deterministic: bool = True,
    render: bool = False,
    callback: None = None,
    reward_threshold: float | None = None,
    return_episode_rewards: bool = False,
    warn: bool = True,
    *,
    seed: int | None = None,
    max_episode_steps: int | None = None,
    env_timeout: float | None = None,
) -> tuple[float, float] | tuple[list[float], list[int]]:
    """Compute mean and standard deviation of the undiscounted return over whole episodes.

    Parameters
    ----------
    model : TRPO
        The agent to evaluate; evaluation changes nothing in it. If it is in the environments that the agent
        learns in, learning goes on with a reset of them.
    env : str, EnvSpec, callable, gymnasium.Env or gymnasium.vector.VectorEnv, optional
        Where to evaluate; by default the id, class or callable that the agent was made with, with its keyword
        arguments and wrappers.
    n_eval_episodes : int
        Episodes, shared evenly among the copies of the environment, so that short episodes don't
        count more often than long ones.
    deterministic : bool
        Take the most probable actions.
    render, callback, warn
        Accepted for compatibility: an environment made with ``render_mode="human"`` shows itself, nothing
        is called back, and ``warn`` has no effect, as returns are those of the environment given.
    reward_threshold : float, optional
        The mean return must be above it.
    return_episode_rewards : bool
        Return the episodes' returns and lengths instead.
    seed : int, optional
        Seed of the environment and of the actions drawn.
    max_episode_steps : int, optional
        Cut longer episodes here, and count them as they are: some never end.
    env_timeout : float, optional
        Seconds that the environments may take for a step; see
        :class:`npTRPO.sampling.environments.StepTimeout`.

    Returns
    -------
    mean, std : float
        Or, with ``return_episode_rewards``, two lists: returns and lengths, one of each per episode.

    Raises
    ------
    AssertionError
        If the mean return isn't above ``reward_threshold``.
    NotImplementedError
        For ``render`` and ``callback``.

    Examples
    --------
    >>> from npTRPO import TRPO, evaluate_policy
    >>> agent = TRPO("MlpPolicy", "CartPole-v1", seed=0)
    >>> mean, std = evaluate_policy(agent, "CartPole-v1", n_eval_episodes=4, seed=0)
    >>> 8 <= mean <= 500
    True
    """
    if render or callback is not None:
        raise NotImplementedError(
            "evaluate_policy has no render and no callback: give an environment that is made with "
            'render_mode="human", or wrapped in a wrapper of yours that sees its steps'
        )
    limits = seed, max_episode_steps, env_timeout
    returns, lengths = run_episodes(model, env, n_eval_episodes, deterministic, *limits)
    mean, std = float(np.mean(returns)), float(np.std(returns))
    if reward_threshold is not None and not mean > reward_threshold:
        raise AssertionError(f"the mean return, {mean:.2f}, is not above {reward_threshold:.2f}")
    return (returns.tolist(), lengths.tolist()) if return_episode_rewards else (mean, std)


def run_episodes(
    agent: Agent,
    env: Evaluated,
    n_episodes: int,
    deterministic: bool = True,
    seed: int | None = None,
    max_episode_steps: int | None = None,
    env_timeout: float | None = None,
) -> tuple[Array, Array]:
    """Return returns and lengths, each (n_episodes,), of whole episodes; see :func:`evaluate_policy`."""
    n_episodes, seed = operator.index(n_episodes), None if seed is None else operator.index(seed)
    if n_episodes < 1:
        raise ValueError(f"n_eval_episodes must be at least 1, but it is {n_episodes!r}")
    if seed is not None and seed < 0:
        raise ValueError(f"seed must not be negative, but it is {seed!r}")
    if env is None:
        if agent.maker is None:
            raise ValueError("evaluation needs an env: this agent wasn't made with the id of one")
        env = agent.maker.trusted()
    envs = make_vector_env(env, min(n_episodes, 16))
    try:
        check_spaces(agent.policy, envs)
        limited = envs if env_timeout is None else StepTimeout(envs, env_timeout)
        stepper = Stepper(limited, agent.policy, seed, purpose="an evaluation")
        actor = actor_for(agent, deterministic, seed)
        return _run(stepper, actor, n_episodes, max_episode_steps or math.inf)
    finally:
        if agent.env is not None and _environments(agent.env) & _environments(envs):
            agent.leave_episodes()
        if EnvMaker.of(env) is not None:  # and so they were made here
            envs.close()
        elif envs is not env:  # which is left as it came, where Gymnasium closes what isn't used any more
            envs.closed = True


def actor_for(agent: Agent, deterministic: bool, seed: int | None) -> Actor:
    """Return the agent's policy to act with, with a stream of random numbers of its own."""
    rng = None if deterministic else np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    return Actor(agent.policy, agent.theta, agent.observation_moments, rng)


def _environments(envs: VectorEnv[Any, Any, Any]) -> set[int]:
    """Return the identities of a vector environment and of those in it, without their wrappers."""
    inner = envs.unwrapped
    return {id(inner), *(id(env.unwrapped) for env in getattr(inner, "envs", ()))}


def _run(stepper: Stepper, actor: Actor, n_episodes: int, longest: float) -> tuple[Array, Array]:
    """Step until each environment has contributed its share of the episodes: its first ones."""
    n = stepper.env.num_envs
    wanted = (n_episodes + np.arange(n)) // n
    returns, lengths, counts = np.zeros(n), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    all_returns, all_lengths = [], []
    while np.any(counts < wanted):
        step = stepper.advance(actor, 1)
        returns += step.rewards[0]
        lengths += step.valid[0]
        for i in np.flatnonzero(step.terminated[0] | step.truncated[0] | (lengths >= longest)):
            if counts[i] < wanted[i]:
                all_returns.append(returns[i])
                all_lengths.append(lengths[i])
                counts[i] += 1
            returns[i], lengths[i] = 0.0, 0
    return np.array(all_returns), np.array(all_lengths)
