"""Chains over what is written.

Revision ID: 0005
"""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

LINKED = (
    "questions",
    "debates",
    "prompts",
    "turns",
    "judgments",
    "outcomes",
    "events",
    "ratings",
    "rating_events",
)


def upgrade() -> None:
    """Create the tables of links and heads, and note which rows were written before them."""
    op.create_table(
        "links",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("row_key", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("chain", "number", name="pk_links"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "heads",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("chain", name="pk_heads"),
        sqlite_with_rowid=False,
    )
    before = {table: _extent(table) for table in LINKED}
    if any(number for number, _ in before.values()):
        _begin_chain(json.dumps(before, separators=(",", ":")))


def _extent(table: str) -> tuple[int, int]:
    """Number of rows of a table, and the highest place of one in the order of writing."""
    query = sa.text(f"SELECT count(*), coalesce(max(seq), 0) FROM {table}")
    number, last = op.get_bind().execute(query).one()
    return number, last


def _begin_chain(before: str) -> None:
    """The first link of the store's own chain: what was there before it."""
    first = _hash(_hash(b"oversight ") + f"start\x000\x00{before}\x00".encode())
    values = {"hash": first, "row_key": before}
    op.get_bind().execute(
        sa.text(
            "INSERT INTO links (chain, number, kind, seq, row_key, hash)"
            " VALUES ('', 1, 'start', 0, :row_key, :hash)"
        ),
        values,
    )
    op.get_bind().execute(
        sa.text("INSERT INTO heads (chain, count, hash) VALUES ('', 1, :hash)"), values
    )


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()
