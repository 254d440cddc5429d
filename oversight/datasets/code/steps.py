"""An oracle for the steps of a program: claims about variables, decided by tracing it.

For protocols in which a judge may have single steps of a long computation checked (doubly efficient
debate, Brown-Cohen et al. 2023, arXiv:2311.14125), and for judges with tools.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property

from oversight.datasets.code.sandbox import ProgramEnd, ProgramStep, Sandbox
from oversight.errors import DataError

MAX_STEPS = 20_000
_CLAIM = re.compile(
    r"^\s*after line (\d+)(?:,? (?:on )?visit (\d+))?,?\s*:?\s*(\w+)\s*(?:is|==?)\s*(.+?)\s*$",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class StepClaim:
    """A claim: once a line is done on its n-th visit, a variable of its frame has a value.

    A line is done when the next one of the same call begins, or the call ends or yields; visits
    are counted over all calls.
    """

    variable: str
    line: int
    """1-based line of the program."""
    value: str
    """A Python literal, such as `[1, 2]` or `'two'`."""
    visit: int = 1

    @classmethod
    def read(cls, text: str) -> StepClaim:
        """The claim that a sentence makes: `after line 3, visit 2: total == 7`.

        Raises:
            ValueError: It is none of that form.
        """
        found = _CLAIM.match(text)
        if found is None:
            raise ValueError(
                f"{text[:80]!r} is no claim about a step: write it as "
                "'after line 3, visit 2: total == 7'"
            )
        line, visit, variable, value = found.groups()
        return cls(variable, int(line), value, int(visit or 1))

    def __str__(self) -> str:
        return f"after line {self.line}, visit {self.visit}: {self.variable} == {self.value}"


class StepOracle:
    """Says of claims about a program's steps whether they are true.

    Args:
        program: Its text.
        sandbox: Runs it once, at the first claim.
        max_steps: Number of steps that are kept. Later ones cannot be decided.
    """

    def __init__(self, program: str, sandbox: Sandbox, max_steps: int = MAX_STEPS) -> None:
        self.program, self._sandbox, self._max_steps = program, sandbox, max_steps

    @cached_property
    def outcome(self) -> ProgramEnd:
        """The program's output, its end, and its steps.

        Raises:
            DataError: It has no result, since it was stopped.
        """
        found = self._sandbox.run(self.program, self._max_steps)
        if found.stopped:
            raise DataError(f"no claim about the program can be checked: it {found.stopped}")
        return found

    @cached_property
    def _by_visit(self) -> dict[tuple[int, int], ProgramStep]:
        return {(step.line, step.visit): step for step in self.outcome.steps}

    def value(self, variable: str, line: int, visit: int = 1) -> str | None:
        """The `repr` of a variable's value once a line is done; None where it has none then.

        It has none where the line is not visited so often, where its frame has no variable of that
        name yet, or where its value is no plain one (a function, a generator).

        Raises:
            DataError: That cannot be decided: the program was stopped, the step is beyond those
                that are kept, or the value is too long.
        """
        step = self._by_visit.get((line, visit))
        if step is None:
            if self.outcome.is_cut:
                raise DataError(
                    f"line {line}, visit {visit}: not among the first {self._max_steps:,} steps,"
                    " and no others are kept"
                )
            return None
        if variable in step.values and step.values[variable] is None:
            raise DataError(f"line {line}, visit {visit}: {variable!r} is too long to be compared")
        return step.values.get(variable)

    def holds(self, claim: StepClaim) -> bool:
        """True if a claim is true; false as well where there is no such step or variable.

        Raises:
            DataError: That cannot be decided (see `value`).
        """
        actual = self.value(claim.variable, claim.line, claim.visit)
        return actual is not None and same_value(actual, claim.value)


def same_value(actual: str, claimed: str) -> bool:
    """True if two texts write one value: quotes, spaces and the order of a set do not count.

    1, 1.0 and True are three values.
    """
    try:
        values = [ast.literal_eval(text.strip()) for text in (actual, claimed)]
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return actual.strip() == claimed.strip()
    return _typed(values[0]) == _typed(values[1])


def _typed(value: object) -> object:
    """A value that is equal to another one only if the types are the same as well."""
    if isinstance(value, list | tuple):
        return (type(value), [_typed(each) for each in value])
    if isinstance(value, dict):
        return (dict, {(type(key), key): _typed(each) for key, each in value.items()})
    return (type(value), value)
