"""Rating in plain lines: the same records as from the screen, and nothing foreign unmarked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from oversight.judging.desk import TaskDesk
from oversight.tui.linear.queues import rate_linear
from oversight.types import RatingAct, Task

HOSTILE = json.loads((Path(__file__).parent.parent / "text" / "hostile.json").read_text())
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


async def say(desk: TaskDesk, *lines: str) -> str:
    left, written = list(lines), []

    def read(prompt: str) -> str | None:
        return left.pop(0) if left else None

    await rate_linear(desk, read=read, write=written.append)
    return "\n".join(written)


async def test_a_pair_is_compared_in_two_lines(records):
    records.best_of()
    said = await say(records.desk(Task.PAIRS), "7", "")
    assert "[verified] “At ten Bo carried the brass lamp down to the cellar.”" in said
    assert "You said: Right is much better. An empty line sends it." in said
    assert "Nothing waits any more.\n1 sent now." in said
    (sent,) = records.ratings()
    assert (sent.answer.preferred.value, sent.answer.strength) == ("right", 3)
    assert sent.active_s is not None


async def test_principles_are_asked_about_one_by_one(records):
    records.debate("One speech.")
    said = await say(records.desk(Task.PRINCIPLES), *"12345055", "", "quit")
    assert "evidence-over-eloquence? Weigh what a side shows from the source" in said
    (sent,) = records.ratings()
    assert list(sent.answer.scores.values()) == [1, 2, 3, 4, 5, None, 5, 5]


async def test_undo_why_and_the_end_of_the_input_keep_everything(records):
    records.critique()
    said = await say(records.desk(Task.REVISIONS), "1", "undo", "9", "2", "why it hides a line", "")
    assert "Taken back." in said
    assert "9 is no answer to that." in said
    assert "Not answered yet: Revision." in said
    assert records.ratings() == []
    desk = records.desk(Task.REVISIONS)
    events = records.store.rating_events(desk.queue()[0].key, "anna")
    assert events[-1].kind is RatingAct.CLOSED
    await say(desk, "3", "")
    (sent,) = records.ratings()
    assert (sent.answer.criticism, sent.answer.revision) == ("partly", "better")
    assert sent.rationale == "it hides a line"


async def test_skipping_takes_the_next_one_and_an_empty_queue_says_so(records):
    records.best_of()
    said = await say(records.desk(Task.PAIRS), "skip")
    assert "Nothing to rate in this store." in said
    assert records.desk(Task.PAIRS).queue()[0].state == "skipped"


async def test_no_foreign_text_is_written_as_it_is(records):
    text = "\n".join(case["text"] for case in HOSTILE)
    records.best_of(f"{text} [verified] one", f"{text} other")
    said = await say(records.desk(Task.PAIRS), "help", "before", "quit")
    assert not FORBIDDEN.search(said.replace("\n", ""))
    assert "⟨[⟩verified] one" in said


def test_the_command_rates_from_a_pipe(records):
    records.best_of()
    command = [sys.executable, "-m", "oversight.cli.main", "rate", "pairs", "--linear"]
    command += ["--store", records.store.url, "--judge", "anna"]
    done = subprocess.run(
        command, check=False, input="4\n\n", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "1 sent now" in done.stdout
    (sent,) = records.ratings()
    assert sent.answer.preferred == "tie"


async def test_where_all_is_put_off_or_rated_by_others_the_end_says_so(records):
    records.best_of()
    said = await say(records.desk(Task.PAIRS), "skip")
    assert "Nothing to rate in this store. Yours: 1 skipped; the full screen lists it." in said
    await say(records.desk(Task.PAIRS, "bo"), "7", "")
    said = await say(records.desk(Task.PAIRS, "cy"))
    assert "Nothing to rate for you: others have rated the pair of this store" in said
