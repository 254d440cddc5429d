"""The desk of someone who rates: the queue, an item that is taken up, and sending it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oversight import constitutions
from oversight.errors import StoreError
from oversight.ids import seed_from
from oversight.judging.folding import unseen
from oversight.judging.settings import RatingSettings
from oversight.judging.tasks.log import RatingLog
from oversight.judging.tasks.rating import TaskQuestion, questions, rating_of
from oversight.store import Store
from oversight.store.queue import ItemState, Taken
from oversight.store.rating_queue import RatingFilter, RatingItem
from oversight.types import (
    Feedback,
    ItemClosed,
    ItemSkipped,
    ItemUnskipped,
    RatingOpened,
    RatingSent,
    Task,
    Transcript,
    Turn,
)


@dataclass
class TaskItem:
    """An item on the desk: what there is to read, and the judge's work on it."""

    item: RatingItem
    transcript: Transcript
    acts: RatingLog

    def turns(self) -> tuple[Turn, ...]:
        """The turns that are asked about, in this judge's order."""
        by_id = {turn.id: turn for turn in self.transcript.turns}
        return tuple(by_id[id_] for id_ in self.acts.work.shown or self.item.turn_ids)

    def unseen(self) -> dict[str, float]:
        """By id those of `turns` that have not been on this person's screen completely, each with
        the share that has."""
        return unseen(self.acts.work.seen, (turn.id for turn in self.turns()))

    def before(self) -> tuple[Turn, ...]:
        """What was said in the debate before the first of them."""
        first = min(turn.step for turn in self.turns())
        spoken = [t for t in self.transcript.spoken() if t.act.is_spoken and t.step < first]
        place = {seat: at for at, seat in enumerate(self.transcript.debate.orders.shown)}
        return tuple(sorted(spoken, key=lambda t: (t.step, place.get(t.seat, len(place)))))


class TaskDesk:
    """Someone who rates, at a store."""

    def __init__(self, store: Store, settings: RatingSettings, task: Task) -> None:
        """A desk for one task.

        Raises:
            OversightError: The constitution is not there, or its file is broken.
        """
        self.store = store
        self.settings = settings
        self.task = task
        self.judge = settings.judge
        self.constitution: constitutions.Constitution | None = None
        if task is Task.PRINCIPLES:
            self.constitution = constitution_of(settings, task)
        self.asked: tuple[TaskQuestion, ...] = questions(task, self.constitution)

    def queue(self) -> list[RatingItem]:
        """All items for this judge: waiting, begun, skipped and done."""
        wanted = items_wanted(self.settings, self.task, self.constitution)
        return self.store.rating_items(self.judge, wanted, overlap=self.settings.overlap)

    def take(self, item: RatingItem) -> tuple[TaskItem | None, Taken]:
        """Take up an item, or say why not."""
        taken = self.store.take_rating(item, self.judge, overlap=self.settings.overlap)
        if taken is not Taken.OURS:
            return None, taken
        transcript = self.store.transcript(item.debate_id)
        acts = RatingLog(self.store, item.debate_id, item.key, self.judge)
        return TaskItem(item, transcript, acts), taken

    def take_next(self, after: str | None = None) -> TaskItem | None:
        """Take up the next item that is free: begun ones first, then those that wait.

        Args:
            after: Key of an item that is not to come again at once.
        """
        listed = [each for each in self.queue() if each.key != after]
        for state in (ItemState.BEGUN, ItemState.WAITING):
            for each in listed:
                if each.state is state:
                    item, _ = self.take(each)
                    if item is not None:
                        return item
        return None

    def open(self, item: TaskItem) -> None:
        """Note that the item is on the screen, and the order that was drawn for it."""
        acts, key = item.acts, item.item.key
        shown = item.item.turn_ids
        if self.task is Task.PAIRS and self.settings.shuffle_sides:
            swapped = seed_from("left", self.settings.seed, self.judge, key) % 2
            shown = shown[::-1] if swapped else shown
        acts.add(RatingOpened(shown=shown, study=self.settings.name))
        if acts.work.skipped:
            acts.add(ItemUnskipped())

    async def send(self, item: TaskItem) -> Feedback:
        """Record the rating that the work comes to; return when it is durable.

        Another window may have sent this revision: then it is sent as the next one.

        Raises:
            OversightError: It could not be written, or something is not answered yet.
        """
        await item.acts.flush()
        try:
            return await self._send(item)
        except StoreError:
            if not item.acts.refresh():
                raise
            return await self._send(item)

    async def _send(self, item: TaskItem) -> Feedback:
        left = item.unseen()
        rating = rating_of(item.acts.work, item.item, self.judge, self.constitution, left)
        await item.acts.write(RatingSent(revision=rating.revision, unseen=left), rating)
        return rating

    async def close(self, item: TaskItem) -> None:
        """Leave the item; what was done stays."""
        item.acts.add(ItemClosed())
        await item.acts.flush()
        self.store.leave_rating(item.item.key, self.judge)

    async def skip(self, item: RatingItem, *, on: bool = True) -> None:
        """Put an item off, or take that back."""
        acts = RatingLog(self.store, item.debate_id, item.key, self.judge)
        await acts.write(ItemSkipped() if on else ItemUnskipped())


def items_wanted(
    settings: RatingSettings, task: Task, constitution: constitutions.Constitution | None
) -> RatingFilter:
    """The items of a session, which are the same for all who take part in a study."""
    by_rules = task is Task.PRINCIPLES and constitution is not None
    return RatingFilter(
        task=task,
        constitution=constitution.name if by_rules and constitution else "",
        dataset=settings.dataset,
        protocol=settings.protocol,
        all_pairs=settings.pairs == "all",
        seed=settings.seed,
    )


def constitution_of(settings: RatingSettings, task: Task) -> constitutions.Constitution | None:
    """The constitution that a task is done by; None if it is done without one.

    Raises:
        OversightError: The constitution is not there, or its file is broken.
    """
    name = settings.constitution_of(task)
    if name is None:
        return None
    is_file = name.endswith(".toml") or "/" in name
    return constitutions.read(Path(name)) if is_file else constitutions.load(name)
