"""A small run that can be cut at any place, and its pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oversight.train.runs.folder import RunDescription
from oversight.train.runs.state import RunState, trained_weights


@dataclass
class Memory:
    """A part that holds whatever it is given."""

    values: dict[str, Any] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.values)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values = state_dict


@dataclass
class Toy:
    """A model, its optimizer and a part, with steps that draw from every random stream."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    memory: Memory
    generator: np.random.Generator

    @property
    def state(self) -> RunState:
        return RunState(
            trained_weights(model=self.model),
            self.optimizer,
            {"memory": self.memory},
            {"own": self.generator},
        )

    def step(self) -> float:
        import random

        noise = random.random() + np.random.rand() + self.generator.random()
        x = torch.randn(4, 5)
        loss = (self.model(x) - noise).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.memory.values["cursor"] = self.memory.values.get("cursor", 0) + 1
        return float(loss.detach())

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: w.detach().clone() for name, w in self.state.weights.items()}


MakeToy = Callable[..., Toy]


@pytest.fixture
def make_toy() -> MakeToy:
    """Gives toys of a seed; two of one seed are the same."""

    def make(seed: int = 0, width: int = 3, fused: bool = False) -> Toy:
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(5, width), torch.nn.BatchNorm1d(width))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)
        return Toy(model, optimizer, Memory(), np.random.default_rng(seed))

    return make


@pytest.fixture
def about() -> Callable[..., RunDescription]:
    """Gives what a run is, with settings changed."""

    def make(**settings: Any) -> RunDescription:
        identity = {"optimizer": {"lr": 1e-3}, "batch_size": 4} | settings
        config = identity | {"out": "somewhere", "model": {"path": None, "name": 'a "b"'}}
        return RunDescription(
            "dpo", config, identity, "hash-of-data", 7, {"source": "made up", "rows": 3}
        )

    return make


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A byte-level BPE with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<eos>", "<user>", "<assistant>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["the key was in the kitchen", "which answer is right"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    )
    return tokenizer


@pytest.fixture
def tiny_llama() -> Callable[..., Any]:
    """Gives random Llamas of a seed, tied or not."""

    def make(seed: int = 0, **config: Any) -> Any:
        from transformers import LlamaConfig, LlamaForCausalLM

        settings: dict[str, Any] = {
            "vocab_size": 320,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 64,
            "bos_token_id": None,
            "eos_token_id": 1,
        }
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**settings | config))

    return make


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    """The folder that a run will make."""
    return tmp_path / "run"
