"""The check of a whole store: every row parses, and every reference holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Table, func, select, text

from oversight.ids import content_id
from oversight.store import schema
from oversight.store.batch import COLUMNS, Memory, encode_records
from oversight.store.encoding import decode, key_text
from oversight.store.finding_prompts import block_bodies, part_bodies
from oversight.store.prompts import (
    block_id,
    decode_part,
    decode_prompt,
    encode_prompt,
    part_id,
    part_ids,
)
from oversight.store.reading import chunks, reason
from oversight.types import (
    Debate,
    JudgingEvent,
    Judgment,
    Outcome,
    PrinciplesAnswer,
    Question,
    Rating,
    RatingEvent,
    Sample,
    Source,
    Turn,
)
from oversight.types.ratings import item_id

ROWS_A_READ = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a store."""

    table: str
    row: str
    """Id of the row; empty where the whole table or file is meant."""
    reason: str


Checker = Callable[[Connection, Sequence[Any]], Iterator[tuple[str, str]]]
"""From rows of one table to (row id, reason) of what is wrong with them."""


def check(connection: Connection) -> list[Problem]:
    """All that is wrong with a store, table by table."""
    problems = _check_file(connection)
    for table, checker in CHECKERS.items():
        for rows in _read_all(connection, table):
            problems += [Problem(table.name, *found) for found in checker(connection, rows)]
    return problems + _check_outcomes_once(connection)


def _check_file(connection: Connection) -> list[Problem]:
    """What SQLite itself finds wrong with the file."""
    if connection.dialect.name != "sqlite":
        return []
    found = connection.execute(text("PRAGMA quick_check")).scalars().all()
    return [] if found == ["ok"] else [Problem("", "", str(line)) for line in found]


def _read_all(connection: Connection, table: Table) -> Iterator[Sequence[Any]]:
    """The rows of a table, some at a time, in the order of its primary key."""
    key: Column[Any] = next(iter(table.primary_key.columns))
    last: Any = None
    while True:
        query = select(table).order_by(key).limit(ROWS_A_READ)
        rows = connection.execute(query if last is None else query.where(key > last)).all()
        if not rows:
            return
        yield rows
        last = getattr(rows[-1], key.name)


def _parsed(rows: Sequence[Any], parse: Callable[[Any], str | None]) -> Iterator[tuple[str, str]]:
    """What is wrong with rows taken one by one; `parse` gives a reason or raises ValueError."""
    for row in rows:
        try:
            wrong = parse(row)
        except ValueError as error:
            wrong = reason(error)
        if wrong:
            yield row.id, wrong


def _same_row(record: Any, row: Any, table: Table) -> str | None:
    """Whether the record in a row's body gives the row's other columns."""
    [encoded] = encode_records([record], Memory.empty()).rows[table.name].values()
    expected = dict(zip(COLUMNS[table.name], encoded, strict=True))
    for name, value in expected.items():
        if name not in ("body", "source_id", "fingerprint") and getattr(row, name) != value:
            return f"column {name} is {getattr(row, name)!r}, but its content gives {value!r}"
    return None


def _check_sources(_: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    def parse(row: Any) -> str | None:
        return None if decode(Source, row.body).id == row.id else "id is not that of its content"

    yield from _parsed(rows, parse)


def _check_questions(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    wanted = {row.source_id for row in rows if row.source_id is not None}
    bodies = _bodies(connection, schema.sources, wanted)

    def parse(row: Any) -> str | None:
        question = decode(Question, row.body)
        if row.source_id is not None:
            if row.source_id not in bodies:
                return f"source {row.source_id} is not stored"
            source = decode(Source, bodies[row.source_id])
            question = question.model_copy(update={"source": source})
        if question.fingerprint != row.fingerprint:
            return "fingerprint is not that of its content"
        return _same_row(question, row, schema.questions)

    yield from _parsed(rows, parse)


def _check_debates(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    table = schema.questions
    stored = set()
    for some in chunks({row.question_fingerprint for row in rows}):
        query = select(table.c.id, table.c.fingerprint).where(table.c.fingerprint.in_(some))
        stored |= {tuple(row) for row in connection.execute(query)}

    def parse(row: Any) -> str | None:
        if (row.question_id, row.question_fingerprint) not in stored:
            return f"question {row.question_id!r} is not stored as the debate had it"
        return _same_row(decode(Debate, row.body), row, schema.debates)

    yield from _parsed(rows, parse)


def _check_parts(_: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    def parse(row: Any) -> str | None:
        return None if part_id(decode_part(row.body)) == row.id else "id is not that of its text"

    yield from _parsed(rows, parse)


def _check_blocks(_: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    def parse(row: Any) -> str | None:
        return None if block_id(row.ids) == row.id else "id is not that of its ids"

    yield from _parsed(rows, parse)


def _check_prompts(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    memory = Memory.empty()
    bodies = part_bodies(connection, [id_ for row in rows for id_ in _parts_of(row)])
    blocks = block_bodies(connection, [id_ for row in rows for id_ in row.blocks.split()])

    def parse(row: Any) -> str | None:
        try:
            texts = {id_: decode_part(bodies[id_]) for id_ in part_ids(row.messages)}
            record = decode_prompt(row.messages, row.blocks, row.tail, texts, blocks)
        except KeyError as error:
            return f"part {error} is not stored"
        encoded = encode_prompt(record, memory.parts, memory.blocks)
        if (encoded.id, encoded.variant) != (row.id, row.variant):
            return "id is not that of its content"
        return None if encoded.num_tokens == row.num_tokens else "num_tokens is wrong"

    yield from _parsed(rows, parse)


def _parts_of(row: Any) -> list[str]:
    try:
        return part_ids(row.messages)
    except ValueError:
        return []


def _check_turns(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    missing = _missing_debates(connection, rows)
    samples: dict[str, tuple[Sample, ...]] = {}

    def parse(row: Any) -> str | None:
        if row.debate_id in missing:
            return f"debate {row.debate_id} is not stored"
        turn = decode(Turn, row.body)
        samples[row.id] = turn.samples
        return _same_row(turn, row, schema.turns)

    yield from _parsed(rows, parse)
    yield from _missing_prompts(connection, samples)


def _check_judgments(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    missing = _missing_debates(connection, rows)
    samples: dict[str, tuple[Sample, ...]] = {}
    leaned_on: dict[str, list[str]] = {}

    def parse(row: Any) -> str | None:
        if row.debate_id in missing:
            return f"debate {row.debate_id} is not stored"
        judgment = decode(Judgment, row.body)
        samples[row.id] = judgment.samples
        leaned_on[row.id] = [turn_id for turn_id, _ in judgment.leaned_on]
        return _same_row(judgment, row, schema.judgments)

    yield from _parsed(rows, parse)
    yield from _missing_prompts(connection, samples)
    yield from _missing_refs(connection, schema.turns, leaned_on, "turn")


def _check_outcomes(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    missing = _missing_debates(connection, rows)

    def parse(row: Any) -> str | None:
        if row.debate_id in missing:
            return f"debate {row.debate_id} is not stored"
        if content_id("outcome", row.body) != row.id:
            return "id is not that of its content"
        return _same_row(decode(Outcome, row.body), row, schema.outcomes)

    yield from _parsed(rows, parse)


def _check_events(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    missing = _missing_debates(connection, rows)

    def parse(row: Any) -> str | None:
        if row.debate_id in missing:
            return f"debate {row.debate_id} is not stored"
        return _same_row(decode(JudgingEvent, row.body), row, schema.events)

    yield from _parsed(rows, parse)


def _check_ratings(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    missing = _missing_debates(connection, rows)
    shown: dict[str, list[str]] = {}

    def parse(row: Any) -> str | None:
        if row.debate_id in missing:
            return f"debate {row.debate_id} is not stored"
        rating = decode(Rating, row.body)
        shown[row.id] = list(rating.turn_ids)
        answer = rating.answer
        rules = answer.constitution if isinstance(answer, PrinciplesAnswer) else ""
        if item_id(rating.task, rating.turn_ids, rules) != rating.item:
            return "item is not that of its turns"
        return _same_row(rating, row, schema.ratings)

    yield from _parsed(rows, parse)
    yield from _missing_refs(connection, schema.turns, shown, "turn")


def _check_rating_events(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    missing = _missing_debates(connection, rows)

    def parse(row: Any) -> str | None:
        if row.debate_id in missing:
            return f"debate {row.debate_id} is not stored"
        return _same_row(decode(RatingEvent, row.body), row, schema.rating_events)

    yield from _parsed(rows, parse)


def _check_outcomes_once(connection: Connection) -> list[Problem]:
    """Debates with more than one complete outcome: the index that forbids them may be lost."""
    table = schema.outcomes
    query = select(table.c.debate_id).where(table.c.status == "complete")
    query = query.group_by(table.c.debate_id).having(func.count() > 1)
    return [
        Problem("outcomes", "", f"debate {debate_id} has more than one complete outcome")
        for debate_id in connection.scalars(query)
    ]


def _bodies(connection: Connection, table: Table, ids: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in chunks(sorted(ids)):
        query = select(table.c.id, table.c.body).where(table.c.id.in_(some))
        found.update((id_, body) for id_, body in connection.execute(query))
    return found


def _stored_ids(connection: Connection, table: Table, ids: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for some in chunks(sorted(set(ids))):
        found.update(connection.scalars(select(table.c.id).where(table.c.id.in_(some))))
    return found


def _missing_debates(connection: Connection, rows: Sequence[Any]) -> set[str]:
    wanted = {row.debate_id for row in rows}
    return wanted - _stored_ids(connection, schema.debates, wanted)


def _missing_prompts(
    connection: Connection, samples: Mapping[str, tuple[Sample, ...]]
) -> Iterator[tuple[str, str]]:
    refs = {row: [sample.prompt_id for sample in some] for row, some in samples.items()}
    yield from _missing_refs(connection, schema.prompts, refs, "prompt")


def _missing_refs(
    connection: Connection, table: Table, refs: Mapping[str, Sequence[str]], noun: str
) -> Iterator[tuple[str, str]]:
    stored = _stored_ids(
        connection, table, (key_text(ref) for some in refs.values() for ref in some)
    )
    for row, some in refs.items():
        for ref in some:
            if key_text(ref) not in stored:
                yield row, f"{noun} {ref} is not stored"


CHECKERS: dict[Table, Checker] = {
    schema.sources: _check_sources,
    schema.questions: _check_questions,
    schema.debates: _check_debates,
    schema.parts: _check_parts,
    schema.token_blocks: _check_blocks,
    schema.prompts: _check_prompts,
    schema.turns: _check_turns,
    schema.judgments: _check_judgments,
    schema.outcomes: _check_outcomes,
    schema.events: _check_events,
    schema.ratings: _check_ratings,
    schema.rating_events: _check_rating_events,
}
