"""Parts fit into memory, keep groups whole, and depend on nothing but the groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from oversight.modeling import TokenRow
from oversight.modeling.scoring.trie import num_trie_tokens
from oversight.train import sft
from oversight.train.batches import enough_tokens, micro_batches

IDS = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(np.array)
GROUPS = st.lists(
    st.tuples(IDS, st.lists(IDS, min_size=1, max_size=3)).map(
        lambda drawn: [TokenRow(drawn[0], response) for response in drawn[1]]
    ),
    min_size=1,
    max_size=8,
)


@given(GROUPS, st.integers(1, 60))
def test_every_group_is_in_one_part_and_parts_fit_unless_one_group_is_too_large(
    groups: list[list[TokenRow]], max_tokens: int
) -> None:
    parts = micro_batches(groups, max_tokens)
    assert sorted(i for part in parts for i in part) == list(range(len(groups)))
    for part in parts:
        tokens = num_trie_tokens([row.ids() for i in part for row in groups[i]])
        assert tokens <= max_tokens or len(part) == 1


@given(GROUPS)
def test_all_fit_into_one_part_if_there_is_room(groups: list[list[TokenRow]]) -> None:
    total = sum(row.num_tokens for group in groups for row in group)
    assert len(micro_batches(groups, total)) == 1


def test_groups_of_one_prompt_come_together_and_count_it_once() -> None:
    long, other = np.arange(100), np.arange(100, 200)
    groups = [[TokenRow(prompt, np.array([i]))] for i, prompt in enumerate([long, other] * 3)]
    parts = micro_batches(groups, 104)
    assert [sorted(part) for part in parts] == [[0, 2, 4], [1, 3, 5]]


@given(GROUPS, st.integers(1, 60), st.integers(1, 60))
def test_parts_of_what_is_enough_are_no_larger_than_they_may_be(
    groups: list[list[TokenRow]], max_tokens: int, enough: int
) -> None:
    parts = micro_batches(groups, max_tokens, enough)
    assert sorted(i for part in parts for i in part) == list(range(len(groups)))
    for part in parts:
        tokens = num_trie_tokens([row.ids() for i in part for row in groups[i]])
        assert tokens <= max_tokens or len(part) == 1


def test_rows_that_share_nothing_come_apart_where_that_is_enough_and_others_stay_together() -> None:
    lone = [[TokenRow(np.arange(100 * i, 100 * i + 90), np.array([1]))] for i in range(4)]
    assert [len(part) for part in micro_batches(lone, 1000)] == [4]
    assert [len(part) for part in micro_batches(lone, 1000, 200)] == [2, 2]
    assert [len(part) for part in micro_batches(lone, 100, 200)] == [1, 1, 1, 1]
    alike = [[TokenRow(np.arange(90), np.array([i]))] for i in range(4)]
    assert [len(part) for part in micro_batches(alike, 1000, 92)] == [4]


def made(vocabulary: int) -> LlamaForCausalLM:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    with torch.device("meta"):
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary, num_attention_heads=4, num_key_value_heads=4, **sizes
            )
        )


def settings(**model: Any) -> sft.Config:
    given = {"out": "run", "data": {"path": "rows.jsonl"}, "model": {"path": "base"} | model}
    return sft.Config.parse(given)


def test_enough_tokens_grow_with_the_vocabulary_and_are_twice_as_many_in_half_the_bytes() -> None:
    cpu = torch.device("cpu")
    few, many = (enough_tokens(made(size), settings(), cpu, 1) for size in (256, 65_536))
    assert few is not None
    assert many is not None
    assert 1280 <= few < 2 * 1280 < many
    assert enough_tokens(made(256), settings(precision="bfloat16"), cpu, 1) == 2 * few


@pytest.mark.parametrize(
    ("device", "num_processes", "model"),
    [("cuda", 1, {}), ("cpu", 2, {}), ("cpu", 1, {"router_aux_coefficient": 0.01})],
)
def test_more_tokens_are_always_better_on_a_gpu_for_several_processes_and_for_loads_of_experts(
    device: str, num_processes: int, model: dict[str, Any]
) -> None:
    found = enough_tokens(made(256), settings(**model), torch.device(device), num_processes)
    assert found is None
