"""Acts of people while judging, and debates that wait for one.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of events, and mark debates with people in them: there were none before."""
    op.add_column(
        "debates", sa.Column("human", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_table(
        "events",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            nullable=False,
        ),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("debate_id", sa.Text(), nullable=False),
        sa.Column("judge", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["debate_id"], ["debates.id"], name="fk_events_debate_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
        sa.UniqueConstraint("id", name="uq_events_id"),
    )
    op.create_index("ix_events_debate_id_judge", "events", ["debate_id", "judge"])
    op.create_index("ix_events_judge_kind", "events", ["judge", "kind"])
