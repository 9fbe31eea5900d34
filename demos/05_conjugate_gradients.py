"""Conjugate gradients: F x = g with nothing but products, and what theory promises about it.

The Fisher information here is that of a policy on twelve features in different units, from 0.1 to 10, so that
the system is badly conditioned. The package's solver (E33) is put beside SciPy's; Fletcher–Reeves beside
Polak–Ribière, which are equal but for rounding (E34); and no preconditioner beside the diagonal (E35). The
H-norm of the error falls with every step, at least as fast as the condition number κ promises, and is zero
after as many steps as there are distinct eigenvalues (E36).
"""

import numpy as np
from _figure import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION, describe, new_figure, options, save, write
from gymnasium import spaces
from scipy.sparse.linalg import cg

from npTRPO import FisherOperator, Policy, conjugate_gradient

args = options(__file__, __doc__)
rng = np.random.default_rng(0)
policy = Policy.for_spaces(spaces.Box(-np.inf, np.inf, (12,)), spaces.MultiBinary(2), net_arch=())
theta = 0.2 * rng.standard_normal(policy.n_parameters)
x = rng.standard_normal((300 if args.quick else 2000, 12)) * np.geomspace(0.1, 10, 12)
F = FisherOperator(policy, theta, x, damping=1e-4)
dense = F @ np.eye(theta.size)  # not needed to solve, but to judge
values, vectors = np.linalg.eigh(dense)
g = dense @ rng.standard_normal(theta.size)


def path(A, **how):
    """Every iterate from zero on."""
    visited = [np.zeros_like(g)]
    conjugate_gradient(A, g, rtol=1e-10, callback=visited.append, **how)
    return np.array(visited)


def errors(iterates, A):
    """H-norm of the error at every iterate, relative to the first."""
    wrong = iterates - np.linalg.solve(A, g)
    norms = np.sqrt(np.sum(wrong * (wrong @ A), axis=1))
    return norms / norms[0]


fletcher, polak = path(F), path(F, beta="polak-ribiere")
scaled = path(F, M=np.diag(1 / np.diag(dense)))
theirs = [np.zeros_like(g)]
cg(F, g, rtol=1e-10, callback=lambda iterate: theirs.append(iterate.copy()))  # it reuses its array
shared = min(len(fletcher), len(polak), len(theirs))
difference = np.max(np.abs(fletcher[:shared] - theirs[:shared]))
print(f"E33: {len(fletcher) - 1} steps; no iterate differs from SciPy's by more than {difference:.0e}")

apart = np.linalg.norm(fletcher[:shared] - polak[:shared], axis=1) / np.linalg.norm(fletcher[-1])
worst = f"{apart.max():.0e} at worst, {apart[-1]:.0e} in the end"
print(f"E34: Polak–Ribière is {apart[5]:.0e} away from Fletcher–Reeves after 5 steps, {worst}")
print(f"E35: with the diagonal as preconditioner {len(scaled) - 1} steps")

# E36: the same eigenvectors and condition, but only four distinct eigenvalues.
four = np.geomspace(values[0], values[-1], 4)[np.arange(len(values)) % 4]
clustered = (vectors * four) @ vectors.T
few = errors(path(clustered), clustered)
condition = values[-1] / values[0]
rate = (np.sqrt(condition) - 1) / (np.sqrt(condition) + 1)
print(f"E36: κ = {condition:.0f}; with four distinct eigenvalues the error after 4 steps is {few[4]:.0e}")

if args.out:
    figure = new_figure(10, 3.7)
    ways, promises, betas = figure.subplots(1, 3)
    ways.semilogy(errors(fletcher, dense), color=BLUE)
    ways.semilogy(errors(np.array(theirs), dense), "o", color=ORANGE, markersize=3.5, markevery=3)
    ways.semilogy(errors(scaled, dense), color=GREEN)
    write(ways, 16, 0.04, "npTRPO", BLUE)
    write(ways, 27, 0.04, "and SciPy (dots)", ORANGE)
    write(ways, 12.5, 1e-9, "diagonal\npreconditioner\n(E35)", GREEN)
    describe(ways, "Three ways to solve F x = g", "step", "H-norm of the error, relative")
    promises.semilogy(2 * rate ** np.arange(len(fletcher)), "--", color=GREY)
    promises.semilogy(errors(fletcher, dense), color=BLUE)
    promises.semilogy(few, "o-", color=VERMILION, markersize=4)
    write(promises, 50, 4, f"bound for κ = {condition:.0f}", GREY, ha="right")
    write(promises, 26, 0.02, "26 eigenvalues", BLUE)
    write(promises, 6, 1e-10, "4 distinct eigenvalues,\nthe same κ", VERMILION)
    describe(promises, "What is promised (E36)", "step", "H-norm of the error, relative", ylim=(1e-13, 50))
    betas.semilogy(apart, color=BLACK)
    describe(betas, "The two formulas for β (E34)", "step", "distance of iterates, relative")
    save(figure, args.out)
