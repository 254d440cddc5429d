"""Scores over a trie are those of each row alone, in every kind of model and setting."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel, ScalarModel
from oversight.modeling.scoring.trie import RowBatch

ARCHITECTURES = ["llama", "qwen2", "qwen3", "mistral", "gemma3_text", "cohere", "granite", "gpt2"]


def plain_logps(model: Any, row: TokenRow, temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities of the row's response by the model's own forward pass on this row alone."""
    ids = torch.from_numpy(row.ids())
    logps = (model(input_ids=ids[None], use_cache=False).logits[0] / temperature).log_softmax(-1)
    return logps[:-1].gather(-1, ids[1:, None])[len(row.prompt_ids) - 1 :, 0]


def grads_of(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ["blocks", "dense"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_probabilities_and_gradients_are_those_of_rows_alone(
    random_lm: Callable[..., Any], rows: list[TokenRow], architecture: str, attention: Any
) -> None:
    model = random_lm(architecture).eval()
    alone = [plain_logps(model, row, 0.8) for row in rows]
    sum(((i + 1) * logps).sum() for i, logps in enumerate(alone)).backward()
    expected = grads_of(model)
    model.zero_grad()
    scores = PolicyModel(model, attention)(RowBatch.build(rows), temperature=0.8)
    factors = torch.arange(1, len(rows) + 1)[:, None]
    (factors * scores.logps_BR).sum().backward()
    for ours, plain in zip(scores.logps_BR, alone, strict=True):
        torch.testing.assert_close(ours[: len(plain)], plain, rtol=1e-4, atol=2e-5)
        assert ours[len(plain) :].eq(0).all()
    for name, grad in grads_of(model).items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral"])
def test_the_last_layer_computes_little_of_a_long_prompt(
    random_lm: Callable[..., Any], architecture: str
) -> None:
    model = random_lm(architecture)
    seen = []
    model.base_model.layers[-1].mlp.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].shape[1])
    )
    row = TokenRow(np.arange(2, 82), np.arange(3, 8))
    PolicyModel(model)(RowBatch.build([row]))
    assert seen == [1 + len(row.response_ids)]  # the last token is computed and not read


def test_a_copy_of_a_model_has_a_last_layer_of_its_own(
    random_lm: Callable[..., Any], rows: list[TokenRow]
) -> None:
    policy = PolicyModel(random_lm())
    batch = RowBatch.build(rows)
    before = policy(batch).logps_BR.detach()
    copied = copy.deepcopy(policy)
    with torch.no_grad():
        copied.model.base_model.layers[-1].mlp.down_proj.weight.mul_(3.0)
    assert torch.equal(policy(batch).logps_BR, before)
    assert not torch.allclose(copied(batch).logps_BR, before, atol=1e-3)


def test_other_calls_of_the_model_are_as_before(
    random_lm: Callable[..., Any], rows: list[TokenRow]
) -> None:
    model = random_lm().eval()
    before = plain_logps(model, rows[0])
    PolicyModel(model)
    torch.testing.assert_close(plain_logps(model, rows[0]), before)
    ids = torch.from_numpy(rows[0].ids())[None]
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.int64), ids], 1)
    mask = (padded != 0).long()
    logits = model(input_ids=padded, attention_mask=mask).logits[0, 3:]
    torch.testing.assert_close(logits, model(input_ids=ids).logits[0], rtol=1e-4, atol=1e-5)


def test_the_order_of_rows_and_other_rows_change_nothing(
    random_lm: Callable[..., Any], rows: list[TokenRow]
) -> None:
    policy = PolicyModel(random_lm())
    together = policy(RowBatch.build(rows)).logps_BR
    for i, row in enumerate(rows):
        alone = policy(RowBatch.build([row])).logps_BR[0]
        torch.testing.assert_close(together[i, : len(alone)], alone, rtol=1e-4, atol=2e-5)


def test_entropy_is_that_of_the_whole_distribution(
    random_lm: Callable[..., Any], rows: list[TokenRow]
) -> None:
    model = random_lm()
    entropy = PolicyModel(model)(RowBatch.build(rows), with_entropy=True).entropy_BR
    row = rows[0]
    logits = model(input_ids=torch.from_numpy(row.ids())[None]).logits[0]
    expected = torch.distributions.Categorical(logits=logits).entropy()
    picked = expected[len(row.prompt_ids) - 1 : -1]
    torch.testing.assert_close(entropy[0, : len(picked)], picked, rtol=1e-4, atol=2e-5)


def test_masks_and_lengths_reach_the_scores(random_lm: Callable[..., Any]) -> None:
    ids = np.arange(2, 8)
    mask = np.array([True, False, True, True])
    row = TokenRow(ids[:2], ids[2:], mask=mask)
    short = TokenRow(ids[:2], ids[2:4])
    scores = PolicyModel(random_lm())(RowBatch.build([row, short]))
    assert scores.mask_BR.tolist() == [[True, False, True, True], [True, True, False, False]]
    assert scores.logps_BR[0, 1] != 0
    assert scores.logps_BR[1, 2:].eq(0).all()


def test_a_row_without_a_prompt_is_refused_by_its_id() -> None:
    with pytest.raises(ValueError, match="'lost'"):
        RowBatch.build([TokenRow(np.array([], dtype=np.int64), np.arange(3), id="lost")])


def test_gradient_checkpointing_changes_no_gradient(
    random_lm: Callable[..., Any], rows: list[TokenRow]
) -> None:
    grads = []
    for checkpointing in (False, True):
        model = random_lm().train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        PolicyModel(model)(RowBatch.build(rows)).logps_BR.sum().backward()
        grads.append(grads_of(model))
    for name, grad in grads[0].items():
        assert torch.equal(grad, grads[1][name]), name


def test_bfloat16_stays_near_float32_and_keeps_weights_and_sums_in_float32(
    random_lm: Callable[..., Any], rows: list[TokenRow]
) -> None:
    full = PolicyModel(random_lm(initializer_range=0.05))
    low = PolicyModel(random_lm(initializer_range=0.05), precision=torch.bfloat16)
    batch = RowBatch.build(rows)
    scores = low(batch)
    assert scores.logps_BR.dtype is torch.float32
    difference = (scores.logps_BR - full(batch).logps_BR).abs().max()
    assert 0 < difference < 0.05
    scores.logps_BR.sum().backward()
    full(batch).logps_BR.sum().backward()
    ours, exact = grads_of(low.model), grads_of(full.model)
    for name, grad in ours.items():
        assert grad.dtype is torch.float32
        assert (grad - exact[name]).norm() < 0.05 * exact[name].norm() + 1e-3, name


def test_fresh_adapters_change_no_score_and_alone_are_trained(
    random_lm: Callable[..., Any], rows: list[TokenRow]
) -> None:
    peft = pytest.importorskip("peft")
    batch = RowBatch.build(rows)
    before = PolicyModel(random_lm())(batch).logps_BR.detach()
    adapted = peft.get_peft_model(
        random_lm(), peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    policy = PolicyModel(adapted)
    logps = policy(batch).logps_BR
    torch.testing.assert_close(logps, before)
    logps.sum().backward()
    assert {name.split(".")[-3] for name in grads_of(policy)} == {"lora_A", "lora_B"}
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.add_(0.1)
        assert not torch.allclose(policy(batch).logps_BR, before, atol=1e-3)
        with policy.as_reference():
            torch.testing.assert_close(policy(batch).logps_BR, before)


def test_rewards_are_read_at_the_last_token_whatever_its_id(
    random_lm: Callable[..., Any], rows: list[TokenRow]
) -> None:
    from transformers import AutoModelForSequenceClassification

    config = random_lm().config
    config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(config)
    # The last ids are those of padding, then of EOS, which stay part of the row.
    ended = [
        TokenRow(row.prompt_ids, np.append(row.response_ids, i))
        for row, i in zip(rows[:2], (0, 1), strict=True)
    ]
    rewards = ScalarModel(model)(RowBatch.build(rows + ended))
    for row, reward in zip(rows + ended, rewards, strict=True):
        hidden = model.model(input_ids=torch.from_numpy(row.ids())[None]).last_hidden_state[0, -1]
        torch.testing.assert_close(reward, model.score(hidden)[0], rtol=1e-4, atol=1e-5)


def test_values_stand_before_the_token_they_speak_of(
    random_lm: Callable[..., Any], rows: list[TokenRow]
) -> None:
    from transformers import AutoModelForSequenceClassification

    config = random_lm().config
    config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(config)
    values = ScalarModel(model).values(RowBatch.build(rows))
    row = rows[3]
    hidden = model.model(input_ids=torch.from_numpy(row.ids())[None]).last_hidden_state[0]
    expected = model.score(hidden)[len(row.prompt_ids) - 1 : -1, 0]
    torch.testing.assert_close(values[3, : len(expected)], expected, rtol=1e-4, atol=1e-5)


def test_a_value_head_on_the_shared_trunk_begins_at_zero(
    random_lm: Callable[..., Any], rows: list[TokenRow]
) -> None:
    values = PolicyModel(random_lm(), value_head=True)(RowBatch.build(rows)).values_BR
    assert values is not None
    assert values.eq(0).all()
    assert values.requires_grad
