"""The check of a database's schema: everything of ours is there, and nothing stands beside it.

And of the columns by which rows are come upon, which readers check before they rely on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Connection, exists, func, literal, select, text, union_all

from oversight.errors import StoreError
from oversight.store import schema
from oversight.store.encoding import kind_of, shown
from oversight.store.migrations import VERSION_TABLE
from oversight.store.reading import naming
from oversight.store.schema import metadata
from oversight.store.sealing import Problem
from oversight.types import Act, EventKind, JudgeKind, OutcomeStatus, RatingAct, Seat, Task

OURS = "is no part of a store: something else than oversight added it"

SQLITE_OBJECTS = """
SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name
"""

POSTGRES_OBJECTS = """
SELECT 'trigger', t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal AND n.nspname = current_schema()
UNION ALL
SELECT 'rule', rulename, tablename FROM pg_rules WHERE schemaname = current_schema()
UNION ALL
SELECT 'index', i.relname, c.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema()
      AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = x.indexrelid)
UNION ALL
SELECT 'table', tablename, tablename FROM pg_tables WHERE schemaname = current_schema()
ORDER BY 1, 2
"""


def check_schema(connection: Connection) -> Iterator[Problem]:
    """Triggers, views, tables, indexes and columns that are not ours, and those that are missing.

    A PostgreSQL database may hold other programs' tables: there only what stands on ours counts.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    tables = {*metadata.tables, VERSION_TABLE}
    indexes = {str(index.name) for table in metadata.tables.values() for index in table.indexes}
    missing = {*(("table", name) for name in tables), *(("index", name) for name in indexes)}
    query = text(SQLITE_OBJECTS if is_sqlite else POSTGRES_OBJECTS)
    for kind, name, table in connection.execute(query).all():
        if (kind, name) in missing:
            missing.discard((kind, name))
        elif is_sqlite or table in tables:
            where = f" on table {table!r}" if kind in ("trigger", "rule", "index") else ""
            yield Problem("", "", f"{kind} {name!r}{where} {OURS}")
    for kind, name in sorted(missing):
        yield Problem("", "", f"{kind} {name!r} of the store is gone")
    yield from _check_columns(connection, is_sqlite, {name for kind, name in missing})


def _check_columns(connection: Connection, is_sqlite: bool, gone: set[str]) -> Iterator[Problem]:
    query = (
        "SELECT name FROM pragma_table_xinfo(:table)"
        if is_sqlite
        else "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND table_name = :table"
    )
    for table in metadata.tables.values():
        if table.name in gone:
            continue
        found = set(connection.scalars(text(query), {"table": table.name}))
        for name in sorted(found - set(table.columns.keys())):
            yield Problem(table.name, "", f"column {name!r} {OURS}")
        for name in sorted(set(table.columns.keys()) - found):
            yield Problem(table.name, "", f"column {name!r} of the store is gone")


def check_keys(connection: Connection) -> None:
    """Refuse a store in which rows cannot be come upon by the columns that they are looked up by.

    A reader of bodies stops at one that is damaged. Where the damage is in a debate's id, in the
    status of an outcome or in a judge's name, it would find fewer rows and not know it.

    Raises:
        StoreError: Names the first such row, or a table that is gone.
    """
    _refuse_lost_tables(connection)
    # One statement for all tables: a store is checked whenever it is opened to be read.
    lost = [
        select(literal(table.name), table.c.id, table.c.debate_id).where(
            ~exists().where(schema.debates.c.id == table.c.debate_id)
        )
        for table in schema.RECORD_TABLES
        if "debate_id" in table.columns
    ]
    for name, id_, debate in connection.execute(union_all(*lost).limit(1)):
        with naming(name, id_):
            raise ValueError(f"debate {shown(debate)} is not stored")
    asked = exists().where(
        schema.questions.c.id == schema.debates.c.question_id,
        schema.questions.c.fingerprint == schema.debates.c.question_fingerprint,
    )
    query = select(schema.debates.c.id, schema.debates.c.question_id).where(~asked).limit(1)
    for id_, question in connection.execute(query):
        with naming("debates", id_):
            raise ValueError(f"its question {shown(question)!r} is not stored")
    values = [
        select(literal(place), func.min(column.table.c.id), column).group_by(column)
        for place, (column, _) in enumerate(LOOKED_UP_BY)
    ]
    for place, id_, value in connection.execute(union_all(*values)):
        column, known = LOOKED_UP_BY[place]
        with naming(column.table.name, id_):
            if not isinstance(value, str):
                raise TypeError(f"column {column.name} holds {kind_of(value)}, not text")
            if known is not None and value not in set(known):
                raise ValueError(f"column {column.name} is {shown(value)!r}")


def _refuse_lost_tables(connection: Connection) -> None:
    is_sqlite = connection.dialect.name == "sqlite"
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if is_sqlite
        else "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    )
    found = set(connection.scalars(text(query)))
    if gone := sorted(set(metadata.tables) - found):
        names = ", ".join(map(repr, gone))
        raise StoreError(f"table {names} of the store is gone; restore a copy of the store")


LOOKED_UP_BY: tuple[tuple[Column[Any], type[StrEnum] | None], ...] = (
    (schema.questions.c.dataset, None),
    (schema.debates.c.protocol, None),
    (schema.turns.c.seat, Seat),
    (schema.turns.c.act, Act),
    (schema.judgments.c.judge, None),
    (schema.judgments.c.kind, JudgeKind),
    (schema.outcomes.c.status, OutcomeStatus),
    (schema.events.c.judge, None),
    (schema.events.c.kind, EventKind),
    (schema.ratings.c.judge, None),
    (schema.ratings.c.task, Task),
    (schema.ratings.c.kind, JudgeKind),
    (schema.rating_events.c.judge, None),
    (schema.rating_events.c.kind, RatingAct),
)
"""Columns by which rows are chosen, and what they may hold; None is any text."""
