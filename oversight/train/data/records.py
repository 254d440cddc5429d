"""Rows as the data path understands them, before they become token ids."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass

from oversight.ids import text_id
from oversight.types import Message

IdsGiven = tuple[int, ...]


class Dialogue(str):
    """A text in the notation of hh-rlhf that ends with `Assistant:` and waits for the answer."""


Text = str | Dialogue | tuple[Message, ...]
"""A plain text, a dialogue written as one, or a list of messages."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: its words, and its ids where a sampler gave them."""

    text: str
    ids: IdsGiven | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt with any number of responses, as most formats have it."""

    id: str
    prompt: Text
    prompt_ids: IdsGiven | None = None
    answers: tuple[Answer, ...] = ()
    ranks: tuple[int, ...] = ()
    """One for each answer, 0 is best."""
    soft_label: float | None = None
    """Of a pair: probability that the first answer is the better one."""
    margin: float | None = None
    """Of a pair: by how much the first answer is better."""
    score_gap: float | None = None
    """Of a pair: the first answer's score less the second's."""
    label: bool | None = None
    """Of a single answer: good or bad."""
    weight: float = 1.0
    question_id: str | None = None

    def groups(self) -> tuple[str, ...]:
        """What rows have in common that must not be parted: the question, and the prompt."""
        return _groups(self.question_id, self.prompt)


@dataclass(frozen=True, slots=True)
class Whole:
    """A text or dialogue without a marked response, for SFT."""

    id: str
    content: Text
    weight: float = 1.0
    question_id: str | None = None

    def groups(self) -> tuple[str, ...]:
        """What rows have in common that must not be parted: a dialogue's first messages."""
        if isinstance(self.content, str):
            return _groups(self.question_id, self.content)
        turns = [i for i, message in enumerate(self.content) if message.role == "assistant"]
        return _groups(self.question_id, self.content[: turns[0]] if turns else self.content)


Row = Answered | Whole


def text_key(text: Text) -> str:
    """A short name of a text for look-ups, so that the text itself need not be kept."""
    if isinstance(text, str):
        return text_id(type(text).__name__, text)
    return text_id(*(part for message in text for part in (message.role, message.content)))


def ids_key(ids: IdsGiven) -> bytes:
    """A short name of token ids for look-ups."""
    return hashlib.blake2b(array("q", ids).tobytes(), digest_size=16).digest()


def _groups(question_id: str | None, prompt: Text) -> tuple[str, ...]:
    # A plain prompt and the same words as one user's message are the same prompt.
    texts = (
        ["user", prompt]
        if isinstance(prompt, str)
        else [part for message in prompt for part in (message.role, message.content)]
    )
    own = f"prompt:{text_id(*texts)}"
    return (own,) if question_id is None else (own, f"question:{question_id}")
