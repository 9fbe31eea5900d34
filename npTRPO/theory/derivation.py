"""All statements of the derivation, E1 to E44, each measured by the module of its section."""

# Importing them registers them.
from npTRPO.theory import bounds, curvature, divergences, estimators, krylov, performance, steps
from npTRPO.theory.statements import registered

__all__ = ["STATEMENTS", "bounds", "curvature", "divergences", "estimators", "krylov", "performance", "steps"]

STATEMENTS = registered()
"""In the order of their numbers."""
