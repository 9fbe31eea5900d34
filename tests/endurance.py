"""Ten thousand updates on a problem that stays as it is: ``python -m tests.endurance --updates 10000``.

The problem is a corridor whose states look alike and whose best policy is mixed, so that learning neither
ends nor runs into a corner. The KL divergences and gains of the surrogate are compared with sixty decimal
digits at every update, to the rounding of float64; and neither Python's objects nor the process may grow.
Ends with status 1 if one of these does not hold.
"""

import argparse
import gc
import math
import re
import sys
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from npTRPO import TRPO
from npTRPO.trust_region import PolicyObjective, UpdateOutcome
from tests.policies.oracles import family_of
from tests.trust_region.exact import exact
from tests.trust_region.oracles import in_float64

BEST = 2 - math.sqrt(2)
"""The probability of going right that leads out of the corridor soonest."""


class Corridor(gymnasium.Env[Any, Any]):
    """Three places that look alike, in the second of which left is right; each step costs 1.

    References
    ----------
    Sutton and Barto 2018, "Reinforcement learning", example 13.1.
    """

    limit = 50

    def __init__(self):
        self.observation_space = spaces.Box(-1, 1, (1,))
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.now = 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        onwards = bool(action) != (self.place == 1)
        self.place = max(0, self.place + (1 if onwards else -1))
        self.now += 1
        return np.ones(1, np.float32), -1.0, self.place == 3, self.now == self.limit, {}


class Watch:
    """What is seen of a long run: arrays with an entry per update, made before it begins.

    Attributes
    ----------
    kl_errors, gain_errors : array
        How far KL and the gain of the surrogate are from sixty digits, in units of what rounding may do; NaN
        where the policy stayed.
    model : array
        KL in units of its quadratic model, δ times the accepted fraction squared; NaN where it stayed.
    right : array
        Probability of going right.
    python, process : array
        MB of Python's objects and NumPy's arrays, and of the process, at the end of every tenth of the run.
    """

    def __init__(self, updates):
        self.updates, self.done, self.batch = updates, 0, ()
        self.kl_errors, self.gain_errors, self.model, self.right = np.full((4, updates), np.nan)
        self.python, self.process = np.full((2, 10), np.nan)

    def objective(self, *batch, **settings):
        """The objective of an update, whose batch is kept until it was looked at."""
        self.batch = *batch, settings["old"]
        return PolicyObjective(*batch, **settings)

    def __call__(self, record):
        """Look at an update."""
        (policy, theta, observations, actions, advantages, acted), result = self.batch, record.update
        if result.outcome is UpdateOutcome.IMPROVED:
            acted = policy.outputs(theta, observations) if acted is None else acted
            outputs = [in_float64(each) for each in (acted, policy.outputs(result.theta, observations))]
            true = exact(family_of(policy.action_space), *outputs, actions, advantages)
            self.kl_errors[self.done] = abs(Decimal(result.kl) - true.kl) / Decimal(true.kl_rounding)
            gain_error = abs(Decimal(result.improvement) - true.gain)
            self.gain_errors[self.done] = gain_error / Decimal(true.gain_rounding)
            assert result.line_search is not None
            modelled = record.agent.config.target_kl * result.line_search.fraction**2
            self.model[self.done] = result.kl / modelled
        ahead = policy(record.agent.theta, observations[:1]).probs
        self.right[self.done] = ahead[0, 1]
        self.batch = ()
        self.done += 1
        tenth, left = divmod(self.done * 10, self.updates)
        if left == 0:
            gc.collect()
            self.python[tenth - 1] = tracemalloc.get_traced_memory()[0] / 2**20
            self.process[tenth - 1] = resident()


def resident():
    """MB of the process."""
    [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def watched(updates, seed, **options):
    """Train, and watch each update."""
    watch, envs = Watch(updates), SyncVectorEnv([Corridor] * 4, autoreset_mode=AutoresetMode.SAME_STEP)
    agent = TRPO(
        "MlpPolicy",
        envs,
        **{"n_steps": 16, "net_arch": (8,), "gamma": 1.0, "target_kl": 1e-3, "seed": seed} | options,
    )
    gc.freeze()  # what is there before need not be looked through ten times
    tracemalloc.start()
    try:
        with mock.patch("npTRPO.agent.experience.PolicyObjective", watch.objective):
            agent.learn(64 * updates, callback=watch)
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    return watch


def summary(watch):
    """What was seen, tenth by tenth, as lines of text."""
    lines = ["tenth  moved  KL error  gain error  KL / model  P(right)  Python MB  process MB"]
    arrays = (watch.kl_errors, watch.gain_errors, watch.model, watch.right)
    for i, parts in enumerate(zip(*(np.split(array, 10) for array in arrays), strict=True)):
        right, moved = parts[3], np.isfinite(parts[0])
        kl, gain, model = (part[moved] if moved.any() else np.full(1, np.nan) for part in parts[:3])
        lines.append(
            f"{i + 1:5d} {np.mean(moved):6.2f} {np.max(kl):9.3f} {np.max(gain):11.3f} "
            f"{np.median(model):11.3f} {np.mean(right):9.3f} "
            f"{watch.python[i]:10.3f} {watch.process[i]:11.1f}"
        )
    return lines


def failures(watch):
    """What doesn't hold, from the second tenth on, when all is made that is made once."""
    found = []
    if not np.nanmax(watch.kl_errors) <= 1:
        found.append("a KL is further from sixty digits than rounding explains")
    if not np.nanmax(watch.gain_errors) <= 1:
        found.append("a gain is further from sixty digits than rounding explains")
    if not all(np.mean(np.isfinite(tenth)) > 0.5 for tenth in np.split(watch.kl_errors, 10)):
        found.append("the policy has come to rest")
    if not watch.python[-1] - watch.python[1] < 0.1:
        found.append("Python's objects have grown")
    if not watch.process[-1] - watch.process[1] < 4:
        found.append("the process has grown")
    return found


def main():
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=10_000, help="a multiple of ten (default: 10000)")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--value-fit", choices=["trust_region", "lbfgs", "adam"], default="trust_region")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    watch = watched(options.updates, options.seed, dtype=options.dtype, value_fit=options.value_fit)
    print("\n".join(summary(watch)))
    print(f"the best policy goes right with probability {BEST:.3f}; errors are in units of rounding's bound")
    found = failures(watch)
    print(f"{options.updates} updates, seed {options.seed}: {'; '.join(found) or 'all holds'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
