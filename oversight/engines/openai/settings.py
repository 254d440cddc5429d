"""Settings of the openai engine, which the vllm engine's replicas share."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

import httpx
from pydantic import Field, JsonValue, field_validator

from oversight.config.settings import Settings
from oversight.engines.openai.wire import OWN_FIELDS
from oversight.redaction import register

SECRET_FIELD = re.compile(
    r"(?:x[-_])?(?:api[-_]?key|authorization|access[-_]?token|password|secret)", re.IGNORECASE
)


class Config(Settings):
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
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields for every request, such as `reasoning_effort`."""
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

    @field_validator("extra_body")
    @classmethod
    def _check_extra(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(OWN_FIELDS & set(value)):
            raise ValueError(f"{', '.join(taken)} is set for each request and cannot be set here")
        if secret := [name for name in value if SECRET_FIELD.fullmatch(name)]:
            for name in secret:
                register(str(value[name]))  # the message shows the setting
            raise ValueError(
                f"{secret[0]} is a secret, and settings are kept with every debate: put it into "
                "the environment variable that api_key_env names"
            )
        return value
