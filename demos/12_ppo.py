"""Proximal policy optimisation beside TRPO: a clipped objective, climbed by Adam, in one's own loop.

PPO (Schulman et al. 2017) keeps the ratios of E10 near 1 by cutting what lies outside 1 ± ε, which takes the
incentive to leave away, and nothing more; TRPO bounds the mean KL itself (E15, E38). Both get the same
batches, advantages and value fits, and differ in ``improve`` alone, which is made of public parts: a gradient
of plain NumPy code, and the update. What bounds the step is seen in the mean KL (E19) of each improvement.
"""

from functools import partial

import numpy as np
from _figure import BLACK, bands, new_figure, options, save
from _loop import curves

from npTRPO.autograd import grad
from npTRPO.trust_region import mean_kl, update

args = options(__file__, __doc__)
DELTA, CLIP, EPOCHS, ROWS, RATE = 0.01, 0.2, 10, 64, 3e-4
kls = {"TRPO": [], "PPO": []}


class PPO:
    """Its improvement, with Adam's moments and the order of the minibatches."""

    def __init__(self, seed):
        self.rng, self.mean, self.square, self.steps = np.random.default_rng(seed), 0.0, 0.0, 0

    def __call__(self, batch, policy, theta, observations, actions, advantages):
        """Climb the clipped surrogate, in ten passes over the batch."""
        old = policy(theta, observations)
        old_log_prob = old.log_prob(actions)

        def clipped(theta, rows):
            ratio = np.exp(policy(theta, observations[rows]).log_prob(actions[rows]) - old_log_prob[rows])
            cut = np.clip(ratio, 1 - CLIP, 1 + CLIP)
            return np.mean(np.minimum(ratio * advantages[rows], cut * advantages[rows]))

        orders = [self.rng.permutation(len(observations)) for _ in range(EPOCHS)]
        for rows in (order[i : i + ROWS] for order in orders for i in range(0, len(order), ROWS)):
            g = grad(partial(clipped, rows=rows))(theta)
            self.steps += 1
            self.mean, self.square = 0.9 * self.mean + 0.1 * g, 0.999 * self.square + 0.001 * g**2
            mean, square = self.mean / (1 - 0.9**self.steps), self.square / (1 - 0.999**self.steps)
            theta = theta + RATE * mean / (np.sqrt(square) + 1e-8)
        kls["PPO"].append(float(mean_kl(old, policy(theta, observations))))
        return theta


def trpo(batch, policy, theta, *rows):
    """The update of this package, on the same rows."""
    settings = {"cg_preconditioner": "kronecker", "line_search_shrinking_factor": 0.9}
    result = update(policy, theta, *rows, target_kl=DELTA, **settings)
    kls["TRPO"].append(result.kl)
    return result.theta


seeds, total = (2, 2_048) if args.quick else (5, 36_864)
returns = {
    "TRPO": curves(lambda seed: trpo, "CartPole-v1", total, seeds),
    "PPO": curves(PPO, "CartPole-v1", total, seeds),
}
for name, kl in kls.items():
    kls[name] = np.reshape(kl, returns[name].shape)
    print(f"E19, {name}: KL of {np.median(kl):.4f} (median), {np.max(kl):.4f} (largest); ", end="")
    print(f"returns of the last 50 episodes {np.mean(returns[name][:, -1]):.0f}, mean of {seeds} seeds")

if args.out:
    figure = new_figure()
    left, right = figure.subplots(1, 2)
    bands(left, "CartPole, five seeds", "mean return of 50 episodes", total, returns, ylim=(0, 510))
    bands(right, "Mean KL of an improvement (E19), and δ", "nats", total, kls, ylim=(0, 0.045))
    right.axhline(DELTA, color=BLACK, linestyle="--", linewidth=1)
    save(figure, args.out)
