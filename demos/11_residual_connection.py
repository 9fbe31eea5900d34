"""Another network of your own: residual connections, and what they do to the Fisher information.

Through sixteen layers h ← tanh(hW) with small weights, the policy hardly feels its parameters: the largest
eigenvalue of F (E21) falls exponentially with the depth, far below the damping; the solution of (F + λI)x = g
isn't a natural direction any more, and the line search (E38) finds no step. With h ← h + tanh(hW) the
eigenvalue lasts. Only the forward pass changes. (Initial weights twice as large would save the plain network
as well: this shows a mechanism, and is no benchmark.)
"""

import numpy as np
from _figure import BLACK, BLUE, VERMILION, describe, new_figure, options, save, write
from gymnasium import spaces
from scipy.sparse.linalg import eigsh

from npTRPO import TRPO, FisherOperator, Policy
from npTRPO.trust_region import UpdateOutcome

args = options(__file__, __doc__)


def deep(depth, skip, width=16):
    """Factory of networks with ``depth`` hidden layers, and with (1) or without (0) connections past them."""

    def network(n_features, n_outputs):
        shapes = [(n_features, width), *[(width, width)] * depth, (width, n_outputs)]
        scales = [1.0, *[0.5] * depth, 0.01 if n_outputs > 1 else 1.0]
        ends = np.cumsum([rows * columns for rows, columns in shapes])

        def init(rng):
            sizes = zip(scales, shapes, strict=True)
            return np.concatenate([s * rng.standard_normal(m * n) / np.sqrt(m) for s, (m, n) in sizes])

        def forward(theta, x):
            places = zip(ends, shapes, strict=True)
            first, *inner, last = (theta[end - m * n : end].reshape(m, n) for end, (m, n) in places)
            h = np.tanh(x @ first)
            for weights in inner:
                h = skip * h + np.tanh(h @ weights)
            return h @ last

        return forward, init

    return network


# A FisherOperator is a SciPy LinearOperator, so that eigsh finds its largest eigenvalue by products alone.
depths = (1, 4, 16) if args.quick else (1, 2, 4, 6, 8, 10, 12, 14, 16)
box, states = spaces.Box(-np.inf, np.inf, (4,)), np.random.default_rng(1).standard_normal((256, 4))
eigenvalues, curves = {"plain": [], "residual": []}, {"plain": [], "residual": []}
for skip, name in enumerate(eigenvalues):
    for depth in depths:
        policy = Policy.for_spaces(box, spaces.Discrete(2), network=deep(depth, skip))
        F = FisherOperator(policy, policy.init(np.random.default_rng(0)), states)
        eigenvalues[name].append(eigsh(F, k=1, v0=np.ones(F.shape[0]), return_eigenvectors=False)[0])
    print(f"E21, {name}: largest eigenvalue {eigenvalues[name][0]:.2g} with {depths[0]} layer, ", end="")
    print(f"{eigenvalues[name][-1]:.2g} with {depths[-1]}")

for skip, name in enumerate(curves):
    outcomes = []
    for seed in (0,) if args.quick else (0, 1, 2):
        agent = TRPO("MlpPolicy", "CartPole-v1", seed=seed, policy_kwargs={"network": deep(16, skip)})
        records = list(agent.updates(2_048 if args.quick else 40_000))
        curves[name].append([(r.num_timesteps / 1000, r.episode_return) for r in records])
        outcomes += [r.update.outcome for r in records]
    moved = outcomes.count(UpdateOutcome.IMPROVED)
    last = ", ".join(f"{curve[-1][1]:.0f}" for curve in curves[name])
    print(f"E38, {name}: {moved} of {len(outcomes)} updates found a step; returns in the end {last}")

if args.out:
    figure = new_figure(9, 3.8)
    spectrum, returns = figure.subplots(1, 2)
    for name, colour in (("plain", VERMILION), ("residual", BLUE)):
        spectrum.semilogy(depths, eigenvalues[name], "o-", color=colour, markersize=4)
        for curve in curves[name]:
            returns.plot(*np.transpose(curve), color=colour, linewidth=1.2)
    spectrum.axhline(agent.config.cg_damping, color=BLACK, linestyle="--", linewidth=1)
    write(spectrum, 16, 0.02, "damping λ", ha="right")
    write(spectrum, 9, 0.5, "h + tanh(hW)", BLUE)
    write(spectrum, 7, 1e-7, "tanh(hW)", VERMILION, ha="right")
    write(returns, 20, 150, "residual, three seeds", BLUE, ha="right")
    write(returns, 40, 35, "plain, three seeds", VERMILION, ha="right")
    returns.set(xlim=(0, 42), ylim=(0, 260))
    describe(spectrum, "Largest eigenvalue of F at first (E21)", "hidden layers", "nats per parameter²")
    describe(returns, "CartPole with sixteen hidden layers", "thousand steps", "mean return of 100 episodes")
    save(figure, args.out)
