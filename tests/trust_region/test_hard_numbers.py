"""Updates where the numbers are at their worst: no step leaves the trust region, no refusal a trace."""

import collections
import dataclasses
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from npTRPO import Policy
from npTRPO.trust_region import UpdateOutcome, update
from tests.policies.oracles import family_of
from tests.strategies import PolicyBatch, generators
from tests.trust_region.exact import exact
from tests.trust_region.oracles import in_float64

FEW, MANY = 10 * settings().max_examples, 40 * settings().max_examples  # 500 and 2,000 where the gate runs


class Hard(NamedTuple):
    """A batch, what is hard about it, and the options of its update."""

    batch: PolicyBatch
    what: frozenset[str]
    options: dict[str, Any]


def lying(family, factor):
    """Distributions whose Fisher information is too much by a factor: negative, zero, infinite or none."""

    def made(outputs):
        distribution = family(outputs)
        truth = distribution.fisher_product

        def product(v):
            told = truth(v)
            with np.errstate(all="ignore"):
                if isinstance(told, tuple):
                    return tuple(part * part.dtype.type(factor) for part in told)
                return told * told.dtype.type(factor)

        distribution.fisher_product = product
        return distribution

    return made


ADVANTAGES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "zero": lambda rng, n: np.zeros(n),
    "equal": lambda rng, n: np.full(n, rng.standard_normal()),
    "million to one": lambda rng, n: rng.standard_normal(n) * rng.choice([1.0, 1e6], n),
    "all of a million": lambda rng, n: 1e6 + rng.standard_normal(n),
    "one in many": lambda rng, n: np.where(np.arange(n) == rng.integers(n), 1e6, 0.0),
    "subnormal": lambda rng, n: rng.standard_normal(n) * 1e-310,
    "huge": lambda rng, n: rng.standard_normal(n) * 1e300,
    "not finite": lambda rng, n: rng.choice([np.nan, np.inf, -np.inf, 1.0], n),
}
ACTIONS = {
    "Discrete(1)": spaces.Discrete(1),
    "Discrete": spaces.Discrete(3),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiBinary": spaces.MultiBinary(2),
    "Box": spaces.Box(-np.inf, np.inf, (2,), np.float64),
}
FISHER = {"negative": -1.0, "zero": 0.0, "infinite": np.inf, "none": np.nan, "tiny": 1e-30}


def parameters(policy, rng, what, log_std):
    """θ: zero, as a policy begins, far from there, or saturated by biases of the last layer."""
    theta = policy.init(rng)
    if what == "zero":
        theta = np.zeros_like(theta)
    if what == "far":
        theta = theta + 3 * rng.standard_normal(theta.size)
    means = policy.n_parameters - policy.n_log_std
    if what == "saturated":
        n_outputs = policy.network.sizes[-1]
        theta[means - n_outputs : means] = rng.choice([-1e4, 0.0, 1e4], n_outputs)
    theta[means:] = log_std
    return theta


@st.composite
def hard_updates(draw):
    """All that makes numbers hard, in any combination, each about as often as the others."""
    rng = draw(generators())

    def one_of(choices):
        return choices[rng.integers(len(choices))]

    n = one_of([1, 2, 5, 11])
    dtype = one_of([np.float32, np.float64])
    action = one_of(list(ACTIONS))
    width = one_of([[], [3]])
    policy = Policy.for_spaces(
        spaces.Box(-np.inf, np.inf, (2,), np.float64),
        ACTIONS[action],
        width,
        one_of(["tanh", "relu"]),
    )
    at = one_of(["zero", "new", "far", "saturated"])
    log_std = one_of([0.0, math.log(1e-8), math.log(1e8)]) if action == "Box" else 0.0
    theta = parameters(policy, rng, at, log_std).astype(dtype)
    observations = rng.standard_normal((n, 2)) * one_of([1.0, 1e-20, 1e4])
    one_state = one_of([False, True])
    if one_state:
        observations[:] = observations[0]
    observations = observations.astype(dtype)
    actions = policy(theta, observations).sample(rng)
    if action != "Box" and one_of([False, True]):  # what the policy all but never does
        actions = np.zeros_like(actions)
    kind = one_of([*ADVANTAGES, *["normal", "million to one"] * 4])
    advantages = ADVANTAGES[kind](rng, n)
    fisher = one_of([*[None] * 15, *FISHER])
    if fisher:
        policy = dataclasses.replace(policy, family=lying(policy.family, FISHER[fisher]))
    power = int(rng.integers(-12, 2))
    options = {
        "target_kl": 10.0**power,
        "cg_damping": one_of([0.0, 0.1, 1e-8]),
        "cg_preconditioner": one_of(["kronecker", "identity"]),
        "sub_sampling_factor": one_of([1, 2, 100]),
        "line_search_max_iter": one_of([1, 10, 40]),
    }
    what = {f"δ 1e{power}", action, f"θ {at}", f"advantages {kind}", np.dtype(dtype).name}
    what |= {f"log σ {log_std:.0f}", options["cg_preconditioner"]}
    what |= {f"Fisher {fisher}"} if fisher else set()
    what |= {"one state"} if one_state else set()
    what |= {"one sample"} if n == 1 else set()
    return Hard(PolicyBatch(policy, theta, observations, actions, advantages), frozenset(what), options)


def check(hard, result):
    """KL ≤ δ and a surrogate that is no worse, to the rounding of float64, or not a bit changed."""
    batch, target_kl = hard.batch, hard.options["target_kl"]
    assert result.theta.dtype == batch.theta.dtype
    if result.outcome is not UpdateOutcome.IMPROVED:
        assert result.theta is batch.theta
        assert (result.kl, result.improvement) == (0.0, 0.0)
        return
    assert np.all(np.isfinite(result.theta))
    old, new = (in_float64(batch.policy.outputs(t, batch.observations)) for t in (batch.theta, result.theta))
    true = exact(family_of(batch.policy.action_space), old, new, batch.actions, batch.advantages)
    assert true.kl <= Decimal(target_kl) + Decimal(true.kl_rounding)
    assert true.gain >= -Decimal(true.gain_rounding)
    assert result.kl <= target_kl
    assert abs(Decimal(result.kl) - true.kl) <= Decimal(true.kl_rounding)
    assert result.improvement > 0
    assert abs(Decimal(result.improvement) - true.gain) <= Decimal(true.gain_rounding)


EVERYTHING = {
    *(f"θ {at}" for at in ("zero", "new", "far", "saturated")),
    *(f"advantages {kind}" for kind in ADVANTAGES),
    *(f"Fisher {kind}" for kind in FISHER),
    *(f"δ 1e{power}" for power in range(-12, 2)),
    *("kronecker", "identity", "float32", "float64", "log σ -18", "log σ 0", "log σ 18"),
    *("one state", "one sample", *ACTIONS),
}


@pytest.mark.parametrize("cases", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_hard_updates_keep_to_the_trust_region_or_change_no_bit(cases):
    reached, outcomes = collections.Counter[str](), collections.Counter[UpdateOutcome]()

    @settings(max_examples=cases)
    @given(hard_updates())
    def every(hard):
        arrays = hard.batch[1:]
        before = [array.tobytes() for array in arrays]
        result = update(*hard.batch, **hard.options)
        assert [array.tobytes() for array in arrays] == before
        check(hard, result)
        reached.update(hard.what)
        outcomes[result.outcome] += 1

    every()
    assert set(reached) == EVERYTHING
    assert set(outcomes) == set(UpdateOutcome) - {UpdateOutcome.MEASURED}  # which is learn's
    assert outcomes[UpdateOutcome.IMPROVED] > cases / 10
