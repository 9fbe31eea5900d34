"""What to do after an update: evaluate, keep, stop. Combine them in a list.

A callback is any callable that takes a :class:`npTRPO.agent.Record`; training stops when one returns
False. Names and meanings follow Stable-Baselines3, where it has them.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from npTRPO.agent.evaluation import evaluate_policy
from npTRPO.agent.record import Record

__all__ = [
    "CheckpointCallback",
    "EvalCallback",
    "StopTrainingOnNoModelImprovement",
    "StopTrainingOnRewardThreshold",
]


class _Every:
    """Says when so many steps have passed; a count of steps that begins again is no surprise to it."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._last = 0

    def due(self, num_timesteps: int) -> bool:
        if num_timesteps < self._last:
            self._last = 0
        passed = num_timesteps - self._last >= self.steps
        if passed:
            self._last = num_timesteps
        return passed


class EvalCallback:
    """Evaluate the agent periodically, and keep the best one.

    Parameters
    ----------
    eval_env : str, gymnasium.Env or gymnasium.vector.VectorEnv, optional
        Where to evaluate; the id the agent trains on unless given.
    n_eval_episodes : int
        Episodes per evaluation.
    eval_freq : int
        Environment steps between evaluations (of all environments together).
    best_model_save_path : path, optional
        File for the agent with the best mean return.
    deterministic : bool
        Take the most probable actions.
    seed : int
        Seed of the evaluation's environments, the same each time, so that evaluations are compared on
        the same episodes.
    max_episode_steps, env_timeout
        Limits to the episodes and the steps of an evaluation, as in :func:`evaluate_policy`.

    Attributes
    ----------
    evaluations : list of (num_timesteps, mean, std)
        All so far.
    best_mean_reward : float
        Best mean return so far; −inf before the first evaluation.
    last_mean_reward : float
        Latest mean return; NaN before the first evaluation.
    """

    def __init__(
        self,
        eval_env: Any = None,
        *,
        n_eval_episodes: int = 10,
        eval_freq: int = 10_000,
        best_model_save_path: str | os.PathLike[str] | None = None,
        deterministic: bool = True,
        seed: int = 0,
        max_episode_steps: int | None = None,
        env_timeout: float | None = None,
    ) -> None:
        if eval_freq < 1 or n_eval_episodes < 1:
            raise ValueError(
                f"eval_freq and n_eval_episodes must be at least 1, not {eval_freq} and {n_eval_episodes}"
            )
        self.eval_env = eval_env
        self.n_eval_episodes = n_eval_episodes
        self.eval_freq = eval_freq
        self.best_model_save_path = best_model_save_path
        self.deterministic = deterministic
        self.seed = seed
        self.max_episode_steps = max_episode_steps
        self.env_timeout = env_timeout
        self.evaluations: list[tuple[int, float, float]] = []
        self.best_mean_reward = -math.inf
        self.last_mean_reward = math.nan
        self._every = _Every(eval_freq)

    def __call__(self, record: Record) -> None:
        """Evaluate, if it is time to."""
        if self._every.due(record.num_timesteps):
            self.evaluate(record)

    def evaluate(self, record: Record) -> None:
        """Evaluate now."""
        mean, std = evaluate_policy(
            record.agent,
            self.eval_env,
            self.n_eval_episodes,
            self.deterministic,
            seed=self.seed,
            max_episode_steps=self.max_episode_steps,
            env_timeout=self.env_timeout,
        )
        self.evaluations.append((record.num_timesteps, mean, std))
        self.last_mean_reward = mean
        if mean > self.best_mean_reward:
            self.best_mean_reward = mean
            if self.best_model_save_path is not None:
                record.agent.save(self.best_model_save_path)


class CheckpointCallback:
    """Save the agent periodically as ``{name_prefix}_{num_timesteps}_steps.npz``.

    Parameters
    ----------
    save_freq : int
        Environment steps between two files.
    save_path : path
        Directory, which is made if need be.
    name_prefix : str
        Beginning of the files' names.
    """

    def __init__(
        self, save_freq: int, save_path: str | os.PathLike[str], name_prefix: str = "rl_model"
    ) -> None:
        if save_freq < 1:
            raise ValueError(f"save_freq must be at least 1, not {save_freq}")
        self.save_freq = save_freq
        self.directory = Path(save_path)
        self.name_prefix = name_prefix
        self._every = _Every(save_freq)

    def __call__(self, record: Record) -> None:
        """Save, if it is time to."""
        if self._every.due(record.num_timesteps):
            record.agent.save(self.directory / f"{self.name_prefix}_{record.num_timesteps}_steps")


class StopTrainingOnRewardThreshold:
    """Stop when the mean return reaches a threshold.

    Parameters
    ----------
    reward_threshold : float
        Mean return to reach.
    evaluation : EvalCallback, optional
        Look at its latest evaluation (it must come earlier in the list of callbacks); otherwise at the
        mean return of the last 100 training episodes.
    """

    def __init__(self, reward_threshold: float, evaluation: EvalCallback | None = None) -> None:
        self.reward_threshold = reward_threshold
        self.evaluation = evaluation

    def __call__(self, record: Record) -> bool:
        """False, to stop, once the threshold is reached."""
        source = self.evaluation
        reached = record.episode_return if source is None else source.last_mean_reward
        return not reached >= self.reward_threshold


class StopTrainingOnNoModelImprovement:
    """Stop when several evaluations in a row brought no new best mean return.

    Parameters
    ----------
    evaluation : EvalCallback
        Whose evaluations count; it must come earlier in the list of callbacks.
    max_no_improvement_evals : int
        Evaluations without a new best that are put up with.
    min_evals : int
        Evaluations before which training doesn't stop.
    """

    def __init__(self, evaluation: EvalCallback, max_no_improvement_evals: int, min_evals: int = 0) -> None:
        self.evaluation = evaluation
        self.max_no_improvement_evals = max_no_improvement_evals
        self.min_evals = min_evals

    def __call__(self, record: Record) -> bool:
        """False, to stop, once too many evaluations have not improved."""
        means = [mean for _, mean, _ in self.evaluation.evaluations]
        if not means:
            return True
        since_best = len(means) - 1 - means.index(max(means))
        return len(means) <= self.min_evals or since_best <= self.max_no_improvement_evals
