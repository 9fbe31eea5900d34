"""What one sees of a run: a bar on a terminal, lines elsewhere, and events for TensorBoard."""

import contextlib
import os
import platform
import pty
import re
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from npTRPO import TRPO, TRPOConfig, cli
from npTRPO.agent.logging import TensorBoardWriter, header
from npTRPO.runs.directory import RunDirectory, RunSettings
from tests.agent.test_logging import Terminal, events
from tests.environments import Counter

ROOT = Path(__file__).parents[2]
QUICK = ["CartPole-v1", "--no-preset", "--n-envs", "2", "--n-steps", "16", "--net-arch", "4", "--seed", "0"]
QUICK += ["--total-timesteps", "128", "--eval-episodes", "0", "--out", "run"]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
MAIN = "from npTRPO.__main__ import main\nimport sys\nsys.argv = ['nptrpo', *{arguments!r}]\nsys.exit(main())"
BAR = """
from npTRPO import TRPO
TRPO("MlpPolicy", "CartPole-v1", n_envs=2, n_steps=16, net_arch=(4,), seed=0).learn(64, progress_bar=True)
"""


def on_a_terminal(program, cwd, columns=120):
    """Status and text of a Python program whose input and output are a pseudo-terminal."""
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, columns))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        environment.pop(name, None)  # pytest-xdist sets some, and rich heeds them all
    both = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program], cwd=cwd, env=environment, **both
    )
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # which is how a terminal ends
        while part := os.read(screen, 4096):
            shown += part
    os.close(screen)
    return process.wait(timeout=60), shown.decode()


def frames(text):
    """What one saw, one state of the bar after the other, without colours and movements."""
    return [line.strip() for line in re.split(r"[\r\n]+", ESCAPES.sub("", text)) if line.strip()]


# --- the bar ---------------------------------------------------------------------------------------------

SPEED = r"[\d,]+ steps/s"
STATE = re.compile(
    rf"(?P<done>[\d,]+)/128 steps\s+\S+(\s+\S+)?\s+return (?P<return>[\d.–]+)\s+"
    rf"KL (?P<kl>[\d.]+)/0\.01\s+{SPEED}\s+(?P<left>[\d:-]+)"
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What ``nptrpo train`` shows on a terminal."""
    pytest.importorskip("rich", reason="the progress bar is rich's")
    directory = tmp_path_factory.mktemp("terminal")
    status, text = on_a_terminal(MAIN.format(arguments=["train", *QUICK]), directory)
    assert status == 0, text
    assert (directory / "run" / "agent.npz").exists()
    return text


def test_a_terminal_shows_return_kl_against_delta_speed_and_time_left(seen):
    last = [match for match in map(STATE.search, frames(seen)) if match][-1]
    assert last["done"] == "128"
    assert 8 <= float(last["return"]) <= 500
    assert 0 < float(last["kl"]) <= 0.01
    assert last["left"] == "0:00:00"


def test_the_bar_begins_empty_and_without_figures_it_does_not_have_yet(seen):
    first = frames(seen)[1]  # after a line on what is maximised
    assert first.startswith("0/128 steps")
    assert "return –" in first
    assert "KL –" in first
    assert "nan" not in seen


def test_a_return_that_is_not_there_yet_is_a_dash(tmp_path):
    pytest.importorskip("rich", reason="the progress bar is rich's")
    status, text = on_a_terminal(BAR.replace("n_steps=16", "n_steps=1").replace("64,", "6,"), tmp_path)
    last = frames(text)[-1]
    assert status == 0
    assert last.startswith("6/6 steps")
    assert header() not in text
    assert re.search(r"return –  KL [\d.]+/0\.01", last)


def test_the_bar_takes_the_place_of_the_lines_and_gives_the_cursor_back(seen):
    assert header().split()[0] not in [frame.split()[0] for frame in frames(seen)]
    assert "tries" not in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert frames(seen)[-1] == "saved run/agent.npz; nptrpo evaluate run/agent.npz measures it"


def test_the_bar_fits_a_narrow_terminal(tmp_path):
    pytest.importorskip("rich", reason="the progress bar is rich's")
    status, text = on_a_terminal(MAIN.format(arguments=["train", *QUICK]), tmp_path, columns=60)
    assert status == 0
    assert all(len(frame) <= 60 for frame in frames(text)[1:-1])


def test_train_on_a_terminal_without_rich_prints_lines(tmp_path, monkeypatch):
    """The bar is an extra, and training is not."""
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal())
        patch.setitem(sys.modules, "rich", None)
        assert cli.main(["train", *QUICK]) == 0
        lines = sys.stdout.getvalue().splitlines()
    assert lines[1] == header()
    assert [line.split()[0] for line in lines[2:6]] == ["32", "64", "96", "128"]


@pytest.mark.parametrize(("interval", "shown"), [(1, [32, 64, 96, 128]), (3, [96]), (9, [])])
def test_a_pipe_gets_plain_lines_thinned_by_the_log_interval(interval, shown, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *QUICK, "--log-interval", str(interval)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    _, first, *lines, _ = out.splitlines()
    assert first == header()
    assert [int(line.split()[0]) for line in lines] == shown


# --- TensorBoard -----------------------------------------------------------------------------------------


def shown(directory):
    """What TensorBoard shows: a start at a step hides what came before it from that step on."""
    curves = {}
    for path in sorted(directory.glob("events.out.tfevents.*")):
        for event in events(path):
            if event.HasField("session_log"):
                assert event.session_log.status == event.session_log.START
                for curve in curves.values():
                    curve[:] = [point for point in curve if point[0] < event.step]
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


class Stop(Exception):
    pass


@pytest.fixture
def run(tmp_path):
    """Makes runs of ten updates, with checkpoints at every fourth."""
    config = TRPOConfig(n_envs=2, n_steps=16, net_arch=(4,), seed=0, checkpoint_interval=4)

    def make(name, stop_at=None):
        def stop(record):
            if record.n_updates == stop_at:
                raise Stop

        made = RunDirectory.create(tmp_path / name, RunSettings("CartPole-v1", 320, 0), config)
        with contextlib.suppress(Stop):
            made.train([stop])
        assert made.agent.n_updates == (stop_at or 10)
        return tmp_path / name

    return make


def test_a_run_writes_events_under_the_names_of_stable_baselines(run):
    pytest.importorskip("tensorboardX", reason="it brings the format of the events")
    curves = shown(run("whole"))
    assert {"rollout/ep_rew_mean", "time/fps", "train/kl_divergence_loss", "train/explained_variance"} <= set(
        curves
    )
    for tag, curve in curves.items():
        steps = [step for step, _ in curve]
        assert steps == ([32 * n for n in range(1, 11)] if "rollout" not in tag else steps), tag
    assert all(0 <= kl <= 0.01001 for _, kl in curves["train/kl_divergence_loss"])
    first = events(next((run("other")).glob("events.*")))[0]
    assert first.file_version == "brain.Event:2"


@pytest.mark.parametrize("stop_at", [2, 5, 9])
def test_a_resumed_run_shows_every_update_once(stop_at, run):
    pytest.importorskip("tensorboardX", reason="it brings the format of the events")
    whole, broken = run("whole"), run("broken", stop_at)
    RunDirectory.resume(broken).train()
    assert len(list(broken.glob("events.*"))) == 2
    found, expected = shown(broken), shown(whole)
    assert [step for step, _ in found.pop("time/fps")] == [32 * n for n in range(1, 11)]
    expected.pop("time/fps")
    assert found == expected


def test_events_are_on_disk_as_soon_as_the_update_is_over(tmp_path):
    """A process that is killed takes nothing with it."""
    pytest.importorskip("tensorboardX", reason="it brings the format of the events")
    counts = []

    def look(record):
        counts.append(sum(event.step == record.num_timesteps for event in events(next(tmp_path.glob("e*")))))

    writer = TensorBoardWriter(tmp_path)
    agent = TRPO("MlpPolicy", Counter(), n_steps=8, net_arch=(4,), seed=0)
    agent.learn(24, callback=[writer, look])
    writer.close()
    assert counts == [10, 10, 10]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_an_error_and_no_endless_wait(tmp_path, monkeypatch):
    """tensorboardX's own writer waits for a thread that died of it."""
    pytest.importorskip("tensorboardX", reason="it brings the format of the events")
    monkeypatch.setattr("time.time", lambda: 0)
    name = f"events.out.tfevents.0.000000.{platform.node()}.{os.getpid()}"
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        TensorBoardWriter(tmp_path)


def test_a_run_without_tensorboardx_does_without_events(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    path = run("plain")
    assert TRPO.load(path / "agent").n_updates == 10
    assert not list(path.glob("events.*"))
    shutil.rmtree(path)
