"""Input and output of sampling: settings, samples, the Sampler protocol, collections of them.

There is no top-p, top-k or penalty: the loss needs the log-probability of each
token in the very distribution it was drawn from, and the trainer computes that
of softmax(logits / temperature) and of nothing else.

A collection is sampled on-policy or one step ahead of the trainer. On-policy: a batch is sampled
when it is asked for, with the newest weights. Ahead:
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

import hashlib
import typing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from oversight.errors import ConfigError, DataError
from oversight.modeling import Floats, Ids, TokenRow
from oversight.models import check_whole
from oversight.registry import shortened
from oversight.train.types import PromptExample


@dataclass(frozen=True, slots=True, eq=False)
class SampledResponse:
    """One response, token for token."""

    token_ids: Ids
    """EOS included where it ended by itself."""
    logprobs: Floats
    """Natural log-probability of each token in the tempered distribution it was drawn from."""
    finished: bool
    """Ended by EOS, which is then the last id; False where it was cut off."""

    def row(self, prompt_ids: Ids, id: str = "") -> TokenRow:
        """The response as a row to be scored."""
        return TokenRow(prompt_ids, self.token_ids, logprobs=self.logprobs, id=id)


@typing.runtime_checkable
class Sampler(typing.Protocol):
    """Something that answers prompts with a policy's current weights."""

    version: int
    """The step of the weights that it samples with."""
    shares_weights: bool
    """True if these are the trainer's own weights, which change while it learns."""

    def sample(
        self, prompts: Sequence[Ids], num_samples: int, seed: int
    ) -> list[list[SampledResponse]]:
        """`num_samples` responses to each prompt, in the prompts' order.

        The same seed gives the same responses to a prompt whatever else is asked
        at the same time, up to the rounding of the model's own arithmetic.

        Raises:
            DataError: A prompt is empty, or holds ids that the model does not have.
            EngineError: The model could not answer.
        """
        ...

    def update(self, policy: Any, step: int) -> None:
        """Take over the policy's weights, which are those of `step`.

        Raises:
            EngineError: They did not arrive.
        """
        ...

    def close(self) -> None:
        """Give back what the sampler holds; it cannot be used afterwards."""
        ...


def check_prompts(prompts: Sequence[Ids], vocab_size: int | None, room: int | None) -> None:
    """Refuse prompts that cannot be sampled from, before anything is computed.

    Args:
        prompts: Token ids of each.
        vocab_size: Ids must be below it; None where it is not known.
        room: Most tokens that a prompt may have; None where that is not known.

    Raises:
        DataError: With the number of the prompt and the reason.
    """
    for i, ids in enumerate(prompts):
        if not len(ids):
            raise DataError(f"prompts[{i}] is empty: give at least one token, such as BOS")
        if room is not None and len(ids) > room:
            raise DataError(
                f"prompts[{i}] has {len(ids)} tokens, and {room} leave room for max_new_tokens in "
                "the model's context: shorten it, or ask for fewer tokens"
            )
        if vocab_size is not None and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
            wrong = next(int(each) for each in ids if not 0 <= each < vocab_size)
            raise DataError(f"prompts[{i}] holds id {wrong}, and the model has {vocab_size}")


def seeds_of(prompts: Sequence[Ids], seed: int) -> Iterator[bytes]:
    """Sixteen bytes for each prompt, from its ids and the seed, not from its neighbours.

    The same prompt asked twice at the same time gets two different ones.
    """
    seen: dict[bytes, int] = {}
    for ids in prompts:
        content = ids.astype("<i8").tobytes()
        occurrence = seen[content] = seen.get(content, -1) + 1
        key = hashlib.blake2b(content, digest_size=16, salt=f"{occurrence}".encode()[:16])
        key.update(f"|{seed}".encode())
        yield key.digest()


@typing.runtime_checkable
class RewardSource(typing.Protocol):
    """Something that scores responses."""

    metrics: dict[str, float]
    """Further metrics of the last call, such as the disagreement within an ensemble."""

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[SampledResponse]]
    ) -> list[list[float]]:
        """One reward for each response to each example.

        Raises:
            DataError: One is NaN or infinite, or the example lacks a field; with the row's id.
        """
        ...


def grouped(
    scores: Sequence[float],
    examples: Sequence[PromptExample],
    sampled: Sequence[Sequence[object]],
    source: str,
) -> list[list[float]]:
    """Scores of all responses as one list a prompt, each checked to be a finite number.

    Raises:
        DataError: There are too few or too many, or one is not a finite number.
    """
    ids = [
        f"{example.id}#{i}"
        for example, group in zip(examples, sampled, strict=True)
        for i in range(len(group))
    ]
    if len(scores) != len(ids):
        raise DataError(
            f"reward {source!r} gave {len(scores)} numbers for {len(ids)} responses, of the rows "
            f"{', '.join(repr(example.id) for example in examples[:3])}"
            f"{' …' if len(examples) > 3 else ''}; it has to give one for each"
        )
    numbers = iter([_number(id, score, source) for id, score in zip(ids, scores, strict=True)])
    return [[next(numbers) for _ in group] for group in sampled]


def _number(id: str, score: Any, source: str) -> float:
    """A reward as a finite float: a number or a truth value, of Python, NumPy or torch.

    Raises:
        DataError: It is none.
    """
    if getattr(score, "ndim", None) == 0 and hasattr(score, "item"):
        score = score.item()  # of an array or a tensor, wherever that is
    try:
        number = float(score) if isinstance(score, Real | np.bool_) else None
    except OverflowError:
        number = float("inf")
    if number is None or not np.isfinite(number):
        raise DataError(
            f"row {id!r}: reward {source!r} is {shortened(repr(score))}, and it has to be a finite "
            "number"
        )
    return number


def check_folder(folder: str) -> Path:
    """The folder of a reward model.

    Raises:
        ConfigError: It is not there, or holds no model.
    """
    from oversight.train.loading import is_saved_model  # which loads torch

    place = Path(folder).expanduser()
    check_whole("reward.models", folder)
    if not is_saved_model(place):
        inner = place / "model"
        hint = f"; did you mean its folder {str(inner)!r}?" if is_saved_model(inner) else ""
        raise ConfigError(f"reward.models = {folder!r}: no folder of a saved model{hint}")
    return place


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
