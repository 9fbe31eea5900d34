import numpy as np
import pytest
from hypothesis import given

from npTRPO.theory import TabularMDP
from npTRPO.theory.checks import Estimate, threshold
from npTRPO.theory.simulation import all_paths, draw, sample_visitation, simulate
from tests.strategies import generators, mdps
from tests.theory.oracles import ESTIMATES, paths, random_policy

SMALL = {"max_states": 3, "max_actions": 2}


def assert_frequencies(indices, probabilities):
    """Each index is as frequent as it is probable, and those that are impossible don't occur."""
    counts = np.bincount(indices, minlength=probabilities.size)
    p = probabilities.ravel()
    assert np.all(counts[p == 0] == 0)
    spread = np.maximum(p, 1 - p)
    estimate = Estimate(counts / len(indices), p, p * (1 - p), spread, len(indices))
    assert estimate.deviation <= threshold(ESTIMATES)


@given(mdps(), generators())
def test_steps_are_distributed_as_policy_and_transitions_say(mdp, rng):
    policy = random_policy(mdp, rng)
    path = simulate(mdp, policy, 3, 400, rng)
    states = mdp.start
    for t in range(3):
        pairs = states[:, None] * policy
        both = pairs[:, :, None] * mdp.transition
        here, action, after = path.states[t], path.actions[t], path.states[t + 1]
        index = (here * mdp.n_actions + action) * mdp.n_states + after
        assert_frequencies(index, both)
        np.testing.assert_array_equal(path.rewards[t], mdp.reward[here, action])
        states = np.sum(both, axis=(0, 1))


@given(mdps(max_discount=0.9), generators())
def test_e5_transitions_are_drawn_from_the_visitation(mdp, rng):
    policy = random_policy(mdp, rng)
    sample = sample_visitation(mdp, policy, 400, rng)
    expected = mdp.evaluate(policy).visitation[:, None, None] * policy[:, :, None] * mdp.transition
    index = (sample.states * mdp.n_actions + sample.actions) * mdp.n_states + sample.next_states
    # The solved visitation of a state that is never reached may be a rounded zero.
    assert_frequencies(index, np.where(expected < 1e-15, 0, expected))


@given(mdps(**SMALL), generators())
def test_all_paths_are_all_there_are(mdp, rng):
    policy, steps = random_policy(mdp, rng), 2
    found = all_paths(mdp, policy, steps)
    ours = {
        (tuple(map(int, s)), tuple(map(int, a))): p
        for s, a, p in zip(found.states.T, found.actions.T, found.probabilities, strict=True)
    }
    assert len(ours) == len(found.probabilities)
    for path in paths(mdp, policy, steps):
        given_first = mdp.start[path.states[0]] * policy[path.states[0], path.actions[0]]
        mine = ours.get((path.states, path.actions), 0.0)
        assert mine * given_first == pytest.approx(path.probability, rel=1e-14, abs=1e-300)


def test_a_draw_never_takes_what_has_no_probability():
    rows = np.tile([0.0, 0.3, 0.0, 0.7, 0.0], (10_000, 1))
    assert set(draw(rows, np.random.default_rng(0))) == {1, 3}


def test_the_same_seed_simulates_the_same():
    mdp = TabularMDP(np.full((2, 2, 2), 0.5), np.eye(2), np.full(2, 0.5), 0.5)
    first, second = (simulate(mdp, np.full((2, 2), 0.5), 5, 7, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.states, second.states)
    np.testing.assert_array_equal(first.rewards, second.rewards)
