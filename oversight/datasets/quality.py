"""QuALITY: long stories with multiple-choice questions, as published, made two-option questions.

Reads the HTML-stripped JSONL of QuALITY v1.0.1 (Pang et al. 2022, "QuALITY: Question Answering
with Long Input Texts, Yes!", arXiv:2112.08608; articles under licences of their own, named in
each row; https://github.com/nyu-mll/quality). The right answer stands against one distractor.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, Field

from oversight.config import Settings
from oversight.datasets.base import (
    BadRow,
    LeftOut,
    QuestionRow,
    jsonl_objects,
    locate,
    parse_record,
    question_row,
)
from oversight.ids import seed_from
from oversight.types import Source

USUAL_PLACE = "quality/QuALITY.v1.0.1.htmlstripped.train"
WHERE_TO_GET = (
    "It is published as data/v1.0.1/QuALITY.v1.0.1.zip in https://github.com/nyu-mll/quality."
)

Distractor = Literal["best", "first", "random"]


class Config(Settings):
    """Settings of QuALITY: its questions, and what stands against the right answer."""

    path: str = ""
    """The JSONL file; empty: the training part, where shared data lies."""
    split: str = ""
    """Name given to the rows' split; empty: the end of the file's name (train, dev or test)."""
    distractor: Distractor = "best"
    """The wrong answer: the one that validators named the best distractor most often (ties: that
    more timed readers chose, then the first), the first wrong one, or one drawn by the seed."""
    only_hard: bool = False
    """Only questions that most timed readers got wrong."""
    seed: int = 0
    """Of the place of the right answer, and of a random distractor."""


class _Validation(BaseModel):
    # The published description and the published files name this field differently.
    best_distractor: int | None = Field(
        default=None,
        validation_alias=AliasChoices("untimed_best_distractor", "untimed_eval3_distractor"),
    )


class _SpeedValidation(BaseModel):
    speed_answer: int | None = None


class _Question(BaseModel):
    question: str
    question_unique_id: str = Field(min_length=1)
    options: list[str]
    gold_label: int | None = None
    """1-based."""
    validation: list[_Validation] = Field(default_factory=list)
    speed_validation: list[_SpeedValidation] = Field(default_factory=list)
    difficult: bool = False

    def distractor(self, choice: Distractor, rng: random.Random) -> int:
        """0-based index of the wrong option that is to stand against the right one."""
        wrong = [i for i in range(len(self.options)) if i + 1 != self.gold_label]
        if choice == "random":
            return rng.choice(wrong)
        if choice == "first":
            return wrong[0]
        named = Counter(v.best_distractor for v in self.validation)
        taken = Counter(v.speed_answer for v in self.speed_validation)
        return max(wrong, key=lambda i: (named[i + 1], taken[i + 1], -i))


class _Article(BaseModel):
    article_id: str = Field(min_length=1)
    title: str = ""
    author: str | None = None
    article: str
    questions: list[dict[str, object]]


def rows(config: Config) -> Iterator[QuestionRow | BadRow | LeftOut]:
    """Every question of every article.

    Raises:
        ConfigError: There is no such file.
    """
    path = locate(config.path, USUAL_PLACE, WHERE_TO_GET)
    split = config.split or _split_of(path)
    for item in jsonl_objects(path):
        if isinstance(item, BadRow):
            yield item
            continue
        line, value = item
        article = parse_record(_Article, value, str(path), line)
        if isinstance(article, BadRow):
            yield article
        elif not article.article.strip():
            yield BadRow(str(path), line, "article is empty", article.article_id)
        else:
            yield from _questions(article, str(path), line, split, config)


def _split_of(path: Path) -> str:
    found = re.search(r"\.(train|dev|test)(\.jsonl)?$", path.name)
    return found.group(1) if found else ""


def _questions(
    article: _Article, file: str, line: int, split: str, config: Config
) -> Iterator[QuestionRow | BadRow | LeftOut]:
    source = Source(title=article.title, text=article.article)
    for number, value in enumerate(article.questions):
        question = parse_record(_Question, value, file, line)
        if isinstance(question, BadRow):
            yield BadRow(file, line, f"questions.{number}: {question.reason}")
        elif (problem := _problem(question)) is not None:
            yield BadRow(file, line, f"questions.{number}: {problem}", question.question_unique_id)
        elif config.only_hard and not question.difficult:
            yield LeftOut("not a hard question")
        else:
            yield _row(question, article, source, file, line, split, config)


def _problem(question: _Question) -> str | None:
    """Reason that no two-option question can be made of this one; None if one can."""
    num_options, gold = len(question.options), question.gold_label
    if num_options < 2:
        return f"a question needs at least two options, here are {num_options}"
    if gold is None:
        return "key 'gold_label' is missing (the published test part has none)"
    if not 1 <= gold <= num_options:
        return f"gold_label = {gold}: {num_options} options are numbered from 1"
    return None


def _row(
    question: _Question,
    article: _Article,
    source: Source,
    file: str,
    line: int,
    split: str,
    config: Config,
) -> QuestionRow | BadRow:
    assert question.gold_label is not None
    rng = random.Random(seed_from("quality", config.seed, question.question_unique_id))
    pair = [question.gold_label - 1, question.distractor(config.distractor, rng)]
    correct = rng.randrange(2)
    if correct == 1:
        pair.reverse()
    return question_row(
        file,
        line,
        id=f"quality:{question.question_unique_id}",
        dataset="quality",
        split=split,
        text=question.question.strip(),
        options=[{"text": question.options[i].strip()} for i in pair],
        correct=correct,
        source=source,
        meta={
            "article": article.article_id,
            "author": article.author,
            "hard": question.difficult,
            "option_indices": pair,
        },
    )
