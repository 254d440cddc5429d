"""New weights on a real vLLM server: they arrive, it is proved, and nothing of the old is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oversight.engines import vllm
from oversight.errors import EngineError
from oversight.modeling import Ids
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train.experience_settings import SamplingSettings
from oversight.train.rollouts.server import Servers, ServerSampler, serving
from oversight.train.rollouts.types import Collector, SampledResponse, Sampler
from oversight.train.rollouts.weight_sync import FolderSync, check_weights

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

SETTINGS = SamplingSettings(max_new_tokens=24, temperature=0.7)
PROMPTS = [np.arange(10, 90), np.arange(200, 233), np.arange(10, 80)]


@pytest.fixture(scope="module")
def servers(chat_model: Path, vllm_python: str) -> Iterator[Servers]:
    config = vllm.Config(
        model=str(chat_model),
        python=vllm_python,
        dtype="float32",
        block_size=32,
        kv_cache_gib=0.25,
        max_model_len=512,
        extra_args=("--enforce-eager",),
    )
    with serving(config) as servers:
        yield servers


@pytest.fixture
def policy(chat_model: Path) -> PolicyModel:
    return PolicyModel(load(chat_model))


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


def change(policy: PolicyModel, seed: int) -> None:
    """Other weights, in every matrix."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in policy.inner.parameters():
            weight.add_(0.05 * torch.randn_like(weight))


def furthest(policy: PolicyModel, prompts: list[Ids], groups: list[list[SampledResponse]]) -> float:
    rows = [each.row(ids) for ids, group in zip(prompts, groups, strict=True) for each in group]
    with torch.no_grad():
        scores = policy(RowBatch.build(rows), SETTINGS.temperature)
    pairs = zip(rows, scores.logps_BR.numpy(), strict=True)
    return max(
        float(np.abs(row.logprobs - logps[: len(row.logprobs)]).max()) for row, logps in pairs
    )


def test_weights_arrive_by_a_folder_step_after_step(
    servers: Servers, policy: PolicyModel, tmp_path: Path
) -> None:
    sampler = ServerSampler(servers, SETTINGS, FolderSync(tmp_path / "handed"))
    assert isinstance(sampler, Sampler)
    for step in (1, 2):
        change(policy, seed=step)
        sampler.update(policy, step)
        assert sampler.version == step
        groups = sampler.sample(PROMPTS, 4, seed=step)
        assert [len(group) for group in groups] == [4, 4, 4]
        assert furthest(policy, PROMPTS, groups) < 1e-4
        for group in groups:
            assert all(len(each.token_ids) <= SETTINGS.max_new_tokens for each in group)
    assert [place.name for place in (tmp_path / "handed").iterdir()] == ["step-2"]


def test_a_response_ends_with_its_eos_or_is_cut_off_and_says_which(
    servers: Servers, policy: PolicyModel, tmp_path: Path
) -> None:
    settings = SamplingSettings(max_new_tokens=200)
    sampler = ServerSampler(servers, settings, FolderSync(tmp_path))
    sampler.update(policy, 0)
    answers = [each for group in sampler.sample(PROMPTS, 16, seed=0) for each in group]
    ends = [each.finished for each in answers]
    assert any(ends)
    assert not all(ends)
    for each in answers:
        hits = each.token_ids == policy.inner.config.eos_token_id
        assert hits[-1] == each.finished
        assert not hits[:-1].any()
        assert each.finished or len(each.token_ids) == 200


def test_the_same_seed_gives_the_same_tokens_whatever_else_is_asked(
    servers: Servers, policy: PolicyModel, tmp_path: Path
) -> None:
    sampler = ServerSampler(servers, SETTINGS, FolderSync(tmp_path))
    sampler.update(policy, 0)
    together = sampler.sample(PROMPTS, 3, seed=5)
    (alone,) = sampler.sample(PROMPTS[1:2], 3, seed=5)
    for one, other in zip(together[1], alone, strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
    assert len({tuple(each.token_ids) for each in alone}) == 3


def test_a_server_with_other_weights_is_found_out(
    servers: Servers, policy: PolicyModel, tmp_path: Path
) -> None:
    ServerSampler(servers, SETTINGS, FolderSync(tmp_path)).update(policy, 7)
    assert check_weights(policy, 7, servers, SETTINGS) < 1e-4
    with torch.no_grad():
        policy.inner.model.layers[1].mlp.down_proj.weight.mul_(1.05)
    with pytest.raises(EngineError, match="after the hand-over of step 8"):
        check_weights(policy, 8, servers, SETTINGS)


def test_a_merged_adapter_arrives_by_a_folder(
    servers: Servers, policy: PolicyModel, tmp_path: Path
) -> None:
    with_adapter = adapted(policy, seed=3)
    sampler = ServerSampler(servers, SETTINGS, FolderSync(tmp_path))
    sampler.update(with_adapter, 1)
    assert furthest(with_adapter, PROMPTS, sampler.sample(PROMPTS, 2, seed=0)) < 1e-4


def adapted(policy: PolicyModel, seed: int) -> PolicyModel:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=4,
        target_modules=["q_proj", "o_proj", "down_proj"],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    return PolicyModel(get_peft_model(policy.inner, config))


def test_the_next_batch_is_sampled_with_the_last_weights_while_new_ones_are_made(
    servers: Servers, policy: PolicyModel, tmp_path: Path
) -> None:
    sampler = ServerSampler(servers, SETTINGS, FolderSync(tmp_path))
    sampler.update(policy, 0)
    collector = Collector(sampler, ahead=True)
    collector.submit(PROMPTS, 2, seed=0)
    first = collector.take()
    collector.submit(PROMPTS, 2, seed=1)
    change_later = PolicyModel(load_copy(policy))
    change(change_later, seed=9)
    collector.update(change_later, 1)
    second = collector.take()
    collector.submit(PROMPTS, 2, seed=2)
    third = collector.take()
    assert (first.version, second.version, third.version) == (0, 0, 1)
    old = [list(group) for group in second.sampled]
    new = [list(group) for group in third.sampled]
    assert furthest(policy, PROMPTS, old) < 1e-4
    assert furthest(change_later, PROMPTS, new) < 1e-4
    assert furthest(policy, PROMPTS, new) > 1e-3


def load_copy(policy: PolicyModel) -> Any:
    import copy

    return copy.deepcopy(policy.inner)
