"""The connection to SQLite or PostgreSQL, and what their errors mean."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from oversight.errors import MissingDependencyError, StoreError, is_unmapped
from oversight.redaction import register, without_password
from oversight.store.schema import NotText

ACCEPTED = "a file's path, sqlite:///path or postgresql://user@host/database"


def parse_address(address: str | Path) -> URL:
    """The URL that `address` stands for; a SQLite path is made absolute.

    Raises:
        StoreError: It is no path and no URL of SQLite or PostgreSQL.
    """
    text = str(address)
    if "://" not in text:
        return _sqlite(text, text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise StoreError(
            f"store {without_password(text)!r} is no URL; accepted: {ACCEPTED}"
        ) from None
    backend = url.drivername.partition("+")[0]
    if backend == "sqlite":
        if url.query or url.host:
            raise StoreError(
                f"store {without_password(text)!r}: a SQLite URL is sqlite:///path, no more"
            )
        return _sqlite(url.database or "", text)
    if backend in ("postgresql", "postgres"):
        register(url.password)
        register(str(url.query.get("password", "")))
        return url.set(drivername="postgresql+psycopg")
    raise StoreError(
        f"store {without_password(text)!r}: {backend!r} is not known; accepted: {ACCEPTED}"
    )


def shown_address(url: URL) -> str:
    """The address for people: a path, or a URL without its password."""
    if is_sqlite(url):
        return str(url.database)
    return without_password(url.set(drivername="postgresql").render_as_string(hide_password=True))


def is_sqlite(url: URL) -> bool:
    """True if the store is a SQLite file, and not a PostgreSQL database."""
    return url.get_backend_name() == "sqlite"


def _sqlite(path: str, given: str) -> URL:
    if path in ("", ":memory:"):
        raise StoreError(
            f"store {given!r} would be lost with the process; name a file, such as 'runs.db'"
        )
    if "\0" in path:
        raise StoreError(f"store {given!r}: a path cannot hold a NUL character")
    return URL.create("sqlite", database=str(Path(path).expanduser().absolute()))


BUSY_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10
LOST_AFTER_S = 30
"""A PostgreSQL server from which nothing comes back for so long is gone: a network that drops
packets says nothing, and the system would wait for a quarter of an hour."""
PAGE_BYTES = 8192
"""Size of a page of a new SQLite file. A body takes kilobytes, and a transaction writes many: each
page is a call of the system into the log, and another one out of it."""
WAL_PAGES = 8000
"""Pages the write-ahead log may grow to before it is copied back: 64 MB. A page of an index changes
in many transactions, and is copied once for all of them."""


class Database:
    """Connections to one store, for reading and for writing."""

    def __init__(self, url: URL, *, follow: bool = False) -> None:
        self.url = url
        self.follow = follow
        """A file that was put in the place of the one that was opened is read instead of it."""
        self.name = shown_address(url)
        self.is_sqlite = is_sqlite(url)
        self.engine = _engine(url)
        self._stands_as: tuple[int, int] | None = None
        """Size and time of a file that is read without locks, as it has to stay."""
        self._file: tuple[int, int] | None = None
        """Device and inode of the SQLite file."""

    def check_file(self) -> None:
        """Notice that a SQLite file was removed or replaced: its connections hold the one that was.

        Raises:
            StoreError: It was removed; or it was replaced, and is not to be followed: what is
                written would be lost, and what is read would be of two stores.
        """
        if not self.is_sqlite:
            return
        try:
            found = Path(str(self.url.database)).stat()
        except OSError as error:
            raise StoreError(
                f"store {self.name} was removed or moved while it was open ({error.strerror})"
            ) from None
        file = found.st_dev, found.st_ino
        if self._file not in (None, file):
            if not self.follow:
                raise StoreError(
                    f"store {self.name} was replaced by another file while it was open; run the "
                    "same command again"
                )
            self.engine.dispose()
        self._file = file

    def only_read(self) -> None:
        """Read the SQLite file where nothing can be written: not even SQLite's own lock file.

        Without a write-ahead log beside it the file is all there is, and is read without locks;
        that nobody has written to it meanwhile is checked after each read.

        Raises:
            StoreError: It has a log, which SQLite reads only where it can write beside it.
        """
        path = Path(str(self.url.database))
        rest = [Path(f"{path}{end}") for end in ("-wal", "-journal")]
        logs = [each for each in rest if each.exists() and each.stat().st_size]
        if logs and not Path(f"{path}-shm").exists():
            raise StoreError(
                f"store {self.name}: rows that are not in the file yet stand in {logs[0].name},"
                " which can be read only where its folder can be written; copy both to where you"
                " may write"
            )
        self.engine.dispose()
        options = {"mode": "ro", "uri": "true"}
        if not logs:
            self._stands_as = _stamp(path)
            options["immutable"] = "1"
        self.engine = _engine(
            URL.create("sqlite", database=f"file:{quote(str(path))}", query=options)
        )

    def _check_still(self) -> None:
        if self._stands_as is not None and _stamp(Path(str(self.url.database))) != self._stands_as:
            raise StoreError(
                f"store {self.name} was written to while it was read; run the same command again"
            )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a transaction that only reads."""
        self.check_file()
        with self.explained(), self.engine.connect() as connection:
            yield connection
        self._check_still()

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """As `reading`, and all of its queries see the store as it is at the first of them."""
        self.check_file()
        with self.explained(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection
        self._check_still()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction that writes, committed at the end."""
        with self.explained(), self.connect_writer() as connection, connection.begin():
            yield connection

    def connect_writer(self) -> Connection:
        """A connection whose transactions take SQLite's write lock from their start.

        A transaction that read first and wants to write then would fail at
        once when another process has written in between.
        """
        return self.engine.connect().execution_options(oversight_writes=True)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns whatever the driver raises inside into a `StoreError` that names this store."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, UnicodeError, OverflowError) as error:
            raise self.explain(error) from error

    def explain(self, error: Exception) -> StoreError:
        """Error that says what `error` of the driver means for this store, and what to do.

        Raises:
            MemoryError: It is a lack of memory.
        """
        self._check_still()
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        if is_unmapped(cause):
            raise MemoryError(f"store {self.name}: {reason}") from error
        if isinstance(cause, UnicodeDecodeError):  # rows that are no text come as `NotText`
            reason = f"malformed: what describes its tables is no text ({reason})"
        if "disk I/O error" in reason and self._is_disk_full():
            reason += " (no space left on its disk)"
        hints = (hint for sign, hint in HINTS.items() if sign in reason)
        hint = next(hints, "")
        return StoreError(f"store {self.name}: {reason}" + (f"; {hint}" if hint else ""))

    def _is_disk_full(self) -> bool:
        """True if a store in a file lacks the room for the files that SQLite puts beside it."""
        path = self.url.database
        if not self.is_sqlite or not path:
            return False
        try:
            return shutil.disk_usage(Path(path).parent).free < ROOM_BYTES
        except OSError:
            return False

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file, by which a change shows."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def execute_sqlite(
    connection: Connection, statement: str, values: Sequence[object] = ()
) -> sqlite3.Cursor:
    """The driver's cursor after a statement of SQLite's, inside the running transaction.

    SQLAlchemy's bookkeeping costs more than such a statement itself. Errors are SQLAlchemy's.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    try:
        return driver.execute(statement, values)
    except sqlite3.Error as error:
        raise DBAPIError.instance(
            statement, None, error, sqlite3.Error, dialect=connection.dialect
        ) from error


ROOM_BYTES = 1 << 16
"""Less than this and SQLite may have no room for the index of its write-ahead log."""

HINTS: dict[str, str] = {
    "unable to open database file": (
        "check that its folder is there and that you may read and write both, or copy it to where "
        "you may"
    ),
    "readonly database": "check that you may write the file and its folder",
    "no space left": "make room and run the same command again: what is written stays written",
    "disk is full": "make room and run the same command again: what is written stays written",
    "No space left": "make room and run the same command again: what is written stays written",
    "disk I/O error": "the file system failed; check it, then run `oversight store check`",
    "database is locked": (
        f"another program has kept it locked for {BUSY_TIMEOUT_S:.0f} s; find and end it"
    ),
    "not a database": "the file is something else than a store; name another path",
    "malformed": "the file is damaged; restore a copy, or see what `oversight store check` says",
    "FOREIGN KEY": "a record refers to a question or debate that was never stored; add it first",
    "foreign key": "a record refers to a question or debate that was never stored; add it first",
    "password authentication failed": "check user and password",
    "FATAL: database": "create it first (createdb), or check its name",
    "FATAL: role": "check the user's name",
    "failed to resolve host": "check the host's name",
    "connection timeout": "check host and port, and that the server can be reached",
    "timed out": "the server does not answer; check the network and that it runs",
    "connection to server": "check host, port and database, and that the server runs",
    "out of range": "a number is too large for the store",
    "too large to convert": "a number is too large for the store",
}
"""Advice to the user, by a sign in the driver's message; the first that fits counts."""


def _engine(url: URL) -> Engine:
    if is_sqlite(url):
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    defaults: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": 1000 * LOST_AFTER_S,
        "keepalives_idle": LOST_AFTER_S,
        "keepalives_interval": LOST_AFTER_S // 3,
        "keepalives_count": 3,
        "client_encoding": "utf8",
        "application_name": "oversight",
    }
    given = {key: value for key, value in defaults.items() if key not in url.query}
    try:
        return create_engine(url, connect_args=given, pool_pre_ping=True)
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f'store {shown_address(url)} needs psycopg: pip install "oversight[postgres]"'
        ) from None


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _begin_sqlite
    # Text that is no UTF-8 comes as bytes, so that the row that holds it can be named.
    connection.text_factory = NotText.unless_text
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a file that is still empty
    connection.execute("PRAGMA foreign_keys = ON")
    # In WAL mode a killed process loses nothing that was committed; a power cut may lose
    # the last transactions, but leaves the file whole.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("oversight_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
