"""How well the presets learn: trained on several seeds, measured deterministically, one row each.

Every training is a run directory under ``runs/benchmarks``, so that a measurement that was interrupted goes
on where it stopped, and a row that is there is not measured again.
"""

import csv
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import scipy.stats

from npTRPO import TRPO
from npTRPO.agent.evaluation import run_episodes
from npTRPO.runs.presets import presets
from tests.benchmarks.files import read_rows, write_rows

FILE, CHANGED = "learning.csv", "changed.csv"
RUNS = Path("runs/benchmarks")
MUJOCO_EPISODES, OTHER_EPISODES = 20, 100
# Returns that others published for a TRPO on the same tasks, with the number of steps they took.
PUBLISHED = {
    "CartPole-v1": ("RL Zoo, 100k", 500.0),
    "Acrobot-v1": ("RL Zoo, 100k", -83.1),
    "Pendulum-v1": ("RL Zoo, 100k", -174.6),
    "MountainCar-v0": ("RL Zoo, 100k", -107.3),
    "MountainCarContinuous-v0": ("RL Zoo, 50k", 92.5),
    "LunarLander-v3": ("RL Zoo (v2), 200k", 133.2),
    "LunarLanderContinuous-v3": ("RL Zoo (v2), 200k", 262.4),
    "BipedalWalker-v3": ("RL Zoo, 1M", 182.3),
    "HalfCheetah-v5": ("Tianshou (v3), 1M", 4471.2),
    "Hopper-v5": ("sb3-contrib (v3), 1M", 3372.0),
    "Walker2d-v5": ("sb3-contrib (v3), 1M", 4502.0),
}


def measure(tasks, seeds, jobs, changes):
    """Train and evaluate what has no row yet, ``jobs`` at a time; rows of other settings make place.

    With ``changes``, options that are otherwise than in the preset, rows stand in a file of their own, which
    keeps those of all settings.
    """
    file = CHANGED if changes else FILE
    done = {(row["task"], row["seed"], row["settings"]) for row in read_rows(file)}
    wanted = [
        (task, seed)
        for seed in seeds
        for task in tasks
        if (task, str(seed), _settings(task, changes)) not in done
    ]
    with ThreadPoolExecutor(jobs) as pool:
        for row in pool.map(lambda pair: _measure_one(*pair, changes), wanted):
            place = ("task", "seed", "settings") if changes else ("task", "seed")
            kept = [old for old in read_rows(file) if any(old[key] != str(row[key]) for key in place)]
            order = list(PUBLISHED)
            rows = [*kept, row]
            rows.sort(
                key=lambda r: (order.index(r["task"]), r["settings"] if changes else "", int(r["seed"]))
            )
            write_rows(file, rows)
            print(f"{row['task']} seed {row['seed']}: {row['mean']} ± {row['std']}", flush=True)


def table():
    """Ours beside the published figures, as Markdown: interquartile mean over seeds, and their range."""
    lines = ["| task | steps | seeds | npTRPO: interquartile mean (range over seeds) | published |"]
    lines.append("|---|---|---|---|---|")
    rows = [row for row in read_rows(FILE) if row["settings"] == _settings(row["task"])]
    for task, (source, figure) in PUBLISHED.items():
        means = [float(row["mean"]) for row in rows if row["task"] == task]
        if not means:
            continue
        middle = scipy.stats.trim_mean(means, 0.25)
        steps = int(presets()[task]["total_timesteps"])
        lines.append(
            f"| {task} | {steps:,} | {len(means)} | {middle:.1f} ({min(means):.1f} … {max(means):.1f}) "
            f"| {figure} ({source}) |"
        )
    return "\n".join(lines)


def _settings(task, changes=None):
    return " ".join(f"{key}={value}" for key, value in {**presets()[task], **(changes or {})}.items())


def _flag(name, value):
    """The words of a command line that set an option."""
    switches = {"true": [f"--{name}"], "false": [f"--no-{name}"]}
    return switches.get(value, [f"--{name}", value])


def _measure_one(task, seed, changes):
    settings = _settings(task, changes)
    # One directory for each task, seed and settings: other settings are another run.
    name = f"{task}-{seed}-{settings}".replace(" ", ",").replace("/", "_")
    directory = RUNS / name
    options = [word for key, value in changes.items() for word in _flag(key.replace("_", "-"), value)]
    command = ["nptrpo", "train", task, "--seed", str(seed), *options]
    resume = ["nptrpo", "train", "--resume", str(directory)]
    asked = resume if (directory / "config.json").exists() else [*command, "--out", str(directory)]
    if not (directory / "agent.npz").exists():
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        train = [sys.executable, "-m", "npTRPO", *asked[1:]]
        subprocess.run(train, check=True, capture_output=True, env=environment)
    agent = TRPO.load(directory / "agent.npz")
    episodes = MUJOCO_EPISODES if task.endswith("-v5") else OTHER_EPISODES
    returns, _ = run_episodes(agent, task, episodes, seed=10_000 + seed)
    with (directory / "progress.csv").open(newline="") as file:
        seconds = float(list(csv.DictReader(file))[-1]["time_elapsed"])
    return {
        "task": task,
        "seed": seed,
        "steps": agent.num_timesteps,
        "episodes": episodes,
        **{name: round(float(getattr(np, name)(returns)), 2) for name in ("mean", "std", "min", "max")},
        "seconds": round(seconds, 1),
        "settings": settings,
        "command": " ".join(command),
    }
