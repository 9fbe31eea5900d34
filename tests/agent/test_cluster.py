"""Shards on a Ray cluster of several nodes: the same bits as in one process, also when actors or nodes go."""

import contextlib
import os
import signal

import gymnasium
import pytest

from npTRPO import TRPO
from npTRPO.sampling.cluster import Actors
from tests.agent.test_shards import SMALL, Third, made, state, trained

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason="it brings the cluster")


@pytest.fixture(scope="module")
def cluster():
    """Three nodes of two cores, of which none has room for all shards."""
    from ray.cluster_utils import Cluster

    try:
        nodes = Cluster(initialize_head=True, connect=False, head_node_args={"num_cpus": 2})
    except Exception as error:  # where processes may not listen to each other, for instance
        pytest.skip(f"Ray can't start a cluster on this machine: {error}")
    for _ in range(2):
        nodes.add_node(num_cpus=2)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.mark.parametrize("case", ["Discrete", "Box", "own", "adam"])
def test_shards_on_a_cluster_learn_what_they_learn_in_one_process(cluster, case):
    expected = trained(made(case, n_shards=4))
    assert trained(made(case, n_shards=4, workers="ray")) == expected
    assert trained(made(case, n_shards=4, workers=cluster.address)) == expected


def test_training_goes_on_to_the_same_bits_when_actors_and_nodes_go(cluster):
    undisturbed, agent, seen = made("Discrete", n_shards=4), made("Discrete", n_shards=4, workers="ray"), []
    undisturbed.learn(8 * 120)
    spare = cluster.add_node(num_cpus=2)

    def callback(record):
        seen.append(record.n_updates)
        if record.n_updates == 2:
            os.kill(agent.env.pids[1], signal.SIGKILL)
        if record.n_updates == 5:
            cluster.remove_node(spare, allow_graceful=False)
            for pid in agent.env.pids[2:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    with (
        contextlib.closing(agent.env),
        pytest.warns(RuntimeWarning, match="the Ray actor that has environment.* was lost"),
    ):
        agent.learn(8 * 120, callback=callback)
    assert seen == list(range(1, 9))
    assert state(agent) == state(undisturbed)


def test_an_environment_that_fails_on_a_cluster_is_named_as_in_one_process(cluster):
    gymnasium.register("tests/Third-v0", Third)
    notes = []
    for workers in (None, "ray"):
        options = {"n_envs": 4, "n_shards": 2, "n_steps": 8, "seed": 0}
        agent = TRPO("MlpPolicy", "tests/Third-v0", workers=workers, **options)
        with contextlib.closing(agent.env), pytest.raises(Exception, match="broken 3") as raised:
            agent.learn(8)
        notes.append(raised.value.__notes__)
    del gymnasium.registry["tests/Third-v0"]
    assert notes[0] == notes[1]


def test_a_cluster_that_is_too_small_is_told_of(cluster):
    agent = TRPO("MlpPolicy", "CartPole-v1", **SMALL | {"n_envs": 16}, n_shards=16, workers="ray")
    with contextlib.closing(agent.env), pytest.raises(RuntimeError, match="16 shards need as many cores of"):
        agent.learn(1)


def test_machines_with_other_versions_are_refused_or_told_of(cluster):
    def about(**changes):
        return {"needed": "npTRPO 1", "processor": "here"} | changes

    class Pretended:
        """What is true here while it is asked here, and something else over there."""

        def __init__(self, **changes):
            self.changes, self.here = changes, os.getpid()

        def __call__(self):
            return about(**({} if os.getpid() == self.here else self.changes))

    with pytest.warns(RuntimeWarning, match=r"one differs, and so may the last bits: processor there"):
        Actors([dict], None, Pretended(processor="there"), ["one"]).close()
    with pytest.raises(RuntimeError, match="that has one runs npTRPO 2, and this one npTRPO 1"):
        Actors([dict], None, Pretended(needed="npTRPO 2"), ["one"])


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "local:", "ray://"])
def test_an_address_without_a_cluster_is_told_of(address):
    agent = made("Discrete", n_shards=2, workers=address)
    with pytest.raises(ConnectionError, match=f"no Ray cluster can be reached at {address}: "):
        agent.learn(1)


def test_the_number_of_shards_must_be_given():
    with pytest.raises(ValueError, match="the number of shards must be given too"):
        TRPO("MlpPolicy", "CartPole-v1", workers="ray")
