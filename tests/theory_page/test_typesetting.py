import xml.etree.ElementTree as ET

import pytest

from npTRPO.theory.equations import EQUATIONS
from npTRPO.theory.notation import mathml
from npTRPO.theory_page.typesetting import breakable

NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"


def typeset(formula: str) -> ET.Element:
    return ET.fromstring(breakable(mathml(formula), "the formula"))


def pieces(formula: str) -> list[str]:
    """What stands on a line together, as text without spaces."""
    return ["".join("".join(piece.itertext()).split()) for piece in typeset(formula)]


def names(element: ET.Element) -> list[str]:
    return [inner.tag.removeprefix(NAMESPACE) for inner in element.iter()]


@pytest.mark.parametrize("number", EQUATIONS)
def test_typesetting_loses_no_sign_of_any_formula(number: str) -> None:
    source = EQUATIONS[number].mathml
    before, after = ET.fromstring(source), ET.fromstring(breakable(source, EQUATIONS[number].text))
    letters = ["".join("".join(root.itertext()).split()) for root in (before, after)]
    assert letters[0] == letters[1]
    assert after.get("alttext") == EQUATIONS[number].text
    assert all(piece.tag == f"{NAMESPACE}mrow" and len(piece) for piece in after)
    kept = [name for name in names(after) if name not in ("mrow", "mspace")]
    assert kept == [name for name in names(before) if name != "mrow"]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"f(x) + g(x) = h(x)", ["f(x)", "+g(x)", "=h(x)"]),
        (r"λ = 1", ["λ=1"]),
        (r"J(π) = L(π), ε ≥ 0", ["J(π)=L(π),", "ε≥0"]),
        (r"λ = 0: x = y", ["λ=0:", "x=y"]),
        (r"a = −b", ["a=−b"]),
        (r"\max_x f(x) \text{subject to} g(x) ≤ δ", ["maxxf(x)", "subjecttog(x)", "≤δ"]),
        (r"\text{arg} \min_w f(w)", ["argminw", "f(w)"]),
        (r"p \text{(softmax),} q \text{(other)}", ["p(softmax),", "q(other)"]),
        (r"f(a = b)", ["f(a=b)"]),
        (r"f(a + bcdefghijk + lmnopqrstu)", ["f(a", "+bcdefghijk", "+lmnopqrstu)"]),
        (r"f(x", ["f(x"]),
        (r"x", ["x"]),
    ],
)
def test_lines_may_end_where_one_would_end_them(formula: str, expected: list[str]) -> None:
    assert pieces(formula) == expected


def test_a_sign_at_the_start_of_a_line_still_adds_two_terms() -> None:
    _, second = typeset("abcde + fghij")
    assert second[0].get("form") == "infix"


@pytest.mark.parametrize(
    ("formula", "grows"), [(r"(\frac{a}{b})", True), (r"[\sum_i x]", True), ("(a b)", False)]
)
def test_brackets_grow_with_what_is_tall(formula: str, grows: bool) -> None:
    [piece] = typeset(formula)
    [group] = piece
    for bracket in (group[0], group[-1]):
        assert bracket.get("stretchy") == ("true" if grows else "false")


@pytest.mark.parametrize(
    ("formula", "space"),
    [("|x|", "0"), ("D(p ‖ q)", "0.2778em"), ("P(a | b)", "0.2778em"), (r"f(‖x‖^2)", "0")],
)
def test_one_bar_in_brackets_separates_and_two_enclose(formula: str, space: str) -> None:
    bars = [element for element in typeset(formula).iter() if element.text in ("|", "‖")]
    assert [bar.get("lspace") for bar in bars] == [space] * len(bars)


@pytest.mark.parametrize(
    ("formula", "count"),
    [(r"\log x", 1), (r"a \log x", 2), (r"\exp(x)", 0), (r"a + \log x", 1), (r"\log", 0)],
)
def test_functions_stand_apart_from_factors_and_arguments_without_brackets(formula: str, count: int) -> None:
    assert names(typeset(formula)).count("mspace") == count
