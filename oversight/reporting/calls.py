"""Calls of models as pages: the prompt exactly as it was sent, the answer exactly as it came."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from oversight.errors import StoreError
from oversight.reporting.pages import CallNote, CallPage, TokenShown
from oversight.store import Store
from oversight.types import Sample, Transcript

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def calls_of(owner: str, samples: Sequence[Sample]) -> tuple[CallNote, ...]:
    """The calls of a turn, a judgment or a rating, in a line each."""
    return tuple(
        CallNote(
            key=f"{owner}.{place}",
            purpose=sample.purpose.value,
            model=sample.model,
            engine=sample.engine,
            prompt_tokens=sample.usage.prompt_tokens,
            completion_tokens=sample.usage.completion_tokens,
            finish_reason=sample.finish_reason.value,
            seconds=sample.seconds,
            has_logprobs=sample.logprobs is not None,
        )
        for place, sample in enumerate(samples)
    )


def samples_of(transcript: Transcript) -> Iterator[tuple[str, str, str, Sample]]:
    """(key, anchor, title, sample) of each call that a transcript keeps."""
    for turn in transcript.turns:
        title = f"{turn.role.value} {turn.seat.value.upper()}, {turn.act.value}"
        for place, sample in enumerate(turn.samples):
            yield f"{turn.id}.{place}", f"turn-{turn.id}", title, sample
    for judgment in transcript.judgments:
        for place, sample in enumerate(judgment.samples):
            anchor = f"judgment-{judgment.id}"
            yield f"{judgment.id}.{place}", anchor, f"judgment of {judgment.judge}", sample
    for rating in transcript.ratings:
        for place, sample in enumerate(rating.samples):
            title = f"rating of {rating.judge}, {rating.task}"
            yield f"{rating.id}.{place}", f"rating-{rating.id}", title, sample


def call_page(store: Store, debate_id: str, key: str) -> CallPage:
    """The page of one call.

    Raises:
        StoreError: There is no such debate or call.
    """
    transcript = store.transcript(debate_id)
    for found, anchor, title, sample in samples_of(transcript):
        if found == key:
            return call_of(store, transcript, key, anchor, title, sample)
    raise StoreError(f"debate {debate_id} has no call {key!r}")


def call_of(
    store: Store, transcript: Transcript, key: str, anchor: str, title: str, sample: Sample
) -> CallPage:
    """The page of a call that is at hand."""
    messages: tuple[tuple[str, str], ...] = ()
    missing, num_ids = "", 0
    try:
        record = store.prompt(sample.prompt_id, num_tokens=sample.usage.prompt_tokens)
        messages = tuple((each.role, each.content) for each in record.prompt.messages)
        num_ids = len(record.token_ids)
    except StoreError as error:
        missing = str(error)
    owner, _, place = key.rpartition(".")
    facts = {
        "temperature": sample.temperature,
        "top-p": sample.top_p,
        "log-probabilities at temperature": sample.logprobs_temperature,
        "cached tokens": sample.usage.cached_tokens,
        "prompt": sample.prompt_id,
    }
    logprobs = sample.logprobs or (None,) * len(sample.token_ids)
    texts = _token_texts(sample.model, sample.token_ids)
    return CallPage(
        debate_id=transcript.debate.id,
        question=transcript.question.text,
        anchor=anchor,
        title=title,
        note=calls_of(owner, (sample,))[0] if not int(place) else _at(owner, sample, int(place)),
        messages=messages,
        missing=missing,
        num_prompt_ids=num_ids,
        raw=sample.text,
        reasoning=sample.reasoning,
        tokens=tuple(map(TokenShown, sample.token_ids, texts, logprobs)),
        facts=tuple((name, str(value)) for name, value in facts.items() if value is not None),
    )


def _at(owner: str, sample: Sample, place: int) -> CallNote:
    return calls_of(owner, (sample,) * (place + 1))[place]


def _token_texts(model: str, ids: Sequence[int]) -> list[str]:
    tokenizer = _tokenizer(model)
    if tokenizer is None:
        return [""] * len(ids)
    return [tokenizer.decode([id_], skip_special_tokens=False) for id_ in ids]


@lru_cache(maxsize=8)
def _tokenizer(model: str) -> Tokenizer | None:
    """The tokenizer of a model in a folder or in the package, which needs no model library."""
    from oversight import models

    try:
        folder = Path(models.resolve(model))
        file = folder / "tokenizer.json"
        if not file.is_file():
            return None
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(file))
    except Exception:  # any fault of a foreign file: tokens are shown by their numbers
        return None


def probability(logprob: float) -> str:
    """A log-probability as a share."""
    p = math.exp(min(0.0, logprob))
    return f"{100 * p:.1f} %" if p >= 0.001 or not p else f"{100 * p:.1g} %"
