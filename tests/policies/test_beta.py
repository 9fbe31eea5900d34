"""The beta distribution, against SciPy's, quadrature, and the definition of what it computes."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from gymnasium import spaces
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import digamma, polygamma

from npTRPO import TRPO, Beta, Policy
from npTRPO.autograd import check_derivatives, grad, hessian
from npTRPO.policies.beta import log_gamma_excess
from npTRPO.trust_region import FisherOperator, mean_kl
from tests.environments import Target, registered
from tests.policies.oracles import EPS
from tests.strategies import arrays, generators


@st.composite
def logarithms(draw, copies=1, bound=3.0):
    """``copies`` pairs of log α and log β, each (N, n)."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return tuple(tuple(draw(arrays(shape, -bound, bound)) for _ in range(2)) for _ in range(copies))


def jacobi(log_alpha, log_beta, n_nodes=40):
    """Nodes u and weights of E[f(u)], u ~ Beta(α, β) in one dimension; exact for polynomials."""
    x, w = scipy.special.roots_jacobi(n_nodes, math.exp(log_beta) - 1, math.exp(log_alpha) - 1)
    return (1 + x) / 2, w / np.sum(w)


def size(*pairs):
    """The largest of the numbers that a KL divergence or an entropy is a sum of, which round."""
    largest = max(float(np.max(np.exp(part))) for pair in pairs for part in pair)
    return 4 * (2 * largest + 2) * (abs(math.log(largest)) + 4)


# --- against SciPy --------------------------------------------------------------------------------------


@given(logarithms(), generators())
def test_the_log_density_and_the_entropy_are_scipys(case, rng):
    [(log_alpha, log_beta)] = case
    distribution, oracle = Beta(log_alpha, log_beta), scipy.stats.beta(np.exp(log_alpha), np.exp(log_beta))
    u = rng.uniform(0.01, 0.99, log_alpha.shape)
    atol = 100 * EPS * log_alpha.shape[1] * size(*case)
    np.testing.assert_allclose(distribution.log_prob(u), oracle.logpdf(u).sum(axis=-1), rtol=0, atol=atol)
    np.testing.assert_allclose(distribution.entropy(), oracle.entropy().sum(axis=-1), rtol=0, atol=atol)
    np.testing.assert_allclose(distribution.mode(), oracle.mean(), rtol=20 * EPS)


def test_samples_have_their_distribution_and_lie_inside_the_interval():
    log_alpha, log_beta = np.array([1.0, -0.5, -6.0]), np.array([0.3, -0.7, 4.0])
    rows = [np.tile(part, (20_000, 1)) for part in (log_alpha, log_beta)]
    drawn = Beta(*rows).sample(np.random.default_rng(0))
    for u, a, b in zip(drawn.T[:2], np.exp(log_alpha), np.exp(log_beta), strict=False):
        assert scipy.stats.kstest(u, scipy.stats.beta(a, b).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 4 / math.sqrt(20_000)
    assert np.all((drawn > 0) & (drawn < 1))
    assert np.all(np.isfinite(Beta(*rows).log_prob(drawn)))
    single = Beta(*(row.astype(np.float32) for row in rows))
    assert single.sample(np.random.default_rng(0)).dtype == drawn.dtype == np.float64


@pytest.mark.parametrize("wrong", [np.nan, 800.0, -800.0])
def test_there_are_no_samples_where_the_parameters_are_no_positive_numbers(wrong):
    """The environments' stepper then says at which step, and in which environment."""
    with np.errstate(over="ignore"):
        drawn = Beta(np.array([[0.0, wrong]]), np.zeros((1, 2))).sample(np.random.default_rng(0))
    np.testing.assert_array_equal(np.isnan(drawn), [[False, True]])


# --- the KL divergence ----------------------------------------------------------------------------------


@example(((np.zeros((1, 1)), np.zeros((1, 1))), (np.full((1, 1), 1.0), np.full((1, 1), -1.0))))
@given(logarithms(copies=2, bound=2.0))
def test_e18_kl_is_the_sum_that_textbooks_print(case):
    (a, b), (c, d) = (tuple(np.exp(part) for part in pair) for pair in case)
    log_u, log_rest = digamma(a) - digamma(a + b), digamma(b) - digamma(a + b)
    ratio = (a - c) * log_u + (b - d) * log_rest + scipy.special.betaln(c, d) - scipy.special.betaln(a, b)
    old, new = Beta(*case[0]), Beta(*case[1])
    atol = 100 * EPS * a.shape[1] * size(*case)
    np.testing.assert_allclose(old.kl(new), ratio.sum(axis=-1), rtol=0, atol=atol)
    np.testing.assert_array_equal(old.kl(old), 0)
    assert np.all(old.kl(new) >= 0)


@pytest.mark.parametrize(
    ("old", "new"), [((0.5, 0.2), (0.9, -0.4)), ((2.0, 0.0), (0.0, 1.0)), ((1.0, 1.5), (-0.5, 1.2))]
)
def test_e18_kl_is_the_mean_of_the_log_ratio_by_quadrature(old, new):
    p, q = (scipy.stats.beta(*np.exp(pair)) for pair in (old, new))
    mean, error = scipy.integrate.quad(lambda u: p.pdf(u) * (p.logpdf(u) - q.logpdf(u)), 0, 1, epsabs=1e-11)
    kl = Beta(*np.array(old)[:, None, None]).kl(Beta(*np.array(new)[:, None, None]))
    np.testing.assert_allclose(kl, mean, rtol=0, atol=max(1e-11, error))


def test_e18_kl_reads_old_to_new_and_is_that_of_an_integral():
    """From the uniform distribution, and to it: ∫ −log(2u) du = 1 − log 2, ∫ 2u log(2u) du = log 2 − ½."""
    uniform, rising = (Beta(np.log([[a]]), np.zeros((1, 1))) for a in (1.0, 2.0))
    np.testing.assert_allclose(uniform.kl(rising), [1 - math.log(2)], rtol=20 * EPS)
    np.testing.assert_allclose(rising.kl(uniform), [math.log(2) - 0.5], rtol=20 * EPS)


@pytest.mark.parametrize("step", [1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize(
    ("log_alpha", "log_beta"), [(0.0, 0.0), (-3.0, 2.0), (4.0, 3.0), (-5.0, -4.0), (6, 6)]
)
def test_a_small_kl_keeps_its_digits(step, log_alpha, log_beta):
    """½ vᵀMv with SciPy's trigamma function is off by a third-order term, below 10 α steps of it."""
    v = step * np.array([0.6, -0.8])
    at = np.array([log_alpha, log_beta], dtype=float)
    old, new = (Beta(*x[:, None, None]) for x in (at, at + v))
    M, moved = matrix(*at), (at + v) - at  # as it is rounded
    alpha = float(np.exp(at).sum()) + 1
    np.testing.assert_allclose(old.kl(new), [moved @ M @ moved / 2], rtol=10 * step * alpha + 1e-13 * alpha)


@given(st.floats(-6, 6), st.floats(-1, 3), st.sampled_from([-1, 1]))
def test_log_gamma_excess_is_nowhere_negative_and_right_where_nothing_cancels(log_x, log_h, sign):
    x = math.exp(log_x)
    y = x * math.exp(sign * math.exp(log_h))
    excess = log_gamma_excess(*(np.array([number]) for number in (x, y - x, y)))
    expected = scipy.special.gammaln(y) - scipy.special.gammaln(x) - (y - x) * digamma(x)
    assert excess >= 0
    slack = abs(scipy.special.gammaln(y)) + abs(scipy.special.gammaln(x)) + abs((y - x) * digamma(x))
    np.testing.assert_allclose(excess, expected, rtol=50 * EPS, atol=50 * EPS * slack)


# --- Fisher information ---------------------------------------------------------------------------------


def matrix(log_alpha, log_beta):
    """The Fisher information in (log α, log β) of one dimension, by second derivatives of log B."""
    a, b = math.exp(log_alpha), math.exp(log_beta)
    in_parameters = np.diag(polygamma(1, [a, b])) - polygamma(1, a + b)
    return np.diag([a, b]) @ in_parameters @ np.diag([a, b])


def products(log_alpha, log_beta):
    """M of one state and dimension, column by column."""
    distribution = Beta(*np.array([[[log_alpha]], [[log_beta]]]))
    columns = [distribution.fisher_product(tuple(unit[:, None, None])) for unit in np.eye(2)]
    return np.array([[part[0, 0] for part in column] for column in columns]).T


pairs = st.tuples(st.floats(-3, 3), st.floats(-3, 3))
# Its entries are below α² ψ₁(α) < α + 1 and sums of a few products, which round and partly cancel.
FISHER_ROUNDING = 200 * EPS * 2 * (math.exp(3) + 1)


@given(pairs)
def test_e22_the_fisher_product_is_the_closed_form(at):
    np.testing.assert_allclose(products(*at), matrix(*at), rtol=0, atol=FISHER_ROUNDING)


@given(pairs)
def test_e20_the_fisher_information_is_the_hessian_of_the_kl(at):
    old = Beta(*np.array(at)[:, None, None])
    curvature = hessian(lambda z: np.sum(old.kl(Beta(z[:1, None], z[1:, None]))))(np.array(at))
    np.testing.assert_allclose(products(*at), curvature, rtol=0, atol=10 * FISHER_ROUNDING)


@given(st.tuples(st.floats(0.5, 2.5), st.floats(0.5, 2.5)))
def test_e21_the_fisher_information_is_the_mean_outer_product_of_scores(at):
    """By Gauss–Jacobi quadrature, which for squares of log u is known to 1e-3 on 200 nodes."""
    u, weights = jacobi(*at, n_nodes=200)
    alpha, beta = np.exp(at)
    scores = np.stack(
        [
            alpha * (np.log(u) - digamma(alpha) + digamma(alpha + beta)),
            beta * (np.log1p(-u) - digamma(beta) + digamma(alpha + beta)),
        ]
    )
    np.testing.assert_allclose(products(*at), (weights * scores) @ scores.T, rtol=0, atol=1e-3)


@given(logarithms(), generators())
def test_e24_the_fisher_form_is_the_product_times_the_vector(case, rng):
    [(log_alpha, log_beta)] = case
    distribution, v = Beta(log_alpha, log_beta), rng.standard_normal((2, *log_alpha.shape))
    form = distribution.fisher_form(tuple(v))
    np.testing.assert_allclose(
        form,
        np.sum(v * distribution.fisher_product(tuple(v)), axis=(0, 2)),
        rtol=0,
        atol=100 * FISHER_ROUNDING,
    )
    assert np.all(form >= 0)


# --- derivatives and precision ---------------------------------------------------------------------------


def test_everything_can_be_differentiated_twice():
    at, u = np.array([0.3, -0.7]), np.array([[0.2]])
    old = Beta(np.array([[0.1]]), np.array([[0.5]]))

    def beta(z):
        return Beta(z[:1, None], z[1:, None])

    for f in (lambda z: beta(z).log_prob(u), lambda z: beta(z).entropy(), lambda z: old.kl(beta(z))):
        check_derivatives(f, at, order=2, method="central difference")
    # E20: the KL's gradient at the old parameters is 0, and not nearly so
    np.testing.assert_array_equal(grad(lambda z: np.sum(beta(at).kl(beta(z))))(at), 0)


def test_nothing_is_cast_to_float64_but_samples():
    pair = tuple(np.array([[x]], np.float32) for x in (0.4, -0.3))
    old, new = Beta(*pair), Beta(*(part + np.float32(0.2) for part in pair))
    wide = Beta(*(part.astype(np.float64) for part in pair))
    u, v = np.array([[0.3]], np.float32), (np.ones((1, 1), np.float32),) * 2
    numbers = [
        old.log_prob(u),
        old.entropy(),
        old.kl(new),
        old.fisher_form(v),
        *old.fisher_product(v),
        old.mode(),
    ]
    assert {number.dtype for number in numbers} == {np.dtype(np.float32)}
    np.testing.assert_allclose(old.entropy(), wide.entropy(), atol=1e-5)


# --- in a policy ----------------------------------------------------------------------------------------


def test_f_v_of_a_beta_policy_is_the_hessian_of_its_mean_kl():
    box = spaces.Box(np.array([0, -3]), np.array([10, 5]), dtype=np.float64)
    policy = Policy.for_spaces(spaces.Box(-1, 1, (2,)), box, net_arch=(3,), distribution="beta")
    rng = np.random.default_rng(0)
    theta, rows = (
        policy.init(rng) + 0.3 * rng.standard_normal(policy.n_parameters),
        rng.standard_normal((4, 2)),
    )
    old, v = policy(theta, rows), rng.standard_normal(policy.n_parameters)
    curvature = hessian(lambda t: mean_kl(old, policy(t, rows)))(theta)
    F = FisherOperator(policy, theta, rows)
    np.testing.assert_allclose(F @ v, curvature @ v, rtol=0, atol=1e-11)
    np.testing.assert_allclose(F.quadratic_form(v), v @ curvature @ v, rtol=1e-11)
    drawn = policy.to_env(old.sample(rng))
    assert all(map(box.contains, drawn))
    np.testing.assert_array_equal(policy.to_env(np.array([[0.5, 0.25], [0, 1]])), [[5, -1], [0, 5]])


def test_a_new_beta_policy_is_nearly_uniform_and_has_no_log_sigma():
    box = spaces.Box(0, 1, (2, 2))
    policy = Policy.for_spaces(box, box, distribution="beta")
    assert policy.n_log_std == 0
    assert policy.network.sizes == (4, 64, 64, 8)
    distribution = policy(policy.init(np.random.default_rng(0)), np.ones((3, 4)))
    np.testing.assert_allclose(distribution.entropy(), 0, atol=0.05)
    assert distribution.sample(np.random.default_rng(0)).shape == (3, 4)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Discrete(3), r"a beta distribution is for the actions of a Box, not of Discrete\(3\)"),
        (spaces.Box(0, np.inf, (2,)), "needs bounds that are finite, and at most 2e\\+06 apart"),
        (spaces.Box(-2e6, 2e6, (2,)), "needs bounds that are finite, and at most 2e\\+06 apart"),
    ],
)
def test_what_has_no_finite_bounds_is_refused(space, message):
    with pytest.raises(ValueError, match=message):
        TRPO(spaces=(spaces.Discrete(2), space), policy_kwargs={"distribution": "beta"})


def test_an_agent_with_beta_distributions_learns_and_is_kept_in_a_file(tmp_path):
    options = {"net_arch": (16,), "n_steps": 64, "seed": 0, "target_kl": 0.05}
    agent = TRPO("MlpPolicy", registered(Target), policy_kwargs={"distribution": "beta"}, **options)
    agent.learn(10_000)
    states = np.linspace(-1, 1, 9)[:, None].astype(np.float32)
    actions, _ = agent.predict(states, deterministic=True)
    np.testing.assert_allclose(actions, 0.5 * states + 0.25, atol=0.2)
    agent.save(tmp_path / "agent")
    loaded = TRPO.load(tmp_path / "agent", env=registered(Target))
    np.testing.assert_array_equal(loaded.predict(states, deterministic=True)[0], actions)
    assert isinstance(loaded.policy(loaded.theta, states), Beta)
