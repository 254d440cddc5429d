"""Runs, and the records that belong to them.

Revision ID: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables of runs and of their members: no run is known of what there is."""
    op.create_table(
        "runs",
        sa.Column("seq", ROW_NUMBER, primary_key=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_runs"),
        sa.UniqueConstraint("id", name="uq_runs_id"),
    )
    op.create_index("ix_runs_run", "runs", ["run"])
    op.create_table(
        "run_members",
        sa.Column("seq", ROW_NUMBER, primary_key=True, nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("debate_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["debate_id"], ["debates.id"], name="fk_run_members_debate_id_debates"
        ),
        sa.PrimaryKeyConstraint("seq", name="pk_run_members"),
        sa.UniqueConstraint("run", "id", name="uq_run_members_run_id"),
    )
    op.create_index("ix_run_members_debate_id", "run_members", ["debate_id"])
