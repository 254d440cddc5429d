"""Lists out of an index's file: by facets, by words, in pages by key."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oversight.reporting.entries import DebateRow, JudgedRow, ListQuery, match_of

MAX_DOCUMENTS = 1 << 14
"""Texts of one debate that can be searched; each has a number of its own."""
MAX_COUNTED = 10_000
"""Debates that are counted under several filters; more are "more than"."""

Facets = Sequence[tuple[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list."""

    rows: tuple[DebateRow, ...]
    total: int | None
    """None where counting would take longer than the page is worth."""
    older: int | None
    """Row number for the next page's `before`."""
    newer: int | None
    """For the `after` of the page before."""


def find(connection: sqlite3.Connection, query: ListQuery, limit: int) -> Listing:
    """A page of the debates that fit, the newest first."""
    facets = _by_rarity(connection, query.facets())
    if query.words:
        return _searched(connection, query, facets, limit)
    forward = query.after is not None
    wanted, values = _conditions(facets)
    place = "f" if _is_gone_through(facets) else "i"
    if query.before is not None:
        wanted.append(f"{place}.seq < ?")
        values.append(query.before)
    if query.after is not None:
        wanted.append(f"{place}.seq > ?")
        values.append(query.after)
    where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
    found = connection.execute(
        f"SELECT i.seq, i.row FROM {_tables(facets)} {where} "
        f"ORDER BY {place}.seq "
        f"{'ASC' if forward else 'DESC'} LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    more = len(found) > limit
    found = found[:limit]
    if forward:
        found.reverse()
    rows = tuple(_row(row, seq) for seq, row in found)
    has_newer = more if forward else query.before is not None
    has_older = True if forward else more
    is_all = not more and query.before is None and query.after is None
    return Listing(
        rows=rows,
        total=len(rows) if is_all else _total(connection, facets),
        older=rows[-1].seq if rows and has_older else None,
        newer=rows[0].seq if rows and has_newer else None,
    )


def _searched(
    connection: sqlite3.Connection,
    query: ListQuery,
    facets: Facets,
    limit: int,
) -> Listing:
    """Debates in whose words all terms stand in one text, the newest first."""
    sought = match_of(query.words)
    if not sought:
        return Listing((), 0, None, None)
    forward = query.after is not None
    edge = (
        (query.after + 1) * MAX_DOCUMENTS
        if query.after is not None
        else (2**62 if query.before is None else query.before * MAX_DOCUMENTS)
    )
    found = connection.execute(
        "SELECT rowid FROM words WHERE words MATCH ? AND rowid "
        + (">= ? ORDER BY rowid ASC" if forward else "< ? ORDER BY rowid DESC"),
        (sought, edge),
    )
    hits: dict[int, int] = {}
    refused: set[int] = set()
    more = False
    for (number,) in found:
        seq = number // MAX_DOCUMENTS
        if seq in refused:
            continue
        if seq not in hits and not _fits(connection, seq, facets):
            refused.add(seq)
            continue
        if seq not in hits and len(hits) == limit:
            more = True
            break
        hits[seq] = number
    rows = []
    for seq, number in hits.items():
        [row] = connection.execute("SELECT row FROM items WHERE seq = ?", (seq,)).fetchone()
        [key] = connection.execute(
            "SELECT key FROM documents WHERE number = ?", (number,)
        ).fetchone()
        rows.append(_row(row, seq, key.partition(" ")[2]))
    rows.sort(key=lambda each: -each.seq)
    has_newer = more if forward else query.before is not None
    has_older = True if forward else more
    return Listing(
        rows=tuple(rows),
        total=None if more or has_newer or forward else len(rows),
        older=rows[-1].seq if rows and has_older else None,
        newer=rows[0].seq if rows and has_newer else None,
    )


def _fits(connection: sqlite3.Connection, seq: int, facets: Facets) -> bool:
    return all(
        connection.execute(
            f"SELECT 1 FROM facets WHERE kind = ? AND value IN ({_marks(values)}) AND seq = ?",
            (kind, *values, seq),
        ).fetchone()
        for kind, values in facets
    )


def _by_rarity(connection: sqlite3.Connection, facets: Facets) -> Facets:
    """The facets, first that of one value and the fewest debates, which is gone through."""
    query = "SELECT number FROM counts WHERE kind = ? AND value = ?"

    def weight(facet: tuple[str, tuple[str, ...]]) -> tuple[bool, int]:
        kind, values = facet
        found = (connection.execute(query, (kind, value)).fetchone() for value in values)
        return len(values) > 1, sum(row[0] for row in found if row)

    return sorted(facets, key=weight)


def _total(connection: sqlite3.Connection, facets: Facets) -> int | None:
    if not facets:
        return number_of_debates(connection)
    wanted, values = _conditions(facets)
    [number] = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM {_tables(facets)} "
        f"WHERE {' AND '.join(wanted)} LIMIT {MAX_COUNTED + 1})",
        values,
    ).fetchone()
    return None if number > MAX_COUNTED else int(number)


def number_of_debates(connection: sqlite3.Connection) -> int:
    """Debates in it, as they were counted last."""
    query = "SELECT number FROM counts WHERE kind = '' AND value = ''"
    found = connection.execute(query).fetchone()
    return 0 if found is None else int(found[0])


def _conditions(facets: Facets) -> tuple[list[str], list[Any]]:
    if not facets:
        return [], []
    wanted: list[str] = []
    values: list[Any] = []
    first, others = facets[0], facets[1:]
    if _is_gone_through(facets):
        wanted.append("f.kind = ? AND f.value = ?")
        values += [first[0], *first[1]]
    else:
        others = facets
    for kind, some in others:
        wanted.append(
            f"EXISTS (SELECT 1 FROM facets o WHERE o.kind = ? AND o.value IN ({_marks(some)}) "
            "AND o.seq = i.seq)"
        )
        values += [kind, *some]
    return wanted, values


def _is_gone_through(facets: Facets) -> bool:
    """True if there is a facet of one value: its debates are gone through, and no others."""
    return bool(facets) and len(facets[0][1]) == 1


def _tables(facets: Facets) -> str:
    if _is_gone_through(facets):
        return "facets f CROSS JOIN items i ON i.seq = f.seq"
    return "items i"


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _row(text: str, seq: int, found_in: str = "") -> DebateRow:
    held = json.loads(text)
    judged = tuple(JudgedRow(**each) for each in held.pop("judged"))
    agents = tuple(held.pop("agents"))
    return DebateRow(
        **{**held, "judged": judged, "agents": agents, "seq": seq, "found_in": found_in}
    )
