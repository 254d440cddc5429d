"""Questions to people about single turns of finished debates, and who has taken them up.

An item is one or more turns of a debate that is complete: two candidates of one speaker who
answered the same prompt, any speech, or a criticism between a speech and its revision. It waits,
is claimed and is had enough of as in `queue`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, groupby
from typing import Any

from sqlalchemy import Connection, and_, distinct, func, select

from oversight.ids import seed_from
from oversight.store.claims import ClaimResult, Claims, ItemState, take_item
from oversight.store.reading import (
    belongs_to,
    chunks,
    completed_outcome,
    naming,
    read,
    sound_ids,
    words_of,
)
from oversight.store.schema import debates, key_text, questions, rating_events, ratings, turns
from oversight.types import (
    Act,
    Feedback,
    JudgeKind,
    Purpose,
    RatingAct,
    RatingEvent,
    Role,
    Seat,
    Task,
    Transcript,
    Turn,
)
from oversight.types.ratings import GUARDED, item_id

SPOKEN = tuple(act.value for act in Act if act.is_spoken)


@dataclass(frozen=True, slots=True)
class RatingFilter:
    """Filter for items."""

    task: Task | str
    """A task of the package, or the name of one from outside."""
    constitution: str = ""
    """By which principles; of that task only."""
    dataset: str | None = None
    protocol: str | None = None
    all_pairs: bool = False
    """Every pair of candidates, but each two texts once; else one pair of each turn, which the seed
    draws."""
    seed: int = 0
    turns: Task | None = None
    """Ask about the same turns as this task; of a task from outside the package."""
    run: str | None = None
    flagged: bool = False
    """Ask about what a guard sent in the calls on which a check of it acted, and nothing else."""


@dataclass(frozen=True, slots=True)
class RatingItem:
    """One thing to be rated, as a queue lists it."""

    key: str
    task: Task | str
    debate_id: str
    turn_ids: tuple[str, ...]
    """Candidates by their number; of a revision: the speech, the criticism, the revised speech."""
    step: int
    """Of the last of these turns."""
    seat: Seat
    """Seat whose speech it is."""
    protocol: str
    dataset: str
    question: str
    """Its text."""
    is_open: bool = False
    """An open prompt, whose responder and critic defend nothing."""
    note: str = ""
    """Of a flagged call: what the checks found, and what each did."""
    num_judges: int = 0
    """Number of people who have rated it; models are not counted."""
    state: ItemState = ItemState.WAITING


def items(
    connection: Connection, judge: str, wanted: RatingFilter, overlap: int
) -> list[RatingItem]:
    """Items for `judge` in the order of writing: those that others have rated enough are left
    out, unless this judge has worked on them."""
    found = list(_items(connection, wanted))
    num_judges = _num_judges(connection, wanted.task)
    states = _states(connection, judge, wanted.task)
    listed = []
    for item in found:
        state = states.get(item.key, ItemState.WAITING)
        number = num_judges.get(item.key, 0)
        if number < overlap or state in (ItemState.DONE, ItemState.BEGUN):
            listed.append(replace(item, state=state, num_judges=number))
    return listed


def every_item(connection: Connection, wanted: RatingFilter) -> list[RatingItem]:
    """All items there are to rate, rated or not, in the order of writing."""
    return list(_items(connection, wanted))


def known_ratings(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Those of `ids` that are stored."""
    found: set[str] = set()
    for some in chunks(set(ids)):
        found.update(connection.scalars(select(ratings.c.id).where(ratings.c.id.in_(some))))
    return found


def _items(connection: Connection, wanted: RatingFilter) -> Iterator[RatingItem]:
    if wanted.flagged:
        yield from _flagged(connection, wanted)
        return
    about = _debates(connection, wanted)
    turns_of = {
        Task.PAIRS: _candidate_pairs,
        Task.PRINCIPLES: _speeches,
        Task.REVISIONS: _revisions,
    }[Task(wanted.turns or wanted.task)]
    for some in chunks(about):
        by_debate: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for group in turns_of(connection, some, wanted):
            by_debate[group[0].debate_id].append(group)
        for debate_id in some:
            for group in by_debate[debate_id]:
                with naming("turns", group[0].id, debate_id):
                    item = _item(wanted, debate_id, group, about[debate_id])
                yield item


def _item(
    wanted: RatingFilter, debate_id: str, group: tuple[Any, ...], about: tuple[str, str, str, bool]
) -> RatingItem:
    ids = tuple(sound_ids("turns", (row.id for row in group)))
    return RatingItem(
        item_id(wanted.task, ids, wanted.constitution),
        wanted.task,
        debate_id,
        ids,
        max(row.step for row in group),
        Seat(group[0].seat),
        *about,
    )


def _debates(connection: Connection, wanted: RatingFilter) -> dict[str, tuple[str, str, str, bool]]:
    """(protocol, data set, question, whether that is an open prompt) of every complete debate, in
    the order of writing."""
    same_question = and_(
        questions.c.id == debates.c.question_id,
        questions.c.fingerprint == debates.c.question_fingerprint,
    )
    query = (
        select(
            debates.c.id,
            debates.c.protocol,
            debates.c.question_id,
            questions.c.dataset,
            questions.c.body,
        )
        .join(questions, same_question)
        .where(completed_outcome())
        .order_by(debates.c.seq)
    )
    if wanted.dataset is not None:
        query = query.where(questions.c.dataset == key_text(wanted.dataset))
    if wanted.protocol is not None:
        query = query.where(debates.c.protocol == key_text(wanted.protocol))
    if wanted.run is not None:
        query = query.where(belongs_to(wanted.run))
    about = {}
    for row in connection.execute(query):
        words, has_options = words_of(row.question_id, row.body)
        about[row.id] = (row.protocol, row.dataset, words, not has_options)
    return about


def _flagged(connection: Connection, wanted: RatingFilter) -> Iterator[RatingItem]:
    """The last words of each call of a guard on which a check acted."""
    about = _debates(connection, replace(wanted, dataset=wanted.dataset or GUARDED))
    columns = (turns.c.id, turns.c.debate_id, turns.c.step, turns.c.seat, turns.c.body)
    for some in chunks(about):
        query = _turns(some, *columns)
        groups = groupby(connection.execute(query), key=lambda row: row.debate_id)
        by_debate = {id_: list(rows) for id_, rows in groups}
        for debate_id in some:
            rows = by_debate.get(debate_id, [])
            read_ = [read(Turn, "turns", row.id, row.body, debate_id) for row in rows]
            acted = [line for turn in read_ for line in acts_of_checks(turn)]
            said = [r for r, t in zip(rows, read_, strict=True) if t.role is Role.RESPONDER]
            if acted and said:
                item = _item(wanted, debate_id, (said[-1],), about[debate_id])
                yield replace(item, note="; ".join(acted))


def acts_of_checks(turn: Turn) -> list[str]:
    """The finds and acts of a guard's checks in a call, as the private part of a turn tells it."""
    try:
        found = json.loads(turn.reasoning) if turn.reasoning else []
    except ValueError:
        return []
    if not isinstance(found, list):
        return []
    return [
        f"{each.get('check')}: {each.get('what')} ({each['action']})"
        for each in found
        if isinstance(each, dict) and each.get("action") not in (None, "allow", "log")
    ]


def _speeches(
    connection: Connection, debate_ids: Sequence[str], _: RatingFilter
) -> Iterator[tuple[Any, ...]]:
    query = _turns(debate_ids, turns.c.id, turns.c.debate_id, turns.c.step, turns.c.seat)
    yield from ((row,) for row in connection.execute(query))


def _revisions(
    connection: Connection, debate_ids: Sequence[str], _: RatingFilter
) -> Iterator[tuple[Any, ...]]:
    """Every criticism, with the speech before it and the revision after it."""
    columns = (turns.c.id, turns.c.debate_id, turns.c.step, turns.c.seat, turns.c.act)
    query = _turns(debate_ids, *columns).where(turns.c.chosen)
    for _id, rows in groupby(connection.execute(query), key=lambda row: row.debate_id):
        speech = criticism = None
        for row in rows:
            if row.act == Act.CRITIQUE:
                criticism = row
            elif row.act == Act.REVISE and speech is not None and criticism is not None:
                yield speech, criticism, row
            if row.act != Act.CRITIQUE:
                speech, criticism = row, None


def _candidate_pairs(
    connection: Connection, debate_ids: Sequence[str], wanted: RatingFilter
) -> Iterator[tuple[Any, ...]]:
    """Pairs of candidates whose words differ and that answered the same prompt."""
    several = (
        select(turns.c.debate_id, turns.c.step, turns.c.seat)
        .where(turns.c.debate_id.in_(debate_ids), turns.c.candidate > 0)
        .distinct()
        .subquery()
    )
    same_place = and_(
        turns.c.debate_id == several.c.debate_id,
        turns.c.step == several.c.step,
        turns.c.seat == several.c.seat,
    )
    query = _turns(debate_ids, turns).join(several, same_place)
    rows = connection.execute(query)
    for place, group in groupby(rows, key=lambda row: (row.debate_id, row.step, row.seat)):
        read_ = [(row, read(Turn, "turns", row.id, row.body, row.debate_id)) for row in group]
        pairs = [
            (one, other)
            for (one, first), (other, second) in combinations(read_, 2)
            if _is_comparable(first, second)
        ]
        if wanted.all_pairs or len(pairs) < 2:
            # Answers said again would be asked about again, and each would count as a pair more.
            texts = {row.id: turn.text for row, turn in read_}
            each_once: dict[frozenset[str], tuple[Any, Any]] = {}
            for one, other in pairs:
                each_once.setdefault(frozenset((texts[one.id], texts[other.id])), (one, other))
            yield from each_once.values()
        else:
            yield pairs[seed_from("pair", wanted.seed, *place) % len(pairs)]


def _is_comparable(one: Turn, other: Turn) -> bool:
    prompts = [
        [s.prompt_id for s in turn.samples if s.purpose is Purpose.SPEECH] for turn in (one, other)
    ]
    return bool(one.text.strip() and other.text.strip()) and (
        one.text != other.text and prompts[0] == prompts[1]
    )


def _turns(debate_ids: Sequence[str], *columns: Any) -> Any:
    """Speeches, in the order in which they are read."""
    place = (turns.c.debate_id, turns.c.step, turns.c.seat, turns.c.candidate)
    query = select(*columns).where(turns.c.debate_id.in_(debate_ids), turns.c.act.in_(SPOKEN))
    return query.order_by(*place)


def _num_judges(connection: Connection, task: str) -> dict[str, int]:
    query = (
        select(ratings.c.item, func.count(distinct(ratings.c.judge)).label("number"))
        .where(ratings.c.task == str(task), ratings.c.kind == JudgeKind.HUMAN.value)
        .group_by(ratings.c.item)
    )
    return {row.item: row.number for row in connection.execute(query)}


def _states(connection: Connection, judge: str, task: str) -> dict[str, ItemState]:
    """State of the judge's work on each item they have touched."""
    last = func.max(rating_events.c.seq).label("last")
    query = (
        select(rating_events.c.item, rating_events.c.kind, last)
        .where(rating_events.c.judge == key_text(judge))
        .group_by(rating_events.c.item, rating_events.c.kind)
    )
    by_item: dict[str, dict[str, int]] = defaultdict(dict)
    for row in connection.execute(query):
        by_item[row.item][row.kind] = row.last
    states = {item: _state(last_of) for item, last_of in by_item.items()}
    done = select(ratings.c.item).where(
        ratings.c.judge == key_text(judge),
        ratings.c.task == str(task),
        ratings.c.kind == JudgeKind.HUMAN.value,
    )
    return states | dict.fromkeys(connection.scalars(done), ItemState.DONE)


def _state(last_of: dict[str, int]) -> ItemState:
    skipped = last_of.pop(RatingAct.SKIPPED.value, 0)
    if skipped > last_of.pop(RatingAct.UNSKIPPED.value, 0):
        return ItemState.SKIPPED
    # To put something off is no work on it.
    return ItemState.BEGUN if last_of else ItemState.WAITING


def take(
    connection: Connection, claims: Claims, item: RatingItem, judge: str, overlap: int
) -> ClaimResult:
    """Claim an item for a judge, inside a writing transaction."""
    done = select(ratings.c.judge).where(
        ratings.c.item == item.key, ratings.c.kind == JudgeKind.HUMAN.value
    )
    key = partial(claim_key, item.key)
    return take_item(connection, claims, item.debate_id, done, key, judge, overlap)


def claim_key(item: str, judge: str) -> str:
    """The name of a judge's claim on an item; without a judge, how all of them begin."""
    return f"rating:{item}:{judge}"


def read_events(connection: Connection, item: str, judge: str) -> list[RatingEvent]:
    """A judge's acts at one item, in the order of writing."""
    query = (
        select(rating_events.c.id, rating_events.c.body)
        .where(rating_events.c.item == item, rating_events.c.judge == key_text(judge))
        .order_by(rating_events.c.seq)
    )
    return [read(RatingEvent, "rating_events", r.id, r.body) for r in connection.execute(query)]


def with_ratings(connection: Connection, transcripts: Iterable[Transcript]) -> list[Transcript]:
    """The transcripts with what was said of their turns, in the order of writing."""
    whole = list(transcripts)
    found: dict[str, list[Feedback]] = defaultdict(list)
    for some in chunks(each.debate.id for each in whole):
        query = select(ratings.c.id, ratings.c.debate_id, ratings.c.body)
        query = query.where(ratings.c.debate_id.in_(some)).order_by(ratings.c.seq)
        for row in connection.execute(query):
            found[row.debate_id].append(read(Feedback, "ratings", row.id, row.body, row.debate_id))
    return [
        replace(each, ratings=tuple(found[each.debate.id])) if each.debate.id in found else each
        for each in whole
    ]
