"""A generated world without end: logs of changing facts, where old quotes are true but misleading.

Each question asks how something stands in the end. The wrong answer was true earlier, so a true
quote argues for it; only a later quote exposes that. Item `index` of a seed, split and difficulty
is drawn on its own, without the items before it. Train and held-out stories share no filling, so
no sentence that tells of anything stands in both. Ours, under the licence of this package.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, islice
from typing import Literal

from pydantic import Field, field_validator, model_validator

from oversight.config import Settings
from oversight.datasets.world.names import FILLINGS, NAMES, Family, offered
from oversight.datasets.world.story import LEVELS, Bearing, Story, Telling, tell
from oversight.ids import seed_from
from oversight.registry import nearest
from oversight.types import Option, Question, Source

Split = Literal["train", "held_out"]

ENDLESS = "num"
"""Setting that a larger limit raises: see `datasets/base.py`."""


class Config(Settings):
    """Part of the world that is asked for."""

    seed: int = 0
    split: Split = "train"
    difficulty: int = Field(default=2, ge=1, le=5)
    """1 to 5: more lines, more things alike, more changes; from 3 shuffled lines and containers."""
    telling: Telling = "varied"
    """`plain`: one statement and one question a family, days in order, no prices and counts; for
    models too small to read. The deciding facts are the same."""
    num: int = Field(default=1000, ge=1)
    """Number of questions; a larger limit makes more, unless it is set."""
    start: int = Field(default=0, ge=0)
    """Index of the first one: later parts of the same endless sequence."""
    families: tuple[str, ...] = ()
    """Only questions of these families; empty: all that the difficulty has."""

    @field_validator("families")
    @classmethod
    def _known(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        for name in families:
            if name not in NAMES:
                raise ValueError(f"there is no family {name!r}.{nearest(name, NAMES)}")
        return families

    @model_validator(mode="after")
    def _offered(self) -> Config:
        plain = self.telling == "plain"
        for name in self.families:
            if plain and name not in {family.name for family in offered(max(LEVELS), plain=True)}:
                raise ValueError(f"family {name!r} is not told plainly")
            if name not in {family.name for family in offered(self.difficulty)}:
                least = next(d for d in LEVELS if name in {f.name for f in offered(d)})
                raise ValueError(f"family {name!r} needs difficulty {least} or more")
        return self


def rows(config: Config) -> Iterator[Question]:
    """The questions from index `start` on that belong to `families`."""
    numbers = (
        index
        for index in count(config.start)
        if not config.families
        or family_at(config.difficulty, index, config.telling).name in config.families
    )
    for index in islice(numbers, config.num):
        yield question_at(config.seed, config.split, config.difficulty, index, config.telling)


def family_at(difficulty: int, index: int, telling: Telling = "varied") -> Family:
    """The family of an item: they take turns, so that every part holds all alike."""
    families = offered(difficulty, plain=telling == "plain")
    return families[index % len(families)]


def question_at(
    seed: int, split: Split, difficulty: int, index: int, telling: Telling = "varied"
) -> Question:
    """Item `index`, the same whenever and wherever it is asked for."""
    family = family_at(difficulty, index, telling)
    manner = () if telling == "varied" else (telling,)
    rng = random.Random(seed_from("world", seed, split, difficulty, family.name, index, *manner))
    words = FILLINGS[split]
    story = tell(rng, family, words, LEVELS[difficulty], telling)
    correct = rng.randrange(2)
    texts = [story.right, story.wrong] if correct == 0 else [story.wrong, story.right]
    return Question(
        id=":".join(str(part) for part in ("world", split, seed, difficulty, index, *manner)),
        dataset="world",
        split=split,
        text=story.question,
        options=tuple(Option(text=text) for text in texts),
        correct=correct,
        source=Source(
            title=f"The log of {rng.choice(words.houses)} House",
            text="\n".join(line.text for line in story.lines),
        ),
        meta={
            "family": family.name,
            "difficulty": difficulty,
            "subject": story.subject,
            "carrier": story.carrier,
            "right_lines": _lines(story, Bearing.RIGHT),
            "wrong_lines": _lines(story, Bearing.WRONG),
            "link_lines": _lines(story, Bearing.LINK),
        },
    )


def _lines(story: Story, bearing: Bearing) -> list[object]:
    """The story's lines of one bearing, the earliest first."""
    return [line.text for line in story.told if line.bearing is bearing]
