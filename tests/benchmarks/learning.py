"""How well the presets learn: trained on several seeds, measured deterministically, one row each.

Every training is a run directory under ``runs/benchmarks``, so that a measurement that was interrupted goes
on where it stopped, and a row that is there is not measured again.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from npTRPO import TRPO
from npTRPO.agent.evaluation import run_episodes
from npTRPO.agent.presets import presets
from tests.benchmarks.files import read_rows, write_rows

FILE = "learning.csv"
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


def measure(tasks: list[str], seeds: list[int], jobs: int) -> None:
    """Train and evaluate what has no row yet, ``jobs`` at a time; rows of other settings make place."""
    done = {(row["task"], row["seed"], row["settings"]) for row in read_rows(FILE)}
    wanted = [
        (task, seed) for seed in seeds for task in tasks if (task, str(seed), _settings(task)) not in done
    ]
    with ThreadPoolExecutor(jobs) as pool:
        for row in pool.map(lambda pair: _measure_one(*pair), wanted):
            place = row["task"], str(row["seed"])
            kept = [old for old in read_rows(FILE) if (old["task"], old["seed"]) != place]
            order = list(PUBLISHED)
            rows: list[Mapping[str, Any]] = [*kept, row]
            write_rows(FILE, sorted(rows, key=lambda r: (order.index(r["task"]), int(r["seed"]))))
            print(f"{row['task']} seed {row['seed']}: {row['mean']} ± {row['std']}", flush=True)


def table() -> str:
    """Ours beside the published figures, as Markdown: interquartile mean over seeds, and their range."""
    lines = [
        "| task | steps | seeds | npTRPO: interquartile mean (range over seeds) | published |",
        "|---|---|---|---|---|",
    ]
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


def _settings(task: str) -> str:
    return " ".join(f"{key}={value}" for key, value in presets()[task].items())


def _measure_one(task: str, seed: int) -> dict[str, object]:
    # One directory for each task, seed and settings: other settings are another run.
    name = f"{task}-{seed}-{_settings(task)}".replace(" ", ",").replace("/", "_")
    directory = RUNS / name
    command = ["nptrpo", "train", task, "--seed", str(seed)]
    resume = ["nptrpo", "train", "--resume", str(directory)]
    asked = resume if (directory / "config.json").exists() else [*command, "--out", str(directory)]
    if not (directory / "agent.npz").exists():
        subprocess.run(
            [sys.executable, "-m", "npTRPO", *asked[1:]],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
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
        "mean": round(float(np.mean(returns)), 2),
        "std": round(float(np.std(returns)), 2),
        "min": round(float(np.min(returns)), 2),
        "max": round(float(np.max(returns)), 2),
        "seconds": round(seconds, 1),
        "settings": _settings(task),
        "command": " ".join(command),
    }
