"""All checks of the derivation, E1 to E44, each measured in the module of its section."""

# Importing them registers their checks.
from npTRPO.theory.checks import registered

CHECKS = registered()
"""In the order of their numbers."""
