"""From a scripted answer to a completion: choices, stops, the token limit and log-probabilities."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from oversight.engines.scripted.script import Answer
from oversight.engines.scripted.settings import Config
from oversight.engines.scripted.tokens import END, decode, encode, encode_prompt
from oversight.text.thoughts import closes_unopened
from oversight.types import Completion, FinishReason, Request, Sampling, Usage


def complete(answer: Answer, request: Request, config: Config, model: str) -> Completion:
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
    """What of a completion was there when it was cancelled."""
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
    )


def _beliefs(answer: Answer, config: Config, choices: Sequence[str]) -> Mapping[str, float]:
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
