"""Reading records back: single ones, transcripts by the hundred, and what is new for an index.

Rows get growing numbers (`seq`) as they are written, so what was written since an index was last
brought up to date is what stands above the numbers that it has seen.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from pydantic import ValidationError
from sqlalchemy import Connection, Exists, Select, Table, exists, func, select, union_all
from sqlalchemy.sql.elements import ColumnElement

from oversight.errors import StoreError
from oversight.store.schema import (
    RECORD_TABLES,
    debates,
    decode,
    events,
    judgments,
    key_text,
    kind_of,
    outcomes,
    questions,
    rating_events,
    ratings,
    run_members,
    shown,
    sources,
    turns,
)
from oversight.types import (
    Debate,
    Feedback,
    JudgingEvent,
    Judgment,
    Outcome,
    OutcomeStatus,
    Question,
    RatingEvent,
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


WATCHED = (debates, turns, judgments, outcomes, ratings, run_members)
"""Tables whose new rows change what is known of a debate."""

Marks = Mapping[str, int]
"""By table, the highest number of a row that was seen."""


@dataclass(frozen=True, slots=True)
class DebateRows:
    """All rows of one debate that an index is made of."""

    seq: int
    """Number of the debate's own row."""
    debate: Debate
    question: Question
    """Without its source."""
    turns: tuple[dict[str, Any], ...]
    """As JSON-plain values, in the order of writing: an index reads few of their fields."""
    judgments: tuple[Judgment, ...]
    outcome: Outcome | None
    """The complete one if there is one, else the latest."""
    ratings: tuple[Feedback, ...]
    runs: tuple[str, ...] = ()
    """Names of the runs that it, or a judgment or rating of it, belongs to."""


def marks(connection: Connection) -> dict[str, int]:
    """The highest row number of each watched table now, 0 of an empty one."""
    return {table.name: connection.scalar(select(func.max(table.c.seq))) or 0 for table in WATCHED}


def changes(connection: Connection, since: Marks, limit: int) -> tuple[list[str], dict[str, int]]:
    """Ids of debates with rows above `since`, and the marks after these.

    Args:
        connection: For reading.
        since: What has been seen.
        limit: Rows of each table at most; what is above comes with the next call.
    """
    ids: dict[str, None] = {}
    after = dict(since)
    for table in WATCHED:
        column = table.c.id if table is debates else table.c.debate_id
        query = select(table.c.seq, column).where(table.c.seq > since.get(table.name, 0))
        for seq, id_ in connection.execute(query.order_by(table.c.seq).limit(limit)):
            ids[str(id_)] = None
            after[table.name] = seq
    return list(ids), after


def older(connection: Connection, before: int, limit: int) -> list[str]:
    """Ids of the debates written last among those below a row number."""
    query = select(debates.c.id).where(debates.c.seq < before).order_by(debates.c.seq.desc())
    return [str(id_) for id_ in connection.scalars(query.limit(limit))]


def number_of(connection: Connection, debate_id: str) -> int | None:
    """The row number of a debate; None if it is not stored."""
    return connection.scalar(select(debates.c.seq).where(debates.c.id == key_text(debate_id)))


def count_below(connection: Connection, before: int) -> int:
    """Number of debates below a row number."""
    query = select(func.count()).select_from(debates).where(debates.c.seq < before)
    return connection.scalar(query) or 0


def read_rows(connection: Connection, debate_ids: Sequence[str]) -> list[DebateRows]:
    """The rows of these debates, those that are stored, in the order of their row numbers."""
    found: list[DebateRows] = []
    for some in chunks(debate_ids):
        rows = connection.execute(
            select(debates).where(debates.c.id.in_(some)).order_by(debates.c.seq)
        ).all()
        asked = _questions(connection, {row.question_fingerprint for row in rows})
        outcome: dict[str, Outcome] = {}
        for row in _rows_of(connection, outcomes, some):
            one = read(Outcome, "outcomes", row.id, row.body, row.debate_id)
            if (held := outcome.get(row.debate_id)) is None or (
                held.status is not OutcomeStatus.COMPLETE
            ):
                outcome[row.debate_id] = one
        given = defaultdict(list)
        for row in _rows_of(connection, judgments, some):
            given[row.debate_id].append(
                read(Judgment, "judgments", row.id, row.body, row.debate_id)
            )
        rated = defaultdict(list)
        for row in _rows_of(connection, ratings, some):
            rated[row.debate_id].append(read(Feedback, "ratings", row.id, row.body, row.debate_id))
        said = defaultdict(list)
        for row in _rows_of(connection, turns, some):
            with naming("turns", row.id, row.debate_id):
                said[row.debate_id].append({**json.loads(row.body), "id": row.id})
        belongs = defaultdict(list)
        members = select(run_members.c.debate_id, run_members.c.run).order_by(run_members.c.seq)
        for row in connection.execute(members.where(run_members.c.debate_id.in_(some))):
            belongs[row.debate_id].append(row.run)
        for row in rows:
            debate = read(Debate, "debates", row.id, row.body)
            with naming("debates", row.id):
                question = asked[row.question_id, row.question_fingerprint]
            found.append(
                DebateRows(
                    seq=row.seq,
                    debate=debate,
                    question=question,
                    turns=tuple(said[row.id]),
                    judgments=tuple(given[row.id]),
                    outcome=outcome.get(row.id),
                    ratings=tuple(rated[row.id]),
                    runs=tuple(dict.fromkeys(belongs[row.id])),
                )
            )
    return sorted(found, key=lambda each: each.seq)


def _questions(connection: Connection, prints: Iterable[str]) -> dict[tuple[str, str], Question]:
    found = {}
    for some in chunks(sorted(prints)):
        query = select(questions.c.id, questions.c.fingerprint, questions.c.body)
        for row in connection.execute(query.where(questions.c.fingerprint.in_(some))):
            with naming("questions", row.id):
                found[row.id, row.fingerprint] = decode(Question, row.body)
    return found


def _rows_of(connection: Connection, table: Any, debate_ids: Sequence[str]) -> Iterable[Any]:
    query = select(table.c.id, table.c.debate_id, table.c.body)
    return connection.execute(query.where(table.c.debate_id.in_(debate_ids)).order_by(table.c.seq))


MAX_FOUND = 20
"""Ids that a prefix is answered with at most."""


def find_debates(connection: Connection, prefix: str) -> list[str]:
    """Ids of debates, or of the debates of turns and judgments, that begin with `prefix`."""
    prefix = key_text(prefix)
    pattern = prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    columns = (
        (debates.c.id, debates.c.id),
        (turns.c.debate_id, turns.c.id),
        (judgments.c.debate_id, judgments.c.id),
    )
    queries = []
    for named, held in columns:
        query = select(named.label("id")).where(held.like(pattern, escape="\\"))
        if connection.dialect.name == "sqlite":  # which takes an index for a range, not for LIKE
            query = query.where(held >= prefix, held < prefix + "\uffff")
        queries.append(query.limit(MAX_FOUND))
    every = union_all(*(select(query.subquery().c.id) for query in queries))
    return sorted(set(connection.scalars(every)))


def read_acts(connection: Connection, debate_id: str) -> list[JudgingEvent | RatingEvent]:
    """All acts of people at a debate and at what is rated of it, in the order of their time."""
    key = key_text(debate_id)
    found: list[JudgingEvent | RatingEvent] = []
    for row in _acts(connection, events, key):
        found.append(read(JudgingEvent, "events", row.id, row.body, debate_id))
    for row in _acts(connection, rating_events, key):
        found.append(read(RatingEvent, "rating_events", row.id, row.body, debate_id))
    return sorted(found, key=lambda each: each.at)


def _acts(connection: Connection, table: Any, key: str) -> Iterable[Any]:
    query = select(table.c.id, table.c.body).where(table.c.debate_id == key)
    return connection.execute(query.order_by(table.c.seq))
