"""The ``nptrpo`` command, in this process and in one of its own."""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from npTRPO import TRPO, TRPOConfig, cli
from npTRPO._version import __version__
from npTRPO.cli.command import make_parser
from npTRPO.cli.usage import UsageError
from npTRPO.runs.directory import RunDirectory
from tests.environments import Bandit, Counter, registered

BANDIT = registered(Bandit)
QUICK = ["--n-envs", "2", "--n-steps", "8", "--net-arch", "3", "--seed", "0", "--eval-episodes", "0"]

# For each option something else than its default, as one writes it and as the config holds it.
OTHERS = {
    "n_envs": (["3"], 3),
    "vectorization_mode": (["sync"], "sync"),
    "n_steps": (["16"], 16),
    "gamma": (["0.9"], 0.9),
    "gae_lambda": (["0.5"], 0.5),
    "normalize_advantage": (None, False),
    "normalize_observations": (None, False),
    "normalize_rewards": (None, False),
    "target_kl": (["0.02"], 0.02),
    "cg_max_steps": (["9"], 9),
    "cg_damping": (["0"], 0.0),
    "cg_rtol": (["1e-3"], 1e-3),
    "cg_beta": (["polak-ribiere"], "polak-ribiere"),
    "cg_preconditioner": (["identity"], "identity"),
    "line_search_shrinking_factor": (["0.5"], 0.5),
    "line_search_max_iter": (["7"], 7),
    "sub_sampling_factor": (["2"], 2),
    "value_fit": (["adam"], "adam"),
    "n_critic_updates": (["3"], 3),
    "learning_rate": (["0.01"], 0.01),
    "batch_size": (["32"], 32),
    "net_arch": (["8", "4"], [8, 4]),
    "activation_fn": (["relu"], "relu"),
    "log_std_init": (["-1"], -1.0),
    "ortho_init": (None, False),
    "dtype": (["float64"], "float64"),
    "checkpoint_interval": (["5"], 5),
    "seed": (["7"], 7),
}


def flag(name):
    return "--" + name.replace("_", "-")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands write into the directory they are called in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def agent_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("agent") / "agent.npz"
    TRPO("MlpPolicy", registered(Counter), net_arch=(3,), seed=0).save(path)
    return path


def run(*arguments):
    """Exit status of the command; argparse leaves by an exception after --help."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as error:
        return error.code


def all_files():
    return sorted(str(path.relative_to(Path.cwd())) for path in Path.cwd().rglob("*"))


def subparsers():
    """The parsers of the commands, by name."""
    actions = make_parser()._actions
    return next(action for action in actions if isinstance(action, argparse._SubParsersAction)).choices


# --- help ------------------------------------------------------------------------------------------------


def test_help_lists_the_commands(capsys):
    assert run("--help") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for command in subparsers():
        assert re.search(rf"^    {command} ", out, re.MULTILINE)


@pytest.mark.parametrize("command", ["train", "evaluate", "presets", "render", "plot"])
def test_every_command_helps(command, capsys):
    assert run(command, "--help") == 0
    assert f"usage: nptrpo {command}" in capsys.readouterr().out


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TRPOConfig)])
def test_train_has_a_flag_for_every_option_with_its_meaning_and_default(name, capsys):
    assert run("train", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    field = next(field for field in dataclasses.fields(TRPOConfig) if field.name == name)
    # Lines are broken at spaces and hyphens.
    entry = f"{field.metadata['meaning']} (default: {field.default})".replace(" ", "").replace("-", "")
    assert entry in shown.replace(" ", "").replace("-", "")
    assert re.search(rf"{flag(name)}\b", shown)


def test_the_version_is_shown(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"npTRPO {__version__}\n"


# --- train and evaluate ----------------------------------------------------------------------------------


def test_train_keeps_an_agent_that_evaluate_measures(capsys):
    assert run("train", BANDIT, "--total-timesteps", 64, *QUICK) == 0
    out, err = capsys.readouterr()
    assert err == ""
    directory = Path("runs") / BANDIT.replace("/", "_")
    assert (
        out.splitlines()[-1]
        == f"saved {directory}/agent.npz; nptrpo evaluate {directory}/agent.npz measures it"
    )
    assert TRPO.load(directory / "agent.npz").num_timesteps == 64
    assert run("evaluate", directory / "agent.npz", "--episodes", 7, "--seed", 3) == 0
    out, err = capsys.readouterr()
    number = r"-?\d+\.\d\d"
    expected = (
        rf"return {number} ± {number} over 7 episodes \(from {number} to {number}\), mean length 1.0 steps\n"
    )
    assert re.fullmatch(expected, out)
    assert err == ""


def test_evaluate_measures_the_very_return(agent_file, capsys):
    """Deterministic actions of an agent that always takes the first: 3 · 100 e + 30 in episode e."""
    agent = TRPO.load(agent_file)
    agent.theta[:] = 0
    agent.save("first")
    assert run("evaluate", "first", "--episodes", 17) == 0
    # Sixteen copies, of which one plays a second episode.
    mean = 30 + 300 / 17
    std = 300 * (1 / 17 * 16 / 17) ** 0.5
    assert capsys.readouterr().out == (
        f"return {mean:.2f} ± {std:.2f} over 17 episodes (from 30.00 to 330.00), mean length 3.0 steps\n"
    )


@pytest.mark.parametrize("stochastic", [[], ["--stochastic"]], ids=["deterministic", "stochastic"])
def test_evaluate_repeats_itself_with_a_seed(stochastic, agent_file, capsys):
    shown = []
    for seed in (1, 1, 2):
        assert run("evaluate", agent_file, "--episodes", 5, "--seed", seed, *stochastic) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert (shown[0] != shown[2]) == bool(stochastic)  # the counter itself knows no chance


def test_every_flag_reaches_the_config():
    assert list(OTHERS) == [field.name for field in dataclasses.fields(TRPOConfig)]
    arguments = []
    for name, (words, _) in OTHERS.items():
        arguments += ["--no-" + flag(name)[2:]] if words is None else [flag(name), *words]
    assert (
        run("train", BANDIT, "--total-timesteps", 48, "--out", "run", "--eval-episodes", 0, *arguments) == 0
    )
    config = json.loads(Path("run/config.json").read_text())["config"]
    assert config == {name: value for name, (_, value) in OTHERS.items()}
    defaults = TRPOConfig().to_dict()
    assert all(config[name] != defaults[name] for name in config)
    assert TRPO.load("run/agent.npz").config == TRPOConfig.from_dict(config)


def test_the_same_command_gives_the_same_bits():
    for out in ("one", "two"):
        assert run("train", BANDIT, "--total-timesteps", 64, "--out", out, *QUICK) == 0
    first, second = (TRPO.load(f"{out}/agent.npz") for out in ("one", "two"))
    assert first.theta.tobytes() == second.theta.tobytes()


def test_a_run_that_was_killed_is_resumed_to_the_same_bits(capsys, monkeypatch):
    command = [BANDIT, "--total-timesteps", 160, "--checkpoint-interval", 2, *QUICK]
    assert run("train", *command, "--out", "whole") == 0

    def interrupted(self, callbacks, failures):
        def stop(record):
            if record.n_updates == 7:
                raise KeyboardInterrupt

        return train(self, [*callbacks, stop], failures)

    train = RunDirectory.train
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "train", interrupted)
        assert run("train", *command, "--out", "killed") == 130
    assert not Path("killed/agent.npz").exists()
    assert run("train", "--resume", "killed") == 0
    whole, resumed = (TRPO.load(f"{out}/agent.npz") for out in ("whole", "killed"))
    assert whole.theta.tobytes() == resumed.theta.tobytes()
    capsys.readouterr()
    assert run("train", "--resume", "killed") == 0
    assert "killed has taken its 160 steps" in capsys.readouterr().out


def test_presets_are_listed_as_commands(capsys):
    assert run("presets") == 0
    for line in capsys.readouterr().out.splitlines():
        words = line.split()
        assert words[:2] == ["nptrpo", "train"]
        assert make_parser().parse_args(words[1:]).env == words[2]


def test_train_takes_an_environments_preset_unless_told_otherwise(capsys, monkeypatch):
    monkeypatch.setattr(
        "npTRPO.runs.presets.presets", lambda: {BANDIT: {"gamma": 0.5, "total_timesteps": 16}}
    )
    assert run("train", BANDIT, "--out", "preset", *QUICK) == 0
    assert "preset: --gamma 0.5 --total-timesteps 16" in capsys.readouterr().out
    assert TRPO.load("preset/agent.npz").config.gamma == 0.5
    assert run("train", BANDIT, "--out", "plain", *QUICK, "--no-preset", "--total-timesteps", 16) == 0
    assert "preset" not in capsys.readouterr().out
    assert TRPO.load("plain/agent.npz").config.gamma == 0.99


# --- what goes wrong -------------------------------------------------------------------------------------

BAD_USE = {
    "no command": ([], "required: COMMAND"),
    "unknown command": (["learn"], "invalid choice: 'learn'"),
    "no environment": (["train"], "name an environment to train on"),
    "unknown flag": (["train", BANDIT, "--gama", "0.9"], "unrecognized arguments: --gama"),
    "no number": (["train", BANDIT, "--gamma", "much"], "--gamma: invalid float value: 'much'"),
    "no choice": (["train", BANDIT, "--dtype", "float16"], "--dtype: invalid choice: 'float16'"),
    "no value": (["train", BANDIT, "--gamma"], "--gamma: expected one argument"),
    "out of range": (
        ["train", BANDIT, "--gamma", "1.5"],
        "gamma must be a number from 0 to 1, but it is 1.5",
    ),
    "no layer": (["train", BANDIT, "--net-arch", "8", "0"], "net_arch must be a list of layer widths"),
    "no steps": (["train", BANDIT, "--total-timesteps", "0"], "--total-timesteps: must be at least 1, not 0"),
    "negative": (["train", BANDIT, "--eval-episodes", "-1"], "--eval-episodes: must be at least 0, not -1"),
    "no interval": (["train", BANDIT, "--log-interval", "0"], "--log-interval: must be at least 1"),
    "both": (["train", BANDIT, "--out", "x", "--resume", "y"], "not allowed with argument"),
    "taken": (["train", BANDIT, "--out", "taken"], "taken exists already: "),
    "a file": (["train", BANDIT, "--out", "taken/file"], "taken/file exists already"),
    "no file": (["evaluate"], "required: file"),
    "no episodes": (["evaluate", "AGENT", "--episodes", "0"], "--episodes: must be at least 1, not 0"),
    "no frames": (["render", "AGENT", "--episodes", "0"], "--episodes: must be at least 1, not 0"),
    "no runs": (["plot"], "required: RUN"),
    "impossible seed": (["evaluate", "AGENT", "--seed", "-1"], "--seed: must be at least 0, not -1"),
    "impossible seed to show": (["render", "AGENT", "--seed", "-1"], "--seed: must be at least 0, not -1"),
}
FAILURES = {
    "unknown environment": (["train", "CartPol-v1"], "there is no environment 'CartPol-v1'; near matches"),
    "unknown module": (["train", "no_module:Some-v0"], "No module named 'no_module'"),
    "no vector form": (["train", BANDIT, "--vectorization-mode", "vector_entry_point"], "vector entry point"),
    "no run": (["train", "--resume", "missing"], "missing isn't a run directory"),
    "missing file": (["evaluate", "missing.npz"], "missing.npz can't be read: No such file"),
    "foreign file": (["evaluate", "taken/file"], "taken/file is no agent that can be loaded"),
    "a directory": (["evaluate", "taken"], "taken can't be read: Is a directory"),
    "other spaces": (["evaluate", "AGENT", "--env", "CartPole-v1"], "but the environment has Box"),
    "no such environment": (["evaluate", "AGENT", "--env", "X"], "there is no environment 'X'"),
    "nothing to show": (["render", "missing.npz"], "missing.npz can't be read"),
    "nothing to draw": (["plot", "missing"], "missing"),
}


every_mistake = pytest.mark.parametrize(
    ("arguments", "complaint", "status"),
    [pytest.param(*case, 2, id=name) for name, case in BAD_USE.items()]
    + [pytest.param(*case, 1, id=name) for name, case in FAILURES.items()],
)


@pytest.fixture
def taken():
    """A directory that isn't empty."""
    Path("taken").mkdir()
    Path("taken/file").write_text("notes")


@every_mistake
def test_what_cannot_be_done_is_said_on_one_line_and_writes_nothing(
    arguments, complaint, status, agent_file, taken, capsys
):
    before = all_files()
    assert run(*(agent_file if argument == "AGENT" else argument for argument in arguments)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"nptrpo: [^\n]+\n", err)
    assert complaint in err
    assert "Traceback" not in err
    assert all_files() == before


@every_mistake
def test_debug_raises_all_but_what_the_parser_does_not_understand(
    arguments, complaint, status, agent_file, taken, capsys
):
    arguments = ["--debug", *(str(agent_file) if argument == "AGENT" else argument for argument in arguments)]
    try:
        make_parser().parse_args(arguments)
    except UsageError:
        assert run(*arguments) == status == 2
        assert complaint in capsys.readouterr().err
    else:
        with pytest.raises(Exception, match=re.escape(complaint)):
            run(*arguments)
        assert capsys.readouterr().err == ""


def test_an_error_without_words_is_said_by_its_kind(agent_file, capsys, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("npTRPO.agent.evaluation.run_episodes", fail)
    assert run("evaluate", agent_file) == 1
    assert capsys.readouterr().err == "nptrpo: MemoryError\n"


def test_an_error_of_several_lines_is_said_on_one(agent_file, capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("first\n  second\n\nthird")

    monkeypatch.setattr("npTRPO.agent.evaluation.run_episodes", fail)
    assert run("evaluate", agent_file) == 1
    assert capsys.readouterr().err == "nptrpo: first second third\n"


def test_an_interruption_ends_the_command_as_shells_expect(agent_file, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("npTRPO.agent.evaluation.run_episodes", interrupt)
    assert run("evaluate", agent_file) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_has_gone_ends_the_command_without_a_word(agent_file, capsys, monkeypatch):
    def broken(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which the command lets go of
    monkeypatch.setattr("npTRPO.agent.evaluation.run_episodes", broken)
    assert run("evaluate", agent_file) == 1
    assert capsys.readouterr().err == ""


# --- in a process of its own -----------------------------------------------------------------------------


def process(*arguments):
    """``python -m npTRPO`` with this checkout."""
    root = str(Path(cli.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "npTRPO", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": root},
    )


def test_python_m_trains():
    done = process("train", "CartPole-v1", "--total-timesteps", 64, "--out", "run", *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("saved run/agent.npz")
    assert TRPO.load("run/agent.npz").num_timesteps == 64


def test_python_m_says_on_one_line_what_cannot_be_done():
    done = process("evaluate", "missing.npz")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "nptrpo: missing.npz can't be read: No such file or directory\n"
