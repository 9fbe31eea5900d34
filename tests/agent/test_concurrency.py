"""Several agents at once, in one process, in threads, after fork and spawn: each has its bits."""

import dataclasses
import hashlib
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from npTRPO import TRPO, evaluate_policy
from tests.environments import Target, forks, registered

# Four that share nothing but the process: sizes, dtypes, fits and environments all differ.
KINDS = {
    "cartpole": ("CartPole-v1", {"net_arch": (4,), "value_fit": "trust_region"}),
    "target": (registered(Target), {"net_arch": (5, 3), "value_fit": "adam", "dtype": "float64"}),
    "linear": ("CartPole-v1", {"net_arch": (), "value_fit": "lbfgs", "vectorization_mode": "sync"}),
    "another seed": ("CartPole-v1", {"net_arch": (4,), "seed": 1}),
}
STEPS = 6 * 32
has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def made(kind):
    env, options = KINDS[kind]
    return TRPO("MlpPolicy", env, **{"n_envs": 2, "n_steps": 16, "seed": 0} | options)


def bits(agent):
    """All that an agent has learned, and what it does."""
    learned = hashlib.sha256()
    for array in agent.learner.arrays().values():
        learned.update(array.tobytes())
    shape = agent.policy.observation_space.shape
    actions, _ = agent.predict(np.linspace(-1, 1, 8 * shape[0], dtype=np.float32).reshape(8, -1))
    learned.update(np.asarray(actions).tobytes())
    return learned.hexdigest()


def alone(kind):
    return bits(made(kind).learn(STEPS))


@pytest.fixture(scope="module")
def expected():
    return {kind: alone(kind) for kind in KINDS}


def test_agents_that_take_turns_have_the_bits_that_they_have_alone(expected):
    agents = {kind: made(kind) for kind in KINDS}
    turns = [agent.updates(STEPS) for agent in agents.values()]
    while turns:
        turns = [turn for turn in turns if next(turn, None) is not None]
    assert {kind: bits(agent) for kind, agent in agents.items()} == expected


def test_an_agent_that_learns_within_the_callback_of_another_does_not_disturb_it(expected):
    inner = []

    def learn_another(record):
        inner.append(alone("target"))
        evaluate_policy(made("linear"), n_eval_episodes=1, seed=0)

    assert bits(made("cartpole").learn(STEPS, callback=learn_another)) == expected["cartpole"]
    assert inner == [expected["target"]] * 6


@pytest.fixture
def hasty():
    """Threads that take turns as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_agents_in_threads_have_the_bits_that_they_have_alone(hasty, expected):
    kinds, together = list(KINDS) * 2, threading.Barrier(2 * len(KINDS))

    def thread(kind):
        agent = made(kind)
        together.wait(60)
        return bits(agent.learn(STEPS))

    with ThreadPoolExecutor(len(kinds)) as pool:
        assert list(pool.map(thread, kinds)) == [expected[kind] for kind in kinds]


def test_one_agent_answers_many_threads_as_it_answers_one(hasty):
    """Deterministically, as random actions are drawn from one stream."""
    agent = made("cartpole").learn(STEPS)
    observations = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    right = agent.predict(observations, deterministic=True)[0].tolist()

    def ask(observation):
        return int(agent.predict(observation, deterministic=True)[0])

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(ask, observations)) == right


def test_agents_are_saved_from_threads_and_loaded_in_others(hasty, expected, tmp_path):
    agents = {kind: made(kind).learn(STEPS) for kind in KINDS}
    with ThreadPoolExecutor(8) as pool:
        for kind, agent in agents.items():
            list(pool.map(agent.save, [tmp_path / kind] * 4))
        loaded = list(pool.map(TRPO.load, [tmp_path / kind for kind in KINDS]))
    for agent, kind in zip(loaded, KINDS, strict=True):
        assert agent.theta.tobytes() == agents[kind].theta.tobytes()
        running = agents[kind].learner.reward_scale  # which a file has no need of
        agent.learner = dataclasses.replace(agent.learner, reward_scale=running)
        assert bits(agent) == expected[kind]


def to_pipe(pipe, kind, agent=None):
    """In a process of its own: learn, and tell the bits."""
    pipe.send(alone(kind) if agent is None else bits(agent.learn(STEPS, reset_num_timesteps=False)))
    pipe.close()


def in_processes(method, arguments):
    context = multiprocessing.get_context(method)
    told = []
    for given in arguments:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=to_pipe, args=(theirs, *given))
        process.start()
        theirs.close()
        told.append((ours, process))
    answers = []
    for ours, process in told:
        answers.append(ours.recv() if ours.poll(120) else None)
        process.join(60)
        assert process.exitcode == 0
    return answers


@forks
@has_fork
def test_agents_have_the_same_bits_after_a_fork(expected):
    made("another seed").learn(STEPS)  # whatever this process did before
    assert in_processes("fork", [(kind,) for kind in KINDS]) == list(expected.values())


@forks
@has_fork
def test_an_agent_goes_on_in_a_child_and_in_its_parent_to_the_same_bits():
    agent = made("cartpole").learn(STEPS)
    children = in_processes("fork", [("cartpole", agent)] * 2)
    assert children == [bits(agent.learn(STEPS, reset_num_timesteps=False))] * 2


@forks
@has_fork
def test_a_fork_in_the_midst_of_a_thread_that_learns_does_not_hang(expected):
    background = threading.Thread(target=made("linear").learn, args=(40 * 32,))
    background.start()
    assert in_processes("fork", [("cartpole",)] * 2) == [expected["cartpole"]] * 2
    background.join()


def test_agents_have_the_same_bits_after_spawn(expected):
    kinds = ["cartpole", "target"]
    assert in_processes("spawn", [(kind,) for kind in kinds]) == [expected[kind] for kind in kinds]
