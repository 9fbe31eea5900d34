import json
from dataclasses import replace

import numpy as np
import pytest

from npTRPO import Categorical, DiagGaussian
from npTRPO.cli import main
from npTRPO.theory import verify
from npTRPO.theory.checks import AtMost, Equal, Estimate, Kind
from npTRPO.theory.derivation import CHECKS
from npTRPO.theory.equations import EQUATIONS

PROVED = {
    *("E1", "E2", "E3", "E4", "E5", "E6", "E7", "E9", "E10", "E33", "E34", "E35", "E36", "E39", "E40", "E41"),
    *("E42", "E43", "E44", "E45", "E48", "E54", "E55", "E56", "E57"),
}


@pytest.fixture(scope="module")
def report():
    return verify(instances=6, seed=3)


def test_the_table_has_a_line_for_each_equation(report):
    lines = report.to_text().splitlines()
    rows = [line for line in lines if line.startswith("E")]
    assert [row.split()[0] for row in rows] == [f"E{n}" for n in range(1, 59)]
    assert all(" holds" in row for row in rows)
    assert lines[-1].startswith("58 of 58 equations hold on 6 random instances (seed 3")
    assert max(map(len, lines)) <= 200


def test_the_json_is_well_formed_and_complete(report):
    document = json.loads(report.to_json())
    assert document["passed"] is True
    assert (document["instances"], document["seed"]) == (6, 3)
    assert [row["number"] for row in document["equations"]] == [f"E{n}" for n in range(1, 59)]
    for row in document["equations"]:
        assert (row["latex"], row["equation"]) == (
            EQUATIONS[row["number"]].latex,
            EQUATIONS[row["number"]].text,
        )
        assert row["kind"] in {"identity", "inequality", "statistical"}
        assert row["passed"] is True
        assert row["proved"] is (True if row["number"] in PROVED else None)
        assert row["failures"] == []
        measured = {"identity": "residual", "inequality": "slack", "statistical": "standard_errors"}
        assert isinstance(row[measured[row["kind"]]], float)
        assert (row["threshold"] is None) == (row["kind"] != "statistical")


def test_the_markdown_has_every_formula_as_it_is_and_what_the_table_says(report):
    blocks = report.to_markdown().split("\n\n")
    formulas = [block.removeprefix("$$\n").removesuffix("\n$$") for block in blocks if block[:2] == "$$"]
    assert formulas == [equation.latex for equation in EQUATIONS.values()]
    headings = [block.removeprefix("## ") for block in blocks if block[:3] == "## "]
    assert headings == [title for title, _ in report.sections()]
    verdicts = [block.partition(":")[0] for block in blocks if ", allowed " in block]
    assert verdicts == [f"holds{', identity proved' if n in PROVED else ''}" for n in EQUATIONS]
    assert blocks[-1] == report.to_text().splitlines()[-1]


def test_the_table_says_which_identities_are_proved(report):
    lines = report.to_text().splitlines()
    assert {line.split()[0] for line in lines if line.endswith("holds, identity proved")} == PROVED
    assert f"{len(PROVED)} identities are proved" in lines[-1]


def test_what_differs_in_exact_arithmetic_alone_fails(report):
    row = replace(report.rows[0], proved=False)
    assert row.failures == ["its sides differ in exact arithmetic"]


def test_the_same_seed_measures_the_same_and_more_instances_begin_alike(report):
    longer = verify(instances=7, seed=3)
    for ours, theirs in zip(report.rows, longer.rows, strict=True):
        np.testing.assert_array_equal(ours.residuals, theirs.residuals[:6])
        np.testing.assert_array_equal(ours.slacks, theirs.slacks[:6])
        np.testing.assert_array_equal(ours.deviations, theirs.deviations[:6])
    other = verify(instances=1, seed=4)
    assert any(a.residual != b.residual for a, b in zip(report.rows, other.rows, strict=True))


def test_the_command_prints_the_table_and_succeeds(capsys):
    assert main(["verify", "--instances", "3"]) == 0
    out = capsys.readouterr().out
    assert "58 of 58 equations hold" in out
    assert out.count("\nE") == 58


def test_the_command_prints_json(capsys):
    assert main(["verify", "--instances", "2", "--seed", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 5


def test_a_broken_function_makes_the_status_1(monkeypatch, capsys):
    right = DiagGaussian.kl
    monkeypatch.setattr(DiagGaussian, "kl", lambda old, new: right(old, new) * (1 + 1e-6))
    assert main(["verify", "--instances", "4"]) == 1
    out = capsys.readouterr().out
    failed = [line.split()[0] for line in out.splitlines() if line.endswith("FAILS")]
    assert "E17" in failed
    assert "E16" not in failed
    (sentence,) = [line for line in out.splitlines() if line.startswith("E17 fails")]
    assert sentence.startswith("E17 fails: the sides differ by ")
    assert sentence.endswith("of their size (npTRPO.policies.distributions.DiagGaussian.kl)")


def test_a_function_that_raises_makes_the_status_1_and_is_told_of(monkeypatch, capsys):
    def broken(old, new):
        raise ZeroDivisionError("out of\nluck")

    monkeypatch.setattr(Categorical, "kl", broken)
    assert main(["verify", "--instances", "2", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    sixteenth = document["equations"][15]
    assert sixteenth["failures"] == ["ZeroDivisionError: out of luck"]
    assert sixteenth["residual"] is None
    assert document["passed"] is False


def test_what_is_not_a_number_fails_and_is_null_in_json(monkeypatch):
    monkeypatch.setattr(Categorical, "kl", lambda old, new: np.full(len(old.logits), np.nan))
    report = verify(instances=2)
    row = report.rows[15]
    assert row.residual == np.inf
    assert not report.passed
    assert json.loads(report.to_json())["equations"][15]["residual"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--instances", "0"],
        ["--instances", "-3"],
        ["--seed", "-1"],
        ["--instances", "many"],
        ["--nonsense"],
        ["extra"],
    ],
)
def test_wrong_use_makes_the_status_2(arguments, capsys):
    try:
        status = main(["verify", *arguments])
    except SystemExit as refused:  # argparse's own
        status = refused.code
    assert status == 2
    assert capsys.readouterr().err


def test_each_kind_of_comparison_can_fail_a_statement():
    """Also where it isn't what the check is mainly about."""
    for comparisons, sentence in (
        ((Equal(1.0, 1.1), AtMost(0.0, 1.0)), "the sides differ by 0.0909 of their size"),
        ((Equal(1.0, 1.0), AtMost(1.0, 0.5)), "an inequality is violated by 0.5 of its size"),
        ((Equal(1.0, 1.0), Estimate(1.0, 0.0, 1.0, 0.0, 100)), "a mean is 10 standard errors off"),
        ((), "there was nothing to compare in any instance"),
    ):
        for kind in Kind:
            check = replace(CHECKS[0], kind=kind, measure=lambda instance, found=comparisons: found)
            report = verify(instances=2, checks=[check])
            assert report.rows[0].failures == [sentence]
            assert not report.passed
            assert "FAILS" in report.to_text()


def test_a_case_with_nothing_to_compare_counts_neither_way():
    answers = iter([(), (Equal(1.0, 1.0),)])
    check = replace(CHECKS[0], measure=lambda instance: next(answers))
    report = verify(instances=2, checks=[check])
    assert report.passed
    np.testing.assert_array_equal(report.rows[0].residuals, [np.nan, 0])


@pytest.mark.parametrize(
    ("arguments", "message"), [((0, 0), "at least 1 instance"), ((1, -1), "seed must not")]
)
def test_verify_refuses_what_it_can_not_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        verify(*arguments)
