"""Programs of one's own as questions: a JSON object a line (schema: docs/datasets.md)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from oversight.datasets.base import (
    BadRow,
    LeftOut,
    QuestionRow,
    jsonl_objects,
    locate,
    parse_record,
    question_row,
)
from oversight.datasets.code.programs import NO, NO_ERROR, PRINTS, RAISES, YES
from oversight.datasets.code.sandbox import Limits, ProgramEnd, Sandbox
from oversight.ids import seed_from
from oversight.types import Source

WHERE_TO_GET = "Such a file is yours to write: docs/datasets.md says how."
PASSES_ALL = "Does this program pass all of its tests?"
MEETS_ALL = "Which of the two programs passes all of the tests?"
ANY_ERROR = "It ends with an exception."
WHICH = ("The first program.", "The second program.")
TESTS, SECOND = "# tests", "# the second program"
Row: TypeAlias = QuestionRow | BadRow | LeftOut


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: str = Field(min_length=1)
    program: str = Field(min_length=1)
    tests: list[str] = Field(default_factory=list)
    other_program: str | None = None
    other_output: str | None = None
    question: str = ""
    title: str = "A Python program"
    split: str = ""
    meta: dict[str, JsonValue] = Field(default_factory=dict)


class _Unusable(Exception):
    """A program that has no result, and why."""


def rows(path: str, limits: Limits, seed: int) -> Iterator[Row]:
    """Every line as a question, decided by running its programs twice, in two processes.

    Raises:
        ConfigError: There is no such file.
        DataError: Programs cannot be run on this machine.
    """
    file = locate(path, path, WHERE_TO_GET)
    # Two servers hash texts differently: what hangs on that, or on chance or time, is found out.
    with Sandbox(limits, remembers=False) as first, Sandbox(limits, remembers=False) as second:
        reading = _Reading(str(file), (first, second), seed)
        for item in jsonl_objects(file):
            yield item if isinstance(item, BadRow) else reading.row(item[1], item[0])


class _Reading:
    """Makes the rows of one file."""

    def __init__(self, file: str, sandboxes: tuple[Sandbox, Sandbox], seed: int) -> None:
        self.file, self.sandboxes, self.seed = file, sandboxes, seed

    def row(self, value: dict[str, Any], number: int) -> Row:
        """The question of one line."""
        line = parse_record(_Line, value, self.file, number)
        if isinstance(line, BadRow):
            return line
        try:
            fields = self._fields(line)
        except _Unusable as why:
            return BadRow(self.file, number, str(why), line.id)
        if isinstance(fields, LeftOut):
            return fields
        right, wrong = fields.pop("answers")
        correct = random.Random(seed_from("code", self.seed, line.id)).randrange(2)
        texts = (right, wrong) if correct == 0 else (wrong, right)
        asked = fields.pop("text")
        return question_row(
            self.file,
            number,
            id=line.id,
            dataset="code",
            split=line.split,
            text=line.question or asked,
            options=[{"text": text} for text in texts],
            correct=correct,
            source=Source(title=line.title, text=fields.pop("source")),
            meta=line.meta,
        )

    def _fields(self, line: _Line) -> dict[str, Any] | LeftOut:
        if line.other_output is not None and (line.tests or line.other_program is not None):
            key = "tests" if line.tests else "other_program"
            raise _Unusable(f"'other_output' and {key!r} make two questions: give one of them")
        if line.other_program is not None:
            return self._about_two(line, line.other_program)
        if line.tests:
            source = _with_tests(line.program, line.tests)
            passes = self._passes("the program", line.program, line.tests)
            answers = (YES, NO) if passes else (NO, YES)
            return {"text": PASSES_ALL, "source": source, "answers": answers}
        if line.other_output is not None:
            return self._about_output(line, line.other_output)
        return self._about_error(line)

    def _about_two(self, line: _Line, other: str) -> dict[str, Any] | LeftOut:
        if not line.tests:
            raise _Unusable("'other_program' needs 'tests', by which one of the two is right")
        met = [
            self._passes(name, program, line.tests)
            for name, program in (("the first program", line.program), ("the second", other))
        ]
        if met[0] == met[1]:
            return LeftOut(f"{'both programs pass' if met[0] else 'neither program passes'}")
        source = _with_tests(f"{line.program.rstrip()}\n\n{SECOND}\n{other}", line.tests)
        answers = WHICH if met[0] else WHICH[::-1]
        return {"text": MEETS_ALL, "source": source, "answers": answers}

    def _about_output(self, line: _Line, other: str) -> dict[str, Any]:
        outcome = self._run("the program", line.program)
        if outcome.error:
            raise _Unusable(f"the program ends with a {outcome.error} in line {outcome.line}")
        truth = outcome.output.strip()
        if not truth:
            raise _Unusable("the program prints nothing")
        if truth == other.strip():
            raise _Unusable("other_output is what the program prints")
        return {"text": PRINTS, "source": line.program, "answers": (truth, other.strip())}

    def _about_error(self, line: _Line) -> dict[str, Any]:
        outcome = self._run("the program", line.program)
        answers = (ANY_ERROR, NO_ERROR) if outcome.error else (NO_ERROR, ANY_ERROR)
        return {"text": RAISES, "source": line.program, "answers": answers}

    def _passes(self, name: str, program: str, tests: list[str]) -> bool:
        """True if every test passes, each on a fresh run.

        Raises:
            _Unusable: The program has no result, or fails before its tests.
        """
        alone = self._run(name, program)
        if alone.error:
            raise _Unusable(f"{name} ends with a {alone.error} before any test")
        for number, test in enumerate(tests, start=1):
            outcome = self._run(f"{name} with test {number}", f"{program.rstrip()}\n\n{test}\n")
            if outcome.error:
                return False
        return True

    def _run(self, name: str, program: str) -> ProgramEnd:
        """The result of a program, the same in two processes.

        Raises:
            _Unusable: It was stopped, or does something else each time.
        """
        first = self.sandboxes[0].run(program)
        second = first if first.stopped else self.sandboxes[1].run(program)
        if second.stopped:
            raise _Unusable(f"{name} {second.stopped}")
        if (first.output, first.error, first.line) != (second.output, second.error, second.line):
            raise _Unusable(f"{name} does something else each time it runs")
        if "\0" in first.output:
            raise _Unusable(f"{name} prints the character NUL")
        return first


def _with_tests(program: str, tests: list[str]) -> str:
    return "\n".join((program.rstrip(), "", TESTS, *tests))
