"""Collections of rollouts, on-policy or one step ahead of the trainer.

On-policy: a batch is sampled when it is asked for, with the newest weights. Ahead:
the next batch is sampled in a thread while the trainer learns from the last one;
its weights are then exactly one update older, which its `version` says.

    collector.submit(prompts, 8, seed=0)
    for step in range(...):
        collected = collector.take()
        if collector.ahead:
            collector.submit(next_prompts, 8, seed)   # samples while we learn
        ...learn from `collected`...
        collector.update(policy, step + 1)            # waits for what is being sampled
        if not collector.ahead:
            collector.submit(next_prompts, 8, seed)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from oversight.errors import ConfigError
from oversight.modeling.rows import Ids
from oversight.train.rollouts.types import SampledResponse, Sampler

Array = npt.NDArray[Any]


def pack(arrays: Sequence[Array | None], dtype: npt.DTypeLike) -> dict[str, Array]:
    """All values one after another, and the length of each array; -1 for None."""
    lengths = np.array([-1 if each is None else len(each) for each in arrays], dtype=np.int64)
    there = [each for each in arrays if each is not None]
    values = np.concatenate([np.empty(0, dtype=dtype), *there])
    if values.dtype != np.dtype(dtype):
        raise TypeError(f"arrays of {values.dtype} cannot be kept as {np.dtype(dtype)}")
    return {"values": values, "lengths": lengths}


def unpack(packed: dict[str, Array]) -> list[Array | None]:
    """The arrays that `pack` was given."""
    lengths, values = packed["lengths"], packed["values"]
    stops = np.cumsum(np.maximum(lengths, 0))
    return [
        None if length < 0 else values[stop - length : stop].copy()
        for length, stop in zip(lengths.tolist(), stops.tolist(), strict=True)
    ]


def unpack_all(packed: dict[str, Array]) -> list[Array]:
    """The same where none of them is None."""
    return [each for each in unpack(packed) if each is not None]


@dataclass(frozen=True, slots=True, eq=False)
class CollectedBatch:
    """Responses to some prompts, and the step of the weights that gave them."""

    prompts: tuple[Ids, ...]
    sampled: tuple[tuple[SampledResponse, ...], ...]
    version: int

    def state(self) -> dict[str, Any]:
        """All of it as arrays and JSON-plain values, for a checkpoint."""
        flat = [each for group in self.sampled for each in group]
        return {
            "prompts": pack(self.prompts, np.int64),
            "group_sizes": [len(group) for group in self.sampled],
            "token_ids": pack([each.token_ids for each in flat], np.int64),
            "logprobs": pack([each.logprobs for each in flat], np.float32),
            "finished": [each.finished for each in flat],
            "version": self.version,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The collection that `state` was taken of."""
        columns = unpack_all(state["token_ids"]), unpack_all(state["logprobs"]), state["finished"]
        flat = iter([SampledResponse(*fields) for fields in zip(*columns, strict=True)])
        groups = tuple(tuple(islice(flat, size)) for size in state["group_sizes"])
        return cls(tuple(unpack_all(state["prompts"])), groups, state["version"])


class Collector:
    """One batch at a time from a sampler.

    Args:
        sampler: Answers prompts; closed with the collector.
        ahead: Sample in a thread, while weights may not change but at `update`.

    Raises:
        ConfigError: The sampler uses the trainer's own weights, which change while it learns.
    """

    def __init__(self, sampler: Sampler, ahead: bool = False) -> None:
        if ahead and sampler.shares_weights:
            raise ConfigError(
                "rollouts one step ahead need weights of their own: sample from a server, or "
                "on-policy in process"
            )
        self.sampler = sampler
        self.ahead = ahead
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rollouts") if ahead else None
        self._next: Future[CollectedBatch] | None = None

    def submit(self, prompts: Sequence[Ids], num_samples: int, seed: int) -> None:
        """Sample a batch: now, or in the thread if ahead."""
        if self._next is not None:
            raise RuntimeError("a batch was submitted already; take it first")
        work = (list(prompts), num_samples, seed)
        if self._thread is not None:
            self._next = self._thread.submit(self._collect, *work)
        else:
            self._next = Future()
            self._next.set_result(self._collect(*work))

    def take(self) -> CollectedBatch:
        """The batch submitted last, once it is there.

        Raises:
            EngineError: As the sampler.
        """
        collected = self.peek()
        if collected is None:
            raise RuntimeError("no batch was submitted")
        self._next = None
        return collected

    def peek(self) -> CollectedBatch | None:
        """The batch that `take` would give, or None: what a checkpoint has to keep."""
        return None if self._next is None else self._next.result()

    def restore(self, collected: CollectedBatch | None) -> None:
        """Put back what `peek` gave when the checkpoint was written."""
        self._next = None
        if collected is not None:
            self._next = Future()
            self._next.set_result(collected)

    def update(self, policy: Any, step: int) -> None:
        """Hand new weights to the sampler, after what is being sampled with the old ones."""
        self.peek()
        self.sampler.update(policy, step)

    def close(self) -> None:
        """End the thread and close the sampler."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self.sampler.close()

    def _collect(self, prompts: list[Ids], num_samples: int, seed: int) -> CollectedBatch:
        sampled = self.sampler.sample(prompts, num_samples, seed)
        return CollectedBatch(
            tuple(prompts), tuple(tuple(group) for group in sampled), self.sampler.version
        )
