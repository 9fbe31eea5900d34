import unicodedata

import pytest

from npTRPO.theory.equations import EQUATIONS
from npTRPO.theory.latex import plain_text


@pytest.mark.parametrize("number", EQUATIONS)
def test_every_formula_is_one_line_of_text(number):
    line = EQUATIONS[number].text
    assert line.strip() == line
    assert "  " not in line
    assert not set(line) & set("\n\\'-⦃⦄")
    for opening, closing in ("()", "[]", "{}"):
        assert line.count(opening) == line.count(closing)


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"x_0", "x₀"),
        (r"x_i^2", "x_i²"),
        (r"x_{k + 1}", "x_{k+1}"),
        (r"E_{s\sim P, a}[\gamma^t V]", "E_{s\N{TILDE OPERATOR}P, a}[γᵗ V]"),
        (r"\nu^{\pi'}", "ν^{π′}"),
        (r"\frac{a}{b + c}", "a/(b + c)"),
        (r"\frac{4 \gamma}{(1 - \gamma)^2}", "(4 γ)/(1 − γ)²"),
        (r"\frac{1}{2} \sqrt{x}", "½ √x"),
        (r"\sqrt{\frac{x}{2}}", "√(x/2)"),
        (r"\hat{A}_t", "Â_t"),
        (r"D_\text{KL}(p \parallel q)", "D_{KL}(p ‖ q)"),
        (r"\left.f\right|_{x=0} \quad \text{if } i \ne j", "f|_{x=0} if i ≠ j"),
        (r"\operatorname{diag}\left(\|x\|, \min\{y\}\right)", "diag(‖x‖, min{y})"),
    ],
)
def test_latex_as_plain_text(latex, text):
    assert unicodedata.normalize("NFC", plain_text(latex)) == text


def test_a_command_without_a_text_is_refused():
    with pytest.raises(KeyError, match="foo"):
        plain_text(r"\foo")
