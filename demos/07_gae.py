"""Generalized advantage estimation: what λ trades, exactly, on a corridor of seven cells.

GAE (E41, E42) mixes k-step estimators with weights (1 − λ)λᵏ⁻¹. With λ = 0 it trusts V after one step: little
variance, but V's errors become bias. With λ = 1 it waits for the return: no bias, but all the variance (E43).
If V is exact, there is no bias for any λ (E44). An error that all actions of a state share, such as that of
V(s) itself, changes no policy gradient, and isn't counted as bias (Schulman et al. 2015, GAE, section 3).
"""

import numpy as np
from _figure import BLACK, BLUE, GREEN, ORANGE, VERMILION, describe, new_figure, options, save, write

from npTRPO import gae
from npTRPO.theory import TabularMDP, simulate

args = options(__file__, __doc__)
rng = np.random.default_rng(0)

# Left or right, with a slip one time in ten; the last cell has a reward of 1, and leads to a random one.
n, cells = 7, np.arange(7)
transition = np.zeros((n, 2, n))
for action, other in ((0, 1), (1, 0)):
    target = np.clip(cells + (-1, 1)[action], 0, n - 1)
    transition[cells, action, target] += 0.9
    transition[cells, other, target] += 0.1
transition[-1] = 1 / n
mdp = TabularMDP(transition, np.tile(cells == n - 1, (2, 1)).T, np.full(n, 1 / n), discount=0.95)
policy, gamma = np.full((n, 2), 0.5), mdp.discount
now = mdp.evaluate(policy)
scale = np.mean(now.advantages**2)


def bias(means):
    """Mean square of means (n, 2) less the advantages, without what both actions of a cell share."""
    return np.mean((means - np.mean(means, axis=1, keepdims=True) - now.advantages) ** 2) / scale


def exact(values, lam):
    """Squared bias and variance in units of A²; G and M are the moments of Â = δ + γλÂ', given the cell."""
    delta = mdp.reward[:, :, None] + gamma * values - values[:, None, None]
    decay, expected = gamma * lam, lambda x: np.sum(transition * x, axis=2)
    G = np.linalg.solve(np.eye(n) - decay * now.transition, np.mean(expected(delta), axis=1))
    square = delta**2 + 2 * decay * delta * G
    M = np.linalg.solve(np.eye(n) - decay**2 * now.transition, np.mean(expected(square), axis=1))
    means = expected(delta + decay * G)
    return bias(means), np.mean(expected(square + decay**2 * M) - means**2) / scale


# The same from trajectories by gae(). Its bias is the distance to what it gives with exact values (E44).
paths = simulate(mdp, policy, n_steps=150, n=500 if args.quick else 20_000, rng=rng)
pairs, never = 2 * paths.states[0] + paths.actions[0], np.zeros(paths.actions.shape, dtype=bool)


def sampled(values, lam):
    """Squared bias and variance in units of A²."""
    along = [v[paths.states] for v in (values, now.values)]
    ours, unbiased = (gae(paths.rewards, v[:-1], v[1:], never, never, gamma, lam)[0] for v in along)
    averaged = (np.bincount(pairs, weights=x) for x in (ours - unbiased, ours, ours**2))
    off, mean, square = (x / np.bincount(pairs) for x in averaged)
    return bias(off.reshape(n, 2) + now.advantages), np.mean(square - mean**2) / scale


lams, shares = np.linspace(0, 1, 101), (0, 0.5, 0.9, 1)
curves = {share: np.transpose([exact(share * now.values, lam) for lam in lams]) for share in shares}
dots = np.transpose([sampled(0.5 * now.values, lam) for lam in lams[::10]])
for name, share in (("E43, V = ½ V^π", 0.5), ("E44, V = V^π  ", 1)):
    (b0, b1), (v0, v1) = curves[share][:, [0, -1]]
    print(f"{name}: bias² {b0:.2g} with λ = 0, {b1:.2g} with 1; variance {v0:.2f} and {v1:.2f} (units of A²)")
off = np.max(np.abs(dots[1] / curves[0.5][1, ::10] - 1))
print(f"E42, gae() on {len(pairs):,} trajectories: its variances are within {off:.0%} of these")
errors = {share: np.sqrt(bias2 + variance / 100) for share, (bias2, variance) in curves.items()}
best = [f"{lams[np.argmin(error)]:.2f} for {share} V^π" for share, error in errors.items()]
print(f"The best λ for a mean of 100 estimates: {', '.join(best)}")

if args.out:
    figure = new_figure(9, 3.8)
    trade, total = figure.subplots(1, 2)
    for curve, dot, colour in zip(curves[0.5], dots, (VERMILION, BLUE), strict=True):
        trade.semilogy(lams, curve, color=colour)
        trade.semilogy(lams[::10], dot, "o", color=colour, markersize=4)
    write(trade, 0.3, 1.1, "variance", BLUE)
    write(trade, 0.3, 0.06, "bias²", VERMILION)
    write(trade, 0.0, 2e-4, "lines: exact; dots: gae() on trajectories")
    describe(trade, "One estimate, V half of the true one", "λ", "in units of the mean A²", ylim=(1e-4, 50))
    for (share, error), colour in zip(errors.items(), (VERMILION, ORANGE, GREEN, BLACK), strict=True):
        total.plot(lams, error, color=colour, label=f"{share} $V^π$")
        total.plot(lams[np.argmin(error)], np.min(error), "o", color=colour)
    total.legend(title="V, dot: best λ", loc="upper right")
    describe(total, "Mean of 100 estimates", "λ", "root mean square error, relative", ylim=(0, 1.05))
    save(figure, args.out)
