"""Wrong versions of the code are noticed: each makes tests fail that pass on the right code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from npTRPO.trust_region import natural_step
from tests.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parent.parent


def test_at_least_25_wrong_versions_and_all_slips_are_listed():
    assert len(MUTATIONS) >= 25
    assert len({mutation.wrong for mutation in MUTATIONS}) == len(MUTATIONS)
    assert len({(mutation.where, mutation.changes) for mutation in MUTATIONS}) == len(MUTATIONS)
    assert {mutation.slip for mutation in MUTATIONS} - {None} >= set(range(1, 12))
    assert all(mutation.caught_by for mutation in MUTATIONS)


def test_every_piece_of_source_that_is_to_be_wrong_is_there():
    assert all(mutation.code() for mutation in MUTATIONS)


@pytest.mark.slow
@pytest.mark.skipif(
    hypothesis.__version_info__ < (6, 170), reason="the few examples of earlier versions find less"
)
def test_every_wrong_version_is_caught_by_all_the_tests_that_are_said_to(tmp_path):
    """In one process of its own, on the right code first; each with the kind of failure that is expected."""
    file = tmp_path / "outcome.json"
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutations"}
    command = [sys.executable, "-m", "tests.mutations", str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert file.exists(), done.stdout + done.stderr
    outcome = json.loads(file.read_text())
    assert set(outcome["right"]) == {name for mutation in MUTATIONS for name in mutation.caught_by}
    assert {name: kind for name, kind in outcome["right"].items() if kind} == {}
    expected = {m.wrong: dict.fromkeys(m.caught_by, m.raises) for m in MUTATIONS}
    assert outcome["caught"] == expected


def test_a_wrong_version_is_in_place_for_all_who_have_the_function_and_no_longer_than_asked():
    [mutation] = [m for m in MUTATIONS if m.where.endswith(":natural_step")]
    with pytest.MonkeyPatch.context() as patch:
        mutation.apply(patch)
        assert natural_step(np.ones(1), 1.0, 2.0)[0] == pytest.approx(2**0.5)
    assert natural_step(np.ones(1), 1.0, 2.0)[0] == 2


def test_a_piece_of_source_that_is_no_longer_there_is_told_of():
    stale = Mutation("", "npTRPO.trust_region.update:natural_step", (("no such piece", ""),), ())
    with pytest.raises(AssertionError, match="has 'no such piece' 0 times"):
        stale.code()


def test_the_readme_says_how_many_wrong_versions_there_are():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\[(\d+) wrong versions\]", readme) == [str(len(MUTATIONS))]
