"""Wrong versions of the code are noticed: each makes a test fail that passes on the right code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the tests of the list did on the right code and on each wrong version, in a process of its own."""
    file = tmp_path_factory.mktemp("mutations") / "outcome.json"
    subprocess.run(
        [sys.executable, "-m", "tests.mutations", str(file)],
        cwd=ROOT,
        env={**os.environ, "HYPOTHESIS_PROFILE": "mutations"},
        check=True,
        capture_output=True,
    )
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_at_least_25_wrong_versions_and_all_eight_slips_are_listed() -> None:
    assert len(MUTATIONS) >= 25
    assert len({mutation.wrong for mutation in MUTATIONS}) == len(MUTATIONS)
    assert {mutation.slip for mutation in MUTATIONS} - {None} == set(range(1, 9))
    assert all(mutation.caught_by for mutation in MUTATIONS)


def test_the_tests_of_the_list_pass_on_the_right_code(outcome: dict[str, Any]) -> None:
    assert outcome["right"]
    assert not {name: kind for name, kind in outcome["right"].items() if kind}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.wrong)
def test_a_wrong_version_is_caught(mutation: Mutation, outcome: dict[str, Any]) -> None:
    failures = outcome["caught"][mutation.wrong]
    assert any(kind and kind != "Skipped" for kind in failures.values()), failures
