"""Hypothesis profiles: dev is quick, ci is what the gate runs, thorough is for a night.

Choose one with ``HYPOTHESIS_PROFILE=thorough``. No profile has a deadline: the machines are shared,
and a slow one is no wrong result.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))
