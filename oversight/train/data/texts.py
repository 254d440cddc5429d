"""The words of the training data, from which a new tokenizer is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from oversight.train.data import sources
from oversight.train.data.reading import Found
from oversight.train.data.settings import DataSettings

WORDED = frozenset(
    {
        "prompt",
        "chosen",
        "rejected",
        "completion",
        "completions",
        "response",
        "responses",
        "messages",
        "text",
    }
)
"""Columns that hold what is learnt or asked; ids and labels are no words."""


def texts(settings: DataSettings, rows: Iterable[Mapping[str, Any]] | None) -> Iterator[str]:
    """Every text of the training rows, in their order."""
    theirs = {settings.columns.get(name, name) for name in WORDED}
    for source in sources.training(settings, rows):
        for item in islice(source.open(), settings.max_rows):
            if isinstance(item, Found):
                for name in sorted(theirs & item.row.keys()):
                    yield from _strings(item.row[name])


def _strings(value: Any) -> Iterator[str]:
    """The texts in a cell; of a message its content and not its role."""
    if isinstance(value, str):
        # Half of a surrogate pair is no text: the row that holds it is refused by name later.
        yield value.encode("utf-8", "ignore").decode()
    elif isinstance(value, Mapping):
        yield from _strings(value.get("content"))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
