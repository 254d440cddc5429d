"""Claims on debates: by the process that runs one, and by the person who judges one from the queue.

A claim is a lease. Its owner renews it while it lives; a claim whose process has
ended on this machine is taken over at once, one from elsewhere when its lease is over. So no two
run the same debate.

The queue holds debates that wait for a person's judgment. An item is a debate. It waits until as
many people have judged it as are asked for (`overlap`). A person who takes one up holds a claim on
it as a process does on a debate that it runs.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    delete,
    distinct,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from oversight.store.reading import belongs_to, completed_outcome, words_of
from oversight.store.schema import claims, debates, events, judgments, key_text, questions
from oversight.types import EventKind, JudgeKind


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told apart from a later one that was given the same number."""

    host: str
    """Scope of process numbers: the machine, its boot, and the namespace of numbers."""
    pid: int
    started: str
    """Clock ticks from boot to its start; empty where the system does not tell."""

    def is_gone(self) -> bool:
        """True if it has surely ended. Of a process elsewhere nothing is known: False."""
        if self.host != host():
            return False
        status = _status(self.pid)
        if status is None:
            return not _answers(self.pid)
        state, started = status
        # A zombie has ended and waits for its parent to notice.
        return state in "ZX" or (self.started != "" and self.started != started)


def current() -> Process:
    """This process."""
    status = _status(os.getpid())
    return Process(host=host(), pid=os.getpid(), started=status[1] if status else "")


@cache
def host() -> str:
    """The name of the place in which process numbers mean the same."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    try:
        return f"{socket.gethostname()}/{boot.read_text().strip()}/{namespace.readlink()}"
    except OSError:
        return socket.gethostname()


def _status(pid: int) -> tuple[str, str] | None:
    """State letter and start time of a process, or None where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may itself hold spaces and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], fields[19]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


LEASE_S = 90.0
RENEW_S = 25.0
"""Three renewals may fail before a lease is over."""

MAX_IDS = 400
"""Ids a statement, also where SQLite takes only 999 variables."""


class Claims:
    """The claims of one open store. All methods run inside a writing transaction."""

    def __init__(self) -> None:
        self.owner = uuid.uuid4().hex
        self.process = current()
        self.held: set[str] = set()

    def take(self, connection: Connection, debate_ids: Iterable[str]) -> set[str]:
        """Claim what is free of `debate_ids`; those that this owner holds afterwards."""
        # Sorted: two PostgreSQL transactions that lock in different orders would block each other.
        by_key = {key_text(id_): id_ for id_ in sorted(set(debate_ids))}
        mine: set[str] = set()
        for keys in _chunks(list(by_key)):
            mine |= {by_key[key] for key in self._take(connection, keys)}
        self.held |= mine
        return mine

    def drop(self, connection: Connection, debate_ids: Iterable[str]) -> None:
        """Give up the claims on `debate_ids` that this owner holds."""
        ids = set(debate_ids)
        for keys in _chunks([key_text(id_) for id_ in sorted(ids)]):
            connection.execute(
                delete(claims).where(claims.c.owner == self.owner, claims.c.debate_id.in_(keys))
            )
        self.held -= ids

    def living(self, connection: Connection, beginning: str) -> set[str]:
        """Keys of claims that begin so and whose owners live; `beginning` has no wildcards."""
        now = _now(connection)
        query = select(claims).where(claims.c.debate_id.like(f"{beginning}%"))
        return {row.debate_id for row in connection.execute(query).all() if not _is_over(row, now)}

    def renew(self, connection: Connection) -> None:
        """Make the lease of all claims of this owner start again."""
        expires_at = _now(connection) + LEASE_S
        connection.execute(
            update(claims).where(claims.c.owner == self.owner).values(expires_at=expires_at)
        )

    def _take(self, connection: Connection, keys: Sequence[str]) -> list[str]:
        now = _now(connection)
        query = select(claims).where(claims.c.debate_id.in_(keys)).order_by(claims.c.debate_id)
        taken = connection.execute(query).all()
        for row in taken:
            if row.owner != self.owner and _is_over(row, now):
                self._take_over(connection, row, now)
        free = set(keys) - {row.debate_id for row in taken}
        self._insert(connection, sorted(free), now)
        query = select(claims.c.debate_id).where(
            claims.c.debate_id.in_(keys), claims.c.owner == self.owner
        )
        return list(connection.scalars(query))

    def _take_over(self, connection: Connection, row: Row[tuple[object, ...]], now: float) -> None:
        """Take `row` unless somebody else did, or its owner came back, since it was read."""
        connection.execute(
            update(claims)
            .where(
                claims.c.debate_id == row.debate_id,
                claims.c.owner == row.owner,
                claims.c.expires_at == row.expires_at,
            )
            .values(self._values(now))
        )

    def _insert(self, connection: Connection, keys: Sequence[str], now: float) -> None:
        if not keys:
            return
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(claims).on_conflict_do_nothing()
        values = self._values(now)
        connection.execute(statement, [{"debate_id": key, **values} for key in keys])

    def _values(self, now: float) -> dict[str, object]:
        return {
            "owner": self.owner,
            "host": self.process.host,
            "pid": self.process.pid,
            "started": self.process.started,
            "expires_at": now + LEASE_S,
        }


def _is_over(row: Row[tuple[object, ...]], now: float) -> bool:
    process = Process(host=row.host, pid=row.pid, started=row.started)
    # A process that still runs on this machine keeps its claim, however long it was stopped.
    if process.host == current().host:
        return process.is_gone()
    return bool(row.expires_at < now)


def _now(connection: Connection) -> float:
    """Seconds since 1970 by the clock that all processes of the store share."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0.0)


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), MAX_IDS):
        yield keys[start : start + MAX_IDS]


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
    run: str | None = None


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
    if wanted.run is not None:
        query = query.where(belongs_to(wanted.run))
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
