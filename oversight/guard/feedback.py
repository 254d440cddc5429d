"""Feedback of users on answers, joined to the calls by their ids, and training rows of it.

A word on an answer is a rating of the task `users` in the store, under a pseudonym of the user; a
new word on the same answer is a revision of the old one, and keeps what it does not change. Words
of one user are limited by the hour as they come. When rows are made, each user counts up to a
number of words; users who mostly contradict all others, corrections that stand under many answers,
and corrections in which a check of the policy found something are left out, and all that is left
out is counted by its reason.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import Literal, Self, TypeVar

from pydantic import Field, JsonValue, model_validator

from oversight.aggregation import last_words
from oversight.config import Settings
from oversight.errors import ConfigError, StoreError
from oversight.files import whole_file
from oversight.guard.calls import DATASET, USERS
from oversight.guard.checks.base import GuardedExchange
from oversight.guard.policy import Policy
from oversight.guard.recording import Recorder
from oversight.guard.screening import ScreenedChoice
from oversight.guard.upstreams import ApiError, Json, invalid
from oversight.preferences.layouts import labelled_row
from oversight.redaction import redacted
from oversight.store import Store
from oversight.types import (
    Feedback,
    Labelled,
    OwnAnswer,
    Preference,
    Prompt,
    Provenance,
    Response,
    Role,
    Task,
    Transcript,
    Turn,
)
from oversight.types.ratings import item_id

CORRECTIONS = "corrections"
"""Kind of the pairs that corrected texts make."""
MAX_REVISIONS = 20
"""Words of one user on one answer."""
MAX_USERS = 10_000
"""Users whose words are counted by the hour; of more, those who said nothing for longest go."""
HOUR_S = 3600.0


class FeedbackSettings(Settings):
    """Limits of users' words as they come."""

    per_user_per_hour: int = Field(default=60, ge=1)
    """Words of one user; one more is told to come again."""
    per_client_per_hour: int = Field(default=1200, ge=1)
    """Words over one key, or from one address where there are no keys, whoever the users are."""
    kept_calls: int = Field(default=2_000, ge=0)
    """Calls that were not stored and are held in memory, so that a word on one can store it."""


class UserWords(Settings):
    """The body of `POST /v1/feedback`."""

    id: str = Field(min_length=1, max_length=100)
    """The id of the answer, as the client was given it."""
    choice: int = Field(default=0, ge=0, le=127)
    """Index of the choice."""
    thumb: Literal["up", "down"] | None = None
    stars: int | None = Field(default=None, ge=1, le=5)
    text: str | None = Field(default=None, min_length=1, max_length=100_000)
    """A better answer in the user's words."""
    reason: str = Field(default="", max_length=2_000)
    user: str = Field(default="", max_length=200)
    """Name of the user at the client; the store keeps a pseudonym."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.thumb is None and self.stars is None and self.text is None:
            raise ValueError("give at least one of thumb, stars and text")
        return self

    def after(self, last: Feedback) -> UserWords:
        """These words with what the same user said before and does not say otherwise now."""
        assert isinstance(last.answer, OwnAnswer)
        before = last.answer.fields
        judged = ("thumb", "stars") if self.thumb is None and self.stars is None else ()
        names = (*judged, *(("text",) if self.text is None else ()))
        kept: dict[str, JsonValue] = {name: before.get(name) for name in names}
        return self.model_copy(update={**kept, "reason": self.reason or last.rationale})

    @property
    def quality(self) -> float | None:
        """Quality of the answer from 0 to 1; None of a correction by itself."""
        if self.stars is not None:
            return (self.stars - 1) / 4
        return None if self.thumb is None else float(self.thumb == "up")


class HourlyLimit:
    """Words by name over the last hour."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def takes(self, name: str) -> bool:
        """True if one more is within the limit, and then counted."""
        now = self._clock()
        times = self._times.setdefault(name, deque())
        self._times.move_to_end(name)
        while times and times[0] <= now - HOUR_S:
            times.popleft()
        if len(self._times) > MAX_USERS:
            self._times.popitem(last=False)
        if len(times) >= self._most:
            return False
        times.append(now)
        return True


class FeedbackDesk:
    """Takes users' words on answers, and writes them beside the calls."""

    def __init__(self, recorder: Recorder, policy: Policy, settings: FeedbackSettings) -> None:
        self._recorder, self._policy = recorder, policy
        self._users = HourlyLimit(settings.per_user_per_hour)
        self._clients = HourlyLimit(settings.per_client_per_hour)

    async def take(self, body: Json, client: str) -> Json:
        """Write a user's words down; the answer says `stored`, `revised` or `duplicate`.

        Args:
            body: `UserWords` as JSON.
            client: The key or address that it came from.

        Raises:
            ApiError: Something in it is wrong, no call of this id is known, or there are too many.
        """
        try:
            words = UserWords.parse(body, where="feedback")
        except ConfigError as error:
            raise invalid(str(error)) from None
        user = pseudonym(client, words.user)
        if not (self._users.takes(user) and self._clients.takes(client)):
            raise ApiError(
                "there is more feedback than one user or client may give in an hour; come later",
                429,
                "rate_limit_error",
                "rate_limit_exceeded",
            )
        transcript, turn = await self._answer(words)
        place = (item_id(USERS, (turn.id,)), user)
        known = [each for each in transcript.ratings if each.place == place]
        last = max(known, key=lambda each: each.revision, default=None)
        if last is not None:
            words = words.after(last)
        found = self._feedback(words, user, transcript, turn, await self._flags(words, transcript))
        if last is not None:
            if last.answer == found.answer and last.rationale == found.rationale:
                return {"object": "feedback", "id": last.id, "status": "duplicate"}
            if last.revision + 1 >= MAX_REVISIONS:
                raise invalid(f"there are {MAX_REVISIONS} words of this user on this answer")
            found = found.model_copy(update={"revision": last.revision + 1})
        try:
            await self._recorder.store.append(found)
        except StoreError:
            # The same user's words came over two connections at once; one of them is first.
            raise ApiError(
                "there is another word of this user on this answer at the same time; send it again",
                409,
                "conflict_error",
            ) from None
        return {"object": "feedback", "id": found.id, "status": "revised" if last else "stored"}

    async def _answer(self, words: UserWords) -> tuple[Transcript, Turn]:
        """The transcript of the choice, and the turn that the user was sent."""
        call = words.id.rpartition("-")[2]
        await self._recorder.keep(call)
        found = await self._recorder.read(call, words.choice)
        turn = None if found is None else delivered(found)
        if found is None or turn is None:
            raise ApiError(
                f"id = {words.id[:60]!r}, choice {words.choice}: there is no such answer here, or "
                "it was too long ago and not among those that are stored (`sample` says how many)",
                404,
                "invalid_request_error",
                "call_not_found",
                "id",
            )
        return found, turn

    async def _flags(self, words: UserWords, transcript: Transcript) -> list[str]:
        """Names of the policy's checks that find something in a corrected text."""
        if words.text is None:
            return []
        messages = [
            {"role": each.role, "content": each.content}
            for each in transcript.question.chat.messages
        ]
        exchange = GuardedExchange(messages, system=self._policy.system)
        screen = ScreenedChoice(self._policy, exchange, set())
        screen.feed({"content": words.text})
        await screen.finish()
        return sorted({each.check for each in screen.findings if each.action.value != "allow"})

    def _feedback(
        self, words: UserWords, user: str, transcript: Transcript, turn: Turn, flags: list[str]
    ) -> Feedback:
        fields: dict[str, JsonValue] = {
            "thumb": words.thumb,
            "stars": words.stars,
            "text": None if words.text is None else redacted(words.text),
            "flags": list(flags),
        }
        answer = OwnAnswer(
            task=USERS, fields=fields, turns=Task.PRINCIPLES, preference=words.quality
        )
        return Feedback(
            debate_id=transcript.debate.id,
            item=item_id(USERS, (turn.id,)),
            turn_ids=(turn.id,),
            judge=user,
            answer=answer,
            rationale=redacted(words.reason),
            sent_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )


def pseudonym(client: str, user: str) -> str:
    """A name for a user of a client that does not tell who it is."""
    digest = hashlib.blake2b(f"{client}\0{user}".encode("utf-8", "replace"), digest_size=8)
    return f"user-{digest.hexdigest()}"


def delivered(transcript: Transcript) -> Turn | None:
    """The turn whose words the client was sent; None where there were none."""
    said = [turn for turn in transcript.turns if turn.role is Role.RESPONDER]
    return max(said, key=lambda turn: turn.step, default=None)


# --- training rows ---


Row = TypeVar("Row", Labelled, Preference)


class RowLayout(StrEnum):
    """Rows that users' words become."""

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
            return self._once(map(_pair, self._corrections(self._counted(list(_words(store))))))
        return self.demonstrations(store) if layout is RowLayout.SFT else self.labelled(store)

    def labelled(self, store: Store) -> Iterator[Labelled]:
        """Answers, each with a label."""
        return self._once(self._labelled(self._counted(list(_words(store)))))

    def demonstrations(self, store: Store) -> Iterator[Labelled]:
        """Corrected texts, and answers that users called good."""
        return self._once(self._good(self._counted(list(_words(store)))))

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


def _words(store: Store) -> Iterator[_Given]:
    """The last word of each user on each answer."""
    for transcript in store.transcripts(dataset=DATASET):
        turn = delivered(transcript)
        for said in last_words(transcript):
            if said.task == USERS and turn is not None:
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
