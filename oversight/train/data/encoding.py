"""From a row to the token ids of its prompt and responses, within the limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oversight.train.data.cells import BadRow
from oversight.train.data.given import NO_IDS, GivenIds
from oversight.train.data.records import Answer, Answered, Text, Whole, ids_key
from oversight.train.data.rendering import PROMPT_ENDS, Renderer
from oversight.train.data.settings import DataSettings
from oversight.train.data.truncation import Fitted, Limits
from oversight.train.types import Ids, Mask, Refused

EMPTY = "a response is empty"
NO_PROMPT = "the prompt is empty"
SET_ASIDE = "token ids are not this tokenizer's: the text was encoded anew"
EARLIER_TURNS = "earlier turns are not learnt: the template rewrites them"


@dataclass
class Sources:
    """How many rows' ids came with them, and how many were made of their text."""

    given: int = 0
    rendered: int = 0
    mixed: int = 0


@dataclass(frozen=True, slots=True)
class Sequence:
    """A whole dialogue as ids: what was given first, and the rest with what is learnt of it."""

    prompt: Ids
    rest: Ids
    mask: Mask | None


@dataclass
class Encoder:
    """Gives the ids of rows for one tokenizer and model.

    Args:
        tokenizer: A transformers tokenizer.
        settings: How texts are rendered, ids trusted and rows cut.
        vocab_size: How many tokens the model knows.
        max_len: How many positions it has; None for no bound.
        refused: Where cuts are counted.
    """

    tokenizer: Any
    settings: DataSettings
    vocab_size: int
    max_len: int | None
    refused: Refused
    sources: Sources = field(default_factory=Sources)

    def __post_init__(self) -> None:
        self._renderer = Renderer(self.tokenizer, self.settings)
        self._given = GivenIds(self.tokenizer, self.vocab_size)
        self._prompts: dict[bytes, Ids] = {}
        self._limits = Limits.of(self.settings, self.max_len, self.tokenizer.bos_token_id)

    def answered(self, row: Answered) -> Fitted:
        """Prompt and responses of a row, in the row's order.

        Raises:
            BadRow: The row cannot be used.
        """
        if isinstance(row.prompt, tuple) and row.prompt[-1].role == "assistant":
            raise BadRow(PROMPT_ENDS)
        if any(not answer.text.strip() for answer in row.answers):
            raise BadRow(EMPTY)
        trusted = self._trusted(row)
        prompt = self._prompt(row, given=trusted[0])
        responses = tuple(
            _ids(answer.ids) if given else self._renderer.answer(row.prompt, answer.text)
            for answer, given in zip(row.answers, trusted[1:], strict=True)
        )
        self._check(prompt, *responses)
        fitted = self._limits.fit(prompt, responses)
        self._count(row, trusted, fitted.cut)
        ids = (row.prompt_ids, *(answer.ids for answer in row.answers))
        unused = [i is not None and not used for i, used in zip(ids, trusted, strict=True)]
        if self.settings.ids == "auto" and any(unused):
            self.refused.shorten(SET_ASIDE, row.id)
        return fitted

    def whole(self, row: Whole) -> Sequence:
        """A text or dialogue, its first stretch as the prompt.

        Raises:
            BadRow: The row cannot be used.
        """
        if _is_empty(row.content):
            raise BadRow(EMPTY)
        stretches = self._renderer.whole(row.content)
        if stretches[0].trained:  # nothing precedes it: its first token cannot be predicted
            first = stretches[0]
            parts = [first.ids[:1], first.ids[1:], *(s.ids for s in stretches[1:])]
            marks = [True, *(s.trained for s in stretches[1:])]
        else:
            parts = [s.ids for s in stretches]
            marks = [s.trained for s in stretches[1:]]
        rest = np.concatenate(parts[1:])
        mask = np.repeat(np.array(marks), [len(part) for part in parts[1:]])
        self._given.require_inside(rest)
        self._check(parts[0], rest[mask])
        fitted = self._limits.fit(parts[0], (rest,))
        mask = mask[: len(fitted.responses[0])]
        if not mask.any():
            raise BadRow(EMPTY)
        self._count(row, (False,), fitted.cut)
        self._note_lost_turns(row, sum(s.trained for s in stretches))
        return Sequence(fitted.prompt, fitted.responses[0], None if mask.all() else mask)

    def _trusted(self, row: Answered) -> tuple[bool, ...]:
        """Of the prompt and of each answer, whether its own ids are used."""
        if self.settings.ids == "text":
            return (False,) * (1 + len(row.answers))
        if self.settings.ids == "given":
            if row.prompt_ids is None or any(answer.ids is None for answer in row.answers):
                raise BadRow(NO_IDS)
            return (True,) * (1 + len(row.answers))
        ids = row.prompt_ids
        if ids is not None and not self._given.are_prompt(ids, row.prompt):
            # Where the prompt's ids are of another tokenizer, so are the responses'.
            return (False,) * (1 + len(row.answers))
        return (ids is not None, *map(self._are_own, row.answers))

    def _prompt(self, row: Answered, *, given: bool) -> Ids:
        if not given or row.prompt_ids is None:
            return self._renderer.prompt(row.prompt)
        # Equal prompts are held once.
        return self._prompts.setdefault(ids_key(row.prompt_ids), _ids(row.prompt_ids))

    def _are_own(self, answer: Answer) -> bool:
        return answer.ids is not None and self._given.are_answer(answer.ids, answer)

    def _check(self, *parts: Ids) -> None:
        """Refuse ids that the model does not know, no prompt, and responses that say nothing."""
        if not len(parts[0]):
            raise BadRow(NO_PROMPT)
        for ids in parts:
            self._given.require_inside(ids)
        control = self._renderer.control_ids
        if any(all(int(i) in control for i in ids) for ids in parts[1:]):
            raise BadRow(EMPTY)

    def _count(
        self, row: Answered | Whole, trusted: tuple[bool, ...], cut: tuple[str, ...]
    ) -> None:
        if all(trusted):
            self.sources.given += 1
        elif any(trusted):
            self.sources.mixed += 1
        else:
            self.sources.rendered += 1
        for reason in cut:
            self.refused.shorten(reason, row.id)

    def _note_lost_turns(self, row: Whole, num_learnt: int) -> None:
        if isinstance(row.content, str):
            return
        if num_learnt < sum(message.role == "assistant" for message in row.content):
            self.refused.shorten(EARLIER_TURNS, row.id)


def _is_empty(content: Text) -> bool:
    if isinstance(content, str):
        return not content.strip()
    written = [m.content for m in content if m.role == "assistant"]
    return bool(written) and not any(words.strip() for words in written)


def _ids(ids: tuple[int, ...] | None) -> Ids:
    return np.asarray(ids, dtype=np.int64)
