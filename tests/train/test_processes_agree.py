"""Several processes make the same of a collection, or of a step's pairs, as one process does.

The processes are threads of this one, each with a policy of its own with equal weights.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel
from oversight.train import grpo
from oversight.train.data.examples import EpochOrder
from oversight.train.distributed import World
from oversight.train.dpo import _of_all
from oversight.train.experience import Experience
from oversight.train.loading import load_policy, load_scalar, read_config
from oversight.train.losses.metrics import Mean
from oversight.train.losses.pairs import PairLogps
from oversight.train.losses.preference_extended import aot, aot_unpaired
from oversight.train.rollouts.buffer import RolloutBatch
from oversight.train.rollouts.in_process import InProcessSampler
from oversight.train.rollouts.types import Collector
from oversight.train.runs.shards import pack, unpack
from oversight.train.runs.state import Part
from oversight.train.session import DataPosition
from oversight.train.settings import ModelSettings
from oversight.train.types import PromptExample
from oversight.train.unpaired import mismatched

T = TypeVar("T")
ALONE = World(0, 1, torch.device("cpu"))


class Exchange:
    """A place for threads to leave items in, so that each can gather those of all."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.held: list[Any] = [None] * size


@dataclass(frozen=True)
class Threads(World):
    """One of several threads that stand for processes."""

    exchange: Exchange

    def gather(self, item: T) -> list[T]:
        self.exchange.held[self.rank] = item
        self.exchange.barrier.wait()
        found = list(self.exchange.held)
        self.exchange.barrier.wait()
        return found

    @contextmanager
    def whole_outside_layers(self, model: Any) -> Iterator[None]:
        yield  # nothing is split

    def _reduced(self, values: Sequence[float], how: Any) -> list[float]:
        largest = how == torch.distributed.ReduceOp.MAX
        found = zip(*self.gather(list(values)), strict=True)
        return [max(each) if largest else sum(each) for each in found]


def together(size: int, work: Callable[[World], T]) -> list[T]:
    """The results of `work` in each of `size` processes."""
    if size == 1:
        return [work(ALONE)]
    exchange = Exchange(size)
    worlds = [Threads(rank, size, ALONE.device, exchange) for rank in range(size)]

    def one(world: World) -> T:
        try:
            return work(world)
        except BaseException:
            exchange.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return [future.result() for future in [pool.submit(one, world) for world in worlds]]


class Odd:
    """Rewards that depend on the response alone; those of many groups are all the same."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def score(self, examples: Sequence[Any], sampled: Sequence[Sequence[Any]]) -> list[list[float]]:
        found = [[float(each.token_ids[0] % 3 == 0) for each in group] for group in sampled]
        said = [float(each.token_ids.sum()) for group in sampled for each in group]
        self.metrics = {"reward/disagreement": float(np.mean(said))}
        return found


def settings(out: Path, **changes: Any) -> grpo.Config:
    given: dict[str, Any] = {
        "out": str(out),
        "model": {"path": "not read", "device": "cpu"},
        "data": {},
        "reward": {"source": "length"},
        "batch_size": 4,
        "samples": 3,
        # Fewer than a process's responses, so that it decodes in several parts.
        "sampling": {"max_new_tokens": 5, "rows_at_once": 4},
        "mini_batches": 2,
        "reuse": 2,
        "micro_batch_tokens": 40,
        "shaping": {"scale": True},
    }
    return grpo.Config.parse(given | changes)


def collections(
    config: grpo.Config, prompts: Sequence[Sequence[int]], make: Callable[[], Any], steps: int
) -> Callable[[World], list[tuple[RolloutBatch, RolloutBatch, dict[str, float]]]]:
    """A run's steps: the whole collection, the process's part of the mini-batch, and metrics."""
    examples = [PromptExample(f"p{i}", np.array(ids)) for i, ids in enumerate(prompts)]

    def opened(world: World) -> tuple[Experience, DataPosition, grpo.GroupAdvantages]:
        policy = PolicyModel(make())
        sampler = InProcessSampler(
            policy, config.sampling, {1}, lambda own: world.max([float(own)])[0] > 0
        )
        experience = Experience(config, examples, policy, Collector(sampler), Odd(), None, world)
        return (
            experience,
            DataPosition(EpochOrder(len(examples), config.seed)),
            grpo.GroupAdvantages(config),
        )

    def work(world: World) -> list[tuple[RolloutBatch, RolloutBatch, dict[str, float]]]:
        parts = opened(world)
        seen = []
        for step in range(steps):
            if step == steps // 2 + 1:  # go on from a checkpoint, in the middle of a collection
                saved: tuple[Part, ...] = parts
                parts = opened(world)
                fresh: tuple[Part, ...] = parts
                for part, again in zip(saved, fresh, strict=True):
                    again.load_state_dict(unpack(*pack(part.state_dict())))
            experience, visits, valuing = parts
            take = partial(visits.take, config.batch_size)
            own, metrics = experience.next(step, take, valuing)
            assert experience.batch is not None
            seen.append((experience.batch, own, metrics))
        return seen

    return work


def same_rows(one: RolloutBatch, other: RolloutBatch) -> None:
    assert [row.id for row in one.rows] == [row.id for row in other.rows]
    for a, b in zip(one.rows, other.rows, strict=True):
        assert a.response_ids.tolist() == b.response_ids.tolist()
    assert one.groups_B.tolist() == other.groups_B.tolist()
    assert one.rewards_B.tolist() == other.rewards_B.tolist()
    for name, values_B in one.row_values.items():
        np.testing.assert_allclose(other.row_values[name], values_B, rtol=1e-4, atol=1e-5)
    for name, arrays in one.token_values.items():
        for ours, theirs in zip(arrays, other.token_values[name], strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)


RUNS: dict[str, dict[str, Any]] = {
    "group": {},
    "batch": {"scale": "batch"},
    "whitened": {"advantage": "reinforce_plus_plus"},
    "running mean": {"advantage": "role_baseline"},
    "dynamic": {"dynamic_sampling": 3},
}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", RUNS)
def test_collections_do_not_depend_on_how_many_processes_there_are(
    name: str, size: int, tmp_path: Path, random_lm: Callable[..., Any]
) -> None:
    # Seven prompts in collections of four: the second of each epoch has three, one of them a
    # prompt that comes twice; with three processes its mini-batches have fewer than those.
    config = settings(tmp_path, **RUNS[name])
    prompts = [[5, 6, 7 + i, *range(10, 10 + i)] for i in range(6)]
    prompts.append(prompts[2])
    lock = threading.Lock()

    def make() -> Any:
        with lock:  # weights are drawn from the one global stream
            return random_lm("llama")

    work = collections(config, prompts, make, steps=14)
    [alone] = together(1, work)
    several = together(size, work)
    if name != "dynamic":
        assert {len(np.unique(whole.groups_B)) for whole, _, _ in alone} == {3, 4}
    for place, (whole, mini_batch, metrics) in enumerate(alone):
        parts = [each[place] for each in several]
        for theirs, _, found in parts:
            same_rows(whole, theirs)
            assert found == pytest.approx(metrics, rel=1e-4)
        ids = [[row.id + str(row.response_ids) for row in part.rows] for _, part, _ in parts]
        wanted = [row.id + str(row.response_ids) for row in mini_batch.rows]
        if len(np.unique(mini_batch.groups_B)) < size:
            assert all(each == wanted for each in ids)
        else:
            assert all(ids)
            assert sorted(chain.from_iterable(ids)) == sorted(wanted)


def pairs_of(chosen_B: torch.Tensor, rejected_B: torch.Tensor, places: Sequence[int]) -> PairLogps:
    index = torch.tensor(places)
    # Only where a pair counts for nothing are there weights at all.
    weight_B = (index != 3).float() if 3 in places else None
    return PairLogps(
        chosen_B[index],
        rejected_B[index],
        ref_chosen_B=torch.linspace(-9, -4, 7)[index],
        ref_rejected_B=torch.linspace(-5, -8, 7)[index],
        weight_B=weight_B,
    )


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("number", [7, 2, 1])
@pytest.mark.parametrize("loss", [aot.loss, aot_unpaired.loss])
def test_pairs_are_sorted_among_those_of_all_processes(loss: Any, number: int, size: int) -> None:
    torch.manual_seed(0)
    values = (-8 * torch.rand(2, 7)).tolist()

    def work(world: World) -> tuple[float, list[torch.Tensor], dict[str, tuple[float, float]]]:
        given = [torch.tensor(each, requires_grad=True) for each in values]
        places = world.share(range(number))
        [normalizer] = world.sum([float(len(places))])
        own = pairs_of(given[0], given[1], places)
        total, metrics = _of_all(loss, world, own, normalizer=normalizer)
        total.backward()  # type: ignore[no-untyped-call]
        means = {
            name: (float(mean.total), float(mean.count))
            for name, mean in metrics.items()
            if isinstance(mean, Mean)
        }
        return float(total.detach()), [each.grad for each in given if each.grad is not None], means

    [(value, gradients, metrics)] = together(1, work)
    found = together(size, work)
    assert sum(each for each, _, _ in found) == pytest.approx(value, rel=1e-4)
    for place, gradient in enumerate(gradients):
        assert gradient.abs().sum() > 0
        total = sum(theirs[place] for _, theirs, _ in found)
        torch.testing.assert_close(total, gradient, rtol=1e-4, atol=1e-6)
    for name, (top, count) in metrics.items():
        tops, counts = zip(*(theirs[name] for _, _, theirs in found), strict=True)
        assert sum(tops) / sum(counts) == pytest.approx(top / count, rel=1e-4), name


def test_sorting_within_each_process_would_be_another_loss() -> None:
    torch.manual_seed(0)
    chosen_B, rejected_B = -8 * torch.rand(2, 7)
    whole = aot.loss(pairs_of(chosen_B, rejected_B, range(7)), normalizer=7)[0]
    parts = [
        aot.loss(pairs_of(chosen_B, rejected_B, range(7)[rank::2]), normalizer=7)[0]
        for rank in range(2)
    ]
    assert abs(float(sum(parts)) - float(whole)) > 1e-3


def test_a_mismatched_response_is_cut_to_the_models_positions() -> None:
    rows = [
        TokenRow(np.arange(prompt), np.arange(100, 100 + response))
        for prompt, response in ((2, 8), (9, 1), (4, 3))
    ]
    found = mismatched(rows, 10)
    assert [len(row.prompt_ids) for row in found] == [2, 9, 4]
    assert [row.response_ids.tolist() for row in found] == [[100], [100], [*range(100, 106)]]
    assert [row.num_tokens for row in found] == [3, 10, 10]


def test_what_is_computed_together_comes_in_order_to_all() -> None:
    for number in (1, 2, 3, 7):
        asked: list[int] = []

        def doubled(own: list[int], asked: list[int] = asked) -> list[int]:
            asked.extend(own)
            return [2 * each for each in own]

        found = together(3, partial(World.together, items=range(number), compute=doubled))
        assert found == [[2 * i for i in range(number)]] * 3
        assert len(asked) == (number if number >= 3 else 3 * number)


@pytest.mark.parametrize("load", [load_policy, load_scalar])
def test_adapters_begin_as_the_seed_says(load: Any, chat_model: Path) -> None:
    settings = ModelSettings.parse({"path": str(chat_model), "device": "cpu", "lora": {"rank": 4}})

    def begun(seed: int, drawn_before: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(drawn_before)
        config, _ = read_config(settings, ())
        weights = load(settings, config, seed).state_dict()
        assert torch.initial_seed() == drawn_before
        return {name: weight for name, weight in weights.items() if "lora_A" in name}

    first, same, other = begun(0, 1), begun(0, 2), begun(1, 1)
    assert first
    assert all(torch.equal(weight, same[name]) for name, weight in first.items())
    assert not any(torch.equal(weight, other[name]) for name, weight in first.items())
