"""The question families of the generated world: what changes, how it is told and asked.

Every statement of a family can be any of a subject's states, the first as well as the last: no
wording hints at its place in time. Adding a family is adding an entry to `FAMILIES`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from oversight.datasets.world.names import Fillings

PairedWords = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of changing fact."""

    name: str
    subjects: Callable[[Fillings], PairedWords]
    """Words from which subjects are put together: first words, and what follows them."""
    values: Callable[[random.Random, Fillings, int], list[str]]
    """Draws so many different states. Their order carries no information."""
    statements: tuple[str, ...]
    """Forms of `{subject} now has the state {value}`; some name an `{actor}`."""
    questions: tuple[str, ...]
    links: tuple[str, ...] = ()
    """Forms of `{subject} now goes wherever {carrier} goes`; only of the family `container`."""
    min_difficulty: int = 1
    plain: str = ""
    """The statement that a plain telling uses: the subject comes first, the state last. Without
    one the family is not told plainly."""


def _places(rng: random.Random, words: Fillings, num: int) -> list[str]:
    return [f"{rng.choice(words.room_kinds)} {room}" for room in rng.sample(words.rooms, num)]


def _people(rng: random.Random, words: Fillings, num: int) -> list[str]:
    return rng.sample(words.people, num)


def _prices(rng: random.Random, words: Fillings, num: int) -> list[str]:
    return [f"${number}" for number in _numbers(rng, words, num)]


def _amounts(rng: random.Random, words: Fillings, num: int) -> list[str]:
    unit = rng.choice(words.units)
    return [f"{number} {unit}" for number in _numbers(rng, words, num)]


def _numbers(rng: random.Random, words: Fillings, num: int) -> list[int]:
    """Three digits each: none is part of another, and none looks like a time mark."""
    return rng.sample(range(100 + words.parity, 1000, 2), num)


def _dates(rng: random.Random, words: Fillings, num: int) -> list[str]:
    days = rng.sample(range(10 + words.parity, 29, 2), num)
    return [f"{day} {rng.choice(words.months)}" for day in days]


def _statuses(rng: random.Random, words: Fillings, num: int) -> list[str]:
    return rng.sample(words.statuses, num)


PLACINGS = (
    "{actor} put the {subject} in the {value}",
    "{actor} carried the {subject} to the {value}",
    "{actor} set the {subject} down in the {value}",
    "{actor} left the {subject} in the {value}",
    "the {subject} was brought to the {value}",
    "the {subject} was placed in the {value}",
    "the {subject} arrived in the {value}",
    "{actor} saw the {subject} in the {value}",
)
PLAIN_PLACING = "the {subject} was brought to the {value}"
WHERE = (
    "Where is the {subject} now?",
    "In which room is the {subject} at the end?",
    "Where would you find the {subject} after all this?",
    "Which room holds the {subject} in the end?",
)

FAMILIES: tuple[Family, ...] = (
    Family(
        name="location",
        subjects=lambda words: (words.thing_kinds, words.things),
        values=_places,
        statements=PLACINGS,
        plain=PLAIN_PLACING,
        questions=WHERE,
    ),
    Family(
        name="possession",
        subjects=lambda words: (words.thing_kinds, words.things),
        values=_people,
        statements=(
            "{actor} gave the {subject} to {value}",
            "{actor} handed the {subject} over to {value}",
            "{actor} signed the {subject} over to {value}",
            "{value} received the {subject}",
            "{value} took charge of the {subject}",
            "{value} collected the {subject}",
            "the {subject} passed to {value}",
            "the {subject} came into the hands of {value}",
        ),
        plain="the {subject} passed to {value}",
        questions=(
            "Who has the {subject} now?",
            "Who holds the {subject} at the end?",
            "In whose hands is the {subject} after all this?",
            "Who is the keeper of the {subject} in the end?",
        ),
    ),
    Family(
        name="price",
        subjects=lambda words: (words.thing_kinds, words.things),
        values=_prices,
        statements=(
            "{actor} set the price of the {subject} at {value}",
            "{actor} wrote {value} on the tag of the {subject}",
            "{actor} offered the {subject} for {value}",
            "{actor} marked the {subject} at {value}",
            "a notice priced the {subject} at {value}",
            "the list gave {value} for the {subject}",
            "the {subject} was on sale at {value}",
            "{value} was the price asked for the {subject}",
        ),
        questions=(
            "What does the {subject} cost now?",
            "What is the price of the {subject} at the end?",
            "At what price does the {subject} stand after all this?",
            "How much is asked for the {subject} in the end?",
        ),
    ),
    Family(
        name="count",
        subjects=lambda words: (words.crop_kinds, words.crops),
        values=_amounts,
        statements=(
            "{actor} counted {value} of {subject}",
            "{actor} reported {value} of {subject} in store",
            "{actor} wrote down {value} of {subject}",
            "{actor} put the stock of {subject} at {value}",
            "the tally of {subject} stood at {value}",
            "a count found {value} of {subject}",
            "the stock book showed {value} of {subject}",
            "there were {value} of {subject} on the shelves",
        ),
        questions=(
            "How much {subject} is in store now?",
            "What is the stock of {subject} at the end?",
            "How much {subject} is there after all this?",
            "What does the stock of {subject} come to in the end?",
        ),
    ),
    Family(
        name="schedule",
        subjects=lambda words: (words.gathering_kinds, words.gatherings),
        values=_dates,
        statements=(
            "{actor} set the {subject} for {value}",
            "{actor} announced {value} for the {subject}",
            "{actor} booked the hall for the {subject} on {value}",
            "{actor} entered the {subject} under {value}",
            "a notice named {value} as the date of the {subject}",
            "the {subject} was put down for {value}",
            "the {subject} was fixed for {value}",
            "{value} was chosen for the {subject}",
        ),
        plain="the {subject} was put down for {value}",
        questions=(
            "On which date is the {subject} to be held?",
            "For when is the {subject} planned at the end?",
            "What date does the {subject} have after all this?",
            "When will the {subject} take place in the end?",
        ),
    ),
    Family(
        name="rule",
        subjects=lambda words: (words.activities, words.sites),
        values=_statuses,
        statements=(
            "{actor} declared {subject} {value}",
            "{actor} posted a sign that {subject} was {value}",
            "{actor} ruled that {subject} was {value}",
            "{actor} signed an order that made {subject} {value}",
            "an order made {subject} {value}",
            "a bylaw said that {subject} was {value}",
            "a decision made {subject} {value}",
            "the rule was that {subject} was {value}",
        ),
        plain="the rule was that {subject} was {value}",
        questions=(
            "What does the rule say about {subject} now?",
            "What holds for {subject} at the end?",
            "How does the rule on {subject} stand after all this?",
            "What is the rule on {subject} in the end?",
        ),
    ),
    Family(
        name="ranking",
        subjects=lambda words: (words.contest_kinds, words.contests),
        values=_people,
        statements=(
            "{value} took the lead in the {subject}",
            "{value} went ahead in the {subject}",
            "{value} stood first in the {subject}",
            "{actor} announced {value} as the leader of the {subject}",
            "{actor} wrote {value} at the head of the {subject} table",
            "the {subject} was led by {value}",
            "the board showed {value} on top in the {subject}",
            "first place in the {subject} was with {value}",
        ),
        plain="the {subject} was led by {value}",
        questions=(
            "Who leads the {subject} now?",
            "Who is first in the {subject} at the end?",
            "Who is ahead in the {subject} after all this?",
            "Who tops the {subject} in the end?",
        ),
    ),
    Family(
        name="container",
        subjects=lambda words: (words.thing_kinds, words.things),
        values=_places,
        statements=PLACINGS,
        plain=PLAIN_PLACING,
        questions=WHERE,
        links=(
            "{actor} put the {subject} inside the {carrier}",
            "{actor} locked the {subject} in the {carrier}",
            "{actor} hid the {subject} in the {carrier}",
            "the {subject} was packed into the {carrier}",
        ),
        min_difficulty=3,
    ),
)

NAMES: tuple[str, ...] = tuple(family.name for family in FAMILIES)


def offered(difficulty: int, *, plain: bool = False) -> tuple[Family, ...]:
    """The families that a difficulty has, told in many ways or plainly."""
    return tuple(
        family
        for family in FAMILIES
        if family.min_difficulty <= difficulty and (family.plain or not plain)
    )


def draw_subjects(rng: random.Random, words: PairedWords, num: int, num_alike: int) -> list[str]:
    """Different subjects; the first `num_alike` differ in their first word only."""
    firsts, seconds = words
    shared = rng.choice(seconds)
    return [
        f"{first} {shared if index < num_alike else rng.choice(seconds)}"
        for index, first in enumerate(rng.sample(firsts, num))
    ]
