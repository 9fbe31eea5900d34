"""SIGINT, SIGTERM, full disks: what a run does when it is told to stop, or can't write."""

import contextlib
import errno
import gc
import os
import pty
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from npTRPO import TRPO, TRPOConfig
from npTRPO.runs.directory import RunDirectory, RunSettings
from npTRPO.runs.recorder import Failures
from npTRPO.runs.signals import Interruption
from tests.environments import Bandit, registered
from tests.faults import BATCH, EVERY, OPTIONS, assert_same_run, command, flags, progress, table

UPDATES = 8
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
both_signals = pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)


@pytest.fixture(scope="module")
def whole(nursery, tmp_path_factory):
    """A run that nothing happened to, and the changes of files in it."""
    directory = tmp_path_factory.mktemp("whole")
    done = nursery.run(*command(directory / "run", UPDATES, 2), cwd=directory)
    assert (done.status, done.err) == (0, "")
    return directory / "run", done.moments


def assert_resumed(nursery, line, directory, expected):
    """The command that a line of stderr prints ends the run as if nothing had happened."""
    words = shlex.split(line.partition("go on with: ")[2])
    assert words == ["nptrpo", "train", "--resume", str(directory)]
    again = re.search(r"; the ([\d,]+) after step ([\d,]+) will be taken again; ", line)
    stopped = re.search(r"stopped at step ([\d,]+)", line)[1]
    repeated, kept = again.groups() if again else ("0", stopped)
    stopped, repeated, kept = (int(number.replace(",", "")) for number in (stopped, repeated, kept))
    assert RunDirectory.resume(directory).agent.num_timesteps == kept == stopped - repeated
    done = nursery.run(*words[1:], cwd=directory.parent)
    assert (done.status, done.err) == (0, "")
    assert_same_run(directory, expected, UPDATES)


# --- signals ---------------------------------------------------------------------------------------------


@EVERY
def test_a_signal_at_any_change_of_the_files_stops_a_run_that_can_be_resumed(every, nursery, whole, tmp_path):
    """One signal and the other take turns."""
    expected, moments = whole
    stopped = 0
    for moment in range(every - 1, moments, every):
        number = list(STATUS)[moment % 2]
        directory = tmp_path / f"it's {moment}"  # a name that a shell must be told with care
        done = nursery.run(*command(directory, UPDATES, 2), cwd=tmp_path, signals_at=[(moment, number)])
        assert "Traceback" not in done.err
        if not done.err:  # before training began, where a signal does what it does to any process
            assert done.status in {signal.SIGINT: [130], signal.SIGTERM: [-15]}[number]
            assert stopped == 0
            assert nursery.run(*command(directory, UPDATES, 2), cwd=tmp_path).status == 0
            assert_same_run(directory, expected, UPDATES)
            continue
        stopped += 1
        first, last = done.err.strip().split("\n")
        assert first == f"nptrpo: {number.name}: stopping after this update; a second one stops at once"
        assert last.startswith(f"nptrpo: {number.name}: stopped at step ")
        assert done.status == STATUS[number]
        agent = TRPO.load(directory / "agent.npz")  # what has been learned is saved
        assert agent.n_updates == len(progress(directory))
        assert not list(directory.rglob("*.part"))
        assert_resumed(nursery, last, directory, expected)
    assert stopped >= 11 // every


@EVERY
@both_signals
def test_a_second_signal_stops_at_once_and_leaves_a_run_that_can_be_resumed(
    number, every, nursery, whole, tmp_path
):
    expected, moments = whole
    for moment in range(moments - 8, moments - 3, every):
        directory = tmp_path / f"run-{moment}"
        twice = [(moment, number), (moment, signal.SIGINT)]
        done = nursery.run(*command(directory, UPDATES, 2), cwd=tmp_path, signals_at=twice)
        assert done.status == 130
        assert "Traceback" not in done.err
        last = done.err.strip().split("\n")[-1]
        assert last.startswith("nptrpo: SIGINT: stopped at step ")
        assert not (directory / "agent.npz").exists()
        assert_resumed(nursery, last, directory, expected)


def test_signals_that_were_ignored_stay_so_and_others_are_given_back():
    """As a shell has it for what runs in the background."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with Interruption() as interruption:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
            assert interruption.signal is signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == before[1]
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_an_interruption_in_a_thread_is_left_to_the_main_one():
    def thread():
        with Interruption() as interruption:
            return interruption(None), signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(thread).result() == (True, signal.getsignal(signal.SIGINT))


def started(words, **options):
    """The command in a session of its own, as a terminal's foreground has it."""
    root = str(Path(__file__).parents[2])
    begin = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import tests.environments; from npTRPO.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", begin, *map(str, words)],
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": root, "PYTHONUNBUFFERED": "", "TERM": "xterm", "COLUMNS": "100"},
        **options,
    )


def wait_for_rows(directory, process, rows=2):
    until = time.monotonic() + 60
    while not (directory / "progress.csv").exists() or len(table(directory / "progress.csv")) < rows:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)


@both_signals
def test_a_signal_to_all_processes_of_asynchronous_environments_is_no_more_noise(number, tmp_path):
    """Ctrl-C goes to the whole foreground, and some supervisors' SIGTERM does too."""
    directory = tmp_path / "run"
    words = ["train", registered(Bandit), "--no-preset", "--out", directory, "--vectorization-mode", "async"]
    words += ["--n-envs", 2, "--n-steps", 16, "--eval-episodes", 0, "--total-timesteps", 10**7]
    process = started(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for_rows(directory, process)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == STATUS[number]
    lines = err.strip().split("\n")
    assert [line.split(": ")[:2] for line in lines] == [["nptrpo", number.name]] * 2
    assert lines[-1].endswith(f"go on with: nptrpo train --resume {directory}")
    with pytest.raises(ProcessLookupError):  # nobody is left of them
        os.killpg(process.pid, 0)


def test_a_terminal_has_its_cursor_back_after_an_interruption(tmp_path):
    pytest.importorskip("rich", reason="the progress bar is an extra")
    directory = tmp_path / "run"
    words = ["train", "CartPole-v1", "--no-preset", "--out", directory, "--total-timesteps", 10**7]
    words += ["--n-envs", 2, "--n-steps", 16, "--eval-episodes", 0]
    ours, theirs = pty.openpty()
    process = started(words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown, interrupted = b"", False
    with contextlib.suppress(OSError):  # which is how a terminal ends
        while part := os.read(ours, 4096):
            shown += part
            if not interrupted and (directory / "progress.csv").exists():
                interrupted = True
                process.send_signal(signal.SIGINT)
    os.close(ours)
    assert process.wait(timeout=60) == 130
    assert b"\x1b[?25l" in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert shown.decode().replace("\r", "").strip().endswith(f"go on with: nptrpo train --resume {directory}")


# --- what can't be written -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [400, 1300, 4500, *(pytest.param(size, marks=pytest.mark.slow) for size in (2000, 3000))]
)
def test_a_full_disk_does_not_end_training_and_is_said_at_once_and_at_the_end(size, nursery, whole, tmp_path):
    directory = tmp_path / "run"
    done = nursery.run(*command(directory, UPDATES, 2), cwd=tmp_path, file_size=size)
    assert done.status == 1
    *said, last = done.err.removesuffix("\n").split("\n")
    if not (directory / "config.json").exists():  # it can't even begin
        assert said == []
        assert re.fullmatch(rf"nptrpo: \[Errno 27\] File too large: '{directory}/config.json'", last)
    else:
        for line in said:
            assert re.fullmatch(
                r"nptrpo: .* can't be written (after update \d+ \(File too large\); training goes on|"
                r"at the end \(File too large\))",
                line,
            )
        whats = [re.match("nptrpo: (.*) can't", line)[1] for line in said]
        assert "agent.npz" in whats
        assert len(set(whats)) == len(whats)
        assert last.startswith("nptrpo: not all could be written in time: ")
        assert last.endswith(f"; still missing: {', '.join(sorted(whats))}")
    assert not list(tmp_path.rglob("*.part"))
    for file in directory.rglob("*.npz"):
        assert TRPO.load(file).theta.size
    for file in directory.glob("*.csv"):
        content = file.read_text()
        assert content == "" or content.endswith("\n")
        assert len({line.count(",") for line in content.splitlines()}) <= 1
    done = nursery.run(*command(directory, UPDATES, 2), cwd=tmp_path)  # there is room again
    assert (done.status, done.err) == (0, "")
    assert_same_run(directory, whole[0], UPDATES)


@pytest.mark.parametrize("stop", [0, 7, 16])
def test_a_disk_that_is_full_for_a_while_costs_nothing(stop, nursery, tmp_path):
    """What could not be written comes later, and no checkpoint comes before its rows."""
    updates, usual, lines = 20, resource.getrlimit(resource.RLIMIT_FSIZE), []
    expected, found = tmp_path / "expected", tmp_path / "found"
    assert nursery.run(*command(expected, updates, 2), cwd=tmp_path).status == 0

    def disk(record):
        if record.n_updates in (2, 11):
            size = 700 if record.n_updates == 2 else usual[0]
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
        if record.n_updates == stop:
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt) if stop else contextlib.nullcontext():
            small(found, updates, eval_episodes=2).train([disk], Failures(lines.append))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert "progress.csv can't be written after update 3 (File too large); training goes on" in lines
    if stop != 7:
        assert "progress.csv is written again after update 12; training goes on" in lines
    if stop:
        assert (found / "checkpoints" / "000000012.npz").exists() == (stop == 16)
        assert len(progress(found)) == {7: 2, 16: 16}[stop]
        assert nursery.run("train", "--resume", found, cwd=tmp_path).status == 0
    else:
        assert lines[-1].startswith("not all could be written in time: ")
        assert lines[-1].endswith("; nothing is missing now")
    assert_same_run(found, expected, updates)


def small(path, updates=6, eval_episodes=0):
    settings = RunSettings("CartPole-v1", updates * BATCH, eval_episodes)
    return RunDirectory.create(path, settings, TRPOConfig(**OPTIONS))


def refusing(number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), "somewhere")

    return refuse


@pytest.mark.parametrize(
    "number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EIO], ids=errno.errorcode.get
)
def test_a_directory_that_becomes_read_only_does_not_end_training(number, tmp_path, monkeypatch):
    """New files and new names are refused, as root is refused nothing by permissions."""
    small(tmp_path / "expected").train()
    run, lines = small(tmp_path / "run"), []

    def read_only(record):
        if record.n_updates == 2:
            monkeypatch.setattr(os, "replace", refusing(number))

    agent = run.train([read_only], Failures(lines.append))
    assert agent.n_updates == 6
    why = os.strerror(number)
    assert lines[:2] == [
        f"the checkpoint can't be written after update 3 ({why}); training goes on",
        f"agent.npz can't be written at the end ({why})",
    ]
    assert lines[2].endswith("still missing: agent.npz, the checkpoint")
    monkeypatch.undo()
    assert not run.finished
    RunDirectory.resume(tmp_path / "run").train()
    assert_same_run(tmp_path / "run", tmp_path / "expected", 6)


def test_a_run_that_cannot_begin_leaves_no_file_open(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX", reason="its writer is what fails")
    monkeypatch.setattr("npTRPO.runs.recorder.TensorBoardWriter", refusing(errno.EROFS))
    with pytest.raises(OSError, match="Read-only"):
        small(tmp_path / "run").train()
    gc.collect()  # of a file that is open still, Python warns, which fails the test


def test_from_python_what_cannot_be_written_is_warned_about(tmp_path, monkeypatch):
    run = small(tmp_path / "run")

    (tmp_path / "run" / "checkpoints").mkdir()
    monkeypatch.setattr(os, "replace", refusing(errno.EROFS))
    with pytest.warns(RuntimeWarning) as caught:
        run.train()
    assert len(caught) == 3
    assert "the checkpoint can't be written after update 3" in str(caught[0].message)


def test_a_run_whose_rows_are_missing_is_not_finished(whole, tmp_path):
    """An agent may find room at the end where its rows did not."""
    directory = shutil.copytree(whole[0], tmp_path / "run")
    rows = (directory / "progress.csv").read_text().splitlines(keepends=True)
    (directory / "progress.csv").write_text("".join(rows[:-1]))
    run = RunDirectory.resume(directory)
    assert not run.finished
    run.train()
    assert RunDirectory.resume(directory).finished
    assert_same_run(directory, whole[0], UPDATES)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full, on systems that have it")
def test_output_that_cannot_be_written_is_a_failure_on_one_line_and_does_not_end_training(tmp_path):
    with Path("/dev/full").open("w") as full:
        words = ["train", *flags(6, 0), "--out", tmp_path / "run"]
        both = [
            started(each, stdout=full, stderr=subprocess.PIPE, text=True) for each in (words, ["presets"])
        ]
        err, of_presets = (process.communicate(timeout=60)[1] for process in both)
    assert [process.returncode for process in both] == [1, 1]
    assert of_presets == "nptrpo: [Errno 28] No space left on device\n"
    assert TRPO.load(tmp_path / "run" / "agent").n_updates == 6
    first, again, last = err.splitlines()
    why = "No space left on device"
    assert first == f"nptrpo: the log can't be written after update 1 ({why}); training goes on"
    assert again.startswith("nptrpo: not all could be written in time: the log can't")
    assert last == "nptrpo: [Errno 28] No space left on device"
