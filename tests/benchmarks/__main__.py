"""``python -m tests.benchmarks``: measure, and write the results down as CSV."""

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from npTRPO.runs.presets import presets
from tests.benchmarks import figures, growth, learning, solver, speed


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    commands = parser.add_subparsers(required=True)
    learn = commands.add_parser("learning", help="train the presets on several seeds and evaluate them")
    learn.add_argument(
        "--task", nargs="*", default=None, help="environments (default: all that have a preset)"
    )
    learn.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    learn.add_argument("--jobs", type=int, default=1, help="trainings at once")
    learn.add_argument(
        "--change",
        nargs="*",
        default=[],
        metavar="OPTION=VALUE",
        help="otherwise than in the presets, for comparison",
    )
    learn.set_defaults(run=_learning)
    fast = commands.add_parser("speed", help="ratios to sb3-contrib and to what the machine can do")
    fast.add_argument("groups", nargs="*", choices=[[], *speed.GROUPS], help="what to measure (default: all)")
    fast.set_defaults(run=_speed)
    solve = commands.add_parser(
        "solver", help="steps of conjugate gradients with Kronecker factors and without"
    )
    solve.set_defaults(run=lambda _: solver.measure())
    grow = commands.add_parser("growth", help="time of an update over samples and parameters")
    grow.set_defaults(run=lambda _: growth.measure())
    show = commands.add_parser("figures", help="draw what solver and growth measured")
    show.set_defaults(run=lambda _: figures.draw())
    options = parser.parse_args()
    options.run(options)


def _speed(options):
    speed.measure(options.groups or list(speed.GROUPS))
    print(speed.table())


def _learning(options):
    changes = dict(change.split("=", 1) for change in options.change)
    learning.measure(options.task or list(presets()), options.seeds, options.jobs, changes)
    print(learning.table())


if __name__ == "__main__":
    main()
