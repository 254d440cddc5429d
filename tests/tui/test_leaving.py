"""Keys do what they say where they are named: the foot, Esc, Home, End; what has gone is told."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from typing import Any

import pytest
import typer
from textual.events import Key

from oversight.cli.persons import show
from oversight.store import Store
from oversight.types import EventKind

SIZES = [(60, 20), (80, 24), (140, 45)]


def foot(j: Any) -> str:
    return j.text.rstrip("\n").split("\n")[-1]


async def test_the_foot_names_an_assistant_only_where_there_is_one(
    run_all, judging, assisted
) -> None:
    await run_all("debate_single_turn", num=2)
    async with judging() as j:
        await j.press("enter")
        await j.see("round 1", "v Verdict")
        assert "Assistant" not in foot(j)
    async with judging(judge="bo", overlap=2, **assisted) as j:
        await j.press("enter")
        await j.see("a Assistant")


async def test_the_foot_names_no_key_that_does_nothing_in_a_state(run_all, judging) -> None:
    await run_all("debate")
    async with judging() as j:
        await j.see("Enter judges")
        assert "Next" in foot(j)
        await j.press("enter")
        await j.see("q Quotes", "s Skip")
        assert "Verdict" not in foot(j), "turns are hidden yet"
        await j.press("7", "0", "enter", "enter")
        await j.see("v Verdict")
        await j.press("v")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
        await j.press("escape", "enter")
        await j.see("Enter takes the next item")
        await j.until(lambda: "Skip" not in foot(j))
        assert not {"Verdict", "Belief", "Skip"} & set(foot(j).split())
    async with judging(judge="cy") as j:
        await j.see("Nothing to judge")
        assert not {"Next", "Skip"} & set(foot(j).split())


@pytest.mark.parametrize("size", SIZES)
async def test_escape_closes_a_panel_before_it_leaves_the_item(
    run_all, judging, assisted, size
) -> None:
    await run_all("debate_single_turn")
    async with judging(size=size, **assisted) as j:
        await j.press("enter", "q")
        await j.see("Quotes, in the order")
        await j.press("a")
        await j.see("Ask the assistant")
        await j.press("1")
        await j.until(lambda: EventKind.ASSISTED in j.kinds())
        await j.see("◇ Assistant")
        await j.press("escape")
        await j.until(lambda: "◇ Assistant" not in j.text)
        await j.see("Quotes, in the order")
        await j.press("escape")
        await j.until(lambda: "Quotes, in the order" not in j.text)
        await j.see("round 1")
        await j.press("escape")
        await j.see("Left; all you did is kept")


async def test_escape_while_a_number_is_typed_drops_it(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "7")
        await j.see("7_ %")
        await j.press("escape")
        await j.until(lambda: "7_ %" not in j.text)
        await j.see("round 1", "not yet")
        assert EventKind.BELIEF not in j.kinds()


@pytest.mark.parametrize("size", SIZES)
async def test_end_and_home_go_to_the_last_and_first_item_and_nothing_scrolls_sideways(
    run_all, judging, size
) -> None:
    await run_all("debate_single_turn_best_of_n", num=12)
    async with judging(size=size) as j:
        await j.see("Question")
        table = j.app.screen.query_one("#items")
        for key, row in (
            ("end", 11),
            ("home", 0),
            ("right", 0),
            ("pagedown", None),
            ("left", None),
        ):
            await j.press(key)
            assert table.scroll_x == 0
            assert row is None or table.cursor_row == row
        assert table.virtual_size.width <= table.size.width
        assert "Judges" in j.text


async def test_a_resize_keeps_the_row_and_cuts_rows_to_the_new_width(run_all, judging) -> None:
    await run_all("debate_single_turn_best_of_n", num=5)
    async with judging(size=(140, 45)) as j:
        await j.press("down", "down")
        await j.pilot.resize_terminal(60, 20)
        await j.pilot.pause(0.1)
        table = j.app.screen.query_one("#items")
        assert table.cursor_row == 2
        assert table.virtual_size.width <= 60


async def test_leaving_says_that_all_is_kept_and_the_next_key_goes_on(run_all, judging) -> None:
    await run_all("debate_single_turn", num=3)
    async with judging() as j:
        await j.press("down", "enter")
        await j.see("round 1")
        asked = j.app.screen.item.transcript.question.text
        await j.press("escape")
        await j.see("Left; all you did is kept (◐). Enter goes on with: Where")
        await j.press("enter")
        await j.see(asked, "round 1")


async def test_skipping_says_so_on_the_next_item(run_all, judging) -> None:
    await run_all("debate_single_turn", num=2)
    async with judging() as j:
        await j.press("enter")
        await j.see("round 1")
        await j.press("s")
        await j.see("Put off (↷). How probable is each?", "brass lamp? (1)")


async def test_debates_that_leave_the_queue_after_a_reveal_are_told(run_all, judging) -> None:
    await run_all("debate_single_turn")
    await run_all("debate")
    await run_all("naive", num=2)
    async with judging() as j:
        await j.press("enter", "7", "0")
        while "to your verdict" not in j.text:
            await j.press("enter")
        await j.press("enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Right is")
        await j.press("escape")
        await j.see(
            "2 other debates on this question left the queue: you have been told its answer."
        )


async def test_nothing_leaves_the_queue_where_no_answer_is_told(run_all, judging) -> None:
    await run_all("debate_single_turn")
    await run_all("naive")
    async with judging(feedback=False) as j:
        await j.press("enter", "7", "0", "enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
        await j.press("escape")
        await j.see("1 done")
        assert "left the queue" not in j.text


@pytest.mark.parametrize(("protocol", "words"), [
    ("naive", "There are no speeches: you judge from the question alone."),
    ("expert", "There are no speeches: you judge from the question and the source."),
])  # fmt: skip
@pytest.mark.parametrize("size", SIZES)
async def test_an_item_without_turns_says_what_is_asked(
    run_all, judging, size, protocol, words
) -> None:
    await run_all(protocol)
    async with judging(size=size) as j:
        await j.press("enter")
        await j.see("What you are asked")
        lines = [line.strip() for line in j.text.split("\n")]
        body = " ".join(lines[lines.index("What you are asked") :])
        for part in (words, "Where is the brass lamp?", "A  the", "B  the"):
            assert part in body


async def test_a_live_debate_in_which_nothing_was_said_yet_is_no_empty_screen(
    judging, store, speakers, monkeypatch
) -> None:
    from oversight.engines.scripted import ScriptedEngine
    from oversight.errors import EngineUnavailableError
    from oversight.graphs.planning import plan
    from oversight.protocols import load
    from tests.tui.conftest import make_cast, make_question

    def gone(self: Any, request: Any) -> Any:
        raise EngineUnavailableError("nobody answers at 127.0.0.1:1")

    async with make_cast(judge="human") as actors:
        [(debate, question)] = plan([make_question()], [load("debate")], actors.specs)
    store.add(question, debate)
    monkeypatch.setattr(ScriptedEngine, "stream", gone)
    async with judging(engines={"e": speakers()}) as j:
        await j.press("enter")
        await j.see("Nothing has been said yet.", "What you are asked", "x tries again")


@pytest.mark.parametrize(
    ("code", "said"), [(0, "You have left. Everything you did is kept.\n"), (1, "")]
)
def test_leaving_the_program_says_in_the_terminal_that_all_is_kept(
    monkeypatch, capsys, code, said
) -> None:
    class Left:
        return_code = code

        def run(self) -> None:
            """Was left at once."""

        def leave_soon(self) -> bool:
            return False

    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.delenv("TEXTUAL_DRIVER", raising=False)
    with suppress(typer.Exit):
        show(Left())
    assert capsys.readouterr().out == said


def test_a_screen_whose_terminal_is_gone_ends(tmp_path) -> None:
    """Closed without a signal, as where the program is no part of the terminal's session."""
    Store.open(tmp_path / "s.db").close()
    leader, follower = pty.openpty()
    words = [sys.executable, "-m", "oversight.cli.main", "judge", "--store=s.db", "--judge=anna"]
    process = subprocess.Popen(
        words,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=tmp_path,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(follower)
    try:
        seen = b""
        while b"Nothing to judge" not in seen:
            assert select.select([leader], [], [], 60)[0], seen[-500:]
            seen += os.read(leader, 1 << 16)
        os.close(leader)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_as_a_signal_leaves_the_screen_and_says_how_to_go_on(tmp_path) -> None:
    Store.open(tmp_path / "s.db").close()
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    words = [sys.executable, "-m", "oversight.cli.main", "judge", "--store=s.db", "--judge=anna"]
    process = subprocess.Popen(
        words,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=tmp_path,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    try:
        seen = b""
        while b"Nothing to judge" not in seen:
            assert select.select([leader], [], [], 60)[0], seen[-500:]
            seen += os.read(leader, 1 << 16)
        process.send_signal(signal.SIGINT)
        while b"oversight: " not in seen or not seen.endswith(b"kept\r\n"):
            assert select.select([leader], [], [], 60)[0], seen[-500:]
            seen += os.read(leader, 1 << 16)
        assert process.wait(60) == 130
        assert seen.endswith(b"oversight: stopped; the same command goes on from what was kept\r\n")
        assert b"Traceback" not in seen
        assert seen.rindex(b"\x1b[?1049l") > seen.rindex(b"\x1b[?1049h")
        assert termios.tcgetattr(follower) == before
    finally:
        process.kill()
        process.wait()
        os.close(leader)
        os.close(follower)


LATE = ["space", "j", "right_square_bracket", "z", "q", "c", "right"]
"""Keys that need an item on the screen."""


@pytest.mark.parametrize("first", ["s", "escape"])
async def test_keys_that_come_while_an_item_is_left_do_nothing_to_it(
    run_all, judging, first
) -> None:
    await run_all("debate_single_turn", num=2)
    async with judging() as j:
        await j.press("enter")
        await j.see("round 1")
        left = j.app.screen
        for key in (first, *LATE):
            # As somebody who types fast: the keys are there before the screen has gone.
            character = {"space": " ", "right_square_bracket": "]"}.get(key, key)
            j.app.post_message(Key(key, character if len(character) == 1 else None))
        await j.until(lambda: j.app.screen is not left)
        await j.pilot.pause(0.2)
        assert j.app.is_running
        kinds = [
            event.kind for event in j.events() if event.debate_id == left.item.transcript.debate.id
        ]
        assert not {EventKind.BELIEF, EventKind.LEANED} & set(kinds)
