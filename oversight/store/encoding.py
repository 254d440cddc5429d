"""Between records and the JSON text that the store keeps of them."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from oversight.types import Debate, JudgingEvent, Question, RatingEvent, Record
from oversight.types.samples import FREE_JSON

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
