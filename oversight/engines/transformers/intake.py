"""From a request to a sequence: checked, encoded, and known to fit the model."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

from oversight.chat.prompt_ids import ChatIds
from oversight.engines.transformers.detokenizer import Detokenizer
from oversight.engines.transformers.sequence import Job, Sequence
from oversight.errors import EngineRefusedError
from oversight.text.thoughts import MARK_TOKENS, opens_thought
from oversight.types import Request

PROMPT_END_TOKENS = 24
"""Of a prompt: in so many a chat template opens a thought."""


@dataclass(frozen=True)
class Limits:
    """How much runs at the same time."""

    max_model_len: int | None
    max_batch_size: int
    max_batch_tokens: int

    def max_length(self) -> tuple[int, str]:
        """Tokens that one sequence may have, and the setting that says so."""
        if self.max_model_len is None or self.max_batch_tokens < self.max_model_len:
            return self.max_batch_tokens, "max_batch_tokens"
        return self.max_model_len, "max_model_len"

    def fits(self, sequences: Many[Sequence]) -> bool:
        """Whether these can run together; rows are as long as the longest may become."""
        longest = max(sequence.max_length for sequence in sequences)
        return len(sequences) <= self.max_batch_size and (
            len(sequences) == 1 or len(sequences) * longest <= self.max_batch_tokens
        )


class Intake:
    """Makes sequences of jobs."""

    def __init__(self, tokenizer: Any, chat: ChatIds, limits: Limits) -> None:
        self._chat = chat
        self._limits = limits
        self._decode = _decoder(tokenizer)
        self._tokenizer = tokenizer

    def sequence(self, job: Job) -> Sequence:
        """A job ready to run. An answer that could grow beyond the limit is cut there.

        Raises:
            EngineRefusedError: It cannot be sampled as asked, or its prompt leaves no room.
        """
        request, sampling = job.request, job.request.sampling
        check_sampling(request)
        prompt_ids = self._chat.prompt_ids(request.prompt)
        choices = tuple(self._chat.choice_ids(request.prompt, text) for text in sampling.choices)
        if any(len(ids) == 0 for ids in choices):
            raise EngineRefusedError(f"request {request.id!r}: a choice has no tokens")
        branches = sum(len(ids) - 1 for ids in choices)
        needed = branches if choices else 1
        limit, setting = self._limits.max_length()
        if len(prompt_ids) + needed > limit:
            raise EngineRefusedError(
                f"request {request.id!r}: its prompt has {len(prompt_ids)} tokens and the answer "
                f"needs {needed} or more, but {setting} = {limit}; shorten the prompt"
                + (" or raise the setting" if setting == "max_batch_tokens" else "")
            )
        max_tokens = min(sampling.max_tokens, limit - len(prompt_ids))
        job.opened = opens_thought(self._tokenizer.decode(prompt_ids[-PROMPT_END_TOKENS:]))
        return Sequence(
            job=job,
            prompt_ids=prompt_ids,
            max_tokens=max_tokens,
            max_length=len(prompt_ids) + (branches if choices else max_tokens),
            choices=choices,
            text=Detokenizer(self._decode, sampling.stop),
            random=random.Random(sampling.seed),
        )


def check_sampling(request: Request) -> None:
    """Refuse what cannot be sampled.

    Raises:
        EngineRefusedError: The message names the field, its value and what is accepted.
    """
    sampling = request.sampling
    problems = [
        (sampling.max_tokens < 1, "max_tokens", "1 or more"),
        (not 0 <= sampling.temperature < math.inf, "temperature", "0 or more"),
        (not 0 < sampling.top_p <= 1, "top_p", "above 0 and at most 1"),
        (sampling.top_logprobs < 0, "top_logprobs", "0 or more"),
        ("" in sampling.stop, "stop", "strings that are not empty"),
        ("" in sampling.choices, "choices", "strings that are not empty"),
        (len(set(sampling.choices)) < len(sampling.choices), "choices", "different strings"),
    ]
    for wrong, field, accepted in problems:
        if wrong:
            raise EngineRefusedError(
                f"request {request.id!r}: sampling.{field} = {getattr(sampling, field)!r}: "
                f"give {accepted}"
            )


def _decoder(tokenizer: Any) -> Callable[[Many[int]], str]:
    """Decodes without special tokens, but for those that mark thoughts."""
    names = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    marks = {i: name for i, name in names.items() if MARK_TOKENS.match(name)}

    def plain(token_ids: Many[int]) -> str:
        text: str = tokenizer.decode(
            token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def decode(token_ids: Many[int]) -> str:
        text, begin = "", 0
        for place, token_id in enumerate(token_ids):
            if token_id in marks:
                text += plain(token_ids[begin:place]) + marks[token_id]
                begin = place + 1
        return text + plain(token_ids[begin:])

    return decode if marks else plain
