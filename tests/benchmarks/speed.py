"""How fast: ratios of interleaved pairs, measured side by side in one process, one BLAS thread each.

Needs the ``bench`` extra (sb3-contrib and a CPU build of torch), for the comparison only.
"""

import contextlib
import inspect
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

from npTRPO import TRPO, FisherOperator, Policy, gae
from npTRPO.agent.learner import learn
from npTRPO.sampling import Sampler
from npTRPO.sampling.statistics import explained_variance
from npTRPO.trust_region import BatchLinearization, fit_adam, fit_trust_region, update
from npTRPO.trust_region.value_fit import predict_values
from tests.benchmarks.files import read_rows, write_rows

SAME_WORK = {  # the options under which an update does what sb3-contrib's does
    "value_fit": "adam",
    "n_critic_updates": 10,
    "cg_preconditioner": "identity",
    "cg_max_steps": 15,
    "cg_rtol": 0.0,
    "normalize_observations": False,
    "normalize_rewards": False,
}
CHEETAH = spaces.Box(-np.inf, np.inf, (17,), np.float64), spaces.Box(-1.0, 1.0, (6,), np.float32)


@dataclass(frozen=True)
class Result:
    """One line of the table: a ratio, the figure to reach, and what it was computed from."""

    what: str
    ratio: float
    target: str
    ours: float
    other: float
    unit: str

    def __str__(self):
        figures = f"({self.ours:.4g} and {self.other:.4g} {self.unit})"
        return f"{self.what:<66} {self.ratio:8.2f}  {self.target:>8}   {figures}"


def seconds(function):
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def pairs(ours, other, n):
    """Medians of both times, and of other/ours pair by pair, after one warm-up of each."""
    ours(), other()
    times = [(seconds(ours), seconds(other)) for _ in range(n)]
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(b / a for a, b in times),
    )


def faster(what, target, ours, other, n, units=1):
    """How many times faster ours is; ``units`` of work are done in a call of each."""
    a, b, ratio = pairs(ours, other, n)
    if units == 1:
        return Result(what, ratio, target, 1e3 * a, 1e3 * b, "ms")
    return Result(what, ratio, target, units / a, units / b, "steps/s")


# --- one Fisher-vector product ---------------------------------------------------------------------


def problem(n, net_arch=(64, 64)):
    """A generator, a policy for HalfCheetah's spaces with its θ, and n observations, in float32."""
    rng = np.random.default_rng(0)
    policy = Policy.for_spaces(*CHEETAH, net_arch)
    return rng, policy, policy.init(rng, np.float32), rng.standard_normal((n, 17), dtype=np.float32)


def operator(n):
    """The operator for n observations of HalfCheetah's shape in float32, all kept in memory, and a vector."""
    rng, policy, theta, observations = problem(n)
    batch = BatchLinearization(policy.outputs, theta, observations, kept_rows=n)
    return FisherOperator.of(batch, policy), rng.standard_normal(theta.size, dtype=np.float32)


class Products:
    """The matrix products alone that n rows need on their way through a network of HalfCheetah's shape."""

    def __init__(self, n, outputs=6):
        rng = np.random.default_rng(0)

        def draw(*shape):
            return rng.standard_normal(shape, dtype=np.float32)

        layers = [(17, 64), (64, 64), (64, outputs)]
        self.inputs = [draw(n, fan_in) for fan_in, _ in layers]
        self.weights = [draw(*fans) for fans in layers]
        self.gradients = [draw(n, fan_out) for _, fan_out in layers]
        pairs = zip(self.inputs, self.gradients, strict=True)
        self.factors = [(x.T @ x).astype(np.float64) for pair in pairs for x in pair]

    def forward(self):
        for x, w in zip(self.inputs, self.weights, strict=True):
            x @ w

    def back(self):
        for w, g in zip(self.weights[1:], self.gradients[1:], strict=True):
            g @ w.T if w.shape[1] > 1 else g * w.T[0]  # the inputs' cotangent

    def vjp(self):
        for x, g in zip(self.inputs, self.gradients, strict=True):
            x.T @ g  # the weights' cotangent
        self.back()

    def jvp(self):
        self.forward()  # of the weights' tangent
        for x, w in zip(self.inputs[1:], self.weights[1:], strict=True):
            x @ w  # of the inputs' tangent

    def gauss_newton(self):
        self.jvp()
        self.vjp()

    def preconditioner(self):
        self.back()
        for x in (*self.inputs, *self.gradients):
            x.T @ x
        for factor in self.factors:
            np.linalg.eigh(factor)


def _of_one_update(same_work):
    """All matrix products and eigenvectors of one update on 2048 rows, in both ways that are measured."""
    policy, value, minibatch = Products(2048, 6), Products(2048, 1), Products(128, 1)

    def run():
        value.forward()  # for the advantages
        policy.forward()
        policy.vjp()  # the gradient
        for _ in range(16 if same_work else 4):  # conjugate gradients, and xᵀFx
            policy.gauss_newton()
        policy.forward()  # of the line search
        if same_work:
            for _ in range(160):
                minibatch.forward()
                minibatch.vjp()
            return
        policy.preconditioner()
        value.preconditioner()
        for _ in range(2):
            value.forward()
            value.vjp()
            for _ in range(3):
                value.gauss_newton()
            value.forward()  # at the end of the step

    return run


def double_backprop(n):
    """The usual way in torch: differentiate the mean KL twice."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    Linear, Tanh = torch.nn.Linear, torch.nn.Tanh
    net = torch.nn.Sequential(Linear(17, 64), Tanh(), Linear(64, 64), Tanh(), Linear(64, 6))
    log_std = torch.nn.Parameter(torch.zeros(6))
    parameters = [*net.parameters(), log_std]
    vector = torch.randn(sum(p.numel() for p in parameters))
    mean = net(torch.randn(n, 17))
    new = torch.distributions.Normal(mean, log_std.exp())
    old = torch.distributions.Normal(mean.detach(), log_std.detach().exp())
    kl = torch.distributions.kl_divergence(old, new).sum(-1).mean()
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(kl, parameters, create_graph=True)])

    def run():
        torch.autograd.grad(gradient @ vector, parameters, retain_graph=True)

    return run


def fisher():
    """The product against torch, against its matrix products, and over the number of rows."""
    F, v = operator(2048)
    alone, torch = Products(2048).gauss_newton, double_backprop(2048)
    what = "Fisher-vector product, 2048 rows: times faster than torch double backprop"
    yield faster(what, "≥ 3", lambda: F @ v, torch, 101)
    a, b, ratio = pairs(lambda: F @ v, alone, 201)
    what = "  the same: time over its matrix products alone"
    yield Result(what, 1 / ratio, "≤ 1.4", 1e3 * a, 1e3 * b, "ms")
    yield faster("  a bound: its matrix products alone, times faster than torch", "", alone, torch, 101)
    for n, repeats in ((50_000, 15), (1_000_000, 5)):
        G, w = operator(n)
        calls = range(n // 2048)
        a, b, ratio = pairs(lambda G=G, w=w: G @ w, lambda calls=calls: [F @ v for _ in calls], repeats)
        per_row = 1 / ratio * (n // 2048) * 2048 / n
        what = f"  time per row at {n:,} rows over that at 2048 rows"
        yield Result(what, per_row, "≤ 1.15", 1e3 * a, 1e3 * b, "ms")


# --- one update --------------------------------------------------------------------------------------


def updates():
    """One update on a batch of 2048 steps: the same work as sb3-contrib's, and our own value fit."""
    their = _theirs("HalfCheetah-v5", 1, 2048)
    their.learn(2048)  # fills the rollout buffer and trains once
    for what, target, options in (
        ("one update, same work (15 CG steps, Adam 10 epochs × 128)", "≥ 5", SAME_WORK),
        ("one update, our default value fit", "≥ 10", {}),
    ):
        agent, sampler = _trained_once(**options)
        batch = sampler.collect(agent.theta, 2048, agent.observation_moments, np.random.default_rng(0))
        update_once = partial(_learn, agent, batch)
        yield faster(f"{what}: times faster than sb3-contrib", target, update_once, their.train, 15)
        alone = _of_one_update(same_work=bool(options))
        yield faster("  a bound: its matrix products and eigenvectors alone", "", alone, their.train, 15)
    yield from _value_quality()


def _ours(env_id, n_envs, batch, **options):
    """An agent that learns from as many steps at a time."""
    options = {"seed": 0} | options
    return TRPO("MlpPolicy", env_id, n_envs=n_envs, n_steps=batch // n_envs, **options)


def _trained_once(seed=0, **options):
    """An agent after one update on HalfCheetah, and a sampler of its own."""
    agent = _ours("HalfCheetah-v5", 1, 2048, seed=seed, **options).learn(2048)
    return agent, Sampler(agent.env, agent.policy, seed)


def _learn(agent, batch):
    agent.learner, _ = learn(agent.model, agent.learner, batch, agent.learner.rng("value fit"))


def _value_quality():
    """Explained variance after the fit, less that of Adam's: on the batches fitted, and on the next ones."""
    scores = {"trust_region": [], "adam": []}
    for seed in range(5):
        for fit, found in scores.items():
            agent, sampler = _trained_once(seed, value_fit=fit)
            rng = np.random.default_rng(seed)
            pairs = [_fitted_to(agent, sampler, rng) for _ in range(2)]
            theta = _fitted(agent, fit, *pairs[0])
            values = (predict_values(agent.value_network, theta, rows) for rows, _ in pairs)
            found.append(tuple(explained_variance(v, r) for v, (_, r) in zip(values, pairs, strict=True)))
    for i, where in enumerate(("on the same batches", "on the batches after them")):
        a, b = (statistics.median(pair[i] for pair in found) for found in scores.values())
        what = f"  explained variance after the fit, less that of Adam's, {where}"
        yield Result(what, a - b, "≥ 0", a, b, "")


def _fitted(agent, fit, rows, returns):
    """Parameters of the value function after a fit as in training."""
    given = agent.value_network, agent.value_theta, rows, returns
    if fit == "adam":
        return fit_adam(*given, agent.learner.adam, agent.learner.rng("value fit"))[0]
    return fit_trust_region(*given, cg_max_steps=3, cg_preconditioner="kronecker")


def _fitted_to(agent, sampler, rng):
    """Observations of a batch and its discounted returns in scaled rewards, the same for both fits."""
    batch = sampler.collect(agent.theta, 2048, agent.observation_moments, rng)
    scaled = agent.learner.reward_scale.apply(batch.rewards)
    nothing = np.zeros_like(scaled)
    returns = gae(scaled, nothing, nothing, batch.terminated, batch.truncated, agent.config.gamma, 1.0)
    return batch.observations.reshape(2048, -1), returns[:, 0]


# --- training ------------------------------------------------------------------------------------------


def _theirs(env_id, n_envs, batch, kind=None):
    import torch
    from sb3_contrib import TRPO as SB3TRPO
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    envs = make_vec_env(env_id, n_envs, vec_env_cls=kind)
    return SB3TRPO("MlpPolicy", envs, n_steps=batch // n_envs, device="cpu", seed=0)


def _going_on(agent, steps):
    return partial(agent.learn, steps, reset_num_timesteps=False)


def training():
    """Steps per second of whole training, same environments and steps per update."""
    for env_id, n_envs, batch, target in (
        ("CartPole-v1", 1, 2048, "≥ 12"),
        ("CartPole-v1", 8, 2048, "≥ 8"),
        ("HalfCheetah-v5", 1, 1024, "≥ 5"),
        ("HalfCheetah-v5", 16, 1024, "≥ 2.5"),
    ):
        ours, theirs = (_going_on(make(env_id, n_envs, batch), 3 * batch) for make in (_ours, _theirs))
        what = f"training {env_id}, {n_envs} environments: times faster than sb3-contrib"
        yield faster(what, target, ours, theirs, 7, units=3 * batch)
    yield from _floor()


def _floor():
    """Training against random actions in the same vector environment, and in Gymnasium's."""
    agent = _ours("HalfCheetah-v5", 16, 1024)
    theirs = gymnasium.make_vec("HalfCheetah-v5", 16, vectorization_mode="sync")
    for whose, envs in (("the same", agent.env), ("Gymnasium's", theirs)):
        envs.reset(seed=0)
        actions = [envs.action_space.sample() for _ in range(64)]

        def random_actions(envs=envs, actions=actions):
            for _ in range(4):
                for action in actions:
                    envs.step(action)

        a, b, ratio = pairs(_going_on(agent, 4096), random_actions, 9)
        what = "training HalfCheetah-v5, 16 environments: share of random actions' steps/s in "
        what += f"{whose} vector environment"
        yield Result(what, ratio, "≥ 0.75", 4096 / a, 4096 / b, "steps/s")


def solving():
    """CartPole-v1 from learn() to its end, with a mean of 475 over 100 evaluation episodes after it."""
    from npTRPO import evaluate_policy
    from npTRPO.agent.callbacks import StopTrainingOnRewardThreshold

    times, means = [], []
    for seed in range(5):
        agent = _ours("CartPole-v1", 16, 1024, seed=seed)
        enough = StopTrainingOnRewardThreshold(200)
        times.append(seconds(partial(agent.learn, 50_000, callback=enough)))
        means.append(evaluate_policy(agent, "CartPole-v1", 100, seed=1000 + seed)[0])
    middle = statistics.median(times)
    what = "CartPole-v1 to 475: seconds of learn(), median of 5 seeds (and their lowest mean)"
    yield Result(what, middle, "≤ 1.0", middle, min(means), "s and return")


def cores():
    """Two cores against one, and against sb3-contrib's fastest way on two cores."""
    for n_envs, n_steps, target in ((16, 64, "≥ 1.6"), (8, 256, "≥ 1.7"), (64, 256, "≥ 1.8")):
        what = f"training HalfCheetah-v5, {n_envs} × {n_steps}: workers=2 against one process"
        yield from _both_ways(what, target, n_envs, n_steps, {"workers": 2}, {})
    for what, options in (("workers=1", {"workers": 1}), ("n_shards=2 in one process", {"n_shards": 2})):
        what = f"training HalfCheetah-v5, 16 × 64: {what} against one shard in one process"
        yield from _both_ways(what, "≥ 0.97", 16, 64, options, {})
    what = "training HalfCheetah-v5, 64 × 256: two actors of Ray against one process"
    yield from _both_ways(what, "≥ 1.5", 64, 256, {"workers": "ray", "n_shards": 2}, {})
    for n_envs, n_steps in ((16, 64), (2, 1024)):
        yield min(_against_theirs(n_envs, n_steps), key=lambda result: result.ratio)


def _both_ways(what, target, n_envs, n_steps, options, others):
    batch = n_envs * n_steps
    with contextlib.ExitStack() as stack:
        made = [_ours("HalfCheetah-v5", n_envs, batch, **each) for each in (options, others)]
        for agent in made:
            stack.callback(agent.env.close)
        updates = max(2, 8192 // batch)
        yield faster(what, target, *(_going_on(agent, updates * batch) for agent in made), 9, updates * batch)


def _against_theirs(n_envs, n_steps):
    """Ours in two workers against theirs in one process or several, with one torch thread or two."""
    import torch
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    batch = n_envs * n_steps
    for kind in (DummyVecEnv, SubprocVecEnv):
        for threads in (1, 2):
            ours, theirs = (
                _ours("HalfCheetah-v5", n_envs, batch, workers=2),
                _theirs("HalfCheetah-v5", n_envs, batch, kind),
            )
            torch.set_num_threads(threads)
            what = (
                f"training HalfCheetah-v5, {n_envs} × {n_steps}, on two cores: workers=2 against sb3-contrib "
                f"({kind.__name__}, {threads} torch {'threads' if threads > 1 else 'thread'}: its fastest)"
            )
            yield faster(what, "≥ 4", *(_going_on(each, 2 * batch) for each in (ours, theirs)), 5, 2 * batch)
            ours.env.close()
            theirs.get_env().close()
    torch.set_num_threads(1)


# --- memory and start ------------------------------------------------------------------------------------

_OURS = (
    "from npTRPO import TRPO; TRPO('MlpPolicy', 'HalfCheetah-v5', n_envs=1, n_steps=1024, seed=0).learn(3072)"
)
_THEIRS = (
    "import torch; torch.set_num_threads(1); from sb3_contrib import TRPO; "
    "TRPO('MlpPolicy', 'HalfCheetah-v5', n_steps=1024, device='cpu', seed=0).learn(3072)"
)


_OURS_ON_TWO = """
from npTRPO import TRPO
if __name__ == "__main__":
    agent = TRPO("MlpPolicy", "HalfCheetah-v5", n_envs=16, n_steps=64, workers=2, seed=0)
    agent.learn(32 * 1024)
    agent.env.close()
"""
_THEIRS_ON_TWO = """
import torch
from sb3_contrib import TRPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv
if __name__ == "__main__":
    torch.set_num_threads(1)
    envs = make_vec_env("HalfCheetah-v5", 16, vec_env_cls=SubprocVecEnv)
    TRPO("MlpPolicy", envs, n_steps=64, device="cpu", seed=0).learn(8 * 1024)
    envs.close()
"""


def _largest_share(code):
    """The peak of the proportional set sizes of a script's processes together, in MB, on Linux."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "script.py"
        script.write_text(code)
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, "-W", "ignore", script], env=environment)
        largest = 0.0
        while process.poll() is None:
            largest = max(largest, sum(map(_share, _family(process.pid))))
            time.sleep(0.1)
    assert process.returncode == 0
    return largest


def _family(pid):
    """A process and its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _family(int(child))


def _share(pid):
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _run(code):
    """The numbers on the last line that a process of its own prints."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | threads)
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


def peak():
    """Megabytes of memory this process has had at most, on Linux; ru_maxrss may be its parent's."""
    [line] = [text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def memory():
    """Peak of whole processes, and what one very large update needs beyond its batch."""
    at_the_end = f"\nfrom pathlib import Path\n{inspect.getsource(peak)}\nprint(peak())"
    (a,), (b,) = _run(_OURS + at_the_end), _run(_THEIRS + at_the_end)
    yield Result("peak memory of training HalfCheetah-v5, over sb3-contrib's", a / b, "≤ 0.4", a, b, "MB")
    ours, theirs = (_largest_share(code) for code in (_OURS_ON_TWO, _THEIRS_ON_TWO))
    what = "peak of the sum of PSS, HalfCheetah-v5, 16 × 64: workers=2 over sb3-contrib's SubprocVecEnv"
    yield Result(what, ours / theirs, "≤ 0.7", ours, theirs, "MB")
    for steps in (5, 15):
        code = f"from tests.benchmarks.speed import large_update; print(*large_update({steps}))"
        beyond, batch = _run(code)
        what = f"memory of one update at 1,000,000 rows, {steps} CG steps, over its batch"
        yield Result(what, beyond / batch, "≤ 2", beyond, batch, "MB")


def large_update(cg_steps, n=1_000_000):
    """Run one update and return the growth of the process's peak, and the batch's size, in MB."""
    rng, policy, theta, observations = problem(n)
    actions = rng.standard_normal((n, 6), dtype=np.float32)
    advantages = rng.standard_normal(n, dtype=np.float32)
    batch = (observations.nbytes + actions.nbytes + advantages.nbytes) / 2**20
    before = peak()
    how = {"cg_preconditioner": "kronecker", "cg_max_steps": cg_steps, "cg_rtol": 0.0}
    update(policy, theta, observations, actions, advantages, **how)
    return peak() - before, batch


def start():
    """What importing the package and its agent costs beyond numpy and gymnasium."""
    code = "import time, numpy, gymnasium; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
    with_agent, bare = (
        statistics.median(_run(code.format(imported))[0] for _ in range(7))
        for imported in ("from npTRPO import TRPO", "import npTRPO")
    )
    what = "import npTRPO (with TRPO; and bare) beyond numpy and gymnasium"
    yield Result(what, with_agent, "≤ 0.3", with_agent, bare, "s")


GROUPS = {each.__name__: each for each in (fisher, updates, training, solving, cores, memory, start)}


def measure(groups):
    """Measure the groups named, print each line, and write results/speed.csv."""
    rows = [row for row in read_rows("speed.csv") if row["group"] not in groups]
    for group in groups:
        for result in GROUPS[group]():
            print(result, flush=True)
            rows.append({"group": group, **asdict(result)})
    rows.sort(key=lambda row: list(GROUPS).index(row["group"]))
    write_rows("speed.csv", rows, "python -m tests.benchmarks speed")


def table():
    """The results as Markdown."""
    lines = ["| what | to reach | measured |", "|---|---|---|"]
    rows = [(row["what"].strip(), row["target"], float(row["ratio"])) for row in read_rows("speed.csv")]
    return "\n".join([*lines, *(f"| {what} | {target} | {ratio:.2f} |" for what, target, ratio in rows)])
