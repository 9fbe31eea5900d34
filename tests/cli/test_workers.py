"""``nptrpo train --workers``: the same files as without, and nothing left running."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npTRPO import TRPO, cli

SHORT = ["--total-timesteps", 2400, "--n-envs", 4, "--n-steps", 60, "--eval-episodes", 2, "--seed", 1]


def train(*arguments):
    """Run the command in this process, and return the exit status."""
    return cli.main(["train", *map(str, arguments)])


def rows(directory):
    """The rows of progress.csv without what depends on time."""
    with (directory / "progress.csv").open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key not in ("time_elapsed", "steps_per_second")}
            for row in csv.DictReader(file)
        ]


def learned(directory):
    """What an agent is and has learned, to the bit."""
    agent = TRPO.load(directory / "agent.npz")
    return agent.config, {name: array.tobytes() for name, array in agent.learner.arrays().items()}


def children(pid):
    """Processes that a process has started and not waited for."""
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def is_running(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_workers_leave_the_files_that_one_process_leaves(tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    assert train("CartPole-v1", *SHORT, "--n-shards", 2, "--out", one) == 0
    capsys.readouterr()
    assert train("CartPole-v1", *SHORT, "--workers", 2, "--out", two) == 0
    assert "2 shards in 2 worker processes\n" in capsys.readouterr().out
    assert rows(one) == rows(two)
    assert learned(one) == learned(two)
    assert (one / "config.json").read_text() == (two / "config.json").read_text()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="it reads Linux's /proc")
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_a_signal_leaves_no_process_and_a_run_that_goes_on_without_workers(number, tmp_path, request):
    """The signal goes to all, as the terminal's Ctrl-C does; SIGKILL to the first process alone."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    options = [*SHORT[2:], "--checkpoint-interval", 2, "--total-timesteps"]
    command = ["train", "CartPole-v1", *options, 10**8, "--workers", 2, "--out", run]
    process = subprocess.Popen(
        [sys.executable, "-m", "npTRPO", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # which shells' background jobs ignore
    )
    request.addfinalizer(process.kill)  # so that none goes on for ever if this test fails
    while not (run / "checkpoints" / "000000004.npz").exists():
        assert process.poll() is None
        time.sleep(0.02)
    pids = children(process.pid)
    assert len(pids) >= 2
    if number is signal.SIGKILL:
        process.kill()
    else:
        for pid in [process.pid, *map(int, pids)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-9 if number is signal.SIGKILL else 128 + number)
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))
    if number is not signal.SIGKILL:
        assert f"{number.name}: stopped at step" in said
        assert "is replaced" not in said
    taken = 240 * (1 + max(int(row["n_updates"]) for row in rows(run)))
    assert train("--resume", run, "--total-timesteps", taken) == 0
    assert train("CartPole-v1", *options, taken, "--n-shards", 2, "--out", whole) == 0
    assert learned(run) == learned(whole)
    assert rows(run) == rows(whole)


def test_a_run_that_was_begun_without_workers_has_one_shard(tmp_path, capsys):
    run = tmp_path / "run"
    assert train("CartPole-v1", *SHORT, "--out", run) == 0
    assert json.loads((run / "config.json").read_text())["config"]["n_shards"] is None
    assert train("--resume", run, "--total-timesteps", 4800, "--workers", 2) == 1
    assert "workers=2 is more than n_shards=1" in capsys.readouterr().err
    assert train("--resume", run, "--total-timesteps", 4800, "--workers", 1) == 0
