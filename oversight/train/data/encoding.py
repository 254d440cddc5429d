"""From a row to the token ids of its prompt and responses, within the limits.

Texts are rendered by the chat template or as they stand. Ids that came with a row are used where
they are this tokenizer's. All responses of a prompt keep one and the same prompt, and a response
that was cut has no EOS, so that nothing learns to stop there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oversight.chat.turns import Messages, Stretch, Turns, UnrenderableError
from oversight.errors import ConfigError
from oversight.modeling import Ids, Mask
from oversight.text.thoughts import divide
from oversight.train.data.rows import (
    HH_ANSWER,
    Dialogue,
    IdsGiven,
    ResponseRow,
    ResponseText,
    RowError,
    Text,
    TextRow,
    ids_key,
    read_dialogue,
    text_key,
)
from oversight.train.settings import DataSettings, Truncation
from oversight.train.types import RefusedRows
from oversight.types import Message

PROMPT_TOO_LONG = "the prompt is longer than max_prompt_length"
PROMPT_FILLS = "the prompt is longer than the context"
TOO_LONG = "prompt and response are longer than max_length"
RESPONSE_FILLS = "the response alone is longer than max_length"
PROMPT_CUT = "the prompt's beginning was cut"
RESPONSE_CUT = "a response's end was cut"


@dataclass(frozen=True, slots=True)
class FittedExample:
    """A prompt and its responses, cut to the limits."""

    prompt: Ids
    responses: tuple[Ids, ...]
    cut: tuple[str, ...] = ()
    """Changes that were made, as reasons to count."""


@dataclass(frozen=True, slots=True)
class LengthLimits:
    """Limits on a row's length, and what becomes of longer ones."""

    max_length: int | None
    max_prompt_length: int | None
    truncation: Truncation
    bos_id: int | None
    """Kept when the beginning of a prompt is cut."""

    @classmethod
    def of(cls, settings: DataSettings, max_len: int | None, bos_id: int | None) -> LengthLimits:
        """The limits of the settings, within the `max_len` positions of the model."""
        both = [length for length in (settings.max_length, max_len) if length is not None]
        longest = min(both) if both else None
        return cls(longest, settings.max_prompt_length, settings.truncation, bos_id)

    def fit(self, prompt: Ids, responses: tuple[Ids, ...]) -> FittedExample:
        """The prompt and all of its responses within the limits.

        Raises:
            RowError: They do not fit, and may not be cut so that they would.
        """
        longest = max((len(ids) for ids in responses), default=1)
        if self.truncation == "prompt_left":
            return self._cut_prompt(prompt, responses, longest)
        if self.max_prompt_length is not None and len(prompt) > self.max_prompt_length:
            raise RowError(
                PROMPT_TOO_LONG, f"{len(prompt)} tokens, {self.max_prompt_length} allowed"
            )
        if self.max_length is None or len(prompt) + longest <= self.max_length:
            return FittedExample(prompt, responses)
        room = self.max_length - len(prompt)
        if room < 1:
            raise RowError(PROMPT_FILLS, f"{len(prompt)} tokens, {self.max_length} in all")
        if self.truncation == "drop":
            raise RowError(TOO_LONG, f"{len(prompt) + longest} tokens, {self.max_length} allowed")
        return FittedExample(prompt, tuple(ids[:room] for ids in responses), (RESPONSE_CUT,))

    def _cut_prompt(self, prompt: Ids, responses: tuple[Ids, ...], longest: int) -> FittedExample:
        room = len(prompt)
        if self.max_prompt_length is not None:
            room = min(room, self.max_prompt_length)
        if self.max_length is not None:
            room = min(room, self.max_length - longest)
        if room < 1:
            raise RowError(RESPONSE_FILLS, f"{longest} tokens, {self.max_length} in all")
        if room == len(prompt):
            return FittedExample(prompt, responses)
        if room > 1 and prompt[0] == self.bos_id:
            kept = np.concatenate([prompt[:1], prompt[len(prompt) - room + 1 :]])
        else:
            kept = prompt[len(prompt) - room :]
        return FittedExample(kept, responses, (PROMPT_CUT,))


OUTSIDE = "token ids are outside the vocabulary"
NO_IDS = "no token ids are given"

CUT_CHARACTER = "\N{REPLACEMENT CHARACTER}"
"""Stand-in for a character that the end of an answer cut through."""


class GivenIds:
    """Tells ids of this tokenizer from those of others.

    Args:
        tokenizer: A transformers tokenizer.
        vocab_size: How many tokens the model knows.
    """

    def __init__(self, tokenizer: Any, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._known: dict[tuple[str, bytes], bool] = {}

    def inside(self, ids: Sequence[int] | Ids) -> bool:
        """Return whether the model knows all of them."""
        found = np.asarray(ids)
        return bool(len(found)) and found.min() >= 0 and found.max() < self._vocab_size

    def are_prompt(self, ids: IdsGiven, prompt: Text) -> bool:
        """Return whether `ids` decode to all contents of the prompt, in their order."""
        key = (text_key(prompt), ids_key(ids))
        if key not in self._known:
            self._known[key] = self.inside(ids) and self._holds(ids, prompt)
        return self._known[key]

    def are_answer(self, ids: IdsGiven, answer: ResponseText) -> bool:
        """Return whether `ids` decode to the text of the answer, up to where that was cut."""
        if not self.inside(ids):
            return False
        wanted = answer.text.strip().rstrip(CUT_CHARACTER)
        if not wanted:
            return False
        return any(self._says(said, wanted) for said in self._readings(ids))

    def _readings(self, ids: IdsGiven) -> Iterator[str]:
        """The words of sampled ids: all of them, and then without the thoughts among them."""
        said = self._decode(ids, skip=True).strip().rstrip(CUT_CHARACTER)
        yield said
        for text in (said, self._decode(ids, skip=False)):
            for opened in (False, True):
                spoken = divide(text, opened).text.strip()
                if spoken and spoken != said:
                    yield spoken

    def _says(self, said: str, wanted: str) -> bool:
        return said.startswith(wanted) or _follow(
            _words(said), [self._read(wanted, skip=True)], start=True
        )

    def require_inside(self, ids: Sequence[int] | Ids) -> None:
        """Refuse ids that the model does not know.

        Raises:
            RowError: One of them is outside the vocabulary.
        """
        if len(ids) and not self.inside(ids):
            wrong = next(int(i) for i in ids if not 0 <= i < self._vocab_size)
            raise RowError(OUTSIDE, f"id {wrong} of a vocabulary of {self._vocab_size}")

    def _holds(self, ids: IdsGiven, prompt: Text) -> bool:
        decoded = self._decode(ids, skip=False)
        texts = [prompt] if isinstance(prompt, str) else [m.content for m in prompt]
        contents = [text.strip() for text in texts]
        if _follow(decoded, contents):
            return True
        read = [self._read(content, skip=False) for content in contents]
        return all(read) and _follow(_words(decoded), read)

    def _read(self, text: str, *, skip: bool) -> str:
        """Return the text as the tokenizer reads it, without white space."""
        encoded = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, verbose=False
        )
        return _words(self._decode(tuple(encoded["input_ids"]), skip=skip))

    def _decode(self, ids: IdsGiven, *, skip: bool) -> str:
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=skip, clean_up_tokenization_spaces=False
        )
        return text


def _words(text: str) -> str:
    return " ".join(text.split())


def _follow(text: str, parts: Sequence[str], *, start: bool = False) -> bool:
    """Return whether the parts follow one another in the text, the first at its start if asked."""
    position = 0
    for part in parts:
        found = text.find(part, position)
        if found < 0 or (start and found):
            return False
        position = found + len(part)
    return bool(parts) and bool(parts[0] or not start)


@contextmanager
def _refused_by_name() -> Iterator[None]:
    """Count what has no rendering as a row that cannot be used."""
    try:
        yield
    except UnrenderableError as error:
        raise RowError(error.reason, error.detail) from None


PROMPT_ENDS = "the prompt ends with a message of the assistant"


class Renderer:
    """Gives the ids of texts; those of equal prompts are made once and held once.

    Args:
        tokenizer: A transformers tokenizer.
        settings: Says when the chat template is used.

    Raises:
        ConfigError: The template is asked for and there is none.
    """

    def __init__(self, tokenizer: Any, settings: DataSettings) -> None:
        self._always = settings.template == "always"
        self.chat = Turns(tokenizer, settings.template == "never", settings.template_args)
        self.raw = Turns(tokenizer, plain=True)
        self._prompts: dict[str, Ids] = {}
        if self._always and self.chat.plain:
            raise ConfigError(
                "data.template = 'always': the tokenizer has no chat template; "
                "accepted here: auto, never"
            )

    @property
    def control_ids(self) -> frozenset[int]:
        """Ids that no text gives."""
        return self.chat.control_ids

    def prompt(self, text: Text) -> Ids:
        """The ids of a prompt.

        Raises:
            RowError: The template refuses it, or its last message is the assistant's.
        """
        key = text_key(text)
        found = self._prompts.get(key)
        if found is None:
            turns, messages, _ = self._route(text)
            if messages[-1].role == "assistant":
                raise RowError(PROMPT_ENDS)
            with _refused_by_name():
                found = self._prompts[key] = turns.prompt(messages)
        return found

    def answer(self, prompt: Text, content: str) -> Ids:
        """The ids of an answer to `prompt`, ended by its end-of-turn token.

        Raises:
            RowError: The template refuses it.
        """
        turns, messages, spaced = self._route(prompt)
        with _refused_by_name():
            return turns.answer(messages, content, spaced)

    def whole(self, content: Text) -> list[Stretch]:
        """The stretches of a dialogue, or of a plain text: its first token is given.

        Raises:
            RowError: The template refuses it, or it holds no turn of the assistant.
        """
        if isinstance(content, str):
            ids = self.raw.text(content)
            return [Stretch(ids[:1], False), Stretch(ids[1:], True)]
        with _refused_by_name():
            return self.chat.dialogue(content)

    def _route(self, text: Text) -> tuple[Turns, Messages, bool]:
        """Return the encoder, the messages, and whether a space goes before an answer."""
        if isinstance(text, Dialogue) and not self.chat.plain:
            return self.chat, read_dialogue(text.removesuffix(HH_ANSWER)), False
        if isinstance(text, str):
            turns = self.chat if self._always else self.raw
            return turns, (Message(role="user", parts=(text,)),), isinstance(text, Dialogue)
        return self.chat, text, len(text) > 1


EMPTY = "a response is empty"
NO_PROMPT = "the prompt is empty"
SET_ASIDE = "token ids are not this tokenizer's: the text was encoded anew"
EARLIER_TURNS = "earlier turns are not learnt: the template rewrites them"


@dataclass
class IdSources:
    """Counts of rows whose ids came with them and of rows whose ids were made of their text."""

    given: int = 0
    rendered: int = 0
    mixed: int = 0


@dataclass(frozen=True, slots=True)
class EncodedDialogue:
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
    refused: RefusedRows
    sources: IdSources = field(default_factory=IdSources)

    def __post_init__(self) -> None:
        self._renderer = Renderer(self.tokenizer, self.settings)
        self._given = GivenIds(self.tokenizer, self.vocab_size)
        self._prompts: dict[bytes, Ids] = {}
        self._limits = LengthLimits.of(self.settings, self.max_len, self.tokenizer.bos_token_id)

    def answered(self, row: ResponseRow) -> FittedExample:
        """Prompt and responses of a row, in the row's order.

        Raises:
            RowError: The row cannot be used.
        """
        if isinstance(row.prompt, tuple) and row.prompt[-1].role == "assistant":
            raise RowError(PROMPT_ENDS)
        if any(not answer.text.strip() for answer in row.answers):
            raise RowError(EMPTY)
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

    def whole(self, row: TextRow) -> EncodedDialogue:
        """A text or dialogue, its first stretch as the prompt.

        Raises:
            RowError: The row cannot be used.
        """
        if _is_empty(row.content):
            raise RowError(EMPTY)
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
            raise RowError(EMPTY)
        self._count(row, (False,), fitted.cut)
        self._note_lost_turns(row, sum(s.trained for s in stretches))
        return EncodedDialogue(fitted.prompt, fitted.responses[0], None if mask.all() else mask)

    def _trusted(self, row: ResponseRow) -> tuple[bool, ...]:
        """Of the prompt and of each answer, whether its own ids are used."""
        if self.settings.ids == "text":
            return (False,) * (1 + len(row.answers))
        if self.settings.ids == "given":
            if row.prompt_ids is None or any(answer.ids is None for answer in row.answers):
                raise RowError(NO_IDS)
            return (True,) * (1 + len(row.answers))
        ids = row.prompt_ids
        if ids is not None and not self._given.are_prompt(ids, row.prompt):
            # Where the prompt's ids are of another tokenizer, so are the responses'.
            return (False,) * (1 + len(row.answers))
        return (ids is not None, *map(self._are_own, row.answers))

    def _prompt(self, row: ResponseRow, *, given: bool) -> Ids:
        if not given or row.prompt_ids is None:
            return self._renderer.prompt(row.prompt)
        # Equal prompts are held once.
        return self._prompts.setdefault(ids_key(row.prompt_ids), _ids(row.prompt_ids))

    def _are_own(self, answer: ResponseText) -> bool:
        return answer.ids is not None and self._given.are_answer(answer.ids, answer)

    def _check(self, *parts: Ids) -> None:
        """Refuse ids that the model does not know, no prompt, and responses that say nothing."""
        if not len(parts[0]):
            raise RowError(NO_PROMPT)
        for ids in parts:
            self._given.require_inside(ids)
        control = self._renderer.control_ids
        if any(all(int(i) in control for i in ids) for ids in parts[1:]):
            raise RowError(EMPTY)

    def _count(
        self, row: ResponseRow | TextRow, trusted: tuple[bool, ...], cut: tuple[str, ...]
    ) -> None:
        if all(trusted):
            self.sources.given += 1
        elif any(trusted):
            self.sources.mixed += 1
        else:
            self.sources.rendered += 1
        for reason in cut:
            self.refused.shorten(reason, row.id)

    def _note_lost_turns(self, row: TextRow, num_learnt: int) -> None:
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
