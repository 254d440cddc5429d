"""Desks of judges and raters: the queue, an item that is taken up, and sending it."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from oversight import constitutions
from oversight.errors import StoreError
from oversight.judging.items import DebateItem, TaskItem, is_live
from oversight.judging.log import ActLog, JudgingLog, RatingLog
from oversight.judging.settings import JudgingSettings, RatingSettings, SessionSettings
from oversight.judging.tasks import RatingTask, TaskQuestion, load, rating_of
from oversight.judging.tasks.debate import (
    CalibrationBin,
    calibration_strip,
    draw_arm,
    draw_swapped,
    judgment_of,
)
from oversight.store import Store
from oversight.store.claims import ClaimResult, ItemState, QueueFilter, QueueItem
from oversight.store.rating_queue import RatingFilter, RatingItem
from oversight.types import (
    DebateOpened,
    EventKind,
    Feedback,
    ItemClosed,
    ItemSkipped,
    ItemUnskipped,
    JudgeInformed,
    JudgeKind,
    Judgment,
    JudgmentSent,
    RatingOpened,
    RatingSent,
    Transcript,
)

if TYPE_CHECKING:
    from oversight.judging.live import LiveDebate

ORDER = (ItemState.BEGUN, ItemState.WAITING, ItemState.SKIPPED, ItemState.DONE)
"""States in the order in which their items are listed."""
STATES_IN_TURN = ORDER[:2]
"""States of the items offered next, in this order; skipped ones are not offered."""
EVERYBODY = sys.maxsize
"""An overlap at which nothing has been judged or rated by enough people."""
UNTOUCHED = (ItemState.WAITING, ItemState.SKIPPED)


class OpenItem(Protocol):
    """An item that a person has taken up."""

    @property
    def key(self) -> str:
        """Identifier by which the queue lists it."""

    @property
    def acts(self) -> ActLog[Any, Any, Any]:
        """The person's work on it."""


Listed = TypeVar("Listed", QueueItem, RatingItem)
Opened = TypeVar("Opened", bound=OpenItem)
Named = TypeVar("Named")
"""The argument by which an item is taken up."""
Sent = TypeVar("Sent", Judgment, Feedback)


class AnyDesk(ABC, Generic[Listed, Named, Opened, Sent]):
    """A person at a store: lists their items, takes them up, sends and leaves them."""

    store: Store
    judge: str

    @abstractmethod
    def queue(self) -> list[Listed]:
        """All items for this person: waiting, begun, skipped and done."""

    @abstractmethod
    def why_empty(self) -> str:
        """The reason why the queue lists nothing, in sentences, with what may be done about it."""

    @abstractmethod
    def named(self, listed: Listed) -> Named:
        """The argument by which an item of the queue is taken up."""

    @abstractmethod
    def take(self, named: Named) -> tuple[Opened | None, ClaimResult]:
        """Take up an item, or say why not."""

    @abstractmethod
    def _log(self, named: Named) -> ActLog[Any, Any, Any]:
        """The log of this person at an item."""

    @abstractmethod
    def open(self, item: Opened) -> None:
        """Note that the item is before the person, with the draws for it."""

    @abstractmethod
    def leave(self, item: Opened) -> None:
        """Give up the claims on the item."""

    @abstractmethod
    async def _send(self, item: Opened, live: LiveDebate | None) -> Sent:
        """Record the result of the work."""

    def listed(self, words: str = "") -> list[Listed]:
        """The items that have these words, those first that are to be done first."""
        return in_order(self.queue(), words)

    def take_next(self, after: str | None = None, words: str = "") -> Opened | None:
        """Take up the next item that is free: begun ones first, then those that wait.

        Args:
            after: Key of an item that is not to come again at once.
            words: Only of the items that have these words.
        """
        free = self.next_free(after, words)
        return None if free is None else free[1]

    def next_free(self, after: str | None = None, words: str = "") -> tuple[Listed, Opened] | None:
        """Take up the next item that is free, see `take_next`; with the item as it was listed."""
        for each in self.listed(words):
            if each.state in STATES_IN_TURN and each.key != after:
                item, _ = self.take(self.named(each))
                if item is not None:
                    return each, item
        return None

    async def send(self, item: Opened, live: LiveDebate | None = None) -> Sent:
        """Record the result of the work; return when it is durable.

        Another window may have sent this revision: then it is sent as the next one.

        Args:
            item: The item that was judged or rated.
            live: The debate that waits for this judgment, and ends with it.

        Raises:
            OversightError: It could not be written, or something is not answered yet.
        """
        await item.acts.settle()
        try:
            return await self._send(item, live)
        except StoreError:
            if not item.acts.refresh() and not self._note_lost(item):
                raise
            return await self._send(item, live)

    def _note_lost(self, item: Opened) -> bool:
        """Note that something was sent if it is recorded without that; true if it was."""
        return False

    def told_after(self, item: Opened) -> str:
        """Sentence to be told once an item was sent, if any."""
        return ""

    async def close(self, item: Opened) -> None:
        """Leave the item; all that was done stays."""
        item.acts.add(ItemClosed())
        await item.acts.flush()
        self.leave(item)

    async def skip(self, named: Named, *, on: bool = True) -> None:
        """Put an item off, or take that back."""
        await self._log(named).write(ItemSkipped() if on else ItemUnskipped())


def in_order(items: Iterable[Listed], words: str) -> list[Listed]:
    """The items that have these words, in the order in which they are to be done."""
    return sorted(
        (each for each in items if _has_words(each, words)),
        key=lambda each: ORDER.index(each.state),
    )


def _has_words(item: QueueItem | RatingItem, words: str) -> bool:
    whole = f"{item.question} {item.protocol} {item.dataset} {item.state.value}".casefold()
    return words.casefold() in whole


def _sent(judgment: Judgment, *, informs: bool) -> JudgmentSent:
    return JudgmentSent(revision=judgment.revision, informs=informs, unseen=judgment.unseen)


class Desk(AnyDesk[QueueItem, str, DebateItem, Judgment]):
    """A judge at a store."""

    def __init__(self, store: Store, settings: JudgingSettings) -> None:
        self.store = store
        self.settings = settings
        self.judge = settings.judge
        self._told: dict[str, str] = {}
        """Debates after which the judge was told the answer, and their questions."""

    def queue(self) -> list[QueueItem]:
        """All items for this judge: waiting, begun, skipped and done.

        Left out are those on a question whose answer this judge has been shown after judging
        another debate on it: they could not be judged any more.
        """
        wanted = self._wanted()
        told = self._questions_told()
        return [
            each
            for each in self.store.queue(self.judge, wanted, overlap=self.settings.overlap)
            if each.question_id not in told or each.state not in UNTOUCHED
        ]

    def _wanted(self) -> QueueFilter:
        settings = self.settings
        return QueueFilter(
            dataset=settings.dataset, protocol=settings.protocol, run=settings.from_run
        )

    def why_empty(self) -> str:
        """The reason why the queue lists nothing, in sentences, with what may be done about it."""
        settings = self.settings
        wanted = self._wanted()
        if self.store.queue(self.judge, wanted, overlap=settings.overlap):
            return (
                "Nothing to judge for you: you have been told the answers to all questions of this "
                "store that are left."
            )
        if found := self.store.queue(self.judge, wanted, overlap=EVERYBODY):
            return _had_enough(len(found), "debate", "judge", settings.overlap)
        if self.store.queue(self.judge, QueueFilter(), overlap=EVERYBODY):
            return _left_out("judge", settings)
        return (
            "Nothing to judge in this store. `oversight debate` runs debates; with --judge human "
            "they wait for you. Answers to open prompts are rated: `oversight rate revisions`."
        )

    def told_after(self, item: DebateItem) -> str:
        """Sentence about debates that leave the queue since the judge was told an answer."""
        num = self.num_withheld(item.key)
        if not num:
            return ""
        debates = "1 other debate" if num == 1 else f"{num} other debates"
        return f"{debates} on this question left the queue: you have been told its answer."

    def num_withheld(self, debate_id: str) -> int:
        """Number of debates that this judge is not offered any more since they have been told the
        answer to the question of this one."""
        wanted = self._wanted()
        told = self._questions_told()
        question = self._told.get(debate_id)
        return sum(
            each.question_id == question and each.state in UNTOUCHED
            for each in self.store.queue(self.judge, wanted, overlap=self.settings.overlap)
            if question in told
        )

    def _questions_told(self) -> set[str]:
        for event in self.store.events(self.judge, kinds=[EventKind.SENT]):
            informs = isinstance(event.act, JudgmentSent) and event.act.informs
            if informs and event.debate_id not in self._told:
                debate = self.store.debate(event.debate_id)
                self._told[event.debate_id] = "" if debate is None else debate.question_id
        return set(self._told.values())

    def named(self, listed: QueueItem) -> str:
        """A debate is taken up by its id."""
        return listed.debate_id

    def take(self, named: str) -> tuple[DebateItem | None, ClaimResult]:
        """Take up an item, or say why not."""
        taken = self.store.take_item(named, self.judge, overlap=self.settings.overlap)
        if taken is not ClaimResult.OURS:
            return None, taken
        transcript = self.store.transcript(named)
        live = is_live(transcript)
        if live and not self.store.claim([named]):
            self.store.leave_item(named, self.judge)
            return None, ClaimResult.ELSEWHERE
        return DebateItem(transcript, self._log(named), live), taken

    def _log(self, named: str) -> JudgingLog:
        return JudgingLog(self.store, named, self.judge)

    def open(self, item: DebateItem) -> None:
        """Note that the item is on the screen, with the draws for it."""
        debate_id = item.transcript.debate.id
        item.acts.add(
            DebateOpened(
                swapped=draw_swapped(self.settings, debate_id),
                arm=draw_arm(self.settings, debate_id),
                study=self.settings.name,
            )
        )
        if item.acts.work.skipped:
            item.acts.add(ItemUnskipped())
        told = self._questions_told()
        if item.transcript.question.id in told and not item.acts.work.informed:
            item.acts.add(JudgeInformed())
        # A kill may have come between a judgment and the note that it was sent.
        self._note_recorded(item, item.transcript)

    def _note_recorded(self, item: DebateItem, transcript: Transcript) -> bool:
        """Note that a judgment was sent if it is recorded without that; true if it was."""
        sent = [j.revision for j in transcript.judgments if self._is_own(j)]
        if not sent or max(sent) < item.acts.work.num_sent:
            return False
        item.acts.add(JudgmentSent(revision=max(sent)))
        return True

    def _note_lost(self, item: DebateItem) -> bool:
        stored = self.store.transcript(item.transcript.debate.id)
        return self._note_recorded(item, stored)

    def _is_own(self, judgment: Judgment) -> bool:
        return judgment.kind is JudgeKind.HUMAN and judgment.judge == self.judge

    async def _send(self, item: DebateItem, live: LiveDebate | None) -> Judgment:
        informs = self.settings.feedback and item.transcript.question.correct is not None
        judgment = self._judgment(item)
        if live is not None and item.live:
            await live.answer(judgment)
            item.live = False
            # An earlier attempt may have failed only after the judgment was recorded.
            recorded = self._recorded(item, judgment.revision)
            when = {"sent_at": recorded.sent_at, "active_s": recorded.active_s}
            is_same = judgment.model_copy(update=when) == recorded
            await item.acts.write(_sent(recorded, informs=informs and is_same))
            if is_same:
                return recorded
            judgment = self._judgment(item)
        await item.acts.write(_sent(judgment, informs=informs), judgment)
        return judgment

    def _judgment(self, item: DebateItem) -> Judgment:
        unread = item.unseen(stepped=self.settings.stepped)
        return judgment_of(item.acts.work, item.transcript.debate, self.judge, unread)

    def _recorded(self, item: DebateItem, revision: int) -> Judgment:
        """This judge's judgment as the store has it."""
        found = self.store.transcript(item.transcript.debate.id).judgments
        return next(j for j in found if self._is_own(j) and j.revision == revision)

    def calibration(self) -> tuple[CalibrationBin, ...]:
        """Share of this judge's judgments that were right, by how sure they were."""
        sent = {event.debate_id for event in self.store.events(self.judge, None, [EventKind.SENT])}
        return calibration_strip(self.store.transcripts(debate_ids=sent), self.judge)

    def leave(self, item: DebateItem) -> None:
        """Give up the claims on the item."""
        debate_id = item.transcript.debate.id
        self.store.leave_item(debate_id, self.judge)
        self.store.release([debate_id])


class TaskDesk(AnyDesk[RatingItem, RatingItem, TaskItem, Feedback]):
    """Someone who rates, at a store."""

    def __init__(self, store: Store, settings: RatingSettings, task: str) -> None:
        """A desk for one task, by its name or as "file.py:Class".

        Raises:
            OversightError: There is no such task, or the constitution is not there or broken.
        """
        self.store = store
        self.settings = settings
        self.task: RatingTask = load(task)
        self.judge = settings.judge
        self.constitution: constitutions.Constitution | None = None
        if self.task.by_constitution:
            self.constitution = constitution_of(settings, self.task)
        self.asked: tuple[TaskQuestion, ...] = self.task.questions(self.constitution)

    def queue(self) -> list[RatingItem]:
        """All items for this judge: waiting, begun, skipped and done."""
        wanted = items_wanted(self.settings, self.task, self.constitution)
        return self.store.rating_items(self.judge, wanted, overlap=self.settings.overlap)

    def why_empty(self) -> str:
        """The reason why the queue lists nothing, in sentences, with what may be done about it."""
        settings, task = self.settings, self.task
        wanted = items_wanted(settings, task, self.constitution)
        if found := self.store.rating_items(self.judge, wanted, overlap=EVERYBODY):
            return _had_enough(len(found), task.one, "rate", settings.overlap)
        every = replace(wanted, dataset=None, protocol=None, run=None)
        if self.store.rating_items(self.judge, every, overlap=EVERYBODY):
            return _left_out("rate", settings)
        return task.empty

    def named(self, listed: RatingItem) -> RatingItem:
        """An item is taken up as it is listed."""
        return listed

    def take(self, named: RatingItem) -> tuple[TaskItem | None, ClaimResult]:
        """Take up an item, or say why not."""
        taken = self.store.take_rating(named, self.judge, overlap=self.settings.overlap)
        if taken is not ClaimResult.OURS:
            return None, taken
        transcript = self.store.transcript(named.debate_id)
        return TaskItem(named, transcript, self._log(named)), taken

    def _log(self, named: RatingItem) -> RatingLog:
        return RatingLog(self.store, named.debate_id, named.key, self.judge)

    def open(self, item: TaskItem) -> None:
        """Note that the item is on the screen, and the order that was drawn for it."""
        shown = self.task.shown(item.item, self.settings)
        item.acts.add(RatingOpened(shown=shown, study=self.settings.name))
        if item.acts.work.skipped:
            item.acts.add(ItemUnskipped())

    async def _send(self, item: TaskItem, live: LiveDebate | None) -> Feedback:
        left = item.unseen()
        work = item.acts.work
        rating = rating_of(self.task, work, item.item, self.judge, self.constitution, left)
        await item.acts.write(RatingSent(revision=rating.revision, unseen=left), rating)
        return rating

    def leave(self, item: TaskItem) -> None:
        """Give up the claim on the item."""
        self.store.leave_rating(item.item.key, self.judge)


def _had_enough(number: int, one: str, verb: str, overlap: int) -> str:
    """Sentences about items that as many others have done as are asked for."""
    done = "judged" if verb == "judge" else "rated"
    what = f"the {one}" if number == 1 else f"all {number} {one}s"
    people = "1 person" if overlap == 1 else f"{overlap} people"
    return (
        f"Nothing to {verb} for you: others have {done} {what} of this store, and {people} an item "
        f"are asked for. --set overlap={overlap + 1} asks for one more."
    )


def _left_out(verb: str, settings: SessionSettings) -> str:
    """A sentence about a filter that fits nothing."""
    named = {
        "data set": settings.dataset,
        "protocol": settings.protocol,
        "run": settings.from_run,
    }
    given = " and ".join(f"{name} {value!r}" for name, value in named.items() if value is not None)
    return f"Nothing to {verb} in this store of {given}: leave that out, or name another."


def items_wanted(
    settings: RatingSettings, task: RatingTask, constitution: constitutions.Constitution | None
) -> RatingFilter:
    """The items of a session, which are the same for all who take part in a study."""
    by_rules = task.by_constitution and constitution is not None
    return RatingFilter(
        task=task.name,
        constitution=constitution.name if by_rules and constitution else "",
        dataset=settings.dataset,
        protocol=settings.protocol,
        all_pairs=settings.pairs == "all",
        seed=settings.seed,
        turns=task.turns,
        run=settings.from_run,
        flagged=task.flagged,
    )


def constitution_of(
    settings: RatingSettings, task: RatingTask
) -> constitutions.Constitution | None:
    """The constitution that a task is done by; None if it is done without one.

    Raises:
        OversightError: The constitution is not there, or its file is broken.
    """
    name = settings.constitution_of(task.name)
    if name is None:
        return None
    return constitutions.load(name)
