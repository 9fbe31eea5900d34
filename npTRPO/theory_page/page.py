"""The verification report as one page for a browser: no script, and nothing that is loaded from elsewhere."""

import importlib.util
import inspect
import platform
import re
from collections.abc import Iterator
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from npTRPO._version import __version__
from npTRPO.theory.checks import FALSE_ALARM, Kind
from npTRPO.theory.report import Report, Row
from npTRPO.theory_page.figures import FIGURES, figure, power_of_ten, strip
from npTRPO.theory_page.formulas import formula

_MEANING = {
    Kind.IDENTITY: "Both sides are computed, by separate code. Measured is their largest difference in any "
    "instance, divided by the largest magnitude that was compared; all of it must be rounding.",
    Kind.INEQUALITY: "Both sides are computed. Measured is the smallest slack in any instance, the larger "
    "side less the smaller one, relative as above; it may be negative by no more than rounding.",
    Kind.STATISTICAL: "An expectation, which is computed exactly, and once more as a mean of samples drawn "
    "by simulation. Measured is the largest distance of the two in standard errors, with Bernstein’s "
    "correction for skewed samples. It is allowed what chance exceeds with a probability of "
    f"{FALSE_ALARM:.0e} over all means of the equation together.",
}


def check_extra() -> None:
    """Raise a ModuleNotFoundError that names the extra ``html`` unless all that it installs is there."""
    missing = [name for name in ("latex2mathml", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f'the page needs {" and ".join(missing)}: pip install "npTRPO[html]"')


def page(report: Report) -> str:
    """Return the whole page, to be written to a file in UTF-8.

    Parameters
    ----------
    report : Report
        Of :func:`npTRPO.theory.verify`. Its instances are drawn once more for a figure.

    Raises
    ------
    ModuleNotFoundError
        Without the ``html`` extra.
    """
    check_extra()
    failing = [row.check.equation.number for row in report.rows if not row.passed]
    found = f"All {len(report.rows)} equations hold"
    if failing:
        fail = "fails" if len(failing) == 1 else "fail"
        found = f"{len(failing)} of {len(report.rows)} equations {fail}: {', '.join(failing)}"
    return _template("page.html").substitute(
        style=_template("page.css").template,
        count=len(report.rows),
        verdict="fails" if failing else "holds",
        found=found,
        instances=f"{report.instances:,} random instance{'s' if report.instances > 1 else ''}",
        seed=report.seed,
        seconds=f"{report.seconds:.1f}",
        contents="".join(_contents(title, rows) for title, rows in report.sections()),
        kinds="".join(
            f"<dt>{kind.value.capitalize()}</dt><dd>{_words(_MEANING[kind])}</dd>" for kind in Kind
        ),
        sections="\n".join(_section(title, rows, report) for title, rows in report.sections()),
        command=f"nptrpo verify --html FILE --instances {report.instances} --seed {report.seed}",
        versions=f"npTRPO {__version__}, NumPy {np.__version__}, Python {platform.python_version()}",
    )


def _contents(title: str, rows: list[Row]) -> str:
    """Return an entry of the table of contents: a section, with a link to each of its equations."""
    links = ""
    for row in rows:
        number, (mark, verdict) = row.check.equation.number, _verdict(row)
        links += (
            f'<li><a class="{verdict}" href="#{number}" aria-label="{number} {verdict}: '
            f'{_words(row.check.equation.title)}">{number} <span aria-hidden="true">{mark}</span></a></li>'
        )
    return f'<li><a href="#{_anchor(title)}">{_words(title)}</a><ol class="numbers">{links}</ol></li>\n'


def _section(title: str, rows: list[Row], report: Report) -> str:
    first, last = (rows[i].check.equation.number for i in (0, -1))
    return (
        f'<section aria-labelledby="{_anchor(title)}">\n<h2 id="{_anchor(title)}">{_words(title)} '
        f"<small>{first if first == last else f'{first}–{last}'}</small></h2>\n"
        f"{''.join(_article(row, report) for row in rows)}</section>"
    )


def _article(row: Row, report: Report) -> str:
    equation, (mark, verdict) = row.check.equation, _verdict(row)
    value, allowed, reason = map(_words, row.summary)
    return _template("equation.html").substitute(
        number=equation.number,
        title=_words(equation.title),
        mark=mark,
        verdict=verdict,
        failures="".join(f'<p class="failure">{_words(sentence)}</p>\n' for sentence in row.failures),
        formula=formula(equation),
        checks="\n".join(f'<p class="check">{paragraph}</p>' for paragraph in _method(row)),
        source=_words(equation.source),
        places="<br>".join(map(_place, row.check.implementations)),
        kind=row.check.kind.value,
        value=value,
        allowed=allowed,
        reason=reason,
        strip=strip(row),
        figure=_figure(equation.number, report),
    )


def _template(name: str) -> Template:
    """Return a file beside this module, with its $names to be filled in."""
    return Template(resources.files("npTRPO.theory_page").joinpath(name).read_text(encoding="utf-8"))


def _verdict(row: Row) -> tuple[str, str]:
    return ("✓", "holds") if row.passed else ("✗", "fails")


def _figure(number: str, report: Report) -> str:
    """Return the figure of an equation, if it has one, or the error that drawing it ends with."""
    if number not in FIGURES:
        return ""
    try:
        return figure(number, report)
    except Exception as error:  # of whatever function is broken: the page is there to tell of it
        return (
            f'<p class="failure">The figure can’t be drawn: {_words(f"{type(error).__name__}: {error}")}</p>'
        )


def _method(row: Row) -> Iterator[str]:
    """Yield the paragraphs in which the docstring of the equation's measure says what it does."""
    document = inspect.getdoc(row.check.measure) or ""
    for paragraph in document.removeprefix(f"{row.check.equation.number}: ").split("\n\n"):
        words = " ".join(paragraph.split())
        words = re.sub(r"^(?:[a-z](?=[a-z])|a(?= ))", lambda letter: letter.group().upper(), words)
        words = re.sub(r"\^(\w)", r"<sup>\1</sup>", _words(words))
        yield re.sub(r"(?<=\w)_(?:(KL|TV|\w\b)|\{(.+?)\})", r"<sub>\1\2</sub>", words)


def _place(implementation: Any) -> str:
    """Return name, file and line of a function or class."""
    file = implementation.__module__.replace(".", "/") + ".py"
    line = inspect.getsourcelines(implementation)[1]
    return f"<code>{implementation.__qualname__}</code> <span>{file}:{line}</span>"


def _anchor(title: str) -> str:
    """Return an id made of a title."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def _words(text: str) -> str:
    """Return text for HTML, with typographic apostrophes, and numbers like 2.1e-15 with powers of ten."""

    def typographic(match: re.Match[str]) -> str:
        digits, exponent = match.group(1), int(match.group(2))
        if float(digits) == 0:
            return "0"
        times = "" if digits == "1" else f"{digits}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}"
        return times + power_of_ten(exponent)

    text = re.sub(r"(\d(?:\.\d+)?)e([+-]\d+)", typographic, text.replace("'", "’"))
    return escape(re.sub(r"-(?=\d)", "−", text))
