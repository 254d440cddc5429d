"""Chains over what is written, so that what is changed, added or lost afterwards shows.

Each row of evidence gets a link: the hash of the row, of its place in the order of
writing, and of the link before it. Links of one debate are one chain; questions and
debates themselves stand in the store's own chain, whose name is empty. `heads` says how
long each chain is and how it ends.

Turns, judgments, events and ratings are hashed by their content. The ids of debates,
questions, prompts and outcomes are hashes of content already, and those of sources, parts
and token blocks stand in what refers to them. `claims` is no evidence and has no chain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from itertools import chain as concatenated
from typing import NamedTuple

from sqlalchemy import Connection

from oversight.store.batch import Batch, Row, powers

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

HASH_BYTES = 32


class Added(NamedTuple):
    """A row that was inserted just now."""

    table: str
    seq: int
    key: str


class Head(NamedTuple):
    """The end of a chain."""

    count: int
    hash: bytes


def beginning(chain: str) -> Head:
    """The head of a chain without links."""
    return Head(0, blake2b(b"oversight " + chain.encode(), digest_size=HASH_BYTES).digest())


def link_hash(before: bytes, kind: str, seq: int, key: str, body: str | None) -> bytes:
    """The hash of a link; `body` only of the tables in `HASHED`."""
    data = before + f"{kind}\0{seq}\0{key}\0".encode()
    if body is not None:
        data += blake2b(body.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()
    return blake2b(data, digest_size=HASH_BYTES).digest()


def extend(connection: Connection, batch: Batch, added: Sequence[Added], mark: str) -> None:
    """Write the links of rows that the running transaction has inserted.

    It comes last in a transaction: on PostgreSQL other writers of the same debate wait from
    here to its end. SQLite has one writer at a time.
    """
    by_chain: dict[str, list[Added]] = defaultdict(list)
    for each in added:
        by_chain[_chain_of(batch, each)].append(each)
    links: list[Row] = []
    ends: list[Row] = []
    for name, head in sorted(_heads(connection, sorted(by_chain), mark).items()):
        count, last = head
        for table, seq, key in by_chain[name]:
            body = str(batch.rows[table][key][-1]) if table in HASHED else None
            count, last = count + 1, link_hash(last, table, seq, key, body)
            links.append((name, count, table, seq, key, last))
        ends.append((name, count, last))
    _write(connection, LINKS, links, mark, "")
    _write(connection, HEADS, ends, mark, UPSERT)


LINKS = "links (chain,number,kind,seq,row_key,hash)"
HEADS = "heads (chain,count,hash)"
UPSERT = " ON CONFLICT (chain) DO UPDATE SET count = excluded.count, hash = excluded.hash"


def _chain_of(batch: Batch, added: Added) -> str:
    if added.table in ("questions", "debates"):
        return STORE
    if added.table == "prompts":
        return batch.prompt_chains[added.key]
    return str(batch.rows[added.table][added.key][1])


def _heads(connection: Connection, chains: Sequence[str], mark: str) -> Mapping[str, Head]:
    """The heads of these chains, locked until the transaction ends."""
    found = dict(_locked_heads(connection, chains, mark))
    missing = [name for name in chains if name not in found]
    if mark != "?" and missing:
        # Another transaction may be beginning the same chain: wait for it, then read its end.
        rows: list[Row] = [(name, *beginning(name)) for name in missing]
        _write(connection, HEADS, rows, mark, " ON CONFLICT DO NOTHING")
        found |= dict(_locked_heads(connection, missing, mark))
    else:
        found |= {name: beginning(name) for name in missing}
    return found


def _locked_heads(
    connection: Connection, chains: Sequence[str], mark: str
) -> Iterator[tuple[str, Head]]:
    for some in powers(chains):
        query = _heads_query(len(some), mark)
        for name, count, last in connection.exec_driver_sql(query, tuple(some)):
            yield name, Head(count, bytes(last))


@cache
def _heads_query(number: int, mark: str) -> str:
    marks = ",".join([mark] * number)
    query = f"SELECT chain, count, hash FROM heads WHERE chain IN ({marks})"
    # In one order for all, so that two transactions do not wait for each other.
    return query if mark == "?" else f"{query} ORDER BY chain FOR UPDATE"


def _write(
    connection: Connection, into: str, rows: Sequence[Row], mark: str, conflict: str
) -> None:
    for some in powers(rows):
        statement = _statement(into, len(some[0]), len(some), mark) + conflict
        connection.exec_driver_sql(statement, tuple(concatenated.from_iterable(some)))


@cache
def _statement(into: str, num_columns: int, num_rows: int, mark: str) -> str:
    row = f"({','.join([mark] * num_columns)})"
    return f"INSERT INTO {into} VALUES {','.join([row] * num_rows)}"
