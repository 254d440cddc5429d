"""A person's session at a queue, without a screen: the list, its filter, and the next item.

Full screens and plain lines, of judging and of rating, go through a queue by this one loop.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum, auto
from typing import Generic, Literal, Protocol, TypeVar

from oversight.judging.desk import AnyDesk, Listed, Named, Opened, Sent, in_order
from oversight.judging.items import WHY_NOT_TAKEN, RefusalReason, RefusedAction
from oversight.store.claims import ItemState
from oversight.types import ItemReopened

OpenedT = TypeVar("OpenedT", contravariant=True)

Where = Literal["next", "previous", "queue", "quit"]
"""The way on from an item that is left: to the next one, to the last one that was sent, to the list
of items, or out of the program."""


class LeftState(StrEnum):
    """State in which a person left an item."""

    SENT = auto()
    """They have just sent it."""
    SENT_BEFORE = auto()
    SKIPPED = auto()
    BEGUN = auto()


class Workplace(Protocol[OpenedT]):
    """Place where a person works on one item after another: a screen, or plain lines."""

    async def work_on(self, item: OpenedT) -> Where:
        """Let the person work on an item until they leave it."""

    def tell_left(self, item: OpenedT, how: LeftState) -> None:
        """Tell the state of an item that was left."""

    def tell_refused(self, refusal: RefusedAction) -> None:
        """Say why an item could not be taken up."""


class QueueSession(Generic[Listed, Named, Opened, Sent]):
    """A person's session at a queue, without a screen: the list, the filter, and the way on."""

    def __init__(self, desk: AnyDesk[Listed, Named, Opened, Sent]) -> None:
        """A session at `desk`."""
        self.desk: AnyDesk[Listed, Named, Opened, Sent] = desk
        self.words = ""
        """Filter: only items that have these words are listed and come next."""
        self.items: list[Listed] = []
        """The items that are listed, as they were last read."""
        self.counts: Counter[ItemState] = Counter()
        """Number of items in each state, those that the filter leaves out included."""
        self._sent: set[str] = set()
        self.last_sent: Listed | None = None
        self.last_left = ""
        """Key of the item that was left last."""

    @property
    def num_sent(self) -> int:
        """Number of items sent in this session; one that was revised and sent again is one."""
        return len(self._sent)

    def refresh(self) -> list[Listed]:
        """Read the queue anew; the items that are listed now.

        Raises:
            OversightError: The store cannot be read.
        """
        found = self.desk.queue()
        self.counts = Counter(each.state for each in found)
        self.items = in_order(found, self.words)
        return self.items

    async def skip(self, listed: Listed, *, on: bool = True) -> None:
        """Put an item off, or take that back."""
        await self.desk.skip(self.desk.named(listed), on=on)

    async def work(
        self, at: Workplace[Opened], first: Listed | None = None, *, reopen: bool = False
    ) -> Where:
        """Take up one item after another until the person leaves the queue's items.

        Args:
            at: The place where the person works.
            first: The item to begin with; by default the next one that is free.
            reopen: Open the first one again if it was sent.

        Returns:
            "next" where no more item waits, else what the person wished.

        Raises:
            OversightError: The store cannot be read.
        """
        taken = self.desk.next_free(words=self.words) if first is None else self._take(first, at)
        if taken is None and first is not None:
            return "queue"
        while taken is not None:
            listed, item = taken
            if reopen and not item.acts.work.is_open:
                item.acts.add(ItemReopened())
            before, reopen = item.acts.work.num_sent, False
            where = await at.work_on(item)
            self._leave(listed, item, at, is_sent=item.acts.work.num_sent > before)
            if where == "next":
                taken = self.desk.next_free(item.key, self.words)
            elif where != "previous":
                return where
            elif self.last_sent is None:
                at.tell_refused(RefusedAction(RefusalReason.NONE_SENT))
                taken = self._take(listed, at)
            else:
                reopen = True
                taken = self._take(self.last_sent, at)
                if taken is None:
                    return "queue"
        return "next"

    def _take(self, listed: Listed, at: Workplace[Opened]) -> tuple[Listed, Opened] | None:
        item, taken = self.desk.take(self.desk.named(listed))
        if item is None:
            at.tell_refused(RefusedAction(WHY_NOT_TAKEN[taken]))
            return None
        return listed, item

    def _leave(self, listed: Listed, item: Opened, at: Workplace[Opened], *, is_sent: bool) -> None:
        self.last_left = item.key
        work = item.acts.work
        how = (
            LeftState.SENT
            if is_sent
            else LeftState.SENT_BEFORE
            if work.num_sent
            else LeftState.BEGUN
        )
        if is_sent:
            self._sent.add(item.key)
            self.last_sent = listed
        elif work.skipped:
            how = LeftState.SKIPPED
        at.tell_left(item, how)
