"""Random-weight models of several architectures, and rows to score with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from oversight.modeling import TokenRow

VOCAB = 97

SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {**SMALL, "tie_word_embeddings": False},
    "qwen2": {**SMALL, "tie_word_embeddings": True},
    "qwen3": {**SMALL, "head_dim": 16},
    "mistral": {**SMALL, "sliding_window": 6, "head_dim": 8},
    "gemma3_text": {
        **SMALL,
        "head_dim": 8,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
        "final_logit_softcapping": 5.0,
    },
    "cohere": {**SMALL, "logit_scale": 0.25, "use_qk_norm": False},
    "granite": {**SMALL, "logits_scaling": 3.0},
    "gpt2": {
        "vocab_size": VOCAB,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 512,
        "initializer_range": 0.2,
    },
}


def make_lm(architecture: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """A causal language model with random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(architecture, **{**ARCHITECTURES[architecture], **changes})
    return AutoModelForCausalLM.from_config(config)


def make_rows(seed: int = 0, vocab: int = VOCAB) -> list[TokenRow]:
    """Rows with shared beginnings of several depths, a row within a row, and rows that share
    nothing."""
    rng = np.random.default_rng(seed)

    def ids(size: int) -> Any:
        return rng.integers(2, vocab, size)

    prompt = ids(11)
    turn = np.concatenate([prompt, ids(4)])
    rows = [TokenRow(prompt, ids(size), id=f"a{size}") for size in (3, 3, 5)]
    rows += [TokenRow(turn, ids(size), id=f"b{size}") for size in (1, 6, 6)]
    rows += [TokenRow(prompt, turn[11:], id="within"), TokenRow(ids(1), ids(8), id="alone")]
    rows += [TokenRow(prompt, np.concatenate([rows[2].response_ids[:2], ids(3)]), id="midway")]
    return rows


@pytest.fixture
def rows() -> list[TokenRow]:
    """Rows that share beginnings of several depths."""
    return make_rows()


@pytest.fixture
def random_lm() -> Callable[..., Any]:
    """Makes a causal language model of an architecture."""
    return make_lm
