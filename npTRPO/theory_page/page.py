"""The verification report as one page for a browser: no script, and nothing that is loaded from elsewhere."""

from __future__ import annotations

import inspect
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from importlib import import_module, resources

import numpy as np

from npTRPO._version import __version__
from npTRPO.theory.equations import SECTIONS
from npTRPO.theory.report import Report, Row, drawn_instances, measured
from npTRPO.theory.checks import FALSE_ALARM, Kind
from npTRPO.theory_page import figures
from npTRPO.theory_page.charts import Axis, power_of_ten, strip
from npTRPO.theory_page.typesetting import breakable

__all__ = ["page"]

_MEANING = {
    Kind.IDENTITY: "Both sides are computed, by separate code. Measured is their largest difference in any "
    "instance, divided by the largest magnitude that was compared; all of it must be rounding.",
    Kind.INEQUALITY: "Both sides are computed. Measured is the smallest slack in any instance, the larger "
    "side less the smaller one, relative as above; it may be negative by no more than rounding.",
    Kind.STATISTICAL: "An expectation, which is computed exactly, and once more as a mean of samples drawn "
    "by simulation. Measured is the largest distance of the two in standard errors, with Bernstein’s "
    "correction for skewed samples. It is allowed what chance exceeds with a probability of "
    f"{FALSE_ALARM:.0e} over all means of the statement together.",
}
_RESIDUALS = Axis("", 1e-17, 1e-7, (1e-16, 1e-12, 1e-8), log=True)
_SLACKS = Axis("", 1e-17, 10.0, (1e-16, 1e-8, 1.0), log=True)
_DEVIATIONS = Axis("", 0.0, 9.0, (0, 2, 4, 6, 8))
_NO_BREAK = "\N{NO-BREAK SPACE}"
_FIGURES: dict[str, Callable[[Report], figures.Figure]] = {
    "E13": lambda report: figures.draw_bounds(drawn_instances(max(report.instances, 100), report.seed)),
    "E20": lambda report: figures.draw_remainders(report.seed),
    "E36": lambda report: figures.draw_conjugate_gradients(report.seed),
    "E43": lambda report: figures.draw_advantages(report.seed),
}


def page(report: Report) -> str:
    """The whole page, to be written to a file in UTF-8.

    Parameters
    ----------
    report : Report
        Of :func:`npTRPO.theory.verify`. Its instances are drawn once more for a figure.

    Examples
    --------
    >>> from npTRPO.theory import verify
    >>> page(verify(instances=2)).count("<math ")
    44
    """
    drawn = {number: _drawn(draw, report) for number, draw in _FIGURES.items()}
    style = resources.files("npTRPO.theory_page").joinpath("page.css").read_text(encoding="utf-8")
    sections = [
        (title, [row for row in report.rows if first <= int(row.statement.number[1:]) <= last])
        for title, (first, last) in SECTIONS.items()
    ]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>The derivation of TRPO, measured</title>\n<style>\n{style}</style>\n</head>\n<body>",
            *_header(report, sections),
            "<main>",
            *(line for title, rows in sections for line in _section(title, rows, drawn)),
            "</main>",
            *_footer(report),
            "</body>\n</html>\n",
        ]
    )


def _header(report: Report, sections: Sequence[tuple[str, list[Row]]]) -> Iterator[str]:
    n = f"{report.instances:,} random instance{'s' if report.instances > 1 else ''}"
    failing = [row.statement.number for row in report.rows if not row.passed]
    yield "<header>\n<h1>The derivation of TRPO, measured</h1>"
    yield (
        '<p class="lead">Trust region policy optimization rests on '
        f"{len(report.rows)} numbered equations. Here they are in order, and beside each one is the code of "
        "npTRPO that computes it and how far it was from true, on finite Markov decision processes where "
        "every expectation is a sum.</p>"
    )
    if failing:
        fail = "fails" if len(failing) == 1 else "fail"
        found = f"{len(failing)} of {len(report.rows)} equations {fail}: {', '.join(failing)}"
    else:
        found = f"All {len(report.rows)} equations hold"
    yield (
        f'<p class="result {"fails" if failing else "holds"}"><strong>{found}</strong> '
        f"measured on {n} (seed {report.seed}) in {report.seconds:.1f} seconds</p>"
    )
    yield '<nav aria-label="Equations"><ol class="sections">'
    for title, rows in sections:
        yield f'<li><a href="#{_anchor(title)}">{_words(title)}</a><ol class="numbers">'
        for row in rows:
            number = row.statement.number
            mark, verdict = ("✓", "holds") if row.passed else ("✗", "fails")
            yield (
                f'<li><a class="{verdict}" href="#{number}" aria-label="{number} {verdict}: '
                f'{_words(row.statement.title)}">{number} <span aria-hidden="true">{mark}</span></a></li>'
            )
        yield "</ol></li>"
    yield "</ol></nav>"
    yield "<details>\n<summary>How to read the measurements</summary>\n<dl>"
    for kind, meaning in _MEANING.items():
        yield f"<dt>{kind.value.capitalize()}</dt><dd>{_numbers(meaning)}</dd>"
    yield (
        "<dt>Instances</dt><dd>Each is a random MDP of up to five states and four actions, dense, sparse, "
        "deterministic or with an absorbing state, with any discount from 0 to 0.99; an old and a new policy "
        "in it, and another pair for continuous actions. The bars beside an equation show how the instances "
        "are spread, those without any error at the left end; the red line is what is allowed.</dd>"
    )
    yield "</dl>\n</details>\n</header>"


def _section(title: str, rows: Sequence[Row], drawn: Mapping[str, str]) -> Iterator[str]:
    numbers = [row.statement.number for row in rows]
    ends = numbers[0] if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"
    yield f'<section aria-labelledby="{_anchor(title)}">'
    yield f'<h2 id="{_anchor(title)}">{_words(title)} <small>{ends}</small></h2>'
    for row in rows:
        yield from _article(row, drawn.get(row.statement.number, ""))
    yield "</section>"


def _article(row: Row, figure: str) -> Iterator[str]:
    statement = row.statement
    number, verdict = statement.number, "holds" if row.passed else "fails"
    yield f'<article id="{number}" class="{verdict}">'
    yield (
        f'<h3><a href="#{number}">{number}</a> <span>{_words(statement.title)}</span> '
        f'<b class="verdict">{"✓ holds" if row.passed else "✗ fails"}</b></h3>'
    )
    for sentence in row.failures:
        yield f'<p class="failure">{_words(_numbers(sentence))}</p>'
    yield '<div class="body"><div>'
    yield f'<div class="formula">{breakable(statement.mathml, statement.equation)}</div>'
    for paragraph in _checks(row):
        yield f'<p class="check">{paragraph}</p>'
    places = "<br>".join(_place(name) for name in statement.implemented_by)
    yield (
        f'<dl class="facts"><dt>Source</dt><dd>{_words(statement.source)}</dd>'
        f'<dt>Code</dt><dd>{places}</dd></dl></div>\n<div class="measured">'
    )
    value, allowed, reason = (_words(_numbers(words)) for words in measured(row))
    yield (
        f"<dl><dt>Kind</dt><dd>{statement.kind.value}</dd>"
        f'<dt>Measured</dt><dd class="value">{value}</dd><dt>Allowed</dt><dd>{allowed}</dd></dl>'
        f"<p>{reason}</p>"
    )
    yield _spread(row)
    yield "</div></div>"
    yield f"{figure}</article>"


def _drawn(draw: Callable[[Report], figures.Figure], report: Report) -> str:
    """A figure as an element; what is wrong where the functions that it shows fail."""
    try:
        figure = draw(report)
    except Exception as error:
        return (
            f'<p class="failure">The figure can’t be drawn: {_words(f"{type(error).__name__}: {error}")}</p>'
        )
    return f"<figure>{figure.svg}<figcaption>{_words(_numbers(figure.caption))}</figcaption></figure>"


def _spread(row: Row) -> str:
    """The measurements of all instances as a strip, with how many they are."""
    statement = row.statement
    axis, values, limit, what = {
        Kind.IDENTITY: (_RESIDUALS, row.residuals, statement.tolerance, "differences"),
        Kind.INEQUALITY: (_SLACKS, row.slacks, 0.0, "slacks"),
        Kind.STATISTICAL: (_DEVIATIONS, row.deviations, row.threshold, "distances in standard errors"),
    }[statement.kind]
    compared = values[~np.isnan(values)]
    if not len(compared):
        return ""
    words = f"How the {what} are spread over {len(compared)} instances"
    missing = len(values) - len(compared)
    note = f"<p>In {missing} of {len(values)} instances there was nothing to compare.</p>" if missing else ""
    drawing = strip(axis, np.maximum(compared, axis.low), limit, statement.number, words)
    return drawing + note


def _checks(row: Row) -> Iterator[str]:
    """What the statement's measure says that it does."""
    document = inspect.getdoc(row.statement.measure) or ""
    for paragraph in document.removeprefix(f"{row.statement.number}: ").split("\n\n"):
        if paragraph:
            words = " ".join(paragraph.split())
            words = re.sub(r"^(?:[a-z](?=[a-z])|a(?= ))", lambda letter: letter.group().upper(), words)
            yield _with_subscripts(_words(words))


def _place(name: str) -> str:
    """Name, file and line of a function or class, given its qualified name."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            module = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        thing = module
        for part in parts[count:]:
            thing = getattr(thing, part)
        line = inspect.getsourcelines(thing)[1]
        return f"<code>{'.'.join(parts[count:])}</code> <span>{'/'.join(parts[:count])}.py:{line}</span>"
    raise ValueError(f"there is no {name}")


def _footer(report: Report) -> Iterator[str]:
    command = f"nptrpo verify --html FILE --instances {report.instances} --seed {report.seed}"
    versions = f"npTRPO {__version__}, NumPy {np.__version__}, Python {platform.python_version()}"
    yield (
        f"<footer>\n<p>Made by <code>{command}</code>, with {versions}. "
        "The same seed draws the same instances.</p>\n</footer>"
    )


def _anchor(title: str) -> str:
    """An id made of a title."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def _words(text: str) -> str:
    """Text for HTML, with typographic apostrophes."""
    return escape(text.replace("'", "’"), quote=True)


def _with_subscripts(text: str) -> str:
    """Text of a docstring with its symbols like D_KL set as such."""
    text = re.sub(r"\^(\w)", r"<sup>\1</sup>", text)
    return re.sub(r"(?<=\w)_(?:(KL|TV|\w\b)|\{(.+?)\})", r"<sub>\1\2</sub>", text)


def _numbers(text: str) -> str:
    """Text with its numbers like 2.1e-15 and 1e-09 as powers of ten."""

    def typographic(match: re.Match[str]) -> str:
        digits, exponent = match.group(1), int(match.group(2))
        if float(digits) == 0:
            return "0"
        times = "" if digits == "1" else f"{digits}{_NO_BREAK}×{_NO_BREAK}"
        return times + power_of_ten(exponent)

    return re.sub(r"-(?=\d)", "−", re.sub(r"(\d(?:\.\d+)?)e([+-]\d+)", typographic, text))
