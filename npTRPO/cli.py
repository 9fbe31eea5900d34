"""The ``nptrpo`` command: train, evaluate."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from npTRPO._version import __version__
from npTRPO.agent.config import TRPOConfig

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 for a failure, 2 for a wrong use."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if options.debug:
            raise
        print(f"nptrpo: {_sentence(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return status


class UsageError(ValueError):
    """A command that asks for what can't be."""


def _sentence(error: Exception) -> str:
    """The error on one line."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nptrpo", description="Trust Region Policy Optimization in pure NumPy."
    )
    parser.add_argument("--version", action="version", version=f"npTRPO {__version__}")
    parser.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train an agent and save it",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.add_argument("env", help="id of a Gymnasium environment, such as CartPole-v1")
    train.add_argument("--total-timesteps", type=int, default=50_000, help="environment steps to train for")
    train.add_argument(
        "--out", type=Path, default=None, metavar="DIR", help="directory for the agent; runs/ENV unless given"
    )
    _add_config_flags(train)
    train.set_defaults(run=_train)

    evaluate = commands.add_parser(
        "evaluate",
        help="measure a saved agent's return",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    evaluate.add_argument("file", type=Path, help="an agent that train saved")
    evaluate.add_argument("--episodes", type=int, default=100, help="number of episodes")
    evaluate.add_argument("--env", default=None, help="evaluate in this environment instead of its own")
    evaluate.add_argument("--stochastic", action="store_true", help="draw actions instead of the likeliest")
    evaluate.add_argument("--seed", type=int, default=None, help="seed of the environment")
    evaluate.set_defaults(run=_evaluate)
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
    from npTRPO.agent.logging import printer
    from npTRPO.agent.trpo import TRPO

    names = {field.name for field in dataclasses.fields(TRPOConfig)}
    try:
        config = TRPOConfig.from_dict({k: v for k, v in vars(options).items() if k in names})
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    if options.total_timesteps < 1:
        raise UsageError(f"--total-timesteps must be at least 1, not {options.total_timesteps}")
    directory = options.out or Path("runs") / options.env.replace("/", "_").replace(":", "_")
    agent = TRPO("MlpPolicy", options.env, config)
    directory.mkdir(parents=True, exist_ok=True)
    agent.learn(options.total_timesteps, callback=printer())
    target = directory / "agent.npz"
    agent.save(target)
    print(f"saved {target}; nptrpo evaluate {target} measures it")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from npTRPO.agent.evaluation import run_episodes
    from npTRPO.agent.trpo import TRPO

    if options.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, not {options.episodes}")
    agent = TRPO.load(options.file)
    returns, lengths = run_episodes(
        agent, options.env, options.episodes, not options.stochastic, seed=options.seed
    )
    print(
        f"return {returns.mean():.2f} ± {returns.std():.2f} over {len(returns)} episodes "
        f"(from {returns.min():.2f} to {returns.max():.2f}), mean length {lengths.mean():.1f} steps"
    )
    return 0
