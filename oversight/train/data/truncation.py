"""Prompts and responses cut to the length that fits, or left out.

All responses of a prompt keep one and the same prompt. A response that was cut
has no EOS, so that nothing learns to stop there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oversight.train.data.cells import BadRow
from oversight.train.data.settings import DataSettings, Truncation
from oversight.train.types import Ids

PROMPT_TOO_LONG = "the prompt is longer than max_prompt_length"
PROMPT_FILLS = "the prompt is longer than the context"
TOO_LONG = "prompt and response are longer than max_length"
RESPONSE_FILLS = "the response alone is longer than max_length"
PROMPT_CUT = "the prompt's beginning was cut"
RESPONSE_CUT = "a response's end was cut"


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is left of a prompt and its responses."""

    prompt: Ids
    responses: tuple[Ids, ...]
    cut: tuple[str, ...] = ()
    """What was done, as reasons to count."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a row may be, and what becomes of longer ones."""

    max_length: int | None
    max_prompt_length: int | None
    truncation: Truncation
    bos_id: int | None
    """Kept when the beginning of a prompt is cut."""

    @classmethod
    def of(cls, settings: DataSettings, max_len: int | None, bos_id: int | None) -> Limits:
        """The limits of the settings, within the `max_len` positions of the model."""
        both = [length for length in (settings.max_length, max_len) if length is not None]
        longest = min(both) if both else None
        return cls(longest, settings.max_prompt_length, settings.truncation, bos_id)

    def fit(self, prompt: Ids, responses: tuple[Ids, ...]) -> Fitted:
        """The prompt and all of its responses within the limits.

        Raises:
            BadRow: They do not fit, and may not be cut so that they would.
        """
        longest = max((len(ids) for ids in responses), default=1)
        if self.truncation == "prompt_left":
            return self._cut_prompt(prompt, responses, longest)
        if self.max_prompt_length is not None and len(prompt) > self.max_prompt_length:
            raise BadRow(PROMPT_TOO_LONG, f"{len(prompt)} tokens, {self.max_prompt_length} allowed")
        if self.max_length is None or len(prompt) + longest <= self.max_length:
            return Fitted(prompt, responses)
        room = self.max_length - len(prompt)
        if room < 1:
            raise BadRow(PROMPT_FILLS, f"{len(prompt)} tokens, {self.max_length} in all")
        if self.truncation == "drop":
            raise BadRow(TOO_LONG, f"{len(prompt) + longest} tokens, {self.max_length} allowed")
        return Fitted(prompt, tuple(ids[:room] for ids in responses), (RESPONSE_CUT,))

    def _cut_prompt(self, prompt: Ids, responses: tuple[Ids, ...], longest: int) -> Fitted:
        room = len(prompt)
        if self.max_prompt_length is not None:
            room = min(room, self.max_prompt_length)
        if self.max_length is not None:
            room = min(room, self.max_length - longest)
        if room < 1:
            raise BadRow(RESPONSE_FILLS, f"{longest} tokens, {self.max_length} in all")
        if room == len(prompt):
            return Fitted(prompt, responses)
        if room > 1 and prompt[0] == self.bos_id:
            kept = np.concatenate([prompt[:1], prompt[len(prompt) - room + 1 :]])
        else:
            kept = prompt[len(prompt) - room :]
        return Fitted(kept, responses, (PROMPT_CUT,))
