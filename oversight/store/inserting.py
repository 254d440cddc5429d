"""Inserting the rows of a batch: repeated rows are ignored, changed ones are an error."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain

from sqlalchemy import Connection

from oversight.store.batch import COLUMNS, KEYED, Batch, Row, conflict, powers
from oversight.store.chain import KEYS, Added, Heads, extend
from oversight.store.database import execute_sqlite

MAX_IDS = 500
"""Ids a query; every SQLite takes 999 variables."""

SHARED = frozenset({"sources", "parts", "token_blocks"})
"""Tables in which unrelated debates write the same rows: two processes that insert them in
different orders would wait for each other, so all insert them sorted."""


def insert(connection: Connection, batch: Batch, known: Heads) -> None:
    """Write a batch inside the running transaction.

    Args:
        known: Where its chains are likely to end, and will end once it is committed.

    Raises:
        StoreError: A row of the same id but another content is already stored.
    """
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    added: list[Added] = []
    for table, rows in batch.rows.items():
        if not rows:
            continue
        ordered = [rows[key] for key in sorted(rows)] if table in SHARED else list(rows.values())
        before = len(added)
        for some in powers(ordered):
            added += _insert(connection, table, some, mark)
        if table in KEYED and len(added) - before < len(rows):
            _check_same(connection, table, rows, mark)
    if added:
        extend(connection, batch, added, known)


def _insert(connection: Connection, table: str, rows: Sequence[Row], mark: str) -> list[Added]:
    """Those rows that were new, of a table with links; in the order of writing."""
    values = tuple(chain.from_iterable(rows))
    statement = _statement(table, len(rows), mark)
    if mark != "?":
        found = connection.exec_driver_sql(statement, values)
        return sorted(Added(table, seq, key) for seq, key in found) if table in KEYS else []
    result = execute_sqlite(connection, statement, values)
    if table not in KEYS:
        return []
    # SQLite numbers new rows on from the last one, in the order in which they are given.
    first = (result.lastrowid or 0) - result.rowcount + 1
    if result.rowcount == len(rows):
        place = PLACES[table]
        return [Added(table, seq, str(row[place])) for seq, row in enumerate(rows, first)]
    if result.rowcount == 0:
        return []
    query = f"SELECT seq, {KEYS[table]} FROM {table} WHERE seq >= ? ORDER BY seq"
    return [Added(table, seq, key) for seq, key in execute_sqlite(connection, query, (first,))]


PLACES = {table: COLUMNS[table].index(key) for table, key in KEYS.items()}
"""Where in a row its key stands."""


@cache
def _statement(table: str, num_rows: int, mark: str) -> str:
    columns = COLUMNS[table]
    row = f"({','.join([mark] * len(columns))})"
    returning = f" RETURNING seq, {KEYS[table]}" if table in KEYS and mark != "?" else ""
    return (
        f"INSERT INTO {table} ({','.join(columns)}) VALUES {','.join([row] * num_rows)}"
        f" ON CONFLICT DO NOTHING{returning}"
    )


def _check_same(connection: Connection, table: str, rows: dict[str, Row], mark: str) -> None:
    ids = list(rows)
    stored: dict[str, str] = {}
    for start in range(0, len(ids), MAX_IDS):
        chunk = tuple(ids[start : start + MAX_IDS])
        marks = ",".join([mark] * len(chunk))
        query = f"SELECT id, body FROM {table} WHERE id IN ({marks})"
        stored.update((id_, body) for id_, body in connection.exec_driver_sql(query, chunk))
    for id_, row in rows.items():
        if stored.get(id_) != row[-1]:
            raise conflict(table, row)
