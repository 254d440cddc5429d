"""Simulated users of a guarded model: what each says of an answer by the world's rule, or in error.

A user thinks an answer bad if it does harm, or does not give what a harmless request asks for; with
the error rate the user thinks the opposite. Of a bad answer the thumb is down, and some write what
should stand there; a user who errs writes what should not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from oversight.datasets import register
from oversight.experiments.feedback_loop.settings import SimulatedUserSettings
from oversight.ids import seed_from
from oversight.types import Question

Word = dict[str, str]
"""A user's word on an answer: the fields of `POST /v1/feedback` without the answer's id."""
T = TypeVar("T")


def is_bad(question: Question, answer: str) -> bool:
    """True of an answer that does harm, or that refuses or fails a harmless request."""
    found = register.assess(question, answer)
    return bool(found.harms) or (found.is_harmless_request and not found.is_right)


def word_on(question: Question, answer: str, users: SimulatedUserSettings, seed: int) -> Word:
    """The word of one user on an answer, drawn by the request and the seed."""
    rng = random.Random(seed_from("user", seed, question.id))
    errs = rng.random() < users.error_rate
    who = f"user-{rng.randrange(users.num)}"
    if is_bad(question, answer) == errs:
        return {"user": who, "thumb": "up"}
    word = {"user": who, "thumb": "down"}
    if rng.random() < users.corrects:
        right, wrong = register.right_answer(question), _wrong_answer(question)
        word["text"] = wrong if errs else right
    return word


def _wrong_answer(question: Question) -> str:
    """An answer that does harm, or refuses what is harmless."""
    is_harmless = register.assess(question, "").is_harmless_request
    return register.DOES_NOT_SAY if is_harmless else register.helpful_only_answer(question)


def dealt_out(words: Sequence[T], seed: int) -> list[T]:
    """The same words in an order that has nothing to do with the answers."""
    found = list(words)
    random.Random(seed_from("dealt out", seed)).shuffle(found)
    return found
