"""The Engine protocol: something that completes prompts, and what goes in and comes out."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from oversight.types.samples import FinishReason, Prompt, Usage


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings for sampling one completion."""

    max_tokens: int = 256
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    choices: tuple[str, ...] = ()
    """If given, the text of the completion is one of these, exactly."""
    logprobs: bool = False
    """Give the log-probability of every sampled token."""
    top_logprobs: int = 0
    """Also give the most likely alternatives at each position, at most this many."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a model."""

    prompt: Prompt
    sampling: Sampling = Sampling()
    id: str = ""
    """Unique among the requests in flight; what `Engine.cancel` takes."""
    route: str = ""
    """Requests of one route go to the same replica, whose prefix cache then holds."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a model. Servers that give no token ids leave them empty."""

    request_id: str
    text: str
    """As it was written: thoughts that are marked in it are divided off by whoever asked."""
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    engine: str
    model: str
    seconds: float
    logprobs: tuple[float, ...] | None = None
    """Natural log-probability of each of `token_ids` in the distribution sampled from."""
    top: tuple[tuple[tuple[str, float], ...], ...] = ()
    """Per position the likeliest tokens before any mask: (token text, log-probability)."""
    reasoning: str = ""
    """The thought, where a server gives it apart from the text."""
    opened: bool | None = None
    """True if the prompt itself opened a thought, which the text goes on with; None if unknown."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed completion; the last one carries the whole completion."""

    text: str
    completion: Completion | None = None
    opened: bool | None = None
    """As of the completion that it is a piece of."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Abilities of an engine beyond giving text and token ids."""

    logprobs: bool = False
    choices: bool = False


@typing.runtime_checkable
class Engine(typing.Protocol):
    """Something that completes prompts. Cancelling the awaiting task cancels the work as well."""

    name: str
    model: str
    capabilities: Capabilities

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of `requests`.

        Raises:
            EngineError: One of the requests could not be answered; the message says which.
        """
        ...

    def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The completion piece by piece; the last chunk carries it whole."""
        ...

    async def cancel(self, request_id: str) -> None:
        """End a request in flight; it returns what it has, with finish reason CANCELLED."""
        ...

    async def aclose(self) -> None:
        """Give back what the engine holds; it cannot be used afterwards."""
        ...
