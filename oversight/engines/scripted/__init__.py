"""An engine that answers from a script: for tests, yours too, and for benchmarks.

    engine = ScriptedEngine(["First answer.", "Second answer."])
    engine = ScriptedEngine({r"You are the judge": "B", r".": "A speech."})
    engine = ScriptedEngine(lambda request: Answer("B", beliefs={"A": 0.2, "B": 0.7}))

A list is given out in order, and running out of it is an error. A mapping goes
from regular expressions to answers: the first that is found in the prompt's
messages (joined by blank lines) answers it. A function, plain or async, gets
the request. Without a script, the settings are the script.

All else is as with a model: answers end with `END` or are cut at `max_tokens`,
one of `choices` is drawn from the beliefs (uniform unless given), ids decode to
the text (`decode`), and everything is the same in every process. Three UTF-8
bytes are a token, so a hundred English words are about two hundred tokens.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from oversight.engines import all_at_once
from oversight.engines.scripted.script import (
    Config,
    Rule,
    Script,
    ScriptedAnswer,
    complete,
    cut,
    decode,
    encode,
    pieces,
    sayer,
    where,
)
from oversight.errors import EngineRefusedError, EngineUnavailableError
from oversight.types import Capabilities, Chunk, Completion, Request

__all__ = [
    "Config",
    "Rule",
    "Script",
    "ScriptedAnswer",
    "ScriptedEngine",
    "build",
    "decode",
    "encode",
]


@dataclass(slots=True, eq=False)
class ScriptedRequest:
    """A request under way."""

    request_id: str
    cancelled: bool = False
    waiter: asyncio.Future[None] | None = None

    def cancel(self) -> None:
        """Make it end at once."""
        self.cancelled = True
        if self.waiter is not None:
            _wake(self.waiter)

    async def wait(self, seconds: float) -> None:
        """Let time pass, or less of it if the flight is cancelled."""
        if self.cancelled:
            return
        loop = asyncio.get_running_loop()
        self.waiter = loop.create_future()
        timer = loop.call_later(seconds, _wake, self.waiter)
        try:
            await self.waiter
        finally:
            timer.cancel()
            self.waiter = None


class ScriptedEngine:
    """Answers from a script, and remembers what it was asked."""

    name = "scripted"

    def __init__(self, script: Script | None = None, config: Config | None = None) -> None:
        self.config = config or Config()
        self.model = self.config.model
        self.capabilities = Capabilities(
            logprobs=self.config.logprobs, choices=self.config.choices, is_served=True
        )
        self.requests: deque[Request] = deque(maxlen=self.config.keep_requests)
        """The requests seen, oldest first."""
        self.num_calls = 0
        self._say = sayer(script, self.config)
        self._flights: set[ScriptedRequest] = set()
        self._closed = False

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of `requests`.

        Raises:
            EngineRefusedError: The script has no answer.
            EngineUnavailableError: The settings want this call to fail, or the engine is closed.
        """
        return await all_at_once(map(self._answer, requests))

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The completion in pieces of `tokens_per_chunk`; the last chunk carries it whole."""
        flight = self._depart(request)
        try:
            whole, started = await self._complete(request), time.perf_counter()
            parts = list(pieces(whole.text, self.config.tokens_per_chunk))
            done, text = whole, ""
            for index, (piece, _) in enumerate(parts):
                await flight.wait(self.config.latency_s / len(parts))
                if flight.cancelled:
                    done = cut(whole, parts[index - 1][1] if index else 0, text)
                    break
                text += piece
                yield Chunk(piece, opened=whole.opened)
            yield Chunk("", replace(done, seconds=time.perf_counter() - started))
        finally:
            self._flights.discard(flight)

    async def cancel(self, request_id: str) -> None:
        """End the request of that id; it returns what the time that has passed allows for."""
        for flight in self._flights:
            if flight.request_id == request_id:
                flight.cancel()

    async def aclose(self) -> None:
        """Refuse all further requests."""
        self._closed = True

    async def _answer(self, request: Request) -> Completion:
        flight = self._depart(request)
        started = time.perf_counter()
        try:
            whole = await self._complete(request)
            if self.config.latency_s:
                await flight.wait(self.config.latency_s)
        finally:
            self._flights.discard(flight)
        seconds = time.perf_counter() - started
        if flight.cancelled:
            share = min(seconds / self.config.latency_s, 1.0) if self.config.latency_s else 0.0
            num_done = int(share * len(whole.token_ids))
            whole = cut(whole, num_done, decode(whole.token_ids[:num_done]))
        return replace(whole, seconds=seconds)

    def _depart(self, request: Request) -> ScriptedRequest:
        self.num_calls += 1
        self.requests.append(request)
        if self._closed:
            raise EngineUnavailableError(f"{where(request)}: the engine is closed; open another")
        if self.num_calls in self.config.fail_calls:
            raise EngineUnavailableError(
                f"{where(request)}: call {self.num_calls} fails, as "
                f"fail_calls = {sorted(self.config.fail_calls)} wants it to"
            )
        self._check(request)
        flight = ScriptedRequest(request.id)
        self._flights.add(flight)
        return flight

    def _check(self, request: Request) -> None:
        sampling = request.sampling
        if sampling.choices and not self.config.choices:
            raise EngineRefusedError(f"{where(request)}: choices asked for, and choices = False")
        if (sampling.logprobs or sampling.top_logprobs) and not self.config.logprobs:
            raise EngineRefusedError(f"{where(request)}: logprobs asked for, and logprobs = False")

    async def _complete(self, request: Request) -> Completion:
        said = self._say(request)
        if inspect.isawaitable(said):
            said = await said
        answer = said if isinstance(said, ScriptedAnswer) else ScriptedAnswer(said)
        return complete(answer, request, self.config, self.model)


def build(config: Config) -> ScriptedEngine:
    """An engine that answers as its settings say."""
    return ScriptedEngine(config=config)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
