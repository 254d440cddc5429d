"""Any engine as a sampler: the prompt's ids are the engine's own, and so are the responses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oversight.errors import ConfigError, DataError
from oversight.modeling.rows import Ids
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train.rollouts.ahead import Collected, Collector
from oversight.train.rollouts.from_engine import EngineSampler
from oversight.train.rollouts.in_process import InProcessSampler
from oversight.train.rollouts.types import Sampled, Sampler, SamplingSettings
from oversight.types import EngineSpec, Message, Prompt

SETTINGS = SamplingSettings(max_new_tokens=9, temperature=1.2)
PROMPTS = [
    Prompt(messages=(Message(role="user", parts=(text,)),))
    for text in ("Where is the key?", "Which answer is right?")
]


@pytest.fixture
def policy(chat_model: Path) -> PolicyModel:
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return PolicyModel(AutoModelForCausalLM.from_pretrained(chat_model, dtype="float32").eval())


@pytest.fixture
def sampler(chat_model: Path, tmp_path: Path) -> Iterator[EngineSampler]:
    settings = {"model": str(chat_model), "device": "cpu", "num_threads": 1}
    spec = EngineSpec(engine="transformers", settings=settings)
    made = EngineSampler(spec, SETTINGS, folder=tmp_path / "weights")
    yield made
    made.close()


def furthest(policy: PolicyModel, prompts: list[Ids], groups: Any) -> float:
    rows = [each.row(ids) for ids, group in zip(prompts, groups, strict=True) for each in group]
    with torch.no_grad():
        scores = policy(RowBatch.build(rows), SETTINGS.temperature)
    pairs = zip(rows, scores.logps_BR.numpy(), strict=True)
    return max(
        float(np.abs(row.logprobs - logps[: len(row.logprobs)]).max()) for row, logps in pairs
    )


def change(policy: PolicyModel) -> None:
    with torch.no_grad():
        policy.inner.lm_head.weight.mul_(-0.5)


def test_prompts_are_the_ids_that_the_engine_reads(
    sampler: EngineSampler, policy: PolicyModel, chat_model: Path
) -> None:
    from transformers import AutoTokenizer

    assert isinstance(sampler, Sampler)
    ids = sampler.read(PROMPTS)
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    for each, prompt in zip(ids, PROMPTS, strict=True):
        rendered = tokenizer.apply_chat_template(
            prompt.chat(), add_generation_prompt=True, return_dict=False
        )
        assert each.tolist() == rendered
    groups = sampler.sample(ids, 3, seed=0)
    assert furthest(policy, ids, groups) < 1e-4
    again = sampler.sample(ids[1:], 3, seed=0)
    assert [s.token_ids.tolist() for s in again[0]] == [s.token_ids.tolist() for s in groups[1]]
    assert len({tuple(each.token_ids) for group in groups for each in group}) == 6
    for each in (each for group in groups for each in group):
        assert each.finished == (each.token_ids[-1] == tokenizer.eos_token_id)


def test_ids_that_are_not_known_or_read_otherwise_are_refused(sampler: EngineSampler) -> None:
    (ids, _) = sampler.read(PROMPTS)
    with pytest.raises(DataError, match=r"prompts\[0\]: an engine takes messages"):
        sampler.sample([ids[1:]], 1, seed=0)
    sampler.know(ids[1:], PROMPTS[0])
    with pytest.raises(DataError, match="read the prompt as"):
        sampler.sample([ids[1:]], 1, seed=0)


def test_an_engine_is_opened_anew_on_new_weights(
    sampler: EngineSampler, policy: PolicyModel, tmp_path: Path
) -> None:
    ids = sampler.read(PROMPTS)
    for step in (1, 2):
        change(policy)
        sampler.update(policy, step)
        assert sampler.version == step
        assert furthest(policy, ids, sampler.sample(ids, 2, seed=step)) < 1e-4
    assert [place.name for place in (tmp_path / "weights").iterdir()] == ["step-2"]


def test_the_next_batch_is_sampled_with_the_last_weights(
    sampler: EngineSampler, policy: PolicyModel
) -> None:
    import copy

    ids = sampler.read(PROMPTS)
    newer = PolicyModel(copy.deepcopy(policy.inner))
    change(newer)
    collector = Collector(sampler, ahead=True)
    collector.submit(ids, 2, seed=0)
    with pytest.raises(RuntimeError, match="take it first"):
        collector.submit(ids, 2, seed=0)
    collector.update(newer, 1)
    first = collector.take()
    collector.submit(ids, 2, seed=1)
    assert first.version == 0
    assert furthest(policy, ids, first.sampled) < 1e-4
    second = collector.peek()
    assert second is not None
    assert second.version == 1
    assert furthest(newer, ids, second.sampled) < 1e-4
    collector.restore(Collected.from_state(second.state()))
    assert same(collector.take(), second)


def same(one: Collected, other: Collected) -> bool:
    flat = [[each for group in c.sampled for each in group] for c in (one, other)]
    return (
        one.version == other.version
        and [len(group) for group in one.sampled] == [len(group) for group in other.sampled]
        and all(np.array_equal(a, b) for a, b in zip(one.prompts, other.prompts, strict=True))
        and all(equal(a, b) for a, b in zip(*flat, strict=True))
    )


def equal(one: Sampled, other: Sampled) -> bool:
    return (
        np.array_equal(one.token_ids, other.token_ids)
        and one.logprobs.tobytes() == other.logprobs.tobytes()
        and one.finished == other.finished
    )


def test_on_policy_a_batch_is_of_the_weights_at_its_submission(policy: PolicyModel) -> None:
    collector = Collector(InProcessSampler(policy, SETTINGS))
    ids = [np.arange(10, 20), np.arange(5, 12)]
    collector.submit(ids, 2, seed=0)
    assert furthest(policy, ids, collector.take().sampled) < 1e-4
    with pytest.raises(RuntimeError, match="no batch was submitted"):
        collector.take()
    change(policy)
    collector.update(policy, 1)
    collector.submit(ids, 2, seed=0)
    collected = collector.take()
    assert collected.version == 1
    assert furthest(policy, ids, collected.sampled) < 1e-4
    collector.close()


def test_live_weights_cannot_be_sampled_from_ahead(policy: PolicyModel) -> None:
    with pytest.raises(ConfigError, match="need weights of their own"):
        Collector(InProcessSampler(policy, SETTINGS), ahead=True)


def test_engines_without_exact_log_probabilities_are_refused() -> None:
    openai = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "logprobs": False}
    with pytest.raises(ConfigError, match="gives no log-probabilities"):
        EngineSampler(EngineSpec(engine="openai", settings=openai), SETTINGS)
    raw = {"model": "org/model", "logprobs_mode": "raw_logprobs"}
    with pytest.raises(ConfigError, match="processed_logprobs"):
        EngineSampler(EngineSpec(engine="vllm", settings=raw), SETTINGS)
