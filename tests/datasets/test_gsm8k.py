from __future__ import annotations

import json

import pytest

from oversight.datasets.base import BadRow, LeftOut, load_questions
from oversight.datasets.gsm8k import MODELS, Config, plain_answer, readable, rows
from oversight.errors import ConfigError


def solution(answer: str | None, is_correct: bool) -> dict:
    end = "" if answer is None else f"\nA: {answer}"
    return {"is_correct": is_correct, "solution": f"2 * 3 = <<2*3=6>>6 apples{end}"}


def a_problem(*solutions: dict, **changes) -> dict:
    given = dict(zip(MODELS, solutions, strict=True))
    return {"question": "How many?", "ground_truth": "A: 6"} | given | changes


def read(tmp_path, *problems, **settings):
    file = tmp_path / "s.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in problems), encoding="utf-8")
    return list(rows(Config(path=str(file), **settings)))


RIGHT, WRONG = solution("6", True), solution("7", False)


def test_real_solutions_give_a_pair_for_each_problem_with_right_and_wrong_ones(shared_data):
    file = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    if not file.is_file():
        pytest.skip(f"GSM8K solutions not found at {file}")
    loaded = load_questions(("gsm8k", {"path": str(file)}))
    assert len(loaded.questions) == 731
    assert list(loaded.left_out.values()) == [1319 - 731]
    assert abs(sum(q.correct for q in loaded.questions) / 731 - 0.5) < 0.061
    for question in loaded.questions:
        assert question.source is None
        assert not any("<<" in option.argument for option in question.options)
    every = load_questions(("gsm8k", {"path": str(file), "pairs_per_question": 4}))
    assert len(every.questions) > 2000
    assert len({q.meta["cluster"] for q in every.questions}) == 731


def test_options_are_the_final_answers_and_arguments_the_solutions(tmp_path):
    (row,) = read(tmp_path, a_problem(RIGHT, WRONG, RIGHT, RIGHT))
    question = row.question
    right, wrong = question.options[question.correct], question.options[1 - question.correct]
    assert (right.text, wrong.text) == ("6", "7")
    assert right.argument == "2 * 3 = 6 apples\nA: 6"
    assert question.meta["models"][1 - question.correct] == "6b_verification"


def test_the_place_of_the_right_answer_comes_from_the_seed(tmp_path):
    many = [a_problem(RIGHT, WRONG, RIGHT, WRONG, question=f"Number {i}?") for i in range(200)]
    places = [row.question.correct for row in read(tmp_path, *many)]
    assert 70 < sum(places) < 130
    assert places == [row.question.correct for row in read(tmp_path, *many)]
    assert places != [row.question.correct for row in read(tmp_path, *many, seed=1)]


def test_more_pairs_can_be_taken_from_a_problem(tmp_path):
    problem = a_problem(RIGHT, WRONG, RIGHT, WRONG)
    for asked, expected in ((1, 1), (3, 3), (9, 4)):
        found = read(tmp_path, problem, pairs_per_question=asked)
        assert len({row.question.id for row in found}) == expected
        assert len({row.question.meta["cluster"] for row in found}) == 1


@pytest.mark.parametrize(
    "solutions",
    [
        (RIGHT, RIGHT, RIGHT, RIGHT),
        (WRONG, WRONG, WRONG, WRONG),
        (RIGHT, solution(None, False), RIGHT, RIGHT),
        (RIGHT, solution("6.0", False), solution("$6", False), solution("", False)),
    ],
)
def test_a_problem_without_two_complete_different_answers_is_left_out(tmp_path, solutions):
    (left,) = read(tmp_path, a_problem(*solutions))
    assert isinstance(left, LeftOut)


def test_only_the_chosen_models_are_read(tmp_path):
    problem = a_problem(RIGHT, WRONG, RIGHT, RIGHT)
    del problem["175b_finetuning"]
    assert isinstance(read(tmp_path, problem)[0], BadRow)
    (row,) = read(tmp_path, problem, models=("6b_finetuning", "6b_verification"))
    assert sorted(row.question.meta["models"]) == ["6b_finetuning", "6b_verification"]
    with pytest.raises(ConfigError, match="7b"):
        Config.parse({"models": ["7b"]})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"question": ""}, "question = ''"),
        ({"question": 3}, "question = 3"),
        ({"6b_finetuning": "x"}, "6b_finetuning: give a table"),
        ({"6b_finetuning": {"solution": "A: 1"}}, "6b_finetuning: key 'is_correct' is missing"),
        ({"6b_finetuning": {"is_correct": True, "solution": None}}, "solution = None"),
    ],
)
def test_a_wrong_row_says_what_is_wrong(tmp_path, changes, expected):
    (bad,) = read(tmp_path, a_problem(RIGHT, WRONG, RIGHT, WRONG, **changes))
    assert isinstance(bad, BadRow)
    assert expected in bad.reason


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        ("1,000", "1000"), ("$18", "18"), ("2.50", "2.5"), ("3.0", "3"), ("3.", "3"), ("-0.0", "0"),
        ("100", "100"), ("0", "0"), ("1e3", "1000"), ("7/14", "7/14"),
        ("10+John's age", "10+John's age"), ("NaN", "NaN"), ("Infinity", "Infinity"),
    ],
)  # fmt: skip
def test_numbers_have_one_form(answer, plain):
    assert plain_answer(answer) == plain


def test_calculator_annotations_are_taken_out():
    assert readable("16 - 3 = <<16-3=13>>13 eggs\nA: 13\n") == "16 - 3 = 13 eggs\nA: 13"


def test_where_the_data_lies_can_be_left_to_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OVERSIGHT_SHARED_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=r"example_model_solutions\.jsonl.*grade-school-math"):
        list(rows(Config()))
    (tmp_path / "gsm8k").mkdir()
    file = tmp_path / "gsm8k" / "example_model_solutions.jsonl"
    file.write_text(json.dumps(a_problem(RIGHT, WRONG, RIGHT, WRONG)), encoding="utf-8")
    assert len(list(rows(Config()))) == 1
    monkeypatch.delenv("OVERSIGHT_SHARED_DATA")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="shared"):
        list(rows(Config()))
    (tmp_path / "data").symlink_to(tmp_path)
    assert len(list(rows(Config()))) == 1
