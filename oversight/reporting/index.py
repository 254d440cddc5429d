"""An index over a store for lists, filters and full-text search, in a file of its own.

The store is only read. The index holds for each debate a row as lists show it, its facets (what
can be filtered by: kind and value), and its words. It is made from the newest debates down, so that
a list is there at once, and is brought up to date with what is written meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from oversight.errors import StoreError
from oversight.ids import text_id
from oversight.reporting.entries import (
    FACETS,
    MAX_DOCUMENTS,
    FacetSets,
    IndexEntry,
    Listing,
    ListQuery,
    entry_of,
    find,
    number_of_debates,
)
from oversight.store import Store
from oversight.store.reading import DebateRows

VERSION = "3"
"""Of what is kept in an index: another version makes it anew."""
PAGE = 50
"""Debates on a page of a list."""
CHUNK = 100
"""Debates that are indexed in one go: few, as pages wait for it."""
ROWS_A_CHANGE = 500
OVERLAP = 500
"""Rows below a mark that are read again on PostgreSQL, where numbers may become visible out of
order."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, row TEXT);
CREATE TABLE IF NOT EXISTS facets (kind TEXT, value TEXT, seq INTEGER,
    PRIMARY KEY (kind, value, seq)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS facets_of ON facets (seq);
CREATE TABLE IF NOT EXISTS documents (number INTEGER PRIMARY KEY, key TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS counts (kind TEXT, value TEXT, number INTEGER,
    PRIMARY KEY (kind, value)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_tags (tag TEXT, run TEXT, PRIMARY KEY (tag, run)) WITHOUT ROWID;
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, content='', tokenize='unicode61');
"""


@dataclass(slots=True)
class Progress:
    """Progress of an index."""

    done: int = 0
    total: int = 0
    error: str = ""
    """The store could not be read: what it said."""
    whole: bool = False


def cache_folder() -> Path:
    """The folder of indexes: the user's cache, or a temporary one where that cannot be written."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "oversight" / "view"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    folder = Path(tempfile.gettempdir()) / f"oversight-view-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


class Index:
    """The index of one store, in a file; any thread may ask it, one brings it up to date.

    Args:
        store: What it is of.
        path: Its file; by default one in the user's cache, named after the store.
    """

    def __init__(self, store: Store, path: Path | None = None) -> None:
        self.store = store
        self.path = path or cache_folder() / f"{text_id('index', store.url)}.db"
        self.progress = Progress()
        self._local = threading.local()
        self._sets = FacetSets()
        self._stop = threading.Event()
        self._first = threading.Event()
        self._lock: IO[str] | None = None
        self._thread: threading.Thread | None = None
        self._uncounted = False
        self._count_at = 0.0
        self._prepare()

    # --- being brought up to date -------------------------------------------------

    def start(self) -> None:
        """Bring it up to date in a thread of its own, now and for as long as it is open."""
        self._thread = threading.Thread(target=self._run, daemon=True, name="oversight-index")
        self._thread.start()

    def wait_for_first(self, timeout_s: float) -> None:
        """Wait until the newest debates are in it, at most so long."""
        self._first.wait(timeout_s)

    def close(self) -> None:
        """End its thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10.0)
        if self._lock is not None:
            self._lock.close()
        with contextlib.suppress(AttributeError, sqlite3.Error):
            self._local.connection.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.update()
                self.progress.error = ""
            except (StoreError, sqlite3.Error) as error:
                self.progress.error = str(error)
            self._first.set()
            self._stop.wait(REFRESH_S)

    def update(self) -> None:
        """Bring it up to date with the store, whole.

        Raises:
            StoreError: The store cannot be read.
        """
        if not self._owns():
            self._measure()
            return
        connection = self._connection()
        self._check_same(connection)
        marks = self._meta(connection, "marks")
        if marks is None:
            marks = self.store.marks()
            self._write(connection, [], marks=marks, low=marks["debates"] + 1)
        changed = self._take_tags(connection)
        while not self._stop.is_set():
            since = marks if self._is_sqlite else _lowered(marks)
            ids, after = self.store.changes(since, ROWS_A_CHANGE + OVERLAP)
            if after == marks:
                break
            for start in range(0, len(ids), CHUNK):
                self._write(connection, self.store.rows_of(ids[start : start + CHUNK]))
            marks = {name: max(marks[name], number) for name, number in after.items()}
            self._write(connection, [], marks=marks)
            changed = True
        changed |= self._go_down(connection)
        self._uncounted |= changed or not number_of_debates(connection)
        if self._uncounted and time.monotonic() >= self._count_at:
            self._count(connection)
        self._measure()

    def _take_tags(self, connection: sqlite3.Connection) -> bool:
        """Take in the tags of runs that were begun meanwhile."""
        last = self._meta(connection, "starts") or 0
        pairs, now = self.store.run_tags(last if self._is_sqlite else max(0, last - OVERLAP))
        if now == last:
            return False
        with connection:
            connection.executemany(
                "INSERT OR IGNORE INTO run_tags VALUES (?, ?)", [(tag, run) for run, tag in pairs]
            )
            _note(connection, starts=now)
        return True

    def _go_down(self, connection: sqlite3.Connection) -> bool:
        """Take in the debates below those that are known, the newest first."""
        changed = False
        counted = time.monotonic()
        while not self._stop.is_set() and (low := self._meta(connection, "low")) is not None:
            ids = self.store.older(low, CHUNK)
            if not ids:
                self._write(connection, [], low=None)
                break
            rows = self.store.rows_of(ids)
            self._write(connection, rows, low=min((row.seq for row in rows), default=low - 1))
            changed = True
            if not self._first.is_set() or time.monotonic() - counted > COUNT_EVERY_S:
                self._count(connection)
                self._measure()
                self._first.set()
                counted = time.monotonic()
            # A page that is asked for meanwhile shall not wait for the whole store.
            time.sleep(0.002)
        return changed

    @property
    def _is_sqlite(self) -> bool:
        return "://" not in self.store.url

    def _owns(self) -> bool:
        """True if no other process brings this file up to date."""
        if self._lock is None:
            lock = self.path.with_suffix(".lock").open("a+", encoding="utf-8")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                return False
            self._lock = lock
        return True

    def _check_same(self, connection: sqlite3.Connection) -> None:
        """Begin anew where the store is another than the one it was made of."""
        newest = connection.execute(
            "SELECT seq, id FROM items ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        if newest is not None and self.store.place_of(newest[1]) != newest[0]:
            for table in ("items", "facets", "documents", "counts", "run_tags", "meta"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("INSERT INTO words(words) VALUES ('delete-all')")
            connection.execute("INSERT INTO meta VALUES ('version', ?)", (VERSION,))
            connection.commit()

    def _measure(self) -> None:
        connection = self._connection()
        low = self._meta(connection, "low")
        below = 0 if low is None else self.store.num_below(low)
        done = number_of_debates(connection)
        self.progress.done, self.progress.total = done, done + below
        self.progress.whole = low is None and self._meta(connection, "marks") is not None

    def _write(
        self, connection: sqlite3.Connection, rows: Sequence[DebateRows], **meta: Any
    ) -> None:
        entries = [entry_of(row) for row in rows]
        with connection:
            for entry in entries:
                shown = json.dumps(asdict(entry.row), separators=(",", ":"))
                connection.execute(
                    "INSERT INTO items VALUES (?, ?, ?) ON CONFLICT (seq) DO UPDATE "
                    "SET row = excluded.row",
                    (entry.seq, entry.row.id, shown),
                )
                connection.execute("DELETE FROM facets WHERE seq = ?", (entry.seq,))
                connection.executemany(
                    "INSERT OR IGNORE INTO facets VALUES (?, ?, ?)",
                    [(kind, value, entry.seq) for kind, value in entry.facets],
                )
                self._write_documents(connection, entry)
            if entries:
                meta["changed"] = time.time_ns()
            _note(connection, **meta)

    def _write_documents(self, connection: sqlite3.Connection, entry: IndexEntry) -> None:
        base = entry.seq * MAX_DOCUMENTS
        [last] = connection.execute(
            "SELECT max(number) FROM documents WHERE number >= ? AND number < ?",
            (base, base + MAX_DOCUMENTS),
        ).fetchone()
        number = base if last is None else last + 1
        for document in entry.documents:
            if number >= base + MAX_DOCUMENTS:
                return
            key = f"{entry.seq} {document.key}"
            added = connection.execute(
                "INSERT OR IGNORE INTO documents VALUES (?, ?)", (number, key)
            ).rowcount
            if added:
                connection.execute(
                    "INSERT INTO words (rowid, text) VALUES (?, ?)", (number, document.text)
                )
                number += 1

    def _count(self, connection: sqlite3.Connection) -> None:
        """Count the values of facets; of a large store that is growing, not all the time."""
        begun = time.monotonic()
        with connection:
            connection.execute("DELETE FROM counts")
            connection.execute(
                "INSERT INTO counts SELECT kind, value, count(*) FROM facets "
                "WHERE kind <> 'question' GROUP BY kind, value"
            )
            connection.execute(
                "INSERT INTO counts SELECT 'tag', t.tag, count(DISTINCT f.seq) FROM run_tags t "
                "JOIN facets f ON f.kind = 'run' AND f.value = t.run GROUP BY t.tag"
            )
            connection.execute("INSERT INTO counts SELECT '', '', count(*) FROM items")
        self._uncounted = False
        self._count_at = time.monotonic() + COUNT_SHARE * (time.monotonic() - begun)

    # --- being asked --------------------------------------------------------------

    def values(self) -> dict[str, list[tuple[str, int]]]:
        """The values of each facet with the number of debates that have them, most first."""
        found: dict[str, list[tuple[str, int]]] = {}
        query = (
            f"SELECT kind, value, number FROM counts WHERE kind IN ({', '.join('?' * len(FACETS))})"
            " ORDER BY number DESC, value"
        )
        for kind, value, number in self._connection().execute(query, list(FACETS)):
            found.setdefault(kind, []).append((value, number))
        return found

    def numbers(self, kind: str) -> dict[str, int]:
        """Number of debates by the value of one facet."""
        query = "SELECT value, number FROM counts WHERE kind = ?"
        return dict(self._connection().execute(query, (kind,)))

    def has_runs(self) -> bool:
        """True if any debate belongs to a run."""
        query = "SELECT 1 FROM counts WHERE kind = 'run' LIMIT 1"
        return self._connection().execute(query).fetchone() is not None

    def known(self) -> dict[str, frozenset[str]]:
        """The values that each facet has, all kinds but the question."""
        found: dict[str, set[str]] = {}
        for kind, value in self._connection().execute("SELECT kind, value FROM counts"):
            found.setdefault(kind, set()).add(value)
        return {kind: frozenset(values) for kind, values in found.items()}

    def listing(self, query: ListQuery, limit: int = PAGE) -> Listing:
        """A page of the debates that fit, the newest first."""
        return find(self._connection(), query, limit, self._sets)

    def ids(self, query: ListQuery) -> list[str]:
        """Ids of all debates that fit, the newest first."""
        found: list[str] = []
        before: int | None = None
        while True:
            page = self.listing(ListQuery(query.filters, query.words, before=before), limit=500)
            found += [row.id for row in page.rows]
            if (before := page.older) is None:
                return found

    # --- the file -----------------------------------------------------------------

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=30.0)
            connection.execute("PRAGMA synchronous = OFF")
            self._local.connection = connection
        return connection

    def _prepare(self) -> None:
        try:
            self._create()
        except sqlite3.OperationalError as error:
            if "fts5" not in str(error):
                raise StoreError(
                    f"the index {self.path}: {error}; remove it, or set XDG_CACHE_HOME to a folder "
                    "that you may write"
                ) from None
            raise StoreError(
                "this Python's SQLite has no full-text search (FTS5), which lists are made with; "
                "use a Python whose SQLite has it"
            ) from None
        except sqlite3.DatabaseError:  # damaged: it is only a cache
            self._local = threading.local()
            for end in ("", "-wal", "-shm"):
                Path(f"{self.path}{end}").unlink(missing_ok=True)
            self._create()

    def _create(self) -> None:
        connection = self._connection()
        connection.execute("PRAGMA journal_mode = WAL")
        held = connection.execute("SELECT name FROM sqlite_master WHERE name = 'meta'").fetchone()
        if held and self._meta(connection, "version") != int(VERSION):
            raise sqlite3.DatabaseError("another version")
        connection.executescript(_SCHEMA)
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (VERSION,))
        connection.commit()

    @staticmethod
    def _meta(connection: sqlite3.Connection, key: str) -> Any:
        found = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if found is None else json.loads(found[0])


REFRESH_S = 2.0
COUNT_EVERY_S = 5.0
COUNT_SHARE = 20.0
"""Times as long as counting took nothing is counted again."""


def _note(connection: sqlite3.Connection, **meta: Any) -> None:
    rows = [(key, json.dumps(value)) for key, value in meta.items()]
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)


def _lowered(marks: dict[str, int]) -> dict[str, int]:
    return {name: max(0, number - OVERLAP) for name, number in marks.items()}
