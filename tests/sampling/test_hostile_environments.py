"""Environments that break their word, raise, hang and die: trained through, or stopped by a line on who."""

import itertools
import multiprocessing
import os
import re
import signal
import threading
import time

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from npTRPO import TRPO, cli, evaluate_policy
from npTRPO.sampling.environments import StepTimeout, force_close
from npTRPO.trust_region.update import UpdateOutcome
from tests.environments import (
    MODES,
    Bandit,
    Counter,
    Flawed,
    Misshapen,
    counters,
    forks,
    registered,
    vectorized,
)
from tests.parameters import crossed

GUILTY = 1
HANG = 60.0  # seconds, which no test waits for


class Hostile(gymnasium.Env):
    """A task of five steps to an episode, which goes wrong once if it is number 1 of the copies.

    ``flaw`` maps what it would return, (observation, reward), to what it does, at step ``at`` of its life or,
    for 0, in later resets.
    """

    flaw = None
    at = 21
    copies = itertools.count()

    def __init__(self):
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        name = multiprocessing.current_process().name
        self.copy = int(name.rpartition("-")[2]) if name.startswith("Worker<") else next(self.copies)
        self.life = self.resets = 0

    def _observed(self, reward, wrong):
        observation = self.np_random.normal(size=3).astype(np.float32)
        if wrong and self.copy == GUILTY and type(self).flaw is not None:
            return type(self).flaw(observation, reward)
        return observation, reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 0
        self.resets += 1
        return self._observed(0.0, self.at == 0 and self.resets > 5)[0], {}

    def step(self, action):
        self.now += 1
        self.life += 1
        observation, reward = self._observed(float(self.np_random.normal()) + action, self.life == self.at)
        return observation, reward, self.now == 5, False, {}


HOSTILE = "tests/Hostile-v0"
gymnasium.register(HOSTILE, Hostile, disable_env_checker=True, order_enforce=False)


def raising(error):
    def flaw(observation, reward):
        raise error

    return flaw


def hanging(observation, reward):
    time.sleep(HANG)


def stubborn(observation, reward):
    """Takes the first alarm for an error of its own."""
    try:
        time.sleep(HANG)
    except Exception:
        time.sleep(HANG)


def dying(observation, reward):
    os.kill(os.getpid(), signal.SIGKILL)


def dying_while_idle(observation, reward):
    threading.Timer(0.05, dying, (None, None)).start()
    return observation, reward


def of_other_shape(observation, reward):
    return np.zeros(4, np.float32), reward


def number(value, dtype=np.float32):
    return lambda observation, reward: (np.array([0, value, 0], dtype), reward)


def rewarding(value):
    return lambda observation, reward: (observation, value)


# In the third update, whose environments were reset: step 5 of them is step 21 of their lives.
FLAWS = {
    "nan": (
        number(np.nan),
        "environment 1 returned the .*observation nan .* at its step 5; nothing was learned",
    ),
    "inf": (
        number(np.inf),
        "environment 1 returned the .*observation inf .* at its step 5; nothing was learned",
    ),
    "nan reward": (
        rewarding(np.nan),
        "environment 1 returned the reward nan at its step 5; nothing was learned",
    ),
    "-inf reward": (rewarding(-np.inf), "environment 1 returned the reward -inf at its step 5; nothing"),
    "rewards of many": (rewarding(np.zeros(3)), "step 5 of environment 1"),
    "a reward of another kind": (rewarding("much"), "much.* step 5"),
    "too long": (of_other_shape, r"step 5 of environment 1 returned observations that aren't of Box"),
    "of another kind": (lambda o, r: ("notes", r), "step 5 of environment 1"),
    "nothing": (lambda o, r: (None, r), "step 5"),
    "an error": (raising(ZeroDivisionError("broke\ntwice")), r"broke twice \(in step 5 of environment 1\)"),
    "an error without words": (raising(KeyError()), r"KeyError \(in step 5 of environment 1\)"),
    "a broken connection": (raising(ConnectionError("gone")), r"gone \(in step 5 of environment 1\)"),
    "end of a file": (raising(EOFError("over")), r"over \(in step 5 of environment 1\)"),
    "an exit": (
        raising(SystemExit(0)),
        "environment 1 would have ended the process with status 0, in step 5",
    ),
    "too slow": (hanging, r"took longer than 0\.3 s \(in step 5 of environment 1\)"),
    "stubbornly slow": (stubborn, r"took longer than 0\.3 s \(in step 5 of environment 1\)"),
}
ASYNC = {
    "nan": FLAWS["nan"],
    "an error": FLAWS["an error"],
    "a broken connection": FLAWS["a broken connection"],
    "too slow": FLAWS["too slow"],
    "killed": (dying, "the process of environment 1 was killed by signal 9, in step 5"),
    "ended": (lambda o, r: os._exit(7), "the process of environment 1 ended with status 7, in step 5"),
    "killed between steps": (
        dying_while_idle,
        "the process of environment 1 was killed by signal 9, in (step|reset)",
    ),
}
WORDS = ["train", HOSTILE, "--n-envs", "3", "--n-steps", "8", "--net-arch", "3", "--seed", "0"]
WORDS += ["--eval-episodes", "0", "--checkpoint-interval", "1", "--total-timesteps", "96", "--no-preset"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Hostile, "copies", itertools.count())


@pytest.fixture(scope="module")
def peaceful(tmp_path_factory):
    """The agent of a run in which nothing goes wrong."""
    directory = tmp_path_factory.mktemp("peaceful") / "run"
    assert cli.main([*WORDS, "--out", str(directory)]) == 0
    return (directory / "agent.npz").read_bytes()


def assert_stopped_and_resumable(said, monkeypatch, capsys, peaceful, tmp_path, *more):
    """One line says who it was, and from the last checkpoint the run goes on as if nothing had happened."""
    assert cli.main([*WORDS, "--out", "run", *more]) == 1
    err = capsys.readouterr().err
    assert re.fullmatch(rf"nptrpo: [^\n]*{said}[^\n]*\n", err), err
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept[-1] in ("000000002.npz", "000000003.npz")
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        assert np.all(np.isfinite(TRPO.load(file).theta))
    monkeypatch.setattr(Hostile, "flaw", None)
    assert cli.main(["train", "--resume", "run"]) == 0
    if not more:
        assert (tmp_path / "run" / "agent.npz").read_bytes() == peaceful
    capsys.readouterr()


@pytest.mark.parametrize("flaw", FLAWS)
def test_an_environment_that_goes_wrong_stops_the_run_on_one_line(
    flaw, monkeypatch, capsys, peaceful, tmp_path
):
    wrong, said = FLAWS[flaw]
    monkeypatch.setattr(Hostile, "flaw", wrong)
    more = ["--env-timeout", "0.3"] if "slow" in flaw else []
    assert_stopped_and_resumable(said, monkeypatch, capsys, peaceful, tmp_path, *more)


@forks
@pytest.mark.parametrize("flaw", ASYNC)
def test_an_environment_that_goes_wrong_in_its_own_process_does_too(
    flaw, monkeypatch, capsys, peaceful, tmp_path
):
    wrong, said = ASYNC[flaw]
    monkeypatch.setattr(Hostile, "flaw", wrong)
    more = ["--vectorization-mode", "async", *(["--env-timeout", "0.3"] if "slow" in flaw else [])]
    if flaw == "killed between steps":
        monkeypatch.setattr(Hostile, "at", 1)
        more += ["--total-timesteps", "2400000"]
        assert cli.main([*WORDS, "--out", "run", *more]) == 1
        assert re.fullmatch(rf"nptrpo: {said}[^\n]*\n", capsys.readouterr().err)
        return
    assert_stopped_and_resumable(said, monkeypatch, capsys, peaceful, tmp_path, *more)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("mode", ["sync", pytest.param("async", marks=forks)])
def test_an_environment_that_raises_in_reset_is_named(mode, monkeypatch, capsys, peaceful, tmp_path):
    monkeypatch.setattr(Hostile, "flaw", raising(ZeroDivisionError("broke")))
    monkeypatch.setattr(Hostile, "at", 0)
    said = r"broke \(in (reset|step \d) of environment 1\)"
    assert_stopped_and_resumable(said, monkeypatch, capsys, peaceful, tmp_path, "--vectorization-mode", mode)


def test_an_error_in_the_first_reset_is_named_too():
    class Unborn(Counter):
        def reset(self, **_):
            raise RuntimeError("not yet")

    agent = TRPO("MlpPolicy", vectorized([Counter, Counter, Unborn]), n_steps=4, seed=0)
    with pytest.raises(RuntimeError, match="not yet") as caught:
        agent.learn(12)
    assert caught.value.__notes__ == ["in reset of environment 2"]


# --- numbers ---------------------------------------------------------------------------------------------


class Numbers(gymnasium.Env):
    """Normal observations and rewards, but for every third."""

    def __init__(self, observation=0.0, reward=0.0, dtype=np.float64, action=None):
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), dtype)
        self.action_space = action or spaces.Discrete(3)
        self.observation, self.reward, self.count = observation, reward, 0

    def _observed(self):
        self.count += 1
        observed = self.np_random.normal(size=3)
        if self.observation and self.count % 3 == 0:
            observed[1] = self.observation
        with np.errstate(over="ignore"):
            return observed.astype(self.observation_space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 0
        return self._observed(), {}

    def step(self, action):
        self.now += 1
        observed = self._observed()
        usual = float(self.np_random.normal())
        reward = self.reward if self.reward and self.count % 3 == 0 else usual
        return observed, reward, self.now == 5, False, {}


FITS = ["trust_region", "lbfgs", "adam"]
ACTIONS = {"discrete": spaces.Discrete(3), "box": spaces.Box(-1, 1, (2,), np.float32)}


def numbers(agent):
    """All that learning changes."""
    arrays = agent.learner.arrays()
    del arrays["reward_scale_running"]  # which a change of environment sets to zero
    return [*arrays.values(), np.array(agent.recent_returns)]


def trained(flaw, fit, action, normal, **options):
    """An agent that learned in such an environment, and what became of its updates."""
    envs = vectorized([lambda: Numbers(action=ACTIONS[action], **flaw)] * 2)
    agent = TRPO(
        *("MlpPolicy", envs),
        n_steps=16,
        net_arch=(4,),
        seed=0,
        value_fit=fit,
        normalize_observations=normal,
        normalize_rewards=normal,
        **options,
    )
    outcomes = []
    try:
        agent.learn(3 * 32, callback=lambda record: outcomes.append(record.update.outcome))
    finally:
        assert all(np.all(np.isfinite(array)) for array in numbers(agent))
    return agent, outcomes


MODERATE = [1e30, -1e30, 3e38, 1e-40, 5e-324]
PLACES = ["observation", "reward"]
each_fit = pytest.mark.parametrize("fit", FITS)


@pytest.mark.parametrize(
    ("flaw", "value", "fit", "action"), crossed(itertools.product(PLACES, MODERATE), FITS, ACTIONS)
)
def test_numbers_that_float32_can_hold_are_trained_through_when_normalised(flaw, value, fit, action):
    _, outcomes = trained({flaw: value}, fit, action, normal=True)
    assert outcomes == [UpdateOutcome.IMPROVED] * 3


@pytest.mark.parametrize(
    ("flaw", "value", "fit", "action", "activation"),
    crossed(
        itertools.product(PLACES, [*MODERATE, 1e200]), FITS, itertools.product(ACTIONS, ["tanh", "relu"])
    ),
)
def test_no_number_makes_anything_learned_infinite(flaw, value, fit, action, activation):
    """Neither warnings nor NaN: what isn't finite is refused, and said to be."""
    options = {"activation_fn": activation, "dtype": "float64" if value == 1e200 else "float32"}
    _, outcomes = trained({flaw: value}, fit, action, False, **options)
    assert len(outcomes) == 3
    if abs(value) < 1:
        assert outcomes == [UpdateOutcome.IMPROVED] * 3


@each_fit
def test_a_refused_update_changes_no_bit_and_is_reported(fit):
    before = trained({}, fit, "box", normal=True)[0]
    first = [array.copy() for array in numbers(before)[:-1]]
    before.set_env(vectorized([lambda: Numbers(action=ACTIONS["box"], reward=1e200)] * 2))
    records = []
    before.learn(32, callback=records.append, reset_num_timesteps=False)
    [record] = records
    assert record.update.outcome is UpdateOutcome.NOT_FINITE
    assert record.update.theta is before.theta
    assert (record.update.kl, record.update.improvement) == (0.0, 0.0)
    for array, expected in zip(numbers(before), first, strict=False):
        assert array.tobytes() == expected.tobytes()


@each_fit
def test_an_agent_that_met_such_numbers_can_be_kept_and_gone_on_with(fit, tmp_path):
    agent, _ = trained({"reward": 1e200}, fit, "box", normal=True)
    agent.save(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent", env=vectorized([lambda: Numbers(action=ACTIONS["box"])] * 2))
    outcomes = []
    loaded.learn(64, callback=lambda record: outcomes.append(record.update.outcome))
    assert UpdateOutcome.IMPROVED in outcomes


@pytest.mark.parametrize("value", [1e200, 1e39, -1e300])
@pytest.mark.parametrize("normal", [True, False])
def test_an_observation_beyond_float32_is_refused_with_environment_and_step(value, normal):
    with pytest.raises(ValueError, match=r"environment 0 returned the .*observation -?inf .* at its step \d"):
        trained({"observation": value}, "trust_region", "discrete", normal)


def test_rewards_that_add_up_to_infinity_are_refused_with_environment_and_step():
    with pytest.raises(ValueError, match=r"^the rewards of environment 0 add up to inf at its step \d;"):
        trained({"reward": 1.7e308}, "trust_region", "discrete", True)


def test_a_policy_that_is_out_of_its_depth_is_not_the_environments_fault():
    """Weights times 1e38 add up to infinity minus infinity."""
    envs = vectorized([lambda: Numbers(observation=3e38, action=ACTIONS["box"])] * 2)
    agent = TRPO(
        *("MlpPolicy", envs),
        n_steps=16,
        net_arch=(4,),
        activation_fn="relu",
        seed=0,
        normalize_observations=False,
    )
    agent.theta = agent.theta * np.float32(1e3)
    before = agent.theta.tobytes()
    with pytest.raises(
        ValueError, match=r"^the policy has no finite action in environment \d at its step \d+, "
    ):
        agent.learn(64)
    assert agent.theta.tobytes() == before


def test_the_command_says_which_updates_are_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(Hostile, "flaw", rewarding(1e200))
    assert cli.main([*WORDS, "--out", "run"]) == 0
    err = capsys.readouterr().err
    assert re.fullmatch(r"nptrpo: warning: update 3 is refused\. The policy stays: [^\n]*not finite\.\n", err)
    outcomes = [row.rsplit(",")[-1] for row in (tmp_path / "run" / "progress.csv").read_text().split()[1:]]
    assert [outcome == "NOT_FINITE" for outcome in outcomes] == [False, False, True, False]


# --- what vector environments may do ---------------------------------------------------------------------


@pytest.mark.parametrize("lost", [lambda info: {}, lambda info: info | {"final_obs": [None, None]}])
def test_a_vector_environment_that_loses_the_last_observation_is_told_what_it_lacks(lost):
    class Forgetful(SyncVectorEnv):
        def step(self, actions):
            *rest, info = super().step(actions)
            return *rest, lost(info)

    envs = Forgetful(counters(2, lengths=(3,)), autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match=r"^environment 0 ended an episode at its step 3 without final_obs"):
        TRPO("MlpPolicy", envs, n_steps=4, seed=0).learn(8)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8, bool, object, "U8"], ids=str)
def test_a_dtype_that_changes_is_converted_or_refused_with_the_step(dtype):
    envs = Misshapen(counters(2, lengths=(9,)), 3, lambda o, r: (o.astype(dtype), r))
    agent = TRPO("MlpPolicy", envs, n_steps=4, seed=0)
    agent.learn(8)
    assert all(np.all(np.isfinite(array)) for array in numbers(agent))


@pytest.mark.filterwarnings("ignore:.*ERROR:UserWarning")  # Gymnasium's, with the process's own traceback
@pytest.mark.parametrize("asynchronous", [False, pytest.param(True, marks=forks)])
def test_an_observation_of_another_shape_is_refused_with_environment_and_step(asynchronous):
    makers = [Counter, lambda: Flawed(2, observation=np.zeros(4), lengths=(9,)), Counter]
    envs = vectorized(makers, asynchronous=asynchronous)
    try:
        with pytest.raises(ValueError, match=r"shape|broadcast") as caught:
            TRPO("MlpPolicy", envs, n_steps=4, seed=0).learn(12)
    finally:
        force_close(envs)
    assert caught.value.__notes__ == ["in step 2 of environment 1"]


@pytest.mark.parametrize("rewards", [["a", "b"], [None, None], [[1.0], [2.0]]], ids=str)
def test_rewards_that_are_no_numbers_are_refused_with_the_step(rewards):
    envs = Misshapen(counters(2, lengths=(9,)), 3, lambda o, r: (o, np.array(rewards)))
    with pytest.raises((ValueError, TypeError)) as caught:
        TRPO("MlpPolicy", envs, n_steps=4, seed=0).learn(8)
    assert "step 3" in " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


# --- episodes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "mode", "fit"), crossed(itertools.product(["terminated", "truncated", "both"], MODES), FITS)
)
def test_episodes_of_length_one_are_trained_through(mode, end, fit):
    agent = TRPO("MlpPolicy", vectorized(counters(3, (1,), (end,)), mode), n_steps=8, value_fit=fit, seed=0)
    outcomes = []
    agent.learn(3 * 24, callback=lambda record: outcomes.append(record.update.outcome))
    assert outcomes == [UpdateOutcome.IMPROVED] * 3
    assert set(agent.recent_lengths) == {1}
    assert all(np.all(np.isfinite(array)) for array in numbers(agent))


@each_fit
def test_episodes_that_never_end_are_trained_through(fit):
    envs = vectorized(counters(2, (10**9,)))
    agent, records = TRPO("MlpPolicy", envs, n_steps=16, value_fit=fit, seed=0), []
    agent.learn(96, callback=records.append)
    assert [record.update.outcome for record in records] == [UpdateOutcome.IMPROVED] * 3
    assert np.isnan(records[-1].episode_return)
    assert all(np.all(np.isfinite(array)) for array in numbers(agent))


@pytest.mark.parametrize(
    ("reward", "options", "fit"),
    crossed(
        itertools.product([0.0, 1.0, -3.5], [{}, {"normalize_advantage": False, "normalize_rewards": False}]),
        FITS,
    ),
)
def test_rewards_that_are_all_equal_are_trained_through(fit, reward, options):
    class Equal(Counter):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, reward, *rest

    agent = TRPO("MlpPolicy", vectorized([Equal, Equal]), n_steps=16, value_fit=fit, seed=0, **options)
    agent.learn(96)
    assert all(np.all(np.isfinite(array)) for array in numbers(agent))


def test_an_evaluation_of_episodes_that_never_end_is_cut(monkeypatch, capsys):
    endless = vectorized(counters(2, (10**9,)))
    agent = TRPO("MlpPolicy", endless, n_steps=4, seed=0)
    agent.theta[:] = 0
    mean, std = evaluate_policy(agent, endless, 4, max_episode_steps=10, seed=0)
    # The first action of three: 1000 per copy and 10 per step so far, over twice ten steps.
    expected = np.array([450, 450 + 1000, 10450, 10450 + 1000])
    assert (mean, std) == (np.mean(expected), np.std(expected))
    monkeypatch.setattr("npTRPO.runs.recorder.EVALUATION_STEPS", 20)
    monkeypatch.setattr(Counter.__init__, "__defaults__", (0, (10**9,), ("terminated",), "box"))
    words = ["--total-timesteps", "32", "--n-envs", "2", "--n-steps", "8", "--checkpoint-interval", "1"]
    assert cli.main(["train", registered(Counter), "--no-preset", "--out", "run", *words]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("flaw", "said"),
    [
        (number(np.nan), r"environment 1 returned the observation nan \(feature 1\) in step 3 of an eval"),
        (rewarding(np.nan), r"environment 1 returned the reward nan in step 3 of an evaluation"),
        (raising(ZeroDivisionError("broke")), "broke"),
        (hanging, "took longer than 0.3 s"),
        (raising(SystemExit), "environment 1 would have ended the process with status None, in step 3"),
    ],
)
def test_what_goes_wrong_in_an_evaluation_is_said_with_the_step(flaw, said, monkeypatch):
    agent = TRPO("MlpPolicy", HOSTILE, seed=0, n_envs=1)
    monkeypatch.setattr(Hostile, "copies", itertools.count())
    monkeypatch.setattr(Hostile, "at", 3)
    monkeypatch.setattr(Hostile, "flaw", flaw)
    with pytest.raises(Exception, match=said) as caught:
        evaluate_policy(agent, HOSTILE, 3, seed=0, env_timeout=0.3)
    assert "of an evaluation" in " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


# --- time ------------------------------------------------------------------------------------------------


def test_a_time_limit_leaves_steps_within_it_and_the_alarms_of_others_alone():
    def alarm(*_):
        raise AssertionError

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        plain = TRPO("MlpPolicy", vectorized(counters(2)), n_steps=8, seed=0).learn(32)
        limited = StepTimeout(vectorized(counters(2)), 60)
        assert (
            TRPO("MlpPolicy", limited, n_steps=8, seed=0).learn(32).theta.tobytes() == plain.theta.tobytes()
        )
        assert signal.getsignal(signal.SIGALRM) is alarm
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("seconds", [0, -1, np.nan, np.inf])
def test_a_time_limit_that_is_none_is_refused(seconds, capsys):
    with pytest.raises(ValueError, match="must be a positive number of seconds, but it is"):
        StepTimeout(vectorized(counters(1)), seconds)
    assert cli.main(["train", registered(Bandit), "--env-timeout", str(seconds)]) == 2
    assert "--env-timeout: must be a positive number of seconds" in capsys.readouterr().err


def test_a_time_limit_outside_the_main_thread_is_refused():
    refused = []

    def thread():
        try:
            StepTimeout(vectorized(counters(1)), 1)
        except RuntimeError as error:
            refused.append(str(error))

    worker = threading.Thread(target=thread)
    worker.start()
    worker.join()
    assert refused == ["env_timeout needs a system with alarms, and Python's main thread"]


def test_a_run_keeps_its_time_limit_when_it_is_resumed_unless_given_another(monkeypatch, capsys):
    monkeypatch.setattr(Hostile, "flaw", hanging)
    assert cli.main([*WORDS, "--out", "run", "--env-timeout", "0.3"]) == 1
    for more, said in (([], "0.3 s"), (["--env-timeout", "0.2"], "0.2 s"), ([], "0.2 s")):
        monkeypatch.setattr(Hostile, "copies", itertools.count())
        monkeypatch.setattr(Hostile, "at", 3)
        capsys.readouterr()
        assert cli.main(["train", "--resume", "run", *more]) == 1
        assert f"took longer than {said}" in capsys.readouterr().err


@forks
@pytest.mark.parametrize("busy", [True, False])
def test_processes_are_dismissed_whatever_they_do(busy):
    envs = vectorized([lambda: Numbers() for _ in range(2)], asynchronous=True)
    assert isinstance(envs, AsyncVectorEnv)
    envs.reset(seed=0)
    if busy:
        envs.step_async(np.zeros(2, np.int64))
    os.kill(envs.processes[0].pid, signal.SIGKILL)
    force_close(envs)
    force_close(envs)
    assert not any(process.is_alive() for process in envs.processes)
