"""How far training in workers scales: a model of an update's time, fitted to what processes took.

A worker's time is α T + β N/w + γ for T steps and N/w transitions, as each step costs some calls however many
environments it steps; the process that gathers the parts takes δ + ε w, for messages to and from w workers.
Both are processor time, which doesn't depend on how many cores there are. An update then takes the sum of
both, as long as each worker has a core.
"""

import os
import time
from pathlib import Path

import numpy as np

from npTRPO import TRPO
from tests.benchmarks.files import read_rows, write_rows

FIGURE = Path(__file__).parents[2] / "demos/figures/scaling.svg"
SHAPES = ((16, 64), (16, 256), (32, 64), (64, 64), (64, 256))
WORKERS = (1, 2, 4)
LEFT_OUT = (64, 256, 4)
"""Environments, steps and workers of the case that the model isn't fitted to."""
UPDATES = 8
BATCHES = (10**4, 10**5, 10**6)
MOST_WORKERS = 1000
ENVIRONMENTS = 16
"""Environments of a worker in the drawing."""


def measure():
    """Measure processor time per update, write results/scaling.csv, and print the model and its check."""
    rows = []
    for n_envs, n_steps in SHAPES:
        for workers in WORKERS:
            of_driver, of_workers = _processor_time(n_envs, n_steps, workers)
            rows.append(
                {
                    "environments": n_envs,
                    "steps": n_steps,
                    "workers": workers,
                    "gathering": of_driver,
                    "worker": max(of_workers),
                }
            )
            print(f"{n_envs} × {n_steps}, {workers} workers: {1e3 * max(of_workers):.1f} ms each", end=", ")
            print(f"{1e3 * of_driver:.1f} ms to gather", flush=True)
    write_rows("scaling.csv", rows, "python -m tests.benchmarks scaling")
    report()


def report():
    """Print the model, and how it does in the case that it isn't fitted to."""
    (alpha, beta, gamma), (delta, epsilon) = fitted()
    print(f"a worker: {1e6 * alpha:.1f} µs a step, {1e6 * beta:.1f} µs a transition, {1e3 * gamma:.1f} ms")
    print(f"gathering: {1e3 * delta:.1f} ms, and {1e3 * epsilon:.2f} ms a worker")
    n_envs, n_steps, workers = LEFT_OUT
    found = measured(*LEFT_OUT)
    print(
        f"{n_envs} × {n_steps}, {workers} workers: {1e3 * found:.0f} ms, and by the model, which wasn't "
        f"fitted to it, {1e3 * predicted(n_envs * n_steps, n_steps, workers):.0f} ms"
    )


def fitted():
    """Return (α, β, γ) and (δ, ε), by least squares on relative errors, none of them negative."""
    from scipy.optimize import nnls

    rows = [row for row in _rows() if row[:3] != LEFT_OUT]
    n, steps, workers, gathering, worker = (np.array(column, float) for column in zip(*rows, strict=True))
    of_worker = np.stack([steps, n * steps / workers, np.ones_like(n)], 1)
    of_gathering = np.stack([np.ones_like(n), workers], 1)
    return (
        tuple(nnls(of_worker / worker[:, None], np.ones_like(n))[0].tolist()),
        tuple(nnls(of_gathering / gathering[:, None], np.ones_like(n))[0].tolist()),
    )


def predicted(n_transitions, n_steps, workers):
    """Return the seconds of an update by the model."""
    (alpha, beta, gamma), (delta, epsilon) = fitted()
    return alpha * n_steps + beta * n_transitions / workers + gamma + delta + epsilon * workers


def measured(n_envs, n_steps, workers):
    """Return the seconds of an update that were measured, of a worker and of gathering."""
    [(gathering, worker)] = [row[3:] for row in _rows() if row[:3] == (n_envs, n_steps, workers)]
    return gathering + worker


def draw():
    """Draw demos/figures/scaling.svg from the results."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "npTRPO", "font.size": 9})
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes, gathered = figure.subplots(1, 2)
    workers = np.unique(np.geomspace(1, MOST_WORKERS, 200).astype(int))
    _, (delta, epsilon) = fitted()
    for batch, colour in zip(BATCHES, ("#0072b2", "#d55e00", "#009e73"), strict=True):
        times = np.array([predicted(batch, batch / (ENVIRONMENTS * w), w) for w in workers])
        axes.loglog(workers, times[0] / times, color=colour, label=f"{batch:,} transitions")
        gathered.semilogx(workers, (delta + epsilon * workers) / times, color=colour)
    axes.loglog(workers, workers, ":", color="grey", label="ideal")
    axes.set(title="Times faster than one worker", xlabel="workers", ylim=(1, MOST_WORKERS))
    gathered.set(title="Share of gathering", xlabel="workers", ylim=(0, 1))
    axes.legend(frameon=False, fontsize=8)
    for each in (axes, gathered):
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25)
    figure.savefig(FIGURE, metadata={"Date": None})
    print(f"drew {FIGURE.name}")


def _rows():
    for row in read_rows("scaling.csv"):
        sizes = (int(row[name]) for name in ("environments", "steps", "workers"))
        yield *sizes, float(row["gathering"]), float(row["worker"])


def _processor_time(n_envs, n_steps, workers):
    """Seconds of processor time per update, of this process and of each worker."""
    agent = TRPO("MlpPolicy", "HalfCheetah-v5", n_envs=n_envs, n_steps=n_steps, workers=workers, seed=0)
    try:
        going = agent.updates(10**9)
        next(going), next(going)
        pids = [os.getpid(), *agent.env.pids]
        before = [_seconds(pid) for pid in pids]
        for _ in range(UPDATES):
            next(going)
        time.sleep(0.01)
        taken = [(_seconds(pid) - start) / UPDATES for pid, start in zip(pids, before, strict=True)]
    finally:
        agent.env.close()
    return taken[0], taken[1:]


def _seconds(pid):
    """Processor time of a process so far, on Linux."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
