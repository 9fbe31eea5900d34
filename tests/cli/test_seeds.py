"""Several seeds at once: what each run is, what fails, what stops all, and how it goes on."""

import contextlib
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npTRPO import cli
from npTRPO.cli.usage import seeds
from npTRPO.runs.processes import Ended
from npTRPO.runs.settings import read_config
from tests.faults import BATCH, assert_same_run, flags, progress
from tests.runs.test_signals import started, wait_for_rows

UPDATES = 7


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands write into the directory they are called in; their own find this checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def run(*words):
    return cli.main([str(word) for word in words])


def options(updates=UPDATES):
    """The options of a quick run but for its seed."""
    words = list(map(str, flags(updates)))
    at = words.index("--seed")
    return words[:at] + words[at + 2 :]


def alone(seed, updates=UPDATES):
    """The run of one seed, trained in this process."""
    directory = Path(f"alone-{seed}")
    assert run("train", *options(updates), "--seed", seed, "--out", directory) == 0
    return directory


# --- in processes ------------------------------------------------------------------------------------------


def test_the_run_of_each_seed_is_that_of_the_seed_alone(capfd):
    assert run("train", *options(), "--seeds", "0,2", "--jobs", "2", "--out", "runs") == 0
    out, err = capfd.readouterr()
    assert not re.sub("nptrpo: warning: 2 processes at once .* are more than the 1 cores.*\n", "", err)
    first, second, *lines = out.splitlines()
    assert first.startswith("maximises ")
    assert second == f"2 runs of {UPDATES * BATCH} steps in runs"
    assert sorted(line.split(": ")[0] for line in lines) == ["seed-0", "seed-2"]
    for i, line in enumerate(lines, 1):
        assert re.fullmatch(
            rf"seed-\d: finished at step {UPDATES * BATCH}, return \d+\.\d \({i}/2\)", line
        ), line
    for seed in (0, 2):
        assert_same_run(Path(f"runs/seed-{seed}"), alone(seed), UPDATES)
    capfd.readouterr()
    assert run("train", "--resume", "runs") == 0
    assert capfd.readouterr().out == (
        "all runs in runs have taken their steps: give more with --total-timesteps\n"
    )


FAILING = """
import sys
from pathlib import Path

import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv


class Arm(CartPoleEnv):
    def step(self, action):
        if "runs/seed-1" in sys.argv and not Path("repaired").exists():
            raise RuntimeError("the arm fell off")
        return super().step(action)


gymnasium.register("Arm-v0", Arm, max_episode_steps=50)
"""


def test_a_run_that_fails_stops_no_other_is_named_at_the_end_and_gone_on_with(tmp_path, monkeypatch, capfd):
    Path("arms.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    words = [*options()[1:], "--seeds", "1-2", "--out", "runs"]
    try:
        assert run("train", "arms:Arm-v0", *words) == 1
        out, err = capfd.readouterr()
        ended = out.splitlines()[2:]
        assert ended[0] == "seed-1: failed before its first update (1/2)"
        assert ended[1].startswith("seed-2: finished at step 224")
        failed, last = err.splitlines()
        assert failed.startswith("nptrpo: seed-1 failed: the arm fell off")
        resume = "nptrpo train arms:Arm-v0 --resume runs"
        assert last == f"nptrpo: 1 of 2 runs failed; go on with: {resume}"
        before = Path("runs/seed-2/agent.npz").stat().st_mtime_ns
        Path("repaired").touch()
        assert run(*shlex.split(resume)[1:]) == 0
        out, err = capfd.readouterr()
        first, line = out.splitlines()
        assert first == "1 of 2 runs in runs are finished"
        assert line.startswith("seed-1: finished at step 224")
        assert err == ""
        assert Path("runs/seed-2/agent.npz").stat().st_mtime_ns == before
        assert run("train", "arms:Arm-v0", *words[:-4], "--seed", 1, "--out", "alone") == 0
        assert_same_run(Path("runs/seed-1"), Path("alone"), UPDATES)
    finally:
        sys.modules.pop("arms", None)
        __import__("gymnasium").registry.pop("Arm-v0", None)


def children_of(process):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after = stat.read_text().rpartition(")")[2].split()
            found += [int(stat.parent.name)] if int(after[1]) == process.pid else []
    return found


def wait_until_gone(pids):
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.02)


linux = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="processes are found in Linux's /proc"
)


def begun(**streams):
    """Three seeds, of which two are being trained, without an end."""
    process = started(
        ["train", *options(10**6), "--seeds", "0-2", "--jobs", 2, "--out", "runs"], text=True, **streams
    )
    for seed in (0, 1):
        wait_for_rows(Path(f"runs/seed-{seed}"), process)
    return process


@linux
@pytest.mark.parametrize(
    ("numbers", "status"),
    [
        ([signal.SIGINT], 130),
        pytest.param([signal.SIGTERM], 143, marks=pytest.mark.slow),
        pytest.param([signal.SIGTERM, signal.SIGINT], 130, marks=pytest.mark.slow),
    ],
    ids=["SIGINT", "SIGTERM", "two"],
)
def test_a_signal_stops_all_runs_and_those_that_were_not_begun_are_gone_on_with_too(numbers, status, capfd):
    """Ctrl-C goes to the whole foreground, where the runs' own processes aren't."""
    process = begun(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    children = children_of(process)
    assert len(children) == 2
    for number in numbers:
        os.killpg(process.pid, number)
        time.sleep(0.01)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status
    wait_until_gone(children)
    assert [re.sub(r"\d+(,\d{3})*(\.\d)?", "n", line) for line in out.splitlines()[2:]] == 2 * [
        "seed-n: stopped at step n, return n (n/n)"
    ]
    stopping, last = err.strip().split("\n")
    assert stopping.startswith(f"nptrpo: {numbers[0].name}: stopping after this update")
    resume = "nptrpo train --resume runs --jobs 2"
    assert last == (f"nptrpo: {numbers[-1].name}: stopped with 0 of 3 runs finished; go on with: {resume}")
    updates = 5 + max(len(progress(Path(f"runs/seed-{seed}"))) for seed in (0, 1))
    assert run(*shlex.split(resume)[1:], "--total-timesteps", updates * BATCH) == 0
    for seed in range(3):
        assert_same_run(Path(f"runs/seed-{seed}"), alone(seed, updates), updates)


@linux
@pytest.mark.slow
def test_no_run_outlives_the_process_that_began_it(tmp_path):
    process = begun(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = children_of(process)
    assert len(children) == 2
    process.kill()
    process.wait()
    wait_until_gone(children)


def test_a_terminal_shows_the_last_update_of_each_run(tmp_path):
    pytest.importorskip("rich", reason="what moves on a terminal is an extra")
    ours, theirs = pty.openpty()
    words = ["train", *options(40), "--seeds", "5", "--out", "runs"]
    process = started(words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # which is how a terminal ends
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert re.search(rb" steps +return +length .*\r\nseed-5 +[\d,]+ +[\d.]+ +\d+ ", shown)
    assert b"seed-5: finished at step 1,280" in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


# --- without processes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [("0-9", list(range(10))), ("0,2,5-7", [0, 2, 5, 6, 7]), ("3", [3]), (" 4-4, 1 ", [4, 1])],
)
def test_seeds_are_numbers_and_ranges_with_both_ends(text, found):
    assert seeds(text) == found


@pytest.fixture
def trained(monkeypatch):
    """What was asked of processes, which end at once as ``outcomes`` has it."""
    asked, outcomes = [], {}

    def train(commands, at_once, interruption, *, said, ended, shown):
        asked.append((dict(commands), at_once))
        for name in commands:
            said(name, "warning: it is cold")
            ended(name, outcomes.get(name, Ended(0, "")))

    monkeypatch.setattr("npTRPO.runs.processes.train_in_processes", train)
    monkeypatch.setattr("npTRPO._machine.cores", lambda: 2)
    return asked, outcomes


def test_each_run_has_its_config_before_the_first_begins_and_is_given_what_was_asked_for(trained, capsys):
    words = ["CartPole-v1", "--no-preset", "--net-arch", "3", "--gamma", "0.5", "--total-timesteps", "99"]
    many = ["--seeds", "7,3-4", "--jobs", "2", "--out", "a folder", "--log-interval", "9"]
    assert run("train", *many[:2], *words, *many[2:]) == 0
    [(commands, at_once)] = trained[0]
    assert at_once == 2
    assert commands == {
        f"seed-{seed}": [
            *("train", *words, "--seed", str(seed), "--out", f"a folder/seed-{seed}", "--overwrite")
        ]
        for seed in (7, 3, 4)
    }
    for seed in (3, 4, 7):
        settings, config, entropy = read_config(Path(f"a folder/seed-{seed}"))
        assert (settings.total_timesteps, config.seed, config.gamma, entropy) == (99, seed, 0.5, seed)
    out, err = capsys.readouterr()
    assert out.splitlines()[1] == "3 runs of 99 steps in a folder"
    assert err == "".join(f"nptrpo: seed-{seed}: warning: it is cold\n" for seed in (7, 3, 4))


def test_outcomes_are_counted_and_failures_are_said_at_the_end(trained, capsys):
    outcomes = {"seed-1": Ended(1, "it is broken"), "seed-2": Ended(-9, ""), "seed-3": Ended(70, "")}
    trained[1].update(outcomes)
    trained[1]["seed-4"] = Ended(143, "SIGTERM: stopped at step 32")  # by someone who sent it a signal alone
    assert run("train", *options(), "--seeds", "0-4", "--out", "runs") == 1
    out, err = capsys.readouterr()
    assert [line.split(" before")[0] for line in out.splitlines()[2:]] == [
        *("seed-0: finished", "seed-1: failed", "seed-2: failed", "seed-3: failed", "seed-4: stopped")
    ]
    assert err.splitlines()[5:] == [
        "nptrpo: seed-1 failed: it is broken",
        "nptrpo: seed-2 failed: it was killed by signal 9",
        "nptrpo: seed-3 failed: it ended with status 70",
        "nptrpo: seed-4 failed: SIGTERM: stopped at step 32",
        "nptrpo: 4 of 5 runs failed; go on with: nptrpo train --resume runs",
    ]


def test_of_runs_that_are_resumed_those_that_are_finished_are_left_out(trained, capsys):
    for seed in (2, 10):
        assert run("train", *options(), "--seed", seed, "--out", f"runs/seed-{seed}") == 0
    Path("runs/seed-2/agent.npz").unlink()
    assert run("train", "--resume", "runs", "--jobs", "2", "--log-interval", "5") == 0
    assert run("train", "--resume", "runs", "--total-timesteps", 10**6) == 0
    assert trained[0] == [
        ({"seed-2": ["train", "--resume", "runs/seed-2"]}, 2),
        (
            {
                name: ["train", "--total-timesteps", "1000000", "--resume", f"runs/{name}"]
                for name in ("seed-2", "seed-10")
            },
            1,
        ),
    ]
    trained[1]["seed-2"] = Ended(1, "it is broken")
    capsys.readouterr()
    assert run("train", "--resume", "runs", "--total-timesteps", 10**6) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("go on with: nptrpo train --resume runs --total-timesteps 1000000")


def test_seeds_may_be_added_to_a_folder_and_begun_again(trained, capsys):
    words = [*options(), "--out", "runs", "--seeds"]
    assert run("train", *words, "0-1") == 0
    assert run("train", *words, "2") == 0
    assert run("train", *words, "1-3", "--overwrite", "--gamma", "0.5") == 0
    gammas = [read_config(Path(f"runs/seed-{seed}"))[1].gamma for seed in range(4)]
    assert gammas == [0.99, 0.5, 0.5, 0.5]
    capsys.readouterr()
    assert run("train", *words, "3-4") == 2
    assert capsys.readouterr().err == (
        "nptrpo: runs/seed-3 exists already: go on with --resume runs, begin again with --overwrite, "
        "or choose another --out\n"
    )
    assert not Path("runs/seed-4").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--jobs 3", "3 processes at once (--jobs 3) are more than the 2 cores"),
        ("--jobs 2 --workers 2", "4 processes at once (--jobs 2, --workers 2) are more than the 2 cores"),
        ("--workers 3 --n-envs 4", "3 processes at once (--jobs 1, --workers 3) are more than the 2 cores"),
        ("--jobs 2", None),
        ("--workers 2", None),
        ("--jobs 9 --seeds 0-1", None),
    ],
)
def test_more_processes_than_cores_are_warned_of(words, said, trained, capsys):
    assert run("train", *options(), "--seeds", "0-4", "--out", "runs", *words.split()) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "cold" not in line]
    assert warned == ([f"nptrpo: warning: {said}, and slow each other down"] if said else [])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full, on systems that have it")
def test_output_that_cannot_be_written_stops_no_run():
    with Path("/dev/full").open("w") as full:
        words = ["train", *options(), "--seeds", "3", "--out", "runs"]
        process = started(words, stdout=full, stderr=subprocess.PIPE, text=True)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    first, second, last = err.splitlines()
    for line, begin in ((first, "maximises "), (second, "seed-3: finished at step 224")):
        assert line.startswith(f"nptrpo: {begin}")
        assert line.endswith("; this can't be written to stdout (No space left on device)")
    assert last == "nptrpo: [Errno 28] No space left on device"
    assert_same_run(Path("runs/seed-3"), alone(3), UPDATES)
