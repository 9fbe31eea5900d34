"""Search for good options of an environment, by Optuna (needs the ``tune`` extra).

A trial trains an agent with each of a few seeds, side by side, and evaluates all of them a few times on the
way, in episodes that neither training nor any report has seen. Trials that fall behind are stopped at an
evaluation; the value of the others is the mean return of their last one.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.evaluation import run_episodes
from npTRPO.agent.trpo import TRPO
from npTRPO.runs.presets import STEPS
from npTRPO.runs.recorder import EVALUATION_STEPS
from npTRPO.runs.signals import Interruption
from npTRPO.sampling.environments import force_close
from npTRPO.sampling.makers import EnvMaker

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

SEEDS = range(10)
"""Seeds that trials may train with: figures are to be measured on others."""
EVALUATION_SEED = 20_000
"""Seed of the evaluations; those of a run have 0, and those of ``nptrpo evaluate`` 10,000."""
EVALUATIONS = 5
"""Evaluations of a trial, after equal numbers of steps."""
_SETTINGS = "settings"
_HEARTBEAT = 60  # seconds between two signs of life of a trial, where several machines share a study


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds that they may equal: whole ones, if the bounds are."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Trial, name: str) -> float:
        """Return the number that a trial takes."""
        if isinstance(self.low, int):
            return trial.suggest_int(name, self.low, int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Return whether a value is one of them."""
        return bool(self.low <= value <= self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values; lists are written as JSON, which every storage takes."""

    values: tuple[Any, ...]

    def suggest(self, trial: Trial, name: str) -> Any:
        """Return the value that a trial takes."""
        return trial.suggest_categorical(name, self.values)

    def holds(self, value: Any) -> bool:
        """Return whether a value is one of them."""
        return value in self.values


SPACE: dict[str, Range | Choice] = {
    "target_kl": Range(0.003, 0.1, log=True),
    "gamma": Choice((0.9, 0.95, 0.98, 0.99, 0.995, 0.999)),
    "gae_lambda": Choice((0.8, 0.9, 0.92, 0.95, 0.98, 0.99, 1.0)),
    "n_envs": Choice((1, 2, 4, 8, 16, 32)),
    "n_steps": Range(32, 512, log=True),
    "cg_damping": Range(0.001, 1.0, log=True),
    "net_arch": Choice(("[32, 32]", "[64, 64]", "[128, 128]", "[256, 256]", "[64]", "[64, 64, 64]")),
    "log_std_init": Range(-2.0, 1.0),
    "n_critic_updates": Range(1, 10),
    "normalize_observations": Choice((True, False)),
    "normalize_rewards": Choice((True, False)),
}
"""What is searched, but for options that are given; ``log_std_init`` is for Gaussian actions alone."""


@dataclass(frozen=True)
class TuningSettings:
    """What the trials of a study have in common.

    Attributes
    ----------
    env : str
        Id of the environment.
    total_timesteps : int
        Environment steps of each training.
    seeds : tuple of int
        Each trial trains with all of them; they are among 0 to 9.
    eval_episodes : int
        Episodes per evaluation of an agent.
    given : dict
        Options that aren't searched, as they were asked for.
    start : dict
        Options that the first trial takes, of the environment's preset or a file; those that aren't searched
        hold for all trials.
    env_kwargs : dict
        Keyword arguments for the environment.
    wrappers : tuple of str
        Names of what each environment is wrapped in, as "module:callable".

    Raises
    ------
    ValueError
        For seeds that aren't among 0 to 9, and if nothing is left to search.
    """

    env: str
    total_timesteps: int
    seeds: tuple[int, ...]
    eval_episodes: int
    given: Mapping[str, Any]
    start: Mapping[str, Any]
    env_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wrappers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the seeds."""
        if not self.seeds or any(seed not in SEEDS for seed in self.seeds):
            raise ValueError(
                f"trials train with seeds from {SEEDS[0]} to {SEEDS[-1]}, not {list(self.seeds)}: the others "
                "are for measuring what was found"
            )

    @property
    def maker(self) -> EnvMaker:
        """What makes the environment."""
        return EnvMaker(self.env, self.env_kwargs, self.wrappers)

    @property
    def fixed(self) -> dict[str, Any]:
        """Options of all trials but for those searched."""
        return {**self.start, **self.given}

    def space(self) -> dict[str, Range | Choice]:
        """Return what is searched in this environment."""
        agent = TRPO(
            "MlpPolicy", self.maker, TRPOConfig.from_dict({**self.fixed, "n_envs": 1, "n_shards": 1})
        )
        force_close(agent.env)
        gaussian = isinstance(agent.action_space, spaces.Box) and agent.config.distribution is None
        left = {name: each for name, each in SPACE.items() if name not in self.given}
        if not gaussian:
            left.pop("log_std_init", None)
        if not left:
            raise ValueError("all options that tuning would search are given: leave out some of them")
        return left

    def first(self) -> dict[str, Any]:
        """Return the parameters of the first trial: the options that training has without tuning."""
        config = TRPOConfig.from_dict(self.fixed)
        values = config.to_dict() | {"n_critic_updates": config.value_steps}
        values |= {"n_steps": config.steps_per_env(config.n_envs), "net_arch": json.dumps(values["net_arch"])}
        return {name: values[name] for name, each in self.space().items() if each.holds(values[name])}

    def options(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a trial with these parameters, and ``total_timesteps``."""
        read = {
            name: json.loads(value) if isinstance(value, str) else value for name, value in parameters.items()
        }
        return {STEPS: self.total_timesteps, **self.fixed, **read}


class StoppedError(RuntimeError):
    """A signal has stopped a trial, which another one takes the place of."""


def check_extra() -> None:
    """Raise a ModuleNotFoundError that names the extra, if Optuna is missing."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('tuning needs Optuna: pip install "npTRPO[tune]"') from error


def open_study(settings: TuningSettings, storage: str | Path, name: str) -> Study:
    """Return the study of a name in a storage, which is begun unless it is there.

    Parameters
    ----------
    settings : TuningSettings
        What its trials have in common.
    storage : str or pathlib.Path
        URL of a database, which several machines may share; or a file of this machine's.
    name : str
        The study's.

    Raises
    ------
    ValueError
        If the study was begun with other settings.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import BaseStorage, JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        opened: BaseStorage
        if isinstance(storage, Path):
            opened = JournalStorage(JournalFileBackend(str(storage)))
        else:
            opened = RDBStorage(storage, heartbeat_interval=_HEARTBEAT)
    study = optuna.create_study(
        storage=opened,
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
    )
    ours = json.loads(json.dumps(dataclasses.asdict(settings)))
    theirs = study.user_attrs.get(_SETTINGS)
    if theirs is None:
        study.set_user_attr(_SETTINGS, ours)
    elif theirs != ours:
        names = [key for key in ours if theirs.get(key) != ours[key]]
        differ = "; ".join(f"{key} {theirs.get(key)}, not {ours[key]}" for key in names)
        raise ValueError(f"the study {name!r} was begun with {differ}: keep to these, or begin another study")
    return study


def leave_abandoned(study: Study) -> None:
    """Count trials no more that are under way, in a study that nobody works at."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def n_taken(study: Study) -> int:
    """Return the number of trials that have ended or are under way; those that failed don't count."""
    from optuna.trial import TrialState

    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return len(study.get_trials(deepcopy=False, states=counted))


def ended(study: Study) -> list[FrozenTrial]:
    """Return the trials that have a value, or were stopped at an evaluation, in their order."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def best(study: Study) -> FrozenTrial | None:
    """Return the trial of the largest value, the first of equals; None if no trial has one."""
    from optuna.trial import TrialState

    complete = [trial for trial in ended(study) if trial.state is TrialState.COMPLETE]
    return max(complete, key=lambda trial: trial.value or 0.0, default=None)


def search(
    study: Study,
    settings: TuningSettings,
    n_trials: int,
    interruption: Interruption,
    *,
    most: int | None = None,
    alone: bool = True,
    first: bool = False,
    told: Callable[[], object] = lambda: None,
) -> None:
    """Run trials until the study has ``n_trials``, or a signal comes.

    Parameters
    ----------
    study : optuna.Study
        From :func:`open_study`.
    settings : TuningSettings
        What its trials have in common.
    n_trials : int
        How many trials the study is to have, whoever runs them.
    interruption : Interruption
        Stops the trial under way, which doesn't count then.
    most : int, optional
        How many of them are run here.
    alone : bool
        Whether nobody else works at the study. What trials propose then follows from those before.
    first : bool
        Whether the first of them has the options of training without tuning.
    told : callable
        Called after each trial.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import BaseSampler, PartialFixedSampler, TPESampler

    space, usual = settings.space(), settings.first()

    def objective(trial: Trial) -> float:
        options = settings.options({name: each.suggest(trial, name) for name, each in space.items()})
        try:
            return _value(settings, options, trial, interruption)
        except KeyboardInterrupt as error:  # of a second signal
            raise StoppedError("a signal has stopped the trial") from error
        except Exception as error:
            error.add_note(f"in trial {trial.number}, with {trial.params}")
            raise

    left = n_trials if most is None else most
    while left > 0 and n_taken(study) < n_trials and interruption.signal is None:
        sampler: BaseSampler = TPESampler(seed=n_taken(study) if alone else None)
        if first:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                sampler = PartialFixedSampler(usual, sampler)
        study.sampler, first = sampler, False
        try:
            study.optimize(objective, n_trials=1)
        except StoppedError:
            break
        left -= 1
        told()


def _value(
    settings: TuningSettings, options: dict[str, Any], trial: Trial, interruption: Interruption
) -> float:
    """Train with each seed, and return the mean return of the last evaluation."""
    from optuna import TrialPruned

    def check() -> None:
        if interruption.signal is not None:
            raise StoppedError(f"{interruption.signal.name} has stopped the trial")

    total = settings.total_timesteps
    config = {name: value for name, value in options.items() if name != STEPS}
    agents, mean = list[TRPO](), float("nan")
    try:
        for seed in settings.seeds:
            agents.append(TRPO("MlpPolicy", settings.maker, TRPOConfig.from_dict({**config, "seed": seed})))
        for evaluation in range(1, EVALUATIONS + 1):
            until = -(-total * evaluation // EVALUATIONS)
            for agent in agents:
                if agent.num_timesteps < until:
                    agent.learn(until - agent.num_timesteps, interruption, reset_num_timesteps=False)
                check()
            returns = []
            for agent in agents:
                returns.append(_returns(agent, settings))
                check()
            mean = float(np.mean(returns))
            trial.report(mean, evaluation)
            if evaluation < EVALUATIONS and trial.should_prune():
                raise TrialPruned
    finally:
        for agent in agents:
            force_close(agent.env)
    return mean


def _returns(agent: TRPO, settings: TuningSettings) -> float:
    """Return an agent's mean return, in the same episodes for all agents."""
    limits = EVALUATION_SEED, EVALUATION_STEPS
    returns, _ = run_episodes(agent, settings.maker, settings.eval_episodes, True, *limits)
    return float(np.mean(returns))
