"""Questions: a text, options of which one is right, and a source to argue from."""

from __future__ import annotations

from functools import cached_property
from typing import Self

from pydantic import Field, JsonValue, model_validator

from oversight.ids import content_id
from oversight.types.records import Record


class Source(Record):
    """A text that debaters quote from and that the judge may not see whole."""

    title: str = ""
    text: str = Field(min_length=1)

    @cached_property
    def id(self) -> str:
        return content_id("source", self.title, self.text)


class Option(Record):
    """One possible answer, with a ready-made argument for it where the data set has one."""

    text: str = Field(min_length=1)
    argument: str | None = None


class Question(Record):
    """A question with at least two options, one of them right where that is known."""

    id: str = Field(min_length=1)
    dataset: str
    split: str = ""
    text: str
    options: tuple[Option, ...] = Field(min_length=2)
    correct: int | None = None
    source: Source | None = None
    meta: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.text.strip():
            raise ValueError("text is empty")
        if self.correct is not None and not 0 <= self.correct < len(self.options):
            raise ValueError(f"correct={self.correct} is no index of {len(self.options)} options")
        texts = [option.text.strip() for option in self.options]
        if not all(texts):
            raise ValueError("an option is empty")
        if len(set(texts)) < len(texts):
            raise ValueError("two options have the same text")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """Id of the whole content: a changed question is another question."""
        body = self.model_dump(mode="json", exclude={"source"})
        return content_id("question", body, self.source.id if self.source else None)
