"""On rows built in the published shape: the published file itself is not part of the test data."""

from __future__ import annotations

import json

import pytest

from oversight.datasets.base import BadRow, LeftOut, QuestionRow
from oversight.datasets.quality import Config, rows


def a_question(name="11111_ABC_1", **changes) -> dict:
    return {
        "question": "Why did he leave?",
        "question_unique_id": name,
        "options": ["He was cold.", "He was late.", "He was bored.", "He was afraid."],
        "writer_label": 2,
        "gold_label": 2,
        "validation": [
            {"untimed_annotator_id": "1", "untimed_answer": 2, "untimed_eval1_answerability": 1,
             "untimed_eval2_context": 2, "untimed_best_distractor": 4},
            {"untimed_annotator_id": "2", "untimed_answer": 2, "untimed_eval1_answerability": 1,
             "untimed_eval2_context": 3, "untimed_best_distractor": 4},
            {"untimed_annotator_id": "3", "untimed_answer": 1, "untimed_eval1_answerability": 1,
             "untimed_eval2_context": 3, "untimed_best_distractor": 3},
        ],
        "speed_validation": [
            {"speed_annotator_id": "7", "speed_answer": 1},
            {"speed_annotator_id": "8", "speed_answer": 2},
        ],
        "difficult": 0,
    } | changes  # fmt: skip


def an_article(*questions: dict, **changes) -> dict:
    return {
        "article_id": "11111",
        "set_unique_id": "11111_ABC",
        "batch_num": "23",
        "writer_id": "1021",
        "source": "Gutenberg",
        "title": "The Leaving",
        "year": 1954,
        "author": "A. Writer",
        "topic": "Science fiction",
        "article": "He rose. He was late, and so he left.",
        "url": "http://example.org",
        "license": "public domain",
        "questions": list(questions),
    } | changes


def read(tmp_path, *articles, name="QuALITY.v1.0.1.htmlstripped.dev", **settings):
    file = tmp_path / name
    file.write_text("\n".join(json.dumps(each) for each in articles), encoding="utf-8")
    return list(rows(Config(path=str(file), **settings)))


def wrong_option(row: QuestionRow) -> str:
    question = row.question
    assert question.options[question.correct].text == "He was late."
    return question.options[1 - question.correct].text


def test_a_published_row_becomes_two_option_questions_on_one_source(tmp_path):
    first, second = read(tmp_path, an_article(a_question(), a_question("11111_ABC_2")))
    question = first.question
    assert question.id == "quality:11111_ABC_1"
    assert (question.split, question.dataset, first.line) == ("dev", "quality", 1)
    assert question.source.title == "The Leaving"
    assert question.source is second.question.source
    assert question.meta["article"] == "11111"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "He was afraid."),
        ({"validation": []}, "He was cold."),
        ({"validation": [{"untimed_best_distractor": 1}, {"untimed_best_distractor": 3}],
          "speed_validation": [{"speed_answer": "3"}]}, "He was bored."),
        ({"validation": [{"untimed_eval3_distractor": 3}]}, "He was bored."),
        ({"validation": [{"untimed_best_distractor": 2}], "speed_validation": []}, "He was cold."),
    ],
)  # fmt: skip
def test_the_best_distractor_is_the_most_named_then_the_most_chosen_then_the_first(
    tmp_path, changes, expected
):
    (row,) = read(tmp_path, an_article(a_question(**changes)))
    assert wrong_option(row) == expected


def test_the_first_distractor_is_the_first_wrong_option(tmp_path):
    (row,) = read(tmp_path, an_article(a_question()), distractor="first")
    assert wrong_option(row) == "He was cold."


def test_a_random_distractor_and_the_place_of_the_right_answer_come_from_the_seed(tmp_path):
    many = an_article(*[a_question(f"q{i}") for i in range(300)])
    drawn = read(tmp_path, many, distractor="random")
    assert drawn == read(tmp_path, many, distractor="random")
    assert drawn != read(tmp_path, many, distractor="random", seed=1)
    counts = [sum(wrong_option(row) == f"He was {w}." for row in drawn) for w in
              ("cold", "bored", "afraid")]  # fmt: skip
    assert min(counts) > 70
    assert 110 < sum(row.question.correct for row in drawn) < 190


def test_only_hard_questions_can_be_asked_for(tmp_path):
    both = an_article(a_question(), a_question("hard", difficult=1))
    left, kept = read(tmp_path, both, only_hard=True)
    assert left == LeftOut("not a hard question")
    assert kept.question.meta["hard"] is True


def test_the_split_comes_from_the_file_name_unless_it_is_given(tmp_path):
    article = an_article(a_question())
    assert read(tmp_path, article, name="x.train")[0].question.split == "train"
    assert read(tmp_path, article, name="other.jsonl")[0].question.split == ""
    assert read(tmp_path, article, split="mine")[0].question.split == "mine"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gold_label": None}, "key 'gold_label' is missing"),
        ({"gold_label": 5}, "gold_label = 5: 4 options are numbered from 1"),
        ({"gold_label": 0}, "gold_label = 0"),
        ({"options": ["He was late."]}, "at least two options, here are 1"),
        ({"options": ["x", "x", "x", "x"]}, "two options have the same text"),
        ({"options": ["", "x", "", ""]}, "is empty"),
        ({"question": ""}, "text is empty"),
        ({"options": None}, "options = None"),
        ({"question_unique_id": ""}, "question_unique_id is empty"),
    ],
)
def test_a_question_that_cannot_be_used_is_a_bad_row(tmp_path, changes, expected):
    bad, good = read(tmp_path, an_article(a_question(**changes), a_question("good")))
    assert isinstance(bad, BadRow)
    assert expected in bad.reason
    assert bad.line == 1
    assert good.question.id == "quality:good"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"article": "  "}, "article is empty"),
        ({"article": None}, "article = None"),
        ({"questions": {}}, "questions = {}"),
        ({"article_id": ""}, "article_id is empty"),
    ],
)
def test_an_article_that_cannot_be_used_is_a_bad_row(tmp_path, changes, expected):
    (bad,) = read(tmp_path, an_article(a_question(), **changes))
    assert isinstance(bad, BadRow)
    assert expected in bad.reason
