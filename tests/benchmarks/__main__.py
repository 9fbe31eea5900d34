"""``python -m tests.benchmarks``: measure, and write the results down as CSV."""

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from npTRPO.runs.presets import presets
from tests.benchmarks import figures, growth, learning, scaling, solver, speed


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    commands = parser.add_subparsers(required=True)
    learn = commands.add_parser("learning", help="train the presets on several seeds and evaluate them")
    learn.add_argument("--task", nargs="*", help="environments (default: all that have a preset)")
    learn.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    learn.add_argument("--jobs", type=int, default=1, help="trainings at once")
    change = "options that differ from the preset's, for comparison"
    learn.add_argument("--change", nargs="*", default=[], metavar="OPTION=VALUE", help=change)
    learn.set_defaults(run=_learning)
    fast = commands.add_parser("speed", help="ratios to sb3-contrib and to what the machine can do")
    fast.add_argument("groups", nargs="*", choices=[[], *speed.GROUPS], help="what to measure (default: all)")
    fast.set_defaults(run=_speed)
    for name, run, what in (
        ("solver", solver.measure, "steps of conjugate gradients with Kronecker factors and without"),
        ("scaling", scaling.measure, "processor time of an update over the number of workers"),
        ("growth", growth.measure, "time of an update over samples and parameters"),
        ("figures", figures.draw, "draw what solver, growth and scaling measured"),
    ):
        commands.add_parser(name, help=what).set_defaults(run=lambda _, run=run: run())
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
