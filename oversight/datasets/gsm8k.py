"""GSM8K: maths problems with one right and one wrong graded model solution as fixed positions.

Reads `example_model_solutions.jsonl` of the GSM8K repository (MIT licence; Cobbe et al. 2021,
"Training Verifiers to Solve Math Word Problems", arXiv:2110.14168). Each option is a final
answer, and its argument is the solution that leads there, without calculator annotations.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from pydantic import BaseModel, Field

from oversight.config import Settings
from oversight.datasets.base import (
    CLUSTER,
    BadRow,
    LeftOut,
    QuestionRow,
    jsonl_objects,
    locate,
    parse_record,
    question_row,
)
from oversight.ids import content_id, seed_from

USUAL_PLACE = "gsm8k/example_model_solutions.jsonl"
WHERE_TO_GET = (
    "It is the file example_model_solutions.jsonl of https://github.com/openai/grade-school-math."
)

Model = Literal["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]
MODELS: tuple[Model, ...] = (
    "6b_finetuning",
    "6b_verification",
    "175b_finetuning",
    "175b_verification",
)
ANNOTATION = re.compile(r"<<[^<>]*>>")
FINAL_ANSWER = re.compile(r"^A:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


class Config(Settings):
    """Settings of GSM8K: the solutions that are set against each other."""

    path: str = ""
    """The JSONL file; empty: where shared data lies."""
    models: tuple[Model, ...] = Field(default=MODELS, min_length=1)
    """Models whose solutions may be used."""
    pairs_per_question: int = Field(default=1, ge=1)
    """At most so many pairs of a right and a wrong solution from one problem."""
    seed: int = 0
    """Of the choice of pairs, and of the place of the right answer."""


class _Solution(BaseModel):
    is_correct: bool
    solution: str

    @property
    def answer(self) -> str | None:
        """The final answer in plain form; None for a solution that breaks off before it."""
        found = FINAL_ANSWER.findall(self.solution)
        return plain_answer(found[-1]) if found else None


def plain_answer(answer: str) -> str:
    """A number without thousands separators, currency or spare zeros; other answers as they are.

    The form of a number must not say which side it belongs to.
    """
    bare = answer.replace(",", "").replace("$", "").strip().rstrip(".")
    try:
        number = Decimal(bare)
    except InvalidOperation:
        return answer.strip()
    if not number.is_finite():
        return answer.strip()
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("", "-0") else text


def readable(solution: str) -> str:
    """The solution without the annotations `<<6*2=12>>` that a calculator was steered by."""
    return ANNOTATION.sub("", solution).strip()


def rows(config: Config) -> Iterator[QuestionRow | BadRow | LeftOut]:
    """Pairs of a right and a wrong solution; problems without such a pair are left out.

    Raises:
        ConfigError: There is no such file.
    """
    path = locate(config.path, USUAL_PLACE, WHERE_TO_GET)
    for item in jsonl_objects(path):
        if isinstance(item, BadRow):
            yield item
        else:
            yield from _pairs(item[1], str(path), item[0], config)


def _pairs(
    value: dict[str, Any], file: str, line: int, config: Config
) -> Iterator[QuestionRow | BadRow | LeftOut]:
    problem = value.get("question")
    if not isinstance(problem, str) or not problem.strip():
        yield BadRow(file, line, f"question = {problem!r}: expected a text")
        return
    solutions: dict[str, _Solution] = {}
    for model in config.models:
        if model not in value:
            yield BadRow(file, line, f"key {model!r} is missing")
            return
        solution = parse_record(_Solution, value[model], file, line)
        if isinstance(solution, BadRow):
            yield BadRow(file, line, f"{model}: {solution.reason}")
            return
        solutions[model] = solution
    problem_id = content_id("gsm8k", problem)[:12]
    pairs = _eligible(solutions)
    random.Random(seed_from("gsm8k", config.seed, problem_id)).shuffle(pairs)
    if not pairs:
        yield LeftOut("no right and wrong solution with different answers")
    for right, wrong in pairs[: config.pairs_per_question]:
        yield _row(problem, problem_id, (right, wrong), solutions, file, line, config.seed)


def _eligible(solutions: dict[str, _Solution]) -> list[tuple[str, str]]:
    """Pairs (model that is right, model that is wrong) whose answers are complete and differ."""
    answered = {model: solution for model, solution in solutions.items() if solution.answer}
    return [
        (right, wrong)
        for right, good in answered.items()
        for wrong, bad in answered.items()
        if good.is_correct and not bad.is_correct and good.answer != bad.answer
    ]


def _row(
    problem: str,
    problem_id: str,
    models: tuple[str, str],
    solutions: dict[str, _Solution],
    file: str,
    line: int,
    seed: int,
) -> QuestionRow | BadRow:
    right, wrong = models
    name = f"gsm8k:{problem_id}:{right}:{wrong}"
    correct = random.Random(seed_from(seed, name)).randrange(2)
    order = (right, wrong) if correct == 0 else (wrong, right)
    return question_row(
        file,
        line,
        id=name,
        dataset="gsm8k",
        split="test",
        text=problem.strip(),
        options=[
            {"text": solutions[m].answer, "argument": readable(solutions[m].solution)}
            for m in order
        ],
        correct=correct,
        meta={CLUSTER: f"gsm8k:{problem_id}", "models": list(order)},
    )
