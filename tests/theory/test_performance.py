import numpy as np
import pytest
from hypothesis import given, settings

from npTRPO.autograd import value_and_grad
from npTRPO.sampling.advantages import td_residuals
from npTRPO.theory import TabularMDP
from npTRPO.theory.exact import local_approximation
from npTRPO.theory.performance import discounted_sum
from tests.strategies import generators, instances, mdps
from tests.theory.oracles import paths, random_policy

SMALL = {"max_states": 3, "max_actions": 2, "max_discount": 0.3}
STEPS = 4


def along_paths(mdp, policy, worth):
    """Σ_{t<4} γᵗ f(s_t, a_t, s_{t+1}) on average over all paths; what is left out is γ⁴ max|f| / (1 − γ)."""
    return sum(
        path.probability
        * sum(
            mdp.discount**t * worth(path.states[t], path.actions[t], path.states[t + 1]) for t in range(STEPS)
        )
        for path in paths(mdp, policy, STEPS)
    )


@given(mdps(), generators())
def test_e1_e5_discounted_sums_are_the_solutions_of_their_systems(mdp, rng):
    now = mdp.evaluate(random_policy(mdp, rng))
    inverse = np.linalg.inv(np.eye(mdp.n_states) - mdp.discount * now.transition)
    summed = discounted_sum(now.transition, mdp.start, mdp.discount)
    np.testing.assert_allclose(summed, mdp.start @ inverse, rtol=0, atol=1e-12 / (1 - mdp.discount))


@given(mdps(**SMALL), generators())
@settings(max_examples=15)
def test_e2_differences_telescope_along_all_paths(mdp, rng):
    values, gamma = rng.standard_normal(mdp.n_states), mdp.discount
    total = along_paths(mdp, random_policy(mdp, rng), lambda s, a, t: gamma * values[t] - values[s])
    assert abs(-total - mdp.start @ values) <= gamma**STEPS * np.max(np.abs(values)) + 1e-12


@given(mdps(**SMALL), generators())
@settings(max_examples=15)
def test_e3_advantages_add_up_along_all_paths(mdp, rng):
    old, new = mdp.evaluate(random_policy(mdp, rng)), mdp.evaluate(random_policy(mdp, rng))
    total = along_paths(mdp, new.policy, lambda s, a, t: old.advantages[s, a])
    left_out = mdp.discount**STEPS * np.max(np.abs(old.advantages)) / (1 - mdp.discount)
    assert abs(new.objective - old.objective - total) <= left_out + 1e-12


@given(instances())
@settings(max_examples=15)
def test_e7_the_surrogate_is_linear_in_the_new_policy(instance):
    halfway = (instance.old.policy + instance.new.policy) / 2
    ends = local_approximation(instance.old, instance.new.policy, instance.gamma)
    size = np.max(np.abs(instance.old.values)) / (1 - instance.gamma)
    middle = local_approximation(instance.old, halfway, instance.gamma)
    assert middle == pytest.approx((ends + instance.old.objective) / 2, abs=1e-12 * size)


@given(instances())
@settings(max_examples=15)
def test_e8_nothing_but_the_first_order_agrees(instance):
    """Away from θ the two differ as E13 allows, and to second order in the step."""
    direction = instance.rng(108).standard_normal(instance.theta.size)
    errors = []
    for t in (1e-2, 5e-3):
        table = instance.table(instance.theta + t * direction)
        errors.append(
            local_approximation(instance.old, table, instance.gamma) - instance.mdp.evaluate(table).objective
        )
    size = np.max(np.abs(instance.old.values)) / (1 - instance.gamma) ** 2
    assert abs(errors[0]) <= 10 * size * 1e-4 * direction @ direction
    assert abs(errors[1] - errors[0] / 4) <= 50 * size * 1e-6 * np.linalg.norm(direction) ** 3 + 1e-13 * size


@given(instances())
def test_e10_at_the_old_parameters_it_is_the_mean_advantage_and_its_gradient_the_score(instance):
    value, gradient = value_and_grad(instance.surrogate)(instance.theta)
    assert value == pytest.approx(float(instance.batch.weights @ instance.batch.advantages), abs=1e-14)
    expected = instance.scores.T @ (instance.batch.weights * instance.batch.advantages)
    size = 1e-300 + np.max(np.abs(instance.scores)) * np.max(np.abs(instance.batch.advantages))
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-13 * size)


def test_e4_a_residual_is_the_advantage_where_transitions_are_certain():
    ring = np.zeros((3, 2, 3))
    ring[[0, 1, 2], 0, [1, 2, 0]] = ring[[0, 1, 2], 1, [2, 0, 1]] = 1
    mdp = TabularMDP(ring, np.arange(6.0).reshape(3, 2), np.full(3, 1 / 3), 0.9)
    now = mdp.evaluate(np.full((3, 2), 0.5))
    after = np.argmax(ring, axis=2)
    residuals = td_residuals(
        mdp.reward, now.values[:, None] + np.zeros((3, 2)), now.values[after], np.zeros((3, 2), bool), 0.9
    )
    np.testing.assert_allclose(residuals, now.advantages, rtol=0, atol=1e-13 * np.max(now.values))
