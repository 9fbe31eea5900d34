"""Symmetric operators H + λI, which products and quadratic forms with H define."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from npTRPO._typing import Array


class Curvature(LinearOperator):  # type: ignore[misc]
    """H + λI as a SciPy linear operator; a subclass has the products with H.

    Parameters
    ----------
    size : int
        Length p of the vectors.
    dtype : dtype
        Of the products.
    damping : float
        λ ≥ 0, added to the diagonal.

    Raises
    ------
    ValueError
        For negative damping.
    """

    def __init__(self, size: int, dtype: npt.DTypeLike, damping: float = 0.0) -> None:
        if not damping >= 0:
            raise ValueError(f"damping must not be negative, but it is {damping!r}")
        super().__init__(dtype=np.dtype(dtype), shape=(size, size))
        self.damping = float(damping)

    def product(self, v: Array) -> Any:
        """Return H v, shape (p,), without the damping."""
        raise NotImplementedError

    def form(self, v: Array) -> float:
        """Return vᵀHv, without the damping."""
        raise NotImplementedError

    def quadratic_form(self, v: Array, damped: bool = False) -> float:
        """Return vᵀHv, or vᵀ(H + λI)v with the damping."""
        undamped = self.form(v.astype(self.dtype, copy=False))
        return undamped + self.damping * float(np.sum(v.astype(np.float64) ** 2)) if damped else undamped

    def _matvec(self, v: Array) -> Any:
        v = np.asarray(v).ravel().astype(self.dtype, copy=False)
        product = self.product(v)
        return product + self.damping * v if self.damping else product

    def _adjoint(self) -> "Curvature":
        """H is symmetric."""
        return self
