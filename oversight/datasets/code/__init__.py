"""Python programs, made without end or your own: the right answer is decided by running them.

Each question comes with a program as its source: which of two outputs it prints, how it ends,
whether its test passes, or which of two functions meets the tests. Programs run in a sandbox
(`sandbox.py`); those that loop, start processes, read files, print or allocate without end are
bad rows with the reason. Item `index` of a seed, split and difficulty is drawn on its own. Train
and held-out programs share no name of a function or variable and no word. Ours, under the licence
of this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from pydantic import Field, field_validator, model_validator

from oversight.config import Settings
from oversight.datasets.base import BadRow, LeftOut, QuestionRow
from oversight.datasets.code import own
from oversight.datasets.code.families import FAMILIES, offered
from oversight.datasets.code.programs import ASKS, Ask, Maker, Split
from oversight.datasets.code.sandbox import DEFAULT_LIMITS, Limits, Sandbox
from oversight.datasets.code.writing import CodeFamily
from oversight.registry import nearest
from oversight.types import Question

ENDLESS = "num"
"""Setting that a larger limit raises: see `datasets/base.py`."""

FIRST_PART, LARGEST_PART = 4, 128
"""Questions that are made together."""

RAISING: tuple[Ask, ...] = ("raises",)
"""Questions that need a family with an exception."""

Item: TypeAlias = Question | QuestionRow | BadRow | LeftOut


class Config(Settings):
    """Part of the world of programs that is asked for, or a file of one's own."""

    path: str = ""
    """A JSONL file of programs of your own; empty: generated ones."""
    seed: int = 0
    """Of generated programs, and of the order of options."""
    split: Split = "train"
    difficulty: int = Field(default=2, ge=1, le=5)
    """1 to 5: longer lists, more functions one after the other, and more families."""
    num: int = Field(default=1000, ge=1)
    """Number of generated questions; a larger limit makes more, unless it is set."""
    start: int = Field(default=0, ge=0)
    """Index of the first one: later parts of the same endless sequence."""
    asks: tuple[Ask, ...] = Field(default=ASKS, min_length=1)
    """Only questions of these kinds; they take turns."""
    families: tuple[str, ...] = ()
    """Only questions of these families; empty: all that the difficulty has."""
    cpu_s: int = Field(default=DEFAULT_LIMITS.cpu_s, ge=1)
    """Seconds of CPU that a program may take."""
    wall_s: float = Field(default=DEFAULT_LIMITS.wall_s, gt=0, allow_inf_nan=False)
    """Seconds by the clock that a program may take."""
    memory_mb: int = Field(default=DEFAULT_LIMITS.memory_mb, ge=128)
    """MiB of memory that a program may take, the interpreter's own included."""

    @field_validator("families")
    @classmethod
    def _known(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        names = [family.name for family in FAMILIES]
        for name in families:
            if name not in names:
                raise ValueError(f"there is no family {name!r}.{nearest(name, names)}")
        return families

    @model_validator(mode="after")
    def _offered(self) -> Config:
        for name in self.families:
            least = next(family.least for family in FAMILIES if family.name == name)
            if least > self.difficulty:
                raise ValueError(f"family {name!r} needs difficulty {least} or more")
        for ask in self.asks if self.families else ():
            if not families_for(ask, self.difficulty, self.families):
                kind = "with" if ask in RAISING else "without"
                raise ValueError(f"asks = {ask!r} needs a family {kind} an exception")
        return self

    @property
    def limits(self) -> Limits:
        """Limits of each program's run."""
        return Limits(cpu_s=self.cpu_s, wall_s=self.wall_s, memory_mb=self.memory_mb)


def rows(config: Config) -> Iterator[Item]:
    """The questions from index `start` on, or those of a file.

    Raises:
        ConfigError: There is no such file.
        DataError: Programs cannot be run on this machine.
    """
    if config.path:
        yield from own.rows(config.path, config.limits, config.seed)
        return
    with Sandbox(config.limits) as sandbox:
        maker = Maker(sandbox, config.seed, config.split, config.difficulty)
        for part in _parts(config.start, config.start + config.num):
            yield from maker.questions(
                [
                    (*asked_at(config.difficulty, index, config.asks, config.families), index)
                    for index in part
                ]
            )


def _parts(start: int, end: int) -> Iterator[range]:
    """Parts of a range that are made together: small ones first, as a limit may ask for few."""
    size = FIRST_PART
    while start < end:
        yield range(start, min(start + size, end))
        start, size = start + size, min(2 * size, LARGEST_PART)


def families_for(ask: Ask, difficulty: int, among: tuple[str, ...] = ()) -> list[CodeFamily]:
    """Families of a difficulty that a kind of question can be asked about."""
    found = offered(difficulty, raises=ask in RAISING)
    return [family for family in found if not among or family.name in among]


def asked_at(
    difficulty: int, index: int, asks: tuple[Ask, ...] = ASKS, among: tuple[str, ...] = ()
) -> tuple[Ask, CodeFamily]:
    """The kind of question and the family of an item: they take turns, so that all are alike."""
    ask = asks[index % len(asks)]
    families = families_for(ask, difficulty, among)
    return ask, families[(index // len(asks)) % len(families)]
