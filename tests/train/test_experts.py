"""The load-balancing loss of models with experts is transformers' own, over a whole step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from oversight.errors import ConfigError
from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel, ScalarModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train import dpo, reward, sft
from oversight.train.experts import RouterBalance, check_experts
from oversight.train.runs.metrics import read_metrics
from oversight.train.settings import DataSettings, ModelSettings, OptimizerSettings

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 8,
    "decoder_sparse_step": 1,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
KINDS = ["Mixtral", "Qwen2Moe", "Qwen3Moe", "Olmoe", "Phimoe", "GraniteMoe", "FlexOlmo"]


def built(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**(SMALL | changes))
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    for weight in model.parameters():
        weight.data.normal_(0.0, 0.3)
    return model


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])


def rows() -> list[TokenRow]:
    """Three rows that begin alike, and one by itself."""
    rng = np.random.default_rng(0)
    shared = rng.integers(3, 50, 6)
    begun = [TokenRow(shared, rng.integers(3, 50, length)) for length in (3, 5, 4)]
    return [*begun, TokenRow(rng.integers(3, 50, 2), rng.integers(3, 50, 3))]


def theirs(model: Any, given: list[TokenRow]) -> Any:
    """transformers' loss of the rows, padded."""
    longest = max(row.num_tokens for row in given)
    ids, mask = (np.zeros((len(given), longest), dtype=np.int64) for _ in range(2))
    for i, row in enumerate(given):
        ids[i, : row.num_tokens], mask[i, : row.num_tokens] = row.ids(), 1
    return model(
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.from_numpy(mask),
        output_router_logits=True,
    ).aux_loss


@pytest.mark.parametrize("num_parts", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_its_gradient_are_transformers_own(kind: str, num_parts: int) -> None:
    model = built(kind)
    peer = copy.deepcopy(model).eval()
    expected = theirs(peer, rows())
    expected.backward()
    policy = PolicyModel(model)
    balance = RouterBalance(policy, 0.1)
    parts = [rows()] if num_parts == 1 else [rows()[:2], rows()[2:]]
    states = []
    for part in parts:
        with torch.no_grad(), balance.hearing() as routed:
            policy(RowBatch.build(part))
            states.append(routed().state())
    whole = [sum(each) for each in zip(*states, strict=True)]
    total = 0.0
    for part in parts:
        with balance.hearing() as routed:
            policy(RowBatch.build(part))
            loss = balance.loss(routed(), whole)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    assert total == pytest.approx(expected.item(), rel=1e-5)
    difference = (gradient(model) - gradient(peer)).norm() / gradient(peer).norm()
    assert difference < 1e-5


@pytest.fixture
def mixture(chat_model: Path, tmp_path: Path) -> ModelSettings:
    """A saved model with experts."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(chat_model)
    ids = {n: getattr(tokenizer, n) for n in ("pad_token_id", "bos_token_id", "eos_token_id")}
    model = built("Mixtral", vocab_size=len(tokenizer), max_position_embeddings=256, **ids)
    model.save_pretrained(tmp_path / "mixture")
    tokenizer.save_pretrained(tmp_path / "mixture")
    return ModelSettings(path=str(tmp_path / "mixture"), device="cpu")


PAIRS = [
    {"prompt": f"Where is number {i}?", "chosen": f" at {i}", "rejected": " nowhere"}
    for i in range(8)
]


def run(trainer: Any, out: Path, model: ModelSettings, **changes: Any) -> list[dict[str, Any]]:
    settings = {"batch_size": 4, "steps": 2, "data": DataSettings(), "save_every": 50}
    given = {"out": out, "model": model, "optimizer": OptimizerSettings(lr=1e-3)}
    trainer.train(trainer.Config(**(settings | given | changes)), rows=PAIRS)
    return list(read_metrics(out))


def told(model: ModelSettings, coefficient: float) -> ModelSettings:
    return model.model_copy(update={"router_aux_coefficient": coefficient})


@pytest.mark.parametrize("kind", ["Mixtral", "Qwen2Moe"])
def test_that_of_a_reward_model_is_that_of_a_language_model_with_its_layers(kind: str) -> None:
    peer = built(kind)
    scalar = getattr(transformers, f"{kind}ForSequenceClassification")(peer.config)
    scalar.base_model.load_state_dict(peer.base_model.state_dict())
    expected = theirs(peer.eval(), rows())
    expected.backward()
    balance = RouterBalance(ScalarModel(scalar), 0.1)
    with balance.hearing() as routed:
        balance.trained(RowBatch.build(rows()))
        found = routed()
    loss = balance.loss(found, found.state())
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, own = gradient(scalar.base_model), gradient(peer.base_model)
    assert ((ours - own).norm() / own.norm()) < 1e-5


@pytest.mark.parametrize("trainer", [sft, dpo, reward])
def test_micro_batches_do_not_change_it(
    mixture: ModelSettings, tmp_path: Path, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERSIGHT_CACHE", str(tmp_path / "cache"))
    model = told(mixture, 0.5)
    whole = run(trainer, tmp_path / "whole", model)
    parts = run(trainer, tmp_path / "parts", model, micro_batch_tokens=16)
    plain = run(trainer, tmp_path / "plain", mixture)
    for one, other in zip(whole, parts, strict=True):
        for name in ("loss", "router_aux", "grad_norm"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name
    assert whole[0]["router_aux"] > 1.9  # 2 where two of four experts are taken evenly
    assert whole[0]["loss"] == pytest.approx(plain[0]["loss"], rel=1e-5)
    assert whole[0]["grad_norm"] != pytest.approx(plain[0]["grad_norm"], rel=1e-3)


def test_it_spreads_the_load(mixture: ModelSettings, tmp_path: Path) -> None:
    fast = OptimizerSettings(lr=0.02, schedule="constant", warmup=0.0)
    lines = run(sft, tmp_path / "run", told(mixture, 1.0), steps=25, optimizer=fast)
    found = [line["router_aux"] for line in lines if "router_aux" in line]
    # 2 is an even load, two of four experts a token.
    assert found[-1] < 2.005 < 2.02 < found[0]


@pytest.mark.parametrize("coefficient", [0.0, 0.01])
def test_a_run_says_if_it_is_a_part_of_training(
    mixture: ModelSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str], coefficient: float
) -> None:
    run(sft, tmp_path / "run", told(mixture, coefficient))
    said = " ".join(capsys.readouterr().err.split())
    absent = "this model has experts: their load-balancing loss is not part of training"
    assert (absent in said) == (coefficient == 0.0)
    assert ("is added, times 0.01" in said) == (coefficient > 0.0)


def test_experts_whose_loss_transformers_has_not_are_told() -> None:
    config = transformers.DeepseekV3Config(num_hidden_layers=1)
    settings = ModelSettings(path="x")
    (line,) = check_experts(settings, config)
    assert line.endswith("is not part of training; it cannot be added")
    with pytest.raises(ConfigError, match="no load-balancing loss for deepseek_v3"):
        check_experts(told(settings, 0.1), config)


def test_a_coefficient_for_a_model_without_experts_is_refused(
    chat_model: Path, tmp_path: Path
) -> None:
    plain = ModelSettings(path=str(chat_model), device="cpu")
    assert check_experts(plain, transformers.LlamaConfig()) == []
    with pytest.raises(ConfigError, match=r"model\.router_aux_coefficient = 0\.1: .* no experts"):
        run(sft, tmp_path / "run", told(plain, 0.1))
    with pytest.raises(ConfigError, match=r"model\.router_aux_coefficient = 0\.1: .* no experts"):
        run(reward, tmp_path / "run", told(plain, 0.1))
    assert not (tmp_path / "run").exists()
