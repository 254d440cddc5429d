"""The models behind a guard, and one of our engines as such a model.

All are asked in the API's own form and answer in it, whole or in events.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol
from uuid import uuid4

from pydantic import Field, JsonValue, model_validator

from oversight.config import Settings
from oversight.engines.openai.settings import Config as ServerSettings
from oversight.errors import (
    EngineError,
    EngineRefusedError,
    EngineTimeoutError,
    OversightError,
)
from oversight.guard.checks.base import texts_of
from oversight.types import (
    Completion,
    Engine,
    FinishReason,
    Message,
    Prompt,
    Request,
    Sampling,
)

Json = dict[str, Any]
Path = Literal["chat/completions", "completions"]


_TRACE_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class TraceIds:
    """Ids of the spans of a call, drawn as it begins, so that the model's server gets them too."""

    trace: int
    parent: int
    """Span of the client that the call belongs to; 0 if it names none."""
    is_sampled: bool
    """The client keeps its own span, or names none."""
    call: int
    model: int
    """Span of the asking of the model, which its server's own spans belong to."""

    @classmethod
    def begun(cls, header: str) -> TraceIds:
        """The ids of a new call.

        Args:
            header: `traceparent` of the request (W3C Trace Context); one that is wrong is none.
        """
        found = _TRACE_PARENT.fullmatch(header.strip())
        trace, parent = (int(found[1], 16), int(found[2], 16)) if found else (0, 0)
        if found is None or not trace or not parent:
            trace, parent, found = secrets.randbits(128) or 1, 0, None
        is_sampled = found is None or bool(int(found[3], 16) & 1)
        return cls(trace, parent, is_sampled, secrets.randbits(64) or 1, secrets.randbits(64) or 1)

    @property
    def header(self) -> str:
        """`traceparent` for the model's server."""
        return f"00-{self.trace:032x}-{self.model:016x}-{int(self.is_sampled):02x}"


TRACE: ContextVar[TraceIds | None] = ContextVar("trace", default=None)
"""Ids of the call under way; None where nobody traces."""


class ApiError(OversightError):
    """An error that the client is told in the API's own form."""

    def __init__(
        self,
        message: str,
        status: int,
        kind: str,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param

    def body(self) -> Json:
        """The error as the API writes it."""
        fields = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": fields}


def invalid(message: str, param: str | None = None, status: int = 400) -> ApiError:
    """The error of a request that the client can mend."""
    return ApiError(message, status, "invalid_request_error", param=param)


def upstream_failed(message: str, status: int = 502, code: str = "upstream_error") -> ApiError:
    """The error of a model that could not answer."""
    return ApiError(message, status, "upstream_error", code)


class UpstreamSettings(Settings):
    """A model behind the guard: an engine of ours, or a server by its address."""

    engine: str = ""
    """Name of one of our engines (scripted, transformers …)."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The engine's own."""
    base_url: str = ""
    """Address of a server up to and including /v1."""
    model: str = ""
    """Name that the server knows the model by; empty: the one that the client names."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the server's key; no key is sent where it is not set."""
    timeout_s: float = Field(default=600.0, gt=0.0)
    """Longest wait for the next bytes of an answer."""
    connect_timeout_s: float = Field(default=10.0, gt=0.0)

    @model_validator(mode="after")
    def _check(self) -> UpstreamSettings:
        if bool(self.engine) == bool(self.base_url):
            raise ValueError("name either an engine, or the base_url of a server")
        if self.base_url:
            ServerSettings.parse({"base_url": self.base_url}, where="base_url")
        return self


class Upstream(Protocol):
    """A model behind the guard."""

    async def answer(self, path: Path, body: Json) -> Json:
        """The whole answer.

        Raises:
            ApiError: There is none.
        """
        ...

    def stream(self, path: Path, body: Json) -> AsyncGenerator[Json, None]:
        """The answer in events; raises as `answer`, also in its middle."""
        ...

    async def models(self) -> Sequence[str]:
        """Names of the models that it serves."""
        ...

    async def aclose(self) -> None:
        """Give back what it holds."""
        ...


# --- an engine of ours ---

_UNABLE = ("tools", "functions", "logprobs", "top_logprobs", "logit_bias", "response_format")
"""Fields that would change an answer, and that an engine does not know."""
_ENDS = {FinishReason.LENGTH: "length", FinishReason.CONTENT_FILTER: "content_filter"}


class EngineUpstream:
    """One of our engines, asked in the API's form."""

    def __init__(self, name: str, engine: Engine) -> None:
        self._name, self.engine = name, engine

    @property
    def content(self) -> str:
        """The name that the content of its model has; of an engine without a model, its own."""
        return str(getattr(self.engine, "model", "") or self._name)

    async def answer(self, path: Path, body: Json) -> Json:
        """The whole answer; raises as the protocol says."""
        requests = self._requests(path, body)
        try:
            done = await self.engine.generate(requests)
        except OversightError as error:
            raise self._failed(error) from error
        chat = path == "chat/completions"
        choices = []
        for index, each in enumerate(done):
            said = {"message": {"role": "assistant", "content": each.text}} if chat else {}
            words = said if chat else {"text": each.text}
            choices.append({"index": index, **words, "logprobs": None, "finish_reason": _end(each)})
        return self._head(path, "") | {"choices": choices, "usage": _usage(done)}

    async def stream(self, path: Path, body: Json) -> AsyncGenerator[Json, None]:
        """The answer in events; raises as the protocol says."""
        requests = self._requests(path, body)
        head = self._head(path, ".chunk")
        chat = path == "chat/completions"
        news: asyncio.Queue[tuple[int, str, Completion | None] | OversightError] = asyncio.Queue()

        async def follow(index: int, request: Request) -> None:
            try:
                async for chunk in self.engine.stream(request):
                    await news.put((index, chunk.text, chunk.completion))
            except OversightError as error:
                await news.put(error)

        done: list[Completion] = []
        tasks = [asyncio.create_task(follow(*each)) for each in enumerate(requests)]
        try:
            if chat:
                for index in range(len(requests)):
                    yield head | {"choices": [_event(index, {"role": "assistant", "content": ""})]}
            while len(done) < len(requests):
                new = await news.get()
                if isinstance(new, OversightError):
                    raise self._failed(new) from new
                index, text, completion = new
                words = {"content": text} if chat else text
                end = None if completion is None else _end(completion)
                if text or end:
                    yield head | {
                        "choices": [_event(index, words if text else {} if chat else "", end)]
                    }
                if completion is not None:
                    done.append(completion)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if (body.get("stream_options") or {}).get("include_usage"):
            yield head | {"choices": [], "usage": _usage(done)}

    def _requests(self, path: Path, body: Json) -> list[Request]:
        if unable := [name for name in _UNABLE if body.get(name)]:
            raise invalid(
                f"{self._name}: an engine of this kind takes no {unable[0]}; leave it out, or name "
                "a server that does",
                unable[0],
            )
        prompt = _prompt(path, body)
        number = _whole_number(body, "n", 1, 1, 128)
        seed = _whole_number(body, "seed", None, -(2**63), 2**63)
        stop = body.get("stop") or ()
        found = [stop] if isinstance(stop, str) else list(stop)
        if not all(isinstance(each, str) and each for each in found):
            raise invalid(f"stop = {stop!r}: give a text or a list of texts", "stop")
        longest = body.get("max_completion_tokens") or body.get("max_tokens")
        sampling = Sampling(
            max_tokens=_whole_number({"max_tokens": longest}, "max_tokens", 256, 1, 1 << 20) or 256,
            temperature=_number(body, "temperature", 1.0, 0.0, 10.0),
            top_p=_number(body, "top_p", 1.0, 1e-6, 1.0),
            stop=tuple(found),
            seed=seed,
        )
        call = uuid4().hex
        return [
            Request(
                prompt,
                sampling if seed is None else _seeded(sampling, seed + index),
                id=f"guard-{call}-{index}",
                route=prompt.id,
            )
            for index in range(number or 1)
        ]

    def _head(self, path: Path, end: str) -> Json:
        chat = path == "chat/completions"
        return {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid4().hex}",
            "object": f"chat.completion{end}" if chat else "text_completion",
            "created": int(time.time()),
            "model": self._name,
            "system_fingerprint": self.content,  # the weights that answered
        }

    def _failed(self, error: OversightError) -> ApiError:
        if isinstance(error, ApiError):
            return error
        if isinstance(error, EngineTimeoutError):
            return upstream_failed(f"{self._name}: {error}", 504, "upstream_timeout")
        if isinstance(error, EngineRefusedError):
            return invalid(f"{self._name}: {error}")
        kind = "upstream_unavailable" if isinstance(error, EngineError) else "upstream_error"
        return upstream_failed(f"{self._name}: {error}", 502, kind)

    async def models(self) -> Sequence[str]:
        """The name that it is served under."""
        return (self._name,)

    async def aclose(self) -> None:
        """Give the engine back."""
        await self.engine.aclose()


def _event(index: int, words: Json | str, end: str | None = None) -> Json:
    said = {"text": words} if isinstance(words, str) else {"delta": words}
    return {"index": index, **said, "logprobs": None, "finish_reason": end}


def _end(done: Completion) -> str:
    return _ENDS.get(done.finish_reason, "stop")


def _usage(done: Sequence[Completion]) -> Json:
    prompt = done[0].usage.prompt_tokens if done else 0
    answer = sum(each.usage.completion_tokens for each in done)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }


def _prompt(path: Path, body: Json) -> Prompt:
    if path == "completions":
        text = body.get("prompt")
        if not isinstance(text, str) or not text:
            raise invalid("prompt: an engine of this kind takes one text", "prompt")
        return Prompt(messages=(Message(role="user", parts=(text,)),))
    return as_prompt(body["messages"])


ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
    "function": "user",
}
"""Roles of the API, each with the one that a prompt of ours has for it."""


def as_prompt(messages: Sequence[Mapping[str, Any]]) -> Prompt:
    """The messages as a prompt of ours: system first, and roles in turn.

    Messages of one role in a row are one, as chat templates take no others.
    """
    found: list[tuple[Literal["system", "user", "assistant"], str]] = []
    systems = []
    for each in messages:
        role, words = ROLES[each["role"]], "\n\n".join(texts_of(each))
        if role == "system":
            systems.append(words)
        elif found and found[-1][0] == role:
            found[-1] = (role, f"{found[-1][1]}\n\n{words}")
        else:
            found.append((role, words))
    if systems:
        found.insert(0, ("system", "\n\n".join(systems)))
    return Prompt(messages=tuple(Message(role=role, parts=(words,)) for role, words in found))


def _seeded(sampling: Sampling, seed: int) -> Sampling:
    return replace(sampling, seed=seed)


def _whole_number(body: Json, name: str, default: int | None, low: int, high: int) -> int | None:
    given = body.get(name)
    if given is None:
        return default
    if not isinstance(given, int) or isinstance(given, bool) or not low <= given <= high:
        raise invalid(f"{name} = {given!r}: give a whole number from {low} to {high}", name)
    return given


def _number(body: Json, name: str, default: float, low: float, high: float) -> float:
    given = body.get(name)
    if given is None:
        return default
    if not isinstance(given, int | float) or isinstance(given, bool) or not low <= given <= high:
        raise invalid(f"{name} = {given!r}: give a number from {low} to {high}", name)
    return float(given)
