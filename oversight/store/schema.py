"""The tables of the store, as SQLAlchemy metadata, and the JSON text that they keep of records.

Record tables are append-only. Each keeps a record's JSON text in `body` and, as
columns of their own, the keys that one filters by. `seq` orders rows by when
they were written. `links` holds the chains over what was written, see
`oversight.store.chain`, and `heads` the end of each. `runs` and `run_members` say which
command made what, and stand in no chain, see `oversight.store.runs`. Two tables are changed in
place: `heads`, and `claims`, which says which process is running which debate
and holds nothing worth keeping.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from oversight.types import Debate, JudgingEvent, Question, RatingEvent, Record
from oversight.types.samples import FREE_JSON

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


def _seq() -> Column[int]:
    # SQLite makes only an INTEGER primary key its own row number.
    return Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


def _text(name: str, *args: Any, **options: Any) -> Column[str]:
    return Column(name, Text, *args, nullable=False, **options)


sources = Table("sources", metadata, _seq(), _text("id", unique=True), _text("body"))

questions = Table(
    "questions",
    metadata,
    _seq(),
    _text("id"),
    _text("fingerprint"),
    _text("dataset"),
    _text("split"),
    Column("source_id", Text, ForeignKey("sources.id")),
    _text("body"),
    UniqueConstraint("id", "fingerprint"),
    Index(None, "dataset", "split"),
)

debates = Table(
    "debates",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("question_id"),
    _text("question_fingerprint"),
    _text("protocol", index=True),
    Column("human", Boolean, nullable=False, server_default=false()),
    _text("body"),
    ForeignKeyConstraint(
        ["question_id", "question_fingerprint"], ["questions.id", "questions.fingerprint"]
    ),
    Index(None, "question_id", "question_fingerprint"),
)

parts = Table("parts", metadata, _text("id", primary_key=True), _text("body"))

token_blocks = Table(
    "token_blocks",
    metadata,
    _text("id", primary_key=True),
    Column("ids", LargeBinary, nullable=False),
)

prompts = Table(
    "prompts",
    metadata,
    _seq(),
    _text("id"),
    _text("variant"),
    _text("messages"),
    _text("blocks"),
    Column("tail", LargeBinary, nullable=False),
    Column("num_tokens", BigInteger, nullable=False),
    UniqueConstraint("id", "variant"),
)

turns = Table(
    "turns",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("debate_id", ForeignKey("debates.id"), index=True),
    Column("step", BigInteger, nullable=False),
    _text("seat"),
    _text("act"),
    Column("candidate", BigInteger, nullable=False),
    Column("chosen", Boolean, nullable=False),
    _text("body"),
)

judgments = Table(
    "judgments",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("debate_id", ForeignKey("debates.id"), index=True),
    _text("judge"),
    _text("kind"),
    Column("swapped", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    _text("body"),
)

outcomes = Table(
    "outcomes",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("debate_id", ForeignKey("debates.id"), index=True),
    _text("status"),
    _text("body"),
)

COMPLETE_ONCE = Index(
    "uq_outcomes_complete",
    outcomes.c.debate_id,
    unique=True,
    sqlite_where=text("status = 'complete'"),
    postgresql_where=text("status = 'complete'"),
)

events = Table(
    "events",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("debate_id", ForeignKey("debates.id")),
    _text("judge"),
    _text("kind"),
    _text("body"),
    Index(None, "debate_id", "judge"),
    Index(None, "judge", "kind"),
)

ratings = Table(
    "ratings",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("debate_id", ForeignKey("debates.id"), index=True),
    _text("task"),
    _text("item", index=True),
    _text("judge"),
    _text("kind", server_default="human"),
    Column("revision", BigInteger, nullable=False),
    _text("body"),
)

rating_events = Table(
    "rating_events",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("debate_id", ForeignKey("debates.id")),
    _text("item"),
    _text("judge"),
    _text("kind"),
    _text("body"),
    Index(None, "item", "judge"),
    Index(None, "judge", "kind"),
)

links = Table(
    "links",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _text("body"),
)

heads = Table(
    "heads",
    metadata,
    _text("chain", primary_key=True),
    Column("count", BigInteger, nullable=False),
    _text("hash"),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    metadata,
    _seq(),
    _text("id", unique=True),
    _text("run", index=True),
    _text("body"),
)

run_members = Table(
    "run_members",
    metadata,
    _seq(),
    _text("run"),
    _text("id"),
    _text("debate_id", ForeignKey("debates.id"), index=True),
    UniqueConstraint("run", "id"),
)

claims = Table(
    "claims",
    metadata,
    _text("debate_id", primary_key=True),
    _text("owner", index=True),
    _text("host"),
    Column("pid", BigInteger, nullable=False),
    _text("started"),
    Column("expires_at", Float(53), nullable=False),
)

RECORD_TABLES: tuple[Table, ...] = (
    sources,
    questions,
    debates,
    parts,
    token_blocks,
    prompts,
    turns,
    judgments,
    outcomes,
    events,
    ratings,
    rating_events,
)
"""In an order in which each refers only to those before it."""

RUN_TABLES: tuple[Table, ...] = (runs, run_members)
"""Starts of runs, and what belongs to a run: they say nothing about a record itself."""

R = TypeVar("R", bound=Record)


def encode(record: Record) -> str:
    """JSON text of a record; of a question, without its source."""
    if isinstance(record, Debate):
        return record.body
    if isinstance(record, Question | JudgingEvent | RatingEvent):
        return _encode_free(record)
    try:
        return record.model_dump_json()
    except PydanticSerializationError:
        # Models may write half of a surrogate pair, which UTF-8 cannot hold: escaped, it is kept.
        return _encode_free(record)


def decode(model: type[R], body: str) -> R:
    """The record that `body` was made from.

    Raises:
        ValueError: It is none of `model`, or no text at all.
    """
    if not isinstance(body, str):
        raise ValueError(f"body holds {kind_of(body)}, not text")
    try:
        return model.model_validate_json(body)
    except ValidationError:
        if "\\ud" not in body:
            raise
    # The Rust parser refuses lone surrogates in free-form values; Python's takes them.
    try:
        return model.model_validate(json.loads(body))
    except RecursionError:
        raise ValueError("body: JSON that is nested too deeply") from None


def kind_of(value: object) -> str:
    """Description of what a column holds."""
    if isinstance(value, NotText):
        return "text that is no UTF-8"
    known = {str: "text", bytes: "bytes", int: "a whole number", float: "a number"}
    return "nothing" if value is None else known.get(type(value), type(value).__name__)


class NotText(bytes):
    """The bytes of a text in a SQLite file that is no UTF-8."""

    @classmethod
    def unless_text(cls, data: bytes) -> str | NotText:
        """The text that `data` holds, if it holds one."""
        try:
            return data.decode()
        except UnicodeDecodeError:
            return cls(data)


def shown(value: object) -> str:
    """A key for people: as it is, unless it is damaged."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


SHOWN_CHARS = 200


def _encode_free(record: Record) -> str:
    """JSON text of a record that pydantic's own dump would refuse or not keep exact.

    In free-form values that turns NaN into null and surrogates into question marks.
    """
    return FREE_JSON.encode(record.model_dump(exclude={"source"}))


def key_text(value: str) -> str:
    """`value` as a key column holds it: no NUL, which PostgreSQL refuses, and no surrogates.

    Different values stay different, as the backslash itself is escaped.
    """
    if value.isascii() and "\\" not in value and "\0" not in value:
        return value
    escaped = value.replace("\\", "\\\\").replace("\0", "\\0")
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")
