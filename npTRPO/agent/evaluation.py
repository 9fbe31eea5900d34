"""How good is an agent? Whole episodes, each environment contributing its share."""

from __future__ import annotations

import math
import operator
import shlex
from typing import Any, Literal, TypeAlias, overload

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from npTRPO._typing import Array
from npTRPO.agent.record import Agent
from npTRPO.policies.spaces import as_batch
from npTRPO.sampling.blame import explained
from npTRPO.sampling.environments import TimeLimited, check_spaces, id_from_file, make_vector_env
from npTRPO.sampling.rollout import autoreset_mode

__all__ = ["evaluate_policy", "run_episodes"]


Evaluated: TypeAlias = str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | None


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
    """Mean and standard deviation of the undiscounted return over whole episodes.

    Parameters
    ----------
    model : TRPO
        The agent to evaluate; evaluation changes nothing in it. If it is in the environments that the agent
        learns in, learning goes on with a reset of them.
    env : str, gymnasium.Env or gymnasium.vector.VectorEnv, optional
        Where; the id the agent was made with unless given.
    n_eval_episodes : int
        Episodes, shared evenly among the copies of the environment, so that short episodes don't
        count more often than long ones.
    deterministic : bool
        Take the most probable actions.
    render, callback, warn
        Taken for compatibility: an environment made with ``render_mode="human"`` shows itself, there is
        nothing to call back, and returns are counted here, so that nothing is to be warned about.
    reward_threshold : float, optional
        The mean return must be above it.
    return_episode_rewards : bool
        Return the episodes' returns and lengths instead.
    seed : int, optional
        Seed of the environment and of the actions drawn.
    max_episode_steps : int, optional
        An episode that is longer counts as it is then: some never end.
    env_timeout : float, optional
        Seconds that the environments may take for a step; see
        :class:`npTRPO.sampling.environments.TimeLimited`.

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
            'render_mode="human", or wrapped in what is to see its steps'
        )
    returns, lengths = run_episodes(
        model,
        env,
        n_eval_episodes,
        deterministic,
        seed=seed,
        max_episode_steps=max_episode_steps,
        env_timeout=env_timeout,
    )
    mean, std = float(np.mean(returns)), float(np.std(returns))
    if reward_threshold is not None and not mean > reward_threshold:
        raise AssertionError(f"the mean return, {mean:.2f}, is not above {reward_threshold:.2f}")
    return (returns.tolist(), lengths.tolist()) if return_episode_rewards else (mean, std)


def run_episodes(
    agent: Agent,
    env: Evaluated,
    n_episodes: int,
    deterministic: bool = True,
    *,
    seed: int | None = None,
    max_episode_steps: int | None = None,
    env_timeout: float | None = None,
) -> tuple[Array, Array]:
    """Returns and lengths, each (n_episodes,), of whole episodes; see :func:`evaluate_policy`."""
    n_episodes, seed = operator.index(n_episodes), None if seed is None else operator.index(seed)
    if n_episodes < 1:
        raise ValueError(f"n_eval_episodes must be at least 1, but it is {n_episodes!r}")
    if seed is not None and seed < 0:
        raise ValueError(f"seed must not be negative, but it is {seed!r}")
    if env is None:
        if agent.env_id is None:
            raise ValueError("evaluation needs an env: this agent wasn't made with the id of one")
        env = id_from_file(agent.env_id, f"name it yourself, with --env {shlex.quote(agent.env_id)}")
    envs = make_vector_env(env, min(n_episodes, 16))
    try:
        check_spaces(agent.policy, envs)
        limited = envs if env_timeout is None else TimeLimited(envs, env_timeout)
        return _run(agent, limited, n_episodes, deterministic, seed, max_episode_steps or math.inf)
    finally:
        if agent.env is not None and _parts(agent.env) & _parts(envs):
            agent.leave_episodes()
        if isinstance(env, str):
            envs.close()
        elif envs is not env:  # which is left as it came, where Gymnasium closes what isn't used any more
            envs.closed = True


def _parts(envs: VectorEnv[Any, Any, Any]) -> set[int]:
    """What a vector environment is made of, as identities."""
    inner = envs.unwrapped
    return {id(inner), *(id(env.unwrapped) for env in getattr(inner, "envs", ()))}


def _run(
    agent: Agent,
    envs: VectorEnv[Any, Any, Any],
    n_episodes: int,
    deterministic: bool,
    seed: int | None,
    longest: float,
) -> tuple[Array, Array]:
    # The actions have random numbers of their own, and none of the environment's.
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    n = envs.num_envs
    wanted = (n_episodes + np.arange(n)) // n
    same_step = autoreset_mode(envs) is AutoresetMode.SAME_STEP
    returns, lengths, counts = np.zeros(n), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    all_returns, all_lengths = [], []
    step = 0
    try:
        observations, _ = envs.reset(seed=seed)
    except (Exception, SystemExit) as error:
        raise explained(envs, error, "reset of an evaluation") from error.__cause__
    resets = np.zeros(n, dtype=bool)
    while np.any(counts < wanted):
        step += 1
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what isn't finite is refused
                actions = agent.act(
                    as_batch(agent.policy.observation_space, observations)[0], deterministic, rng
                )
            observations, rewards, terminated, truncated, _ = envs.step(actions)
        except (Exception, SystemExit) as error:
            _check(observations, agent, f"step {step - 1}" if step > 1 else "reset")
            raise explained(envs, error, f"step {step} of an evaluation") from error.__cause__
        earned = np.where(resets, 0.0, rewards)
        for i in np.flatnonzero(~np.isfinite(earned)):
            raise ValueError(
                f"environment {i} returned the reward {earned[i]} in step {step} of an evaluation"
            )
        returns += earned
        lengths += ~resets
        ended = terminated | truncated
        for i in np.flatnonzero(ended | (lengths >= longest)):
            if counts[i] < wanted[i]:
                all_returns.append(returns[i])
                all_lengths.append(lengths[i])
                counts[i] += 1
            returns[i], lengths[i] = 0.0, 0
        resets = np.zeros(n, dtype=bool) if same_step else ended
    return np.array(all_returns), np.array(all_lengths)


def _check(observations: Any, agent: Agent, when: str) -> None:
    """Raise an error for the first number that isn't finite, if the observations have one."""
    try:
        rows = agent.policy.encode(observations, agent.theta.dtype)
    except (KeyError, TypeError, ValueError):  # which isn't what this is about
        return
    for i, feature in np.argwhere(~np.isfinite(rows)):
        raise ValueError(
            f"environment {i} returned the observation {rows[i, feature]} (feature {feature}) "
            f"in {when} of an evaluation"
        )
