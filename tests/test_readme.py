"""The README's commands and programs run as printed, in order, in an empty directory."""

import re
import shlex
import sys
from pathlib import Path

import gymnasium
import pytest

import npTRPO
from npTRPO.cli import main
from npTRPO.cli.command import make_parser

ROOT = Path(__file__).parent.parent
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")}
SHELL = [
    command.strip()
    for block in re.findall(r"```console\n(.*?)```", TEXTS["README.md"], re.S)
    for line in block.splitlines()
    for command in line.split("&&")
]
# In the order of the README; those of its first section say where the command is.
COMMANDS = [
    command.removeprefix(".venv/bin/") for command in SHELL if re.match(r"(\.venv/bin/)?nptrpo ", command)
]
PROGRAMS = [
    pytest.param(block, id=f"{name}-{number}")
    for name, text in TEXTS.items()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.S))
]
# What makes a command quick; --resume asks for more steps than the run that it goes on with has.
SHORT = {"train": "--total-timesteps 1024 --checkpoint-interval 1 --eval-episodes 1"}
SHORT |= {"train --resume": "--total-timesteps 2048"}
SHORT |= {
    "tune": "--trials 1 --jobs 1 --total-timesteps 64 --seeds 0 --eval-episodes 1 --n-envs 2 --n-steps 16"
}
SHORT |= {"evaluate": "--episodes 1", "verify": "--instances 2"}
in_short_and_as_printed = pytest.mark.parametrize(
    "short", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["short", "as printed"]
)
EXTRAS = {"tune": "optuna", "plot": "matplotlib", "render": "PIL", "--html": "latex2mathml"}


def test_the_readme_has_commands_and_programs():
    assert len(COMMANDS) >= 8
    assert len(PROGRAMS) >= 5
    run = {shlex.split(command)[1] for command in COMMANDS}
    assert run == {"train", "evaluate", "plot", "compare", "render", "presets", "tune", "verify"}


def test_what_else_the_readme_tells_a_shell_is_what_the_gate_runs():
    """It runs the blocks that make a virtual environment, and nothing else is left."""
    left = [command for command in SHELL if command.removeprefix(".venv/bin/") not in COMMANDS]
    for command in left:
        assert re.match(r"python3 -m venv|\.venv/bin/pip install|\.venv/bin/python -m pytest", command), (
            command
        )


@in_short_and_as_printed
def test_every_command_of_the_readme_works(short, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr("npTRPO._machine.cores", lambda: 2)  # of more jobs than that it warns
    for line in COMMANDS:
        _, command, *rest = shlex.split(line)
        for word in (command, *rest):
            if word in EXTRAS:
                pytest.importorskip(EXTRAS[word], reason=f"nptrpo {command} needs an extra")
        if short and {"plot", "--html"} & {command, *rest}:  # seconds of Matplotlib
            make_parser().parse_args([command, *rest])
            continue
        kind = f"{command} --resume" if "--resume" in rest else command
        assert main([command, *rest, *(SHORT.get(kind, "").split() if short else ())]) == 0, line
        written = capsys.readouterr()
        assert written.out, line
        assert not written.err, line


def test_the_commands_for_an_environment_that_a_module_registers_work(tmp_path, monkeypatch):
    """They stand in the text, with words in capitals for what is the reader's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("my_envs.py").write_text(
        "from gymnasium.envs.registration import register\n"
        "register('Env-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=9)\n"
    )
    commands = re.findall(r"`nptrpo ([a-z]+ [^`]*my_envs:[^`]*)`", TEXTS["README.md"])
    assert len(commands) == 2
    short = ["--n-envs", "2", "--n-steps", "8", "--eval-episodes", "0"]
    try:
        assert main(["train", "my_envs:Env-v0", "--total-timesteps", "32", "--out", "DIR", *short]) == 0
        for line in commands:
            sys.modules.pop("my_envs", None)
            gymnasium.registry.pop("Env-v0", None)
            assert main(shlex.split(line.replace("FILE", "DIR/agent.npz"))) == 0, line
    finally:
        sys.modules.pop("my_envs", None)
        gymnasium.registry.pop("Env-v0", None)


@in_short_and_as_printed
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_of_the_docs_runs(program, short, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as a script has its own directory
    if short:
        program = re.sub(r"\b(50_000|10_000|4_096)\b", "2_048", program)
    names = {"__name__": "__main__"}
    exec(compile(program, "program of the docs", "exec"), names)
    assert len(names) > 1


def test_the_readme_links_to_files_that_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXTS["README.md"]):
        if not target.startswith("http"):
            package = target.startswith("npTRPO/")  # which may be installed, away from here
            assert ((Path(npTRPO.__file__).parents[1] if package else ROOT) / target).exists(), target


def test_the_readme_names_every_extra():
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for extra in setup.options("options.extras_require"):
        assert f"`{extra}`" in TEXTS["README.md"], extra
