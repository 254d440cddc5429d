"""Reading records back: single ones, and transcripts by the hundred."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from pydantic import ValidationError
from sqlalchemy import Connection, Exists, Select, Table, exists, func, select
from sqlalchemy.sql.elements import ColumnElement

from oversight.errors import StoreError
from oversight.store.schema import (
    RECORD_TABLES,
    debates,
    decode,
    judgments,
    key_text,
    kind_of,
    outcomes,
    questions,
    run_members,
    shown,
    sources,
    turns,
)
from oversight.types import (
    Debate,
    Judgment,
    Outcome,
    OutcomeStatus,
    Question,
    Record,
    Seat,
    Source,
    Transcript,
    Turn,
)

R = TypeVar("R", bound=Record)

TRANSCRIPTS_A_READ = 100
MAX_IDS = 500
"""Ids a query; every SQLite takes 999 variables."""

SEATS: dict[str, int] = {seat.value: place for place, seat in enumerate(Seat)}
"""Order of the seats within a step."""


def read(model: type[R], table: str, id_: str, body: str, debate: str = "") -> R:
    """The record in a row.

    Raises:
        StoreError: The row does not hold one.
    """
    with naming(table, id_, debate):
        return decode(model, body)


@contextmanager
def naming(table: str, id_: object, debate: object = "") -> Iterator[None]:
    """Turns what goes wrong with a damaged row into an error that names it.

    All code that makes results of a store stops at such a row: without it the result would differ.
    """
    try:
        yield
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        of = f" of debate {shown(debate)}" if debate and table != "debates" else ""
        raise StoreError(
            f"{table} row {shown(id_)}{of}: {reason(error)}; run `oversight store check`"
        ) from None


def reason(error: Exception) -> str:
    """The first thing that is wrong with a row, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return shown(f"{place}: {first['msg']}" if place else first["msg"])
    if isinstance(error, RecursionError):
        return "JSON that is nested too deeply"
    return shown(" ".join(str(error).split()))


def words_of(id_: str, body: str) -> tuple[str, bool]:
    """The words of a question, and whether there are options to choose from, from its row.

    Raises:
        StoreError: The row does not hold one.
    """
    with naming("questions", id_):
        held = json.loads(body)
        return str(held["text"]), bool(held["options"])


def sound_ids(table: str, ids: Iterable[Any]) -> list[str]:
    """These ids of rows.

    Raises:
        StoreError: One of them is no text.
    """
    found = list(ids)
    for id_ in found:
        if not isinstance(id_, str):
            with naming(table, id_):
                raise TypeError(f"column id holds {kind_of(id_)}, not text")
    return found


def chunks(ids: Iterable[str], size: int = MAX_IDS) -> Iterator[list[str]]:
    """`ids` in lists of at most `size`."""
    ids = list(ids)
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


class Sources:
    """Sources by id, each read once and shared for as long as somebody holds it."""

    def __init__(self) -> None:
        self._alive: WeakValueDictionary[str, Source] = WeakValueDictionary()

    def get(self, connection: Connection, ids: Iterable[str]) -> dict[str, Source]:
        """The sources of these ids; those that are not stored are left out."""
        wanted = set(ids)
        found = {id_: source for id_ in wanted if (source := self._alive.get(id_)) is not None}
        for some in chunks(sorted(wanted - found.keys())):
            query = select(sources.c.id, sources.c.body).where(sources.c.id.in_(some))
            for id_, body in connection.execute(query):
                found[id_] = self._alive[id_] = read(Source, "sources", id_, body)
        return found


def read_questions(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], shared: Sources
) -> dict[tuple[str, str], Question]:
    """Questions by (id, fingerprint), in the order in which they were written, with sources."""
    query = select(questions).where(*conditions).order_by(questions.c.seq)
    rows = connection.execute(query).all()
    # One that is no text is not stored, and says so where its question is read.
    ids = {row.source_id for row in rows if isinstance(row.source_id, str)}
    texts = shared.get(connection, ids)
    found = {}
    for row in rows:
        question = read(Question, "questions", row.id, row.body)
        if row.source_id is not None:
            if row.source_id not in texts:
                with naming("questions", row.id):
                    raise LookupError(f"source {shown(row.source_id)} is not stored")
            question = question.model_copy(update={"source": texts[row.source_id]})
        found[question.id, row.fingerprint] = question
    return found


@dataclass(frozen=True, slots=True)
class DebateFilter:
    """Filter for debates; None means all."""

    protocol: str | None = None
    dataset: str | None = None
    complete: bool | None = None
    runs: tuple[str, ...] = ()

    def ids(self) -> Select[tuple[str]]:
        """A query for their ids, in the order in which they were written."""
        query = select(debates.c.id).order_by(debates.c.seq)
        if self.protocol is not None:
            query = query.where(debates.c.protocol == key_text(self.protocol))
        if self.dataset is not None:
            query = query.join(
                questions,
                (questions.c.id == debates.c.question_id)
                & (questions.c.fingerprint == debates.c.question_fingerprint),
            ).where(questions.c.dataset == key_text(self.dataset))
        if self.runs:
            query = query.where(belongs_to(*self.runs))
        if self.complete is not None:
            done = completed_outcome()
            query = query.where(done if self.complete else ~done)
        return query


def completed_outcome() -> Exists:
    """Condition that the debate of a row of `debates` has a complete outcome."""
    return exists().where(
        outcomes.c.debate_id == debates.c.id,
        outcomes.c.status == OutcomeStatus.COMPLETE.value,
    )


def belongs_to(*runs: str) -> Exists:
    """Condition that the debate of a row of `debates`, or a judgment or rating of it, belongs to
    one of these runs."""
    return exists().where(
        run_members.c.debate_id == debates.c.id, run_members.c.run.in_(map(key_text, runs))
    )


def known(connection: Connection, debate_ids: Iterable[str]) -> set[str]:
    """Those of `debate_ids` that are stored."""
    found: set[str] = set()
    for some in chunks(set(debate_ids)):
        found.update(connection.scalars(select(debates.c.id).where(debates.c.id.in_(some))))
    return found


def completed(connection: Connection, debate_ids: Iterable[str]) -> set[str]:
    """Those of `debate_ids` that have a complete outcome."""
    found: set[str] = set()
    for some in chunks(set(debate_ids)):
        query = select(outcomes.c.debate_id).where(
            outcomes.c.debate_id.in_(some), outcomes.c.status == OutcomeStatus.COMPLETE.value
        )
        found.update(connection.scalars(query))
    return found


@dataclass(slots=True)
class _Parts:
    """Rows that belong to one debate."""

    outcome: Outcome | None = None
    judgments: list[Judgment] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)


def read_transcripts(
    connection: Connection, debate_ids: Sequence[str], shared: Sources
) -> list[Transcript]:
    """Transcripts in the order of `debate_ids`; ids that are not stored are left out."""
    rows = _of_debates(connection, debates, debate_ids, "id")
    found = {row.id: read(Debate, "debates", row.id, row.body) for row in rows}
    # The outcome first: what it completes was written before it, and so is read after it.
    parts: dict[str, _Parts] = defaultdict(_Parts)
    for row in _of_debates(connection, outcomes, debate_ids):
        _keep_outcome(parts[row.debate_id], _of(Outcome, "outcomes", row))
    for row in _of_debates(connection, judgments, debate_ids):
        parts[row.debate_id].judgments.append(_of(Judgment, "judgments", row))
    for row in _of_debates(connection, turns, debate_ids):
        parts[row.debate_id].turns.append(_of(Turn, "turns", row))
    asked = _questions_of(connection, found.values(), shared)
    return [_transcript(found[id_], asked, parts[id_]) for id_ in debate_ids if id_ in found]


def _of(model: type[R], table: str, row: Any) -> R:
    return read(model, table, row.id, row.body, row.debate_id)


def counts(connection: Connection) -> dict[str, int]:
    """Number of rows by table, and of debates that are complete."""
    numbers = {
        table.name: connection.scalar(select(func.count()).select_from(table)) or 0
        for table in RECORD_TABLES
    }
    query = select(func.count()).where(outcomes.c.status == OutcomeStatus.COMPLETE.value)
    return numbers | {"complete": connection.scalar(query) or 0}


def _of_debates(
    connection: Connection, table: Table, debate_ids: Sequence[str], key: str = "debate_id"
) -> Iterator[Any]:
    for some in chunks(debate_ids):
        query = select(table).where(table.c[key].in_(some)).order_by(table.c.seq)
        yield from connection.execute(query)


def _keep_outcome(parts: _Parts, outcome: Outcome) -> None:
    """Keep the complete one, else the latest."""
    if parts.outcome is None or parts.outcome.status is not OutcomeStatus.COMPLETE:
        parts.outcome = outcome


def _questions_of(
    connection: Connection, of: Iterable[Debate], shared: Sources
) -> dict[tuple[str, str], Question]:
    found = {}
    for some in chunks(sorted({debate.question_fingerprint for debate in of})):
        found.update(read_questions(connection, [questions.c.fingerprint.in_(some)], shared))
    return found


def _transcript(
    debate: Debate, asked: dict[tuple[str, str], Question], parts: _Parts
) -> Transcript:
    key = (debate.question_id, debate.question_fingerprint)
    if key not in asked:
        raise StoreError(
            f"debates row {debate.id}: its question {debate.question_id!r} is not stored;"
            " run `oversight store check`"
        )
    in_order = sorted(parts.turns, key=lambda t: (t.step, SEATS[t.seat], t.candidate, t.act))
    return Transcript(
        debate=debate,
        question=asked[key],
        turns=tuple(in_order),
        judgments=tuple(parts.judgments),
        outcome=parts.outcome,
    )
