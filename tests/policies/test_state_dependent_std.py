"""Gaussians whose deviations depend on the state (E58)."""

import gymnasium
import numpy as np
import pytest
import scipy.stats
from gymnasium import spaces

from npTRPO import TRPO, DiagGaussian, FisherOperator, Policy
from npTRPO.autograd import hessian
from npTRPO.trust_region import conjugate_gradient, mean_kl
from tests.environments import Target, registered
from tests.policies.oracles import complex_jacobian
from tests.policies.own import residual_block

PLANE, ACTION = spaces.Box(-1, 1, (2,)), spaces.Box(-2, 2, (3,))


def policy_for(**options):
    return Policy.for_spaces(PLANE, ACTION, **{"net_arch": (4,), "state_dependent_std": True, **options})


def moved(policy, seed=0, size=0.5):
    rng = np.random.default_rng(seed)
    return policy.init(rng) + size * rng.standard_normal(policy.n_parameters), rng.standard_normal((6, 2))


@pytest.mark.parametrize("log_std_init", [0.0, -1.5, 1.9, -19.0])
def test_a_new_policy_has_the_log_sigma_that_was_asked_for_in_every_state(log_std_init):
    policy = policy_for(log_std_init=log_std_init)
    theta = policy.init(np.random.default_rng(0))
    assert policy.network.sizes == (2, 4, 6)
    assert theta.shape == (policy.n_parameters,) == (2 * 4 + 4 + 4 * 6 + 6,)  # no last log σ
    np.testing.assert_array_equal(theta[-6:], [0, 0, 0, *[log_std_init] * 3])
    distribution = policy(theta, np.random.default_rng(1).standard_normal((50, 2)))
    assert type(distribution) is DiagGaussian
    # The last layer's columns have norm 0.01, and the four hidden numbers are at most 1.
    np.testing.assert_allclose(distribution.log_std, log_std_init, rtol=0, atol=0.021)
    np.testing.assert_allclose(distribution.mean, 0, rtol=0, atol=0.021)
    assert np.ptp(distribution.log_std, axis=0).min() > 1e-5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("log_std_init", [0.0, -3.0, 1.0])
def test_log_sigma_stays_between_minus_20_and_2_and_never_loses_its_derivative(log_std_init, dtype):
    """The network is x ↦ b: its last biases are log σ's arguments."""
    policy = policy_for(net_arch=(), log_std_init=log_std_init)
    x = np.linspace(-60, 20, 41)
    theta = np.zeros((41, policy.n_parameters), dtype)
    theta[:, -3:] = x[:, None]
    found = np.array([policy(each, np.zeros((1, 2), dtype)).log_std[0, 0] for each in theta])
    assert found.dtype == dtype
    assert np.all((found >= -20) & (found <= 2))
    assert found[0] < -18
    assert found[-1] > 1.9
    assert np.all(np.diff(found[(x > -40) & (x < 8)]) > 0)
    near = np.abs(x - log_std_init) <= 0.5
    np.testing.assert_allclose(found[near], x[near], atol=0.1)


def test_the_log_density_is_that_of_each_states_own_sigma():
    policy = policy_for()
    theta, rows = moved(policy)
    distribution, rng = policy(theta, rows), np.random.default_rng(1)
    drawn = distribution.sample(rng)
    assert np.ptp(distribution.log_std, axis=0).min() > 0.1
    expected = scipy.stats.norm.logpdf(drawn, distribution.mean, np.exp(distribution.log_std)).sum(axis=1)
    np.testing.assert_allclose(distribution.log_prob(drawn), expected, rtol=1e-12)
    acting = policy.at(theta)(rows)
    np.testing.assert_array_equal(acting.log_std, distribution.log_std)


@pytest.mark.parametrize("network", [None, residual_block], ids=["mlp", "own"])
def test_e58_f_v_is_the_sum_of_j_m_j_with_the_bounds_derivative_and_the_hessian_of_the_kl(network):
    policy = policy_for(network=network, log_std_init=-0.3)
    theta, rows = moved(policy)
    old, v = policy(theta, rows), np.random.default_rng(2).standard_normal(policy.n_parameters)
    J = complex_jacobian(lambda t: np.hstack(policy.outputs(t, rows)), theta)  # (states, 6, parameters)
    M = np.hstack([np.exp(-2 * old.log_std), np.full_like(old.log_std, 2.0)])
    expected = np.einsum("nip,ni,niq->pq", J, M, J) / len(rows)
    F = FisherOperator(policy, theta, rows)
    np.testing.assert_allclose(F @ v, expected @ v, rtol=0, atol=1e-10 * np.abs(expected).max())
    curvature = hessian(lambda t: mean_kl(old, policy(t, rows)))(theta)
    np.testing.assert_allclose(curvature, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_kronecker_factors_precondition_all_of_theta():
    policy = policy_for(net_arch=(16,))
    rng = np.random.default_rng(0)
    theta, rows = policy.init(rng), rng.standard_normal((500, 2))
    F = FisherOperator(policy, theta, rows, damping=1e-3)
    preconditioner = F.preconditioner(policy(theta, rows).sample(rng))
    b = F @ rng.standard_normal(policy.n_parameters)
    M = np.stack([preconditioner(unit) for unit in np.eye(policy.n_parameters)])
    assert np.linalg.eigvalsh((M + M.T) / 2).min() > 0
    residuals = [
        conjugate_gradient(F, b, maxiter=5, rtol=0.0, M=m).residual_norm for m in (preconditioner, None)
    ]
    assert residuals[0] < residuals[1]


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        (
            spaces.Discrete(3),
            {},
            "the usual distribution of a Box's actions, not for Discrete",
        ),
        (ACTION, {"distribution": "beta"}, "not for beta"),
        (ACTION, {"log_std_init": 2.0}, "log_std_init must be between -20 and 2, where .*, not 2"),
        (ACTION, {"log_std_init": -20.0}, "log_std_init must be between -20 and 2, where .*, not -20"),
    ],
)
def test_what_has_no_such_deviation_is_refused(space, options, message):
    with pytest.raises(ValueError, match=message):
        TRPO(spaces=(PLANE, space), state_dependent_std=True, **options)


def test_a_file_keeps_that_deviations_depend_on_the_state(tmp_path):
    kwargs = {"state_dependent_std": True, "net_arch": [8]}
    agent = TRPO("MlpPolicy", registered(Target), n_steps=32, seed=0, policy_kwargs=kwargs).learn(512)
    agent.save(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent", env=registered(Target))
    states = np.linspace(-1, 1, 5)[:, None]
    assert loaded.config.state_dependent_std
    np.testing.assert_array_equal(loaded.predict(states)[0], agent.predict(states)[0])
    with pytest.raises(TypeError, match="state_dependent_std can't be changed"):
        TRPO.load(tmp_path / "agent", state_dependent_std=False)


class SureOrNot(gymnasium.Env):
    """One step: in state 1 the action should be 0, and in state −1 far from it, on either side."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Box(-np.inf, np.inf, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.choice([-1.0, 1.0], 1).astype(np.float32)
        return self.state, {}

    def step(self, action):
        return self.state, -float(self.state[0]) * min(abs(float(action[0])), 2.0), True, False, {}


def test_an_agent_becomes_sure_in_one_state_and_explores_in_another():
    env = gymnasium.vector.SyncVectorEnv([SureOrNot] * 8, autoreset_mode="SameStep")
    agent = TRPO("MlpPolicy", env, n_steps=64, net_arch=(8,), seed=0, state_dependent_std=True).learn(10_240)
    rows = agent.policy.encode(np.array([[1.0], [-1.0]]))
    moments = agent.observation_moments
    log_std = agent.policy(agent.theta, (rows - moments.mean) / moments.scale).log_std[:, 0]
    assert log_std[0] < -1
    assert log_std[1] > 0.3
