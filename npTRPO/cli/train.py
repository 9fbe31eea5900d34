"""``nptrpo train``: train an agent and keep the run, or go on with one."""

import argparse
import contextlib
import importlib.util
import shlex
from pathlib import Path

from npTRPO.agent.record import Callback, Record
from npTRPO.agent.trpo import TRPO
from npTRPO.cli.config_flags import add_config_flags
from npTRPO.cli.seeds import seed_runs, train_seeds
from npTRPO.cli.settle import DEFAULT_TIMESTEPS, add_preset_flags, free_directory, refuse_settings, settled
from npTRPO.cli.usage import UsageError, add_environment_flags, at_least, say, seconds, seeds, workers
from npTRPO.runs.directory import RunDirectory
from npTRPO.runs.settings import RunSettings, named_once_more
from npTRPO.trust_region.update import UpdateOutcome


def add_train_flags(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("env", nargs="?", help="id of a Gymnasium environment, such as CartPole-v1")
    parser.add_argument(
        "--total-timesteps", type=at_least(1), help=f"environment steps (default: {DEFAULT_TIMESTEPS})"
    )
    add_environment_flags(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--out", type=Path, metavar="DIR", help="directory for the run (default: a new one, runs/ENV)"
    )
    where.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="go on with the run in this directory, or with those in it that --seeds made",
    )
    parser.add_argument(
        "--seeds",
        type=seeds,
        metavar="SEEDS",
        help="train once with each of several seeds, such as 0-9 or 0,2,5-7 (both ends included), in "
        "processes and directories of their own: DIR/seed-0, DIR/seed-1, …",
    )
    parser.add_argument(
        "--jobs", type=at_least(1), metavar="INT", help="how many seeds are trained at once (default: 1)"
    )
    add_preset_flags(parser)
    parser.add_argument("--overwrite", action="store_true", help="begin again in a directory that has a run")
    parser.add_argument(
        "--eval-episodes",
        type=at_least(0),
        help=f"episodes per evaluation; 0 for none (default: {RunSettings.eval_episodes})",
    )
    parser.add_argument(
        "--env-timeout",
        type=seconds,
        metavar="SECONDS",
        help="stop if the environments take longer for a step; those that hang in foreign code need "
        "--vectorization-mode async (default: wait for ever)",
    )
    parser.add_argument(
        "--workers",
        type=workers,
        metavar="INT",
        help='processes to train in, or "auto" for as many as there are cores; or "ray", or the address of a '
        "Ray cluster; they change the speed and not what is learned, which depends on --n-shards (default: "
        "this process alone)",
    )
    parser.add_argument(
        "--log-interval", type=at_least(1), default=1, help="updates between two lines of output (default: 1)"
    )
    add_config_flags(parser)


def train(options: argparse.Namespace) -> int:
    """Train an agent, or one with each seed, and return the exit status."""
    from npTRPO.agent.logging import ProgressBar, printer
    from npTRPO.runs.recorder import Failures
    from npTRPO.runs.signals import Interruption
    from npTRPO.sampling.environments import force_close

    if options.seeds is not None or (options.resume is not None and seed_runs(options.resume)):
        return train_seeds(options)
    if options.jobs is not None:
        raise UsageError("--jobs is for several runs: give --seeds, or --resume with the folder of such runs")
    run = _new_run(options) if options.resume is None else _resumed_run(options)
    directory, total = run.path, run.settings.total_timesteps
    if run.finished:
        print(f"{directory} has taken its {total:,} steps: give more with --total-timesteps")
        return 0
    if options.resume is not None:
        kept, taken = run.agent.num_timesteps, run.steps_taken()
        again = f"; the {taken - kept:,} from there to step {taken:,} are taken again" if taken > kept else ""
        print(f"resumed at step {kept:,}{again}")
    print(f"maximises {run.agent.config.objective}")
    if run.agent.workers is not None:
        n_shards = run.agent.config.n_shards
        there = run.agent.workers
        where = f"{there} worker processes" if isinstance(there, int) else "actors of Ray"
        print(f"{n_shards} {'shards' if n_shards != 1 else 'shard'} in {where}")
    with contextlib.ExitStack() as stack:
        environments = run.agent.env
        stack.callback(force_close, environments)
        interruption = stack.enter_context(Interruption())
        failures = Failures(say)
        watch = printer(options.log_interval)
        if importlib.util.find_spec("rich") is not None:
            watch = stack.enter_context(ProgressBar(total, run.agent.num_timesteps, options.log_interval))
        try:
            log = failures.guarded("the log", _Log(watch, run.agent))
            run.train([log, _report_refusal, interruption], failures)
            if environments is not None:
                environments.close()
        except (Exception, KeyboardInterrupt):  # whatever follows from the signal
            if interruption.signal is None:
                raise
    if interruption.signal is not None:
        kept, taken = run.steps_kept(), run.agent.num_timesteps
        again = f"; the {taken - kept:,} after step {kept:,} will be taken again" if taken > kept else ""
        resume = shlex.join(["nptrpo", "train", *named_once_more(run.settings), "--resume", str(directory)])
        say(f"{interruption.signal.name}: stopped at step {taken:,}{again}; go on with: {resume}")
        return 128 + interruption.signal
    target = directory / "agent.npz"
    if not failures.missing:
        named = named_once_more(run.settings, "--env=")
        print(f"saved {target}; {shlex.join(['nptrpo', 'evaluate', str(target), *named])} measures it")
    return 1 if failures.lines else 0


def _report_refusal(record: Record) -> None:
    """Report an update in which nothing was learned because its result isn't finite."""
    outcome = record.update.outcome
    if outcome is UpdateOutcome.NOT_FINITE:
        say(f"warning: update {record.n_updates} is refused. {outcome.value}")


class _Log:
    """Print the lines of updates, and once that no checkpoint is written as no episode has ended."""

    def __init__(self, watch: Callback, agent: TRPO) -> None:
        self._watch, self._agent, self._said = watch, agent, False

    def __call__(self, record: Record) -> None:
        self._watch(record)
        resets, interval = self._agent.resets, self._agent.config.checkpoint_interval
        if not self._said and interval and resets.put_off(record.n_updates, interval):
            self._said = True
            print(
                f"no episode has ended in {record.n_updates - resets.last} updates: the next checkpoint and "
                f"evaluation wait for one, so as not to cut it off, until update {resets.latest(interval)} "
                f"at the latest",
                flush=True,
            )


def _resumed_run(options: argparse.Namespace) -> RunDirectory:
    refuse_settings(options)
    return RunDirectory.resume(
        options.resume,
        options.total_timesteps,
        options.env_timeout,
        options.env,
        options.workers,
        options.env_kwargs,
        options.wrappers,
    )


def _new_run(options: argparse.Namespace) -> RunDirectory:
    settings, config = settled(options)
    directory = options.out or free_directory(options.env)
    try:
        return RunDirectory.create(directory, settings, config, options.overwrite, options.workers)
    except FileExistsError as error:
        raise UsageError(str(error)) from error
