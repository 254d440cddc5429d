"""Small models that stand for large ones: same kinds of layers, lengths cut, weights that show."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, MistralConfig

from oversight.modeling.contract import probe_rows
from oversight.modeling.small import WINDOW, cut_lengths, small_models, uncut_lengths


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


@pytest.mark.parametrize("name", ["falcon", "gemma4_text", "jais2", "codegen"])
def test_what_does_not_fit_the_usual_proportions_is_cut_down_by_trying(name: str) -> None:
    config = transformers.CONFIG_MAPPING[name]()
    found = []
    for model in small_models(AutoModelForCausalLM, config):
        with contextlib.suppress(RuntimeError), torch.no_grad():
            model(input_ids=torch.arange(3, 43)[None], use_cache=False)
            found.append(sum(weight.numel() for weight in model.parameters()))
            break
    assert found
    assert found[0] < 80_000_000


def test_windows_of_several_sizes_stay_of_several() -> None:
    values = {
        "sliding_window": 4096,
        "local_windows": [128, 512, 128],
        "max_position_embeddings": 0,
    }
    cut_lengths(values, 16)
    assert values["local_windows"] == [WINDOW, WINDOW + 3, WINDOW]
    assert values["sliding_window"] == WINDOW + 6


def test_a_window_that_no_row_passes_is_named() -> None:
    config = MistralConfig(sliding_window=300)
    assert uncut_lengths(None, config, 40) == ["sliding_window = 300"]
    assert uncut_lengths(config, config, 40) == ["sliding_window = 300"]
    assert uncut_lengths(small(config).config, config, 40) == []
