"""The trust region of a policy with two parameters: the true KL ball, its ellipse, and two steps.

The region mean-KL(θ ‖ θ + Δ) ≤ δ (E15) can be drawn when θ has two numbers. Its quadratic model (E20) is an
ellipse, whose matrix is the Fisher information (E21), and which fits better the smaller δ is. The natural
step (E29) goes as far along the surrogate's gradient g as the ellipse allows, and touches its boundary there.
A step of the same length along g itself leaves the region; cut at the boundary, it gains less.
"""

import numpy as np
from _figure import BLACK, BLUE, GREY, SKY, VERMILION, describe, new_figure, options, save, write
from gymnasium import spaces

from npTRPO import FisherOperator, Policy, conjugate_gradient
from npTRPO.autograd import grad
from npTRPO.trust_region import mean_kl, natural_step, surrogate

args = options(__file__, __doc__)
rng = np.random.default_rng(0)


def two_parameters(n_features, n_outputs):
    """Two actions with logits ∓½ θᵀx, so that θᵀx are the log-odds of the second."""

    def forward(theta, x):
        log_odds = x @ theta
        return np.stack([-0.5 * log_odds, 0.5 * log_odds], axis=-1)

    return forward, lambda rng: np.array([1.5, -0.7])


plane = spaces.Box(-np.inf, np.inf, (2,))
policy = Policy.for_spaces(plane, spaces.Discrete(2), network=two_parameters)
theta = policy.init(rng)
x = rng.standard_normal((200 if args.quick else 1000, 2)) @ np.array([[1.0, 1.6], [0.0, 0.9]])
old = policy(theta, x)
actions = old.sample(rng)
advantages = np.where(actions == 1, 1, -1) * (x @ [1.0, -0.35])
g = grad(lambda t: surrogate(policy(t, x), old.log_prob(actions), actions, advantages))(theta)

F = FisherOperator(policy, theta, x)
direction = conjugate_gradient(F, g).x


def kl(step):
    """True mean KL of a step, in nats (E19)."""
    return float(mean_kl(old, policy(theta + step, x)))


def model(step):
    """Its quadratic model (E20)."""
    return F.quadratic_form(step) / 2


deltas = np.geomspace(1e-6, 1, 13)
naturals = [natural_step(direction, F.quadratic_form(direction), delta) for delta in deltas]
remainders = [abs(kl(step) - model(step)) / delta for step, delta in zip(naturals, deltas, strict=True)]
slope = np.polyfit(np.log(deltas[:7]), np.log(remainders[:7]), 1)[0]
print(f"E20: the remainder per δ falls as δ^{slope:.2f}, as it is cubic in the step, and δ quadratic")

delta = 0.1
natural = natural_step(direction, F.quadratic_form(direction), delta)
long = g * np.linalg.norm(natural) / np.linalg.norm(g)
cut = natural_step(g, F.quadratic_form(g), delta)  # E30 scales any direction to the boundary
for name, step in (("natural step (E29)", natural), ("gradient, as long", long), ("gradient, cut", cut)):
    sizes = f"½ΔᵀFΔ = {model(step) / delta:5.2f} δ, KL = {kl(step) / delta:.2f} δ"
    print(f"{name:20}{sizes}, gain gᵀΔ = {step @ g:.3f}")

if args.out:
    figure = new_figure(9.5, 3.9)
    region, remainder = figure.subplots(1, 2, width_ratios=(1.7, 1))
    steps = np.stack(np.meshgrid(np.linspace(-2.6, 2.8, 121), np.linspace(-1.6, 1.7, 81)), axis=-1)
    true, quadratic = (np.apply_along_axis(f, 2, steps) for f in (kl, model))
    region.contourf(*steps.T, true.T, [0, delta], colors=[SKY], alpha=0.5)
    region.contour(*steps.T, quadratic.T, [delta], colors=[BLACK], linestyles="--")
    gains = sorted(float(step @ g) for step in (cut, natural, long))
    region.contour(*steps.T, (steps @ g).T, gains, colors=[GREY], linewidths=0.8)
    arrow = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "linewidth": 2}
    for step, colour in ((natural, BLUE), (long, VERMILION), (cut, VERMILION)):
        region.annotate("", step, (0, 0), arrowprops=arrow | {"color": colour})
    write(region, 0.42, -0.64, "natural step (E29)", BLUE)
    write(region, 1.02, 1.5, "gradient step, as long", VERMILION, ha="right")
    write(region, 0.15, 0.25, "cut at the boundary", VERMILION, ha="right")
    write(region, 1.3, -1.5, f"true KL ≤ {delta}", BLUE)
    write(region, -2.5, 1.25, f"ellipse ½ΔᵀFΔ = {delta}")
    write(region, -2.5, -1.5, "grey: equal gain gᵀΔ", GREY)
    describe(region, "The region, and two steps in it", "Δ₁ (log-odds per x₁)", "Δ₂ (per x₂)", aspect="equal")
    remainder.loglog(deltas, remainders, "o-", color=BLACK, markersize=4)
    write(remainder, 1e-4, 1.5e-3, f"slope {slope:.2f}")
    describe(remainder, "How far is the ellipse off? (E20)", "δ in nats", "|KL − ½ΔᵀFΔ| / δ")
    save(figure, args.out)
