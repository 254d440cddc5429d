"""Ratings by models beside those by people.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say of each rating what kind of judge gave it: people gave all that there are."""
    op.add_column("ratings", sa.Column("kind", sa.Text(), nullable=False, server_default="human"))
