"""Opening a store: create it, or bring an older one up to this version's schema."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from oversight.errors import SchemaError, StoreError
from oversight.store import database as db
from oversight.store import migrations
from oversight.store.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

ADVISORY_LOCK = 0x0E51_6874
"""Key of the PostgreSQL lock under which one process at a time migrates."""


def prepare(database: Database, *, create: bool) -> None:
    """Make sure that the store is there and has the schema of this version.

    Raises:
        SchemaError: A newer version of oversight wrote it.
        StoreError: It is absent and not to be created, or cannot be opened.
    """
    if database.is_sqlite:
        _prepare_file(database, create)
    with database.reading() as connection:
        version = _version(connection)
        if version is None:
            _check_unused(database, connection, create)
    _check_known(database, version)
    if version != migrations.HEAD:
        _upgrade(database)


def alembic_config() -> Config:
    """Alembic's settings for our migrations, wherever the package is installed."""
    from alembic.config import Config

    config = Config()
    folder = str(Path(migrations.__file__).parent)
    config.set_main_option("script_location", folder.replace("%", "%%"))
    return config


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(migrations.VERSION_TABLE):
        return None
    rows = connection.execute(text(f"SELECT version_num FROM {migrations.VERSION_TABLE}"))
    return rows.scalar_one_or_none()


def _check_unused(database: Database, connection: Connection, create: bool) -> None:
    if not create:
        raise StoreError(f"store {database.name} holds nothing yet; check its name")
    if database.is_sqlite and (tables := inspect(connection).get_table_names()):
        raise StoreError(
            f"store {database.name} is a database of another program"
            f" (it has a table {tables[0]!r}); name another path"
        )


def _check_known(database: Database, version: str | None) -> None:
    if version is not None and version not in migrations.REVISIONS:
        raise SchemaError(
            f"store {database.name} has schema {version!r}, which is newer than"
            f" {migrations.HEAD!r}, the newest that this oversight knows; upgrade oversight"
        )


def _upgrade(database: Database) -> None:
    from alembic import command

    with database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        # Another process may have done it while we waited for the lock.
        if _version(connection) == migrations.HEAD:
            return
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _prepare_file(database: Database, create: bool) -> None:
    path = Path(str(database.url.database))
    try:
        if path.is_dir():
            raise StoreError(f"store {path} is a folder; name a file in it: {path / 'runs.db'}")
        if not path.exists():
            if not create:
                raise StoreError(f"there is no store at {path}; check the path")
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"store {path}: {error}; check that its folder can be there and that you may use it"
        ) from error
    with database.explained():
        _set_wal(database)


def _set_wal(database: Database) -> None:
    """Put the file in WAL mode, which it then keeps.

    SQLite does not wait here when two processes open a new file at once, so we do.
    """
    deadline = time.monotonic() + db.BUSY_TIMEOUT_S
    connection = database.engine.raw_connection()
    try:
        while True:
            try:
                cursor = connection.cursor()
                mode = cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    finally:
        connection.close()
    if mode != "wal":
        raise StoreError(
            f"store {database.name}: its file system has no shared memory, which SQLite's WAL mode"
            " needs; put it on a local disk, or use PostgreSQL"
        )
