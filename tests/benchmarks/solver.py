"""How many steps conjugate gradients take, with Kronecker factors and without, and from the last solution."""

from unittest.mock import patch

import numpy as np

from npTRPO import TRPO, conjugate_gradient
from npTRPO.agent import experience
from npTRPO.runs.presets import preset
from npTRPO.trust_region import PolicyObjective
from tests.benchmarks.files import write_rows

TASK, STEPS, SEED = "HalfCheetah-v5", 500_000, 0
TOLERANCES = (0.1, 0.01, 0.001)
LONGEST = 200


def measure():
    """Train, solve the systems of some updates in all ways, and write results/solver.csv."""
    rows = []
    for name, problems in _captured():
        for damping in (0.1, 0.01):
            rows += [
                {"task": TASK, "seed": SEED, "updates": name, **row} for row in _solved(problems, damping)
            ]
            for row in rows[-3:]:
                print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
    write_rows("solver.csv", rows, "python -m tests.benchmarks solver")


def _captured():
    """What two updates in a row are given, at the beginning, in the middle and at the end of training."""
    options = {key: value for key, value in preset(TASK).items() if key != "total_timesteps"}
    agent = TRPO("MlpPolicy", TASK, seed=SEED, **options)
    seen = []

    def objective(*given, **how):
        seen.append(given)
        return PolicyObjective(*given, **how)

    with patch.object(experience, "PolicyObjective", objective):
        records = agent.updates(STEPS)
        last = STEPS // (options["n_envs"] * options["n_steps"])
        for record in records:
            if record.n_updates in (2, last // 2, last):
                yield f"{record.n_updates - 1} and {record.n_updates}", seen[-2:]
            del seen[:-1]


def _solved(problems, damping):
    """Each way to solve the second problem; a warm start is the first one's solution."""
    systems = []
    for problem in problems:
        objective = PolicyObjective(*problem, cg_damping=damping, cg_preconditioner="kronecker")
        systems.append((*objective.system(), objective.gradient))
    (F0, M0, g0), (F, M, g) = systems
    before = conjugate_gradient(F0, g0, rtol=0.0, maxiter=15, M=M0).x
    best = _gain(F, g, conjugate_gradient(F, g, rtol=1e-6, maxiter=10 * LONGEST, M=M).x)
    for name, preconditioner, x0 in (
        ("without", None, None),
        ("Kronecker factors", M, None),
        ("Kronecker factors, warm start", M, before),
    ):
        path = []
        conjugate_gradient(F, g, x0, rtol=0.0, maxiter=LONGEST, M=preconditioner, callback=path.append)
        residuals = np.array([np.linalg.norm(g - F @ x) for x in path]) / np.linalg.norm(g)
        reached = {
            t: next((k for k, r in enumerate(residuals, 1) if r <= t), f"> {LONGEST}") for t in TOLERANCES
        }
        yield {
            "damping": damping,
            "way": name,
            **{f"steps to {t}": steps for t, steps in reached.items()},
            # Of the improvement that the linear model predicts on the boundary of the trust region.
            **{f"share at {k}": round(_gain(F, g, path[k - 1]) / best, 3) for k in (1, 3, 5, 15)},
        }


def _gain(F, g, x):
    return float(g @ x) / float(np.sqrt(F.quadratic_form(x)))
