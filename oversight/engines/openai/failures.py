"""Failures of one attempt at a request: the error each comes to, and whether to try again."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from oversight.engines.openai.reply import ReportedError
from oversight.errors import (
    AccessError,
    EngineError,
    EngineRefusedError,
    EngineTimeoutError,
    EngineUnavailableError,
    NoLogprobsError,
    PromptTooLongError,
)
from oversight.redaction import redacted

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Statuses after which the same request may succeed."""

OVERLOADED = frozenset({429, 503, 529})

NO_QUOTA = "insufficient_quota"
"""The code of a 429 that does not pass by waiting."""

SHOWN_CHARS = 200
SHOWN_MESSAGE_CHARS = 1000
READ_BYTES = 65_536
"""Most characters of an error that are looked at: it may be of any length."""

LOOK_AT_SERVER = "check that the server runs and that base_url is right, or raise max_retries"
LOOK_AT_LOAD = "the server has too much to do: lower max_in_flight, or raise max_retries"
LOOK_AT_REQUEST = "change the request or the settings, asking again would not help"
LOOK_AT_API = "check that base_url is an OpenAI-compatible server, it usually ends in /v1"
LOOK_AT_KEY = "put a valid key into the environment variable that api_key_env names"
LOOK_AT_MODEL = (
    "check model (--model), and base_url (--base-url, OPENAI_BASE_URL), which usually ends in /v1"
)
NO_LOGPROBS = "set logprobs = false in the engine's settings"
LOOK_AT_QUOTA = "the account has no quota left"
LOOK_AT_ROLES = (
    'set system_role = "fold" if the server takes no system role, alternate = true if it wants '
    "user and assistant to take turns"
)
LOOK_AT_LENGTH = (
    "shorten the prompt, lower max_tokens, or serve the model with a larger context (max_model_len)"
)
OTHER_NAME = (
    'set max_tokens_name = "max_completion_tokens" (or "max_tokens", whichever it is not now), or '
    'leave_out = ["max_tokens"] to set no bound, in the engine\'s settings'
)

UNACCEPTED = frozenset({400, 404, 422, 500})
"""Statuses by which servers refuse a request's content; some templates' errors come as 500."""

BEYOND_CONTEXT = re.compile(
    r"maximum context length|context[_ ]length[_ ]exceeded"
    r"|exceeds? (?:the |its )?(?:available )?context|exceed_context_size"
    r"|(?:prompt|input)\b.{0,60}\b(?:too long|longer than|exceeds?)\b",
    re.IGNORECASE | re.DOTALL,
)
"""Words of servers about a prompt that leaves no room in the model's context."""

ROLES = re.compile(
    r"system['\"`]?[\s_-]*(?:role|message|prompt|instruction)"
    r"|(?:role|roles)\b.{0,60}\b(?:alternat|system)|alternat\w*.{0,40}\brole"
    r"|(?:unsupported|unknown|unexpected|invalid).{0,20}\brole"
    r"|\brole.{0,60}(?:not support|unsupported|unknown|unexpected|permitted|invalid)"
    r"|only (?:supports? )?['\"`]?user['\"`]? and ['\"`]?assistant|developer instruction",
    re.IGNORECASE | re.DOTALL,
)
"""Complaints about the roles of messages."""

FILTERED = frozenset({"content_filter", "content_policy_violation", "data_inspection_failed"})
"""Codes of errors by which servers say that a content filter stopped a request."""

ABOUT_CONTENT = re.compile(r"moderat|flagged|content|policy|safety", re.IGNORECASE)
"""In a refusal with 403: it is this prompt that is refused, and not the key."""

PARAMETERS = (
    *("temperature", "top_p", "seed", "stop", "stream_options", "top_logprobs", "logprobs"),
    *("max_completion_tokens", "max_tokens"),
)
PARAMETER = re.compile(rf"\b({'|'.join(name for name in PARAMETERS if name != 'stop')})\b")
"""In the words of a complaint, where "stop" may be any verb."""
TOO_LONG = re.compile(r"context|too (?:large|long|many|big)|maximum|exceed", re.IGNORECASE)
"""In a complaint about the number of tokens: it is the number, not the parameter's name."""


class AttemptError(Exception):
    """One attempt failed; `kind` is the error it comes to if it stays the last one."""

    def __init__(
        self,
        kind: type[EngineError],
        reason: str,
        *,
        retry: bool = True,
        after_s: float = 0.0,
        advice: str = LOOK_AT_SERVER,
        about_roles: bool = False,
        filtered: bool = False,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.retry = retry
        self.after_s = after_s
        """Not to be tried again before this."""
        self.advice = advice
        self.about_roles = about_roles
        """The server takes no system role, or wants the roles to alternate."""
        self.filtered = filtered
        """A content filter stopped the request: there is an answer, and it holds nothing."""


def broken_connection(error: httpx.HTTPError) -> AttemptError:
    """For a connection that could not be made, or that broke."""
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        what = "nobody answers"
    elif isinstance(error, httpx.DecodingError):
        return AttemptError(EngineError, f"sent a broken body ({error})", advice=LOOK_AT_API)
    else:
        what = "the connection broke"
    return AttemptError(EngineUnavailableError, f"{what} ({type(error).__name__}: {error})")


def unreadable(reason: str, data: bytes) -> AttemptError:
    """For an answer that is none: its beginning is shown, with everything odd escaped."""
    said = redacted(data[:READ_BYTES].decode("utf-8", "replace"))
    shown = ascii(said[:SHOWN_CHARS])
    rest = "…" if len(said) > SHOWN_CHARS else ""
    text = f"sent what cannot be read as an answer ({reason}): {shown}{rest}"
    return AttemptError(EngineError, text, advice=LOOK_AT_API)


def refused_or_failed(response: httpx.Response) -> AttemptError:
    """For a response whose status is no success."""
    if response.is_redirect:
        place = _printable(response.headers.get("location", "nowhere"))
        reason = f"answered {response.status_code}, a redirection to {place}"
        advice = "set base_url to where the server is"
        return AttemptError(EngineRefusedError, reason, retry=False, advice=advice)
    message, code, parameter = _explanation(response.content)
    after_s = _retry_after_s(response.headers)
    return by_status(response.status_code, message, code, after_s, parameter)


def reported(error: ReportedError) -> AttemptError:
    """For an error object that came where an answer should have been."""
    if error.status is None:
        return AttemptError(EngineError, f"reported an error: {_printable(error.message)}")
    return by_status(error.status, error.message, error.code, 0.0)


KINDS: dict[str, type[EngineError]] = {
    kind.cause: kind
    for kind in (
        *(EngineUnavailableError, EngineTimeoutError),
        *(EngineRefusedError, PromptTooLongError),
    )
}
"""Errors by the cause that answer files name them by."""


ONE_BY_ONE = (AccessError, NoLogprobsError)
"""Errors that are told apart of a live server only: rows of an answer file are taken singly."""


def kind_in_file(status: int | None, message: str, code: str) -> type[EngineError]:
    """The error that an error row of an answer file comes to: that of a live server's same words.

    Files of some services give no status, and those that are written here give the cause as code.
    """
    if code in KINDS:
        return KINDS[code]
    if status is not None and status >= 400:
        kind = by_status(status, message, code, 0.0).kind
        return EngineRefusedError if issubclass(kind, ONE_BY_ONE) else kind
    is_too_long = BEYOND_CONTEXT.search(f"{code} {message}") is not None
    return PromptTooLongError if is_too_long else EngineError


def is_filtered(status: int | None, code: str) -> bool:
    """True if an error of this code says that a content filter withheld the answer.

    Args:
        status: Of the response; None in a file of answers that gives none.
        code: The error's.
    """
    return (status is None or status in UNACCEPTED) and code.lower() in FILTERED


def by_status(
    status: int, message: str, code: str, after_s: float, parameter: str = ""
) -> AttemptError:
    """For an error of that HTTP status, with the words and the code that the server gave it."""
    reason = f"answered {status}: {_printable(message)}"
    if is_filtered(status, code):
        return AttemptError(EngineRefusedError, reason, retry=False, filtered=True)
    if status in UNACCEPTED and ROLES.search(message):
        return AttemptError(
            EngineRefusedError, reason, retry=False, advice=LOOK_AT_ROLES, about_roles=True
        )
    if code == NO_QUOTA:
        return AttemptError(EngineRefusedError, reason, retry=False, advice=LOOK_AT_QUOTA)
    if status in RETRIED:
        advice = LOOK_AT_LOAD if status in OVERLOADED else LOOK_AT_SERVER
        return AttemptError(EngineUnavailableError, reason, after_s=after_s, advice=advice)
    if status in UNACCEPTED and BEYOND_CONTEXT.search(f"{code} {message}"):
        return AttemptError(PromptTooLongError, reason, retry=False, advice=LOOK_AT_LENGTH)
    advice = {401: LOOK_AT_KEY, 403: LOOK_AT_KEY, 404: LOOK_AT_MODEL}.get(status, LOOK_AT_REQUEST)
    if status in UNACCEPTED:
        advice = _about_parameter(message, parameter) or advice
    kind = EngineRefusedError
    if advice == NO_LOGPROBS:
        kind = NoLogprobsError
    elif advice in (LOOK_AT_KEY, LOOK_AT_MODEL) and not ABOUT_CONTENT.search(message):
        kind = AccessError
    return AttemptError(kind, reason, retry=False, advice=advice)


def _about_parameter(message: str, parameter: str) -> str:
    """The advice to leave out the parameter that a server refused; empty if it named none."""
    named = [parameter] if parameter in PARAMETERS else PARAMETER.findall(message)
    names = list(dict.fromkeys(named))
    if any(name.startswith("max_") for name in names):
        return "" if TOO_LONG.search(message) else OTHER_NAME
    if any("logprobs" in name for name in names):
        return NO_LOGPROBS
    if not names:
        return ""
    lists = " or ".join(f'leave_out = ["{name}"]' for name in names)
    return f"set {lists} in the engine's settings to send none, or change its value"


def _explanation(body: bytes) -> tuple[str, str, str]:
    """The message, the code and the parameter in the body of an error, in any usual shape."""
    text = body.decode("utf-8", "replace").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text or "(no message)", "", ""
    holder = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(holder, dict):
        return str(holder), "", ""
    message = holder.get("message") or holder.get("detail") or text
    return str(message), str(holder.get("code") or ""), str(holder.get("param") or "")


def _printable(text: str) -> str:
    """Foreign words, bounded, with everything escaped that could act on a terminal."""
    text = redacted(text[:READ_BYTES])  # before it is cut: a part of a key is no longer found
    shown = text[:SHOWN_MESSAGE_CHARS] + "…" * (len(text) > SHOWN_MESSAGE_CHARS)
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in shown)


def _retry_after_s(headers: httpx.Headers) -> float:
    """Seconds that the server asks us to wait; 0 if it does not."""
    if "retry-after-ms" in headers:
        return _seconds(headers["retry-after-ms"]) / 1000.0
    value = headers.get("retry-after", "")
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return _seconds(value)
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


def _seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        return 0.0
    return max(0.0, number) if math.isfinite(number) else 0.0
