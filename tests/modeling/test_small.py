"""Small models that stand for large ones: same kinds of layers, lengths cut, weights that show."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, MistralConfig

from oversight.modeling.contract import probe_rows
from oversight.modeling.small import WINDOW, small_models


def small(config: Any) -> Any:
    return next(small_models(AutoModelForCausalLM, config))


def test_a_model_of_seven_billion_weights_is_tried_on_a_few_million() -> None:
    model = small(LlamaConfig())
    assert sum(weight.numel() for weight in model.parameters()) < 10_000_000
    assert model.dtype == torch.float64


def test_every_kind_of_layer_is_kept_and_windows_are_shorter_than_a_row() -> None:
    config = small(Gemma3TextConfig()).config
    assert set(config.layer_types) == {"sliding_attention", "full_attention"}
    longest = max(len(prompt) + len(response) for prompt, response in probe_rows())
    assert config.sliding_window == WINDOW < longest


def test_a_window_as_wide_as_the_context_is_not_made_to_limit_anything() -> None:
    config = MistralConfig(sliding_window=4096, max_position_embeddings=4096)
    longest = max(len(prompt) + len(response) for prompt, response in probe_rows())
    assert small(config).config.sliding_window > longest


@pytest.mark.parametrize("seed", [1, 2])
def test_making_one_leaves_the_random_stream_where_it_was(seed: int) -> None:
    torch.manual_seed(seed)
    wanted = torch.rand(3)
    torch.manual_seed(seed)
    small(LlamaConfig())
    assert torch.equal(torch.rand(3), wanted)
