"""Questions with options of which one is right, and open prompts, which have none."""

from __future__ import annotations

import operator
from functools import cached_property
from typing import Self

from pydantic import Field, JsonValue, model_validator

from oversight.ids import content_id
from oversight.types.samples import Message, Prompt, Record


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
    """A question with at least two options, one of them right where that is known; or an open
    prompt, which has none: the last message of a chat."""

    id: str = Field(min_length=1)
    dataset: str
    split: str = ""
    text: str
    options: tuple[Option, ...] = ()
    correct: int | None = None
    source: Source | None = None
    meta: dict[str, JsonValue] = Field(default_factory=dict)
    # Not written down unless it is set: ids of questions without it stay what they were.
    history: tuple[Message, ...] = Field(default=(), exclude_if=operator.not_)
    """Of an open prompt: the chat before it, a system message first if there is one."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.text.strip():
            raise ValueError("text is empty")
        if len(self.options) == 1:
            raise ValueError(
                "a question needs at least two options, here are 1 (options takes at least 2, or "
                "none for an open prompt)"
            )
        if self.correct is not None and not 0 <= self.correct < len(self.options):
            if not self.options:
                raise ValueError(f"correct={self.correct}: an open prompt has no right option")
            raise ValueError(f"correct={self.correct} is no index of {len(self.options)} options")
        texts = [option.text.strip() for option in self.options]
        if not all(texts):
            raise ValueError("an option is empty")
        if len(set(texts)) < len(texts):
            raise ValueError("two options have the same text")
        if self.history:
            self._check_history()
        return self

    def _check_history(self) -> None:
        if self.options:
            raise ValueError("history goes with an open prompt, which has no options")
        before = ""
        for number, message in enumerate(self.history):
            if not message.content.strip():
                raise ValueError(f"history.{number} is empty")
            if message.role == "system" and number:
                raise ValueError(f"history.{number}: a system message stands first, or nowhere")
            if message.role == before:
                raise ValueError(f"history.{number}: two messages of the {before} in a row")
            before = message.role
        if before == "user":
            raise ValueError(
                "the history ends with a message of the user, and the text is the user's as well: "
                "an answer stands between the two"
            )

    @property
    def is_open(self) -> bool:
        """True of an open prompt: there are no options, so that nothing is right or decided."""
        return not self.options

    @cached_property
    def chat(self) -> Prompt:
        """The question as a chat that a model goes on with: the history, then the text, behind
        the source if there is one."""
        return chat_prompt(self.history, self.source, self.text)

    @cached_property
    def fingerprint(self) -> str:
        """Id of the whole content: a changed question is another question."""
        body = self.model_dump(mode="json", exclude={"source"})
        return content_id("question", body, self.source.id if self.source else None)


def chat_prompt(history: tuple[Message, ...], source: Source | None, text: str) -> Prompt:
    """The chat with `text` as the user's last message, behind the source if there is one."""
    parts = (f"{source.text}\n\n", text) if source else (text,)
    return Prompt(messages=(*history, Message(role="user", parts=parts)))
