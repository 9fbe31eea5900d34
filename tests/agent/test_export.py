"""Exported policies act as the agents that they were exported from."""

import ast
import runpy
import subprocess
import sys

import numpy as np
import pytest
from gymnasium import spaces

from npTRPO import TRPO, Categorical
from npTRPO.sampling.normalization import Moments

BOX = spaces.Box(-1, 1, (2, 3), np.float32)
OBSERVATIONS = {
    "float32": BOX,
    "float64": spaces.Box(-np.inf, np.inf, (4,), np.float64),
    "uint8": spaces.Box(0, 255, (3, 2), np.uint8),
    "Discrete": spaces.Discrete(5, start=-2),
    "MultiDiscrete": spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [-1, 5]]),
    "MultiBinary": spaces.MultiBinary((2, 2)),
    "Dict": spaces.Dict({"b": BOX, "a": spaces.Discrete(3), "c": spaces.Tuple([spaces.MultiBinary(2), BOX])}),
    "Tuple": spaces.Tuple([spaces.Discrete(2), spaces.Dict({"x": BOX})]),
}
ACTIONS = {
    "Discrete": (spaces.Discrete(4, start=3), {}),
    "MultiDiscrete": (spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [-1, 5]]), {}),
    "MultiBinary": (spaces.MultiBinary((2, 3)), {}),
    "Box": (spaces.Box(-1, 1, (2, 2), np.float32), {}),
    "wide": (spaces.Box(np.float32([-2, 0]), np.float32([3, 1000])), {"log_std_init": -1.0}),
    "plain": (spaces.Box(np.float32([-2, 0]), np.float32([3, 1000])), {"rescale_actions": False}),
    "integers": (spaces.Box(-3, 9, (3,), np.int32), {}),
    "infinite": (spaces.Box(-np.inf, np.inf, (2,), np.float64), {}),
    "beta": (spaces.Box(0, 5, (2,), np.float32), {"policy_kwargs": {"distribution": "beta"}}),
    "deviations": (spaces.Box(-1, 1, (2,), np.float32), {"policy_kwargs": {"state_dependent_std": True}}),
}
PAIRS = [(name, "Discrete") for name in OBSERVATIONS] + [("float32", name) for name in ACTIONS]


def trained(observations, actions, seed=0, **options):
    """An agent with moments and parameters as after training."""
    space, of_actions = ACTIONS[actions]
    options = {"net_arch": (7, 5), "seed": seed} | of_actions | options
    agent = TRPO("MlpPolicy", spaces=(OBSERVATIONS[observations], space), **options)
    rng = np.random.default_rng(seed)
    agent.theta = agent.theta + 0.5 * rng.standard_normal(agent.theta.size)
    if agent.observation_moments is not None:
        rows = rng.normal(rng.standard_normal(agent.policy.n_features), 0.5, (50, agent.policy.n_features))
        agent.observation_moments = Moments.of(rows)
    return agent


def drawn(space, n):
    """So many observations of a space, one by one."""
    space.seed(0)
    return [space.sample() for _ in range(n)]


def batch(space, samples):
    if isinstance(space, spaces.Dict):
        return {key: batch(part, [each[key] for each in samples]) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(batch(part, [each[i] for each in samples]) for i, part in enumerate(space.spaces))
    return np.array(samples)


def program(agent, tmp_path):
    agent.export(tmp_path / "policy.py")
    return runpy.run_path(str(tmp_path / "policy.py"))["predict"]


@pytest.mark.parametrize(("observations", "actions"), PAIRS)
def test_a_program_acts_as_the_agent_on_a_thousand_observations(observations, actions, tmp_path):
    agent = trained(observations, actions)
    predict, samples = program(agent, tmp_path), drawn(OBSERVATIONS[observations], 1000)
    together = batch(OBSERVATIONS[observations], samples)
    expected, _ = agent.predict(together, deterministic=True)
    found = predict(together)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found.reshape(1000, -1), axis=0)) > 1
    for sample in samples[:5]:
        one, _ = agent.predict(sample, deterministic=True)
        np.testing.assert_array_equal(predict(sample), one)
        assert np.shape(predict(sample)) == np.shape(one)


@pytest.mark.parametrize("activation_fn", ["tanh", "relu", "sigmoid", "silu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_program_has_every_activation_and_dtype(activation_fn, dtype, tmp_path):
    agent = trained("float32", "Box", activation_fn=activation_fn, dtype=dtype, normalize_observations=False)
    together = np.array(drawn(BOX, 100))
    np.testing.assert_array_equal(
        program(agent, tmp_path)(together), agent.predict(together, deterministic=True)[0]
    )


def test_a_program_keeps_to_the_masks_in_its_observations(tmp_path):
    space = spaces.Dict({"action_mask": spaces.MultiBinary(4), "x": BOX})
    agent = TRPO("MlpPolicy", spaces=(space, spaces.Discrete(4)), mask_actions=True, seed=0)
    samples = drawn(space, 300)
    for sample in samples:
        sample["action_mask"][np.random.default_rng(sample["action_mask"].sum()).integers(4)] = 1
    together = batch(space, samples)
    found = program(agent, tmp_path)(together)
    np.testing.assert_array_equal(found, agent.predict(together, deterministic=True)[0])
    assert np.all(together["action_mask"][np.arange(300), found] == 1)


def test_a_program_needs_numpy_alone(tmp_path):
    agent = trained("Dict", "Box")
    agent.export(tmp_path / "policy.py")
    tree = ast.parse((tmp_path / "policy.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(node) for node in imports] == ["import numpy as np"]
    code = "import sys, policy; print('npTRPO' in sys.modules, 'gymnasium' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros((3, 2)), r"observations have shape \(3, 2\), not \(2, 3\)"),
        (np.full((2, 3), np.nan), "the observation is not finite"),
    ],
)
def test_a_program_refuses_what_the_agent_refuses(observation, message, tmp_path):
    predict = program(trained("float32", "Discrete"), tmp_path)
    with pytest.raises(ValueError, match=message):
        predict(observation)


def test_a_program_refuses_numbers_that_its_discrete_space_has_not(tmp_path):
    predict = program(trained("Discrete", "Discrete"), tmp_path)
    for wrong in (-3, 3, 0.5):
        with pytest.raises(ValueError, match="none of the 5 values of its space"):
            predict(wrong)


# --- ONNX ------------------------------------------------------------------------------------------------

FLAT = [pair for pair in PAIRS if pair[0] not in ("Dict", "Tuple")]


@pytest.mark.parametrize(("observations", "actions"), FLAT)
def test_an_onnx_model_acts_as_the_agent(observations, actions, tmp_path):
    """Products are summed in another order there: to rounding, and but for near ties."""
    pytest.importorskip("onnx", reason="it brings the format")
    runtime = pytest.importorskip("onnxruntime", reason="it runs the model")
    agent = trained(observations, actions)
    agent.export(tmp_path / "policy.onnx")
    session = runtime.InferenceSession(tmp_path / "policy.onnx", providers=["CPUExecutionProvider"])
    together = np.array(drawn(OBSERVATIONS[observations], 1000), OBSERVATIONS[observations].dtype)
    [found] = session.run(["actions"], {"observations": together})
    expected, _ = agent.predict(together, deterministic=True)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if found.dtype.kind == "f":
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)
    else:
        assert np.mean(found == expected) >= 0.999


@pytest.mark.parametrize("activation_fn", ["tanh", "relu", "sigmoid", "silu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_onnx_model_has_every_activation_and_dtype(activation_fn, dtype, tmp_path):
    pytest.importorskip("onnx", reason="it brings the format")
    runtime = pytest.importorskip("onnxruntime", reason="it runs the model")
    agent = trained("float32", "Box", activation_fn=activation_fn, dtype=dtype, normalize_observations=False)
    agent.export(tmp_path / "policy.onnx")
    session = runtime.InferenceSession(tmp_path / "policy.onnx", providers=["CPUExecutionProvider"])
    together = np.array(drawn(BOX, 100))
    [found] = session.run(None, {"observations": together})
    np.testing.assert_allclose(found, agent.predict(together, deterministic=True)[0], rtol=0, atol=1e-5)


# --- what can't be exported --------------------------------------------------------------------------------


def linear(n_features, n_outputs):
    return lambda theta, x: x @ theta.reshape(n_features, n_outputs), lambda rng: rng.random(
        n_features * n_outputs
    )


def test_what_cannot_be_exported_is_refused_and_leaves_no_file(tmp_path):
    plain = trained("float32", "Discrete")
    for name in ("policy", "policy.txt", "policy.npz"):
        with pytest.raises(ValueError, match=r"must end in \.py or \.onnx"):
            plain.export(tmp_path / name)
    own = {"network": linear, "distribution": lambda space: (4, Categorical)}
    for kwargs, named in [
        ({"network": linear}, "a network of one's own"),
        (own, "a distribution and a network of one's own"),
    ]:
        agent = TRPO("MlpPolicy", spaces=(BOX, spaces.Discrete(4)), policy_kwargs=kwargs)
        for ending in ("py", "onnx"):
            with pytest.raises(NotImplementedError, match=named):
                agent.export(tmp_path / f"policy.{ending}")
    masked = TRPO("MlpPolicy", spaces=(BOX, spaces.Discrete(4)), mask_actions=True)
    with pytest.raises(NotImplementedError, match="masks must be in the observations"):
        masked.export(tmp_path / "policy.py")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_several_inputs_is_refused(tmp_path):
    pytest.importorskip("onnx", reason="it brings the format")
    with pytest.raises(NotImplementedError, match="observations of a Dict have several"):
        trained("Dict", "Discrete").export(tmp_path / "policy.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx.helper", None)
    with pytest.raises(ModuleNotFoundError, match=r"npTRPO\[onnx\]"):
        trained("float32", "Discrete").export(tmp_path / "policy.onnx")
