"""Two processes compute what one computes: losses, norms, held-out results, the finished model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from oversight.train.experience import even_order
from oversight.train.runs.metrics import read_metrics

STEERED = {"coefficient": 0.1, "target": 0.05, "horizon": 40.0}
KTO: dict[str, Any] = {"file": "kto.jsonl", "eval_rows": 3, "max_length": 64}
REUSED: dict[str, Any] = {"reuse": 2, "mini_batches": 2, "steps": 8}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", {"per_sequence": False}),
    # Nine rows in batches of four: the last batch has one, fewer than there are processes.
    "short": ("sft", {"data": {"eval_rows": 4}, "per_sequence": True}),
    "tied": ("sft", {"tied": True, "model": {"gradient_checkpointing": True}}),
    "reward": ("reward", {"loss": "davidson"}),
    "dpo": ("dpo", {}),
    "dpo-loop": ("dpo", {"precompute": False, "sft_weight": 0.1}),
    "dpo-lora": ("dpo", {"base": True, "model": {"lora": {"rank": 4}}, "precompute": False}),
    "grpo": ("grpo", REUSED | {"kl_coefficient": 0.1}),
    "ppo": ("ppo", REUSED),
    "ppo-apart": ("ppo", REUSED | {"base": True, "critic": {"kind": "apart"}}),
    # Thirteen prompts in fours: the last collection has one, fewer than there are processes,
    # and one of its mini-batches has none.
    "ppo-short": ("ppo", {"reuse": 1, "mini_batches": 2, "steps": 10, "kl": STEERED}),
    "grpo-short": ("grpo", {"mini_batches": 2, "steps": 10, "advantage": "role_baseline"}),
    "grpo-batch": ("grpo", REUSED | {"scale": "batch"}),
    "grpo-whitened": ("grpo", REUSED | {"advantage": "reinforce_plus_plus"}),
    "grpo-dynamic": ("grpo", {"loss": "dapo", "dynamic_sampling": 2, "steps": 5, "even": True}),
    "kto": ("dpo", {"data": KTO, "loss": "kto", "steps": 5}),
    "aot": ("dpo", {"loss": "aot"}),
    "aot-unpaired": ("dpo", {"loss": "aot_unpaired", "precompute": False}),
    # How evenly the experts are used is a product of sums over all processes' tokens.
    "experts-sft": ("sft", {"experts": True}),
    "experts-reward": ("reward", {"experts": True}),
    "experts-dpo": ("dpo", {"experts": True, "precompute": False}),
    "experts-grpo": ("grpo", REUSED | {"experts": True}),
}
CANCELS = {"value/explained"}
"""1 less a ratio near 1, of differences of squares: rounding shows more."""
COUNTS = {"value/clipped", "clip_low", "clip_high", "clip_dual"}
"""Shares of the step's tokens that are past a bound: rounding can put one at it on either side."""
ONE_TOKEN = 0.04
NOT_COMPARED = {"time", "wall_s", "tokens_per_s"}


def config(place: Any, name: str, who: str) -> tuple[str, dict[str, Any]]:
    """Trainer and settings of the run `name`, in a folder of its own for each of `who`."""
    trainer, changes = RUNS[name]
    changes = dict(changes)
    data, model = dict(changes.pop("data", {})), dict(changes.pop("model", {}))
    made = place.config(f"{name}-{who}", trainer)
    if changes.pop("base", False):
        made["model"] = {"path": str(place.folder / "sft-one" / "model"), "device": "cpu"}
    if changes.pop("experts", False):
        made["model"] = {
            "path": str(with_experts(place)),
            "device": "cpu",
            "router_aux_coefficient": 0.05,
        }
    if changes.pop("tied", False):
        made["model"]["scratch"] = made["model"]["scratch"] | {"tied": True}
    if changes.pop("even", False):
        made["reward"]["function"] = f"{place.folder / 'reward.py'}:even"
    if "file" in data:
        made["data"]["path"] = str(place.folder / data.pop("file"))
    made["data"] |= data
    made["model"] |= model
    return trainer, made | changes


def with_experts(place: Any) -> Path:
    """A small model of four experts, two of which compute each token."""
    folder: Path = place.folder / "experts"
    if not folder.exists():
        from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

        tokenizer = AutoTokenizer.from_pretrained(place.folder / "sft-one" / "model")
        torch.manual_seed(0)
        config = MixtralConfig(
            vocab_size=300,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_local_experts=4,
            num_experts_per_tok=2,
            max_position_embeddings=128,
            sliding_window=None,
            initializer_range=0.08,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        MixtralForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def compare(one: Path, two: Path) -> None:
    """Every metric of every step, and every weight of the finished model."""
    lines, others = read_metrics(one), read_metrics(two)
    assert [(a["step"], a["split"]) for a in lines] == [(b["step"], b["split"]) for b in others]
    for line, other in zip(lines, others, strict=True):
        assert line.keys() == other.keys()
        # While policy and reference are one, whether a pair is won is a matter of rounding.
        undecided = {"accuracy"} if abs(line.get("margin", 1.0)) < 1e-4 else set()
        for name in line.keys() - NOT_COMPARED - undecided - {"split"}:
            # What is 0 but for rounding, such as a sum of advantages, is compared by size.
            allowed = 1e-3 if name in CANCELS else ONE_TOKEN if name in COUNTS else 1e-5
            assert other[name] == pytest.approx(line[name], rel=1e-4, abs=allowed), (name, line)
    if "experts" in one.name:
        assert all("router_aux" in line for line in lines if line["split"] == "train")
    weights, theirs = (load_file(run / "model" / "model.safetensors") for run in (one, two))
    assert weights.keys() == theirs.keys()
    for name, weight in weights.items():
        largest = weight.abs().max()
        assert (weight - theirs[name]).abs().max() <= 1e-4 * largest, name


@pytest.fixture(scope="module")
def two(place: Any, tmp_path_factory: Any) -> Callable[[], list[str]]:
    """Runs all that is slow in one start of two processes, once; gives what they said."""
    said: list[str] = []

    def all_of_them() -> list[str]:
        if not said:
            runs = [
                dict(zip(("trainer", "config"), config(place, name, "two"), strict=True))
                for name in RUNS
                if name != "sft"
            ]
            codes, found = place.launch(runs, WARNINGS_ARE_ERRORS="1").wait(300)
            assert codes == [0, 0], found
            said.extend(found)
        return said

    return all_of_them


def test_two_processes_train_as_one_and_only_the_first_speaks(
    place: Any, alone: Callable[..., Path]
) -> None:
    trainer, settings = config(place, "sft", "two")
    launched = place.launch([{"trainer": trainer, "config": settings}], WARNINGS_ARE_ERRORS="1")
    alone(*config(place, "sft", "one"))
    codes, said = launched.wait()
    assert codes == [0, 0], said
    assert "finished: " in said[0]
    assert said[1] == ""
    compare(place.folder / "sft-one", place.folder / "sft-two")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", [name for name in RUNS if name != "sft"])
def test_every_trainer_gives_the_same_with_two_processes(
    name: str, place: Any, two: Callable[[], list[str]], alone: Callable[..., Path]
) -> None:
    if not (place.folder / "sft-one").exists():
        alone(*config(place, "sft", "one"))
    two()
    alone(*config(place, name, "one"))
    compare(place.folder / f"{name}-one", place.folder / f"{name}-two")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_two_processes_finished_is_a_model_that_transformers_loads(
    place: Any, two: Callable[[], list[str]]
) -> None:
    from transformers import AutoModelForCausalLM

    assert two()[1] == ""
    folder = place.folder / "tied-two" / "model"
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model(torch.tensor([[5, 6, 7]])).logits.isfinite().all()


@pytest.mark.parametrize("num", [1, 2, 6, 8, 12, 30])
def test_an_even_order_takes_each_once_and_spreads_neighbours(num: int) -> None:
    for seed in range(5):
        order = even_order(num, seed)
        assert sorted(order) == list(range(num))
        for size in (size for size in range(1, num + 1) if num % size == 0):
            for start in range(num - size + 1):
                assert len(set(order[start : start + size] % size)) == size
    assert len({tuple(even_order(12, seed)) for seed in range(20)}) > 10
