"""An engine over another library's chat models: requests in flight, its answers, its errors.

`LibraryEngine` is all but the asking. The engines over LangChain and over Inspect give it a way to
ask, and each answer as the body of an OpenAI-compatible one, whose reader knows every form that a
thought, a refusal or a finish reason comes in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import httpx
from pydantic import Field

from oversight.config import Settings
from oversight.engines import all_at_once
from oversight.engines.openai.failures import by_status
from oversight.engines.openai.reply import MalformedReplyError, Reply, complaint, completion
from oversight.errors import (
    AccessError,
    EngineError,
    EngineRefusedError,
    EngineTimeoutError,
    EngineUnavailableError,
    NoLogprobsError,
    OversightError,
)
from oversight.redaction import redacted
from oversight.registry import shortened
from oversight.types import Capabilities, Chunk, Completion, FinishReason, Request


@dataclass(slots=True, eq=False)
class Flight:
    """A request under way, with what has arrived of it."""

    request: Request
    scope: asyncio.Timeout
    reply: Reply = field(default_factory=Reply)
    started: float = field(default_factory=time.monotonic)
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Library:
    """Names by which messages speak of a library and of the model that is asked through it."""

    name: str
    model: str
    key: str
    """The environment variable with the key, in words."""


class LibraryConfig(Settings):
    """Settings that an engine over any library's chat models has."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"api_key_env", "timeout_s", "max_retries", "max_in_flight"}
    )

    api_key_env: str = ""
    """Environment variable with the key; empty for the one that the provider's package reads."""
    logprobs: bool = False
    """Ask for log-probabilities, which few providers give this way."""
    system_role: Literal["auto", "fold"] = "auto"
    """`fold` puts the system message at the head of the first user message."""
    alternate: bool = False
    """Send messages of one role that follow each other as one."""
    timeout_s: float = Field(default=600.0, gt=0)
    """For one request, retries included."""
    max_retries: int = Field(default=5, ge=0)
    """Of the library or the provider's package, which wait between them."""
    max_in_flight: int = Field(default=32, ge=1)
    """Requests under way at the same time; the others wait here."""


class LibraryEngine:
    """An engine over the chat models of another library. Use it in one event loop."""

    name = ""

    def __init__(
        self,
        library: Library,
        *,
        model: str,
        logprobs: bool,
        timeout_s: float,
        max_in_flight: int,
    ) -> None:
        """Put the parts together.

        Args:
            library: For messages.
            model: Identity of the model, where the library tells no other.
            logprobs: Log-probabilities can be asked for.
            timeout_s: For one request, retries included.
            max_in_flight: Requests under way at the same time; the others wait here.
        """
        self.model = model
        self.capabilities = Capabilities(logprobs=logprobs, is_served=True)
        self._library = library
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(max_in_flight)
        self._flights: set[Flight] = set()
        self._said: set[str] = set()
        self._closed = False
        self._log = logging.getLogger(f"oversight.engines.{self.name}")

    async def ask(self, flight: Flight, emit: Callable[[str], None] | None) -> None:
        """Fill the flight's reply; pass its text on as it arrives if anybody listens."""
        raise NotImplementedError

    def converted(self, error: BaseException) -> BaseException | None:
        """The error that one of the library's own stands for; None where it has no meaning here."""
        return None

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of `requests`, at most `max_in_flight` at the same time.

        Raises:
            EngineUnavailableError: Nobody answers, or the provider has too much to do.
            EngineTimeoutError: No answer within `timeout_s`.
            EngineRefusedError: The provider, or this engine, cannot do what is asked.
            AccessError: The key or the model is refused, as it would be for every request.
        """
        return await all_at_once(map(self._answer, requests))

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The completion as it grows; the last chunk carries it whole. Raises as `generate`."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        task = asyncio.create_task(self._answer(request, pieces.put_nowait))
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield Chunk(piece)
            yield Chunk("", await task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def cancel(self, request_id: str) -> None:
        """End the request of that id, which gives what had arrived."""
        for flight in self._flights:
            if flight.request.id == request_id and not flight.scope.expired():
                flight.cancelled = True
                flight.scope.reschedule(asyncio.get_running_loop().time())

    async def aclose(self) -> None:
        """Cancel what is in flight."""
        self._closed = True
        for flight in list(self._flights):
            await self.cancel(flight.request.id)

    async def _answer(
        self, request: Request, emit: Callable[[str], None] | None = None
    ) -> Completion:
        self._check(request)
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout_s) as scope:
                    flight = Flight(request, scope)
                    self._flights.add(flight)
                    try:
                        await self.ask(flight, emit)
                    finally:
                        self._flights.discard(flight)
            except OversightError:
                raise
            except Exception as error:  # each provider's package has errors of its own
                if not flight.cancelled:
                    raise self.converted(error) or self._failure(request, error) from error
        return self._completion(flight)

    def _check(self, request: Request) -> None:
        sampling = request.sampling
        if self._closed:
            raise EngineUnavailableError(self._message(request, "the engine is closed"))
        if sampling.choices:
            reason = f"{self._library.name} enforces no choices; judges write their beliefs"
            raise EngineRefusedError(self._message(request, reason))
        if (sampling.logprobs or sampling.top_logprobs) and not self.capabilities.logprobs:
            reason = "log-probabilities are asked for, and logprobs = False"
            raise NoLogprobsError(self._message(request, reason))

    def _completion(self, flight: Flight) -> Completion:
        request, reply = flight.request, flight.reply
        if not flight.cancelled:
            if found := complaint(request, reply, "openai"):
                kind, reason, advice = found
                error = kind(self._message(request, f"{reason}; {advice}"))
                if isinstance(error, NoLogprobsError):
                    self.capabilities = replace(self.capabilities, logprobs=False)
                    self._say("no log-probabilities", f"{error}; judges write their beliefs")
                raise error
            if not self.capabilities.logprobs:
                self._say("no log-probabilities", "gives none: judges write their beliefs")
            if reply.finish is None:
                self._say("no finish reason", "gives none: an answer that is cut off looks whole")
                if reply.usage.completion_tokens >= request.sampling.max_tokens:
                    reply.finish = FinishReason.LENGTH.value
        return completion(
            request,
            reply,
            engine=self.name,
            model=self.model,
            cancelled=flight.cancelled,
            seconds=time.monotonic() - flight.started,
        )

    def _say(self, what: str, words: str) -> None:
        """Log something about the model once."""
        if what not in self._said:
            self._said.add(what)
            self._log.warning("%s: %s: %s", self._library.model, what, words)

    def _failure(self, request: Request, error: BaseException) -> EngineError:
        """The error that a provider's comes to, by its status where it has one."""
        said = shortened(" ".join(str(error).split()), 1000)
        chain = list(_causes(error))
        status = next((found for each in chain if (found := _status(each)) is not None), None)
        if status is not None:
            attempt = by_status(status, said, _code(error), 0.0)
            advice = attempt.advice
            if attempt.kind is AccessError and status in (401, 403):
                advice = f"put a valid key into {self._library.key}"
            return attempt.kind(self._message(request, f"{attempt.reason}; {advice}"))
        reason = f"{type(error).__name__}: {said}"
        if any(isinstance(each, TimeoutError | httpx.TimeoutException) for each in chain):
            bound = f"no answer within timeout_s = {self._timeout_s:g} ({reason})"
            return EngineTimeoutError(self._message(request, bound))
        if any(isinstance(each, ConnectionError | httpx.TransportError) for each in chain):
            return EngineUnavailableError(self._message(request, f"nobody answers ({reason})"))
        if any(isinstance(each, MalformedReplyError) for each in chain):
            return EngineError(self._message(request, f"an answer that cannot be read ({reason})"))
        return EngineError(self._message(request, reason))

    def _message(self, request: Request, reason: str) -> str:
        which = f"request {request.id!r}" if request.id else "a request without an id"
        return redacted(f"{self._library.name}'s {self._library.model}: {which}: {reason}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _status(error: BaseException) -> int | None:
    """The HTTP status in an error of a provider's package, wherever it keeps it."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore's
        found: Any = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
        return found if isinstance(found, int) else None
    for holder in (error, response):
        for name in ("status_code", "http_status", "status", "code"):
            found = getattr(holder, name, None)
            if isinstance(found, int) and not isinstance(found, bool) and 400 <= found < 600:
                return found
    return None


def _code(error: BaseException) -> str:
    found = getattr(error, "code", None)
    return found if isinstance(found, str) else ""
