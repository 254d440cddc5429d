"""Records of calls, the form of requests, and log-probabilities that follow the words."""

from __future__ import annotations

import codecs
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import uuid4

from oversight.guard.policy import Action, Policy
from oversight.guard.screening import Finding, strongest
from oversight.guard.streaming import SentPiece
from oversight.guard.upstreams import ROLES, TRACE, ApiError, Json, Path, TraceIds, invalid
from oversight.types import GUARDED

USER: ContextVar[str] = ContextVar("user", default="")
"""Pseudonym of whoever sent the request that is under way."""

DATASET = GUARDED
"""Data set under which the store keeps calls."""
USERS = "users"
"""Task under which the store keeps users' words on answers."""


class CallOutcome(StrEnum):
    """Ends of a call; each call has exactly one."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """A refusal, in place of the answer or of its end."""
    BLOCKED = "blocked"
    FAILED = "failed"
    """The model could not answer, or the request was wrong."""
    CANCELLED = "cancelled"
    """The client went before the end."""


@dataclass(slots=True)
class ChoiceRecord:
    """One choice of an answer: as the model wrote it, and as it was sent."""

    written: str = ""
    delivered: str = ""
    findings: list[Finding] = field(default_factory=list)
    stop: Finding | None = None
    finish_reason: str = ""


@dataclass(slots=True)
class Call:
    """A call with all that happened to it."""

    path: Path
    model: str = ""
    messages: list[Json] = field(default_factory=list)
    """The client's, before anything was replaced."""
    id: str = field(default_factory=lambda: uuid4().hex)
    sent: list[Json] = field(default_factory=list)
    """As the model was given them."""
    findings: list[Finding] = field(default_factory=list)
    """Of the input."""
    choices: dict[int, ChoiceRecord] = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=dict)
    outcome: CallOutcome = CallOutcome.CANCELLED
    error: str = ""
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)
    """Of checks that weigh whole exchanges, whatever they found; the highest of all choices."""
    upstream_s: float = 0.0
    """Of these, the time in which the model was waited for."""
    body: Json = field(default_factory=dict)
    """The whole request."""
    policy: Policy | None = None
    """The policy that it was checked by."""
    user: str = field(default_factory=USER.get)
    """A pseudonym of whoever asked."""
    trace: TraceIds | None = field(default_factory=TRACE.get)
    asked: float = 0.0
    """Moment at which the model was asked, on the clock of `started`; 0 if it was not."""
    first: float = 0.0
    """Moment of its first event, of an answer that is streamed."""
    answered_by: str = ""
    """The model's name as its answer has it."""

    @property
    def action(self) -> Action:
        """The action that went furthest, over input and all choices."""
        every = [*self.findings, *(f for each in self.choices.values() for f in each.findings)]
        return strongest(every)

    @property
    def has_acted(self) -> bool:
        """True if a check changed or stopped anything."""
        return self.action not in (Action.ALLOW, Action.LOG)


# --- log-probabilities ---


@dataclass(slots=True)
class HeldLogprobs:
    """Log-probabilities of tokens, each given out with the words that it stands for, if at all."""

    _entries: list[tuple[int, Any]] = field(default_factory=list)
    """Places at which tokens end, in characters of the text; and the tokens."""
    _end: int = 0
    _sent: int = 0
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )

    def add(self, entries: Sequence[Any]) -> None:
        """Take the tokens of a delta."""
        for entry in entries:
            if not isinstance(entry, dict):
                continue
            raw = entry.get("bytes")
            if isinstance(raw, list) and all(isinstance(b, int) and 0 <= b < 256 for b in raw):
                self._end += len(self._decoder.decode(bytes(raw)))
            else:
                self._end += len(str(entry.get("token", "")))
            self._entries.append((self._end, entry))

    def take(self, pieces: Sequence[SentPiece], text: str) -> list[Any]:
        """The tokens of the words that are sent now; those of words that are not are let go.

        Args:
            pieces: Words that are sent, and replacements.
            text: All that the model wrote so far, which the tokens have to be the words of.
        """
        found = []
        for piece in pieces:
            while self._entries and self._entries[0][0] <= piece.end:
                end, entry = self._entries.pop(0)
                start, self._sent = self._sent, end
                token = str(entry.get("token", ""))
                is_shown = piece.is_own and start >= piece.start and text[start:end] == token
                if is_shown or (not token and piece.is_own):
                    found.append(entry)
        return found


class Logprobs:
    """Log-probabilities of a choice in either form of the API."""

    def __init__(self, first: Any) -> None:
        self._is_old = isinstance(first, dict) and "tokens" in first
        self._held = HeldLogprobs()

    def add(self, given: Any) -> None:
        """Take those of a whole choice, or of one event."""
        if not isinstance(given, dict):
            return
        if "tokens" in given:
            self._is_old = True
            columns = {k: v for k, v in given.items() if isinstance(v, list)}
            for place, token in enumerate(given["tokens"] or ()):
                row = {k: v[place] for k, v in columns.items() if place < len(v)}
                self._held.add([{**row, "token": str(token)}])
        elif isinstance(given.get("content"), list):
            self._held.add(given["content"])

    def take(self, pieces: Sequence[SentPiece], text: str) -> list[Any]:
        """Those of the words that are sent."""
        return self._held.take(pieces, text)

    def shaped(self, kept: Sequence[Any]) -> Json:
        """Some of them in the form in which they came."""
        if not self._is_old:
            return {"content": list(kept)}
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        return {name: [each.get(name) for each in kept] for name in names}


def messages_of(path: Path, body: Json) -> list[Json]:
    """The messages of a request, checked in their form; of a text to be continued, that text.

    Raises:
        ApiError: Their form is wrong.
    """
    if path == "completions":
        prompt = body.get("prompt")
        texts = prompt if isinstance(prompt, list) else [prompt]
        if not texts or not all(isinstance(each, str) for each in texts):
            raise invalid(
                "prompt: give a text, or a list of texts; token ids cannot be checked here",
                "prompt",
            )
        return [{"role": "user", "content": each} for each in texts]
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages: give a list of at least one message", "messages")
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        if not isinstance(message, dict):
            raise invalid(f"{place} is no object", place)
        role = message.get("role")
        if role not in ROLES:
            raise invalid(
                f"{place}.role = {str(role)[:40]!r}: give {', '.join(ROLES)}", f"{place}.role"
            )
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            raise invalid(f"{place}.content: give a text or a list of parts", f"{place}.content")
    return messages


def number_of(body: Json) -> int:
    """Choices that a request asks for."""
    given = body.get("n")
    number = given if isinstance(given, int) and not isinstance(given, bool) and given > 0 else 1
    prompt = body.get("prompt")
    return min(number, 128) * (len(prompt) if isinstance(prompt, list) else 1)


def public_id(call: Call) -> str:
    """The id that the client is given, by which the call is found again."""
    return f"{'chatcmpl' if call.path == 'chat/completions' else 'cmpl'}-{call.id}"


def head_of(call: Call, kind: str) -> Json:
    """The fields of an answer before its choices."""
    return {"id": public_id(call), "object": kind, "created": int(time.time()), "model": call.model}


def outcome_of(call: Call) -> CallOutcome:
    """The outcome of a call whose choices are all over."""
    stops = {each.stop.action for each in call.choices.values() if each.stop is not None}
    ends = {each.finish_reason for each in call.choices.values()}
    if Action.BLOCK in stops:
        return CallOutcome.BLOCKED
    return CallOutcome.REFUSED if stops and "content_filter" in ends else CallOutcome.ANSWERED


def failed(call: Call, error: ApiError) -> None:
    """Write down the error that ended a call."""
    blocked = error.code == "content_filter" and call.has_acted
    call.outcome = CallOutcome.BLOCKED if blocked else CallOutcome.FAILED
    call.error = str(error)
