"""The right answer shows in nothing but the order of two lines on the same thing.

Every rule below is given all it needs but that order, and must stay at chance: within a 99.9 %
interval over thousands of questions from a fixed seed. Only the latest line may tell, and must
always tell.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from oversight.datasets.world import question_at
from oversight.types import Question

NUM_QUESTIONS = 2000
DIFFICULTIES = (1, 2, 3, 4, 5)
MARK = re.compile(r"(\d\d):(\d\d)|(?:day|week) (\d+)")


@cache
def questions(difficulty: int) -> list[Question]:
    return [question_at(11, "held_out", difficulty, index) for index in range(NUM_QUESTIONS)]


def tolerance(num: int) -> float:
    return 3.29 * 0.5 / num**0.5


def lines(question: Question) -> list[str]:
    assert question.source is not None
    return question.source.text.split("\n")


def time_of(line: str) -> int:
    hour, minute, number = MARK.search(line).groups()
    return int(number) if number else 60 * int(hour) + int(minute)


def mentions(question: Question, option: int) -> int:
    return sum(question.options[option].text in line for line in lines(question))


def on_the_thing(question: Question) -> list[str]:
    """Lines that tell a state of the thing asked for or of its carrier."""
    names = [question.meta["subject"], question.meta["carrier"]]
    return [line for line in lines(question) if any(n and n in line for n in names)]


def latest_with(question: Question, option: int, among: list[str]) -> int:
    text = question.options[option].text
    return max((time_of(line) for line in among if text in line), default=-1)


def place_of(question: Question, option: int, last: bool) -> int:
    text = question.source.text
    find = text.rfind if last else text.find
    return find(question.options[option].text)


def number_in(question: Question, option: int) -> int:
    found = re.search(r"\d+", question.options[option].text)
    return int(found.group()) if found else 0


RULES: dict[str, Callable[[Question, int], float | str]] = {
    "listed first": lambda q, o: -o,
    "told more often": mentions,
    "told more often of the thing": lambda q, o: sum(
        q.options[o].text in line for line in on_the_thing(q)
    ),
    "later in the alphabet": lambda q, o: q.options[o].text,
    "longer": lambda q, o: len(q.options[o].text),
    "larger number": number_in,
}
SHUFFLED_RULES: dict[str, Callable[[Question, int], float | str]] = {
    "standing last in the source": lambda q, o: place_of(q, o, last=True),
    "standing first in the source": lambda q, o: -place_of(q, o, last=False),
    "on the first line": lambda q, o: q.options[o].text in lines(q)[0],
    "on the last line": lambda q, o: q.options[o].text in lines(q)[-1],
}


def share_right(difficulty: int, rule: Callable[[Question, int], float | str]) -> tuple[float, int]:
    """The share of a rule's preferences that are right, and the number of its preferences."""
    preferred = [
        (0 if rule(q, 0) > rule(q, 1) else 1) == q.correct
        for q in questions(difficulty)
        if rule(q, 0) != rule(q, 1)
    ]
    return sum(preferred) / max(1, len(preferred)), len(preferred)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_ignores_the_order_of_events_is_at_chance(difficulty, name):
    share, num = share_right(difficulty, RULES[name])
    assert abs(share - 0.5) <= tolerance(max(1, num)), (share, num)


@pytest.mark.parametrize("difficulty", [3, 4, 5])
@pytest.mark.parametrize("name", SHUFFLED_RULES)
def test_the_place_in_a_shuffled_source_says_nothing(difficulty, name):
    share, num = share_right(difficulty, SHUFFLED_RULES[name])
    assert num > 100
    assert abs(share - 0.5) <= tolerance(num), (share, num)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_latest_line_on_the_thing_always_tells(difficulty):
    def latest(question: Question, option: int) -> int:
        return latest_with(question, option, on_the_thing(question))

    share, num = share_right(difficulty, latest)
    assert (share, num) == (1.0, NUM_QUESTIONS)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_mentions_of_right_and_wrong_have_the_same_distribution(difficulty):
    right = [mentions(q, q.correct) for q in questions(difficulty)]
    wrong = [mentions(q, 1 - q.correct) for q in questions(difficulty)]
    for count in range(1, max(right) + 1):
        shares = [sum(m >= count for m in side) / NUM_QUESTIONS for side in (right, wrong)]
        assert abs(shares[0] - shares[1]) <= 2 * tolerance(NUM_QUESTIONS), (count, shares)


def accuracy(model, texts, labels) -> float:
    """On the second half, after learning from the first."""
    half = len(texts) // 2
    model.fit(texts[:half], labels[:half])
    return float(model.score(texts[half:], labels[half:]))


def bag(model):
    return make_pipeline(CountVectorizer(token_pattern=r"\S+"), model)


def tagged(tag: str, text: str) -> str:
    return " ".join(f"{tag}={word}" for word in text.split())


@pytest.mark.parametrize("model", [MultinomialNB(), LogisticRegression(max_iter=300)])
def test_question_and_options_alone_teach_a_classifier_nothing(model):
    asked = [q for difficulty in DIFFICULTIES for q in questions(difficulty)]
    texts = [
        " ".join([q.text, tagged("first", q.options[0].text), tagged("second", q.options[1].text)])
        for q in asked
    ]
    found = accuracy(bag(model), texts, [q.correct for q in asked])
    assert abs(found - 0.5) <= tolerance(len(asked) // 2), found


def single_lines(difficulty: int) -> tuple[list[str], list[int]]:
    """For every question the last line of one side, and whether that side is right."""
    rng = random.Random(difficulty)
    texts, labels = [], []
    for question in questions(difficulty):
        side = rng.randrange(2)
        key = "right_lines" if side else "wrong_lines"
        texts.append(f"{question.text} {question.meta[key][-1]}")
        labels.append(side)
    return texts, labels


def test_the_words_of_a_single_true_quote_teach_a_classifier_nothing():
    texts: list[str] = []
    labels: list[int] = []
    for difficulty in DIFFICULTIES:
        some_texts, some_labels = single_lines(difficulty)
        texts += [MARK.sub("TIME", text) for text in some_texts]
        labels += some_labels
    for model in (MultinomialNB(), LogisticRegression(max_iter=300)):
        found = accuracy(bag(model), texts, labels)
        assert abs(found - 0.5) <= tolerance(len(texts) // 2), found


def test_the_time_of_a_single_true_quote_says_next_to_nothing():
    times: list[list[int]] = []
    labels: list[int] = []
    for difficulty in DIFFICULTIES:
        texts, some_labels = single_lines(difficulty)
        times += [[time_of(text), int(":" in text)] for text in texts]
        labels += some_labels
    found = accuracy(DecisionTreeClassifier(max_depth=4, random_state=0), times, labels)
    assert abs(found - 0.5) <= tolerance(len(times) // 2), found
