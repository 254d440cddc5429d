"""Prompts that a model wrote: read out of its answer, and their distance to those before them.

Distance is 1 - resemblance, the Jaccard index of two texts' sets of shingles (Broder 1997, "On the
resemblance and containment of documents"): 0 of the same words, 1 of texts that share no shingle.
Shingles here are runs of four characters, so a changed ending or an added word costs little and
scripts without spaces need no rule of their own; case, punctuation and spacing do not count. It is
exact, by an inverted index: no prompt is missed as a neighbour, and a hundred thousand short
prompts take some 2 ms each. It sees words and not meaning: a translation is as far as can be.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Any

from oversight.text.folding import WORD, fold
from oversight.text.revisions import imitates_format

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHINGLE_CHARS = 4
MAX_CHARS = 4000
"""Longest prompt that is taken from an answer."""


class Unusable(StrEnum):
    """Reasons why a written prompt is not taken."""

    REFUSED = "refused"
    """The model declines to write one."""
    EMPTY = "empty"
    """It holds no word."""
    CUT_OFF = "cut_off"
    """The last one of an answer that reached its longest length."""
    IMITATES_FORMAT = "imitates_format"
    """It writes out the labels or tags of a further turn."""
    HOLE = "hole"
    """It leaves a place to be filled in, such as `[name of a drug]`."""
    TOO_LONG = "too_long"
    DOUBLED = "doubled"
    """The same words stand already, but for case, punctuation and spacing."""
    NEAR = "near"
    """It is nearer to an earlier prompt than is asked for."""


@dataclass(frozen=True, slots=True)
class WrittenPrompt:
    """One prompt of a model's answer."""

    text: str
    fault: Unusable | None = None
    """Reason why it cannot be taken; None if it can."""


# --- from an answer to prompts ---

_ITEM = re.compile(
    r"^[ \t]*(?:\*\*)?(?:\(?\d{1,3}[.):]|[-*•–]|#{1,6}[ \t]*\d{1,3}[.):]?)(?:\*\*)?[ \t]+", re.M
)
_TAGGED = re.compile(
    r"<(question|prompt|message|user)\b[^>]*>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE
)
_FENCE = re.compile(r"\A\s*```[a-z]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_ANNOUNCES = re.compile(
    r"\A(?=[^\n]*\b(?:here|below|following|prompts?|messages?|questions?|requests?)\b)"
    r"[^\n]{0,200}:[ \t*_]*\n",
    re.IGNORECASE,
)
_AGREES = re.compile(
    r"\A[\s*_#>]*(?:sure|certainly|of course|absolutely|okay|ok|alright|no problem)\b[^\n]{0,120}?"
    r"(?:[:!]\s+|\.\s*\n)",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"\A[\s*_#]*(?:(?:new|next)\s+)?(?:prompt|question|message|request|user|human)"
    r"(?:\s*#?\d{1,3})?[ \t*_]*:[\s*_]*",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"\A(?:\*\*|__)?([\"“'‘«`])(.+)([\"”'’»`])(?:\*\*|__)?\Z", re.DOTALL)
_PAIRS = {'"': '"', "“": "”", "'": "'", "‘": "’", "«": "»", "`": "`"}
_BOLD = re.compile(r"\A(\*\*|__)(?=\S)(.+?)(?<=\S)\1\Z", re.DOTALL)
_DECLINES = re.compile(
    r"\A[\s*_#>\"“]*(?:"
    r"(?:i['’]?m|i am)\s+(?:very |so |really )?sorry\b[^\n]{0,60}?\bi?\s*(?:can(?:['’]t|not)"
    r"|can not|won['’]t|will not|(?:['’]m|am) (?:not able|unable))"
    r"|as an? (?:ai|(?:large )?language)\b[^\n]{0,60}?\bi\b"
    r"|i(?:['’]m| am)?\s*(?:can(?:['’]t|not)|can not|won['’]t|will not|not able to|unable to"
    r"|must decline to|have to decline to|decline to|not comfortable)\s+(?:\w+\s+){0,2}?"
    r"(?:writ|creat|generat|produc|provid|fulfil|compl|assist|help)\w*[^.\n]{0,40}"
    r"\b(?:that|this|such|these|those|any|prompts?|messages?|requests?|questions?)\b)",
    re.IGNORECASE,
)
_HOLE = re.compile(
    r"\{\{?\s*[A-Za-z_][\w ]*\}?\}|\[(?:insert|your|name|topic|a|an|the|type|kind|city|target)\b"
    r"[^\]\n]{0,60}\]|<(?:insert|your|name|topic)\b[^>\n]{0,60}>",
    re.IGNORECASE,
)


def written_prompts(
    answer: str, *, several: bool = True, is_cut: bool = False
) -> list[WrittenPrompt]:
    """The prompts of an answer, in its order, each with the fault for which it cannot be taken.

    A numbered or bulleted list, prompts in tags, a JSON list, and otherwise a prompt a line. What
    is said before a list, labels, and quotation marks around a whole prompt are taken off.

    Args:
        answer: The public words of the model.
        several: False takes an answer that is no list for one prompt, whatever its lines.
        is_cut: The answer was cut off at its longest length, so its last prompt has no end.
    """
    said = _FENCE.sub(r"\1", answer).strip()
    if not said or _DECLINES.search(said):
        return [WrittenPrompt(said, Unusable.REFUSED if said else Unusable.EMPTY)]
    found = [_bare(each) for each in _items(said, several)]
    read = [WrittenPrompt(text, _fault(text)) for text in found]
    if is_cut:
        read[-1:] = [WrittenPrompt(each.text, Unusable.CUT_OFF) for each in read[-1:]]
    return read or [WrittenPrompt(said, Unusable.EMPTY)]


def _items(said: str, several: bool) -> list[str]:
    if said.startswith("["):
        try:
            listed = json.loads(said)
        except (ValueError, RecursionError):
            listed = None
        if isinstance(listed, list) and listed and all(isinstance(each, str) for each in listed):
            return listed
    if tagged := [match[2] for match in _TAGGED.finditer(said)]:
        return tagged
    starts = list(_ITEM.finditer(said))
    if starts:
        ends = [match.start() for match in starts[1:]] + [len(said)]
        # A paragraph behind an item is no part of it: what else the model has to say of the list.
        return [
            said[match.end() : end].split("\n\n")[0]
            for match, end in zip(starts, ends, strict=True)
        ]
    said = _ANNOUNCES.sub("", said, count=1) if "\n" in said else said
    said = _AGREES.sub("", said, count=1).strip()
    return [line for line in said.splitlines() if line.strip()] if several else [said]


def _bare(text: str) -> str:
    """A prompt without the label before it, and without marks around the whole of it."""
    text = _LABEL.sub("", text.strip()).strip()
    text = _BOLD.sub(r"\2", text)
    match = _QUOTED.match(text)
    if match and _PAIRS[match[1]] == match[3] and match[3] not in match[2]:
        text = match[2].strip()
    return text


def _fault(text: str) -> Unusable | None:
    if WORD.search(text) is None:
        return Unusable.EMPTY
    if _DECLINES.search(text):
        return Unusable.REFUSED
    if imitates_format(text):
        return Unusable.IMITATES_FORMAT
    if _HOLE.search(text):
        return Unusable.HOLE
    return Unusable.TOO_LONG if len(text) > MAX_CHARS else None


# --- distance ---


def plain_words(text: str) -> str:
    """The words of a text alone, in small letters: equal for texts that are the same prompt."""
    return " ".join(WORD.findall(fold(text).text.casefold()))


def shingles(text: str) -> frozenset[str]:
    """The runs of four characters in a text's words, with a space at either end."""
    padded = f" {plain_words(text)} "
    last = max(len(padded) - SHINGLE_CHARS, 0)
    return frozenset(padded[start : start + SHINGLE_CHARS] for start in range(last + 1))


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The nearest earlier prompt of a text, and its distance."""

    distance: float
    """0 to 1; 1 where no earlier prompt shares a shingle."""
    index: int | None
    """Place of the nearest in the order in which prompts were added; None of distance 1."""
    is_same: bool = False
    """The words are the same, but for case, punctuation and spacing."""


class PromptIndex:
    """The prompts so far, by their shingles."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._postings: dict[str, array[int]] = {}
        self._sizes: array[int] = array("I")
        self._words: dict[str, int] = {}
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, text: str) -> None:
        """Let a text be one of those that come before the next ones."""
        number, own = len(self._sizes), shingles(text)
        for shingle in own:
            self._postings.setdefault(shingle, array("I")).append(number)
        self._sizes.append(len(own))
        self._words.setdefault(plain_words(text), number)

    def nearest(self, text: str) -> Neighbour:
        """The nearest of the texts so far."""
        same = self._words.get(plain_words(text))
        if same is not None:
            return Neighbour(0.0, same, is_same=True)
        if not len(self):
            return Neighbour(1.0, None)
        distances = self.distances(text)
        index = int(distances.argmin())
        least = float(distances[index])
        return Neighbour(least, index if least < 1.0 else None)

    def distances(self, text: str) -> NDArray[np.float64]:
        """The distance of a text to each of those so far, in their order."""
        import numpy as np

        own = shingles(text)
        found = [self._postings[each] for each in own if each in self._postings]
        places = [np.frombuffer(each, dtype=np.uint32) for each in found]
        number = len(self._sizes)
        shared = (
            np.bincount(np.concatenate(places), minlength=number) if places else np.zeros(number)
        )
        sizes = np.array(self._sizes, dtype=np.float64)
        resemblance: NDArray[np.float64] = shared / (sizes + len(own) - shared)
        return 1.0 - resemblance


def summary_of(distances: Sequence[float]) -> dict[str, float]:
    """Mean, quantiles and ends of distances, and the mean of the first and the last fifth of them:
    novelty that wears out shows there. Empty without any."""
    if not distances:
        return {}
    import numpy as np

    fifth = max(len(distances) // 5, 1)
    low, *inner, high = np.quantile(distances, (0.0, 0.1, 0.5, 0.9, 1.0)).tolist()
    p10, median, p90 = inner
    return {
        "mean": float(np.mean(distances)),
        "min": low,
        "p10": p10,
        "median": median,
        "p90": p90,
        "max": high,
        "first_fifth": float(np.mean(distances[:fifth])),
        "last_fifth": float(np.mean(distances[-fifth:])),
    }


# --- novelty as a reward ---


def novelty(texts: list[str], fields: Sequence[Mapping[str, Any]]) -> list[float]:
    """For each response, the mean distance of its prompts to the nearest of all others.

    A reward for training a red team (`reward.function = "oversight.text.new_prompts:novelty"`), as
    curiosity-driven red teaming rewards novelty (Hong et al. 2024, arXiv:2402.19464). The others
    are the examples of the response's row (its column `seeds`, a list of texts, as the file of
    calls of `oversight propose` has it), and all prompts of all responses of the batch, the
    response's own included: a prompt that is said twice is worth 0 both times. What cannot be taken
    as a prompt (a refusal, a hole, the format of a further turn) counts 0.

    It remembers no earlier batch, so that a run that is gone on with is rewarded as one that was
    never stopped.
    """
    said = [written_prompts(text) for text in texts]
    usable = [[each.text for each in some if each.fault is None] for some in said]
    batch = PromptIndex(chain.from_iterable(usable))
    rewards: list[float] = []
    start = 0
    for some, own, row in zip(said, usable, fields, strict=True):
        shown = PromptIndex(_seeds(row))
        distances = []
        for place, text in enumerate(own, start=start):
            others = batch.distances(text)
            others[place] = 1.0
            distances.append(min(float(others.min()), shown.nearest(text).distance))
        start += len(own)
        rewards.append(sum(distances) / len(some))
    return rewards


def _seeds(row: Mapping[str, Any]) -> Iterator[str]:
    given = row.get("seeds") or ()
    yield from [given] if isinstance(given, str) else map(str, given)
