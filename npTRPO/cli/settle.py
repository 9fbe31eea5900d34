"""What ``nptrpo train`` trains with: presets, options given, defaults that depend on the environment."""

import argparse
import dataclasses
import itertools
from pathlib import Path
from typing import Any

from npTRPO.agent.config import TRPOConfig
from npTRPO.cli.config_flags import OPTIONS, as_flags, flag
from npTRPO.cli.usage import UsageError
from npTRPO.runs.settings import RunSettings
from npTRPO.sampling.environments import longest_episode

DEFAULT_TIMESTEPS = 50_000
# Checkpoints cut episodes off, as environments begin afresh there: so many of the longest fit between two.
_WHOLE_EPISODES = 2


def add_preset_flags(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose what training starts from."""
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--preset",
        type=Path,
        default=True,
        metavar="FILE",
        help="start from the options in this TOML file, such as nptrpo tune writes, instead of the "
        "environment's preset",
    )
    start.add_argument(
        "--no-preset",
        dest="preset",
        action="store_false",
        help="start from the defaults instead of the environment's preset",
    )


def starting_point(options: argparse.Namespace) -> dict[str, Any]:
    """Return what training starts from: the options of a file, or of the environment's preset, or none."""
    from npTRPO.runs.presets import preset, read_preset

    if isinstance(options.preset, Path):
        return read_preset(options.preset)
    return preset(options.env) if options.preset else {}


def settled(options: argparse.Namespace) -> tuple[RunSettings, TRPOConfig]:
    """Return what a new run does, and print what comes from a preset.

    Raises
    ------
    UsageError
        If there is no environment, or an option is out of its range.
    """
    if options.env is None:
        raise UsageError("name an environment to train on, such as CartPole-v1, or a run to --resume")
    given = {key: value for key, value in vars(options).items() if key in OPTIONS}
    if options.total_timesteps is not None:
        given["total_timesteps"] = options.total_timesteps
    found = starting_point(options)
    kept = {key: value for key, value in found.items() if key not in given}
    if kept:
        print(f"preset: {as_flags(kept)}")
    chosen = {"total_timesteps": DEFAULT_TIMESTEPS, **found, **given}
    steps = chosen.pop("total_timesteps")
    settings = run_settings(options, steps)
    try:
        config = TRPOConfig.from_dict(chosen)
        if config.checkpoint_interval is None:  # some five boundaries, at most fifty updates apart
            n_steps = config.steps_per_env(config.n_envs)
            updates = steps // (config.n_envs * n_steps)
            whole = -(-_WHOLE_EPISODES * longest_episode(settings.maker) // n_steps)
            config = dataclasses.replace(config, checkpoint_interval=max(10, min(50, updates // 4), whole))
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    return settings, config


def run_settings(options: argparse.Namespace, steps: int) -> RunSettings:
    """Return what a new run of so many steps does, apart from the algorithm's options."""
    return RunSettings(
        options.env,
        steps,
        RunSettings.eval_episodes if options.eval_episodes is None else options.eval_episodes,
        options.env_timeout,
        options.env_kwargs or {},
        tuple(options.wrappers or ()),
    )


def refuse_settings(options: argparse.Namespace) -> None:
    """Raise an error for options that a resumed run can't be given, as it keeps those it began with."""
    given = [name for name in vars(options) if name in OPTIONS]
    usual = {"env": None, "eval_episodes": None, "overwrite": False, "preset": True, "seeds": None}
    for name, default in usual.items():
        given += [] if getattr(options, name) == default else [name]
    given = ["no_preset" if name == "preset" and not options.preset else name for name in given]
    if options.env is not None and ":" in options.env:  # whose module is trusted by naming it once more
        given.remove("env")
    if given:
        flags = ", ".join("ENV" if name == "env" else flag(name) for name in given)
        raise UsageError(f"a run that is resumed keeps its own settings, but {flags} came with --resume")


def free_directory(env: str) -> Path:
    """Return runs/ENV, or with a number behind it the first that isn't taken."""
    base = Path("runs") / env.replace("/", "_").replace(":", "_")
    numbered = (base.with_name(f"{base.name}-{i}") for i in itertools.count(2))
    return next(path for path in itertools.chain([base], numbered) if not path.exists())
