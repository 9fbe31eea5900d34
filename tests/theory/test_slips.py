"""The slips that write-ups of TRPO often have: each is made on purpose here, and has to be noticed."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npTRPO import Categorical, DiagGaussian, FisherOperator, conjugate_gradient, gae, line_search
from npTRPO.autograd import grad
from npTRPO.sampling.advantages import td_residuals
from npTRPO.theory import curvature, estimators, krylov, performance, random_mdp, steps
from npTRPO.theory.instances import Instance
from npTRPO.theory.performance import discounted_sum
from npTRPO.trust_region import mean_kl
from tests.theory.oracles import assert_holds, failures, random_policy

CASES = [Instance.draw(np.random.default_rng(seed)) for seed in range(12)]


def fresh() -> list[Instance]:
    """The instances without anything that they have already computed."""
    return [dataclasses.replace(instance) for instance in CASES]


def assert_noticed(number: str) -> None:
    """The statement fails on one of the instances at least."""
    assert any(failures(number, instance) for instance in fresh())


@pytest.fixture(autouse=True)
def _all_is_well_without_the_slip() -> None:
    for number in ("E4", "E7", "E9", "E17", "E20", "E30", "E37", "E38", "E39", "E41", "E42"):
        for instance in fresh()[:2]:
            assert_holds(number, instance)


def test_slip_1_kl_of_gaussians_with_old_and_new_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    right = DiagGaussian.kl
    monkeypatch.setattr(DiagGaussian, "kl", lambda old, new: right(new, old))
    assert_noticed("E17")


def test_slip_1_kl_of_softmax_policies_with_old_and_new_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Categorical.kl
    monkeypatch.setattr(Categorical, "kl", lambda old, new: right(new, old))
    for number in ("E15", "E16", "E19"):
        assert_noticed(number)


def test_slip_2_the_inverse_of_h_under_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def inverse(self: FisherOperator, v: np.ndarray) -> float:
        return float(v @ np.linalg.pinv(self @ np.eye(len(v)), rcond=1e-10) @ v)

    monkeypatch.setattr(FisherOperator, "quadratic_form", inverse)
    assert_noticed("E30")


def test_slip_3_the_surrogate_without_its_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(old: Any, new: np.ndarray, discount: float) -> float:
        return old.objective + float(old.visitation @ np.sum(new * old.advantages, axis=1))

    monkeypatch.setattr(performance, "local_approximation", without)
    for number in ("E7", "E9"):
        assert_noticed(number)


def test_slip_4_a_td_residual_is_a_sample_of_the_advantage_and_not_the_advantage() -> None:
    mdp = random_mdp(np.random.default_rng(0), 4, 2, discount=0.9)
    now = mdp.evaluate(random_policy(mdp, np.random.default_rng(1)))
    shape = mdp.transition.shape
    residuals = td_residuals(
        mdp.reward[:, :, None],
        np.broadcast_to(now.values[:, None, None], shape),
        np.broadcast_to(now.values, shape),
        np.zeros(shape, dtype=bool),
        0.9,
    )
    off = np.abs(residuals - now.advantages[:, :, None])
    assert np.min(np.max(off, axis=2)) > 0.1
    np.testing.assert_allclose(np.sum(mdp.transition * residuals, axis=2), now.advantages, atol=1e-12)


def test_slip_4_a_residual_that_is_taken_for_its_mean_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over the likeliest next state alone is no mean."""
    monkeypatch.setattr(performance, "draw", lambda rows, rng: np.argmax(rows, axis=1))
    assert_noticed("E4")


def test_slip_5_the_gradient_of_the_kl_at_the_old_parameters_is_zero() -> None:
    for instance in fresh():
        nu = instance.old.visitation
        slope = grad(lambda t, c=instance, w=nu: mean_kl(c.old_distribution, c.policy(t, c.states), w))(
            instance.theta
        )
        assert np.max(np.abs(slope)) <= 1e-15
        assert instance.fisher.quadratic_form(instance.rng(5).standard_normal(instance.theta.size)) > 1e-3


def test_slip_5_a_small_number_inside_the_logarithms_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes the gradient only close to zero."""

    def guarded(old: Categorical, new: Categorical) -> Any:
        return np.sum(old.probs * (np.log(old.probs + 1e-8) - np.log(new.probs + 1e-8)), axis=-1)

    monkeypatch.setattr(Categorical, "kl", guarded)
    assert_noticed("E20")


def test_slip_6_an_absolute_tolerance_on_the_squared_residual(monkeypatch: pytest.MonkeyPatch) -> None:
    def absolute(A: Any, b: np.ndarray, x0: Any = None, **options: Any) -> Any:
        rtol = options.pop("rtol", 1e-5)
        return conjugate_gradient(A, b, x0, **{**options, "rtol": 0.0, "atol": np.sqrt(rtol * 1e-5)})

    monkeypatch.setattr(krylov, "conjugate_gradient", absolute)
    assert_noticed("E37")


@pytest.mark.parametrize("factor", [1.5, np.inf])
def test_slip_7_a_kl_that_may_be_larger_than_delta(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    def lenient(evaluate: Any, *args: Any, target_kl: float, **options: Any) -> Any:
        return line_search(evaluate, *args, target_kl=factor * target_kl, **options)

    monkeypatch.setattr(steps, "line_search", lenient)
    assert_noticed("E38")


Slip = Callable[..., np.ndarray]


def bootstraps_with_zero_at_a_time_limit(
    r: Any, v: Any, after: Any, ended: Any, cut: Any, *rest: Any, **more: Any
) -> Any:
    return gae(r, v, np.where(cut, 0, after), ended, cut, *rest, **more)


def bootstraps_with_the_next_episode(
    r: Any, v: Any, after: Any, ended: Any, cut: Any, *rest: Any, **more: Any
) -> Any:
    shifted = np.concatenate([v[1:], after[-1:]])
    return gae(r, v, np.where(cut, shifted, after), ended, cut, *rest, **more)


def runs_across_truncations(r: Any, v: Any, after: Any, ended: Any, cut: Any, *rest: Any, **more: Any) -> Any:
    return gae(r, v, after, ended, np.zeros_like(cut), *rest, **more)


def runs_across_terminations(
    r: Any, v: Any, after: Any, ended: Any, cut: Any, *rest: Any, **more: Any
) -> Any:
    return gae(r, v, np.where(ended, 0, after), np.zeros_like(ended), cut, *rest, **more)


def goes_on_after_a_termination(
    r: Any, v: Any, after: Any, ended: Any, cut: Any, *rest: Any, **more: Any
) -> Any:
    return gae(r, v, after, np.zeros_like(ended), cut | ended, *rest, **more)


@pytest.mark.parametrize(
    "slip",
    [
        bootstraps_with_zero_at_a_time_limit,
        bootstraps_with_the_next_episode,
        runs_across_truncations,
        runs_across_terminations,
        goes_on_after_a_termination,
    ],
)
def test_slip_8_advantages_that_mistake_the_end_of_an_episode(
    monkeypatch: pytest.MonkeyPatch, slip: Slip
) -> None:
    monkeypatch.setattr(estimators, "gae", slip)
    for number in ("E41", "E42", "E43"):
        assert_noticed(number)


def test_slip_8_residuals_that_mistake_the_end_of_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(rewards: Any, values: Any, next_values: Any, terminated: Any, gamma: float) -> Any:
        return td_residuals(rewards, values, next_values, np.zeros_like(terminated), gamma)

    monkeypatch.setattr(estimators, "td_residuals", never)
    assert_noticed("E39")


def test_e21_a_fisher_product_that_is_wrong_by_a_millionth_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Categorical.fisher_product
    monkeypatch.setattr(Categorical, "fisher_product", lambda d, v: right(d, v) * (1 + 1e-6))
    for number in ("E21", "E22", "E23"):
        assert_noticed(number)


def test_e1_e3_e5_e6_sums_over_time_with_too_small_a_discount_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(performance, "discounted_sum", lambda p, s, g: discounted_sum(p, s, 0.9 * g))
    for number in ("E1", "E3", "E5", "E6"):
        assert_noticed(number)


def test_e25_a_damped_step_depends_on_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    def damped(policy: Any, theta: Any, states: Any, damping: float = 0.0, **options: Any) -> FisherOperator:
        return FisherOperator(policy, theta, states, damping + 0.1, **options)

    monkeypatch.setattr(curvature, "FisherOperator", damped)
    assert_noticed("E25")
