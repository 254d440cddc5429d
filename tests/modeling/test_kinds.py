"""Kinds of models that have to be refused by name, and kinds that have to be taken, at load."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from oversight.errors import ConfigError
from oversight.modeling.contract import as_configured, switch_off
from oversight.modeling.scoring.checks import check_policy_kind, check_scalar_kind
from oversight.train.rollouts.in_process import check_sampling_kind

SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
KINDS: dict[str, dict[str, Any]] = {
    "PhimoeConfig": {"sliding_window": 300, "num_local_experts": 2},
    "JambaConfig": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 2,
        "mamba_d_state": 4,
        "use_mamba_kernels": False,
    },
    "Qwen3NextConfig": {
        "full_attention_interval": 2,
        "head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "OPTConfig": {"ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.1},
    "MistralConfig": {"sliding_window": 300},
    "GPT2Config": {},
}


def config(name: str, **changes: Any) -> Any:
    return getattr(transformers, name)(**{**SIZES, **KINDS.get(name, {}), **changes})


def test_a_window_that_is_kept_by_the_mask_alone_is_refused_with_its_length() -> None:
    with pytest.raises(ConfigError, match=r"'phimoe'.*past its sliding_window = 300"):
        check_policy_kind(config("PhimoeConfig"))


@pytest.mark.parametrize("name", ["JambaConfig", "Qwen3NextConfig"])
def test_layers_that_carry_a_state_are_refused_whatever_the_size_of_the_weights(name: str) -> None:
    with pytest.raises(ConfigError, match="with the rows that it is computed with"):
        check_policy_kind(config(name, initializer_range=0.001))


@pytest.mark.parametrize(
    "name",
    [
        "Llama",
        "Mistral",
        "Qwen2",
        "Qwen3",
        "Gemma3Text",
        "OPT",
        "GPT2",
        "GPTNeoX",
        "Mixtral",
        "Olmo2",
        "Granite",
    ],
)
def test_kinds_that_are_exact_are_taken(name: str) -> None:
    check_policy_kind(config(f"{name}Config"))
    check_sampling_kind(config(f"{name}Config"))


def test_a_layer_that_attends_twice_is_sampled_as_it_scores() -> None:
    check_sampling_kind(config("DiffLlamaConfig"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("GraniteConfig", "'granite'.*no sequence-classification class"),
        ("BertConfig", "'bert'.*no head called 'score'"),
    ],
)
def test_a_base_that_cannot_become_a_reward_model_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        check_scalar_kind(config(name))


def test_dropout_by_a_function_call_is_off_while_a_policy_trains() -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config("OPTConfig")).train()
    ids = torch.arange(3, 40)[None]
    assert not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)
    switch_off(model)
    assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_model_is_saved_with_the_dropout_that_it_came_with() -> None:
    model = transformers.AutoModelForCausalLM.from_config(config("OPTConfig"))
    switch_off(model)
    assert model.config.dropout == 0.0
    with as_configured(model):
        assert model.config.dropout == 0.1
    assert model.config.dropout == 0.0


def test_noise_that_no_rate_switches_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from oversight.modeling import contract

    whole = transformers.LlamaModel.forward

    def noisy(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = whole(self, *args, **kwargs)
        if self.training:
            hidden = output.last_hidden_state
            output.last_hidden_state = torch.nn.functional.dropout(hidden, 0.05)
        return output

    monkeypatch.setattr(transformers.LlamaModel, "forward", noisy)
    monkeypatch.setattr(contract, "_found", {})
    with pytest.raises(ConfigError, match="in training mode its scores differ"):
        check_policy_kind(config("LlamaConfig"))


def test_a_kind_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from oversight.modeling import contract

    counted = []

    def count(*args: Any) -> str:
        counted.append(args)
        return ""

    monkeypatch.setattr(contract, "_found", {})
    monkeypatch.setattr(contract, "_tried", count)
    for wide in (32, 32, 64):
        check_policy_kind(config("LlamaConfig", hidden_size=wide))
    assert len(counted) == 2


def test_a_window_that_could_not_be_tried_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from oversight.modeling import contract

    monkeypatch.setattr(contract, "_found", {})
    monkeypatch.setattr(contract, "_told", set())
    monkeypatch.setattr(contract, "small_models", lambda *args, **kwargs: iter(()))
    for _ in range(2):
        check_policy_kind(config("MistralConfig"))
    (said,) = [record.getMessage() for record in caplog.records]
    assert "'mistral'" in said
    assert "windows (sliding_window = 300) of this model were not tried" in said


def test_layers_that_stop_with_an_error_are_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="its layers stop with an error where several rows"):
        check_policy_kind(config("MptConfig", d_model=32, n_heads=4, n_layers=2))
