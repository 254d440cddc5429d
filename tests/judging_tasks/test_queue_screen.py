"""Nothing of a queue that tells its items apart is cut, and what is cut stands in the hint."""

from __future__ import annotations

import pytest
from rich.text import Text

from oversight.tui.screens.items import fitted
from oversight.types import Task
from tests.tui.pictures import at_each_size

COLUMNS = ("Question", "Speaker", "Protocol", "Raters")
ROW = ("Where is the varnished microscope now?", "Consultant, step 12", "p" * 28, "0")
QUESTION = "Where is the brass lamp that everybody in this house was looking for all day long?"


@pytest.mark.parametrize("width", [80, 100, 124, 140])
def test_the_speaker_of_a_queue_is_never_cut(width):
    rows = [[Text(cell) for cell in ROW]]
    widths = fitted(COLUMNS, rows, width, {"Speaker"})
    assert widths[1] == len(ROW[1])
    assert sum(widths) <= width - 12


@at_each_size
@pytest.mark.parametrize(
    ("task", "speaker"),
    [
        (Task.PAIRS, "Speaker 1, step 1"),
        (Task.PRINCIPLES, "Speaker 1, step 1"),
        (Task.REVISIONS, "Consultant, step 3"),
    ],
)
async def test_queues_show_the_speaker_and_the_step(records, rating, size, task, speaker):
    records.best_of()
    records.critique()
    async with rating(task, size) as screen:
        await screen.see(speaker)


async def test_the_hint_of_a_queue_has_what_its_row_cuts(records_at, records, rating):
    long = records_at(records.store, (QUESTION, "the attic", "the cellar"))
    long.best_of()
    async with rating(Task.PAIRS, (80, 24)) as screen:
        await screen.see("Enter takes the pair")
        hint = " ".join(screen.text.partition("Enter takes")[2].split())
    assert QUESTION in hint
    assert "consultancy_single_turn_best_of_n" in hint


async def test_a_prompt_of_many_lines_leaves_room_for_the_protocol(records_at, records, rating):
    long = records_at(records.store, ("word " * 400, "the attic", "the cellar"))
    long.best_of()
    async with rating(Task.PAIRS, (80, 24)) as screen:
        await screen.see("word… ·", "consultancy_single_turn_best_of_n")


async def test_the_keys_of_revisions_say_worse_and_better(records, rating):
    records.critique()
    async with rating(Task.REVISIONS, (80, 24)) as screen:
        await screen.press("enter")
        await screen.see("Is the criticism right?")
        await screen.press("question_mark")
        await screen.see("Revision is worse", "Revision is better")


async def test_unanswered_principles_are_counted_where_they_are_many(records, rating):
    records.debate("It is in the cellar.")
    async with rating(Task.PRINCIPLES, (80, 24)) as screen:
        await screen.press("enter")
        await screen.see("8 to go")
        await screen.press("enter")
        await screen.see("Not answered yet: evidence-over-eloquence", "5 more.")
