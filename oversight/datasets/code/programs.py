"""Generated programs and the questions about them, each decided by running it.

A question is made of a function and its twin (`families.py`). One of the two is drawn for the
program, and another draw decides what stands beside it, so that nothing but what the program does
says which answer is right.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from oversight.datasets.code.families import offered
from oversight.datasets.code.sandbox import ProgramEnd, Sandbox
from oversight.datasets.code.writing import (
    VOCABULARIES,
    CodeFamily,
    Twins,
    ValueKind,
    leading_to,
    write,
)
from oversight.errors import DataError
from oversight.ids import seed_from
from oversight.types import Option, Question, Source

Split = Literal["train", "held_out"]
Ask = Literal["output", "raises", "test", "implementation"]
ASKS: tuple[Ask, ...] = ("output", "raises", "test", "implementation")

PRINTS = "What does this program print?"
RAISES = "How does this program end?"
PASSES = "Does the test on the last line pass?"
MEETS = "Which of the two functions gives what every test expects?"
NO_ERROR = "It comes to its end without an error."
SOME_ERROR = "It ends with {article} {error}."
YES, NO = "Yes, it passes.", "No, it fails."


@dataclass(frozen=True, slots=True)
class ProgramLevel:
    """Ingredients of one difficulty."""

    num_before: int
    """Functions that the input goes through before it comes to the one that has a twin."""
    num_items: tuple[int, int]
    """Members of a list that is given."""
    numbers: tuple[int, int]
    num_tests: int
    """Tests of a question about two implementations."""


LEVELS: dict[int, ProgramLevel] = {
    1: ProgramLevel(0, (3, 4), (1, 9), 2),
    2: ProgramLevel(0, (4, 6), (-9, 12), 2),
    3: ProgramLevel(1, (5, 7), (-12, 20), 3),
    4: ProgramLevel(2, (6, 8), (-20, 30), 3),
    5: ProgramLevel(3, (8, 11), (-30, 50), 4),
}
MAX_OUTPUT_CHARS = 160
MAX_DRAWS = 400
"""Draws of one item before it is given up: nearly all are made in ten."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A function with its twin behind functions that lead to it."""

    before: tuple[str, ...]
    names: tuple[str, ...]
    """Of the functions before it, in the order in which they are called."""
    twins: Twins
    takes: ValueKind

    def call(self, argument: str, last: str = "") -> str:
        """The expression that hands the argument on to the last function, by default the twin."""
        told = argument
        for name in (*self.names, last or self.twins.name):
            told = f"{name}({told})"
        return told

    def program(self, side: int, *tail: str) -> str:
        """The functions, with one of the twins, and further lines."""
        return "\n\n".join((*self.before, self.twins.texts[side], "\n".join(tail)))


Fields: TypeAlias = dict[str, Any]
Making: TypeAlias = Generator[list[str], list[ProgramEnd], Fields | None]
"""Yields programs, is sent what came of them, and returns what a question is made of; None where
the twins do not differ."""


class Maker:
    """Makes the questions of a part of the world of programs.

    Args:
        sandbox: Runs the programs; it decides which answer is right.
    """

    def __init__(self, sandbox: Sandbox, seed: int, split: Split, difficulty: int) -> None:
        self.sandbox = sandbox
        self.seed, self.split, self.difficulty = seed, split, difficulty
        self.level = LEVELS[difficulty]

    def questions(self, items: Sequence[tuple[Ask, CodeFamily, int]]) -> list[Question]:
        """Items by kind, family and index, each the same whenever and wherever it is asked for.

        Programs of all items run together, so that a process is started for hundreds of them.

        Raises:
            DataError: Programs cannot be run on this machine.
        """
        making = {index: self._question(*item) for index, item in enumerate(items)}
        made: dict[int, Question] = {}
        wanted = {index: next(each) for index, each in making.items()}
        while wanted:
            programs = [program for each in wanted.values() for program in each]
            outcomes = iter(self.sandbox.run_together(programs))
            for index, asked in list(wanted.items()):
                try:
                    wanted[index] = making[index].send([next(outcomes) for _ in asked])
                except StopIteration as end:
                    made[index] = end.value
                    del wanted[index]
        return [made[index] for index in range(len(items))]

    def _question(
        self, ask: Ask, family: CodeFamily, index: int
    ) -> Generator[list[str], list[ProgramEnd], Question]:
        place = (self.seed, self.split, self.difficulty, ask, index)
        make = {
            "output": self._about_output,
            "raises": self._about_error,
            "test": self._about_test,
            "implementation": self._about_implementation,
        }[ask]
        for attempt in range(MAX_DRAWS):
            rng = random.Random(seed_from("code", family.name, *place, attempt))
            fields = yield from make(rng, family)
            if fields is not None:
                return self._finished(fields, ask, family, index)
        raise DataError(
            f"data set 'code': no program of family {family.name!r} with twins that differ was"
            f" found for item {index}; programs may not run here as they do elsewhere"
        )

    def _finished(
        self, fields: dict[str, Any], ask: Ask, family: CodeFamily, index: int
    ) -> Question:
        name = (self.split, self.seed, self.difficulty, ask, index)
        meta = {"family": family.name, "ask": ask, "difficulty": self.difficulty}
        source = Source(title="A Python program", text=fields.pop("program"))
        return Question(
            id=":".join(map(str, ("code", *name))),
            dataset="code",
            split=self.split,
            source=source,
            meta=meta | fields.pop("meta"),
            **fields,
        )

    # --- what is drawn ---

    def _chain(self, rng: random.Random, family: CodeFamily) -> Chain:
        words = VOCABULARIES[self.split]
        among = offered(self.difficulty, raises=False)
        families = leading_to(rng, family, self.level.num_before, among)
        names = rng.sample(words.functions, len(families))
        twins = [write(rng, each, words, name) for each, name in zip(families, names, strict=True)]
        before = tuple(rng.choice(each.texts) for each in twins[:-1])
        return Chain(before, tuple(names[:-1]), twins[-1], families[0].takes)

    def _argument(self, rng: random.Random, kind: ValueKind) -> str:
        size = rng.randint(*self.level.num_items)
        if kind is ValueKind.WORDS:
            return repr([rng.choice(VOCABULARIES[self.split].words) for _ in range(size)])
        return repr([rng.randint(*self.level.numbers) for _ in range(size)])

    # --- the four questions ---

    def _about_output(self, rng: random.Random, family: CodeFamily) -> Making:
        chain = self._chain(rng, family)
        printing = f"print({chain.call(self._argument(rng, chain.takes))})"
        programs = [chain.program(side, printing) for side in (0, 1)]
        shown, correct = rng.randrange(2), rng.randrange(2)
        outcomes = yield programs
        truth, other = (_printed(outcomes[side]) for side in (shown, 1 - shown))
        if truth is None or other is None or truth == other:
            return None
        return {
            "text": PRINTS,
            "program": programs[shown],
            "options": _options(truth, other, correct),
            "correct": correct,
            "meta": _spot(chain, shown),
        }

    def _about_error(self, rng: random.Random, family: CodeFamily) -> Making:
        chain = self._chain(rng, family)
        printing = f"print({chain.call(self._argument(rng, chain.takes))})"
        programs = [chain.program(side, printing) for side in (0, 1)]
        shown = rng.randrange(2)
        outcomes = yield programs
        errors = [outcome.error for outcome in outcomes]
        if any(outcome.stopped for outcome in outcomes) or all(errors) or not any(errors):
            return None
        name = errors[0] or errors[1]
        error = SOME_ERROR.format(article="an" if name[0] in "AEIOU" else "a", error=name)
        return {
            "text": RAISES,
            "program": programs[shown],
            **_answered(rng, (NO_ERROR, error), 1 if errors[shown] else 0),
            "meta": _spot(chain, shown),
        }

    def _about_test(self, rng: random.Random, family: CodeFamily) -> Making:
        chain = self._chain(rng, family)
        call = chain.call(self._argument(rng, chain.takes))
        printing = yield [chain.program(side, f"print({call})") for side in (0, 1)]
        given = [_printed(outcome) for outcome in printing]
        shown, expected = rng.randrange(2), rng.randrange(2)
        if given[0] is None or given[1] is None or given[0] == given[1]:
            return None
        program = chain.program(shown, f"assert {call} == {given[expected]}")
        (outcome,) = yield [program]
        if outcome.stopped or outcome.error not in ("", "AssertionError"):
            return None
        return {
            "text": PASSES,
            "program": program,
            **_answered(rng, (YES, NO), 1 if outcome.error else 0),
            "meta": _spot(chain, shown),
        }

    def _about_implementation(self, rng: random.Random, family: CodeFamily) -> Making:
        chain = self._chain(rng, family)
        arguments = [self._argument(rng, chain.takes) for _ in range(self.level.num_tests)]
        calls = ", ".join(chain.call(argument) for argument in arguments)
        printing = yield [chain.program(side, f"print([{calls}])") for side in (0, 1)]
        given = [_printed(outcome) for outcome in printing]
        if given[0] is None or given[1] is None or given[0] == given[1]:
            return None
        wanted, first = ast.literal_eval(given[rng.randrange(2)] or "[]"), rng.randrange(2)
        unused = [n for n in VOCABULARIES[self.split].functions if n not in chain.names]
        names = rng.sample([name for name in unused if name != chain.twins.name], 2)
        twins = _renamed(chain.twins, names if first == 0 else names[::-1])
        functions = "\n\n".join((*chain.before, twins[first], twins[1 - first]))
        tests = {
            name: "\n".join(
                f"assert {chain.call(argument, name)} == {value!r}"
                for argument, value in zip(arguments, wanted, strict=True)
            )
            for name in names
        }
        outcomes = yield [f"{functions}\n\n{tests[name]}" for name in names]
        meets = [not outcome.stopped and not outcome.error for outcome in outcomes]
        if sum(meets) != 1:
            return None
        told = "\n".join(
            f"# test: {chain.call(argument, 'function')} == {value!r}"
            for argument, value in zip(arguments, wanted, strict=True)
        )
        return {
            "text": MEETS,
            "program": f"{functions}\n\n{told}",
            **_answered(rng, (names[0], names[1]), meets.index(True)),
            "meta": {"spot_lines": _differing(twins[first], twins[1 - first])},
        }


def _printed(outcome: ProgramEnd) -> str | None:
    """The output of a program that printed something and came to its end."""
    text = outcome.output.strip()
    fits = not outcome.stopped and not outcome.error and len(text) <= MAX_OUTPUT_CHARS
    return text if fits and text else None


def _renamed(twins: Twins, names: Sequence[str]) -> list[str]:
    """Both twins under names of their own, by which they call themselves as well."""
    texts = zip(twins.texts, names, strict=True)
    return [text.replace(f"{twins.name}(", f"{name}(") for text, name in texts]


def _differing(first: str, second: str) -> list[str]:
    """Lines in the bodies of two functions that are not the same, those of the first one first."""
    bodies = [text.split("\n")[1:] for text in (first, second)]
    pairs = [pair for pair in zip(*bodies, strict=True) if pair[0] != pair[1]]
    return [line for lines in zip(*pairs, strict=True) for line in lines]


def _options(right: str, wrong: str, correct: int) -> tuple[Option, ...]:
    texts = (right, wrong) if correct == 0 else (wrong, right)
    return tuple(Option(text=text) for text in texts)


def _answered(rng: random.Random, answers: tuple[str, str], right: int) -> dict[str, Any]:
    """Both answers in a drawn order, and the place of the right one."""
    correct = rng.randrange(2)
    options = _options(answers[right], answers[1 - right], correct)
    return {"options": options, "correct": correct}


def _spot(chain: Chain, shown: int) -> dict[str, Any]:
    """The lines that decide, and how they read in the twin that is not shown."""
    return {
        "spot_lines": list(chain.twins.spot(shown)),
        "twin_lines": list(chain.twins.spot(1 - shown)),
    }
