import unicodedata
import xml.etree.ElementTree as ET

import pytest

from npTRPO.theory.equations import EQUATIONS, SECTIONS
from npTRPO.theory.notation import mathml, text

NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
# Presentation elements of MathML Core, with how many children those take that take a fixed number.
ELEMENTS = {
    "math": None,
    "mrow": None,
    "mi": 0,
    "mn": 0,
    "mo": 0,
    "mtext": 0,
    "mfrac": 2,
    "msqrt": None,
    "msub": 2,
    "msup": 2,
    "msubsup": 3,
    "munder": 2,
    "mover": 2,
    "munderover": 3,
}


@pytest.mark.parametrize("number", EQUATIONS)
def test_every_formula_is_well_formed_presentation_mathml(number: str) -> None:
    root = ET.fromstring(EQUATIONS[number].mathml)
    assert root.tag == f"{NAMESPACE}math"
    for element in root.iter():
        name = element.tag.removeprefix(NAMESPACE)
        assert ELEMENTS[name] in (None, len(element)), ET.tostring(element)
        assert element.text or len(element)
        assert "\\" not in (element.text or "")


@pytest.mark.parametrize("number", EQUATIONS)
def test_every_formula_is_one_line_of_text(number: str) -> None:
    line = EQUATIONS[number].text
    assert line.strip() == line
    assert "\n" not in line
    assert "\\" not in line
    assert line.count("(") == line.count(")")
    assert line.count("[") == line.count("]")


def test_the_sections_cover_all_equations_in_order() -> None:
    assert [n for first, last in SECTIONS.values() for n in range(first, last + 1)] == list(range(1, 45))
    assert list(EQUATIONS) == [f"E{n}" for n in range(1, 45)]


@pytest.mark.parametrize(
    ("formula", "as_text", "as_mathml"),
    [
        ("x_0", "x₀", "<msub><mi>x</mi><mn>0</mn></msub>"),
        ("x^2", "x²", "<msup><mi>x</mi><mn>2</mn></msup>"),
        ("x_i^2", "x²_i", "<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>"),
        ("x'_i", "x′_i", "<msubsup><mi>x</mi><mi>i</mi><mo>′</mo></msubsup>"),
        (
            "x'_i^2",
            "x′²_i",
            "<msubsup><mi>x</mi><mi>i</mi><mrow><mo>′</mo><mn>2</mn></mrow></msubsup>",
        ),
        (
            r"\frac{a}{b + c}",
            "a/(b + c)",
            "<mfrac><mi>a</mi><mrow><mi>b</mi><mo>+</mo><mi>c</mi></mrow></mfrac>",
        ),
        (r"\frac{1}{2}", "½", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"),
        (r"\sqrt{x}", "√x", "<msqrt><mi>x</mi></msqrt>"),
        (r"\hat{A}", "Â", '<mover accent="true"><mi>A</mi><mo>^</mo></mover>'),
        (r"\max_s x", "max_s x", "<mrow><munder><mo>max</mo><mi>s</mi></munder><mi>x</mi></mrow>"),
        (
            r"\sum_i^n x",
            "∑ⁿ_i x",
            "<mrow><munderover><mo>∑</mo><mi>i</mi><mi>n</mi></munderover><mi>x</mi></mrow>",
        ),
        (r"D_\text{KL}", "D_{KL}", "<msub><mi>D</mi><mtext>KL</mtext></msub>"),
        ("a < b", "a < b", "<mrow><mi>a</mi><mo>&lt;</mo><mi>b</mi></mrow>"),
        (
            r"a \text{if} b",
            "a if b",
            "<mrow><mi>a</mi><mtext>\N{NO-BREAK SPACE}if\N{NO-BREAK SPACE}</mtext><mi>b</mi></mrow>",
        ),
        (r"\{x\}", "{x}", '<mrow><mo stretchy="false">{</mo><mi>x</mi><mo stretchy="false">}</mo></mrow>'),
    ],
)
def test_what_the_notation_says(formula: str, as_text: str, as_mathml: str) -> None:
    assert unicodedata.normalize("NFC", text(formula)) == as_text
    assert f'display="block">{as_mathml}</math>' in mathml(formula)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("{x", "a brace that isn't closed"),
        ("x}", "closes a brace that isn't open"),
        (r"\foo", r"the notation has no \\foo"),
        ("x_i_j", "two subscripts"),
    ],
)
def test_what_the_notation_does_not_say_is_refused(formula: str, message: str) -> None:
    for render in (text, mathml):
        with pytest.raises(ValueError, match=message):
            render(formula)
