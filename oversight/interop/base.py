"""Importing: a format's files read, checked as a whole, then written in large transactions.

A format has `Config(Settings)` and `read(path, config)`, which yields

- `ImportedDebate`: one debate as the store's records, and the place it was read from;
- `BadRow`: what cannot be used, with file, line or place inside, and the reason;
- `LeftOut`: what is in order but is not imported, with the reason.

It may have `count(path, config)`, the number of items that `read` will yield, for the progress; and
`write(transcripts, path, config)`, which writes debates back and yields a `LeftOut` for each that
the format cannot hold.

Ids are hashes of content: to import again is harmless, and goes on where an import was cut off.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import Field

from oversight import registry
from oversight.config import RunLabels, settings_of
from oversight.datasets.base import BadRow, LeftOut, complaint, parse_object
from oversight.errors import ConfigError, DataError, OversightError, StoreError
from oversight.registry import shortened, shown_error
from oversight.store import Store
from oversight.types import (
    Feedback,
    Judgment,
    PromptRecord,
    Question,
    Stored,
    Transcript,
    Turn,
)

GROUP = "interop"
"""The group of formats in the registry."""


@dataclass(frozen=True, slots=True)
class ImportedDebate:
    """One debate as the store's records, and the place it was read from."""

    place: str
    """File, and line or place inside it."""
    debate_id: str
    records: tuple[Stored, ...]
    """Question, debate, turns, judgments, outcome, feedback, prompts: all that is known of it."""


class UnusableItem(ValueError):
    """An item cannot be used; says the place inside it, the value and what is right.

    Within a format: its `read` yields a `BadRow` in place of it.
    """


ImportItem: TypeAlias = ImportedDebate | BadRow | LeftOut
"""Items that a format's `read` yields."""


class ImportSettings(RunLabels):
    """Settings of one import."""

    format: str
    path: str
    store: str
    settings: dict[str, Any] = Field(default_factory=dict)
    """The format's own."""
    skip_bad: bool = False
    """Go on without what cannot be used."""


@dataclass
class Imported:
    """Counts of what an import read, wrote, found and left out."""

    num_debates: int = 0
    num_found: int = 0
    """Of these, debates that were stored already."""
    num_turns: int = 0
    num_quotes: int = 0
    num_judgments: int = 0
    num_ratings: int = 0
    bad: list[BadRow] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Number of items that were left out, by reason."""

    def add(self, debate: ImportedDebate) -> None:
        """Count the records of a debate."""
        self.num_debates += 1
        for record in debate.records:
            if isinstance(record, Turn):
                self.num_turns += 1
                self.num_quotes += len(record.quotes)
            self.num_judgments += isinstance(record, Judgment)
            self.num_ratings += isinstance(record, Feedback)


PromptOf: TypeAlias = Callable[[str, int | None], PromptRecord]
"""A stored prompt by its id and number of tokens, as `Store.prompt` gives it."""

OnProgress: TypeAlias = Callable[[str, int], None]
"""Told the pass, `checking` or `writing`, and the number of items that have been read in it."""

RECORDS_A_WRITE = 4000
"""Records of a transaction, more or less: a commit costs the same for one of them."""
HELD_CHARS = 60_000_000
RECORD_CHARS = 1000
"""Characters that a record counts as, whatever its words."""


def _silent(task: str, done: int) -> None:
    pass


class DebateImport:
    """One import: read and checked as a whole, then written in large transactions.

    What was read in the check is kept for the writing up to `HELD_CHARS`; more is read again.
    """

    def __init__(self, settings: ImportSettings, on_progress: OnProgress = _silent) -> None:
        self.settings = settings
        self._on_progress = on_progress
        self._held: list[ImportItem] | None = None

    def check(self) -> None:
        """Read everything once and refuse what cannot be used, unless that is to be skipped.

        Raises:
            DataError: The message lists places and reasons.
            ConfigError: A setting is wrong, or there is no such file.
            UnknownNameError: There is no such format.
        """
        if self.settings.skip_bad:
            return
        bad: list[BadRow] = []
        held: list[ImportItem] | None = []
        num_chars = 0
        for item in self._read("checking"):
            if isinstance(item, BadRow):
                bad.append(item)
            elif isinstance(item, ImportedDebate):
                num_chars += _chars(item)
            if held is not None:
                held.append(item)
                held = held if num_chars <= HELD_CHARS else None
        if bad:
            raise DataError(_complaint(self.settings.format, bad))
        self._held = held

    def write(self, store: Store) -> Imported:
        """Write what can be used into `store`, and tell what was read and left out.

        Raises:
            DataError: There is no debate at all, or something cannot be used any more.
            StoreError: A record is stored already with other content, or nothing could be written.
        """
        found, waiting = Imported(), list[ImportedDebate]()
        items = self._read("writing") if self._held is None else iter(self._held)
        self._held = None
        for item in items:
            if isinstance(item, BadRow):
                found.bad.append(item)
            elif isinstance(item, LeftOut):
                found.left_out[item.reason] += 1
            else:
                found.add(item)
                waiting.append(item)
                if sum(len(each.records) for each in waiting) >= RECORDS_A_WRITE:
                    found.num_found += _write(store, waiting)
                    waiting.clear()
        found.num_found += _write(store, waiting)
        if found.bad and not self.settings.skip_bad:
            raise DataError(_complaint(self.settings.format, found.bad))
        if not found.num_debates:
            raise DataError(_nothing(self.settings, found))
        return found

    def _read(self, task: str) -> Iterator[ImportItem]:
        for number, item in enumerate(items_of(self.settings), start=1):
            yield item
            self._on_progress(task, number)


def import_debates(
    settings: ImportSettings, store: Store, on_progress: OnProgress = _silent
) -> Imported:
    """Read a file or folder of a format into `store`, and tell what was read and left out.

    All of it is read and checked before anything is written, unless bad items are skipped.

    Raises:
        DataError: Something cannot be used; the message lists places and reasons. Or there is no
            debate at all.
        ConfigError: A setting is wrong, or there is no such file.
        UnknownNameError: There is no such format.
        StoreError: A record is stored already with other content, or nothing could be written.
    """
    begun = DebateImport(settings, on_progress)
    begun.check()
    return begun.write(store)


def _chars(debate: ImportedDebate) -> int:
    """Characters of a debate's records, more or less: sources, words, tokens."""
    total = 0
    for record in debate.records:
        total += RECORD_CHARS
        if isinstance(record, Question):
            total += len(record.source.text) if record.source else 0
        elif isinstance(record, PromptRecord):
            total += 4 * len(record.token_ids)
            total += sum(len(part) for each in record.prompt.messages for part in each.parts)
        elif isinstance(record, Turn):
            total += len(record.text) + len(record.reasoning)
            total += sum(len(each.text) + 8 * len(each.token_ids) for each in record.samples)
    return total


def config_of(name: str, settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """The module or class of a format, and its settings, checked.

    Raises:
        UnknownNameError: There is no such format.
        ConfigError: A setting is wrong.
    """
    found = registry.load(GROUP, name)
    return found, settings_of(found, f"format = {name!r}").parse(settings)


def lines_of(path: Path, written_by: str) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """The objects of a JSONL file by their 1-based lines; lines of white space are passed over.

    Args:
        path: The file.
        written_by: Command or tool that writes such files, for the message.

    Raises:
        ConfigError: It is a folder, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, parse_object(line, str(path), number)
    except OSError as error:
        raise ConfigError(
            f"PATH = {str(path)!r}: not readable as a file ({error.strerror or error}); name one "
            f"that {written_by} wrote"
        ) from None


def num_items(settings: ImportSettings) -> int | None:
    """The number of items that will be read, where the format knows it beforehand."""
    found, config = config_of(settings.format, settings.settings)
    counted = getattr(found, "count", None)
    return None if counted is None else int(counted(_existing(settings.path), config))


def items_of(settings: ImportSettings) -> Iterator[ImportItem]:
    """All that the file or folder holds, item by item.

    Raises:
        ConfigError: There is no such path, or a setting is wrong.
        DataError: A format of the user's own failed, or yields something else.
    """
    found, config = config_of(settings.format, settings.settings)
    path = _existing(settings.path)
    if not registry.is_own(settings.format):
        yield from found.read(path, config)
        return
    try:
        for number, item in enumerate(found.read(path, config), start=1):
            if not isinstance(item, ImportItem):
                raise DataError(
                    f"format {settings.format!r}: item {number} is {shortened(repr(item), 60)}; "
                    "read(path, config) yields ImportedDebate from oversight.interop.base, or "
                    "BadRow and LeftOut from oversight.datasets.base"
                )
            yield item
    except OversightError:
        raise
    except Exception as error:
        said = shown_error(error, __file__, theirs=inspect.getsourcefile(found))
        raise DataError(
            f"format {settings.format!r}: read(path, config) failed ({said})"
        ) from error


def write_debates(
    name: str,
    transcripts: Iterable[Transcript],
    path: Path,
    settings: Mapping[str, Any],
    prompt_of: PromptOf | None = None,
) -> Imported:
    """Write debates in a format, as far as it can hold them, and tell what was left out.

    Args:
        name: Of the format.
        transcripts: The debates.
        path: The file or folder.
        settings: The format's own.
        prompt_of: The stored prompt of an id and a number of tokens, for a format that has a place
            for prompts: its `write` then takes it under this name.

    Raises:
        ConfigError: The format is read only, or a setting is wrong.
        UnknownNameError: There is no such format.
    """
    found, config = config_of(name, settings)
    write = getattr(found, "write", None)
    if write is None:
        able = [each for each in registry.names(GROUP) if hasattr(_loaded(each), "write")]
        raise ConfigError(
            f"format {name!r}: debates cannot be written in it; they can in {', '.join(able)}"
        )
    told = Imported()

    def passing() -> Iterator[Transcript]:
        for transcript in transcripts:
            told.num_debates += 1
            yield transcript

    takes = inspect.signature(write).parameters
    prompts = {"prompt_of": prompt_of} if "prompt_of" in takes else {}
    for item in write(passing(), path, config, **prompts):
        told.left_out[item.reason] += 1
        told.num_debates -= 1
    return told


def _loaded(name: str) -> Any:
    try:
        return registry.load(GROUP, name)
    except OversightError:
        return None  # it needs a package that is not installed


def _existing(path: str) -> Path:
    found = Path(path).expanduser()
    if not found.exists():
        raise ConfigError(f"PATH = {path!r}: there is no such file or folder")
    return found


def _write(store: Store, debates: list[ImportedDebate]) -> int:
    """Write debates in one transaction; the number of those that were stored already.

    Raises:
        StoreError: One of them is stored with other content; it is named by its place.
    """
    known = store.known(each.debate_id for each in debates)
    try:
        store.add(*(record for each in debates for record in each.records))
    except StoreError:
        for each in debates:
            try:
                store.add(*each.records)
            except StoreError as error:
                raise StoreError(f"{each.place}: {error}") from None
    return len(known)


def _complaint(name: str, bad: list[BadRow]) -> str:
    advice = "Mend them, or go on without them: --skip-bad."
    return complaint(f"format {name!r}", "item", bad, advice)


def _nothing(settings: ImportSettings, found: Imported) -> str:
    reasons = [f"{number} left out: {reason}" for reason, number in found.left_out.items()]
    if found.bad:
        reasons.append(f"{len(found.bad)} bad, the first {found.bad[0]}")
    why = "; ".join(reasons) or "nothing of this format is there"
    return f"PATH = {settings.path!r}: no debate to import as {settings.format!r} ({why})"
