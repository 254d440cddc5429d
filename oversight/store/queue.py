"""Debates that wait for a person's judgment, and who has taken it up.

An item is a debate. It waits until as many people have judged it as are asked for (`overlap`).
A person who takes one up holds a claim on it, of the kind that a process holds on a debate that it
runs: a lease that is renewed while the process lives and is free again when it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, and_, distinct, exists, func, or_, select

from oversight.store.claims import Claims
from oversight.store.reading import completed_outcome, words_of
from oversight.store.schema import debates, events, judgments, key_text, questions
from oversight.types import EventKind, JudgeKind


class ItemState(StrEnum):
    """State of a judge's work on an item."""

    WAITING = "waiting"
    """Nobody's work is on it yet."""
    BEGUN = "begun"
    """This judge began it and has not sent a judgment."""
    SKIPPED = "skipped"
    """This judge put it off."""
    DONE = "done"
    """This judge has sent a judgment; it can be revised."""


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """Filter for items; None means all."""

    dataset: str | None = None
    protocol: str | None = None
    debate_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class QueueItem:
    """One item as a queue lists it."""

    debate_id: str
    protocol: str
    dataset: str
    question_id: str
    question: str
    """Its text."""
    live: bool
    """True if the debate is still going on, and waits for its judge."""
    num_judges: int
    """Number of people who have judged it."""
    state: ItemState

    @property
    def key(self) -> str:
        """Identifier that it is known by."""
        return self.debate_id


def queue(connection: Connection, judge: str, wanted: QueueFilter, overlap: int) -> list[QueueItem]:
    """Items for `judge` in the order of writing: those that others have judged enough are left
    out, begun or not, as they could not be taken up any more. So are answers to open prompts, of
    which nothing can be judged: they are rated (`rating_queue`)."""
    name = key_text(judge)
    human = and_(judgments.c.debate_id == debates.c.id, judgments.c.kind == JudgeKind.HUMAN.value)
    num_judges = select(func.count(distinct(judgments.c.judge))).where(human).scalar_subquery()
    done = exists().where(human, judgments.c.judge == name)
    # To put something off is no work on it.
    begun = exists().where(
        events.c.debate_id == debates.c.id,
        events.c.judge == name,
        events.c.kind.not_in([EventKind.SKIPPED.value, EventKind.UNSKIPPED.value]),
    )
    complete = completed_outcome()
    query = (
        select(
            debates.c.id,
            debates.c.protocol,
            debates.c.question_id,
            questions.c.dataset,
            questions.c.body.label("question"),
            complete.label("complete"),
            num_judges.label("num_judges"),
            done.label("done"),
            begun.label("begun"),
            _last(name, EventKind.SKIPPED).label("skipped"),
            _last(name, EventKind.UNSKIPPED).label("unskipped"),
        )
        .join(
            questions,
            and_(
                questions.c.id == debates.c.question_id,
                questions.c.fingerprint == debates.c.question_fingerprint,
            ),
        )
        .where(or_(complete, debates.c.human))
        .order_by(debates.c.seq)
    )
    if wanted.dataset is not None:
        query = query.where(questions.c.dataset == key_text(wanted.dataset))
    if wanted.protocol is not None:
        query = query.where(debates.c.protocol == key_text(wanted.protocol))
    kept = None if wanted.debate_ids is None else set(wanted.debate_ids)
    listed = []
    for row in connection.execute(query):
        if (kept is None or row.id in kept) and (row.num_judges < overlap or row.done):
            words, has_options = words_of(row.question_id, row.question)
            if has_options:
                listed.append(_item(row, words))
    return listed


def _last(judge: str, kind: EventKind) -> Any:
    """Number in the log of the judge's last such act on the item; 0 if there is none."""
    return (
        select(func.coalesce(func.max(events.c.seq), 0))
        .where(
            events.c.debate_id == debates.c.id,
            events.c.judge == judge,
            events.c.kind == kind.value,
        )
        .scalar_subquery()
    )


def _item(row: Any, question: str) -> QueueItem:
    if row.done:
        state = ItemState.DONE
    elif row.skipped > row.unskipped:
        state = ItemState.SKIPPED
    else:
        state = ItemState.BEGUN if row.begun else ItemState.WAITING
    return QueueItem(
        debate_id=row.id,
        protocol=row.protocol,
        dataset=row.dataset,
        question_id=row.question_id,
        question=question,
        live=not row.complete,
        num_judges=row.num_judges,
        state=state,
    )


class ClaimResult(StrEnum):
    """Outcome of an attempt to take up an item."""

    OURS = "ours"
    ENOUGH = "enough"
    """As many as are asked for have judged it or are at it."""
    ELSEWHERE = "elsewhere"
    """The same judge has it open in another window."""


def take(
    connection: Connection, claims: Claims, debate_id: str, judge: str, overlap: int
) -> ClaimResult:
    """Claim an item for a judge, inside a writing transaction."""
    done = select(judgments.c.judge).where(
        judgments.c.debate_id == debate_id, judgments.c.kind == JudgeKind.HUMAN.value
    )
    key = partial(claim_key, debate_id)
    return take_item(connection, claims, debate_id, done, key, judge, overlap)


def take_item(
    connection: Connection,
    claims: Claims,
    debate_id: str,
    done_by: Select[Any],
    key: Callable[[str], str],
    judge: str,
    overlap: int,
) -> ClaimResult:
    """Claim what `overlap` people are to judge or rate, inside a writing transaction.

    Args:
        connection: In a writing transaction.
        claims: Of this process.
        debate_id: The debate that it is of.
        done_by: Selects who has done it.
        key: From a person to the name of their claim on it; from "" to how all of them begin.
        judge: The person who is to have it.
        overlap: How many people are to do it.
    """
    if connection.dialect.name != "sqlite":
        # SQLite has one writer at a time; here others wait until this transaction is over.
        row = select(debates.c.seq).where(debates.c.id == debate_id).with_for_update()
        connection.execute(row)
    name, done = key_text(judge), set(connection.scalars(done_by.distinct()))
    if name not in done:
        at_it = claims.living(connection, key(""))
        others = at_it - {key(each) for each in (name, *done)}
        if len(done) + len(others) >= overlap:
            return ClaimResult.ENOUGH
    return ClaimResult.OURS if claims.take(connection, [key(judge)]) else ClaimResult.ELSEWHERE


def claim_key(debate_id: str, judge: str) -> str:
    """The name of a judge's claim on an item; without a judge, how all of them begin."""
    return f"judging:{debate_id}:{judge}"


def event_bodies(
    connection: Connection, debate_id: str | None, judge: str, kinds: Iterable[EventKind] = ()
) -> list[tuple[str, str]]:
    """(id, JSON text) of a judge's events in the order of writing, of one item or of all."""
    query = select(events.c.id, events.c.body).where(events.c.judge == key_text(judge))
    if debate_id is not None:
        query = query.where(events.c.debate_id == debate_id)
    wanted = [kind.value for kind in kinds]
    if wanted:
        query = query.where(events.c.kind.in_(wanted))
    return [(row.id, row.body) for row in connection.execute(query.order_by(events.c.seq))]
