"""The trie holds each shared beginning once, and rows in parts that share theirs learn as a whole.

Every row can be read back from the trie, and a group in parts has the gradients of the group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oversight.modeling import TokenRow
from oversight.modeling.contract import switch_off
from oversight.modeling.scoring.checks import takes_beginnings
from oversight.modeling.scoring.policy import PolicyModel, ScalarModel
from oversight.modeling.scoring.trie import RowBatch, TokenTrie, cut, num_trie_tokens

ROWS = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=8).map(np.array), min_size=1, max_size=8
)


@given(ROWS)
def test_every_row_is_read_back_with_its_positions(rows: list[np.ndarray]) -> None:
    trie = TokenTrie.build(rows)
    for row, places in zip(rows, trie.places, strict=True):
        assert trie.ids_T[places].tolist() == row.tolist()
        assert trie.positions_T[places].tolist() == list(range(len(row)))
        assert (np.diff(places) > 0).all()


@given(ROWS)
def test_a_token_stands_once_for_every_distinct_beginning(rows: list[np.ndarray]) -> None:
    beginnings = {tuple(row[: end + 1]) for row in rows for end in range(len(row))}
    assert TokenTrie.build(rows).num_tokens == len(beginnings) == num_trie_tokens(rows)


@given(ROWS)
def test_a_place_sees_its_own_row_up_to_itself_and_nothing_else(rows: list[np.ndarray]) -> None:
    trie = TokenTrie.build(rows)
    size = trie.num_tokens
    expected = np.zeros((size, size), dtype=bool)
    for places in trie.places:
        for i, place in enumerate(places):
            expected[place, places[: i + 1]] = True
    key, query = np.arange(size), np.arange(size)[:, None]
    assert ((key <= query) & (query < trie.ends_T) == expected).all()


@given(ROWS)
def test_runs_cover_the_line_and_end_where_their_subtrees_end(rows: list[np.ndarray]) -> None:
    trie = TokenTrie.build(rows)
    assert [run.start for run in trie.runs] == [0, *(run.stop for run in trie.runs[:-1])]
    for run in trie.runs:
        assert (trie.ends_T[run.start : run.stop] == run.stop_below).all()
        assert (np.diff(trie.positions_T[run.start : run.stop]) == 1).all()


@given(ROWS)
def test_the_line_does_not_depend_on_the_order_of_rows(rows: list[np.ndarray]) -> None:
    assert TokenTrie.build(rows).ids_T.tolist() == TokenTrie.build(rows[::-1]).ids_T.tolist()


def test_a_row_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        TokenTrie.build([np.array([1]), np.array([], dtype=np.int64)])


PROMPT = 20
LENGTHS = (5, 7, 3, 9, 6, 4)
TOLERANCE = 1e-6
"""Norms and rotary angles are in float32, whatever the model is in."""


def group(seed: int = 0) -> list[TokenRow]:
    rng = np.random.default_rng(seed)
    prompt = rng.integers(2, 97, PROMPT)
    return [TokenRow(prompt, rng.integers(2, 97, size)) for size in LENGTHS]


def loss_of(policy: PolicyModel, rows: list[TokenRow], numbers: list[int]) -> torch.Tensor:
    scores = policy(RowBatch.build([rows[i] for i in numbers]), 0.8, with_entropy=True)
    assert scores.entropy_BR is not None
    factor_B1 = torch.tensor(numbers)[:, None] - 2.0
    return (factor_B1 * (scores.logps_BR + 0.1 * scores.entropy_BR)).sum()


def in_parts(policy: PolicyModel, rows: list[TokenRow], max_tokens: int) -> int:
    """Run all parts backward; gives their number."""
    parts = cut(rows, max_tokens)
    with policy.holding(rows[0].ids()[: parts.num_shared], rows[0].num_tokens, max_tokens):
        for numbers in parts.parts:
            loss_of(policy, rows, numbers).backward()
    return len(parts.parts)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        error = (found[name] - grad).abs().max() / grad.abs().max()
        assert error <= TOLERANCE, (name, float(error))


def plain_loss(model: Any, rows: list[TokenRow]) -> torch.Tensor:
    """The same of each row alone, by the model's own forward pass."""
    total = torch.zeros((), dtype=torch.float64)
    for number, row in enumerate(rows):
        ids = torch.from_numpy(row.ids())
        logps_TV = (model(input_ids=ids[None]).logits[0, PROMPT - 1 : -1] / 0.8).log_softmax(-1)
        entropy_T = -(logps_TV.exp() * logps_TV).sum(-1)
        picked_T = logps_TV.gather(-1, ids[PROMPT:, None])[:, 0]
        total = total + (number - 2.0) * (picked_T + 0.1 * entropy_T).sum()
    return total


@pytest.mark.parametrize("max_tokens", [45, 24, 7])
@pytest.mark.parametrize("attention", ["blocks", "dense"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral", "gemma3_text"])
def test_gradients_of_parts_are_those_of_the_whole_and_of_plain_autograd(
    random_lm: Callable[..., Any], architecture: str, attention: Any, max_tokens: int
) -> None:
    model = random_lm(architecture).double()
    switch_off(model)
    rows = group()
    plain_loss(model, rows).backward()
    plain = gradients(model)
    policy = PolicyModel(model, attention, torch.float64)
    loss_of(policy, rows, list(range(len(rows)))).backward()
    whole = gradients(model)
    assert in_parts(policy, rows, max_tokens) > 1
    found = gradients(model)
    assert_same(found, whole)
    assert_same(found, plain)


def test_parts_of_a_checkpointed_model_have_the_same_gradients(
    random_lm: Callable[..., Any],
) -> None:
    model = random_lm("llama").double()
    policy = PolicyModel(model, precision=torch.float64).train()
    in_parts(policy, group(), 45)
    expected = gradients(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    in_parts(policy, group(), 45)
    assert_same(gradients(model), expected)


def test_adapters_get_the_same_gradients(random_lm: Callable[..., Any]) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    adapters = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(random_lm("llama").double(), adapters).double()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    policy = PolicyModel(model, precision=torch.float64)
    rows = group()
    loss_of(policy, rows, list(range(len(rows)))).backward()
    expected = gradients(model)
    for max_tokens in (45, 7):
        in_parts(policy, rows, max_tokens)
        assert_same(gradients(model), expected)


def test_angles_that_depend_on_a_rows_length_are_those_of_the_row(
    random_lm: Callable[..., Any],
) -> None:
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0}
    model = random_lm("llama", max_position_embeddings=16, rope_parameters=rope).double()
    rng = np.random.default_rng(0)
    prompt = rng.integers(2, 97, PROMPT)
    rows = [TokenRow(prompt, rng.integers(2, 97, 8)) for _ in range(4)]
    policy = PolicyModel(model, precision=torch.float64)
    loss_of(policy, rows, list(range(len(rows)))).backward()
    expected = gradients(model)
    for max_tokens in (45, 7):
        in_parts(policy, rows, max_tokens)
        assert_same(gradients(model), expected)


def test_the_prompt_is_computed_once_for_all_parts(random_lm: Callable[..., Any]) -> None:
    policy, rows = PolicyModel(random_lm("llama")), group()
    seen: list[int] = []
    policy.inner.base_model.layers[0].register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].shape[1])
    )
    parts = in_parts(policy, rows, 45)
    assert seen[0] == PROMPT - 1
    # The prompt's last token, which the first of each response is read at, goes with each part.
    assert sum(seen) == PROMPT - 1 + sum(LENGTHS) + parts


def test_rows_of_another_beginning_are_computed_whole(random_lm: Callable[..., Any]) -> None:
    policy, rows = PolicyModel(random_lm("llama")), group()
    others = group(seed=1)
    expected = policy(RowBatch.build(others)).logps_BR
    with torch.no_grad(), policy.holding(rows[0].ids()[:10], rows[0].num_tokens, 100):
        assert torch.equal(policy(RowBatch.build(others)).logps_BR, expected)


def test_what_is_held_fits_beside_each_part() -> None:
    rows = group()
    for max_tokens in (30, 45, 60):
        found = cut(rows, max_tokens)
        assert found.num_tokens <= max_tokens
        assert sorted(i for part in found.parts for i in part) == list(range(len(rows)))
        for part in found.parts:
            own = num_trie_tokens([rows[i].ids()[found.num_shared :] for i in part])
            assert own <= max_tokens


@pytest.mark.parametrize("with_values", [False, True])
def test_scores_in_parts_have_the_gradients_of_scores_at_once(
    random_lm: Callable[..., Any], with_values: bool
) -> None:
    """Of a loss that is no sum over rows."""
    model = random_lm("llama").double()
    policy = PolicyModel(model, precision=torch.float64, value_head=with_values)
    if policy.value_head is not None:
        torch.nn.init.normal_(policy.value_head.weight)
    rows = [*group(), *group(seed=1)]
    batch = RowBatch.build(rows)

    def run() -> list[torch.Tensor]:
        scores = policy(batch, with_entropy=True, with_sum_sq=True)
        assert scores.entropy_BR is not None
        loss = scores.logps_BR.sum(1).std() * scores.entropy_BR.mean()
        if scores.values_BR is not None:
            loss = loss + scores.values_BR.square().sum().sqrt()
        loss.backward()
        kept = (scores.logps_BR, scores.entropy_BR, scores.values_BR, scores.log_sum_sq_probs_BR)
        return [each.detach() for each in kept if each is not None]

    expected = run()
    whole = gradients(policy)
    with policy.scoring_in_parts(30):
        found = run()
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-6, atol=1e-6)
    assert_same(gradients(policy), whole)


def test_rewards_in_parts_have_the_gradients_of_rewards_at_once() -> None:
    from transformers import AutoModelForSequenceClassification, LlamaConfig

    from tests.modeling.conftest import SMALL

    torch.manual_seed(0)
    config = LlamaConfig(**SMALL, num_labels=1)
    model = ScalarModel(
        AutoModelForSequenceClassification.from_config(config).double(), precision=torch.float64
    )
    batch = RowBatch.build(group())
    model(batch).std().backward()
    expected = gradients(model)
    with model.scoring_in_parts(30):
        model(batch).std().backward()
    assert_same(gradients(model), expected)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral", "gemma3_text"])
def test_kinds_of_models_are_tried_before_a_beginning_is_held(
    random_lm: Callable[..., Any], architecture: str
) -> None:
    assert takes_beginnings(random_lm(architecture).config, "auto", scalar=False)
