"""Hidden states of any layer at any token of packed rows are those of each row alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from oversight.modeling import Ids, TokenRow
from oversight.modeling.scoring.policy import PolicyModel, ScalarModel
from oversight.models import SEEDLING, resolve

MakeLm = Callable[..., Any]


def plain_states(model: Any, ids: Ids) -> torch.Tensor:
    """All layers' states [L, n, E] by the model's own forward pass on one row."""
    output = model(input_ids=torch.from_numpy(ids)[None], output_hidden_states=True)
    return torch.cat(output.hidden_states)


def ids_of(rows: list[TokenRow]) -> list[Ids]:
    return [row.ids() for row in rows]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral", "gemma3_text"])
@torch.no_grad()
def test_all_layers_states_are_those_of_each_row_alone(
    random_lm: MakeLm, rows: list[TokenRow], architecture: str
) -> None:
    expected = [plain_states(random_lm(architecture), ids) for ids in ids_of(rows)]
    found = PolicyModel(random_lm(architecture)).hidden_states(ids_of(rows))
    for states_LPE, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(states_LPE, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@torch.no_grad()
def test_all_layers_states_of_seedling_are_those_of_each_row_alone(
    dtype: torch.dtype, allowed: float
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(resolve(SEEDLING), dtype=dtype).eval()
    rng = np.random.default_rng(0)
    begun = rng.integers(5, 400, 60)
    rows = [np.concatenate([begun[:shared], rng.integers(5, 400, 20)]) for shared in (60, 60, 30)]
    expected = [plain_states(model, ids) for ids in rows]
    found = PolicyModel(model, precision=dtype).hidden_states(rows)
    for states_LPE, wanted in zip(found, expected, strict=True):
        assert states_LPE.shape == (model.config.num_hidden_layers + 1, *wanted.shape[1:])
        for state_PE, layer in zip(states_LPE, wanted, strict=True):
            assert (state_PE - layer).abs().max() <= allowed * layer.abs().max()


@torch.no_grad()
def test_chosen_layers_and_tokens_come_in_the_order_asked_for(
    random_lm: MakeLm, rows: list[TokenRow]
) -> None:
    policy = PolicyModel(random_lm("qwen2"))
    ids = ids_of(rows)
    whole = policy.hidden_states(ids)
    positions = [[-1, 0, number % 3] for number in range(len(ids))]
    positions[2] = [1]
    found = policy.hidden_states(ids, positions, layers=[2, 0, -1])
    for states_LPE, all_LPE, at in zip(found, whole, positions, strict=True):
        assert states_LPE.equal(all_LPE[[2, 0, -1]][:, at])


@torch.no_grad()
def test_the_last_layers_states_are_what_scores_are_read_from(
    random_lm: MakeLm, rows: list[TokenRow]
) -> None:
    from oversight.modeling.scoring.trie import RowBatch

    policy = PolicyModel(random_lm())
    batch = RowBatch.build(rows)
    last = policy.hidden_at(batch, batch.last_B)
    found = policy.hidden_states(ids_of(rows), [[-1]] * len(rows), [-1])
    torch.testing.assert_close(torch.cat(found)[:, 0], last, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_reward_models_states_are_read_in_the_same_way(rows: list[TokenRow]) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_labels=1,
        pad_token_id=0,
    )
    model: Any = LlamaForSequenceClassification(config).eval()
    expected = plain_states(model.model, rows[4].ids())
    found = ScalarModel(model).hidden_states(ids_of(rows))[4]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_tokens_and_layers_that_are_not_there_are_refused_by_number(random_lm: MakeLm) -> None:
    policy = PolicyModel(random_lm())
    rows = [np.arange(5, 9), np.arange(5, 12)]
    with pytest.raises(ValueError, match=r"positions\[0\]: \[4\] are not all among 4 tokens"):
        policy.hidden_states(rows, [[4], [4]])
    with pytest.raises(ValueError, match="layers: 3 is none of 0 to 2"):
        policy.hidden_states(rows, layers=[0, 3])
    with pytest.raises(ValueError, match=r"rows\[1\] has no token"):
        policy.hidden_states([rows[0], rows[0][:0]])
    with pytest.raises(ValueError, match="positions are of 1 rows, and there are 2"):
        policy.hidden_states(rows, [[0]])
