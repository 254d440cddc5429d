"""Options that may change time and memory, and not what is computed; and adapters."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from oversight.train.session import Session
from oversight.train.settings import DataSettings, LoraSettings, ModelSettings

STEPS = 5


EXACT = ("loss", "grad_norm", "nll", "accuracy", "reward")


def compared(cases: ModuleType, one: Path, other: Path) -> None:
    """Losses and gradients of two runs are the same but for rounding; so are all other metrics,
    of which some (an explained variance, a largest ratio) make rounding larger."""
    first, second = cases.timeless(one), cases.timeless(other)
    assert len(first) == len(second) >= STEPS
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            if name != "split":
                near = 1e-4 if name in EXACT else 1e-2
                assert b[name] == pytest.approx(value, rel=near, abs=near), (a["step"], name)


def changes(name: str) -> dict[str, Any]:
    """GRPO's penalty has no gradient while policy and reference are one, and AdamW would make a
    step of what rounding leaves of it."""
    return {"steps": STEPS} | ({"kl_coefficient": 0.0} if name == "grpo" else {})


@pytest.mark.parametrize(
    "name",
    [
        "sft",
        "reward",
        "dpo-in-loop",
        "ppo",
        pytest.param("kto", marks=pytest.mark.slow),
        pytest.param("grpo", marks=pytest.mark.slow),
    ],
)
def test_small_micro_batches_change_nothing(cases: ModuleType, tmp_path: Path, name: str) -> None:
    cases.CASES[name](tmp_path / "whole", **changes(name))
    cases.CASES[name](tmp_path / "parts", micro_batch_tokens=16, **changes(name))
    compared(cases, tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    "name",
    [
        "sft",
        "ppo",
        pytest.param("reward", marks=pytest.mark.slow),
        pytest.param("dpo", marks=pytest.mark.slow),
        pytest.param("grpo", marks=pytest.mark.slow),
    ],
)
def test_gradient_checkpointing_changes_nothing(
    cases: ModuleType, tmp_path: Path, name: str
) -> None:
    checkpointing = cases.TINY.model_copy(update={"gradient_checkpointing": True})
    cases.CASES[name](tmp_path / "kept", **changes(name))
    cases.CASES[name](tmp_path / "again", model=checkpointing, **changes(name))
    compared(cases, tmp_path / "kept", tmp_path / "again")


def test_a_reference_scored_before_training_is_that_scored_in_the_loop(
    cases: ModuleType, tmp_path: Path
) -> None:
    cases.CASES["dpo"](tmp_path / "before", steps=STEPS, sft_weight=0.1)
    cases.CASES["dpo-in-loop"](tmp_path / "loop", steps=STEPS)
    compared(cases, tmp_path / "before", tmp_path / "loop")


@pytest.fixture
def base(cases: ModuleType, tmp_path: Path) -> Path:
    path: Path = cases.CASES["sft"](tmp_path / "base", steps=2)
    return path


@pytest.mark.parametrize(("name", "dropout"), [("dpo", 0.1), ("dpo-in-loop", 0.0), ("grpo", 0.0)])
def test_adapters_leave_the_base_as_it_is_and_end_in_a_model_that_loads(
    cases: ModuleType, base: Path, tmp_path: Path, name: str, dropout: float
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before = {path.name: path.read_bytes() for path in base.iterdir() if path.is_file()}
    lora = LoraSettings(rank=4, alpha=8.0, dropout=dropout)
    adapted = ModelSettings(path=str(base), device="cpu", lora=lora)
    out = cases.CASES[name](tmp_path / "run", model=adapted, steps=STEPS)
    assert {path.name: path.read_bytes() for path in base.iterdir() if path.is_file()} == before

    merged = AutoModelForCausalLM.from_pretrained(out)
    origin = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.tensor([AutoTokenizer.from_pretrained(out).encode("3 red gold: blue")])
    with torch.no_grad():
        ours, theirs = merged(ids).logits, origin(ids).logits
        assert (ours - theirs).abs().max() > 1e-4
        adapter: Any = PeftModel.from_pretrained(origin, str(out / "adapter"))
        torch.testing.assert_close(adapter.eval()(ids).logits, ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_dropout_of_adapters_is_refused_where_a_policy_learns_from_its_own_samples(
    cases: ModuleType, tmp_path: Path, name: str
) -> None:
    adapted = ModelSettings(path="anywhere", lora=LoraSettings(dropout=0.1))
    with pytest.raises(ValueError, match=r"model\.lora\.dropout = 0\.1: .* set it to 0"):
        cases.CASES[name](tmp_path / "run", model=adapted)


def test_a_run_of_adapters_goes_on_bit_for_bit(
    cases: ModuleType, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout of the adapters draws from the random state, which must go on as well."""
    from oversight.train.runs.folder import RunFolder

    lora = LoraSettings(rank=4, alpha=8.0, dropout=0.1)
    adapted = ModelSettings(path=str(base), device="cpu", lora=lora)
    cases.CASES["dpo-in-loop"](tmp_path / "whole", model=adapted)
    log = RunFolder.log

    def ending(self: RunFolder, step: int, *given: Any) -> None:
        if step == 5:
            raise KeyboardInterrupt
        log(self, step, *given)

    monkeypatch.setattr(RunFolder, "log", ending)
    with pytest.raises(KeyboardInterrupt):
        cases.CASES["dpo-in-loop"](tmp_path / "cut", model=adapted)
    monkeypatch.setattr(RunFolder, "log", log)
    cases.CASES["dpo-in-loop"](tmp_path / "cut", model=adapted, resume=True)
    assert cases.same(tmp_path / "whole", tmp_path / "cut")


def test_without_shuffling_examples_come_in_the_order_of_the_data(
    cases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[list[int]] = []
    take = Session.take

    def noted(self: Session) -> list[int]:
        taken.append(take(self))
        return taken[-1]

    monkeypatch.setattr(Session, "take", noted)
    cases.CASES["sft"](tmp_path / "run", shuffle=False, data=DataSettings(), steps=5)
    places = [*range(14)]
    assert taken == [places[:4], places[4:8], places[8:12], places[12:], places[:4]]
