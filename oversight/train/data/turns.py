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
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np

from oversight.engines.base import fold_system
from oversight.engines.transformers.chat_ids import PLACEHOLDER, ChatIds
from oversight.errors import EngineRefusedError
from oversight.train.data.cells import BadRow
from oversight.train.data.marking import Marked, Piece, mark_plain, mark_template
from oversight.train.types import Ids
from oversight.types import Message, Prompt

Messages = tuple[Message, ...]
REFUSED = "the chat template refuses the messages"
NO_TURN = "no turn of the assistant"
LAST_CHUNK = re.compile(r"\S{0,32}\s{0,8}\Z")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Token ids that were all given to the assistant, or all written by it."""

    ids: Ids
    trained: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """What a template writes around a last answer, for messages of given roles."""

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
        """Whether there is no chat template, or none is used."""
        return self._plain

    @property
    def control_ids(self) -> frozenset[int]:
        """Ids that no text gives."""
        return frozenset(self._control_ids)

    def prompt(self, messages: Messages) -> Ids:
        """The ids of a prompt, up to where the assistant's answer begins.

        Raises:
            BadRow: The template does not take these messages, or they are empty.
        """
        try:
            return self.prompt_ids(Prompt(messages=messages))
        except EngineRefusedError as error:
            raise BadRow(REFUSED, str(error)) from None

    def answer(self, messages: Messages, content: str, spaced: bool = False) -> Ids:
        """The ids of an answer to `messages`, its end-of-turn token included.

        Args:
            messages: The prompt.
            content: What the assistant says.
            spaced: Without a template: put a space before it if it begins with none.

        Raises:
            BadRow: The template does not take these messages.
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

    def text(self, words: str) -> Ids:
        """The ids of a plain text and an EOS, behind a BOS where the tokenizer begins with one."""
        ids = self._behind("", [(False, self._bos), (True, words)])
        return _ids(ids + self._eos_ids)

    def dialogue(self, messages: Messages) -> list[Stretch]:
        """A whole dialogue in stretches that the assistant read and wrote, in turns.

        Where the template rewrites earlier turns, only the last one counts as written.

        Raises:
            BadRow: The template does not take these messages, or no turn is the assistant's.
        """
        at = [i for i, message in enumerate(messages) if message.role == "assistant"]
        if not at:
            raise BadRow(NO_TURN)
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

    def _marked(self, messages: Messages) -> list[Marked] | None:
        try:
            whole = self._written(messages)
        except BadRow:
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
        except jinja2.TemplateError:
            return None

    def _encoded(self, marked: list[Marked]) -> list[Stretch]:
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
                raise BadRow(REFUSED, str(error)) from None
            self._last = (messages, prompt.messages, text)
        return self._last[1:]

    def _written(self, messages: Messages) -> str:
        """The template's rendering of a dialogue that waits for nothing."""
        try:
            text: str = self._tokenizer.apply_chat_template(
                Prompt(messages=messages).chat(), tokenize=False, **self._template_args
            )
        except jinja2.TemplateError as error:
            raise BadRow(REFUSED, str(error)) from None
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
        """What of the template's words behind an answer belongs to it, and if they end it."""
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


def _ids(ids: Sequence[int]) -> Ids:
    return np.asarray(ids, dtype=np.int64)
