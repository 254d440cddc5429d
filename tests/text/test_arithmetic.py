from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.datasets.gsm8k import MODELS, readable
from oversight.text.arithmetic import agrees, equations, evaluate, first_wrong_line


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 3 * 4", 14), ("(2 + 3) * 4", 20), ("7 / 2", Fraction(7, 2)), ("-3 - -4", 1),
        ("20% * 50", 10), ("2 x 3", 6), ("6 ÷ 4", Fraction(3, 2)), ("$1,200.50 - 200", "1000.5"),
        (".5 * 10", 5), ("2(3 + 1)", 8), ("10 − 4", 6),
        ("1 / 0", None), ("2 +", None), ("2 + x", None), ("(2", None), ("", None), ("2 3", None),
        ("9" * 60, None),
    ],
)  # fmt: skip
def test_expressions_are_evaluated_exactly(expression, value):
    assert evaluate(expression) == (None if value is None else Fraction(value))


@given(st.integers(-999, 999), st.sampled_from("+-*/"), st.integers(1, 999))
def test_what_python_calculates_holds_and_another_value_does_not(left, operator, right):
    value = eval(f"Fraction({left}) {operator} {right}")
    if value.denominator != 1:
        return
    told = f"so that makes\n{left} {operator} {right} = {value}"
    assert [e.holds for e in equations(told)] == [True]
    wrong = first_wrong_line(told.replace(f"= {value}", f"= {value + 1}"))
    assert wrong is not None
    assert (wrong.line, wrong.actual) == (1, value)


@pytest.mark.parametrize(
    ("line", "held"),
    [
        ("She has 16 - 3 = <<16-3=13>>13 eggs", [True, True]),
        ("She has 16 - 3 = <<16-3=14>>13 eggs", [False, True]),
        ("She has 16 - 3 = <<16-3=13>>14 eggs", [True, False]),
        ("That is 3 * 4 = 12 + 2 = 14", [True]),
        ("so 2 + 2 = 4, and 3 + 3 = 7.", [True, False]),
        ("10 / 3 = 3.33", [True]),
        ("10 / 3 = 3.34", [True]),
        ("10 / 3 = 3.35", [False]),
        ("10 / 3 = 3", [False]),
        ("10 / 3 = <<10/3=3.3333333333333335>>3.3333333333333335", [True, True]),
        ("7 / 2 = 3 1/2 hours", [True]),
        ("7 / 2 = 3 1/3 hours", [False]),
        ("20 - 4 = 16% of them", [True]),
        ("4 / 25 = 16%", [True]),
        ("4 / 25 = 17%", [False]),
        ("30% of them, which is .30*80 = $24.00", [True]),
        ("3 eggs + 4 = 8", []),
        ("3 boxes * 4 = 13", []),
        ("x = 3", []),
        ("8 = 8", []),
        ("2x = 10", []),
        ("He has 5 / 0 = 7", []),
        ("nothing here", []),
    ],
)
def test_what_a_line_states_is_checked_and_what_words_stand_in_is_passed_over(line, held):
    assert [equation.holds for equation in equations(line)] == held


def test_the_first_wrong_line_is_found_and_sound_ones_are_not():
    solution = "She has 2 + 3 = <<2+3=5>>5\nThen 5 * 4 = <<5*4=21>>21\nThen 21 - 2 = 18\nA: 18"
    wrong = first_wrong_line(solution)
    assert (wrong.line, str(wrong), wrong.actual) == (1, "5*4 = 21", 20)
    mended = first_wrong_line(solution.replace("21", "20"))
    assert mended is None, "20 - 2 = 18"
    assert first_wrong_line("2 + 3 = 5\nA: 5") is None


def test_a_claim_that_is_no_number_agrees_with_nothing():
    assert not agrees(Fraction(1), "one")
    assert not agrees(Fraction(1), "1 1/0")
    assert agrees(Fraction(-7, 2), "-3 1/2")


def test_on_real_solutions_a_false_line_speaks_against_a_solution(shared_data):
    """Measured on all four models' solutions; in the reference solutions two lines are false."""
    file = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    if not file.is_file():
        pytest.skip(f"GSM8K solutions not found at {file}")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[::3]]
    references = [first_wrong_line(row["ground_truth"]) for row in rows]
    assert sum(each is not None for each in references) <= 2
    found = {True: [], False: []}
    for row in rows:
        for model in MODELS:
            given = row[model]
            found[given["is_correct"]].append(first_wrong_line(given["solution"]) is not None)
            shown = readable(given["solution"])
            wrong = first_wrong_line(shown)
            assert wrong is None or wrong.line < len(shown.split("\n"))
    rates = {right: sum(flags) / len(flags) for right, flags in found.items()}
    assert rates[True] < 0.02
    assert rates[False] > 3 * rates[True]
