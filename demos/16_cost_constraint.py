"""A limit on costs: constrained policy optimization (CPO) from two natural gradients.

Beside the trust region (E15), Achiam et al. (2017) bound what an episode costs: c + bᵀΔ ≤ 0, where c is what
the old policy exceeds the limit by, and b the gradient of the cost's surrogate (E10). With x = F⁻¹g and
y = F⁻¹b the model problem (E26) has a closed form: the natural step (E29) where that keeps to the limit;
otherwise the best step with both on their bounds; and if none is left, a recovery that only lowers the cost.
"""

import gymnasium
import numpy as np
from _figure import BLACK, bands, new_figure, options, save
from _loop import train
from gymnasium import spaces

from npTRPO.trust_region import LineSearch, PolicyObjective, conjugate_gradient, natural_step, update

args = options(__file__, __doc__)
LENGTH, LIMIT, DELTA = 40, 8, 0.02


class Car(gymnasium.Env):
    """One is paid for speed; every step above half of the top speed costs 1, as the infos say."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        """Stand still."""
        self.speed = 0.0
        return np.zeros(1, np.float32), {"cost": 0.0}

    def step(self, action):
        """Push or brake."""
        self.speed = 0.8 * self.speed + 0.2 * float(np.clip(action[0], -1, 1))
        cost = float(self.speed > 0.5)
        return np.full(1, self.speed, np.float32), self.speed, False, False, {"cost": cost}


gymnasium.register("Car-v0", Car, max_episode_steps=LENGTH)


def trpo(batch, policy, theta, observations, actions, advantages, _):
    """Without a limit."""
    return update(policy, theta, observations, actions, advantages, target_kl=DELTA, cg_damping=1e-3).theta


def cpo(batch, policy, theta, observations, actions, advantages, costs):
    """Within the limit."""
    reward = PolicyObjective(policy, theta, observations, actions, advantages, cg_damping=1e-3)
    cost = PolicyObjective(policy, theta, observations, actions, LENGTH * costs, cg_damping=1e-3)
    excess, (F, _) = LENGTH * np.mean(batch.infos["cost"][batch.valid]) - LIMIT, reward.system()
    x, y = (conjugate_gradient(F, each.gradient, rtol=1e-3, maxiter=30).x for each in (reward, cost))
    q, r, s = reward.gradient @ x, reward.gradient @ y, cost.gradient @ y
    step = natural_step(x, q, DELTA)
    if excess + cost.gradient @ step > 0:
        if excess**2 >= 2 * DELTA * s:
            step = -natural_step(y, s, DELTA)
        else:
            step = np.sqrt((2 * DELTA - excess**2 / s) / (q - r**2 / s)) * (x - r / s * y) - excess / s * y

    def evaluate(new):
        (gain, kl), rise = reward(new), cost(new).surrogate - cost.at_old
        if excess > 0:
            return -rise, kl
        return (gain if excess + rise <= 0 else -np.inf), kl

    return LineSearch(0.8)(evaluate, theta, step, 0.0 if excess > 0 else reward.at_old, target_kl=DELTA).theta


seeds, total, n_steps = (1, 1_600, 41) if args.quick else (5, 50_000, 123)
returns, costs = {}, {}
for name, improve in (("TRPO", trpo), ("CPO", cpo)):
    runs = [list(train(improve, "Car-v0", total, seed, n_steps, costs=("cost",))) for seed in range(seeds)]
    returns[name] = np.array([[mean for *_, mean in run] for run in runs])
    costs[name] = np.array([[LENGTH * np.mean(b.infos["cost"][b.valid]) for b, *_ in run] for run in runs])
    last = returns[name][:, -1].mean(), costs[name][:, -8:].mean()
    print(f"E15, {name}: a return of {last[0]:.1f} at a cost of {last[1]:.1f}, where {LIMIT} is the limit")

if args.out:
    figure = new_figure()
    left, right = figure.subplots(1, 2)
    bands(left, "Speed, five seeds", "mean return of 50 episodes", total, returns)
    bands(right, "Cost, and its limit", "mean cost of an episode", total, costs, ylim=(0, LENGTH))
    right.axhline(LIMIT, color=BLACK, linestyle="--", linewidth=1)
    save(figure, args.out)
