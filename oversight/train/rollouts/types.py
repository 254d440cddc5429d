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
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from oversight.config import Settings
from oversight.errors import ConfigError, DataError
from oversight.modeling import Floats, Ids, TokenRow
from oversight.models import check_whole
from oversight.registry import shortened
from oversight.train.types import PromptExample


class SamplingSettings(Settings):
    """Settings of sampling: temperature, lengths and stops."""

    max_new_tokens: int = Field(default=256, ge=1)
    """A response that has not ended by then is cut off, and says so."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Of softmax(logits / temperature), which is also what the trainer scores."""
    rows_at_once: int = Field(default=256, ge=1)
    """Responses that are decoded side by side; changes memory and speed, and no token."""


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


class SourceSettings(Settings):
    """One source of rewards, with its own settings."""

    by_content: ClassVar[Mapping[str, str]] = {"models": "model", "function": "function"}

    source: Literal["model", "function", "matches", "length", "sum"] = "model"
    models: tuple[str, ...] = ()
    """`model`: folders of reward models of one label; the mean of several is the reward."""
    disagreement_penalty: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """`model`: times the models' standard deviation, taken off the reward (after Coste et al. 2023,
    arXiv:2310.02743, whose uncertainty-weighted optimisation takes off the variance)."""
    function: str = ""
    """`function`: "package.module:function" or "file.py:function", called with the texts of the
    responses, without thoughts, and, for each, a mapping of its row's fields, its prompt's text
    (`prompt`) and its thoughts (`thoughts`)."""
    field: str = "answer"
    """`matches`: the example's field that a response is held against."""
    how: Literal["contains", "equals", "regex"] = "contains"
    """`matches`: how; a regex is the field itself, searched for in the response."""
    ignore_case: bool = True
    """`matches`: whether case and outer blanks are disregarded."""
    target_tokens: int = Field(default=64, ge=1)
    """`length`: 1 for a response of so many tokens, falling by its relative distance from that."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source == "model" and not self.models:
            raise ValueError("source = 'model' needs models, folders of reward models")
        if self.source == "function" and not self.function:
            raise ValueError("source = 'function' needs function, such as 'my_module:reward'")
        return self


class WeightedSource(SourceSettings):
    """A source that is one of several, and its weight among them."""

    weight: float = 1.0
    """Times this the source's rewards are added; 0 only draws its curve."""

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "sum":
            raise ValueError("source = 'sum' stands in a sum; name all sources side by side")
        return self


PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Name of a source in a sum: it is a part of the names of metrics."""


class RewardSettings(SourceSettings):
    """Source of rewards: one, or the weighted sum of several."""

    parts: dict[str, WeightedSource] = Field(default_factory=dict)
    """`sum`: sources by name, each a table `[reward.parts.NAME]` with its `weight`; the mean of
    each is the metric `rewards/NAME`."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.source != "sum":
            return self
        if not any(each.weight for each in self.parts.values()):
            raise ValueError(
                "source = 'sum' needs parts, tables such as [reward.parts.quotes], at least one "
                "of them with another weight than 0"
            )
        for name in self.parts:
            if not PART.fullmatch(name):
                raise ValueError(
                    f"parts.{name!r}: give a name of letters, digits, '-' and '_'; it is shown as "
                    "the metric rewards/NAME"
                )
        return self

    def sources(self) -> Iterator[tuple[str, SourceSettings]]:
        """Each source of rewards by its dotted setting: `reward`, or `reward.parts.NAME`."""
        if self.source != "sum":
            yield "reward", self
        for name, each in self.parts.items():
            yield f"reward.parts.{name}", each

    def models_named(self) -> Iterator[tuple[str, str]]:
        """Each reward model's folder, by the dotted setting that names it."""
        for place, each in self.sources():
            for folder in each.models if each.source == "model" else ():
                yield f"{place}.models", folder


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
