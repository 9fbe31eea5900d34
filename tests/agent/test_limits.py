"""Types and sizes at their limits: each trains to finite numbers, and from the command line too."""

import json

import numpy as np
import pytest
from gymnasium import spaces

from npTRPO import TRPO, TRPOConfig, cli, evaluate_policy
from npTRPO.runs.directory import RunDirectory, RunSettings
from npTRPO.trust_region.update import UpdateOutcome
from tests.environments import Choosy, vectorized
from tests.parameters import crossed

FITS = ["trust_region", "lbfgs", "adam"]
each_fit = pytest.mark.parametrize("fit", FITS)
DTYPES = ["float32", "float64"]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def trained(observation=None, action=None, copies=2, updates=3, **options):
    """An agent that learned in an environment with these spaces, and what became of its updates."""
    envs = vectorized([lambda: Choosy(observation, action)] * copies)
    agent = TRPO("MlpPolicy", envs, **{"n_steps": 8, "net_arch": (4,), "seed": 0} | options)
    outcomes = []
    steps = updates * copies * agent.config.n_steps
    agent.learn(steps, callback=lambda record: outcomes.append(record.update.outcome))
    assert all(np.all(np.isfinite(array)) for array in agent.learner.arrays().values())
    return agent, outcomes


# --- numbers of options ------------------------------------------------------------------------------------


def test_numpy_scalars_are_as_good_as_pythons_numbers_to_the_bit(tmp_path):
    plain = {"n_envs": 2, "n_steps": 8, "seed": 3, "gamma": 0.5, "target_kl": 0.25, "net_arch": [4]}
    scalars = {
        "n_envs": np.int8(2),
        "n_steps": np.uint64(8),
        "seed": np.int64(3),
        "gamma": np.float32(0.5),
        "target_kl": np.float64(0.25),
        "net_arch": [np.int16(4)],
        "normalize_advantage": np.True_,
    }
    agents = [TRPO("MlpPolicy", "CartPole-v1", **options) for options in (plain, scalars)]
    for agent in agents:
        agent.learn(np.int32(32))
    assert agents[0].config == agents[1].config
    assert agents[0].theta.tobytes() == agents[1].theta.tobytes()
    assert agents[0].num_timesteps == agents[1].num_timesteps == 32
    agents[1].save(tmp_path / "agent")  # as JSON, which knows no scalars of NumPy's
    assert TRPO.load(tmp_path / "agent").config == agents[0].config
    means = [
        evaluate_policy(agents[0], n_eval_episodes=n, seed=seed)
        for n, seed in ((2, 1), (np.int64(2), np.uint8(1)))
    ]
    assert means[0] == means[1]


def test_a_small_scalar_of_steps_is_added_to_many_without_overflow():
    agent = TRPO("MlpPolicy", "CartPole-v1", n_envs=2, n_steps=8, seed=0, net_arch=[2]).learn(240)
    agent.learn(np.int8(100), reset_num_timesteps=False)
    assert agent.num_timesteps == 352
    assert type(agent.num_timesteps) is int


def test_a_run_is_described_by_pythons_numbers(tmp_path):
    settings = RunSettings("CartPole-v1", np.int64(32), np.int8(1), np.float32(60))
    config = TRPOConfig(n_envs=2, n_steps=8, seed=np.int64(0), checkpoint_interval=np.int64(1))
    RunDirectory.create(tmp_path / "run", settings, config).train()
    described = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (described["total_timesteps"], described["eval_episodes"], described["env_timeout"]) == (
        32,
        1,
        60.0,
    )
    assert RunDirectory.resume(tmp_path / "run", np.int64(64)).train().num_timesteps == 64


@pytest.mark.parametrize("seed", [0, 2**31, 2**53 + 1, 2**63 - 1, 2**63])
def test_seeds_are_whole_numbers_of_any_size_and_each_is_one_of_its_own(seed, tmp_path):
    options = {"n_envs": 2, "n_steps": 8, "checkpoint_interval": 2}
    agents = [TRPO("MlpPolicy", "CartPole-v1", seed=s, **options) for s in (seed, seed, seed + 1)]
    thetas = [agent.learn(32).theta.tobytes() for agent in agents]
    assert thetas[0] == thetas[1] != thetas[2]
    agents[0].save(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent", env="CartPole-v1")
    assert loaded.config.seed == seed
    again = [agent.learn(32, reset_num_timesteps=False).theta.tobytes() for agent in (loaded, agents[1])]
    assert again[0] == again[1]
    assert evaluate_policy(loaded, n_eval_episodes=1, seed=min(seed, 2**63 - 1))[0] > 0


@pytest.mark.parametrize("seed", [2**63 - 1, 2**63])
def test_the_command_takes_such_seeds_and_resumes_with_them(seed, tmp_path, capsys):
    run = str(tmp_path / "run")
    words = ["--no-preset", "--n-envs", "2", "--n-steps", "8", "--eval-episodes", "1", "--net-arch"]
    assert (
        cli.main(
            ["train", "CartPole-v1", "--seed", str(seed), "--total-timesteps", "32", "--out", run, *words]
        )
        == 0
    )
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["seed"] == seed
    assert cli.main(["train", "--resume", run, "--total-timesteps", "64"]) == 0
    assert cli.main(["evaluate", f"{run}/agent.npz", "--episodes", "1", "--seed", str(seed)]) == 0
    assert capsys.readouterr().err == ""


# --- sizes -------------------------------------------------------------------------------------------------


@each_fit
@each_dtype
def test_without_hidden_layers_the_policy_is_linear(fit, dtype):
    agent, outcomes = trained(net_arch=(), value_fit=fit, dtype=dtype)
    assert outcomes == [UpdateOutcome.IMPROVED] * 3
    x = np.random.default_rng(0).standard_normal((2, 5, 2))
    outputs = [agent.policy.outputs(agent.theta.astype(float), rows) for rows in (*x, x[0] + x[1], 0 * x[0])]
    np.testing.assert_allclose(outputs[0] + outputs[1], outputs[2] + outputs[3], rtol=0, atol=1e-13)
    assert agent.theta.size == 2 * 2 + 2
    assert agent.value_theta.size == 2 + 1


@each_fit
@pytest.mark.parametrize("apart", [{"pi": [], "vf": [3]}, {"pi": [3], "vf": []}], ids=str)
def test_one_of_the_networks_may_be_linear(fit, apart):
    assert trained(net_arch=apart, value_fit=fit)[1] == [UpdateOutcome.IMPROVED] * 3


@pytest.mark.parametrize(("fit", "dtype", "copies"), crossed(FITS, DTYPES, [1, 2, 7]))
def test_a_rollout_may_have_a_single_step(fit, dtype, copies):
    """And a batch a single row, where its advantage isn't normalised: that would be zero."""
    normalised = copies > 1
    agent, outcomes = trained(
        copies=copies, n_steps=1, updates=12, value_fit=fit, dtype=dtype, normalize_advantage=normalised
    )
    assert len(outcomes) == 12
    assert agent.num_timesteps == 12 * copies
    assert UpdateOutcome.IMPROVED in outcomes


@each_fit
@pytest.mark.parametrize("copies", [3, 5])
@pytest.mark.parametrize(
    "options", [{"batch_size": 64}, {"batch_size": 4, "sub_sampling_factor": 6}], ids=str
)
def test_batches_are_divisible_by_nothing(fit, copies, options):
    agent, outcomes = trained(copies=copies, n_steps=13, value_fit=fit, checkpoint_interval=2, **options)
    assert outcomes == [UpdateOutcome.IMPROVED] * 3
    assert agent.num_timesteps == 3 * 13 * copies


# --- spaces ------------------------------------------------------------------------------------------------

OBSERVATIONS = {
    "no bounds": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "half a bound": spaces.Box(np.array([-np.inf, 0, -1]), np.array([0, np.inf, 1]), dtype=np.float64),
    "float16": spaces.Box(-1, 1, (3,), np.float16),
    "the largest numbers": spaces.Box(-np.finfo(np.float32).max / 4, np.finfo(np.float32).max / 4, (2,)),
    "a number": spaces.Box(-1, 1, ()),
    "a single state": spaces.Discrete(1),
    "a single choice": spaces.MultiDiscrete([1, 1]),
    "images of int8": spaces.Box(-128, 127, (4, 3, 2), np.int8),
    "images of bytes": spaces.Box(0, 255, (4, 3, 2), np.uint8),
    "int64 to its ends": spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (2,), np.int64),
    "one bit": spaces.MultiBinary(1),
    "a thousand states": spaces.Discrete(1000, start=-500),
}
ACTIONS = {
    "no choice": spaces.Discrete(1),
    "no choice, from elsewhere": spaces.Discrete(1, start=-7),
    "no choices": spaces.MultiDiscrete([1, 1]),
    "a choice and none": spaces.MultiDiscrete([1, 3]),
    "no bounds": spaces.Box(-np.inf, np.inf, (2,)),
    "half a bound": spaces.Box(np.array([-np.inf, 0]), np.array([0, np.inf]), dtype=np.float64),
    "a point": spaces.Box(1, 1, (1,)),
    "float16": spaces.Box(-1, 1, (2,), np.float16),
    "int8": spaces.Box(-128, 127, (2, 1), np.int8),
    "bytes": spaces.Box(0, 255, (1,), np.uint8),
    "one bit": spaces.MultiBinary(1),
}


@pytest.mark.parametrize(("observation", "fit"), crossed(OBSERVATIONS, FITS))
@pytest.mark.parametrize("normal", [True, False])
def test_observations_of_any_kind_are_learned_from(observation, fit, normal, tmp_path):
    agent, _ = trained(OBSERVATIONS[observation], None, value_fit=fit, normalize_observations=normal)
    agent.save(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent")
    space = OBSERVATIONS[observation]
    space.seed(0)
    seen = [space.sample() for _ in range(3)]
    assert [loaded.predict(o, True)[0] for o in seen] == [agent.predict(o, True)[0] for o in seen]


@pytest.mark.parametrize(("action", "fit"), crossed(ACTIONS, FITS))
@each_dtype
def test_actions_of_any_kind_are_taken(action, fit, dtype, tmp_path):
    space = ACTIONS[action]
    agent, outcomes = trained(None, space, value_fit=fit, dtype=dtype)
    if "no choice" in action:
        assert set(outcomes) == {UpdateOutcome.ZERO_GRADIENT}
    for deterministic in (True, False):
        taken, _ = agent.predict(np.zeros(2, np.float32), deterministic)
        assert space.contains(taken)
    agent.save(tmp_path / "agent")
    assert TRPO.load(tmp_path / "agent").policy.action_space == space
