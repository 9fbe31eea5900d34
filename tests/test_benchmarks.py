"""What the README quotes is what the committed measurements say."""

from pathlib import Path

import pytest

from npTRPO.agent.presets import presets
from tests.benchmarks import growth, learning, speed
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
