"""The four loaders that trainers call: from settings to examples, with all that was left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from oversight.train.data import refusal, sources
from oversight.train.data.cells import BadRow
from oversight.train.data.detecting import Kind, detect
from oversight.train.data.encoding import Encoder
from oversight.train.data.fingerprint import digest, fingerprint
from oversight.train.data.formats import read_row
from oversight.train.data.making import MAKERS
from oversight.train.data.reading import Broken, Found
from oversight.train.data.settings import DataSettings
from oversight.train.data.splitting import Groups, held_out
from oversight.train.data.statistics import Statistics, statistics
from oversight.train.types import (
    Comparison,
    Demonstration,
    Example,
    Labelled,
    PromptExample,
    Refused,
)

E = TypeVar("E", bound=Example)
Rows = Iterable[Mapping[str, Any]]

ROWS_LOOKED_AT = 100
"""How many rows are looked at to tell a file's format."""


@dataclass(frozen=True)
class Loaded(Generic[E]):
    """Examples, and everything to be said about them."""

    kind: Kind
    examples: list[E]
    eval_examples: list[E]
    refused: Refused
    statistics: Statistics
    fingerprint: str
    """Of the training examples in their order: a resumed run checks it."""
    provenance: list[dict[str, Any]]
    """Of each source: the file and its SHA-256, or the store's address, and its rows."""

    def lines(self) -> list[str]:
        """What would be trained on, and what was left out, for people."""
        figures = self.statistics.table()
        width = max(len(name) for name, _ in figures)
        shown = [f"{name:<{width}}  {figure}" for name, figure in figures]
        return shown + self._left_out_by_store() + refusal.lines(self.refused)

    def to_json(self) -> dict[str, Any]:
        """The same, JSON-plain."""
        return {
            "kind": self.kind,
            "statistics": self.statistics.to_json(),
            "fingerprint": self.fingerprint,
            "provenance": self.provenance,
            "dropped": dict(self.refused.dropped),
            "changed": dict(self.refused.cut),
            "first_ids": self.refused.ids,
        }

    def _left_out_by_store(self) -> list[str]:
        return [
            f"{number:,} not comparable in the store: {reason.replace('_', ' ')}"
            for source in self.provenance
            for reason, number in source.get("left_out", {}).items()
        ]


@dataclass(frozen=True, slots=True)
class Loader(Generic[E]):
    """Makes examples of one kind."""

    kind: Kind

    def __call__(
        self,
        settings: DataSettings,
        tokenizer: Any,
        vocab_size: int,
        max_len: int | None = None,
        *,
        rows: Rows | None = None,
        eval_rows: Rows | None = None,
    ) -> Loaded[E]:
        """The examples, and all that was left out.

        Args:
            settings: Where the rows are and how they are treated.
            tokenizer: A transformers tokenizer.
            vocab_size: How many tokens the model knows.
            max_len: How many positions the model has.
            rows: Rows in memory, in place of files or a store.
            eval_rows: A held-out part in memory.

        Raises:
            DataError: Nothing can be read, a format is not known, or `on_bad` says so.
            ConfigError: Settings contradict each other or the tokenizer.
        """
        encoder = Encoder(tokenizer, settings, vocab_size, max_len, Refused())
        return _load(self.kind, encoder, rows, eval_rows)


load_demonstrations: Loader[Demonstration] = Loader("demonstrations")
"""What SFT learns."""
load_comparisons: Loader[Comparison] = Loader("comparisons")
"""What reward models and DPO learn."""
load_labelled: Loader[Labelled] = Loader("labelled")
"""What KTO learns."""
load_prompts: Loader[PromptExample] = Loader("prompts")
"""What PPO and GRPO sample from."""


def require_batch(loaded: Loaded[Any], batch_size: int) -> None:
    """Stop before training if there are fewer examples than one batch takes.

    Raises:
        DataError: It shows what there is and what was left out.
    """
    refusal.require_enough(len(loaded.examples), batch_size, loaded.refused, loaded.kind)


@dataclass
class _Part:
    """Examples as they are made, with the groups that they must not be parted from."""

    examples: list[Any] = field(default_factory=list)
    groups: list[Groups] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)
    num_rows: int = 0


def _load(kind: Kind, encoder: Encoder, rows: Rows | None, eval_rows: Rows | None) -> Loaded[Any]:
    settings, refused = encoder.settings, encoder.refused
    train_sources = sources.training(settings, rows)
    eval_sources = sources.evaluation(settings, eval_rows)
    part = _read_part(kind, train_sources, encoder, settings.max_rows)
    apart = _read_part(kind, eval_sources, encoder, None)
    if settings.on_bad == "error":
        refusal.require_none_bad(refused)
    if eval_sources:
        shared = {name for groups in apart.groups for name in groups}
        held = {i for i, groups in enumerate(part.groups) if shared & set(groups)}
        for i in sorted(held):
            refused.drop(refusal.IN_EVALUATION, part.examples[i].id)
    else:
        wanted = settings.eval_rows or round(settings.eval_fraction * len(part.examples))
        held = held_out(part.groups, wanted, settings.split_seed)
        apart.examples = [part.examples[i] for i in sorted(held)]
    examples = [example for i, example in enumerate(part.examples) if i not in held]
    figures = statistics(
        examples, part.num_rows + apart.num_rows, len(apart.examples), encoder.sources
    )
    return Loaded(
        kind,
        examples,
        apart.examples,
        refused,
        figures,
        fingerprint(examples),
        [source.about for source in chain(train_sources, eval_sources)],
    )


def _read_part(
    kind: Kind, found: list[sources.Source], encoder: Encoder, max_rows: int | None
) -> _Part:
    part = _Part()
    for source in found:
        left = None if max_rows is None else max_rows - part.num_rows
        before = part.num_rows
        _read_source(kind, source, encoder, part, left)
        source.about["rows"] = part.num_rows - before
    return part


def _read_source(
    kind: Kind, source: sources.Source, encoder: Encoder, part: _Part, num_left: int | None
) -> None:
    settings = encoder.settings
    stream = _renamed(islice(source.open(), num_left), settings.columns)
    first = list(islice(stream, ROWS_LOOKED_AT))
    readable = [item.row for item in first if isinstance(item, Found)]
    name = detect(readable, kind, settings.format, source.name) if readable else ""
    if name:
        source.about["format"] = name
    for item in chain(first, stream):
        part.num_rows += 1
        if isinstance(item, Broken):
            encoder.refused.drop(refusal.BROKEN, refusal.note(item.place, item.detail))
        else:
            _take(kind, name, item, encoder, part)


def _take(kind: Kind, name: str, item: Found, encoder: Encoder, part: _Part) -> None:
    """Make the examples of one row, or count why there are none."""
    try:
        row = read_row(name, item.row, item.place)
        made = MAKERS[kind](row, item.row, encoder)
        if row.weight == 0.0 and kind != "prompts":  # a step of such rows alone has no mean
            raise BadRow(refusal.NO_WEIGHT)
    except BadRow as bad:
        own = item.row.get("id")
        row_id = item.place if own is None else str(own)
        encoder.refused.drop(bad.reason, refusal.note(row_id, bad.detail))
        return
    for example in made:
        if encoder.settings.duplicates == "drop":
            content = digest(example)
            if content in part.seen:
                encoder.refused.drop(refusal.DUPLICATE, example.id)
                continue
            part.seen.add(content)
        part.examples.append(example)
        part.groups.append(row.groups())


def _renamed(
    items: Iterator[Found | Broken], columns: Mapping[str, str]
) -> Iterator[Found | Broken]:
    """Rows with the user's columns under our names."""
    names = {theirs: ours for ours, theirs in columns.items()}
    for item in items:
        if isinstance(item, Broken):
            yield item
            continue
        # A column of ours that another takes the place of is not meant.
        kept = {k: v for k, v in item.row.items() if k not in columns or k in names}
        yield Found(item.place, {names.get(k, k): v for k, v in kept.items()})
