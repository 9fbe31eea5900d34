"""The ``nptrpo`` command: train, evaluate, render, plot, verify."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import itertools
import math
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from npTRPO._version import __version__
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.record import Record
from npTRPO.runs.directory import RunDirectory, RunSettings
from npTRPO.trust_region.update import UpdateOutcome

__all__ = ["main"]

DEFAULT_TIMESTEPS = 50_000

_OPTIONS = [field.name for field in dataclasses.fields(TRPOConfig)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 for a failure, 2 for wrong use, 128 + a signal."""
    options = None
    try:
        options = _parser().parse_args(arguments)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            if not options.debug:  # what a process of an environment raises is raised here too
                warnings.filterwarnings("ignore", ".*ERROR", module=r"gymnasium\.vector\.")
            status: int = options.run(options)
        _flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has gone, as head does
        sys.stdout = None
        return 1
    except Exception as error:
        if options is not None and options.debug:
            raise
        _say(_sentence(error))
        return 2 if isinstance(error, UsageError) else 1
    return status


def _flush() -> None:
    """Write what is still to be written to stdout, and let go of it if that can't be."""
    try:
        print(end="", flush=True)
    except OSError:
        sys.stdout = None
        raise


class UsageError(ValueError):
    """A command that asks for what can't be."""


class _Parser(argparse.ArgumentParser):
    """A parser that says on one line what is wrong, and leaves the usage to --help."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _sentence(error: Exception) -> str:
    """The error, and where it came from, on one line."""
    text = str(error) or type(error).__name__
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return " ".join((text + notes).split())


# What Gymnasium adds to its warnings: colours, and that they are warnings.
_DECORATION = r"\x1b\[[0-9;]*m(WARN: )?"


def _say(line: str) -> None:
    """Write a line to stderr, unless it can't be written to."""
    with contextlib.suppress(OSError):
        print(f"nptrpo: {' '.join(line.split())}", file=sys.stderr, flush=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning on one line, without the source's."""
    _say(f"warning: {re.sub(_DECORATION, '', str(message))}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nptrpo", description="Trust Region Policy Optimization in pure NumPy.")
    parser.add_argument("--version", action="version", version=f"npTRPO {__version__}")
    parser.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train an agent and keep the run",
    )
    train.add_argument("env", nargs="?", help="id of a Gymnasium environment, such as CartPole-v1")
    train.add_argument(
        "--total-timesteps", type=int, default=None, help=f"environment steps (default: {DEFAULT_TIMESTEPS})"
    )
    where = train.add_mutually_exclusive_group()
    where.add_argument(
        "--out", type=Path, metavar="DIR", help="directory for the run (default: a new one, runs/ENV)"
    )
    where.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in this directory")
    train.add_argument(
        "--no-preset",
        dest="preset",
        action="store_false",
        help="start from the defaults instead of the environment's preset",
    )
    train.add_argument("--overwrite", action="store_true", help="begin again in a directory that has a run")
    train.add_argument(
        "--eval-episodes",
        type=int,
        default=None,
        help=f"episodes per evaluation; 0 for none (default: {RunSettings.eval_episodes})",
    )
    train.add_argument(
        "--env-timeout",
        type=float,
        default=None,
        metavar="SECONDS",
        help="stop if the environments take longer for a step; those that hang in foreign code need "
        "--vectorization-mode async (default: wait for ever)",
    )
    train.add_argument(
        "--log-interval", type=int, default=1, help="updates between two lines of output (default: 1)"
    )
    _add_config_flags(train)
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="measure a saved agent's return")
    evaluate.add_argument("file", type=Path, help="an agent that train saved")
    evaluate.add_argument("--episodes", type=int, default=100, help="number of episodes (default: 100)")
    evaluate.add_argument("--env", default=None, help="evaluate in this environment instead of its own")
    evaluate.add_argument("--stochastic", action="store_true", help="draw actions instead of the likeliest")
    evaluate.add_argument("--seed", type=int, default=None, help="seed of the environment")
    evaluate.set_defaults(run=_evaluate)

    show = commands.add_parser("presets", help="list the settings that train uses for known environments")
    show.set_defaults(run=_presets)

    render = commands.add_parser("render", help="show a saved agent at work, or record it")
    render.add_argument("file", type=Path, help="an agent that train saved")
    render.add_argument("--env", default=None, help="show it in this environment instead of its own")
    render.add_argument("--episodes", type=int, default=1, help="number of episodes (default: 1)")
    render.add_argument("--video", type=Path, default=None, metavar="MP4", help="write a video instead")
    render.add_argument("--gif", type=Path, default=None, metavar="GIF", help="write a GIF instead")
    render.add_argument("--stochastic", action="store_true", help="draw actions instead of the likeliest")
    render.add_argument("--seed", type=int, default=None, help="seed of the environment")
    render.add_argument("--max-steps", type=int, default=None, help="cut episodes after so many steps")
    render.set_defaults(run=_render)

    plot = commands.add_parser("plot", help="draw runs: returns, KL, improvement, conjugate gradients")
    plot.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories, such as runs/*")
    plot.add_argument(
        "--out", type=Path, default=Path("runs.png"), help="PNG, SVG or PDF file (default: runs.png)"
    )
    plot.set_defaults(run=_plot)

    verify = commands.add_parser("verify", help="check every equation of the derivation on random problems")
    verify.add_argument("--instances", type=int, default=200, help="number of problems (default: 200)")
    verify.add_argument("--seed", type=int, default=0, help="what they are drawn from (default: 0)")
    verify.add_argument("--json", action="store_true", help="print the results as JSON")
    verify.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="also write a page with all equations and measurements",
    )
    verify.set_defaults(run=_verify)
    for command in commands.choices.values():
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show a traceback on failure"
        )
    return parser


def _add_config_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for every option of the config, with its meaning and default."""
    group = parser.add_argument_group("options of the algorithm")
    for field in dataclasses.fields(TRPOConfig):
        flag = "--" + field.name.replace("_", "-")
        meaning = str(field.metadata["meaning"]).replace("%", "%%")
        common: dict[str, Any] = {
            "default": argparse.SUPPRESS,
            "help": f"{meaning} (default: {field.default})",
        }
        if isinstance(field.default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif field.name == "net_arch":
            group.add_argument(flag, type=int, nargs="*", metavar="WIDTH", **common)
        elif field.metadata["choices"]:
            choices = [choice for choice in field.metadata["choices"] if choice is not None]
            group.add_argument(flag, choices=choices, **common)
        else:
            kind = float if isinstance(field.default, float) else int
            group.add_argument(flag, type=kind, metavar=kind.__name__.upper(), **common)


def _train(options: argparse.Namespace) -> int:
    from npTRPO.agent.logging import ProgressBar, printer
    from npTRPO.runs.recorder import Failures
    from npTRPO.runs.signals import Interruption
    from npTRPO.sampling.environments import force_close

    steps = options.total_timesteps
    if steps is not None and steps < 1:
        raise UsageError(f"--total-timesteps must be at least 1, not {steps}")
    if options.log_interval < 1:
        raise UsageError(f"--log-interval must be at least 1, not {options.log_interval}")
    if options.env_timeout is not None and not 0 < options.env_timeout < math.inf:
        raise UsageError(f"--env-timeout must be a positive number of seconds, not {options.env_timeout}")
    if options.resume is None:
        run = _new_run(options)
    else:
        _check_resumable(options)
        run = RunDirectory.resume(options.resume, steps, options.env_timeout, options.env)
    directory, total = run.path, run.settings.total_timesteps
    if run.finished:
        print(f"{directory} has taken its {total:,} steps: give more with --total-timesteps")
        return 0
    with contextlib.ExitStack() as stack:
        environments = run.agent.env
        stack.callback(force_close, environments)
        interruption = stack.enter_context(Interruption())
        failures = Failures(_say)
        watch = printer(options.log_interval)
        if importlib.util.find_spec("rich") is not None:
            watch = stack.enter_context(ProgressBar(total, run.agent.num_timesteps, options.log_interval))
        try:
            run.train([failures.guarded("the log", watch), _tell_refusal, interruption], failures)
            if environments is not None:
                environments.close()
        except (Exception, KeyboardInterrupt):  # whatever follows from the signal
            if interruption.signal is None:
                raise
    if interruption.signal is not None:
        _say(f"{interruption.signal.name}: go on with: nptrpo train --resume {shlex.quote(str(directory))}")
        return 128 + interruption.signal
    target = directory / "agent.npz"
    if not failures.missing:
        print(f"saved {target}; nptrpo evaluate {target} measures it")
    return 1 if failures.lines else 0


def _tell_refusal(record: Record) -> None:
    """Say that nothing was learned in an update whose result isn't finite."""
    outcome = record.update.outcome
    if outcome is UpdateOutcome.NOT_FINITE:
        _say(f"warning: update {record.n_updates} is refused. {outcome.value}")


def _check_resumable(options: argparse.Namespace) -> None:
    """Raise an error for what a run that goes on can't be given, as it keeps to what it began with."""
    given = [name for name in vars(options) if name in _OPTIONS]
    for name, usual in (("env", None), ("eval_episodes", None), ("overwrite", False), ("preset", True)):
        given += [] if getattr(options, name) == usual else ["no_preset" if name == "preset" else name]
    if options.env is not None and ":" in options.env:  # whose module is trusted by saying it once more
        given.remove("env")
    if given:
        flags = ", ".join("ENV" if name == "env" else "--" + name.replace("_", "-") for name in given)
        raise UsageError(f"a run that is resumed keeps its own settings, but {flags} came with --resume")


def _new_run(options: argparse.Namespace) -> RunDirectory:
    from npTRPO.runs.presets import preset

    if options.env is None:
        raise UsageError("name an environment to train on, such as CartPole-v1, or a run to --resume")
    episodes = RunSettings.eval_episodes if options.eval_episodes is None else options.eval_episodes
    if episodes < 0:
        raise UsageError(f"--eval-episodes must not be negative, but it is {episodes}")
    given = {key: value for key, value in vars(options).items() if key in _OPTIONS}
    if options.total_timesteps is not None:
        given["total_timesteps"] = options.total_timesteps
    settled = preset(options.env) if options.preset else {}
    kept = {key: value for key, value in settled.items() if key not in given}
    if kept:
        print(f"preset: {_as_options(kept)}")
    chosen = {"total_timesteps": DEFAULT_TIMESTEPS, **settled, **given}
    steps = chosen.pop("total_timesteps")
    try:
        config = TRPOConfig.from_dict(chosen)
        if config.checkpoint_interval is None:  # some five boundaries, at most fifty updates apart
            updates = steps // (config.n_envs * config.steps_per_env(config.n_envs))
            config = dataclasses.replace(config, checkpoint_interval=max(10, min(50, updates // 4)))
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    settings = RunSettings(options.env, steps, episodes, options.env_timeout)
    try:
        return RunDirectory.create(
            options.out or _free_directory(options.env), settings, config, options.overwrite
        )
    except FileExistsError as error:
        raise UsageError(str(error)) from error


def _as_options(settings: dict[str, Any]) -> str:
    """Settings as one would write them on the command line."""
    parts = []
    for key, value in settings.items():
        flag = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            parts.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            parts.append(f"{flag} {' '.join(map(str, value)) if isinstance(value, list) else value}")
    return " ".join(parts)


def _presets(_: argparse.Namespace) -> int:
    from npTRPO.runs.presets import presets

    for env_id, settings in presets().items():
        print(f"nptrpo train {env_id} {_as_options(settings)}")
    return 0


def _free_directory(env: str) -> Path:
    """runs/ENV, or with a number behind it the first that isn't taken."""
    base = Path("runs") / env.replace("/", "_").replace(":", "_")
    numbered = (base.with_name(f"{base.name}-{i}") for i in itertools.count(2))
    return next(path for path in itertools.chain([base], numbered) if not path.exists())


def _evaluate(options: argparse.Namespace) -> int:
    from npTRPO.agent.evaluation import run_episodes
    from npTRPO.agent.trpo import TRPO

    if options.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, not {options.episodes}")
    _check_seed(options.seed)
    agent = TRPO.load(options.file)
    returns, lengths = run_episodes(
        agent, options.env, options.episodes, not options.stochastic, seed=options.seed
    )
    print(
        f"return {returns.mean():.2f} ± {returns.std():.2f} over {len(returns)} episodes "
        f"(from {returns.min():.2f} to {returns.max():.2f}), mean length {lengths.mean():.1f} steps"
    )
    return 0


def _plot(options: argparse.Namespace) -> int:
    from npTRPO.runs.plotting import plot_runs

    _check_ending("--out", options.out, ".png", ".svg", ".pdf")
    print(f"drew {plot_runs(options.runs, options.out)}")
    return 0


def _check_seed(seed: int | None) -> None:
    if seed is not None and seed < 0:
        raise UsageError(f"--seed must not be negative, but it is {seed}")


def _check_ending(flag: str, file: Path | None, *endings: str) -> None:
    if file is not None and file.suffix not in endings:
        raise UsageError(f"{flag} must end in {' or '.join(endings)}, but it is {str(file)!r}")


def _render(options: argparse.Namespace) -> int:
    from npTRPO.agent.trpo import TRPO
    from npTRPO.runs.rendering import render_episodes
    from npTRPO.sampling.environments import checked_env_id

    if options.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, not {options.episodes}")
    if options.max_steps is not None and options.max_steps < 1:
        raise UsageError(f"--max-steps must be at least 1, not {options.max_steps}")
    _check_seed(options.seed)
    _check_ending("--video", options.video, ".mp4")
    _check_ending("--gif", options.gif, ".gif")
    agent = TRPO.load(options.file)
    env_id = options.env or agent.env_id
    if env_id is None:
        raise UsageError("the agent wasn't trained on an environment with an id: name one with --env")
    if options.env is None:
        checked_env_id(env_id, f"name it yourself, with --env {shlex.quote(env_id)}")
    returns = render_episodes(
        agent,
        env_id,
        episodes=options.episodes,
        video=options.video,
        gif=options.gif,
        deterministic=not options.stochastic,
        seed=options.seed,
        max_steps=options.max_steps,
    )
    print("returns " + ", ".join(f"{total:.2f}" for total in returns))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from npTRPO.files.writing import write_whole
    from npTRPO.theory.report import verify
    from npTRPO.theory_page.page import page

    html: Path | None = options.html
    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise UsageError(f"--html needs a file in a directory that exists, not {html}")
    try:
        report = verify(options.instances, options.seed)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if html is not None:
        content = page(report).encode()
        write_whole(html, lambda file: file.write(content))
    print(report.to_json() if options.json else report.to_text())
    if html is not None and not options.json:
        print(f"wrote {html}")
    return 0 if report.passed else 1
