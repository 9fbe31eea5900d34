"""The line search: where the models end, and how the step is shortened until the truth agrees.

The full step Δ solves the model problem: it puts the quadratic model of KL exactly on the boundary (E30), and
the linear model of the surrogate promises gᵀΔ (E31). The search (E38) asks the surrogate (E10) and the mean
KL (E19) themselves, and takes the first of θ + Δ, θ + αΔ, θ + α²Δ, … that improves the surrogate and keeps
the KL within δ, strictly. Many implementations accept up to 1.5 δ, or don't check KL at all.
"""

import numpy as np
from _figure import BLACK, BLUE, GREEN, GREY, VERMILION, describe, new_figure, options, save, write
from gymnasium import spaces

from npTRPO import FisherOperator, Policy, conjugate_gradient, line_search
from npTRPO.autograd import value_and_grad
from npTRPO.trust_region import mean_kl, natural_step, predicted_improvement, surrogate

args = options(__file__, __doc__)
rng = np.random.default_rng(0)

# One state and one action, both numbers; the best action is 1.5 sin 3s, and the policy doesn't know it yet.
box = spaces.Box(-1, 1, (1,))
policy = Policy.for_spaces(box, box, net_arch=(32,))
theta = policy.init(rng)
states = rng.uniform(-1, 1, (100 if args.quick else 500, 1))
old = policy(theta, states)
actions = old.sample(rng)
rewards = -np.abs(actions - 1.5 * np.sin(3 * states))[:, 0]
advantages = (rewards - rewards.mean()) / rewards.std()
old_log_prob = old.log_prob(actions)


def objective(theta):
    """The surrogate L̂ (E10)."""
    return surrogate(policy(theta, states), old_log_prob, actions, advantages)


def divergence(theta):
    """Mean KL(old ‖ new) in nats (E19)."""
    return float(mean_kl(old, policy(theta, states)))


at_old, g = value_and_grad(objective)(theta)
F = FisherOperator(policy, theta, states, damping=1e-3)
x = conjugate_gradient(F, g).x


def search(step, delta):
    """The package's search, with the tries (surrogate, KL) on the way."""
    tries = []

    def evaluate(candidate):
        tries.append((float(objective(candidate)), divergence(candidate)))
        return tries[-1]

    options = {"target_kl": delta, "shrinking_factor": 0.8}
    return line_search(evaluate, theta, step, float(at_old), **options), np.array(tries)


for delta in (0.01, 0.1, 1.0):  # the last one is large, so that one sees more
    step = natural_step(x, F.quadratic_form(x), delta)
    found, tries = search(step, delta)
    promised = predicted_improvement(g, step)
    full = f"gains {tries[0, 0] - at_old:.3f} of {promised:.3f} at a KL of {tries[0, 1] / delta:.2f} δ"
    print(f"E38, δ = {delta}: Δ {full}; {found.fraction:.2f} Δ is taken, at {found.kl / delta:.2f} δ")
refused, _ = search(-step, delta)
print(f"−Δ: {refused.outcome.value} θ is the very same: {refused.theta is theta}")

if args.out:
    figure = new_figure(9, 3.8)
    gain, region = figure.subplots(1, 2)
    along = np.linspace(0, 1.15, 60)
    gain.plot(along, [objective(theta + f * step) - at_old for f in along], color=BLUE)
    gain.plot(along, along * promised, "--", color=GREY)
    region.plot(along, [divergence(theta + f * step) for f in along], color=BLUE)
    region.plot(along, along**2 * delta, "--", color=GREY)
    region.axhline(delta, color=BLACK, linewidth=1)
    fractions, gains, divergences = 0.8 ** np.arange(len(tries)), tries[:, 0] - at_old, tries[:, 1]
    for axes, values, across, up in ((gain, gains, 0.05, -0.08), (region, divergences, -0.03, 0)):
        axes.plot(fractions[:-1], values[:-1], "X", color=VERMILION, markersize=9)
        axes.plot(fractions[-1:], values[-1:], "o", color=GREEN, markersize=9)
        write(axes, fractions[-1] + across, values[-1] + up, "taken", GREEN, ha="right")
        write(axes, fractions[0] + across, values[0] + up, "refused", VERMILION, ha="right")
    write(gain, 0.5, 0.65, "linear model gᵀΔ (E31)", GREY, ha="right")
    write(region, 0.0, 1.05, "δ")
    write(region, 1.15, 0.25, "quadratic model (E30)", GREY, ha="right")
    describe(gain, "Surrogate along the step (E10)", "fraction of Δ", "improvement, in σ of the advantages")
    describe(region, "KL along the step (E19)", "fraction of Δ", "mean KL(old ‖ new) in nats")
    save(figure, args.out)
