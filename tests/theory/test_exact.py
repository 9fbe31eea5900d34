from typing import Any

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings

from npTRPO import FisherOperator
from npTRPO.theory import (
    TabularMDP,
    mdp_from_gymnasium,
    penalised_run,
    penalised_step,
    practical_run,
    practical_step,
    random_mdp,
    tabular_policy,
    value_iteration,
)
from npTRPO.theory.exact import ExactBatch, local_approximation, penalty, table
from npTRPO.trust_region import UpdateOutcome, update
from tests.strategies import generators, instances, mdps
from tests.theory.oracles import random_policy

FROZEN_LAKE = mdp_from_gymnasium("FrozenLake-v1", discount=0.99)


def lower_bound(mdp, old, new):
    """The objective that E12 guarantees of a new policy."""
    now = mdp.evaluate(old)
    kl = np.max(np.sum(old * np.log(old / new), axis=1))
    return local_approximation(now, new, mdp.discount) - penalty(now, mdp.discount) * float(kl)


@given(mdps(), generators())
@settings(max_examples=10)
def test_e12_penalised_steps_never_lower_the_objective(mdp, rng):
    policy = random_policy(mdp, rng)
    for _ in range(3):
        now = mdp.evaluate(policy)
        size = np.max(np.abs(now.values))
        step = penalised_step(mdp, policy)
        objective = mdp.evaluate(step.policy).objective
        assert step.bound >= now.objective - 1e-12 * size
        assert objective >= step.bound - 1e-12 * size
        if np.any(step.policy == 0):  # a jump to the greedy policy, without a discount
            break
        policy = step.policy


@given(mdps(max_states=3, max_actions=3, max_discount=0.95), generators())
@settings(max_examples=8)
def test_e12_no_other_policy_has_a_higher_bound(mdp, rng):
    old = random_policy(mdp, rng)
    step = penalised_step(mdp, old)
    size = np.max(np.abs(mdp.evaluate(old).values))
    if step.max_kl < np.inf:
        assert step.bound == pytest.approx(lower_bound(mdp, old, step.policy), abs=1e-12 * size)
    for scale in (1e-5, 1e-3, 1e-2, 1e-1):
        noise = np.exp(scale * rng.standard_normal((20, *old.shape)))
        for others in (step.policy * noise, old * noise):
            others /= np.sum(others, axis=-1, keepdims=True)
            best = max(
                (lower_bound(mdp, old, other) for other in others if np.all(other > 0)), default=-np.inf
            )
            assert best <= step.bound + 1e-10 * size


def test_e12_the_inner_maximum_is_scipys():
    mdp, rng = random_mdp(np.random.default_rng(1), 2, 3, discount=0.3), np.random.default_rng(0)
    old = random_policy(mdp, rng)

    def objective(x):
        logits = x.reshape(2, 3)
        new = np.exp(logits) / np.sum(np.exp(logits), axis=1, keepdims=True)
        return -lower_bound(mdp, old, new)

    found = scipy.optimize.minimize(
        objective,
        np.log(old).ravel(),
        method="Nelder-Mead",
        options={"maxiter": 20_000, "xatol": 1e-9, "fatol": 1e-14},
    )
    assert penalised_step(mdp, old).bound == pytest.approx(-found.fun, abs=1e-7)
    assert penalised_step(mdp, old).bound >= -found.fun - 1e-13


def test_without_a_discount_one_penalised_step_is_optimal():
    mdp = random_mdp(np.random.default_rng(2), 4, 3, discount=0.0)
    step = penalised_step(mdp, np.full((4, 3), 1 / 3))
    assert step.bound == pytest.approx(value_iteration(mdp).objective)
    assert step.max_kl == np.inf


def test_a_policy_that_can_not_be_improved_stays():
    mdp = TabularMDP(np.full((2, 2, 2), 0.5), np.ones((2, 2)), np.full(2, 0.5), 0.9)
    old = np.array([[0.3, 0.7], [0.5, 0.5]])
    step = penalised_step(mdp, old)
    np.testing.assert_allclose(step.policy, old, rtol=1e-12)
    assert step.max_kl <= 1e-15


def test_a_state_that_is_almost_never_visited_is_not_worth_any_penalty():
    start = np.array([1.0, 1e-200])
    mdp = TabularMDP(np.eye(2)[:, None].repeat(2, axis=1), np.array([[1.0, 1], [0, 9]]), start, 0.5)
    old = np.full((2, 2), 0.5)
    step = penalised_step(mdp, old)
    np.testing.assert_array_equal(step.policy, old)
    assert (step.bound, step.max_kl) == (mdp.evaluate(old).objective, 0)


def test_a_penalised_step_needs_positive_probabilities():
    mdp = random_mdp(np.random.default_rng(0), 2, 2, discount=0.5)
    with pytest.raises(ValueError, match="every action a positive probability"):
        penalised_step(mdp, np.eye(2))


@given(instances())
@settings(max_examples=15)
def test_e15_a_practical_step_stays_within_the_region_and_gains(instance):
    found = practical_step(instance.mdp, instance.policy, instance.theta, target_kl=instance.target_kl)
    new = table(instance.policy, found.theta)
    kl = float(
        instance.old.visitation @ np.sum(instance.old.policy * np.log(instance.old.policy / new), axis=1)
    )
    assert kl <= instance.target_kl * (1 + 1e-12)
    if found.outcome is UpdateOutcome.IMPROVED:
        assert local_approximation(instance.old, new, instance.gamma) > instance.old.objective
    else:
        assert found.theta is instance.theta


@given(instances())
@settings(max_examples=10)
def test_a_weighted_batch_updates_as_a_batch_with_repeated_rows(instance):
    batch, policy, theta = instance.batch, instance.policy, instance.theta
    counts = instance.rng(99).integers(1, 4, len(batch.actions))
    options: dict[str, Any] = {"target_kl": instance.target_kl, "cg_rtol": 1e-10}
    arrays = (batch.observations, batch.actions, batch.advantages)
    repeated = update(policy, theta, *(np.repeat(array, counts, axis=0) for array in arrays), **options)
    weighted = update(policy, theta, *arrays, weights=counts / np.sum(counts), **options)
    assert weighted.outcome is repeated.outcome
    np.testing.assert_allclose(weighted.theta, repeated.theta, rtol=0, atol=1e-7)
    assert weighted.kl == pytest.approx(repeated.kl, abs=1e-8)
    assert weighted.entropy == pytest.approx(repeated.entropy)


def test_sub_sampling_takes_the_weights_of_the_states_that_it_takes():
    mdp = random_mdp(np.random.default_rng(4), 4, 2, discount=0.9)
    policy = tabular_policy(mdp)
    theta = np.random.default_rng(1).standard_normal(policy.n_parameters)
    batch = ExactBatch.of(policy, mdp.evaluate(table(policy, theta)))
    # Every second pair is one pair per state, whose weights have to be made to sum to one again.
    options: dict[str, Any] = {"cg_damping": 0.0, "cg_rtol": 1e-10, "line_search_max_iter": 1}
    arrays = (batch.observations, batch.actions, batch.advantages)
    found = update(
        *(policy, theta, *arrays), weights=batch.weights, sub_sampling_factor=2, target_kl=1e-6, **options
    )
    chosen = batch.weights[::2] / np.sum(batch.weights[::2])
    curvature = FisherOperator(policy, theta, np.eye(4), weights=chosen)
    assert found.cg is not None
    scale = np.sqrt(2e-6 / curvature.quadratic_form(found.cg.x))
    assert found.step_norm == pytest.approx(scale * np.linalg.norm(found.cg.x), rel=1e-9)


def test_on_frozen_lake_the_practical_algorithm_reaches_the_optimum():
    policy = tabular_policy(FROZEN_LAKE)
    best = value_iteration(FROZEN_LAKE)
    options: dict[str, Any] = {"target_kl": 0.05, "cg_damping": 1e-5, "cg_max_steps": 100}
    run = practical_run(FROZEN_LAKE, policy, np.zeros(policy.n_parameters), 60, **options)
    assert best.objective - run.objectives[-1] <= best.gap + 1e-6
    assert np.all(np.diff(run.objectives) >= -1e-12)
    # The best action of every state that matters: the same value, whatever the ties.
    assert FROZEN_LAKE.evaluate(run.policy).objective == pytest.approx(run.objectives[-1], abs=1e-12)


def test_the_guarantee_costs_almost_all_of_the_progress():
    policy = tabular_policy(FROZEN_LAKE)
    theta = np.zeros(policy.n_parameters)
    guarded = penalised_run(FROZEN_LAKE, table(policy, theta), 5)
    practical = practical_run(FROZEN_LAKE, policy, theta, 5, cg_damping=1e-5, cg_max_steps=100)
    gains = [run.objectives[-1] - run.objectives[0] for run in (guarded, practical)]
    assert 0 < 1000 * gains[0] < gains[1]
    assert np.all(np.diff(guarded.objectives) > 0)


def test_a_practical_run_ends_where_an_update_changes_nothing():
    mdp = TabularMDP(np.full((2, 2, 2), 0.5), np.ones((2, 2)), np.full(2, 0.5), 0.5)
    policy = tabular_policy(mdp)
    run = practical_run(mdp, policy, np.zeros(policy.n_parameters), 10)
    assert len(run.objectives) == 1
