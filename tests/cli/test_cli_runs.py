"""The command on runs and agents: begin, go on, begin again, plot, render; and every way to get it wrong."""

import json
import os
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from npTRPO import TRPO, cli
from npTRPO.runs import directory as run_module
from tests.children import Nursery
from tests.environments import Bandit, Counter, registered
from tests.runs.test_rendering import PAINTER, Painter

BANDIT = registered(Bandit)
QUICK = ["--n-envs", "2", "--n-steps", "8", "--net-arch", "3", "--seed", "0", "--eval-episodes", "0"]
ONE_LINE = re.compile(r"nptrpo: [^\n]+\n")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands write into the directory they are called in."""
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def train(*arguments, steps=32):
    return run("train", BANDIT, "--total-timesteps", steps, *QUICK, *arguments)


def all_files(directory="."):
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(directory).rglob("*"))
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run, and agents of all sorts, for commands to be tried on; none may change them."""
    directory = tmp_path_factory.mktemp("made")
    assert train("--out", directory / "run") == 0
    TRPO("MlpPolicy", PAINTER, net_arch=(3,), seed=0).save(directory / "painter")
    TRPO("MlpPolicy", "CartPole-v1", net_arch=(3,), seed=0).save(directory / "cartpole")
    nameless = TRPO("MlpPolicy", Painter(), net_arch=(3,), seed=0)
    nameless.save(directory / "nameless")
    (directory / "notes").write_text("notes")
    (directory / "empty.npz").touch()
    (directory / "pickle.npz").write_bytes(pickle.dumps({"theta": np.zeros(3)}))
    np.savez(directory / "arrays.npz", theta=np.zeros(3))
    (directory / "half.npz").write_bytes((directory / "painter.npz").read_bytes()[:1000])
    return directory


@pytest.fixture
def here(made):
    """Words that stand for those files."""
    return lambda words: [str(word).replace("MADE", str(made)) for word in words]


# --- begin, go on, begin again ---------------------------------------------------------------------------


def test_a_run_without_a_name_gets_the_next_that_is_free(capsys):
    names = []
    for _ in range(3):
        assert train() == 0
        names.append(re.search(r"saved (\S+)/agent.npz", capsys.readouterr().out)[1])
    assert names == ["runs/tests_Bandit-v0", "runs/tests_Bandit-v0-2", "runs/tests_Bandit-v0-3"]
    assert all((Path(name) / "config.json").exists() for name in names)


def test_a_run_is_begun_in_the_directory_asked_for_and_refused_a_second_time(capsys):
    assert train("--out", "deeper/run") == 0
    capsys.readouterr()
    before = all_files()
    assert train("--out", "deeper/run") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "nptrpo: deeper/run exists already: go on with --resume deeper/run, begin again with --overwrite, "
        "or choose another --out\n"
    )
    assert all_files() == before


def test_overwriting_begins_again(capsys):
    assert train("--out", "run") == 0
    first = (Path("run") / "agent.npz").read_bytes()
    Path("run/notes.txt").write_text("mine")
    assert train("--out", "run", "--overwrite", "--gamma", "0.5", steps=48) == 0
    assert json.loads(Path("run/config.json").read_text())["config"]["gamma"] == 0.5
    assert TRPO.load("run/agent").num_timesteps == 48
    assert (Path("run") / "agent.npz").read_bytes() != first
    assert Path("run/notes.txt").read_text() == "mine"
    capsys.readouterr()


def test_a_run_goes_on_to_more_steps(capsys):
    assert train("--out", "run", "--checkpoint-interval", "1") == 0
    assert run("train", "--resume", "run", "--total-timesteps", "64") == 0
    assert TRPO.load("run/agent").num_timesteps == 64
    assert json.loads(Path("run/config.json").read_text())["total_timesteps"] == 64
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "saved run/agent.npz; nptrpo evaluate run/agent.npz measures it"
    assert [line.split()[0] for line in lines if re.match(r" +\d", line)] == ["16", "32", "48", "64"]


# --- what can't be done ----------------------------------------------------------------------------------

COMMANDS = {
    "train": ["train", BANDIT],
    "evaluate": ["evaluate", "MADE/cartpole.npz"],
    "render": ["render", "MADE/painter.npz", "--gif", "a.gif"],
    "plot": ["plot", "MADE/run"],
    "presets": ["presets"],
    "verify": ["verify"],
}
NO_AGENTS = {
    "missing": "can't be read: No such file",
    "run": "can't be read: Is a directory",
    "notes": "is no agent that can be loaded: it is no .npz file, and what was pickled is never read",
    "empty.npz": "is no agent that can be loaded",
    "pickle.npz": "is no agent that can be loaded",
    "arrays.npz": "is no agent that can be loaded: it has no npTRPO header",
    "half.npz": "is no agent that can be loaded",
    "run/progress.csv": "is no agent that can be loaded",
}
WRONG_USE = {
    "resume with an environment": (
        ["train", BANDIT, "--resume", "MADE/run"],
        "keeps its own settings, but ENV",
    ),
    "resume with options": (
        ["train", "--resume", "MADE/run", "--gamma", "0.5", "--no-ortho-init"],
        "keeps its own settings, but --gamma, --ortho-init came with --resume",
    ),
    "resume with a seed": (["train", "--resume", "MADE/run", "--seed", "1"], "but --seed came"),
    "resume and overwrite": (["train", "--resume", "MADE/run", "--overwrite"], "but --overwrite came"),
    "resume without preset": (["train", "--resume", "MADE/run", "--no-preset"], "but --no-preset came"),
    "resume with evaluations": (
        ["train", "--resume", "MADE/run", "--eval-episodes", "3"],
        "--eval-episodes came",
    ),
    "resume nothing": (["train", "--resume"], "--resume: expected one argument"),
    "resume backwards": (
        ["train", "--resume", "MADE/run", "--total-timesteps", "0"],
        "must be at least 1, not 0",
    ),
    "steps of no kind": (["train", BANDIT, "--total-timesteps", "1e3"], "invalid integer value: '1e3'"),
    "not a run": (["train", BANDIT, "--out", "MADE"], "it is no run directory, so choose another --out"),
    "overwrite what is no run": (["train", BANDIT, "--out", "MADE", "--overwrite"], "it is no run directory"),
    "overwrite a file": (["train", BANDIT, "--out", "MADE/notes", "--overwrite"], "exists already"),
    "no video": (
        ["render", "MADE/painter.npz", "--video", "a.avi"],
        "--video: must end in .mp4, but it is 'a.avi'",
    ),
    "no gif": (["render", "MADE/painter.npz", "--gif", "a.png"], "--gif: must end in .gif, but it is 'a.png'"),
    "no step": (["render", "MADE/painter.npz", "--max-steps", "0"], "--max-steps: must be at least 1, not 0"),
    "no episode": (
        ["render", "MADE/painter.npz", "--episodes", "-3"],
        "--episodes: must be at least 1, not -3",
    ),
    "no env": (
        ["render", "MADE/nameless.npz"],
        "wasn't trained on an environment with an id: name one with --env",
    ),
    "no picture": (["plot", "MADE/run", "--out", "a.jpg"], "--out: must end in .png or .svg or .pdf"),
    "no instances": (["verify", "--instances", "0"], "0"),
}
FAILURES = {
    **{f"evaluate {name}": (["evaluate", f"MADE/{name}"], said) for name, said in NO_AGENTS.items()},
    **{
        f"render {name}": (["render", f"MADE/{name}", "--gif", "a.gif"], said)
        for name, said in NO_AGENTS.items()
    },
    "resume a file": (["train", "--resume", "MADE/notes"], "config.json can't be read: "),
    "resume an agent": (["train", "--resume", "MADE/painter.npz"], "config.json can't be read: "),
    "resume no run": (["train", "--resume", "MADE"], "isn't a run directory: it has no config.json"),
    "plot a file": (["plot", "MADE/notes"], "notes isn't a run directory that can be read"),
    "plot no run": (["plot", "MADE/run", "MADE"], "isn't a run directory that can be read"),
    "plot nowhere": (
        ["plot", "MADE/run", "--out", "/proc/no/where.png"],
        "/proc/no",
    ),
    "train nowhere": (["train", BANDIT, "--out", "/proc/no/where"], "/proc/no"),
    "evaluate elsewhere": (
        ["evaluate", "MADE/cartpole.npz", "--env", "Pendulum-v1"],
        "but the environment has Box([-1. -1. -8.], [1. 1. 8.], (3,), float32) and Box(-2.0, 2.0",
    ),
    "render elsewhere": (
        ["render", "MADE/painter.npz", "--env", "Pendulum-v1", "--gif", "a.gif"],
        "acts on Box(0.0, 10.0, (1,), float32) with Discrete(2), but the environment has Box([-1. -1.",
    ),
    "render nowhere": (["render", "MADE/painter.npz", "--env", "Nowhere-v0", "--gif", "a.gif"], "Nowhere"),
    "render without a mode": (
        ["render", "MADE/cartpole.npz", "--env", registered(Counter), "--gif", "a.gif"],
        "can't be drawn",
    ),
}


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [pytest.param(words, said, 2, id=name) for name, (words, said) in WRONG_USE.items()]
    + [pytest.param(words, said, 1, id=name) for name, (words, said) in FAILURES.items()],
)
def test_what_cannot_be_done_is_said_on_one_line_and_changes_nothing(words, said, status, made, here, capsys):
    if words[0] == "plot" and "/proc/no/where.png" in words:
        pytest.importorskip("matplotlib", reason="drawing is an extra")
    if words[0] == "render" and "a.gif" in words:
        pytest.importorskip("PIL", reason="GIFs are Pillow's")
    before = all_files(made)
    assert run(*here(words)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert ONE_LINE.fullmatch(err), err
    assert said in err
    assert all_files(made) == before
    assert not list(Path().iterdir())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "wrong", [["--no-such-option"], ["--n-envss", "3"], ["one", "too", "many"], ["-x"]], ids=str
)
def test_every_command_refuses_options_it_does_not_know_on_one_line(command, wrong, here, capsys):
    if command == "plot" and not wrong[0].startswith("-"):
        wrong = ["MADE/run", "one", "--out"]  # it takes any number of runs
    assert run(*here(COMMANDS[command] + wrong)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert ONE_LINE.fullmatch(err), err
    assert "--help)" in err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("command", ["train", "evaluate", "render", "plot"])
def test_debug_shows_the_traceback_wherever_it_is_said(command, place, capsys):
    words = [command, *(["--resume"] if command == "train" else []), "missing"]
    words += ["--gif", "a.gif"] if command == "render" else []
    words = ["--debug", *words] if place == "before" else [*words, "--debug"]
    with pytest.raises(ValueError, match="missing"):
        run(*words)
    assert capsys.readouterr().err == ""


def test_a_traceback_is_shown_by_the_process_with_debug_and_not_without():
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    for words, lines in ((["evaluate", "missing"], 1), (["--debug", "evaluate", "missing"], 10)):
        done = subprocess.run(
            [sys.executable, "-m", "npTRPO", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        assert ("Traceback" in done.stderr) == (lines > 1)
        assert len(done.stderr.splitlines()) >= lines


EXTRAS = {
    "plot": (["plot", "MADE/run"], "matplotlib", "npTRPO[plot]"),
    "gif": (["render", "MADE/painter.npz", "--gif", "a.gif"], "PIL", "npTRPO[video]"),
    "video": (["render", "MADE/painter.npz", "--video", "a.mp4"], "moviepy", "npTRPO[video]"),
    "envpool": (
        ["train", "CartPole-v1", "--no-preset", "--vectorization-mode", "envpool"],
        "envpool",
        "npTRPO[envpool]",
    ),
    "mujoco": (["train", "HalfCheetah-v5", "--no-preset"], "mujoco", "mujoco"),
    "box2d": (["train", "LunarLander-v3", "--no-preset"], "Box2D", "box2d"),
}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_that_is_missing_is_named_on_one_line(extra, made, here, monkeypatch, capsys):
    words, package, named = EXTRAS[extra]
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs." + extra)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert run(*here(words)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert ONE_LINE.fullmatch(err), err
    assert named in err
    assert not list(Path().iterdir())


def test_an_environment_that_breaks_leaves_a_run_that_can_be_gone_on_with(monkeypatch, capsys):
    step, calls = Bandit.step, []

    def breaking(self, action):
        calls.append(1)
        if len(calls) == 100:
            raise RuntimeError("the arm\nfell off")
        return step(self, action)

    monkeypatch.setattr(Bandit, "step", breaking)
    flags = ["--checkpoint-interval", "2", "--out"]
    assert train(*flags, "broken", steps=160) == 1
    assert re.fullmatch(r"nptrpo: the arm fell off[^\n]*\n", capsys.readouterr().err)
    assert not Path("broken/agent.npz").exists()
    assert run("train", "--resume", "broken") == 0
    assert train(*flags, "whole", steps=160) == 0
    assert Path("broken/agent.npz").read_bytes() == Path("whole/agent.npz").read_bytes()
    capsys.readouterr()


@pytest.mark.parametrize(
    "given", ["about\n  this", "\x1b[33mWARN: about this\x1b[0m"], ids=["two lines", "Gymnasium's"]
)
def test_warnings_take_one_plain_line_each(given, monkeypatch, capsys):
    def warn(env, *_, **__):
        warnings.warn(given, stacklevel=2)
        return make(env, 2)

    make = run_module.TRPO.__init__.__globals__["make_vector_env"]
    monkeypatch.setattr("npTRPO.agent.trpo.make_vector_env", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown = warnings.showwarning
        assert train() == 0
        assert warnings.showwarning is shown
    assert capsys.readouterr().err == "nptrpo: warning: about this\n"


# --- pictures on a full disk -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (["plot", "MADE/run", "--out", "out.png"], "matplotlib"),
        (["plot", "MADE/run", "--out", "out.svg"], "matplotlib"),
        (["render", "MADE/cartpole.npz", "--seed", "0", "--gif", "out.gif"], "PIL"),
    ],
    ids=["png", "svg", "gif"],
)
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_no_half_picture_and_the_old_one(words, package, there, nursery, here, tmp_path):
    pytest.importorskip(package, reason="pictures are extras")
    pytest.importorskip("pygame" if package == "PIL" else package, reason="CartPole is drawn by pygame")
    if there:
        Path(words[-1]).write_text("old")
    done = nursery.run(*here(words), cwd=tmp_path, file_size=600)
    assert done.status == 1
    assert re.fullmatch(rf"nptrpo: \[Errno 27\] File too large: '{words[-1]}'\n", done.err)
    assert [path.name for path in tmp_path.iterdir()] == ([words[-1]] if there else [])
    if there:
        assert Path(words[-1]).read_text() == "old"


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    with Nursery(tmp_path_factory.mktemp("nursery")) as nursery:
        yield nursery
