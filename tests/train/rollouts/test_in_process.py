"""Responses by the live policy: its own distribution, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from oversight.errors import ConfigError, DataError
from oversight.modeling import Ids
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train.experience_settings import SamplingSettings
from oversight.train.rollouts.in_process import InProcessSampler, evaluating
from oversight.train.rollouts.types import SampledResponse, Sampler

TEMPERATURE = 0.8
SETTINGS = SamplingSettings(max_new_tokens=12, temperature=TEMPERATURE)
EOS = (1, 5, 9, 20, 30, 40, 50, 60)
"""Many, so that some responses end early and others do not."""

MakeLm = Callable[..., Any]


def prompts() -> list[Ids]:
    """One within another, two that part late, and one that shares nothing."""
    rng = np.random.default_rng(3)
    first = rng.integers(2, 97, 14)
    return [
        np.concatenate([first, rng.integers(2, 97, 3)]),
        first,
        np.concatenate([first, rng.integers(2, 97, 5)]),
        rng.integers(2, 97, 1),
    ]


def sampler_of(
    model: Any, settings: SamplingSettings = SETTINGS, **others: Any
) -> InProcessSampler:
    return InProcessSampler(PolicyModel(model), settings, eos_ids=EOS, **others)


def furthest(
    policy: PolicyModel, asked: Sequence[Ids], groups: list[list[SampledResponse]]
) -> float:
    """Greatest difference between the sampler's log-probabilities and the policy's scores."""
    rows = [each.row(ids) for ids, group in zip(asked, groups, strict=True) for each in group]
    with evaluating(policy), torch.no_grad():
        scores = policy(RowBatch.build(rows), TEMPERATURE)
    pairs = zip(rows, scores.logps_BR.numpy(), strict=True)
    return max(
        float(np.abs(row.logprobs - logps[: len(row.logprobs)]).max()) for row, logps in pairs
    )


def same(one: Sequence[SampledResponse], other: Sequence[SampledResponse]) -> bool:
    return all(np.array_equal(a.token_ids, b.token_ids) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "architecture",
    ["llama", "qwen2", "qwen3", "mistral", "gemma3_text", "cohere", "granite", "gpt2"],
)
def test_log_probabilities_are_those_that_the_policy_scores(
    random_lm: MakeLm, architecture: str
) -> None:
    sampler = sampler_of(random_lm(architecture))
    groups = sampler.sample(prompts(), 3, seed=1)
    assert [len(group) for group in groups] == [3, 3, 3, 3]
    assert furthest(sampler.policy, prompts(), groups) <= 1e-5


def test_log_probabilities_of_plain_attention_are_the_same(
    random_lm: MakeLm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What runs on a GPU: no kernel of the CPU's.
    from oversight.train.rollouts import decoding

    sampler = sampler_of(random_lm("qwen3"))
    expected = sampler.sample(prompts(), 3, seed=1)
    plain = decoding.attend_block

    def unmasked(query: Any, key: Any, value: Any, scale: float, unseen: Any) -> Any:
        seen = torch.zeros(query.shape[-2], key.shape[-2], dtype=torch.bool)
        return plain(query, key, value, scale, seen if unseen is None else unseen)

    monkeypatch.setattr(decoding, "attend_block", unmasked)
    groups = sampler.sample(prompts(), 3, seed=1)
    assert all(same(a, b) for a, b in zip(groups, expected, strict=True))
    assert furthest(sampler.policy, prompts(), groups) <= 1e-5


def test_a_response_ends_with_its_eos_or_is_cut_off_and_says_which(random_lm: MakeLm) -> None:
    responses = [
        each for group in sampler_of(random_lm()).sample(prompts(), 8, seed=0) for each in group
    ]
    ends = [each.finished for each in responses]
    assert any(ends)
    assert not all(ends)
    for each in responses:
        hits = np.isin(each.token_ids, EOS)
        assert hits[-1] == each.finished
        assert not hits[:-1].any()
        assert each.finished or len(each.token_ids) == SETTINGS.max_new_tokens


def test_tokens_do_not_depend_on_what_else_is_asked(random_lm: MakeLm) -> None:
    sampler = sampler_of(random_lm())
    together = sampler.sample(prompts(), 4, seed=7)
    for ids, group in zip(prompts(), together, strict=True):
        assert same(sampler.sample([ids], 4, seed=7)[0], group)
        assert same(sampler.sample([ids], 2, seed=7)[0], group[:2])
    few_rows = SETTINGS.model_copy(update={"rows_at_once": 4})
    in_parts = sampler_of(sampler.policy.model, few_rows).sample(prompts(), 4, seed=7)
    assert all(same(a, b) for a, b in zip(in_parts, together, strict=True))


def test_other_seeds_samples_and_occurrences_of_a_prompt_draw_other_tokens(
    random_lm: MakeLm,
) -> None:
    sampler = sampler_of(random_lm())
    prompt = prompts()[0]
    first, second = sampler.sample([prompt, prompt], 2, seed=7)
    (other,) = sampler.sample([prompt], 2, seed=8)
    kinds = {tuple(each.token_ids) for each in [*first, *second, *other]}
    assert len(kinds) == 6


def test_frequencies_are_the_probabilities(random_lm: MakeLm) -> None:
    model = random_lm(vocab_size=8, initializer_range=1.0)
    settings = SamplingSettings(max_new_tokens=1, temperature=1.5, rows_at_once=4000)
    sampler = InProcessSampler(PolicyModel(model), settings, eos_ids=[1])
    prompt = np.array([2, 3, 4])
    (group,) = sampler.sample([prompt], 4000, seed=0)
    counts = np.bincount([each.token_ids[0] for each in group], minlength=8) / 4000
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(prompt)[None]).logits[0, -1]
    probs = torch.softmax(logits / 1.5, -1).numpy()
    assert 0.5 * np.abs(counts - probs).sum() < 0.03  # total variation; 0.02 is expected of chance


def test_training_mode_and_gradients_are_as_before(random_lm: MakeLm) -> None:
    model = random_lm(attention_dropout=0.1).train()
    model.model.layers[0].mlp.eval()
    sampler = sampler_of(model)
    sampler.sample(prompts(), 2, seed=0)
    assert model.training
    assert model.model.layers[1].mlp.training
    assert not model.model.layers[0].mlp.training
    assert all(each.grad is None and each.requires_grad for each in model.parameters())


def test_it_samples_with_the_newest_weights(random_lm: MakeLm) -> None:
    sampler = sampler_of(random_lm())
    before = sampler.sample(prompts(), 2, seed=0)
    with torch.no_grad():
        sampler.policy.inner.lm_head.weight.mul_(-1)
    sampler.update(sampler.policy, 3)
    assert sampler.version == 3
    after = sampler.sample(prompts(), 2, seed=0)
    assert not all(same(a, b) for a, b in zip(before, after, strict=True))
    assert furthest(sampler.policy, prompts(), after) <= 1e-5


def test_a_lora_policy_samples_with_its_adapter(random_lm: MakeLm) -> None:
    from peft import LoraConfig, get_peft_model

    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    sampler = sampler_of(get_peft_model(random_lm(), adapter))
    groups = sampler.sample(prompts(), 2, seed=0)
    assert furthest(sampler.policy, prompts(), groups) <= 1e-5
    with sampler.policy.as_reference():
        assert furthest(sampler.policy, prompts(), groups) > 1e-3


def test_a_process_without_responses_goes_on_as_long_as_others_need_it(random_lm: MakeLm) -> None:
    asked: list[bool] = []

    def others_go_on(goes_on: bool) -> bool:
        asked.append(goes_on)
        return len(asked) < SETTINGS.max_new_tokens

    model = random_lm()
    ends_at_once = InProcessSampler(PolicyModel(model), SETTINGS, range(97), others_go_on)
    ((one, other),) = ends_at_once.sample(prompts()[:1], 2, seed=0)
    assert len(asked) == SETTINGS.max_new_tokens
    assert not any(asked)
    assert len(one.token_ids) == len(other.token_ids) == 1


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ([], r"prompts\[1\] is empty"),
        ([3, 97], r"prompts\[1\] holds id 97, and the model has 97"),
        ([3, -1], r"prompts\[1\] holds id -1"),
        ([3] * 501, r"prompts\[1\] has 501 tokens, and 500 leave room"),
    ],
)
def test_prompts_that_cannot_be_answered_are_refused(
    random_lm: MakeLm, prompt: list[int], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        sampler_of(random_lm()).sample([np.array([3]), np.array(prompt, dtype=np.int64)], 2, 0)


def test_a_model_that_says_nothing_of_an_end_is_refused(random_lm: MakeLm) -> None:
    with pytest.raises(ConfigError, match="name the tokenizer's eos_token_id"):
        InProcessSampler(PolicyModel(random_lm(eos_token_id=None)), SETTINGS)


def test_what_ends_a_response_is_what_the_model_says(random_lm: MakeLm) -> None:
    sampler = InProcessSampler(PolicyModel(random_lm()), SETTINGS)
    assert sampler.eos_ids == {1}
    assert isinstance(sampler, Sampler)
    sampler.close()
