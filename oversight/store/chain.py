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
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection

from oversight.store.batch import Batch, Row, Value
from oversight.store.encoding import kind_of
from oversight.store.reading import naming

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


class Head(NamedTuple):
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


def beginning(chain: str) -> Head:
    """The head of a chain without links."""
    return Head(0, sha256(f"oversight {chain}".encode()).hexdigest())


def link_hash(before: str, table: str, seq: int, key: str, body: str | None) -> str:
    """The hash of a link; `body` only of the tables in `HASHED`."""
    digest = "" if body is None else sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
    return sha256(f"{before}{table}\0{seq}\0{key}\0{digest}".encode()).hexdigest()


def extend(connection: Connection, batch: Batch, added: Sequence[Added]) -> None:
    """Write the links of rows that the running transaction has inserted, all in one row.

    It comes last in a transaction: on PostgreSQL other writers of the same debate wait from
    here to its end. SQLite has one writer at a time.
    """
    by_chain: dict[str, list[Added]] = defaultdict(list)
    for each in added:
        by_chain[_chain_of(batch, each)].append(each)
    links: list[Row] = []
    ends: list[Row] = []
    for name, (count, last) in sorted(_heads(connection, sorted(by_chain)).items()):
        some = by_chain[name]
        for number, (table, seq, key) in enumerate(some, start=count + 1):
            body = str(batch.rows[table][key][-1]) if table in HASHED else None
            last = link_hash(last, table, seq, key, body)  # noqa: PLW2901
            links.append((name, number, table, seq, key, last))
        ends.append((name, count + len(some), last))
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    connection.exec_driver_sql(f"INSERT INTO links (body) VALUES ({mark})", (JSON.encode(links),))
    _write_heads(connection, ends, "UPDATE SET count = excluded.count, hash = excluded.hash")


JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)


def _chain_of(batch: Batch, added: Added) -> str:
    if added.table in ("questions", "debates"):
        return STORE
    if added.table == "prompts":
        return batch.prompt_chains[added.key]
    return str(batch.rows[added.table][added.key][1])


def _heads(connection: Connection, chains: Sequence[str]) -> dict[str, Head]:
    """The heads of these chains, locked until the transaction ends."""
    found = _locked_heads(connection, chains)
    missing = {name: beginning(name) for name in chains if name not in found}
    if missing and connection.dialect.name != "sqlite":
        # Another transaction may be beginning the same chain: wait for it, then read its end.
        _write_heads(connection, [(name, *head) for name, head in missing.items()], "NOTHING")
        return found | _locked_heads(connection, list(missing))
    return found | missing


def _locked_heads(connection: Connection, chains: Sequence[str]) -> dict[str, Head]:
    # One statement however many chains: each is a hand-over between threads.
    given: str | list[str]
    query, given = "chain IN (SELECT value FROM json_each(?))", JSON.encode(chains)
    if connection.dialect.name != "sqlite":
        # In one order for all, so that two transactions do not wait for each other.
        query, given = "chain = ANY(%s) ORDER BY chain FOR UPDATE", list(chains)
    query = f"SELECT chain, count, hash FROM heads WHERE {query}"
    rows = connection.exec_driver_sql(query, (given,))
    return {name: sound_head(name, count, last) for name, count, last in rows}


def sound_head(chain: Any, count: Any, last: Any) -> Head:
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
    return Head(count, last)


def _write_heads(connection: Connection, rows: Sequence[Row], else_do: str) -> None:
    given: tuple[str | list[Value], ...]
    source, given = SQLITE_ROWS, (JSON.encode(rows),)
    if connection.dialect.name != "sqlite":
        source, given = POSTGRES_ROWS, tuple(map(list, zip(*rows, strict=True)))
    connection.exec_driver_sql(
        f"INSERT INTO heads (chain, count, hash) {source} ON CONFLICT (chain) DO {else_do}", given
    )


SQLITE_ROWS = (
    "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')"
    " FROM json_each(?) WHERE true"
)
POSTGRES_ROWS = "SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[])"
