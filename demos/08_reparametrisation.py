"""Natural and vanilla gradient: one path, and one that depends on how the parameters are named.

A gradient is the direction of steepest ascent per unit of length in the parameters, and so depends on their
units. The natural gradient F⁻¹g is the steepest per unit of KL divergence, which is a matter of the policies
alone: after a linear change of parameters θ = Bφ it takes the same path (E25; Kakade 2001). The problem is
Kakade's: two states, in each of which one may stay, for a reward of 1 or of 2, or move to the other. Every
step of every path is scaled to the same δ (E30), so that only the directions differ.
"""

from dataclasses import replace

import numpy as np
from _figure import BLACK, BLUE, ORANGE, SKY, VERMILION, describe, new_figure, options, save, write
from gymnasium import spaces

from npTRPO import FisherOperator, Policy, conjugate_gradient
from npTRPO.theory import TabularMDP, value_iteration
from npTRPO.theory.curvature import Reparametrised
from npTRPO.theory.exact import table
from npTRPO.trust_region import natural_step

args = options(__file__, __doc__)
swap, stay = np.eye(2)[::-1], np.eye(2)
mdp = TabularMDP(
    np.stack([swap, stay], axis=1), np.array([[0.0, 1.0], [0.0, 2.0]]), np.array([0.8, 0.2]), 0.9
)


def one_logit_per_state(n_features, n_outputs):
    """θ holds the log-odds of staying in each state."""

    def forward(theta, x):
        log_odds = x @ theta
        return np.stack([-0.5 * log_odds, 0.5 * log_odds], axis=-1)

    return forward, lambda rng: np.log([4.0, 0.25])


in_theta = Policy.for_spaces(spaces.Discrete(2), spaces.Discrete(2), network=one_logit_per_state)
B = np.array([[1.0, 0.0], [1.5, 0.4]])
in_phi = replace(in_theta, network=Reparametrised(in_theta.network, B))


def climb(policy, natural, n_steps, delta=1e-4):
    """Parameters after every step."""
    points = [policy.init(np.random.default_rng(0))]
    for _ in range(n_steps):
        g = mdp.policy_gradient(lambda t: table(policy, t), points[-1])
        visitation = mdp.evaluate(table(policy, points[-1])).visitation
        F = FisherOperator(policy, points[-1], np.eye(2), weights=visitation)
        x = conjugate_gradient(F, g, rtol=1e-13).x if natural else g
        points.append(points[-1] + natural_step(x, F.quadratic_form(x), delta))
    return np.array(points)


n_steps = 20 if args.quick else 120
paths = {
    "natural in θ": climb(in_theta, True, n_steps),
    "natural in φ": climb(in_phi, True, n_steps) @ B.T,
    "vanilla in θ": climb(in_theta, False, n_steps),
    "vanilla in φ": climb(in_phi, False, n_steps) @ B.T,
}
policies = {name: np.array([table(in_theta, theta) for theta in path]) for name, path in paths.items()}
objectives = {name: [mdp.evaluate(policy).objective for policy in path] for name, path in policies.items()}
best = value_iteration(mdp).objective
for kind in ("natural", "vanilla"):
    apart = np.max(np.abs(policies[f"{kind} in θ"] - policies[f"{kind} in φ"]))
    ends = [objectives[f"{kind} in {name}"][-1] for name in "θφ"]
    print(
        f"E25, {kind}: paths at most {apart:.0e} apart; J ends at {ends[0]:.2f}, {ends[1]:.2f} of {best:.2f}"
    )

if args.out:
    figure = new_figure(9, 4.0)
    plane, over = figure.subplots(1, 2)
    axis = np.linspace(0, 1, 61)
    heights = [[mdp.evaluate(np.array([[1 - x, x], [1 - y, y]])).objective for x in axis] for y in axis]
    plane.contourf(axis, axis, heights, 14, cmap="Greys", alpha=0.45)
    for name, colour, style in zip(paths, (BLUE, SKY, VERMILION, ORANGE), ("-", "o", "-", "--"), strict=True):
        look = {"color": colour, "markevery": 5, "markersize": 4, "label": name}
        plane.plot(*policies[name][:, :, 1].T, style, **look)
        over.plot(objectives[name], style, **look)
    plane.legend(loc="lower left")
    describe(plane, "Paths of policies; darker is better", "P(stay | state 1)", "P(stay | state 2)")
    over.axhline(best, color=BLACK, linewidth=1)
    write(over, 0, best - 0.6, "optimum")
    describe(over, "Objective along them", "step, each of the same size δ", "J, discounted reward")
    save(figure, args.out)
