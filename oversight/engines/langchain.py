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

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, JsonValue, field_validator

from oversight.chat import alternate_roles, fold_system
from oversight.engines._library import Flight, Library, LibraryConfig, LibraryEngine
from oversight.engines.openai.reply import Reply
from oversight.engines.openai.settings import check_no_secret
from oversight.errors import (
    ConfigError,
    MissingDependencyError,
    OversightError,
)
from oversight.models import content_of
from oversight.redaction import redacted, register
from oversight.registry import load_named, shortened
from oversight.types import Sampling

logger = logging.getLogger("oversight.engines.langchain")

FINISH_FIELDS = ("finish_reason", "stop_reason", "stopReason", "done_reason", "finishReason")
"""Names that providers give the reason of an answer's end, in a message's metadata."""
MODEL_FIELDS = ("model_name", "model", "model_id")
OWN_OPTIONS = frozenset({"model", "model_provider", "temperature", "max_tokens", "top_p"})
"""Keywords that are set from a request or a setting."""


class Config(LibraryConfig):
    """Model, its provider's options, time-outs and retries."""

    model: str = Field(min_length=1)
    """`provider:name` as LangChain has it, or a chat model of your own, `file.py:function`."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Further keywords of the model's class, such as `base_url` or `thinking`; no keys."""
    leave_out: tuple[Literal["temperature", "max_tokens", "top_p", "stop"], ...] = ()
    """Parameters that the provider refuses."""

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


class LangChainEngine(LibraryEngine):
    """An engine over chat models of LangChain. Use it in one event loop."""

    name = "langchain"

    def __init__(self, config: Config) -> None:
        variable = config.api_key_env or "the provider's own environment variable"
        super().__init__(
            Library("LangChain", config.model, f"{variable} (api_key_env names it)"),
            model=str(config.identity()["model"]),
            logprobs=config.logprobs,
            timeout_s=config.timeout_s,
            max_in_flight=config.max_in_flight,
        )
        self._config = config
        self._models: dict[Sampling, Any] = {}

    async def ask(self, flight: Flight, emit: Callable[[str], None] | None) -> None:
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
