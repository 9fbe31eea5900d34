"""Hypothesis profiles: dev is quick, ci is what the gate runs, thorough is for a night, and mutations is for
tests of wrong versions of the code.

Choose one with ``HYPOTHESIS_PROFILE=thorough``. No profile has a deadline: the machines are shared,
and a slow one is no wrong result.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.children import Nursery

# Before NumPy is imported: tests run side by side, and where each has BLAS threads for all processors, which
# wait for each other busily, the small matrices of the tests take four times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.register_profile(  # tests that are to fail: the first failure will do
    "mutations",
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(scope="session")
def nursery():
    """A process that makes children; where Matplotlib is new, it has made its list of fonts."""
    with Nursery(imports=["matplotlib.font_manager"]) as nursery:
        yield nursery


def pytest_collection_modifyitems(items):
    """Refuse names that are others in each process, which parallel runs can't tell apart."""
    wrong = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if wrong:
        raise pytest.UsageError(f"names of tests with addresses in them, which ids= would mend: {wrong}")
