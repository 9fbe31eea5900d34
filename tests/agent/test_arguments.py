"""Arguments as type checkers, editors and users of other packages write them."""

import dataclasses
import functools
import io
import subprocess
import sys
import typing

import numpy as np
import pytest

from npTRPO import TRPO, CheckpointError, TRPOConfig
from npTRPO.agent.callbacks import EvalCallback
from npTRPO.agent.options import TRPOOptions


def agent(**options):
    return TRPO(
        "MlpPolicy", "CartPole-v1", **{"n_envs": 2, "n_steps": 8, "net_arch": (4,), "seed": 0} | options
    )


def test_the_typed_options_are_the_configs_fields_in_their_order():
    fields = {
        field.name: hint
        for field in dataclasses.fields(TRPOConfig)
        for hint in [hints(TRPOConfig)[field.name]]
    }
    assert list(hints(TRPOOptions).items()) == list(fields.items())
    assert TRPOOptions.__total__ is False


def hints(kind):
    return typing.get_type_hints(kind)


@pytest.mark.slow
def test_a_misspelt_option_is_found_by_mypy(tmp_path):
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text('from npTRPO import TRPO\nTRPO("MlpPolicy", "CartPole-v1", {}=0.1, device="cpu")\n')
    right, wrong = (program.read_text().format(name) for name in ("target_kl", "taget_kl"))
    for source, found in ((right, False), (wrong, True)):
        program.write_text(source)
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", str(program)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ('"taget_kl"' in done.stdout) is found, done.stdout


def test_an_agent_is_saved_to_and_loaded_from_memory():
    made, file = agent().learn(16), io.BytesIO()
    made.save(file)
    file.seek(0)
    np.testing.assert_array_equal(TRPO.load(file).theta, made.theta)
    with pytest.raises(CheckpointError, match="the open file is no agent"):
        TRPO.load(io.BytesIO(b"something else"))


def test_an_open_file_is_written_to_and_read_from_where_it_stands(tmp_path):
    made = agent()
    with (tmp_path / "agents").open("w+b") as file:
        file.write(b"before")
        made.save(file)
        file.seek(6)
        np.testing.assert_array_equal(TRPO.load(file).theta, made.theta)


@pytest.mark.parametrize(
    ("arch", "pi", "vf"),
    [({"pi": [8]}, (8,), (64, 64)), ({"vf": []}, (64, 64), ()), ({}, (64, 64), (64, 64))],
)
def test_widths_that_are_not_given_have_their_default(arch, pi, vf, tmp_path):
    made = agent(net_arch=arch)
    assert made.policy.network.sizes == (4, *pi, 2)
    assert made.value_network.sizes == (4, *vf, 1)
    made.save(tmp_path / "agent")
    assert TRPO.load(tmp_path / "agent").config == made.config


class Counting(list):
    """A list that is a callback itself."""

    def __call__(self, record):
        self.append(record.n_updates)


class Empty:
    """A callback of length 0."""

    def __init__(self):
        self.called = 0

    def __len__(self):
        return 0

    def __call__(self, record):
        self.called += 1


async def waiting(record):
    """Never runs, as nobody awaits it."""
    raise AssertionError


def yielding(record):
    """Never runs, as nobody asks for what it yields."""
    yield
    raise AssertionError


def test_a_callback_is_never_ignored():
    counting, empty = Counting(), Empty()
    agent().learn(32, callback=counting)
    agent().learn(32, callback=empty)
    agent().learn(32, callback=(call for call in [empty]))
    assert counting == [1, 2]
    assert empty.called == 4


@pytest.mark.parametrize("place", ["callback_on_new_best", "callback_after_eval"])
def test_nor_is_that_of_an_evaluation(place):
    counting, empty = Counting(), Empty()
    for each in (counting, empty):
        evaluation = EvalCallback(n_eval_episodes=1, eval_freq=16, **{place: each})
        agent().learn(32, callback=evaluation)
    assert counting[0] == 1
    assert empty.called == len(counting)


NONE = [
    (Empty, "a class, of which an instance may be one"),
    (functools.partial(Empty, 1), "a class, of which an instance may be one"),
    (waiting, "whose body would never run"),
    (functools.partial(yielding), "whose body would never run"),
    *(
        (each, "a callback is a function of a Record, which ")
        for each in (3, object(), [3], "text", {"a": 3})
    ),
]


@pytest.mark.parametrize(("callback", "said"), [*NONE, ([lambda _: None, Empty], NONE[0][1])])
def test_what_is_no_callback_is_refused_before_training(callback, said):
    made = agent()
    with pytest.raises(TypeError, match=said):
        made.learn(32, callback=callback)
    assert made.num_timesteps == 0


@pytest.mark.parametrize("place", ["callback_on_new_best", "callback_after_eval"])
@pytest.mark.parametrize(("callback", "said"), [*NONE, ([], "function of a Record, which \\[\\] is not")])
def test_what_is_no_callback_is_refused_where_an_evaluation_should_call_it(place, callback, said):
    with pytest.raises(TypeError, match=said):
        EvalCallback(**{place: callback})


def test_a_batch_of_one_transition_says_what_is_wrong():
    with pytest.raises(ValueError, match="batch of one transition"):
        agent(n_envs=1, n_steps=1).learn(8)
    agent(n_envs=1, n_steps=1, normalize_advantage=False).learn(8)


@pytest.mark.parametrize("steps", [np.inf, np.nan, 0, -1, 2.5, True, False, "5", "x", None], ids=repr)
def test_a_number_of_steps_that_is_none_says_what_is_wrong(steps):
    made = agent()
    with pytest.raises(ValueError, match="total_timesteps must be a whole number, at least 1, not"):
        made.learn(steps)
    assert made.num_timesteps == 0
