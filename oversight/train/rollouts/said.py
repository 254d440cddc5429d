"""Sampled responses as others read them: without the thoughts that stand in them.

Training rows keep every token that was sampled; only what scores a response is given its public
part, as a judge is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from oversight.text.thoughts import MARK_TOKENS, Said, divide, opens_thought
from oversight.train.types import Ids

PROMPT_END_TOKENS = 24
"""Of a prompt: in so many a chat template opens a thought."""


class Divider:
    """Divides responses into what they say and what they think.

    Args:
        tokenizer: The policy's.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        known = getattr(tokenizer, "added_tokens_decoder", {})
        self._marks = {
            i: str(token)
            for i, token in known.items()
            if token.special and MARK_TOKENS.match(str(token))
        }

    def said(self, prompt_ids: Ids, response_ids: Ids) -> Said:
        """A response's public words and its thoughts."""
        end = self._tokenizer.decode(prompt_ids[-PROMPT_END_TOKENS:].tolist())
        return divide(self._text(response_ids.tolist()), opens_thought(end))

    def public_ids(self, prompt_ids: Ids, response_ids: Ids, finished: bool) -> Ids:
        """The tokens of what a response says: its own where it holds no thought."""
        said = self.said(prompt_ids, response_ids)
        if not (said.thoughts or said.cut):
            return response_ids
        ids = list(self._tokenizer(said.text, add_special_tokens=False)["input_ids"])
        end = self._tokenizer.eos_token_id
        if end is not None and (finished or not ids):
            ids.append(end)
        return np.array(ids, dtype=response_ids.dtype)

    def _text(self, ids: list[int]) -> str:
        """Decoded without special tokens, but for those that mark thoughts."""
        text, begin = "", 0
        for place, token_id in enumerate(ids):
            if token_id in self._marks:
                text += self._plain(ids[begin:place]) + self._marks[token_id]
                begin = place + 1
        return text + self._plain(ids[begin:])

    def _plain(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))
