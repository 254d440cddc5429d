"""Feedback of users on answers, joined to the calls by their ids.

A word on an answer is a rating of the task `users` in the store, under a pseudonym of the user; a
new word on the same answer is a revision of the old one, and keeps what it does not change. Words
of one user are limited by the hour as they come.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from oversight.config import Settings
from oversight.errors import ConfigError, StoreError
from oversight.guard.calls import USERS
from oversight.guard.checks.base import GuardedExchange
from oversight.guard.policy import Policy
from oversight.guard.recording import Recorder
from oversight.guard.screening import ScreenedChoice
from oversight.guard.upstreams import ApiError, Json, invalid
from oversight.redaction import redacted
from oversight.types import (
    Feedback,
    OwnAnswer,
    Role,
    Task,
    Transcript,
    Turn,
)
from oversight.types.ratings import item_id

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
