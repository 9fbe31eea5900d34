"""What the README quotes is what the committed measurements say, and they can be made again."""

import shutil
import warnings
from pathlib import Path

import pytest

from npTRPO.runs.presets import presets
from tests.benchmarks import figures, files, growth, learning, scaling, solver, speed
from tests.benchmarks.__main__ import main
from tests.benchmarks.files import read_rows

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", [speed.table, learning.table], ids=["speed", "learning"])
def test_the_readme_has_the_table_of_what_was_measured(table):
    lines = table().splitlines()
    assert len(lines) > 2
    assert "\n".join(lines) in README


def test_every_preset_was_measured_on_three_seeds_with_the_settings_it_has():
    rows = read_rows("learning.csv")
    for task in presets():
        seeds = {
            row["seed"] for row in rows if (row["task"], row["settings"]) == (task, learning._settings(task))
        }
        assert len(seeds) >= 3, task


def test_the_readme_has_the_exponents_that_were_fitted():
    for exponent in growth.exponents().values():
        assert f"{exponent:.2f}" in README


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["python -m tests.benchmarks", *words])
    main()


def test_a_measurement_that_is_there_is_not_made_again(monkeypatch, capsys):
    monkeypatch.setattr(learning, "_measure_one", lambda *_: pytest.fail("it was"))
    run(monkeypatch, "learning", "--task", "CartPole-v1", "Walker2d-v5", "--seeds", "0", "1", "2")
    assert capsys.readouterr().out.strip() == learning.table()


def test_growth_is_measured_and_drawn(monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="drawing needs an extra")
    shutil.copy(files.RESULTS / "solver.csv", tmp_path)
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    for name, sizes in {"SAMPLES": (50, 200), "WIDTHS": (2, 8), "ROWS": 64, "LEAST_SECONDS": 0}.items():
        monkeypatch.setattr(growth, name, sizes)
    monkeypatch.setattr(figures, "FIGURE", tmp_path / "speed.svg")
    monkeypatch.setattr(figures.scaling, "draw", lambda: None)
    run(monkeypatch, "growth")
    assert len(read_rows("growth.csv")) == 8
    assert set(growth.exponents()) == {
        (over, way) for over in ("samples", "parameters") for way in growth.WAYS
    }
    run(monkeypatch, "figures")
    assert capsys.readouterr().out.endswith("drew speed.svg\n")
    assert (tmp_path / "speed.svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="it reads Linux's /proc")
def test_scaling_is_measured_modelled_and_drawn(monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="drawing needs an extra")
    pytest.importorskip("mujoco", reason="the task is an extra")
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    shapes = {"SHAPES": ((2, 8), (4, 8), (4, 16)), "WORKERS": (1, 2), "LEFT_OUT": (4, 16, 2), "UPDATES": 2}
    for name, value in {**shapes, "FIGURE": tmp_path / "scaling.svg"}.items():
        monkeypatch.setattr(scaling, name, value)
    run(monkeypatch, "scaling")
    assert len(read_rows("scaling.csv")) == 6
    assert all(number >= 0 for part in scaling.fitted() for number in part)
    assert "by the model, which wasn't fitted to it" in capsys.readouterr().out
    scaling.draw()
    assert (tmp_path / "scaling.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_steps_of_conjugate_gradients_are_counted(monkeypatch, tmp_path):
    pytest.importorskip("mujoco", reason="the task is an extra")
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    monkeypatch.setattr(solver, "STEPS", 6 * 1024)
    monkeypatch.setattr(solver, "LONGEST", 15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # MuJoCo's, of its own model
        run(monkeypatch, "solver")
    rows = read_rows("solver.csv")
    assert len(rows) == 3 * 2 * 3
    for row in rows:
        assert row["steps to 0.001"] == "> 15" or int(row["steps to 0.1"]) <= int(row["steps to 0.001"])


def test_other_settings_than_a_presets_are_measured_beside_it(monkeypatch, tmp_path, nursery):
    true = learning.subprocess.run

    def train(command, **options):
        if command[0] == "git":  # which is asked for the commit
            return true(command, **options)
        assert nursery.run(*command[3:], cwd=tmp_path).status == 0
        return None

    monkeypatch.setattr(learning.subprocess, "run", train)
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    monkeypatch.setattr(learning, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(learning, "OTHER_EPISODES", 3)
    changes = ("total_timesteps=64", "n_steps=8")
    for seeds in (("1",), ("0", "1")):
        run(monkeypatch, "learning", "--task", "CartPole-v1", "--seeds", *seeds, "--change", *changes)
    assert not (tmp_path / "learning.csv").exists()
    rows = read_rows("changed.csv")
    assert [row["seed"] for row in rows] == ["0", "1"]
    assert {row["settings"] for row in rows} == {" ".join(changes)}
    assert rows[0]["command"] == "nptrpo train CartPole-v1 --seed 0 --total-timesteps 64 --n-steps 8"
    assert {row["steps"] for row in rows} == {"64"}


def test_the_readme_says_what_came_of_other_settings():
    rows = read_rows("changed.csv")
    assert len(rows) >= 6
    for row in rows:
        assert f" {float(row['mean']):.0f}" in README
