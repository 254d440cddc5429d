"""Figures about examples, for `--dry-run` and the model card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oversight.text.shares import percent
from oversight.train.data.encoding import Sources
from oversight.train.types import Comparison, Demonstration, Example, Ids, Labelled

ID_BYTES = 8
"""Of an int64."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long something is, in tokens."""

    smallest: int
    median: float
    p95: float
    largest: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Lengths | None:
        """The spread of `lengths`, or None if there are none."""
        if not lengths:
            return None
        median, p95 = np.percentile(lengths, [50, 95])
        return cls(min(lengths), float(median), float(p95), max(lengths))

    def __str__(self) -> str:
        return f"{self.smallest} to {self.largest} tokens, median {self.median:g}, p95 {self.p95:g}"


@dataclass(frozen=True, slots=True)
class Statistics:
    """What there is to train on."""

    num_rows: int
    """Rows read, whatever became of them."""
    num_examples: int
    num_eval: int
    num_responses: int
    num_prompts: int
    """Different prompts."""
    num_prompts_shared: int
    """Of these, answered by more than one response."""
    num_ties: int
    num_soft: int
    """Comparisons with a soft label."""
    num_ids_given: int
    """Rows whose ids all came with them."""
    num_ids_mixed: int
    num_ids_rendered: int
    prompt_tokens: Lengths | None
    response_tokens: Lengths | None
    row_tokens: Lengths | None
    """Prompt and one response."""
    num_tokens: int
    """Of every response with its prompt, one by one."""
    num_distinct_tokens: int
    """The same with each different prompt counted once."""
    num_trained_tokens: int
    """Response tokens that are learnt from."""

    def to_json(self) -> dict[str, Any]:
        """All figures, JSON-plain."""
        return asdict(self)

    def table(self) -> list[tuple[str, str]]:
        """Names and figures for people, in the order in which they are shown."""
        return [(name, figure) for name, figure in self._table() if figure]

    def _table(self) -> Iterator[tuple[str, str]]:
        yield "rows read", f"{self.num_rows:,}"
        yield "examples", f"{self.num_examples:,}"
        yield "held out", f"{self.num_eval:,}" if self.num_eval else ""
        yield "responses", f"{self.num_responses:,}" if self.num_responses else ""
        yield "different prompts", self._prompts()
        yield "ties", f"{self.num_ties:,}" if self.num_ties else ""
        yield "soft labels", f"{self.num_soft:,}" if self.num_soft else ""
        yield "prompt", str(self.prompt_tokens or "")
        yield "response", str(self.response_tokens or "")
        yield "both", str(self.row_tokens or "") if self.num_responses else ""
        yield "token ids", self._ids()
        yield "tokens", self._tokens()

    def _prompts(self) -> str:
        if not self.num_responses:
            return f"{self.num_prompts:,}"
        share = self.num_prompts_shared / self.num_prompts
        return f"{self.num_prompts:,}, {percent(share)} with several responses"

    def _ids(self) -> str:
        kinds = {
            "given by the sampler": self.num_ids_given,
            "partly given": self.num_ids_mixed,
            "made of the text": self.num_ids_rendered,
        }
        return ", ".join(f"{num:,} rows {kind}" for kind, num in kinds.items() if num)

    def _tokens(self) -> str:
        if not self.num_tokens:
            return ""
        share = self.num_distinct_tokens / self.num_tokens
        learnt = f", of them {self.num_trained_tokens:,} learnt" if self.num_responses else ""
        shared = f"{self.num_distinct_tokens:,} ({percent(share)}) once prompts are shared"
        return f"{self.num_tokens:,}{learnt}; {shared}"


def statistics(
    examples: Sequence[Example], num_rows: int, num_eval: int, sources: Sources
) -> Statistics:
    """The figures of `examples`."""
    parts = [_parts(example) for example in examples]
    answers = Counter[bytes]()
    for prompt, found, _ in parts:
        answers[prompt.tobytes()] += len(found)
    responses = [len(ids) for _, found, _ in parts for ids in found]
    rows = [len(prompt) + len(ids) for prompt, found, _ in parts for ids in found]
    compared = [example for example in examples if isinstance(example, Comparison)]
    return Statistics(
        num_rows=num_rows,
        num_examples=len(examples),
        num_eval=num_eval,
        num_responses=len(responses),
        num_prompts=len(answers),
        num_prompts_shared=sum(number > 1 for number in answers.values()),
        num_ties=sum(example.is_tie for example in compared),
        num_soft=sum(example.soft_label is not None for example in compared),
        num_ids_given=sources.given,
        num_ids_mixed=sources.mixed,
        num_ids_rendered=sources.rendered,
        prompt_tokens=Lengths.of([len(prompt) for prompt, _, _ in parts]),
        response_tokens=Lengths.of(responses),
        row_tokens=Lengths.of(rows),
        num_tokens=sum(rows) if rows else sum(len(prompt) for prompt, _, _ in parts),
        num_distinct_tokens=sum(len(key) // ID_BYTES for key in answers) + sum(responses),
        num_trained_tokens=sum(trained for _, _, trained in parts),
    )


def _parts(example: Example) -> tuple[Ids, tuple[Ids, ...], int]:
    """Prompt, responses, and how many tokens are learnt from."""
    if isinstance(example, Comparison):
        return example.prompt_ids, example.responses, sum(map(len, example.responses))
    if isinstance(example, Demonstration | Labelled):
        row = example.row
        return row.prompt_ids, (row.response_ids,), row.num_trained
    return example.prompt_ids, (), 0
