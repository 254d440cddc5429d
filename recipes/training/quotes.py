"""A reward that anyone can check: how much of a quote stands in the source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher

QUOTE = re.compile(r"<quote>(.*?)</quote>", re.DOTALL)


def from_source(texts: list[str], fields: list[Mapping[str, object]]) -> list[float]:
    """For each response, the share of its first quote that is one stretch of the prompt's words."""
    return [_share(text, str(row["prompt"])) for text, row in zip(texts, fields, strict=True)]


def _share(text: str, source: str) -> float:
    found = QUOTE.search(text)
    quoted = found[1].split() if found else []
    if not quoted:
        return 0.0
    words = source.split()
    match = SequenceMatcher(None, quoted, words, autojunk=False).find_longest_match()
    return match.size / len(quoted)
