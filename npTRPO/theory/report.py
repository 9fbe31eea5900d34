"""The verification report: every equation of the derivation, measured on many random cases."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.theory.cases import Case
from npTRPO.theory.derivation import STATEMENTS
from npTRPO.theory.equations import SECTIONS
from npTRPO.theory.statements import (
    FALSE_ALARM,
    AtMost,
    Comparison,
    Equal,
    Estimate,
    Kind,
    Statement,
    threshold,
)

__all__ = ["Report", "Row", "drawn_cases", "measured", "verify"]


@dataclass(frozen=True, eq=False)
class Row:
    """What was measured of one statement.

    Attributes
    ----------
    statement : Statement
    residuals : array, shape (n,)
        Largest relative difference of sides that should be equal, case by case; NaN where a case had
        none to compare.
    slacks : array, shape (n,)
        Smallest relative slack of its inequalities, likewise.
    deviations : array, shape (n,)
        Largest error of its estimates in standard errors, likewise.
    estimates : int
        Number of means estimated, over all cases.
    error : str or None
        What a function of the package raised, if one did; the statement then fails.
    """

    statement: Statement
    residuals: Array
    slacks: Array
    deviations: Array
    estimates: int
    error: str | None = None

    @property
    def residual(self) -> float | None:
        """The worst residual; None if there was nothing to compare."""
        return _worst(max, self.residuals)

    @property
    def slack(self) -> float | None:
        """The smallest slack; None if there was nothing to compare."""
        return _worst(min, self.slacks)

    @property
    def deviation(self) -> float | None:
        """The largest deviation, in standard errors; None if there was nothing to estimate."""
        return _worst(max, self.deviations)

    @property
    def threshold(self) -> float:
        """Standard errors above which an estimate is refused."""
        return threshold(self.estimates)

    @property
    def failures(self) -> list[str]:
        """What is wrong, one sentence each; empty if the statement holds."""
        found = [] if self.error is None else [self.error]
        residual, slack, deviation = self.residual, self.slack, self.deviation
        if residual is not None and residual > self.statement.tolerance:
            found.append(f"the sides differ by {residual:.3g} of their size")
        if slack is not None and slack < -self.statement.tolerance:
            found.append(f"an inequality is violated by {-slack:.3g} of its size")
        if deviation is not None and deviation > self.threshold:
            found.append(f"a mean is {deviation:.3g} standard errors off")
        if residual is slack is deviation is None and not found:
            found.append("there was nothing to compare in any case")
        return found

    @property
    def passed(self) -> bool:
        """Whether the statement holds on all cases."""
        return not self.failures


@dataclass(frozen=True)
class Report:
    """The result of a verification.

    Attributes
    ----------
    rows : tuple of Row
        One per statement, in their order.
    instances, seed : int
        Number of cases, and what they were drawn from.
    seconds : float
        Time it took.
    """

    rows: tuple[Row, ...]
    instances: int
    seed: int
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every statement holds."""
        return all(row.passed for row in self.rows)

    def to_text(self) -> str:
        """A table for the terminal, and what to do about failures."""
        width = max(len(row.statement.title) for row in self.rows)
        head = f"{'':4} {'equation':{width}}  {'kind':11}  {'measured':>9}  {'allowed':>8}  {'because':50}"
        lines = [head.rstrip()]
        titles = {first: title for title, (first, _) in SECTIONS.items()}
        for row in self.rows:
            number = int(row.statement.number[1:])
            if number in titles:
                lines += ["", titles[number]]
            words = f"{row.statement.number:4} {row.statement.title:{width}}  {row.statement.kind.value:11}"
            value, allowed, reason = measured(row)
            verdict = "holds" if row.passed else "FAILS"
            lines.append(f"{words}  {value:>9}  {allowed:>8}  {reason:50} {verdict}")
        lines += ["", *self._closing()]
        return "\n".join(lines)

    def _closing(self) -> Iterator[str]:
        for row in self.rows:
            for sentence in row.failures:
                names = ", ".join(row.statement.implemented_by)
                yield f"{row.statement.number} fails: {sentence} ({names})"
        held = sum(row.passed for row in self.rows)
        yield (
            f"{held} of {len(self.rows)} equations hold on {self.instances} random instances "
            f"(seed {self.seed}, {self.seconds:.1f} s). Residuals and slacks are relative; means are in "
            f"standard errors."
        )

    def to_json(self) -> str:
        """The same as JSON, with the formulas as text and as MathML."""
        document = {
            "passed": self.passed,
            "instances": self.instances,
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "false_alarm": FALSE_ALARM,
            "equations": [_as_dict(row) for row in self.rows],
        }
        return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)


def verify(instances: int = 200, seed: int = 0, statements: Sequence[Statement] = STATEMENTS) -> Report:
    """Measure every statement on random cases.

    Parameters
    ----------
    instances : int
        Number of cases: MDPs with a pair of policies each.
    seed : int
        Case i of a seed is the same, however many there are.
    statements : sequence of Statement
        All of the derivation, unless given.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        For fewer than one instance or a negative seed.

    Examples
    --------
    >>> from npTRPO.theory import verify
    >>> report = verify(instances=3, seed=1)
    >>> report.passed, len(report.rows)
    (True, 44)
    """
    if instances < 1:
        raise ValueError(f"there must be at least 1 instance, not {instances}")
    if seed < 0:
        raise ValueError(f"the seed must not be negative, but it is {seed}")
    began = time.perf_counter()
    tallies = [_Tally(statement) for statement in statements]
    for case in drawn_cases(instances, seed):
        for tally in tallies:
            tally.add(case)
    rows = tuple(tally.row() for tally in tallies)
    return Report(rows, instances, seed, time.perf_counter() - began)


def drawn_cases(instances: int, seed: int) -> Iterator[Case]:
    """The cases of a verification; the first ones are the same, however many there are."""
    for sequence in np.random.SeedSequence(seed).spawn(instances):
        yield Case.draw(np.random.default_rng(sequence))


class _Tally:
    """The measurements of one statement while cases come in."""

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self.residuals: list[float] = []
        self.slacks: list[float] = []
        self.deviations: list[float] = []
        self.estimates = 0
        self.error: str | None = None

    def add(self, case: Case) -> None:
        """Measure the statement on one case; a function that raises is a failure, and is told of."""
        comparisons: tuple[Comparison, ...] = ()
        try:
            comparisons = self.statement.measure(case)
        except Exception as error:
            self.error = f"{type(error).__name__}: {' '.join(str(error).split())}"
        estimates = [c for c in comparisons if isinstance(c, Estimate)]
        self.residuals.append(
            max((c.residual for c in comparisons if isinstance(c, Equal)), default=math.nan)
        )
        self.slacks.append(min((c.slack for c in comparisons if isinstance(c, AtMost)), default=math.nan))
        self.deviations.append(max((c.deviation for c in estimates), default=math.nan))
        self.estimates += sum(c.size for c in estimates)

    def row(self) -> Row:
        """The finished row."""
        return Row(
            statement=self.statement,
            residuals=np.array(self.residuals),
            slacks=np.array(self.slacks),
            deviations=np.array(self.deviations),
            estimates=self.estimates,
            error=self.error,
        )


def _worst(extreme: Callable[[Array], Any], values: Array) -> float | None:
    """The extreme value, leaving away the cases with nothing to compare."""
    compared = values[~np.isnan(values)]
    return float(extreme(compared)) if len(compared) else None


def measured(row: Row) -> tuple[str, str, str]:
    """What is said of a row: what was measured, what is allowed, and why."""
    statement = row.statement
    if statement.kind is Kind.STATISTICAL and row.deviation is not None:
        exact = "" if row.residual is None else f"; exact: {row.residual:.0e}"
        reason = f"false alarm 1e-9, Bonferroni, {row.estimates} means{exact}"
        return f"{row.deviation:.2f} s.e.", f"≤ {row.threshold:.2f}", reason
    if statement.kind is Kind.INEQUALITY and row.slack is not None:
        return (
            f"{row.slack:.1e}",
            f"≥ {-statement.tolerance:.0e}" if statement.tolerance else "≥ 0",
            statement.reason,
        )
    value = "–" if row.residual is None else f"{row.residual:.1e}"
    return value, f"≤ {statement.tolerance:.0e}" if statement.tolerance else "0", statement.reason


def _as_dict(row: Row) -> dict[str, Any]:
    """A row for JSON, where what isn't finite is null."""
    statement = row.statement
    measured = {"residual": row.residual, "slack": row.slack, "standard_errors": row.deviation}
    return {
        "number": statement.number,
        "title": statement.title,
        "equation": statement.equation,
        "mathml": statement.mathml,
        "source": statement.source,
        "implemented_by": list(statement.implemented_by),
        "kind": statement.kind.value,
        **{
            key: value if value is not None and math.isfinite(value) else None
            for key, value in measured.items()
        },
        "tolerance": statement.tolerance,
        "reason": statement.reason,
        "threshold": row.threshold if row.estimates else None,
        "estimates": row.estimates,
        "passed": row.passed,
        "failures": row.failures,
    }
