"""A small model with random weights, and a tokenizer made from the texts it will learn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from oversight.errors import ConfigError
from oversight.train.settings import ScratchSettings

PAD, EOS, SYSTEM, USER, ASSISTANT = "<pad>", "<eos>", "<|system|>", "<|user|>", "<|assistant|>"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """A byte-level BPE tokenizer of at most `vocab_size` tokens, with a chat template.

    Raises:
        ConfigError: There is no text to learn from.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, EOS, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    counted = _Counted(texts)
    core.train_from_iterator(counted, trainer)
    if not counted.num:
        raise ConfigError("model.scratch: the data has no text to make a tokenizer from")
    make: Any = PreTrainedTokenizerFast
    tokenizer = make(tokenizer_object=core, pad_token=PAD, eos_token=EOS)
    tokenizer.add_special_tokens({"additional_special_tokens": [SYSTEM, USER, ASSISTANT]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


class _Counted:
    """Texts handed on, and how many there were."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.num = 0

    def __iter__(self) -> Any:
        for text in self._texts:
            if text.strip():
                self.num += 1
                yield text


def random_config(settings: ScratchSettings, tokenizer: Any) -> Any:
    """The transformers configuration of a model of that size for that tokenizer."""
    from transformers import LlamaConfig, Qwen2Config

    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[settings.architecture]
    return kind(
        # Whole multiples of 64 are what serving engines and matrix kernels like.
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size or 4 * settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_key_heads or settings.num_heads,
        max_position_embeddings=settings.max_length,
        initializer_range=settings.init_std,
        tie_word_embeddings=settings.tied,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )


def random_model(kind: Any, config: Any, seed: int) -> Any:
    """A model of class `kind` with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind.from_config(config)


CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
