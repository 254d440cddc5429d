"""Token ids of prompts, answers and dialogues, cut where the assistant begins and ends.

A chat template writes the whole dialogue; what the assistant adds to its
prompt is the difference between the rendering with the answer and the one that
waits for it. A response ends with the end-of-turn token that the template
writes behind it, and a new line after that belongs to no response. Where a
template writes no such token, or there is no template, the response ends with
the tokenizer's EOS. The ids of prompt and response are made apart, so that a
token border lies between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oversight.chat import fold_system
from oversight.chat.prompt_ids import (
    PLACEHOLDER,
    PLACEHOLDER_PATTERN,
    TEMPLATE_ERRORS,
    ChatIds,
    TokenIds,
)
from oversight.errors import EngineRefusedError
from oversight.types import Message, Prompt

Messages = tuple[Message, ...]
REFUSED = "the chat template refuses the messages"
NO_TURN = "no turn of the assistant"


class UnrenderableError(Exception):
    """A dialogue that no ids can be made of: `reason` is one of a few, `detail` of this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


LAST_CHUNK = re.compile(r"\S{0,32}\s{0,8}\Z")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Token ids that were all given to the assistant, or all written by it."""

    ids: TokenIds
    trained: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """The text that a template writes around a last answer, for messages of given roles."""

    head: str
    """Between the prompt and the answer: an empty thought, in some templates."""
    tail: str
    """Behind the answer."""
    lead: str
    """The prompt's last words, all the template's own."""


class Turns(ChatIds):
    """Encodes prompts, answers and whole dialogues for one tokenizer.

    Contents of messages never become control tokens, as `ChatIds` sees to.

    Args:
        tokenizer: A transformers tokenizer.
        plain: Use no chat template even if there is one.
        template_args: Further values for the chat template.
    """

    def __init__(
        self, tokenizer: Any, plain: bool = False, template_args: dict[str, Any] | None = None
    ) -> None:
        super().__init__(tokenizer, plain, template_args)
        eos = tokenizer.eos_token_id
        self._eos_ids = [] if eos is None else [int(eos)]
        self._frames: dict[tuple[str, ...], Frame] = {}
        self._leads: dict[str, list[int]] = {}
        self._last: tuple[Messages, Messages, str] | None = None

    @property
    def plain(self) -> bool:
        """True if there is no chat template, or none is used."""
        return self._plain

    @property
    def control_ids(self) -> frozenset[int]:
        """Ids that no text gives."""
        return frozenset(self._control_ids)

    def prompt(self, messages: Messages) -> TokenIds:
        """The ids of a prompt, up to where the assistant's answer begins.

        Raises:
            UnrenderableError: The template does not take these messages, or they are empty.
        """
        try:
            return self.prompt_ids(Prompt(messages=messages))
        except EngineRefusedError as error:
            raise UnrenderableError(REFUSED, str(error)) from None

    def answer(self, messages: Messages, content: str, spaced: bool = False) -> TokenIds:
        """The ids of an answer to `messages`, its end-of-turn token included.

        Args:
            messages: The prompt.
            content: Words of the assistant.
            spaced: Without a template: put a space before it if it begins with none.

        Raises:
            UnrenderableError: The template does not take these messages.
        """
        if self._plain:
            content = f" {content}" if spaced and not content[:1].isspace() else content
            lead = _last_chunk(messages[-1].content if len(messages) == 1 else "Assistant:")
            return _ids(self._behind(lead, [(True, content)]) + self._eos_ids)
        folded, prompt = self._taken(messages)
        frame = self._frame(folded)
        whole = self._written((*folded, Message(role="assistant", parts=(content,))))
        end, closed = self._end_of_turn(frame.tail)
        rest = whole.removeprefix(prompt)
        body, head = content, ""
        if whole.startswith(prompt) and rest.endswith(frame.tail):
            body, head = rest.removesuffix(frame.tail), frame.head
        # A template may rewrite a content that holds a thought: then only the text is known.
        said = body.removeprefix(head) if body.startswith(head) else content
        pieces = [(False, head), (True, said), (False, end)]
        ids = self._behind(frame.lead, pieces, body + end)
        return _ids(ids if closed else ids + self._eos_ids)

    def text(self, words: str) -> TokenIds:
        """The ids of a plain text and an EOS, behind a BOS where the tokenizer begins with one."""
        ids = self._behind("", [(False, self._bos), (True, words)])
        return _ids(ids + self._eos_ids)

    def dialogue(self, messages: Messages) -> list[Stretch]:
        """A whole dialogue in stretches that the assistant read and wrote, in turns.

        Where the template rewrites earlier turns, only the last one counts as written.

        Raises:
            UnrenderableError: The template refuses the messages, or no turn is the assistant's.
        """
        at = [i for i, message in enumerate(messages) if message.role == "assistant"]
        if not at:
            raise UnrenderableError(NO_TURN)
        messages = messages[: at[-1] + 1]
        marked = mark_plain(messages, self._bos) if self._plain else self._marked(messages)
        if marked is None:
            answer = self.answer(messages[:-1], messages[-1].content)
            return [Stretch(self.prompt(messages[:-1]), False), Stretch(answer, True)]
        stretches = self._encoded(marked)
        last = stretches[-1].ids.tolist()
        if not self._controls(last[-1:]):
            stretches[-1] = Stretch(_ids(last + self._eos_ids), True)
        return stretches

    def _marked(self, messages: Messages) -> list[TextStretch] | None:
        try:
            whole = self._written(messages)
        except UnrenderableError:
            folded = fold_system(Prompt(messages=messages)).messages
            if folded == messages:
                raise
            messages, whole = folded, self._written(folded)
        template = self._written(_holes(messages))
        starts = [self._start(messages, i) for i in range(len(messages))]
        return mark_template(messages, whole, template, starts, self._pattern)

    def _start(self, messages: Messages, index: int) -> str | None:
        """The rendering that waits for the assistant's message at `index`."""
        if messages[index].role != "assistant" or not index:
            return None
        try:
            return self._render(Prompt(messages=messages[:index]))
        except TEMPLATE_ERRORS:
            return None

    def _encoded(self, marked: list[TextStretch]) -> list[Stretch]:
        stretches = []
        lead = ""
        for part in marked:
            stretches.append(Stretch(_ids(self._behind(lead, part.pieces)), part.trained))
            is_content, last = part.pieces[-1]
            lead = _last_chunk(last) if is_content else last
        return [stretch for stretch in stretches if len(stretch.ids)]

    def _taken(self, messages: Messages) -> tuple[Messages, str]:
        if self._last is None or self._last[0] != messages:  # answers to one prompt come together
            try:
                prompt, text = self._rendered(Prompt(messages=messages))
            except EngineRefusedError as error:
                raise UnrenderableError(REFUSED, str(error)) from None
            self._last = (messages, prompt.messages, text)
        return self._last[1:]

    def _written(self, messages: Messages) -> str:
        """The template's rendering of a dialogue that waits for nothing."""
        try:
            text: str = self._tokenizer.apply_chat_template(
                Prompt(messages=messages).chat(), tokenize=False, **self._template_args
            )
        except TEMPLATE_ERRORS as error:
            raise UnrenderableError(REFUSED, str(error)) from None
        return text

    def _frame(self, messages: Messages) -> Frame:
        roles = tuple(message.role for message in messages)
        if roles not in self._frames:
            holes = _holes((*messages, Message(role="assistant", parts=("",))))
            prompt = self._render(Prompt(messages=holes[:-1]))
            before, _, tail = self._written(holes).rpartition(holes[-1].content)
            lead = prompt.rpartition("\uf8f1")[2]
            self._frames[roles] = Frame(before.removeprefix(prompt), tail, lead)
            if not before.startswith(prompt):
                self._frames[roles] = Frame("", tail, lead)
        return self._frames[roles]

    def _end_of_turn(self, tail: str) -> tuple[str, bool]:
        """The template's words behind an answer that belong to it, and True if they end it."""
        found = self._pattern.search(tail)
        return (tail[: found.end()], True) if found else ("", False)

    def _behind(self, lead: str, pieces: Sequence[Piece], text: str | None = None) -> list[int]:
        """The ids of `pieces` (or of `text`, their rendering) as they stand behind `lead`."""
        own = self._own_controls(list(pieces))
        text = "".join(piece for _, piece in pieces) if text is None else text
        for before in (lead, "\n") if lead else ("",):
            head = self._lead_ids(before)
            ids = self._encode(before + text)
            if ids[: len(head)] == head and self._controls(ids[len(head) :]) == own:
                return ids[len(head) :]
        head = self._segmented([(False, lead)])
        ids = self._segmented([(False, lead), *pieces])
        return ids[len(head) :] if ids[: len(head)] == head else self._segmented(list(pieces))

    def _lead_ids(self, lead: str) -> list[int]:
        if lead not in self._leads:
            if len(self._leads) > MAX_LEADS:
                self._leads.clear()
            self._leads[lead] = self._encode(lead)
        return self._leads[lead]


MAX_LEADS = 1000
"""Plain prompts each have another: the ids of no more than this are remembered."""


def _holes(messages: Messages) -> Messages:
    return tuple(
        Message(role=message.role, parts=(PLACEHOLDER.format(i),))
        for i, message in enumerate(messages)
    )


def _last_chunk(text: str) -> str:
    found = LAST_CHUNK.search(text[-64:])
    return found.group() if found else ""


def _ids(ids: Sequence[int]) -> TokenIds:
    return np.asarray(ids, dtype=np.int64)


Piece = tuple[bool, str]
"""True for the content of a message (False: the template's own words), and the text."""


@dataclass(frozen=True, slots=True)
class TextStretch:
    """A stretch of text that is all to be learnt, or not at all."""

    trained: bool
    pieces: list[Piece] = field(default_factory=list)


def mark_plain(messages: Sequence[Message], bos: str) -> list[TextStretch]:
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
            stretches += [TextStretch(False, _filled(given)), TextStretch(True, [(True, content)])]
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
) -> list[TextStretch] | None:
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
    stretches: list[TextStretch] = []
    position = done = 0
    for i, (message_index, text) in enumerate(pieces):
        end = position + len(text)
        if message_index is not None and messages[message_index].role == "assistant":
            start = _start(whole, starts[message_index], done, position)
            found = control.search(pieces[i + 1][1]) if i + 1 < len(pieces) else None
            stop = end + found.end() if found else end
            stretches.append(TextStretch(False, _between(pieces, done, start)))
            stretches.append(TextStretch(True, _between(pieces, start, stop)))
            done = stop
        position = end
    return [stretch for stretch in stretches if stretch.pieces]


def _start(whole: str, waiting: str | None, done: int, content: int) -> int:
    """Return where the assistant's turn begins: behind its given prompt, else at its content."""
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
    """The pieces, and parts of pieces, from character `start` to `stop`."""
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
