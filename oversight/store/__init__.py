"""The append-only store of everything that is recorded.

`Store.open("runs.db")` opens a SQLite file, `Store.open("postgresql://…")` a PostgreSQL
database. Records go in with `add` and `append` and are never changed: chains over what is
written show what was changed behind the store's back, see `oversight.store.chain`.
"""

from oversight.store.sealing import Problem, Seal
from oversight.store.store import Store

__all__ = ["Problem", "Seal", "Store"]
