"""The verification report: every equation of the derivation, measured on many random instances."""

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npTRPO._typing import Array
from npTRPO.theory.checks import FALSE_ALARM, AtMost, Check, Comparison, Equal, Estimate, Kind, threshold
from npTRPO.theory.derivation import CHECKS
from npTRPO.theory.instances import Instance
from npTRPO.theory.proofs import prove


@dataclass(frozen=True, eq=False)
class Row:
    """The measurements of one equation.

    Attributes
    ----------
    check : Check
    residuals : array, shape (n,)
        Largest relative difference of sides that should be equal, for each instance; NaN where an instance
        had none to compare.
    slacks : array, shape (n,)
        Smallest relative slack of its inequalities, likewise.
    deviations : array, shape (n,)
        Largest error of its estimates in standard errors, likewise.
    estimates : int
        Number of means estimated, over all instances.
    error : str or None
        The error that a function of the package raised, if one did; the equation then fails.
    proved : bool or None
        Whether its identity holds in exact arithmetic, at a random point modulo a prime near 2⁶¹; None where
        it isn't one between rational functions.
    """

    check: Check
    residuals: Array
    slacks: Array
    deviations: Array
    estimates: int
    error: str | None = None
    proved: bool | None = None

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
        """The reasons why the equation fails, one sentence each; empty if it holds."""
        found = [] if self.error is None else [self.error]
        residual, slack, deviation = self.residual, self.slack, self.deviation
        if residual is not None and residual > self.check.tolerance.value:
            found.append(f"the sides differ by {residual:.3g} of their size")
        if slack is not None and slack < -self.check.tolerance.value:
            found.append(f"an inequality is violated by {-slack:.3g} of its size")
        if deviation is not None and deviation > self.threshold:
            found.append(f"a mean is {deviation:.3g} standard errors off")
        if self.proved is False:
            found.append("its sides differ in exact arithmetic")
        if residual is slack is deviation is None and not found:
            found.append("there was nothing to compare in any instance")
        return found

    @property
    def passed(self) -> bool:
        """Whether the equation holds on all instances."""
        return not self.failures

    @property
    def verdict(self) -> str:
        """Whether it holds, and whether it is proved too, as the table says it."""
        return "FAILS" if not self.passed else "holds, identity proved" if self.proved else "holds"

    @property
    def summary(self) -> tuple[str, str, str]:
        """The measurement that decides, what is allowed of it, and why, as the table shows them."""
        tolerance, reason = self.check.tolerance
        if self.check.kind is Kind.STATISTICAL and self.deviation is not None:
            exact = "" if self.residual is None else f"; exact: {self.residual:.0e}"
            reason = f"false alarm 1e-9, Bonferroni, {self.estimates} means{exact}"
            return f"{self.deviation:.2f} s.e.", f"≤ {self.threshold:.2f}", reason
        if self.check.kind is Kind.INEQUALITY and self.slack is not None:
            return f"{self.slack:.1e}", f"≥ {-tolerance:.0e}" if tolerance else "≥ 0", reason
        value = "–" if self.residual is None else f"{self.residual:.1e}"
        return value, f"≤ {tolerance:.0e}" if tolerance else "0", reason

    def to_dict(self) -> dict[str, Any]:
        """Return the row for JSON, where None stands for what isn't finite."""
        equation, check = self.check.equation, self.check
        measured = {"residual": self.residual, "slack": self.slack, "standard_errors": self.deviation}
        return {
            "number": equation.number,
            "title": equation.title,
            "equation": equation.text,
            "latex": equation.latex,
            "source": equation.source,
            "implemented_by": check.implemented_by,
            "kind": check.kind.value,
            **{name: x if x is not None and math.isfinite(x) else None for name, x in measured.items()},
            "tolerance": check.tolerance.value,
            "reason": check.tolerance.reason,
            "threshold": self.threshold if self.estimates else None,
            "estimates": self.estimates,
            "proved": self.proved,
            "passed": self.passed,
            "failures": self.failures,
        }


@dataclass(frozen=True)
class Report:
    """The result of a verification.

    Attributes
    ----------
    rows : tuple of Row
        One per equation, in their order.
    instances, seed : int
        Number of instances, and what they were drawn from.
    seconds : float
        Time it took.
    """

    rows: tuple[Row, ...]
    instances: int
    seed: int
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every equation holds."""
        return all(row.passed for row in self.rows)

    def sections(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield the title of each section of the derivation with its rows."""
        for title, rows in itertools.groupby(self.rows, lambda row: row.check.equation.section):
            yield title, list(rows)

    def to_text(self) -> str:
        """Return a table for the terminal, with what fails and why below it."""
        width = max(len(row.check.equation.title) for row in self.rows)
        head = f"{'':4} {'equation':{width}}  {'kind':11}  {'measured':>9}  {'allowed':>8}  {'because':50}"
        lines = [head.rstrip()]
        for section, rows in self.sections():
            lines += ["", section]
            for row in rows:
                equation, kind = row.check.equation, row.check.kind.value
                value, allowed, reason = row.summary
                lines.append(
                    f"{equation.number:4} {equation.title:{width}}  {kind:11}  {value:>9}  {allowed:>8}  "
                    f"{reason:50} {row.verdict}"
                )
        return "\n".join([*lines, "", *self._ending()])

    def to_markdown(self) -> str:
        """Return the report as Markdown, with the formulas in LaTeX."""
        lines = ["# The derivation, checked"]
        for section, rows in self.sections():
            lines += ["", f"## {section}"]
            for row in rows:
                equation, (value, allowed, reason) = row.check.equation, row.summary
                lines += ["", f"**{equation.number}** {equation.title}", "", "$$", equation.latex, "$$", ""]
                lines += [f"{row.verdict}: {value}, allowed {allowed} ({reason}). {equation.source}."]
        return "\n".join([*lines, "", *self._ending()])

    def _ending(self) -> list[str]:
        """Return a line for each failure, and one about all equations."""
        lines = []
        for row in self.rows:
            names = ", ".join(row.check.implemented_by)
            lines += [f"{row.check.equation.number} fails: {why} ({names})" for why in row.failures]
        proved = sum(row.proved is True for row in self.rows)
        return [
            *lines,
            f"{sum(row.passed for row in self.rows)} of {len(self.rows)} equations hold on {self.instances} "
            f"random instances (seed {self.seed}, {self.seconds:.1f} s). Residuals and slacks are relative; "
            f"means are in standard errors. {proved} identities are proved modulo a prime near 2⁶¹.",
        ]

    def to_json(self) -> str:
        """Return the report as JSON, with the formulas as text and as LaTeX."""
        document = {
            "passed": self.passed,
            "instances": self.instances,
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "false_alarm": FALSE_ALARM,
            "equations": [row.to_dict() for row in self.rows],
        }
        return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)


def verify(instances: int = 200, seed: int = 0, checks: Sequence[Check] = CHECKS) -> Report:
    """Measure every equation of the derivation on random instances.

    Parameters
    ----------
    instances : int
        Number of instances: MDPs with a pair of policies each.
    seed : int
        Instance i of a seed is the same, however many there are.
    checks : sequence of Check
        Those of the whole derivation, unless given.

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
    (True, 58)
    """
    if instances < 1:
        raise ValueError(f"there must be at least 1 instance, not {instances}")
    if seed < 0:
        raise ValueError(f"the seed must not be negative, but it is {seed}")
    began = time.perf_counter()
    measured = [[_measured(check, drawn) for check in checks] for drawn in drawn_instances(instances, seed)]
    rows, proved = [], prove(np.random.default_rng(seed))
    for check, column in zip(checks, zip(*measured, strict=True), strict=True):
        residuals, slacks, deviations, estimates, errors = zip(*column, strict=True)
        error = next(filter(None, reversed(errors)), None)
        extremes = np.array(residuals), np.array(slacks), np.array(deviations)
        is_proved = proved.get(check.equation.number)
        rows.append(Row(check, *extremes, sum(estimates), error, is_proved))
    return Report(tuple(rows), instances, seed, time.perf_counter() - began)


def drawn_instances(instances: int, seed: int) -> Iterator[Instance]:
    """Yield the instances of a verification; the first ones are the same, however many there are."""
    for sequence in np.random.SeedSequence(seed).spawn(instances):
        yield Instance.draw(np.random.default_rng(sequence))


def _measured(check: Check, instance: Instance) -> tuple[float, float, float, int, str | None]:
    """Return residual, slack, deviation, number of estimates and error of an equation on one instance."""
    comparisons: tuple[Comparison, ...] = ()
    error = None
    try:
        comparisons = check.compare(instance)
    except Exception as raised:  # whatever a broken function raises makes its own equations fail, not others
        error = f"{type(raised).__name__}: {' '.join(str(raised).split())}"
    estimates = [c for c in comparisons if isinstance(c, Estimate)]
    return (
        max((c.residual for c in comparisons if isinstance(c, Equal)), default=math.nan),
        min((c.slack for c in comparisons if isinstance(c, AtMost)), default=math.nan),
        max((c.deviation for c in estimates), default=math.nan),
        sum(c.size for c in estimates),
        error,
    )


def _worst(extreme: Callable[[Array], Any], values: Array) -> float | None:
    """Return the extreme value of the instances that had something to compare."""
    compared = values[~np.isnan(values)]
    return float(extreme(compared)) if len(compared) else None
