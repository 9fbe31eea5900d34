"""GAE against its definitions, evaluated in rational numbers.

The tolerance is that of rounding: in E42's recursion the term (γλ)ˡ δ_{t+l} goes through at most 4 roundings
in δ (its three operations, and γ itself in float32) and 4 at each of the l + 1 steps to its place (γλ and
its float32, a product, a sum). An error of n roundings is at most n ε of the term's magnitude for n ε ≪ 1,
where ε is twice the unit roundoff, and of n smallest subnormals where products underflow.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import gae
from npTRPO.sampling.advantages import td_residuals
from tests.strategies import experiences, fractions


def exactly(numbers):
    """The numbers as rationals; they are binary fractions, so nothing is rounded."""
    return [Fraction(float(number)) for number in numbers]


def episode_steps(experience, t):
    """The steps from t to the end of its episode, or of the arrays."""
    over = experience["terminated"] | experience["truncated"]
    ends = [k for k in range(t, len(over)) if over[k]]
    return range(t, (ends[0] if ends else len(over) - 1) + 1)


def exact_residuals(experience, gamma):
    """E39, as a sentence: the next value counts as 0 after a termination, whatever else happened."""
    rewards, values, following = (exactly(experience[k]) for k in ("rewards", "values", "next_values"))
    bootstrap = [0 if over else v for v, over in zip(following, experience["terminated"], strict=True)]
    return [r + Fraction(gamma) * v - w for r, v, w in zip(rewards, bootstrap, values, strict=True)]


def exact_gae(experience, gamma, lam):
    """E41: the sum over l of (γλ)ˡ δ_{t+l}, from every t anew."""
    delta, weight = exact_residuals(experience, gamma), Fraction(gamma) * Fraction(lam)
    return [
        sum(weight ** (k - t) * delta[k] for k in episode_steps(experience, t)) for t in range(len(delta))
    ]


def rounding(experience, gamma, lam, dtype=np.float64):
    """The bound of the module's docstring, for every t."""
    magnitude = (
        np.abs(experience["rewards"]) + np.abs(gamma * experience["next_values"]) + abs(experience["values"])
    )
    n = 4 + 4 * (len(magnitude) + 1)
    info = np.finfo(dtype)
    terms = [
        sum((gamma * lam) ** (k - t) * magnitude[k] for k in episode_steps(experience, t))
        for t in range(len(magnitude))
    ]
    return n * (float(info.eps) * np.array(terms, dtype=np.float64) + float(info.smallest_subnormal))


def assert_within(computed, exact, bound):
    errors = [float(abs(Fraction(float(a)) - b)) for a, b in zip(computed, exact, strict=True)]
    assert np.all(np.array(errors) <= bound), (computed, [float(b) for b in exact])


@given(experiences(), fractions, fractions)
def test_E41_gae_is_the_discounted_sum_of_the_td_residuals_to_the_end_of_the_episode(experience, gamma, lam):
    advantages = gae(**experience, gamma=gamma, lam=lam)
    assert_within(advantages, exact_gae(experience, gamma, lam), rounding(experience, gamma, lam))


@given(st.lists(experiences(closed=True), min_size=1, max_size=3), experiences(), fractions, fractions)
def test_E42_the_recursion_restarts_at_every_end(episodes, open_one, gamma, lam):
    pieces = [*episodes, open_one]
    joined = {key: np.concatenate([piece[key] for piece in pieces]) for key in open_one}
    apart = np.concatenate([gae(**piece, gamma=gamma, lam=lam) for piece in pieces])
    np.testing.assert_array_equal(gae(**joined, gamma=gamma, lam=lam), apart)


@pytest.mark.parametrize("end", ["terminated", "truncated"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e308])
def test_E42_nothing_leaks_across_an_end_not_even_what_is_not_finite(end, poison):
    experience = {
        "rewards": np.array([1.0, 2.0, poison, 4.0]),
        "values": np.zeros(4),
        "next_values": np.zeros(4),
        "terminated": np.zeros(4, dtype=bool),
        "truncated": np.zeros(4, dtype=bool),
    }
    experience[end][1] = True
    np.testing.assert_array_equal(gae(**experience, gamma=0.5, lam=0.5)[:2], [1.5, 2.0])


@pytest.mark.parametrize(
    ("terminated", "truncated", "bootstrap"),
    [(False, False, 8.0), (False, True, 8.0), (True, False, 0.0), (True, True, 0.0)],
)
def test_E39_the_next_value_counts_as_zero_after_a_termination_and_as_it_is_after_a_truncation(
    terminated, truncated, bootstrap
):
    one = {"rewards": np.array([1.0]), "values": np.array([3.0]), "next_values": np.array([8.0])}
    end = {"terminated": np.array([terminated]), "truncated": np.array([truncated])}
    assert gae(**one, **end, gamma=0.5, lam=0.9) == 1 + 0.5 * bootstrap - 3


@given(experiences(), fractions, fractions, st.sampled_from([np.nan, np.inf, -np.inf]))
def test_E39_the_next_value_is_ignored_at_a_termination(experience, gamma, lam, anything):
    spoiled = np.where(experience["terminated"], anything, experience["next_values"])
    np.testing.assert_array_equal(
        gae(**experience | {"next_values": spoiled}, gamma=gamma, lam=lam),
        gae(**experience, gamma=gamma, lam=lam),
    )


@given(experiences(), fractions)
def test_E43_with_lambda_0_gae_is_the_td_residual(experience, gamma):
    computed = gae(**experience, gamma=gamma, lam=0.0)
    assert_within(computed, exact_residuals(experience, gamma), rounding(experience, gamma, 0.0))
    arrays = [experience[key] for key in ("rewards", "values", "next_values", "terminated")]
    np.testing.assert_array_equal(computed, td_residuals(*arrays, gamma))


@given(st.data(), st.integers(1, 3), fractions, fractions)
def test_environments_side_by_side_are_as_each_alone(data, n, gamma, lam):
    columns = [data.draw(experiences()) for _ in range(n)]
    steps = min(len(column["rewards"]) for column in columns)
    together = {key: np.stack([c[key][:steps] for c in columns], axis=1) for key in columns[0]}
    alone = [gae(*(c[key][:steps] for key in c), gamma, lam) for c in columns]
    np.testing.assert_array_equal(gae(**together, gamma=gamma, lam=lam), np.stack(alone, axis=1))


@given(experiences(), fractions, fractions)
def test_float32_stays_float32(experience, gamma, lam):
    floats = {key: experience[key].astype(np.float32) for key in ("rewards", "values", "next_values")}
    low = experience | floats
    advantages = gae(**low, gamma=gamma, lam=lam)
    assert advantages.dtype == np.float32
    bound = rounding(low, gamma, lam, np.float32)
    assert_within(advantages, exact_gae(low, gamma, lam), bound)


def test_whole_numbers_are_numbers():
    no, ones = np.zeros(3, dtype=bool), np.ones(3, dtype=int)
    advantages = gae(ones, 0 * ones, 0 * ones, no, no, gamma=1, lam=0.5)
    np.testing.assert_array_equal(advantages, [1.75, 1.5, 1.0])


@given(experiences(), fractions, fractions)
def test_the_arrays_given_are_left_alone(experience, gamma, lam):
    copies = {key: array.copy() for key, array in experience.items()}
    gae(**experience, gamma=gamma, lam=lam)
    for key, array in experience.items():
        np.testing.assert_array_equal(array, copies[key])


@pytest.mark.parametrize("shape", [(0,), (0, 2)])
def test_no_steps_have_no_advantages(shape):
    assert gae(*(np.zeros(shape) for _ in range(5))).shape == shape


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("shape", [(2,), (3, 1), (1, 3), ()])
def test_arrays_of_different_shapes_are_refused_with_their_shapes(place, shape):
    arrays = [np.zeros(3)] * 5
    arrays[place] = np.zeros(shape)
    with pytest.raises(ValueError, match=r"five arrays of one shape, \(T,\) or \(T, n_envs\), not .*\(3,\)"):
        gae(*arrays)


@pytest.mark.parametrize("shape", [(), (2, 2, 2)])
def test_arrays_with_no_or_too_many_axes_are_refused(shape):
    with pytest.raises(ValueError, match="five arrays of one shape"):
        gae(*(np.zeros(shape) for _ in range(5)))


@pytest.mark.parametrize("name", ["gamma", "lam"])
@pytest.mark.parametrize("number", [-1e-9, 1 + 1e-9, np.nan, np.inf])
def test_discounts_outside_0_to_1_are_refused(name, number):
    with pytest.raises(ValueError, match=f"{name} must lie between 0 and 1"):
        gae(*(np.zeros(3) for _ in range(5)), **{name: number})
