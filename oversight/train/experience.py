"""What PPO and GRPO learn from: responses sampled, scored, and kept while they are reused.

One collection at a time: prompts are taken in the data's order, a sampler
answers them, a source of reward scores the answers, rewards are shaped, and the
reference and the policy score the tokens. A collection is then cut into
mini-batches and gone through as often as asked for; a run that is killed in
between goes on with the very numbers.

Shapes: B responses, R response tokens.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, JsonValue, model_validator

from oversight.config.settings import Settings
from oversight.errors import ConfigError
from oversight.ids import seed_from
from oversight.train.data.settings import DataSettings
from oversight.train.distributed import World
from oversight.train.losses.advantages.group import informative
from oversight.train.losses.rewards import RunningScale, missing_eos, overlong_penalty
from oversight.train.model.policy import PolicyModel
from oversight.train.reference import Reference
from oversight.train.rollouts.ahead import Collected, Collector
from oversight.train.rollouts.buffer import RolloutBatch
from oversight.train.rollouts.in_process import InProcessSampler
from oversight.train.rollouts.rewards import RewardSettings, RewardSource
from oversight.train.rollouts.types import Sampler, SamplingSettings
from oversight.train.scoring import row_logprobs
from oversight.train.settings import TrainSettings
from oversight.train.types import Ids, PromptExample


class ImportanceSettings(Settings):
    """Correction for a sampler whose log-probabilities are not the trainer's."""

    mode: Literal["none", "truncate", "mask"] = "truncate"
    level: Literal["token", "sequence", "geometric"] = "token"
    high: float | None = Field(default=2.0, gt=0.0)
    low: float | None = Field(default=None, ge=0.0)


class ShapingSettings(Settings):
    """What is done to rewards before they become advantages."""

    missing_eos: float = Field(default=0.0, ge=0.0)
    """Taken off the reward of a response that did not end by itself."""
    overlong_cache: int | None = Field(default=None, ge=1)
    """Tokens before the limit over which the reward falls by 1 (DAPO, eq. 13)."""
    mask_unfinished: bool = False
    """Learn nothing from responses that were cut off."""
    scale: bool = False
    """Divide rewards by their running standard deviation."""
    clip: float | None = Field(default=None, gt=0.0)
    """With `scale`: the largest scaled reward."""


class ExperienceSettings(TrainSettings):
    """Settings that PPO and GRPO share."""

    data: DataSettings
    reward: RewardSettings
    sampling: SamplingSettings = SamplingSettings()
    samples: int = Field(default=8, ge=1)
    """Responses to each prompt; a collection has `batch_size` prompts."""
    engine: Literal["in_process", "vllm"] = "in_process"
    """Who samples: the policy itself, or vLLM servers that are given its weights."""
    engine_settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of the vllm engine."""
    ahead: bool = False
    """Sample the next collection while learning from the last: one step off-policy."""
    mini_batches: int = Field(default=1, ge=1)
    """Optimiser steps that a collection is cut into."""
    reuse: int = Field(default=1, ge=1)
    """How often a collection is gone through."""
    reference: str = "initial"
    """`initial`, `none`, or a model; asked only where a KL coefficient is above 0."""
    importance: ImportanceSettings = ImportanceSettings()
    shaping: ShapingSettings = ShapingSettings()
    dynamic_sampling: int = Field(default=0, ge=0)
    """Sample again, at most so many times, until every prompt's rewards differ (DAPO, eq. 11)."""

    @model_validator(mode="after")
    def _check_experience(self) -> Self:
        if self.mini_batches > self.batch_size:
            raise ValueError(
                f"mini_batches = {self.mini_batches}, but a collection has only batch_size = "
                f"{self.batch_size} prompts to cut into parts"
            )
        if self.model.lora is not None and self.model.lora.dropout:
            raise ValueError(
                f"model.lora.dropout = {self.model.lora.dropout}: a policy that is trained with "
                "dropout is not the one that was sampled, so their ratio is off 1; set it to 0"
            )
        if self.ahead and self.engine == "in_process":
            raise ValueError("ahead needs engine = 'vllm': the policy itself is busy learning")
        if self.ahead and self.dynamic_sampling:
            raise ValueError("dynamic_sampling cannot know ahead what it will need; turn one off")
        return self

    needs_logprobs: ClassVar[bool] = False
    """Whether a collection is scored by the policy even if it is used once."""

    @property
    def steps_per_collection(self) -> int:
        """Optimiser steps before responses are sampled anew."""
        return self.mini_batches * self.reuse


Valued = Callable[[RolloutBatch], tuple[RolloutBatch, dict[str, float]]]
"""What an algorithm makes of a scored collection: its advantages, and metrics."""


@dataclass
class Experience:
    """The collection that is learnt from, and how far it is used; a checkpoint keeps both."""

    settings: ExperienceSettings
    examples: Sequence[PromptExample]
    policy: PolicyModel
    collector: Collector
    rewards: RewardSource
    reference: Reference | None
    world: World
    scale: RunningScale = field(default_factory=RunningScale)
    batch: RolloutBatch | None = None
    used: int = 0
    """Mini-batches of the collection that have been learnt from."""
    number: int = 0
    """Collections made so far."""
    waiting: list[int] = field(default_factory=list)
    """Prompts whose responses are being sampled ahead."""

    def __post_init__(self) -> None:
        self.scale.clip = self.settings.shaping.clip
        how = self.settings
        if how.batch_size // how.mini_batches < self.world.size:
            raise ConfigError(
                f"mini_batches = {how.mini_batches}: the batch_size = {how.batch_size} prompts of "
                f"a collection, cut into so many parts, leave none for some of the "
                f"{self.world.size} processes; take fewer mini_batches or more prompts"
            )

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has been learnt since the collection's responses were sampled."""
        return self.used <= 1 and not self.settings.ahead

    def next(
        self, step: int, take: Callable[[], list[int]], valued: Valued
    ) -> tuple[RolloutBatch, dict[str, float]]:
        """The coming mini-batch; of a new collection also its metrics.

        Args:
            step: Optimiser steps done: the version of the policy's weights.
            take: Gives the numbers of the next prompts.
            valued: Gives a collection its advantages.
        """
        metrics: dict[str, float] = {}
        if self.batch is None or self.used == self.settings.steps_per_collection:
            scored, metrics = self._collected(step, take)
            self.batch, found = valued(scored)
            self.used = 0
            metrics |= found
        rows = self._mini_batch(self.batch)
        self.used += 1
        return self.batch.select(rows), metrics

    def state_dict(self) -> dict[str, Any]:
        """The collection, its use, and what is being sampled ahead."""
        ahead = self.collector.peek()
        return {
            "batch": None if self.batch is None else self.batch.state(),
            "used": self.used,
            "number": self.number,
            "waiting": list(self.waiting),
            "ahead": None if ahead is None else ahead.state(),
            "scale": self.scale.to_json(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        batch, ahead = state_dict["batch"], state_dict["ahead"]
        self.batch = None if batch is None else RolloutBatch.from_state(batch)
        self.used, self.number = state_dict["used"], state_dict["number"]
        self.waiting = list(state_dict["waiting"])
        self.collector.restore(None if ahead is None else Collected.from_state(ahead))
        self.scale = RunningScale.from_json(state_dict["scale"])

    def _mini_batch(self, batch: RolloutBatch) -> list[int]:
        """Rows of the coming mini-batch: whole groups, in another order each time round.

        The groups of all processes are cut together, so that mini-batches do not depend on how
        many there are; the order leaves each process as many of every part, or one more.
        """
        time, part = divmod(self.used, self.settings.mini_batches)
        groups = np.unique(batch.groups_B)
        size = self.world.size
        seed = seed_from(self.settings.seed, "mini_batches", self.number, time)
        order = even_order(len(groups) * size, seed)
        chosen = np.array_split(order, self.settings.mini_batches)[part]
        own = groups[chosen[chosen % size == self.world.rank] // size]
        return [int(i) for i in np.flatnonzero(np.isin(batch.groups_B, own))]

    def _collected(
        self, step: int, take: Callable[[], list[int]]
    ) -> tuple[RolloutBatch, dict[str, float]]:
        """A new collection with shaped rewards and the log-probabilities that losses need."""
        batch, metrics = self._sampled(step, take)
        for _ in range(self.settings.dynamic_sampling):
            kept = _differing(batch)
            wanted = self.settings.batch_size // self.world.size
            missing = max(0, wanted - len(np.unique(batch.groups_B[kept])))
            if not self.world.max([float(missing)])[0]:
                break
            more, found = self._sampled(step, take)
            batch, metrics = _joined(batch.select(kept), more, wanted), found
        return self._with_logprobs(batch), metrics

    def _sampled(
        self, step: int, take: Callable[[], list[int]]
    ) -> tuple[RolloutBatch, dict[str, float]]:
        numbers, collected = self._responses(step, take)
        examples = [self.examples[i] for i in numbers]
        raw = self.rewards.score(examples, collected.sampled)
        batch = RolloutBatch.collect(examples, collected, raw)
        return self._shaped(batch)

    def _responses(self, step: int, take: Callable[[], list[int]]) -> tuple[list[int], Collected]:
        """Responses to the next prompts; ahead, those to the prompts after them are begun."""
        numbers = self.waiting
        if self.collector.peek() is None:
            numbers = self._submit(step, take)
        collected = self.collector.take()
        self.waiting = self._submit(step, take) if self.collector.ahead else []
        return numbers, collected

    def _submit(self, step: int, take: Callable[[], list[int]]) -> list[int]:
        numbers = self._prompts(take)
        self.collector.update(self.policy, step)
        self.number += 1
        prompts = [self.examples[i].prompt_ids for i in numbers]
        with self.world.whole_outside_layers(self.policy):
            self.collector.submit(prompts, self.settings.samples, self._seed(prompts))
        return numbers

    def _prompts(self, take: Callable[[], list[int]]) -> list[int]:
        """Numbers of this process's next prompts. The last ones of an epoch are left out where
        they fill no collection, as some process would have none in a mini-batch."""
        numbers = take()
        wanted = self.settings.batch_size // self.world.size
        while self.world.size > 1 and self.world.max([float(wanted - len(numbers))])[0] > 0.0:
            numbers = take()
        return numbers

    def _seed(self, prompts: Sequence[Ids]) -> int:
        """Of all processes the same, so that responses do not depend on how many there are.

        But a prompt that several processes have is not to get the same responses from each.
        """
        seed = (self.settings.seed, "rollouts", self.number)
        held = [{ids.tobytes() for ids in each} for each in self.world.gather(list(prompts))]
        if len(set().union(*held)) == sum(len(each) for each in held):
            return seed_from(*seed)
        return seed_from(*seed, self.world.rank)

    def _shaped(self, batch: RolloutBatch) -> tuple[RolloutBatch, dict[str, float]]:
        """Rewards as they are learnt from, and the metrics of those that were given."""
        how = self.settings.shaping
        lengths_B = np.array([len(row.response_ids) for row in batch.rows], dtype=np.float64)
        metrics = self._described(batch, lengths_B)
        rewards_B = torch.from_numpy(batch.rewards_B).float()
        if how.scale:
            everyone = self.world.gather(rewards_B)
            self.scale.update(torch.cat(everyone))
            rewards_B = self.scale.scale(rewards_B)
        if how.missing_eos:
            ended_B = torch.from_numpy(batch.finished_B)
            rewards_B = missing_eos(rewards_B, ended_B, penalty=how.missing_eos)
        if how.overlong_cache:
            limit = self.settings.sampling.max_new_tokens
            rewards_B = rewards_B + overlong_penalty(
                torch.from_numpy(lengths_B), max_length=limit, cache=how.overlong_cache
            )
        return batch.with_row_values(shaped=rewards_B.numpy()), metrics

    def _described(self, batch: RolloutBatch, lengths_B: np.ndarray[Any, Any]) -> dict[str, float]:
        count = float(len(batch))
        sums = [
            count,
            batch.rewards_B.sum(),
            np.square(batch.rewards_B).sum(),
            lengths_B.sum(),
            batch.finished_B.sum(),
        ]
        count, total, squares, tokens, finished = self.world.sum([float(x) for x in sums])
        mean = total / count
        # The guard looks for the ensemble's disagreement by its own name.
        found = {name.removeprefix("reward/"): v for name, v in self.rewards.metrics.items()}
        known = sorted(found.items())
        others = self.world.sum([value for _, value in known])
        return {
            "reward": mean,
            "reward_std": max(0.0, squares / count - mean**2) ** 0.5,
            "response_length": tokens / count,
            "finished": finished / count,
        } | {name: value / self.world.size for (name, _), value in zip(known, others, strict=True)}

    def _with_logprobs(self, batch: RolloutBatch) -> RolloutBatch:
        """The tokens' log-probabilities under the reference, and under the policy where a later
        step of this collection will need to know what they were."""
        rows, temperature = batch.rows, self.settings.sampling.temperature
        max_tokens = self.settings.micro_batch_tokens
        how = self.settings
        if how.needs_logprobs or how.steps_per_collection > 1 or how.ahead:
            ours = row_logprobs(self.policy, rows, self.world, max_tokens, temperature)
            batch = batch.with_token_values(old_logps=_arrays(ours, batch))
        if self.reference is not None:
            theirs = self.reference.logprobs(rows, self.world, max_tokens, temperature)
            batch = batch.with_token_values(ref_logps=_arrays(theirs, batch))
        return batch


def even_order(num: int, seed: int) -> np.ndarray[Any, Any]:
    """The numbers below `num` in an order in which neighbours are spread evenly: of any W in a
    row, W a divisor of `num`, each leaves another remainder by W."""
    shift, choice = np.random.PCG64(seed).random_raw(2)
    strides = [each for each in range(1, num + 1) if gcd(each, num) == 1]
    stride = strides[int(choice) % len(strides)]
    return (np.arange(num) * stride + int(shift) % num) % num


def _arrays(rows: Sequence[torch.Tensor], batch: RolloutBatch) -> list[np.ndarray[Any, Any]]:
    return [r.numpy()[: len(row.response_ids)] for r, row in zip(rows, batch.rows, strict=True)]


def _differing(batch: RolloutBatch) -> np.ndarray[Any, Any]:
    """Rows of groups whose rewards differ."""
    kept = informative(
        torch.from_numpy(batch.row_values["shaped"]), torch.from_numpy(batch.groups_B)
    )
    return np.flatnonzero(kept.numpy())


def _joined(first: RolloutBatch, second: RolloutBatch, num_groups: int) -> RolloutBatch:
    """Both, renumbered: what differs first, then the rest until there are enough groups."""
    differing = _differing(second)
    rest = np.setdiff1d(np.arange(len(second)), differing)
    whole = concatenated([first, second.select(differing), second.select(rest)])
    kept = whole.groups_B < num_groups
    return whole.select(np.flatnonzero(kept))


def concatenated(batches: Sequence[RolloutBatch]) -> RolloutBatch:
    """Batches as one, their groups numbered on from one another, from 0."""
    groups: list[np.ndarray[Any, Any]] = []
    start = 0
    for batch in batches:
        own = np.unique(batch.groups_B, return_inverse=True)[1]
        groups.append(own + start)
        start += int(own.max(initial=-1)) + 1
    there = [batch for batch in batches if len(batch)]
    return RolloutBatch(
        rows=tuple(row for batch in there for row in batch.rows),
        rewards_B=np.concatenate([batch.rewards_B for batch in batches]),
        groups_B=np.concatenate(groups),
        finished_B=np.concatenate([batch.finished_B for batch in batches]),
        roles=tuple(role for batch in there for role in batch.roles),
        version=min(batch.version for batch in there),
        row_values={
            name: np.concatenate([batch.row_values[name] for batch in there])
            for name in there[0].row_values
        },
    )


@contextmanager
def open_sampler(
    settings: ExperienceSettings, policy: PolicyModel, tokenizer: Any, world: World
) -> Iterator[Sampler]:
    """Who answers prompts, closed at the end.

    Raises:
        ConfigError: vLLM is asked for in a run of several processes.
    """
    if settings.engine == "in_process":
        eos = None if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        yield _sharded(policy, settings, eos, world)
        return
    if world.size > 1:
        raise ConfigError(
            "engine = 'vllm' serves a run of one process; under torchrun sample in_process"
        )
    from oversight.engines import vllm
    from oversight.train.rollouts.from_server import ServerSampler, serving
    from oversight.train.rollouts.handover import FolderHandover

    with ExitStack() as opened:
        place = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="oversight-")))
        initial = place / "initial"
        initial.mkdir()
        policy.inner.save_pretrained(initial)
        tokenizer.save_pretrained(initial)
        config = vllm.Config.parse(
            {"model": str(initial), **settings.engine_settings}, where="engine_settings"
        )
        servers = opened.enter_context(serving(config))
        yield ServerSampler(servers, settings.sampling, FolderHandover(place / "weights"))


def _sharded(
    policy: PolicyModel, settings: ExperienceSettings, eos: list[int] | None, world: World
) -> InProcessSampler:
    if world.size == 1:
        return InProcessSampler(policy, settings.sampling, eos)
    return InProcessSampler(
        policy,
        settings.sampling,
        eos,
        goes_on=lambda own: world.max([float(own)])[0] > 0.0,
    )
