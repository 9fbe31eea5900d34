"""LaTeX formulas as one line of Unicode text, for a terminal."""

import re

# Each command and its text; the braces ⦃ and ⦄ become plain ones at the end.
_COMMANDS = """
alpha α beta β gamma γ delta δ varepsilon ε theta θ kappa κ lambda λ mu μ nu ν pi π rho ρ sigma σ tau τ
varphi φ chi χ partial ∂ Delta Δ nabla ∇ sum ∑ prod ∏ le ≤ ge ≥ ne ≠ sim \N{TILDE OPERATOR} cdot · dots …
mid | parallel ‖ | ‖ log log exp exp max max min min to → gets ← { ⦃ } ⦄
"""
_NAMES, _SIGNS = _COMMANDS.split()[::2], _COMMANDS.split()[1::2]
_SYMBOLS = dict(zip(_NAMES, _SIGNS, strict=True)) | dict.fromkeys(("left", "right", "quad", ","), "")
_BUILT = re.compile(
    r"\\frac\{(?P<above>[^{}]*)\}\{(?P<below>[^{}]*)\}"
    r"|\\(?P<kind>sqrt|hat|text|operatorname)\{(?P<inner>[^{}]*)\}"
    r"|(?P<mark>[_^])\{(?P<script>[^{}]*)\}"
)
_SCRIPTS = {
    "^": str.maketrans("0123456789+−Ttlkni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᵗˡᵏⁿⁱ"),
    "_": str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"),
}


def plain_text(latex: str) -> str:
    r"""Translate a formula to text; spaces in it are kept, and what it can't translate is a KeyError.

    Examples
    --------
    >>> plain_text(r"\lambda = \sqrt{\frac{g^T H^{-1} g}{2 \delta}}")
    'λ = √((gᵀ H⁻¹ g)/(2 δ))'
    """
    line = re.sub(r"([_^])(\\text\{\w+\}|\\[a-zA-Z]+|[^\\{])", r"\1{\2}", latex.replace(r"\left.", ""))
    line = re.sub(r"\\(?!(?:frac|sqrt|hat|text|operatorname)\b)([a-zA-Z]+|.)", lambda m: _SYMBOLS[m[1]], line)
    line = line.replace("-", "−").replace("'", "′")
    while (shorter := _BUILT.sub(_built, line)) != line:
        line = shorter
    return " ".join(line.split()).replace("⦃", "{").replace("⦄", "}")


def _built(match: re.Match[str]) -> str:
    """Return the text of a fraction, root, accent, word or script whose parts are text already."""
    if match["mark"]:
        line = re.sub(r"(?<!,) ", "", match["script"])
        if all(ord(sign) in _SCRIPTS[match["mark"]] for sign in line):
            return line.translate(_SCRIPTS[match["mark"]])
        return match["mark"] + (line if len(line) == 1 else f"⦃{line}⦄")
    if match["kind"] == "sqrt":
        return f"√{match['inner']}" if len(match["inner"]) == 1 else f"√({match['inner']})"
    if match["kind"]:
        return match["inner"] + "\N{COMBINING CIRCUMFLEX ACCENT}" * (match["kind"] == "hat")
    # A sum or a product of several factors stands in brackets; what is in brackets already, alone, doesn't.
    parts = [match["above"], match["below"]]
    bare = [re.sub(r"\([^()]*\)", "", part) for part in parts]
    bracketed = [f"({part})" if " " in rest else part for part, rest in zip(parts, bare, strict=True)]
    return "½" if parts == ["1", "2"] else "/".join(bracketed)
