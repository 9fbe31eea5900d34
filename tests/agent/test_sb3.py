"""The README's table of arguments, for those who come from Stable-Baselines3, is true."""

import dataclasses
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from npTRPO import TRPO, TRPOConfig
from npTRPO.agent import sb3
from npTRPO.trust_region import update
from tests.environments import TwoStates, registered, vectorized

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TABLE = re.search(r"\| argument \| here \|\n\|---\|---\|\n(.*?)\n\n", README, re.DOTALL)[1]
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ", 1)] for line in TABLE.splitlines()]
OURS = registered(TwoStates)
QUICK = {"n_envs": 2, "n_steps": 16, "net_arch": (4,), "seed": 0}


def linear(n_features, n_outputs):
    return (
        lambda theta, x: x @ theta.reshape(n_features, n_outputs),
        lambda rng: np.zeros(n_features * n_outputs),
    )


class ReLU:
    """Named as torch.nn.ReLU is, without torch."""

    __module__ = "torch.nn.modules.activation"


class ELU:
    __module__ = "torch.nn.modules.activation"


class TorchDevice:
    def __str__(self):
        return "cpu"


# For each argument values that are taken; and values that are refused with what is said of them, where it is
# more than that of any option (test_config.py).
ACCEPTED = {
    "policy": ["MlpPolicy", "MultiInputPolicy"],
    "env": [OURS, TwoStates, TwoStates(), vectorized(2 * [TwoStates])],
    "env_kwargs": [None, {}],
    "wrappers": [(), [lambda env: env]],
    "learning_rate": [1e-3, 0.5],
    "batch_size": [1, 64],
    "n_critic_updates": [1, 10],
    "n_steps": [1, 16],
    "n_shards": [1, 2],
    "workers": [None, 1],
    "info_keys": [()],
    "improve": [None, update],
    "gamma": [0.0, 0.98, 1.0],
    "gae_lambda": [0.0, 0.9, 1.0],
    "normalize_advantage": [True, False],
    "target_kl": [0.001, 1.0],
    "cg_max_steps": [1, 25],
    "cg_damping": [0.0, 0.1],
    "line_search_shrinking_factor": [0.1, 0.9],
    "line_search_max_iter": [1, 10],
    "sub_sampling_factor": [1, 3],
    "discounted_states": [True, False],
    "damped_step": [True, False],
    "rescale_actions": [True, False],
    "mask_actions": [False],
    "policy_kwargs": [
        None,
        {},
        {"net_arch": [32, 32]},
        {"net_arch": {"pi": [8], "vf": [8, 8]}},
        {"net_arch": [{"pi": [8], "vf": [8, 8]}]},
        {"activation_fn": "relu"},
        {"activation_fn": ReLU},
        {"log_std_init": -1.0},
        {"ortho_init": False},
        {"network": linear},
        {"distribution": None},
        {"state_dependent_std": False},
    ],
    "tensorboard_log": [None],
    "sde_sample_freq": [-1, 4],
    "rollout_buffer_class": [None],
    "rollout_buffer_kwargs": [None, {}],
    "stats_window_size": [100],
    "verbose": [0, 1],
    "seed": [None, 0, 7],
    "use_sde": [False],
    "device": ["auto", "cpu", TorchDevice()],
    "n_envs": [1, 3],
    "vectorization_mode": [None, "sync"],
    "value_fit": ["trust_region", "lbfgs", "adam"],
    "cg_rtol": [0.0, 0.1],
    "cg_beta": ["fletcher-reeves", "polak-ribiere"],
    "cg_preconditioner": ["kronecker", "identity"],
    "dtype": ["float32", "float64"],
    "checkpoint_interval": [None, 5],
    "normalize_observations": [True, False],
    "normalize_rewards": [True, False],
}
REFUSED = {
    "policy": [
        ("CnnPolicy", "policy must be 'MlpPolicy' or 'MultiInputPolicy', not 'CnnPolicy'; for images, give"),
        ("MlpLstmPolicy", "policy must be 'MlpPolicy' or 'MultiInputPolicy', not 'MlpLstmPolicy'"),
    ],
    "env": [
        ("NoSuch-v0", "there is no environment 'NoSuch-v0'"),
        (7, "env must be the id of an environment"),
        (object(), "not object; make_vec_env's copies are made here too: give the id and n_envs"),
    ],
    "learning_rate": [
        (0.0, "learning_rate"),
        (lambda _: 1e-3, "learning_rate must be a number, as a schedule is code"),
    ],
    "policy_kwargs": [
        ({"features_extractor_class": object}, "'features_extractor_class' is no option in policy_kwargs"),
        ({"activation_fn": np.tanh}, "activation_fn must be one of 'relu', 'sigmoid', 'silu', 'tanh'"),
        ({"activation_fn": ELU}, "one of 'relu', 'sigmoid', 'silu', 'tanh', but it is 'elu'"),
        ({"net_arch": {"pi": [8], "q": [8]}}, "net_arch must be a list of layer widths, or dict"),
        ({"network": 3}, "network must be a factory, as Policy.for_spaces describes it, not 3"),
        ({"distribution": "gamma"}, "distribution must be one of None, 'beta', but it is 'gamma'"),
        ({"distribution": "beta"}, "a beta distribution is for the actions of a Box, not of Discrete"),
    ],
    "use_sde": [(True, "use_sde=True isn't supported")],
    "rollout_buffer_class": [(object, "rollout_buffer_class must be None, as a batch is")],
    "rollout_buffer_kwargs": [({"buffer_size": 3}, "rollout_buffer_kwargs must be None or {}")],
    "stats_window_size": [(10, "stats_window_size must be 100, as the log's means")],
    "device": [("cuda", "device must be 'auto' or 'cpu'"), ("cuda:0", "not 'cuda:0'")],
}


def agent(**changed):
    options = QUICK | {"policy": "MlpPolicy", "env": OURS} | changed
    if "net_arch" in (options.get("policy_kwargs") or {}):
        del options["net_arch"]
    return TRPO(options.pop("policy"), options.pop("env"), **options)


def named_in(cell):
    """Arguments of TRPO() that a cell of the table names: words in code, less functions and values."""
    return [word for word in re.findall(r"`([a-z_]+)`", cell) if word in ACCEPTED or word not in dir(TRPO)]


# --- the table -------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_every_argument_and_every_argument_has_cases():
    named = {word for first, _ in ROWS for word in named_in(first)}
    ours = {word for first, second in ROWS if first in ("ours", "VecNormalize") for word in named_in(second)}
    assert named | ours == set(ACCEPTED)
    parameters = set(inspect.signature(TRPO).parameters) - {"config", "spaces", "entropy", "options"}
    assert parameters <= named | ours
    of_load = {"custom_objects", "print_system_info", "force_reset"}
    assert set(sb3._ONLY) - of_load - {"_init_setup_model"} <= named
    fields = {field.name for field in dataclasses.fields(TRPOConfig)}
    in_kwargs = {
        "net_arch",
        "activation_fn",
        "log_std_init",
        "ortho_init",
        *("distribution", "state_dependent_std"),
    }
    assert fields - in_kwargs <= named | ours
    assert in_kwargs <= set(re.findall(r"`([a-z_]+)`", dict(ROWS)["`policy_kwargs`"]))


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in ACCEPTED.items() for value in values]
)
def test_what_the_table_says_is_taken_is_taken_and_trained_with(name, value, capsys):
    made = agent(**{name: value}).learn(64)
    assert made.num_timesteps >= 64
    assert np.all(np.isfinite(made.theta))
    field = getattr(made.config, name, None)
    if field is not None and not callable(value):
        assert field == value
    assert bool(capsys.readouterr().out) == (name == "verbose" and value == 1)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [(name, value, said) for name, cases in REFUSED.items() for value, said in cases],
)
def test_what_it_says_is_not_is_refused_with_the_reason(name, value, said):
    with pytest.raises((ValueError, TypeError, NotImplementedError)) as caught:
        agent(**{name: value})
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["ent_coef", "clip_range", "n_epochs"])
def test_what_is_not_in_the_table_is_no_option(name):
    assert name not in TABLE
    with pytest.raises(TypeError, match=f"'{name}' is no option of TRPO"):
        agent(**{name: 1})


SCRIPT = """
import gymnasium as gym
import numpy as np
from npTRPO import TRPO, evaluate_policy

env = gym.make("Pendulum-v1")
model = TRPO(
    "MlpPolicy", env, learning_rate=0.0003, n_steps=64, batch_size=32, gamma=0.99, cg_max_steps=15,
    cg_damping=0.1, line_search_shrinking_factor=0.8, line_search_max_iter=10, n_critic_updates=10,
    gae_lambda=0.95, use_sde=False, sde_sample_freq=-1, rollout_buffer_class=None, rollout_buffer_kwargs=None,
    normalize_advantage=True, target_kl=0.01, sub_sampling_factor=1, stats_window_size=100,
    tensorboard_log="log", policy_kwargs=None, verbose=1, seed=None, device="auto", _init_setup_model=True,
)
model.learn(total_timesteps=1e2, callback=None, log_interval=4, tb_log_name="first", progress_bar=True)
model.learn(100, tb_log_name="first", reset_num_timesteps=False)
model.save("models/trpo_pendulum")
rewards, lengths = evaluate_policy(model, model.get_env(), n_eval_episodes=2, return_episode_rewards=True)
del model

model = TRPO.load("models/trpo_pendulum", env=env, device="cpu", print_system_info=False)
obs, _ = env.reset()
for _ in range(3):
    action, _states = model.predict(obs, state=None, episode_start=np.array([True]), deterministic=True)
    obs, reward, terminated, truncated, info = env.step(action)
steps = model.num_timesteps
"""


def test_a_script_that_names_every_argument_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboardX", reason="it brings the format of the events")
    pytest.importorskip("rich", reason="the script asks for a progress bar")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(SCRIPT, "script", "exec"), names)
    assert names["steps"] == 256
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["steps", "steps", "192", "256"]  # one header each, and no line twice
    assert names["lengths"] == [200, 200]
    assert len(list(tmp_path.glob("log/first_1/events.*"))) == 2
    assert (tmp_path / "models" / "trpo_pendulum.npz").is_file()


# --- what "same" means -----------------------------------------------------------------------------------


def test_the_default_value_fit_needs_no_learning_rate_nor_minibatches():
    fits = [
        agent(value_fit=fit, **options).learn(64).value_theta.tobytes()
        for fit in ("trust_region", "adam")
        for options in ({}, {"learning_rate": 0.5, "batch_size": 4})
    ]
    assert fits[0] == fits[1]
    assert len(set(fits)) == 3


def test_sub_sampling_thins_the_fisher_information_only():
    kept = [next(agent(sub_sampling_factor=factor).updates(32)).update for factor in (1, 4)]
    assert kept[0].gradient_norm == kept[1].gradient_norm
    assert kept[0].step_norm != kept[1].step_norm


def test_each_run_has_its_events_apart_and_a_run_that_goes_on_has_them_together(tmp_path):
    """As Stable-Baselines3 numbers its directories: TRPO_1, TRPO_2, …"""
    pytest.importorskip("tensorboardX", reason="it brings the format of the events")
    (tmp_path / "TRPO_x").mkdir()
    (tmp_path / "TRPO_other_7").mkdir()
    made = agent(tensorboard_log=tmp_path)
    for name, reset, expected in (
        ("TRPO", False, "TRPO_1"),
        ("TRPO", True, "TRPO_2"),
        ("TRPO", False, "TRPO_2"),
        ("a[1]", True, "a[1]_1"),
        ("a[1]", True, "a[1]_2"),
        ("TRPO", True, "TRPO_3"),
        ("deeper/b", True, "deeper/b_1"),
        ("deeper/b", False, "deeper/b_1"),
    ):
        before = set(tmp_path.rglob("events.*"))
        made.learn(32, tb_log_name=name, reset_num_timesteps=reset)
        [new] = set(tmp_path.rglob("events.*")) - before
        assert new.parent == tmp_path / expected
    (tmp_path / "TRPO_10").mkdir()  # comes after 9, not after 1
    made.learn(32)
    assert (tmp_path / "TRPO_11").is_dir()
    with pytest.raises(TypeError, match="tb_log_name must be a string, not False"):
        made.learn(32, tb_log_name=False)


def test_learn_takes_its_arguments_in_the_order_of_the_table():
    order = re.search(r"`learn\(([a-z_, ]+)\)`", TABLE)[1].split(", ")
    assert list(inspect.signature(TRPO.learn).parameters) == ["self", *order]
    records = []
    made = agent()
    assert made.learn(64, records.append, 1, "TRPO", False, False) is made
    assert [type(record).__name__ for record in records] == ["Record", "Record"]


def test_an_agent_goes_on_with_the_options_that_load_is_given(tmp_path, capsys):
    made = agent(target_kl=0.01).learn(64)
    made.save(tmp_path / "agent")
    same = TRPO.load(tmp_path / "agent", OURS, "cpu", {})
    assert same.config == made.config
    assert same.verbose == 0
    other = TRPO.load(
        tmp_path / "agent", env=OURS, target_kl=0.5, n_steps=8, n_envs=3, verbose=1, print_system_info=False
    )
    assert other.config == dataclasses.replace(made.config, target_kl=0.5, n_steps=8, n_envs=3)
    assert other.n_envs == 3
    assert other.learn(24, reset_num_timesteps=False).num_timesteps == 64 + 24
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert TRPO.load(tmp_path / "agent", tensorboard_log=tmp_path / "log").tensorboard_log == tmp_path / "log"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"net_arch": [3]}, r"net_arch can't be changed: the agent was made with \(4,\)"),
        ({"dtype": "float64"}, "dtype can't be changed: the agent was made with 'float32'"),
        ({"seed": 3}, "seed can't be changed"),
        ({"gama": 0.9}, "did you mean 'gamma'"),
        ({"gamma": 2}, "gamma must be a number from 0 to 1"),
        ({"custom_objects": {"learning_rate": 0.0}}, "custom_objects must be None or {}, as nothing"),
        ({"device": "cuda"}, "device must be 'auto' or 'cpu'"),
    ],
)
def test_what_load_cannot_change_it_refuses(options, said, tmp_path):
    agent().save(tmp_path / "agent")
    with pytest.raises((TypeError, ValueError), match=said):
        TRPO.load(tmp_path / "agent", **options)


def test_scripts_find_the_spaces_and_the_number_of_environments():
    made = agent(n_envs=3)
    assert TRPO(spaces=(made.observation_space, made.action_space)).get_env() is None
    assert made.observation_space == made.get_env().single_observation_space
    assert made.action_space == made.get_env().single_action_space
    assert made.n_envs == 3
    made.set_env(TwoStates())
    assert made.n_envs == 1
