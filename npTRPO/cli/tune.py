"""``nptrpo tune``: search for good options of an environment."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npTRPO.cli.config_flags import OPTIONS, add_config_flags, as_flags
from npTRPO.cli.seeds import warn_of_crowding
from npTRPO.cli.settle import DEFAULT_TIMESTEPS, add_preset_flags, starting_point
from npTRPO.cli.usage import UsageError, add_environment_flags, at_least, say, seeds

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from npTRPO.runs.signals import Interruption
    from npTRPO.runs.tuning import TuningSettings

_SEEDS, _EPISODES = [0, 1, 2], 10
_PAUSE = 1.0  # seconds between two looks at what the processes have done


def add_tune_flags(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = (
        "Search for good options: target_kl, gamma, gae_lambda, n_envs, n_steps, cg_damping, net_arch, "
        "log_std_init (of Gaussian actions), n_critic_updates, normalize_observations and normalize_rewards, "
        "but for those given here, which all trials have. The first trial takes the preset, or the defaults. "
        "Each trains with all seeds and is evaluated five times, in episodes of its own; those below the "
        "median of the others are stopped. The same command goes on with a study that is there."
    )
    parser.add_argument("env", help="id of a Gymnasium environment, such as CartPole-v1")
    add_environment_flags(parser)
    parser.add_argument("--trials", type=at_least(1), required=True, help="trials that the study is to have")
    parser.add_argument(
        "--jobs", type=at_least(1), default=1, metavar="INT", help="trials run at once (default: 1)"
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="database that holds the study, which several machines may share, such as "
        "postgresql://host/name (default: a file in the --out directory)",
    )
    parser.add_argument("--study", metavar="NAME", help="name of the study in its storage (default: ENV)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="directory for best.toml (default: runs/tune-ENV)"
    )
    parser.add_argument(
        "--total-timesteps",
        type=at_least(1),
        help=f"environment steps of each training (default: the preset's, or {DEFAULT_TIMESTEPS})",
    )
    parser.add_argument(
        "--seeds",
        type=seeds,
        default=_SEEDS,
        metavar="SEEDS",
        help="seeds from 0 to 9 that each trial trains with (default: 0-2)",
    )
    parser.add_argument(
        "--eval-episodes",
        type=at_least(1),
        default=_EPISODES,
        help=f"episodes per evaluation of an agent (default: {_EPISODES})",
    )
    # How many trials one of several processes runs, and whether it begins with the first.
    parser.add_argument("--share", type=at_least(1), help=argparse.SUPPRESS)
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    add_preset_flags(parser)
    add_config_flags(parser)


def tune(options: argparse.Namespace) -> int:
    """Run trials, write the best one's options, and return the exit status."""
    from npTRPO.runs import tuning
    from npTRPO.runs.directory import locked
    from npTRPO.runs.settings import holds_run
    from npTRPO.runs.signals import Interruption

    tuning.check_extra()
    settings = _settled(options)
    directory = options.out or Path("runs") / f"tune-{options.env.replace('/', '_').replace(':', '_')}"
    if holds_run(directory) or (directory.exists() and not directory.is_dir()):
        raise UsageError(f"{directory} is no directory of a study: choose another --out")
    directory.mkdir(parents=True, exist_ok=True)
    storage = options.storage or directory / "study.journal"
    part: dict[str, Any]
    arguments = settings, storage, options.study or options.env
    if options.share is not None:
        with Interruption() as interruption:
            study = tuning.open_study(*arguments)
            part = {"most": options.share, "alone": False, "first": options.first}
            tuning.search(study, settings, options.trials, interruption, **part)
        return 128 + interruption.signal if interruption.signal is not None else 0
    with locked(directory), Interruption() as interruption:
        study = tuning.open_study(*arguments)
        if options.storage is None:
            tuning.leave_abandoned(study)
        watch = _Watch(study, settings, directory / "best.toml")
        print(f"{tuning.n_taken(study)} of {options.trials} trials are in {storage}", flush=True)
        if options.jobs == 1:
            part = {"alone": options.storage is None, "first": not tuning.n_taken(study)}
            tuning.search(study, settings, options.trials, interruption, **part, told=watch.look)
            failed = False
        else:
            failed = _in_processes(options, directory, study, interruption, watch)
        watch.look()
    watch.conclude()
    if interruption.signal is not None:
        resume = shlex.join(["nptrpo", *options.words])
        say(f"{interruption.signal.name}: stopped with {tuning.n_taken(study)} trials; go on with: {resume}")
        return 128 + interruption.signal
    return 1 if failed else 0


def _settled(options: argparse.Namespace) -> TuningSettings:
    """Return what the trials have in common, and print what they start from."""
    from npTRPO.agent.config import TRPOConfig
    from npTRPO.runs.presets import STEPS
    from npTRPO.runs.tuning import TuningSettings

    given = {key: value for key, value in vars(options).items() if key in OPTIONS}
    if "seed" in given:
        raise UsageError("trials have several seeds: give --seeds instead of --seed")
    start = {key: value for key, value in starting_point(options).items() if key not in ("seed", *given)}
    usual = start.pop(STEPS, DEFAULT_TIMESTEPS)
    if start and options.share is None:
        print(f"preset: {as_flags(start)}")
    try:
        TRPOConfig.from_dict({**start, **given})
        steps = options.total_timesteps or usual
        return TuningSettings(
            options.env,
            steps,
            tuple(options.seeds),
            options.eval_episodes,
            given,
            start,
            options.env_kwargs or {},
            tuple(options.wrappers or ()),
        )
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error


class _Watch:
    """Print the trials that end, and keep the options of the best in a file."""

    def __init__(self, study: Study, settings: TuningSettings, file: Path) -> None:
        from npTRPO.runs.tuning import ended

        self._study, self._settings, self._file = study, settings, file
        self._seen = {trial.number for trial in ended(study)}
        self._looked = 0.0

    def look(self) -> None:
        """Look at the study now."""
        from npTRPO.runs.tuning import best, ended

        new = [trial for trial in ended(self._study) if trial.number not in self._seen]
        for trial in new:
            self._seen.add(trial.number)
            print(self._line(trial), flush=True)
        found = best(self._study)
        if found is not None and (new or not self._file.exists()):
            self._write(found)

    def look_sometimes(self, _: Any) -> None:
        """Look at the study, if it wasn't looked at just now."""
        if time.monotonic() - self._looked >= _PAUSE:
            self.look()
            self._looked = time.monotonic()

    def conclude(self) -> None:
        """Say what is best."""
        from npTRPO.runs.tuning import best

        found = best(self._study)
        if found is None:
            print("no trial was trained to its end")
            return
        settings = self._settings
        words = ["nptrpo", "train", settings.env, "--preset", str(self._file)]
        words += [f"--env-kwargs={json.dumps(settings.env_kwargs)}"] if settings.env_kwargs else []
        words += [f"--wrapper={name}" for name in settings.wrappers]
        print(f"best is {self._line(found)}\nsaved {self._file}; {shlex.join(words)} trains with it")

    def _line(self, trial: FrozenTrial) -> str:
        from npTRPO.runs.tuning import EVALUATIONS

        n = max(trial.intermediate_values, default=0)
        stopped = f", stopped after evaluation {n} of {EVALUATIONS}" if n < EVALUATIONS else ""
        value = trial.intermediate_values.get(n, float("nan"))
        searched = {name: self._settings.options(trial.params)[name] for name in trial.params}
        return f"trial {trial.number}: return {value:.2f}{stopped}, with {as_flags(searched)}"

    def _write(self, trial: FrozenTrial) -> None:
        from npTRPO.runs.presets import write_preset

        seeds = ", ".join(map(str, self._settings.seeds))
        comment = f"{self._settings.env}: return {trial.value:.2f} in trial {trial.number}, on seeds {seeds}."
        write_preset(self._file, self._settings.options(trial.params), comment)


def _in_processes(
    options: argparse.Namespace, directory: Path, study: Study, interruption: Interruption, watch: _Watch
) -> bool:
    """Run the trials that are left in several processes; return whether one of them failed."""
    from npTRPO.runs.processes import Ended, train_in_processes
    from npTRPO.runs.tuning import n_taken

    left = max(0, options.trials - n_taken(study))
    jobs = min(options.jobs, left)
    warn_of_crowding(jobs, None)
    parser = argparse.ArgumentParser(add_help=False)
    for name in ("--jobs", "--out"):
        parser.add_argument(name)
    words = [*parser.parse_known_args(options.words)[1], "--out", str(directory)]
    shares = [left // jobs + (i < left % jobs) for i in range(jobs)]
    commands = {f"process {i}": [*words, "--share", str(share)] for i, share in enumerate(shares)}
    if commands and not n_taken(study):
        commands["process 0"].append("--first")
    failed = False

    def tell(name: str, how: Ended) -> None:
        nonlocal failed
        if how.status and not (how.stopped and interruption.signal is not None):
            failed = True
            say(f"{name} failed: {how.reason}")

    train_in_processes(
        commands,
        max(1, jobs),
        interruption,
        said=lambda name, line: say(f"{name}: {line}"),
        ended=tell,
        shown=watch.look_sometimes,
    )
    return failed
