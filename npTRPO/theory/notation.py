r"""A small notation for formulas, written once and rendered as text and as presentation MathML.

The notation is what is usual: letters, numbers and signs stand for themselves, ``x_i`` and ``x^{k+1}``
are scripts, ``π'`` is a prime, braces group, and there are ``\frac{}{}``, ``\sqrt{}``, ``\hat{}``,
``\text{}``, ``\sum``, ``\prod``, ``\max``, ``\min``, ``\log``, ``\exp``, ``\{`` and ``\}``. Spaces are
kept in text; MathML has its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape

__all__ = ["mathml", "text"]

_TOKEN = re.compile(r"(\s*)(\\text\{[^{}]*\}|\\[a-z]+|\\[{}]|\d+|[^\W\d_]|\S)")
_SUPERSCRIPTS = str.maketrans("0123456789+−Ttlkni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᵗˡᵏⁿⁱ")
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_BIG = {"\\sum": "∑", "\\prod": "∏", "\\max": "max", "\\min": "min"}
_LEAVES = {"\\log": ("mi", "log"), "\\exp": ("mi", "exp"), "\\{": ("mo", "{"), "\\}": ("mo", "}")}
_SIGNS = {"~": "\N{TILDE OPERATOR}"}
_FENCES = "()[]{}|‖"
_NO_BREAK_SPACE = "\u00a0"


@dataclass(frozen=True)
class _Node:
    """A leaf (mi, mn, mo, mtext or big) with its word, or a construct with its parts."""

    kind: str
    word: str = ""
    parts: tuple[_Node | None, ...] = ()
    space: bool = False  # before it, in text


def mathml(formula: str) -> str:
    r"""A formula as a ``<math>`` element.

    Examples
    --------
    >>> mathml("x_0 = 1").removeprefix('<math xmlns="http://www.w3.org/1998/Math/MathML" ')
    'display="block"><mrow><msub><mi>x</mi><mn>0</mn></msub><mo>=</mo><mn>1</mn></mrow></math>'
    """
    body = _markup(_parsed(formula))
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">{body}</math>'


def text(formula: str) -> str:
    r"""A formula as one line of text.

    Examples
    --------
    >>> text(r"λ = \sqrt{\frac{g^T H^{−1} g}{2 δ}}")
    'λ = √((gᵀ H⁻¹ g)/(2 δ))'
    """
    return _plain(_parsed(formula))


# --- reading ----------------------------------------------------------------------------------------


def _parsed(formula: str) -> _Node:
    return _sequence(((bool(s), token) for s, token in _TOKEN.findall(formula)), closing=None)


def _sequence(stream: Iterator[tuple[bool, str]], closing: str | None) -> _Node:
    """Everything up to the closing brace, with scripts bound to what precedes them."""
    items: list[_Node] = []
    for space, token in stream:
        if token == closing:
            break
        if token == "}":
            raise ValueError("a formula closes a brace that isn't open")
        if token in ("_", "^", "'"):
            script = _Node("mo", "′") if token == "'" else _atom(*next(stream), stream)
            items[-1] = _with_script(items[-1], replace(script, space=False), below=token == "_")
        else:
            items.append(_atom(space, token, stream))
    else:
        if closing is not None:
            raise ValueError("a formula has a brace that isn't closed")
    return items[0] if len(items) == 1 else _Node("row", parts=tuple(items))


def _atom(space: bool, token: str, stream: Iterator[tuple[bool, str]]) -> _Node:
    if token == "{":
        return replace(_sequence(stream, closing="}"), space=space)
    if token.startswith("\\text"):
        return _Node("mtext", token[len("\\text{") : -1], space=space)
    if token in ("\\frac", "\\sqrt", "\\hat"):
        count = 2 if token == "\\frac" else 1
        parts = tuple(replace(_atom(*next(stream), stream), space=False) for _ in range(count))
        return _Node(token[1:], parts=parts, space=space)
    if token in _BIG:
        return _Node("big", _BIG[token], space=space)
    if token in _LEAVES:
        return _Node(*_LEAVES[token], space=space)
    if token.startswith("\\"):
        raise ValueError(f"the notation has no {token}")
    kind = "mn" if token.isdigit() else "mi" if token.isalpha() else "mo"
    return _Node(kind, _SIGNS.get(token, token), space=space)


def _with_script(base: _Node, script: _Node, below: bool) -> _Node:
    """The base with one script more; a superscript after a prime joins it."""
    core, sub, sup = base.parts if base.kind == "scripts" else (replace(base, space=False), None, None)
    if below and sub is not None:
        raise ValueError("a symbol in a formula has two subscripts")
    if below:
        sub = script
    else:
        sup = script if sup is None else _Node("row", parts=(sup, script))
    return _Node("scripts", parts=(core, sub, sup), space=base.space)


# --- writing ----------------------------------------------------------------------------------------


def _markup(node: _Node | None) -> str:
    if node is None:
        return ""
    if node.kind == "row":
        return f"<mrow>{''.join(_in_row(node.parts))}</mrow>"
    parts = "".join(_markup(part) for part in node.parts)
    if node.kind == "scripts":
        core, sub, sup = node.parts
        names = (
            ("munderover", "munder", "mover") if core and core.kind == "big" else ("msubsup", "msub", "msup")
        )
        name = names[0] if sub and sup else names[1] if sub else names[2]
        return f"<{name}>{parts}</{name}>"
    if node.kind == "hat":
        return f'<mover accent="true">{parts}<mo>^</mo></mover>'
    if node.kind in ("frac", "sqrt"):
        return f"<m{node.kind}>{parts}</m{node.kind}>"
    if node.kind == "big":
        return f"<mo>{node.word}</mo>"
    fence = ' stretchy="false"' if node.kind == "mo" and node.word in _FENCES else ""
    return f"<{node.kind}{fence}>{escape(node.word)}</{node.kind}>"


def _in_row(parts: tuple[_Node | None, ...]) -> Iterator[str]:
    """Markup of a row's parts, with the spaces around words that MathML would not make."""
    for part, following in zip(parts, (*parts[1:], None), strict=True):
        if part is not None and part.kind == "mtext":
            before = _NO_BREAK_SPACE if part.space else ""
            after = _NO_BREAK_SPACE if following is not None and following.space else ""
            part = replace(part, word=f"{before}{part.word}{after}")
        yield _markup(part)


def _plain(node: _Node | None) -> str:
    if node is None:
        return ""
    if node.kind == "row":
        return "".join(" " * (part is not None and part.space) + _plain(part) for part in node.parts).strip()
    parts = [_plain(part) for part in node.parts]
    if node.kind == "frac":
        return "½" if parts == ["1", "2"] else "/".join(_bracketed(part) for part in parts)
    if node.kind == "sqrt":
        return f"√{parts[0]}" if len(parts[0]) == 1 else f"√({parts[0]})"
    if node.kind == "hat":
        return parts[0] + "\N{COMBINING CIRCUMFLEX ACCENT}"
    if node.kind == "scripts":
        core, sub, sup = parts
        return core + _script(sup, "^", _SUPERSCRIPTS) + _script(sub, "_", _SUBSCRIPTS)
    return node.word


def _bracketed(line: str) -> str:
    """The line in brackets, if it has a space outside all brackets of its own."""
    depth = 0
    for sign in line:
        depth += (sign in "([{") - (sign in ")]}")
        if depth == 0 and sign == " ":
            return f"({line})"
    return line


def _script(line: str, mark: str, table: dict[int, int]) -> str:
    """A script in Unicode's own characters where it has them all, and else after its mark."""
    if line.startswith("′"):
        return "′" + _script(line[1:], mark, table)
    if all(ord(c) in table for c in line):
        return line.translate(table)
    return f"{mark}{line}" if len(line) == 1 else f"{mark}{{{line}}}"
