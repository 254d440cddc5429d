"""Scripts: where the scripted engine takes its answers from."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from oversight.engines.scripted.settings import Config, check_beliefs
from oversight.errors import ConfigError, EngineRefusedError
from oversight.types import FinishReason, Prompt, Request


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script says to one request."""

    text: str = ""
    beliefs: Mapping[str, float] | None = None
    """Probability of each answer that may be chosen from, before the choice is enforced: what
    is missing to 1 went to other words. None: all on `text` if that is one of the choices, else
    as the settings say."""
    reasoning: str = ""
    """A thought given apart from the text, as some servers do."""
    finish_reason: FinishReason | None = None
    """Why the answer ended; None for its own end, or the limit of tokens."""

    def __post_init__(self) -> None:
        try:
            check_beliefs(self.beliefs)
        except ValueError as error:
            raise ConfigError(f"Answer.beliefs: {error}") from None


Said: TypeAlias = str | Answer | Awaitable[str | Answer]
Say: TypeAlias = Callable[[Request], Said]
Script: TypeAlias = Sequence[str | Answer] | Mapping[str, str | Answer] | Say


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
    """How messages name a request."""
    return f"scripted engine, request {request.id!r}"


def _from_settings(config: Config) -> Say:
    rest: Say = _in_order(config.answers) if config.answers else lambda _: config.fallback
    if not config.rules:
        return rest
    rules = [(rule.pattern, Answer(rule.answer, rule.beliefs)) for rule in config.rules]
    return _by_rules(rules, rest)


def _in_order(answers: Sequence[str | Answer]) -> Say:
    remaining = iter(tuple(answers))

    def say(request: Request) -> str | Answer:
        for answer in remaining:
            return answer
        raise EngineRefusedError(
            f"{where(request)}: all {len(answers)} answers of the script have been given; "
            "add answers, or use rules, which do not run out"
        )

    return say


def _by_rules(rules: Iterable[tuple[str, str | Answer]], rest: Say) -> Say:
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
