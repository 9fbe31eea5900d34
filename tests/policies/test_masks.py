"""Distributions with masks, against definitions over the allowed actions alone."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import Categorical, FisherOperator, MultiCategorical, Policy
from npTRPO.autograd import check_derivatives, grad, hessian
from npTRPO.policies.masks import MaskError, as_masks
from npTRPO.trust_region import mean_kl
from tests.policies.oracles import EPS, Family, fisher_in_outputs, kl_by_definition, log_table
from tests.strategies import generators

NVEC = (3, 4, 2)


def masks_for(rng, n_rows, nvec):
    """Random masks, with something allowed in each component."""
    parts = [rng.random((n_rows, n)) < 0.5 for n in nvec]
    for part in parts:
        part[np.arange(n_rows), rng.integers(part.shape[1], size=n_rows)] = True
    return np.concatenate(parts, axis=1)


def split(row, nvec):
    return np.split(row, np.cumsum(nvec)[:-1])


@st.composite
def cases(draw):
    """Distributions' class, two sets of logits, and masks; with one component or several."""
    rng, nvec = draw(generators()), draw(st.sampled_from([(5,), (1,), NVEC]))
    shape = (3, sum(nvec))
    return nvec, rng.uniform(-3, 3, shape), rng.uniform(-3, 3, shape), masks_for(rng, 3, nvec), rng


def masked(logits, nvec, mask):
    return Categorical(logits, mask) if len(nvec) == 1 else MultiCategorical(logits, nvec, mask)


def over_the_allowed(nvec, logits, mask):
    """For each component of one state: the family of the allowed choices, with their logits and numbers."""
    for z, allowed in zip(split(logits, nvec), split(mask, nvec), strict=True):
        yield Family("Categorical", (int(allowed.sum()),)), z[None, allowed], np.flatnonzero(allowed)


ROUNDING = 50 * EPS * 10  # probabilities and logarithms of at most 10, over a few components


@given(cases())
def test_e16_log_probability_entropy_and_kl_are_those_of_the_softmax_over_the_allowed(case):
    nvec, logits, other, mask, _ = case
    old, new = masked(logits, nvec, mask), masked(other, nvec, mask)
    for i in range(len(logits)):
        log_prob, entropy, kl = 0.0, 0.0, 0.0
        chosen = []
        for (family, z, numbers), (_, z_new, _) in zip(
            over_the_allowed(nvec, logits[i], mask[i]),
            over_the_allowed(nvec, other[i], mask[i]),
            strict=True,
        ):
            table = log_table(family, z)[:, 0].astype(float)
            chosen.append(numbers[-1])
            log_prob += table[-1]
            entropy -= np.sum(np.exp(table) * table)
            kl += kl_by_definition(family, z, z_new)[0]
        action = np.array([chosen] * len(logits)) if len(nvec) > 1 else np.array(chosen * len(logits))
        np.testing.assert_allclose(old.log_prob(action)[i], log_prob, rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(old.entropy()[i], entropy, rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(old.kl(new)[i], kl, rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(old.kl(old), 0)


@given(cases())
def test_a_forbidden_action_has_probability_zero_exactly_whatever_its_logit_is(case):
    nvec, logits, _, mask, rng = case
    loud = np.where(mask, logits, 1e30)
    distribution = masked(loud, nvec, mask)
    parts = distribution.components if len(nvec) > 1 else [distribution]
    for part, allowed in zip(parts, np.split(mask, np.cumsum(nvec)[:-1], axis=1), strict=True):
        np.testing.assert_array_equal(part.probs == 0, ~allowed)
        for index in np.argwhere(~allowed):
            assert part.log_prob(np.full(len(mask), index[1]))[index[0]] == -np.inf
        for actions in (part.mode(), part.sample(rng)):
            assert allowed[np.arange(len(mask)), actions].all()


@given(cases())
def test_e22_e24_the_fisher_product_is_that_of_the_allowed_and_the_hessian_of_the_kl(case):
    nvec, logits, _, mask, _ = case
    old = masked(logits[:1], nvec, mask[:1])
    expected, start = np.zeros((sum(nvec),) * 2), 0
    for n, (family, z, numbers) in zip(nvec, over_the_allowed(nvec, logits[0], mask[0]), strict=True):
        expected[np.ix_(start + numbers, start + numbers)] = fisher_in_outputs(family, z[0])
        start += n
    curvature = hessian(lambda z: np.sum(old.kl(masked(z[None], nvec, mask[:1]))))(logits[0])
    np.testing.assert_allclose(curvature, expected, rtol=0, atol=ROUNDING)
    for v, column in zip(np.eye(sum(nvec)) * mask[0], expected.T, strict=True):
        np.testing.assert_allclose(old.fisher_product(v[None])[0], column, rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(old.fisher_form(v[None]), v @ column, rtol=0, atol=ROUNDING)


def test_derivatives_go_through_the_allowed_alone():
    mask, z = np.array([[True, False, True, True]]), np.array([[0.3, 5.0, -1.0, 0.2]])
    old = Categorical(np.zeros((1, 4)), mask)
    for f in (
        lambda z: Categorical(z, mask).log_prob(np.array([2])),
        lambda z: Categorical(z, mask).entropy(),
        lambda z: old.kl(Categorical(z, mask)),
    ):
        check_derivatives(f, z, order=2, method="central difference")
        assert grad(lambda z, f=f: np.sum(f(z)))(z)[0, 1] == 0


def test_logits_that_move_far_together_lose_no_digits_of_a_masked_kl():
    mask = np.array([[True, True, False]])
    old, new = np.array([[0.5, 0.25, 7.0]]), np.array([[0.5 + 2.0**-20, 0.25, 7.0]])
    expected = Categorical(old[:, :2]).kl(Categorical(new[:, :2]))
    for shift in (0.0, 2.0**20):
        kl = Categorical(old, mask).kl(Categorical(new + shift, mask))
        np.testing.assert_allclose(kl, expected, rtol=1e-6)


def test_kl_is_infinite_where_the_new_mask_forbids_what_the_old_allows_and_not_the_other_way():
    logits = np.log([[0.2, 0.3, 0.5]])
    few, all_ = (Categorical(logits, np.array([[True, True, last]])) for last in (False, True))
    np.testing.assert_array_equal(all_.kl(few), np.inf)
    np.testing.assert_allclose(few.kl(all_), np.log(2), rtol=1e-14)  # π = (0.4, 0.6), π' = (0.2, 0.3, 0.5)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((2, 3)), "must be boolean and like the logits, of shape .2, 3., not float64"),
        (np.ones((1, 3), bool), "not bool of shape .1, 3."),
        (np.array([[True, False, False], [False, False, False]]), "allow at least one action"),
    ],
)
def test_masks_that_mean_nothing_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        Categorical(np.zeros((2, 3)), mask)


def test_a_component_without_a_choice_is_refused():
    with pytest.raises(ValueError, match="allow at least one action of each component"):
        MultiCategorical(np.zeros((1, 4)), (2, 2), np.array([[True, True, False, False]]))


# --- masks as environments give them -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32])
def test_masks_are_booleans_or_zeros_and_ones(dtype):
    given_masks = np.array([[1, 0], [0, 1]], dtype)
    for masks in (given_masks, list(given_masks), tuple(map(list, given_masks))):
        found = as_masks(masks, (2,))
        assert found.dtype == np.bool_
        np.testing.assert_array_equal(found, [[True, False], [False, True]])


@pytest.mark.parametrize(
    ("masks", "choices", "row", "message"),
    [
        ([[1, 1, 1], [1, 1]], (3,), 1, r"has an action mask of shape \(2,\), not \(3,\)"),
        ([[1, 0, 1], [0, 0, 0]], (3,), 1, "allows no action$"),
        ([[1, 0, 0], [1, 1, 0]], (1, 2), 0, "allows no action in component 1"),
        ([[1, 0.5]], (2,), 0, "has the number 0.5 in its action mask, which isn't 0 or 1"),
        ([[1, np.nan]], (2,), 0, "has the number nan"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named(masks, choices, row, message):
    with pytest.raises(MaskError, match=message) as caught:
        as_masks(masks, choices)
    assert caught.value.row == row


def test_masks_that_no_action_is_chosen_by_may_allow_nothing():
    found = as_masks([[0, 0], [0, 1]], (2,), unused=np.array([True, False]))
    np.testing.assert_array_equal(found, [[True, True], [False, True]])


# --- in a policy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [spaces.Discrete(4, start=2), spaces.MultiDiscrete([2, 3])], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_f_v_of_a_masked_policy_is_the_hessian_of_its_mean_kl(space, dtype):
    policy = Policy.for_spaces(spaces.Box(-1, 1, (2,)), space, net_arch=(3,), mask_actions=True)
    rng, nvec = np.random.default_rng(0), policy.choices
    theta = policy.init(rng) + 0.3 * rng.standard_normal(policy.n_parameters)
    rows = policy.rows(rng.standard_normal((5, 2)), masks_for(rng, 5, nvec))
    old, v = policy(theta, rows), rng.standard_normal(policy.n_parameters)
    curvature = hessian(lambda t: mean_kl(old, policy(t, rows)))(theta)
    F = FisherOperator(policy, theta.astype(dtype), rows.astype(dtype))
    atol = 1e-11 if dtype is np.float64 else 1e-4
    np.testing.assert_allclose(F @ v, curvature @ v, rtol=0, atol=atol)
    np.testing.assert_allclose(F.quadratic_form(v), v @ curvature @ v, rtol=100 * atol)
    drawn = old.sample(np.random.default_rng(1))
    np.testing.assert_array_equal(policy.at(theta)(rows).sample(np.random.default_rng(1)), drawn)


def test_masks_in_observations_are_no_features():
    space = spaces.Dict({"action_mask": spaces.MultiBinary(3), "x": spaces.Box(0, 1, (2,))})
    policy = Policy.for_spaces(space, spaces.Discrete(3), net_arch=(4,), mask_actions=True)
    assert (policy.n_features, policy.network.sizes, policy.observation_eps.shape) == (2, (2, 4, 3), (2,))
    observations = {"x": np.ones((2, 2)), "action_mask": np.array([[0, 1, 1], [1, 0, 0]], np.int8)}
    np.testing.assert_array_equal(policy.encode(observations), np.ones((2, 2)))
    np.testing.assert_array_equal(policy.masks(observations), [[False, True, True], [True, False, False]])
    usual = Policy.for_spaces(space, spaces.Discrete(3))
    assert (usual.n_features, usual.masks(observations)) == (5, None)


def test_without_masks_given_all_actions_are_allowed():
    space = spaces.Box(-1, 1, (2,))
    policy = Policy.for_spaces(space, spaces.Discrete(3), mask_actions=True)
    usual = Policy.for_spaces(space, spaces.Discrete(3))
    theta, rows = policy.init(np.random.default_rng(0)), np.random.default_rng(1).standard_normal((4, 2))
    np.testing.assert_array_equal(policy(theta, policy.rows(rows, None)).probs, usual(theta, rows).probs)


@pytest.mark.parametrize(
    ("observation", "action", "options", "message"),
    [
        (
            spaces.Discrete(2),
            spaces.Box(0, 1, (2,)),
            {},
            "not for Box",
        ),
        (
            spaces.Discrete(2),
            spaces.MultiBinary(2),
            {},
            "not for MultiBinary",
        ),
        (
            spaces.Dict({"action_mask": spaces.MultiBinary(3), "x": spaces.Discrete(2)}),
            *(spaces.Discrete(4), {}, r"has shape \(3,\), where actions need \(4,\)"),
        ),
        (
            *(spaces.Discrete(2), spaces.Discrete(4)),
            *({"distribution": lambda space: (4, Categorical)}, "needs the usual distribution"),
        ),
    ],
)
def test_what_cannot_be_masked_is_refused(observation, action, options, message):
    with pytest.raises(ValueError, match=message):
        Policy.for_spaces(observation, action, mask_actions=True, **options)
