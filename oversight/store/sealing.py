"""The check of the chains, and seals: the ends of all chains at one moment.

A chain shows what was changed by somebody who did not compute it anew, and nobody can
compute a sealed one: a person who rewrites the whole store, or cuts it off where it was whole
once (a lost write-ahead log does that), ends up with other heads than the seal has.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, text

from oversight.errors import FileError, StoreError
from oversight.files import write_text
from oversight.store.chain import (
    HASHED,
    KEYS,
    START,
    STORE,
    ChainHead,
    Link,
    beginning,
    link_hash,
    sound_head,
)
from oversight.store.reading import chunks
from oversight.store.schema import heads, links, metadata, shown

LINKS_A_READ = 500
DIGEST_CHARS = 40
SEAL = "oversight_seal"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a store."""

    table: str
    row: str
    """Id of the row; empty where the whole table or file is meant."""
    reason: str
    debate: str = ""
    """Id of the debate that it belongs to, where it is known."""


@dataclass(frozen=True)
class Seal:
    """The ends of all chains, by the debate's id; that of the store itself by ""."""

    heads: Mapping[str, ChainHead]
    before: Mapping[str, tuple[int, str]]
    """Of each table with rows from before there were chains: their number, and their digest."""

    @property
    def digest(self) -> str:
        """A short text that is another one for any other heads."""
        content = json.dumps([self.heads, self.before], sort_keys=True, separators=(",", ":"))
        return sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARS]

    @property
    def num_rows(self) -> int:
        """Number of rows in chains."""
        return sum(head.length for head in self.heads.values())

    @property
    def num_before(self) -> int:
        """Number of rows from before there were chains."""
        return sum(number for number, _ in self.before.values())

    def text(self) -> str:
        """Content of a seal's file."""
        whole = {SEAL: 1, "digest": self.digest, "before": self.before, "heads": self.heads}
        return json.dumps(whole, indent=1, sort_keys=True) + "\n"

    def write(self, path: Path) -> None:
        """Write the seal's file, whole or not at all.

        Raises:
            StoreError: It cannot be written.
        """
        try:
            write_text(path, self.text())
        except FileError as error:
            raise StoreError(f"seal {path}: {error.strerror}; name a file in a folder") from None

    @classmethod
    def read(cls, path: Path) -> Seal:
        """The seal in a file.

        Raises:
            StoreError: It cannot be read, or is not what was sealed.
        """
        try:
            whole = json.loads(path.read_text(encoding="utf-8"))
            if whole[SEAL] != 1:
                raise ValueError(f"{SEAL} = {whole[SEAL]!r} is another version's")
            ends = {
                str(name): ChainHead(int(n), str(last))
                for name, (n, last) in whole["heads"].items()
            }
            before = {str(name): (int(n), str(d)) for name, (n, d) in whole["before"].items()}
            digest = whole["digest"]
        except OSError as error:
            raise StoreError(f"seal {path}: {error.strerror}; check the path") from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(
                f"seal {path}: no file of `oversight store seal` ({type(error).__name__}: {error})"
            ) from None
        seal = cls(ends, before)
        if seal.digest != digest:
            raise StoreError(
                f"seal {path} was changed: it says digest {digest!r}, its heads give "
                f"{seal.digest}; take the file as it was sealed"
            )
        return seal


def is_digest(given: str) -> bool:
    """True if a text is the digest of a seal, and no file's name."""
    return re.fullmatch(f"[0-9a-f]{{{DIGEST_CHARS}}}", given) is not None


def read_seal(connection: Connection) -> Seal:
    """The ends of all chains as they are now."""
    query = select(heads.c.chain, heads.c.count, heads.c.hash).order_by(heads.c.chain)
    ends = {
        name: sound_head(name, length, last) for name, length, last in connection.execute(query)
    }
    return Seal(ends, _rows_before(connection))


def _rows_before(connection: Connection) -> dict[str, tuple[int, str]]:
    """Of each table, the number and the digest of rows without a link that were there first."""
    found = {}
    for name, (number, last) in rows_at_start(connection).items():
        if number:
            # Plain text: values as they are, also such that do not fit their column.
            query = text(f"SELECT * FROM {name} WHERE seq <= :last ORDER BY seq")
            digest, counted = sha256(), 0
            for row in connection.execute(query, {"last": last}):
                digest.update(repr(tuple(row)).encode("utf-8", "backslashreplace"))
                counted += 1
            found[name] = (counted, digest.hexdigest())
    return found


def rows_at_start(connection: Connection) -> dict[str, tuple[int, int]]:
    """Of each table, how many rows there were before chains, and the last one's place."""
    first = connection.scalar(select(links.c.body).order_by(links.c.id).limit(1))
    try:
        [[_, _, kind, _, key, _], *_] = json.loads(first or "")
        if kind == START:
            return {name: (int(n), int(last)) for name, (n, last) in json.loads(key).items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass  # the check of the chain names it
    return dict.fromkeys(KEYS, (0, 0))


@dataclass
class _Chain:
    """Place up to which a chain has been read."""

    head: ChainHead
    sealed: str | None = None
    """Its hash at the place that a seal has."""


@dataclass
class _Walk:
    """The check of all chains, link by link."""

    connection: Connection
    named: set[tuple[str, str]]
    """(table, row) of what was found to be wrong before: not named once more."""
    seal: Seal | None
    chains: dict[str, _Chain] = field(default_factory=dict)
    found: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Of each table, the places of rows that stand in a chain."""

    def problems(self) -> Iterator[Problem]:
        """Problems of links, one by one; afterwards `chains` tells how each ends."""
        last = -1
        while True:
            query = select(links).where(links.c.id > last).order_by(links.c.id)
            rows = self.connection.execute(query.limit(LINKS_A_READ)).all()
            if not rows:
                return
            last = rows[-1].id
            read: list[Link] = []
            for row in rows:
                try:
                    read += _links(row.body)
                except ValueError as error:
                    yield Problem("links", str(row.id), str(error))
            yield from self._check(read)

    def _check(self, read: Sequence[Link]) -> Iterator[Problem]:
        stored = _stored(self.connection, read)
        for link in read:
            chain = self.chains.setdefault(link.chain, _Chain(beginning(link.chain)))
            expected = chain.head.length + 1
            if link.number != expected:
                yield self._of_chain(link.chain, _gap(expected, link.number))
            before = chain.head.hash if link.number == expected else None
            found = self._wrong(link, before, stored.get((link.table, link.key)))
            if found and (link.table, link.key) not in self.named:
                self.named.add((link.table, link.key))
                debate = link.key if link.table == "debates" else link.chain
                yield Problem(link.table, link.key, found, debate)
            chain.head = ChainHead(link.number, link.hash)
            if (
                self.seal
                and self.seal.heads.get(link.chain, ChainHead(0, "")).length == link.number
            ):
                chain.sealed = link.hash

    def _wrong(self, link: Link, before: str | None, row: Any) -> str:
        """Problem of the row of a link; empty if there is none.

        Args:
            before: Hash of the link before it; None if that is lost.
        """
        body = None
        if link.table != START:
            if row is None:
                return "is lost: it was written, as its chain says, and is not there any more"
            self.found[link.table].add(row.seq)
            if row.seq != link.seq:
                return (
                    f"was moved in the order of writing: it was written as number {link.seq} and "
                    f"stands as number {row.seq}"
                )
            body = row.body if link.table in HASHED else None
        if before is None:
            return ""
        if isinstance(body, str | None) and link.hash == link_hash(
            before, link.table, link.seq, link.key, body
        ):
            return ""
        return "was changed after it was written: it does not give the hash in its chain"

    def _of_chain(self, chain: str, reason: str) -> Problem:
        return Problem("links", "", f"the chain of {_called(chain)} {reason}", chain)

    def ends(self) -> Iterator[Problem]:
        """Problems of the ends of chains."""
        query = select(heads.c.chain, heads.c.count, heads.c.hash)
        stated = {}
        for row in self.connection.execute(query):
            try:
                stated[row.chain] = sound_head(*row)
            except StoreError as error:
                yield Problem(
                    "heads", shown(row.chain), str(error).partition(": ")[2].split(";")[0]
                )
        for name in sorted({*stated, *self.chains}):
            chain = self.chains.get(name)
            head, said = (chain.head if chain else beginning(name)), stated.get(name)
            if said is None:
                yield self._of_chain(name, f"has {head.length} links and no head: it was removed")
            elif said.length > head.length:
                yield self._of_chain(
                    name,
                    f"has {head.length} links, its head counts {said.length}: the last "
                    f"{said.length - head.length} are lost",
                )
            elif said != head:
                yield self._of_chain(name, "ends otherwise than its head says: one was changed")

    def against_seal(self, seal: Seal) -> Iterator[Problem]:
        """Problems: what of a seal the store does not hold any more."""
        for name, sealed in sorted(seal.heads.items()):
            chain = self.chains.get(name)
            count = chain.head.length if chain else 0
            if chain is None:
                yield Problem(
                    "heads", "", f"{_called(name)}, sealed with {sealed.length} rows, is gone", name
                )
            elif count < sealed.length:
                yield Problem(
                    "heads",
                    "",
                    f"{_called(name)} was sealed with {sealed.length} rows and has {count}: the "
                    f"last {sealed.length - count} are lost",
                    name,
                )
            elif chain.sealed != sealed.hash:
                yield Problem(
                    "heads",
                    "",
                    f"{_called(name)}: its first {sealed.length} rows are others than were sealed",
                    name,
                )
        now = _rows_before(self.connection)
        for table, (number, digest) in sorted(seal.before.items()):
            found = now.get(table, (0, ""))
            if found != (number, digest):
                yield Problem(
                    table,
                    "",
                    f"of rows written before there were chains, {number} were sealed and {found[0]}"
                    " are there; they are not the same",
                )


def check_chains(
    connection: Connection, named: set[tuple[str, str]], seal: Seal | None
) -> Iterator[Problem]:
    """Problems: what was changed, added or lost since it was written, and since it was sealed.

    Args:
        named: (table, row) of what is known to be wrong.
    """
    walk = _Walk(connection, named, seal)
    yield from walk.problems()
    yield from walk.ends()
    yield from _check_unlinked(walk)
    if seal is not None:
        yield from walk.against_seal(seal)


def _check_unlinked(walk: _Walk) -> Iterator[Problem]:
    """Rows without a link: added by somebody else, or from before there were chains."""
    for name, (number, last) in rows_at_start(walk.connection).items():
        table = metadata.tables[name]
        columns = [table.c.seq, table.c[KEYS[name]].label("key")]
        columns += [table.c[place] for place in ("debate_id",) if place in table.c]
        found, counted = walk.found[name], 0
        for row in walk.connection.execute(select(*columns).order_by(table.c.seq)):
            if row.seq in found:
                continue
            if row.seq <= last:
                counted += 1
            elif (name, row.key) not in walk.named:
                yield Problem(
                    name,
                    str(row.key),
                    "stands in no chain: something else than oversight added it or took its link",
                    _debate_of(name, row),
                )
        if counted != number:
            yield Problem(
                name,
                "",
                f"{number} rows were written before there were chains, and {counted} of them "
                "are there",
            )


def _debate_of(table: str, row: Any) -> str:
    if table == "debates":
        return str(row.key)
    return str(getattr(row, "debate_id", ""))


def _called(chain: str) -> str:
    return "the store itself (questions and debates)" if chain == STORE else f"debate {chain}"


def _gap(expected: int, number: int) -> str:
    if number < expected:
        return f"has a link {number} again after {expected - 1}"
    many = f"links {expected} to {number - 1}" if number > expected + 1 else f"link {expected}"
    return f"lacks {many}: what was written there is lost or cannot be told"


def _links(body: Any) -> list[Link]:
    """The links in a row of `links`.

    Raises:
        ValueError: It holds none.
    """
    wrong = "is no list of links: it was changed after it was written"
    try:
        whole = json.loads(body)
        found = [Link(*each) for each in whole]
    except (ValueError, TypeError, RecursionError):
        raise ValueError(wrong) from None
    if type(whole) is not list:
        raise ValueError(wrong)
    for link in found:
        texts = (link.chain, link.table, link.key, link.hash)
        numbers = (link.number, link.seq)
        if not all(type(each) is str for each in texts) or not all(
            type(each) is int for each in numbers
        ):
            raise ValueError(wrong)
        if link.table not in KEYS and link.table != START:
            raise ValueError(wrong)
    return found


def _stored(connection: Connection, read: Sequence[Link]) -> dict[tuple[str, str], Any]:
    """Rows of these links by (table, key)."""
    keys: dict[str, set[str]] = defaultdict(set)
    for link in read:
        keys[link.table].add(link.key)
    found = {}
    for name in keys.keys() - {START}:
        table = metadata.tables[name]
        key = table.c[KEYS[name]]
        columns = [table.c.seq, key.label("key"), *([table.c.body] if name in HASHED else [])]
        for some in chunks(sorted(keys[name])):
            for row in connection.execute(select(*columns).where(key.in_(some))):
                found[name, row.key] = row
    return found
