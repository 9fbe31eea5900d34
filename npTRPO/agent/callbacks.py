"""Callbacks that evaluate, save and stop training. Combine them in a list.

A callback is any callable that takes a :class:`npTRPO.agent.Record`; training stops when one returns
False. Names and meanings follow Stable-Baselines3, where it has them.
"""

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.agent.evaluation import run_episodes
from npTRPO.agent.record import Callback, Record, checked_callback, stops
from npTRPO.files.writing import write_whole


class _Every:
    """Tell when so many steps have passed, also after their count begins again."""

    def __init__(self, steps: int) -> None:
        self.steps, self.last = steps, 0

    def due(self, num_timesteps: int) -> bool:
        self.last = self.last if num_timesteps >= self.last else 0
        passed = num_timesteps - self.last >= self.steps
        if passed:
            self.last = num_timesteps
        return passed


class EvalCallback:
    """Evaluate the agent periodically, and keep the best one.

    Parameters
    ----------
    eval_env : str, EnvSpec, callable, gymnasium.Env or gymnasium.vector.VectorEnv, optional
        Where to evaluate, as in :func:`evaluate_policy`; what the agent trains on is made, unless given.
    callback_on_new_best, callback_after_eval : callable, optional
        Called with the record after an evaluation with a new best mean return, and after every evaluation.
        Training stops when one returns False; those that stop on evaluations look at this one's. A TypeError
        tells of what is no callback.
    n_eval_episodes : int
        Episodes per evaluation.
    eval_freq : int
        Environment steps between evaluations, counted over all environments.
    log_path : path, optional
        Directory for ``evaluations.npz``: timesteps, and for each the results and ep_lengths of its episodes.
    best_model_save_path : path, optional
        For the agent with the best mean return: a file, if it ends in ``.npz`` or ``.zip``, and otherwise a
        directory for ``best_model.npz``.
    deterministic : bool
        Take the most probable actions.
    render, verbose, warn
        Taken for compatibility; nothing is shown or said.
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
        callback_on_new_best: Callback | None = None,
        callback_after_eval: Callback | None = None,
        n_eval_episodes: int = 10,
        eval_freq: int = 10_000,
        log_path: str | os.PathLike[str] | None = None,
        best_model_save_path: str | os.PathLike[str] | None = None,
        deterministic: bool = True,
        render: bool = False,
        verbose: int = 0,
        warn: bool = True,
        *,
        seed: int = 0,
        max_episode_steps: int | None = None,
        env_timeout: float | None = None,
    ) -> None:
        if eval_freq < 1 or n_eval_episodes < 1:
            raise ValueError(
                f"eval_freq and n_eval_episodes must be at least 1, not {eval_freq} and {n_eval_episodes}"
            )
        if render:
            raise NotImplementedError(
                'render=True isn\'t supported: give an eval_env that is made with render_mode="human"'
            )
        self.eval_env = eval_env
        self.callback_on_new_best = callback_on_new_best
        self.callback_after_eval = callback_after_eval
        for child in (callback_on_new_best, callback_after_eval):
            if child is not None:
                checked_callback(child)
            if isinstance(child, (StopTrainingOnRewardThreshold, StopTrainingOnNoModelImprovement)):
                child.evaluation = child.evaluation or self
        self.n_eval_episodes, self.eval_freq = n_eval_episodes, eval_freq
        self.log_path, self.best_model_save_path = log_path, best_model_save_path
        self.deterministic = deterministic
        self.seed = seed
        self.max_episode_steps, self.env_timeout = max_episode_steps, env_timeout
        self.evaluations: list[tuple[int, float, float]] = []
        self.best_mean_reward, self.last_mean_reward = -math.inf, math.nan
        self._episodes: list[tuple[Array, Array]] = []
        self._every = _Every(eval_freq)

    def __call__(self, record: Record) -> bool:
        """Evaluate if it is due; return False, to stop, if a callback of its own does."""
        return not self._every.due(record.num_timesteps) or self.evaluate(record)

    def evaluate(self, record: Record) -> bool:
        """Evaluate now; return False, to stop, if a callback of its own does."""
        limits = self.seed, self.max_episode_steps, self.env_timeout
        returns, lengths = run_episodes(
            record.agent, self.eval_env, self.n_eval_episodes, self.deterministic, *limits
        )
        mean = float(np.mean(returns))
        self.evaluations.append((record.num_timesteps, mean, float(np.std(returns))))
        record.evaluations.append(self.evaluations[-1][1:])
        self._episodes.append((returns, lengths))
        if self.log_path is not None:
            self._write_log(Path(self.log_path))
        self.last_mean_reward, goes_on = mean, True
        if mean > self.best_mean_reward:
            self.best_mean_reward = mean
            if self.best_model_save_path is not None:
                path = Path(self.best_model_save_path)
                record.agent.save(path if path.suffix in (".npz", ".zip") else path / "best_model")
            goes_on = not stops(self.callback_on_new_best, record)
        return not stops(self.callback_after_eval, record) and goes_on

    def _write_log(self, directory: Path) -> None:
        content = io.BytesIO()
        np.savez(
            content,
            timesteps=np.array([steps for steps, _, _ in self.evaluations]),
            results=np.array([returns for returns, _ in self._episodes]),
            ep_lengths=np.array([lengths for _, lengths in self._episodes]),
        )
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / "evaluations.npz", lambda file: file.write(content.getbuffer()))


class CheckpointCallback:
    """Save the agent periodically as ``{name_prefix}_{num_timesteps}_steps.npz``.

    Parameters
    ----------
    save_freq : int
        Environment steps between two files, counted over all environments.
    save_path : path
        Directory, which is made if need be.
    name_prefix : str
        Beginning of the files' names.
    save_replay_buffer, save_vecnormalize, verbose
        Taken for compatibility; an agent's file has all that belongs to it.
    """

    def __init__(
        self,
        save_freq: int,
        save_path: str | os.PathLike[str],
        name_prefix: str = "rl_model",
        save_replay_buffer: bool = False,
        save_vecnormalize: bool = False,
        verbose: int = 0,
    ) -> None:
        if save_freq < 1:
            raise ValueError(f"save_freq must be at least 1, not {save_freq}")
        self.save_freq = save_freq
        self.directory = Path(save_path)
        self.name_prefix = name_prefix
        self._every = _Every(save_freq)

    def __call__(self, record: Record) -> None:
        """Save if it is due."""
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
    verbose
        Taken for compatibility.
    """

    def __init__(
        self, reward_threshold: float, evaluation: EvalCallback | None = None, verbose: int = 0
    ) -> None:
        self.reward_threshold = reward_threshold
        self.evaluation = evaluation

    def __call__(self, record: Record) -> bool:
        """Return False, to stop, once the threshold is reached."""
        source = self.evaluation
        reached = record.episode_return if source is None else source.last_mean_reward
        return not reached >= self.reward_threshold


class StopTrainingOnNoModelImprovement:
    """Stop when several evaluations in a row brought no new best mean return.

    Parameters
    ----------
    max_no_improvement_evals : int
        Evaluations in a row without a new best that don't stop training yet.
    min_evals : int
        Evaluations before which training doesn't stop.
    evaluation : EvalCallback, optional
        The evaluations to look at; it must come earlier in the list of callbacks. Not needed where this
        callback is itself the ``callback_after_eval`` of one.
    verbose
        Taken for compatibility.
    """

    def __init__(
        self,
        max_no_improvement_evals: int,
        min_evals: int = 0,
        evaluation: EvalCallback | None = None,
        verbose: int = 0,
    ) -> None:
        self.evaluation = evaluation
        self.max_no_improvement_evals = max_no_improvement_evals
        self.min_evals = min_evals

    def __call__(self, record: Record) -> bool:
        """Return False, to stop, once too many evaluations have not improved."""
        if self.evaluation is None:
            raise ValueError("it looks at no evaluation: give it one, or to one, as its callback_after_eval")
        means = [mean for _, mean, _ in self.evaluation.evaluations]
        if not means:
            return True
        since_best = len(means) - 1 - means.index(max(means))
        return len(means) <= self.min_evals or since_best <= self.max_no_improvement_evals
