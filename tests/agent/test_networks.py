"""Agents with networks and distributions of one's own."""

import numpy as np
import pytest
from gymnasium import spaces

from npTRPO import TRPO, Categorical, CheckpointError, FisherOperator, TRPOConfig, evaluate_policy
from npTRPO.autograd import hvp
from tests.environments import Bandit, Choosy, Target, TwoStates, registered
from tests.space_environments import matching_id

WIDTH = 6
QUICK = {"n_envs": 8, "n_steps": 16, "seed": 0, "target_kl": 0.05}


def residual(n_features, n_outputs):
    """A layer, a layer with a connection around it, and a small last one."""
    shapes = [(n_features, WIDTH), (WIDTH, WIDTH), (WIDTH, n_outputs)]
    ends = np.cumsum([rows * columns for rows, columns in shapes])

    def forward(theta, x):
        first, inner, last = (
            theta[e - m * n : e].reshape(m, n) for e, (m, n) in zip(ends, shapes, strict=True)
        )
        h = np.tanh(x @ first)
        return (h + np.tanh(h @ inner)) @ last

    return forward, lambda rng: 0.3 * rng.standard_normal(ends[-1])


def radial(n_features, n_outputs):
    """Distances from learned centres: with reductions, a division, broadcasting."""
    n = WIDTH * n_features

    def forward(theta, x):
        centres, widths = theta[:n].reshape(WIDTH, n_features), theta[n : n + WIDTH]
        squares = np.sum((x[:, None, :] - centres) ** 2, axis=-1)
        bumps = np.exp(-squares / (1 + widths**2))
        return bumps @ theta[n + WIDTH :].reshape(WIDTH, n_outputs)

    return forward, lambda rng: 0.5 * rng.standard_normal(n + WIDTH + WIDTH * n_outputs)


def pairs(n_features, n_outputs):
    """A small convolution: one kernel of two, along the features, and a linear layer."""
    inner = max(1, n_features - 1)

    def forward(theta, x):
        left, right = (x[:, :-1], x[:, 1:]) if n_features > 1 else (x, x)
        return np.maximum(left * theta[0] + right * theta[1] + theta[2], 0) @ theta[3:].reshape(
            inner, n_outputs
        )

    return forward, lambda rng: 0.5 * rng.standard_normal(3 + inner * n_outputs)


NETWORKS = {"residual": residual, "radial": radial, "pairs": pairs}
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def explicit_jacobian(outputs, theta):
    """∂ outputs / ∂θ by central differences, whose error is some 1e-10 of the outputs at this step."""
    steps = 2e-6 * np.eye(theta.size)
    return np.stack([(outputs(theta + h) - outputs(theta - h)) / 4e-6 for h in steps], axis=-1)


# --- the Fisher product ----------------------------------------------------------------------------------

FAMILIES = {
    "categorical": spaces.Discrete(3),
    "bernoulli": spaces.MultiBinary(2),
    "gaussian": spaces.Box(-1, 1, (2,)),
}


def information(z, kind):
    """M, the Fisher information of a distribution's outputs, in its textbook form."""
    if kind == "categorical":
        p = np.exp(z) / np.sum(np.exp(z))
        return np.diag(p) - np.outer(p, p)
    if kind == "bernoulli":
        p = 1 / (1 + np.exp(-z))
        return np.diag(p * (1 - p))
    return np.diag(np.concatenate([np.exp(-2 * z[2:]), [2.0, 2.0]]))


@pytest.mark.parametrize("kind", FAMILIES)
@each_network
def test_the_fisher_product_of_an_agents_own_network_is_that_of_its_explicit_jacobian(network, kind):
    pair = spaces.Box(-1, 1, (4,)), FAMILIES[kind]
    agent = TRPO(spaces=pair, dtype="float64", seed=3, policy_kwargs={"network": network})
    rng = np.random.default_rng(1)
    theta, rows = agent.theta, rng.standard_normal((20, 4))
    n_log_std = 2 if kind == "gaussian" else 0
    split = theta.size - n_log_std
    forward, _ = network(4, {"categorical": 3, "bernoulli": 2, "gaussian": 2}[kind])

    def outputs(t):
        z = forward(t[:split], rows)
        return np.concatenate([z, np.broadcast_to(t[split:], (20, n_log_std))], axis=1)

    jacobian = explicit_jacobian(outputs, theta)
    metrics = np.stack([information(z, kind) for z in outputs(theta)])
    expected = np.einsum("nip,nij,njq->pq", jacobian, metrics, jacobian) / 20
    product = FisherOperator(agent.policy, theta, rows)
    found = np.stack([product @ column for column in np.eye(theta.size)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
    assert np.linalg.matrix_rank(expected, tol=1e-8) > 3


# --- learning, saving, loading ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_network
def test_an_agent_with_its_own_network_learns(network, dtype):
    env_id = matching_id("dict", "discrete")
    agent = TRPO("MlpPolicy", env_id, **QUICK, gamma=0.5, dtype=dtype, policy_kwargs={"network": network})
    before, _ = evaluate_policy(agent, env_id, 16, deterministic=False, seed=0)
    agent.learn(2048)
    after, _ = evaluate_policy(agent, env_id, 16, deterministic=False, seed=0)
    assert agent.theta.dtype == agent.value_theta.dtype == np.dtype(dtype)
    assert before < 0.6
    assert after > before + 0.5 * (1 - before)


def test_the_value_function_is_a_network_of_the_same_kind_with_one_output():
    agent = TRPO("MlpPolicy", registered(Target), **QUICK, policy_kwargs={"network": radial})
    forward, _ = radial(1, 1)
    rows = np.random.default_rng(0).standard_normal((5, 1)).astype(np.float32)
    assert agent.value_theta.size == WIDTH + WIDTH + WIDTH
    np.testing.assert_array_equal(
        agent.value_network(agent.value_theta, rows), forward(agent.value_theta, rows)
    )


@pytest.mark.parametrize("as_config", [True, False])
def test_it_goes_together_with_all_other_options(as_config):
    options = {"gamma": 0.5, **QUICK}
    given = (TRPOConfig(**options),) if as_config else ()
    rest = {} if as_config else options
    agent = TRPO("MlpPolicy", registered(TwoStates), *given, **rest, policy_kwargs={"network": residual})
    assert agent.config.gamma == 0.5
    assert set(agent.model.own) == {"network"}
    assert agent.learn(128).n_updates == 1


class Uniformed(Categorical):
    """A tenth of the time by chance alone."""

    def __init__(self, logits):
        top = np.max(logits, axis=-1, keepdims=True)
        weights = np.exp(logits - top)
        chosen = weights / np.sum(weights, axis=-1, keepdims=True)
        super().__init__(np.log(0.9 * chosen + 0.1 / logits.shape[-1]))
        self.chosen = chosen

    def fisher_product(self, v):
        """Through p = 0.9 softmax + 0.1 / n: the chain rule on both sides of the categorical's own."""

        def slope(u):
            return 0.9 * self.chosen * (u - np.sum(self.chosen * u, axis=-1, keepdims=True))

        p = 0.9 * self.chosen + 0.1 / v.shape[-1]
        w = slope(v) / p
        return 0.9 * self.chosen * (w - np.sum(self.chosen * w, axis=-1, keepdims=True))


def uniformed(space):
    return int(space.n), Uniformed


def test_the_distribution_of_the_tests_has_the_fisher_information_that_its_kl_has():
    rng = np.random.default_rng(0)
    logits, v = rng.standard_normal((2, 5, 4))
    old = Uniformed(logits)
    exact = hvp(lambda z: np.sum(old.kl(Uniformed(z))), logits, v)
    np.testing.assert_allclose(old.fisher_product(v), exact, rtol=1e-9, atol=1e-12)


def test_an_agent_with_its_own_distribution_learns_within_it():
    env_id = registered(Bandit)
    kwargs = {"distribution": uniformed, "net_arch": []}
    agent = TRPO("MlpPolicy", env_id, **QUICK, policy_kwargs=kwargs).learn(4096)
    probabilities = agent.policy(agent.theta, np.zeros((1, 1), np.float32)).probs[0]
    assert np.argmax(probabilities) == Bandit.best
    assert probabilities[Bandit.best] > 0.6
    assert np.all(probabilities >= 0.1 / 4 - 1e-6)


BOTH = {"network": radial, "distribution": uniformed}
OWN = {"network": {"network": radial}, "distribution": {"distribution": uniformed}, "both": BOTH}


@pytest.mark.parametrize("own", OWN)
def test_what_was_made_with_ones_own_code_is_loaded_with_it_and_predicts_the_same(own, tmp_path):
    env_id, kwargs = registered(Bandit), OWN[own]
    agent = TRPO("MlpPolicy", env_id, **QUICK, policy_kwargs=kwargs).learn(256)
    agent.save(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent", env=env_id, policy_kwargs=kwargs)
    rows = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    for deterministic in (True, False):
        again = TRPO.load(tmp_path / "agent", policy_kwargs=kwargs)
        found, _ = loaded.predict(rows, deterministic=deterministic)
        np.testing.assert_array_equal(again.predict(rows, deterministic=deterministic)[0], found)
    assert loaded.theta.tobytes() == agent.theta.tobytes()
    outputs = [one.policy.outputs(one.theta, rows).tobytes() for one in (agent, loaded)]
    assert outputs[0] == outputs[1]
    assert loaded.learn(128, reset_num_timesteps=False).num_timesteps == 384


@pytest.mark.parametrize("own", OWN)
def test_what_was_made_with_ones_own_code_is_not_loaded_without_it(own, tmp_path):
    agent = TRPO("MlpPolicy", registered(Bandit), **QUICK, policy_kwargs=OWN[own])
    agent.save(tmp_path / "agent")
    with pytest.raises(CheckpointError) as caught:
        TRPO.load(tmp_path / "agent")
    assert "agent.npz" in str(caught.value)
    for name in OWN[own]:
        assert repr(name) in str(caught.value)
    other = {"distribution": uniformed} if own == "network" else {"network": radial}
    if own != "both":
        with pytest.raises(CheckpointError, match=rf"made with \['{own}'\].*given \['{next(iter(other))}'\]"):
            TRPO.load(tmp_path / "agent", policy_kwargs=other)


@pytest.mark.parametrize(
    ("made_with", "said"),
    [
        ({"network": radial}, r"theta has shape .* where its config asks for"),
        ({}, r"made with nothing .* given \['network'\]"),
    ],
)
def test_another_network_than_it_was_made_with_is_refused(made_with, said, tmp_path):
    TRPO("MlpPolicy", registered(Bandit), **QUICK, policy_kwargs=made_with).save(tmp_path / "agent")
    with pytest.raises(CheckpointError, match=said):
        TRPO.load(tmp_path / "agent", policy_kwargs={"network": residual})


# --- networks that are none ------------------------------------------------------------------------------


def returning(change):
    """A linear network whose outputs pass through a function."""

    def factory(n_features, n_outputs):
        return (
            lambda theta, x: change(x @ theta.reshape(n_features, n_outputs)),
            lambda rng: rng.standard_normal(n_features * n_outputs),
        )

    return factory


@pytest.mark.parametrize(
    ("change", "returned"),
    [
        (lambda y: y[:, 0], r"\(3,\)"),
        (lambda y: y.T, r"\(2, 3\)"),
        (lambda y: y[:, :1], r"\(3, 1\)"),
        (lambda y: y[None], r"\(1, 3, 2\)"),
        (lambda y: [y], "no array"),
        (lambda y: None, "no array"),
    ],
    ids=["a column", "transposed", "too few", "too many axes", "a list", "nothing"],
)
def test_a_network_that_returns_something_else_than_rows_of_outputs_is_refused(change, returned):
    env = Choosy()
    with pytest.raises(ValueError, match=rf"shape \(N, 2\) for observations of shape \(N, 2\).*{returned}$"):
        TRPO("MlpPolicy", env, policy_kwargs={"network": returning(change)})


def test_a_network_is_made_for_the_features_and_outputs_of_the_spaces():
    asked = []

    def factory(n_features, n_outputs):
        asked.append((n_features, n_outputs))
        return returning(lambda y: y)(n_features, n_outputs)

    pair = (
        spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1, 1, (2, 2))}),
        spaces.MultiDiscrete([2, 3]),
    )
    TRPO(spaces=pair, policy_kwargs={"network": factory})
    assert asked == [(7, 5), (7, 1)]
