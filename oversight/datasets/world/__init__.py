"""A generated world without end: logs of changing facts, where old quotes are true but misleading.

Each question asks how something stands in the end. The wrong answer was true earlier, so a true
quote argues for it; only a later quote exposes that. Item `index` of a seed, split and difficulty
is drawn on its own, without the items before it. Train and held-out stories share no filling, so
no sentence that tells of anything stands in both. Ours, under the licence of this package.

The answer does not leak: right and wrong answer are drawn alike, and everything but the
order of events treats them alike: how often they are told, in which wording, beside which other
things. Which of the two is right shows only in whose line has the later time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count, islice, pairwise
from typing import Literal

from pydantic import Field, field_validator, model_validator

from oversight.config import Settings
from oversight.datasets.world.names import FILLINGS, NAMES, Family, Fillings, draw_subjects, offered
from oversight.ids import seed_from
from oversight.registry import nearest
from oversight.types import Option, Question, Source

FRAMES = (
    "{When}, {told}.",
    "It was {mark} when {told}.",
    "The log says that {when} {told}.",
    "Entry for {mark}: {told}.",
)
PLAIN_FRAME = "{Told} on day {number}."
NUM_MINUTES_A_DAY = 24 * 60
FIRST_NUMBER, LAST_NUMBER = 2100, 9999
"""Of day and week numbers: four digits, and none that could be read as a year."""


FIRST_PLAIN_DAY, LAST_PLAIN_DAY = 10, 99
"""Of a plain telling: two digits, and every line a day later than the one before. Two lines on one
thing are three days apart on average, and so a threshold on one line's day is right in about 51.5 %
of cases."""


def marked_plainly(rng: random.Random, told: list[str]) -> list[str]:
    """Each of `told` as a sentence that ends in a day, one later than that of the one before it."""
    first = rng.randint(FIRST_PLAIN_DAY, LAST_PLAIN_DAY + 1 - len(told))
    return [
        PLAIN_FRAME.format(Told=words[0].upper() + words[1:], number=first + index)
        for index, words in enumerate(told)
    ]


def marked(rng: random.Random, told: list[str]) -> list[str]:
    """Each of `told` as a sentence with a later time mark than the one before it."""
    clock = rng.random() < 0.5
    unit = rng.choice(("day", "week"))
    low, high = (0, NUM_MINUTES_A_DAY - 1) if clock else (FIRST_NUMBER, LAST_NUMBER)
    steps = [rng.randint(1, 2) for _ in told]
    time = rng.randint(low, high - sum(steps))
    sentences = []
    for words, step in zip(told, steps, strict=True):
        time += step
        mark = f"{time // 60:02}:{time % 60:02}" if clock else f"{unit} {time}"
        when = f"{'at' if clock else 'on' if unit == 'day' else 'in'} {mark}"
        frame = rng.choice(FRAMES)
        sentences.append(frame.format(When=when.capitalize(), when=when, mark=mark, told=words))
    return sentences


Telling = Literal["varied", "plain"]
"""Wording of a story: in many ways, or one statement, one question and one frame a family."""


class Bearing(StrEnum):
    """Part that a line plays for the question."""

    RIGHT = "right"
    WRONG = "wrong"
    LINK = "link"
    """Ties the thing to the carrier whose place is then its own."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Level:
    """Ingredients of one difficulty."""

    num_lines: tuple[int, int]
    num_subjects: int
    """Of other things that the story tells about."""
    mentions: tuple[int, ...]
    """Number of times that either answer is told of the thing asked for."""
    num_others: tuple[int, int]
    """States of the thing that are no option."""
    num_alike: int
    """Subjects that differ from one another in one word only, the one asked for among them."""
    shuffled: bool
    """True if the lines stand in another order than that of their times."""


LEVELS: dict[int, Level] = {
    1: Level((6, 8), 2, (1,), (0, 0), 0, shuffled=False),
    2: Level((8, 12), 3, (1,), (0, 1), 0, shuffled=False),
    3: Level((12, 16), 4, (1, 2), (1, 2), 2, shuffled=True),
    4: Level((16, 22), 5, (1, 2), (1, 3), 3, shuffled=True),
    5: Level((22, 30), 6, (1, 2, 3), (2, 3), 4, shuffled=True),
}

NUM_SPARE_STATES = 2
"""States that only the other things have."""


@dataclass(frozen=True, slots=True)
class StoryLine:
    """A line of the story."""

    text: str
    bearing: Bearing
    subject: str
    """The thing that it tells of."""
    value: str
    """The state that it tells; of a link, the carrier."""


@dataclass(frozen=True, slots=True)
class Story:
    """A story with the question that it answers."""

    question: str
    right: str
    wrong: str
    subject: str
    carrier: str | None
    lines: tuple[StoryLine, ...]
    """As they stand in the source."""
    told: tuple[StoryLine, ...]
    """The same in the order of their times."""


@dataclass(frozen=True, slots=True)
class _Event:
    told: str
    bearing: Bearing
    subject: str
    value: str


def tell(
    rng: random.Random, family: Family, words: Fillings, level: Level, telling: Telling = "varied"
) -> Story:
    """A new story of `family` out of `words`."""
    return _Teller(rng, family, words, level, telling).story()


class _Teller:
    """Draws one story; everything comes from `rng`, in a fixed order."""

    def __init__(
        self,
        rng: random.Random,
        family: Family,
        words: Fillings,
        level: Level,
        telling: Telling,
    ) -> None:
        self.rng, self.family, self.words, self.level = rng, family, words, level
        self.is_plain = telling == "plain"
        self.num_right = rng.choice(level.mentions)
        self.num_wrong = rng.choice(level.mentions)
        least = max(self.num_right, self.num_wrong) - 1
        self.num_others = max(rng.randint(*level.num_others), least)
        self.values = family.values(rng, words, 2 + self.num_others + NUM_SPARE_STATES)
        self.right, self.wrong = self.values[0], self.values[1]

    def story(self) -> Story:
        rng, level = self.rng, self.level
        subjects = draw_subjects(
            rng, self.family.subjects(self.words), 1 + level.num_subjects, level.num_alike
        )
        asked, others, carrier = subjects[0], subjects[1:], None
        if self.family.links:
            carriers = draw_subjects(rng, (self.words.thing_kinds, self.words.carriers), 2, 0)
            carrier = carriers[0]
            timelines = [self._carried(asked, carrier)]
            others[-1] = carriers[1]
        else:
            timelines = [self._states(asked)]
        num_left = rng.randint(*level.num_lines) - len(timelines[0])
        timelines += self._bystanders(others, num_left)
        events = _interleaved(rng, timelines)
        mark = marked_plainly if self.is_plain else marked
        sentences = mark(rng, [event.told for event in events])
        told = [
            StoryLine(sentence, event.bearing, event.subject, event.value)
            for sentence, event in zip(sentences, events, strict=True)
        ]
        lines = rng.sample(told, len(told)) if level.shuffled else told
        questions = self.family.questions[:1] if self.is_plain else self.family.questions
        question = rng.choice(questions).format(subject=asked)
        return Story(question, self.right, self.wrong, asked, carrier, tuple(lines), tuple(told))

    def _event(self, subject: str, value: str, bearing: Bearing = Bearing.NONE) -> _Event:
        form = self.family.plain if self.is_plain else self.rng.choice(self.family.statements)
        actor = self.rng.choice(self.words.actors)
        told = form.format(actor=actor, subject=subject, value=value)
        return _Event(told, bearing, subject, value)

    def _link(self, subject: str, carrier: str, bearing: Bearing) -> _Event:
        form = self.rng.choice(self.family.links)
        actor = self.rng.choice(self.words.actors)
        told = form.format(actor=actor, subject=subject, carrier=carrier)
        return _Event(told, bearing, subject, carrier)

    def _states(self, subject: str) -> list[_Event]:
        """The changes of the thing asked for: the right answer comes last."""
        bearings = {self.right: Bearing.RIGHT, self.wrong: Bearing.WRONG}
        others = self.values[2 : 2 + self.num_others]
        earlier = [self.right] * (self.num_right - 1) + [self.wrong] * self.num_wrong + others
        values = _without_repeats(self.rng, earlier, last=self.right)
        return [self._event(subject, v, bearings.get(v, Bearing.NONE)) for v in values]

    def _carried(self, subject: str, carrier: str) -> list[_Event]:
        """The same for a thing that goes into a carrier, and may come out of it again.

        Either answer is told of the thing or of its carrier, with equal chances.
        """
        rng = self.rng
        right_inside, wrong_inside = rng.choice(((1, 1), (1, 0), (0, 1), (0, 0)))
        right = self._event(carrier if right_inside else subject, self.right, Bearing.RIGHT)
        wrong = self._event(carrier if wrong_inside else subject, self.wrong, Bearing.WRONG)
        link = self._link(subject, carrier, Bearing.LINK)
        events = [link, wrong, right] if wrong_inside else [wrong, link, right]
        for value in self.values[2 : 2 + self.num_others]:
            # Once the thing is out of its carrier, the carrier may go anywhere.
            last = len(events) - 1 if right_inside else len(events)
            events.insert(rng.randint(0, last), self._event(carrier, value))
        return events

    def _bystanders(self, subjects: Sequence[str], num_lines: int) -> list[list[_Event]]:
        """Lines on the other things: at least one line each."""
        rng = self.rng
        num_links = 1 if self.family.links else 0
        num_extra = num_lines - len(subjects) - num_links
        extra = [rng.randrange(len(subjects)) for _ in range(num_extra)]
        timelines = []
        for index, subject in enumerate(subjects):
            events: list[_Event] = []
            before = ""
            for _ in range(1 + extra.count(index)):
                before = rng.choice([value for value in self.values if value != before])
                events.append(self._event(subject, before))
            timelines.append(events)
        if num_links:
            timelines[0].append(self._link(subjects[0], subjects[-1], Bearing.NONE))
        return timelines


def _without_repeats(rng: random.Random, earlier: list[str], last: str) -> list[str]:
    """`earlier` in random order, then `last`, with no state told twice in a row."""
    while True:
        rng.shuffle(earlier)
        states = [*earlier, last]
        if all(before != after for before, after in pairwise(states)):
            return states


def _interleaved(rng: random.Random, timelines: list[list[_Event]]) -> list[_Event]:
    """All events in one order that keeps the order of each timeline."""
    turns = [index for index, timeline in enumerate(timelines) for _ in timeline]
    rng.shuffle(turns)
    remaining = [iter(timeline) for timeline in timelines]
    return [next(remaining[index]) for index in turns]


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
