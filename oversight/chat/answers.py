"""The words of an answer, from the token ids that were sampled: in engines and in training alike.

Special tokens are left out, but for those that mark thoughts: without them thought and speech
would run together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from oversight.chat.prompt_ids import TokenIds
from oversight.text.thoughts import MARK_TOKENS, DividedText, divide, opens_thought

REPLACEMENT = "\ufffd"
"""The character that decoding gives for bytes that are not, or not yet, a character."""
PROMPT_END_TOKENS = 24
"""Of a prompt: in so many a chat template opens a thought."""


class AnswerDecoder:
    """Decodes answers of one model, and divides them into speech and thoughts.

    Args:
        tokenizer: The model's.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        known = getattr(tokenizer, "added_tokens_decoder", {})
        names = {i: str(token) for i, token in known.items() if token.special}
        self._marks = {i: name for i, name in names.items() if MARK_TOKENS.match(name)}

    def text(self, token_ids: Sequence[int]) -> str:
        """The words of token ids, with the marks of thoughts among them."""
        found, begin = "", 0
        if self._marks:
            for place, token_id in enumerate(token_ids):
                if token_id in self._marks:
                    found += self._plain(token_ids[begin:place]) + self._marks[token_id]
                    begin = place + 1
        return found + self._plain(token_ids[begin:])

    def is_thinking(self, prompt_ids: TokenIds) -> bool:
        """True if a prompt ends within a thought, which the answer goes on with."""
        return opens_thought(self._tokenizer.decode(prompt_ids[-PROMPT_END_TOKENS:].tolist()))

    def said(self, prompt_ids: TokenIds, answer_ids: TokenIds) -> DividedText:
        """The public words of a whole answer and its thoughts.

        Bytes at its end that are no whole character are left off, as servers do.
        """
        written = self.text(answer_ids.tolist()).rstrip(REPLACEMENT)
        return divide(written, self.is_thinking(prompt_ids))

    def public_ids(self, prompt_ids: TokenIds, answer_ids: TokenIds, finished: bool) -> TokenIds:
        """The tokens of what an answer says: its own where it holds no thought."""
        said = self.said(prompt_ids, answer_ids)
        if not (said.thoughts or said.cut):
            return answer_ids
        ids = list(self._tokenizer(said.text, add_special_tokens=False)["input_ids"])
        end = self._tokenizer.eos_token_id
        if end is not None and (finished or not ids):
            ids.append(end)
        return np.array(ids, dtype=answer_ids.dtype)

    def _plain(self, token_ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
