"""Parameters of tests that are too many to try in all combinations each time."""

import itertools

import pytest


def crossed(*axes):
    """All combinations of values, as parameters of a test; most of them run with the slow ones.

    As many as the longest axis has values run always, among them every value of every axis. A tuple among an
    axis' values stands for several parameters.
    """
    axes = [list(axis) for axis in axes]
    longest = max(map(len, axes))
    always = {tuple(i % len(axis) for axis in axes) for i in range(longest)}
    crossing = []
    for indices in itertools.product(*(range(len(axis)) for axis in axes)):
        values = [axis[i] for axis, i in zip(axes, indices, strict=True)]
        flat = [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
        crossing.append(pytest.param(*flat, marks=() if indices in always else pytest.mark.slow))
    return crossing
