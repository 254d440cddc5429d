"""Reading of an OpenAI-compatible server's answers: whole bodies and stream events alike."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from oversight.errors import EngineError, EngineRefusedError, NoLogprobsError
from oversight.text.thoughts import DividedText, closes_unopened, divide, is_wordless, opens_thought
from oversight.types import Completion, FinishReason, Request, Usage

UNKNOWN_LOGPROB = -9999.0
"""The number that servers write for minus infinity, and for tokens that a mask forbids."""

ROUNDING = 1e-3
"""A log-probability this little above zero is rounding; more is an error."""

STATUS = re.compile(r"[45]\d\d")
"""An error's code that is an HTTP status."""


REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""Names that servers give a message's reasoning."""

TEXT_PARTS = frozenset({"text", "output_text", "input_text"})
"""Types of parts of a content that are for the reader."""

WORDS_OF = ("text", "thinking", "reasoning", "summary", "content")
"""Names under which parts hold their words."""


class MalformedReplyError(ValueError):
    """The server's answer is not of the form that its API promises."""


class ReportedError(Exception):
    """The server sent an error object in place of an answer."""

    def __init__(self, message: str, code: str, status: int | None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status


@dataclass(slots=True)
class Reply:
    """One answer as far as it has arrived, from whole bodies and stream events alike."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    """Of the model's reasoning, where the server keeps it apart."""
    refusals: list[str] = field(default_factory=list)
    """Of words that decline, where the server keeps them apart."""
    prompt_ids: tuple[int, ...] = ()
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[tuple[tuple[str, float], ...]] = field(default_factory=list)
    has_called: bool = False
    """The model called a tool."""
    begun: bool = False
    """A choice has arrived, be it an empty one."""
    finish: str | None = None
    """As the server put it; None until the answer has ended."""
    model: str = ""
    reported_usage: Usage | None = None

    @property
    def text(self) -> str:
        """The text so far; the words of a refusal if there is nothing else."""
        return "".join(self.texts) or "".join(self.refusals)

    @property
    def reasoning(self) -> str:
        """The model's reasoning so far, as the server tells it."""
        return "".join(self.thoughts)

    @property
    def usage(self) -> Usage:
        """As the server counted, or else by the token ids."""
        return self.reported_usage or Usage(
            prompt_tokens=len(self.prompt_ids), completion_tokens=len(self.token_ids)
        )

    def add(self, data: bytes) -> str:
        """Take in one body or event; returns the text that it adds.

        Raises:
            MalformedReplyError: It is no JSON object, or a field is not what it should be.
            ReportedError: It is an error object.
        """
        event = _parse(data)
        _raise_reported(event)
        self.model = _typed(event, "model", str) or self.model
        if usage := _typed(event, "usage", dict):
            self.reported_usage = _usage(usage)
        self._take_prompt_ids(event)
        for choice in _typed(event, "choices", list) or ():
            if not isinstance(choice, dict):
                raise MalformedReplyError("choices holds something that is no object")
            if choice.get("index", 0) == 0:
                return self._add_choice(choice)
        return ""

    def _add_choice(self, choice: dict[str, Any]) -> str:
        self.begun = True
        self._take_prompt_ids(choice)
        self.token_ids += _ids(choice, "token_ids")
        if logprobs := _typed(choice, "logprobs", dict):
            self._add_logprobs(logprobs)
        self.finish = _typed(choice, "finish_reason", str) or self.finish
        part = _message(choice)
        self.has_called |= bool(part.get("tool_calls") or part.get("function_call"))
        written = _written(choice, part)
        for all_of_it, piece in (
            (self.texts, written.text),
            (self.thoughts, written.reasoning),
            (self.refusals, written.refusal),
        ):
            if piece:
                all_of_it.append(piece)
        return written.text

    def _take_prompt_ids(self, holder: dict[str, Any]) -> None:
        if ids := _ids(holder, "prompt_token_ids"):
            self.prompt_ids = tuple(ids)

    def _add_logprobs(self, logprobs: dict[str, Any]) -> None:
        try:
            if "content" in logprobs:
                self._add_chat_logprobs(logprobs["content"] or [])
            else:
                self._add_text_logprobs(logprobs)
        except (KeyError, TypeError, AttributeError) as error:
            raise MalformedReplyError(f"logprobs cannot be read: {error!r}") from None

    def _add_chat_logprobs(self, content: list[dict[str, Any]]) -> None:
        for position in content:
            self.logprobs.append(_logprob(position["logprob"]))
            alternatives = position.get("top_logprobs") or []
            self.top.append(_top((each["token"], each["logprob"]) for each in alternatives))

    def _add_text_logprobs(self, logprobs: dict[str, Any]) -> None:
        values = logprobs["token_logprobs"]
        self.logprobs += [_logprob(value) for value in values]
        tops = logprobs.get("top_logprobs") or [None] * len(values)
        self.top += [_top((alternatives or {}).items()) for alternatives in tops]


def model_ids(body: bytes) -> list[str]:
    """Names of the models in a server's list of them.

    Raises:
        MalformedReplyError: It is no such list.
    """
    listed = _typed(_parse(body), "data", list)
    if listed is None or not all(
        isinstance(m, dict) and isinstance(m.get("id"), str) for m in listed
    ):
        raise MalformedReplyError("no list of models")
    return [model["id"] for model in listed]


def _parse(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedReplyError(f"not JSON ({type(error).__name__})") from None
    if not isinstance(event, dict):
        raise MalformedReplyError("JSON, but no object")
    return event


def _raise_reported(event: dict[str, Any]) -> None:
    error = event.get("error")
    if not error:
        return
    if not isinstance(error, dict):
        raise ReportedError(str(error), "", None)
    code = str(error.get("code") or error.get("type") or "")
    message = str(error.get("message") or code or "no reason given")
    raise ReportedError(message, code, int(code) if STATUS.fullmatch(code) else None)


def _typed(holder: dict[str, Any], name: str, kind: type) -> Any:
    """The field of that name, None if it is absent or null."""
    value = holder.get(name)
    if value is not None and not isinstance(value, kind):
        raise MalformedReplyError(f"{name} is {type(value).__name__}, not {kind.__name__}")
    return value


class Written(NamedTuple):
    """The words that one body or event adds to an answer."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""


def _message(choice: dict[str, Any]) -> dict[str, Any]:
    return _typed(choice, "delta", dict) or _typed(choice, "message", dict) or {}


def _written(choice: dict[str, Any], part: dict[str, Any]) -> Written:
    """The model's words, its reasoning and its refusal, as its server keeps them apart."""
    if "text" in choice:
        return Written(_typed(choice, "text", str) or "", _reasoning(choice))
    content = part.get("content")
    refusal = _typed(part, "refusal", str) or ""
    if isinstance(content, list):
        found = _of_parts(content)
        return Written(found.text, _reasoning(part) or found.reasoning, refusal or found.refusal)
    if content is not None and not isinstance(content, str):
        raise MalformedReplyError(f"content is {type(content).__name__}, not text")
    return Written(content or "", _reasoning(part), refusal)


def _reasoning(part: dict[str, Any]) -> str:
    """The reasoning of a message, by whichever name; some servers give it by two."""
    for name in REASONING_FIELDS:
        if text := _words(part.get(name)):
            return text
    return ""


def _of_parts(content: list[Any]) -> Written:
    """The words, reasoning and refusal of a content that is given in typed parts."""
    said: list[str] = []
    thought: list[str] = []
    declined: list[str] = []
    for each in content:
        if isinstance(each, str):
            said.append(each)
        elif isinstance(each, dict):
            kind = str(each.get("type") or "text")
            if kind in TEXT_PARTS:
                said.append(_words(each.get("text")))
            elif kind == "refusal":
                declined.append(_words(each.get("refusal")))
            elif "think" in kind or "reason" in kind or "thought" in kind:
                thought.append(_words(each))
    return Written("".join(said), "".join(thought), "".join(declined))


def _words(value: Any, depth: int = 8) -> str:
    """All words in a value that may be a text, or nested parts that hold texts."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "".join(_words(each, depth - 1) for each in value)
    if depth and isinstance(value, dict):
        return next((text for name in WORDS_OF if (text := _words(value.get(name), depth - 1))), "")
    return ""


def _ids(holder: dict[str, Any], name: str) -> list[int]:
    ids: list[int] = _typed(holder, name, list) or []
    if not all(type(each) is int for each in ids):
        raise MalformedReplyError(f"{name} holds something that is no integer")
    return ids


def _logprob(value: object) -> float:
    number = float(value) if isinstance(value, (int, float)) else math.nan
    if not math.isfinite(number) or number > ROUNDING:
        raise MalformedReplyError(f"{value!r} is no log-probability")
    return min(number, 0.0)


def _top(alternatives: Any) -> tuple[tuple[str, float], ...]:
    """The alternatives, likeliest first, without those that a mask forbids."""
    pairs = [(str(token), _logprob(value)) for token, value in alternatives]
    allowed = [pair for pair in pairs if pair[1] > UNKNOWN_LOGPROB]
    return tuple(sorted(allowed, key=lambda pair: -pair[1]))


def _usage(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")) or 0,
        completion_tokens=_count(usage.get("completion_tokens")) or 0,
        cached_tokens=_count(cached),
    )


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # as of servers that have no integers
        value = int(value)
    if type(value) is not int or value < 0:
        raise MalformedReplyError(f"usage holds {value!r}, which is no count")
    return value


FINISH_REASONS = {
    FinishReason.LENGTH: (
        *("length", "max_tokens", "max_output_tokens", "max_length", "max_new_tokens"),
        *("model_length", "model_context_window_exceeded", "repetition"),
    ),
    FinishReason.CONTENT_FILTER: (
        *("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii"),
        *("sensitive", "guardrail_intervened", "content_filtered"),
    ),
    FinishReason.REFUSAL: ("refusal",),
    FinishReason.TOOL_CALLS: (
        *("tool_calls", "tool_call", "function_call", "tool_use"),
        *("malformed_function_call", "unexpected_tool_call"),
    ),
}
"""Words of servers for other ends of an answer than its model's own."""

REASON_OF = {word: reason for reason, words in FINISH_REASONS.items() for word in words}

OWN_ENDS = frozenset(
    {
        *("stop", "stop_sequence", "end_turn", "end", "eos", "eos_token", "complete", "completed"),
        *("done", "finished"),
    }
)
"""Words of servers for the end that the model itself put to its answer."""


def is_unknown_end(finish: str | None) -> bool:
    """True of a finish reason that is none of the words above; it is taken for the model's end."""
    return bool(finish) and str(finish).lower() not in OWN_ENDS | REASON_OF.keys()


Complaint = tuple[type[EngineError], str, str]
"""The error to raise, its reason, and what to do."""


def complaint(request: Request, reply: Reply, dialect: str) -> Complaint | None:
    """The fault of a whole reply, or None."""
    sampling = request.sampling
    if dialect == "vllm" and not reply.prompt_ids and reply.finish != "content_filter":
        reason = "the server sent no token ids"
        return EngineRefusedError, reason, 'set dialect = "openai" if it is not vLLM'
    if sampling.choices and reply.finish == "stop" and reply.text not in sampling.choices:
        reason = f"{reply.text[:80]!r} is none of the choices {list(sampling.choices)!r}"
        return EngineRefusedError, reason, "this server does not enforce structured_outputs"
    if not sampling.logprobs:
        return None
    if not reply.logprobs and (reply.token_ids or _is_answer(reply)):
        reason = "the server sent no log-probabilities"
        return NoLogprobsError, reason, "set logprobs = false if it does not give any"
    if reply.token_ids and len(reply.token_ids) != len(reply.logprobs):
        reason = f"{len(reply.logprobs)} log-probabilities for {len(reply.token_ids)} token ids"
        return EngineError, reason, "this server contradicts itself"
    return None


def _is_answer(reply: Reply) -> bool:
    """True if the model said something, so that log-probabilities can be expected."""
    kept_back = _finish_reason(reply, cancelled=False) in (
        FinishReason.CONTENT_FILTER,
        FinishReason.REFUSAL,
        FinishReason.TOOL_CALLS,
    )
    return not kept_back and not is_wordless(divide("".join(reply.texts)).text)


def completion(
    request: Request,
    reply: Reply,
    *,
    engine: str,
    model: str,
    cancelled: bool,
    seconds: float,
    opened: bool | None = None,
    logprobs_temperature: float | None = None,
) -> Completion:
    """The completion that a reply stands for, with the name that the server gives its model."""
    sampling = request.sampling
    num_top = sampling.top_logprobs
    return Completion(
        request_id=request.id,
        text=reply.text,
        prompt_ids=reply.prompt_ids,
        token_ids=tuple(reply.token_ids),
        finish_reason=_finish_reason(reply, cancelled=cancelled),
        usage=reply.usage,
        engine=engine,
        model=reply.model or model,
        seconds=seconds,
        logprobs=tuple(reply.logprobs) if sampling.logprobs else None,
        top=tuple(each[:num_top] for each in reply.top) if num_top else (),
        reasoning=reply.reasoning,
        opened=opened,
        logprobs_temperature=logprobs_temperature if sampling.logprobs else None,
    )


def _finish_reason(reply: Reply, *, cancelled: bool) -> FinishReason:
    if cancelled:
        return FinishReason.CANCELLED
    if reply.refusals and not reply.texts:
        return FinishReason.REFUSAL
    if reply.has_called and not reply.texts:
        return FinishReason.TOOL_CALLS
    return REASON_OF.get((reply.finish or "").lower(), FinishReason.STOP)


class OpenedThoughts:
    """Finds out if a server's prompts open a thought, so that answers hold only its end.

    An answer that is cut off before that end looks like any other text. With vLLM the prompt
    tells, which is looked up once, when it matters. Other servers show it by an answer that ends a
    thought it did not begin; after that, answers without an end of their own are thoughts.
    """

    def __init__(self, given: bool | None, is_vllm: bool) -> None:
        self.known = given
        """By the settings, or by the prompt itself."""
        self._seen: bool | None = None
        """By the answers so far."""
        self._can_look_up = is_vllm and given is None

    @property
    def expected(self) -> bool | None:
        """True if the next answer will go on with a thought; None if that is not known yet."""
        return self._seen if self.known is None else self.known

    def is_to_be_looked_up(self, request: Request, reply: Reply) -> bool:
        """True if the prompt is needed to tell a thought from a speech."""
        if not self._can_look_up or self.known is not None or reply.reasoning:
            return False
        if request.sampling.choices:
            return True
        return reply.finish != "stop" and divide(reply.text) == DividedText(reply.text)

    def take_prompt_end(self, text: str | None) -> None:
        """Take in how prompts end; None if the server does not say."""
        self._can_look_up = False
        self.known = None if text is None else opens_thought(text)

    def learn(self, reply: Reply) -> bool:
        """Take in an answer; whether it is the first to show that prompts open a thought."""
        if self.known is not None or self._seen:
            return False
        if closes_unopened(reply.text):
            self._seen = True
        elif reply.reasoning or (reply.finish == "stop" and reply.text.strip()):
            self._seen = False
        return bool(self._seen)

    def opened(self, reply: Reply) -> bool | None:
        """True if this answer goes on with a thought; None if unknown."""
        if reply.reasoning:
            return False
        if self.known is not None or not self._seen:
            return self.known if self.known is not None else self._seen
        # Seen of others only: one that its model ended without a mark was an answer all the same.
        return closes_unopened(reply.text) or reply.finish != "stop"
