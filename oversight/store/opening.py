"""Opening a store: create it, or bring an older one up to this version's schema."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, exists, func, inspect, literal, select, text, union_all

from oversight.errors import SchemaError, StoreError
from oversight.store import database as db
from oversight.store import migrations, schema
from oversight.store.database import Database
from oversight.store.migrations import VERSION_TABLE
from oversight.store.reading import naming, read
from oversight.store.schema import kind_of, metadata, shown
from oversight.store.sealing import Problem
from oversight.types import (
    Act,
    EventKind,
    Feedback,
    JudgeKind,
    OutcomeStatus,
    OwnAnswer,
    RatingAct,
    Seat,
    Task,
)

if TYPE_CHECKING:
    from alembic.config import Config


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
        for table in (*schema.RECORD_TABLES, schema.run_members)
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
            if known is None or value in set(known):
                continue
            if value not in _own_task(connection, column, id_):
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


def _own_task(connection: Connection, column: Column[Any], id_: str) -> set[str]:
    """The name of a task from outside the package, as the rating itself has it."""
    if column is not schema.ratings.c.task:
        return set()
    body = connection.scalar(select(schema.ratings.c.body).where(schema.ratings.c.id == id_))
    answer = read(Feedback, "ratings", id_, str(body)).answer
    return {answer.task} if isinstance(answer, OwnAnswer) else set()


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
    (schema.runs.c.run, None),
    (schema.run_members.c.run, None),
)
"""Columns by which rows are chosen, and what they may hold; None is any text."""


ADVISORY_LOCK = 0x0E51_6874
"""Key of the PostgreSQL lock under which one process at a time migrates."""


def prepare(database: Database, *, create: bool, only_read: bool = False) -> None:
    """Make sure that the store is there and has the schema of this version.

    Args:
        database: The store.
        create: Make one where there is none.
        only_read: Nothing will be written: a file that cannot be written is read as it is.

    Raises:
        SchemaError: A newer version of oversight wrote it.
        StoreError: It is absent and not to be created, or cannot be opened.
    """
    held_back = False
    if database.is_sqlite:
        held_back = only_read and _is_held_back(database)
        if not held_back:
            try:
                _prepare_file(database, create)
            except StoreError as error:
                if not only_read or not any(sign in str(error) for sign in HELD_BACK):
                    raise
                held_back = True
        if held_back:
            database.only_read()
    version = _checked_version(database, create)
    _check_known(database, version)
    if version != migrations.HEAD:
        if held_back:
            raise StoreError(
                f"store {database.name} has schema {version!r}, older than {migrations.HEAD!r}: it"
                " is brought up to date as it is opened, and it cannot be written here; copy it to"
                " where you may write"
            )
        _upgrade(database)


HELD_BACK = ("unable to open database file", "readonly database", "disk I/O error", "disk is full")
"""Signs of a file that may be readable where SQLite's own files beside it cannot be written."""


def _is_held_back(database: Database) -> bool:
    """True if the file is there and it, or its folder, may not be written.

    A reader that may not write the file could not put SQLite's own files away again, and its owner
    could not write them.
    """
    path = Path(str(database.url.database))
    try:
        return path.is_file() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
    except OSError:
        return False


def alembic_config() -> Config:
    """Alembic's settings for our migrations, wherever the package is installed."""
    from alembic.config import Config

    config = Config()
    folder = str(Path(migrations.__file__).parent)
    config.set_main_option("script_location", folder.replace("%", "%%"))
    return config


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(migrations.VERSION_TABLE):
        return None
    rows = connection.execute(text(f"SELECT version_num FROM {migrations.VERSION_TABLE}"))
    return rows.scalar_one_or_none()


def _checked_version(database: Database, create: bool) -> str | None:
    """The schema's version; None where a store is still to be made.

    Raises:
        StoreError: It is absent and not to be created, or the database is another program's.
    """
    with database.reading() as connection:
        version = _version(connection)
        if version is None:
            _check_unused(database, connection, create)
    return version


def _unused(database: Database) -> StoreError:
    return StoreError(f"store {database.name} holds nothing yet; check its name")


def _check_unused(database: Database, connection: Connection, create: bool) -> None:
    if not create:
        raise _unused(database)
    if database.is_sqlite and (tables := inspect(connection).get_table_names()):
        raise StoreError(
            f"store {database.name} is a database of another program"
            f" (it has a table {tables[0]!r}); name another path"
        )


def _check_known(database: Database, version: str | None) -> None:
    if version is not None and version not in migrations.REVISIONS:
        raise SchemaError(
            f"store {database.name} has schema {version!r}, which is newer than"
            f" {migrations.HEAD!r}, the newest that this oversight knows; upgrade oversight"
        )


def _upgrade(database: Database) -> None:
    from alembic import command

    with database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        # Another process may have done it while we waited for the lock.
        if _version(connection) == migrations.HEAD:
            return
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _prepare_file(database: Database, create: bool) -> None:
    path = Path(str(database.url.database))
    try:
        if path.is_dir():
            raise StoreError(f"store {path} is a folder; name a file in it: {path / 'runs.db'}")
        if not path.exists():
            if not create:
                raise StoreError(f"there is no store at {path}; check the path")
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not create and not path.stat().st_size:
            raise _unused(database)  # an empty file is left so
    except OSError as error:
        raise StoreError(
            f"store {path}: {error}; check that its folder can be there and that you may use it"
        ) from error
    if path.exists() and path.stat().st_size:
        _checked_version(database, create)  # the mode below stays in a file: only in a store's
    with database.explained():
        _set_wal(database)


def _set_wal(database: Database) -> None:
    """Put the file in WAL mode, which it then keeps.

    SQLite does not wait here when two processes open a new file at once, so we do.
    """
    deadline = time.monotonic() + db.BUSY_TIMEOUT_S
    connection = database.engine.raw_connection()
    try:
        while True:
            try:
                cursor = connection.cursor()
                mode = cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    finally:
        connection.close()
    if mode != "wal":
        raise StoreError(
            f"store {database.name}: its file system has no shared memory, which SQLite's WAL mode"
            " needs; put it on a local disk, or use PostgreSQL"
        )
