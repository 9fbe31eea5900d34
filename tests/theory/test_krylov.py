import numpy as np
import pytest
from hypothesis import given, settings

from npTRPO.theory.krylov import best_in_krylov_space, iterates
from tests.strategies import systems


@given(systems(max_size=5, max_condition=10.0))
def test_e33_the_best_point_is_no_farther_than_any_other_of_its_subspace(s):
    points = best_in_krylov_space(s.A, s.b, 3)
    solution = np.linalg.solve(s.A, s.b)
    powers = [s.b]
    for k in range(1, len(points)):
        basis = np.stack(powers, axis=1)
        # Nearest in the A-norm by least squares with a Cholesky factor, instead of normal equations.
        root = np.linalg.cholesky(s.A).T
        coefficients = np.linalg.lstsq(root @ basis, root @ solution, rcond=None)[0]
        np.testing.assert_allclose(
            points[k], basis @ coefficients, rtol=0, atol=1e-8 * np.max(np.abs(solution))
        )
        powers.append(s.A @ powers[-1])


@given(systems(min_size=3, max_condition=100.0))
@settings(max_examples=20)
def test_iterates_begin_at_zero_and_stop_in_time(s):
    points = iterates(s.A, s.b, steps=2)
    np.testing.assert_array_equal(points[0], 0)
    assert len(points) <= 3
    steepest = s.b * (s.b @ s.b) / (s.b @ s.A @ s.b)
    assert points[1] == pytest.approx(steepest, rel=1e-12)
