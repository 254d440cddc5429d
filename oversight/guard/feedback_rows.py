"""Training rows of what users said of answers, and of what people said of calls that were flagged.

Each user counts up to a number of words; users who mostly contradict all others, corrections that
stand under many answers, and corrections in which a check of the policy found something are left
out, and all that is left out is counted by its reason. People who rate flagged calls
(`oversight rate flagged`) are no unknown users, so none of these limits is theirs: their word on
what was sent is a label like others, and where a check changed the answer, and they say which of
the two should have been sent, both make a pair.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from pydantic import Field, JsonValue

from oversight.aggregation import last_words
from oversight.config import Settings
from oversight.files import whole_file
from oversight.guard.calls import DATASET, USERS
from oversight.guard.feedback import delivered
from oversight.preferences.layouts import labelled_row
from oversight.store import Store
from oversight.types import (
    FLAGGED,
    Act,
    Feedback,
    Labelled,
    OwnAnswer,
    Preference,
    Prompt,
    Provenance,
    Response,
    Transcript,
    Turn,
)

CORRECTIONS = "corrections"
"""Kind of the pairs that corrected texts make."""

Row = TypeVar("Row", Labelled, Preference)


class RowLayout(StrEnum):
    """Rows that users' words become, and people's words on flagged calls."""

    UNPAIRED = "unpaired"
    """An answer and whether users called it good."""
    PAIRED = "paired"
    """A corrected text before the answer that it corrects."""
    SFT = "sft"
    """Corrected texts, and answers that users called good."""


class FeedbackRowSettings(Settings):
    """Limits of what counts as rows are made."""

    max_per_user: int = Field(default=50, ge=1)
    """Words of one user that count, the first ones."""
    max_repeats: int = Field(default=2, ge=1)
    """Answers under which one and the same correction may stand; under more it counts nowhere."""
    min_shared: int = Field(default=5, ge=2)
    """Answers on which a user and others said something, from which on a user who contradicts the
    others on more than half of them does not count."""
    min_p: float = Field(default=0.5, ge=0.5, lt=1.0)
    """Mean quality, or one minus it, above which an answer counts as good, or as bad."""


class FeedbackFault(StrEnum):
    """Reasons why a user's word made no row."""

    FLAGGED = "a check of the policy found something in the correction"
    FLOOD = "the user had said as much as counts of one"
    REPEATED = "the same correction stands under many answers"
    CONTRADICTING = "the user contradicts the others on more than half of what they share"
    UNDECIDED = "users are of two minds"
    UNCHANGED = "the correction is the answer once more"
    DUPLICATE = "the same row was there before"


@dataclass
class _Given:
    """A word that counts so far."""

    transcript: Transcript
    turn: Turn
    said: Feedback

    @property
    def fields(self) -> dict[str, JsonValue]:
        assert isinstance(self.said.answer, OwnAnswer)
        return self.said.answer.fields

    @property
    def quality(self) -> float | None:
        assert isinstance(self.said.answer, OwnAnswer)
        return self.said.answer.preference

    @property
    def text(self) -> str:
        """The corrected text; empty if there is none."""
        found = self.fields.get("text")
        return found if isinstance(found, str) else ""


@dataclass
class FeedbackRows:
    """Rows of users' words in a store, with an account of those that made none."""

    settings: FeedbackRowSettings = field(default_factory=FeedbackRowSettings)
    left_out: Counter[FeedbackFault] = field(default_factory=Counter)

    def rows(self, store: Store, layout: RowLayout) -> Iterator[Labelled] | Iterator[Preference]:
        """The rows of a layout; each once."""
        if layout is RowLayout.PAIRED:
            return self._once(self._pairs(store))
        return self.demonstrations(store) if layout is RowLayout.SFT else self.labelled(store)

    def labelled(self, store: Store) -> Iterator[Labelled]:
        """Answers, each with a label."""
        return self._once(self._labelled(self._all(store)))

    def demonstrations(self, store: Store) -> Iterator[Labelled]:
        """Corrected texts, and answers that users called good."""
        return self._once(self._good(self._all(store)))

    def _all(self, store: Store) -> list[_Given]:
        return [*self._counted(list(_words(store, USERS))), *_words(store, FLAGGED)]

    def _pairs(self, store: Store) -> Iterator[Preference]:
        yield from map(_pair, self._corrections(self._counted(list(_words(store, USERS)))))
        yield from (row for each in _words(store, FLAGGED) if (row := _pair_of_flagged(each)))

    def _good(self, given: Sequence[_Given]) -> Iterator[Labelled]:
        for each in self._corrections(given):
            yield _labelled([each], Response(text=each.text), label=True, p=None)
        yield from (row for row in self._labelled(given) if row.label)

    def _once(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Rows whose words have not been there before, in whichever call."""
        seen: set[tuple[object, ...]] = set()
        for row in rows:
            place = _place(row)
            if place in seen:
                self.left_out[FeedbackFault.DUPLICATE] += 1
                continue
            seen.add(place)
            yield row

    # --- those that count ---

    def _counted(self, given: list[_Given]) -> list[_Given]:
        """The words without those of floods and of users who contradict all others."""
        given.sort(key=lambda each: (each.said.sent_at, each.said.id))
        contrary = self._contrary(given)
        numbers: Counter[str] = Counter()
        kept = []
        for each in given:
            user = each.said.judge
            numbers[user] += 1
            if user in contrary:
                self.left_out[FeedbackFault.CONTRADICTING] += 1
            elif numbers[user] > self.settings.max_per_user:
                self.left_out[FeedbackFault.FLOOD] += 1
            else:
                kept.append(each)
        return kept

    def _contrary(self, given: Sequence[_Given]) -> set[str]:
        """Users who mostly contradict the majority of the others on the same answers."""
        by_item: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for each in given:
            if each.quality is not None:
                by_item[each.said.item].append((each.said.judge, each.quality))
        shared: Counter[str] = Counter()
        against: Counter[str] = Counter()
        for votes in by_item.values():
            for user, quality in votes:
                others = [other for name, other in votes if name != user]
                # Two who differ do not show which of them is wrong.
                if len(others) < 2 or (mean := fmean(others)) == 0.5 or quality == 0.5:
                    continue
                shared[user] += 1
                against[user] += (mean > 0.5) != (quality > 0.5)
        return {
            user
            for user, number in shared.items()
            if number >= self.settings.min_shared and against[user] > number / 2
        }

    def _corrections(self, given: Sequence[_Given]) -> Iterator[_Given]:
        with_text = [each for each in given if each.text]
        repeats = Counter(_plain(each.text) for each in with_text)
        for each in with_text:
            if each.fields.get("flags"):
                self.left_out[FeedbackFault.FLAGGED] += 1
            elif repeats[_plain(each.text)] > self.settings.max_repeats:
                self.left_out[FeedbackFault.REPEATED] += 1
            elif _plain(each.text) == _plain(each.turn.text):
                self.left_out[FeedbackFault.UNCHANGED] += 1
            else:
                yield each

    def _labelled(self, given: Sequence[_Given]) -> Iterator[Labelled]:
        by_item: dict[str, list[_Given]] = defaultdict(list)
        for each in given:
            if each.quality is not None and each.turn.text.strip():
                by_item[each.said.item].append(each)
        for some in by_item.values():
            p = fmean(each.quality for each in some if each.quality is not None)
            if max(p, 1.0 - p) <= self.settings.min_p:
                self.left_out[FeedbackFault.UNDECIDED] += len(some)
                continue
            turn = some[0].turn
            yield _labelled(some, Response(text=turn.text, turn_id=turn.id), label=p > 0.5, p=p)


def _words(store: Store, task: str) -> Iterator[_Given]:
    """The last word of each user, or of each person who rates, on each answer."""
    for transcript in store.transcripts(dataset=DATASET):
        turn = delivered(transcript)
        for said in last_words(transcript):
            if said.task == task and turn is not None:
                yield _Given(transcript, turn, said)


def _place(row: Labelled | Preference) -> tuple[object, ...]:
    """All words of a row, and which of them are good."""
    if isinstance(row, Labelled):
        return (row.prompt.id, row.response.text, row.label)
    return (row.prompt.id, *(each.text for each in row.responses))


def write_demonstrations(rows: Iterable[Labelled], out: Path) -> int:
    """Write good answers as lines of `prompt` and `completion`; the number of lines.

    Raises:
        ConfigError: The file cannot be written.
    """
    number = 0
    with whole_file(out, "out") as part, part.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            cells = {k: v for k, v in labelled_row(row).items() if k not in ("label", "p")}
            file.write(json.dumps(cells, ensure_ascii=False) + "\n")
            number += 1
    return number


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _prompt(transcript: Transcript) -> Prompt:
    return transcript.question.chat


def _provenance(some: Sequence[_Given]) -> Provenance:
    transcript = some[0].transcript
    return Provenance(
        question_id=transcript.question.id,
        debate_id=transcript.debate.id,
        protocol=transcript.debate.protocol.name,
        judges=tuple(sorted({each.said.judge for each in some})),
        rating_ids=tuple(each.said.id for each in some),
    )


def _labelled(some: Sequence[_Given], said: Response, *, label: bool, p: float | None) -> Labelled:
    return Labelled(
        prompt=_prompt(some[0].transcript),
        response=said,
        label=label,
        p=p,
        provenance=_provenance(some),
    )


def _pair(each: _Given) -> Preference:
    answer = Response(text=each.turn.text, turn_id=each.turn.id)
    return Preference(
        kind=CORRECTIONS,
        prompt=_prompt(each.transcript),
        responses=(Response(text=each.text), answer),
        ranks=(0, 1),
        provenance=_provenance([each]),
    )


def _pair_of_flagged(each: _Given) -> Preference | None:
    """Two texts, first the one that should have been sent, where a check changed the answer.

    None if the person does not say which it is: a check that acted rightly and sent what is bad, or
    one that acted wrongly and sent what is good all the same.
    """
    written = next((t for t in each.transcript.turns if t.act is Act.RESPOND), None)
    is_right, is_good = each.fields.get("check") == "right", each.quality == 1.0
    if written is None or written.id == each.turn.id or written.text == each.turn.text:
        return None
    if is_right is not is_good or not written.text.strip() or not each.turn.text.strip():
        return None
    sent = Response(text=each.turn.text, turn_id=each.turn.id)
    before = Response(text=written.text, turn_id=written.id)
    return Preference(
        kind=FLAGGED,
        prompt=_prompt(each.transcript),
        responses=(sent, before) if is_right else (before, sent),
        ranks=(0, 1),
        provenance=_provenance([each]),
    )
