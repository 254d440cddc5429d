"""A recorded debate, judged in the real app by its keys."""

from __future__ import annotations

import gc
import weakref

import pytest

from oversight import protocols
from oversight.tui.screens.work import settle
from oversight.types import EventKind, JudgeKind, Verdict


@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
async def test_a_debate_is_judged_by_keys_alone(store, run_all, judging, size) -> None:
    await run_all()
    async with judging(size=size) as j:
        await j.see("Where is the brass lamp?", "debate", "house")
        await j.press("enter")
        await j.see("round 1", "not yet")
        await j.press("8", "0", "enter")
        await j.see("round 2")
        await j.press("enter")
        await j.press("right_square_bracket", "space")
        await j.press("v")
        await j.see("Why?")
        await j.type("the later line counts")
        await j.press("ctrl+s")
        await j.see("Sent.", "Right is")
        await j.press("escape")
        await j.see("1 sent now")

        [judgment] = j.judgments()
    first = judgment.orders.options[0]
    assert judgment.kind is JudgeKind.HUMAN
    assert judgment.final.probs is not None
    assert judgment.final.probs[first] == 0.8
    assert judgment.rationale == "the later line counts"
    assert len(judgment.leaned_on) == 1
    assert [step for step, _ in judgment.trajectory] == [0, 2]
    assert judgment.active_s is not None
    assert store.check() == []


async def test_a_round_is_hidden_until_it_is_its_turn(run_all, judging) -> None:
    await run_all()
    async with judging(size=(90, 60)) as j:
        await j.press("enter")
        await j.see("round 1")
        assert "round 2" not in j.text
        await j.press("enter")
        await j.see("No belief yet")
        assert "round 2" not in j.text
        await j.press("enter")
        await j.see("round 2")
        assert "round 3" not in j.text
        await j.press("v")
        await j.see("not read yet")


async def test_a_whole_debate_is_shown_at_once_where_that_is_asked_for(run_all, judging) -> None:
    await run_all()
    async with judging(size=(90, 60), stepped=False) as j:
        await j.press("enter")
        await j.see("round 1", "round 2", "round 3")
        await j.press("9", "0", "enter")
        await j.see("Why?")


async def test_models_and_the_right_answer_stay_hidden(run_all, judging) -> None:
    await run_all(num=2)
    async with judging(size=(120, 50), feedback=False) as j:
        seen = []
        for keys in (["enter"], ["q"], ["1", "0"], ["enter"], ["enter"], ["v"], ["ctrl+s"]):
            await j.press(*keys)
            await j.pilot.pause(0.05)
            seen.append(j.text)
        await j.see("Sent.")
        seen.append(j.text)
        for text in seen:
            assert j.MODEL not in text
            assert "Right is" not in text
            assert "lexical" not in text


async def test_belief_is_moved_typed_and_coupled(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "right", "right", "comma")
        await j.see("59%", "41%")
        await j.press("7")
        await j.see("7_ %")
        await j.see("93%")
        await j.press("o", "2", "5")
        await j.see("75%", "25%")
        await j.press("0", "0")
        await j.see("99%")


async def test_undo_takes_a_movement_back_as_one_and_a_pick_after_it(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "6", "0")
        await j.see("60%")
        await j.press("right_square_bracket", "space")
        await j.see("★")
        await j.press("u")
        await j.until(lambda: "★" not in j.text)
        await j.press("u")
        await j.see("not yet")
        await j.press("u")
        await j.see("Nothing to take back")
        assert j.kinds().count(EventKind.UNDONE) == 2


async def test_a_sent_judgment_is_revised_and_both_are_kept(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "6", "0", "enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
        await j.press("r", "9", "0", "v")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("revision 1")
        first, second = sorted(j.judgments(), key=lambda each: each.revision)
    assert first.final.probs != second.final.probs
    assert (first.revision, second.revision) == (0, 1)


@pytest.mark.parametrize(("key", "verdict"), [("ctrl+t", Verdict.TIE), ("ctrl+n", Verdict.ABSTAIN)])
async def test_a_tie_and_not_knowing_are_verdicts_of_their_own(
    run_all, judging, key, verdict
) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "v", key, "ctrl+s")
        await j.see("Sent", "You did not decide")
        [judgment] = j.judgments()
    assert judgment.final.verdict is verdict


async def test_without_a_belief_or_a_wanted_rationale_nothing_is_sent(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging(require_rationale=True) as j:
        await j.press("enter", "v", "ctrl+s")
        await j.see("Say first how probable")
        await j.press("escape", "7", "0", "v", "ctrl+s")
        await j.see("asks for a rationale")
        await j.type("why")
        await j.press("ctrl+s")
        await j.see("Sent")


async def test_enter_after_sending_takes_the_next_item_and_skipping_puts_one_off(
    run_all, judging
) -> None:
    await run_all("debate_single_turn", num=3)
    async with judging() as j:
        await j.press("enter", "7", "0", "enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
        await j.press("enter")
        await j.see("brass lamp? (1)")
        await j.press("s")
        await j.see("brass lamp? (2)")
        await j.press("escape")
        await j.see("1 skipped", "1 done", "1 begun")
        await j.press("down", "s")
        await j.see("0 skipped")


async def test_what_was_begun_goes_on_in_another_session(run_all, judging) -> None:
    await run_all()
    async with judging() as j:
        await j.press("enter", "6", "5", "enter")
        await j.see("round 2")
        await j.press("right_square_bracket", "space", "escape")
        await j.see("1 begun")
    async with judging() as j:
        await j.press("enter")
        await j.see("65%", "★")
        assert len(j.app.screen.item.shown(stepped=True)) == 4


async def test_search_fold_and_copy(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "slash")
        await j.type("LAMP")
        await j.press("enter")
        await j.see("2 matches")
        await j.press("n", "z")
        await j.see("words folded")
        await j.press("z", "Z")
        await j.until(lambda: j.text.count("words folded") == 2)
        await j.press("Z", "right_square_bracket", "y")
        assert j.app.clipboard.startswith(("At nine Ada", "At ten Bo"))


async def test_quotes_are_listed_in_the_order_of_the_source_with_signs(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging(size=(140, 40)) as j:
        await j.press("enter", "q")
        await j.see("Quotes, in the order of the source")
        panel = [line.split("│")[-1] for line in j.text.splitlines()]
        whole = " ".join(panel)
        assert whole.index("At nine") < whole.index("At ten") < whole.index("not in the source")
        assert "✓" in whole
        assert "✗" in whole


async def test_only_as_much_of_the_source_is_shown_as_the_protocol_allows(run_all, judging) -> None:
    protocol = protocols.load("debate_single_turn")
    await run_all(protocol)
    async with judging(size=(140, 40)) as j:
        await j.press("enter", "right_square_bracket", "c")
        await j.see("This protocol shows you", "no", "quotes.")
        await j.press("w")
        await j.see("does not show you the source")


async def test_surroundings_are_shown_where_the_protocol_allows_them(run_all, judging) -> None:
    protocol = protocols.load("debate_single_turn")
    await run_all(protocol.model_copy(update={"quote_context": 20}))
    async with judging(size=(140, 40)) as j:
        await j.press("enter", "right_square_bracket", "c")
        await j.see("…", "At ten Bo carried")


async def test_the_source_can_be_read_where_the_judge_may(run_all, judging) -> None:
    await run_all("expert")
    async with judging() as j:
        await j.press("enter", "w")
        await j.see("The house log", "Cy swept the cellar")
        await j.press("escape", "8", "0", "enter")
        await j.see("Why?")


async def test_two_windows_of_one_judge_do_not_take_one_item(run_all, judging, store) -> None:
    await run_all("debate_single_turn")
    from oversight.store import Store

    with Store.open(store.url) as other:
        [debate_id] = other.debate_ids()
        assert other.take_item(debate_id, "anna")
        async with judging() as j:
            await j.press("enter")
            await j.see("open in another window")


async def test_an_empty_queue_says_what_to_do(judging) -> None:
    async with judging() as j:
        await j.see("Nothing to judge", "oversight debate")
        await j.press("enter", "s", "question_mark")
        await j.see("Keys")


async def test_a_terminal_that_is_too_small_says_so_and_comes_back(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "7", "0")
        await j.pilot.resize_terminal(40, 10)
        await j.see("40 × 10")
        await j.pilot.resize_terminal(100, 30)
        await j.see("70%")


async def test_a_missing_side_is_named(run_all, judging, store) -> None:
    await run_all("debate_single_turn")
    with store._database.writing() as connection:
        from sqlalchemy import text

        connection.execute(text("DELETE FROM turns WHERE seat = 'b'"))
    async with judging() as j:
        await j.press("enter")
        await j.see("Debater for A", "Debater for B", "this turn is missing")


async def test_keys_can_be_changed(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging(keys={"verdict": "g"}) as j:
        await j.press("enter", "7", "0", "v")
        assert "Why?" not in j.text
        await j.press("g")
        await j.see("Why?")


async def test_light_and_dark(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging(theme="light") as j:
        assert not j.app.current_theme.dark
        await j.press("d")
        assert j.app.current_theme.dark


async def test_the_mouse_sets_a_belief(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter")
        await j.see("not yet")
        await j.pilot.click("#belief", offset=(5 + 18, 0))
        await j.until(lambda: "not yet" not in j.text)
        assert EventKind.BELIEF in j.kinds()


async def test_leaving_by_ctrl_q_keeps_all(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "right", "right")
        await j.press("ctrl+q")
        await j.pilot.pause(0.2)
    kinds = j.kinds()
    assert kinds.count(EventKind.BELIEF) == 2
    assert kinds[-1] is EventKind.CLOSED


async def test_a_question_whose_answer_was_shown_does_not_come_again(
    run_all, judging, store
) -> None:
    await run_all("debate_single_turn")
    await run_all("debate")
    async with judging() as j:
        await j.see("2 waiting")
        await j.press("enter", "7", "0", "enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Right is")
        await j.press("enter")
        await j.see("the last one that waits", "0 waiting")
    async with judging(judge="bo", feedback=False, overlap=2) as j:
        await j.see("2 waiting")


async def test_a_revision_after_the_answer_was_shown_is_kept_and_does_not_count(
    run_all, judging, store
) -> None:
    from oversight.aggregation import rulings

    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "7", "0", "enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Right is")
        await j.press("r", "2", "0", "v", "ctrl+s")
        await j.see("revision 1")
        assert sorted(each.informed for each in j.judgments()) == [False, True]
    [transcript] = store.transcripts()
    [counted] = [each for each in rulings(transcript) if each.judge == "anna"]
    assert counted.judgments[0].revision == 0


@pytest.mark.parametrize("width", [90, 140])
async def test_a_click_goes_to_a_turn_and_to_a_quote_of_it(run_all, judging, width) -> None:
    await run_all("debate_single_turn")
    async with judging(size=(width, 40)) as j:
        await j.press("enter")
        await j.see("round 1")
        lines = j.text.splitlines()
        [(y, line)] = [(y, line) for y, line in enumerate(lines) if "took it down" in line]
        await j.pilot.click(offset=(line.index("took it down"), y))
        await j.until(lambda: j.app.screen.current_turn() is not None)
        assert "took it down" in j.app.screen.current_turn().text
        assert j.app.screen.transcript.current_quote is None
        await j.pilot.click(offset=(line.index("“At ten"), y))
        await j.until(lambda: j.app.screen.transcript.current_quote == 0)


async def test_opening_an_item_collects_the_one_before_and_never_the_whole_program(
    run_all, judging
) -> None:
    await run_all("debate_single_turn", num=3)
    async with judging() as j:
        program = gc.get_freeze_count()
        await j.press("enter")
        await j.see("round 1")
        left = weakref.ref(j.app.screen)
        await j.press("escape")
        await j.see("Left; all you did is kept")
        await j.press("enter")
        await j.see("round 1")
        await j.until(lambda: settle() is None and left() is None)
        assert gc.get_freeze_count() == program > len(gc.get_objects())
