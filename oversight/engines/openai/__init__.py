"""Models behind any OpenAI-compatible server: hosted ones, vLLM, and others that speak its API.

Token ids come from the server and from nowhere else: encoding a text again does not always
give the ids that were sampled. With `dialect = "vllm"` they are exact. Other servers do not
send any: completions then hold empty ids, which is said once in the log, and debates run as
usual, but what they yield cannot be trained on token by token.

Log-probabilities are the server's own. vLLM gives those before temperature unless it was
started with `--logprobs-mode processed_logprobs`, which `logprobs_mode` tells this engine; of other
temperatures than 0 and 1 nobody knows without it. Tokens that it calls impossible (-9999) are
left out of the alternatives. Under `choices` vLLM shows the alternatives after the mask in
either mode: they then sum to 1 whatever the model would have liked to write. (The `vllm`
engine asks a second time, without the mask.) Those of llama.cpp's server are the model's own,
before mask and temperature.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

import httpx

from oversight.chat import alternate_roles, fold_system
from oversight.engines import all_at_once
from oversight.engines.openai.failures import LOOK_AT_MODEL, AttemptError
from oversight.engines.openai.reply import (
    MalformedReplyError,
    OpenedThoughts,
    Reply,
    complaint,
    completion,
    is_unknown_end,
    model_ids,
)
from oversight.engines.openai.server import Exchange, Server, ServerGroup, briefly
from oversight.engines.openai.settings import ENFORCING, Budget, Config, Wire, template_values
from oversight.errors import (
    ConfigError,
    EngineError,
    EngineRefusedError,
    EngineTimeoutError,
    EngineUnavailableError,
    NoLogprobsError,
)
from oversight.redaction import redacted
from oversight.registry import nearest
from oversight.types import Capabilities, Chunk, Completion, Prompt, Request

__all__ = ["Config", "OpenAIEngine", "build", "check"]

logger = logging.getLogger("oversight.engines.openai")

PROMPT_END_TOKENS = 24
"""Of a prompt: in so many a chat template opens a thought."""


@dataclass(slots=True, eq=False)
class InFlightRequest:
    """A request under way, so that it can be cancelled."""

    request: Request
    scope: asyncio.Timeout
    cancelled: bool = False
    started: float = field(default_factory=time.monotonic)
    call: Exchange | None = None

    def cancel(self) -> None:
        """Make the flight's scope end now."""
        if not self.scope.expired():
            self.cancelled = True
            self.scope.reschedule(asyncio.get_running_loop().time())


class OpenAIEngine:
    """An engine that asks a server. Use it in one event loop."""

    name = "openai"

    def __init__(self, config: Config, *, key: str = "") -> None:
        self.model = config.model
        logprobs = config.logprobs and "logprobs" not in config.leave_out
        self.capabilities = Capabilities(
            logprobs=logprobs, choices=config.dialect in ENFORCING, is_served=True
        )
        self.budget = Budget(config.max_requests, config.max_total_tokens)
        self._config = config
        self._wire = Wire(
            config.api,
            config.dialect,
            config.max_tokens_name,
            template_values(config.extra_body, config.enable_thinking),
            frozenset(config.leave_out),
        )
        self._folds = config.system_role == "fold"
        self._alternates = config.alternate
        self._thoughts = OpenedThoughts(config.prompt_opens_thought, config.dialect == "vllm")
        servers = [
            Server(
                url,
                key=key,
                connect_timeout_s=config.connect_timeout_s,
                max_retries=config.max_retries,
                key_variable=config.api_key_env,
            )
            for url in config.base_urls
        ]
        self._server = servers[0] if len(servers) == 1 else ServerGroup(servers)
        self._slots = asyncio.Semaphore(config.max_in_flight * len(servers))
        self._finding_model = asyncio.Lock()
        self._flights: set[InFlightRequest] = set()
        self._closed = False
        self._said_no_ids = False
        self._unknown_ends: set[str] = set()

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of `requests`, at most `max_in_flight` at the same time.

        The first failure cancels the rest; to keep the others, ask one by one.

        Raises:
            EngineUnavailableError: Nobody answers, or the connection breaks each time.
            EngineTimeoutError: No answer within `timeout_s`.
            EngineRefusedError: The server, or this engine, cannot do what is asked.
            BudgetExceededError: The budget is used up.
        """
        return await all_at_once(map(self._answer, requests))

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The completion as it grows; the last chunk carries it whole. Raises as `generate`."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        task = asyncio.create_task(self._answer(request, pieces.put_nowait))
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield Chunk(piece, opened=self._thoughts.expected)
            yield Chunk("", await task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def cancel(self, request_id: str) -> None:
        """End the request of that id: its connection is closed and what had arrived is returned.

        ServerGroup of the `openai` dialect send whole answers only, unless streamed: there the
        text is then empty.
        """
        for flight in self._flights:
            if flight.request.id == request_id:
                flight.cancel()

    async def aclose(self) -> None:
        """Cancel what is in flight and close all connections."""
        self._closed = True
        for flight in self._flights:
            flight.cancel()
        await self._server.aclose()

    async def _answer(
        self, request: Request, emit: Callable[[str], None] | None = None
    ) -> Completion:
        self._check(request)
        try:
            async with asyncio.timeout(None) as scope:
                flight = InFlightRequest(request, scope)
                self._flights.add(flight)
                try:
                    await self._fly(flight, emit)
                finally:
                    self._flights.discard(flight)
        except TimeoutError:
            if not flight.cancelled:
                raise EngineTimeoutError(self._time_is_up(flight)) from None
        except NoLogprobsError as error:
            self._go_on_without_logprobs(error)
            raise
        try:
            return self._completion(flight)
        except NoLogprobsError as error:
            self._go_on_without_logprobs(error)
            raise

    def _go_on_without_logprobs(self, error: NoLogprobsError) -> None:
        """Promise none from now on, and say so once."""
        if self.capabilities.logprobs:
            self.capabilities = replace(self.capabilities, logprobs=False)
            logger.warning(
                "%s; answers are kept without log-probabilities from now on, and judges write "
                "their beliefs",
                error,
            )

    def _check(self, request: Request) -> None:
        sampling = request.sampling
        wants_logprobs = sampling.logprobs or sampling.top_logprobs > 0
        if self._closed:
            raise EngineUnavailableError(
                self._server.message(_name(request), "the engine is closed", "open another one")
            )
        if sampling.choices and not self.capabilities.choices:
            reason = "enforced choices are not in this API"
            advice = 'set dialect = "vllm" or "llama.cpp" if the server is one of these'
        elif wants_logprobs and not self.capabilities.logprobs:
            reason = "log-probabilities are asked for, and logprobs = False"
            advice = "set logprobs = true if the server gives them"
            raise NoLogprobsError(self._server.message(_name(request), reason, advice))
        else:
            return
        raise EngineRefusedError(self._server.message(_name(request), reason, advice))

    async def _fly(self, flight: InFlightRequest, emit: Callable[[str], None] | None) -> None:
        async with self._slots:
            if flight.cancelled:  # in the very moment in which its turn came
                return
            flight.started = time.monotonic()
            loop = asyncio.get_running_loop()
            flight.scope.reschedule(loop.time() + self._config.timeout_s)
            await self._find_model()
            await self._ask(flight, emit)

    async def _ask(self, flight: InFlightRequest, emit: Callable[[str], None] | None) -> None:
        """Ask; once more with folded roles if the server takes them in no other way."""
        while True:
            self.budget.take(_name(flight.request))
            sent = self._in_roles(flight.request.prompt)
            flight.call = self._call(flight, sent, emit)
            try:
                await self._server.ask(flight.call)
                break
            except EngineRefusedError as error:
                if _is_filtered(error):
                    flight.call.reply = Reply(begun=True, finish="content_filter")
                    break
                if not self._fold_from_now_on(flight.request, sent, error):
                    raise
            finally:
                self.budget.spend(flight.call.reply.usage)
        reply = flight.call.reply
        if self._thoughts.is_to_be_looked_up(flight.request, reply):
            text = await self._server.detokenize(self.model, reply.prompt_ids[-PROMPT_END_TOKENS:])
            self._thoughts.take_prompt_end(text)

    def _fold_from_now_on(self, request: Request, sent: Prompt, error: EngineRefusedError) -> bool:
        """True if roles were refused that can be sent otherwise, as they are from now on."""
        cause = error.__cause__
        if not (isinstance(cause, AttemptError) and cause.about_roles):
            return False
        if alternate_roles(fold_system(request.prompt)) == sent:
            return False
        if not (self._folds and self._alternates):
            logger.warning(
                "%s refuses the roles of messages (%s): system messages are put at the head of the "
                'first user message from now on (system_role = "fold" does so at once)',
                self._server.base_url,
                cause.reason,
            )
        self._folds = self._alternates = True
        return True

    def _in_roles(self, prompt: Prompt) -> Prompt:
        """The prompt in the roles that the server takes."""
        prompt = fold_system(prompt) if self._folds else prompt
        return alternate_roles(prompt) if self._alternates else prompt

    def _call(
        self, flight: InFlightRequest, prompt: Prompt, emit: Callable[[str], None] | None
    ) -> Exchange:
        live = emit is not None
        stream = live or self._config.dialect == "vllm"
        return Exchange(
            name=f"model {self.model!r}, {_name(flight.request)}",
            path=self._wire.path,
            route=flight.request.route or flight.request.id,
            body=self._wire.body(self.model, flight.request, prompt, stream=stream, live=live),
            emit=emit,
            deadline=flight.started + self._config.timeout_s,
        )

    async def _find_model(self) -> None:
        """Ask the server for the one model that it serves, unless the settings name one."""
        async with self._finding_model:
            if self.model:
                return
            call = Exchange(name="the list of models", path="/models")
            body = await self._server.get(call)
            try:
                served = model_ids(body)
            except MalformedReplyError as error:
                text = self._server.message(call.name, f"cannot be read ({error})", LOOK_AT_MODEL)
                raise EngineError(text) from None
            if len(served) != 1:
                raise ConfigError(
                    f"model = '': {self._server.base_url} serves {len(served)} models"
                    f"{': ' * bool(served)}{', '.join(map(repr, served[:20]))}; name one"
                )
            self.model = served[0]

    def _completion(self, flight: InFlightRequest) -> Completion:
        """The answer as it arrived, after checking that it is what was asked for."""
        request = flight.request
        reply = flight.call.reply if flight.call else Reply()
        cancelled = flight.cancelled and reply.finish is None
        if not cancelled:
            if found := complaint(request, reply, self._config.dialect):
                kind, reason, advice = found
                raise kind(self._server.message(_name(request), reason, advice))
            if not reply.token_ids and not self._said_no_ids:
                self._said_no_ids = True
                logger.warning(
                    "%s gives no token ids: what it samples cannot be trained on token by token "
                    "(a vLLM server with dialect = 'vllm' gives them)",
                    self._server.base_url,
                )
            self._say_unknown_end(reply.finish)
        return completion(
            request,
            reply,
            engine=self.name,
            model=self.model,
            cancelled=cancelled,
            seconds=time.monotonic() - flight.started,
            opened=self._opened(request, reply),
            logprobs_temperature=self._config.logprobs_temperature(request.sampling),
        )

    def _say_unknown_end(self, finish: str | None) -> None:
        """Log a finish reason that no table knows, once: nothing tells if its answer is whole."""
        if finish and is_unknown_end(finish) and finish not in self._unknown_ends:
            self._unknown_ends.add(finish)
            logger.warning(
                "%s ended an answer with finish_reason %s, which is no known word: it is taken for "
                "the model's own end (stop)",
                self._server.base_url,
                ascii(finish[:80]),
            )

    def _opened(self, request: Request, reply: Reply) -> bool | None:
        """True if the answer goes on with a thought that its prompt opened; None if unknown."""
        if request.sampling.choices:
            return self._thoughts.known
        if self._thoughts.learn(reply):
            logger.warning(
                "%s: answers end a thought that their prompt has opened: answers that are cut off "
                "before its end are taken for thoughts from now on (prompt_opens_thought = true "
                "does so at once)",
                self._server.base_url,
            )
        return self._thoughts.opened(reply)

    def _time_is_up(self, flight: InFlightRequest) -> str:
        last = flight.call.last_failure if flight.call else ""
        reason = f"no answer within timeout_s = {self._config.timeout_s:g}"
        return self._server.message(
            f"model {self.model!r}, {_name(flight.request)}",
            f"{reason}; the try before failed: {last}" if last else reason,
            "raise timeout_s, or lower max_in_flight if the server is overloaded",
        )


def build(config: Config) -> OpenAIEngine:
    """An engine for the server that `config` names, with the key from the environment.

    Raises:
        ConfigError: The environment's key holds characters that no key has, or its address is
            none.
    """
    config = _at_the_address_of_the_environment(config)
    return OpenAIEngine(config, key=_key_of(config))


def check(config: Config) -> None:
    """Refuse a model that its server neither lists nor answers for, before anything is recorded.

    A server may answer for more names than it lists, or list none, so one token is asked for then.
    A server that cannot be asked, or refuses the key, is left to the run, which tries again and
    says more.

    Raises:
        ConfigError: The server has no such model; or as `build`.
    """
    config = _at_the_address_of_the_environment(config)
    key, url = _key_of(config), config.base_urls[0]
    if not config.model:
        return
    prompt = {"messages": [{"role": "user", "content": "?"}]}
    asked = {"model": config.model, config.max_tokens_name: 1}
    asked |= prompt if config.api == "chat" else {"prompt": "?"}
    path = "chat/completions" if config.api == "chat" else "completions"
    try:
        with briefly(url, key) as client:
            served = _listed(client.get(f"{url}/models"))
            if config.model in served:
                return
            answer = client.post(f"{url}/{path}", json=asked)
    except httpx.HTTPError:
        return
    if answer.status_code == 404 and config.model in answer.text:
        hint = f".{nearest(config.model, served)} Otherwise" if served else ";"
        reason = f"{url}: model {config.model!r} is not there{hint} {LOOK_AT_MODEL}"
        raise ConfigError(redacted(reason))


def _listed(answer: httpx.Response) -> list[str]:
    """Names of the models in a server's answer; none where it has no list of them."""
    try:
        return model_ids(answer.content) if answer.is_success else []
    except MalformedReplyError:
        return []


def _key_of(config: Config) -> str:
    """The key in the environment; empty for none.

    Raises:
        ConfigError: It holds characters that no key has.
    """
    key = os.environ.get(config.api_key_env, "").strip() if config.api_key_env else ""
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"api_key_env = {config.api_key_env!r}: that environment variable holds characters "
            "that no key has, such as a line break; set it again"
        )
    return key


ADDRESS_VARIABLE = "OPENAI_BASE_URL"
_said_addresses: set[str] = set()


def _at_the_address_of_the_environment(config: Config) -> Config:
    """The settings with the address of OPENAI_BASE_URL, where they name none themselves."""
    given = os.environ.get(ADDRESS_VARIABLE, "").strip()
    if not given or "base_url" in config.model_fields_set:
        return config
    address = Config.parse({"base_url": given}, where=ADDRESS_VARIABLE).base_url
    if given not in _said_addresses:
        _said_addresses.add(given)
        logger.warning("base_url = %s, from the environment variable %s", address, ADDRESS_VARIABLE)
    return config.model_copy(update={"base_url": address})


def _is_filtered(error: EngineRefusedError) -> bool:
    """True if a content filter stopped the request, which ends an answer and is no error."""
    return isinstance(error.__cause__, AttemptError) and error.__cause__.filtered


def _name(request: Request) -> str:
    return f"request {request.id!r}" if request.id else "a request without an id"
