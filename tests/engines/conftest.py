"""A tiny random-weight chat model, made in about a second, that every engine can load."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.engines.answering import Handler

CORPUS = (
    "You are a careful debater. The source says that the key was in the kitchen at noon.",
    "Which answer is right, A or B? Answer with one letter. Yes or no?",
    "The judge reads the transcript, the quotes and both sides before it decides.",
)
SPECIAL = ("<|bos|>", "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
PROBE = "<|user|>\nNaïve “quotes” — naïve\ttabs, 東京 and 🙂.<|end|>\n"


def _tokenizer():  # type: ignore[no-untyped-def]  # transformers is imported only when asked for
    """A byte-level BPE: every text is encoded without loss, roles are single special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Save a 2-layer, 64-wide Llama with its tokenizer; checked by reloading.

    The initialisation is wide (0.2), so that greedy choices are far apart and
    two float32 implementations agree on them.
    """
    import torch
    from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # transformers 5 picks the tokenizer class from config.json, and a wrong class encodes
    # to other ids without a word: hence the reload.
    reloaded = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(PROBE)["input_ids"]
    assert reloaded(PROBE)["input_ids"] == ids
    assert reloaded.decode(ids) == PROBE
    assert reloaded.chat_template == CHAT_TEMPLATE
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random-weight chat model (Llama, 0.1 M parameters, float32, context 4,096)."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_model_without_template(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The same model, whose tokenizer has no chat template."""
    import shutil

    folder = tmp_path_factory.mktemp("models") / "tiny-llama-bare"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("chat_template.jinja"))
    return folder


@pytest.fixture(scope="session")
def vllm_python(root: Path) -> str:
    """An interpreter that has vLLM; tests that need it skip where there is none."""
    from oversight.engines.vllm.settings import PYTHON_VARIABLE, find_interpreter
    from oversight.errors import MissingDependencyError

    beside = root / ".venv-vllm" / "bin" / "python"
    if PYTHON_VARIABLE not in os.environ and beside.exists():
        return find_interpreter(str(beside))
    try:
        return find_interpreter(None)
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture
def server() -> Iterator[Any]:
    """A model server on loopback; set its `reply`."""
    found: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.lock, found.asked = threading.Lock(), []
    thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()
