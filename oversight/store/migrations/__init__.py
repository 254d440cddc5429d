"""Alembic migrations of the store.

To change the schema: change `oversight/store/schema.py`, add a file
`versions/rNNNN_<what>.py` whose `down_revision` is the newest one, and append
its number to `REVISIONS`. A test compares the migrated schema with the metadata.
"""

REVISIONS: tuple[str, ...] = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""All schema versions that this code knows, oldest first."""

HEAD = REVISIONS[-1]

VERSION_TABLE = "oversight_version"
"""Our own name, so that a PostgreSQL database can hold other applications' migrations as well."""
