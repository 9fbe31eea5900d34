"""The README's commands and programs run as printed, in order, in an empty directory."""

import re
import shlex
from pathlib import Path

import pytest

import npTRPO
from npTRPO.cli import main

ROOT = Path(__file__).parent.parent
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")}
COMMANDS = [
    line
    for block in re.findall(r"```console\n(.*?)```", TEXTS["README.md"], re.S)
    for line in block.splitlines()
    if line.startswith("nptrpo ")
]
PROGRAMS = [
    pytest.param(block, id=f"{name}-{number}")
    for name, text in TEXTS.items()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.S))
]
EXTRAS = {"plot": "matplotlib", "render": "PIL"}


def test_the_readme_has_commands_and_programs() -> None:
    assert len(COMMANDS) >= 6
    assert len(PROGRAMS) >= 5


def test_every_command_of_the_readme_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    for line in COMMANDS:
        _, command, *rest = shlex.split(line)
        if command in EXTRAS:
            pytest.importorskip(EXTRAS[command], reason=f"nptrpo {command} needs an extra")
        assert main([command, *rest]) == 0, line
        written = capsys.readouterr()
        assert written.out, line
        assert not written.err, line


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_of_the_docs_runs(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(program, "program of the docs", "exec"), names)
    assert len(names) > 1


def test_the_readme_links_to_files_that_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXTS["README.md"]):
        if not target.startswith("http"):
            package = target.startswith("npTRPO/")  # which may be installed, away from here
            assert ((Path(npTRPO.__file__).parents[1] if package else ROOT) / target).exists(), target


def test_the_readme_names_every_extra() -> None:
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for extra in setup.options("options.extras_require"):
        assert f"`{extra}`" in TEXTS["README.md"], extra
