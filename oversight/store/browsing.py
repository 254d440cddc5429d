"""Reading for an index over a store: what is new in it, and the rows of debates by the hundred.

Rows get growing numbers (`seq`) as they are written, so what was written since an index was last
brought up to date is what stands above the numbers that it has seen.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, union_all

from oversight.store.reading import chunks, naming, read
from oversight.store.schema import (
    debates,
    decode,
    events,
    judgments,
    key_text,
    outcomes,
    questions,
    rating_events,
    ratings,
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
)

WATCHED = (debates, turns, judgments, outcomes, ratings)
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
        for row in _of(connection, outcomes, some):
            one = read(Outcome, "outcomes", row.id, row.body, row.debate_id)
            if (held := outcome.get(row.debate_id)) is None or (
                held.status is not OutcomeStatus.COMPLETE
            ):
                outcome[row.debate_id] = one
        given = defaultdict(list)
        for row in _of(connection, judgments, some):
            given[row.debate_id].append(
                read(Judgment, "judgments", row.id, row.body, row.debate_id)
            )
        rated = defaultdict(list)
        for row in _of(connection, ratings, some):
            rated[row.debate_id].append(read(Feedback, "ratings", row.id, row.body, row.debate_id))
        said = defaultdict(list)
        for row in _of(connection, turns, some):
            with naming("turns", row.id, row.debate_id):
                said[row.debate_id].append({**json.loads(row.body), "id": row.id})
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


def _of(connection: Connection, table: Any, debate_ids: Sequence[str]) -> Iterable[Any]:
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
    for shown, held in columns:
        query = select(shown.label("id")).where(held.like(pattern, escape="\\"))
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
