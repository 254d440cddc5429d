"""The checks applied: to the messages that go in, and to one choice of an answer as it grows."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oversight.guard.checks.base import GuardedExchange
from oversight.guard.policy import ORDER, Action, CheckSettings, Policy, WholeRule
from oversight.guard.streaming import Found, GrowingText, SentPiece
from oversight.guard.upstreams import Json, invalid

logger = logging.getLogger(__name__)

WORDS = ("content", "reasoning_content", "reasoning", "refusal", "text")
"""Fields of a message, or a delta, whose words are sent as they come."""
PLAIN = ("role",)
"""Fields that hold no word of the model."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Finding of one check, and what followed."""

    check: str
    action: Action
    what: str
    where: str
    """Input, or the field of the answer."""
    start: int = 0
    end: int = 0
    score: float | None = None
    seconds: float = 0.0
    is_failure: bool = False
    """The check itself failed, or was not done in time."""


def strongest(findings: Sequence[Finding]) -> Action:
    """The action that goes furthest; `allow` where nothing was found."""
    return max((each.action for each in findings), key=ORDER.index, default=Action.ALLOW)


def _finding(policy: Policy, found: Found, where: str) -> Finding:
    action = policy.action(found.rule)
    if found.is_failure:
        action = _of_failure(policy.settings.checks[found.rule])
    return Finding(
        found.rule, action, found.what, where, found.start, found.end, is_failure=found.is_failure
    )


def _of_failure(settings: CheckSettings) -> Action:
    """The action of a check that failed: nothing, or an end of the answer."""
    if settings.on_failure == "open":
        return Action.LOG
    return Action.BLOCK if settings.action is Action.BLOCK else Action.REFUSE


# --- whole exchanges ---


async def weigh(
    rules: Sequence[WholeRule], exchange: GuardedExchange, found_by: set[str], where: str
) -> list[Finding]:
    """The findings of checks of the whole, from cheap to dear, up to the first that stops.

    Args:
        rules: In the policy's order.
        exchange: Request and answer.
        found_by: Names of checks that have found something; those that find more are added.
        where: Input or output, for the findings.
    """
    findings: list[Finding] = []
    for rule in rules:
        settings = rule.settings
        if settings.after and not found_by.intersection(settings.after):
            continue
        finding = await _weigh_one(rule, exchange, where)
        if finding is None:
            continue
        findings.append(finding)
        found_by.add(rule.name)
        if finding.action in (Action.BLOCK, Action.REFUSE, Action.REVISE):
            break
    return findings


async def _weigh_one(rule: WholeRule, exchange: GuardedExchange, where: str) -> Finding | None:
    settings, started = rule.settings, time.perf_counter()
    try:
        async with asyncio.timeout(settings.timeout_s):
            score = await rule.check.examine(exchange)
    except Exception as error:  # whatever it was, the policy says what follows
        what = f"the check failed: {type(error).__name__}"
        if isinstance(error, TimeoutError):
            what = f"the check was not done within {settings.timeout_s:g} s"
        logger.warning("check %s: %s", rule.name, what, exc_info=error)
        seconds = time.perf_counter() - started
        return Finding(
            rule.name, _of_failure(settings), what, where, seconds=seconds, is_failure=True
        )
    if score.value < rule.check.threshold:
        return None
    seconds = time.perf_counter() - started
    return Finding(
        rule.name, settings.action, score.what, where, score=score.value, seconds=seconds
    )


# --- what goes in ---


@dataclass(slots=True)
class Screened:
    """A request after the checks of its input."""

    messages: list[Json]
    """With what was replaced; the policy's system prompt is not among them."""
    findings: list[Finding]
    stop: Finding | None = None


async def screen_input(policy: Policy, messages: list[Json]) -> Screened:
    """The messages with what checks of the input replace, and their findings.

    Raises:
        ApiError: A part of a message is no text, so that nothing can check it.
    """
    findings: list[Finding] = []
    checked: list[Json] = []
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        content = message.get("content")
        if isinstance(content, str):
            words, stop = _screen_text(policy, content, place, findings)
            checked.append(message if words == content else {**message, "content": words})
        else:
            parts, stop = _screen_parts(policy, content, place, findings)
            checked.append({**message, "content": parts} if isinstance(content, list) else message)
        calls = json.dumps(message["tool_calls"]) if message.get("tool_calls") else ""
        if calls and stop is None:
            _, stop = _screen_text(policy, calls, place, findings)
        if stop is not None:
            return Screened(checked, findings, stop)
    found_by = {each.check for each in findings}
    more = await weigh(
        policy.whole_inputs, GuardedExchange(checked, system=policy.system), found_by, "input"
    )
    findings += more
    stop = next((each for each in more if each.action in (Action.REFUSE, Action.BLOCK)), None)
    return Screened(checked, findings, stop)


def _screen_text(
    policy: Policy, text: str, place: str, findings: list[Finding]
) -> tuple[str, Finding | None]:
    if not policy.inputs or not text:
        return text, None
    grown = GrowingText(policy.inputs)
    words = "".join(piece.text for piece in grown.feed(text, final=True))
    found = [_finding(policy, each, place) for each in grown.found]
    findings += found
    return words, found[-1] if grown.stopped is not None else None


def _screen_parts(
    policy: Policy, content: Any, place: str, findings: list[Finding]
) -> tuple[list[Any], Finding | None]:
    checked: list[Any] = []
    for number, part in enumerate(content if isinstance(content, list) else []):
        if not isinstance(part, dict) or not isinstance(part.get("text", part.get("refusal")), str):
            if policy.inputs or policy.whole_inputs:
                kind = part.get("type") if isinstance(part, dict) else part
                raise invalid(
                    f"{place}.content.{number} = {str(kind)[:40]!r}: only parts of text can be "
                    "checked here, and what cannot be checked is not passed on",
                    f"{place}.content",
                )
            checked.append(part)
            continue
        name = "text" if isinstance(part.get("text"), str) else "refusal"
        words, stop = _screen_text(policy, part[name], f"{place}.content.{number}", findings)
        checked.append({**part, name: words})
        if stop is not None:
            return checked, stop
    return checked, None


# --- what comes out ---


@dataclass(slots=True)
class Ending:
    """The end of a choice: what is sent still, and the verdict on it."""

    sent: list[tuple[str, list[SentPiece]]]
    """By field, pieces that waited and stand."""
    extra: list[Json]
    """Deltas of other fields, which wait for the end."""
    stop: Finding | None


class ScreenedChoice:
    """The checks of one choice of an answer, whose words come piece by piece."""

    def __init__(self, policy: Policy, exchange: GuardedExchange, found_by: set[str]) -> None:
        self._policy = policy
        self._exchange = exchange
        self._found_by = found_by
        """Names of checks that found something in the input."""
        waits = any(
            each.settings.after and found_by.intersection(each.settings.after)
            for each in policy.whole_outputs
        )
        self._holds = policy.holds or waits
        self._texts: dict[str, GrowingText] = {}
        self._extra: list[Json] = []
        self.findings: list[Finding] = []
        self.stop: Finding | None = None
        self.has_sent = False
        """True once words were given out to be sent."""

    def words(self, name: str = "content") -> str:
        """All words that the model wrote in a field so far."""
        return self._texts[name].text if name in self._texts else ""

    def feed(self, delta: Mapping[str, Any]) -> list[tuple[str, list[SentPiece]]]:
        """Pieces that can be sent of the words in a delta, by their field."""
        sent = []
        rest: Json = {}
        for name, value in delta.items():
            if name in WORDS and isinstance(value, str):
                if value and (pieces := self._feed_text(name, value)):
                    sent.append((name, pieces))
            elif name not in PLAIN and value is not None:
                rest[name] = value
        if rest:
            self._extra.append(rest)
        return sent

    def _feed_text(self, name: str, words: str, *, final: bool = False) -> list[SentPiece]:
        if self.stop is not None:
            return []
        text = self._texts.get(name)
        if text is None:
            text = self._texts[name] = GrowingText(self._policy.outputs, holds=self._holds)
        known = len(text.found)
        pieces = text.feed(words, final=final)
        self._note(text.found[known:], name, text)
        if text.waits and not self._holds:
            self._holds = True  # one field that waits lets the others wait
            for other in self._texts.values():
                other.waits = True
        self.has_sent = self.has_sent or any(piece.text for piece in pieces)
        return pieces

    def _note(self, found: Sequence[Found], name: str, text: GrowingText) -> None:
        for each in found:
            finding = _finding(self._policy, each, name)
            self.findings.append(finding)
            self._found_by.add(each.rule)
        if text.stopped is not None:
            self.stop = self.findings[-1]

    async def finish(self) -> Ending:
        """The end of the choice: the rest of its words, unless a check of the whole stops them."""
        sent = []
        for name in list(self._texts):
            if pieces := self._feed_text(name, "", final=True):
                sent.append((name, pieces))
        extra = self._check_extra()
        if self.stop is None:
            main = "content" if "content" in self._texts else "text"
            calls = json.dumps(extra, ensure_ascii=False) if extra else ""
            said = "\n\n".join(filter(None, (self.words(main), calls)))
            exchange = GuardedExchange(self._exchange.messages, said, self._exchange.system)
            more = await weigh(self._policy.whole_outputs, exchange, self._found_by, "output")
            self.findings += more
            stopping = (Action.REFUSE, Action.BLOCK, Action.REVISE)
            self.stop = next((each for each in more if each.action in stopping), None)
        if self.stop is not None:
            return Ending(sent, [], self.stop)
        for name, text in self._texts.items():
            if held := text.release():
                sent.append((name, held))
        return Ending(sent, extra, None)

    def _check_extra(self) -> list[Json]:
        """The other fields put together, with what is replaced in their strings."""
        merged = list(merge_tool_calls(self._extra))
        return [
            {name: self._checked(name, value) for name, value in each.items()} for each in merged
        ]

    def _checked(self, name: str, value: Any) -> Any:
        """A value with all strings in it checked."""
        if isinstance(value, str):
            grown = GrowingText(self._policy.outputs)
            words = "".join(piece.text for piece in grown.feed(value, final=True))
            if self.stop is None:
                self._note(grown.found, name, grown)
            return words
        if isinstance(value, list):
            return [self._checked(name, each) for each in value]
        if isinstance(value, dict):
            return {
                self._checked(name, key): self._checked(name, each) for key, each in value.items()
            }
        return value


def merge_tool_calls(deltas: Sequence[Json]) -> Iterator[Json]:
    """The deltas, with all pieces of each tool call put together in one."""
    calls: dict[int, Json] = {}
    for delta in deltas:
        rest = {name: value for name, value in delta.items() if name != "tool_calls"}
        if rest:
            yield rest
        given = delta.get("tool_calls")
        for place, piece in enumerate(given if isinstance(given, list) else []):
            if isinstance(piece, dict):
                index = piece.get("index", place)
                _join(calls.setdefault(index if isinstance(index, int) else place, {}), piece)
    if calls:
        yield {"tool_calls": [calls[index] for index in sorted(calls)]}


def _join(whole: Json, piece: Mapping[str, Any], *, inside: bool = False) -> None:
    for name, value in piece.items():
        known = whole.get(name)
        if isinstance(value, dict):
            _join(whole.setdefault(name, {}), value, inside=True)
        elif inside and isinstance(value, str) and isinstance(known, str):
            whole[name] = known + value
        elif value is not None and known is None:
            whole[name] = value
