"""The record tables.

Revision ID: 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _seq() -> sa.Column[int]:
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    """Create the tables of questions, debates, prompts, turns, judgments and outcomes."""
    _create_questions()
    _create_prompts()
    _create_debates()
    _create_results()


def _create_questions() -> None:
    op.create_table(
        "sources",
        _seq(),
        _text("id"),
        _text("body"),
        sa.PrimaryKeyConstraint("seq", name="pk_sources"),
        sa.UniqueConstraint("id", name="uq_sources_id"),
    )
    op.create_table(
        "questions",
        _seq(),
        _text("id"),
        _text("fingerprint"),
        _text("dataset"),
        _text("split"),
        sa.Column("source_id", sa.Text(), nullable=True),
        _text("body"),
        sa.PrimaryKeyConstraint("seq", name="pk_questions"),
        sa.UniqueConstraint("id", "fingerprint", name="uq_questions_id_fingerprint"),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name="fk_questions_source_id"),
    )
    op.create_index("ix_questions_dataset_split", "questions", ["dataset", "split"])


def _create_prompts() -> None:
    op.create_table(
        "parts", _text("id"), _text("body"), sa.PrimaryKeyConstraint("id", name="pk_parts")
    )
    op.create_table(
        "token_blocks",
        _text("id"),
        sa.Column("ids", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_token_blocks"),
    )
    op.create_table(
        "prompts",
        _seq(),
        _text("id"),
        _text("variant"),
        _text("messages"),
        _text("blocks"),
        sa.Column("tail", sa.LargeBinary(), nullable=False),
        sa.Column("num_tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_prompts"),
        sa.UniqueConstraint("id", "variant", name="uq_prompts_id_variant"),
    )


def _create_debates() -> None:
    op.create_table(
        "debates",
        _seq(),
        _text("id"),
        _text("question_id"),
        _text("question_fingerprint"),
        _text("protocol"),
        _text("body"),
        sa.PrimaryKeyConstraint("seq", name="pk_debates"),
        sa.UniqueConstraint("id", name="uq_debates_id"),
        sa.ForeignKeyConstraint(
            ["question_id", "question_fingerprint"],
            ["questions.id", "questions.fingerprint"],
            name="fk_debates_question_id_question_fingerprint",
        ),
    )
    op.create_index("ix_debates_protocol", "debates", ["protocol"])
    op.create_index(
        "ix_debates_question_id_question_fingerprint",
        "debates",
        ["question_id", "question_fingerprint"],
    )


def _create_results() -> None:
    _create_of_debate(
        "turns",
        sa.Column("step", sa.BigInteger(), nullable=False),
        _text("seat"),
        _text("act"),
        sa.Column("candidate", sa.BigInteger(), nullable=False),
        sa.Column("chosen", sa.Boolean(), nullable=False),
    )
    _create_of_debate(
        "judgments",
        _text("judge"),
        _text("kind"),
        sa.Column("swapped", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    _create_of_debate("outcomes", _text("status"))
    complete = sa.text("status = 'complete'")
    op.create_index(
        "uq_outcomes_complete",
        "outcomes",
        ["debate_id"],
        unique=True,
        sqlite_where=complete,
        postgresql_where=complete,
    )


def _create_of_debate(name: str, *columns: sa.Column[Any]) -> None:
    """A table of records that belong to a debate."""
    op.create_table(
        name,
        _seq(),
        _text("id"),
        _text("debate_id"),
        *columns,
        _text("body"),
        sa.PrimaryKeyConstraint("seq", name=f"pk_{name}"),
        sa.UniqueConstraint("id", name=f"uq_{name}_id"),
        sa.ForeignKeyConstraint(["debate_id"], ["debates.id"], name=f"fk_{name}_debate_id"),
    )
    op.create_index(f"ix_{name}_debate_id", name, ["debate_id"])
