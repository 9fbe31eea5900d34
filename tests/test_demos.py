"""Every demo runs as its users run it, and the gallery shows it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "demos"
DEMOS = sorted(FOLDER.glob("[0-9]*.py"))
GALLERY = (FOLDER / "README.md").read_text(encoding="utf-8")
ENTRIES = GALLERY.split("\n## ")[1:]
EQUATION = re.compile(r"\bE\d+\b")

# Runs a demo as a script would be, but where matplotlib can't be found.
WITHOUT_MATPLOTLIB = """
import runpy, sys
from pathlib import Path
sys.modules["matplotlib"] = None
del sys.argv[0]
sys.path[0] = str(Path(sys.argv[0]).parent)
runpy.run_path(sys.argv[0], run_name="__main__")
"""

each_demo = pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.stem)


def run(*command, cwd):
    """Run Python in a directory; a warning is an error."""
    surroundings = {
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(cwd.parent),  # matplotlib's own cache
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=cwd,
        env=os.environ | surroundings,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def figures():
    """When each figure of the gallery was written."""
    return {path.name: path.stat().st_mtime_ns for path in (FOLDER / "figures").iterdir()}


def docstring(demo):
    return demo.read_text(encoding="utf-8").split('"""')[1]


def entry(demo):
    """What the gallery says about a demo."""
    (found,) = (text for text in ENTRIES if demo.name in text)
    return found


def test_demos_are_numbered_without_gaps():
    assert [int(demo.name[:2]) for demo in DEMOS] == list(range(1, len(DEMOS) + 1))
    assert len(DEMOS) >= 11


@each_demo
def test_quick_prints_its_equations_and_writes_nothing_without_matplotlib(demo, tmp_path):
    before, there = figures(), tmp_path / "empty"
    there.mkdir()
    ran = run("-c", WITHOUT_MATPLOTLIB, demo, "--quick", cwd=there)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    printed = set(EQUATION.findall(ran.stdout))
    assert printed, ran.stdout
    assert printed <= set(EQUATION.findall(docstring(demo)))
    assert not list(there.iterdir())
    assert figures() == before


@each_demo
def test_quick_draws_into_the_file_given(demo, tmp_path):
    pytest.importorskip("matplotlib", reason="drawing needs an extra")
    before, there = figures(), tmp_path / "empty"
    there.mkdir()
    ran = run(demo, "--quick", "--out", "figure.svg", cwd=there)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    (drawn,) = there.iterdir()
    assert drawn.name == "figure.svg"
    assert drawn.read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert figures() == before


def test_a_figure_without_matplotlib_is_refused_with_the_name_of_the_extra(tmp_path):
    for wanted in ([], ["--quick", "--out", "figure.svg"]):
        ran = run("-c", WITHOUT_MATPLOTLIB, DEMOS[0], *wanted, cwd=tmp_path)
        assert ran.returncode == 2
        assert "npTRPO[plot]" in ran.stderr
        assert "Traceback" not in ran.stderr
        assert not ran.stdout


@pytest.mark.parametrize("name", ["figure", "figure.gif", "nowhere/figure.svg"])
def test_a_figure_that_could_not_be_written_is_refused_at_once(name, tmp_path):
    ran = run("-c", WITHOUT_MATPLOTLIB, DEMOS[0], "--quick", "--out", name, cwd=tmp_path)
    assert ran.returncode == 2
    assert Path(name).parts[0] in ran.stderr
    assert "npTRPO[plot]" not in ran.stderr
    assert not ran.stdout


@each_demo
def test_a_demo_can_be_read_in_one_go(demo):
    assert 40 <= len(demo.read_text(encoding="utf-8").splitlines()) <= 90


@each_demo
def test_the_gallery_shows_the_demo(demo):
    text = entry(demo)
    assert text.startswith(f"{int(demo.name[:2])}. ")
    assert f"`python demos/{demo.name}`" in text
    ((description, figure),) = re.findall(r"!\[(.+?)\]\((.+?)\)", text)
    assert description
    assert Path(figure).stem == demo.stem
    assert (FOLDER / figure).stat().st_size < 150_000
    cited = set(EQUATION.findall(text))
    assert cited
    assert cited <= set(EQUATION.findall(demo.read_text(encoding="utf-8")))


def test_the_gallery_has_nothing_else():
    assert len(ENTRIES) == len(DEMOS)
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    pictures = {Path(name).stem for name in re.findall(r"!\[.+?\]\(demos/figures/(.+?)\)", readme)}
    assert {Path(name).stem for name in figures()} == {demo.stem for demo in DEMOS} | pictures
