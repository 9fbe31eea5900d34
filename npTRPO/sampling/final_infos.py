"""Numbers in the last infos of episodes, whatever else is in them."""

import contextlib
from typing import Any

import numpy as np

_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
_LARGEST = 1e300  # whose sums are finite


def final_numbers(infos: Any, i: int) -> dict[str, float]:
    """Return the finite numbers in environment ``i``'s infos, by their names; all else is left out.

    Parameters
    ----------
    infos : dict or sequence
        Of a vector environment: arrays by name, with masks of those who have them under names with an
        underscore before; or the infos of each environment.
    i : int
        The environment.

    Examples
    --------
    >>> final_numbers({"is_success": [True, False], "_is_success": [True, True], "note": ["a", "b"]}, 0)
    {'is_success': 1.0}
    """
    if not isinstance(infos, dict):
        own = _element(infos, i)
        parts = own if isinstance(own, dict) else {}
    else:
        names = [name for name in infos if _element(infos.get(f"_{name}", {i: True}), i)]
        parts = {name: _element(infos[name], i) for name in names}
    found = {}
    for name, value in parts.items():
        number: Any = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
        if isinstance(name, str) and not name.startswith("_") and isinstance(number, _NUMBERS):
            with contextlib.suppress(OverflowError):  # of Python's whole numbers
                if abs(float(number)) <= _LARGEST:
                    found[name] = float(number)
    return found


def _element(part: Any, i: int) -> Any:
    try:
        return part[i]
    except (TypeError, IndexError, KeyError, ValueError):
        return None
