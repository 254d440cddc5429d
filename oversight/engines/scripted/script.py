"""Scripts: the answers of the scripted engine, and completions made of them.

A completion has choices, stops, the token limit and log-probabilities, as a model's has.
"""

from __future__ import annotations

import binascii
import math
import random
import re
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, TypeAlias

from pydantic import Field, field_validator

from oversight.config import Settings
from oversight.errors import ConfigError, EngineRefusedError
from oversight.text.thoughts import closes_unopened
from oversight.types import Completion, FinishReason, Prompt, Request, Sampling, Usage

SUM_TOLERANCE = 1e-6


def check_beliefs(beliefs: Mapping[str, float] | None) -> None:
    """Refuse what are no probabilities of exclusive answers.

    Raises:
        ValueError: One is not between 0 and 1, or they sum to more than 1.
    """
    values = list((beliefs or {}).values())
    if not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(f"{dict(beliefs or {})!r} holds a value that is not between 0 and 1")
    if sum(values) > 1.0 + SUM_TOLERANCE:
        raise ValueError(f"{dict(beliefs or {})!r} sums to more than 1")


class Rule(Settings):
    """An answer to every prompt in which a regular expression is found."""

    pattern: str
    answer: str = ""
    beliefs: dict[str, float] | None = None
    """As `Answer.beliefs`."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        return value

    @field_validator("beliefs")
    @classmethod
    def _check_beliefs(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        check_beliefs(value)
        return value


class Config(Settings):
    """A script in a file.

    The first rule that fits answers, then the next of `answers`; where no list
    of answers is given, `fallback`.
    """

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"latency_s", "tokens_per_chunk", "fail_calls", "keep_requests"}
    )

    model: str = Field(default="scripted", min_length=1)
    """The name it goes by, to tell scripts apart in what is recorded."""
    rules: tuple[Rule, ...] = ()
    answers: tuple[str, ...] = ()
    """Given out in order, one a request; running out of them is an error."""
    fallback: str = "This is a scripted answer."
    beliefs: dict[str, float] | None = None
    """For choices that the answer does not settle; None for uniform."""
    logprob: float = Field(default=-1.0, le=0.0, allow_inf_nan=False)
    """Of every token that is no choice."""
    logprobs: bool = True
    """True for an engine that gives log-probabilities."""
    choices: bool = True
    """True for an engine that keeps to choices."""
    latency_s: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Time that each answer takes."""
    tokens_per_chunk: int = Field(default=4, ge=1)
    """Size of the pieces of a stream."""
    fail_calls: frozenset[int] = frozenset()
    """Numbers of the calls, counted from 1, that fail as if the server were gone."""
    keep_requests: int = Field(default=10_000, ge=0)
    """Number of the last requests that `ScriptedEngine.requests` holds."""

    @field_validator("beliefs")
    @classmethod
    def _check_beliefs(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        check_beliefs(value)
        return value


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """A script's answer to one request."""

    text: str = ""
    beliefs: Mapping[str, float] | None = None
    """Probability of each answer that may be chosen from, before the choice is enforced: what
    is missing to 1 went to other words. None: all on `text` if that is one of the choices, else
    as the settings say."""
    reasoning: str = ""
    """A thought given apart from the text, as some servers do."""
    finish_reason: FinishReason | None = None
    """The reason why the answer ended; None for its own end, or the limit of tokens."""

    def __post_init__(self) -> None:
        try:
            check_beliefs(self.beliefs)
        except ValueError as error:
            raise ConfigError(f"Answer.beliefs: {error}") from None


Said: TypeAlias = str | ScriptedAnswer | Awaitable[str | ScriptedAnswer]
Say: TypeAlias = Callable[[Request], Said]
Script: TypeAlias = Sequence[str | ScriptedAnswer] | Mapping[str, str | ScriptedAnswer] | Say


def sayer(script: Script | None, config: Config) -> Say:
    """The function that `script` stands for; without one, the settings are the script."""
    if script is None:
        return _from_settings(config)
    if callable(script):
        return script
    if isinstance(script, Mapping):
        return _by_rules(script.items(), _no_rule)
    if isinstance(script, str):
        raise ConfigError(
            f"script = {script!r}: one text is no script; give a list of answers, a mapping from "
            "regular expressions to answers, or a function"
        )
    return _in_order(script)


def where(request: Request) -> str:
    """Name of a request in messages."""
    return f"scripted engine, request {request.id!r}"


def _from_settings(config: Config) -> Say:
    rest: Say = _in_order(config.answers) if config.answers else lambda _: config.fallback
    if not config.rules:
        return rest
    rules = [(rule.pattern, ScriptedAnswer(rule.answer, rule.beliefs)) for rule in config.rules]
    return _by_rules(rules, rest)


def _in_order(answers: Sequence[str | ScriptedAnswer]) -> Say:
    remaining = iter(tuple(answers))

    def say(request: Request) -> str | ScriptedAnswer:
        for answer in remaining:
            return answer
        raise EngineRefusedError(
            f"{where(request)}: all {len(answers)} answers of the script have been given; "
            "add answers, or use rules, which do not run out"
        )

    return say


def _by_rules(rules: Iterable[tuple[str, str | ScriptedAnswer]], rest: Say) -> Say:
    try:
        compiled = [(re.compile(pattern), answer) for pattern, answer in rules]
    except re.error as error:
        raise ConfigError(f"script: {error.pattern!r} is no regular expression: {error}") from None

    def say(request: Request) -> Said:
        text = _searched(request.prompt)
        for pattern, answer in compiled:
            if pattern.search(text):
                return answer
        return rest(request)

    return say


def _searched(prompt: Prompt) -> str:
    return "\n\n".join(message.content for message in prompt.messages)


def _no_rule(request: Request) -> Said:
    end = _searched(request.prompt)[-80:]
    raise EngineRefusedError(
        f"{where(request)}: no rule of the script fits the prompt that ends in {end!r}; "
        "add one, such as '.' for whatever is left"
    )


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
