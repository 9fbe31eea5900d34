"""Every Hypothesis strategy of the tests."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

__all__ = ["arrays", "generators", "seeds"]

seeds = st.integers(0, 2**32 - 1)


@st.composite
def generators(draw: st.DrawFn) -> np.random.Generator:
    """A random generator whose seed shrinks, for bulk numbers that need no shrinking of their own."""
    return np.random.default_rng(draw(seeds))


def arrays(
    shape: st.SearchStrategy[tuple[int, ...]] | tuple[int, ...], low: float = -3.0, high: float = 3.0
) -> st.SearchStrategy[np.ndarray]:
    """Float64 arrays of moderate numbers, in which every element shrinks."""
    elements = st.floats(low, high, allow_nan=False, allow_subnormal=False)
    return hnp.arrays(np.float64, shape, elements=elements)
