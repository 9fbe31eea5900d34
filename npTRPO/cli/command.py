"""The command line as a whole: its parser, and how results and errors are reported."""

import argparse
import difflib
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from npTRPO._version import __version__
from npTRPO.cli.compare import add_compare_flags, compare
from npTRPO.cli.evaluate import add_evaluate_flags, evaluate
from npTRPO.cli.plot import add_plot_flags, plot
from npTRPO.cli.presets import list_presets
from npTRPO.cli.render import add_render_flags, render
from npTRPO.cli.train import add_train_flags, train
from npTRPO.cli.tune import add_tune_flags, tune
from npTRPO.cli.usage import UsageError, say
from npTRPO.cli.verify import add_verify_flags, verify

COMMANDS = {
    "train": ("train an agent and keep the run", add_train_flags, train),
    "evaluate": ("measure a saved agent's return", add_evaluate_flags, evaluate),
    "presets": ("list the settings that train uses for known environments", None, list_presets),
    "render": ("show a saved agent at work, or record it", add_render_flags, render),
    "plot": ("draw runs: returns, KL, improvement, conjugate gradients", add_plot_flags, plot),
    "compare": ("compare groups of runs by their last evaluations", add_compare_flags, compare),
    "tune": ("search for good options of an environment", add_tune_flags, tune),
    "verify": ("check every equation of the derivation on random problems", add_verify_flags, verify),
}
"""For each command: what it does, what adds its arguments, and what runs it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 for a failure, 2 for wrong use, 128 + a signal."""
    options = None
    try:
        options = make_parser().parse_args(arguments)
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
    except Exception as error:  # all are reported alike
        if options is not None and options.debug:
            raise
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        say(f"{str(error) or type(error).__name__}{notes}")
        return 2 if isinstance(error, UsageError) else 1
    return status


def _flush() -> None:
    """Flush stdout, and drop it if it can't be written to."""
    try:
        print(end="", flush=True)
    except OSError:
        sys.stdout = None
        raise


class _Parser(argparse.ArgumentParser):
    """A parser that says on one line what is wrong, and leaves the usage to --help."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse words of which the command knows each; one that it doesn't is named with the nearest."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            raise _unknown(options.parser, unknown)
        options.words = sys.argv[1:] if args is None else list(args)
        return options


def _unknown(parser: argparse.ArgumentParser, words: list[str]) -> UsageError:
    """Return the error of a command given words that it doesn't know, with the nearest one that it does."""
    known = [
        name for name in parser.format_help().replace(",", " ").replace("[", " ").split() if name[:2] == "--"
    ]
    near = difflib.get_close_matches(words[0].partition("=")[0], known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UsageError(f"unrecognized arguments: {' '.join(words)}{hint} (see {parser.prog} --help)")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser, with all commands."""
    parser = _Parser(prog="nptrpo", description="Trust Region Policy Optimization in pure NumPy.")
    parser.add_argument("--version", action="version", version=f"npTRPO {__version__}")
    parser.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (text, add_flags, run) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if add_flags is not None:
            add_flags(command)
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show a traceback on failure"
        )
        command.set_defaults(run=run, parser=command)
    return parser


# What Gymnasium adds to its warnings: colours, and that they are warnings.
_DECORATION = r"\x1b\[[0-9;]*m(WARN: )?"


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning on one line, without its source."""
    say(f"warning: {re.sub(_DECORATION, '', str(message))}")
