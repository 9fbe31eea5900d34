"""Small files as this version writes them, for later versions to read: ``python -m tests.samples DIRECTORY``.

Those in tests/data/0.1.0 were written so by npTRPO 0.1.0; files of another format version get a directory of
their own, and none is ever written again. ``expected.json`` has what each agent is and does: the bits of θ,
and what it makes of some observations.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from npTRPO import TRPO, TRPOConfig
from npTRPO.runs.directory import RunDirectory, RunSettings

EVERYTHING = spaces.Dict(
    [
        ("z", spaces.Tuple((spaces.Discrete(3, start=-1), spaces.Box(-1, 1, (2, 2), np.float64)))),
        ("a", spaces.MultiDiscrete([2, 3], start=[0, 5])),
        ("bits", spaces.MultiBinary(3)),
        ("image", spaces.Box(0, 255, (2, 1), np.uint8)),
    ]
)


def linear(n_features, n_outputs):
    """A network of one's own."""
    return (
        lambda theta, x: x @ theta.reshape(n_features, n_outputs),
        lambda rng: rng.standard_normal(n_features * n_outputs),
    )


OWN: dict[str, dict[str, Any]] = {"own-network": {"policy_kwargs": {"network": linear}}}
SPACES = {
    "gaussian": (spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(np.array([-1, -2.5]), 2, (2,), np.float64)),
    "multi-categorical": (EVERYTHING, spaces.MultiDiscrete([2, 3])),
    "bernoulli": (spaces.Discrete(4), spaces.MultiBinary((2, 1))),
    "own-network": (spaces.Box(-1, 1, (2,)), spaces.Discrete(2)),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "gaussian": {"dtype": "float64", "net_arch": {"pi": [3, 2], "vf": []}, "log_std_init": -0.5},
    "multi-categorical": {"net_arch": [2], "normalize_observations": False},
    "bernoulli": {"net_arch": [], "activation_fn": "relu"},
    "own-network": {},
}


def answered(agent):
    """What an agent is and does, as JSON; of observations, the flattened ones."""
    space = agent.policy.observation_space
    space.seed(0)
    seen = [space.sample() for _ in range(5)]
    return {
        "theta": agent.theta.tobytes().hex(),
        "value_theta": agent.value_theta.tobytes().hex(),
        "num_timesteps": agent.num_timesteps,
        "observations": [spaces.flatten(space, each).astype(np.float64).tolist() for each in seen],
        **answers(agent, seen),
    }


def answers(agent, seen):
    """The most probable actions, and what the network makes of the observations as they are."""
    space = agent.policy.observation_space
    rows = np.array([spaces.flatten(space, each) for each in seen]).astype(agent.theta.dtype)
    outputs = agent.policy.outputs(agent.theta, rows)
    return {
        "actions": [np.asarray(agent.predict(each, deterministic=True)[0]).tolist() for each in seen],
        "outputs": np.hstack(outputs if isinstance(outputs, tuple) else [outputs]).tolist(),
    }


def write(directory):
    """Write the files."""
    directory.mkdir(parents=True)
    cartpole = TRPO("MlpPolicy", "CartPole-v1", n_envs=2, n_steps=16, net_arch=[2], value_fit="adam", seed=0)
    agents = {"categorical": cartpole.learn(64)}
    for seed, (name, options) in enumerate(OPTIONS.items()):
        agents[name] = TRPO(spaces=SPACES[name], seed=seed, **options, **OWN.get(name, {}))
    for name, agent in agents.items():
        agent.save(directory / f"{name}.npz")
    config = TRPOConfig(n_envs=2, n_steps=16, net_arch=(2,), checkpoint_interval=2, seed=0)
    run = RunDirectory.create(directory / "run", RunSettings("CartPole-v1", 5 * 32, 1), config)
    agents["run/agent"] = run.train()
    for path in [*directory.glob("run/events.*"), directory / "run" / ".lock"]:
        path.unlink()
    file = directory / "run" / "config.json"
    machine_apart = json.loads(file.read_text()) | {"machine": {}, "commit": None}
    file.write_text(json.dumps(machine_apart, indent=2) + "\n")
    expected = {name: answered(agent) for name, agent in agents.items()}
    (directory / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
