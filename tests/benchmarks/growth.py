"""How the time of an update grows with the number of samples and of parameters."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from gymnasium import spaces

from npTRPO import Policy
from npTRPO.trust_region import update
from tests.benchmarks.files import read_rows, write_rows

SAMPLES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
WIDTHS = (16, 64, 200, 640, 2200)
ROWS = 4_096
WAYS: dict[str, dict[str, Any]] = {
    "Kronecker factors, 3 steps": {"cg_preconditioner": "kronecker", "cg_max_steps": 3},
    "without, 15 steps": {"cg_preconditioner": "identity", "cg_max_steps": 15},
}


def measure():
    """Time updates of growing problems, print the fitted exponents, and write results/growth.csv."""
    rows = []
    for over, sizes in (("samples", [(n, 64) for n in SAMPLES]), ("parameters", [(ROWS, w) for w in WIDTHS])):
        for n, width in sizes:
            for way, (seconds, parameters) in _timed(n, width).items():
                rows.append(
                    {"over": over, "way": way, "samples": n, "parameters": parameters, "seconds": seconds}
                )
                print(f"{over} {n} × {parameters} {way}: {seconds:.4f} s", flush=True)
    write_rows("growth.csv", rows, "python -m tests.benchmarks growth")
    for (over, way), exponent in exponents().items():
        print(f"over {over}, {way}: exponent {exponent:.2f}")


def exponents():
    """The slopes of the logarithm of time over the logarithm of size, fitted by least squares."""
    found = {}
    rows = read_rows("growth.csv")
    for over in ("samples", "parameters"):
        for way in WAYS:
            points = [
                (float(row[over]), float(row["seconds"]))
                for row in rows
                if (row["over"], row["way"]) == (over, way)
            ]
            size, seconds = np.log(np.array(points)).T
            found[over, way] = float(np.polyfit(size, seconds, 1)[0])
    return found


def _timed(n, width):
    """Median seconds of an update in each way, in turn, and the number of parameters."""
    rng = np.random.default_rng(0)
    policy = Policy.for_spaces(spaces.Box(-1, 1, (17,)), spaces.Box(-1, 1, (6,)), (width, width))
    theta = policy.init(rng, np.float32)
    observations = rng.standard_normal((n, 17), dtype=np.float32)
    actions = policy(theta, observations).sample(rng)
    advantages = rng.standard_normal(n, dtype=np.float32)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    begun = time.perf_counter()
    while len(times["without, 15 steps"]) < 3 or time.perf_counter() - begun < 1:
        for way, options in WAYS.items():
            start = time.perf_counter()
            update(policy, theta, observations, actions, advantages, cg_rtol=0.0, **options)
            times[way].append(time.perf_counter() - start)
        if time.perf_counter() - begun > 60:
            break
    return {way: (statistics.median(each), theta.size) for way, each in times.items()}
