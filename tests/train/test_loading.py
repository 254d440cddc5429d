"""Models and tokenizers to be trained: made from scratch, read, and refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from oversight.errors import ConfigError
from oversight.train.loading import (
    load_policy,
    load_scalar,
    read_config,
    resolve_device,
    train_tokenizer,
)
from oversight.train.settings import ModelSettings

TEXTS = ("The key was in the kitchen at noon.", "It was not, says the other witness.")
SMALL = {"hidden_size": 32, "num_layers": 2, "vocab_size": 300, "max_length": 64}


def scratch(**changes: Any) -> ModelSettings:
    return ModelSettings.parse({"scratch": SMALL | changes})


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_model_from_scratch_comes_back_from_its_folder(tmp_path: Path, architecture: str) -> None:
    settings = scratch(architecture=architecture)
    config, vocabulary = read_config(settings, TEXTS)
    policy = load_policy(settings, config, seed=0)
    policy.model.save_pretrained(tmp_path)
    vocabulary.tokenizer.save_pretrained(tmp_path)
    again = ModelSettings(path=str(tmp_path))
    config, read = read_config(again, ())
    for text in (*TEXTS, "naïve “quotes”, 東京 and 🙂"):
        assert read.tokenizer(text)["input_ids"] == vocabulary.tokenizer(text)["input_ids"]
        assert read.tokenizer.decode(read.tokenizer(text)["input_ids"]) == text
    loaded = load_policy(again, config, seed=1)
    for ours, theirs in zip(policy.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_weights_from_scratch_depend_on_the_seed_alone() -> None:
    settings = scratch()
    config, _ = read_config(settings, TEXTS)
    first, same, other = (load_policy(settings, config, seed=seed) for seed in (0, 0, 1))
    weights = [model.inner.get_output_embeddings().weight for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_tokenizer_depends_on_the_texts_alone() -> None:
    first, second = (train_tokenizer(TEXTS * 20, 320) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()


def test_without_any_text_there_is_no_tokenizer() -> None:
    with pytest.raises(ConfigError, match="no text"):
        train_tokenizer(["", " "], 300)


def test_a_reward_model_takes_the_layers_of_a_language_model(tmp_path: Path) -> None:
    settings = scratch()
    config, vocabulary = read_config(settings, TEXTS)
    policy = load_policy(settings, config, seed=0)
    policy.model.save_pretrained(tmp_path)
    vocabulary.tokenizer.save_pretrained(tmp_path)
    again = ModelSettings(path=str(tmp_path))
    config, _ = read_config(again, ())
    scalar = load_scalar(again, config, seed=3)
    ours = policy.inner.model.layers[0].mlp.up_proj.weight
    assert torch.equal(scalar.inner.model.layers[0].mlp.up_proj.weight, ours)
    assert scalar.inner.config.num_labels == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("./nowhere", "no such folder"),
        (".", "holds no saved model"),
    ],
)
def test_what_is_no_model_is_refused_before_a_weight_is_read(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(ModelSettings(path=path), ())


def test_a_tokenizer_of_more_ids_than_embeddings_is_refused(
    tmp_path: Path, random_lm: Callable[..., Any]
) -> None:
    random_lm(vocab_size=97).save_pretrained(tmp_path)
    train_tokenizer(TEXTS, 300).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="do not belong together"):
        read_config(ModelSettings(path=str(tmp_path)), ())


def test_a_model_whose_weights_are_missing_is_refused(
    tmp_path: Path, random_lm: Callable[..., Any]
) -> None:
    from safetensors.torch import load_file, save_file

    model = random_lm(vocab_size=320)
    model.save_pretrained(tmp_path)
    train_tokenizer(TEXTS, 300).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, path, metadata={"format": "pt"})
    settings = ModelSettings(path=str(tmp_path))
    config, _ = read_config(settings, ())
    with pytest.raises(ConfigError, match="up_proj"):
        load_policy(settings, config, seed=0)


def test_a_truncated_weights_file_is_refused(tmp_path: Path, random_lm: Callable[..., Any]) -> None:
    random_lm(vocab_size=320).save_pretrained(tmp_path)
    train_tokenizer(TEXTS, 300).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    settings = ModelSettings(path=str(tmp_path))
    config, _ = read_config(settings, ())
    with pytest.raises(ConfigError, match="cut short"):
        load_policy(settings, config, seed=0)


def test_a_model_that_cannot_be_scored_over_a_trie_is_refused(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, MambaConfig

    config = MambaConfig(
        vocab_size=320, hidden_size=32, state_size=8, num_hidden_layers=2, use_mambapy=False
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    train_tokenizer(TEXTS, 300).save_pretrained(tmp_path)
    settings = ModelSettings(path=str(tmp_path))
    read, _ = read_config(settings, ())
    with pytest.raises(ConfigError, match="cannot be trained here"):
        load_policy(settings, read, seed=0)


def test_an_unknown_device_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'abacus'"):
        resolve_device("abacus")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "either path"),
        ({"path": "x", "scratch": {}}, "either path"),
        ({"path": "x", "tokenizer": "y"}, "goes with scratch"),
        ({"scratch": {}, "lora": {}}, "lora adapts a trained model"),
        ({"scratch": {"hidden_size": 30, "num_heads": 4}}, "no multiple"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelSettings.parse(given)
