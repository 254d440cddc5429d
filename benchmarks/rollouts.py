"""Responses sampled in process against `generate` of transformers on copies of the prompt.

Eight responses of 64 tokens to one prompt, temperature 1, by a random-weight Llama of four layers,
256 wide, with 2,048 words; one thread, float32, process CPU seconds, the least of the repeats,
which take turns. No response ends early in either: all draw 8 x 64 tokens. Ours gives the
log-probabilities as well.

    python benchmarks/rollouts.py

Bar: at least 3.0 times faster at 1,024 prompt tokens.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from oversight.modeling import Ids
from oversight.modeling.scoring.policy import PolicyModel
from oversight.train.experience_settings import SamplingSettings
from oversight.train.rollouts.in_process import InProcessSampler

BAR = 3.0
NUM_SAMPLES = 8
NEW_TOKENS = 64
VOCAB = 2048


def make_model() -> Any:
    """The model of all training benchmarks."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=0,
    )
    # transformers leaves its constructors untyped
    model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    return model.eval()


def seconds(work: Callable[[], None]) -> float:
    """Process CPU seconds of one call."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def ours(model: Any, prompt: Ids) -> Callable[[], None]:
    """One call of the in-process sampler."""
    settings = SamplingSettings(max_new_tokens=NEW_TOKENS)
    sampler = InProcessSampler(PolicyModel(model), settings, eos_ids=[VOCAB])

    def work() -> None:
        (samples,) = sampler.sample([prompt], NUM_SAMPLES, seed=0)
        assert all(len(each.token_ids) == NEW_TOKENS for each in samples)

    return work


def theirs(model: Any, prompt: Ids) -> Callable[[], None]:
    """One call of `generate` with its cache, on copies of the prompt."""
    ids = torch.from_numpy(prompt).repeat(NUM_SAMPLES, 1)

    def work() -> None:
        with torch.no_grad():
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                use_cache=True,
                max_new_tokens=NEW_TOKENS,
                eos_token_id=None,
            )
        assert made.shape[1] == len(prompt) + NEW_TOKENS

    return work


def compare(num_tokens: int, repeats: int) -> float:
    """Print both sides' figures at a prompt of so many tokens; return how much faster ours is."""
    prompt = np.random.default_rng(0).integers(0, VOCAB, num_tokens)
    works = (ours(make_model(), prompt), theirs(make_model(), prompt))
    for work in works:
        work()
    times = [[seconds(work) for work in works] for _ in range(repeats)]
    mine, other = (min(column) for column in zip(*times, strict=True))
    print(f"{num_tokens:>6}   {mine:>8.3f} s   {other:>8.3f} s   {other / mine:>5.2f} times")
    return float(other / mine)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(f"{NUM_SAMPLES} responses of {NEW_TOKENS} tokens to one prompt, CPU seconds")
    print("prompt       ours         generate")
    compare(384, repeats)
    ratio = compare(1024, repeats)
    print(f"bar at 1,024: {BAR:.1f} times; {'reached' if ratio >= BAR else 'NOT reached'}")


if __name__ == "__main__":
    main()
