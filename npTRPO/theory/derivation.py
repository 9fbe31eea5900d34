"""All checks of the derivation, each measured in the module of its section."""

from npTRPO.theory import bounds, curvature, divergences, estimators, krylov, performance, practice, steps
from npTRPO.theory.checks import registered

SECTIONS = (performance, practice, bounds, divergences, curvature, steps, krylov, estimators)
"""The modules whose import registers the checks."""

CHECKS = registered()
"""In the order of their numbers."""
