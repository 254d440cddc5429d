"""The writer: one thread through which everything is written, in groups.

Writes that wait while one transaction is being committed go into the next one
together, so that many debates share the cost of a commit. If a group fails for
the sake of one call's records, each call is tried alone, and only the one at
fault gets the error.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from oversight.config import TransactionSettings
from oversight.errors import StoreError
from oversight.store import claims as leases
from oversight.store.batch import COLUMNS, KEYED, Batch, Memory, Row, conflict, powers
from oversight.store.chain import KEYS, Added, Heads, extend
from oversight.store.claims import Claims
from oversight.store.database import Database, execute_sqlite

MAX_IDS = 500
"""Ids a query; every SQLite takes 999 variables."""

TABLES = tuple(COLUMNS)
"""In the order of writing."""

SHARED = frozenset({"sources", "parts", "token_blocks", "run_members"})
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
    for table in TABLES:
        rows = batch.rows.get(table)
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
"""Index of the key in a row, by table."""


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


T = TypeVar("T")

ATTEMPTS = 3
"""Tries of a transaction that the database broke off for reasons of its own."""

PAUSE_S = 0.1
"""Seconds between the first two tries, longer between later ones: the other transaction of a
deadlock is woken and goes on first."""

PASSING = frozenset({"40P01", "40001"})
"""PostgreSQL's codes of a deadlock and of a serialisation failure."""


@dataclass(slots=True)
class Write:
    """Rows to be written, and who waits for it."""

    batch: Batch
    waiter: Future[None] | asyncio.Future[None]


@dataclass(slots=True)
class PendingWrite:
    """Something to be done in a transaction of its own, and who waits for its result."""

    run: Callable[[Connection], Any]
    waiter: Future[Any]


@dataclass(frozen=True, slots=True)
class Release:
    """Claims to be given up, for which nobody waits."""

    ids: tuple[str, ...]


Job = Write | PendingWrite | Release

GATHER_S = 0.005
"""Seconds for which writes that follow each other closely are gathered, where nothing else is
said: a call of a model takes a hundred times as long, and a commit a page of every table."""
CLOSELY = 8
"""Writes in a transaction from which on the next one is waited for."""


AS_THEY_COME = TransactionSettings()


class Writer:
    """The thread that writes. It starts with the first job and does not keep the program alive."""

    def __init__(self, database: Database, transactions: TransactionSettings) -> None:
        self.database = database
        self.transactions = transactions
        self.memory = Memory.empty()
        self.heads = Heads()
        self.claims = Claims()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._enough = threading.Event()
        """Set when a transaction is to wait for no more writes."""
        self._come_closely = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._connection: Connection | None = None
        self._renew_at = 0.0

    def submit(self, job: Job) -> None:
        """Have `job` done.

        Raises:
            StoreError: The store is closed.
        """
        with self._lock:
            if self._closed:
                raise StoreError(f"store {self.database.name} is closed; open it again to write")
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="oversight-store", daemon=True
                )
                self._thread.start()
            self._jobs.put(job)
            if _is_waited_for(job) or self._jobs.qsize() >= self.transactions.writes:
                self._enough.set()

    def call(self, run: Callable[[Connection], T]) -> T:
        """The result of `run`, done in a transaction of its own."""
        waiter: Future[T] = Future()
        self.submit(PendingWrite(run, waiter))
        return waiter.result()

    def stop(self, timeout_s: float | None = None) -> None:
        """Finish all jobs, give up all claims and end the thread; wait for it `timeout_s`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
            self._enough.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        self.database.close()

    def _work(self) -> None:
        running = True
        while running:
            group = self._next_group()
            if group and group[-1] is None:
                group.pop()
                running = False
            self._do_writes([job for job in group if isinstance(job, Write)])
            self._release({id_ for job in group if isinstance(job, Release) for id_ in job.ids})
            for job in group:
                if isinstance(job, PendingWrite):
                    self._do_call(job)
            self._renew_if_due()
        self._release_all()
        self._disconnect()

    def _next_group(self) -> list[Job | None]:
        """Writes that wait; empty when it is time to renew the claims instead."""
        timeout = max(0.0, self._renew_at - time.monotonic()) if self.claims.held else None
        group: list[Job | None] = []
        try:
            group.append(self._jobs.get(timeout=timeout))
            self._gather()
            while len(group) < self.transactions.writes and group[-1] is not None:
                group.append(self._jobs.get_nowait())
        except Empty:
            pass
        with self._lock:
            # What a full group leaves behind, and whoever stands still for it, is not waited for.
            if self._jobs.empty():
                self._enough.clear()
        self._come_closely = len(group) >= CLOSELY
        return group

    def _gather(self) -> None:
        """Let more writes come, for as long as it was said, or until there are enough."""
        wait_s = self.transactions.wait_s
        if wait_s is None:
            wait_s = GATHER_S if self._come_closely else 0.0
        if wait_s:
            self._enough.wait(wait_s)

    def _do_writes(self, jobs: Sequence[Write]) -> None:
        if not jobs:
            return
        try:
            self._write(jobs)
        except Exception as error:
            if len(jobs) == 1 or isinstance(error.__cause__, OperationalError):
                _settle((job, error) for job in jobs)
            else:
                for job in jobs:
                    self._do_writes([job])
        else:
            _settle((job, None) for job in jobs)

    def _write(self, jobs: Sequence[Write]) -> None:
        batch = jobs[0].batch
        if len(jobs) > 1:
            batch = Batch()
            for job in jobs:
                batch.merge(job.batch)
        self._transact(lambda connection: insert(connection, batch, self.heads))
        for id_, text in batch.part_texts.items():
            self.memory.parts.remember(text, id_)
        for id_ in batch.rows.get("token_blocks", ()):
            self.memory.blocks.remember(id_, id_)

    def _do_call(self, job: PendingWrite) -> None:
        try:
            result = self._transact(job.run)
        except Exception as error:
            job.waiter.set_exception(error)
        else:
            if self.claims.held and not self._renew_at:
                self._renew_at = time.monotonic() + leases.RENEW_S
            job.waiter.set_result(result)

    def _transact(self, work: Callable[[Connection], T]) -> T:
        """Result of `work`, its writing committed.

        Raises:
            StoreError: It failed and nothing of it was written.
        """
        for attempt in range(1, ATTEMPTS + 1):
            with self.database.explained():
                try:
                    self.database.check_file()
                    connection = self._connect()
                    with connection.begin():
                        return work(connection)
                except BaseException as error:
                    self.heads.forget()
                    if not isinstance(error, DBAPIError):
                        raise
                    self._disconnect()
                    if attempt == ATTEMPTS or not _is_passing(error):
                        raise
            time.sleep(attempt * PAUSE_S)
        raise AssertionError("unreachable")

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self.database.connect_writer()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _renew_if_due(self) -> None:
        if not self.claims.held:
            self._renew_at = 0.0
        elif time.monotonic() >= self._renew_at:
            try:
                self._transact(self.claims.renew)
                self._renew_at = time.monotonic() + leases.RENEW_S
            except StoreError:
                # Tried again soon; the lease outlives several failures.
                self._renew_at = time.monotonic() + leases.RENEW_S / 5

    def _release(self, ids: Set[str]) -> None:
        if ids:
            # If it fails, others take the claims over when this process has ended.
            with contextlib.suppress(StoreError):
                self._transact(lambda c: self.claims.drop(c, ids))

    def _release_all(self) -> None:
        self._release(self.claims.held)


def _is_waited_for(job: Job) -> bool:
    """True if a thread stands still until the job is done."""
    if isinstance(job, Write):
        return not isinstance(job.waiter, asyncio.Future)
    return isinstance(job, PendingWrite)


def _is_passing(error: DBAPIError) -> bool:
    """True if the same transaction may succeed when tried again; writes may be repeated."""
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in PASSING


def _settle(results: Iterable[tuple[Write, Exception | None]]) -> None:
    """Wake those who wait, with one message to each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[None], Exception | None]]]
    by_loop = {}
    for job, error in results:
        own = error if error is None else _copy(error)
        if isinstance(job.waiter, asyncio.Future):
            by_loop.setdefault(job.waiter.get_loop(), []).append((job.waiter, own))
        elif own is None:
            job.waiter.set_result(None)
        else:
            job.waiter.set_exception(own)
    for loop, settled in by_loop.items():
        # A closed loop raises: nobody waits there any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle_in_loop, settled)


def _settle_in_loop(settled: list[tuple[asyncio.Future[None], Exception | None]]) -> None:
    for future, error in settled:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _copy(error: Exception) -> Exception:
    """An error of its own for each who waits: an exception carries the trace of its raising."""
    if not isinstance(error, StoreError):
        return error
    copy = type(error)(str(error))
    copy.__cause__ = error.__cause__
    return copy
