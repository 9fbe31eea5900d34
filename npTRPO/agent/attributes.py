"""Attributes of an agent that are parts of the immutable values in it."""

from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np


def part_of(whole: str, name: str) -> Any:
    """Return an attribute of an agent that is a part of its learner or model; assigning makes a new one."""

    def put(agent: Any, value: Any) -> None:
        old = getattr(agent, whole)
        if isinstance(array := getattr(old, name), np.ndarray):
            value = np.array(value, dtype=array.dtype)
            if value.shape != array.shape:
                raise ValueError(f"{name} must have shape {array.shape}, not {value.shape}")
        setattr(agent, whole, replace(old, **{name: value}))

    return property(attrgetter(f"{whole}.{name}"), put)
