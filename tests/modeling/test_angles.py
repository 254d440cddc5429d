"""Rows of several lengths get the rotary angles that each would get alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config

from oversight.modeling import TokenRow
from oversight.modeling.contract import own_angles, switch_length, switch_of
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import RowBatch

SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SWITCH = 24


def model(kind: str) -> Any:
    torch.manual_seed(0)
    rope: dict[str, Any] = {"rope_theta": 10000.0, "original_max_position_embeddings": SWITCH}
    if kind == "longrope":
        rope |= {"rope_type": kind, "short_factor": [1.0] * 4, "long_factor": [1.0, 4.0, 9.0, 16.0]}
        config: Any = Phi3Config(
            **SIZES,
            max_position_embeddings=128,
            original_max_position_embeddings=SWITCH,
            rope_parameters=rope,
        )
    else:
        rope |= {"rope_type": kind, "factor": 4.0}
        config = LlamaConfig(**SIZES, max_position_embeddings=SWITCH, rope_parameters=rope)
    return AutoModelForCausalLM.from_config(config).eval()


def row(prompt: np.ndarray[Any, Any], size: int, seed: int) -> TokenRow:
    return TokenRow(prompt, np.random.default_rng(seed).integers(3, 128, size))


def plain(reference: Any, row: TokenRow) -> torch.Tensor:
    """By a model that has computed nothing before."""
    ids = torch.from_numpy(row.ids())
    logps = copy.deepcopy(reference)(input_ids=ids[None]).logits[0].log_softmax(-1)
    return logps[:-1].gather(-1, ids[1:, None])[len(row.prompt_ids) - 1 :, 0]


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
@torch.no_grad()
def test_a_short_row_is_scored_alike_alone_and_beside_long_ones(kind: str) -> None:
    reference = model(kind)
    policy = PolicyModel(copy.deepcopy(reference))
    prompt = np.random.default_rng(0).integers(3, 128, 8)
    rows = [row(prompt, size, seed) for seed, size in enumerate((8, 40, 30, 5))]
    for batch in ([rows[0]], rows, rows[::-1], [rows[0]]):
        scores = policy(RowBatch.build(batch)).logps_BR
        for each, logps_R in zip(batch, scores, strict=True):
            torch.testing.assert_close(
                logps_R[: len(each.response_ids)], plain(reference, each), atol=2e-5, rtol=1e-5
            )


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
@torch.no_grad()
def test_a_call_does_not_depend_on_calls_before_it(kind: str) -> None:
    reference = model(kind)
    own_angles(reference)
    ids = torch.arange(3, 51)[None]
    before = reference(input_ids=ids[:, :SWITCH]).logits
    reference(input_ids=ids)
    assert torch.equal(reference(input_ids=ids[:, :SWITCH]).logits, before)


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_the_switch_is_read_off_the_configuration_as_off_the_model(kind: str) -> None:
    made = model(kind)
    assert switch_of(made.config) == switch_length(made) == SWITCH
    assert switch_of(LlamaConfig(**SIZES)) is None


@torch.inference_mode()
def test_the_engine_grows_a_sequence_across_the_switch_as_a_plain_pass_would() -> None:
    from oversight.engines.transformers.loading import _rows

    reference = model("longrope")
    rows = _rows("x", copy.deepcopy(reference), reference.config, 4096)
    ids = np.random.default_rng(0).integers(3, 128, 40)
    rows.join([40])
    logits = rows.extend(0, [ids[:20]])
    for stop in range(20, 40):
        seen = torch.from_numpy(ids[:stop])[None]
        wanted = copy.deepcopy(reference)(input_ids=seen, use_cache=False).logits[0, -1]
        torch.testing.assert_close(logits[0], wanted, atol=2e-5, rtol=1e-5)
        logits = rows.extend(0, [ids[stop : stop + 1]])
