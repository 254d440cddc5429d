"""A policy's weights by name: adapters added, shapes known beforehand, saved whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from oversight.engines import vllm
from oversight.errors import ConfigError
from oversight.modeling.scoring.policy import PolicyModel
from oversight.train.rollouts.weight_sync import (
    NcclSync,
    full_weights,
    save_beside,
    save_weights,
    served_for_nccl,
    weight_shapes,
    workers_of,
)

MakeLm = Callable[..., Any]


def adapted(model: Any, **changes: Any) -> PolicyModel:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        **{"r": 3, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False, **changes}
    )
    return PolicyModel(get_peft_model(model, config))


def test_an_adapter_is_added_to_what_it_adapts_and_nothing_else(random_lm: MakeLm) -> None:
    policy = adapted(random_lm())
    before = {name: value.clone() for name, value in policy.inner.state_dict().items()}
    expected = copy.deepcopy(policy.model).merge_and_unload().state_dict()
    found = dict(full_weights(policy))
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-7)
    assert all(before[name].equal(value) for name, value in policy.inner.state_dict().items())
    assert weight_shapes(policy) == [(name, tuple(value.shape)) for name, value in found.items()]


def test_adapters_that_are_more_than_a_sum_are_refused(random_lm: MakeLm) -> None:
    with pytest.raises(ConfigError, match="such an adapter cannot be added"):
        dict(full_weights(adapted(random_lm(), use_dora=True)))


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_saved_weights_are_read_back_as_they_were(
    random_lm: MakeLm, tmp_path: Path, architecture: str
) -> None:
    from transformers import AutoModelForCausalLM

    policy = adapted(random_lm(architecture))
    folder = save_weights(policy, tmp_path / "saved")
    assert [place.name for place in tmp_path.iterdir()] == ["saved"]
    read = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    for name, value in full_weights(policy):
        assert read[name].equal(value), name


def test_a_write_that_fails_leaves_what_was_there(
    random_lm: MakeLm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = PolicyModel(random_lm())
    save_weights(policy, tmp_path / "saved")
    held = (tmp_path / "saved" / "model.safetensors").read_bytes()

    def fails(folder: Path, **_: Any) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(policy.inner, "save_pretrained", fails)
    with pytest.raises(OSError, match="disk full"):
        save_weights(policy, tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == held


def test_a_model_without_a_folder_cannot_be_handed_over_beside_its_tokenizer(
    random_lm: MakeLm, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="give the folder of the model that training begins with"):
        save_beside(PolicyModel(random_lm()), "org/model", tmp_path, 1)


def test_native_transfer_needs_a_gpu(random_lm: MakeLm) -> None:
    weight_sync: Any = NcclSync()
    with pytest.raises(ConfigError, match="the policy is on 'cpu'"):
        weight_sync.give(PolicyModel(random_lm()), 1, None, None)


def test_servers_that_take_weights_by_nccl_are_started_for_it() -> None:
    config = vllm.Config(model="m", replicas=2, devices=("1,2", "3,4"), extra_args=("--x",))
    served = served_for_nccl(config)
    assert served.extra_args == ("--x", "--weight-transfer-config", '{"backend": "nccl"}')
    assert workers_of(served) == 2
    assert workers_of(vllm.Config(model="m")) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"replicas": 2, "devices": ("1,2", "3")}, r"engine_settings\.devices = .*same number"),
        ({"extra_args": ("--tensor-parallel-size", "2")}, r"engine_settings\.extra_args = '--ten"),
    ],
)
def test_servers_of_unknown_or_unlike_numbers_of_gpus_are_refused(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        served_for_nccl(vllm.Config(model="m", **changes))


def test_a_run_goes_on_whichever_way_its_servers_are_handed_weights(tmp_path: Path) -> None:
    from oversight.train.experience_settings import ExperienceSettings

    given = {
        "out": tmp_path,
        "model": {"path": "m"},
        "data": {"path": "rows.jsonl"},
        "reward": {"source": "length", "target_tokens": 4},
        "engine": "vllm",
    }
    plain = ExperienceSettings.parse(given, where="grpo")
    by_nccl = ExperienceSettings.parse(given | {"weight_sync": "nccl"}, where="grpo")
    assert plain.identity() == by_nccl.identity()
    assert "weight_sync" not in plain.identity()
