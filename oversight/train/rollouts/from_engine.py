"""Responses sampled by any engine of the project that gives token ids and log-probabilities.

Engines take messages and say which ids they read them as; a trainer has ids. So
prompts are made known first, by `read` (the engine's own ids are taken) or by
`know` (ids that the data path rendered), and each completion's `prompt_ids` must
then be those that were asked: a row is never trained on another prompt than was
answered. New weights are saved to a folder and the engine is opened on it anew.
Where vLLM serves, `server` asks by ids and reloads in place.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from oversight.engines.base import open_engine
from oversight.errors import ConfigError, DataError, EngineRefusedError
from oversight.modeling.rows import Ids
from oversight.train.rollouts.server import LoopThread
from oversight.train.rollouts.types import Sampled, SamplingSettings, check_prompts, seeds_of
from oversight.types import Completion, EngineSpec, FinishReason, Prompt, Request, Sampling

if TYPE_CHECKING:
    from oversight.modeling.scoring.policy import PolicyModel

T = TypeVar("T")


class EngineSampler:
    """A `Sampler` over an engine.

    Args:
        spec: The engine; its setting `model` is replaced when weights are handed over.
        settings: How responses are drawn.
        folder: Where new weights are saved; None if they will never change.

    Raises:
        ConfigError: The engine gives no log-probabilities, or those of another distribution.
    """

    shares_weights = False

    def __init__(
        self, spec: EngineSpec, settings: SamplingSettings, folder: Path | None = None
    ) -> None:
        _check_mode(spec, settings)
        self.version = 0
        self.settings = settings
        self._spec = spec
        self._folder = folder
        self._prompts: dict[bytes, Prompt] = {}
        self._engine = open_engine(spec)
        self._loop = LoopThread("rollouts")
        if not self._engine.capabilities.logprobs:
            self.close()
            raise ConfigError(
                f"engine {spec.engine!r} gives no log-probabilities, which training needs: take "
                "'transformers', 'vllm', or 'openai' with dialect = \"vllm\""
            )

    def know(self, prompt_ids: Ids, prompt: Prompt) -> None:
        """Let `sample` be asked for `prompt` by the ids that the engine will read it as."""
        self._prompts[prompt_ids.astype(np.int64).tobytes()] = prompt

    def read(self, prompts: Sequence[Prompt]) -> list[Ids]:
        """The ids that the engine reads each prompt as, and make them known.

        Raises:
            EngineError: It could not answer, or gives no ids.
        """
        one = Sampling(max_tokens=1, logprobs=True)
        requests = [Request(prompt, one, id=f"read-{i}") for i, prompt in enumerate(prompts)]
        completions = self._run(self._engine.generate(requests))
        found = [np.array(_checked(each).prompt_ids, dtype=np.int64) for each in completions]
        for ids, prompt in zip(found, prompts, strict=True):
            self.know(ids, prompt)
        return found

    def sample(self, prompts: Sequence[Ids], num_samples: int, seed: int) -> list[list[Sampled]]:
        """`num_samples` responses to each prompt, in the prompts' order.

        Raises:
            DataError: A prompt is not known, or the engine reads it as other ids.
            EngineError: The engine could not answer, or gives no ids or log-probabilities.
        """
        check_prompts(prompts, vocab_size=None, room=None)
        requests = list(self._requests(prompts, num_samples, seed))
        completions = self._run(self._engine.generate(requests))
        sampled = [
            self._sampled(prompts[i // num_samples], each) for i, each in enumerate(completions)
        ]
        return [sampled[i * num_samples : (i + 1) * num_samples] for i in range(len(prompts))]

    def update(self, policy: PolicyModel, step: int) -> None:
        """Save the weights and open the engine anew on them.

        Raises:
            ConfigError: There is no folder to save them to.
        """
        from oversight.train.rollouts.handover import save_beside

        if self._folder is None:
            raise ConfigError("this sampler was given no folder to hand weights over in")
        place = save_beside(policy, str(self._spec.settings["model"]), self._folder, step)
        self._run(self._engine.aclose())
        settings = {**self._spec.settings, "model": str(place)}
        self._spec = self._spec.model_copy(update={"settings": settings})
        self._engine = open_engine(self._spec)
        self.version = step

    def close(self) -> None:
        """Close the engine."""
        self._run(self._engine.aclose())
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    def _requests(self, prompts: Sequence[Ids], num_samples: int, seed: int) -> Iterator[Request]:
        for number, (ids, key) in enumerate(zip(prompts, seeds_of(prompts, seed), strict=True)):
            prompt = self._prompts.get(ids.astype(np.int64).tobytes())
            if prompt is None:
                raise DataError(
                    f"prompts[{number}]: an engine takes messages, and none are known for these "
                    f"{len(ids)} ids; make them known by `read` or `know` first"
                )
            first = int.from_bytes(key[:6], "little")
            for i in range(num_samples):
                sampling = Sampling(
                    max_tokens=self.settings.max_new_tokens,
                    temperature=self.settings.temperature,
                    seed=first + i,
                    logprobs=True,
                )
                yield Request(prompt, sampling, id=f"{number}-{i}", route=prompt.id)

    def _sampled(self, prompt_ids: Ids, completion: Completion) -> Sampled:
        _checked(completion)
        if not np.array_equal(prompt_ids, completion.prompt_ids):
            raise DataError(
                f"request {completion.request_id!r}: engine {self._engine.name!r} read the prompt "
                f"as {len(completion.prompt_ids)} ids that are not the {len(prompt_ids)} asked "
                "for; take its own by `read`"
            )
        return Sampled(
            np.array(completion.token_ids, dtype=np.int64),
            np.array(completion.logprobs, dtype=np.float32),
            completion.finish_reason is FinishReason.STOP,
        )


def _check_mode(spec: EngineSpec, settings: SamplingSettings) -> None:
    if spec.settings.get("logprobs_mode") == "raw_logprobs" and settings.temperature != 1.0:
        raise ConfigError(
            f"engine.{spec.engine}.logprobs_mode = 'raw_logprobs' gives log-probabilities before "
            f"temperature = {settings.temperature}: take 'processed_logprobs'"
        )


def _checked(completion: Completion) -> Completion:
    """The completion, with ids and log-probabilities."""
    missing = [
        name
        for name, there in (
            ("prompt ids", completion.prompt_ids),
            ("token ids", completion.token_ids),
            ("log-probabilities", completion.logprobs),
        )
        if not there
    ]
    if missing:
        raise EngineRefusedError(
            f"request {completion.request_id!r}: engine {completion.engine!r} gave no "
            f"{missing[0]}, which training needs; take one that does"
        )
    return completion
