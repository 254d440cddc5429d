"""The same ratings leave the same events: without a screen, in plain lines, and on the screen."""

from __future__ import annotations

from typing import Any

from oversight.judging.items import RefusedAction
from oversight.judging.queue_session import QueueSession
from oversight.judging.session import RatingSession
from oversight.judging.work import WHOLE
from oversight.tui.linear.queues import rate_linear
from oversight.types import Feedback, RatingAct, RationaleGiven, Task

SETTINGS = {"shuffle_sides": False, "overlap": 3}


class InSession:
    """Rates by a script over sessions, without a screen."""

    def __init__(self, desk: Any, *scripts: Any) -> None:
        self.desk = desk
        self.scripts = iter(scripts)
        self.refused: list[RefusedAction] = []

    async def work_on(self, item: Any) -> str:
        session = RatingSession(self.desk, item)
        self.desk.open(item)
        session.note_seen({turn.id: WHOLE for turn in item.turns()})
        where = await next(self.scripts)(session)
        await self.desk.close(item)
        return where

    def tell_left(self, item: Any, how: Any) -> None:
        pass

    def tell_refused(self, refusal: RefusedAction) -> None:
        self.refused.append(refusal)


def acts_of(records: Any, judge: str) -> list[dict[str, Any]]:
    """The acts without fields that differ from one time to the next."""
    items = records.desk(Task.REVISIONS, judge, **SETTINGS).queue()
    events = [e for each in items for e in records.store.rating_events(each.key, judge)]
    events = [e for e in events if e.kind is not RatingAct.ATTENTION]
    done = []
    for event, then in zip(events, [*events[1:], None], strict=True):
        typed_on = then is not None and isinstance(then.act, RationaleGiven)
        if isinstance(event.act, RationaleGiven) and typed_on:
            continue  # a screen keeps half a sentence, too
        told = event.act.model_dump(mode="json")
        told.pop("move", None)
        done.append({"item": event.item, "event": event.kind.value, **told})
    return done


async def first_time(session: RatingSession) -> str:
    criticism, revision = session.desk.asked
    assert session.answer(criticism.name, criticism.by_number[1]) is None
    assert session.undo() is None
    assert session.answer(criticism.name, criticism.by_number[2]) is None
    assert session.answer(revision.name, revision.by_number[3]) is None
    assert session.say_why("so") is None
    assert isinstance(await session.send(), Feedback)
    assert isinstance(await session.send(), RefusedAction)
    return "next"


async def back(session: RatingSession) -> str:
    assert session.undo() is not None
    return "previous"


async def second_time(session: RatingSession) -> str:
    assert isinstance(await session.send(), Feedback)
    return "next"


async def put_off(session: RatingSession) -> str:
    assert session.skip() is None
    return "next"


async def test_revisions_are_rated_gone_back_to_and_put_off(records, rating) -> None:
    records.critique()
    records.critique()
    at = InSession(
        records.desk(Task.REVISIONS, "anna", **SETTINGS), first_time, back, second_time, put_off
    )
    queue = QueueSession(at.desk)
    assert await queue.work(at) == "next"
    # One item, though its rating was sent again.
    assert (queue.num_sent, at.refused) == (1, [])

    lines = iter(["1", "undo", "2", "3", "why so", "", "undo", "previous", "", "skip"])
    said: list[str] = []
    desk = records.desk(Task.REVISIONS, "bo", **SETTINGS)
    await rate_linear(desk, read=lambda _: next(lines, None), write=said.append)
    assert said[-1] == "Nothing waits any more.\n1 sent now."
    assert "Nothing to take back." in said

    async with rating(Task.REVISIONS, (140, 60), judge="cy", **SETTINGS) as screen:
        await screen.press("enter")
        await screen.see("Is the criticism right?")
        await screen.press("1", "u", "2", "right", "v")
        await screen.see("Why?")
        await screen.press("s", "o", "ctrl+s")
        await screen.see("Enter sends it")
        await screen.press("enter")
        await screen.see("1 sent.")
        await screen.press("u", "p")
        await screen.see("Enter sends it")
        await screen.press("enter")
        await screen.see("1 sent.")
        await screen.press("s")
        await screen.see("That was the last one that waits. 1 sent now.")

    assert acts_of(records, "anna") == acts_of(records, "bo") == acts_of(records, "cy")
    kinds = [act["event"] for act in acts_of(records, "cy")]
    assert (kinds.count("sent"), kinds.count("reopened"), kinds.count("skipped")) == (2, 1, 1)
    assert records.store.check() == []


async def test_the_next_item_is_one_that_the_filter_lists(records) -> None:
    for _ in range(3):
        records.best_of()
    at = InSession(records.desk(Task.PAIRS), put_off)
    queue = QueueSession(at.desk)
    queue.words = "day 2"
    assert await queue.work(at) == "next"
    assert {each.question: each.state.value for each in at.desk.queue()} == {
        "Where is the brass lamp at the end of day 0?": "waiting",
        "Where is the brass lamp at the end of day 1?": "waiting",
        "Where is the brass lamp at the end of day 2?": "skipped",
    }


async def test_an_item_that_others_have_is_refused_by_name(records) -> None:
    records.best_of()
    at = InSession(records.desk(Task.PAIRS, "anna"), put_off)
    queue = QueueSession(at.desk)
    [listed] = queue.refresh()
    other = records.desk(Task.PAIRS, "bo")
    taken, _ = other.take(listed)
    assert taken is not None
    assert await queue.work(at, listed) == "queue"
    assert [each.said({}) for each in at.refused] == ["Others have judged it, or are at it."]
