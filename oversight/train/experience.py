"""Experience of PPO and GRPO: responses sampled, scored, and kept while they are reused.

One collection at a time: prompts are taken in the data's order, a sampler
answers them, a source of reward scores the answers, rewards are shaped, and the
reference and the policy score the tokens. A collection is then cut into
mini-batches and gone through as often as asked for; a run that is killed in
between goes on with the very numbers.

Processes share the work of sampling and scoring, and then each of them holds
the whole collection, so that nothing that is made of it depends on how many
there are: groups that are kept, advantages, mini-batches.

Shapes: B responses, R response tokens.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oversight.errors import ConfigError
from oversight.ids import seed_from
from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel
from oversight.train.batches import row_logprobs
from oversight.train.data.loading import load_prompts
from oversight.train.distributed import World, num_processes
from oversight.train.experience_settings import ExperienceSettings
from oversight.train.losses.advantages import (
    RunningScale,
    informative,
    missing_eos,
    overlong_penalty,
)
from oversight.train.plan import AuxiliaryModel, Plan, begin_alone
from oversight.train.reference import Reference
from oversight.train.rollouts.buffer import RolloutBatch
from oversight.train.rollouts.in_process import InProcessSampler, check_sampling_kind
from oversight.train.rollouts.reward_models import read_reward_config
from oversight.train.rollouts.rewards import check_rewards, tried_rewards
from oversight.train.rollouts.types import CollectedBatch, Collector, RewardSource, Sampler
from oversight.train.start import TrainingStart
from oversight.train.types import PromptExample

PROMPT_CHARS = 2_000
"""Characters at the end of a prompt that are kept beside its responses."""

Valued = Callable[[RolloutBatch], tuple[RolloutBatch, dict[str, float]]]
"""Result of an algorithm's advantage estimation: the collection with advantages, and metrics."""


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
    tokenizer: Any = None
    """Of the texts of `samples`; None keeps none."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """Responses of a collection made in the last `next`, for people to read; none of an old one."""

    def __post_init__(self) -> None:
        self.scale.clip = self.settings.shaping.clip

    @property
    def is_fresh(self) -> bool:
        """True while nothing has been learnt since the collection's responses were sampled."""
        return self.used <= 1 and not self.settings.ahead

    def next(
        self, step: int, take: Callable[[], list[int]], valued: Valued
    ) -> tuple[RolloutBatch, dict[str, float]]:
        """This process's part of the coming mini-batch; of a new collection also its metrics.

        Args:
            step: Optimiser steps done: the version of the policy's weights.
            take: Gives the numbers of the next prompts, of all processes.
            valued: Gives a collection its advantages.
        """
        metrics: dict[str, float] = {}
        self.samples = []
        if self.batch is None or self.used == self.settings.steps_per_collection:
            scored, metrics = self._collected(step, take)
            self.batch, found = valued(scored)
            self.used = 0
            metrics |= found
            self.samples = list(self._told(self.batch))
        rows = self._mini_batch(self.batch)
        self.used += 1
        return self.batch.select(rows), metrics

    def _told(self, batch: RolloutBatch) -> Iterator[dict[str, Any]]:
        """The best and the worst response to some of the prompts, the best first."""
        groups = np.unique(batch.groups_B)
        order = even_order(len(groups), seed_from(self.settings.seed, "samples", self.number))
        kept = self.settings.samples_kept if self.tokenizer is not None else 0
        for group in groups[order[:kept]]:
            rows = np.flatnonzero(batch.groups_B == group)
            by_reward = rows[np.argsort(-batch.rewards_B[rows], kind="stable")]
            for place in dict.fromkeys((int(by_reward[0]), int(by_reward[-1]))):
                row = batch.rows[place]
                prompt = self._text(row.prompt_ids)
                yield {
                    "collection": self.number,
                    "id": row.id.rpartition("#")[0] or row.id,
                    "prompt": prompt
                    if len(prompt) <= PROMPT_CHARS
                    else "…" + prompt[-PROMPT_CHARS:],
                    "response": self._text(row.response_ids),
                    "reward": float(batch.rewards_B[place]),
                    "tokens": len(row.response_ids),
                    "finished": bool(batch.finished_B[place]),
                }

    def _text(self, ids: Any) -> str:
        return str(self.tokenizer.decode(np.asarray(ids).tolist(), skip_special_tokens=True))

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
        self.collector.restore(None if ahead is None else CollectedBatch.from_state(ahead))
        self.scale = RunningScale.from_json(state_dict["scale"])

    def _mini_batch(self, batch: RolloutBatch) -> list[int]:
        """This process's rows of it: whole groups, in another order each time round."""
        time, part = divmod(self.used, self.settings.mini_batches)
        groups = np.unique(batch.groups_B)
        seed = seed_from(self.settings.seed, "mini_batches", self.number, time)
        order = even_order(len(groups), seed)
        chosen = np.array_split(order, self.settings.mini_batches)[part]
        own = self.world.share(groups[chosen].tolist())
        return [int(i) for i in np.flatnonzero(np.isin(batch.groups_B, own))]

    def _collected(
        self, step: int, take: Callable[[], list[int]]
    ) -> tuple[RolloutBatch, dict[str, float]]:
        """A new collection with shaped rewards and the log-probabilities that losses need."""
        batch, metrics = self._sampled(step, take)
        for _ in range(self.settings.dynamic_sampling):
            kept, wanted = _differing(batch), self.settings.batch_size
            if len(np.unique(batch.groups_B[kept])) >= wanted:
                break
            more, found = self._sampled(step, take)
            batch, metrics = _joined(batch.select(kept), more, wanted), found
        return self._with_logprobs(batch), metrics

    def _sampled(
        self, step: int, take: Callable[[], list[int]]
    ) -> tuple[RolloutBatch, dict[str, float]]:
        numbers, collected = self._responses(step, take)
        batch, told = self._scored([self.examples[i] for i in numbers], collected)
        batch, metrics = self._shaped(batch)
        return batch, metrics | told

    def _scored(
        self, examples: Sequence[PromptExample], collected: CollectedBatch
    ) -> tuple[RolloutBatch, dict[str, float]]:
        """The collection of all processes, each of which scores what it has sampled; also the
        metrics of the source of reward, over all responses."""
        own = self._own(examples)
        sampled = collected.sampled[: len(own)]  # what is behind it was sampled to be in step
        rewards = self.rewards.score([examples[i] for i in own], sampled)
        # The guard looks for the ensemble's disagreement by its own name.
        told = {name.removeprefix("reward/"): v for name, v in self.rewards.metrics.items()}
        count = sum(map(len, sampled))
        parts = self.world.gather((list(zip(own, sampled, rewards, strict=True)), told, count))
        found = {place: (group, given) for part, _, _ in parts for place, group, given in part}
        groups, given = zip(*(found[place] for place in range(len(examples))), strict=True)
        prompts = tuple(example.prompt_ids for example in examples)
        whole = CollectedBatch(prompts, tuple(groups), collected.version)
        weights = [num for _, _, num in parts]
        means = {
            name: float(np.average([each[name] for _, each, _ in parts], weights=weights))
            for name in told
        }
        return RolloutBatch.collect(examples, whole, given), means

    def _responses(
        self, step: int, take: Callable[[], list[int]]
    ) -> tuple[list[int], CollectedBatch]:
        """The next prompts, and responses to this process's part of them; ahead, those to the
        prompts after them are begun."""
        numbers = self.waiting
        if self.collector.peek() is None:
            numbers = self._submit(step, take)
        collected = self.collector.take()
        self.waiting = self._submit(step, take) if self.collector.ahead else []
        return numbers, collected

    def _submit(self, step: int, take: Callable[[], list[int]]) -> list[int]:
        numbers = take()
        self.collector.update(self.policy, step)
        self.number += 1
        examples = [self.examples[i] for i in numbers]
        # Layers that are split take all processes: each samples as many responses.
        prompts = self.world.padded([examples[i].prompt_ids for i in self._own(examples)])
        seed = seed_from(self.settings.seed, "rollouts", self.number)
        with self.world.whole_outside_layers(self.policy):
            self.collector.submit(prompts, self.settings.samples, seed)
        return numbers

    def _own(self, examples: Sequence[PromptExample]) -> list[int]:
        """Places of the prompts that this process samples. Equal ones go to one process: what is
        drawn for a prompt depends on how often it was asked before."""
        alike: dict[bytes, list[int]] = {}
        for place, example in enumerate(examples):
            alike.setdefault(example.prompt_ids.tobytes(), []).append(place)
        return sorted(place for each in self.world.share(list(alike.values())) for place in each)

    def _shaped(self, batch: RolloutBatch) -> tuple[RolloutBatch, dict[str, float]]:
        """Rewards as they are learnt from, and the metrics of those that were given."""
        how = self.settings.shaping
        lengths_B = np.array([len(row.response_ids) for row in batch.rows], dtype=np.float64)
        metrics = self._described(batch, lengths_B)
        rewards_B = torch.from_numpy(batch.rewards_B).float()
        if how.scale:
            self.scale.update(rewards_B)
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
        count, total, squares, tokens, finished = (float(x) for x in sums)
        mean = total / count
        return {
            "reward": mean,
            "reward_std": max(0.0, squares / count - mean**2) ** 0.5,
            "response_length": tokens / count,
            "finished": finished / count,
        }

    def _with_logprobs(self, batch: RolloutBatch) -> RolloutBatch:
        """The tokens' log-probabilities under the reference, and under the policy where a later
        step of this collection will need to know what they were."""
        how, reference = self.settings, self.reference
        given = (self.world, how.micro_batch_tokens, how.sampling.temperature)
        if how.needs_logprobs or how.steps_per_collection > 1 or how.ahead:
            ours = self.by_row(batch, lambda rows: row_logprobs(self.policy, rows, *given))
            batch = batch.with_token_values(old_logps=[each.numpy() for each in ours])
        if reference is not None:
            theirs = self.by_row(batch, lambda rows: reference.logprobs(rows, *given))
            batch = batch.with_token_values(ref_logps=[each.numpy() for each in theirs])
        return batch

    def by_row(
        self, batch: RolloutBatch, score: Callable[[list[TokenRow]], list[torch.Tensor]]
    ) -> list[torch.Tensor]:
        """Return `score` of each row of a collection, one tensor [R] a row.

        Args:
            batch: The collection, which all processes hold.
            score: Gives a number for each response token of rows; it is asked by each process
                for its part of the groups, as rows of a group share their prompt's computation.
        """
        groups = [np.flatnonzero(batch.groups_B == each) for each in np.unique(batch.groups_B)]

        def part(own: list[np.ndarray[Any, Any]]) -> list[list[torch.Tensor]]:
            scored = iter(score([batch.rows[i] for group in own for i in group]))
            return [[next(scored) for _ in group] for group in own]

        found = self.world.together(groups, part)
        placed = {
            int(place): values
            for group, each in zip(groups, found, strict=True)
            for place, values in zip(group, each, strict=True)
        }
        return [placed[i][: len(row.response_ids)] for i, row in enumerate(batch.rows)]


def even_order(num: int, seed: int) -> np.ndarray[Any, Any]:
    """The numbers below `num` in an order in which neighbours are spread evenly: of any W in a
    row, W a divisor of `num`, each leaves another remainder by W."""
    shift, choice = np.random.PCG64(seed).random_raw(2)
    strides = [each for each in range(1, num + 1) if gcd(each, num) == 1]
    stride = strides[int(choice) % len(strides)]
    return (np.arange(num) * stride + int(shift) % num) % num


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


def check_experience(
    settings: ExperienceSettings,
    start: TrainingStart,
    examples: Sequence[PromptExample],
    *,
    rewards: bool = True,
    engine: bool = True,
) -> None:
    """Refuse a source of reward, or an engine, that cannot be used; reads no weight.

    Args:
        settings: Of the run.
        start: Facts about it that are known at the start.
        examples: The prompts.
        rewards: Whether rewards come from the source that the settings name.
        engine: Whether responses come from the engine that they name.

    Raises:
        ConfigError: It names the setting.
        DataError: An example lacks what the source of reward needs.
    """
    if rewards:
        check_rewards(settings.reward, start.tokenizer, examples)
        for place, folder in settings.reward.models_named():
            known = read_reward_config(folder, start.tokenizer).get_text_config().vocab_size
            if known < start.vocabulary.size:
                raise ConfigError(
                    f"{place} = {folder!r}: it has embeddings of {known} ids, and the policy "
                    f"may sample {start.vocabulary.size}; take a reward model of the same size, "
                    "such as one that was trained from this policy"
                )
    if engine and settings.engine == "vllm":
        if start.world.size > 1 or num_processes() > 1:
            raise ConfigError(
                "engine = 'vllm' serves a run of one process; under torchrun sample in_process"
            )
        if settings.weight_sync == "nccl" and start.world.device.type != "cuda":
            raise ConfigError(
                f"weight_sync = 'nccl' transfers weights from GPU to GPU, and the policy is on "
                f"{str(start.world.device)!r}: take weight_sync = 'folder', or a GPU with CUDA"
            )
        _vllm_settings(settings, ".")


def plan_experience(trainer: str, config: ExperienceSettings) -> Plan:
    """Return the plan of a run that samples responses to prompts and has them scored."""
    start = begin_alone(config)
    room = config.sampling.max_new_tokens
    loaded = start.load(load_prompts, config.data, config.batch_size, room=room)
    check_experience(config, start, loaded.examples)
    found = Plan(trainer, config, start, loaded)
    if config.engine == "in_process":
        check_sampling_kind(start.config)
    found.tried.extend(tried_rewards(config.reward, start.tokenizer, loaded.examples))
    for place, folder in config.reward.models_named():
        known = read_reward_config(folder, start.tokenizer)
        where = f"{place} = {folder!r}"
        found.held.append(AuxiliaryModel("reward model", "scalar", known, folder, where))
    found.checked.append("reward")
    return found


def _vllm_settings(settings: ExperienceSettings, model: str) -> Any:
    """Settings of the engine that serves `model`.

    Raises:
        ConfigError: They are none of that engine, or there is no vLLM.
    """
    from oversight.engines.vllm.settings import Config, find_interpreter

    given = {"model": model, **settings.engine_settings}
    config = Config.parse(given, where="engine_settings")
    if settings.weight_sync == "nccl":
        from oversight.train.rollouts.weight_sync import served_for_nccl

        config = served_for_nccl(config)
    find_interpreter(config.python)
    return config


@contextmanager
def open_sampler(
    settings: ExperienceSettings, policy: PolicyModel, tokenizer: Any, world: World
) -> Iterator[Sampler]:
    """Open the sampler of responses, tried by `check_experience`; it is closed at the end."""
    if settings.engine == "in_process":
        eos = None if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        yield _sharded(policy, settings, eos, world)
        return
    from oversight.train.rollouts.server import ServerSampler, serving
    from oversight.train.rollouts.weight_sync import FolderSync, NcclSync, WeightSync, workers_of

    with ExitStack() as opened:
        place = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="oversight-")))
        initial = place / "initial"
        initial.mkdir()
        policy.inner.save_pretrained(initial)
        tokenizer.save_pretrained(initial)
        config = _vllm_settings(settings, str(initial))
        weight_sync: WeightSync = FolderSync(place / "weights")
        if settings.weight_sync == "nccl":
            weight_sync = NcclSync(workers_of(config))
        servers = opened.enter_context(serving(config))
        yield ServerSampler(servers, settings.sampling, weight_sync)


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
