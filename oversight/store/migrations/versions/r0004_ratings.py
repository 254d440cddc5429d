"""Ratings of single responses by people, and every act on the way there.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of ratings and of their events."""
    op.create_table(
        "ratings",
        _seq(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("debate_id", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("judge", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["debate_id"], ["debates.id"], name="fk_ratings_debate_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_ratings"),
        sa.UniqueConstraint("id", name="uq_ratings_id"),
    )
    op.create_index("ix_ratings_debate_id", "ratings", ["debate_id"])
    op.create_index("ix_ratings_item", "ratings", ["item"])
    op.create_table(
        "rating_events",
        _seq(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("debate_id", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("judge", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["debate_id"], ["debates.id"], name="fk_rating_events_debate_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_rating_events"),
        sa.UniqueConstraint("id", name="uq_rating_events_id"),
    )
    op.create_index("ix_rating_events_item_judge", "rating_events", ["item", "judge"])
    op.create_index("ix_rating_events_judge_kind", "rating_events", ["judge", "kind"])


def _seq() -> sa.Column[int]:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("seq", number, primary_key=True, nullable=False)
