"""Model providers of Inspect (inspect-ai): `model = "openai/gpt-4o"`, `"anthropic/…"`, `"hf/…"`.

The package of the provider has to be installed, and reads its key from its own environment variable
or from the one that `api_key_env` names. Inside of `inspect eval` the tasks of `oversight/…` ask
the evaluation's own models by this engine, and every call stands in the log.

No provider gives token ids through Inspect, so what is sampled cannot be trained on token by token.
Log-probabilities are asked for with `logprobs = true`, of providers that have them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue, field_validator

from oversight.chat import alternate_roles, fold_system
from oversight.engines._library import Flight, Library, LibraryConfig, LibraryEngine
from oversight.engines.openai.settings import check_no_secret
from oversight.errors import BudgetExceededError, ConfigError, MissingDependencyError
from oversight.redaction import redacted, register
from oversight.registry import shortened
from oversight.types import Message, Prompt, Request

OWN_OPTIONS = frozenset(
    {
        *("temperature", "max_tokens", "top_p", "stop_seqs", "seed", "logprobs", "top_logprobs"),
        *("max_retries", "timeout", "max_connections", "num_choices", "system_message", "cache"),
    }
)
"""Options that are set from a request or a setting, or that would change what a request says."""


class Config(LibraryConfig):
    """Model, its provider's options, time-outs and retries."""

    incidental: ClassVar[frozenset[str]] = LibraryConfig.incidental | {"base_url"}

    model: str = Field(min_length=1, pattern=r"^[^/\s]+/\S+$")
    """`provider/name` as Inspect has it."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Further options of Inspect's `GenerateConfig`, such as `reasoning_effort`."""
    model_args: dict[str, JsonValue] = Field(default_factory=dict)
    """Arguments of the provider, which `inspect eval` takes with -M; no keys."""
    base_url: str | None = None
    """Address of the provider's server; unset, the provider's own."""
    leave_out: tuple[Literal["temperature", "max_tokens", "top_p", "stop", "seed"], ...] = ()
    """Parameters that the provider refuses."""

    @field_validator("options", "model_args")
    @classmethod
    def _check_options(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        check_no_secret(value)
        return value

    @field_validator("options")
    @classmethod
    def _check_own(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(OWN_OPTIONS & set(value)):
            raise ValueError(f"{', '.join(taken)} is set for each request and cannot be set here")
        return value


def build(config: Config) -> InspectEngine:
    """The engine; its model is made when it is first asked."""
    return InspectEngine(config)


def check(config: Config) -> None:
    """Refuse a model that cannot be made: no such provider, its package or its key is not there.

    Raises:
        MissingDependencyError: inspect-ai, or the provider's package, is not installed.
        ConfigError: Inspect knows no such provider, or refuses an option or the key.
    """
    library()
    _generation(config, Request(Prompt(messages=(Message(role="user", parts=("?",)),))))
    _make(config)


def library() -> Any:
    """The package `inspect_ai.model`.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import inspect_ai.model
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "inspect_ai":
            raise
        raise MissingDependencyError(
            'the inspect engine needs Inspect: pip install "oversight[inspect]" (docs/inspect.md '
            "says in which environment), and the package of the model's provider, such as openai"
        ) from None
    return inspect_ai.model


def _make(config: Config) -> Any:
    """The model; raises as `check`."""
    models = library()
    given: dict[str, Any] = dict(config.model_args)
    if config.api_key_env:
        key = os.environ.get(config.api_key_env, "").strip()
        if not key:
            raise ConfigError(
                f"api_key_env = {config.api_key_env!r}: that environment variable is not set"
            )
        register(key)
        given["api_key"] = key
    try:
        return models.get_model(config.model, base_url=config.base_url, memoize=False, **given)
    except Exception as error:  # each provider has errors of its own
        said = shortened(redacted(" ".join(str(getattr(error, "message", error)).split())), 300)
        if isinstance(error, ImportError) or "optional dependencies" in said:
            raise MissingDependencyError(f"model = {config.model!r}: {said}") from None
        raise ConfigError(
            f"model = {config.model!r}: Inspect cannot make it ({type(error).__name__}: {said}); "
            "write provider/name, check model_args, and set the provider's key (api_key_env names "
            "its variable)"
        ) from None


def _generation(config: Config, request: Request) -> Any:
    """Inspect's settings of one call.

    Raises:
        ConfigError: One of `options` is none of Inspect's.
    """
    sampling = request.sampling
    given: dict[str, Any] = {
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
        "top_p": sampling.top_p if sampling.top_p < 1.0 else None,
    }
    given = {name: each for name, each in given.items() if name not in config.leave_out}
    given["stop_seqs"] = given.pop("stop", None)
    if sampling.logprobs or sampling.top_logprobs:
        given |= {"logprobs": True, "top_logprobs": sampling.top_logprobs or None}
    given |= {"max_retries": config.max_retries, "timeout": math.ceil(config.timeout_s)}
    known = library().GenerateConfig
    if unknown := sorted(set(config.options) - set(known.model_fields)):
        raise ConfigError(
            f"options.{unknown[0]} is no option of Inspect's GenerateConfig; it has "
            f"{', '.join(sorted(set(known.model_fields) - OWN_OPTIONS))}"
        )
    try:
        return known(
            **{name: each for name, each in given.items() if each is not None}, **config.options
        )
    except ValueError as error:
        said = shortened(" ".join(str(error).split()), 300)
        raise ConfigError(f"options: Inspect refuses them ({said})") from None


class InspectEngine(LibraryEngine):
    """An engine over a model of Inspect's. Use it in one event loop."""

    name = "inspect"

    def __init__(self, config: Config, model: Any = None) -> None:
        """Put the parts together.

        Args:
            config: Settings.
            model: A model of Inspect's that was made already, as of an evaluation.
        """
        variable = config.api_key_env or "the provider's own environment variable"
        super().__init__(
            Library("Inspect", config.model, f"{variable} (api_key_env names it)"),
            model=config.model,
            logprobs=config.logprobs,
            timeout_s=config.timeout_s,
            max_in_flight=config.max_in_flight,
        )
        self._config = config
        self._own = model is None
        self._made = model

    async def ask(self, flight: Flight, emit: Callable[[str], None] | None) -> None:
        """Fill the flight's reply; pass its text on as it arrives if anybody listens."""
        request = flight.request
        prompt = request.prompt
        prompt = fold_system(prompt) if self._config.system_role == "fold" else prompt
        prompt = alternate_roles(prompt) if self._config.alternate else prompt
        models = library()
        if self._made is None:
            self._made = _make(self._config)
        kinds = {
            "system": models.ChatMessageSystem,
            "user": models.ChatMessageUser,
            "assistant": models.ChatMessageAssistant,
        }
        given = [kinds[each["role"]](content=each["content"]) for each in prompt.chat()]
        heard: list[str] = []
        how: dict[str, Any] = {}
        if emit is not None:
            how["on_stream"] = _listener(emit, heard, flight)
        output = await self._made.generate(given, config=_generation(self._config, request), **how)
        flight.reply.texts.clear()
        text = flight.reply.add(_body(output))
        said = "".join(heard)
        if emit is not None and text.startswith(said) and text != said:
            emit(text[len(said) :])

    def converted(self, error: BaseException) -> BaseException | None:
        """A limit of the evaluation, as of tokens or money: nothing more can be asked."""
        if type(error).__name__ != "LimitExceededError":
            return None
        return BudgetExceededError(f"Inspect's limit is reached: {error}")

    async def aclose(self) -> None:
        """Cancel what is in flight, and close the model if it was made here."""
        await super().aclose()
        if self._own and self._made is not None:
            await self._made.api.aclose()
            self._made = None


def _listener(emit: Callable[[str], None], heard: list[str], flight: Flight) -> Any:
    """A function that is told what a model writes; nothing more after an attempt that failed."""
    failed = False

    async def listen(event: Any) -> None:
        nonlocal failed
        failed |= event.type == "retry"
        if event.type == "text" and event.text and not failed:
            heard.append(event.text)
            flight.reply.texts.append(event.text)
            emit(event.text)

    return listen


def _body(output: Any) -> bytes:
    """An answer of Inspect's as the body of an OpenAI-compatible one."""
    body: dict[str, Any] = {"model": output.model, "choices": []}
    if output.choices:
        choice = output.choices[0]
        message = choice.message
        parts = [each.model_dump(exclude_none=True) for each in message.content_list]
        said: dict[str, Any] = {"content": [_part(each) for each in parts]}
        if message.tool_calls:
            said["tool_calls"] = [{"function": each.function} for each in message.tool_calls]
        known = choice.stop_reason if choice.stop_reason != "unknown" else None
        body["choices"] = [
            {"message": said, "finish_reason": known, "logprobs": _logprobs(choice.logprobs)}
        ]
    if usage := output.usage:
        cached = usage.input_tokens_cache_read
        read = usage.input_tokens + (cached or 0) + (usage.input_tokens_cache_write or 0)
        body["usage"] = {
            "prompt_tokens": read,
            "completion_tokens": usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
    return json.dumps(body, default=str).encode()


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a content; one that the provider marks as a refusal is one."""
    if part.get("type") == "text" and part.get("refusal"):
        return {"type": "refusal", "refusal": part.get("text", "")}
    if part.get("type") == "reasoning" and part.get("redacted"):
        return {"type": "reasoning", "reasoning": part.get("summary") or ""}
    return part


def _logprobs(given: Any) -> dict[str, Any] | None:
    if given is None:
        return None
    return {
        "content": [
            {
                "token": each.token,
                "logprob": each.logprob,
                "top_logprobs": [
                    {"token": other.token, "logprob": other.logprob}
                    for other in each.top_logprobs or ()
                ],
            }
            for each in given.content
        ]
    }
