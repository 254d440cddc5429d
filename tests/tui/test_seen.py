"""Turns on the screen: new ones come into sight, unread ones are asked about and recorded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.screen import ModalScreen

from oversight.judging.settings import JudgingSettings
from oversight.judging.work import WHOLE, joined, unseen
from oversight.store import Store
from oversight.tui.linear.queues import Desk, run_linear
from oversight.tui.marking import PICKED, wrap
from oversight.tui.widgets.seen import Seen, SeenLines, num_letters
from oversight.types import Act, EventKind, Seat, Verdict

LONG = " ".join(f"The log says in line {n} where the lamp was." for n in range(60))
RULES = [{"pattern": ".", "answer": LONG}]
SMALL = (80, 24)


def by_kind(j: Any, *kinds: EventKind) -> list[dict[str, Any]]:
    return [event.data for event in j.events() if event.kind in kinds]


def shown_lines(j: Any) -> list[str]:
    view = j.app.screen.transcript
    top = view.region.y
    return [line.strip() for line in j.text.split("\n")[top : top + view.size.height]]


# --- in the pane ---------------------------------------------------------------------


async def test_new_turns_of_a_live_debate_are_shown_from_their_beginning(
    run_all, judging, speakers
) -> None:
    await run_all("debate_interactive", judge="human", rules=RULES)
    async with judging(size=SMALL, engines={"e": speakers(rules=RULES)}) as j:
        await j.press("enter")
        await j.see("PgDn reads on")
        for _ in range(9):
            await j.press("pagedown")
        await j.press("7", "0", "enter")
        await j.see("Ask the speakers")
        await j.press("enter")
        await j.type("who saw it")
        await j.press("ctrl+s")
        await j.see("Debater for", "round 1", "more lines unread")
        await j.until(lambda: not j.app.screen.live.is_going)
        await j.until(lambda: "opening" not in j.text)
        assert " · round 1 · " in shown_lines(j)[0]
        assert shown_lines(j)[1].startswith("The log says in line 0 ")


async def test_the_next_round_of_a_recorded_debate_is_shown_from_its_beginning(
    run_all, judging
) -> None:
    await run_all("debate", rules=RULES)
    async with judging(size=SMALL) as j:
        await j.press("enter", "enter", "y", "enter")
        await j.see("round 2")
        assert " · round 2 · " in shown_lines(j)[0]


async def test_unread_text_has_a_sign_below_and_above(run_all, judging) -> None:
    await run_all("debate_single_turn", rules=RULES)
    async with judging(size=SMALL) as j:
        await j.press("enter")
        await j.see("▼ ", "more lines unread")
        assert j.app.screen.transcript.unread[0] == 0
        await j.press("end")
        await j.see("▲ ", "lines above unread")
        assert j.app.screen.transcript.unread[1] == 0
        await j.press("home", *["pagedown"] * 12)
        await j.until(lambda: "unread" not in j.text)


async def test_words_read_while_they_were_written_stay_read(run_all, judging, speakers) -> None:
    await run_all("debate_interactive", judge="human")
    async with judging(size=(140, 45), engines={"e": speakers(latency_s=0.3)}) as j:
        await j.press("enter")
        await j.see("Set your belief")
        view = j.app.screen.transcript
        assert view.unread == (0, 0)
        assert set(j.app.screen.acts.work.seen.values()) == {WHOLE}


# --- asking ----------------------------------------------------------------------------


async def test_a_belief_on_turns_that_were_never_shown_asks_first(run_all, judging) -> None:
    await run_all("debate", rules=RULES)
    async with judging(size=SMALL) as j:
        await j.press("enter", "7", "0", "enter")
        await j.see("1 turn was never on your screen, 1 only in part.", "answer anyway (y)")
        assert "round 2" not in j.text
        await j.press("escape")
        await j.see("round 1")
        await j.press("enter", "enter")
        await j.until(lambda: "never" not in j.text)
        assert j.app.screen.transcript.scroll_offset.y > 0, "it goes to the first unread line"
        await j.press("enter", "y")
        await j.see("round 2")


async def test_a_verdict_on_turns_that_were_never_shown_asks_first(run_all, judging) -> None:
    await run_all("debate_single_turn", rules=RULES)
    async with judging(size=SMALL) as j:
        await j.press("enter", "7", "0", "enter")
        await j.see("never on your screen")
        await j.press("y")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
        [judgment] = j.judgments()
        [sent] = by_kind(j, EventKind.SENT)
        turns = j.app.desk.store.transcript(judgment.debate_id).spoken()
    assert judgment.unseen is not None
    assert set(judgment.unseen) == {turn.id for turn in turns}
    assert sorted(judgment.unseen.values())[0] == 0.0
    assert 0.2 < sorted(judgment.unseen.values())[1] < 1.0
    assert sent["unseen"] == judgment.unseen


async def test_a_live_belief_on_turns_that_were_never_shown_asks_first(
    run_all, judging, store
) -> None:
    await run_all("debate_interactive", judge="human", rules=RULES)
    async with judging(size=SMALL) as j:
        for keys in (["enter"], ["e"]):
            await j.press(*keys)
            if keys == ["enter"]:
                await j.see("PgDn reads on")
                await j.press("7", "0", "enter")
            await j.see("never on your screen")
            await j.press("escape")
        [debate_id] = store.debate_ids()
        assert not any(turn.act is Act.BELIEVE for turn in store.transcript(debate_id).turns)
        await j.press("enter", "y")
        await j.see("Ask the speakers")
        [acted] = by_kind(j, EventKind.ACTED)
        assert sorted(acted["unseen"].values())[0] == 0.0
        assert len(acted["unseen"]) == 2


async def test_what_was_read_is_asked_about_no_more_and_recorded_as_seen(run_all, judging) -> None:
    await run_all("debate_single_turn", rules=RULES)
    async with judging(size=SMALL) as j:
        await j.press("enter", "8", "0")
        assert by_kind(j, EventKind.BELIEF)[0]["unseen"] != {}
        await j.press(*["pagedown"] * 12)
        await j.see("Enter to your verdict")
        await j.press("enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
        [judgment] = j.judgments()
    assert judgment.unseen == {}


async def test_what_was_read_stays_read_in_another_session_and_at_another_width(
    run_all, judging
) -> None:
    await run_all("debate_single_turn", rules=RULES)
    async with judging(size=SMALL) as j:
        await j.press("enter", "pagedown")
        first, second = (turn.id for turn in j.app.screen.shown_turns())
        await j.until(lambda: j.app.screen.acts.work.seen.get(first) == WHOLE)
        await j.press("escape")
        await j.see("1 begun")
    async with judging(size=(60, 20)) as j:
        await j.press("enter")
        await j.until(lambda: j.app.screen.transcript.unread[1] > 0)
        await j.until(lambda: "Debater for" in shown_lines(j)[0])
        screen = j.app.screen
        assert screen.acts.work.seen[first] == WHOLE
        assert screen.acts.work.seen[second] != WHOLE
        assert screen.transcript.current_column() is None
        assert screen.transcript.unread[0] == 0, "nothing of the first turn is unread"
        whole = len(screen.transcript.column(second).lines(56))
        assert 0 < screen.transcript.unread[1] < whole - 10


async def test_turns_behind_a_dialog_are_not_read(run_all, judging, speakers) -> None:
    await run_all("debate_single_turn", rules=RULES)
    async with judging(size=SMALL) as j:
        await j.press("enter")
        await j.see("more lines unread")
        below = j.app.screen.transcript.unread[1]
        screen = j.app.screen
        await j.press("question_mark")
        await j.see("Esc goes back")
        screen.transcript.scroll_end(animate=False, immediate=True, force=True)
        await j.pilot.pause(0.1)
        assert sum(screen.transcript.unread) == below
        await j.press("escape")
        await j.until(lambda: screen.transcript.unread[1] == 0)


# --- line by line ------------------------------------------------------------------------


async def test_what_line_mode_printed_counts_as_seen(run_all, store: Store) -> None:
    await run_all("debate_single_turn", rules=RULES)
    lines = iter(["1", "belief 70", "send", "quit"])
    settings = JudgingSettings.parse({"judge": "anna", "store": store.url})
    await run_linear(Desk(store, settings), read=lambda _: next(lines, None), write=lambda _: None)
    [transcript] = store.transcripts()
    [judgment] = [each for each in transcript.judgments if each.judge == "anna"]
    assert judgment.unseen == {}
    [belief] = [e for e in store.events("anna") if e.kind is EventKind.BELIEF]
    assert belief.data["unseen"] == {}


# --- places of words -----------------------------------------------------------------------

texts = st.text(alphabet="abc ✓“”★\n日本", max_size=400)


@given(texts, st.integers(4, 60), st.integers(4, 60))
def test_what_was_seen_whole_is_whole_at_any_width_and_with_any_marks(
    text: str, width: int, other: int
) -> None:
    seen = Seen()
    lines = SeenLines(text, wrap(text, width), seen)
    lines.show(0, len(lines.lines))
    assert lines.num_unread() == 0
    picked = text.replace("✓", f"{PICKED}✓")
    assert num_letters(picked) == num_letters(text)
    assert SeenLines(picked, wrap(picked, other), seen).shares() == WHOLE


@given(texts, st.integers(4, 60), st.data())
def test_lines_that_were_not_shown_are_unread(text: str, width: int, data: Any) -> None:
    lines = wrap(text, width)
    first = data.draw(st.integers(0, len(lines)))
    last = data.draw(st.integers(first, len(lines)))
    shown = SeenLines(text, lines, Seen())
    shown.show(first, last)
    blank = sum(not num_letters(text[s:e]) for s, e in [*lines[:first], *lines[last:]])
    assert shown.num_unread() == len(lines) - (last - first) - blank


@given(texts, st.integers(4, 60), st.integers(0, 30))
def test_lines_of_a_text_that_grows_are_as_if_made_at_once(text: str, width: int, at: int) -> None:
    seen = Seen()
    begun = SeenLines(text[:at], wrap(text[:at], width), seen)
    begun.show(0, max(len(begun.lines) - 2, 0))
    grown = SeenLines(text, wrap(text, width), seen, begun)
    fresh = SeenLines(text, wrap(text, width), seen)
    assert grown._places == fresh._places
    assert grown._flags == fresh._flags


def test_spans_that_touch_are_one_and_shares_are_of_the_whole() -> None:
    assert joined([(0.5, 1.0), (0.0, 0.25), (0.2, 0.5)]) == WHOLE
    assert joined([(0.0, 0.2), (0.4, 0.6)]) == ((0.0, 0.2), (0.4, 0.6))
    seen = {"one": WHOLE, "two": ((0.0, 0.2), (0.4, 0.6))}
    assert unseen(seen, ["one", "two", "three"]) == {"two": 0.4, "three": 0.0}


def test_judgments_of_before_read_and_keep_their_form(make_old: Any) -> None:
    judgment = make_old
    assert judgment.unseen is None
    assert "unseen" not in judgment.model_dump(mode="json")


@pytest.fixture
def make_old() -> Any:
    from oversight.types import Belief, BeliefMethod, JudgeKind, Judgment, Orders

    final = Belief(verdict=Verdict.DECIDED, method=BeliefMethod.HUMAN, probs=(0.7, 0.3))
    orders = Orders(options=(0, 1), defends=(0, 1), shown=(Seat.A, Seat.B))
    return Judgment(debate_id="d", judge="j", kind=JudgeKind.HUMAN, orders=orders, final=final)


# --- what it costs -------------------------------------------------------------------


def count_pictures(j: Any, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that gets one more entry with each picture that is painted."""
    painted: list[None] = []
    display = j.app._display

    def note(screen: Any, renderable: Any) -> None:
        display(screen, renderable)
        if renderable is not None:
            painted.append(None)

    monkeypatch.setattr(j.app, "_display", note)
    return painted


@pytest.mark.parametrize("key", ["pagedown", "end", "right"])
async def test_a_key_is_painted_in_one_picture_with_what_is_unread_then(
    run_all, judging, monkeypatch, key
) -> None:
    await run_all("debate_single_turn", rules=RULES)
    async with judging(size=SMALL) as j:
        await j.press("enter")
        await j.see("▼ ", "more lines unread", "PgDn reads on: ")
        await j.pilot.pause(0.3)
        before = j.app.screen.transcript.unread
        painted = count_pictures(j, monkeypatch)
        await j.press(key)
        await j.pilot.pause(0.3)
        assert (j.app.screen.transcript.unread != before) == (key != "right")
        assert len(painted) == 1


async def test_lines_that_a_dialog_hid_before_they_were_painted_stay_unread(
    run_all, judging
) -> None:
    await run_all("debate_single_turn", rules=RULES)
    async with judging(size=SMALL) as j:
        await j.press("enter")
        await j.see("▼ ", "more lines unread")
        await j.pilot.pause(0.3)
        view, before = j.app.screen.transcript, j.app.screen.transcript.unread
        view.scroll_page_down()
        await j.app.push_screen(ModalScreen())
        await j.pilot.pause(0.3)
        assert sum(view.unread) == sum(before)
