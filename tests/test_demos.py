"""Every demo runs as its users run it, and the gallery shows it."""

import os
import re
import runpy
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

each_demo = pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.stem)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a demo in this process, in an empty directory, where Matplotlib can't be found."""
    there = tmp_path / "empty"
    there.mkdir()
    monkeypatch.chdir(there)
    monkeypatch.syspath_prepend(FOLDER)
    for name in ["matplotlib", *sys.modules]:
        if name.split(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)

    def run(demo, *options):
        sys.modules.pop("_figure", None)
        monkeypatch.setattr(sys, "argv", [str(demo), *options])
        status, before = 0, figures()
        try:
            runpy.run_path(str(demo), run_name="__main__")
        except SystemExit as end:
            status = end.code
        assert not list(there.iterdir())
        assert figures() == before
        return status, *capsys.readouterr()

    yield run
    sys.modules.pop("_figure", None)


def figures():
    """When each figure of the gallery was written."""
    return {path.name: path.stat().st_mtime_ns for path in (FOLDER / "figures").iterdir()}


def test_demos_are_numbered_without_gaps():
    assert [int(demo.name[:2]) for demo in DEMOS] == list(range(1, len(DEMOS) + 1))
    assert len(DEMOS) >= 11


@each_demo
def test_quick_prints_its_equations_and_writes_nothing_without_matplotlib(demo, run):
    status, out, err = run(demo, "--quick")
    assert (status, err) == (0, "")
    printed = set(EQUATION.findall(out))
    assert printed, out
    assert printed <= set(EQUATION.findall(demo.read_text(encoding="utf-8").split('"""')[1]))


@pytest.mark.parametrize(
    "demo",
    [DEMOS[0], *(pytest.param(demo, marks=pytest.mark.slow) for demo in DEMOS[1:])],
    ids=lambda demo: demo.stem,
)
def test_quick_draws_into_the_file_given(demo, tmp_path, nursery):
    """As its users run it; a warning is an error. The nursery has made Matplotlib's list of fonts."""
    pytest.importorskip("matplotlib", reason="drawing needs an extra")
    before, there = figures(), tmp_path / "empty"
    there.mkdir()
    surroundings = {
        "MPLBACKEND": "Agg",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-W", "error", demo, "--quick", "--out", "figure.svg"]
    ran = subprocess.run(
        command, cwd=there, env=os.environ | surroundings, capture_output=True, encoding="utf-8", timeout=300
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    (drawn,) = there.iterdir()
    assert drawn.name == "figure.svg"
    assert drawn.read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert figures() == before


def test_a_figure_without_matplotlib_is_refused_with_the_name_of_the_extra(run):
    for wanted in ([], ["--quick", "--out", "figure.svg"]):
        status, out, err = run(DEMOS[0], *wanted)
        assert (status, out) == (2, "")
        assert "npTRPO[plot]" in err


@pytest.mark.parametrize("name", ["figure", "figure.gif", "nowhere/figure.svg"])
def test_a_figure_that_could_not_be_written_is_refused_at_once(name, run):
    status, out, err = run(DEMOS[0], "--quick", "--out", name)
    assert (status, out) == (2, "")
    assert Path(name).parts[0] in err
    assert "npTRPO[plot]" not in err


@each_demo
def test_the_gallery_shows_the_demo_which_can_be_read_in_one_go(demo):
    source = demo.read_text(encoding="utf-8")
    assert 40 <= len(source.splitlines()) <= 90
    (text,) = (text for text in ENTRIES if demo.name in text)
    assert text.startswith(f"{int(demo.name[:2])}. ")
    assert f"`python demos/{demo.name}`" in text
    ((description, figure),) = re.findall(r"!\[(.+?)\]\((.+?)\)", text)
    assert description
    assert Path(figure).stem == demo.stem
    assert (FOLDER / figure).stat().st_size < 150_000
    cited = set(EQUATION.findall(text))
    assert cited
    assert cited <= set(EQUATION.findall(source))


def test_the_gallery_has_nothing_else():
    assert len(ENTRIES) == len(DEMOS)
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    pictures = {Path(name).stem for name in re.findall(r"!\[.+?\]\(demos/figures/(.+?)\)", readme)}
    assert {Path(name).stem for name in figures()} == {demo.stem for demo in DEMOS} | pictures
