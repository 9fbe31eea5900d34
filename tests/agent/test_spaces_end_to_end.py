"""Every supported pair of spaces is learned and evaluated; all others are refused."""

import gymnasium
import numpy as np
import pytest
import scipy.stats
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from npTRPO import TRPO, evaluate_policy
from npTRPO.agent import experience
from npTRPO.sampling.rollout import Sampler
from npTRPO.trust_region import PolicyObjective
from tests.space_environments import ACTIONS, PAIRS, Matching, by_chance, matching_id

QUICK = {"n_envs": 8, "n_steps": 16, "net_arch": (4,), "gamma": 0.5, "target_kl": 0.15, "seed": 0}


def is_finite(space):
    return not isinstance(space, spaces.Box)


def tasks(observation, action, n=4):
    """A vector environment whose parts can be looked into."""
    makers = [lambda: Matching(observation, action) for _ in range(n)]
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


@pytest.mark.parametrize(("observation", "action"), PAIRS)
def test_every_pair_of_spaces_is_learned_and_evaluated(observation, action):
    """The environment itself raises an error for an action that isn't in its space."""
    env_id, space = matching_id(observation, action), ACTIONS[action]
    agent = TRPO("MlpPolicy", env_id, log_std_init=-0.5, **QUICK)
    before, _ = evaluate_policy(agent, env_id, 16, deterministic=False, seed=1)
    agent.learn(1280)
    after, _ = evaluate_policy(agent, env_id, 16, deterministic=False, seed=1)
    assert 0 <= before < after <= 1
    assert after > before + 0.3 * (1 - before)
    if is_finite(space):
        assert after > by_chance(space) + 0.3 * (1 - by_chance(space))


# --- actions outside the bounds --------------------------------------------------------------------------

BOUNDED = [name for name, space in ACTIONS.items() if isinstance(space, spaces.Box) and "open" not in name]


def rounded(space, actions):
    """Clipped to the bounds, and for integers rounded to the nearest even one at ties."""
    clipped = np.minimum(np.maximum(actions, space.low), space.high)
    return (
        np.array([round(x) for x in clipped.ravel()]).reshape(clipped.shape)
        if space.dtype.kind == "i"
        else clipped
    )


@pytest.mark.parametrize("action", BOUNDED)
def test_the_environment_gets_clipped_actions_and_the_batch_those_that_were_drawn_with_their_density(action):
    env, space = tasks("box", action, n=2), ACTIONS[action]
    options = {"net_arch": (), "dtype": "float64", "log_std_init": 1.5, "rescale_actions": False}
    agent = TRPO("MlpPolicy", env, seed=0, **options)
    batch = Sampler(env, agent.policy, 0).collect(agent.theta, 50, None, np.random.default_rng(0))
    drawn = batch.actions.reshape(50, 2, *space.shape)
    assert np.mean((drawn < space.low) | (drawn > space.high)) > 0.3
    for i, part in enumerate(env.envs):
        np.testing.assert_array_equal(part.seen, rounded(space, drawn[:, i]).astype(space.dtype))
    rows, drawn = batch.observations.reshape(100, -1), batch.actions.reshape(100, -1)
    n = drawn.shape[1]
    weights, biases = agent.theta[: 3 * n].reshape(3, n), agent.theta[3 * n : 4 * n]
    density = scipy.stats.norm.logpdf(drawn, rows @ weights + biases, np.exp(1.5)).sum(axis=1)
    found = agent.policy(agent.theta, rows).log_prob(drawn)
    np.testing.assert_allclose(found, density, rtol=1e-12)


def test_an_update_learns_from_the_actions_as_they_were_drawn(monkeypatch):
    """Its gradient is that of the surrogate made of SciPy's densities at them, and not at clipped ones."""
    given = {}

    def spy(policy, theta, observations, actions, advantages, **options):
        given.update(theta=theta, rows=observations, actions=actions, advantages=advantages)
        return PolicyObjective(policy, theta, observations, actions, advantages, **options)

    monkeypatch.setattr(experience, "PolicyObjective", spy)
    env = tasks("box", "box", n=2)
    agent = TRPO(
        "MlpPolicy",
        env,
        net_arch=(),
        seed=0,
        dtype="float64",
        log_std_init=1.0,
        n_steps=40,
        normalize_observations=False,
    )
    [record] = agent.updates(80)
    rows, advantages = given["rows"], given["advantages"]

    def norm_of_gradient(actions):
        def surrogate(theta):
            mean, log_std = rows @ theta[:6].reshape(3, 2) + theta[6:8], theta[8:]
            log_prob = scipy.stats.norm.logpdf(actions, mean, np.exp(log_std)).sum(axis=1)
            return log_prob @ advantages / len(rows)  # at the old θ its gradient is the ratio's

        steps = 1e-6 * np.eye(10)
        theta = given["theta"]
        return np.linalg.norm([(surrogate(theta + h) - surrogate(theta - h)) / 2e-6 for h in steps])

    drawn = given["actions"]
    assert np.abs(drawn).max() > 3
    assert record.update.gradient_norm == pytest.approx(norm_of_gradient(drawn), rel=1e-7)
    assert record.update.gradient_norm != pytest.approx(norm_of_gradient(np.clip(drawn, -1, 1)), rel=0.05)


# --- spaces that aren't supported ------------------------------------------------------------------------

REFUSED = {
    "Graph": (
        spaces.Graph(spaces.Box(-1, 1, (2,)), spaces.Discrete(2)),
        "encode the graph as a Box of fixed size",
    ),
    "Sequence": (spaces.Sequence(spaces.Discrete(2)), "pad the sequence to a Box of fixed shape"),
    "Text": (spaces.Text(5), "encode the text as a MultiDiscrete of fixed length"),
    "OneOf": (spaces.OneOf((spaces.Discrete(2), spaces.Box(-1, 1, (2,)))), "choose one of its spaces"),
}
NESTED = {
    "as it is": lambda space: space,
    "in a Dict": lambda space: spaces.Dict({"known": spaces.Discrete(2), "unknown": space}),
    "in a Dict in a Tuple": lambda space: spaces.Tuple((spaces.Dict({"unknown": space}),)),
}


class Strange(gymnasium.Env):
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


@pytest.mark.parametrize("nesting", NESTED)
@pytest.mark.parametrize("kind", REFUSED)
def test_an_observation_space_that_is_not_supported_is_refused_with_a_way_out(kind, nesting):
    space, way_out = REFUSED[kind]
    env = Strange(NESTED[nesting](space), spaces.Discrete(2))
    with pytest.raises(NotImplementedError) as caught:
        TRPO("MlpPolicy", env)
    said = str(caught.value)
    assert f"{kind} observation spaces aren't supported" in said
    assert str(space) in said
    assert "supported are Box, Discrete, MultiDiscrete, MultiBinary, Dict, Tuple" in said
    assert f"A way out: {way_out} in a gymnasium.ObservationWrapper" in said
