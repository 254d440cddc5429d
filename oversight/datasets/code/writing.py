"""Functions of generated programs written out, with the names and words of their split."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from string import Template
from typing import Literal


class ValueKind(StrEnum):
    """Kinds of values that functions take and give."""

    INTS = "ints"
    WORDS = "words"
    INT = "int"


@dataclass(frozen=True, slots=True)
class CodeFamily:
    """A function and its twin."""

    name: str
    takes: ValueKind
    gives: ValueKind
    text: str
    """With `$f` for its name, `$g` for that of a function inside of it, `$a` for its argument, `$x`
    and `$y` for members, `$r` and `$s` for results, `$i` for an index, `$k` for a number from 2 to
    5, and spots «this|that»."""
    least: int = 1
    """Lowest difficulty that has it."""
    raises: bool = False
    """True if one of the two may end with an exception where the other does not."""


@dataclass(frozen=True, slots=True)
class ProgramWords:
    """Names and words of a split."""

    functions: tuple[str, ...]
    arguments: tuple[str, ...]
    members: tuple[str, ...]
    results: tuple[str, ...]
    indices: tuple[str, ...]
    words: tuple[str, ...]


VOCABULARIES: dict[Literal["train", "held_out"], ProgramWords] = {
    "train": ProgramWords(
        functions=("alder", "birch", "cedar", "hazel", "larch", "maple", "rowan", "willow"),
        arguments=("values", "items", "entries"),
        members=("value", "item", "entry", "other"),
        results=("result", "found", "answer", "kept"),
        indices=("i", "index", "place"),
        words=(
            *("banana", "apple", "kettle", "ladder", "pepper", "button", "window", "rabbit"),
            *("cat", "moon", "noon", "river", "stone", "level", "bottle", "sun", "tent", "radar"),
        ),
    ),
    "held_out": ProgramWords(
        functions=("amber", "basalt", "coral", "flint", "garnet", "jasper", "opal", "quartz"),
        arguments=("cells", "marks", "tokens"),
        members=("cell", "mark", "token", "second"),
        results=("output", "tally", "chosen", "built"),
        indices=("j", "position", "spot"),
        words=(
            *("carrot", "coffee", "pillow", "tunnel", "copper", "dinner", "garden", "puppet"),
            *("dog", "star", "civic", "harbour", "cloud", "kayak", "mirror", "fog", "belt", "deed"),
        ),
    ),
}
"""Of each split; the two share none."""

_SPOT = re.compile(r"«([^«»|]*)\|([^«»|]*)»")
LOW_CONSTANT, HIGH_CONSTANT = 2, 5


@dataclass(frozen=True, slots=True)
class Twins:
    """A function and its twin, written out."""

    family: CodeFamily
    name: str
    texts: tuple[str, str]

    def spot(self, side: int) -> tuple[str, ...]:
        """Lines of one of the two that are other lines in its twin."""
        mine, other = (self.texts[each].split("\n") for each in (side, 1 - side))
        return tuple(line for line, twin in zip(mine, other, strict=True) if line != twin)


def write(rng: random.Random, family: CodeFamily, words: ProgramWords, name: str) -> Twins:
    """A function of a family under a name, and its twin, with other names and numbers drawn."""
    names = {
        "f": name,
        "g": rng.choice([each for each in words.functions if each != name]) + "_inner",
        "a": rng.choice(words.arguments),
        "i": rng.choice(words.indices),
        "k": str(rng.randint(LOW_CONSTANT, HIGH_CONSTANT)),
    }
    names["x"], names["y"] = rng.sample(words.members, 2)
    names["r"], names["s"] = rng.sample(words.results, 2)
    text = Template(family.text.strip("\n")).substitute(names)
    return Twins(family, name, (_SPOT.sub(r"\1", text), _SPOT.sub(r"\2", text)))


def leading_to(
    rng: random.Random, last: CodeFamily, num: int, among: Sequence[CodeFamily]
) -> list[CodeFamily]:
    """`num` families, each of which takes what the one before it gives, and then `last`."""
    chain = [last]
    while len(chain) <= num:
        chain.insert(0, rng.choice([f for f in among if f.gives is chain[0].takes]))
    return chain
