"""``nptrpo train --seeds``: a run for each of several seeds, each trained in a process of its own."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import re
import shlex
import signal
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npTRPO.cli.settle import free_directory, refuse_settings, run_settings, settled
from npTRPO.cli.usage import UsageError, say

if TYPE_CHECKING:
    from npTRPO.runs.processes import Ended

_NAME = re.compile(r"seed-(\d{1,18})", re.ASCII)


def seed_runs(folder: Path) -> list[Path]:
    """Return the runs that ``--seeds`` made in a folder, in the order of their seeds; none if it is a run."""
    if (folder / "config.json").exists():
        return []
    found = [file.parent for file in folder.glob("seed-*/config.json") if _NAME.fullmatch(file.parent.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("seed-")))


def train_seeds(options: argparse.Namespace) -> int:
    """Train with several seeds, or go on with those in a folder, and return the exit status."""
    from npTRPO.runs.processes import train_in_processes
    from npTRPO.runs.settings import named_once_more
    from npTRPO.runs.signals import Interruption

    jobs = options.jobs or 1
    with Interruption() as interruption, _board() as show:
        folder, commands = _begun(options) if options.resume is None else _resumed(options)
        if not commands:
            print(f"all runs in {folder} have taken their steps: give more with --total-timesteps")
            return 0
        warn_of_crowding(min(jobs, len(commands)), options.workers)
        ended: dict[str, Ended] = {}

        def said(name: str, line: str) -> None:
            # That it stops after the update, as it was told to, each would say once more.
            if interruption.signal is None or line.partition(":")[0] not in signal.Signals.__members__:
                say(f"{name}: {line}")

        def tell(name: str, how: Ended) -> None:
            ended[name] = how
            verb = "finished" if how.status == 0 else "stopped" if how.stopped else "failed"
            _print(f"{name}: {verb} {_reached(folder / name)} ({len(ended)}/{len(commands)})")

        try:
            train_in_processes(commands, jobs, interruption, said=said, ended=tell, shown=show)
        except (Exception, KeyboardInterrupt):  # whatever follows from the signal
            if interruption.signal is None:
                raise
    signalled = interruption.signal is not None
    failed = {name: how for name, how in ended.items() if how.status and not (signalled and how.stopped)}
    for name, how in failed.items():
        say(f"{name} failed: {how.reason}")
    if not signalled and not failed:
        return 0
    words = options.words  # which may ask for more steps than the runs that have not begun know of
    if options.resume is None:
        named = named_once_more(run_settings(options, 1))
        at_once = [] if options.jobs is None else ["--jobs", str(jobs)]
        words = ["train", *named, "--resume", str(folder), *at_once]
    resume = shlex.join(["nptrpo", *words])
    n_finished = sum(how.status == 0 for how in ended.values())
    if interruption.signal is not None:
        what = f"{interruption.signal.name}: stopped with {n_finished} of {len(commands)} runs finished"
        status = 128 + interruption.signal
    else:
        what, status = f"{len(commands) - n_finished} of {len(commands)} runs failed", 1
    say(f"{what}; go on with: {resume}")
    return status


def _begun(options: argparse.Namespace) -> tuple[Path, dict[str, list[str]]]:
    """Begin a run for each seed, and return their folder and the commands that train them, by name.

    Each has its config.json before the first is trained, so that all are there when they are resumed; its
    own process begins it again.
    """
    from npTRPO.runs.directory import RunDirectory
    from npTRPO.sampling.environments import force_close

    if "seed" in vars(options):
        raise UsageError(f"--seed {options.seed} and --seeds exclude each other: name all seeds in --seeds")
    settings, config = settled(options)
    folder = options.out or free_directory(options.env)
    paths = {seed: folder / f"seed-{seed}" for seed in options.seeds}
    _check_folder(folder, list(paths.values()), options.overwrite)
    for seed, path in paths.items():
        of_seed = dataclasses.replace(config, seed=seed)
        run = RunDirectory.create(path, settings, of_seed, options.overwrite, options.workers)
        force_close(run.agent.env)
    count = f"{len(paths)} runs" if len(paths) > 1 else "1 run"
    _print(f"maximises {config.objective}\n{count} of {settings.total_timesteps:,} steps in {folder}")
    words = _others(options.words)
    return folder, {
        path.name: [*words, "--seed", str(seed), "--out", str(path), "--overwrite"]
        for seed, path in paths.items()
    }


def _check_folder(folder: Path, paths: Sequence[Path], overwrite: bool) -> None:
    """Raise an error unless the folder is new, or has nothing but runs of seeds, and none of these."""
    from npTRPO.runs.directory import is_taken
    from npTRPO.runs.settings import holds_run

    if holds_run(folder):
        raise UsageError(f"{folder} is a run itself, and no folder of them: choose another --out")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} exists already: it is no folder, so choose another --out")
    for path in sorted(folder.iterdir()) if folder.exists() else []:
        own = _NAME.fullmatch(path.name) and (holds_run(path) or not is_taken(path))
        if not own and not path.name.startswith("."):
            raise UsageError(f"{folder} holds {path.name}, which is no run of a seed: choose another --out")
    for path in paths:
        if not overwrite and holds_run(path):
            raise UsageError(
                f"{path} exists already: go on with --resume {folder}, begin again with --overwrite, or "
                f"choose another --out"
            )


def _resumed(options: argparse.Namespace) -> tuple[Path, dict[str, list[str]]]:
    """Return a folder of runs, and the commands that go on with those that aren't finished, by name."""
    refuse_settings(options)
    folder: Path = options.resume
    runs = seed_runs(folder)
    unfinished = [run for run in runs if not _finished(run, options)]
    if unfinished:
        _print(f"{len(runs) - len(unfinished)} of {len(runs)} runs in {folder} are finished")
    words = _others(options.words)
    return folder, {run.name: [*words, "--resume", str(run)] for run in unfinished}


def _finished(run: Path, options: argparse.Namespace) -> bool:
    from npTRPO.files.errors import UnreadableFileError
    from npTRPO.runs.directory import has_finished
    from npTRPO.runs.settings import read_config

    try:
        settings = read_config(run, options.env, options.env_kwargs, options.wrappers)[0]
    except UnreadableFileError:  # as its own process will report
        return False
    return has_finished(run, options.total_timesteps or settings.total_timesteps)


def _others(words: Sequence[str]) -> list[str]:
    """Return the words of a command but for what each of several runs is given, or isn't, by itself."""
    parser = argparse.ArgumentParser(add_help=False)
    for name in ("--seeds", "--jobs", "--out", "--resume", "--log-interval"):
        parser.add_argument(name)
    parser.add_argument("--overwrite", action="store_true")
    return parser.parse_known_args(words)[1]


def warn_of_crowding(jobs: int, workers: int | str | None) -> None:
    """Warn of more processes than there are cores."""
    from npTRPO._machine import cores
    from npTRPO.agent.shards import checked_workers

    each = checked_workers(workers)
    n_workers = each if isinstance(each, int) else 1
    if jobs * n_workers > cores():
        asked = f"--jobs {jobs}" + (f", --workers {n_workers}" if n_workers > 1 else "")
        say(
            f"warning: {jobs * n_workers} processes at once ({asked}) are more than the {cores()} cores, and "
            "slow each other down"
        )


def _print(line: str) -> None:
    """Print a line; that a disk is full ends no training, and only a reader that has gone does."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        say(f"{line}; this can't be written to stdout ({error.strerror or error})")


def _reached(run: Path) -> str:
    """Return how far a run has come, as its progress.csv says."""
    from npTRPO.files.tables import read_rows

    with contextlib.suppress(OSError, ValueError, KeyError):
        for row in deque(read_rows(run / "progress.csv"), maxlen=1):
            return f"at step {int(row['num_timesteps']):,}, return {float(row['episode_return']):.1f}"
    return "before its first update"


@contextlib.contextmanager
def _board() -> Iterator[Any]:
    """Yield a function that shows the last line of each run, on a terminal where rich is installed."""
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        yield lambda lines: None
        return
    from rich.live import Live
    from rich.text import Text

    from npTRPO.agent.logging import header

    shown: dict[str, str] = {}
    with Live(auto_refresh=False, transient=True, redirect_stderr=sys.stderr.isatty()) as live:

        def show(lines: Mapping[str, str]) -> None:
            if lines == shown:
                return
            shown.clear()
            shown.update(lines)
            width = max(map(len, lines), default=0)
            rows = [f"{'':{width}}{header()}", *(f"{name:{width}}{line}" for name, line in lines.items())]
            live.update(Text("\n".join(rows) if lines else "", no_wrap=True, overflow="ellipsis"))
            live.refresh()

        yield show
