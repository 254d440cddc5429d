"""An example as people can read it: prompt and response apart, and every control token shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from oversight.train.data.loading import Loaded
from oversight.train.types import Comparison, Demonstration, Example, Ids, Labelled, TokenRow

SHOWN_TOKENS = 48
"""Of each end of a stretch; what is between is left out."""


def sample_lines(loaded: Loaded[Any], tokenizer: Any) -> Iterator[str]:
    """The first example, each stretch of it under a line that says what it is."""
    example: Example = loaded.examples[0]
    yield f"row {example.id}"
    for name, ids in _stretches(example):
        yield f"{name}, {len(ids):,} tokens:"
        yield from (f"  | {line}" for line in _text(ids, tokenizer).split("\n"))


def _stretches(example: Example) -> Iterator[tuple[str, Ids]]:
    if isinstance(example, Comparison):
        yield "prompt", example.prompt_ids
        for rank, ids in zip(example.ranks, example.responses, strict=True):
            yield ("response, the best" if rank == 0 else f"response, rank {rank}"), ids
        return
    if isinstance(example, Demonstration | Labelled):
        yield from _of_row(example.row)
        return
    yield "prompt, to be answered", example.prompt_ids


def _of_row(row: TokenRow) -> Iterator[tuple[str, Ids]]:
    """The prompt, then what is learnt and what is given by turns."""
    yield "prompt", row.prompt_ids
    mask = np.ones(len(row.response_ids), bool) if row.mask is None else row.mask
    edges = np.flatnonzero(np.diff(mask)) + 1
    for ids, learnt in zip(np.split(row.response_ids, edges), np.split(mask, edges), strict=True):
        yield ("response, learnt" if learnt[0] else "given"), ids


def _text(ids: Ids, tokenizer: Any) -> str:
    """The words of `ids` with their control tokens, the middle of a long one left out."""
    if len(ids) <= 2 * SHOWN_TOKENS:
        return str(tokenizer.decode(ids.tolist(), skip_special_tokens=False))
    first, last = ids[:SHOWN_TOKENS].tolist(), ids[-SHOWN_TOKENS:].tolist()
    begin, end = (tokenizer.decode(part, skip_special_tokens=False) for part in (first, last))
    return f"{begin} […] {end}"
