"""Settings of the openai engine, which the vllm engine's replicas share."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import httpx
from pydantic import Field, JsonValue, ValidationInfo, field_validator

from oversight.chat import plain_text
from oversight.config import Settings
from oversight.errors import BudgetExceededError
from oversight.redaction import register, register_login
from oversight.types import Prompt, Request, Sampling, Usage
from oversight.types.samples import is_none

OWN_FIELDS = frozenset(
    {
        *("model", "messages", "prompt", "stream", "stream_options", "stream_interval", "n"),
        *("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop"),
        *("logprobs", "top_logprobs", "return_token_ids", "structured_outputs"),
    }
)
"""Fields that are set from the request, so that nobody else may set them."""

VLLM_NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""vLLM takes what a request leaves out from the model's `generation_config.json`, and would
then sample from another distribution than the one asked for."""

LLAMA_NEUTRAL = {"top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0}
"""llama.cpp's server keeps the 40 likeliest tokens, and of these those that are not too unlikely,
unless it is told otherwise."""

Dialect = Literal["openai", "vllm", "llama.cpp"]

ENFORCING = frozenset({"vllm", "llama.cpp"})
"""Dialects with enforced choices."""

RESHAPING = {*VLLM_NEUTRAL, *LLAMA_NEUTRAL, "presence_penalty", "frequency_penalty", "logit_bias"}
"""Fields with which tokens are not drawn from softmax(logits / temperature)."""

VLLM_MAX_TOP = 20
"""The most alternatives a vLLM server gives unless it is told otherwise."""

INTERVAL_TOKENS = 16
"""Tokens per event where nobody watches the text grow."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Form of the requests to one server."""

    api: Literal["chat", "completions"]
    dialect: Dialect
    max_tokens_name: str
    extra_body: Mapping[str, Any]
    leave_out: frozenset[str] = frozenset()

    @property
    def path(self) -> str:
        """Path of the API below the server's base address."""
        return "/chat/completions" if self.api == "chat" else "/completions"

    def body(
        self, model: str, request: Request, prompt: Prompt, *, stream: bool, live: bool
    ) -> bytes:
        """The JSON body, with the request's prompt in the roles that the server takes; `live`
        asks for an event a token rather than one every few."""
        fields: dict[str, Any] = {"model": model, **self._prompt(prompt)}
        fields |= {"vllm": VLLM_NEUTRAL, "llama.cpp": LLAMA_NEUTRAL}.get(self.dialect, {})
        fields |= self.extra_body
        fields |= self._sampling(request)
        if stream:
            fields["stream"] = True
            if "stream_options" not in self.leave_out:
                fields["stream_options"] = {"include_usage": True}
            if self.dialect == "vllm":
                fields["stream_interval"] = 1 if live else INTERVAL_TOKENS
        return _encode(fields)

    def _prompt(self, prompt: Prompt) -> dict[str, Any]:
        if self.api == "chat":
            return {"messages": prompt.chat()}
        return {"prompt": plain_text(prompt)}

    def _sampling(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        fields: dict[str, Any] = {
            self.max_tokens_name: sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.stop:
            fields["stop"] = list(sampling.stop)
        if sampling.seed is not None:
            fields["seed"] = sampling.seed
        if sampling.choices and self.dialect == "llama.cpp":
            fields["grammar"] = "root ::= " + " | ".join(map(_quoted, sampling.choices))
        elif sampling.choices:
            fields["structured_outputs"] = {"choice": list(sampling.choices)}
        if self.dialect == "vllm":
            fields["return_token_ids"] = True
        if sampling.logprobs or sampling.top_logprobs:
            fields |= self._logprobs(sampling.top_logprobs)
        left_out = {self.max_tokens_name if n == "max_tokens" else n for n in self.leave_out}
        return {name: value for name, value in fields.items() if name not in left_out}

    def _logprobs(self, num_top: int) -> dict[str, Any]:
        if self.api == "completions":
            return {"logprobs": num_top}
        if self.dialect == "vllm" and 0 < num_top < VLLM_MAX_TOP:
            # vLLM puts the sampled token first and cuts the list afterwards: an unlikely
            # sample would push out the last of the likeliest.
            num_top += 1
        return {"logprobs": True} | ({"top_logprobs": num_top} if num_top else {})


def _quoted(choice: str) -> str:
    """A choice as a terminal of llama.cpp's grammars."""
    return json.dumps(choice, ensure_ascii=False)


def _encode(fields: dict[str, Any]) -> bytes:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates, which no tokenizer could read either
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


class Budget:
    """Counts what an engine sends and refuses what would go beyond the bounds.

    Requests in flight count against `max_requests` at once. Their tokens are
    known only when they end: a bound on tokens stops what comes after it has been
    reached, not what is under way then.
    """

    def __init__(self, max_requests: int | None, max_total_tokens: int | None) -> None:
        self._max_requests = max_requests
        self._max_total_tokens = max_total_tokens
        self.num_requests = 0
        self.num_tokens = 0

    def take(self, name: str) -> None:
        """Count one request.

        Raises:
            BudgetExceededError: It would be one too many, or the tokens are used up.
        """
        if self._max_requests is not None and self.num_requests >= self._max_requests:
            self._refuse(name, "max_requests", self.num_requests, self._max_requests)
        if self._max_total_tokens is not None and self.num_tokens >= self._max_total_tokens:
            self._refuse(name, "max_total_tokens", self.num_tokens, self._max_total_tokens)
        self.num_requests += 1

    def spend(self, usage: Usage) -> None:
        """Count the tokens of a request."""
        self.num_tokens += usage.prompt_tokens + usage.completion_tokens

    def _refuse(self, name: str, setting: str, used: int, bound: int) -> None:
        raise BudgetExceededError(
            f"{name}: not sent, as the budget is used up: {used} of {setting} = {bound!r}; "
            f"raise {setting} to go on"
        )


SECRET_FIELD = re.compile(
    r"(?:x[-_])?(?:api[-_]?key|authorization|access[-_]?token|password|secret)", re.IGNORECASE
)

Parameter = Literal[
    "max_tokens", "temperature", "top_p", "seed", "stop", "logprobs", "stream_options"
]
"""Parameters that can be left out of a request."""


def check_no_secret(fields: Mapping[str, JsonValue]) -> None:
    """Refuse further fields of a request, or options of a model's class, that hold a key or an
    address with a password, at any depth: settings are kept with every debate.

    Raises:
        ValueError: It names the field.
    """
    found = list(_secrets(fields))
    if found:
        raise ValueError(
            f"{found[0]} is a secret, and settings are kept with every debate: put it into "
            "the environment variable that api_key_env names"
        )


def _secrets(fields: Mapping[str, JsonValue], before: str = "") -> Iterator[str]:
    """Names of fields with a secret, which messages will not show."""
    for name, value in fields.items():
        if SECRET_FIELD.fullmatch(name):
            register(str(value))
            yield before + name
        elif isinstance(value, dict):
            yield from _secrets(value, f"{before}{name}.")
        elif isinstance(value, str) and "://" in value and register_login(value):
            yield f"the password in {before}{name}"


def template_values(
    extra_body: dict[str, JsonValue], enable_thinking: bool | None
) -> dict[str, JsonValue]:
    """The further fields of a request, `enable_thinking` in its place among them.

    Raises:
        ValueError: It stands there already.
    """
    if enable_thinking is None:
        return extra_body
    given = extra_body.get("chat_template_kwargs", {})
    if not isinstance(given, dict) or "enable_thinking" in given:
        raise ValueError(
            f"extra_body.chat_template_kwargs = {given!r} stands beside it: set one of them"
        )
    return {**extra_body, "chat_template_kwargs": {**given, "enable_thinking": enable_thinking}}


class RequestFields(Settings):
    """Checks of what is sent with every request, for the engines that ask a server."""

    @field_validator("extra_body", check_fields=False)
    @classmethod
    def _check_extra(
        cls, value: dict[str, JsonValue], info: ValidationInfo
    ) -> dict[str, JsonValue]:
        check_no_secret(value)
        own = OWN_FIELDS - set(info.data.get("leave_out", ()))
        if taken := sorted(own & set(value)):
            raise ValueError(f"{', '.join(taken)} is set for each request and cannot be set here")
        return value

    @field_validator("enable_thinking", check_fields=False)
    @classmethod
    def _check_thinking(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        template_values(info.data.get("extra_body", {}), value)
        return value


class Config(RequestFields):
    """Server, model, time-outs and retries."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {
            "base_url",
            "api_key_env",
            "logprobs_mode",
            "timeout_s",
            "connect_timeout_s",
            "max_retries",
            "max_in_flight",
            "max_requests",
            "max_total_tokens",
        }
    )

    base_url: str | tuple[str, ...] = "http://127.0.0.1:8000/v1"
    """Address up to and including `/v1`, or those of several servers of one model: calls go where
    the beginnings of their prompts are cached, unless that server has more to do than others."""
    model: str = ""
    """Name that the server knows the model by; empty takes the only one that it serves."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; if it is not set, no key is sent."""
    api: Literal["chat", "completions"] = "chat"
    """Send messages, or one text that is continued."""
    dialect: Dialect = "openai"
    """`vllm` asks for token ids and enforced choices as well, `llama.cpp` for enforced choices and
    for samples of the whole distribution."""
    logprobs: bool = True
    """Ask the server for log-probabilities; some hosted models refuse to give them."""
    logprobs_mode: Literal["raw_logprobs", "processed_logprobs"] | None = None
    """Option `--logprobs-mode` that the server runs with, kept with its log-probabilities: those of
    the model before temperature, or of the distribution sampled from. None: nobody knows, and
    they say nothing where the temperature is not 0 or 1."""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The field that bounds the answer; newer hosted models take only the second name."""
    # Not part of a debate's id unless they are set: debates of before keep theirs.
    leave_out: tuple[Parameter, ...] = Field(default=(), exclude_if=operator.not_)
    """Parameters that are not sent, as the server refuses them; it then takes its own."""
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields for every request, such as `reasoning_effort`."""
    enable_thinking: bool | None = Field(default=None, exclude_if=is_none)
    """Sent as `chat_template_kwargs.enable_thinking`, by which the chat templates of many models
    (Qwen3, GLM …) turn thoughts off and on; None sends nothing."""
    prompt_opens_thought: bool | None = Field(default=None, exclude_if=is_none)
    """True if the chat template itself opens a thought, so that answers hold only its end. None
    finds it out: from vLLM's prompt, elsewhere from the first answer that ends one."""
    system_role: Literal["auto", "fold"] = Field(default="auto", exclude_if="auto".__eq__)
    """`fold` puts the system message at the head of the first user message; `auto` does so after
    a server has refused the role."""
    alternate: bool = Field(default=False, exclude_if=operator.not_)
    """Send messages of one role that follow each other as one."""
    timeout_s: float = Field(default=600.0, gt=0)
    """For one request, from its first try to the last byte of the answer."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    max_retries: int = Field(default=5, ge=0)
    max_in_flight: int = Field(default=256, ge=1)
    """Requests that each server is given at the same time; the others wait here."""
    max_requests: int | None = Field(default=None, ge=0)
    """Budget: how many requests this engine may send; None for no bound."""
    max_total_tokens: int | None = Field(default=None, ge=0)
    """Budget: prompt and completion tokens after which nothing more is sent; None for no bound."""

    def logprobs_temperature(self, sampling: Sampling) -> float | None:
        """The T for which the server's log-probabilities are log softmax(logits / T), if known."""
        unsent = {"temperature", "top_p"} & set(self.leave_out)
        if sampling.choices or unsent or RESHAPING & self.extra_body.keys():
            return None
        if self.dialect == "llama.cpp":
            return sampling.temperature_of_logprobs(False)
        if self.logprobs_mode is None:
            return sampling.temperature_of_logprobs(None) if self.dialect == "vllm" else None
        return sampling.temperature_of_logprobs(self.logprobs_mode == "processed_logprobs")

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(value, str):
            return _address(value)
        if not value:
            raise ValueError("name one server at least")
        found = tuple(map(_address, value))
        if twice := [each for each in found if found.count(each) > 1]:
            raise ValueError(f"{twice[0]} stands there twice")
        return found

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The addresses of all servers."""
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url


def _address(value: str) -> str:
    """The address of a server as it is used.

    Raises:
        ValueError: It is none.
    """
    has_login = register_login(value)  # the message shows the address
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL as error:
        said = "" if has_login else f": {error}"  # which may be of a piece of the password
        raise ValueError(f"no address{said}; give one such as http://127.0.0.1:8000/v1") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("an address begins with http:// or https:// and names a host")
    if has_login or url.query or url.fragment:
        for secret in url.params.values():
            register(secret)
        raise ValueError(
            "an address holds no user, password, query or fragment; keys go into "
            "the environment variable that api_key_env names"
        )
    return value.rstrip("/")
