"""A network of your own: a convolution, in plain NumPy.

Each image is noise with one stroke in it, and the reward is 1 for naming its direction. Its position says
nothing; a convolution shares its weights among all positions, and needn't learn each. The network is two
functions, an initialiser and the forward pass, made by a factory that policy_kwargs name; the value function
comes from the same one. Fisher-vector products (E22) need nothing more, as E23 confirms.
"""

import gymnasium
import numpy as np
from _figure import BLUE, VERMILION, describe, new_figure, options, save, tiles, write
from gymnasium import spaces

from npTRPO import TRPO, FisherOperator
from npTRPO.autograd import hvp
from npTRPO.trust_region import mean_kl

args = options(__file__, __doc__)
STROKES = np.eye(3)[[1, 1, 1]], np.eye(3)[[1, 1, 1]].T, np.eye(3), np.eye(3)[::-1]


class Strokes(gymnasium.Env):
    """Images of 8 × 8 pixels with one of four strokes; the action names it."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (8, 8)), spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        """Show an image."""
        super().reset(seed=seed)
        self.stroke, (row, column) = self.np_random.integers(4), self.np_random.integers(6, size=2)
        image = 0.3 * self.np_random.standard_normal((8, 8), dtype=np.float32)
        image[row : row + 3, column : column + 3] += STROKES[self.stroke]
        return image, {}

    def step(self, action):
        """Reward the right answer, and show the next image."""
        right = float(action == self.stroke)
        return self.reset()[0], right, False, False, {}


gymnasium.register("Strokes-v0", Strokes, max_episode_steps=16)


def convolution(n_features, n_outputs, n_kernels=8):
    """Kernels of 3 × 3 pixels, applied everywhere; the largest response of each; an affine map."""
    ends = np.cumsum([9 * n_kernels, n_kernels, n_kernels * n_outputs])

    def init(rng):
        kernels, rest = 0.3 * rng.standard_normal(ends[0]), 0.03 * rng.standard_normal(ends[2] - ends[0])
        return np.concatenate([kernels, rest, np.zeros(n_outputs)])

    def forward(theta, x):
        images = x.reshape(-1, 8, 8)
        shifted = np.stack([images[:, i : i + 6, j : j + 6] for i in range(3) for j in range(3)], axis=-1)
        kernels = theta[: ends[0]].reshape(9, n_kernels)
        responses = np.max(np.tanh(shifted @ kernels + theta[ends[0] : ends[1]]), axis=(1, 2))
        return responses @ theta[ends[1] : ends[2]].reshape(n_kernels, n_outputs) + theta[ends[2] :]

    return forward, init


settings = {"seed": 0, "gamma": 0.0, "gae_lambda": 0.0, "target_kl": 0.05, "normalize_observations": False}
size, total = (64, 1_024) if args.quick else (256, 100_000)
curves = {}
for name, network in (("perceptron", {"net_arch": [64, 64]}), ("convolution", {"network": convolution})):
    agent = TRPO("MlpPolicy", "Strokes-v0", n_steps=size, policy_kwargs=network, **settings)
    curves[name] = [(r.num_timesteps / 1000, r.episode_return / 16) for r in agent.updates(total)]
    print(f"{name}: {agent.theta.size} parameters, right {curves[name][-1][1]:.1%} of the time in the end")

# E22 for this network, against its KL divergence differentiated twice (E23).
env = Strokes()
images = np.stack([env.reset(seed=seed)[0] for seed in range(64)])
rows, theta = agent.policy.encode(images), agent.theta.astype(float)
old, v = agent.policy(theta, rows), np.random.default_rng(0).standard_normal(theta.size)
twice = hvp(lambda new: mean_kl(old, agent.policy(new, rows)), theta, v)
error = np.max(np.abs(FisherOperator(agent.policy, theta, rows) @ v - twice)) / np.max(np.abs(twice))
print(f"E22, E23: the convolution's Fisher-vector product has a relative error of {error:.0e}")

if args.out:
    figure = new_figure(10, 3.8)
    axes = figure.subplot_mosaic([["seen", "share"], ["kernels", "share"]], height_ratios=(1, 1.3))
    tiles(axes["seen"], "Four images, each with a stroke", images[:4], "Greys")
    kernels = theta[:72].reshape(3, 3, 8).transpose(2, 0, 1)
    tiles(axes["kernels"], "The eight kernels learned", kernels, "PuOr")
    for (name, curve), colour, y in zip(curves.items(), (VERMILION, BLUE), (0.35, 0.95), strict=True):
        axes["share"].plot(*np.transpose(curve), color=colour)
        write(axes["share"], 60, y, name, colour)
    axes["share"].set(xlim=(0, 103), ylim=(0, 1))
    describe(axes["share"], "Learning", "thousand images", "share of right answers")
    save(figure, args.out)
