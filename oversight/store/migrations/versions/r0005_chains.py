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
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            nullable=False,
        ),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_links"),
    )
    op.create_table(
        "heads",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
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
    first = _hash(_hash("oversight ") + f"start\x000\x00{before}\x00")
    body = json.dumps([["", 1, "start", 0, before, first]], separators=(",", ":"))
    bind = op.get_bind()
    bind.execute(sa.text("INSERT INTO links (body) VALUES (:body)"), {"body": body})
    bind.execute(
        sa.text("INSERT INTO heads (chain, count, hash) VALUES ('', 1, :hash)"), {"hash": first}
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
