"""Fisher information four ways: the matrix of the trust region, and why products with it are cheap and exact.

F is defined as the expected outer product of scores, E[∇log π ∇log πᵀ] (E21), over actions that are either
summed out or, as in many implementations, sampled. It is also the Hessian of the mean KL divergence, found by
differentiating twice (E23), and 1/N Σ JᵀMJ with the Fisher information M of the distribution in its outputs
(E22): the way this package takes. Three of them agree to rounding; sampling is off by 1/√n.
"""

from timeit import repeat

import numpy as np
from _figure import BLACK, BLUE, GREEN, VERMILION, describe, new_figure, options, save, write
from gymnasium import spaces

from npTRPO import FisherOperator, Policy
from npTRPO.autograd import hvp, jacobian
from npTRPO.trust_region import mean_kl

args = options(__file__, __doc__)
rng = np.random.default_rng(0)
policy = Policy.for_spaces(spaces.Box(-1, 1, (2,)), spaces.Discrete(3), net_arch=(4,))
theta = rng.standard_normal(policy.n_parameters)
states = rng.standard_normal((64, 2))
old = policy(theta, states)
unit = np.eye(theta.size)

# 1. One Jacobian-vector product, M, one vector-Jacobian product, for as many vectors as one likes.
F = FisherOperator(policy, theta, states)
by_outputs = F @ unit

# 2. The derivative of the gradient of mean KL, for every unit vector.
by_hessian = np.stack([hvp(lambda new: mean_kl(old, policy(new, states)), theta, e) for e in unit])

# 3. The definition, with all actions by their probabilities; scores have shape (states, actions, parameters).
scores = jacobian(lambda new: policy(new, states).log_probs)(theta)
by_scores = np.einsum("na,nai,naj->ij", old.probs, scores, scores) / len(states)


# 4. The definition, with sampled actions.
def sampled(n):
    """F from the scores of n actions, drawn in states chosen at random."""
    visited = rng.integers(len(states), size=n)
    actions = policy(theta, states[visited]).sample(rng)
    drawn = scores[visited, actions]
    return drawn.T @ drawn / n


def error(matrix):
    """Relative, in the Frobenius norm, against the sum over all actions."""
    return np.linalg.norm(matrix - by_scores) / np.linalg.norm(by_scores)


numbers = np.geomspace(30, 3_000 if args.quick else 300_000, 9).astype(int)
noise = [np.mean([error(sampled(n)) for _ in range(10)]) for n in numbers]
exact = {"E22, JᵀMJ": error(by_outputs), "E23, twice": error(by_hessian)}
for name, size in exact.items():
    print(f"{name}: relative error {size:.1e} against the sum over all actions (E21)")
print(
    f"E21, sampled: {noise[0]:.1e} with {numbers[0]} actions, and still {noise[-1]:.1e} with {numbers[-1]:,}"
)

# What a product costs, for a network and a batch of the usual size.
usual = Policy.for_spaces(spaces.Box(-1, 1, (8,)), spaces.Discrete(4), net_arch=(64, 64))
start, batch = usual.init(rng), rng.standard_normal((256 if args.quick else 2048, 8))
product, before = FisherOperator(usual, start, batch), usual(start, batch)
ways = lambda: product @ start, lambda: hvp(lambda new: mean_kl(before, usual(new, batch)), start, start)
once, twice = (min(repeat(way, number=1, repeat=5)) for way in ways)
print(f"One product, {start.size} parameters: {once * 1e3:.1f} ms by E22, {twice * 1e3:.1f} ms by E23")

if args.out:
    figure = new_figure(10, 3.5)
    *maps, errors = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
    titles = "F by E21, E22 and E23", "F by scores of 100 actions"
    for axes, matrix, title in zip(maps, (by_outputs, sampled(100)), titles, strict=True):
        image = axes.imshow(matrix, cmap="PuOr", vmin=-0.4, vmax=0.4)
        axes.grid(visible=False)
        describe(axes, title, "parameter", "parameter")
    figure.colorbar(image, ax=maps, shrink=0.8, label="entry of F")
    errors.loglog(numbers, noise, "o-", color=VERMILION)
    errors.loglog(numbers, noise[0] * (numbers / numbers[0]) ** -0.5, "--", color=BLACK, linewidth=1)
    for size, colour, style in zip(exact.values(), (BLUE, GREEN), ("-", "--"), strict=True):
        errors.axhline(size, color=colour, linestyle=style)
    write(errors, 60, 5e-4, "sampled actions;\ndashed: 1 / √n", VERMILION)
    write(errors, 60, 1e-15, "JᵀMJ (E22)", BLUE)
    write(errors, 8e3, 1e-15, "twice (E23)", GREEN)
    describe(errors, "Error against E21", "sampled actions", "relative error", ylim=(1e-17, 10))
    save(figure, args.out)
