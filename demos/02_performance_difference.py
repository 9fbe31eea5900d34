"""How much better is a new policy? The performance difference, the surrogate, and how far to trust it.

On a finite MDP every expectation is a sum, so that the new policy can be evaluated as well: the difference of
two objectives is the new policy's expected advantage over the old one (E3, E6). The surrogate L (E7) puts the
old visitation in place of the new one, which is right to first order (E8) and wrong further away, by no more
than E11 and E13 allow. TRPO's Algorithm 1 climbs the bound in KL (E12) and can't fail; the practical
algorithm climbs L within a region of fixed size (E15), and gets there.
"""

from dataclasses import replace

import numpy as np
from _figure import BLACK, BLUE, ORANGE, VERMILION, describe, new_figure, options, save, write

from npTRPO.sampling.advantages import td_residuals
from npTRPO.theory import penalised_run, practical_run, random_mdp, simulate, tabular_policy, value_iteration
from npTRPO.theory.bounds import average_bound, worst_case_bound
from npTRPO.theory.exact import local_approximation
from npTRPO.theory.instances import Instance

args = options(__file__, __doc__)
rng = np.random.default_rng(0)
mdp = random_mdp(rng, n_states=4, n_actions=3, discount=0.8)
pair = Instance.draw(rng, mdp)  # an old and a new policy; the new one shall lie along the gradient of the old
uphill = pair.gradient / np.linalg.norm(pair.gradient)
pair = replace(pair, new_theta=pair.theta + uphill)
old, new, gamma = pair.old, pair.new, mdp.discount

# E3: along trajectories of the new policy, the TD residuals of the OLD values sum up to the difference.
paths = simulate(mdp, new.policy, n_steps=60, n=500 if args.quick else 20_000, rng=rng)
values, never = old.values[paths.states], np.zeros(paths.actions.shape, dtype=bool)
sums = gamma ** np.arange(60) @ td_residuals(paths.rewards, values[:-1], values[1:], never, gamma)
advantage = new.visitation @ np.sum(new.policy * old.advantages, axis=1) / (1 - gamma)
print(f"E3: J(π') − J(π) = {new.objective - old.objective:.4f} by two linear solves, {advantage:.4f} by E6,")
print(
    f"    {np.mean(sums):.4f} ± {np.std(sums) / len(sums) ** 0.5:.4f} by the residuals of {len(sums):,} paths"
)

# E7 to E13, along the direction of steepest ascent.
lengths = np.geomspace(0.01, 3, 13 if args.quick else 101)
pairs = [replace(pair, new_theta=pair.theta + length * uphill) for length in lengths]
J = np.array([p.new.objective for p in pairs])
L = np.array([local_approximation(p.old, p.new.policy, gamma) for p in pairs])
worst, average = (np.array([bound(p) for p in pairs]) for bound in (worst_case_bound, average_bound))
error = np.abs(L - J)
print(f"E7: L keeps rising, to {L[-1]:.2f}, but J turns at {np.max(J):.2f} and falls to {J[-1]:.2f}")
shares = np.max(error / worst), np.max(error / average)
print(f"E11, E13: the error is at most {shares[0]:.1%} and {shares[1]:.1%} of what they allow")

# E12 as an algorithm, beside what is done in practice (E15).
policy = tabular_policy(mdp)
start, theta = np.full((4, 3), 1 / 3), np.zeros(policy.n_parameters)
guaranteed = penalised_run(mdp, start, n_steps=20 if args.quick else 100)
practical = practical_run(mdp, policy, theta, n_steps=15, target_kl=0.01, cg_damping=1e-3)
best = value_iteration(mdp).objective
gaps = [(best - run.objectives) / (best - run.objectives[0]) for run in (guaranteed, practical)]
for name, gap in zip(("E12, Algorithm 1:", "E15, in practice: "), gaps, strict=True):
    print(f"{name} {gap[-1]:.1%} of the way to the optimum are left after {len(gap) - 1} updates")

if args.out:
    figure = new_figure(10, 3.7)
    climb, errors, runs = figure.subplots(1, 3)
    climb.plot(lengths, J, color=BLACK)
    climb.plot(lengths, L, color=BLUE)
    climb.plot(lengths, L - average, color=ORANGE)
    climb.plot(lengths, L - worst, color=VERMILION)
    write(climb, 3, L[-1] - 0.3, "surrogate L (E7)", BLUE, ha="right")
    write(climb, 3, J[-1] - 0.17, "objective J", ha="right")
    write(climb, 0.8, -1.5, "L − bound E13", ORANGE)
    write(climb, 0.8, -1.75, "L − bound E11", VERMILION)
    describe(climb, "The surrogate: right nearby", "length of the step along ∇J", "discounted reward")
    climb.set_ylim(-2, 1.2)
    for curve, colour in ((worst, VERMILION), (average, ORANGE), (error, BLACK)):
        errors.loglog(lengths, curve, color=colour)
    write(errors, 0.05, 0.05, "E11", VERMILION, ha="right")
    write(errors, 0.07, 0.003, "E13", ORANGE)
    write(errors, 0.15, 4e-4, "|J − L|")
    describe(errors, "Bounds of its error", "length of the step along ∇J", "discounted reward")
    for gap, colour in zip(gaps, (VERMILION, BLUE), strict=True):
        runs.semilogy(gap, color=colour)
    write(runs, 35, 0.5, "Algorithm 1,\nwith the bound E12", VERMILION)
    write(runs, 20, 0.01, "fixed region,\nKL ≤ 0.01 (E15)", BLUE)
    describe(runs, "With and without a guarantee", "update", "share of the way still to go")
    save(figure, args.out)
