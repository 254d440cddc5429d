"""Which format rows have, told by their columns and the kind of example wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from oversight.errors import DataError
from oversight.train.data.formats import FORMATS
from oversight.train.data.messages import is_dialogue

Kind = Literal["demonstrations", "comparisons", "labelled", "prompts"]

PAIRS = ("kwise", "pair", "hh", "implicit_pair")
ACCEPTED: dict[Kind, tuple[str, ...]] = {
    "demonstrations": ("messages", *PAIRS, "prompt_completion", "text"),
    "comparisons": PAIRS,
    "labelled": ("unpaired", *PAIRS),
    "prompts": (*PAIRS, "prompt"),
}
"""What each kind of example is made of. Of compared responses SFT learns the best one; KTO
learns the best as good and the worst as bad; PPO and GRPO take the prompt."""


def detect(rows: Sequence[Mapping[str, Any]], kind: Kind, forced: str, where: str) -> str:
    """The name of the format.

    Args:
        rows: The first rows of the source.
        kind: What is to be made of them.
        forced: The setting `format`.
        where: The source, for messages.

    Raises:
        DataError: No format that gives this kind of example has these columns, or the one that
            was asked for gives no such examples.
    """
    if forced != "auto":
        if forced not in ACCEPTED[kind]:
            raise DataError(
                f"data.format = {forced!r} gives no {kind}; accepted: {', '.join(ACCEPTED[kind])}"
            )
        return forced
    columns = {name for row in rows for name, value in row.items() if value is not None}
    for name in ACCEPTED[kind]:
        if _has(columns, name) and (name != "hh" or _are_dialogues(rows)):
            return name
    found = ", ".join(sorted({name for row in rows for name in row})) or "none"
    raise DataError(
        f"{where}: columns {found} are of no format that gives {kind}. "
        f"Accepted: {_listed(kind)}. Name other columns in data.columns."
    )


def _has(columns: set[str], name: str) -> bool:
    return all(columns & set(alternatives) for alternatives in FORMATS[name].columns)


def _are_dialogues(rows: Sequence[Mapping[str, Any]]) -> bool:
    cells = [row.get(name) for row in rows for name in ("chosen", "rejected")]
    there = [cell for cell in cells if cell is not None]
    return sum(map(is_dialogue, there)) * 2 > len(there)


def _listed(kind: Kind) -> str:
    return "; ".join(
        f"{name} ({', '.join(' or '.join(alternatives) for alternatives in FORMATS[name].columns)})"
        for name in ACCEPTED[kind]
    )
