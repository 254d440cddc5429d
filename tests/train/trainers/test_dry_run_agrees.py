"""A run and its `--dry-run` refuse the same settings with the same words."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers

from oversight.errors import OversightError
from oversight.train import dpo, grpo, plan, ppo, registered, reward, sft
from oversight.train.experience_settings import RewardSettings, SamplingSettings, ShapingSettings


@pytest.fixture(scope="module")
def models(cases: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a small policy and of models that go with it, or do not."""
    folder = tmp_path_factory.mktemp("models")
    rows = cases.demonstrations(8)
    config = sft.Config(**cases.common(folder / "run", steps=1))
    policy = sft.train(config, rows=rows)
    shutil.copytree(policy, folder / "policy")
    tokenizer = transformers.AutoTokenizer.from_pretrained(policy)
    kinds = {
        "reward": (transformers.LlamaForSequenceClassification, {"num_labels": 1}),
        "labels": (transformers.LlamaForSequenceClassification, {"num_labels": 3}),
        "fewer": (
            transformers.LlamaForSequenceClassification,
            {"num_labels": 1, "vocab_size": len(tokenizer)},
        ),
        "more": (transformers.LlamaForCausalLM, {"vocab_size": 400}),
    }
    for name, (kind, changes) in kinds.items():
        made = transformers.AutoConfig.from_pretrained(policy, **changes)
        kind(made).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    sizes = {
        "vocab_size": transformers.AutoConfig.from_pretrained(policy).vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    for name, (architecture, changes) in INEXACT.items():
        made = getattr(transformers, f"{architecture.partition('For')[0]}Config")
        getattr(transformers, architecture)(made(**sizes, **changes)).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


INEXACT: dict[str, tuple[str, dict[str, Any]]] = {
    "window": ("PhimoeForCausalLM", {"sliding_window": 300, "num_local_experts": 2}),
    "state": (
        "JambaForCausalLM",
        {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "num_experts": 2,
            "mamba_d_state": 4,
            "use_mamba_kernels": False,
        },
    ),
    "headless": ("GraniteForCausalLM", {}),
    "renamed": ("BertForSequenceClassification", {"num_labels": 1}),
}
"""Folders of models that no trie, or no reward model's head, can be exact for."""


SAMPLES = {
    "reward": RewardSettings(source="length"),
    "sampling": SamplingSettings(max_new_tokens=5),
}
CASES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "not finite": (sft, {"optimizer": {"lr": float("inf")}}, "optimizer.lr = inf"),
    "betas": (sft, {"optimizer": {"betas": (1.5, 0.9)}}, "optimizer.betas.0 = 1.5"),
    "seed": (sft, {"seed": -1}, "seed = -1"),
    "attention": (sft, {"model": {"attention": "flex"}}, "model.attention = 'flex'"),
    "another kind": (sft, {"model": {"path": "reward"}}, "1 weights are missing"),
    "reference": (dpo, {"reference": "reward"}, "reference = 'reward': 1 weights are missing"),
    "critic's labels": (
        ppo,
        {"critic": {"kind": "apart", "path": "labels"}},
        "critic.path = 'labels': in model.safetensors",
    ),
    "critic's tokens": (
        ppo,
        {"critic": {"kind": "apart", "path": "more"}},
        "critic.path = 'more': its vocabulary",
    ),
    "no critic": (
        ppo,
        {"critic": {"kind": "apart", "path": "./nowhere"}},
        "critic.path = './nowhere': there is no such folder",
    ),
    "fewer ids": (
        grpo,
        {"reward": RewardSettings(models=("fewer",))},
        "reward.models = 'fewer': it has embeddings of",
    ),
    "no reference": (grpo, {"kl_coefficient": 0.1, "reference": "none"}, "kl_coefficient = 0.1"),
    "no divergence": (ppo, {"reference": "none"}, "kl.coefficient = 0.05"),
    "overlong": (grpo, {"shaping": ShapingSettings(overlong_cache=6)}, "overlong_cache = 6"),
    "engine": (
        grpo,
        {"engine": "vllm", "engine_settings": {"nothing": 1}},
        "unknown setting 'engine_settings.nothing'",
    ),
    "nccl without a GPU": (
        grpo,
        {"engine": "vllm", "weight_sync": "nccl"},
        "weight_sync = 'nccl' transfers weights from GPU to GPU, and the policy is on 'cpu'",
    ),
    "tied": (reward, {"loss": "plackett_luce"}, "learns nothing from any"),
    "a window of the mask": (sft, {"model": {"path": "window"}}, "past its sliding_window = 300"),
    "a state": (dpo, {"model": {"path": "state"}}, "with the rows that it is computed with"),
    "a reference's state": (dpo, {"reference": "state"}, "with the rows that it is computed with"),
    "no head": (reward, {"model": {"path": "headless"}}, "no sequence-classification class"),
    "another head": (reward, {"model": {"path": "renamed"}}, "no head called 'score'"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_and_its_dry_run_refuse_alike(
    cases: ModuleType, models: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(models)
    trainer, changes, told = CASES[case]
    rows = [row | {"ranks": [0, 0]} for row in cases.pairs(8)]
    if case == "tied":
        rows = [
            {"prompt": r["prompt"], "completions": [r["chosen"], r["rejected"]], "ranks": [0, 0]}
            for r in rows
        ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = dict(changes)
    given = {
        "out": models / "out",
        "batch_size": 4,
        "steps": 1,
        "model": {"path": "policy", "device": "cpu"} | changes.pop("model", {}),
        "data": {"path": "rows.jsonl"},
    }
    if trainer in (ppo, grpo):
        given |= SAMPLES | {"samples": 2}
    name = trainer.__name__.rpartition(".")[2]
    said = []
    for act in (
        lambda config: list(plan.lines(registered.load(name), config)),
        trainer.train,
    ):
        with pytest.raises(OversightError) as raised:
            act(trainer.Config.parse(given | changes))
        said.append(str(raised.value))
    assert said[0] == said[1]
    assert told in said[0]
    assert not os.path.exists(models / "out")
