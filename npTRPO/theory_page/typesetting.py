"""MathML for a page: long formulas break at relations and commas, brackets grow with fractions."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator

__all__ = ["breakable"]

_NAMESPACE = "http://www.w3.org/1998/Math/MathML"
_OPENING, _CLOSING = tuple("([{"), tuple(")]}")
_BARS = ("|", "‖")
_RELATIONS = ("=", "≤", "≥")
_TALL = ("mfrac", "munder", "munderover")
_FUNCTIONS, _EXTREMES = ("log", "exp"), ("max", "min")
_THIN, _THICK = "0.1667em", "0.2778em"
_SHORT = 4
"""Letters, up to which a left side is kept together with its relation."""
_LONG = 20
"""Letters, above which what brackets hold may be broken as well."""


def breakable(mathml: str, label: str) -> str:
    """A ``<math>`` element whose children may stand on several lines, if the style makes it a flexible box.

    Parameters
    ----------
    mathml : str
        As :func:`npTRPO.theory.notation.mathml` writes it.
    label : str
        The formula as text, for who can't see it.

    Examples
    --------
    >>> from npTRPO.theory.notation import mathml
    >>> breakable(mathml("f(x) + y = 1"), "f(x) + y = 1").count("<mrow>")
    3
    """
    root = ET.fromstring(mathml)
    [body] = root
    parts = list(body) if _name(body) == "mrow" else [body]
    for part in parts:
        _group_within(part)
    root[:] = list(_pieces(list(_opened(_spaced(_row(_grouped(parts)))))))
    root.set("alttext", label)
    ET.register_namespace("", _NAMESPACE)
    return ET.tostring(root, encoding="unicode")


def _spaced(row: ET.Element, inside: bool = False) -> ET.Element:
    """The row with space around functions and single bars, and none around pairs of bars."""
    for child in row:
        _spaced(child, inside=_is_group(child))
    if _name(row) == "mrow":
        bars = [part for part in map(_core, row) if _sign(part) in _BARS]
        apart = _THICK if inside and len(bars) == 1 else "0"
        for bar in bars:
            bar.attrib |= {"lspace": apart, "rspace": apart}
        for before, operator in zip([None, *row], map(_core, row), strict=False):
            if _sign(operator) in _EXTREMES:
                factor = before is not None and _name(before) not in ("mo", "mtext")
                operator.attrib |= {"lspace": _THIN if factor else "0", "rspace": _THIN}
        row[:] = [piece for i, part in enumerate(row) for piece in _around(row, i, part)]
    return row


def _around(row: ET.Element, i: int, part: ET.Element) -> Iterator[ET.Element]:
    """The part, with thin spaces if it is a function: before it after a factor, and before its argument."""
    if _text(part) not in _FUNCTIONS:
        yield part
        return
    thin = {"width": _THIN}
    if i > 0 and _name(row[i - 1]) != "mo":
        yield ET.Element(f"{{{_NAMESPACE}}}mspace", thin)
    yield part
    following = row[i + 1] if i + 1 < len(row) else None
    if following is not None and not _is_group(following):
        yield ET.Element(f"{{{_NAMESPACE}}}mspace", thin)


def _is_group(element: ET.Element) -> bool:
    """Whether the element is a row of brackets and what they hold."""
    return _name(element) == "mrow" and len(element) > 0 and _sign(element[0]) in _OPENING


def _core(element: ET.Element) -> ET.Element:
    """What an element's scripts are attached to, or the element."""
    return element[0] if _name(element) in ("msub", "msup", "munder") else element


def _name(element: ET.Element) -> str:
    return element.tag.removeprefix(f"{{{_NAMESPACE}}}")


def _row(children: Iterable[ET.Element], style: str = "") -> ET.Element:
    row = ET.Element(f"{{{_NAMESPACE}}}mrow", {"class": style} if style else {})
    row.extend(children)
    return row


def _sign(element: ET.Element) -> str:
    """The sign of an operator; nothing for all else."""
    return element.text or "" if _name(element) == "mo" else ""


def _group_within(element: ET.Element) -> None:
    """Group the brackets of every row inside of the element."""
    for child in element:
        _group_within(child)
    if _name(element) == "mrow":
        element[:] = _grouped(list(element))


def _grouped(parts: list[ET.Element]) -> list[ET.Element]:
    """Every pair of brackets and what it holds as one row; brackets without a partner stay as they are."""
    levels: list[list[ET.Element]] = [[]]
    for part in parts:
        if _sign(part) in _OPENING:
            levels.append([part])
        elif _sign(part) in _CLOSING and len(levels) > 1:
            group = [*levels.pop(), part]
            if any(_name(inner) in _TALL for inner in group):
                for bracket in (group[0], group[-1]):
                    bracket.attrib = {"stretchy": "true", "maxsize": "2.2em"}
            levels[-1].append(_row(group))
        else:
            levels[-1].append(part)
    return [part for level in levels for part in level]


def _opened(row: ET.Element, depth: int = 0) -> Iterator[tuple[ET.Element, int]]:
    """The parts of a row and their depth in brackets, with those of long groups one by one."""
    for part in row:
        if _is_group(part) and len(_text(part)) > _LONG and "maxsize" not in part[0].attrib:
            yield from _opened(part, depth + 1)
        else:
            yield part, depth


def _pieces(parts: list[tuple[ET.Element, int]]) -> Iterator[ET.Element]:
    """Rows between which a line may end.

    That is before relations, words, and signs between two terms; and after commas, colons, and what the
    argument of a maximum or minimum is.
    """
    piece: list[ET.Element] = []
    for part, depth in parts:
        sign, words = _sign(part), _text(part) if _name(part) == "mtext" else ""
        follows = bool(piece) and _name(piece[-1]) != "mo"
        relates = sign in _RELATIONS and len("".join(map(_text, piece))) > _SHORT
        adds = sign in ("+", "−") and follows
        speaks = words.strip()[:1].isalpha() and words != words.strip() and follows
        if piece and (relates or adds or speaks):
            yield _row(piece, "before-words" if speaks else "")
            piece = []
            if adds:
                part.set("form", "infix")  # at the start of a row it would be a sign of what follows
        if words and (speaks or not follows):
            part.text = words.lstrip()
        piece.append(part)
        argued = len(piece) > 1 and _text(piece[0]).strip() == "arg"
        if sign in (",", ":") or words.strip().endswith(",") or argued:
            yield _row(piece, "ends" if depth == 0 and sign in (",", ":") else "")
            piece = []
    if piece:
        yield _row(piece)


def _text(element: ET.Element) -> str:
    return "".join(element.itertext())
