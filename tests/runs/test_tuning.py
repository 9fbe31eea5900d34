"""Tuning: what is searched, what trials are, what is written, and how a study goes on."""

import os
import signal
import sys
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna", reason="tuning needs an extra")

from npTRPO import TRPO, TRPOConfig, cli, evaluate_policy  # noqa: E402
from npTRPO.runs.presets import read_preset  # noqa: E402
from npTRPO.runs.signals import Interruption  # noqa: E402
from npTRPO.runs.tuning import EVALUATION_SEED, SPACE, TuningSettings, n_taken, open_study, search  # noqa: E402

# All that is searched here: the widths would make trials long.
GIVEN = ["--net-arch", 4, "--n-envs", 2, "--n-steps", 16]
SHORT = ["--total-timesteps", 160, "--seeds", "0-1", "--eval-episodes", 2, *GIVEN]
ALIKE = ["tune", "CartPole-v1", *SHORT, "--out", "study"]
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def run(*words):
    return cli.main([str(word) for word in words])


def settings(**changes):
    usual = {"env": "CartPole-v1", "total_timesteps": 160, "seeds": (0, 1), "eval_episodes": 2}
    usual |= {"given": {"net_arch": [4], "n_envs": 2, "n_steps": 16}, "start": {}}
    return TuningSettings(**(usual | changes))


def trials(storage="study/study.journal", name="CartPole-v1"):
    if ":" not in storage:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))
    return optuna.load_study(study_name=name, storage=storage).trials


# --- what is searched ------------------------------------------------------------------------------------


def test_the_space_has_options_that_exist_and_the_defaults_where_it_can():
    config = TRPOConfig()
    assert set(SPACE) <= set(config.to_dict())
    first = settings(given={}).first()
    assert set(first) == set(SPACE) - {"log_std_init"}  # which CartPole's actions have no use for
    options = settings(given={}).options(first)
    assert options.pop("total_timesteps") == 160
    own = TRPOConfig.from_dict(options)
    assert own.to_dict() == config.to_dict() | {"n_steps": 256, "n_critic_updates": 2}


@pytest.mark.parametrize(
    ("given", "searched"),
    [({}, True), ({"distribution": "beta"}, False), ({"log_std_init": 0.5}, False)],
    ids=str,
)
def test_deviations_are_searched_for_gaussian_actions_alone(given, searched):
    assert ("log_std_init" in settings(env="Pendulum-v1", given=given).space()) == searched


def test_what_is_given_is_not_searched_and_the_help_names_the_rest(capsys):
    assert not {"net_arch", "n_envs", "n_steps"} & set(settings().space())
    with pytest.raises(SystemExit):
        run("tune", "--help")
    text = capsys.readouterr().out
    assert all(name in text for name in SPACE)


# --- trials ----------------------------------------------------------------------------------------------


def test_the_best_trial_is_written_as_a_preset_that_trains_to_the_agents_it_measured(capsys):
    assert run(*ALIKE, "--trials", 3) == 0
    out = capsys.readouterr().out
    found = trials()
    assert len(found) == 3
    best = max((trial for trial in found if trial.value is not None), key=lambda trial: trial.value)
    assert f"best is trial {best.number}: return {best.value:.2f}" in out
    assert "nptrpo train CartPole-v1 --preset study/best.toml trains with it" in out
    assert out.count("\ntrial ") == 3
    preset = read_preset(Path("study/best.toml"))
    steps = preset.pop("total_timesteps")
    assert steps == 160
    assert {name: preset[name] for name in best.params} == best.params
    assert (preset["net_arch"], preset["n_envs"], preset["n_steps"]) == ([4], 2, 16)
    means = []
    for seed in (0, 1):
        agent = TRPO("MlpPolicy", "CartPole-v1", TRPOConfig.from_dict({**preset, "seed": seed})).learn(steps)
        means.append(evaluate_policy(agent, "CartPole-v1", 2, seed=EVALUATION_SEED)[0])
    assert best.value == sum(means) / 2
    assert (
        run("train", "CartPole-v1", "--preset", "study/best.toml", "--out", "run", "--eval-episodes", 0) == 0
    )
    assert TRPO.load("run/agent").config.target_kl == preset["target_kl"]


def test_the_value_of_a_trial_is_the_mean_of_its_last_evaluation(monkeypatch):
    """Here it is worse than those before, of two seeds each."""
    returns = iter([9, 8, 7, 6, 5, 4, 3, 2, 1.5, 0.5])
    monkeypatch.setattr("npTRPO.runs.tuning._returns", lambda agent, settings: next(returns))
    study = open_study(settings(), Path("study.journal"), "worse")
    search(study, settings(), 1, Interruption())
    assert study.trials[0].value == 1
    assert study.trials[0].intermediate_values == {1: 8.5, 2: 6.5, 3: 4.5, 4: 2.5, 5: 1}


def test_trials_are_in_the_environment_with_its_keywords_and_wrappers(capsys):
    """An episode of one step has a return of 1, and the wrapper makes 3 of it."""
    Path("own_wrappers.py").write_text(
        "import gymnasium\n\n\ndef short(env):\n"
        "    thrice = gymnasium.wrappers.TransformReward(env, lambda reward: 3 * reward)\n"
        "    return gymnasium.wrappers.TimeLimit(thrice, 1)\n"
    )
    sys.path.insert(0, str(Path.cwd()))
    made = ["--env-kwargs", '{"sutton_barto_reward": false}', "--wrapper", "own_wrappers:short"]
    try:
        assert run(*ALIKE, "--trials", 1, *made) == 0
    finally:
        sys.path.pop(0)
        sys.modules.pop("own_wrappers", None)
    assert trials()[0].value == 3
    made_again = "'--env-kwargs={\"sutton_barto_reward\": false}' --wrapper=own_wrappers:short"
    assert f"--preset study/best.toml {made_again}" in capsys.readouterr().out


def test_a_study_goes_on_to_what_it_would_have_been():
    assert run(*ALIKE, "--trials", 1) == 0
    assert run(*ALIKE, "--trials", 3) == 0
    assert run(*ALIKE, "--trials", 3) == 0  # which has nothing left to do
    assert run("tune", "CartPole-v1", *SHORT, "--out", "other", "--trials", 3) == 0
    one, other = trials(), trials("other/study.journal")
    assert one[0].params == settings().first()
    assert [(t.params, t.value) for t in one] == [(t.params, t.value) for t in other]
    assert len({str(t.params) for t in one}) == 3
    assert Path("study/best.toml").read_text() == Path("other/best.toml").read_text()


def test_several_processes_share_a_study_in_a_database(capfd):
    url = f"sqlite:///{Path.cwd() / 'trials.db'}"
    words = [*ALIKE, "--storage", url, "--study", "shared"]
    assert run(*words, "--trials", 2, "--jobs", 2) == 0
    found = trials(url, "shared")
    assert [trial.state.name for trial in found] == 2 * ["COMPLETE"]
    assert [trial.params["target_kl"] == 0.01 for trial in found].count(True) == 1  # the defaults, once
    assert capfd.readouterr().out.count("\ntrial ") == 2
    assert Path("study/best.toml").exists()
    assert not Path("study/study.journal").exists()


def test_a_trial_below_the_median_is_stopped_at_an_evaluation(monkeypatch):
    returns = iter(range(1000, 0, -1))
    monkeypatch.setattr("npTRPO.runs.tuning._returns", lambda agent, settings: float(next(returns)))
    study = open_study(settings(), Path("study.journal"), "falling")
    search(study, settings(), 6, Interruption())  # each trial begins below where the last one ended
    states = [trial.state.name for trial in study.trials]
    assert states == 5 * ["COMPLETE"] + ["PRUNED"]
    assert list(study.trials[-1].intermediate_values) == [1, 2]
    assert n_taken(study) == 6


def test_a_signal_stops_a_trial_which_is_made_again(monkeypatch, capfd):
    from npTRPO.runs import tuning

    measure = tuning._returns

    def signalled(agent, settings):
        signal.raise_signal(signal.SIGTERM)
        return measure(agent, settings)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_returns", signalled)
        assert run(*ALIKE, "--trials", 2) == 128 + signal.SIGTERM
    out, err = capfd.readouterr()
    assert "no trial was trained to its end" in out
    assert "SIGTERM: stopped with 0 trials; go on with: nptrpo tune CartPole-v1 " in err
    assert not Path("study/best.toml").exists()
    assert run(*ALIKE, "--trials", 2) == 0
    assert [trial.state.name for trial in trials()] == ["FAIL", "COMPLETE", "COMPLETE"]


def test_a_trial_of_a_process_that_was_killed_is_made_again():
    open_study(settings(), Path("study.journal"), "CartPole-v1").ask()
    Path("study").mkdir()
    os.replace("study.journal", "study/study.journal")
    assert run(*ALIKE, "--trials", 1) == 0
    assert [trial.state.name for trial in trials()] == ["FAIL", "COMPLETE"]


# --- wrong use -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (["--seeds", "0,10"], 2, "trials train with seeds from 0 to 9, not [0, 10]"),
        (["--seed", 3], 2, "trials have several seeds: give --seeds instead of --seed"),
        (["--trials", 0], 2, "must be at least 1, not 0"),
        (["--gamma", 7], 2, "gamma must be a number from 0 to 1, but it is 7.0"),
        (["--storage", "nowhere"], 1, "Could not parse SQLAlchemy URL"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_any_trial(words, status, complaint, capsys):
    assert run(*ALIKE, "--trials", 1, *words) == status
    assert complaint in capsys.readouterr().err


def test_a_study_keeps_its_settings_and_a_run_is_no_place_for_it(capsys):
    assert run(*ALIKE, "--trials", 1) == 0
    assert run(*ALIKE, "--trials", 2, "--eval-episodes", 3, "--gamma", 0.9) == 1
    err = capsys.readouterr().err
    assert "the study 'CartPole-v1' was begun with eval_episodes 2, not 3; given {" in err
    Path("run").mkdir()
    Path("run/config.json").write_text('{"format": "npTRPO run"}')
    assert run(*ALIKE, "--trials", 1, "--out", "run") == 2
    assert "run is no directory of a study: choose another --out" in capsys.readouterr().err


def test_without_optuna_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run(*ALIKE, "--trials", 1) == 1
    assert 'tuning needs Optuna: pip install "npTRPO[tune]"' in capsys.readouterr().err
