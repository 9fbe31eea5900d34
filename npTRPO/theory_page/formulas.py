"""Formulas as MathML, converted from LaTeX by latex2mathml."""

import xml.etree.ElementTree as ET
from html import escape

from npTRPO.theory.equations import Equation

_FUNCTIONS = ("log", "exp", "max", "min", "arg", "diag")
_WITH_LIMITS = ("max", "min", "\N{N-ARY SUMMATION}", "\N{N-ARY PRODUCT}")
_SCRIPTED = ("msub", "msup", "msubsup", "munder")
_THIN = "0.1667em"


def formula(equation: Equation) -> str:
    """Return an element with the formula: a ``<math>`` for each part that may stand on a line of its own."""
    from latex2mathml.converter import convert

    parts, markup = equation.latex.split(r"\quad "), ""
    for part, following in zip(parts, [*parts, ""][1:], strict=True):
        math = ET.fromstring(convert(part, xmlns="", display="block"))
        if not following.startswith(("= ", r"\le ")):
            math.set("class", "ends")
        _mend(math)
        markup += ET.tostring(math, encoding="unicode")
    return f'<div class="formula" role="math" aria-label="{escape(equation.text)}">{markup}</div>'


def _mend(element: ET.Element) -> None:
    """Set limits, primes, and spaces around signs and functions as LaTeX does where the converter doesn't."""
    before = None
    for child, after in zip(element, [*element, None][1:], strict=True):
        _mend(child)
        if child.text == "~":
            child.tag, child.text = "mo", "\N{TILDE OPERATOR}"
        if child.text == ":":
            child.tag, child.attrib = "mo", {"lspace": "0"}
        if child.tag == "mo" and not child.text:  # a bracket that isn't seen
            child.attrib |= {"lspace": "0", "rspace": "0"}
        if child.text in _FUNCTIONS:
            child.tag = "mo"
            argument_in_brackets = after is not None and after.text == "("
            child.attrib |= {"lspace": _THIN, "rspace": "0" if argument_in_brackets else _THIN}
        if child.text == "\N{MINUS SIGN}" and before is not None and before.text == "=":
            child.set("form", "prefix")
        if child.tag in ("msup", "msubsup") and child[-1].text == "\N{PRIME}":
            _put_beside(child)
        if child.tag == "msub" and child[0].text in _WITH_LIMITS:
            child.tag = "munder"
        if child.tag in _SCRIPTED:
            for script in child[1:]:
                for sign in script.iter("mo"):
                    sign.attrib |= {"lspace": "0", "rspace": "0"}
        before = child


def _put_beside(element: ET.Element) -> None:
    """Put a prime beside what it belongs to, as it has the height of a superscript by itself."""
    core, *below, prime = element
    prime.tag, prime.attrib = "mo", {"lspace": "0", "rspace": "0"}
    row = ET.Element("mrow")
    row[:] = [core, prime]
    element.tag = "msub" if below else "mrow"
    element[:] = [row, *below]
