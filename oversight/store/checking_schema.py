"""The check of a database's schema: everything of ours is there, and nothing stands beside it."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text

from oversight.store.migrations import VERSION_TABLE
from oversight.store.schema import metadata
from oversight.store.sealing import Problem

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
