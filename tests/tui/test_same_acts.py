"""The same acts leave the same events: in a session without a screen, in plain lines, on screen."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from oversight.judging.assisting import Assistants, AssistantSession
from oversight.judging.desk import Desk
from oversight.judging.items import PersonAction, RefusedAction
from oversight.judging.queue_session import QueueSession
from oversight.judging.session import DebateSession, SentJudgment
from oversight.judging.settings import JudgingSettings
from oversight.judging.work import WHOLE
from oversight.store import Store
from oversight.tui.linear.queues import run_linear
from oversight.types import Act, EventKind, Help, RationaleGiven, Verdict

SIZE = (140, 60)
LEFT_OUT = {EventKind.ATTENTION, EventKind.DRAFTED}
"""Events of reading and typing, of which every way in has its own."""


@pytest.fixture
def copies(store: Store, tmp_path: Path) -> Any:
    """Open copies of the store, for people who do the same without knowing of one another."""
    opened: list[Store] = []

    def copy(name: str) -> Store:
        path = tmp_path / f"{name}.db"
        with sqlite3.connect(tmp_path / "judging.db") as old, sqlite3.connect(path) as new:
            old.backup(new)
        opened.append(Store.open(path))
        return opened[-1]

    yield copy
    for each in opened:
        each.close()


def acts_in(store: Store) -> list[dict[str, Any]]:
    """The acts by debate and in order, without fields that differ from one time to the next."""
    events = [e for e in store.events("anna") if e.kind not in LEFT_OUT]
    events.sort(key=lambda e: e.debate_id)  # in each the order of writing stays
    done: list[dict[str, Any]] = []
    for event, then in zip(events, [*events[1:], None], strict=True):
        typed_on = then is not None and isinstance(then.act, RationaleGiven)
        if isinstance(event.act, RationaleGiven) and typed_on:
            continue  # a screen keeps half a sentence, too
        told = event.act.model_dump(mode="json")
        for name in ("move", "shown_at", "samples"):
            told.pop(name, None)
        done.append({"debate": event.debate_id, "event": event.kind.value, **told})
    return done


class InSession:
    """Judges by a script over sessions, without a screen."""

    def __init__(self, store: Store, scripts: list[Any], **settings: Any) -> None:
        self.desk = Desk(store, settings_of(store, **settings))
        self.assistants = Assistants(self.desk.settings)
        self.scripts = iter(scripts)
        self.refused: list[RefusedAction] = []

    async def run(self) -> None:
        await QueueSession(self.desk).work(self)
        await self.assistants.aclose()
        assert self.refused == []

    async def work_on(self, item: Any) -> str:
        session = DebateSession(self.desk, item, lambda: None)
        self.desk.open(item)
        session.begin()
        session.start()
        try:
            return await next(self.scripts)(session, self.assistants)
        finally:
            await session.live.aclose()
            await self.desk.close(item)

    def tell_left(self, item: Any, how: Any) -> None:
        pass

    def tell_refused(self, refusal: RefusedAction) -> None:
        self.refused.append(refusal)


def settings_of(store: Store, **settings: Any) -> JudgingSettings:
    given = {"judge": "anna", "store": store.url, "shuffle_sides": False, **settings}
    return JudgingSettings.parse(given)


async def type_lines(store: Store, *lines: str, **settings: Any) -> str:
    given, said = iter(lines), []
    desk = Desk(store, settings_of(store, **settings))
    await run_linear(desk, read=lambda prompt: next(given, None), write=said.append)
    return "\n".join(said)


def look(session: DebateSession) -> None:
    """Have all that is shown on the screen."""
    session.note_seen({turn.id: WHOLE for turn in session.shown})


def first_option(session: DebateSession) -> int:
    return session.item.orders.options[0]


async def judge_recorded(session: DebateSession, assistants: Assistants) -> str:
    look(session)
    assert session.believe_option(first_option(session), 0.6) is None
    assert session.may_read_on() is None
    session.read_on()
    look(session)
    assert session.may_read_on() is None
    session.read_on()
    look(session)
    assert session.lean(session.shown[0], 0) is True
    assert session.decide(Verdict.TIE) is None
    assert session.believe_option(first_option(session), 0.2) is None
    assert session.believe_option(first_option(session), 0.3) is None
    assert session.undo() is None
    assert session.say_why("so it is") is None
    assert isinstance(await session.send(), SentJudgment)
    assert session.revise() is None
    assert session.decide(Verdict.ABSTAIN) is None
    assert isinstance(await session.send(), SentJudgment)
    return "next"


async def put_off(session: DebateSession, assistants: Assistants) -> str:
    look(session)
    assert session.skip() is None
    return "next"


async def test_recorded_debates(store, run_all, judging, copies) -> None:
    await run_all(num=2)
    plain, lined = copies("session"), copies("lines")
    await InSession(plain, [judge_recorded, put_off]).run()
    said = await type_lines(
        lined, "next", "belief 60", "next", "next", "lean 1", "verdict tie", "belief 20",
        "belief 30", "undo", "why so it is", "send", "revise", "verdict 3", "send", "next",
        "skip", "quit",
    )  # fmt: skip
    assert "Nothing more waits for you." in said
    async with judging(size=SIZE, shuffle_sides=False) as j:
        await j.press("enter", "6", "0", "enter")
        await j.see("round 2")
        await j.press("enter")
        await j.see("round 3")
        await j.press("right_square_bracket", "space")
        await j.see("Picked")
        await j.press("v", "ctrl+t", "escape")
        await j.press("2", "0")
        await j.pilot.pause(2)  # what comes later is another movement
        await j.press("3", "0", "u")
        await j.see("Taken back", "20%")
        await j.press("v")
        await j.type("so it is")
        await j.press("ctrl+s")
        await j.see("Sent.", "Right is")
        await j.press("r", "v", "ctrl+n", "ctrl+s")
        await j.see("revision 1")
        await j.press("enter")
        await j.see("(1)")
        await j.press("s")
        await j.see("the last one that waits")
    assert acts_in(plain) == acts_in(lined) == acts_in(store)
    kinds = [act["event"] for act in acts_in(store)]
    assert (kinds.count("sent"), kinds.count("skipped")) == (2, 1)
    assert plain.check() == lined.check() == store.check() == []


async def ask_and_end(session: DebateSession, assistants: Assistants) -> str:
    async def heard() -> None:
        while session.live.is_going:  # noqa: ASYNC110 - as plain lines wait
            await asyncio.sleep(0.02)
        look(session)

    await heard()
    assert session.believe_option(first_option(session), 0.7) is None
    assert session.believe_live() is None
    await heard()
    assert session.speak("who saw it", PersonAction.ASK) is None
    await heard()
    assert session.believe_live(ends=True) is None
    await heard()
    assert isinstance(await session.send(), SentJudgment)
    return "queue"


async def test_a_live_debate(store, run_all, judging, speakers, copies) -> None:
    await run_all("debate_interactive", judge="human")
    engines = {"e": speakers()}
    plain, lined = copies("session"), copies("lines")
    await InSession(plain, [ask_and_end], engines=engines).run()
    lines = ("next", "belief 70", "next", "ask who saw it", "end", "send", "quit")
    await type_lines(lined, *lines, engines=engines)
    async with judging(size=SIZE, shuffle_sides=False, engines=engines) as j:
        await j.press("enter")
        await j.see("Set your belief")
        await j.press("7", "0", "enter")
        await j.see("Ask the speakers")
        await j.press("enter")
        await j.see("To the speakers")
        await j.type("who saw it")
        await j.press("ctrl+s")
        await j.see("Set your belief", "who saw it")
        await j.press("e")
        await j.see("The debate is over")
        await j.press("v", "ctrl+s")
        await j.see("Sent")
        await j.press("escape")
    assert acts_in(plain) == acts_in(lined) == acts_in(store)
    assert [act["event"] for act in acts_in(store)].count("acted") == 3
    assert plain.check() == lined.check() == store.check() == []


async def ask_assistant(session: DebateSession, assistants: Assistants) -> str:
    look(session)
    assistant = AssistantSession(assistants, session)
    refused = assistant.request(Help.AGAINST)
    assert isinstance(refused, RefusedAction)
    assert refused.said({}) == "You have said no belief yet that it could argue against."
    for request in (assistant.request(Help.SUMMARY), assistant.request(Help.CHECK, "by ten")):
        assert not isinstance(request, RefusedAction)
        assert assistant.begin(request) is None
        assert await assistant.answered() is None
    return "queue"


async def test_an_assistant(store, run_all, judging, assisted, copies) -> None:
    await run_all("debate_single_turn")
    plain, lined = copies("session"), copies("lines")
    await InSession(plain, [ask_assistant], **assisted).run()
    said = await type_lines(
        lined, "next", "assist 5", "assist 1", "assist 3 by ten", "queue", "quit", **assisted
    )
    assert "You have said no belief yet that it could argue against." in said
    async with judging(size=SIZE, shuffle_sides=False, **assisted) as j:
        await j.press("enter", "a", "5")
        await j.see("You have said no belief yet that it could argue against.")
        await j.press("a", "1")
        await j.until(lambda: j.app.screen.acts.work.assistance)
        await j.until(lambda: not j.app.screen.assistant.is_answering)
        await j.press("a", "3")
        await j.see("Which claim?")
        await j.type("by ten")
        await j.press("enter")
        await j.until(lambda: len(j.app.screen.acts.work.assistance) == 2)
        await j.until(lambda: not j.app.screen.assistant.is_answering)
        await j.press("escape", "escape")
        await j.see("all you did is kept")
    assert acts_in(plain) == acts_in(lined) == acts_in(store)
    assert [act["event"] for act in acts_in(store)].count("assisted") == 2


async def test_a_debate_shown_whole_has_its_belief_after_its_last_step(
    store, run_all, judging, copies
) -> None:
    await run_all()
    lined = copies("lines")
    await type_lines(lined, "next", "belief 60", "send", "quit", stepped=False)
    async with judging(size=(140, 90), shuffle_sides=False, stepped=False) as j:
        await j.press("enter", "6", "0", "v", "ctrl+s")
        await j.see("Sent.")
        await j.press("escape")
    assert acts_in(lined) == acts_in(store)
    [judgment] = j.judgments()
    transcript = store.transcript(judgment.debate_id)
    last = max(turn.step for turn in transcript.spoken() if turn.act is Act.SPEAK)
    assert [step for step, _ in judgment.trajectory] == [last]


async def test_a_belief_after_a_tie_decides_on_the_screen_as_in_lines(
    store, run_all, judging
) -> None:
    await run_all("debate_single_turn")
    async with judging(size=SIZE) as j:
        await j.press("enter", "v", "ctrl+t", "escape")
        assert j.app.screen.acts.work.draft.verdict is Verdict.TIE
        await j.press("2", "0")
        await j.until(lambda: j.app.screen.acts.work.draft.verdict is Verdict.DECIDED)


async def test_the_next_debate_in_lines_is_one_that_the_filter_lists(store, run_all) -> None:
    await run_all("debate_single_turn", num=3)
    said = await type_lines(store, "filter (2)", "next", "quit")
    assert "Question: Where is the brass lamp? (2)" in said


async def test_a_number_that_is_not_listed_begins_no_debate_in_lines(store, run_all) -> None:
    await run_all("debate_single_turn")
    said = await type_lines(store, "7", "quit")
    assert "Which item? Give its number in the list." in said
    assert store.events("anna") == []
