"""Estimate of the memory that a step takes, before anything is allocated; and of its precision.

The tensors that a Llama-like layer keeps for its backward pass are counted, at the
tokens that are computed at once. `tests/train/test_estimate.py` holds the estimate
against real steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from oversight.modeling.scoring.logprobs import BLOCK_ELEMENTS, BLOCK_TOKENS
from oversight.train.settings import ModelSettings

FLOAT, HALF = 4, 2
"""Bytes of a number."""
BLOCK_COPIES = 4
"""Tensors of the size of a chunk of logits that are held at once: logits, probabilities, their
gradient, and one more on the way."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a model that its memory depends on."""

    hidden: int
    num_layers: int
    intermediate: int
    query: int
    """Numbers of a token's queries, over all heads."""
    key: int
    """Numbers of a token's keys; values have as many."""
    vocab: int
    num_weights: int
    num_trained: int
    """Weights that are trained: all, or those of adapters."""

    @classmethod
    def of(cls, config: Any, model: torch.nn.Module) -> ModelShape:
        """The sizes of `model`, which may stand on the meta device."""
        text = config.get_text_config()
        heads = text.num_attention_heads
        size = getattr(text, "head_dim", None) or text.hidden_size // heads
        keys = getattr(text, "num_key_value_heads", None) or heads
        weights = list(model.parameters())
        return cls(
            hidden=text.hidden_size,
            num_layers=text.num_hidden_layers,
            intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
            query=heads * size,
            key=keys * size,
            vocab=text.vocab_size,
            num_weights=sum(weight.numel() for weight in weights),
            num_trained=sum(weight.numel() for weight in weights if weight.requires_grad),
        )


@dataclass(frozen=True, slots=True)
class BatchLoad:
    """Number of tokens and rows that are computed at once."""

    num_tokens: int
    """Tokens of the largest micro-batch, shared beginnings counted once."""
    num_scored: int
    """Of these, places where the head is evaluated; 0 for a model without one."""
    num_sampled: int = 0
    """Responses that grow side by side; 0 where nothing is sampled here."""
    max_new_tokens: int = 0
    num_prompt_tokens: int = 0
    """Of the prompts that are sampled from at once."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes at the peak of a step, on one process."""

    parts: tuple[tuple[str, int], ...]
    """Parts that are held in memory, in the order in which they are shown."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(size for _, size in self.parts)


def estimate(
    shape: ModelShape,
    load: BatchLoad,
    settings: ModelSettings,
    *,
    others: tuple[tuple[str, int], ...] = (),
    num_processes: int = 1,
) -> MemoryEstimate:
    """The memory of a training step.

    Args:
        shape: Of the model that is trained.
        load: Tokens and rows that are computed at once.
        settings: How the model computes.
        others: Names of further models that are held, and their numbers of weights.
        num_processes: Over which weights, gradients and the optimiser's state are split.
    """
    held = [("weights", shape.num_weights * FLOAT), ("gradients", shape.num_trained * FLOAT)]
    held += [("AdamW", 2 * shape.num_trained * FLOAT)]
    held += [(name, number * FLOAT) for name, number in others]
    parts = [(name, size // num_processes) for name, size in held]
    learning = activations(shape, load, settings) + logits(shape, load)
    sampling = key_values(shape, load, settings)
    # One after the other: a collection is sampled, then learnt from.
    parts.append(("activations", learning) if learning >= sampling else ("sampling", sampling))
    return MemoryEstimate(tuple((name, size) for name, size in parts if size))


def activations(shape: ModelShape, load: BatchLoad, settings: ModelSettings) -> int:
    """Return the bytes that layers keep for the backward pass, and those that it holds at once."""
    lowered = settings.precision == "bfloat16"
    size = HALF if lowered else FLOAT
    # Two norms (input and output each), input of q, k, v, residuals; queries before the
    # output's product and after the rotation; keys and values; four of the feed-forward's width.
    layer = size * (6 * shape.hidden + 2 * (shape.query + shape.key) + 4 * shape.intermediate)
    if lowered:
        layer += 4 * shape.hidden * HALF  # norms are in float32
    backward = size * (3 * shape.intermediate + 2 * shape.hidden)
    kept = shape.num_layers * layer
    if settings.gradient_checkpointing:
        kept = shape.num_layers * shape.hidden * size + layer
    copies = HALF * shape.num_weights if lowered else 0
    return load.num_tokens * (kept + backward) + copies


def logits(shape: ModelShape, load: BatchLoad) -> int:
    """Return the head's bytes: a block of logits, hidden states, the gradient of its weight."""
    if not load.num_scored:
        return 0
    block = min(load.num_scored * min(shape.vocab, BLOCK_TOKENS), BLOCK_ELEMENTS)
    states = 3 * load.num_scored * shape.hidden
    return FLOAT * (BLOCK_COPIES * block + states + shape.vocab * shape.hidden)


def key_values(shape: ModelShape, load: BatchLoad, settings: ModelSettings) -> int:
    """Keys and values of the responses that grow at once and of the prompts they share."""
    size = HALF if settings.precision == "bfloat16" else FLOAT
    tokens = load.num_sampled * load.max_new_tokens + load.num_prompt_tokens
    return size * tokens * shape.num_layers * 2 * shape.key


PROBE_S = 0.8
"""After so long no further pass begins."""
PROBE_PASSES = 2, 20
"""Passes in each precision, at least and at most."""
PROBE_FLOATS = 1 << 23
"""Weights of a layer that is tried, at most; wider ones are cut, and behave as these do."""
PROBE_OPERATIONS = 4e9
"""Floating-point operations of one pass."""


def bfloat16_speed(shape: ModelShape, num_tokens: int, device: torch.device) -> float:
    """Training speed of a feed-forward block in bfloat16 on `device`, as a multiple of float32's.

    Measured forward and backward at the model's own widths, and as training multiplies: weights in
    float32, cast where they are used. The two take turns; the least time of each counts.

    Args:
        shape: Of the model.
        num_tokens: That are computed at once; fewer are taken where that takes too long.
        device: Where it would train.
    """
    hidden, wide = shape.hidden, shape.intermediate
    while hidden * wide > PROBE_FLOATS:
        hidden, wide = (hidden + 1) // 2, (wide + 1) // 2
    affordable = int(PROBE_OPERATIONS / (12 * hidden * wide))
    tokens = max(16, min(num_tokens, affordable))
    generator = torch.Generator().manual_seed(0)  # nothing else is drawn from here
    weights = [
        torch.randn(size, generator=generator).mul_(0.02).to(device).requires_grad_()
        for size in ((wide, hidden), (hidden, wide))
    ]
    given = torch.randn(tokens, hidden, generator=generator).to(device).requires_grad_()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    least, most = PROBE_PASSES
    begun = time.perf_counter()
    for number in range(most):
        for lowered in (False, True):
            seconds[lowered].append(_pass(given, weights, lowered))
        if number + 1 >= least and time.perf_counter() - begun >= PROBE_S:
            break
    return min(seconds[False]) / min(seconds[True])


def _pass(given: torch.Tensor, weights: list[torch.Tensor], lowered: bool) -> float:
    """Return the seconds of one pass forward and backward."""
    _wait(given.device)
    begun = time.perf_counter()
    with torch.autocast(given.device.type, torch.bfloat16, enabled=lowered):
        inner = torch.nn.functional.linear(given, weights[0])
        output = torch.nn.functional.linear(torch.nn.functional.silu(inner), weights[1])
    output.sum().backward()  # type: ignore[no-untyped-call]
    _wait(given.device)
    spent = time.perf_counter() - begun
    for each in (given, *weights):
        each.grad = None
    return spent


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def available(device: torch.device) -> int | None:
    """Bytes that are free on `device`; None where that cannot be told."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(_free_here(), default=None)


def _free_here() -> Iterator[int]:
    """Yield the bytes that the machine has free, and those that this container's limit leaves."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            used = int((group / "memory.current").read_text(encoding="ascii"))
            yield max(0, int(limit) - used)
    except (OSError, ValueError):
        return
