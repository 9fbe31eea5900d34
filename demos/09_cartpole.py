"""Training on CartPole, and how to read every diagnostic of an update.

Each update reports the KL it used of δ and the tries that took (E15, E38), what the surrogate gained beside
what its linear model had promised (E10, E31), how well conjugate gradients solved F x = g, and in how many
steps (E35, E37), the policy's entropy, and how much of the returns' variance the value function explains.
This is what a healthy run looks like. Two curves look worse than they are: the return is a mean over 100
episodes, and lags; and once every episode is long, returns hardly vary, and a small error exceeds their
variance.
"""

import numpy as np
from _figure import BLACK, BLUE, GREEN, VERMILION, describe, new_figure, options, save, write

from npTRPO import TRPO, evaluate_policy
from npTRPO.agent.logging import format_metrics, header, metrics

args = options(__file__, __doc__)
agent = TRPO("MlpPolicy", "CartPole-v1", n_steps=32 if args.quick else None, seed=0)
rows, evaluations = [], []
print(header())
for record in agent.updates(1_024 if args.quick else 50_000):
    rows.append(metrics(record))
    episodes = 1 if args.quick else 10
    evaluations.append(evaluate_policy(agent, "CartPole-v1", n_eval_episodes=episodes, seed=0))
    if record.n_updates % 4 == 0:
        print(format_metrics(rows[-1]))

columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
delta, rtol, most = agent.config.target_kl, agent.config.cg_rtol, agent.config.cg_steps(layered=True)
gained = columns["improvement"] / columns["predicted_improvement"]
tries = np.mean(columns["line_search_tries"])
print(f"E38: the largest KL is {np.max(columns['kl']) / delta:.3f} δ, after {tries:.1f} tries on average")
print(f"E31: of what the linear model promises, {np.median(gained):.0%} is gained (median)")
residual = np.median(columns["cg_residual"])
print(f"E37: conjugate gradients leave {residual:.4f} ‖g‖ (median) after {most} steps; enough is {rtol}")
print("Without exploring the agent gets {:.1f} ± {:.1f} of 500 in the end".format(*evaluations[-1]))

if args.out:
    figure = new_figure(10, 7.6)
    panels = (
        ("episode_return", "Return: rises, and lags", "last 100 episodes", {"ylim": (0, 520)}),
        ("kl", "KL: near δ, never above (E38)", "mean KL in nats", {"ylim": (0, 1.2 * delta)}),
        ("improvement", "Gain: near the promised (E31)", "surrogate, new − old", {}),
        ("line_search_tries", "Line search: few tries (E38)", "tries", {"ylim": (0, 4)}),
        ("cg_residual", "CG: what is left of ‖g‖ (E37)", "relative residual", {"yscale": "log"}),
        ("cg_iterations", "CG: few steps, preconditioned (E35)", "steps", {"ylim": (0, 4)}),
        ("entropy", "Entropy: falls, not at once", "nats per action", {"ylim": (0, 0.75)}),
        ("explained_variance", "Explained variance: rises at first", "share", {"ylim": (-1, 1.05)}),
        ("step_norm", "Length of the step, and of g", "in parameters", {"ylim": (0, 0.6)}),
    )
    steps, axes = columns["num_timesteps"] / 1000, {}
    for panel, (name, title, unit, settings) in zip(figure.subplots(3, 3).flat, panels, strict=True):
        axes[name] = panel
        panel.plot(steps, columns[name], ".-", color=BLUE)
        describe(panel, title, "thousand steps", unit, xlim=(0, 52), **settings)
    axes["episode_return"].plot(steps, [mean for mean, _ in evaluations], ".-", color=GREEN)
    write(axes["episode_return"], 15, 435, "without exploring", GREEN)
    for name, line in (("kl", delta), ("cg_residual", rtol), ("cg_iterations", most)):
        axes[name].axhline(line, color=BLACK, linestyle="--", linewidth=1)
    axes["improvement"].plot(steps, columns["predicted_improvement"], ":", color=VERMILION)
    write(axes["improvement"], 12, 0.035, "promised: gᵀΔ", VERMILION)
    axes["step_norm"].plot(steps, columns["gradient_norm"], ":", color=VERMILION)
    write(axes["step_norm"], 1, 0.5, "gradient, dotted", VERMILION)
    write(axes["explained_variance"], 27, -0.8, "returns hardly\nvary any more")
    save(figure, args.out)
