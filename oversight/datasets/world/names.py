"""The words that the generated world is filled with: one set for each split, none shared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fillings:
    """Words of one split. No entry is part of another entry of the same split."""

    houses: tuple[str, ...]
    """Where a log is kept; stands in titles."""
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
