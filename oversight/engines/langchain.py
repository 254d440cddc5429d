"""Chat models of LangChain, for providers that speak no dialect of OpenAI's.

`model = "anthropic:claude-sonnet-4-5"` is what LangChain's `init_chat_model` makes of that name.
The package of its provider (`langchain-anthropic` …) has to be installed, and reads its key from
its own environment variable, or from the one that `api_key_env` names. A chat model of one's own
is `model = "file.py:function"`: called with the same keywords, it gives a `BaseChatModel`.

LangChain's parameters that all providers share are those of a model's making, and not of a call:
so one is made for each temperature and length that is asked for, and kept. No provider gives token
ids through LangChain, so what is sampled cannot be trained on token by token, and none takes a
seed in one way: an answer is not the same twice. Log-probabilities are asked for with
`logprobs = true`, of providers that have them (OpenAI's dialect alone).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import httpx
from pydantic import Field, JsonValue, field_validator

from oversight.chat import alternate_roles, fold_system
from oversight.config import Settings
from oversight.engines import answer_all
from oversight.engines.openai.failures import by_status
from oversight.engines.openai.reply import MalformedReplyError, Reply, complaint, completion
from oversight.engines.openai.settings import check_no_secret
from oversight.errors import (
    AccessError,
    ConfigError,
    EngineError,
    EngineRefusedError,
    EngineTimeoutError,
    EngineUnavailableError,
    MissingDependencyError,
    NoLogprobsError,
    OversightError,
)
from oversight.models import content_of
from oversight.redaction import redacted, register
from oversight.registry import load_named, shortened
from oversight.types import Capabilities, Chunk, Completion, FinishReason, Request, Sampling

logger = logging.getLogger("oversight.engines.langchain")

FINISH_FIELDS = ("finish_reason", "stop_reason", "stopReason", "done_reason", "finishReason")
"""Names that providers give the reason of an answer's end, in a message's metadata."""
MODEL_FIELDS = ("model_name", "model", "model_id")
OWN_OPTIONS = frozenset({"model", "model_provider", "temperature", "max_tokens", "top_p"})
"""Keywords that are set from a request or a setting."""


class Config(Settings):
    """Model, its provider's options, time-outs and retries."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"api_key_env", "timeout_s", "max_retries", "max_in_flight"}
    )

    model: str = Field(min_length=1)
    """`provider:name` as LangChain has it, or a chat model of your own, `file.py:function`."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Further keywords of the model's class, such as `base_url` or `thinking`; no keys."""
    api_key_env: str = ""
    """Environment variable with the key; empty for the one that the provider's package reads."""
    leave_out: tuple[Literal["temperature", "max_tokens", "top_p", "stop"], ...] = ()
    """Parameters that the provider refuses."""
    logprobs: bool = False
    """Ask for log-probabilities, which few providers give through LangChain."""
    system_role: Literal["auto", "fold"] = "auto"
    """`fold` puts the system message at the head of the first user message."""
    alternate: bool = False
    """Send messages of one role that follow each other as one."""
    timeout_s: float = Field(default=600.0, gt=0)
    """For one request, retries included."""
    max_retries: int = Field(default=5, ge=0)
    """Of the provider's package."""
    max_in_flight: int = Field(default=32, ge=1)
    """Requests under way at the same time; the others wait here."""

    @field_validator("options")
    @classmethod
    def _check_options(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        check_no_secret(value)
        if taken := sorted(OWN_OPTIONS & set(value)):
            raise ValueError(f"{', '.join(taken)} is set for each request and cannot be set here")
        return value

    def identity(self) -> dict[str, Any]:
        """As of all settings; a function in a file is what the file holds."""
        found = super().identity()
        if ".py:" in self.model:
            found["model"] = content_of(self.model, "function")
        return found


def build(config: Config) -> LangChainEngine:
    """The engine; its models are made when they are first needed."""
    return LangChainEngine(config)


def check(config: Config) -> None:
    """Refuse a model that cannot be made: no such provider, its package or its key is not there.

    Raises:
        MissingDependencyError: LangChain, or the provider's package, is not installed.
        ConfigError: LangChain knows no such model, or refuses an option or the key.
    """
    _make(config, Sampling())


def _make(config: Config, sampling: Sampling) -> Any:
    """A chat model with the parameters of a sampling; raises as `check`."""
    given: dict[str, Any] = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
    if sampling.top_p < 1.0:
        given["top_p"] = sampling.top_p
    given = {name: each for name, each in given.items() if name not in config.leave_out}
    if sampling.logprobs or sampling.top_logprobs:
        given["logprobs"] = True
        given |= {"top_logprobs": sampling.top_logprobs} if sampling.top_logprobs else {}
    given |= {"max_retries": config.max_retries, "timeout": config.timeout_s, **config.options}
    if config.api_key_env:
        given["api_key"] = _key(config.api_key_env)
    is_own = ".py:" in config.model
    try:
        if is_own:
            return load_named(config.model, "model", __file__)(**given)
        try:
            from langchain.chat_models import init_chat_model
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "langchain":
                raise
            raise MissingDependencyError(
                'the langchain engine needs LangChain: pip install "oversight[langchain]", and the '
                "package of the model's provider, such as langchain-anthropic"
            ) from None
        return init_chat_model(config.model, **given)
    except OversightError:
        raise
    except ImportError as error:
        said = redacted(" ".join(str(error).split()))
        raise MissingDependencyError(f"model = {config.model!r}: {said}") from None
    except Exception as error:  # each provider's package has errors of its own
        said = shortened(redacted(" ".join(str(error).split())), 300)
        raise ConfigError(
            f"model = {config.model!r}: LangChain cannot make it ({type(error).__name__}: {said}); "
            "write provider:name, check options, and set the provider's key (api_key_env names its "
            "variable)"
        ) from None


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"api_key_env = {variable!r}: that environment variable is not set")
    register(key)
    return key


@dataclass(slots=True, eq=False)
class _Flight:
    """A request under way, with what has arrived of it."""

    request: Request
    scope: asyncio.Timeout
    reply: Reply = field(default_factory=Reply)
    started: float = field(default_factory=time.monotonic)
    cancelled: bool = False


class LangChainEngine:
    """An engine over chat models of LangChain. Use it in one event loop."""

    name = "langchain"

    def __init__(self, config: Config) -> None:
        self.model = str(config.identity()["model"])
        self.capabilities = Capabilities(logprobs=config.logprobs, is_served=True)
        self._config = config
        self._models: dict[Sampling, Any] = {}
        self._slots = asyncio.Semaphore(config.max_in_flight)
        self._flights: set[_Flight] = set()
        self._said: set[str] = set()
        self._closed = False

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of `requests`, at most `max_in_flight` at the same time.

        Raises:
            EngineUnavailableError: Nobody answers, or the provider has too much to do.
            EngineTimeoutError: No answer within `timeout_s`.
            EngineRefusedError: The provider, or this engine, cannot do what is asked.
            AccessError: The key or the model is refused, as it would be for every request.
        """
        return await answer_all(requests, self._answer)

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
                async with asyncio.timeout(self._config.timeout_s) as scope:
                    flight = _Flight(request, scope)
                    self._flights.add(flight)
                    try:
                        await self._ask(flight, emit)
                    finally:
                        self._flights.discard(flight)
            except OversightError:
                raise
            except Exception as error:  # each provider's package has errors of its own
                if not flight.cancelled:
                    raise self._failure(request, error) from error
        return self._completion(flight)

    async def _ask(self, flight: _Flight, emit: Callable[[str], None] | None) -> None:
        """Fill the flight's reply; pass its text on as it arrives if anybody listens."""
        request = flight.request
        prompt = request.prompt
        prompt = fold_system(prompt) if self._config.system_role == "fold" else prompt
        prompt = alternate_roles(prompt) if self._config.alternate else prompt
        how: dict[str, Any] = {}
        if request.sampling.stop and "stop" not in self._config.leave_out:
            how["stop"] = list(request.sampling.stop)
        model = self._model_for(request.sampling)
        if emit is None:
            flight.reply.add(_event(await model.ainvoke(prompt.chat(), **how)))
            return
        whole: Any = None
        async for part in model.astream(prompt.chat(), **how):
            whole = part if whole is None else whole + part
            if text := Reply().add(_event(part)):
                flight.reply.texts.append(text)
                emit(text)
        flight.reply = Reply()
        if whole is not None:
            flight.reply.add(_event(whole))

    def _model_for(self, sampling: Sampling) -> Any:
        """The chat model for a sampling, whose other settings are those of a call."""
        key = replace(sampling, seed=None, stop=(), choices=())
        if key not in self._models:
            self._models[key] = _make(self._config, key)
        return self._models[key]

    def _check(self, request: Request) -> None:
        sampling = request.sampling
        if self._closed:
            raise EngineUnavailableError(self._message(request, "the engine is closed"))
        if sampling.choices:
            reason = "enforced choices are in no LangChain model; judges write their beliefs"
            raise EngineRefusedError(self._message(request, reason))
        if (sampling.logprobs or sampling.top_logprobs) and not self.capabilities.logprobs:
            reason = "log-probabilities are asked for, and logprobs = False"
            raise NoLogprobsError(self._message(request, reason))

    def _completion(self, flight: _Flight) -> Completion:
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
            logger.warning("%s: %s: %s", self._config.model, what, words)

    def _failure(self, request: Request, error: BaseException) -> EngineError:
        """The error that a provider's comes to, by its status where it has one."""
        said = shortened(" ".join(str(error).split()), 1000)
        chain = list(_causes(error))
        status = next((found for each in chain if (found := _status(each)) is not None), None)
        if status is not None:
            attempt = by_status(status, said, _code(error), 0.0)
            advice = attempt.advice
            if attempt.kind is AccessError and status in (401, 403):
                variable = self._config.api_key_env or "the provider's own environment variable"
                advice = f"put a valid key into {variable} (api_key_env names it)"
            return attempt.kind(self._message(request, f"{attempt.reason}; {advice}"))
        reason = f"{type(error).__name__}: {said}"
        if any(isinstance(each, TimeoutError | httpx.TimeoutException) for each in chain):
            bound = f"no answer within timeout_s = {self._config.timeout_s:g} ({reason})"
            return EngineTimeoutError(self._message(request, bound))
        if any(isinstance(each, ConnectionError | httpx.TransportError) for each in chain):
            return EngineUnavailableError(self._message(request, f"nobody answers ({reason})"))
        if any(isinstance(each, MalformedReplyError) for each in chain):
            return EngineError(self._message(request, f"an answer that cannot be read ({reason})"))
        return EngineError(self._message(request, reason))

    def _message(self, request: Request, reason: str) -> str:
        which = f"request {request.id!r}" if request.id else "a request without an id"
        return redacted(f"LangChain's {self._config.model}: {which}: {reason}")


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


def _event(message: Any) -> bytes:
    """A message of LangChain as the body of an OpenAI-compatible answer.

    Everything is in there under one name or another, but for usage and metadata.
    """
    about: dict[str, Any] = dict(getattr(message, "response_metadata", None) or {})
    extra: dict[str, Any] = dict(getattr(message, "additional_kwargs", None) or {})
    calls = [*getattr(message, "tool_calls", ()), *getattr(message, "invalid_tool_calls", ())]
    said = {**extra, "content": message.content, "tool_calls": calls}
    finish = next((str(about[name]) for name in FINISH_FIELDS if about.get(name)), None)
    choice = {"message": said, "finish_reason": finish, "logprobs": about.get("logprobs") or None}
    event: dict[str, Any] = {"choices": [choice]}
    if name := next((about[each] for each in MODEL_FIELDS if about.get(each)), None):
        event["model"] = str(name)
    if usage := getattr(message, "usage_metadata", None):
        cached = (usage.get("input_token_details") or {}).get("cache_read")
        event["usage"] = {
            "prompt_tokens": usage.get("input_tokens") or 0,
            "completion_tokens": usage.get("output_tokens") or 0,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
    return json.dumps(event, default=str).encode()
