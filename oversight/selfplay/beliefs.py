"""A frozen judge in this process: its belief in many games at once, as the judge agent reads it.

The probability of an option is that of its letter as the first token of the answer, in all the
forms in which the vocabulary writes it, normalised over the options. Prompts are scored together,
what they share once, in an order that is always the same: the same games give the same numbers,
bit for bit, so that a run that learns from them resumes exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from oversight.agents.judging import SURFACE_FORMS, decide, in_question_order, labels
from oversight.chat.prompt_ids import ChatIds
from oversight.errors import ConfigError
from oversight.train.distributed import World
from oversight.train.model.loading import frozen, load_policy, read_config
from oversight.train.scoring import row_logprobs
from oversight.train.settings import ModelSettings
from oversight.train.types import TokenRow
from oversight.types import Belief, BeliefMethod, Prompt

MAX_TOKENS = 16_384
"""Tokens that are computed at once."""
NUM_LETTERS = 8
"""Most options of a question."""


class BeliefReader:
    """Reads beliefs of one model.

    Args:
        model: A folder, a hub name, or an embedded model.

    Raises:
        ConfigError: It cannot be read, or its vocabulary has no single token for a letter.
    """

    def __init__(self, model: str) -> None:
        settings = ModelSettings(path=model)
        config, vocabulary = read_config(settings, ())
        self._policy = frozen(load_policy(settings, config, 0))
        self._tokenizer = vocabulary.tokenizer
        self._chat = ChatIds(self._tokenizer)
        self._world = World(0, 1, self._policy.device)
        if not all(self._forms[:2]):
            raise ConfigError(f"judge = {model!r}: its vocabulary has no token for the letter 'A'")

    def beliefs(
        self, prompts: Sequence[Prompt], listings: Sequence[tuple[int, ...]]
    ) -> list[Belief]:
        """The belief after each prompt, in the question's own order.

        Args:
            prompts: Each ends with the request for a letter.
            listings: Of each: which option stands at which letter.
        """
        asked = [self._chat.prompt_ids(prompt) for prompt in prompts]
        rows, places = [], []
        for number, (ids, listing) in enumerate(zip(asked, listings, strict=True)):
            for position in range(len(listing)):
                for form in self._forms[position]:
                    rows.append(TokenRow(np.asarray(ids), np.array([form])))
                    places.append((number, position))
        scored = row_logprobs(self._policy, rows, self._world, MAX_TOKENS)
        by_position = [[0.0] * len(listing) for listing in listings]
        for (number, position), logp_R in zip(places, scored, strict=True):
            by_position[number][position] += math.exp(float(logp_R[0]))
        return [
            decide(in_question_order(found, listing), BeliefMethod.LOGPROBS, "", mass)
            for found, listing in zip(by_position, listings, strict=True)
            for mass in [min(math.fsum(found), 1.0)]
        ]

    @cached_property
    def _forms(self) -> list[list[int]]:
        """For each letter the tokens that are one of its forms."""
        texts = {i: self._tokenizer.decode([i]) for i in range(len(self._tokenizer))}
        ids_of: dict[str, list[int]] = {}
        for token, text in texts.items():
            ids_of.setdefault(text, []).append(token)
        return [
            sorted({i for form in SURFACE_FORMS for i in ids_of.get(form.format(label), ())})
            for label in labels(NUM_LETTERS)
        ]
