import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st

from npTRPO import Bernoulli, Categorical, DiagGaussian, MultiCategorical
from npTRPO.autograd import grad, hessian
from tests.policies.oracles import (
    EPS,
    Family,
    action_nodes,
    all_actions,
    complex_jacobian,
    complex_step,
    fisher_in_outputs,
    gaussian_log_density,
    hermite,
    kl_by_definition,
    log_prob_by_definition,
    log_table,
)
from tests.strategies import arrays, discrete_families, families, gaussian_families, generators, outputs_of

ONE_OF_EACH = [
    Family("Categorical", (3,)),
    Family("MultiCategorical", (2, 3)),
    Family("Bernoulli", (2, 2)),
    Family("DiagGaussian", (0, 0)),
]
each_family = pytest.mark.parametrize("family", ONE_OF_EACH, ids=lambda family: family.name)


def flat(outputs):
    """The outputs of N states as one array (N, n_flat)."""
    return np.concatenate(outputs, axis=-1) if isinstance(outputs, tuple) else outputs


def rounding(family, *outputs):
    """How far each state's log-probabilities, and means of them, may round.

    A log-probability of a discrete action adds one term per component, each at most ``size``: twice the
    largest logit and the logarithm of the number of choices. A number takes part in about n + 8
    operations. A Gaussian's terms are log σ and squares of distances in units of the smallest σ, whose
    exp(±log σ) has a relative error of (1 + |log σ|) ε; actions are within 4 standard deviations.
    """
    operations = 8 + family.n_flat
    if family.is_discrete:
        largest = np.max([np.max(np.abs(o), axis=-1) for o in outputs], axis=0)
        return operations * EPS * len(family.sizes) * (2 * largest + 4)
    means, log_stds = np.abs([o[0] for o in outputs]), np.array([o[1] for o in outputs])
    farthest = means.sum(axis=0) + means.max(axis=0) + 4 * np.exp(log_stds.max(axis=0))
    squares = (farthest / np.exp(log_stds.min(axis=0))) ** 2
    sizes = (1 + np.abs(log_stds).max(axis=0)) * (1 + squares)
    return operations * EPS * sizes.sum(axis=-1)


def assert_near(actual, expected, atol):
    """Equal to within ``atol``, which may differ by state."""
    assert np.shape(actual) == np.shape(expected)
    error = np.abs(actual - expected)
    assert np.all(error <= atol), f"{error} exceeds {atol}"


@st.composite
def cases(draw, which=families, copies=1, bound=3.0):
    """A family, and sets of outputs of it."""
    family = draw(which)
    return family, *draw(outputs_of(family, copies, bound=bound))


# --- against the sum over all actions -------------------------------------------------------------


@given(cases(discrete_families))
def test_log_probabilities_are_those_of_the_definition_and_sum_to_one(case):
    family, logits = case
    distribution, table = family(logits), log_table(family, logits)
    ours = np.array(
        [distribution.log_prob(np.broadcast_to(a, (len(logits), *np.shape(a)))) for a in all_actions(family)]
    )
    slack = rounding(family, logits)
    assert_near(ours, table.astype(float), slack)
    assert_near(np.sum(np.exp(ours), axis=0), np.ones(len(logits)), slack)


@example((Family("Bernoulli", (2, 2)), np.zeros((1, 2))))
@given(cases(discrete_families))
def test_entropy_is_the_sum_over_all_joint_actions(case):
    family, logits = case
    table = log_table(family, logits)
    expected = -np.sum(np.exp(table) * table, axis=0).astype(float)
    atol = rounding(family, logits)
    assert_near(family(logits).entropy(), expected, atol)


@given(cases(discrete_families, copies=2))
def test_e16_and_e18_kl_is_the_sum_over_all_joint_actions(case):
    family, old, new = case
    expected = kl_by_definition(family, old, new)
    atol = 2 * rounding(family, old, new)
    assert_near(family(old).kl(family(new)), expected, atol)


@given(cases(discrete_families))
def test_the_mode_is_the_most_probable_joint_action(case):
    family, logits = case
    mode = family(logits).mode()
    assert mode.dtype == np.int64
    log_p = log_prob_by_definition(family, logits, mode)
    best = np.max(log_table(family, logits), axis=0)
    assert_near(log_p, best.astype(float), rounding(family, logits))


def test_of_equally_probable_actions_the_mode_is_the_first():
    np.testing.assert_array_equal(Categorical(np.array([[1.0, 2.0, 2.0], [5.0, 5.0, 5.0]])).mode(), [1, 0])
    np.testing.assert_array_equal(Bernoulli(np.zeros((1, 2))).mode(), [[0, 0]])


# --- against quadrature ---------------------------------------------------------------------------


@given(cases(gaussian_families), generators())
def test_the_log_density_is_scipys(case, rng):
    family, (mean, log_std) = case
    actions = mean + np.exp(log_std) * rng.uniform(-4, 4, mean.shape)
    expected = np.sum(scipy.stats.norm.logpdf(actions, mean, np.exp(log_std)), axis=-1)
    atol = 2 * rounding(family, (mean, log_std))  # both sides round
    assert_near(family((mean, log_std)).log_prob(actions), expected, atol)


@given(cases(st.builds(Family, st.just("DiagGaussian"), st.sampled_from([(0,), (0, 0)]))))
def test_the_density_integrates_to_one(case):
    # ∫ π(a) da by Gauss–Hermite nodes of a normal 10 % wider than π: on n nodes the integrand exp(−x²/2
    # · (1.1² − 1)) is known to about 0.1ⁿ, so that 20 nodes leave only rounding, at points within
    # 1.1 · 7.6 standard deviations. The ratio's exponent rounds there by 2.1² more than at 4.
    family, (mean, log_std) = case
    wide, total = 1.1 * np.exp(log_std), np.zeros(len(mean))
    for x, weight in hermite(20, family.n_outputs):
        actions = mean + wide * x
        log_ratio = family((mean, log_std)).log_prob(actions) + np.sum(
            x**2 / 2 + math.log(2 * math.pi) / 2 + np.log(wide), axis=-1
        )
        total += weight * np.exp(log_ratio)
    assert_near(total, np.ones(len(mean)), 10 * rounding(family, (mean, log_std)))


@given(cases(gaussian_families, copies=2))
def test_e17_entropy_and_kl_of_a_gaussian_equal_gauss_hermite_quadrature(
    case,
):
    # Log-densities are quadratic in the action: three nodes per dimension integrate them exactly.
    family, old, new = case
    entropy, kl = np.zeros(len(old[0])), np.zeros(len(old[0]))
    for x, weight in hermite(3, family.n_outputs):
        actions = old[0] + np.exp(old[1]) * x
        log_p, log_q = gaussian_log_density(*old, actions), gaussian_log_density(*new, actions)
        entropy -= weight * log_p
        kl += weight * (log_p - log_q)
    atol = 2 * rounding(family, old, new)
    assert_near(family(old).entropy(), entropy, atol)
    assert_near(family(old).kl(family(new)), kl, atol)


# --- what a divergence is -------------------------------------------------------------------------


@given(cases())
def test_e20_kl_of_a_distribution_from_itself_is_zero_to_the_bit(case):
    family, outputs = case
    np.testing.assert_array_equal(family(outputs).kl(family(outputs)), 0.0)


E3 = math.log(3)


@pytest.mark.parametrize(
    ("old", "new", "forward", "backward"),
    [
        pytest.param(
            Categorical(np.zeros((1, 2))),
            Categorical(np.array([[0, E3]])),
            0.5 * math.log(4 / 3),
            0.75 * math.log(1.5) + 0.25 * math.log(0.5),
            id="Categorical",
        ),
        pytest.param(
            MultiCategorical(np.zeros((1, 4)), (2, 2)),
            MultiCategorical(np.array([[0, E3, 0, E3]]), (2, 2)),
            math.log(4 / 3),
            2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
            id="MultiCategorical",
        ),
        pytest.param(
            Bernoulli(np.zeros((1, 1))),
            Bernoulli(np.array([[E3]])),
            0.5 * math.log(4 / 3),
            0.75 * math.log(1.5) + 0.25 * math.log(0.5),
            id="Bernoulli",
        ),
        pytest.param(
            DiagGaussian(np.zeros((1, 1)), np.zeros(1)),
            DiagGaussian(np.ones((1, 1)), np.log(np.array([2.0]))),
            math.log(2) + 2 / 8 - 0.5,
            -math.log(2) + 5 / 2 - 0.5,
            id="DiagGaussian",
        ),
    ],
)
def test_e17_kl_reads_old_to_new(old, new, forward, backward):
    assert abs(forward - backward) > 0.01  # or the example could not tell
    np.testing.assert_allclose(old.kl(new), [forward], rtol=20 * EPS)
    np.testing.assert_allclose(new.kl(old), [backward], rtol=20 * EPS)


# --- Fisher information ---------------------------------------------------------------------------


def fisher_matrix(family, row):
    """M of one state, column by column from the products with it."""
    distribution = family(family.from_flat(row[None]))
    columns = [
        flat(distribution.fisher_product(family.from_flat(unit[None])))[0] for unit in np.eye(row.size)
    ]
    return np.stack(columns, axis=-1)


@st.composite
def states(draw):
    """A family and its outputs in one state, as a vector."""
    family = draw(families)
    (outputs,) = draw(outputs_of(family, max_rows=1, bound=2.0))
    return family, flat(outputs)[0]


# With |log σ| ≤ 2, 1/σ² ≤ e⁴ = 55; |logits| ≤ 2 give probabilities in (0, 1). An entry of M, of the Hessian
# or of an outer product of scores is a sum of at most 27 products of a few such factors.
FISHER_ROUNDING = 200 * EPS * 55


@given(states())
def test_e22_the_fisher_product_is_the_closed_form(case):
    family, row = case
    expected = fisher_in_outputs(family, row)
    np.testing.assert_allclose(fisher_matrix(family, row), expected, rtol=0, atol=FISHER_ROUNDING)


@given(states())
def test_e20_the_fisher_information_is_the_hessian_of_the_kl(case):
    family, row = case
    old = family(family.from_flat(row[None]))
    curvature = hessian(lambda z: np.sum(old.kl(family(family.from_flat(z[None])))))(row)
    np.testing.assert_allclose(fisher_matrix(family, row), curvature, rtol=0, atol=FISHER_ROUNDING)


@given(states())
def test_e21_the_fisher_information_is_the_mean_outer_product_of_scores(
    case,
):
    family, row = case
    total = np.zeros((row.size, row.size))
    for action, weight in action_nodes(family, family.from_flat(row[None])):
        score = complex_jacobian(
            lambda z, a=action: family(family.from_flat(z[None])).log_prob(a),
            row,  # type: ignore[misc]
        )[0]
        total += weight[0] * np.outer(score, score)
    # A Gaussian's scores are polynomials of degree 2 in x; with three nodes, x⁴ is still exact.
    np.testing.assert_allclose(fisher_matrix(family, row), total, rtol=0, atol=FISHER_ROUNDING)


@given(cases(), generators())
def test_fisher_products_of_a_batch_are_those_of_its_states(case, rng):
    family, outputs = case
    v = rng.standard_normal((len(flat(outputs)), family.n_flat))
    batch = flat(family(outputs).fisher_product(family.from_flat(v)))
    for row, along, product in zip(flat(outputs), v, batch, strict=True):
        single = family(family.from_flat(row[None])).fisher_product(family.from_flat(along[None]))
        np.testing.assert_allclose(product, flat(single)[0], rtol=8 * EPS, atol=8 * EPS * np.abs(v).max())


# --- derivatives ----------------------------------------------------------------------------------


@given(cases(), generators())
def test_the_gradient_of_log_prob_equals_the_complex_step(case, rng):
    family, outputs = case
    z = flat(outputs)
    actions = family(outputs).sample(rng)

    def total(x):
        return np.sum(family(family.from_flat(x)).log_prob(actions))

    gradient = grad(total)(z)
    expected = [complex_step(total, z, unit.reshape(z.shape)) for unit in np.eye(z.size)]
    # |∂ log π| is at most 1 for a logit, and (|x| + 1)² / σ with |x| < 7 for a Gaussian.
    steepest = 1 if family.is_discrete else 64 * float(np.exp(-np.min(outputs[1])))
    atol = 40 * EPS * max(1, steepest) * family.n_flat
    assert_near(gradient.ravel(), expected, atol)


# --- samples --------------------------------------------------------------------------------------

N_SAMPLES = 20_000


@pytest.mark.parametrize("family", ONE_OF_EACH[:3], ids=lambda family: family.name)
def test_joint_actions_occur_as_often_as_they_should(family):
    row = np.random.default_rng(1).uniform(-2, 1, family.n_outputs)
    actions = family(np.tile(row, (N_SAMPLES, 1))).sample(np.random.default_rng(2))
    for action, log_p in zip(all_actions(family), log_table(family, row[None]), strict=True):
        p = float(np.exp(log_p[0]))
        same = actions == action
        seen = np.mean(same if same.ndim == 1 else same.all(axis=-1))
        assert abs(seen - p) < 4 * math.sqrt(p * (1 - p) / N_SAMPLES)


def test_gaussian_samples_have_their_moments():
    mean, log_std = np.array([1.0, -20.0]), np.array([0.5, -1.0])
    distribution = DiagGaussian(np.tile(mean, (N_SAMPLES, 1)), log_std)
    x = (distribution.sample(np.random.default_rng(3)) - mean) / np.exp(log_std)
    error = 4 / math.sqrt(N_SAMPLES)  # in standard errors, of which a standard normal has 1, √2 and 1
    assert np.all(np.abs(x.mean(axis=0)) < error)
    assert np.all(np.abs((x**2).mean(axis=0) - 1) < error * math.sqrt(2))
    assert abs(np.mean(x[:, 0] * x[:, 1])) < error
    assert np.all(scipy.stats.kstest(x, scipy.stats.norm.cdf).pvalue > 1e-4)


class Uniforms:
    """Stands in for a generator whose uniform numbers are chosen."""

    def __init__(self, u):
        self.u = u

    def random(self, shape):
        return np.full(shape, self.u)


uniforms = st.one_of(st.sampled_from([0.0, 1 - 2.0**-53, 0.5, 2.0**-53]), st.floats(0, 1, exclude_max=True))
some_impossible = st.lists(st.sampled_from([-1e4, 0.0, 0.3, -2.0, -37.0, -700.0]), min_size=1, max_size=6)


@example([-1e4, 0.0], 0.0, np.float64)
@given(some_impossible, uniforms, st.sampled_from([np.float32, np.float64]))
def test_an_action_of_probability_zero_is_never_drawn(logits, u, dtype):
    distribution = Categorical(np.array([logits], dtype=dtype))
    (action,) = distribution.sample(Uniforms(u))
    assert distribution.probs[0, action] > 0


@example([0.0, -2.0, -37.0], 1 - 2.0**-53)
@given(some_impossible, uniforms)
def test_sampling_inverts_the_cumulative_distribution(logits, u):
    """Up to rounding: n probabilities, each of some eight operations, are summed in two ways."""
    distribution = Categorical(np.array([logits]))
    (action,) = distribution.sample(Uniforms(u))
    ends = np.concatenate([[0.0], np.cumsum(distribution.probs[0])])
    slack = (len(logits) + 8) * EPS
    assert ends[action] - slack <= u * ends[-1] <= ends[action + 1] + slack


def test_a_binary_action_of_probability_zero_or_one_is_certain():
    distribution = Bernoulli(np.tile([-1e4, 1e4], (1000, 1)))
    np.testing.assert_array_equal(distribution.sample(np.random.default_rng(0)), np.tile([0, 1], (1000, 1)))
    np.testing.assert_array_equal(Bernoulli(np.array([[-1e4, 1e4]])).sample(Uniforms(0.0)), [[0, 1]])


@each_family
@given(seed=st.integers(0, 2**32 - 2))
def test_the_same_seed_draws_the_same_bits_and_another_one_others(family, seed):
    distribution = family(family.from_flat(np.zeros((100, family.n_flat))))
    first, again, other = (
        distribution.sample(np.random.default_rng(s)).tobytes() for s in (seed, seed, seed + 1)
    )
    assert first == again
    assert first != other  # 100 states agree by chance with probability below 1e-30


@each_family
def test_states_may_have_any_number_of_leading_axes(family):
    outputs = family.from_flat(np.random.default_rng(0).uniform(-1, 1, (2, 3, family.n_flat)))
    rows = family.from_flat(flat(outputs).reshape(6, -1))
    distribution, by_row = family(outputs), family(rows)
    actions = distribution.sample(np.random.default_rng(1))
    assert actions.shape[:2] == (2, 3)
    same = by_row.sample(np.random.default_rng(1))
    if family.name != "MultiCategorical":  # which draws component by component, so also in this shape
        np.testing.assert_array_equal(actions.reshape(same.shape), same)
    for ours, expected in (
        (distribution.log_prob(actions), by_row.log_prob(actions.reshape(same.shape))),
        (distribution.entropy(), by_row.entropy()),
        (distribution.kl(distribution), by_row.kl(by_row)),
    ):
        np.testing.assert_allclose(ours, expected.reshape(2, 3), rtol=10 * EPS)


# --- dtypes, extremes and mistakes ----------------------------------------------------------------


@each_family
@given(data=st.data())
def test_float32_stays_float32_and_is_as_accurate_as_it_can_be(family, data):
    old, new = data.draw(outputs_of(family, copies=2))
    old32, new32 = (family.from_flat(flat(o).astype(np.float32)) for o in (old, new))
    # The same numbers in float64, so that only the arithmetic differs.
    old64, new64 = (family.from_flat(flat(o).astype(np.float64)) for o in (old32, new32))
    actions = family(old32).sample(np.random.default_rng(0))
    unit = float(np.finfo(np.float32).eps) / EPS
    for compute in (
        lambda old, new: old.log_prob(actions),
        lambda old, new: old.entropy(),
        lambda old, new: old.kl(new),
    ):
        single, double = (compute(family(old), family(new)) for old, new in ((old32, new32), (old64, new64)))
        assert single.dtype == np.float32
        assert_near(single, double, 2 * unit * rounding(family, old64, new64))
    v32 = np.random.default_rng(1).uniform(-1, 1, flat(old32).shape).astype(np.float32)
    product32 = flat(family(old32).fisher_product(family.from_flat(v32)))
    product64 = flat(family(old64).fisher_product(family.from_flat(v32.astype(np.float64))))
    assert product32.dtype == np.float32
    # Up to 10 operations on probabilities, or exp(−2 log σ), whose exponent of at most 6 rounds.
    assert_near(product32, product64, 20 * unit * EPS * (1 + np.abs(product64)))
    assert flat(family(old32).mode()).dtype == actions.dtype
    assert actions.dtype == (np.int64 if family.is_discrete else np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saturated_logits_give_their_limits(dtype):
    first, second = np.array([[1e4, -1e4]], dtype), np.array([[-1e4, 1e4]], dtype)
    for make in (Categorical, lambda z: MultiCategorical(z, (2,)), lambda z: Bernoulli(z[:, 1:] - z[:, :1])):
        old, new = make(first), make(second)
        impossible = np.array([[1]]) if not isinstance(old, Categorical) else np.array([1])
        np.testing.assert_array_equal(old.log_prob(impossible), dtype([-2e4]))
        np.testing.assert_array_equal(old.log_prob(0 * impossible), dtype([0]))
        np.testing.assert_array_equal(old.entropy(), dtype([0]))
        np.testing.assert_array_equal(old.kl(new), dtype([2e4]))
        np.testing.assert_array_equal(old.kl(old), dtype([0]))
        np.testing.assert_array_equal(old.fisher_product(np.ones_like(old.logits)), 0 * old.logits)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("log_std", [-18.0, 18.0])
def test_extreme_standard_deviations_stay_finite_and_right(log_std, dtype):
    old = DiagGaussian(np.zeros((1, 1), dtype), np.array([log_std], dtype))
    new = DiagGaussian(np.zeros((1, 1), dtype), np.array([-log_std], dtype))
    rtol = 100 * float(np.finfo(dtype).eps)  # exponents of up to 72 multiply exp's relative error
    std = math.exp(log_std)
    half_log = 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(
        old.log_prob(np.array([[2 * std]], dtype)), [-2 - log_std - half_log], rtol=rtol
    )
    np.testing.assert_allclose(old.entropy(), [log_std + half_log + 0.5], rtol=rtol)
    np.testing.assert_allclose(old.kl(new), [-2 * log_std + math.exp(4 * log_std) / 2 - 0.5], rtol=rtol)
    product = old.fisher_product((np.ones((1, 1), dtype), np.ones((1, 1), dtype)))
    np.testing.assert_allclose(flat(product), [[math.exp(-2 * log_std), 2]], rtol=rtol)
    assert np.all(np.isfinite(old.sample(np.random.default_rng(0))))


@given(arrays((2, 3)), arrays((3,)))
def test_one_log_std_serves_all_states(mean, log_std):
    shared, spelled_out = DiagGaussian(mean, log_std), DiagGaussian(mean, np.tile(log_std, (2, 1)))
    np.testing.assert_array_equal(shared.log_prob(mean + 1), spelled_out.log_prob(mean + 1))
    np.testing.assert_array_equal(shared.entropy(), spelled_out.entropy())
    np.testing.assert_array_equal(shared.mode(), mean)


@given(cases(copies=2))
def test_nothing_that_is_computed_changes_the_outputs(case):
    family, old, new = case
    before = flat(old).copy(), flat(new).copy()
    distribution = family(old)
    actions = distribution.sample(np.random.default_rng(0))
    drawn = actions.copy()
    uses: list[Callable[[], Any]] = [
        lambda: distribution.log_prob(actions),
        lambda: distribution.kl(family(new)),
        distribution.entropy,
        distribution.mode,
        lambda: distribution.fisher_product(old),
    ]
    for use in uses:
        use()
    np.testing.assert_array_equal(flat(old), before[0])
    np.testing.assert_array_equal(flat(new), before[1])
    np.testing.assert_array_equal(actions, drawn)


def test_logits_that_do_not_fit_nvec_are_refused():
    with pytest.raises(ValueError, match=r"nvec \(2, 3\) needs 5 logits, not 4"):
        MultiCategorical(np.zeros((1, 4)), [2, 3])


@pytest.mark.parametrize("shape", [(5, 2), (3,), (2, 2)])
def test_deviations_that_cannot_be_those_of_the_means_are_refused(shape):
    with pytest.raises(ValueError, match=r"broadcast|more dimensions"):
        DiagGaussian(np.zeros(2), np.zeros(shape))
