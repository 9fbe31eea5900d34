"""The natural policy gradient without a line search, beside TRPO.

Kakade (2001) takes the natural step of E29 as it is; TRPO shortens it until the surrogate has improved and
the mean KL (E19) keeps to δ (E38). A search is any function of objective, θ, step and the old surrogate: one
that accepts the full step makes the one algorithm of the other. The full step is on the boundary of the
quadratic model (E30); the larger δ, the further the true KL lies above it.
"""

import itertools

import numpy as np
from _figure import bands, new_figure, options, save
from _loop import curves

from npTRPO.trust_region import (
    LineSearch,
    LineSearchOutcome,
    LineSearchResult,
    PolicyObjective,
    update,
)

args = options(__file__, __doc__)


def full_step(objective, theta, step, surrogate, *, target_kl):
    """No search: θ + Δ, whatever it does."""
    new = theta + step
    return LineSearchResult(new, *objective(new), 1, 1.0, LineSearchOutcome.ACCEPTED)


seeds, total, deltas = (1, 2_048, (0.01, 1.0)) if args.quick else (5, 30_720, (0.01, 0.1))
searches = {"natural gradient": full_step, "TRPO": LineSearch(shrinking_factor=0.8)}
returns = {delta: {} for delta in deltas}
for delta, name in itertools.product(deltas, searches):
    kls = []

    def improve(batch, policy, theta, *rows, delta=delta, search=searches[name], kls=kls):
        """Take the natural step, with or without a search."""
        objective = PolicyObjective(policy, theta, *rows, cg_preconditioner="kronecker", cg_damping=0.01)
        result = update(objective, theta, target_kl=delta, search=search)
        kls.append(result.kl / delta)
        return result.theta

    each = returns[delta][name] = curves(lambda seed, f=improve: f, "CartPole-v1", total, seeds)
    middle, most = np.median(kls), np.max(kls)
    print(f"E38, {name}, δ = {delta}: KL {middle:.2f} δ (median), {most:.3g} δ (largest)", end="")
    print(f"; returns in the end {np.mean(each[:, -1]):.0f}")

if args.out:
    figure = new_figure()
    for axes, delta in zip(figure.subplots(1, len(deltas)), deltas, strict=True):
        bands(axes, f"δ = {delta}", "mean return of 50 episodes", total, returns[delta], ylim=(0, 510))
    save(figure, args.out)
