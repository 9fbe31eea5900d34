"""An entropy bonus: an objective of one's own, where becoming certain too early is a mistake.

A corridor whose far end pays 1. Every step costs, and one may leave for a small sum at once; to a policy that
walks at random this looks better than going on, and soon it always leaves. A bonus of c times the mean
entropy, added to the surrogate (E10), keeps it trying. The update (E15) takes any objective: a gradient, a
value at the old parameters, and a value and a divergence at new ones; the curvature stays that of the KL.
"""

import gymnasium
import numpy as np
from _figure import bands, new_figure, options, save
from _loop import curves
from gymnasium import spaces

from npTRPO.autograd import value_and_grad
from npTRPO.trust_region import PolicyObjective, Trial, update

args = options(__file__, __doc__)
LENGTH, COST, LEAVING = 8, 0.05, 0.2


class Corridor(gymnasium.Env):
    """Action 0 leaves, with a little; action 1 goes on, at a cost; the far end pays 1."""

    observation_space, action_space = spaces.Discrete(LENGTH + 1), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        """Stand at the near end."""
        self.cell = 0
        return self.cell, {}

    def step(self, action):
        """Leave, or go on."""
        self.cell += int(action)
        reward = LEAVING if action == 0 else float(self.cell == LENGTH) - COST
        return self.cell, reward, bool(action == 0 or self.cell == LENGTH), False, {}


gymnasium.register("Corridor-v0", Corridor)


class WithEntropy:
    """A policy's objective plus c times its mean entropy in the same states."""

    def __init__(self, c, policy, theta, observations, *rows):
        self._plain = PolicyObjective(policy, theta, observations, *rows)
        self._bonus = lambda theta: c * np.mean(policy(theta, observations).entropy())
        bonus, slope = value_and_grad(self._bonus)(theta)
        self.at_old, self.gradient = self._plain.at_old + bonus, self._plain.gradient + slope
        self.entropy, self.system = self._plain.entropy, self._plain.system

    def __call__(self, theta):
        """The sum, and the divergence as it is."""
        gain, kl = self._plain(theta)
        return Trial(gain + self._bonus(theta), kl)


seeds, total, n_steps = (2, 2_048, 32) if args.quick else (10, 40_960, 64)
returns, entropies = {}, {}
for c in (0.0, 0.05, 0.1):
    seen = []

    def improve(batch, policy, theta, *rows, c=c, seen=seen):
        """Update the policy with the bonus."""
        result = update(WithEntropy(c, policy, theta, *rows), theta, target_kl=0.01)
        seen.append(result.entropy)
        return result.theta

    returns[f"c = {c}"] = each = curves(lambda seed, f=improve: f, "Corridor-v0", total, seeds, n_steps)
    entropies[f"c = {c}"] = np.reshape(seen, each.shape)
    print(f"E15, c = {c}: {np.sum(each[:, -1] > LEAVING + 0.1)} of {seeds} seeds go to the end", end="")
    print(f", with an entropy of {np.mean(entropies[f'c = {c}'][:, -1]):.2g} nats left")

if args.out:
    figure = new_figure()
    left, right = figure.subplots(1, 2)
    bands(left, "Corridor, ten seeds", "mean return of 50 episodes", total, returns, ylim=(0, 0.63))
    bands(right, "Entropy", "nats per action", total, entropies, ylim=(0, 0.72))
    save(figure, args.out)
