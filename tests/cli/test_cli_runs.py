"""The command on runs and agents: begin, go on, begin again, plot, render; and every way to get it wrong."""

import json
import pickle
import re
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from npTRPO import TRPO, cli
from npTRPO.cli.command import make_parser
from npTRPO.cli.usage import UsageError
from tests.environments import Bandit, Counter, registered
from tests.faults import assert_same_run, progress, table
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


def train(*arguments, steps=32, env=BANDIT):
    return run("train", env, "--total-timesteps", steps, *QUICK, *arguments)


def all_files(directory="."):
    paths = sorted(Path(directory).rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


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
    """Splits a command into words, with the names of what was made."""
    words = {"MADE": str(made), "BANDIT": BANDIT, "COUNTER": registered(Counter), "GIF": "--gif a.gif"}
    return lambda line: re.sub("|".join(words), lambda match: words[match[0]], line).split()


# --- begin, go on, begin again ---------------------------------------------------------------------------


def test_a_run_without_a_name_gets_the_next_that_is_free(capsys):
    names = []
    for env in (BANDIT, BANDIT, BANDIT, f"tests.environments:{BANDIT}"):
        assert train(env=env) == 0
        names.append(re.search(r"saved (\S+)/agent.npz", capsys.readouterr().out)[1])
    first = "runs/tests_Bandit-v0"
    assert names == [first, f"{first}-2", f"{first}-3", "runs/tests.environments_tests_Bandit-v0"]
    assert all((Path(name) / "config.json").exists() for name in names)


def test_a_run_is_begun_in_the_directory_asked_for_and_refused_a_second_time(capsys):
    assert train("--out", "deeper/run") == 0
    capsys.readouterr()
    before = all_files()
    assert train("--out", "deeper/run") == 2
    assert capsys.readouterr() == (
        "",
        "nptrpo: deeper/run exists already: go on with --resume deeper/run, begin again with --overwrite, "
        "or choose another --out\n",
    )
    assert all_files() == before


def test_overwriting_begins_again(capsys):
    assert train("--out", "run") == 0
    first = Path("run/agent.npz").read_bytes()
    Path("run/notes.txt").write_text("mine")
    assert train("--out", "run", "--overwrite", "--gamma", "0.5", steps=48) == 0
    assert json.loads(Path("run/config.json").read_text())["config"]["gamma"] == 0.5
    assert TRPO.load("run/agent").num_timesteps == 48
    assert Path("run/agent.npz").read_bytes() != first
    assert Path("run/notes.txt").read_text() == "mine"


def test_a_run_goes_on_to_more_steps(capsys):
    assert train("--out", "run", "--checkpoint-interval", "1") == 0
    assert run("train", "--resume", "run", "--total-timesteps", "64") == 0
    assert TRPO.load("run/agent").num_timesteps == 64
    assert json.loads(Path("run/config.json").read_text())["total_timesteps"] == 64
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "saved run/agent.npz; nptrpo evaluate run/agent.npz measures it"
    assert [line.split()[0] for line in lines if re.match(r" +\d", line)] == ["16", "32", "48", "64"]


@pytest.mark.parametrize(
    ("words", "maximised"),
    [
        ([], "the mean advantage in the states as often as they are visited (E56), whose gradient isn't"),
        (["--discounted-states"], "the discounted return, as states are weighted by gamma^t (E10)"),
    ],
)
def test_what_is_maximised_is_printed_and_written_down(words, maximised, capsys):
    assert train("--out", "run", *words) == 0
    assert f"maximises {maximised}" in capsys.readouterr().out
    assert json.loads(Path("run/config.json").read_text())["maximises"].startswith(maximised)


# --- what can't be done ----------------------------------------------------------------------------------

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
    "": "required: COMMAND",
    "learn": "invalid choice: 'learn'",
    "train": "name an environment to train on",
    "train BANDIT --gama 0.9": "--gama 0.9; did you mean --gamma? (see nptrpo train --help)",
    "train BANDIT --taget-kl=1": "did you mean --target-kl? (see nptrpo train --help)",
    "evaluate MADE/painter.npz --episode-s 3": "did you mean --episodes? (see nptrpo evaluate --help)",
    "plot MADE/run --zzzzzz": "unrecognized arguments: --zzzzzz (see nptrpo plot --help)",
    "train BANDIT --gamma much": "--gamma: invalid float value: 'much'",
    "train BANDIT --dtype float16": "--dtype: invalid choice: 'float16'",
    "train BANDIT --gamma": "--gamma: expected one argument",
    "train BANDIT --gamma 1.5": "gamma must be a number from 0 to 1, but it is 1.5",
    "train BANDIT --net-arch 8 0": "net_arch must be a list of layer widths",
    "train BANDIT --total-timesteps 0": "--total-timesteps: must be at least 1, not 0",
    "train BANDIT --total-timesteps 1e3": "--total-timesteps: invalid integer value: '1e3'",
    "train BANDIT --eval-episodes -1": "--eval-episodes: must be at least 0, not -1",
    "train BANDIT --log-interval 0": "--log-interval: must be at least 1, not 0",
    "train BANDIT --env-timeout 0": "--env-timeout: must be a positive number of seconds, not 0.0",
    "train BANDIT --env-timeout nan": "--env-timeout: must be a positive number of seconds, not nan",
    "train BANDIT --env-kwargs {": "--env-kwargs: must be JSON, such as '{",
    "train BANDIT --env-kwargs [1]": "must be an object of JSON, such as '{",
    "train BANDIT --out x --resume y": "not allowed with argument",
    "train BANDIT --out MADE": "made0 exists already: it is no run directory, so choose another --out",
    "train BANDIT --out MADE --overwrite": "it is no run directory",
    "train BANDIT --out MADE/notes": "notes exists already",
    "train BANDIT --out MADE/notes --overwrite": "notes exists already",
    "train BANDIT --resume MADE/run": "keeps its own settings, but ENV came with --resume",
    "train --resume MADE/run --gamma 0.5 --no-ortho-init": "but --gamma, --ortho-init came with --resume",
    "train --resume MADE/run --seed 1": "but --seed came",
    "train --resume MADE/run --overwrite": "but --overwrite came",
    "train --resume MADE/run --no-preset": "but --no-preset came",
    "train --resume MADE/run --eval-episodes 3": "--eval-episodes came",
    "train BANDIT --seeds 0-x": "--seeds: must be seeds and ranges of them, as 0,2,5-7, not '0-x'",
    "train BANDIT --seeds -1": "--seeds: must be seeds and ranges of them",
    "train BANDIT --seeds 1,,2": "--seeds: must be seeds and ranges of them",
    "train BANDIT --seeds 0-3,5,2": "--seeds: names seed 2 more than once",
    "train BANDIT --seeds 3-0": "--seeds: the range 3-0 ends before it begins",
    "train BANDIT --seeds 0-4999,5000-10000": "--seeds: names more than 10,000 seeds",
    "train BANDIT --seeds 0-1 --seed 2": "--seed 2 and --seeds exclude each other",
    "train BANDIT --seeds 0-1 --jobs 0": "--jobs: must be at least 1, not 0",
    "train BANDIT --seeds 0-1 --gamma 2": "gamma must be a number from 0 to 1",
    "train BANDIT --seeds 0-1 --out MADE": "holds arrays.npz, which is no run of a seed: choose",
    "train BANDIT --seeds 0-1 --out MADE --overwrite": "holds arrays.npz, which is no run of a seed",
    "train BANDIT --seeds 0-1 --out MADE/run": "run is a run itself, and no folder of them",
    "train BANDIT --seeds 0-1 --out MADE/notes": "notes exists already: it is no folder",
    "train --seeds 0-1": "name an environment to train on",
    "train BANDIT --jobs 2": "--jobs is for several runs",
    "train --resume MADE/run --jobs 2": "--jobs is for several runs",
    "train --resume MADE/run --seeds 0-1": "but --seeds came with --resume",
    "train --resume": "--resume: expected one argument",
    "train --resume MADE/run --total-timesteps 0": "--total-timesteps: must be at least 1, not 0",
    "evaluate": "required: file",
    "evaluate MADE/painter.npz --episodes 0": "--episodes: must be at least 1, not 0",
    "evaluate MADE/painter.npz --seed -1": "--seed: must be at least 0, not -1",
    "render MADE/painter.npz --episodes -3": "--episodes: must be at least 1, not -3",
    "render MADE/painter.npz --seed -1": "--seed: must be at least 0, not -1",
    "render MADE/painter.npz --max-steps 0": "--max-steps: must be at least 1, not 0",
    "render MADE/painter.npz --video a.avi": "--video: must end in .mp4, but it is 'a.avi'",
    "render MADE/painter.npz --gif a.png": "--gif: must end in .gif, but it is 'a.png'",
    "render MADE/nameless.npz": "wasn't trained on an environment with an id: name one with --env",
    "plot": "required: RUN",
    "compare": "required: DIR",
    "compare --json": "required: DIR",
    "plot MADE/run --out a.jpg": "--out: must end in .png or .svg or .pdf",
    "verify --instances 0": "--instances: must be at least 1, not 0",
}
# Every command refuses options that it doesn't know, and refers to its help.
PLAIN = ["train BANDIT", "evaluate MADE/cartpole.npz", "render MADE/painter.npz GIF", "presets", "verify"]
WRONG_USE |= {
    f"{command} {wrong}": "--help)"
    for command in [*PLAIN, "plot MADE/run", "compare MADE/run"]
    for wrong in (
        "--no-such-option",
        "--n-envss 3",
        "-x",
        "one too many" if command in PLAIN else "one --out",
    )
}
FAILURES = {
    **{f"evaluate MADE/{name}": said for name, said in NO_AGENTS.items()},
    **{f"render MADE/{name} GIF": said for name, said in NO_AGENTS.items()},
    "train CartPol-v1": "there is no environment 'CartPol-v1'; near matches",
    "train CartPol-v1 --seeds 0-1": "there is no environment 'CartPol-v1'; near matches",
    "train no_module:Some-v0": "No module named 'no_module'",
    'train CartPole-v1 --no-preset --env-kwargs {"lenght":1}': "can't be made with env_kwargs {'lenght': 1}",
    "train BANDIT --wrapper no_module:some": "there is no wrapper 'no_module:some': No module named",
    "train --resume MADE/run --wrapper a:b": "its wrappers are (), and not ('a:b',)",
    "train BANDIT --vectorization-mode vector_entry_point": "vector entry point",
    "train BANDIT --out /proc/no/where": "/proc/no",
    "train --resume MADE/notes": "config.json can't be read: ",
    "train --resume MADE/painter.npz": "config.json can't be read: ",
    "train --resume MADE": "isn't a run directory: it has no config.json",
    "plot MADE/notes": "notes isn't a run directory that can be read",
    "plot MADE/run MADE/notes": "isn't a run directory that can be read",
    "plot missing": "missing isn't a run directory that can be read",
    "compare missing": "missing isn't a run directory that can be read, nor a folder of them",
    "compare MADE/run missing": "missing isn't a run directory that can be read, nor a folder of them",
    "plot MADE/run --out /proc/no/where.png": "/proc/no",
    "evaluate MADE/cartpole.npz --env Pendulum-v1": "but the environment has Box([-1. -1. -8.], [1. 1. 8.]",
    "evaluate MADE/cartpole.npz --env X": "there is no environment 'X'",
    "render MADE/painter.npz --env Pendulum-v1 GIF": "with Discrete(2), but the environment has Box([-1. -1.",
    "render MADE/painter.npz --env Nowhere-v0 GIF": "Nowhere",
    "render MADE/cartpole.npz --env COUNTER GIF": "can't be drawn",
}
MISTAKES = {line: (said, 2) for line, said in WRONG_USE.items()}
MISTAKES |= {line: (said, 1) for line, said in FAILURES.items()}


@pytest.mark.parametrize("line", MISTAKES)
def test_what_cannot_be_done_is_said_on_one_line_and_changes_nothing(line, made, here, capsys):
    """With --debug, all is raised but what the parser doesn't understand."""
    if "where.png" in line:
        pytest.importorskip("matplotlib", reason="drawing is an extra")
    if "GIF" in line:
        pytest.importorskip("PIL", reason="GIFs are Pillow's")
    (said, status), before = MISTAKES[line], all_files(made)
    assert run(*here(line)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert ONE_LINE.fullmatch(err), err
    assert said in err
    try:
        make_parser().parse_args(["--debug", *here(line)])
    except UsageError:
        assert run("--debug", *here(line)) == status == 2
        assert capsys.readouterr().err == err
    else:
        with pytest.raises(Exception, match=re.escape(said)):
            run("--debug", *here(line))
        assert capsys.readouterr().err == ""
    assert all_files(made) == before
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "line", ["train --resume missing", "evaluate missing", "render missing", "plot missing"]
)
def test_debug_shows_the_traceback_wherever_it_is_said(line, capsys):
    with pytest.raises(ValueError, match="missing"):
        run(*line.split(), "--debug")
    assert capsys.readouterr().err == ""


EXTRAS = {
    "plot MADE/run": ("matplotlib", "npTRPO[plot]"),
    "render MADE/painter.npz GIF": ("PIL", "npTRPO[video]"),
    "render MADE/painter.npz --video a.mp4": ("moviepy", "npTRPO[video]"),
    "train CartPole-v1 --no-preset --vectorization-mode envpool": ("envpool", "npTRPO[envpool]"),
    "train HalfCheetah-v5 --no-preset": ("mujoco", "mujoco"),
    "train LunarLander-v3 --no-preset": ("Box2D", "box2d"),
}


@pytest.mark.parametrize("line", EXTRAS)
def test_an_extra_that_is_missing_is_named_on_one_line(line, here, monkeypatch, capsys):
    package, named = EXTRAS[line]
    parts = (f"{package}.", f"gymnasium.envs.{package.lower()}")  # that were imported before
    for name in [name for name in sys.modules if name.startswith(parts)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert run(*here(line)) == 1
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
    assert run("train", "--resume", "broken") == 0
    assert "broken has taken its 160 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given", ["about\n  this", "\x1b[33mWARN: about this\x1b[0m"], ids=["two lines", "Gymnasium's"]
)
def test_warnings_take_one_plain_line_each(given, monkeypatch, capsys):
    make = Bandit.__init__

    def warn(self):
        warnings.warn(given, stacklevel=2)
        make(self)

    monkeypatch.setattr(Bandit, "__init__", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown = warnings.showwarning
        assert train("--n-envs", 1) == 0
        assert warnings.showwarning is shown
    assert capsys.readouterr().err == "nptrpo: warning: about this\n"


# --- pictures on a full disk -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "packages"),
    [
        ("plot MADE/run --out out.png", ["matplotlib"]),
        ("plot MADE/run --out out.svg", ["matplotlib"]),
        ("render MADE/cartpole.npz --seed 0 --gif out.gif", ["PIL", "pygame"]),
    ],
    ids=["png", "svg", "gif"],
)
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_no_half_picture_and_the_old_one(line, packages, there, nursery, here, tmp_path):
    for package in packages:
        pytest.importorskip(package, reason="pictures are extras")
    words = here(line)
    if there:
        Path(words[-1]).write_text("old")
    done = nursery.run(*words, cwd=tmp_path, file_size=600)
    assert done.status == 1
    assert re.fullmatch(rf"nptrpo: \[Errno 27\] File too large: '{words[-1]}'\n", done.err)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == (
        {words[-1]: "old"} if there else {}
    )


def test_episodes_as_long_as_the_environment_allows_fit_between_two_checkpoints():
    """A batch has 2,048 steps, and ten batches between checkpoints would do for shorter episodes."""
    gymnasium.register("tests/Long-v0", Bandit, max_episode_steps=30_000, disable_env_checker=True)
    try:
        assert (
            run("train", "tests/Long-v0", "--n-envs", 1, "--total-timesteps", 1, "--out", "long", *QUICK) == 0
        )
    finally:
        del gymnasium.registry["tests/Long-v0"]
    config = json.loads(Path("long/config.json").read_text())["config"]
    assert config["checkpoint_interval"] * 2048 >= 60_000


class Patient(Bandit):
    """Thirty steps, of which its specification doesn't tell."""

    def reset(self, **options):
        self.taken = 0
        return super().reset(**options)

    def step(self, action):
        self.taken += 1
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, self.taken == 30, truncated, info


@pytest.fixture
def patient():
    gymnasium.register("tests/Patient-v0", Patient, disable_env_checker=True)
    yield "tests/Patient-v0"
    del gymnasium.registry["tests/Patient-v0"]


def test_episodes_longer_than_the_interval_end_and_a_resumed_run_says_what_it_takes_again(patient, capsys):
    """Boundaries are after 25 steps, 75, 125, …, as no episode ends within 25; a batch has five steps."""
    options = ["--n-envs", 1, "--n-steps", 5, "--checkpoint-interval", 5, "--eval-episodes", 1, "--out"]
    for directory, steps in (("whole", 150), ("parts", 110)):
        assert train(*options, directory, steps=steps, env=patient) == 0
        said = (
            "no episode has ended in 5 updates: the next checkpoint and evaluation wait for one, "
            "so as not to cut it off, until update 15 at the latest"
        )
        assert capsys.readouterr().out.splitlines().count(said) == 1
    assert [row["n_updates"] for row in table(Path("whole/evaluations.csv"))] == ["5", "15", "25"]
    lengths = [row["episode_length"] for row in progress(Path("whole"))]
    assert lengths == 10 * ["nan"] + 20 * ["30.0"]

    assert run("train", "--resume", "parts", "--total-timesteps", 150) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "resumed at step 75; the 35 from there to step 110 are taken again"
    assert_same_run(Path("parts"), Path("whole"), 30)


def doubled(env):
    return gymnasium.wrappers.TransformReward(env, lambda reward: 2 * reward)


def test_keywords_and_wrappers_are_kept_and_used_by_every_command(capsys):
    """CartPole with sutton_barto_reward pays nothing but -1 at the end; doubled it is -2."""
    wrapper = f"--wrapper={__name__}:doubled"
    made = ["--env-kwargs", '{"sutton_barto_reward": true}', wrapper, "--eval-episodes", 2]
    assert train(*made, "--checkpoint-interval", 1, "--out", "run", steps=64, env="CartPole-v1") == 0
    assert f"run/agent.npz {wrapper} measures it" in capsys.readouterr().out
    config = json.loads(Path("run/config.json").read_text())
    assert config["env_kwargs"] == {"sutton_barto_reward": True}
    assert config["wrappers"] == [f"{__name__}:doubled"]
    for command in (["train", "--resume", "run", "--total-timesteps", 96], ["evaluate", "run/agent.npz"]):
        assert run(*command) == 1  # nothing is imported that only a file names
        said = capsys.readouterr().err
        assert ONE_LINE.fullmatch(said)
        assert f"the file names the wrapper '{__name__}:doubled', and no module is imported" in said
        assert wrapper in said.replace("--wrapper ", "--wrapper=")
    assert run("train", "--resume", "run", "--total-timesteps", 96, wrapper) == 0
    assert {row["mean_return"] for row in table(Path("run/evaluations.csv"))} == {"-2.0"}
    capsys.readouterr()
    for words, kept in (
        ([wrapper], True),
        (["--env", "CartPole-v1", wrapper], True),
        ([wrapper, "--env-kwargs", "{}"], False),
    ):
        assert run("evaluate", "run/agent.npz", "--episodes", 2, *words) == 0
        assert capsys.readouterr().out.startswith("return -2.00 ") == kept
