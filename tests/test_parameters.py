from tests.parameters import crossed


def test_all_combinations_are_there_once_and_every_value_is_among_those_that_run_always():
    crossing = crossed([("a", 1), ("b", 2)], "xyz")
    combinations = [case.values for case in crossing]
    assert combinations == [(*pair, letter) for pair in (("a", 1), ("b", 2)) for letter in "xyz"]
    always = [case.values for case in crossing if not case.marks]
    assert always == [("a", 1, "x"), ("a", 1, "z"), ("b", 2, "y")]
    assert {mark.name for case in crossing for mark in case.marks} == {"slow"}
