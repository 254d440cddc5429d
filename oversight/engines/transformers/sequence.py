"""One request on its way through the in-process engine, from prompt ids to completion."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from oversight.engines.transformers.detokenizer import Detokenizer
from oversight.types import Completion, FinishReason, Request, Usage

if TYPE_CHECKING:  # it loads torch, which a request that only waits does not need
    from oversight.chat.prompt_ids import TokenIds

Top = tuple[tuple[str, float], ...]


@dataclass(eq=False)
class Job:
    """A request that somebody waits for. The callbacks are called in the engine's thread."""

    request: Request
    on_text: Callable[[str], None] | None
    """Takes pieces of the answer; None if only the whole is wanted."""
    on_done: Callable[[Completion | Exception], None]
    cancelled: bool = False
    """Set by any thread: end at the next step with what there is."""
    opened: bool = False
    """The prompt opens a thought, for the answer to go on with; known before anything is said."""
    submitted_at: float = field(default_factory=time.perf_counter)


@dataclass(eq=False)
class Sequence:
    """A job, its prompt as ids, and what has been sampled."""

    job: Job
    prompt_ids: TokenIds
    max_tokens: int
    max_length: int
    """Tokens whose keys and values it may come to need, scored choices included."""
    choices: tuple[TokenIds, ...]
    text: Detokenizer
    random: random.Random
    num_cached: int = 0
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[Top] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    failure: str = ""
    """Why it could not be answered."""

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be computed."""
        return self.finish_reason is not None or bool(self.failure)

    def all_ids(self) -> TokenIds:
        """Prompt and sampled tokens."""
        return np.concatenate([self.prompt_ids, np.asarray(self.token_ids, dtype=np.int64)])

    def completion(self, engine: str, model: str) -> Completion:
        """What the caller gets, once `finish_reason` is known."""
        assert self.finish_reason is not None
        request = self.job.request
        return Completion(
            request_id=request.id,
            text=self.text.text,
            prompt_ids=tuple(self.prompt_ids.tolist()),
            token_ids=tuple(self.token_ids),
            finish_reason=self.finish_reason,
            usage=Usage(
                prompt_tokens=len(self.prompt_ids),
                completion_tokens=len(self.token_ids),
                cached_tokens=self.num_cached,
            ),
            engine=engine,
            model=model,
            seconds=time.perf_counter() - self.job.submitted_at,
            logprobs=tuple(self.logprobs) if request.sampling.logprobs else None,
            top=tuple(self.top),
            opened=self.job.opened,
        )
