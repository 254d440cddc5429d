"""A rendered dialogue as pieces of text: whose words they are, and which the assistant wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from oversight.engines.transformers.chat_ids import PLACEHOLDER_PATTERN
from oversight.types import Message

Piece = tuple[bool, str]
"""Whether it is the content of a message (else the template's own words), and the text."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A stretch of text that is all to be learnt, or not at all."""

    trained: bool
    pieces: list[Piece] = field(default_factory=list)


def mark_plain(messages: Sequence[Message], bos: str) -> list[Marked]:
    """A dialogue as plain text, as `plain_text` writes prompts: one message has no label."""
    given: list[Piece] = [(False, bos)] if bos else []
    stretches = []
    labelled = len(messages) != 2 or messages[0].role == "assistant"
    for i, message in enumerate(messages):
        label = f"{message.role.capitalize()}:" if labelled else ""
        content = message.content
        if labelled and not (message.role == "assistant" and content[:1].isspace()):
            content = f" {content}"
        given.append((False, ("\n\n" if i and labelled else "") + label))
        if message.role == "assistant":
            stretches += [Marked(False, _filled(given)), Marked(True, [(True, content)])]
            given = []
        else:
            given.append((True, content))
    return [stretch for stretch in stretches if stretch.pieces]


def mark_template(
    messages: Sequence[Message],
    whole: str,
    template: str,
    starts: Sequence[str | None],
    control: re.Pattern[str],
) -> list[Marked] | None:
    """A dialogue as its template rendered it, or None where the contents are not found in it.

    Args:
        messages: The dialogue.
        whole: Its rendering.
        template: The rendering of the same dialogue with placeholders for contents.
        starts: For messages of the assistant: the rendering that waits for them, if there is one.
        control: Finds control tokens in the template's words.
    """
    pieces = _fill(messages, whole, template)
    if pieces is None:
        return None
    stretches: list[Marked] = []
    position = done = 0
    for i, (message_index, text) in enumerate(pieces):
        end = position + len(text)
        if message_index is not None and messages[message_index].role == "assistant":
            start = _start(whole, starts[message_index], done, position)
            found = control.search(pieces[i + 1][1]) if i + 1 < len(pieces) else None
            stop = end + found.end() if found else end
            stretches.append(Marked(False, _between(pieces, done, start)))
            stretches.append(Marked(True, _between(pieces, start, stop)))
            done = stop
        position = end
    return [stretch for stretch in stretches if stretch.pieces]


def _start(whole: str, waiting: str | None, done: int, content: int) -> int:
    """Where the assistant begins: behind the prompt that it is given, else at its content."""
    if waiting is not None and whole.startswith(waiting) and done <= len(waiting) <= content:
        return len(waiting)
    return content


def _fill(
    messages: Sequence[Message], whole: str, template: str
) -> list[tuple[int | None, str]] | None:
    """The pieces of `whole` with the index of the message that each is the content of."""
    parts = PLACEHOLDER_PATTERN.split(template)
    if [int(part) for part in parts[1::2]] != list(range(len(messages))):
        return None
    for stripped in (False, True):
        contents = [m.content.strip() if stripped else m.content for m in messages]
        pieces: list[tuple[int | None, str]] = [
            (int(part), contents[int(part)]) if i % 2 else (None, part)
            for i, part in enumerate(parts)
        ]
        if "".join(text for _, text in pieces) == whole:
            return pieces
    return None


def _between(pieces: Sequence[tuple[int | None, str]], start: int, stop: int) -> list[Piece]:
    """What stands from character `start` to `stop`."""
    cut: list[Piece] = []
    position = 0
    for index, text in pieces:
        low, high = max(start - position, 0), min(stop - position, len(text))
        if low < high:
            cut.append((index is not None, text[low:high]))
        position += len(text)
    return cut


def _filled(pieces: Sequence[Piece]) -> list[Piece]:
    return [piece for piece in pieces if piece[1]]
