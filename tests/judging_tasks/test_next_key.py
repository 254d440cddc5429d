"""The line above the keys leads through every item that is rated, and nothing is rated unread."""

from __future__ import annotations

import pytest

from oversight.tui.linear.queues import rate_linear
from oversight.types import RatingAct, Task
from tests.tui.test_next_key import LONG, obey

WORDS = (LONG, f"No. {LONG}", f"And yet. {LONG}")


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("need", [False, True])
async def test_the_line_leads_through_an_item(records, rating, task, need) -> None:
    {
        Task.PAIRS: records.best_of,
        Task.PRINCIPLES: records.debate,
        Task.REVISIONS: records.critique,
    }[task](*WORDS)
    async with rating(task, (80, 24), require_rationale=need) as screen:
        lines = await obey(screen, screen.events, lambda: len(records.ratings()) == 1)
    [sent] = records.ratings()
    assert sent.unseen == {}
    assert bool(sent.rationale) is need
    assert any("PgDn reads on" in line for line in lines)


async def test_a_rating_of_responses_that_were_never_shown_asks_first(records, rating) -> None:
    records.best_of(*WORDS[:2])
    async with rating(Task.PAIRS, (80, 24)) as screen:
        await screen.press("enter")
        await screen.see("more lines unread")
        await screen.press("left", "enter")
        await screen.see(
            "1 turn was never on your screen, 1 only in part.", "Right: none of it was"
        )
        assert records.ratings() == []
        await screen.press("y")
        await screen.see("1 sent now")
        events = screen.events()
    [sent] = records.ratings()
    assert sent.unseen is not None
    assert sent.unseen[sent.turn_ids[1]] == 0.0
    assert 0.0 < sent.unseen[sent.turn_ids[0]] < 1.0
    [answered] = [e.data for e in events if e.kind is RatingAct.ANSWERED]
    assert answered["unseen"] == sent.unseen


async def test_what_line_mode_printed_counts_as_seen(records) -> None:
    records.best_of(*WORDS[:2])
    lines = iter(["1", "", "quit"])
    await rate_linear(
        records.desk(Task.PAIRS), read=lambda _: next(lines, None), write=lambda _: None
    )
    [sent] = records.ratings()
    assert sent.unseen == {}
