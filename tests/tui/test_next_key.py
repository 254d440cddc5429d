"""The line above the keys names the key that leads on, in every state of every item.

Each walk obeys that line alone, from the queue to the last item that waits: it presses the first
key that the line (or a dialog's last lines) names, and the state has to move on.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea

from oversight.tui.keys import KEYS, RATING_KEYS, key_of

SAID = {
    key_of(name, {}, keys): key for keys in (KEYS, RATING_KEYS) for name, (key, _) in keys.items()
}
SAID |= {"PgDn": "pagedown", "PgUp": "pageup", "Ctrl+S": "ctrl+s", "Ctrl+T": "ctrl+t"}
del SAID["a"]  # an article, mostly
NAMES = [*map(re.escape, sorted(SAID, key=len, reverse=True)), r"\d(?= breaks| right)"]
NAMED = re.compile(r"(?<![\w“])(" + "|".join(NAMES) + r")(?![\w”…])")
MOST_STEPS = 80


def line_of(screen: Any) -> str:
    """The line in which a screen tells its reader what to do."""
    if isinstance(screen, ModalScreen):
        lines = [
            each for name in ("#missing", ".keys") for each in screen.query(name).results(Static)
        ]
        return " ".join(str(each.render()) for each in lines)
    return str(screen.query_one("#hint", Static).render())


def first_key(line: str) -> str | None:
    """The first key that a line names, as a terminal calls it."""
    # Words of the question and of speeches may hold letters that are keys.
    found = NAMED.search(line.split(": Where")[0].replace("p goes back to it.", ""))
    return SAID.get(found[1], found[1]) if found else None


def state(j: Any, events: Any) -> Any:
    """All that a key may move."""
    screen = j.app.screen
    where = None
    if hasattr(screen, "transcript"):
        where = (
            screen.transcript.scroll_offset,
            screen.transcript.unread,
            len(screen.transcript.rows),
        )
    return type(screen).__name__, id(screen), len(events()), where, line_of(screen)


async def obey(j: Any, events: Any, until: Any) -> list[str]:
    """Press what is named until `until` holds; the lines that were obeyed."""
    lines: list[str] = []
    while not until():
        assert len(lines) < MOST_STEPS, "\n".join(lines)
        screen = j.app.screen
        line, before = line_of(screen), state(j, events)
        key = first_key(line)
        lines.append(f"{type(screen).__name__}: {line} -> {key}")
        if key is None and line:  # none yet: the screen is just coming
            assert "…" in line, f"names no key and does not go on by itself: {line}"
        elif key is None:
            pass
        elif key == "ctrl+s" and screen.query(TextArea) and not screen.query_one(TextArea).text:
            await j.pilot.press(*"why")
            await j.pilot.press(key)
        else:
            await j.pilot.press(key)
        for _ in range(1500):
            await j.pilot.pause(0.02)
            if state(j, events) != before or until():
                break
        else:
            pytest.fail(f"{key} moved nothing: {line}\n{j.text}")
    return lines


LONG = " ".join(f"The log says in line {n} where the lamp was." for n in range(60))
RECORDED = [
    *("debate", "debate_single_turn", "debate_sequential", "debate_single_turn_best_of_n"),
    *("consultancy", "consultancy_single_turn", "critique", "naive", "expert"),
    *("debate_interactive", "consultancy_interactive"),
]


@pytest.mark.parametrize("protocol", RECORDED)
async def test_the_line_leads_through_a_recorded_item(run_all, judging, protocol) -> None:
    await run_all(protocol, num=2)
    async with judging(size=(80, 24), require_rationale=protocol == "naive") as j:
        await obey(j, j.events, lambda: len(j.judgments()) == 2)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (140, 45)])
async def test_the_line_leads_through_speeches_longer_than_the_screen(
    run_all, judging, size
) -> None:
    await run_all("debate", rules=[{"pattern": ".", "answer": LONG}])
    async with judging(size=size) as j:
        lines = await obey(j, j.events, lambda: len(j.judgments()) == 1)
        [judgment] = j.judgments()
    longer_than_the_pane = any("PgDn reads on" in line for line in lines)
    assert longer_than_the_pane or size == (140, 45)
    assert judgment.unseen == {}


@pytest.mark.parametrize("protocol", ["debate_interactive", "debate_single_turn"])
async def test_the_line_leads_through_a_live_debate(run_all, judging, speakers, protocol) -> None:
    rules = [{"pattern": ".", "answer": LONG}]
    await run_all(protocol, judge="human", rules=rules)
    async with judging(size=(80, 24), engines={"e": speakers(rules=rules)}) as j:
        await obey(j, j.events, lambda: len(j.judgments()) == 1)
        [judgment] = j.judgments()
    assert judgment.unseen == {}


async def test_the_line_leads_who_argues_and_then_who_judges(run_all, judging) -> None:
    await run_all("debate_single_turn", judge="human", debater="human")
    for judge in ("dora", "eve"):
        async with judging(judge=judge) as j:
            await obey(
                j,
                lambda j=j, judge=judge: j.events(judge),
                lambda j=j: "waits for another" in j.text,
            )
            assert first_key(line_of(j.app.screen)) == "escape"
            await j.press("escape")
            await j.see("1 begun")
    async with judging() as j:
        await obey(j, j.events, lambda: len(j.judgments()) == 1)


async def test_the_line_leads_on_from_an_engine_that_failed(run_all, judging, monkeypatch) -> None:
    from oversight.engines.scripted import ScriptedEngine
    from oversight.errors import EngineUnavailableError

    await run_all("debate_interactive", judge="human")
    real = ScriptedEngine.stream
    failures = iter([True, False])

    def stream(self: Any, request: Any) -> Any:
        if next(failures, False):
            raise EngineUnavailableError("nobody answers at 127.0.0.1:1")
        return real(self, request)

    async with judging() as j:
        await j.press("enter")
        await j.see("Set your belief")
        monkeypatch.setattr(ScriptedEngine, "stream", stream)
        lines = await obey(j, j.events, lambda: len(j.judgments()) == 1)
    assert any("x tries again" in line and "-> x" in line for line in lines)


async def test_the_line_leads_on_from_beliefs_that_are_equal(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "5", "0")
        await j.see("Equally probable so far")
        await obey(j, j.events, lambda: len(j.judgments()) == 1)


async def test_enter_without_a_belief_opens_no_box_in_which_its_keys_are_letters(
    run_all, judging
) -> None:
    await run_all("naive")
    async with judging() as j:
        await j.press("enter", "enter", "6", "5")
        await j.see("65%", "Enter to your verdict")
        await j.press("enter")
        await j.see("Why?")


async def test_the_box_without_a_belief_names_keys_that_work_in_it(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "v")
        await j.see("Say first how probable", "Esc goes back to the belief")
        assert "Ctrl+S sends" not in j.text
        await obey(j, j.events, lambda: len(j.judgments()) == 1)
