import dataclasses
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from npTRPO import TRPO, CheckpointError
from npTRPO.agent.spaces_json import space_to_json
from tests.environments import Counter, Target, registered
from tests.strategies import detailed_action_spaces, detailed_spaces, seeds

in_one_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def small_agent(env="CartPole-v1", steps=64, **options):
    """A trained agent of which no array is all zeros."""
    options = {"n_envs": 2, "n_steps": 16, "net_arch": (2,), "value_fit": "adam", "seed": 0} | options
    agent = TRPO("MlpPolicy", env, **options)
    return agent.learn(steps) if steps else agent


@pytest.fixture(scope="module")
def agent():
    return small_agent()


@pytest.fixture(scope="module")
def saved(agent, tmp_path_factory):
    """The bytes of its file."""
    path = tmp_path_factory.mktemp("saved") / "agent.npz"
    agent.save(path)
    return path.read_bytes()


def contents(agent):
    """Everything that a file keeps, as values that can be compared to the bit."""
    leaves = agent.learner.leaves()
    del leaves["reward_scale_running"]  # of episodes that end where a file is loaded
    arrays = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, np.ndarray)}
    return {
        "arrays": {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()},
        "counts": {name: leaf for name, leaf in leaves.items() if name not in arrays},
        "config": agent.config,
        "spaces": (agent.policy.observation_space, agent.policy.action_space),
        "env_id": agent.env_id,
        "recent": (list(agent.recent_returns), list(agent.recent_lengths)),
    }


def rewritten(saved, path, change=None, **arrays):
    """The saved file with other arrays (None takes one out), or with its header changed by a function."""
    with np.load(io.BytesIO(saved)) as file:
        all_arrays = {name: file[name] for name in file.files} | arrays
    if change is not None:
        header = change(json.loads(all_arrays["header"].tobytes()))
        all_arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(path, **{name: array for name, array in all_arrays.items() if array is not None})
    return path


# --- there and back --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "float64", "value_fit": "trust_region"},
        {"normalize_observations": False, "normalize_rewards": False, "value_fit": "lbfgs"},
        {"env": registered(Target), "net_arch": {"pi": [3], "vf": []}},
        {"steps": 0, "seed": None},
    ],
    ids=repr,
)
def test_a_loaded_agent_is_the_saved_one_to_the_bit(options, tmp_path):
    agent = small_agent(**options)
    agent.save(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent")
    assert contents(loaded) == contents(agent)
    assert loaded.env is None
    observations = np.random.default_rng(0).normal(size=(50, *agent.policy.observation_space.shape))
    for deterministic in (True, False):
        again = TRPO.load(tmp_path / "agent")
        actions, _ = loaded.predict(observations, deterministic=deterministic)
        np.testing.assert_array_equal(again.predict(observations, deterministic=deterministic)[0], actions)
    np.testing.assert_array_equal(
        loaded.predict(observations, deterministic=True)[0],
        agent.predict(observations, deterministic=True)[0],
    )


def test_a_file_keeps_what_acting_and_learning_need(agent):
    """The agent of the tests has seen something of everything; zeros would compare equal by chance."""
    kept = contents(agent)
    assert all(np.frombuffer(data, dtype).any() for dtype, _, data in kept["arrays"].values())
    assert all(leaf for name, leaf in kept["counts"].items() if name != "entropy")
    assert all(kept["recent"])
    assert kept["env_id"] == "CartPole-v1"


@given(observation=detailed_spaces, action=detailed_action_spaces, seed=seeds)
@example(
    observation=spaces.Dict([("b", spaces.Discrete(2)), ("a", spaces.Discrete(3))]),
    action=spaces.Box(-1, 1, (1,)),
    seed=0,
)
@in_one_directory
def test_spaces_of_every_kind_come_back(observation, action, seed, tmp_path):
    agent = TRPO(spaces=(observation, action), net_arch=(3,), seed=seed % 2**32)
    agent.save(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent")
    assert loaded.policy.observation_space == observation
    assert loaded.policy.action_space == action
    observation.seed(seed % 2**31)
    sample = observation.sample()
    np.testing.assert_array_equal(
        spaces.flatten(loaded.policy.observation_space, sample), spaces.flatten(observation, sample)
    )
    expected, _ = agent.predict(sample, deterministic=True)
    found, _ = loaded.predict(sample, deterministic=True)
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(found, expected)


def test_a_space_that_cannot_be_saved_is_refused_by_its_name():
    with pytest.raises(NotImplementedError, match="Text"):
        space_to_json(spaces.Text(3))


# --- names and environments ------------------------------------------------------------------------------


@pytest.mark.parametrize("save_as", ["cartpole", "cartpole.npz", "v1.5", "trpo.zip"])
@pytest.mark.parametrize("with_suffix", [True, False])
def test_the_suffix_may_be_left_out(save_as, with_suffix, agent, tmp_path):
    agent.save(str(tmp_path / save_as))
    stem, suffix = save_as.removesuffix(".npz"), "" if save_as.endswith(".zip") else ".npz"
    assert [path.name for path in tmp_path.iterdir()] == [f"{stem}{suffix}"]
    loaded = TRPO.load(str(tmp_path / (f"{stem}{suffix}" if with_suffix else stem)))
    assert contents(loaded) == contents(agent)


@pytest.mark.parametrize("neighbour", ["directory", "file"])
def test_what_else_has_the_name_without_the_suffix_is_not_in_the_way(neighbour, agent, tmp_path):
    beside = tmp_path / "agent"
    beside.mkdir() if neighbour == "directory" else beside.write_text("notes")
    agent.save(beside)
    assert contents(TRPO.load(beside)) == contents(agent)


@pytest.mark.parametrize("env", ["CartPole-v1", "tests.environments:CartPole-v1"])
def test_an_environment_can_be_handed_over_to_go_on_learning_in(env, agent, saved, tmp_path):
    (tmp_path / "agent.npz").write_bytes(saved)
    loaded = TRPO.load(tmp_path / "agent", env=env)
    assert loaded.env.num_envs == 2
    assert loaded.env_id == env
    before = loaded.theta
    loaded.learn(32, reset_num_timesteps=False)
    assert (loaded.num_timesteps, loaded.n_updates) == (96, 3)
    assert not np.array_equal(loaded.theta, before)


def test_learning_goes_on_from_a_file_to_the_same_bits_as_without(tmp_path):
    """Where the environments start afresh, as at a boundary of checkpoints: all else is in the file."""
    whole = small_agent(steps=128, checkpoint_interval=2)
    half = small_agent(steps=64, checkpoint_interval=2)
    half.save(tmp_path / "half")
    resumed = TRPO.load(tmp_path / "half", env="CartPole-v1").learn(64, reset_num_timesteps=False)
    assert contents(resumed) == contents(whole)


def test_between_boundaries_learning_goes_on_with_new_episodes_as_no_environment_can_be_saved(tmp_path):
    """So a run that is interrupted there must take the steps since the last boundary again."""
    whole = small_agent(steps=128, checkpoint_interval=2)
    part = small_agent(steps=96, checkpoint_interval=2)
    part.save(tmp_path / "part")
    resumed = TRPO.load(tmp_path / "part", env="CartPole-v1").learn(32, reset_num_timesteps=False)
    assert contents(resumed) != contents(whole)


def test_an_agent_without_an_environment_says_that_it_has_none(saved, tmp_path):
    (tmp_path / "agent.npz").write_bytes(saved)
    with pytest.raises(RuntimeError, match="no environment to learn in"):
        TRPO.load(tmp_path / "agent").learn(32)


def test_an_environment_with_other_spaces_is_refused_with_both(saved, tmp_path):
    (tmp_path / "agent.npz").write_bytes(saved)
    said = r"agent\.npz.*\(4,\).*but the environment has.*\(3,\)"
    assert_refused(tmp_path / "agent", said, env=Counter())


# --- files that are none ---------------------------------------------------------------------------------


def assert_refused(path, said, **options):
    with pytest.raises(CheckpointError, match=said):
        TRPO.load(path, **options)


def load_or_refuse(path):
    """The agent of a file, or None if it was refused as it should be."""
    try:
        return TRPO.load(path)
    except CheckpointError:
        return None


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path):
    assert_refused(tmp_path / "nothing", r"nothing\.npz can't be read: No such file or directory")


def array_bytes(array):
    """A .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "."),
        (b"hello, world", "."),
        (pickle.dumps({"theta": 1}), "pickled"),
        (b"PK\x03\x04", "npz file"),
        (b"PK\x05\x06" + bytes(18), "no npTRPO header"),
        (b"\x93NUMPY", "."),
        (bytes(1000), "."),
        (array_bytes(np.zeros(3)), "it is no .npz file"),
        ({"theta": np.zeros(3)}, "it has no npTRPO header"),
        ({"header": np.zeros(3)}, "."),
        ({"header": np.array("{}")}, "."),
        ({"header": np.ones(3, complex)}, "its header is no text"),
        ({"header": np.frombuffer(b'{"a": 1}', np.uint8)}, "its header isn't npTRPO's"),
        ({"header": np.frombuffer(b"[1]", np.uint8)}, "its header isn't npTRPO's"),
        ({"header": np.frombuffer(b"[" * 10**5, np.uint8)}, "recursion"),
    ],
    ids=lambda content: str(content)[:30],
)
def test_a_foreign_file_is_refused_with_the_reason(content, reason, tmp_path):
    path = tmp_path / "agent.npz"
    np.savez(path, **content) if isinstance(content, dict) else path.write_bytes(content)
    assert_refused(path, rf"agent\.npz is no agent that can be loaded: .*{reason}")


def test_no_length_at_which_a_file_is_cut_off_is_loaded(saved, tmp_path):
    path = tmp_path / "agent.npz"
    for length in {*range(0, len(saved), 23), *range(len(saved) - 30, len(saved))}:
        path.write_bytes(saved[:length])
        assert load_or_refuse(path) is None, length


@given(data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_with_flipped_bits_is_refused_or_the_same_agent(data, agent, saved, tmp_path):
    """Flips are drawn from all over the file, and more often from its directory, which no checksum covers."""
    directory = zipfile.ZipFile(io.BytesIO(saved)).start_dir
    place = st.integers(0, len(saved) - 1) | st.integers(directory, len(saved) - 1)
    flips = data.draw(st.lists(st.tuples(place, st.integers(1, 255)), min_size=1, max_size=3))
    spoiled = bytearray(saved)
    for position, bits in flips:
        spoiled[position] ^= bits
    path = tmp_path / "agent.npz"
    path.write_bytes(spoiled)
    loaded = load_or_refuse(path)
    assert loaded is None or contents(loaded) == contents(agent)


@pytest.mark.parametrize("change", ["compression", "encryption"])
def test_what_the_directory_says_wrongly_about_an_array_is_refused(change, saved, tmp_path):
    """Bytes 8 and 10 of a directory entry: flags and method of compression."""
    entry = zipfile.ZipFile(io.BytesIO(saved)).start_dir
    spoiled = bytearray(saved)
    if change == "encryption":
        spoiled[entry + 8] |= 1
    else:
        spoiled[entry + 10] = 8
    (tmp_path / "agent.npz").write_bytes(spoiled)
    assert load_or_refuse(tmp_path / "agent.npz") is None


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["theta", "header", "recent_returns", "extra"])
def test_nothing_is_ever_unpickled(name, saved, tmp_path):
    trace = tmp_path / "trace"
    trap = np.empty(1, dtype=object)
    trap[0] = Trap(trace)
    np.savez(tmp_path / "trap.npz", trap=trap)
    with np.load(tmp_path / "trap.npz", allow_pickle=True) as file:
        file["trap"]
    assert trace.exists()  # so the trap would work
    trace.rmdir()
    assert_refused(rewritten(saved, tmp_path / "agent.npz", **{name: trap}), "pickle")
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Trap(trace)))
    assert_refused(tmp_path / "plain.npz", "pickle")
    assert not trace.exists()


# --- files that are one, but say what can't be -----------------------------------------------------------

ARRAYS = [
    "theta",
    "value_theta",
    "adam_mean",
    "adam_square",
    "reward_mean",
    "reward_variance",
    "observation_mean",
    "observation_variance",
]


@pytest.mark.parametrize("name", [*ARRAYS, "header", "recent_returns", "recent_lengths"])
def test_an_array_that_is_not_there_is_refused_by_its_name(name, saved, tmp_path):
    assert_refused(rewritten(saved, tmp_path / "agent.npz", **{name: None}), name)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    "distort",
    [
        lambda a: a[:-1],
        lambda a: np.concatenate([a, a]),
        lambda a: a[None],
        lambda a: a.astype(np.float16),
        lambda a: a.astype(">f4"),
        lambda a: a.astype(np.complex128),
        lambda a: a.astype(np.int64),
        lambda a: np.where(np.arange(a.size) == a.size - 1, np.nan, a).astype(a.dtype),
        lambda a: np.where(np.arange(a.size) == 0, np.inf, a).astype(a.dtype),
    ],
    ids=["shorter", "longer", "nested", "float16", "big-endian", "complex", "whole", "NaN", "inf"],
)
def test_an_array_of_another_shape_or_dtype_or_with_nan_is_refused_by_its_name(
    name, distort, saved, tmp_path
):
    with np.load(io.BytesIO(saved)) as file:
        path = rewritten(saved, tmp_path / "agent.npz", **{name: distort(file[name])})
    assert_refused(path, rf": {name} (has shape .* and dtype|is not finite)")


@pytest.mark.parametrize("name", ["reward_variance", "observation_variance"])
def test_a_negative_variance_is_refused(name, saved, tmp_path):
    with np.load(io.BytesIO(saved)) as file:
        assert_refused(rewritten(saved, tmp_path / "agent.npz", **{name: -file[name]}), f"{name} is negative")


@pytest.mark.parametrize("name", ["recent_returns", "recent_lengths"])
@pytest.mark.parametrize(
    "array", [np.zeros(101), np.zeros((2, 2)), np.zeros(3, np.float32), np.array([np.nan])], ids=str
)
def test_figures_of_episodes_that_cannot_be_are_refused(name, array, saved, tmp_path):
    path = rewritten(saved, tmp_path / "agent.npz", **{name: array})
    assert_refused(path, f"{name} isn't a list of up to 100 finite numbers")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("format", "another", "its header isn't npTRPO's"),
        ("format_version", 2, "its format version is 2, and this is version 1"),
        ("format_version", None, "its format version is None"),
        ("config", {"gama": 0.9}, "did you mean 'gamma'"),
        ("config", {"gamma": 2.0}, "gamma must be a number from 0 to 1"),
        ("config", {"net_arch": [3]}, "theta has shape"),
        ("config", {"dtype": "float64"}, "dtype float32, where its config asks for .* float64"),
        ("config", [1, 2], "."),
        ("config", None, "."),
        ("observation_space", {"kind": "Sphere"}, "its space is of kind 'Sphere'"),
        ("observation_space", {"kind": "Discrete", "n": 4, "start": 0}, "it lacks 'dtype'"),
        (
            "observation_space",
            {"kind": "Discrete", "n": -1, "start": 0, "dtype": "int64"},
            "a size of its space must be a whole number, at least 0, not -1",
        ),
        ("observation_space", {"kind": "Box", "low": 1, "high": [0], "shape": [2], "dtype": "O"}, "."),
        ("observation_space", {"kind": "Box", "low": 0, "high": 1, "shape": [-4], "dtype": "<f4"}, "."),
        ("observation_space", {"kind": "Dict", "spaces": 3}, "."),
        ("observation_space", "Box", "."),
        ("action_space", {"kind": "Discrete", "n": 3, "start": 0, "dtype": "int64"}, "theta has shape"),
        ("action_space", {"kind": "MultiBinary", "n": [0]}, "."),
        ("action_space", {"kind": "Tuple", "spaces": []}, "Tuple action spaces aren't supported"),
        ("num_timesteps", -1, "num_timesteps must be a whole number from 0 to .*, not -1"),
        ("n_updates", 1.5, "n_updates must be a whole number .* not 1.5"),
        ("reward_count", True, "reward_count must be a whole number .* not True"),
        ("adam_steps", "3", "adam_steps must be a whole number .* not '3'"),
        ("observation_count", None, "observation_count must be a whole number .* not None"),
        ("entropy", "many", "."),
        ("entropy", "-3", "entropy must be a whole number, at least 0, not -3"),
        ("entropy", None, "."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_header_that_says_what_cannot_be_is_refused_with_the_reason(key, value, reason, saved, tmp_path):
    path = rewritten(saved, tmp_path / "agent.npz", lambda header: header | {key: value})
    assert_refused(path, rf"is no agent that can be loaded: .*{reason}")


def test_a_header_without_one_of_its_entries_is_refused_by_its_name(saved, tmp_path):
    with np.load(io.BytesIO(saved)) as file:
        keys = json.loads(file["header"].tobytes()).keys()
    for key in keys - {"versions"}:
        path = rewritten(saved, tmp_path / "agent.npz", lambda h, key=key: {k: h[k] for k in h if k != key})
        with pytest.raises(CheckpointError, match=f"it lacks '{key}'|header|format version"):
            TRPO.load(path)


def test_the_versions_are_for_people_to_read(agent, saved, tmp_path):
    path = rewritten(saved, tmp_path / "agent.npz", lambda header: header | {"versions": {"numpy": "9"}})
    assert contents(TRPO.load(path)) == contents(agent)


# --- saving that fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), MemoryError(), KeyboardInterrupt()]
)
@pytest.mark.parametrize("at", ["writing", "flushing", "renaming"])
@pytest.mark.parametrize("old", [True, False])
def test_saving_that_fails_leaves_everything_as_it_was(error, at, old, agent, saved, tmp_path, monkeypatch):
    path = tmp_path / "agent.npz"
    if old:
        path.write_bytes(saved)

    def fail(*arguments, **_):
        if at == "writing":
            arguments[0].write(b"half of it")
        raise error

    where, name = {"writing": (np, "savez"), "flushing": (os, "fsync"), "renaming": (os, "replace")}[at]
    other = small_agent(seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fail)
        with pytest.raises(type(error)):
            other.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["agent.npz"] * old
    if old:
        assert path.read_bytes() == saved
    other.save(path)
    assert contents(TRPO.load(path)) == contents(other)


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_path_without_a_name_is_no_place_to_save_in(path, agent, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is no name of a file"):
        agent.save(path)
    assert list(tmp_path.iterdir()) == []


def test_whoever_names_a_run_is_told_of_its_agent(agent, tmp_path):
    agent.save(tmp_path / "run" / "agent")
    assert_refused(tmp_path / "run", r"Is a directory; the agent of this run is .*run.agent\.npz")


def test_saving_makes_the_directories_that_are_missing(agent, tmp_path):
    """As Stable-Baselines3 does: what was learned must not be lost for want of one."""
    agent.save(tmp_path / "missing" / "deeper" / "agent")
    assert TRPO.load(tmp_path / "missing" / "deeper" / "agent").theta.tobytes() == agent.theta.tobytes()


def test_saving_in_place_of_a_directory_fails_and_leaves_it(agent, tmp_path):
    (tmp_path / "agent.npz" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match=r"agent\.npz"):
        agent.save(tmp_path / "agent.npz")
    assert [entry.name for entry in tmp_path.iterdir()] == ["agent.npz"]


def test_a_file_holds_arrays_and_json_only(saved):
    with np.load(io.BytesIO(saved), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays.pop("header").tobytes())
    assert header["format"] == "npTRPO agent"
    assert set(header["config"]) == {field.name for field in dataclasses.fields(small_agent(steps=0).config)}
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32), np.dtype(np.float64)}
