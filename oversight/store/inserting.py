"""Inserting the rows of a batch: repeated rows are ignored, changed ones are an error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain

from sqlalchemy import Connection

from oversight.store.batch import COLUMNS, KEYED, Batch, Row, conflict

MAX_ROWS = 64
"""Rows a statement. Many rows in one statement cost one hand-over between threads, not many:
the driver lets other threads run at every statement, and has to wait to run again."""

MAX_IDS = 500
"""Ids a query; every SQLite takes 999 variables."""

SHARED = frozenset({"sources", "parts", "token_blocks"})
"""Tables in which unrelated debates write the same rows: two processes that insert them in
different orders would wait for each other, so all insert them sorted."""


def insert(connection: Connection, batch: Batch) -> None:
    """Write a batch inside the running transaction.

    Raises:
        StoreError: A row of the same id but another content is already stored.
    """
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    for table, rows in batch.rows.items():
        if not rows:
            continue
        ordered = [rows[key] for key in sorted(rows)] if table in SHARED else list(rows.values())
        num_new = sum(_insert(connection, table, chunk, mark) for chunk in _powers(ordered))
        if table in KEYED and num_new < len(rows):
            _check_same(connection, table, rows, mark)


def _insert(connection: Connection, table: str, rows: Sequence[Row], mark: str) -> int:
    """Number of rows that were new."""
    values = tuple(chain.from_iterable(rows))
    return connection.exec_driver_sql(_statement(table, len(rows), mark), values).rowcount


@cache
def _statement(table: str, num_rows: int, mark: str) -> str:
    columns = COLUMNS[table]
    row = f"({','.join([mark] * len(columns))})"
    return (
        f"INSERT INTO {table} ({','.join(columns)}) VALUES {','.join([row] * num_rows)}"
        " ON CONFLICT DO NOTHING"
    )


def _powers(rows: list[Row]) -> Iterator[list[Row]]:
    """Chunks of 64, 32 … 1 rows: few different statements, which the driver keeps prepared."""
    start = 0
    while start < len(rows):
        size = min(MAX_ROWS, 1 << ((len(rows) - start).bit_length() - 1))
        yield rows[start : start + size]
        start += size


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
