"""Groups of runs compared: their statistics, what is read of a run, and the command."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st

from npTRPO import cli
from npTRPO.runs.comparison import read_groups
from npTRPO.runs.statistics import interquartile_mean, probability_of_improvement

few_returns = st.lists(st.integers(-3, 3), min_size=1, max_size=7)


@given(few_returns, few_returns)
@example([1, 2, 2], [2, 3, 0])
def test_the_probability_of_improvement_is_that_of_all_pairs_with_ties_as_a_half(x, y):
    won = [1 if a > b else 0.5 if a == b else 0 for a, b in itertools.product(x, y)]
    found = probability_of_improvement(np.array(x, float), np.array(y, float))
    assert found == pytest.approx(sum(won) / len(won), rel=1e-13, abs=1e-15)
    u = scipy.stats.mannwhitneyu(x, y, method="asymptotic").statistic
    assert found == pytest.approx(u / len(won), rel=1e-13, abs=1e-15)


def evaluated(path, *means, env="CartPole-v1", seed=0, **options):
    """A run directory with a row in evaluations.csv for each mean, every 1,000 steps."""
    path.mkdir(parents=True)
    config = {"gamma": 0.99, "seed": seed, "checkpoint_interval": 10} | options
    (path / "config.json").write_text(json.dumps({"format": "npTRPO run", "env": env, "config": config}))
    rows = [f"{i},{1000 * i},{mean},1.0\n" for i, mean in enumerate(means, 1)]
    header = "n_updates,num_timesteps,mean_return,std_return\n" if rows else ""
    (path / "evaluations.csv").write_text(header + "".join(rows))
    return path


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Five runs and four of CartPole, and one of Acrobot beside the four."""
    monkeypatch.chdir(tmp_path)
    for seed, mean in enumerate([10, 500, 400, 300, 450]):
        evaluated(Path(f"first/seed-{seed}"), 600, mean, seed=seed)
    for seed, mean in enumerate([200, 300, 100, 450]):
        evaluated(Path(f"second/seed-{seed}"), mean, seed=seed)
    evaluated(Path("second/other"), -100, env="Acrobot-v1")
    return tmp_path


def compare(*words):
    return cli.main(["compare", *map(str, words)])


def test_a_run_counts_with_the_last_row_of_its_evaluations(two, capsys):
    assert compare("first", "second", "second/other", "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    first, acrobot, second, alone = found["groups"]
    assert [(group["path"], group["env"], group["seeds"]) for group in found["groups"]] == [
        ("first", "CartPole-v1", 5),
        ("second", "Acrobot-v1", 1),
        ("second", "CartPole-v1", 4),
        ("second/other", "Acrobot-v1", 1),
    ]
    assert first["returns"] == [10, 500, 400, 300, 450]
    assert first["steps"] == 5 * [2000]
    for group in found["groups"]:
        assert group["interquartile_mean"] == pytest.approx(scipy.stats.trim_mean(group["returns"], 0.25))
    assert acrobot["interval"] is alone["interval"] is None
    for group in (first, second):
        low, high = group["interval"]
        assert min(group["returns"]) <= low < group["interquartile_mean"] < high <= max(group["returns"])
    cartpole, tied = found["probabilities"]
    # Of 20 pairs, 10 loses all; 500 wins all; 400 wins 3; 300 wins 2 and ties once; 450 wins 3 and ties once.
    assert cartpole == {"env": "CartPole-v1", "x": "first", "y": "second", "x_is_better": 13 / 20}
    assert tied == {"env": "Acrobot-v1", "x": "second", "y": "second/other", "x_is_better": 0.5}


def test_the_interval_is_that_of_all_resamples_and_repeats(two):
    """Of four runs there are 4⁴ resamples, whose quantiles those of ten thousand random ones approach."""
    _, group = read_groups(Path("second"))
    assert group.interval == group.interval
    every = np.sort([interquartile_mean(np.array(x)) for x in itertools.product(group.returns, repeat=4)])
    # 10,000 draws meet a quantile's rank within 5 standard errors, √(0.025 · 0.975 / 10⁴) each.
    slack = 5 * (0.025 * 0.975 / 10_000) ** 0.5
    for found, level in zip(group.interval, (0.025, 0.975), strict=True):
        below, above = np.quantile(every, [level - slack, level + slack], method="inverted_cdf")
        assert below - 1e-9 <= found <= above + 1e-9


def test_the_table_has_a_line_for_each_group_and_each_pair(two, capsys):
    evaluated(Path("first/seed-5"), 7, seed=5)
    assert compare("first", "second") == 0
    out, err = capsys.readouterr()
    assert err == ""
    head, acrobot, first, second, empty, pair = out.splitlines()
    assert head.split("  ")[0] == "environment"
    assert acrobot.split() == ["Acrobot-v1", "second", "1", "1,000", "-100.00", "–"]
    assert first.split()[:6] == ["CartPole-v1", "first", "6", "1,000", "…", "2,000"]
    assert second.split()[:5] == ["CartPole-v1", "second", "4", "1,000", "250.00"]
    assert len({len(line) for line in (head, acrobot, first, second)}) == 1
    assert empty == ""
    assert pair == "P(first > second) = 0.54 on CartPole-v1"  # 13 of 24


@pytest.mark.parametrize("left", ["no table", "no row", "a row being written", "nan", "inf"])
def test_what_has_no_evaluation_is_named_and_not_counted(left, two, capsys):
    run = evaluated(Path("third/seed-0"), *([left] if len(left) == 3 else []))
    if left == "no table":
        (run / "evaluations.csv").unlink()
    elif left == "a row being written":
        (run / "evaluations.csv").write_text("n_updates,num_timesteps,mean_return,std_return\n1,1000,5")
    none = "nptrpo: warning: third (CartPole-v1) has no evaluation, and is left out\n"
    assert compare("third", "first", "--json") == 0
    out, err = capsys.readouterr()
    assert err == none
    assert [group["path"] for group in json.loads(out)["groups"]] == ["first"]
    assert compare("third") == 2
    assert capsys.readouterr() == (
        "",
        f"{none}nptrpo: none of these runs has an evaluation by which it could be compared\n",
    )
    shutil.copytree(run, "first/seed-9")
    assert compare("first", "--json") == 0
    out, err = capsys.readouterr()
    assert err == (
        "nptrpo: warning: first (CartPole-v1) is compared without seed-9, of which there is no evaluation\n"
    )
    assert json.loads(out)["groups"][0]["seeds"] == 5


def test_runs_of_different_settings_are_taken_together_and_it_is_said(two, capsys):
    evaluated(Path("first/seed-5"), 7, seed=5, gamma=0.5)
    assert compare("first") == 0
    assert capsys.readouterr().err == (
        "nptrpo: warning: first (CartPole-v1) has runs of different settings, which are taken together\n"
    )


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("empty", None, "nptrpo: empty isn't a run directory that can be read, nor a folder of them: "),
        ("first/seed-0/config.json", "[]", "nptrpo: first/seed-0 isn't a run directory that can be read"),
        ("first/seed-0/evaluations.csv", "a,b\n1,2\n", "nptrpo: first/seed-0/evaluations.csv isn't a table"),
    ],
)
def test_what_is_no_run_or_damaged_is_said_on_one_line(path, content, said, two, capsys):
    if content is None:
        Path(path).mkdir()
    else:
        Path(path).write_text(content)
    assert compare(path.partition("/")[0]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") == 1
