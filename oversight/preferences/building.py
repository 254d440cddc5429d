"""Preference rows: made of judged debates and of feedback, and written as files for other tools.

`read_export` reads the facts of such a file again, and `data_card` writes them down beside it.

A file, JSONL or Parquet, appears under its name only once it is whole: it is written beside it
first and then renamed. Rows stream through in groups, so that memory does not
grow with their number.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from oversight.errors import ConfigError, DataError
from oversight.files import blake2b, whole_file
from oversight.preferences.layouts import (
    Layout,
    Repairs,
    Row,
    debate_row,
    kwise_row,
    labelled_row,
    pair_row,
    schema,
    turn_rows,
)
from oversight.preferences.ratings import rating_preferences, self_critique_preferences
from oversight.preferences.settings import (
    KINDS,
    MODELS,
    PERSONS,
    Dropped,
    PreferenceSettings,
    PromptOf,
    Reason,
)
from oversight.preferences.sides import sibling_preferences, side_preferences, without_unseen
from oversight.redaction import name_of_secret
from oversight.registry import nearest
from oversight.text.numbers import count
from oversight.text.terminal import code_span
from oversight.types import (
    Labelled,
    Preference,
    Transcript,
)
from oversight.types.ratings import SELF_CRITIQUE


def preferences(
    transcripts: Iterable[Transcript],
    settings: PreferenceSettings,
    prompt_of: PromptOf,
    dropped: Dropped | None = None,
) -> Iterator[Preference]:
    """Preference rows of `transcripts`, one transcript at a time, each row once.

    Args:
        transcripts: Judged debates, as `Store.transcripts()` gives them.
        settings: Which rows to make.
        prompt_of: The stored prompt of an id, as `Store.prompt` gives it.
        dropped: Counts what did not become a row, if given.

    Raises:
        DataError: `settings.kinds` names a task from outside the package, and nothing was rated
            in it; or `settings.rater_weights` names a rater who rated nothing.
    """
    counts = Dropped() if dropped is None else dropped
    seen: set[str] = set()
    names: set[str] = set()
    rated: set[str] = set()
    for transcript in transcripts:
        rated |= {rating.task for rating in transcript.ratings if rating.task not in KINDS}
        names |= {rating.judge for rating in transcript.ratings}
        read = (
            transcript if settings.unseen else without_unseen(transcript, counts, settings.judges)
        )
        for row in _of_one(read, settings, prompt_of, counts):
            if row.id in seen:
                counts.add(Reason.DUPLICATE)
                continue
            seen.add(row.id)
            yield row
    for name in settings.rater_weights:
        if name not in {PERSONS, MODELS, *names}:
            raise DataError(
                f"rater_weights = {name!r}: nobody of that name has rated anything."
                + nearest(name, {PERSONS, MODELS, *names})
            )
    for name in settings.own_tasks:
        if name not in rated:
            there = f"; tasks of your own there: {', '.join(sorted(rated))}" if rated else ""
            raise DataError(
                f"kinds = {name!r}: nothing was rated in a task of that name{there}. Accepted: "
                f"{', '.join(KINDS)}, and tasks of your own that something was rated in"
            )


def rows_of(
    transcripts: Iterable[Transcript],
    prompt_of: PromptOf,
    *,
    dropped: Dropped | None = None,
    **settings: Any,
) -> list[Preference]:
    """Preference rows of `transcripts` in a list; `settings` as of `PreferenceSettings`.

    Raises:
        ConfigError: A setting is wrong.
        DataError: As of `preferences`.
    """
    chosen = PreferenceSettings.parse(settings)
    return list(preferences(transcripts, chosen, prompt_of, dropped))


def _of_one(
    transcript: Transcript, settings: PreferenceSettings, prompt_of: PromptOf, dropped: Dropped
) -> Iterator[Preference]:
    if "sides" in settings.kinds:
        yield from side_preferences(transcript, settings, prompt_of, dropped)
    if "siblings" in settings.kinds:
        yield from sibling_preferences(transcript, settings, prompt_of, dropped)
    if SELF_CRITIQUE in settings.kinds:
        yield from self_critique_preferences(transcript, settings, prompt_of, dropped)
    yield from rating_preferences(transcript, settings, prompt_of, dropped)


Format = Literal["jsonl", "parquet"]

WANTED = {"transcripts": "transcripts", "unpaired": "labelled responses"}
"""Records taken by layouts that do not take preferences."""

ROW_GROUP = 1000
"""Rows held in memory at once, and in one row group of a Parquet file."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Account of an export that was written."""

    path: Path
    num_rows: int
    num_left_out: int
    """Ties and K-wise rows, which the pair layout cannot hold."""
    num_repaired: int
    """Number of replaced values: lone surrogates and NUL become U+FFFD, infinities null."""


def export(
    rows: Iterable[Preference] | Iterable[Labelled] | Iterable[Transcript],
    out: Path,
    format: str = "jsonl",
    layout: str = "preference",
) -> Exported:
    """Write `rows` to `out` and tell what was written.

    Args:
        rows: Preferences for the layouts `preference` and `kwise`, labelled responses for
            `unpaired`, transcripts for `transcripts`.
        out: The file; its folder is made. A file of that name is replaced, but
            only once the new one is whole.
        format: `jsonl` or `parquet`.
        layout: `preference`, `kwise`, `unpaired` or `transcripts`, see `layouts`.

    Raises:
        ConfigError: The format or layout is unknown, the rows are not what the
            layout takes, or the file cannot be written.
    """
    _known("format", format, get_args(Format))
    _known("layout", layout, get_args(Layout))
    counted = _Count()
    repairs = Repairs()
    flat = _flatten(rows, layout, format, counted)
    mended = ({key: repairs.mend(value) for key, value in row.items()} for row in flat)
    with whole_file(out, "out") as part:
        write: Callable[[Iterator[Row], Path, str], int]
        write = _write_jsonl if format == "jsonl" else _write_parquet
        num_rows = write(mended, part, layout)
    return Exported(out, num_rows, counted.left_out, repairs.number)


@dataclass
class _Count:
    left_out: int = 0


def _known(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ConfigError(f"{name} = {value!r} is unknown.{nearest(value, accepted)}")


def _flatten(
    rows: Iterable[Preference] | Iterable[Labelled] | Iterable[Transcript],
    layout: str,
    format: str,
    count: _Count,
) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, Transcript) and layout == "transcripts":
            yield from (debate_row(row),) if format == "jsonl" else turn_rows(row)
        elif isinstance(row, Labelled) and layout == "unpaired":
            yield labelled_row(row)
        elif isinstance(row, Preference) and layout in ("preference", "kwise"):
            flat = pair_row(row) if layout == "preference" else kwise_row(row)
            if flat is None:
                count.left_out += 1
            else:
                yield flat
        else:
            wanted = WANTED.get(layout, "preferences")
            raise ConfigError(
                f"layout = {layout!r} takes {wanted}, but was given a {type(row).__name__}"
            )


def _write_jsonl(rows: Iterator[Row], path: Path, layout: str) -> int:
    num_rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            num_rows += 1
    return num_rows


def _write_parquet(rows: Iterator[Row], path: Path, layout: str) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_rows = 0
    columns = schema(layout)  # type: ignore[arg-type]  # checked by `_known`
    with pq.ParquetWriter(path, columns, compression="zstd", write_page_checksum=True) as writer:
        while group := list(islice(rows, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=columns))
            num_rows += len(group)
    return num_rows


# --- the card of an export ------------------------------------------------------

SIGNS: dict[tuple[str, Layout], frozenset[str]] = {
    ("", "preference"): frozenset({"id", "kind", "prompt", "chosen", "rejected", "debate_id"}),
    ("", "kwise"): frozenset({"id", "kind", "prompt", "completions", "ranks", "debate_id"}),
    ("", "unpaired"): frozenset({"id", "prompt", "completion", "label", "debate_id"}),
    (".jsonl", "transcripts"): frozenset({"debate_id", "debate", "question", "turns"}),
    (".parquet", "transcripts"): frozenset({"debate_id", "turn_id", "seat", "act", "text"}),
}
"""Columns by which a layout is known, in a file of any ending or of one."""
CONTENT = {
    "preference": "One row a pair: `prompt`, `chosen` and `rejected`, as lists of messages.",
    "kwise": "One row a comparison: `prompt`, `completions` and their `ranks` (0 is best).",
    "unpaired": "One row a speech: `prompt`, `completion` and `label`, whether it was believed.",
    "transcripts": "Debates as they were recorded, with their turns and judgments.",
}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
"""Classes of sizes as the hub writes them."""
NUM_NAMED = 12
"""Names that are listed of a kind; of more, the most frequent ones."""


@dataclass
class ExportFacts:
    """Facts of an exported file, as its rows give them."""

    layout: Layout
    num_rows: int
    content_hash: str
    debates: set[str] = field(default_factory=set)
    counted: dict[str, Counter[str]] = field(default_factory=dict)
    """Rows by their values: kinds, protocols, judges, data sets, constitutions."""
    secret: str | None = None
    """The place that a secret in a row is known from; only of Parquet, whose text is compressed."""


def read_export(path: Path) -> ExportFacts:
    """The facts of a file that `export` wrote; every row is read.

    Raises:
        ConfigError: It is no such file, or holds no row.
        DataError: A row cannot be read.
    """
    rows = _rows_of_parquet(path) if path.suffix == ".parquet" else _rows_of_jsonl(path)
    found: ExportFacts | None = None
    for row in rows:
        if found is None:
            found = ExportFacts(_layout_of(path, row), 0, blake2b(path))
        found.num_rows += 1
        found.debates.add(str(row.get("debate_id")))
        try:
            for name, value in _counted(row):
                found.counted.setdefault(name, Counter())[value] += 1
        except (LookupError, TypeError, AttributeError):
            raise DataError(
                f"{path}, row {found.num_rows:,}: it is not as `oversight export` writes it; write "
                "it anew"
            ) from None
        if path.suffix == ".parquet" and found.secret is None:
            found.secret = name_of_secret(json.dumps(row, ensure_ascii=False, default=str))
    if found is None:
        raise ConfigError(f"{path}: it holds no row; `oversight export` says why when it writes it")
    return found


def _layout_of(path: Path, row: Row) -> Layout:
    for (suffix, layout), signs in SIGNS.items():
        if suffix in ("", path.suffix) and signs <= row.keys():
            return layout
    raise ConfigError(
        f"{path}: this is no export of oversight (its columns: {', '.join(list(row)[:8])}); write "
        "one with `oversight export`"
    )


def _rows_of_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number:,}: {error}; write it anew") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number:,}: it is no object; write it anew")
            yield row


def _rows_of_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROW_GROUP):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        said = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as Parquet ({said}); write it anew") from None


def _counted(row: Row) -> Iterator[tuple[str, str]]:
    """The facts of a row that are counted, each with its name."""
    debate, question = row.get("debate"), row.get("question")
    protocol = debate["protocol"]["name"] if isinstance(debate, dict) else row.get("protocol")
    dataset = question.get("dataset") if isinstance(question, dict) else row.get("dataset")
    judges = [each["judge"] for each in row.get("judgments") or ()] or row.get("judges") or ()
    given = (
        *(("kind", row.get("kind")), ("protocol", protocol), ("data set", dataset)),
        *(("judge", each) for each in dict.fromkeys(judges)),
        ("constitution", row.get("constitution")),
    )
    return ((name, str(value)) for name, value in given if value)


def data_card(files: Mapping[str, ExportFacts], title: str) -> str:
    """README.md of exported files on the hub, made of the facts of the files themselves.

    Args:
        files: The facts of each file, by its name there.
        title: Name of the data set.
    """
    total = sum(each.num_rows for each in files.values())
    size = next((name for limit, name in SIZES if total < limit), "n>1M")
    stems = [name.rpartition(".")[0].replace("/", "-") for name in files]
    names = ["default"] if len(files) == 1 else list(files) if len({*stems}) < len(stems) else stems
    configs = [
        f"- config_name: {json.dumps(name)}\n  data_files:\n  - split: train\n"
        f"    path: {json.dumps(file)}"
        for name, file in zip(names, files, strict=True)
    ]
    head = "\n".join(
        ("---", "tags:", "- oversight", "- debate", f"size_categories:\n- {size}", "configs:")
    )
    parts = [
        "\n".join([head, *configs, "---"]),
        f"# {code_span(title)}",
        f"Exported by oversight {metadata.version('oversight')}: {count(total, 'row')} in "
        f"{count(len(files), 'file')}.",
        *(_file_section(name, facts) for name, facts in files.items()),
        "## Licence\n\nThe licences of the questions, and of the models whose words these are, "
        "apply to this data; look at them before it is passed on. This card grants nothing.",
    ]
    return "\n\n".join(parts) + "\n"


def _file_section(name: str, facts: ExportFacts) -> str:
    lines = [f"## {code_span(name)}", "", CONTENT[facts.layout], ""]
    lines += [f"- Layout: {facts.layout}", f"- Rows: {facts.num_rows:,}"]
    lines.append(f"- Debates: {len(facts.debates):,}")
    for what, values in facts.counted.items():
        shown = [f"{code_span(value)} ({num:,})" for value, num in values.most_common(NUM_NAMED)]
        more = f", and {len(values) - NUM_NAMED:,} more" if len(values) > NUM_NAMED else ""
        lines.append(f"- Rows by {what}: {', '.join(shown)}{more}")
    return "\n".join([*lines, f"- Content hash: {code_span(facts.content_hash)}"])
