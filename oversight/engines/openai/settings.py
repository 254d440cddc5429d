"""Settings of the openai engine, which the vllm engine's replicas share."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import httpx
from pydantic import Field, JsonValue, ValidationInfo, field_validator

from oversight.config.settings import Settings
from oversight.engines.openai.wire import OWN_FIELDS
from oversight.redaction import register

SECRET_FIELD = re.compile(
    r"(?:x[-_])?(?:api[-_]?key|authorization|access[-_]?token|password|secret)", re.IGNORECASE
)

Parameter = Literal[
    "max_tokens", "temperature", "top_p", "seed", "stop", "logprobs", "stream_options"
]
"""Parameters that can be left out of a request."""


def is_none(value: Any) -> bool:
    """True if a setting was not given."""
    return value is None


def check_no_secret(extra_body: Mapping[str, JsonValue]) -> None:
    """Refuse further fields of a request that hold a key: settings are kept with every debate.

    Raises:
        ValueError: It names the field.
    """
    secret = [name for name in extra_body if SECRET_FIELD.fullmatch(name)]
    for name in secret:
        register(str(extra_body[name]))  # the message shows the setting
    if secret:
        raise ValueError(
            f"{secret[0]} is a secret, and settings are kept with every debate: put it into "
            "the environment variable that api_key_env names"
        )


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
    """Which server and model to ask, and how patiently."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {
            "base_url",
            "api_key_env",
            "timeout_s",
            "connect_timeout_s",
            "max_retries",
            "max_in_flight",
            "max_requests",
            "max_total_tokens",
        }
    )

    base_url: str = "http://127.0.0.1:8000/v1"
    """Address up to and including `/v1`."""
    model: str = ""
    """Name that the server knows the model by; empty takes the only one that it serves."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; if it is not set, no key is sent."""
    api: Literal["chat", "completions"] = "chat"
    """Send messages, or one text that is continued."""
    dialect: Literal["openai", "vllm"] = "openai"
    """`vllm` asks for token ids and enforced choices as well."""
    logprobs: bool = True
    """Whether the server gives log-probabilities; some hosted models refuse to."""
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
    """Requests that the server is given at the same time; the others wait here."""
    max_requests: int | None = Field(default=None, ge=0)
    """Budget: how many requests this engine may send; None for no bound."""
    max_total_tokens: int | None = Field(default=None, ge=0)
    """Budget: prompt and completion tokens after which nothing more is sent; None for no bound."""

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, value: str) -> str:
        try:
            url = httpx.URL(value)
        except httpx.InvalidURL as error:
            raise ValueError(f"no address: {error}") from None
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("an address begins with http:// or https:// and names a host")
        if url.userinfo or url.query or url.fragment:
            for secret in (url.password, url.username, *url.params.values()):
                register(secret)  # the message shows the address
            raise ValueError(
                "an address holds no user, password, query or fragment; keys go into "
                "the environment variable that api_key_env names"
            )
        return value.rstrip("/")
