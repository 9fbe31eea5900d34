import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg

from npTRPO import conjugate_gradient
from npTRPO.trust_region import CGOutcome, CGResult
from tests.policies.oracles import EPS
from tests.strategies import System, generators, repeated_spectra, rotation, systems

BETAS = ["fletcher-reeves", "polak-ribiere"]
each_beta = pytest.mark.parametrize("beta", BETAS)


class Run(NamedTuple):
    """A solve, with x₀ and every iterate, every residual, and every direction that A was multiplied by."""

    result: CGResult
    xs: list[np.ndarray]
    rs: list[np.ndarray]
    ps: list[np.ndarray]


def solve(A: np.ndarray, b: np.ndarray, M: np.ndarray | None = None, **options: Any) -> Run:
    xs, rs, ps = [np.zeros_like(b)], [], []

    def product(p: np.ndarray) -> np.ndarray:
        ps.append(p.copy())
        return A @ p

    def precondition(r: np.ndarray) -> np.ndarray:
        rs.append(r.copy())
        return r if M is None else M @ r

    result = conjugate_gradient(product, b, M=precondition, callback=xs.append, **options)
    return Run(result, xs, rs, ps)


def scipys(A: np.ndarray, b: np.ndarray, **options: Any) -> list[np.ndarray]:
    """x₀ and SciPy's iterates; it hands its callback the same array each time."""
    xs = [np.zeros_like(b)]
    cg(A, b, callback=lambda x: xs.append(x.copy()), **options)
    return xs


def energy(A: np.ndarray, e: np.ndarray) -> float:
    return math.sqrt(max(float(e @ A @ e), 0.0))


NOISE = 1e-12


def noisy(A: np.ndarray, b: np.ndarray, M: np.ndarray, steps: int, noise: float, seed: int = 0) -> Run:
    """E33 and E35 in the words of Nocedal and Wright, with noise in b and in every vector computed.

    The noise is random, and as large in norm as ``noise`` times the largest vector that takes part.
    """
    rng = np.random.default_rng(seed)

    def moved(v: np.ndarray, size: float) -> np.ndarray:
        direction = rng.standard_normal(v.size)
        return v + noise * size * direction / np.linalg.norm(direction)

    def times(matrix: np.ndarray, v: np.ndarray) -> np.ndarray:
        return moved(matrix @ v, np.linalg.norm(matrix, 2) * np.linalg.norm(v))

    xs, rs, ps = [np.zeros_like(b)], [moved(b, np.linalg.norm(b))], []
    y = times(M, rs[0])
    p = y
    for _ in range(steps):
        Ap = times(A, p)
        ps.append(p)
        alpha = rs[-1] @ y / (p @ Ap)
        xs.append(moved(xs[-1] + alpha * p, np.linalg.norm(xs[-1]) + np.linalg.norm(alpha * p)))
        rs.append(moved(rs[-1] - alpha * Ap, np.linalg.norm(rs[-1]) + np.linalg.norm(alpha * Ap)))
        y_new = times(M, rs[-1])
        p = moved(y_new + (rs[-1] @ y_new) / (rs[-2] @ y) * p, np.linalg.norm(y_new))
        y = y_new
    return Run(None, xs, rs, ps)  # type: ignore[arg-type]


class Drift:
    """How far rounding may drive the iterates of a solve, by the measured conditioning of its path.

    A step rounds with at most 2n + 8 operations per number. How much of that reaches each iterate is
    measured: noise of 1e-12 in every vector, far above the rounding, is followed through the textbook's
    iteration, four times. Ten times the largest effect, scaled to rounding, is the tolerance, as long as
    the effect is small enough to be linear; after that rounding has taken over.
    """

    def __init__(self, A: np.ndarray, b: np.ndarray, steps: int, M: np.ndarray | None = None) -> None:
        M = np.eye(b.size) if M is None else M
        self.exact = noisy(A, b, M, steps, 0.0)
        self.runs = [noisy(A, b, M, steps, NOISE, seed) for seed in range(4)]
        self.rounding = 10 * (2 * b.size + 8) * EPS

    def tolerance(self, effects: list[float], size: float, limit: float) -> float | None:
        """For what noise has these effects on; None beyond the limit, where rounding has taken over."""
        largest = max(effects)
        return self.rounding * (largest / NOISE + size) if largest <= limit else None

    def of_iterate(self, k: int, C: np.ndarray | None = None) -> float | None:
        """For ‖x_k‖, or ‖C x_k‖; noise must not hide the step that led there."""
        C = np.eye(len(self.exact.xs[0])) if C is None else C
        xs = [C @ x for x in self.exact.xs]
        effects = [float(np.linalg.norm(C @ run.xs[k] - xs[k])) for run in self.runs]
        step = float(np.linalg.norm(xs[k] - xs[max(k - 1, 0)]))
        return self.tolerance(effects, max(float(np.linalg.norm(x)) for x in xs), 1e-2 * step)

    def of_cosine(self, kind: str, j: int, k: int, root: np.ndarray) -> float | None:
        """For the cosine between vectors j and k > j, times ``root``; noise must not hide vector k."""
        exact = getattr(self.exact, kind)[k]
        vectors = [getattr(run, kind) for run in self.runs]
        hidden = max(float(np.linalg.norm(v[k] - exact)) for v in vectors) > 1e-2 * np.linalg.norm(exact)
        effects = [abs(cosine(root @ v[j], root @ v[k])) for v in vectors]
        return None if hidden else self.tolerance(effects, 1.0, 1e-2)


def cosine(u: np.ndarray, v: np.ndarray) -> float:
    """Of the angle between two vectors; 1 if one of them is zero, which is orthogonal to nothing."""
    norms = np.linalg.norm(u) * np.linalg.norm(v)
    return float(u @ v / norms) if norms > 0 else 1.0


def assert_same_path(ours: list[np.ndarray], theirs: list[np.ndarray], *drifts: Drift) -> int:
    """The iterates agree where rounding hasn't taken over; returns how many were compared."""
    for k, (x, y) in enumerate(zip(ours, theirs, strict=False)):
        tolerances = [drift.of_iterate(k) for drift in drifts]
        if None in tolerances:
            return k
        assert np.linalg.norm(x - y) <= 2 * sum(tolerances)  # type: ignore[arg-type]  # both sides round
    return min(len(ours), len(theirs))


def solution_error(A: np.ndarray, b: np.ndarray, run: Run, rtol: float) -> float:
    """Bound of ‖x − A⁻¹b‖ for a solve that converged, and for a direct solve beside it.

    The recursion's residual is within rtol‖b‖; it parts from b − Ax by at most about 10 n k ε ‖A‖ max‖x‖
    (Greenbaum 1997, section 7.3); a direct solve has a backward error of about 10 n ε (Higham 2002,
    section 10.1). The inverse multiplies all of this by 1 / λ_min.
    """
    eigenvalues = np.linalg.eigvalsh(A)
    largest, smallest = eigenvalues[-1], max(eigenvalues[0], EPS)
    rounding = 10 * b.size * (len(run.xs) + 1) * EPS * largest * max(np.linalg.norm(x) for x in run.xs)
    return float((rtol * np.linalg.norm(b) + rounding) / smallest)


# --- against SciPy and a direct solve -------------------------------------------------------------


@each_beta
@given(s=systems())
def test_e33_iterates_are_scipys(beta: Any, s: System) -> None:
    run = solve(s.A, s.b, rtol=1e-8, beta=beta)
    compared = assert_same_path(run.xs, scipys(s.A, s.b, rtol=1e-8), Drift(s.A, s.b, len(run.ps)))
    assert compared >= min(2, len(run.xs))


@given(systems(max_condition=10.0))
def test_e37_on_well_conditioned_systems_the_path_is_scipys_to_its_end(s: System) -> None:
    run = solve(s.A, s.b, rtol=1e-6)
    expected = scipys(s.A, s.b, rtol=1e-6)
    drift = Drift(s.A, s.b, len(run.ps))
    assert assert_same_path(run.xs, expected, drift) == len(run.xs) == len(expected)
    assert run.result.iterations == len(expected) - 1


@each_beta
@given(s=systems())
def test_the_solution_is_that_of_a_direct_solve(beta: Any, s: System) -> None:
    # The residual of Fletcher and Reeves's recursion falls without end; with Polak and Ribière's β it may
    # stay at what b − Ax can attain, a multiple of n ε κ.
    rtol = 1e-9 if beta == "fletcher-reeves" else max(1e-9, 100 * s.b.size * EPS * s.condition)
    run = solve(s.A, s.b, rtol=rtol, maxiter=10_000, beta=beta)
    assert run.result.converged
    assert run.result.residual_norm <= rtol * np.linalg.norm(s.b)
    error = np.linalg.norm(run.result.x - np.linalg.solve(s.A, s.b))
    assert error <= solution_error(s.A, s.b, run, rtol)


@given(systems(), systems())
def test_e35_preconditioned_iterates_are_scipys(s: System, other: System) -> None:
    n = min(s.b.size, other.b.size)
    A, b, M = s.A[:n, :n], s.b[:n], other.A[:n, :n]  # leading blocks: positive definite, no worse conditioned
    M = M / np.trace(M)
    run = solve(A, b, M, rtol=1e-8)
    expected = scipys(A, b, rtol=1e-8, M=M)
    assert assert_same_path(run.xs, expected, Drift(A, b, len(run.ps), M)) >= min(2, len(run.xs))


@each_beta
@given(s=systems(max_condition=100.0), other=systems(max_condition=10.0))
def test_e35_preconditioning_is_a_change_of_variables(beta: Any, s: System, other: System) -> None:
    # With M = C Cᵀ the iterates are C y, where y are those of CᵀAC y = Cᵀb.
    n = min(s.b.size, other.b.size)
    A, b, M = s.A[:n, :n], s.b[:n], other.A[:n, :n]
    C = np.linalg.cholesky(M)
    run = solve(A, b, M, rtol=1e-6, beta=beta)
    transformed = solve(C.T @ A @ C, C.T @ b, rtol=0.0, maxiter=run.result.iterations)
    here, there = Drift(A, b, len(run.ps), M), Drift(C.T @ A @ C, C.T @ b, len(run.ps))
    assert here.of_iterate(1) is not None
    for k, (x, y) in enumerate(zip(run.xs, transformed.xs, strict=False)):
        tolerances = here.of_iterate(k), there.of_iterate(k, C)
        if None in tolerances:
            break
        assert np.linalg.norm(x - C @ y) <= sum(tolerances)


def test_an_exact_preconditioner_needs_one_step() -> None:
    A = np.diag([1.0, 4.0, 16.0])
    result = conjugate_gradient(A, np.ones(3), M=np.diag([1.0, 0.25, 0.0625]), rtol=0.0)
    assert (result.iterations, result.outcome) == (1, CGOutcome.CONVERGED)
    np.testing.assert_array_equal(result.x, [1, 0.25, 0.0625])


@given(systems(max_condition=1e4), generators())
def test_a_given_start_leads_to_the_same_solution(s: System, rng: np.random.Generator) -> None:
    x0 = rng.standard_normal(s.b.size)
    before = x0.copy()
    run = solve(s.A, s.b, x0=x0, rtol=1e-9, maxiter=10_000)
    assert run.result.converged
    run.xs[0] = x0
    error = np.linalg.norm(run.result.x - np.linalg.solve(s.A, s.b))
    assert error <= solution_error(s.A, s.b, run, 1e-9)
    assert len(run.ps) == run.result.iterations + 1  # one product more, for the first residual
    # Steps from x0 are those of the system A e = b − A x0 from zero; x0 adds its own rounding.
    drift = Drift(s.A, s.b - s.A @ x0, len(run.xs) - 1)
    for k, x in enumerate([x0, *scipys(s.A, s.b, x0=x0, rtol=1e-9)[1:]][: len(run.xs)]):
        tolerance = drift.of_iterate(k)
        if tolerance is None:
            break
        assert np.linalg.norm(run.xs[k] - x) <= 2 * tolerance + drift.rounding * np.linalg.norm(x0)
    np.testing.assert_array_equal(x0, before)


def test_an_exact_start_takes_no_step_and_is_not_the_callers_array() -> None:
    A, x0 = np.diag([1.0, 2.0]), np.array([3.0, 5.0])
    result = conjugate_gradient(A, A @ x0, x0=x0, rtol=0.0)
    assert (result.iterations, result.residual_norm, result.outcome) == (0, 0.0, CGOutcome.CONVERGED)
    np.testing.assert_array_equal(result.x, x0)
    assert not np.shares_memory(result.x, x0)


def test_a_zero_right_hand_side_has_the_solution_zero() -> None:
    result = conjugate_gradient(np.eye(3), np.zeros(3), rtol=0.0)
    assert (result.iterations, result.residual_norm, result.outcome) == (0, 0.0, CGOutcome.CONVERGED)
    np.testing.assert_array_equal(result.x, np.zeros(3))


@given(systems(max_condition=100.0, min_size=2), st.data())
def test_a_singular_consistent_system_gives_the_solution_of_least_norm(
    s: System, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, s.b.size - 1))
    eigenvalues = np.where(np.arange(s.b.size) < rank, s.eigenvalues, 0)
    A = (s.Q * eigenvalues) @ s.Q.T
    b = A @ s.b
    result = conjugate_gradient((A + A.T) / 2, b, rtol=1e-10)
    expected = s.Q[:, :rank] @ ((s.Q[:, :rank].T @ b) / eigenvalues[:rank])
    assert result.converged
    # As solution_error, with the smallest eigenvalue that isn't zero, 1; b has a share of about n ε ‖A‖ ‖b‖
    # outside the range, which x can take up, divided by residuals that stop at 1e-10.
    kappa = s.condition
    tolerance = (1e-10 + 1e3 * s.b.size * EPS * kappa) * np.linalg.norm(b)
    assert np.linalg.norm(result.x - expected) <= tolerance * kappa


# --- symmetries -----------------------------------------------------------------------------------


@each_beta
@given(s=systems(), powers=st.tuples(st.integers(-60, 60), st.integers(-60, 60)))
def test_e36_scaling_by_powers_of_two_changes_no_bit(beta: Any, s: System, powers: tuple[int, int]) -> None:
    for_A, for_b = (2.0**k for k in powers)
    run, scaled = solve(s.A, s.b, beta=beta), solve(for_A * s.A, for_b * s.b, beta=beta)
    assert scaled.result.outcome is run.result.outcome
    assert scaled.result.iterations == run.result.iterations
    assert scaled.result.residual_norm == for_b * run.result.residual_norm
    for x, y in zip(run.xs, scaled.xs, strict=True):
        np.testing.assert_array_equal(y, x * (for_b / for_A))


@pytest.mark.parametrize(("for_A", "for_b"), [(1e-8, 1.0), (1e8, 1.0), (1.0, 1e-8), (1.0, 1e8)])
@given(s=systems(max_condition=1e4))
def test_e36_scaling_scales_every_iterate(for_A: float, for_b: float, s: System) -> None:
    run, scaled = solve(s.A, s.b), solve(for_A * s.A, for_b * s.b)
    drift = Drift(s.A, s.b, len(run.ps))
    compared = assert_same_path(run.xs, [x * (for_A / for_b) for x in scaled.xs], drift)
    assert compared >= min(2, len(run.xs))
    assert scaled.result.outcome is run.result.outcome


@given(systems(max_condition=1e4), generators())
def test_e36_rotating_the_problem_rotates_every_iterate(s: System, rng: np.random.Generator) -> None:
    R = rotation(rng, s.b.size)
    run, rotated = solve(s.A, s.b), solve(R @ s.A @ R.T, R @ s.b)
    back = [R.T @ x for x in rotated.xs]
    assert assert_same_path(run.xs, back, Drift(s.A, s.b, len(run.ps))) >= min(2, len(run.xs))


@given(systems())
def test_e34_fletcher_reeves_and_polak_ribiere_take_the_same_path(s: System) -> None:
    runs = [solve(s.A, s.b, rtol=1e-8, beta=beta) for beta in BETAS]
    compared = assert_same_path(runs[0].xs, runs[1].xs, Drift(s.A, s.b, len(runs[0].ps)))
    assert compared >= min(2, len(runs[0].xs))


def test_e34_the_two_formulas_differ_where_products_are_not_symmetric() -> None:
    A = np.array([[2.0, 1.0, 0.0], [-1.0, 3.0, 1.0], [0.0, -1.0, 4.0]])  # vᵀAv > 0, but A isn't symmetric
    b = np.array([1.0, 2.0, 3.0])
    for beta in BETAS:
        run = solve(A, b, beta=beta, maxiter=3)
        for k in (1, 2):
            r, r_new = run.rs[k - 1 : k + 1]
            carried = 0 if beta == "fletcher-reeves" else r_new @ r
            expected = r_new + (r_new @ r_new - carried) / (r @ r) * run.ps[k - 1]
            np.testing.assert_allclose(run.ps[k], expected, rtol=100 * EPS)
        assert abs(r_new @ r) > 1e-3 * (r_new @ r_new)  # the second β is another one by the other formula


# --- what conjugate gradients promise -------------------------------------------------------------


@given(systems(max_condition=1e3))
def test_e36_residuals_are_orthogonal_and_directions_conjugate(s: System) -> None:
    run = solve(s.A, s.b, rtol=1e-6)
    drift, proved = Drift(s.A, s.b, len(run.ps)), 0
    root = np.linalg.cholesky(s.A).T  # conjugate vectors are orthogonal in its range
    for kind, factor in (("rs", np.eye(s.b.size)), ("ps", root)):
        vectors = getattr(run, kind)
        for j, k in itertools.combinations(range(len(vectors)), 2):
            tolerance = drift.of_cosine(kind, j, k, factor)
            if tolerance is not None:
                assert abs(cosine(factor @ vectors[j], factor @ vectors[k])) <= tolerance
                proved += 1
    assert proved or len(run.ps) < 2


def energy_floor(s: System, run: Run) -> float:
    """Below which rounding hides the energy norm of the error: ‖A^(−½) (rounding of Ax)‖, as above."""
    size = max(np.linalg.norm(x) for x in run.xs)
    return float(
        20 * s.b.size * (len(run.xs) + 1) * EPS * s.eigenvalues.max() * size / math.sqrt(s.eigenvalues.min())
    )


@each_beta
@given(s=systems())
def test_e36_the_energy_norm_of_the_error_falls_at_every_step(beta: Any, s: System) -> None:
    run = solve(s.A, s.b, rtol=1e-10, beta=beta)
    solution, floor = np.linalg.solve(s.A, s.b), energy_floor(s, run)
    errors = [energy(s.A, solution - x) for x in run.xs]
    for before, after in itertools.pairwise(errors):
        assert after < before or after <= floor
    assert errors[-1] < errors[0]


@given(systems())
def test_e36_the_error_obeys_the_chebyshev_bound(s: System) -> None:
    run = solve(s.A, s.b, rtol=1e-10)
    solution, floor = np.linalg.solve(s.A, s.b), energy_floor(s, run)
    first = energy(s.A, solution)
    root = math.sqrt(s.condition)
    for k, x in enumerate(run.xs):
        bound = 2 * ((root - 1) / (root + 1)) ** k * first
        assert energy(s.A, solution - x) <= bound * (1 + 1e-6) + floor  # rounding moves κ by far less


@each_beta
@given(case=repeated_spectra())
def test_e36_as_many_steps_as_there_are_distinct_eigenvalues(beta: Any, case: tuple[System, int]) -> None:
    s, n_distinct = case
    run = solve(s.A, s.b, rtol=1e-9, beta=beta)
    assert run.result.converged
    # Every eigenspace has a share in b, and no polynomial of lower degree with value 1 at 0 is below 1e-9
    # on all of the eigenvalues: those are 1, 2, 4, 8 or 16, four at the most.
    assert run.result.iterations == n_distinct
    assert np.linalg.norm(run.result.x - np.linalg.solve(s.A, s.b)) <= solution_error(s.A, s.b, run, 1e-9)


# --- outcomes -------------------------------------------------------------------------------------


def after(n: int, spoil: Callable[[np.ndarray], np.ndarray], A: np.ndarray) -> Callable[[Any], Any]:
    """Products with A, of which those after the first ``n`` are spoiled."""
    calls = iter(range(1000))
    return lambda v: A @ v if next(calls) < n else spoil(A @ v)


def with_nan(v: np.ndarray) -> np.ndarray:
    return np.where(np.arange(v.size) == 0, np.nan, v)


THREE, ONES = np.diag([1.0, 2.0, 4.0]), np.ones(3)
OUTCOMES: dict[CGOutcome, Callable[[], CGResult]] = {
    CGOutcome.CONVERGED: lambda: conjugate_gradient(THREE, ONES),
    CGOutcome.MAXITER: lambda: conjugate_gradient(THREE, ONES, maxiter=2),
    CGOutcome.NEGATIVE_CURVATURE: lambda: conjugate_gradient(np.diag([1.0, 2.0, -1.0]), ONES),
    CGOutcome.INDEFINITE_PRECONDITIONER: lambda: conjugate_gradient(THREE, ONES, M=-np.eye(3)),
    CGOutcome.NOT_FINITE: lambda: conjugate_gradient(after(1, with_nan, THREE), ONES),
}


@pytest.mark.parametrize("outcome", list(CGOutcome))
def test_every_outcome_is_reached_and_says_so_in_a_sentence(outcome: CGOutcome) -> None:
    result = OUTCOMES[outcome]()
    assert result.outcome is outcome
    assert result.converged == (outcome is CGOutcome.CONVERGED)
    assert np.all(np.isfinite(result.x))
    assert outcome.value[0].isupper()
    assert outcome.value.endswith(".")
    assert " " in outcome.value


@given(systems(max_condition=100.0, min_size=2), st.integers(0, 5))
def test_at_the_iteration_limit_x_is_the_last_iterate(s: System, maxiter: int) -> None:
    run = solve(s.A, s.b, rtol=0.0)
    assume(len(run.xs) > maxiter + 1)
    limited = solve(s.A, s.b, rtol=0.0, maxiter=maxiter)
    assert limited.result.outcome is CGOutcome.MAXITER
    assert limited.result.iterations == maxiter == len(limited.xs) - 1
    np.testing.assert_array_equal(limited.result.x, run.xs[maxiter])
    assert limited.result.residual_norm == pytest.approx(np.linalg.norm(run.rs[maxiter]), rel=20 * EPS)
    assert len(limited.ps) == maxiter  # as many products as steps


def test_unless_told_otherwise_the_limit_is_ten_steps_per_unknown() -> None:
    A = np.diag([1.0, 2.0, 4.0])
    rotating = np.array([[1.0, -3.0, 0.0], [3.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # pᵀAp > 0, but no symmetry
    assert conjugate_gradient(rotating, ONES, rtol=0.0).iterations == 30
    assert conjugate_gradient(A, ONES, rtol=1e-12).iterations == 3


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("spoiled", ["A", "M"])
def test_after_a_product_that_is_not_finite_x_is_the_iterate_before(
    steps: int, bad: float, spoiled: str
) -> None:
    A = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]])
    b = np.array([1.0, 2.0, 3.0])
    good = solve(A, b, rtol=0.0)
    spoil = after(steps, lambda v: np.where(np.arange(3) == 1, bad, v), A if spoiled == "A" else np.eye(3))
    options = {"A": spoil, "M": None} if spoiled == "A" else {"A": A, "M": spoil}
    result = conjugate_gradient(b=b, rtol=0.0, **options)
    assert result.outcome is CGOutcome.NOT_FINITE
    assert result.iterations == steps
    np.testing.assert_array_equal(result.x, good.xs[steps])


def test_negative_curvature_keeps_the_iterate_before_it() -> None:
    # b has its residual along the negative direction only after the first step.
    A = np.diag([1.0, 10.0, -0.01])
    run = solve(A, np.array([1.0, 1.0, 0.1]), rtol=0.0)
    assert run.result.outcome is CGOutcome.NEGATIVE_CURVATURE
    assert run.result.iterations == len(run.xs) - 1 > 0
    np.testing.assert_array_equal(run.result.x, run.xs[-1])
    assert run.ps[-1] @ A @ run.ps[-1] <= 0
    assert all(p @ A @ p > 0 for p in run.ps[:-1])


def test_zero_curvature_is_no_step_either() -> None:
    result = conjugate_gradient(np.zeros((2, 2)), np.ones(2))
    assert (result.outcome, result.iterations) == (CGOutcome.NEGATIVE_CURVATURE, 0)
    np.testing.assert_array_equal(result.x, 0)


def test_an_indefinite_preconditioner_keeps_the_iterate_before_it() -> None:
    M = np.diag([1.0, 1.0, -1.0])
    b = np.array([1.0, 1.0, 0.1])  # bᵀMb > 0, but the first step leaves most residual in the third place
    run = solve(np.diag([1.0, 1.0, 5.0]), b, M, rtol=0.0)
    assert run.result.outcome is CGOutcome.INDEFINITE_PRECONDITIONER
    assert run.result.iterations == len(run.xs) - 1 > 0
    np.testing.assert_array_equal(run.result.x, run.xs[-1])
    assert run.rs[-1] @ M @ run.rs[-1] <= 0
    assert all(r @ M @ r > 0 for r in run.rs[:-1])


# --- E37, to the bit ------------------------------------------------------------------------------


@given(systems(max_condition=100.0, min_size=2), st.data())
def test_e37_the_iteration_ends_at_the_first_residual_within_the_tolerance(
    s: System, data: st.DataObject
) -> None:
    b = np.zeros(s.b.size)
    b[0] = 4.0  # whose norm, and so rtol‖b‖, is exact
    norms = [float(np.sqrt(np.dot(r, r))) for r in solve(s.A, b, rtol=0.0, maxiter=s.b.size).rs]
    norm = data.draw(st.sampled_from([norm for norm in norms if norm > 0]))
    for tolerance in (norm, np.nextafter(norm, 0), np.nextafter(norm, 10)):
        expected = next((k for k, r in enumerate(norms) if r <= tolerance), None)
        assume(expected is not None)
        for options in (
            {"rtol": 0.0, "atol": tolerance},
            {"rtol": tolerance / 4},
            {"rtol": tolerance / 4, "atol": tolerance / 2},
            {"rtol": tolerance / 8, "atol": tolerance},
        ):
            result = conjugate_gradient(s.A, b, **options)
            assert result.outcome is CGOutcome.CONVERGED
            assert result.iterations == expected
            assert result.residual_norm == norms[expected]


# --- inputs ---------------------------------------------------------------------------------------


def in_one_buffer(A: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Products with A that are all written to the same array."""
    buffer = np.empty(len(A))
    return lambda v: np.matmul(A, v, out=buffer)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda A: A,
        lambda A: A.tolist(),
        lambda A: lambda v: A @ v,
        aslinearoperator,
        scipy.sparse.csr_array,
        in_one_buffer,
    ],
    ids=["array", "list", "callable", "LinearOperator", "sparse", "buffer"],
)
@pytest.mark.parametrize("role", ["A", "M"])
@given(s=systems(max_condition=100.0))
def test_a_matrix_may_be_given_in_any_form(wrap: Callable[[Any], Any], role: str, s: System) -> None:
    run = solve(s.A, s.b, None if role == "A" else s.A, rtol=1e-6)
    options = {"A": wrap(s.A)} if role == "A" else {"A": s.A, "M": wrap(s.A)}
    xs = [np.zeros_like(s.b)]
    conjugate_gradient(b=s.b, rtol=1e-6, callback=xs.append, **options)
    drift = Drift(s.A, s.b, len(run.ps), None if role == "A" else s.A)
    assert assert_same_path(run.xs, xs, drift) >= min(2, len(run.xs))


@each_beta
@given(s=systems(max_condition=1e4))
def test_neither_b_nor_earlier_iterates_are_changed(beta: Any, s: System) -> None:
    b, seen, copies = s.b.copy(), [], []

    def callback(x: np.ndarray) -> None:
        seen.append(x)
        copies.append(x.copy())

    conjugate_gradient(s.A, b, beta=beta, callback=callback)
    np.testing.assert_array_equal(b, s.b)
    assert len(seen) >= 1
    for kept, copy in zip(seen, copies, strict=True):
        np.testing.assert_array_equal(kept, copy)


@each_beta
@pytest.mark.parametrize("dtype_of_A", [np.float32, np.float64])
@given(s=systems(max_condition=100.0))
def test_float32_stays_float32(beta: Any, dtype_of_A: Any, s: System) -> None:
    b = s.b.astype(np.float32)
    A = s.A.astype(np.float32).astype(dtype_of_A)
    M = np.eye(b.size, dtype=dtype_of_A)
    run = solve(A, b, M, rtol=1e-3, beta=beta)
    assert run.result.x.dtype == np.float32
    assert {v.dtype for v in run.xs + run.rs + run.ps} == {np.dtype(np.float32)}
    assert run.result.converged
    rounding = np.finfo(np.float32).eps / EPS
    error = np.linalg.norm(run.result.x - np.linalg.solve(s.A, s.b))
    assert error <= rounding * solution_error(s.A, s.b, run, 1e-3 / rounding)


@pytest.mark.parametrize("size", [1e20, 1e-24])
def test_in_float32_right_hand_sides_may_be_huge_or_tiny(size: float) -> None:
    """Their squares are out of float32's range, and inner products are float64's."""
    b = np.full(3, size, np.float32)
    with np.errstate(over="ignore"):  # float32's would end NOT_FINITE, or CONVERGED at once with x = 0
        result = conjugate_gradient(THREE.astype(np.float32), b, rtol=1e-5)
    assert (result.outcome, result.iterations) == (CGOutcome.CONVERGED, 3)
    assert result.x.dtype == np.float32
    np.testing.assert_allclose(result.x / size, [1, 0.5, 0.25], rtol=1e-5)


def test_integers_are_solved_in_float64() -> None:
    result = conjugate_gradient([[2, 0], [0, 4]], [2, 2])
    assert result.x.dtype == np.float64
    np.testing.assert_allclose(result.x, [1, 0.5], rtol=20 * EPS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b": np.ones((3, 1))}, "b must be a vector of finite real numbers"),
        ({"b": np.array([1, np.nan, 1])}, "b must be a vector of finite real numbers"),
        ({"b": np.array([1, np.inf, 1])}, "b must be a vector of finite real numbers"),
        ({"b": np.array([1j, 0, 0])}, "b must be a vector of finite real numbers"),
        ({"x0": np.ones(2)}, r"x0 must have the shape of b, \(3,\), not \(2,\)"),
        ({"beta": "hestenes-stiefel"}, "beta must be 'fletcher-reeves' or 'polak-ribiere'"),
        ({"rtol": -1e-3}, "rtol and atol must not be negative"),
        ({"atol": -1.0}, "rtol and atol must not be negative"),
        ({"rtol": np.nan}, "rtol and atol must not be negative"),
        ({"maxiter": -1}, "maxiter must not be negative"),
        ({"A": np.eye(2)}, r"A must have shape \(3, 3\), as b has 3 elements, not \(2, 2\)"),
        ({"A": [[1.0, 2.0]]}, r"A must have shape \(3, 3\), as b has 3 elements, not \(1, 2\)"),
        ({"A": aslinearoperator(np.eye(2))}, r"A must have shape \(3, 3\)"),
        ({"M": np.ones(3)}, r"M must have shape \(3, 3\), as b has 3 elements, not \(3,\)"),
        ({"A": lambda v: v[:, None]}, r"A must give a product of shape \(3,\), not \(3, 1\)"),
        ({"M": lambda r: r[:2]}, r"M must give a product of shape \(3,\), not \(2,\)"),
    ],
)
def test_ill_shaped_input_and_options_out_of_range_are_refused(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conjugate_gradient(**{"A": np.eye(3), "b": np.ones(3), **changes})


def test_results_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        conjugate_gradient(THREE, ONES).iterations = 0  # type: ignore[misc]


def test_a_linear_operator_is_only_asked_for_its_products() -> None:
    products = []

    def matvec(v: np.ndarray) -> np.ndarray:
        products.append(v.copy())
        return THREE @ v

    operator = LinearOperator((3, 3), matvec=matvec, dtype=np.float64)
    result = conjugate_gradient(operator, ONES)
    assert len(products) == result.iterations
