import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import assume, given
from hypothesis import strategies as st

from npTRPO import DiagGaussian, Policy
from npTRPO.autograd import grad
from npTRPO.trust_region import (
    CGOutcome,
    ConjugateGradient,
    LineSearch,
    LineSearchOutcome,
    LineSearchResult,
    PolicyObjective,
    Trial,
    Update,
    UpdateOutcome,
    mean_kl,
    natural_step,
    predicted_improvement,
    surrogate,
    update,
)
from tests.policies.oracles import EPS, complex_jacobian
from tests.strategies import PolicyBatch, generators, policy_batches, systems
from tests.trust_region.oracles import (
    fisher_by_definition,
    fisher_rounding,
    mean_kl_by_definition,
    surrogate_by_loop,
)

targets = st.sampled_from([1e-4, 1e-2, 0.5])

# Terms of the surrogate and of the KL round with about 100 ε: the policies drawn have log-probabilities
# of moderate size.
TERM = 100 * EPS


# --- the model problem ----------------------------------------------------------------------------


@given(systems(max_condition=1e4), targets)
def test_e29_the_step_is_the_closed_form_by_cholesky(s, target_kl):
    # With H = L Lᵀ and y = LᵀΔ the problem is a ball: maximise (L⁻¹g)ᵀy subject to ½‖y‖² ≤ δ.
    L = np.linalg.cholesky(s.A)
    along = np.linalg.solve(L, s.b)
    expected = np.linalg.solve(L.T, math.sqrt(2 * target_kl) * along / np.linalg.norm(along))
    x = np.linalg.solve(s.A, s.b)
    step = natural_step(x, float(x @ s.A @ x), target_kl)
    rounding = 20 * s.b.size**2 * s.condition * EPS
    np.testing.assert_allclose(step, expected, rtol=0, atol=rounding * np.linalg.norm(expected))
    expected = math.sqrt(2 * target_kl) * np.linalg.norm(along)  # E31
    assert predicted_improvement(s.b, step) == pytest.approx(expected, rel=rounding)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_keeps_its_dtype(dtype):
    assert natural_step(np.ones(2, dtype), 2.0, 0.01).dtype == dtype


# --- the surrogate --------------------------------------------------------------------------------


@given(policy_batches())
def test_e10_at_the_old_parameters_all_ratios_are_one(batch):
    policy, theta, observations, actions, advantages = batch
    old = policy(theta, observations)
    assert float(surrogate(old, old.log_prob(actions), actions, advantages)) == np.mean(advantages)
    assert float(surrogate(old, old.log_prob(actions), actions, np.ones(len(actions)))) == 1


@given(policy_batches())
def test_e8_its_gradient_at_the_old_parameters_is_the_score_function_gradient(batch):
    policy, theta, observations, actions, advantages = batch
    old_log_prob = policy(theta, observations).log_prob(actions)
    gradient = grad(lambda t: surrogate(policy(t, observations), old_log_prob, actions, advantages))(theta)
    scores = complex_jacobian(lambda t: policy(t, observations).log_prob(actions), theta)
    expected = advantages @ scores / len(actions)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=gradient_rounding(batch))


def gradient_rounding(batch):
    """Of the surrogate's gradient: a product with J like F v, whose other factor is a score times Â."""
    policy, theta, observations, actions, advantages = batch
    score = 1.0
    if policy.n_log_std:
        old = policy(theta, observations)
        assert isinstance(old, DiagGaussian)
        standardized = np.abs(actions - old.mean) / np.exp(old.log_std)
        score = 1 + float(np.max(standardized**2 + standardized / np.exp(old.log_std)))
    return 4 * fisher_rounding(policy, theta, observations) * score * float(np.max(np.abs(advantages)))


# --- the update -----------------------------------------------------------------------------------


def run(batch, **options):
    return update(*batch, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(batch=policy_batches(max_rows=12), target_kl=targets, damping=st.sampled_from([0.0, 0.1]))
def test_e38_an_accepted_step_keeps_the_kl_and_improves_the_surrogate(dtype, batch, target_kl, damping):
    batch = batch._replace(theta=batch.theta.astype(dtype), observations=batch.observations.astype(dtype))
    policy, theta, observations, _, advantages = batch
    result = run(batch, target_kl=target_kl, cg_damping=damping)
    assume(result.outcome is UpdateOutcome.IMPROVED)
    assert result.line_search is not None
    assert result.theta.dtype == dtype
    # The network ran in float32, here as there; what is compared is float64, which knows a KL of 1e-8.
    kl = mean_kl_by_definition(policy, theta, result.theta, observations)
    improvement = surrogate_by_loop(batch, result.theta) - float(np.mean(advantages))
    size = float(np.mean(np.abs(advantages))) * math.exp(5)  # ratios beyond e⁵ aren't accepted
    # The update's own sums are strict; ours are the same sums in another order.
    assert kl <= target_kl * (1 + TERM) + TERM
    assert improvement > -TERM * size
    assert 0 < result.improvement == pytest.approx(improvement, rel=0, abs=TERM * size)
    assert 0 <= result.kl <= target_kl
    assert result.kl == pytest.approx(kl, rel=TERM, abs=10 * TERM)
    assert result.theta is result.line_search.theta


@given(
    policy_batches(max_rows=12), generators(), st.booleans(), st.sampled_from([0.0, 0.1]), st.integers(1, 3)
)
def test_e30_e31_the_full_step_is_on_the_boundary_of_the_undamped_model(
    batch, rng, are_weighted, damping, every
):
    policy, theta, observations, actions, advantages = batch
    n = len(actions)
    weights = rng.uniform(0.1, 1, n) if are_weighted else np.ones(n)
    weights /= weights.sum()
    options = {"target_kl": 1e-3, "cg_damping": damping, "sub_sampling_factor": every}
    result = run(batch, **options, weights=weights if are_weighted else None)
    assume(result.outcome is UpdateOutcome.IMPROVED)
    assert result.line_search is not None
    assert result.cg is not None
    step = (result.theta - theta) / result.line_search.fraction
    by_row = [fisher_by_definition(policy, theta, row[None]) for row in observations[::every]]
    fisher = np.tensordot(weights[::every] / weights[::every].sum(), by_row, axes=1)
    # θ' − θ loses ε‖θ'‖, in a form whose curvature is at most ‖F‖.
    lost = 4 * EPS * (np.linalg.norm(theta) + np.linalg.norm(step)) / result.line_search.fraction
    norm = float(np.linalg.norm(step))
    rounding = fisher_rounding(policy, theta, observations) * theta.size
    atol = (np.linalg.norm(fisher, 2) * lost + rounding * norm) * norm
    assert abs(0.5 * step @ fisher @ step - 1e-3) <= atol
    scores = complex_jacobian(lambda t: policy(t, observations).log_prob(actions), theta)
    gradient = (weights * advantages) @ scores
    g_atol = gradient_rounding(batch) * math.sqrt(theta.size)
    g_norm = float(np.linalg.norm(gradient))
    assert abs(result.gradient_norm - g_norm) <= g_atol
    assert result.step_norm == pytest.approx(norm, rel=0, abs=lost)
    assert result.predicted_improvement == pytest.approx(
        gradient @ step, rel=0, abs=g_norm * lost + g_atol * norm
    )
    # The direction solves (F + λI) x = g to the tolerance that cg_rtol asks for.
    if result.cg.converged:
        residual = (fisher + damping * np.eye(theta.size)) @ result.cg.x - gradient
        size = float(np.linalg.norm(result.cg.x))
        assert np.linalg.norm(residual) <= 1e-2 * g_norm + g_atol + 100 * rounding * size


@given(policy_batches(max_rows=12), targets, st.sampled_from([1, 2, 100]))
def test_a_policy_that_stays_returns_the_very_same_array(batch, target_kl, every):
    before = batch.theta.tobytes()
    failures = [
        run(batch._replace(advantages=0 * batch.advantages), target_kl=target_kl),
        run(batch._replace(advantages=np.nan * batch.advantages), target_kl=target_kl),
        run(batch, target_kl=target_kl, cg_max_steps=0, sub_sampling_factor=every),
        run(batch, target_kl=1e-300),  # a step too short to change a single bit
    ]
    for result in failures:
        assert result.outcome is not UpdateOutcome.IMPROVED
        assert result.theta is batch.theta
        assert (result.kl, result.improvement) == (0.0, 0.0)
    assert batch.theta.tobytes() == before


@given(policy_batches(max_rows=12), st.integers(-30, 30), st.sampled_from([np.float32, np.float64]))
def test_e37_multiplying_advantages_by_a_power_of_two_changes_no_bit_of_theta(batch, power, dtype):
    # The gradient, and with it each vector of CG, is multiplied exactly; the tolerance E37 is relative, so
    # the path is the same; E30 divides the factor out; E38 compares surrogates that carry it both.
    batch = batch._replace(theta=batch.theta.astype(dtype), observations=batch.observations.astype(dtype))
    scaled = batch._replace(advantages=2.0**power * batch.advantages)
    one, other = run(batch), run(scaled)
    assert one.outcome is other.outcome
    np.testing.assert_array_equal(one.theta, other.theta)
    assert one.improvement * 2.0**power == other.improvement
    assert one.kl == other.kl


@given(policy_batches(max_rows=8), st.sampled_from([np.float32, np.float64]))
def test_an_update_repeats_to_the_bit_and_changes_no_input(batch, dtype):
    batch = batch._replace(theta=batch.theta.astype(dtype), observations=batch.observations.astype(dtype))
    arrays = batch[1:]
    before = [array.copy() for array in arrays]
    first, again, theta = run(batch), run(batch), batch.theta
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert first.theta.tobytes() == again.theta.tobytes()
    assert first.theta.dtype == dtype
    one, other = (dataclasses.replace(u, theta=theta, cg=None, line_search=None) for u in (first, again))
    assert one == other
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.kl = 0.0  # type: ignore[misc]


@given(policy_batches(max_rows=8), generators(), st.sampled_from([1, 2, 3, 2048]), st.booleans())
def test_an_objective_is_what_it_is_defined_as_whatever_blocks_and_weights(batch, rng, block, are_weighted):
    policy, theta, observations, actions, advantages = batch
    counts = rng.integers(0, 4, len(actions)) if are_weighted else np.ones(len(actions), int)
    counts[0] += are_weighted
    weights = counts / counts.sum() if are_weighted else None  # are as good as repeated rows
    repeated = PolicyBatch(policy, theta, *(np.repeat(x, counts, axis=0) for x in batch[2:]))
    new = theta + 0.1 * rng.standard_normal(theta.size)
    size = float(np.mean(np.abs(advantages))) * len(actions) * math.exp(5)
    gain, kl = (
        surrogate_by_loop(repeated, new),
        mean_kl_by_definition(policy, theta, new, repeated.observations),
    )
    old, moved = policy(theta, observations), policy(new, observations)
    ours = float(surrogate(moved, old.log_prob(actions), actions, advantages, weights))
    assert ours == pytest.approx(gain, rel=0, abs=TERM * size)
    assert float(mean_kl(old, moved, weights)) == pytest.approx(kl, rel=TERM, abs=10 * TERM)

    objective = PolicyObjective(*batch, weights=weights, block_rows=block)
    trial = objective(new)
    assert trial.surrogate == pytest.approx(gain, rel=0, abs=TERM * size)
    assert trial.divergence == pytest.approx(kl, rel=TERM, abs=10 * TERM)
    assert objective(theta).divergence == pytest.approx(0, abs=TERM)
    assert objective.at_old == pytest.approx(np.mean(repeated.advantages), rel=0, abs=TERM * size)
    entropies = policy(theta, repeated.observations).entropy()
    assert objective.entropy == pytest.approx(np.mean(entropies), rel=TERM)
    scores = complex_jacobian(lambda t: policy(t, repeated.observations).log_prob(repeated.actions), theta)
    expected = repeated.advantages @ scores / len(scores)
    np.testing.assert_allclose(objective.gradient, expected, rtol=0, atol=gradient_rounding(batch))
    fisher, _ = objective.system()
    by_definition = fisher_by_definition(policy, theta, repeated.observations) + 0.1 * np.eye(theta.size)
    atol = fisher_rounding(policy, theta, observations) + EPS
    np.testing.assert_allclose(fisher @ np.eye(theta.size), by_definition, rtol=0, atol=atol)


# --- objectives of one's own ----------------------------------------------------------------------


@given(policy_batches(max_rows=12), st.sampled_from(["kronecker", "identity"]), st.sampled_from([1, 2]))
def test_the_general_form_takes_the_same_step_to_the_bit(batch, preconditioner, every):
    of_objective = {"cg_damping": 0.2, "cg_preconditioner": preconditioner, "sub_sampling_factor": every}
    objective = PolicyObjective(*batch, **of_objective)
    solver = ConjugateGradient(rtol=1e-3, maxiter=7, beta="polak-ribiere")
    general = update(
        objective, batch.theta, target_kl=0.02, solver=solver, search=LineSearch(0.4, max_iter=5)
    )
    settings = {"cg_rtol": 1e-3, "cg_max_steps": 7, "cg_beta": "polak-ribiere"}
    settings |= {"target_kl": 0.02, "line_search_shrinking_factor": 0.4, "line_search_max_iter": 5}
    same = run(batch, **settings, **of_objective)
    np.testing.assert_array_equal(general.theta, same.theta)
    assert (general.outcome, general.kl, general.improvement) == (same.outcome, same.kl, same.improvement)
    assert math.isnan(general.explained_variance)


class WithEntropyBonus:
    """The surrogate plus a multiple of the mean entropy, made of public parts."""

    def __init__(self, batch, factor):
        self.batch, self.factor = batch, factor
        self.plain = PolicyObjective(*batch)
        self.entropy = self.plain.entropy
        self.at_old = self.plain.at_old + factor * self.entropy
        self.gradient = self.plain.gradient + factor * grad(self.mean_entropy)(batch.theta)
        self.system = self.plain.system

    def mean_entropy(self, theta):
        return np.mean(self.batch.policy(theta, self.batch.observations).entropy())

    def __call__(self, theta):
        gain, divergence = self.plain(theta)
        return Trial(gain + self.factor * float(self.mean_entropy(theta)), divergence)


def test_an_objective_of_ones_own_is_improved_within_the_trust_region():
    batch = example()
    batch = batch._replace(theta=3 * batch.theta + 0.5)  # not indifferent any more
    objective = WithEntropyBonus(batch, 100.0)
    result = update(objective, batch.theta)
    assert result.outcome is UpdateOutcome.IMPROVED
    assert result.kl == objective(result.theta).divergence <= 0.01
    assert result.improvement == objective(result.theta).surrogate - objective.at_old > 0
    assert objective.mean_entropy(result.theta) > max(
        objective.entropy, objective.mean_entropy(run(batch).theta)
    )


def test_a_search_of_ones_own_takes_the_place_of_the_line_search():
    batch = example()
    objective = PolicyObjective(*batch)

    def full_step(objective, theta, step, surrogate, *, target_kl):
        assert (surrogate, target_kl) == (objective.at_old, 5.0)
        new = theta + step
        return LineSearchResult(new, *objective(new), 1, 1.0, LineSearchOutcome.ACCEPTED)

    result = update(objective, batch.theta, target_kl=5.0, search=full_step)
    fisher, _ = objective.system()
    step = result.theta - batch.theta
    assert fisher.quadratic_form(step) / 2 == pytest.approx(5.0, rel=1e-9)
    assert (result.outcome, result.kl) == (UpdateOutcome.IMPROVED, objective(result.theta).divergence)
    assert result.step_norm == pytest.approx(np.linalg.norm(step))


def test_settings_of_a_policys_update_are_none_of_an_objectives():
    batch = example()
    with pytest.raises(TypeError, match="observations"):
        update(PolicyObjective(*batch), batch.theta, cg_max_steps=3)
    with pytest.raises(TypeError, match="solver and search go with an objective"):
        run(batch, search=LineSearch(0.3))


# --- outcomes of the update -----------------------------------------------------------------------


def example(action_space=None, scale=1.0):
    """A batch on which an update succeeds."""
    rng = np.random.default_rng(0)
    policy = Policy.for_spaces(spaces.Box(-1, 1, (2,)), action_space or spaces.Discrete(3), net_arch=(4,))
    theta, observations = policy.init(rng), scale * rng.standard_normal((20, 2))
    actions = policy(theta, observations).sample(rng)
    return PolicyBatch(policy, theta, observations, actions, rng.standard_normal(20))


def saturated():
    """A linear policy that is certain in its first state, whatever a small step does, and open in others."""
    batch = example()
    policy = Policy.for_spaces(spaces.Box(-1, 1, (2,)), spaces.Discrete(3), net_arch=())
    theta = np.zeros(9)
    theta[:6] = [1, -1, -1, 0, 0, 0]
    observations = np.abs(batch.observations)
    observations[0] = [1e4, 0]
    observations[1:, 0] = 0
    return batch._replace(policy=policy, theta=theta, observations=observations)


OUTCOMES: dict[UpdateOutcome, Callable[[], Update]] = {
    UpdateOutcome.IMPROVED: lambda: run(example()),
    UpdateOutcome.ZERO_GRADIENT: lambda: run(example()._replace(advantages=np.zeros(20))),
    UpdateOutcome.NOT_FINITE: lambda: run(example()._replace(advantages=np.full(20, np.nan))),
    UpdateOutcome.NO_CURVATURE: lambda: run(saturated(), sub_sampling_factor=20, cg_damping=0.1),
    UpdateOutcome.LINE_SEARCH_FAILED: lambda: run(example(), line_search_max_iter=1),
}


@pytest.mark.parametrize("outcome", OUTCOMES)  # MEASURED is learn's
def test_every_outcome_is_reached(outcome):
    result = OUTCOMES[outcome]()
    assert result.outcome is outcome
    assert (result.line_search is not None) == (
        outcome in (UpdateOutcome.IMPROVED, UpdateOutcome.LINE_SEARCH_FAILED)
    )
    assert (result.cg is not None) == (outcome not in (UpdateOutcome.ZERO_GRADIENT, UpdateOutcome.NOT_FINITE))
    assert (result.gradient_norm > 0) == (
        outcome not in (UpdateOutcome.ZERO_GRADIENT, UpdateOutcome.NOT_FINITE)
    )


@pytest.mark.parametrize("outcome", [*CGOutcome, *LineSearchOutcome, *UpdateOutcome], ids=str)
def test_every_outcome_says_what_happened_in_a_sentence(outcome):
    assert outcome.value[0].isupper()
    assert outcome.value.endswith(".")
    assert " " in outcome.value


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,))], ids=["Discrete", "Box"])
def test_one_advantage_that_is_not_finite_keeps_the_policy(bad, space):
    batch = example(space)
    batch.advantages[7] = bad
    result = run(batch)
    assert result.outcome is UpdateOutcome.NOT_FINITE
    assert result.theta is batch.theta


def test_advantages_that_cancel_are_no_zero_gradient_but_equal_ones_nearly_are():
    batch = example()
    assert run(batch._replace(advantages=np.tile([1.0, -1.0], 10))).outcome is UpdateOutcome.IMPROVED
    assert run(batch._replace(advantages=np.zeros(20, int))).outcome is UpdateOutcome.ZERO_GRADIENT


def test_a_step_that_overflows_is_refused_without_a_warning():
    batch = example(spaces.Box(-1, 1, (2,)), scale=1e3)
    result = run(batch, target_kl=1e300, line_search_max_iter=3)
    assert result.outcome is UpdateOutcome.LINE_SEARCH_FAILED
    assert result.line_search is not None
    assert result.line_search.outcome in (LineSearchOutcome.NOT_FINITE, LineSearchOutcome.KL_EXCEEDED)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"cg_beta": "none"}, "beta must be"), ({"line_search_shrinking_factor": 1.5}, "shrinking_factor")],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        run(example(), **setting)


def test_with_damping_far_above_the_curvature_the_step_follows_the_gradient():
    batch = example()
    steps = [run(batch, cg_damping=d).theta - batch.theta for d in (0.0, 1e6)]
    assert steps[0] @ steps[1] / np.prod(np.linalg.norm(steps, axis=1)) < 0.99
    along = steps[1] @ PolicyObjective(*batch).gradient
    assert along == pytest.approx(np.linalg.norm(steps[1]) * np.linalg.norm(PolicyObjective(*batch).gradient))
