"""Runs that things happen to, compared with one that nothing happened to.

``python -m tests.faults`` kills runs at a hundred random moments, and at every change of their files, resumes
each, and says what was lost; the tests do the same with fewer.
"""

import argparse
import csv
import re
import signal
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.children import Nursery

OPTIONS = {"n_envs": 2, "n_steps": 16, "net_arch": (4,), "checkpoint_interval": 3, "seed": 0}
BATCH = 32
# Of how many moments a test tries one: of nine at ordinary times, and each where time is no matter.
EVERY = pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
TIMES = ("time_elapsed", "steps_per_second")


def flags(updates, eval_episodes=2, **changed):
    words = ["CartPole-v1", "--no-preset", "--total-timesteps", updates * BATCH]
    words += ["--eval-episodes", eval_episodes]
    for name, value in (OPTIONS | changed).items():
        words += ["--" + name.replace("_", "-"), *(value if isinstance(value, tuple) else [value])]
    return words


def command(directory, updates, eval_episodes):
    """What to say next to a run: begin, or go on."""
    if (directory / "config.json").exists():
        return ["train", "--resume", directory]
    return ["train", *flags(updates, eval_episodes), "--out", directory]


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def progress(directory):
    """The rows of progress.csv but for their times."""
    return [
        {name: text for name, text in row.items() if name not in TIMES}
        for row in table(directory / "progress.csv")
    ]


def files(directory):
    """What a run leaves, by name; TensorBoard's files and the times are compared elsewhere."""
    found = {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "tfevents" not in path.name and path.name != "progress.csv"
    }
    # The commit is that of the directory one is in, which may be this checkout or not.
    found["config.json"] = re.sub(rb'"commit": .*', b"", found["config.json"])
    return found


def assert_same_run(found, expected, updates):
    """Both have all updates once, with the same figures, and the same bits in every file."""
    assert [int(row["n_updates"]) for row in progress(found)] == list(range(1, updates + 1))
    assert progress(found) == progress(expected)
    times = [float(row["time_elapsed"]) for row in table(found / "progress.csv")]
    assert times == sorted(times)
    assert files(found).keys() == files(expected).keys()
    for name, content in files(expected).items():
        assert files(found)[name] == content, name


def stage(directory):
    """What a process was doing that was killed, as far as its files tell."""
    parts = {path.name.split(".")[0] for path in directory.rglob("*.part")}
    if parts:
        return f"while it wrote {'a checkpoint' if min(parts).isdigit() else min(parts)}"
    if not (directory / "config.json").exists():
        return "before its config was written"
    if (directory / "agent.npz").exists():
        return "after its agent was written"
    return f"after {len(progress(directory)) if (directory / 'progress.csv').exists() else 0} updates"


def kill_at_random(nursery, scratch, updates, kills, seed=0):
    """Kill runs at random moments and resume each until it is done: it must be as if nothing had happened.

    Returns the stages at which they were killed.
    """
    expected, stages, victims = scratch / "whole", [], 0
    lifetime = nursery.run(*command(expected, updates, 2), cwd=scratch).seconds
    rng = np.random.default_rng(seed)
    while len(stages) < kills:
        victims += 1
        directory, status = scratch / f"victim-{victims}", -9
        while status == -9:
            signals = [(rng.uniform(0, lifetime), signal.SIGKILL)] if len(stages) < kills else []
            done = nursery.run(*command(directory, updates, 2), cwd=scratch, signals=signals)
            status = done.status
            if status == -9:
                stages.append(stage(directory))
        lifetime = min(lifetime, done.seconds + 0.1)  # a busy machine may have been slower before
        assert (status, done.err) == (0, "")
        assert_same_run(directory, expected, updates)
    return stages


def kill_at_changes(
    nursery,
    scratch,
    updates,
    words,
    prepare=lambda directory: None,
    expected=None,
    every=1,
):
    """Kill a command just before changes of its files, and repeat it, as :func:`kill_at_random` does.

    Parameters
    ----------
    words
        The command for a directory.
    prepare
        Makes what is in a directory before.
    expected
        A run that nothing happened to; unless given, one that the command makes.
    every
        Of how many changes the last is chosen.
    """
    counted, stages = scratch / "counted", []
    prepare(counted)
    moments = nursery.run(*words(counted), cwd=scratch).moments
    for moment in range(every - 1, moments, every):
        directory = scratch / f"changing-{moment}"
        prepare(directory)
        killed = nursery.run(*words(directory), cwd=scratch, signals_at=[(moment, signal.SIGKILL)])
        assert killed.status == -9
        stages.append(stage(directory))
        done = nursery.run(*words(directory), cwd=scratch)
        assert (done.status, done.err) == (0, "")
        assert_same_run(directory, expected or counted, updates)
    return stages


def main():
    parser = argparse.ArgumentParser(description="Kill training runs, resume them, and compare the bits.")
    parser.add_argument("--kills", type=int, default=100, help="at random moments (default: 100)")
    parser.add_argument("--updates", type=int, default=30, help="of each run (default: 30)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Nursery() as nursery:
        at_random = kill_at_random(nursery, Path(name), options.updates, options.kills, options.seed)
        words = partial(command, updates=options.updates, eval_episodes=1)
        at_changes = kill_at_changes(nursery, Path(name), options.updates, words)
    for kind, stages in (("at a random moment", at_random), ("just before a change of a file", at_changes)):
        print(f"{len(stages)} kills {kind}; lost after resuming: nothing")
        counted = Counter(re.sub(r"after (\d+) updates", "between or in updates", each) for each in stages)
        for each, count in counted.most_common():
            print(f"    {count:4d} {each}")


if __name__ == "__main__":
    main()
