import json
import shlex
from dataclasses import fields
from pathlib import Path

import gymnasium
import pytest

from npTRPO import TRPO, CheckpointError, TRPOConfig, cli
from npTRPO.cli.command import make_parser
from npTRPO.cli.config_flags import as_flags
from npTRPO.runs import presets as module
from npTRPO.runs.presets import preset, presets, read_presets

NAMES = list(presets())
QUICK = ["--n-envs", 2, "--n-steps", 4, "--total-timesteps", 8, "--eval-episodes", 0, "--net-arch", 2]
DEFAULTS = TRPOConfig().to_dict()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def trained_with(directory="run"):
    return json.loads((Path(directory) / "config.json").read_text())


# --- the file --------------------------------------------------------------------------------------------


def test_there_are_presets_for_the_usual_tasks():
    assert {"CartPole-v1", "Acrobot-v1", "Pendulum-v1", "LunarLander-v3", "HalfCheetah-v5"} <= set(NAMES)


@pytest.mark.parametrize("env_id", NAMES)
def test_a_preset_is_of_a_registered_environment_and_has_steps_and_options_that_exist(env_id):
    assert gymnasium.spec(env_id).id == env_id
    settings = preset(env_id)
    assert settings["total_timesteps"] >= 10_000
    options = {name: value for name, value in settings.items() if name != "total_timesteps"}
    config = TRPOConfig(**options)
    assert {name: config.to_dict()[name] for name in options} == options
    batch = config.n_envs * config.steps_per_env(config.n_envs)
    assert settings["total_timesteps"] >= 10 * batch
    for name, value in settings.items():
        assert name not in ("seed", "vectorization_mode", "checkpoint_interval")
        assert DEFAULTS.get(name) != value, name  # it says nothing that goes without saying


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[A-v0]\ngama = 0.9", r"the preset of A-v0: 'gama' is no option of TRPO; did you mean 'gamma'\?"),
        ("[A-v0]\ngamma = 9.0", "the preset of A-v0: gamma must be a number from 0 to 1, but it is 9.0"),
        ('[A-v0]\ngamma = "much"', "the preset of A-v0: gamma must be a number"),
        ("A-v0 = 3", "the preset of A-v0: it is 3"),
        ("[A-v0]\ntotal_timesteps = 1.5", "the preset of A-v0: total_timesteps must be a whole number"),
        ("[A-v0]\ntotal_timesteps = true", "the preset of A-v0: total_timesteps must be a whole number"),
        ("[A-v0", "the presets can't be read"),
        ("a = " + 20_000 * "[", "the presets can't be read"),
        ("#" * 2**18, "the presets have more than 131,072 bytes"),
    ],
    ids=lambda text: text[:30],
)
def test_a_preset_that_is_wrong_is_refused_by_its_environment(text, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        read_presets(text.encode())


# --- training with it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "Acrobot-v1", "MountainCar-v0"])
def test_train_takes_the_preset_and_prints_it_as_one_would_write_it(env_id, capsys):
    assert run("train", env_id, "--out", "run", "--n-steps", 4, "--total-timesteps", 8) == 0
    first = capsys.readouterr().out.splitlines()[0]
    kept = {key: value for key, value in preset(env_id).items() if key not in ("n_steps", "total_timesteps")}
    assert first.startswith("preset: ") == bool(kept)
    words = shlex.split(first.removeprefix("preset: ")) if kept else []
    parsed = vars(make_parser().parse_args(["train", env_id, *words]))
    assert {key: parsed[key] for key in kept} == kept
    assert "n_steps" not in parsed
    assert parsed["total_timesteps"] is None
    config = trained_with()["config"]
    assert {key: config[key] for key in kept} == kept
    assert config["n_steps"] == 4
    assert TRPO.load("run/agent").config == TRPOConfig.from_dict(config)


def test_the_steps_of_a_preset_are_taken(monkeypatch, capsys):
    monkeypatch.setattr(module, "presets", lambda: {"CartPole-v1": {"total_timesteps": 16, "gamma": 0.5}})
    quick = ["--n-envs", 2, "--n-steps", 4, "--eval-episodes", 0, "--net-arch", 2]
    assert run("train", "CartPole-v1", "--out", "run", *quick) == 0
    assert capsys.readouterr().out.startswith("preset: --total-timesteps 16 --gamma 0.5\n")
    assert trained_with()["total_timesteps"] == 16
    assert TRPO.load("run/agent").num_timesteps == 16


def test_a_flag_has_the_last_word(capsys):
    chosen = ["--gamma", 0.5, "--gae-lambda", 0.7, "--target-kl", 0.03]
    assert run("train", "Pendulum-v1", "--out", "run", *QUICK, *chosen) == 0
    assert "preset" not in capsys.readouterr().out  # nothing of it is left
    config = trained_with()["config"]
    assert (config["gamma"], config["gae_lambda"], config["target_kl"]) == (0.5, 0.7, 0.03)
    assert (config["n_envs"], config["n_steps"]) == (2, 4)


def test_no_preset_starts_from_the_defaults(capsys):
    assert run("train", "Pendulum-v1", "--out", "run", "--no-preset", *QUICK) == 0
    assert "preset" not in capsys.readouterr().out
    config = trained_with()["config"]
    own = ("n_envs", "n_steps", "net_arch", "checkpoint_interval")
    assert config == DEFAULTS | {name: config[name] for name in own}


def test_from_python_there_are_no_presets():
    assert TRPO("MlpPolicy", "Pendulum-v1").config == TRPOConfig()


# --- a file of one's own ---------------------------------------------------------------------------------

OWN = """
total_timesteps = 16
target_kl = 0.02
gamma = 0.97
n_envs = 2
n_steps = 4
net_arch = [2]
normalize_rewards = false
"""


def test_a_file_takes_the_place_of_the_preset_and_a_flag_has_the_last_word(capsys):
    Path("own.toml").write_text(OWN)
    words = ["--preset", "own.toml", "--gamma", 0.5, "--eval-episodes", 0]
    assert run("train", "Pendulum-v1", "--out", "run", *words) == 0
    assert capsys.readouterr().out.startswith(
        "preset: --total-timesteps 16 --target-kl 0.02 --n-envs 2 --n-steps 4 --net-arch 2 "
        "--no-normalize-rewards\n"
    )
    found = trained_with()
    own = {"target_kl": 0.02, "gamma": 0.5, "n_envs": 2, "n_steps": 4, "net_arch": [2]}
    own |= {"normalize_rewards": False, "checkpoint_interval": found["config"]["checkpoint_interval"]}
    assert found["config"] == DEFAULTS | own  # and so nothing is left of Pendulum's preset
    assert found["total_timesteps"] == 16


def test_a_file_may_have_an_architecture_for_each_network(capsys):
    Path("own.toml").write_text(OWN.replace("[2]", "{pi = [3], vf = [2, 2]}"))
    assert run("train", "CartPole-v1", "--out", "run", "--preset", "own.toml", "--eval-episodes", 0) == 0
    assert 'net_arch = {"pi": [3], "vf": [2, 2]}' in capsys.readouterr().out
    assert trained_with()["config"]["net_arch"] == {"pi": [3], "vf": [2, 2]}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gama = 0.9", "'gama' is no option of TRPO; did you mean 'gamma'?"),
        ("total_timestep = 9", "'total_timestep' is no option of TRPO; did you mean 'total_timesteps'?"),
        ("gamma = 9.0", "gamma must be a number from 0 to 1, but it is 9.0"),
        ("total_timesteps = 0", "total_timesteps must be a whole number, at least 1, not 0"),
        ("[CartPole-v1]\ngamma = 0.9", "'CartPole-v1' is no option of TRPO; the options are "),
        ("gamma = ", "Invalid value"),
        (None, "[Errno 2] No such file or directory"),
    ],
    ids=str,
)
def test_a_file_that_is_wrong_is_refused_by_its_name(text, complaint, capsys):
    if text is not None:
        Path("own.toml").write_text(text)
    assert run("train", "CartPole-v1", "--preset", "own.toml", "--out", "run") == 1
    assert f"nptrpo: the preset own.toml can't be read: {complaint}" in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_run_that_is_resumed_takes_no_preset(capsys):
    Path("own.toml").write_text(OWN)
    assert run("train", "CartPole-v1", "--preset", "own.toml", "--out", "run", "--eval-episodes", 0) == 0
    for words, named in ((["--preset", "own.toml"], "--preset"), (["--no-preset"], "--no-preset")):
        capsys.readouterr()
        assert run("train", "--resume", "run", *words) == 2
        assert f"keeps its own settings, but {named} came with --resume" in capsys.readouterr().err


# --- listing them ----------------------------------------------------------------------------------------


def test_each_is_listed_as_the_command_that_it_stands_for(capsys):
    assert run("presets") == 0
    lines = capsys.readouterr().out.splitlines()
    options = {field.name for field in fields(TRPOConfig)}
    for line, env_id in zip(lines, NAMES, strict=True):
        words = shlex.split(line)
        assert words[:3] == ["nptrpo", "train", env_id]
        parsed = vars(make_parser().parse_args(words[1:]))
        found = {name: parsed[name] for name in parsed if name in options | {"total_timesteps"}}
        assert found == preset(env_id)


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        ({"normalize_rewards": False, "ortho_init": True}, "--no-normalize-rewards --ortho-init"),
        ({"net_arch": [32, 16], "dtype": "float64"}, "--net-arch 32 16 --dtype float64"),
        ({"learning_rate": 0.5, "n_envs": 3}, "--learning-rate 0.5 --n-envs 3"),
    ],
)
def test_settings_of_every_kind_are_written_as_flags(settings, written):
    assert as_flags(settings) == written
    parsed = vars(make_parser().parse_args(["train", "X", *shlex.split(written)]))
    assert {name: parsed[name] for name in settings} == settings
