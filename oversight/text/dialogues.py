"""Dialogues written as plain text, with a label before each turn: `\\n\\nHuman: …`."""

from __future__ import annotations

import re
from collections.abc import Collection


def labelled(text: str, labels: Collection[str]) -> list[tuple[str, str]]:
    """The turns of a dialogue as label and words, without white space around the words.

    A turn begins where a blank line is followed by a label and a colon; a colon or a label
    elsewhere is part of the words. Words before the first turn have the label "".
    """
    names = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    parts = re.split(rf"\n\n({names}):", text)
    turns = list(zip(parts[1::2], (said.strip() for said in parts[2::2]), strict=True))
    before = parts[0].strip()
    return [("", before), *turns] if before else turns
