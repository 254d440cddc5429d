"""From a scripted answer to a completion: choices, stops, the token limit and log-probabilities."""

from __future__ import annotations

import binascii
import math
import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from oversight.engines.scripted.script import Config, ScriptedAnswer
from oversight.text.thoughts import closes_unopened
from oversight.types import Completion, FinishReason, Prompt, Request, Sampling, Usage

END = 0
"""Ends an answer, and counts as one of its tokens."""

ROLES = {"system": 1, "user": 2, "assistant": 3}
"""Begins a message of that role."""

NUM_SPECIAL = 4

BYTES_PER_TOKEN = 3


def encode(text: str) -> tuple[int, ...]:
    """Token ids of any text, lone surrogates included."""
    digits = binascii.b2a_base64(text.encode("utf-8", "surrogatepass"), newline=False)
    return struct.unpack(f"<{len(digits) // 4}I", digits)


@lru_cache(maxsize=1024)
def _encode_part(part: str) -> tuple[int, ...]:
    """As `encode`; the prompts of one debate share most of their parts."""
    return encode(part)


def encode_prompt(prompt: Prompt) -> tuple[int, ...]:
    """Token ids of a prompt; those of its first parts stay the same as it grows."""
    ids: list[int] = []
    for message in prompt.messages:
        ids.append(ROLES[message.role])
        for part in message.parts:
            ids += _encode_part(part)
    ids.append(ROLES["assistant"])
    return tuple(ids)


def decode(ids: Sequence[int]) -> str:
    """The text of `ids`, special ones left out.

    A character cut off at the end is dropped; one that lacks its beginning is replaced.
    """
    data = b"".join(
        binascii.a2b_base64(each.to_bytes(4, "little")) for each in ids if each >= NUM_SPECIAL
    )
    whole = data[: _char_start(data, len(data))] if _is_cut(data) else data
    try:
        return whole.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return whole.decode("utf-8", "replace")


def pieces(text: str, tokens_per_piece: int) -> Iterator[tuple[str, int]]:
    """`text` in pieces of whole characters, each with the number of tokens up to its end."""
    data = text.encode("utf-8", "surrogatepass")
    size = tokens_per_piece * BYTES_PER_TOKEN
    start = 0
    for end in range(size, len(data) + size, size):
        stop = len(data) if end >= len(data) else _char_start(data, end)
        if stop > start:
            num_tokens = -(-min(end, len(data)) // BYTES_PER_TOKEN)
            yield data[start:stop].decode("utf-8", "surrogatepass"), num_tokens
        start = stop


def _is_cut(data: bytes) -> bool:
    """True if the last character of `data` lacks bytes."""
    start = _char_start(data, len(data) - 1) if data else 0
    lead = data[start] if data else 0
    length = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    return len(data) - start < length


def _char_start(data: bytes, position: int) -> int:
    """Start of the character that covers `position`, or that `position` would continue."""
    while position > 0 and (position == len(data) or data[position] & 0xC0 == 0x80):
        position -= 1
    return position


def complete(answer: ScriptedAnswer, request: Request, config: Config, model: str) -> Completion:
    """The whole completion of `request` by `answer`, as if it had taken no time."""
    sampling = request.sampling
    text, first = answer.text, config.logprob
    beliefs = answer.beliefs if answer.beliefs is not None else config.beliefs
    if sampling.choices:
        beliefs = _beliefs(answer, config, sampling.choices)
        text, first = _choose(text, beliefs, sampling)
    text = _before_stop(text, sampling.stop)
    ids, finish_reason = (*encode(text), END), FinishReason.STOP
    if len(ids) > sampling.max_tokens:
        ids, finish_reason = ids[: sampling.max_tokens], FinishReason.LENGTH
        text = decode(ids)
    finish_reason = answer.finish_reason or finish_reason
    rest = 0.0 if sampling.choices else config.logprob
    logprobs = (first, *[rest] * (len(ids) - 1)) if ids else ()
    return _completion(
        request,
        model,
        text,
        ids,
        finish_reason,
        logprobs=logprobs if sampling.logprobs else None,
        top=_top(ids, logprobs, beliefs, sampling.top_logprobs),
        reasoning=answer.reasoning,
        # Told from the whole answer: of one that is cut off, the mark may be lost.
        opened=None if sampling.choices else closes_unopened(answer.text),
    )


def cut(whole: Completion, num_tokens: int, text: str) -> Completion:
    """Return the part of a completion that was there when it was cancelled."""
    return replace(
        whole,
        text=text,
        token_ids=whole.token_ids[:num_tokens],
        logprobs=whole.logprobs[:num_tokens] if whole.logprobs is not None else None,
        top=whole.top[:num_tokens],
        finish_reason=FinishReason.CANCELLED,
        usage=whole.usage.model_copy(update={"completion_tokens": num_tokens}),
    )


def _completion(
    request: Request,
    model: str,
    text: str,
    ids: tuple[int, ...],
    finish_reason: FinishReason,
    *,
    logprobs: tuple[float, ...] | None,
    top: tuple[tuple[tuple[str, float], ...], ...],
    reasoning: str,
    opened: bool | None,
) -> Completion:
    prompt_ids = encode_prompt(request.prompt)
    return Completion(
        request_id=request.id,
        text=text,
        prompt_ids=prompt_ids,
        token_ids=ids,
        finish_reason=finish_reason,
        usage=Usage(prompt_tokens=len(prompt_ids), completion_tokens=len(ids)),
        engine="scripted",
        model=model,
        seconds=0.0,
        logprobs=logprobs,
        top=top,
        reasoning=reasoning,
        opened=opened,
        logprobs_temperature=None
        if logprobs is None
        else request.sampling.temperature_of_logprobs(is_tempered=True),
    )


def _beliefs(answer: ScriptedAnswer, config: Config, choices: Sequence[str]) -> Mapping[str, float]:
    if answer.beliefs is not None:
        return answer.beliefs
    if answer.text in choices:
        return {answer.text: 1.0}
    return config.beliefs or dict.fromkeys(choices, 1.0 / len(choices))


def _choose(text: str, beliefs: Mapping[str, float], sampling: Sampling) -> tuple[str, float]:
    """One of the choices, and its log-probability among them at the temperature asked for."""
    choices = sampling.choices
    given = [beliefs.get(choice, 0.0) for choice in choices]
    highest = max(given)
    if highest == 0.0:
        given, highest = [1.0] * len(choices), 1.0
    if sampling.temperature == 0.0:
        return choices[given.index(highest)], 0.0
    weights = [(each / highest) ** (1.0 / sampling.temperature) for each in given]
    if text in choices and weights[choices.index(text)] > 0.0:
        index = choices.index(text)
    else:
        index = random.Random(sampling.seed or 0).choices(range(len(choices)), weights)[0]
    return choices[index], math.log(weights[index] / math.fsum(weights))


def _before_stop(text: str, stop: Sequence[str]) -> str:
    found = [text.find(each) for each in stop if each and each in text]
    return text[: min(found)] if found else text


def _top(
    ids: Sequence[int],
    logprobs: Sequence[float],
    beliefs: Mapping[str, float] | None,
    num_top: int,
) -> tuple[tuple[tuple[str, float], ...], ...]:
    """At the first position the beliefs, if there are any; elsewhere the token itself."""
    if not num_top:
        return ()
    top = [((decode([each]), logprob),) for each, logprob in zip(ids, logprobs, strict=True)]
    if beliefs and top:
        pairs = [(text, math.log(p)) for text, p in beliefs.items() if p > 0.0]
        likeliest = sorted(pairs, key=lambda pair: -pair[1])[:num_top]
        return (tuple(likeliest), *top[1:])
    return tuple(top)
