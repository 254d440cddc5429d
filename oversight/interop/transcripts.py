"""Transcripts: whole debates as `oversight export --layout transcripts` writes them, one a line.

Every record comes back under the id that it had, which its content gives: a line that was edited
is refused, and names the record. The acts of people on their way to a judgment, and the prompts
of samples, are no part of an export.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from oversight.config import Settings
from oversight.datasets.base import BadRow, reason
from oversight.interop.base import ImportedDebate, ImportItem, UnusableItem, lines_of
from oversight.types import Debate, Feedback, Judgment, Outcome, Question, Turn


class Config(Settings):
    """Settings of an import of our own exports."""

    samples: bool = True
    """Keep what the models' calls came to, token for token. Their prompts are no part of an
    export: without samples, `oversight store check` misses none."""


class _Row(BaseModel):
    """A line of an export; the records in it are checked one by one, to be named."""

    model_config = ConfigDict(extra="forbid")

    debate_id: str
    debate: dict[str, JsonValue]
    question: dict[str, JsonValue]
    turns: list[dict[str, JsonValue]]
    judgments: list[dict[str, JsonValue]]
    ratings: list[dict[str, JsonValue]] = []
    outcome: dict[str, JsonValue] | None


def count(path: Path, config: Config) -> int:
    """The number of lines of the file."""
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def read(path: Path, config: Config) -> Iterator[ImportItem]:
    """The debates of an export, line by line."""
    for number, value in lines_of(path, "oversight export NAME.jsonl --layout transcripts"):
        if isinstance(value, BadRow):
            yield value
            continue
        try:
            yield _debate(path, number, value, config)
        except UnusableItem as error:
            yield BadRow(str(path), number, str(error), str(value.get("debate_id", "")))


def _debate(path: Path, number: int, value: dict[str, Any], config: Config) -> ImportedDebate:
    row = _parsed(_Row, value, "")
    debate = _parsed(Debate, row.debate, "debate")
    question = _parsed(Question, row.question, "question")
    _same("debate_id", row.debate_id, debate.id)
    _same("debate.question_id", debate.question_id, question.id)
    _same("debate.question_fingerprint", debate.question_fingerprint, question.fingerprint)
    records: list[Turn | Judgment | Feedback | Outcome] = []
    kinds: tuple[tuple[str, type[Turn | Judgment | Feedback], list[Any]], ...] = (
        ("turns", Turn, row.turns),
        ("judgments", Judgment, row.judgments),
        ("ratings", Feedback, row.ratings),
    )
    for name, model, given in kinds:
        for place, fields in ((f"{name}.{index}", each) for index, each in enumerate(given)):
            own = {key: each for key, each in fields.items() if key != "id"}
            record = _parsed(model, own, place)
            _same(f"{place}.id", fields.get("id"), record.id)
            _same(f"{place}.debate_id", record.debate_id, debate.id)
            if not config.samples:
                record = record.model_copy(update={"samples": ()})
            records.append(record)
    if row.outcome is not None:
        outcome = _parsed(Outcome, row.outcome, "outcome")
        _same("outcome.debate_id", outcome.debate_id, debate.id)
        records.append(outcome)
    return ImportedDebate(f"{path}:{number}", debate.id, (question, debate, *records))


def _parsed(model: type[Any], value: Any, place: str) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        said = reason(error, model)
        raise UnusableItem(f"{place}.{said}" if place else said) from None


def _same(place: str, found: Any, wanted: str) -> None:
    """Refuse an id that is not that of the content.

    Raises:
        UnusableItem: Names the place and both ids.
    """
    if found != wanted:
        raise UnusableItem(
            f"{place} = {found!r}, but its content gives {wanted!r}: it was changed since it was "
            "exported, or characters were replaced that no file can hold"
        )
