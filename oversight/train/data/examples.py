"""Examples in a training set: pairs, order of visits, the held-out part, hashes and figures.

The order is seeded and resumable, and hashes are the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, singledispatch
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from oversight.errors import ConfigError, DataError
from oversight.ids import text_id
from oversight.modeling import Ids, TokenRow
from oversight.text.numbers import percent
from oversight.train.data.encoding import IdSources
from oversight.train.settings import PairsOf
from oversight.train.types import (
    Comparison,
    Demonstration,
    Example,
    LabelledExample,
    PromptExample,
)


def expand(ranking: Comparison, how: PairsOf = "all", *, ties: bool = False) -> list[Comparison]:
    """The pairs of a ranking, better first; together they weigh as much as the ranking.

    Args:
        ranking: Two or more responses. A pair is given back as it is, with its soft label.
        how: Every two responses, the first and the last, or each with the next one.
        ties: Make pairs of equally ranked responses as well.
    """
    if ranking.is_pair:
        return [ranking] if ties or not ranking.is_tie else []
    num = len(ranking.responses)
    chosen = {
        "all": list(combinations(range(num), 2)),
        "best_worst": [(0, num - 1)],
        "adjacent": [(i, i + 1) for i in range(num - 1)],
    }[how]
    kept = [(i, j) for i, j in chosen if ties or ranking.ranks[i] != ranking.ranks[j]]
    return [
        Comparison(
            f"{ranking.id}#{i}-{j}",
            ranking.prompt_ids,
            (ranking.responses[i], ranking.responses[j]),
            (0, int(ranking.ranks[i] != ranking.ranks[j])),
            weight=ranking.weight / len(kept),
        )
        for i, j in kept
    ]


Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the data: so many examples of this epoch were visited."""

    epoch: int = 0
    index: int = 0

    def to_json(self) -> dict[str, int]:
        """The cursor for a checkpoint."""
        return {"epoch": self.epoch, "index": self.index}


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """The order of `num` examples, epoch after epoch.

    Raises:
        ConfigError: There are no examples.
    """

    num: int
    seed: int
    shuffle: bool = True
    drop_last: bool = False
    """Leave out an epoch's last examples where they fill no batch; else that batch is short."""

    def __post_init__(self) -> None:
        if self.num < 1:
            raise ConfigError(f"order.num = {self.num!r}: there must be at least one example")

    def permutation(self, epoch: int) -> Indices:
        """The examples of an epoch in the order of their visit."""
        if not self.shuffle:
            return np.arange(self.num, dtype=np.int64)
        return _permutation(self.num, self.seed, epoch)

    def take(self, cursor: Cursor, batch_size: int) -> tuple[Indices, Cursor]:
        """The next examples, and the place behind them. No batch spans two epochs.

        Raises:
            ConfigError: An epoch does not fill one batch, and short ones are left out.
        """
        if self.drop_last and batch_size > self.num:
            raise ConfigError(
                f"batch_size = {batch_size}: {self.num} examples do not fill one batch; "
                "take a smaller one or drop_last = false"
            )
        needed = batch_size if self.drop_last else 1
        if self.num - cursor.index < needed:
            cursor = Cursor(cursor.epoch + 1)
        taken = self.permutation(cursor.epoch)[cursor.index : cursor.index + batch_size]
        return taken, Cursor(cursor.epoch, cursor.index + len(taken))

    def batches(self, batch_size: int, start: Cursor | None = None) -> Iterator[Indices]:
        """Batches without end, from `start` on."""
        cursor = start or Cursor()
        while True:
            taken, cursor = self.take(cursor, batch_size)
            yield taken

    def num_batches(self, batch_size: int) -> int:
        """Return the number of batches of an epoch."""
        return self.num // batch_size if self.drop_last else -(-self.num // batch_size)


@lru_cache(maxsize=4)
def _permutation(num: int, seed: int, epoch: int) -> Indices:
    keys = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(num)
    order = np.argsort(keys, kind="stable").astype(np.int64)
    order.setflags(write=False)
    return order


Groups = tuple[str, ...]
"""Keys that an example may share with others: its prompt, and its question if it has one."""


def held_out(groups: Sequence[Groups], num_wanted: int, seed: int) -> set[int]:
    """The indices to hold out: about `num_wanted`, all that belong together on one side.

    Which ones depends on the seed and on the content of prompts and questions, not on the order
    of rows.

    Raises:
        DataError: All examples belong together, so that nothing can be held out.
    """
    if num_wanted < 1:
        return set()
    families = _families(groups)
    if len(families) < 2:
        raise DataError(
            f"data.eval: all {len(groups)} examples share a prompt or a question, so none can be "
            "held out; name a file in data.eval_path"
        )
    order = sorted(families, key=lambda name: text_id(str(seed), name))
    chosen: set[int] = set()
    for name in order[:-1]:  # one is left to train on
        size = len(families[name])
        missing = num_wanted - len(chosen)
        # The last one that goes in brings the number nearest to what is wanted.
        if chosen and size - missing > missing:
            continue
        chosen.update(families[name])
        if len(chosen) >= num_wanted:
            break
    return chosen


def _families(groups: Sequence[Groups]) -> dict[str, list[int]]:
    """Examples that belong together, over any number of steps, by the least of their groups."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for own in groups:
        roots = sorted(root(name) for name in own)
        for other in roots[1:]:
            parent[other] = roots[0]
    families: dict[str, list[int]] = defaultdict(list)
    for index, own in enumerate(groups):
        families[root(own[0])].append(index)
    return families


DIGEST_BYTES = 16


@singledispatch
def digest(example: Example) -> bytes:
    """A hash of an example's content; its id, which says where it comes from, is left out."""
    raise TypeError(type(example).__name__)


@digest.register
def _demonstration(example: Demonstration) -> bytes:
    return _hash("demonstration", *_row(example.row), example.weight)


@digest.register
def _comparison(example: Comparison) -> bytes:
    told = (example.ranks, example.soft_label, example.margin, example.weight)
    return _hash("comparison", _ids(example.prompt_ids), *map(_ids, example.responses), *told)


@digest.register
def _labelled(example: LabelledExample) -> bytes:
    return _hash("labelled", *_row(example.row), example.desirable, example.weight)


@digest.register
def _prompt(example: PromptExample) -> bytes:
    fields = json.dumps(example.fields, sort_keys=True, default=str, ensure_ascii=False)
    return _hash("prompt", _ids(example.prompt_ids), fields)


def fingerprint(examples: Iterable[Example]) -> str:
    """A hash of examples in their order, in hexadecimal."""
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for example in examples:
        hashed.update(digest(example))
    return hashed.hexdigest()


GAINED = frozenset({"num_unseen"})
"""Columns that rows of stores and exports have gained since runs were begun without them."""


def fingerprint_before(examples: Sequence[Example]) -> str:
    """The hash of the same examples without those gained columns that say nothing; "" if none."""
    before = [_before(example) for example in examples]
    gained = any(was is not now for was, now in zip(before, examples, strict=True))
    return fingerprint(before) if gained else ""


def _before(example: Example) -> Example:
    if not isinstance(example, PromptExample):
        return example
    fields = {k: v for k, v in example.fields.items() if v or k not in GAINED}
    return example if len(fields) == len(example.fields) else replace(example, fields=fields)


def _row(row: TokenRow) -> tuple[bytes, ...]:
    mask = b"all" if row.mask is None else row.mask.astype("uint8").tobytes()
    return _ids(row.prompt_ids), _ids(row.response_ids), mask


def _ids(ids: Ids) -> bytes:
    return ids.astype("<i8").tobytes()


def _hash(*parts: object) -> bytes:
    """Each part behind its length, so that no two lists of parts look the same."""
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass")
        hashed.update(len(data).to_bytes(8, "little"))
        hashed.update(data)
    return hashed.digest()


ID_BYTES = 8
"""Of an int64."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens: least, greatest, median and a high quantile."""

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
    """Counts and lengths of what there is to train on."""

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
    examples: Sequence[Example], num_rows: int, num_eval: int, sources: IdSources
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
    if isinstance(example, Demonstration | LabelledExample):
        row = example.row
        return row.prompt_ids, (row.response_ids,), row.num_trained
    return example.prompt_ids, (), 0
