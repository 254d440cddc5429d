"""Critiques and revisions as text: the defects that they may have, and the words that were changed.

A defect is recorded with the turn, and a turn that has one is not trained on.
Each is a fault that published sets of self-critiques are known to hold: preambles kept in the
answer ("Sure, here is …"), refusals to criticise, answers that talk about the critique, and the
format of the next turn written out by the model itself. The rules look for the common English
wordings; a defect that is worded otherwise goes unseen, and a sentence that merely sounds like one
may be taken for it, which costs a training row and nothing else.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from oversight.types import Defect

_OPENING = r"\A[\s*_#>\"“]*"
_AGREES = r"(?:sure|certainly|of course|absolutely|okay|ok|alright|no problem|thank you|thanks)"
_HERE = (
    r"(?:here(?:['’]s| is| are)|below is|the following is|this is|i(?:['’]ve| have)"
    r"|let me|i(?:['’]ll| will))"
)
_WORK = (
    r"(?:revis|rewrit|rewrot|rephras|improv|updat|correct|new|better|final|alternativ|respons|answer"
    r"|critique|version|draft)"
)
_PREAMBLE = re.compile(
    rf"{_OPENING}(?:{_AGREES}\b[^\n:]{{0,60}}?[,.!:—–-]\s*)?{_HERE}\b[^\n.!?:]{{0,80}}{_WORK}"
    rf"[^\n.!?:]{{0,80}}:"
    rf"|{_OPENING}{_AGREES}\b[,.!]?\s+{_HERE}\b[^\n]{{0,120}}{_WORK}"
    rf"|{_OPENING}(?:revised|rewritten|improved|updated|final|new)\s+(?:response|answer|version)\s*:",
    re.IGNORECASE,
)
_UNWILLING = (
    rf"{_OPENING}(?:(?:i['’]?m|i am)\s+(?:very |so |really )?sorry,?\s*(?:but\s+)?(?:that\s+)?)?"
    r"(?:as an? (?:ai|language)[^.,\n]{0,40},\s*)?"
    r"i(?:['’]m| am)?\s*(?:can(?:['’]t|not)|can not|won['’]t|will not|(?:not able|unable) to"
    r"|(?:do not|don['’]t) feel comfortable|must decline|have to decline|decline to"
    r"|not comfortable)\b[^.\n]{0,60}"
)
_REFUSED = re.compile(
    rf"{_UNWILLING}(?:critici[sz]|critique|evaluat|review|assess|revis|rewrit|comply|help with"
    r"|assist|fulfil|provide|continue|do that|that)",
    re.IGNORECASE,
)
_DECLINES = re.compile(
    rf"{_OPENING}(?:(?:sorry|unfortunately|no)[,.]?\s*(?:but\s+)?)?"
    rf"(?:{_UNWILLING.removeprefix(_OPENING)}(?:help|assist|comply|fulfil|provide|answer|share"
    r"|tell|give|discuss|support|engage|advise|explain|describe|write|creat|continue"
    r"|do that|do this|that|this)"
    r"|(?:i['’]?m|i am)\s+(?:very |so |really )?sorry,?\s+(?:but\s+)?(?:that|this)\s*(?:is|['’]s)"
    r"\s+not\s+something|i(?:['’]d| would)\s+rather\s+not\b)",
    re.IGNORECASE,
)
_KEEN = re.compile(
    r"\bcan(?:['’]t|not)\s+(?:wait|recommend|thank|stress|help\s+but)\b", re.IGNORECASE
)
_SPEAKS = re.compile(
    r"\b(?:the|this|that|your)\s+(?:critique|criticism|critic(?:['’]s)?|feedback)\b"
    r"|\b(?:as|like)\s+(?:you|the critic(?:ism)?|the critique)\s+(?:point(?:s|ed)|not(?:es|ed)"
    r"|suggest(?:s|ed)?|say|said)\b"
    r"|\bi(?:['’]ve| have)\s+(?:now\s+)?(?:revised|rewritten|removed|changed|updated|rephrased)\b"
    r"|\b(?:my|the)\s+(?:previous|earlier|original|first|last)\s+(?:response|answer|reply)\b"
    r"|\b(?:this|the)\s+(?:revised|rewritten|updated)\s+(?:response|answer|version)\b",
    re.IGNORECASE,
)
_FORMAT = re.compile(
    r"\n[ \t*_#>]*(?:critique\s*request|revision\s*request|critique|revision|human|user"
    r"|assistant|system)[ \t*_]*:"
    r"|</?(?:critique|revision|question|answer|turn|principle|human|user|assistant|system)\b[^>]*>"
    r"|<\|[^|>\n]{1,40}\|>"
    r"|\[/?(?:INST|(?:critique|revision)(?:[ _]?request)?|user|assistant|system)\]",
    re.IGNORECASE,
)
"""Searched for behind a newline before the text: each of the ways begins with a character of its
own, for which a search skips all others."""


def defects_of_critique(text: str) -> tuple[Defect, ...]:
    """The defects of a critique, in the order of `Defect`."""
    return tuple(_common(text))


def defects_of_response(text: str, asked: str) -> tuple[Defect, ...]:
    """The defects of a first answer: the format of another turn, unless the prompt `asked` has it
    as well (a play, a page to be mended)."""
    return (Defect.IMITATES_FORMAT,) if _formats(text) - _formats(asked) else ()


def defects_of_revision(text: str, before: str) -> tuple[Defect, ...]:
    """The defects of a revision of the answer `before`, in the order of `Defect`.

    Words that were in the answer before are no sign that the revision talks about the critique:
    an answer about film critics may go on to be about them.
    """
    found = list(_common(text))
    spoken = _spoken(text)
    if spoken and spoken - _spoken(before):
        found.append(Defect.SPEAKS_OF_CRITIQUE)
    if Defect.IMITATES_FORMAT in found and _formats(text) <= _formats(before):
        found.remove(Defect.IMITATES_FORMAT)
    if text.split() == before.split():
        found.append(Defect.REPEATED)
    return tuple(sorted(found, key=list(Defect).index))


def declines(answer: str) -> bool:
    """True of an answer that begins by declining the request, in the common English wordings."""
    found = _DECLINES.match(answer)
    return found is not None and not _KEEN.search(found.group())


def _spoken(text: str) -> set[str]:
    return {match.group().lower() for match in _SPEAKS.finditer(text)}


def _formats(text: str) -> set[str]:
    return {match.group().strip().lower() for match in _FORMAT.finditer(f"\n{text}")}


def imitates_format(text: str) -> bool:
    """True if the text writes out labels or tags of a turn, as if it were several turns."""
    return _FORMAT.search(f"\n{text}") is not None


def _common(text: str) -> Iterator[Defect]:
    if _PREAMBLE.match(text):
        yield Defect.PREAMBLE
    if _REFUSED.match(text):
        yield Defect.REFUSED
    if imitates_format(text):
        yield Defect.IMITATES_FORMAT


WORDS = re.compile(r"\s+|\w+(?:['’-]\w+)*|[^\w\s]")

Change = Literal["kept", "removed", "added"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of words that one change concerns."""

    change: Change
    text: str


def differences(before: str, after: str) -> tuple[Piece, ...]:
    """The pieces that lead from one text to the other, what is removed before what is added.

    Without the removed pieces they are `after`, without the added ones `before`, character for
    character.
    """
    old, new = WORDS.findall(before), WORDS.findall(after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return tuple(_joined(_pieces(matcher, old, new)))


def _pieces(
    matcher: difflib.SequenceMatcher[str], old: list[str], new: list[str]
) -> Iterator[Piece]:
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            yield Piece("kept", "".join(old[i1:i2]))
            continue
        if i1 < i2:
            yield Piece("removed", "".join(old[i1:i2]))
        if j1 < j2:
            yield Piece("added", "".join(new[j1:j2]))


def _joined(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Pieces in which a blank alone between two changes belongs to both of them."""
    held: list[Piece] = []
    for piece in pieces:
        held.append(piece)
    index = 0
    while index < len(held):
        piece = held[index]
        removed, added = "", ""
        while piece.change != "kept" or (
            not piece.text.strip() and (removed or added) and index + 1 < len(held)
        ):
            removed += piece.text if piece.change != "added" else ""
            added += piece.text if piece.change != "removed" else ""
            index += 1
            if index == len(held):
                break
            piece = held[index]
        if removed:
            yield Piece("removed", removed)
        if added:
            yield Piece("added", added)
        if index < len(held):
            yield held[index]
            index += 1


def share_kept(before: str, after: str) -> float:
    """The share of words that two texts have in common, in order: 1 for equal texts, 0 for none."""
    old = [word for word in WORDS.findall(before) if not word.isspace()]
    new = [word for word in WORDS.findall(after) if not word.isspace()]
    if not old and not new:
        return 1.0
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return 2.0 * sum(block.size for block in matcher.get_matching_blocks()) / (len(old) + len(new))
