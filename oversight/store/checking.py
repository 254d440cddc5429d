"""The check of a whole store: every row parses, every reference holds, every chain fits."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    LargeBinary,
    Table,
    func,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from oversight.ids import content_id
from oversight.store import schema
from oversight.store.batch import COLUMNS, Memory, encode_records
from oversight.store.opening import check_schema
from oversight.store.prompts import (
    block_bodies,
    block_id,
    block_ids,
    decode_part,
    decode_prompt,
    encode_prompt,
    part_bodies,
    part_id,
    part_ids,
)
from oversight.store.reading import chunks, reason
from oversight.store.runs import MEMBER_TABLES
from oversight.store.schema import decode, key_text, kind_of, shown
from oversight.store.sealing import Problem, Seal, check_chains
from oversight.types import (
    Debate,
    Feedback,
    JudgingEvent,
    Judgment,
    Outcome,
    Question,
    RatingEvent,
    RunStart,
    Sample,
    Source,
    Turn,
)
from oversight.types.ratings import item_id

ROWS_A_READ = 500


Checker = Callable[[Connection, Sequence[Any]], Iterator[tuple[str, str]]]
"""From rows of one table to (row id, reason) of what is wrong with them."""


def check(connection: Connection, seal: Seal | None = None) -> list[Problem]:
    """All that is wrong with a store: the file, its schema, table by table, then its chains.

    A row is named once. Rows that cannot be read are named as well, and the check goes on.
    """
    problems = [*_check_file(connection), *check_schema(connection)]
    for table, checker in CHECKERS.items():
        problems += _guarded(table.name, _check_table(connection, table, checker))
    problems += _guarded("outcomes", _check_outcomes_once(connection))
    problems += _guarded("", _check_unreferenced(connection, problems))
    named = {(problem.table, problem.row) for problem in problems}
    return problems + _guarded("links", check_chains(connection, named, seal))


def _guarded(table: str, found: Iterator[Problem]) -> list[Problem]:
    """Problems that are found, up to where the database itself fails."""
    problems = []
    try:
        for problem in found:
            problems.append(problem)
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = " ".join(str(cause).split())
        problems.append(Problem(table, "", f"cannot be read to its end: {reason}"))
    return problems


def _check_file(connection: Connection) -> list[Problem]:
    """Problems that SQLite itself finds in the file."""
    if connection.dialect.name != "sqlite":
        return []
    try:
        found = connection.execute(text("PRAGMA quick_check")).scalars().all()
    except DBAPIError as error:
        found = [str(error.orig)]
    return [] if found == ["ok"] else [Problem("", "", str(line)) for line in found]


def _check_table(connection: Connection, table: Table, checker: Checker) -> Iterator[Problem]:
    for rows in _read_all(connection, table):
        debates = {row.id: getattr(row, "debate_id", "") for row in rows}
        if table is schema.debates:
            debates = {id_: id_ for id_ in debates}
        for id_, wrong in checker(connection, rows):
            yield Problem(table.name, shown(id_), wrong, shown(debates.get(id_, "")))


def _read_all(connection: Connection, table: Table) -> Iterator[Sequence[Any]]:
    """The rows of a table, some at a time, in the order of its primary key.

    The query is plain text, so that values come as they are, also such that do not fit.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    key = "rowid" if is_sqlite else next(iter(table.primary_key.columns)).name
    last: Any = None
    while True:
        after = "" if last is None else f"WHERE {key} > :last"
        query = (
            f"SELECT {key} AS place, * FROM {table.name} {after} ORDER BY {key} LIMIT {ROWS_A_READ}"
        )
        rows = connection.execute(text(query), {} if last is None else {"last": last}).all()
        if not rows:
            return
        yield rows
        last = rows[-1].place


def _parsed(rows: Sequence[Any], parse: Callable[[Any], str | None]) -> Iterator[tuple[str, str]]:
    """Problems of rows taken one by one; `parse` gives a reason or raises ValueError."""
    for row in rows:
        try:
            wrong = _wrong_type(row) or parse(row)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            wrong = reason(error)
        if wrong:
            yield row.id, wrong


def _wrong_type(row: Any) -> str | None:
    """The first column of a row that holds another type than it should."""
    for name, value in row._mapping.items():
        wanted = TYPES.get(name)
        if wanted is not None and not isinstance(value, wanted):
            return f"column {name} holds {kind_of(value)}, not {kind_of(wanted[0]())}"
    return None


TYPES: dict[str, tuple[type, ...]] = {
    column.name: (bytes,)
    if isinstance(column.type, LargeBinary)
    else ((int,) if isinstance(column.type, BigInteger | Boolean) else (str,))
    + ((type(None),) if column.nullable else ())
    for table in (*schema.RECORD_TABLES, *schema.RUN_TABLES)
    for column in table.columns
}
"""By the names of columns: the same name is the same type in all tables."""


def _same_row(record: Any, row: Any, table: Table) -> str | None:
    """Reason why the record in a row's body is not that of its other columns; None if it is."""
    [encoded] = encode_records([record], Memory.empty()).rows[table.name].values()
    expected = dict(zip(COLUMNS[table.name], encoded, strict=True))
    for name, value in expected.items():
        if name not in ("body", "source_id", "fingerprint") and getattr(row, name) != value:
            found = getattr(row, name)
            found = bool(found) if isinstance(value, bool) and found in (0, 1) else found
            return f"column {name} is {found!r}, but its content gives {value!r}"
    return None


def _check_sources(_: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    def parse(row: Any) -> str | None:
        return None if decode(Source, row.body).id == row.id else "id is not that of its content"

    yield from _parsed(rows, parse)


def _check_questions(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    wanted = {row.source_id for row in rows}
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
    for some in chunks(_texts(row.question_fingerprint for row in rows)):
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
    blocks = block_bodies(connection, [id_ for row in rows for id_ in _blocks_of(row)])

    def parse(row: Any) -> str | None:
        try:
            texts = {id_: decode_part(bodies[id_]) for id_ in part_ids(row.messages)}
            record = decode_prompt(row.messages, row.blocks, row.tail, texts, blocks)
        except KeyError as error:
            return f"part {error} is not stored"
        encoded = encode_prompt(record, memory.parts, memory.blocks, memory.recent)
        if (encoded.id, encoded.variant) != (row.id, row.variant):
            return "id is not that of its content"
        return None if encoded.num_tokens == row.num_tokens else "num_tokens is wrong"

    yield from _parsed(rows, parse)


def _parts_of(row: Any) -> list[str]:
    try:
        return part_ids(row.messages)
    except ValueError:
        return []


def _blocks_of(row: Any) -> list[str]:
    try:
        return block_ids(row.blocks)
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
    samples: dict[str, tuple[Sample, ...]] = {}

    def parse(row: Any) -> str | None:
        if row.debate_id in missing:
            return f"debate {row.debate_id} is not stored"
        rating = decode(Feedback, row.body)
        shown[row.id] = list(rating.turn_ids)
        samples[row.id] = rating.samples
        if item_id(rating.task, rating.turn_ids, rating.constitution) != rating.item:
            return "item is not that of its turns"
        return _same_row(rating, row, schema.ratings)

    yield from _parsed(rows, parse)
    yield from _missing_refs(connection, schema.turns, shown, "turn")
    yield from _missing_prompts(connection, samples)


def _check_rating_events(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    missing = _missing_debates(connection, rows)

    def parse(row: Any) -> str | None:
        if row.debate_id in missing:
            return f"debate {row.debate_id} is not stored"
        return _same_row(decode(RatingEvent, row.body), row, schema.rating_events)

    yield from _parsed(rows, parse)


def _check_runs(_: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    def parse(row: Any) -> str | None:
        start = decode(RunStart, row.body)
        if start.id != row.id:
            return "id is not that of its content"
        if row.run != (wanted := key_text(start.run)):
            return f"column run is {row.run!r}, but its content gives {wanted!r}"
        return None

    yield from _parsed(rows, parse)


def _check_run_members(connection: Connection, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    missing = _missing_debates(connection, rows)
    ids = {row.id for row in rows}
    stored = {id_ for table in MEMBER_TABLES for id_ in _stored_ids(connection, table, ids)}
    begun = set(connection.scalars(select(schema.runs.c.run).distinct()))

    def parse(row: Any) -> str | None:
        if row.debate_id in missing:
            return f"debate {row.debate_id} is not stored"
        if row.id not in stored:
            return f"no debate, judgment or rating {shown(row.id)} is stored"
        return None if row.run in begun else f"run {shown(row.run)} is not stored"

    yield from _parsed(rows, parse)


def _check_outcomes_once(connection: Connection) -> Iterator[Problem]:
    """Debates with more than one complete outcome: the index that forbids them may be lost."""
    table = schema.outcomes
    query = select(table.c.debate_id).where(table.c.status == "complete")
    query = query.group_by(table.c.debate_id).having(func.count() > 1)
    for id_ in connection.scalars(query):
        yield Problem(
            "outcomes", "", f"debate {id_} has more than one complete outcome", shown(id_)
        )


def _check_unreferenced(connection: Connection, known: Sequence[Problem]) -> Iterator[Problem]:
    """Sources, parts and token blocks that nothing refers to: all are written with what does."""
    if any(problem.table in ("", "questions", "prompts") for problem in known):
        return  # what refers to them may be lost
    used = set(connection.scalars(select(schema.questions.c.source_id).distinct()))
    yield from _unreferenced(connection, schema.sources, used)
    parts: set[str] = set()
    blocks: set[str] = set()
    for rows in _read_all(connection, schema.prompts):
        for row in rows:
            parts.update(_parts_of(row))
            blocks.update(_blocks_of(row))
    yield from _unreferenced(connection, schema.parts, parts)
    yield from _unreferenced(connection, schema.token_blocks, blocks)


def _unreferenced(connection: Connection, table: Table, used: Container[Any]) -> Iterator[Problem]:
    for id_ in connection.scalars(select(table.c.id)):
        if id_ not in used:
            wrong = "was added by something else than oversight: nothing refers to it"
            yield Problem(table.name, shown(id_), wrong)


def _bodies(connection: Connection, table: Table, ids: Iterable[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in chunks(sorted(_texts(ids))):
        query = select(table.c.id, table.c.body).where(table.c.id.in_(some))
        found.update((id_, body) for id_, body in connection.execute(query))
    return found


def _texts(ids: Iterable[Any]) -> set[str]:
    """Those of `ids` that can be looked for: others are named as damaged."""
    return {id_ for id_ in ids if isinstance(id_, str)}


def _stored_ids(connection: Connection, table: Table, ids: Iterable[Any]) -> set[str]:
    found: set[str] = set()
    for some in chunks(sorted(_texts(ids))):
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
    schema.runs: _check_runs,
    schema.run_members: _check_run_members,
}
