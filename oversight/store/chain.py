"""Chains over what is written, so that what is changed, added or lost afterwards shows.

Each row of evidence gets a link: the hash of the row, of its place in the order of
writing, and of the link before it. Links of one debate are one chain; questions and
debates themselves stand in the store's own chain, whose name is empty. A row of `links`
holds the links of one transaction, as lists; `heads` says how long each chain is and how
it ends.

Turns, judgments, events and ratings are hashed by their content. The ids of debates,
questions, prompts and outcomes are hashes of content already, and those of sources, parts
and token blocks stand in what refers to them. `claims` is no evidence and has no chain.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection

from oversight.store.batch import MAX_ROWS, Batch
from oversight.store.database import execute_sqlite
from oversight.store.reading import naming
from oversight.store.schema import kind_of

STORE = ""
"""Name of the chain of questions and debates; the others are named by a debate's id."""

START = "start"
"""Kind of the link that says which rows were there before the store had chains."""

KEYS: dict[str, str] = {
    "questions": "fingerprint",
    "debates": "id",
    "prompts": "variant",
    "turns": "id",
    "judgments": "id",
    "outcomes": "id",
    "events": "id",
    "ratings": "id",
    "rating_events": "id",
}
"""Tables with links, and the column that tells their rows apart."""

HASHED = frozenset({"turns", "judgments", "events", "ratings", "rating_events"})
"""Of these, the tables whose key says nothing of the content."""


class Added(NamedTuple):
    """A row that was inserted just now."""

    table: str
    seq: int
    key: str


class ChainHead(NamedTuple):
    """The end of a chain."""

    length: int
    hash: str


class Link(NamedTuple):
    """One row in a chain, as the lists in a row of `links` have it."""

    chain: str
    number: int
    """Place in the chain, from 1."""
    table: str
    seq: int
    key: str
    hash: str


def beginning(chain: str) -> ChainHead:
    """The head of a chain without links."""
    return ChainHead(0, sha256(f"oversight {chain}".encode()).hexdigest())


def link_hash(before: str, table: str, seq: int, key: str, body: str | None) -> str:
    """The hash of a link; `body` only of the tables in `HASHED`."""
    digest = "" if body is None else sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
    return sha256(f"{before}{table}\0{seq}\0{key}\0{digest}".encode()).hexdigest()


def sound_head(chain: Any, count: Any, last: Any) -> ChainHead:
    """The head in a row.

    Raises:
        StoreError: It holds none.
    """
    with naming("heads", chain):
        for column, value, kind in (
            ("chain", chain, str),
            ("count", count, int),
            ("hash", last, str),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"column {column} holds {kind_of(value)}, not {kind_of(kind())}")
    return ChainHead(count, last)


class Heads:
    """Ends of chains that this process has committed: a guess at what stands in `heads`.

    On SQLite a transaction writes links behind the ends that are known here, and the statement
    that moves the heads moves only those that end so (`_move`). Where one does not, as another
    process has written since or the chain is an older one, the heads are read. So a guess saves
    a statement and is never trusted.
    """

    def __init__(self, capacity: int = 4_096) -> None:
        self.capacity = capacity
        self._ends: dict[str, ChainHead] = {}

    def get(self, chain: str) -> ChainHead:
        """The end that `chain` is likely to have."""
        return self._ends.get(chain) or beginning(chain)

    def remember(self, ends: Mapping[str, ChainHead]) -> None:
        """These are the ends if the running transaction is committed; the oldest are forgotten."""
        for chain, head in ends.items():
            self._ends.pop(chain, None)
            self._ends[chain] = head
        while len(self._ends) > self.capacity:
            del self._ends[next(iter(self._ends))]

    def forget(self) -> None:
        """A transaction was not committed: nothing is known any more."""
        self._ends.clear()


def extend(connection: Connection, batch: Batch, added: Sequence[Added], known: Heads) -> None:
    """Write the links of rows that the running transaction has inserted, all in one row.

    It comes last in a transaction: on PostgreSQL other writers of the same debate wait from
    here to its end. SQLite has one writer at a time.
    """
    by_chain: dict[str, list[Added]] = defaultdict(list)
    for each in added:
        by_chain[_chain_of(batch, each)].append(each)
    if connection.dialect.name == "sqlite":
        before = {name: known.get(name) for name in by_chain}
        links, ends = _linked(batch, by_chain, before)
        if _move(connection, before, ends) < len(ends):
            # This transaction has the write lock: what is read now stays so. A head that was
            # moved just now is written once more, from where it stood.
            found = _stored_heads(connection, sorted(by_chain))
            for name in by_chain:
                if found.get(name) != ends[name]:
                    before[name] = found.get(name) or beginning(name)
            links, ends = _linked(batch, by_chain, before)
            _move_all(connection, ends)
        known.remember(ends)
        body = (JSON.encode(links),)
        execute_sqlite(connection, "INSERT INTO links (body) VALUES (?)", body)
    else:
        links, ends = _linked(batch, by_chain, _locked_heads(connection, sorted(by_chain)))
        body = (JSON.encode(links),)
        connection.exec_driver_sql("INSERT INTO links (body) VALUES (%s)", body)
        _upsert(connection, ends, "UPDATE SET count = excluded.count, hash = excluded.hash")


def _linked(
    batch: Batch, by_chain: Mapping[str, Sequence[Added]], before: Mapping[str, ChainHead]
) -> tuple[list[Link], dict[str, ChainHead]]:
    """The links of new rows behind the ends of their chains, and the new ends."""
    links: list[Link] = []
    ends: dict[str, ChainHead] = {}
    for name, some in sorted(by_chain.items()):
        count, last = before[name]
        for table, seq, key in some:
            count += 1
            body = str(batch.rows[table][key][-1]) if table in HASHED else None
            last = link_hash(last, table, seq, key, body)
            links.append(Link(name, count, table, seq, key, last))
        ends[name] = ChainHead(count, last)
    return links, ends


JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)


def _chain_of(batch: Batch, added: Added) -> str:
    if added.table in ("questions", "debates"):
        return STORE
    if added.table == "prompts":
        return batch.prompt_chains[added.key]
    return str(batch.rows[added.table][added.key][1])


def _move(
    connection: Connection, before: Mapping[str, ChainHead], ends: Mapping[str, ChainHead]
) -> int:
    """Move the heads that end as in `before` on to `ends`; the number of those moved."""
    moved, names = 0, list(ends)
    for start in range(0, len(names), MAX_ROWS):
        values: list[str | int | None] = []
        for name in names[start : start + MAX_ROWS]:
            values += (name, *ends[name], *before[name])
        size = 1 << (len(values) // 5 - 1).bit_length()
        values += [None] * (5 * size - len(values))  # equal to nothing, so that no head moves
        moved += execute_sqlite(connection, _move_statement(size), values).rowcount
    return moved


@cache
def _move_statement(num_rows: int) -> str:
    """Moves heads; of few different sizes, which the driver keeps prepared."""
    rows = ",".join(["(?,?,?,?,?)"] * num_rows)
    return (
        "INSERT INTO heads (chain, count, hash)"
        f" WITH v (chain, count, hash, count_before, hash_before) AS (VALUES {rows})"
        " SELECT v.chain, v.count, v.hash FROM v LEFT JOIN heads AS h ON h.chain = v.chain"
        " WHERE coalesce(h.count, 0) = v.count_before"
        f" AND (h.chain IS NULL OR h.hash = v.hash_before) {_ON}"
    )


def _move_all(connection: Connection, ends: Mapping[str, ChainHead]) -> None:
    """Move heads on to `ends` wherever they stand."""
    execute_sqlite(connection, MOVE_ALL, (JSON.encode([(name, *e) for name, e in ends.items()]),))


def _stored_heads(connection: Connection, chains: Sequence[str]) -> dict[str, ChainHead]:
    found = execute_sqlite(connection, READ, (JSON.encode(chains),))
    return {name: sound_head(name, count, last) for name, count, last in found}


_ON = "ON CONFLICT (chain) DO UPDATE SET count = excluded.count, hash = excluded.hash"
MOVE_ALL = (
    "INSERT INTO heads (chain, count, hash) SELECT json_extract(value, '$[0]'),"
    " json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?) WHERE true " + _ON
)
READ = "SELECT chain, count, hash FROM heads WHERE chain IN (SELECT value FROM json_each(?))"
"""SQLite's statements, one however many chains: each is a hand-over between threads."""


def _locked_heads(connection: Connection, chains: Sequence[str]) -> dict[str, ChainHead]:
    """The heads of these chains, locked until the transaction of PostgreSQL ends."""
    found = _lock(connection, chains)
    missing = {name: beginning(name) for name in chains if name not in found}
    if missing:
        # Another transaction may be beginning the same chain: wait for it, then read its end.
        _upsert(connection, missing, "NOTHING")
        found |= _lock(connection, list(missing))
    return found


def _lock(connection: Connection, chains: Sequence[str]) -> dict[str, ChainHead]:
    # In one order for all, so that two transactions do not wait for each other.
    query = "SELECT chain, count, hash FROM heads WHERE chain = ANY(%s) ORDER BY chain FOR UPDATE"
    rows = connection.exec_driver_sql(query, (list(chains),))
    return {name: sound_head(name, count, last) for name, count, last in rows}


def _upsert(connection: Connection, ends: Mapping[str, ChainHead], else_do: str) -> None:
    connection.exec_driver_sql(
        "INSERT INTO heads (chain, count, hash)"
        " SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[])"
        f" ON CONFLICT (chain) DO {else_do}",
        (list(ends), [end.length for end in ends.values()], [end.hash for end in ends.values()]),
    )
