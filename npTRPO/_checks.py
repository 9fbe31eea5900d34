"""Checks of values that callers, options and files share."""

import difflib
import numbers
from collections.abc import Sequence
from typing import Any

_LONGEST_ID = 1000


def is_whole(value: Any, least: int | None = None, most: int | None = None) -> bool:
    """Return whether a value is an integer, Python's or NumPy's, within bounds that it may equal.

    Truth values and floating-point numbers are none, whatever their value.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        return False
    number = int(value)
    return (least is None or number >= least) and (most is None or number <= most)


def whole_number(name: str, value: Any, least: int = 0, most: int | None = None, floats: bool = False) -> int:
    """Return a whole number as Python's int, which doesn't overflow as NumPy's do.

    Parameters
    ----------
    name : str
        What the number is, for the message.
    value : int
        The number; with ``floats``, one such as 1e6 too.
    least, most : int
        Bounds that it may equal.

    Raises
    ------
    ValueError
        If it isn't a whole number within the bounds.

    Examples
    --------
    >>> whole_number("n_steps", 3, least=1)
    3
    """
    if floats and _is_whole_float(value):
        value = int(value)
    if is_whole(value, least, most):
        return int(value)
    bounds = f", at least {least}" if most is None else f" from {least} to {most}"
    raise ValueError(f"{name} must be a whole number{bounds}, not {value!r}")


def unknown_option(key: str, names: Sequence[str]) -> TypeError:
    """Return the error for a key that is none of the options' names, with the nearest one that is."""
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; the options are {', '.join(names)}"
    return TypeError(f"{key!r} is no option of TRPO{hint}")


def environment_id(name: str, value: Any, kind: str = "the id of an environment") -> str:
    """Return the id of an environment that a file names, if it is printable text of at most 1000 characters.

    Raises
    ------
    ValueError
        If it isn't; ``name`` is what the message calls it.
    """
    if isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST_ID:
        return value
    raise ValueError(f"{name} must be {kind}, not {value!r}")


def _is_whole_float(value: Any) -> bool:
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, numbers.Integral)
        and float(value).is_integer()
    )
