"""Preference rows: made of judged debates and of feedback, and written as files for other tools.

A file, JSONL or Parquet, appears under its name only once it is whole: it is written beside it
first and then renamed. Rows stream through in groups, so that memory does not
grow with their number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from oversight.errors import ConfigError, DataError
from oversight.files import whole_file
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
from oversight.registry import nearest
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
