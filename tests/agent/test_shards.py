"""Shards: what is learned depends on their number, and not on the processes that they are in."""

import collections
import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from npTRPO import TRPO
from npTRPO.agent.experience import WholeBatch
from npTRPO.agent.learner import learn
from npTRPO.sampling import Batch, Sampler
from npTRPO.sampling.environments import make_vector_env
from npTRPO.sampling.workers import LostWorkerError, Workers

SMALL = {"n_envs": 5, "n_steps": 24, "net_arch": (8,), "seed": 3, "checkpoint_interval": 3}


def layer(n_features, n_outputs):
    """A network of one's own: a linear one."""

    def outputs(theta, x):
        return x @ theta.reshape(n_features, n_outputs)

    return outputs, lambda rng: 0.1 * rng.standard_normal(n_features * n_outputs)


CASES = {
    "Discrete": ("CartPole-v1", {}),
    "Box": ("Pendulum-v1", {"n_steps": 500, "dtype": "float64"}),  # more than one block of rows in a shard
    "own": ("CartPole-v1", {"policy_kwargs": {"network": layer}}),
    "adam": ("Pendulum-v1", {"value_fit": "adam", "cg_preconditioner": "identity"}),
    "lbfgs": ("CartPole-v1", {"value_fit": "lbfgs", "n_envs": 4, "n_steps": 2}),
    "weighted": ("CartPole-v1", {"discounted_states": True, "sub_sampling_factor": 3, "gamma": 0.9}),
    "plain": ("Pendulum-v1", {"normalize_observations": False, "normalize_rewards": False}),
}


def made(case, **options):
    env, others = CASES[case]
    return TRPO("MlpPolicy", env, **SMALL | others | options)


def state(agent):
    """Everything that learning changes, to the bit."""
    return {name: array.tobytes() for name, array in agent.learner.arrays().items()}


def trained(agent, updates=5):
    """The state after so many updates, and what was recorded of them but for the time it took."""
    records = []
    with contextlib.closing(agent.env):
        for record in agent.updates(10**9):
            kept = replace(record, agent=None, steps_per_second=0, time_elapsed=0, update=None)
            records.append((kept, record.update.outcome, record.update.kl, record.update.explained_variance))
            if len(records) == updates:
                break
    return state(agent), repr(records)


@pytest.mark.parametrize(
    "case",  # starting workers takes as long as some hundred updates
    [case if case in ("Box", "weighted") else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
)
def test_shards_in_workers_learn_what_they_learn_in_one_process(case):
    assert trained(made(case, n_shards=2, workers=2)) == trained(made(case, n_shards=2))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_how_many_workers_there_are_changes_no_bit(case):
    alone = trained(made(case, n_shards=4))
    for workers in (1, 2, 4):
        assert trained(made(case, n_shards=4, workers=workers)) == alone


def test_one_shard_is_no_shards():
    expected = trained(made("Discrete"))
    assert trained(made("Discrete", n_shards=1)) == expected
    assert trained(made("Discrete", n_shards=1, workers=1)) == expected


def test_another_number_of_shards_draws_other_numbers():
    found = {n: trained(made("Discrete", n_shards=n))[0]["theta"] for n in (1, 2, 3)}
    assert len(set(found.values())) == 3


def test_as_many_workers_as_are_asked_for_are_the_shards_unless_these_are_given(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")  # which is this process's, and not theirs
    agent = made("Discrete", workers=2)
    assert (agent.config.n_shards, agent.n_envs, agent.get_env().pids) == (2, 5, [])
    next(agent.updates(1))
    assert len(set(agent.env.pids)) == 2
    assert os.getpid() not in agent.env.pids
    # Beside its own thread, a worker has one that watches this process.
    assert [len(os.listdir(f"/proc/{pid}/task")) for pid in agent.env.pids] == [2, 2]
    agent.env.close()
    assert made("Discrete", workers="auto", n_envs=4096).config.n_shards == len(os.sched_getaffinity(0))


def test_there_are_no_more_workers_than_there_can_be_if_as_many_as_cores_are_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert made("Discrete", workers="auto").config.n_shards == 5
    for options, expected in [({"n_shards": 2}, 2), ({}, 1)]:
        made("Discrete", **options).learn(1).save(tmp_path / "agent")
        assert TRPO.load(tmp_path / "agent", env="CartPole-v1", workers="auto").workers == expected


# --- the sums --------------------------------------------------------------------------------------------


def batches(agent, sizes):
    """Batches of some environments each, next to each other."""
    learner, found = agent.learner, []
    for i, size in enumerate(sizes):
        sampler = Sampler(make_vector_env(agent.env_id, size, "sync"), agent.policy, seed=i)
        rng = np.random.default_rng(i)
        found.append(sampler.collect(learner.theta, 40, learner.observation_moments, rng))
    return found


@pytest.mark.parametrize("discounted", [False, True])
@pytest.mark.parametrize("preconditioner", ["identity", "kronecker"])
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_a_batch_in_parts_is_learned_from_as_in_one_piece(env, preconditioner, discounted):
    """To rounding, in the first update and in a later one; parts are of any size."""
    sizes = [1, 3, 2]
    agent = TRPO(
        *("MlpPolicy", env),
        n_envs=6,
        seed=0,
        dtype="float64",
        net_arch=(8,),
        cg_preconditioner=preconditioner,
        discounted_states=discounted,
        cg_rtol=1e-12,
        cg_max_steps=60,
    )
    for _ in range(2):
        parts = batches(agent, sizes)
        rng, running = np.random.default_rng(0), agent.learner.reward_scale.running
        whole = learn(agent.model, agent.learner, Batch.concatenate(parts), rng)
        split = learn(agent.model, agent.learner, WholeBatch.of(agent.model, parts, running), rng)
        for name, array in whole[0].arrays().items():
            # Solves multiply rounding by the condition of F + 0.1 I, some 1e3.
            np.testing.assert_allclose(split[0].arrays()[name], array, rtol=1e-7, atol=1e-9, err_msg=name)
        assert split[1].kl == pytest.approx(whole[1].kl, rel=1e-7)
        assert split[1].explained_variance == pytest.approx(whole[1].explained_variance, abs=1e-9)
        agent.learner = split[0]


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_states_that_weigh_nothing_beside_those_of_other_parts_count_for_nothing(gamma):
    """As in one piece, if γᵗ rounds to 0."""
    agent = TRPO(
        *("MlpPolicy", "CartPole-v1"),
        n_envs=4,
        seed=0,
        dtype="float64",
        net_arch=(8,),
        gamma=gamma,
        discounted_states=True,
    )
    parts = batches(agent, [2, 2])
    parts[1] = replace(parts[1], times=parts[1].times + 10_000)
    whole = WholeBatch.of(agent.model, parts, agent.learner.reward_scale.running)
    found, _ = learn(agent.model, agent.learner, whole, np.random.default_rng(0))
    expected, _ = learn(agent.model, agent.learner, Batch.concatenate(parts), np.random.default_rng(0))
    np.testing.assert_allclose(found.theta, expected.theta, rtol=1e-7, atol=1e-9)
    assert np.any(found.theta != agent.theta)


def test_a_part_in_which_all_steps_only_reset_counts_for_nothing():
    agent = TRPO("MlpPolicy", "CartPole-v1", n_envs=4, seed=0, dtype="float64", net_arch=(8,))
    parts = batches(agent, [2, 2])
    idle = replace(parts[1], valid=np.zeros_like(parts[1].valid), rewards=np.zeros_like(parts[1].rewards))
    alone = TRPO("MlpPolicy", "CartPole-v1", n_envs=2, seed=0, dtype="float64", net_arch=(8,))
    for together in ([parts[0], idle], [idle, parts[0]]):
        whole = WholeBatch.of(agent.model, together, agent.learner.reward_scale.running)
        found, _ = learn(agent.model, agent.learner, whole, np.random.default_rng(0))
        expected, _ = learn(alone.model, alone.learner, parts[0], np.random.default_rng(0))
        np.testing.assert_array_equal(found.theta, expected.theta)
        np.testing.assert_array_equal(found.value_theta, expected.value_theta)


# --- files -----------------------------------------------------------------------------------------------


def test_the_number_of_shards_is_kept_and_the_number_of_workers_may_change(tmp_path):
    made("Discrete", n_shards=2).learn(3 * 5 * 24).save(tmp_path / "agent")
    ends = []
    for workers in (None, 1):
        again = TRPO.load(tmp_path / "agent", env="CartPole-v1", workers=workers)
        assert again.config.n_shards == 2
        again.learn(2 * 5 * 24, reset_num_timesteps=False)
        again.env.close()
        ends.append(state(again))
    assert ends[0] == ends[1]
    with pytest.raises(ValueError, match="workers=3 is more than n_shards=2"):
        TRPO.load(tmp_path / "agent", env="CartPole-v1", workers=3)


# --- failures --------------------------------------------------------------------------------------------


def killing(agent, at, seen, who=0):
    """A callback that kills a worker after an update, in the midst of what it does next."""

    def callback(record):
        seen.append(record.n_updates)
        if record.n_updates in at:
            os.kill(agent.env.pids[who % len(agent.env.pids)], signal.SIGKILL)

    return callback


def test_training_goes_on_to_the_same_bits_when_workers_are_killed():
    undisturbed, agent, seen = made("Discrete", n_shards=2), made("Discrete", workers=2), []
    undisturbed.learn(8 * 120)
    with (
        contextlib.closing(agent.env),
        pytest.warns(RuntimeWarning, match="was killed by signal 9") as warned,
    ):
        agent.learn(8 * 120, callback=killing(agent, {2, 3, 7}, seen, who=1))
    assert seen == list(range(1, 9))
    assert state(agent) == state(undisturbed)
    assert list(agent.recent_returns) == list(undisturbed.recent_returns)
    texts = [str(each.message) for each in warned]
    assert [text.rpartition(" from step ")[2] for text in texts] == [
        "0; 240 steps are repeated",
        "360; 0 steps are repeated",
        "720; 120 steps are repeated",
    ]
    assert all("worker 1 (process " in text and "environments 3 to 4" in text for text in texts)


@pytest.mark.slow
class Assassin:
    """Kills workers while they collect and while they compute products, in turn, and remembers which."""

    def __init__(self, agent, monkeypatch):
        self.killed, self.agent, self.last = collections.Counter(), agent, -1
        self.each = type(agent.env)._each
        monkeypatch.setattr(type(agent.env), "_each", lambda _, *given, **own: self.watched(*given, **own))

    def watched(self, method, *common, own=None):
        doing = common[1] if method == "call" and common[0] in ("policy", "values") else method
        wanted = ("collect", "product")[sum(self.killed.values()) % 2]
        if doing == wanted and self.agent.n_updates > self.last and self.agent.env.pids:
            self.last = self.agent.n_updates  # the next one after an update that was made
            self.killed[doing] += 1
            pid = self.agent.env.pids[self.last % len(self.agent.env.pids)]
            delay = 0.01 if doing == "collect" else 0
            threading.Timer(delay, lambda: os.kill(pid, signal.SIGKILL)).start()
            time.sleep(0 if delay else 0.05)
        return self.each(self.agent.env, method, *common, own=own)


@pytest.mark.slow
def test_two_dozen_kills_in_the_midst_of_work_change_no_bit(monkeypatch):
    updates, seen = 30, []
    options = {"n_steps": 400, "checkpoint_interval": 2}
    undisturbed, agent = made("Discrete", n_shards=2, **options), made("Discrete", workers=2, **options)
    undisturbed.learn(updates * 2000)
    assassin = Assassin(agent, monkeypatch)
    with contextlib.closing(agent.env), pytest.warns(RuntimeWarning, match="was killed by signal 9"):
        agent.learn(updates * 2000, callback=lambda record: seen.append(record.n_updates))
    assert seen == list(range(1, updates + 1))
    assert state(agent) == state(undisturbed)
    assert assassin.killed["collect"] >= 12
    assert assassin.killed["product"] >= 12


@pytest.mark.slow
def test_workers_that_are_lost_again_and_again_are_an_error(monkeypatch):
    agent = made("Discrete", workers=2)
    with contextlib.closing(agent.env):
        next(agent.updates(1))
        collect = type(agent.env).collect

        def killed(self, *given):
            os.kill(self.pids[0], signal.SIGKILL)
            return collect(self, *given)

        monkeypatch.setattr(type(agent.env), "collect", killed)
        with (
            pytest.warns(RuntimeWarning, match="it is replaced"),
            pytest.raises(LostWorkerError, match="killed by signal 9") as raised,
        ):
            agent.learn(10_000)
        assert raised.value.__notes__ == ["3 times in a row without an update between"]


def assign(agent):
    agent.theta = agent.theta * 0.9


def write(agent):
    agent.theta[...] *= 0.9


def choose(agent):
    agent.config = replace(agent.config, target_kl=0.02)


@pytest.mark.parametrize("in_callback", [False, True])
@pytest.mark.parametrize("change", [lambda agent: None, assign, write, choose])
def test_what_was_changed_by_hand_cannot_be_repeated(monkeypatch, change, in_callback):
    """In a callback, or between two calls of learn; nothing else is in the way."""
    agent = made("Discrete", n_shards=2, checkpoint_interval=None).learn(120)

    def lost(*_):
        raise LostWorkerError("gone")

    def then(record=None):
        change(agent)
        monkeypatch.setattr(type(agent.env), "collect", lost)

    if not in_callback:
        then()
    with pytest.raises(LostWorkerError) as raised:
        learn_with_losses(agent, then if in_callback else None)
    untouched = change not in (assign, write, choose)
    expected = "3 times in a row" if untouched else "as the agent was changed"
    assert expected in raised.value.__notes__[0]


def learn_with_losses(agent, callback):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of those that can be repeated
        agent.learn(240, reset_num_timesteps=False, callback=callback)


class Third(gymnasium.Env):
    """Fails in its third step, if it was seeded by a certain number."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number = getattr(self, "number", seed)
        self.now = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.now += 1
        if self.now == 3 and self.number % 4 == 2:
            raise OwnError("broken", 3)
        return np.zeros(1, np.float32), 1.0, False, False, {}


class OwnError(Exception):
    """An error that isn't made again by its arguments, as most of people's own."""

    def __init__(self, what, count):
        super().__init__(f"{what} {count}")


def test_an_environment_that_fails_in_a_worker_is_named_as_in_one_process():
    gymnasium.register("tests/Third-v0", Third)
    messages = []
    for workers in (None, 2):
        agent = TRPO("MlpPolicy", "tests/Third-v0", n_envs=4, n_shards=2, workers=workers, n_steps=8, seed=0)
        with contextlib.closing(agent.env), pytest.raises(Exception, match="broken 3") as raised:
            agent.learn(8)
        messages.append(raised.value.__notes__)
    del gymnasium.registry["tests/Third-v0"]
    [[in_one], [in_worker]] = messages
    assert in_one == in_worker
    assert in_one.startswith("in step 3 of environment ")


class Slow(Third):
    """Takes its time."""

    def step(self, action):
        time.sleep(0.02)
        self.number = 0
        return super().step(action)


class AlarmError(Exception):
    """Raised by a handler of signals, as by those that limit the time of tests."""


def test_an_answer_that_was_waited_for_when_a_signal_came_is_not_taken_for_another(monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "tests/Slow-v0", EnvSpec("tests/Slow-v0", entry_point=Slow))
    options = {"n_envs": 2, "n_shards": 2, "n_steps": 8, "net_arch": (8,), "seed": 0}
    agent = TRPO("MlpPolicy", "tests/Slow-v0", workers=2, **options)

    def expired(*_):
        raise AlarmError

    before = signal.signal(signal.SIGALRM, expired)
    with contextlib.closing(agent.env):
        with pytest.raises(AlarmError):
            agent.learn(10_000, callback=lambda record: signal.setitimer(signal.ITIMER_REAL, 0.05))
        signal.signal(signal.SIGALRM, before)
        assert agent.n_updates == 1
        agent.learn(16)
    alone = TRPO("MlpPolicy", "tests/Slow-v0", **options)
    alone.learn(16).learn(16)
    assert state(agent) == state(alone)


class Leaver:
    def leave(self):
        os._exit(1)


def test_a_process_that_ends_by_itself_after_it_has_begun_is_no_fault_of_the_script():
    workers = Workers([Leaver], 1, ["it"])
    with pytest.raises(LostWorkerError) as raised:
        workers.each("leave")
    workers.close()
    assert re.fullmatch(r"worker 0 \(process \d+\), which has it, ended with status 1", str(raised.value))


def test_a_daemonic_process_is_told_that_it_starts_no_workers(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(RuntimeError, match="train without workers here"):
        made("Discrete", workers=1).learn(1)


def test_a_module_that_registers_environments_is_imported_in_workers_before_they_are_made(
    monkeypatch, tmp_path, capfd
):
    """Else Gymnasium warns that they are overridden."""
    (tmp_path / "own_environments.py").write_text(
        "import gymnasium\nfrom tests.agent.test_shards import Third\n"
        'gymnasium.register("tests/Own-v0", "own_environments:Third", disable_env_checker=True)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    agent = TRPO("MlpPolicy", "own_environments:tests/Own-v0", n_envs=1, workers=1, n_steps=2)
    with contextlib.closing(agent.env):
        agent.learn(2)
    del gymnasium.registry["tests/Own-v0"]
    assert capfd.readouterr().err == ""


def test_processes_end_with_the_one_that_started_them(tmp_path):
    """Also if that one is killed while they are at work."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        from npTRPO import TRPO
        if __name__ == "__main__":
            agent = TRPO("MlpPolicy", "CartPole-v1", n_envs=4, workers=2)
            agent.learn(10**9, callback=lambda record: print(*agent.env.pids, flush=True))
        """)
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_script_without_a_guard_is_told_of_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        'from npTRPO import TRPO\nTRPO("MlpPolicy", "CartPole-v1", n_envs=4, workers=1).learn(1)\n'
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert 'must do so behind if __name__ == "__main__":' in done.stderr


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_shards": 6}, "n_shards=6 is more than n_envs=5"),
        ({"n_shards": 2, "workers": 3}, "workers=3 is more than n_shards=2"),
        ({"workers": 6}, "n_shards=6 is more than n_envs=5"),
        ({"workers": 0}, "workers must be a whole number, .* or None, not 0"),
        ({"workers": True}, "workers must be .* not True"),
        ({"workers": "two"}, "workers must be .* not 'two'"),
        ({"workers": 2, "vectorization_mode": "async"}, "'async' starts processes or threads of its own"),
        ({"workers": 2, "env": gymnasium.make("CartPole-v1")}, "can't be split into shards: give the id"),
        ({"n_shards": 2, "env": gymnasium.make_vec("CartPole-v1", 5)}, "can't be split into shards"),
    ],
    ids=str,
)
def test_shards_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TRPO("MlpPolicy", **{"env": "CartPole-v1"} | SMALL | options)


def test_an_environment_that_cannot_be_sent_to_a_worker_is_refused():
    class Local(Third):
        pass

    gymnasium.register("tests/Local-v0", lambda: Local())
    agent = TRPO("MlpPolicy", "tests/Local-v0", n_envs=2, workers=2)
    with pytest.raises(TypeError, match="can't be sent there"):
        agent.learn(1)
    del gymnasium.registry["tests/Local-v0"]


def test_a_network_that_cannot_be_sent_to_a_worker_is_refused():
    agent = made("Discrete", workers=1, policy_kwargs={"network": lambda *sizes: layer(*sizes)})
    with pytest.raises(TypeError, match="can't be sent there"):
        agent.learn(1)
    assert agent.env.pids == []


def test_environments_in_shards_are_not_stepped_by_hand():
    agent = made("Discrete", n_shards=2)
    with pytest.raises(RuntimeError, match="stepped by their agent only"):
        agent.get_env().reset()
    with pytest.raises(RuntimeError, match="stepped by their agent only"):
        agent.get_env().step(agent.get_env().action_space.sample())
    agent.env.close()
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        agent.learn(1)
