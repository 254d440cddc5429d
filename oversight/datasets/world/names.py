"""Words and sentences of the generated world: names of each split, none shared, and the families
of statements and questions that they fill."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fillings:
    """Words of one split. No entry is part of another entry of the same split."""

    houses: tuple[str, ...]
    """Houses in which a log is kept; they stand in titles."""
    actors: tuple[str, ...]
    """People who do things without being an answer."""
    people: tuple[str, ...]
    thing_kinds: tuple[str, ...]
    things: tuple[str, ...]
    carriers: tuple[str, ...]
    """Things that hold other things."""
    room_kinds: tuple[str, ...]
    rooms: tuple[str, ...]
    contest_kinds: tuple[str, ...]
    contests: tuple[str, ...]
    gathering_kinds: tuple[str, ...]
    gatherings: tuple[str, ...]
    activities: tuple[str, ...]
    sites: tuple[str, ...]
    statuses: tuple[str, ...]
    """Rules that can hold for an activity."""
    crop_kinds: tuple[str, ...]
    crops: tuple[str, ...]
    units: tuple[str, ...]
    months: tuple[str, ...]
    parity: int
    """Numbers and days of the month leave this remainder when divided by two."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in text.split(","))


TRAIN = Fillings(
    houses=_words("Harrow Linden Marsh Quarry Saltmere Thorn Wexley Aldgate Brook Copse Dunmore"),
    actors=_phrases(
        "the porter, the clerk, the janitor, the warden, the caretaker, the bursar, the foreman,"
        "the secretary, the watchman, the apprentice, the usher, the quartermaster"
    ),
    people=_words(
        "Agnes Boris Clara Dmitri Edith Farid Greta Hamid Ingrid Jonas Katya Lionel Miriam Nadia"
        " Oscar Petra Quentin Rosa Selim Tamara Ulrich Vera Walter Xenia Yusuf Zelda Anselm Beatrix"
        " Conrad Dolores Emil Flora Gustav Hedwig Ivo Joyce Kaspar Lucinda Magnus Noemi"
    ),
    thing_kinds=_words(
        "brass crimson oaken striped dented ivory spotted plain engraved woollen amber rusty"
        " lacquered folded painted silver"
    ),
    things=_words(
        "lamp kettle violin ledger compass clock mirror saddle telescope candlestick map drum"
        " teapot umbrella globe typewriter anvil lantern portrait quilt"
    ),
    carriers=_words("crate trunk basket satchel barrow hamper"),
    room_kinds=_words("north upper vaulted tiled narrow whitewashed panelled lower draughty sunny"),
    rooms=_words(
        "cellar attic pantry library workshop stable kitchen chapel gallery laundry scullery loft"
        " conservatory armoury"
    ),
    contest_kinds=_words("spring harbour junior county masked twilight charity winter"),
    contests=_words("regatta tournament marathon quiz rally derby triathlon"),
    gathering_kinds=_words("annual guild parish founders' farewell members' jubilee village"),
    gatherings=_words("banquet auction concert inspection hearing lecture bazaar"),
    activities=_words("fishing skating camping busking rowing juggling picnicking kite-flying"),
    sites=_phrases(
        "at the stone pier, on the mill pond, behind the old tannery, by the east gate,"
        "along the towpath, in the walled orchard"
    ),
    statuses=_phrases(
        "open to all, barred, for subscribers only, for children only, confined to daylight,"
        "subject to a fee, suspended until harvest, for residents alone"
    ),
    crop_kinds=_words("red coarse sweet dried foreign smoked sifted pale"),
    crops=_words("barley rye lentils hops flax beans millet"),
    units=_words("sacks crocks bales casks"),
    months=_words("January March May July September November"),
    parity=0,
)

HELD_OUT = Fillings(
    houses=_words("Birchley Carrow Eastmoor Fenwick Glenholm Hollin Ivybridge Kestrel Norcott"),
    actors=_phrases(
        "the steward, the registrar, the gardener, the housekeeper, the sergeant, the curator,"
        "the overseer, the treasurer, the messenger, the cook, the groom, the archivist"
    ),
    people=_words(
        "Abel Bronwyn Cyrus Daphne Elias Freya Gideon Hana Isidor Judith Kenji Leonora Mateo"
        " Ophelia Pascal Ramona Silas Thea Uma Viktor Wanda Yolanda Zoltan Astrid Bernard Celeste"
        " Duncan Esther Felix Gloria Hugo Irma Jasper Kirsten Ludwig Mabel Nestor Odette Percy"
        " Renata"
    ),
    thing_kinds=_words(
        "copper purple wicker chequered cracked jade mottled gilded carved velvet bronze tarnished"
        " varnished quilted enamel pewter"
    ),
    things=_words(
        "vase sextant cello almanac barometer chessboard tapestry harness microscope goblet atlas"
        " bugle samovar parasol sundial gramophone bellows torch sculpture blanket"
    ),
    carriers=_words("suitcase chest wagon rucksack cupboard pouch"),
    room_kinds=_words("south outer domed marble crooked timbered rear mossy shuttered heated"),
    rooms=_words(
        "barn study vestry ballroom boathouse greenhouse nursery parlour bakehouse observatory"
        " dairy foundry cloister tower"
    ),
    contest_kinds=_words("autumn river senior national blindfold midnight schools' summer"),
    contests=_words("steeplechase championship relay pageant sprint league decathlon"),
    gathering_kinds=_words("monthly union college veterans' midsummer tenants' centenary town"),
    gatherings=_words("dinner ballot recital audit trial sermon fair"),
    activities=_words("swimming cycling singing bathing sledging archery sketching bird-watching"),
    sites=_phrases(
        "near the iron bridge, on Heron Lake, beside the brickyard, under the west arch,"
        "across the common, inside the ruined abbey"
    ),
    statuses=_phrases(
        "free to everyone, forbidden, reserved for staff, reserved for pensioners,"
        "restricted to weekends, allowed with a permit, halted for repairs, limited to an hour"
    ),
    crop_kinds=_words("black fine tender pickled local salted roasted golden"),
    crops=_words("wheat oats chickpeas malt hemp peas maize"),
    units=_words("barrels jars bundles tubs"),
    months=_words("February April June August October December"),
    parity=1,
)

FILLINGS: dict[str, Fillings] = {"train": TRAIN, "held_out": HELD_OUT}


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
