import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npTRPO import line_search
from npTRPO.trust_region import LineSearch, LineSearchOutcome
from tests.strategies import arrays

TARGET, AT_OLD = 0.01, 0.5

surrogates = st.one_of(
    st.sampled_from(
        [AT_OLD, np.nextafter(AT_OLD, 1), np.nextafter(AT_OLD, 0), math.nan, math.inf, -math.inf]
    ),
    st.floats(-1, 1),
)
divergences = st.one_of(
    st.sampled_from([TARGET, np.nextafter(TARGET, 1), np.nextafter(TARGET, 0), 0.0, math.nan, math.inf]),
    st.floats(0, 0.02),
)
answers = st.lists(st.tuples(surrogates, divergences), min_size=1, max_size=6)


class Scripted:
    """Answers the search from a list, and keeps what it was asked."""

    def __init__(self, script):
        self.script = script
        self.asked: list[np.ndarray] = []

    def __call__(self, theta):
        self.asked.append(theta.copy())
        return self.script[len(self.asked) - 1]


def first_accepted(script):
    """E38 in one line: infinities are no improvement, and NaN compares false."""
    return next((i for i, (s, kl) in enumerate(script) if kl <= TARGET and AT_OLD < s < math.inf), None)


def why_refused(surrogate, kl):
    if not (math.isfinite(surrogate) and math.isfinite(kl)):
        return LineSearchOutcome.NOT_FINITE
    return LineSearchOutcome.KL_EXCEEDED if kl > TARGET else LineSearchOutcome.NO_IMPROVEMENT


@given(answers, arrays((3,)), arrays((3,)), st.floats(0.05, 0.95))
def test_e38_the_first_step_that_meets_both_conditions_is_taken(script, theta, step, factor):
    evaluate, before = Scripted(script), (theta.copy(), step.copy())
    result = line_search(
        evaluate, theta, step, AT_OLD, target_kl=TARGET, shrinking_factor=factor, max_iter=len(script)
    )
    expected = first_accepted(script)
    if expected is None:
        assert not result.accepted
        assert result.theta is theta
        assert (result.surrogate, result.kl, result.fraction) == (AT_OLD, 0.0, 0.0)
        assert result.tries == len(script) == len(evaluate.asked)
        assert result.outcome is why_refused(*script[-1])
    else:
        assert result.accepted
        assert result.outcome is LineSearchOutcome.ACCEPTED
        assert (result.surrogate, result.kl) == script[expected]
        assert result.tries == expected + 1 == len(evaluate.asked)
        assert result.fraction == factor**expected
        np.testing.assert_array_equal(result.theta, evaluate.asked[-1])
    for i, candidate in enumerate(evaluate.asked):
        np.testing.assert_array_equal(candidate, theta + factor**i * step)
    np.testing.assert_array_equal(theta, before[0])
    np.testing.assert_array_equal(step, before[1])


@pytest.mark.parametrize(
    ("surrogate", "kl", "accepted"),
    [
        (0.6, TARGET, True),  # KL may equal δ,
        (0.6, np.nextafter(TARGET, 1), False),  # but not exceed it by one bit;
        (np.nextafter(AT_OLD, 1), 0.0, True),  # one bit more than the old surrogate is an improvement,
        (AT_OLD, 0.0, False),  # the same is none.
    ],
)
def test_e38_is_strict_to_the_bit(surrogate, kl, accepted):
    result = line_search(
        lambda _: (surrogate, kl), np.zeros(1), np.ones(1), AT_OLD, target_kl=TARGET, max_iter=1
    )
    assert result.accepted is accepted


def test_unless_told_otherwise_ten_halvings_are_tried():
    evaluate = Scripted([(0.0, 0.0)] * 11)
    assert line_search(evaluate, np.zeros(1), np.ones(1), AT_OLD, target_kl=TARGET).tries == 10
    np.testing.assert_array_equal(np.ravel(evaluate.asked), 0.5 ** np.arange(10))


def test_float32_stays_float32():
    evaluate = Scripted([(0.0, 0.0), (1.0, 0.0)])
    theta, step = np.zeros(2, np.float32), np.ones(2, np.float32)
    result = line_search(evaluate, theta, step, AT_OLD, target_kl=TARGET, shrinking_factor=0.3)
    assert result.accepted
    assert result.theta.dtype == np.float32
    assert {asked.dtype for asked in evaluate.asked} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shrinking_factor": 0.0}, "shrinking_factor must lie between 0 and 1, but it is 0.0"),
        ({"shrinking_factor": 1.0}, "shrinking_factor must lie between 0 and 1, but it is 1.0"),
        ({"shrinking_factor": math.nan}, "shrinking_factor must lie between 0 and 1, but it is nan"),
        ({"max_iter": 0}, "max_iter must be at least 1, but it is 0"),
        ({"target_kl": 0.0}, "target_kl must be positive, but it is 0.0"),
        ({"target_kl": -1.0}, "target_kl must be positive, but it is -1.0"),
        ({"target_kl": math.nan}, "target_kl must be positive, but it is nan"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        line_search(lambda _: (1.0, 0.0), np.zeros(1), np.ones(1), 0.0, **{"target_kl": TARGET, **options})


def test_results_and_searches_are_frozen_and_a_search_has_its_settings():
    search, evaluate = LineSearch(0.25, max_iter=3), Scripted([(0.0, 0.0)] * 3)
    result = search(evaluate, np.zeros(1), np.ones(1), AT_OLD, target_kl=TARGET)
    assert result.tries == 3
    np.testing.assert_array_equal(np.ravel(evaluate.asked), [1, 0.25, 0.0625])
    for frozen, name in ((search, "max_iter"), (result, "kl")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(frozen, name, 0)
