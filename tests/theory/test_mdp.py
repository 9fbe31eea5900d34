from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npTRPO.theory import TabularMDP, mdp_from_gymnasium, random_mdp, simulate, tabular_policy
from npTRPO.theory.checks import Estimate, threshold
from npTRPO.theory.exact import table
from tests.strategies import generators, instances, mdps
from tests.theory.oracles import ESTIMATES, paths, random_policy

SMALL = {"max_states": 3, "max_actions": 2, "max_discount": 0.3}


@given(mdps(**SMALL), generators())
@settings(max_examples=15)
def test_e1_the_objective_is_the_sum_over_all_paths(mdp, rng):
    policy, steps = random_policy(mdp, rng), 4
    total = sum(
        path.probability
        * sum(mdp.discount**t * mdp.reward[path.states[t], path.actions[t]] for t in range(steps))
        for path in paths(mdp, policy, steps)
    )
    left_out = mdp.discount**steps * np.max(np.abs(mdp.reward)) / (1 - mdp.discount)
    assert abs(mdp.evaluate(policy).objective - total) <= left_out + 1e-12


@given(mdps(**SMALL), generators())
@settings(max_examples=15)
def test_e5_visitation_counts_states_along_all_paths(mdp, rng):
    policy, steps, counted = random_policy(mdp, rng), 4, np.zeros(mdp.n_states)
    for path in paths(mdp, policy, steps):
        for t, state in enumerate(path.states[:steps]):
            counted[state] += path.probability * (1 - mdp.discount) * mdp.discount**t
    visitation = mdp.evaluate(policy).visitation
    assert np.all(np.abs(visitation - counted) <= mdp.discount**steps + 1e-12)
    assert np.all(visitation >= 0)


@given(mdps(), generators())
def test_values_and_action_values_meet_their_bellman_equations(mdp, rng):
    now = mdp.evaluate(random_policy(mdp, rng))
    size = 1 + np.max(np.abs(now.values))
    np.testing.assert_allclose(np.sum(now.policy * now.action_values, axis=1), now.values, atol=1e-13 * size)
    next_values = np.einsum("sat,t->sa", mdp.transition, now.values)
    np.testing.assert_allclose(
        now.action_values, mdp.reward + mdp.discount * next_values, rtol=0, atol=1e-13 * size
    )
    np.testing.assert_allclose(np.sum(now.policy * now.advantages, axis=1), 0, atol=1e-13 * size)
    np.testing.assert_allclose(np.sum(now.transition, axis=1), 1, atol=1e-13)


@given(mdps(), generators())
@settings(max_examples=20)
def test_e1_simulated_returns_agree_with_the_values(mdp, rng):
    policy, steps, n = random_policy(mdp, rng), 6, 200
    simulated = simulate(mdp, policy, steps, n, rng)
    weights = mdp.discount ** np.arange(steps)
    now = mdp.evaluate(policy)
    # What is missing of each return is worth V of the last state, discounted.
    returns = weights @ simulated.rewards + mdp.discount**steps * now.values[simulated.states[-1]]
    bound = np.sum(weights) * 2 * np.max(np.abs(mdp.reward)) + 2 * np.max(np.abs(now.values))
    # The variance isn't known exactly, but it is at most bound² / 4.
    estimate = Estimate(float(np.mean(returns)), now.objective, bound**2 / 4, bound, n)
    assert estimate.deviation <= threshold(ESTIMATES)


@given(instances())
@settings(max_examples=15)
def test_e8_the_policy_gradient_is_the_gradient_of_the_objective_in_every_direction(instance):
    gradient = instance.mdp.policy_gradient(instance.table, instance.theta)
    steps = instance.theta + 1e-100j * np.eye(instance.theta.size)
    slopes = [instance.mdp.evaluate(instance.table(theta)).objective.imag / 1e-100 for theta in steps]
    size = np.max(np.abs(instance.old.values)) / (1 - instance.gamma)
    np.testing.assert_allclose(gradient, slopes, rtol=0, atol=1e-12 * size)


def test_a_tabular_policy_reaches_any_table_with_full_support():
    mdp = random_mdp(np.random.default_rng(0), 4, 3)
    wanted = random_policy(mdp, np.random.default_rng(1))
    policy = tabular_policy(mdp)
    theta = np.concatenate([np.log(wanted).ravel(), np.zeros(3)])
    np.testing.assert_allclose(table(policy, theta), wanted, rtol=1e-14)


def test_arrays_are_copied_and_frozen():
    transition = np.ones((1, 1, 1))
    mdp = TabularMDP(transition, np.zeros((1, 1)), np.ones(1), 0.5)
    transition[:] = 7
    assert mdp.transition.item() == 1
    with pytest.raises(ValueError, match="read-only"):
        mdp.reward[0, 0] = 1


GOOD: dict[str, Any] = {
    "transition": np.full((2, 1, 2), 0.5),
    "reward": np.zeros((2, 1)),
    "start": np.array([1.0, 0.0]),
    "discount": 0.9,
}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("transition", np.ones((2, 1, 3)), r"transition must have shape \(S, A, S\).*\(2, 1, 3\)"),
        ("transition", np.ones((2, 2)), r"transition must have shape \(S, A, S\)"),
        ("transition", np.ones((0, 1, 0)), r"S, A ≥ 1"),
        (
            "transition",
            np.full((2, 1, 2), 0.6),
            r"transition must hold probabilities.*sum at \(0, 0\) is 1.2",
        ),
        ("transition", np.array([[[1.5, -0.5]], [[0.5, 0.5]]]), "smallest is -0.5"),
        ("transition", np.full((2, 1, 2), np.nan), "transition must be finite"),
        ("reward", np.zeros(2), r"reward must have shape \(2, 1\)"),
        ("reward", np.full((2, 1), np.inf), "reward must be finite"),
        ("start", np.zeros(2), "start must hold probabilities"),
        ("start", np.ones(1), r"start must have shape \(2,\)"),
        ("discount", 1.0, "discount must be at least 0 and less than 1, not 1.0"),
        ("discount", -0.1, "discount"),
        ("discount", float("nan"), "discount"),
    ],
)
def test_what_is_no_mdp_is_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        TabularMDP(**{**GOOD, name: value})


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.ones((1, 2)), r"shape \(S, A\) = \(2, 1\)"),
        (np.full((2, 1), 0.9), "policy must hold probabilities"),
        (np.full((2, 1), np.nan), "policy must hold probabilities"),
    ],
)
def test_what_is_no_policy_is_refused(policy, message):
    mdp = TabularMDP(**GOOD)
    with pytest.raises(ValueError, match=message):
        mdp.evaluate(policy)
    with pytest.raises(ValueError, match=message):
        simulate(mdp, policy, 1, 1, np.random.default_rng(0))


def test_a_simulation_needs_a_step_and_a_trajectory():
    mdp, policy = TabularMDP(**GOOD), np.ones((2, 1))
    for steps, n in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least one step"):
            simulate(mdp, policy, steps, n, np.random.default_rng(0))


@given(
    st.integers(1, 5), st.integers(1, 4), st.sampled_from(["dense", "sparse", "deterministic"]), generators()
)
def test_random_mdps_are_of_their_kind(n, a, kind, rng):
    mdp = random_mdp(rng, n, a, kind=kind)
    reachable = np.count_nonzero(mdp.transition, axis=-1)
    assert mdp.reward.shape == (n, a)
    assert np.all(reachable <= {"dense": n, "sparse": 2, "deterministic": 1}[kind])
    assert 0 <= mdp.discount <= 0.99
    assert not mdp.absorbing.any() or kind != "dense" or n == 1


def test_random_mdps_with_an_absorbing_state_have_one():
    mdp = random_mdp(np.random.default_rng(3), 4, 2, kind="absorbing", discount=0.5)
    np.testing.assert_array_equal(mdp.absorbing, [False, False, False, True])
    assert mdp.start[-1] == 0
    assert mdp.discount == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "odd"}, "kind must be one of dense, sparse"),
        ({"n_states": 0}, "at least 1 states"),
        ({"n_actions": 0}, "1 action"),
        ({"n_states": 1, "kind": "absorbing"}, "at least 2 states"),
    ],
)
def test_random_mdps_that_can_not_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        random_mdp(np.random.default_rng(0), **{"n_states": 2, "n_actions": 2, **arguments})


def _toy(name):
    """The newest version of one of Gymnasium's toy texts."""
    versions = [spec.version for spec in gymnasium.registry.values() if spec.name == name]
    return f"{name}-v{max(version for version in versions if version is not None)}"


TOYS = [(_toy("FrozenLake"), {}), (_toy("FrozenLake"), {"is_slippery": False}), (_toy("CliffWalking"), {})]


@pytest.mark.parametrize(("name", "options"), [*TOYS, (_toy("Taxi"), {})])
def test_gymnasiums_tables_are_read_entry_by_entry(name, options):
    env: Any = gymnasium.make(name, **options).unwrapped
    mdp = mdp_from_gymnasium(name, discount=0.9, **options)
    n = env.observation_space.n
    assert mdp.transition.shape == (n + 1, env.action_space.n, n + 1)
    assert mdp.absorbing[n]
    rng = np.random.default_rng(0)
    for s, a in rng.integers((n, mdp.n_actions), size=(200, 2)):
        after, reward = np.zeros(n + 1), 0.0
        for probability, state, r, terminated in env.P[int(s)][int(a)]:
            after[n if terminated else state] += probability
            reward += probability * r
        np.testing.assert_allclose(mdp.transition[s, a], after, rtol=0, atol=1e-15)
        assert mdp.reward[s, a] == pytest.approx(reward, abs=1e-12)
    np.testing.assert_array_equal(mdp.start, [*env.initial_state_distrib, 0])


def test_an_environment_may_be_given_itself():
    env = gymnasium.make(_toy("FrozenLake"), is_slippery=False)
    ours = mdp_from_gymnasium(env, discount=0.9)
    assert np.count_nonzero(ours.transition) == 17 * 4
    env.reset(seed=0)  # it hasn't been closed
    env.close()


def test_an_environment_without_a_table_is_refused():
    with pytest.raises(TypeError, match=r"no table of its transitions.*FrozenLake"):
        mdp_from_gymnasium("CartPole-v1", discount=0.9)
