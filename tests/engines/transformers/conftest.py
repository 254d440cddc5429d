"""Tiny random-weight models of many architectures, and engines on them that are closed again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from oversight.engines.transformers import Config, TransformersEngine, build
from oversight.types import Message, Prompt, Request, Sampling

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {**SMALL, "tie_word_embeddings": False},
    "gpt2": {
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 1024,
        "initializer_range": 0.2,
    },
    "qwen2": SMALL,
    "mistral": {**SMALL, "sliding_window": 24, "head_dim": 16},
    "gemma3_text": {
        **SMALL,
        "head_dim": 16,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4, "initializer_range": 0.2},
    "mamba": {
        "hidden_size": 32,
        "state_size": 8,
        "num_hidden_layers": 2,
        "initializer_range": 0.2,
        "use_mambapy": False,
    },
}


@pytest.fixture(scope="session")
def model_folder(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Gives the folder of a model of an architecture, with the tiny model's tokenizer."""
    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            place = tmp_path_factory.mktemp("models") / architecture
            made[architecture] = save_model(architecture, tiny_model, place)
        return made[architecture]

    return folder


def save_model(architecture: str, tokenizer_folder: Path, folder: Path) -> Path:
    """Save a model of `architecture`; its tokenizer is checked by reloading."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    config = AutoConfig.for_model(
        architecture,
        # A few more than the tokenizer has, as most published models do.
        vocab_size=384,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **ARCHITECTURES[architecture],
    )
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    probe = "<|user|>\nA naïve probe.<|end|>"
    assert (
        AutoTokenizer.from_pretrained(folder)(probe)["input_ids"] == tokenizer(probe)["input_ids"]
    )
    return folder


MakeEngine = Callable[..., TransformersEngine]


@pytest.fixture
async def make_engine() -> AsyncIterator[MakeEngine]:
    """Gives engines on a model folder, in float32 on the CPU, and closes them."""
    made: list[TransformersEngine] = []

    def make(folder: Path, **settings: Any) -> TransformersEngine:
        # One thread: these models are too small to share, and test runs share their cores.
        config = {"device": "cpu", "dtype": "float32", "num_threads": 1, **settings}
        engine = build(Config(model=str(folder), **config))
        made.append(engine)
        return engine

    yield make
    for engine in made:
        await engine.aclose()


@pytest.fixture
def engine(tiny_model: Path, make_engine: MakeEngine) -> TransformersEngine:
    """An engine on the tiny Llama."""
    return make_engine(tiny_model)


@pytest.fixture
def ask() -> Callable[..., Request]:
    """Makes a request of one user message; keywords are its sampling."""

    def request(content: str, id: str = "", system: str = "", **sampling: Any) -> Request:
        messages = [Message(role="system", parts=(system,))] if system else []
        messages.append(Message(role="user", parts=(content,)))
        return Request(Prompt(messages=tuple(messages)), Sampling(**sampling), id=id)

    return request


@pytest.fixture(scope="session")
def reference() -> Callable[[Path], Any]:
    """Gives the model of a folder as transformers loads it."""
    loaded: dict[Path, Any] = {}

    def load(folder: Path) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(1)
        if folder not in loaded:
            loaded[folder] = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
        return loaded[folder]

    return load
