"""All checks of the derivation, E1 to E44, each measured in the module of its section."""

from npTRPO.theory import (  # noqa: F401 (importing them registers their checks)
    bounds,
    curvature,
    divergences,
    estimators,
    krylov,
    performance,
    steps,
)
from npTRPO.theory.checks import registered

CHECKS = registered()
"""In the order of their numbers."""
