import math
from types import SimpleNamespace

import numpy as np
import pytest

from npTRPO import TRPO, evaluate_policy
from npTRPO.agent import Record, callbacks
from npTRPO.agent.callbacks import (
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from tests.environments import Counter, TwoStates, registered

TWO_STATES = registered(TwoStates)


def small(env=TWO_STATES, **options):
    """An agent whose batches have 40 steps."""
    quick = {"n_envs": 2, "n_steps": 20, "net_arch": (4,), "seed": 0}
    return TRPO("MlpPolicy", env, **quick | options)


class Diary:
    """A callback that notes its name, and answers as told."""

    def __init__(self, notes, name, answer=None):
        self.notes, self.name, self.answer = notes, name, answer

    def __call__(self, record):
        self.notes.append((self.name, record.n_updates))
        return self.answer(record) if callable(self.answer) else self.answer


def scripted(monkeypatch, means):
    """Evaluations find these mean returns, one after the other."""
    rest = iter(means)
    monkeypatch.setattr(
        callbacks, "run_episodes", lambda *_, **__: (np.full(2, float(next(rest))), np.array([3, 5]))
    )


def record_at(steps, agent=None, **figures):
    return SimpleNamespace(num_timesteps=steps, agent=agent, evaluations=[], **figures)


# --- one, several, and their answers ---------------------------------------------------------------------


def test_a_callback_gets_a_frozen_record_of_every_update():
    records, agent = [], small()
    assert agent.learn(120, callback=records.append) is agent
    assert {type(record) for record in records} == {Record}
    assert [record.n_updates for record in records] == [1, 2, 3]
    assert [record.num_timesteps for record in records] == [40, 80, 120]
    assert all(record.agent is agent for record in records)
    with pytest.raises(AttributeError):
        records[0].n_updates = 7


def test_callbacks_are_called_in_their_order_after_each_update():
    notes = []
    listeners = (Diary(notes, "first"), Diary(notes, "second"))
    given = list(listeners)
    small(verbose=1).learn(80, callback=given)
    assert given == list(listeners)  # what verbose adds isn't added to it
    assert notes == [("first", 1), ("second", 1), ("first", 2), ("second", 2)]


@pytest.mark.parametrize("answer", [False, np.False_], ids=repr)
@pytest.mark.parametrize("place", [0, 1])
def test_training_stops_when_one_returns_false_and_the_others_still_hear_of_the_update(answer, place):
    notes = []
    stopper = Diary(notes, "stopper", lambda record: answer if record.n_updates == 2 else None)
    listeners = [Diary(notes, "other")]
    listeners.insert(place, stopper)
    agent = small().learn(400, callback=listeners)
    assert agent.n_updates == 2
    assert sorted(notes) == [("other", 1), ("other", 2), ("stopper", 1), ("stopper", 2)]


@pytest.mark.parametrize("answer", [None, True, np.True_, 0, 0.0, "", (), "stop"], ids=repr)
def test_nothing_but_false_stops_training(answer):
    assert small().learn(80, callback=Diary([], "any", answer)).n_updates == 2


def test_a_callback_changes_nothing_about_what_is_learned(tmp_path):
    watched = [
        EvalCallback(n_eval_episodes=2, eval_freq=40, deterministic=False),
        CheckpointCallback(40, tmp_path),
        lambda record: record.agent.predict(np.int64(1), deterministic=True),
    ]
    assert small().learn(120, callback=watched).theta.tobytes() == small().learn(120).theta.tobytes()


def test_an_error_in_a_callback_ends_training_and_says_so():
    def fail(record):
        raise RuntimeError("no more")

    agent = small()
    with pytest.raises(RuntimeError, match="no more"):
        agent.learn(400, callback=fail)
    assert agent.n_updates == 1


# --- evaluation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freq", "expected"), [(1, [40, 80, 120, 160]), (40, [40, 80, 120, 160]), (50, [80, 160])]
)
def test_evaluations_come_as_often_as_asked_for(freq, expected):
    evaluation = EvalCallback(n_eval_episodes=1, eval_freq=freq)
    assert math.isnan(evaluation.last_mean_reward)
    assert evaluation.best_mean_reward == -math.inf
    small().learn(160, callback=evaluation)
    assert [steps for steps, _, _ in evaluation.evaluations] == expected


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("where", ["its own id", "another id", "an environment"])
def test_an_evaluation_is_that_of_evaluate_policy_on_the_same_episodes_each_time(where, deterministic):
    env = {"its own id": None, "another id": TWO_STATES, "an environment": TwoStates()}[where]
    agent = small()
    evaluation = EvalCallback(env, n_eval_episodes=3, eval_freq=40, deterministic=deterministic, seed=5)
    expected = []

    def compare(record):
        mean, std = evaluate_policy(agent, env, 3, deterministic, seed=5)
        expected.append((record.num_timesteps, mean, std))

    agent.learn(120, callback=[evaluation, compare])
    assert evaluation.evaluations == expected
    assert evaluation.last_mean_reward == expected[-1][1]
    assert evaluation.best_mean_reward == max(mean for _, mean, _ in expected)


def test_the_best_model_is_the_first_of_those_with_the_best_mean_return(tmp_path, monkeypatch):
    scripted(monkeypatch, [3.0, 1.0, 7.0, 7.0, 2.0])
    evaluation = EvalCallback(eval_freq=1, best_model_save_path=tmp_path / "deeper" / "best.npz")
    kept = []
    small().learn(200, callback=[evaluation, lambda record: kept.append(record.agent.theta.tobytes())])
    best = TRPO.load(tmp_path / "deeper" / "best.npz")
    assert (evaluation.best_mean_reward, evaluation.last_mean_reward) == (7.0, 2.0)
    assert best.n_updates == 3
    assert best.theta.tobytes() == kept[2]
    assert [path.name for path in (tmp_path / "deeper").iterdir()] == ["best.npz"]


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (EvalCallback, {"eval_freq": 0}, "must be at least 1, not 0 and 10"),
        (EvalCallback, {"n_eval_episodes": 0}, "eval_freq and n_eval_episodes must be at least 1"),
        (EvalCallback, {"render": True}, "render_mode"),
        (CheckpointCallback, {"save_freq": 0, "save_path": "nowhere"}, "save_freq must be at least 1, not 0"),
    ],
)
def test_a_callback_that_can_never_do_its_work_is_refused(make, options, said):
    with pytest.raises((ValueError, NotImplementedError), match=said):
        make(**options)


# --- checkpoints -----------------------------------------------------------------------------------------


def test_checkpoints_are_the_agents_at_their_steps(tmp_path):
    kept = {}
    saving = CheckpointCallback(80, tmp_path / "deeper" / "still", name_prefix="mine")
    small().learn(200, callback=[saving, lambda r: kept.update({r.num_timesteps: r.agent.theta.tobytes()})])
    files = sorted((tmp_path / "deeper" / "still").iterdir())
    assert [file.name for file in files] == ["mine_160_steps.npz", "mine_80_steps.npz"]
    for file, steps in zip(files, (160, 80), strict=True):
        agent = TRPO.load(file)
        assert agent.num_timesteps == steps
        assert agent.theta.tobytes() == kept[steps]


@pytest.mark.parametrize("kind", ["evaluation", "checkpoint"])
def test_a_callback_can_be_used_again_when_the_steps_are_counted_anew(kind, tmp_path):
    evaluation = EvalCallback(n_eval_episodes=1, eval_freq=80)
    saving = CheckpointCallback(80, tmp_path)
    agent, used = small(), {"evaluation": evaluation, "checkpoint": saving}[kind]
    for _ in range(2):
        agent.learn(160, callback=used)
    agent.learn(80, callback=used, reset_num_timesteps=False)
    if kind == "evaluation":
        assert [steps for steps, _, _ in evaluation.evaluations] == [80, 160, 80, 160, 240]
    else:
        assert {path.name for path in tmp_path.iterdir()} == {
            f"rl_model_{n}_steps.npz" for n in (80, 160, 240)
        }
        assert TRPO.load(tmp_path / "rl_model_80_steps").n_updates == 6  # of the second time


# --- stopping --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reward", "goes_on"), [(math.nan, True), (-math.inf, True), (4.9, True), (5.0, False), (6.0, False)]
)
@pytest.mark.parametrize("source", ["training", "evaluation"])
def test_training_stops_at_a_return_and_not_before_there_is_one(reward, goes_on, source, monkeypatch):
    if source == "training":
        assert StopTrainingOnRewardThreshold(5.0)(record_at(10, episode_return=reward)) is goes_on
        return
    evaluation = EvalCallback(eval_freq=10)
    stop = StopTrainingOnRewardThreshold(5.0, evaluation)
    scripted(monkeypatch, [max(reward, -1e300)])  # a return is never infinite
    assert stop(record_at(5, episode_return=100.0)) is True  # there was no evaluation yet
    evaluation(record_at(10))
    assert stop(record_at(10, episode_return=100.0)) is goes_on


def test_a_threshold_ends_training_at_the_update_that_reaches_it():
    """Undiscounted returns of the two states lie from 0 to 20."""
    seen = []
    agent = small(target_kl=0.1, n_steps=100, gamma=0.9)
    agent.learn(
        20_000, callback=[lambda r: seen.append(r.episode_return), StopTrainingOnRewardThreshold(12.0)]
    )
    assert seen[-1] >= 12.0
    assert all(not reward >= 12.0 for reward in seen[:-1])
    assert agent.num_timesteps == 200 * len(seen) < 20_000


def test_before_the_first_episode_the_return_is_not_a_number_and_nothing_stops():
    returns = []
    agent = small(Counter(lengths=(50,)), n_steps=20)
    agent.learn(
        60, callback=[lambda r: returns.append(r.episode_return), StopTrainingOnRewardThreshold(-1e9)]
    )
    assert math.isnan(returns[0])
    assert math.isnan(returns[1])
    assert math.isfinite(returns[2])
    assert agent.num_timesteps == 60


@pytest.mark.parametrize(
    ("means", "patience", "least", "evaluations"),
    [
        ([1, 2, 3, 4, 5, 6], 0, 0, 6),  # better each time
        ([5, 4, 6, 7, 8, 9], 0, 0, 2),
        ([5, 4, 4, 7, 8, 9], 1, 0, 3),
        ([5, 5, 5, 5, 5, 5], 2, 0, 4),  # as good is no improvement
        ([5, 4, 6, 5, 4, 3], 2, 0, 6),
        ([5, 4, 3, 2, 1, 0], 0, 4, 5),  # not before more than so many
    ],
)
def test_training_stops_when_evaluations_bring_nothing_better(
    means, patience, least, evaluations, monkeypatch
):
    scripted(monkeypatch, means)
    evaluation = EvalCallback(eval_freq=1)
    stop = StopTrainingOnNoModelImprovement(patience, least, evaluation)
    assert stop(record_at(0)) is True
    small().learn(240, callback=[evaluation, stop])
    assert len(evaluation.evaluations) == evaluations


def test_they_are_used_as_those_of_stable_baselines3_are(tmp_path, monkeypatch):
    """With its names, in its order, one inside of another."""
    scripted(monkeypatch, [1.0, 2.0, 9.0, 3.0])
    seen = []
    evaluation = EvalCallback(
        TWO_STATES,
        callback_on_new_best=StopTrainingOnRewardThreshold(reward_threshold=9, verbose=1),
        callback_after_eval=lambda record: seen.append(record.n_updates),
        n_eval_episodes=2,
        eval_freq=40,
        log_path=tmp_path / "logs",
        best_model_save_path=str(tmp_path / "logs") + "/",
        deterministic=True,
        render=False,
        verbose=1,
        warn=False,
    )
    saving = CheckpointCallback(
        40, str(tmp_path), "m", save_replay_buffer=True, save_vecnormalize=True, verbose=2
    )
    agent = small().learn(400, callback=[evaluation, saving])
    assert agent.n_updates == 3
    assert seen == [1, 2, 3]
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"best_model.npz", "evaluations.npz"}
    with np.load(tmp_path / "logs" / "evaluations.npz") as log:
        np.testing.assert_array_equal(log["timesteps"], [40, 80, 120])
        np.testing.assert_array_equal(log["results"], [[1, 1], [2, 2], [9, 9]])
        np.testing.assert_array_equal(log["ep_lengths"], [[3, 5]] * 3)
    assert (tmp_path / "m_120_steps.npz").is_file()


def test_training_stops_without_improvement_after_an_evaluation(monkeypatch):
    scripted(monkeypatch, [5, 4, 4, 7, 8])
    stop = StopTrainingOnNoModelImprovement(max_no_improvement_evals=1, min_evals=0, verbose=1)
    with pytest.raises(ValueError, match="it looks at no evaluation"):
        stop(record_at(0))
    agent = small().learn(400, callback=EvalCallback(eval_freq=40, callback_after_eval=stop))
    assert agent.n_updates == 3


def test_a_callback_that_has_an_evaluation_keeps_it(monkeypatch):
    first = EvalCallback(eval_freq=40)
    stop = StopTrainingOnRewardThreshold(5, first)
    EvalCallback(eval_freq=40, callback_on_new_best=stop)
    assert stop.evaluation is first
