"""The append-only store of everything that is recorded.

`Store.open("runs.db")` opens a SQLite file, `Store.open("postgresql://…")` a PostgreSQL
database. Records go in with `add` and `append` and are never changed.
"""

from oversight.store.checking import Problem
from oversight.store.store import Store

__all__ = ["Problem", "Store"]
