"""Learning from images: two layers of convolution on NumPy's sliding windows, and their speed.

A ball falls through an image of 10 × 10 pixels, and a bar at the bottom is to catch it; the agent sees the
image alone. ``sliding_window_view`` gives every patch of an image without copying it, so that a convolution
is one product of patches and kernels, which the engine differentiates as it does all of NumPy. Nothing else
changes: the update (E15) and its line search (E38) see a function of θ.
"""

import time

import gymnasium
import numpy as np
from _figure import BLUE, describe, new_figure, options, save, tiles
from gymnasium import spaces
from numpy.lib.stride_tricks import sliding_window_view

from npTRPO import TRPO

args = options(__file__, __doc__)


class Catch(gymnasium.Env):
    """The actions move a bar of three pixels to the left, not at all, or to the right."""

    observation_space, action_space = spaces.Box(0, 1, (10, 10)), spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        """Let a ball fall."""
        super().reset(seed=seed)
        self.row, (self.column, self.bar) = 0, self.np_random.integers(1, 9, size=2)
        return self.step(1)[0], {}

    def step(self, action):
        """Move the bar, and the ball by one row."""
        self.bar, self.row = int(np.clip(self.bar + action - 1, 1, 8)), self.row + 1
        image, landed = np.zeros((10, 10), dtype=np.float32), self.row == 9
        image[self.row, self.column] = image[9, self.bar - 1 : self.bar + 2] = 1
        return image, float(landed and abs(self.column - self.bar) < 2), landed, False, {}


gymnasium.register("Catch-v0", Catch)


def convolve(images, kernels, stride=1):
    """Apply kernels (channels · 3 · 3, n) to the patches of images (N, height, width, channels)."""
    patches = sliding_window_view(images, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    return np.tanh(patches.reshape(*patches.shape[:3], len(kernels)) @ kernels)


def convolutions(n_features, n_outputs):
    """Two layers of convolution, and an affine map."""
    shapes = (9, 8), (9 * 8, 16), (9 * 16 + 1, n_outputs)

    places = np.cumsum([rows * columns for rows, columns in shapes[:-1]])

    def init(rng):
        pieces = [rng.standard_normal(rows * columns) / np.sqrt(rows) for rows, columns in shapes]
        return np.concatenate([*pieces[:-1], pieces[-1] * (0.01 if n_outputs > 1 else 1)])

    def forward(theta, x):
        pieces = zip(np.split(theta, places), shapes, strict=True)
        first, second, last = (piece.reshape(shape) for piece, shape in pieces)
        seen = convolve(convolve(x.reshape(-1, 10, 10, 1), first), second, stride=2)
        return seen.reshape(len(x), -1) @ last[:-1] + last[-1]

    return forward, init


settings = {"seed": 0, "normalize_observations": False, "policy_kwargs": {"network": convolutions}}
agent = TRPO("MlpPolicy", "Catch-v0", n_steps=32 if args.quick else 256, **settings)
began, curve, kls = time.perf_counter(), [], []
for record in agent.updates(512 if args.quick else 40_000):
    curve.append((record.num_timesteps / 1000, record.episode_return))
    kls.append(record.update.kl / agent.config.target_kl)
speed = agent.num_timesteps / (time.perf_counter() - began)
print(f"{agent.theta.size} parameters, {speed:,.0f} steps/s; {curve[-1][1]:.0%} of the balls are caught")
print(f"E38: the largest KL of an update is {np.max(kls):.3f} δ, the median {np.median(kls):.3f} δ")

if args.out:
    figure = new_figure()
    env = Catch()
    images = [env.reset(seed=3)[0], *(env.step(0)[0] for _ in range(8))]
    axes = figure.subplot_mosaic([["game", "share"], ["kernels", "share"]], width_ratios=(1, 1.3))
    tiles(axes["game"], "A game, every second image", images[::2][:4], "Greys")
    kernels = agent.theta[:72].reshape(3, 3, 8).transpose(2, 0, 1)
    tiles(axes["kernels"], "The first layer's kernels", kernels, "PuOr")
    axes["share"].plot(*np.transpose(curve), color=BLUE)
    describe(axes["share"], "Learning", "thousand images", "share of balls caught", ylim=(0, 1.02))
    save(figure, args.out)
