"""Models made by hand, of which it is known what is inside: what every method is tried on first.

`direction_model` writes a known direction into its stream, `copying_model` has one head that copies
a marked token among heads that do nothing of use, `planted_features` are states made of sparse
known features, and `random_model` has learnt nothing: what is claimed of it is false.

Shapes: N examples, E hidden size, F features, K features of one example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from oversight.interp.contrasts import ContrastExample
from oversight.interp.probes import Floats64
from oversight.modeling import Ids

NUM_NOISE = 40
"""Tokens of the direction model that mean nothing; the two after them are the markers."""
NUM_CONTENT = 12
"""Tokens that the copying model can copy."""


def random_model(seed: int = 0, **changes: Any) -> Any:
    """A small Llama with random weights, as transformers begins it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    known: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e9},
        "tie_word_embeddings": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind: Any = LlamaForCausalLM
        made: Any = kind(LlamaConfig(**known | changes))
    return made.eval().requires_grad_(False)


@torch.no_grad()
def direction_model(seed: int = 0, strength: float = 3.0) -> tuple[Any, Floats64]:
    """A model whose stream after layer 0 tells, along a known direction, which marker it has read.

    One head attends to all tokens alike and writes +direction for the first marker and -direction
    for the second; all else is as in a random model.

    Returns:
        The model, and the direction [E] of norm 1.
    """
    model = random_model(seed)
    rng = torch.Generator().manual_seed(seed)
    size = model.config.hidden_size
    basis = torch.linalg.qr(torch.randn(size, 2, generator=rng))[0].T
    told, sign = basis[0], basis[1]
    embeddings = model.model.embed_tokens.weight
    embeddings.normal_(0.0, 1.0, generator=rng)
    embeddings -= (embeddings @ basis.T) @ basis
    embeddings[NUM_NOISE] += size**0.5 * sign
    embeddings[NUM_NOISE + 1] -= size**0.5 * sign
    attention = model.model.layers[0].self_attn
    for part in (attention.q_proj, attention.k_proj):
        part.weight[:8] = 0.0
    attention.v_proj.weight[:8] = 0.0
    attention.v_proj.weight[0] = sign
    attention.o_proj.weight[:, :8] = 0.0
    attention.o_proj.weight[:, 0] = strength * told
    direction: Floats64 = told.double().numpy()
    return model, direction


def direction_examples(num: int, seed: int = 0, length: int = 8) -> list[ContrastExample]:
    """Rows of noise with one of two markers in a random place before the last; two a question."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(num):
        noise = rng.integers(0, NUM_NOISE, length)
        at = int(rng.integers(length - 1))
        for label in (True, False):
            ids: Ids = noise.copy()
            ids[at] = NUM_NOISE + (not label)
            words = " ".join(f"t{each}" for each in noise.tolist())
            found.append(
                ContrastExample(ids, label, f"q{number}", words, f"at{at % 2}", pair=number)
            )
    return found


def random_examples(num: int, seed: int = 0, vocab: int = 64) -> list[ContrastExample]:
    """Random rows whose labels mean nothing, two of them a question."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(num):
        coin = bool(rng.integers(2))
        for label in (coin, not coin):
            ids: Ids = rng.integers(0, vocab, int(rng.integers(6, 11)))
            words = " ".join(f"t{each}" for each in ids.tolist())
            template = f"m{number % 2}"
            found.append(ContrastExample(ids, label, f"q{number}", words, template, pair=number))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class CopyingModel:
    """A model with one head that copies, and where that head is."""

    model: Any
    layer: int
    head: int
    query_token: int

    def row(self, marked: int, seed: int = 0, length: int = 9) -> Ids:
        """Content tokens, one of them marked, and the token that asks for it at the end."""
        rng = np.random.default_rng(seed)
        ids: Ids = rng.integers(0, NUM_CONTENT, length)
        ids[int(rng.integers(length - 1))] = NUM_CONTENT + marked
        ids[-1] = self.query_token
        return ids


@torch.no_grad()
def copying_model(layer: int = 1, head: int = 2, seed: int = 0) -> CopyingModel:
    """A model that answers with the token that is marked in its row, by one head alone.

    Content tokens 0 to 11, the same marked 12 to 23, and one that asks, 24. The head finds the mark
    by a flag in the stream, reads the content's 12 dimensions, and writes them into 12 others that
    the unembedding reads. Other heads have small random weights.
    """
    size, wide = 64, 16
    model = random_model(
        seed, hidden_size=size, num_hidden_layers=2, num_attention_heads=4, vocab_size=25,
        num_key_value_heads=4, intermediate_size=32, head_dim=wide,
    )  # fmt: skip
    body = model.model
    for part in model.parameters():
        if part.dim() > 1:
            part.mul_(0.5)
    content, written = slice(0, NUM_CONTENT), slice(NUM_CONTENT, 2 * NUM_CONTENT)
    flag, asks, query_token = 2 * NUM_CONTENT, 2 * NUM_CONTENT + 1, 2 * NUM_CONTENT
    table = body.embed_tokens.weight
    table.zero_()
    for token in range(NUM_CONTENT):
        table[token, token] = table[NUM_CONTENT + token, token] = 4.0
        table[NUM_CONTENT + token, flag] = 4.0
    table[query_token, asks] = 4.0
    own = slice(head * wide, (head + 1) * wide)
    attention = body.layers[layer].self_attn
    for part in (attention.q_proj, attention.k_proj, attention.v_proj):
        part.weight[own] = 0.0
    # The last pair of dimensions turns by an angle that is as good as none.
    attention.q_proj.weight[own.stop - 1, asks] = 4.0
    attention.k_proj.weight[own.stop - 1, flag] = 4.0
    attention.v_proj.weight[own.start : own.start + NUM_CONTENT, content] = torch.eye(NUM_CONTENT)
    attention.o_proj.weight[:, own] = 0.0
    attention.o_proj.weight[written, own.start : own.start + NUM_CONTENT] = 2 * torch.eye(
        NUM_CONTENT
    )
    model.lm_head.weight.zero_()
    model.lm_head.weight[content, written] = torch.eye(NUM_CONTENT)
    return CopyingModel(model, layer, head, query_token)


def planted_features(
    num: int, width: int = 32, num_features: int = 48, active: int = 3, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """States that are sums of a few known features, with a little noise.

    Returns:
        States [N, E], and the features [F, E] of norm 1.
    """
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((num_features, width))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    codes = np.zeros((num, num_features))
    for row in codes:
        row[rng.choice(num_features, active, replace=False)] = rng.uniform(0.5, 1.5, active)
    states = codes @ features + 0.01 * rng.standard_normal((num, width))
    return states.astype(np.float32), features.astype(np.float32)
