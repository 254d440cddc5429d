"""Where a store is: from a path or a URL to a checked one."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from oversight.errors import StoreError
from oversight.redaction import register

ACCEPTED = "a file's path, sqlite:///path or postgresql://user@host/database"


def parse(address: str | Path) -> URL:
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
        raise StoreError(f"store {hidden(text)!r} is no URL; accepted: {ACCEPTED}") from None
    backend = url.drivername.partition("+")[0]
    if backend == "sqlite":
        if url.query or url.host:
            raise StoreError(f"store {hidden(text)!r}: a SQLite URL is sqlite:///path, no more")
        return _sqlite(url.database or "", text)
    if backend in ("postgresql", "postgres"):
        register(url.password)
        register(str(url.query.get("password", "")))
        return url.set(drivername="postgresql+psycopg")
    raise StoreError(f"store {hidden(text)!r}: {backend!r} is not known; accepted: {ACCEPTED}")


def hidden(text: str) -> str:
    """`text` with the password of a URL in it made unreadable."""
    text = re.sub(r"(://[^:/?#]*):.*@", r"\1:***@", text, flags=re.DOTALL)
    return re.sub(r"(password=)[^&\s]*", r"\1***", text)


def shown(url: URL) -> str:
    """The address for people: a path, or a URL without its password."""
    if is_sqlite(url):
        return str(url.database)
    return hidden(url.set(drivername="postgresql").render_as_string(hide_password=True))


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
