"""The four loaders that trainers call: from settings to examples, with all that was left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from oversight.errors import DataError
from oversight.modeling import Ids, TokenRow
from oversight.preferences.layouts import provenance_fields
from oversight.preferences.settings import in_words
from oversight.train.data.encoding import EMPTY, Encoder
from oversight.train.data.examples import (
    Groups,
    Statistics,
    digest,
    fingerprint,
    held_out,
    statistics,
)
from oversight.train.data.files import (
    UNUSED,
    BrokenRow,
    DataSource,
    Item,
    RawRow,
    RecordRow,
    eval_sources,
    own_names,
    renamed,
    training_sources,
)
from oversight.train.data.files import Row as RowInMemory
from oversight.train.data.formats import EQUAL, Kind, detect, read_row
from oversight.train.data.rows import (
    MISSING,
    ResponseRow,
    Row,
    RowError,
    TextRow,
    dense_ranks,
    of_given,
    of_labelled,
    of_preference,
)
from oversight.train.settings import DataSettings
from oversight.train.types import (
    BROKEN,
    DUPLICATE,
    IN_EVALUATION,
    NO_WEIGHT,
    Comparison,
    Demonstration,
    Example,
    LabelledExample,
    PromptExample,
    RefusedRows,
    left_out_lines,
    require_enough,
    require_none_bad,
    with_detail,
)
from oversight.types import GivenResponse, Labelled, Preference

TIE = "a tie has no better side"
CONTRADICTION = "equal responses have different ranks"
SURE = "good and bad responses have no soft label and no margin, so these are not used"
MERGED = "equal responses were merged"

Cells = Mapping[str, Any]
Make = Callable[[Row, Cells, Encoder], list[Any]]

ANSWER_COLUMNS = frozenset(
    {
        *("chosen", "rejected", "completions", "completion"),
        *("chosen_ids", "rejected_ids", "completion_ids"),
        *("ranks", "tie", "scores", "chosen_score", "rejected_score"),
        *("soft_label", "margin", "weight"),
    }
)
"""Columns of answered rows that say nothing about the prompt itself."""
PROMPT_COLUMNS = frozenset({"id", "prompt", "prompt_ids"})
"""Columns that are attributes of a prompt example; others are its fields."""


def demonstrations(row: Row, cells: Cells, encoder: Encoder) -> list[Demonstration]:
    """Return a row's examples for SFT: its response, assistant's turns, or the best of several."""
    everything = encoder.settings.train_on == "all"
    if isinstance(row, TextRow):
        found = encoder.whole(row)
        made = TokenRow(found.prompt, found.rest, found.mask, id=row.id)
    else:
        best = _best(row)
        fitted = encoder.answered(best)
        made = TokenRow(fitted.prompt, fitted.responses[0], id=row.id)
    return [Demonstration(_all_tokens(made) if everything else made, row.weight)]


def comparisons(row: Row, cells: Cells, encoder: Encoder) -> list[Comparison]:
    """The ranking of a row, best first."""
    assert isinstance(row, ResponseRow)
    fitted = encoder.answered(row)
    kept = _distinct(fitted.responses, row, encoder)
    order = sorted(kept, key=lambda i: row.ranks[i])
    flipped = len(row.answers) == 2 and order == [1, 0]
    soft, margin = row.soft_label, _margin(row, encoder.settings)
    return [
        Comparison(
            row.id,
            fitted.prompt,
            tuple(fitted.responses[i] for i in order),
            dense_ranks([row.ranks[i] for i in order]),
            soft_label=1.0 - soft if flipped and soft is not None else soft,
            margin=-margin if flipped and margin is not None else margin,
            weight=row.weight,
        )
    ]


def labelled(row: Row, cells: Cells, encoder: Encoder) -> list[LabelledExample]:
    """A response and its label; of compared ones the best as good and the worst as bad."""
    assert isinstance(row, ResponseRow)
    if row.label is not None:
        fitted = encoder.answered(row)
        made = TokenRow(fitted.prompt, fitted.responses[0], id=row.id)
        return [LabelledExample(made, row.label, row.weight)]
    (ranking,) = comparisons(row, cells, encoder)
    if ranking.is_tie:
        raise RowError(TIE)
    if ranking.soft_label is not None or ranking.margin is not None:
        encoder.refused.shorten(SURE, row.id)
    rows = ranking.rows()
    return [
        LabelledExample(rows[0], True, row.weight),
        LabelledExample(rows[-1], False, row.weight),
    ]


def prompts(row: Row, cells: Cells, encoder: Encoder) -> list[PromptExample]:
    """The prompt of a row, with the row's other columns."""
    assert isinstance(row, ResponseRow)
    bare = ResponseRow(row.id, row.prompt, row.prompt_ids, question_id=row.question_id)
    fitted = encoder.answered(bare)
    left_out = PROMPT_COLUMNS | (ANSWER_COLUMNS if row.answers else frozenset())
    fields = {
        name: value
        for name, value in cells.items()
        if name not in left_out and not name.endswith(UNUSED)
    }
    return [PromptExample(row.id, fitted.prompt, fields)]


MAKERS: dict[Kind, Make] = {
    "demonstrations": demonstrations,
    "comparisons": comparisons,
    "labelled": labelled,
    "prompts": prompts,
}


def _best(row: ResponseRow) -> ResponseRow:
    """The row with its best answer only."""
    if len(row.answers) == 1:
        return row
    if not row.answers:
        raise RowError(MISSING, "a response")
    if row.ranks.count(min(row.ranks)) == len(row.ranks):
        raise RowError(TIE)
    best = row.ranks.index(min(row.ranks))
    return ResponseRow(
        row.id,
        row.prompt,
        row.prompt_ids,
        (row.answers[best],),
        (0,),
        weight=row.weight,
        question_id=row.question_id,
    )


def _all_tokens(row: TokenRow) -> TokenRow:
    """The row with every token learnt but the first, which nothing predicts."""
    ids = row.ids()
    if len(ids) < 2:
        raise RowError(EMPTY)
    return TokenRow(ids[:1], ids[1:], id=row.id)


def _distinct(responses: tuple[Ids, ...], row: ResponseRow, encoder: Encoder) -> list[int]:
    """Return the responses to keep: the first of those that are equal.

    Raises:
        RowError: They are equal and ranked differently, or fewer than two are left.
    """
    first: dict[str | bytes, int] = {}
    kept: list[int] = []
    for i, (ids, answer) in enumerate(zip(responses, row.answers, strict=True)):
        known = [first[key] for key in (ids.tobytes(), answer.text) if key in first]
        if not known:
            kept.append(i)
        elif row.ranks[known[0]] != row.ranks[i]:
            raise RowError(EQUAL if len(row.answers) == 2 else CONTRADICTION)
        first.setdefault(ids.tobytes(), i)
        first.setdefault(answer.text, i)
    if len(kept) < 2:
        raise RowError(EQUAL)
    if len(kept) < len(responses):
        encoder.refused.shorten(MERGED, row.id)
    return kept


def _margin(row: ResponseRow, settings: DataSettings) -> float | None:
    return row.score_gap if settings.margin == "scores" else row.margin


E = TypeVar("E", bound=Example)
Rows = Iterable[RowInMemory]

RECORDS = "records"
"""Stands where a file's format would."""
ROWS_LOOKED_AT = 100
"""Number of rows that are looked at to tell a file's format."""


@dataclass(frozen=True)
class LoadedExamples(Generic[E]):
    """Examples, and everything to be said about them."""

    kind: Kind
    examples: list[E]
    eval_examples: list[E]
    refused: RefusedRows
    statistics: Statistics
    fingerprint: str
    """Of the training examples in their order: a resumed run checks it."""
    provenance: list[dict[str, Any]]
    """Of each source: the file and its SHA-256, or the store's address, and its rows."""

    def lines(self) -> list[str]:
        """Return lines for people: what would be trained on, and what was left out."""
        figures = self.statistics.table()
        width = max(len(name) for name, _ in figures)
        shown = [f"{name:<{width}}  {figure}" for name, figure in figures]
        return shown + self.left_out_by_store() + left_out_lines(self.refused)

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

    def left_out_by_store(self) -> list[str]:
        """Return lines on what stands in a store and became no row."""
        return [
            f"{number:,} not comparable in the store: {reason}"
            for source in self.provenance
            for number, reason in in_words(source.get("left_out", {}).items(), "data.preferences.")
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
    ) -> LoadedExamples[E]:
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
        encoder = Encoder(tokenizer, settings, vocab_size, max_len, RefusedRows())
        return _load(self.kind, encoder, rows, eval_rows)


load_demonstrations: Loader[Demonstration] = Loader("demonstrations")
"""Examples that SFT learns."""
load_comparisons: Loader[Comparison] = Loader("comparisons")
"""Examples that reward models and DPO learn."""
load_labelled: Loader[LabelledExample] = Loader("labelled")
"""Examples that KTO learns."""
load_prompts: Loader[PromptExample] = Loader("prompts")
"""Examples that PPO and GRPO sample responses to."""


def require_batch(loaded: LoadedExamples[Any], batch_size: int) -> None:
    """Stop before training if there are fewer examples than one batch takes.

    Raises:
        DataError: It shows what there is and what was left out.
    """
    require_enough(
        len(loaded.examples), batch_size, loaded.refused, loaded.kind, loaded.left_out_by_store()
    )


@dataclass
class _Part:
    """Examples as they are made, with the groups that they must not be parted from."""

    examples: list[Any] = field(default_factory=list)
    groups: list[Groups] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)
    num_rows: int = 0
    columns: set[str] = field(default_factory=set)
    """Of rows of files and in memory, where the settings name some."""


def _load(
    kind: Kind, encoder: Encoder, rows: Rows | None, eval_rows: Rows | None
) -> LoadedExamples[Any]:
    settings, refused = encoder.settings, encoder.refused
    train_from = training_sources(settings, rows)
    eval_from = eval_sources(settings, eval_rows)
    part = _read_part(kind, train_from, encoder, settings.max_rows)
    apart = _read_part(kind, eval_from, encoder, None)
    _check_columns(settings.columns, part.columns | apart.columns)
    if settings.on_bad == "error":
        require_none_bad(refused)
    if eval_from:
        shared = {name for groups in apart.groups for name in groups}
        held = {i for i, groups in enumerate(part.groups) if shared & set(groups)}
        for i in sorted(held):
            refused.drop(IN_EVALUATION, part.examples[i].id)
    else:
        wanted = settings.eval_rows or round(settings.eval_fraction * len(part.examples))
        held = held_out(part.groups, wanted, settings.split_seed)
        apart.examples = [part.examples[i] for i in sorted(held)]
    examples = [example for i, example in enumerate(part.examples) if i not in held]
    figures = statistics(
        examples, part.num_rows + apart.num_rows, len(apart.examples), encoder.sources
    )
    return LoadedExamples(
        kind,
        examples,
        apart.examples,
        refused,
        figures,
        fingerprint(examples),
        [source.about for source in chain(train_from, eval_from)],
    )


def _read_part(
    kind: Kind, found: list[DataSource], encoder: Encoder, max_rows: int | None
) -> _Part:
    part = _Part()
    for source in found:
        left = None if max_rows is None else max_rows - part.num_rows
        before = part.num_rows
        _read_source(kind, source, encoder, part, left)
        source.about["rows"] = part.num_rows - before
    return part


def _read_source(
    kind: Kind, source: DataSource, encoder: Encoder, part: _Part, num_left: int | None
) -> None:
    settings = encoder.settings
    given = islice(source.open(), num_left)
    stream = renamed(_noting(given, part) if settings.columns else given, settings.columns)
    first = list(islice(stream, ROWS_LOOKED_AT))
    readable = [item.row for item in first if isinstance(item, RawRow)]
    name = ""
    for item in chain(first, stream):
        part.num_rows += 1
        if isinstance(item, BrokenRow):
            encoder.refused.drop(BROKEN, with_detail(item.place, item.detail))
            continue
        if isinstance(item, RecordRow):
            source.about.setdefault("format", RECORDS)
        elif not name:  # told by the first rows that are no records
            try:
                name = detect(readable or [item.row], kind, settings.format, source.name)
            except DataError:
                _check_columns(settings.columns, part.columns)
                raise
            source.about["format"] = name
        _take(kind, name, item, encoder, part)


def _noting(items: Iterable[Item], part: _Part) -> Iterator[Item]:
    """The items, with the names of their columns noted."""
    for item in items:
        if isinstance(item, RawRow):
            part.columns |= item.row.keys()
        yield item


def _check_columns(named: Mapping[str, str], found: set[str]) -> None:
    """Refuse a column that is named and that no row has: rows would be read without it.

    Raises:
        DataError: It names the column and those that there are.
    """
    for ours, theirs in named.items():
        if found and theirs not in found:
            raise DataError(
                f"data.columns.{ours} = {theirs!r}: no row has such a column; there are "
                f"{', '.join(sorted(found))}"
            )


def _take(kind: Kind, name: str, item: RawRow | RecordRow, encoder: Encoder, part: _Part) -> None:
    """Make the examples of one row, or count why there are none."""
    try:
        if isinstance(item, RecordRow):
            row, cells = _of_record(kind, item.record, encoder.settings.columns)
        else:
            row, cells = read_row(name, item.row, item.place), item.row
        made = MAKERS[kind](row, cells, encoder)
        if row.weight == 0.0 and kind != "prompts":  # a step of such rows alone has no mean
            raise RowError(NO_WEIGHT)
    except RowError as bad:
        own = item.row.get("id") if isinstance(item, RawRow) else None
        row_id = item.place if own is None else str(own)
        encoder.refused.drop(bad.reason, with_detail(row_id, bad.detail))
        return
    for example in made:
        if encoder.settings.duplicates == "drop":
            content = digest(example)
            if content in part.seen:
                encoder.refused.drop(DUPLICATE, example.id)
                continue
            part.seen.add(content)
        part.examples.append(example)
        part.groups.append(row.groups())


def _of_record(
    kind: Kind, record: Preference | Labelled | GivenResponse, columns: Mapping[str, str]
) -> tuple[Row, Cells]:
    """A record as a row, with the further fields that a reward function may read.

    Raises:
        DataError: Such records give no examples of this kind.
    """
    if isinstance(record, Preference):
        if kind != "prompts":
            return of_preference(record), {}
        turns = [response.turn_id for response in record.responses]
        fields = {"kind": record.kind, **provenance_fields(record.provenance), "turn_ids": turns}
        return of_preference(record), own_names(fields, columns)
    if isinstance(record, GivenResponse):
        if kind != "demonstrations":
            raise DataError(
                f"{record.id}: an answer that was compared with no other gives no {kind}; leave "
                "data.answers out"
            )
        return of_given(record), {}
    if kind != "labelled":
        raise DataError(
            f"{record.id}: a labelled response gives no {kind}; it is for losses of unpaired "
            "responses, such as kto. Give preferences instead"
        )
    return of_labelled(record), {}
