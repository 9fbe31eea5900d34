"""The numbered equations of the derivation: each in words, as a formula, and where it is from."""

import tomllib
from dataclasses import dataclass
from importlib import resources

from npTRPO.theory.latex import plain_text


@dataclass(frozen=True)
class Equation:
    """A numbered equation of the derivation.

    Attributes
    ----------
    number : str
        Such as "E7".
    section : str
        Title of the section of the derivation that it stands in.
    title : str
        What it says, in words.
    latex : str
        The formula, as GitHub and Jupyter show it.
    source : str
        Paper or book, and where in it.
    """

    number: str
    section: str
    title: str
    latex: str
    source: str

    @property
    def text(self) -> str:
        """The formula as one line of text."""
        return plain_text(self.latex)


def _read() -> dict[str, Equation]:
    """Read the equations of the data file beside this module."""
    file = resources.files("npTRPO.theory").joinpath("equations.toml")
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    return {
        number: Equation(
            number=number,
            section=section["title"],
            title=entry["title"],
            latex=" ".join(entry["latex"].split()),
            source=", ".join([document["papers"][entry["source"][0]], *entry["source"][1:]]),
        )
        for section in document["sections"]
        for number, entry in section["equations"].items()
    }


EQUATIONS = _read()
"""By number, E1 to E44, in the order of the derivation."""
