"""The ``nptrpo`` command, in this process and in one of its own."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from npTRPO import TRPO, TRPOConfig, cli
from npTRPO._version import __version__
from npTRPO.cli.command import COMMANDS
from tests.environments import Bandit, Counter, Target, registered

BANDIT = registered(Bandit)
QUICK = ["--n-envs", "2", "--n-steps", "8", "--net-arch", "3", "--seed", "0", "--eval-episodes", "0"]

# For each option something else than its default, as one writes it and as the config holds it.
OTHERS = {
    "n_envs": (["3"], 3),
    "vectorization_mode": (["sync"], "sync"),
    "n_shards": (["2"], 2),
    "n_steps": (["16"], 16),
    "gamma": (["0.9"], 0.9),
    "gae_lambda": (["0.5"], 0.5),
    "normalize_advantage": (None, False),
    "normalize_observations": (None, False),
    "normalize_rewards": (None, False),
    "info_keys": (["error"], ["error"]),
    "discounted_states": ([], True),
    "target_kl": (["0.02"], 0.02),
    "cg_max_steps": (["9"], 9),
    "cg_damping": (["0"], 0.0),
    "cg_rtol": (["1e-3"], 1e-3),
    "cg_beta": (["polak-ribiere"], "polak-ribiere"),
    "cg_preconditioner": (["identity"], "identity"),
    "damped_step": ([], True),
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
    "state_dependent_std": ([], True),
    "distribution": (["beta"], "beta"),
    "rescale_actions": (None, False),
    "mask_actions": ([], True),
    "dtype": (["float64"], "float64"),
    "checkpoint_interval": (["5"], 5),
    "seed": (["7"], 7),
}

# Those that exclude others, and an environment for them.
APART = {"mask_actions": BANDIT, "state_dependent_std": registered(Target)}


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


# --- help ------------------------------------------------------------------------------------------------


def test_help_lists_the_commands_and_every_command_helps(capsys):
    assert run("--help") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for command in ("train", "evaluate", "presets", "render", "plot", "compare", "tune", "verify"):
        assert re.search(rf"^    {command} ", out, re.MULTILINE)
        assert run(command, "--help") == 0
        assert f"usage: nptrpo {command}" in capsys.readouterr().out
    assert run("--version") == 0
    assert capsys.readouterr().out == f"npTRPO {__version__}\n"
    assert len(COMMANDS) == 8


def test_train_has_a_flag_for_every_option_with_its_meaning_and_default(capsys):
    assert run("train", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(TRPOConfig):
        # Lines are broken at spaces and hyphens.
        entry = f"{field.metadata['meaning']} (default: {field.default})".replace(" ", "").replace("-", "")
        assert entry in shown.replace(" ", "").replace("-", "")
        assert re.search(rf"{flag(field.name)}\b", shown)


# --- train and evaluate ----------------------------------------------------------------------------------


def test_train_keeps_an_agent_that_evaluate_measures(capsys):
    assert run("train", BANDIT, "--total-timesteps", 64, *QUICK) == 0
    out, err = capsys.readouterr()
    assert err == ""
    agent = f"runs/{BANDIT.replace('/', '_')}/agent.npz"
    assert out.splitlines()[-1] == f"saved {agent}; nptrpo evaluate {agent} measures it"
    assert TRPO.load(agent).num_timesteps == 64
    assert run("evaluate", agent, "--episodes", 7, "--seed", 3) == 0
    out, err = capsys.readouterr()
    n = r"-?\d+\.\d\d"
    expected = (
        rf"return {n} ± {n} \(standard error\) over 7 episodes \(from {n} to {n}\), mean length 1.0 steps\n"
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
    error = 300 * (1 / 17 * 16 / 17) ** 0.5 / 16**0.5
    assert capsys.readouterr().out == (
        f"return {mean:.2f} ± {error:.2f} (standard error) over 17 episodes "
        "(from 30.00 to 330.00), mean length 3.0 steps\n"
    )


def test_evaluate_repeats_itself_without_a_seed_too(agent_file, capsys):
    said = [
        run("evaluate", agent_file, "--episodes", 5, "--stochastic") or capsys.readouterr().out
        for _ in range(2)
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize("stochastic", [[], ["--stochastic"]], ids=["deterministic", "stochastic"])
def test_evaluate_repeats_itself_with_a_seed(stochastic, agent_file, capsys):
    shown = []
    for seed in (1, 1, 2):
        assert run("evaluate", agent_file, "--episodes", 5, "--seed", seed, *stochastic) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert (shown[0] != shown[2]) == bool(stochastic)  # the counter itself knows no chance


def test_evaluate_has_a_seed_unless_it_is_given_one(agent_file, capsys):
    for _ in range(2):
        assert run("evaluate", agent_file, "--episodes", 5, "--stochastic") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_commands_that_are_printed_work_as_printed(tmp_path):
    """Also for an environment that a module of the current directory registers."""
    (tmp_path / "my_envs.py").write_text(
        "import gymnasium\nfrom gymnasium.envs.classic_control import CartPoleEnv\n"
        "gymnasium.register('Mine-v0', CartPoleEnv, max_episode_steps=9)\n"
    )
    script = "import sys; sys.path.remove(''); from npTRPO.__main__ import main; sys.exit(main())"

    def command(*words):
        return subprocess.run(
            [sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True
        )

    path = "a run"
    done = command("train", "my_envs:Mine-v0", "--out", path, "--total-timesteps", "32", *QUICK)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()[-1].partition("; nptrpo ")[2].removesuffix(" measures it")
    done = command(*shlex.split(printed), "--episodes", "2")
    assert (done.returncode, done.stderr) == (0, "")
    done = command("train", "my_envs:Mine-v0", "--resume", path, "--total-timesteps", "64")
    assert done.stdout.splitlines()[0].startswith("resumed at step ")


@pytest.mark.parametrize("apart", [None, *APART])
def test_every_flag_reaches_the_config(apart):
    assert list(OTHERS) == [field.name for field in dataclasses.fields(TRPOConfig)]
    others = {name: OTHERS[name] for name in OTHERS if (name == apart if apart else name not in APART)}
    arguments = []
    for name, (words, _) in others.items():
        arguments += [flag(f"no_{name}")] if words is None else [flag(name), *words]
    short = ["--total-timesteps", 48, "--out", "run", "--eval-episodes", 0]
    assert run("train", APART.get(apart, registered(Target)), *short, *arguments) == 0
    config = json.loads(Path("run/config.json").read_text())["config"]
    values, defaults = {name: value for name, (_, value) in others.items()}, TRPOConfig().to_dict()
    if apart is None:
        assert config == {**{name: defaults[name] for name in APART}, **values}
    assert all(config[name] == values[name] != defaults[name] for name in others)
    assert TRPO.load("run/agent.npz").config == TRPOConfig.from_dict(config)


# --- what goes wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MemoryError(), 1, "nptrpo: MemoryError\n"),
        (RuntimeError("first\n  second\n\nthird"), 1, "nptrpo: first second third\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),  # a reader that has gone
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_or_an_interruption_is_said_on_one_line_or_not_at_all(
    error, status, said, agent_file, capsys, monkeypatch
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which the command may let go of
    monkeypatch.setattr("npTRPO.agent.evaluation.run_episodes", fail)
    assert run("evaluate", agent_file) == status
    assert capsys.readouterr() == ("", said)


# --- in a process of its own -----------------------------------------------------------------------------


def process(*arguments):
    """``python -m npTRPO`` with this checkout."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "npTRPO", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_python_m_trains():
    done = process("train", "CartPole-v1", "--total-timesteps", 64, "--out", "run", *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("saved run/agent.npz")
    assert TRPO.load("run/agent.npz").num_timesteps == 64


def test_python_m_says_on_one_line_what_cannot_be_done_and_shows_a_traceback_with_debug():
    done = process("evaluate", "missing.npz")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "nptrpo: missing.npz can't be read: No such file or directory\n"
    done = process("--debug", "evaluate", "missing.npz")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" in done.stderr
