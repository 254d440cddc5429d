"""Claims: which process is running which debate, so that no two run the same one.

A claim is a lease. Its owner renews it while it lives; a claim whose process has
ended on this machine is taken over at once, one from elsewhere when its lease is over.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from oversight.store.schema import claims, key_text


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told apart from a later one that was given the same number."""

    host: str
    """Scope of process numbers: the machine, its boot, and the namespace of numbers."""
    pid: int
    started: str
    """Clock ticks from boot to its start; empty where the system does not tell."""

    def is_gone(self) -> bool:
        """True if it has surely ended. Of a process elsewhere nothing is known: False."""
        if self.host != host():
            return False
        status = _status(self.pid)
        if status is None:
            return not _answers(self.pid)
        state, started = status
        # A zombie has ended and waits for its parent to notice.
        return state in "ZX" or (self.started != "" and self.started != started)


def current() -> Process:
    """This process."""
    status = _status(os.getpid())
    return Process(host=host(), pid=os.getpid(), started=status[1] if status else "")


@cache
def host() -> str:
    """The name of the place in which process numbers mean the same."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    try:
        return f"{socket.gethostname()}/{boot.read_text().strip()}/{namespace.readlink()}"
    except OSError:
        return socket.gethostname()


def _status(pid: int) -> tuple[str, str] | None:
    """State letter and start time of a process, or None where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may itself hold spaces and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], fields[19]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


LEASE_S = 90.0
RENEW_S = 25.0
"""Three renewals may fail before a lease is over."""

MAX_IDS = 400
"""Ids a statement, also where SQLite takes only 999 variables."""


class Claims:
    """The claims of one open store. All methods run inside a writing transaction."""

    def __init__(self) -> None:
        self.owner = uuid.uuid4().hex
        self.process = current()
        self.held: set[str] = set()

    def take(self, connection: Connection, debate_ids: Iterable[str]) -> set[str]:
        """Claim what is free of `debate_ids`; those that this owner holds afterwards."""
        # Sorted: two PostgreSQL transactions that lock in different orders would block each other.
        by_key = {key_text(id_): id_ for id_ in sorted(set(debate_ids))}
        mine: set[str] = set()
        for keys in _chunks(list(by_key)):
            mine |= {by_key[key] for key in self._take(connection, keys)}
        self.held |= mine
        return mine

    def drop(self, connection: Connection, debate_ids: Iterable[str]) -> None:
        """Give up the claims on `debate_ids` that this owner holds."""
        ids = set(debate_ids)
        for keys in _chunks([key_text(id_) for id_ in sorted(ids)]):
            connection.execute(
                delete(claims).where(claims.c.owner == self.owner, claims.c.debate_id.in_(keys))
            )
        self.held -= ids

    def living(self, connection: Connection, beginning: str) -> set[str]:
        """Keys of claims that begin so and whose owners live; `beginning` has no wildcards."""
        now = _now(connection)
        query = select(claims).where(claims.c.debate_id.like(f"{beginning}%"))
        return {row.debate_id for row in connection.execute(query).all() if not _is_over(row, now)}

    def renew(self, connection: Connection) -> None:
        """Make the lease of all claims of this owner start again."""
        expires_at = _now(connection) + LEASE_S
        connection.execute(
            update(claims).where(claims.c.owner == self.owner).values(expires_at=expires_at)
        )

    def _take(self, connection: Connection, keys: Sequence[str]) -> list[str]:
        now = _now(connection)
        query = select(claims).where(claims.c.debate_id.in_(keys)).order_by(claims.c.debate_id)
        taken = connection.execute(query).all()
        for row in taken:
            if row.owner != self.owner and _is_over(row, now):
                self._take_over(connection, row, now)
        free = set(keys) - {row.debate_id for row in taken}
        self._insert(connection, sorted(free), now)
        query = select(claims.c.debate_id).where(
            claims.c.debate_id.in_(keys), claims.c.owner == self.owner
        )
        return list(connection.scalars(query))

    def _take_over(self, connection: Connection, row: Row[tuple[object, ...]], now: float) -> None:
        """Take `row` unless somebody else did, or its owner came back, since it was read."""
        connection.execute(
            update(claims)
            .where(
                claims.c.debate_id == row.debate_id,
                claims.c.owner == row.owner,
                claims.c.expires_at == row.expires_at,
            )
            .values(self._values(now))
        )

    def _insert(self, connection: Connection, keys: Sequence[str], now: float) -> None:
        if not keys:
            return
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(claims).on_conflict_do_nothing()
        values = self._values(now)
        connection.execute(statement, [{"debate_id": key, **values} for key in keys])

    def _values(self, now: float) -> dict[str, object]:
        return {
            "owner": self.owner,
            "host": self.process.host,
            "pid": self.process.pid,
            "started": self.process.started,
            "expires_at": now + LEASE_S,
        }


def _is_over(row: Row[tuple[object, ...]], now: float) -> bool:
    process = Process(host=row.host, pid=row.pid, started=row.started)
    # A process that still runs on this machine keeps its claim, however long it was stopped.
    if process.host == current().host:
        return process.is_gone()
    return bool(row.expires_at < now)


def _now(connection: Connection) -> float:
    """Seconds since 1970 by the clock that all processes of the store share."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0.0)


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), MAX_IDS):
        yield keys[start : start + MAX_IDS]
