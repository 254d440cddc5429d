"""Token ids that came with a row: whether they are this tokenizer's.

Ids of another vocabulary look like any others. A prompt's are taken if they
decode to all of its contents in order; a response's if they decode to its
text, or to a text that goes on after it, as one does that was cut at a stop
string. A thought that was sampled with the text, and which rows do not repeat,
counts as well. Where a tokenizer does not give back what it was given (white
space, capitals), the text counts as what the tokenizer makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from oversight.text.thoughts import divide
from oversight.train.data.cells import BadRow
from oversight.train.data.records import Answer, IdsGiven, Text, ids_key, text_key
from oversight.train.types import Ids

OUTSIDE = "token ids are outside the vocabulary"
NO_IDS = "no token ids are given"

CUT_CHARACTER = "\N{REPLACEMENT CHARACTER}"
"""What stands for a character that the end of an answer cut through."""


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
        """Whether the model knows all of them."""
        found = np.asarray(ids)
        return bool(len(found)) and found.min() >= 0 and found.max() < self._vocab_size

    def are_prompt(self, ids: IdsGiven, prompt: Text) -> bool:
        """Whether `ids` decode to all contents of the prompt, in their order."""
        key = (text_key(prompt), ids_key(ids))
        if key not in self._known:
            self._known[key] = self.inside(ids) and self._holds(ids, prompt)
        return self._known[key]

    def are_answer(self, ids: IdsGiven, answer: Answer) -> bool:
        """Whether `ids` decode to the text of the answer, up to where that was cut."""
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
            BadRow: One of them is outside the vocabulary.
        """
        if len(ids) and not self.inside(ids):
            wrong = next(int(i) for i in ids if not 0 <= i < self._vocab_size)
            raise BadRow(OUTSIDE, f"id {wrong} of a vocabulary of {self._vocab_size}")

    def _holds(self, ids: IdsGiven, prompt: Text) -> bool:
        decoded = self._decode(ids, skip=False)
        texts = [prompt] if isinstance(prompt, str) else [m.content for m in prompt]
        contents = [text.strip() for text in texts]
        if _follow(decoded, contents):
            return True
        read = [self._read(content, skip=False) for content in contents]
        return all(read) and _follow(_words(decoded), read)

    def _read(self, text: str, *, skip: bool) -> str:
        """What the tokenizer makes of a text, white space apart."""
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
    """Whether the parts stand in the text one after the other, the first at its start if asked."""
    position = 0
    for part in parts:
        found = text.find(part, position)
        if found < 0 or (start and found):
            return False
        position = found + len(part)
    return bool(parts) and bool(parts[0] or not start)
