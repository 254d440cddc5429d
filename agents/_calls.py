"""One call of an engine on behalf of a seat, and what is recorded of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from oversight.errors import ConfigError, EngineError
from oversight.ids import seed_from
from oversight.types import (
    Completion,
    Engine,
    Prompt,
    PromptRecord,
    Purpose,
    Request,
    Sample,
    Sampling,
    View,
)

_NUMBERS = count(1)
"""Of the calls of this process: an id is unique among those in flight."""


def needed(engine: Engine | None, agent: str) -> Engine:
    """The engine, for an agent that cannot do without one.

    Raises:
        ConfigError: There is none.
    """
    if engine is None:
        raise ConfigError(
            f"engine = None: agent {agent!r} thinks with a model; give it an engine "
            "(such as 'scripted', 'transformers', 'openai' or 'vllm')"
        )
    return engine


def seed_for(view: View, purpose: Purpose) -> int:
    """The seed of one call: what differs between two calls of a debate is in it."""
    return seed_from(view.seed, view.step, view.seat, view.act, purpose, view.candidate)


@dataclass
class Calls:
    """The calls of one act, and their samples and prompts in the order of the calls."""

    engine: Engine
    view: View
    samples: list[Sample] = field(default_factory=list)
    prompts: list[PromptRecord] = field(default_factory=list)

    async def make(
        self, purpose: Purpose, prompt: Prompt, sampling: Sampling, live: bool = False
    ) -> Completion:
        """Complete `prompt`; if `live`, the pieces go to the view's display as they come."""
        route = self.view.debate_id
        request = Request(prompt, sampling, id=f"{route}-{next(_NUMBERS)}", route=route)
        if live and self.view.emit is not None:
            completion = await self._stream(request)
        else:
            [completion] = await self.engine.generate([request])
        self._record(purpose, prompt, completion)
        return completion

    async def _stream(self, request: Request) -> Completion:
        completion = None
        async for chunk in self.engine.stream(request):
            if chunk.text and self.view.emit is not None:
                self.view.emit(chunk.text)
            completion = chunk.completion or completion
        if completion is None:
            raise EngineError(
                f"engine {self.engine.name!r} ended the stream of request {request.id} "
                "without a completion"
            )
        return completion

    def _record(self, purpose: Purpose, prompt: Prompt, completion: Completion) -> None:
        self.prompts.append(PromptRecord(prompt=prompt, token_ids=completion.prompt_ids))
        self.samples.append(
            Sample(
                purpose=purpose,
                engine=completion.engine,
                model=completion.model,
                prompt_id=prompt.id,
                text=completion.text,
                token_ids=completion.token_ids,
                logprobs=completion.logprobs,
                finish_reason=completion.finish_reason,
                usage=completion.usage,
                seconds=completion.seconds,
            )
        )
