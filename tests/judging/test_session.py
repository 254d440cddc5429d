"""A session at one item, without a screen: what can be done, doing it, and why it is refused."""

from __future__ import annotations

import pytest

from oversight.judging.items import PersonAction, RefusalReason, RefusedAction
from oversight.judging.live import AwaitedAct
from oversight.judging.session import DebateSession, NextAction, SentJudgment
from oversight.judging.work import WHOLE
from oversight.types import Act, AttentionPaid, DebateActed, Seat, Verdict


@pytest.fixture
def begun(workshop):
    """A judge who has taken up a recorded debate, with the settings given."""

    async def session(**changes):
        debate = await workshop.record()
        desk = workshop.desk(**changes)
        item, _ = desk.take(debate.id)
        desk.open(item)
        made = DebateSession(desk, item, lambda: None)
        made.begin()
        return made

    return session


def read_all(session):
    while session.has_more:
        session.reveal()
    turns = {turn.id: WHOLE for turn in session.item.turns()}
    session.acts.add(AttentionPaid(panels={}, seen=turns))


def whys(session):
    return {doing: refusal and refusal.why for doing, refusal in session.can().items()}


async def test_all_that_can_be_done_is_told_with_the_reason_why_not(begun):
    session = await begun()
    assert whys(session) == {
        PersonAction.CHANGE: None,
        PersonAction.UNDO: RefusalReason.NOTHING_TO_UNDO,
        PersonAction.READ_ON: None,
        PersonAction.ASK: RefusalReason.OVER,
        PersonAction.SAY: RefusalReason.NOT_YOUR_TURN,
        PersonAction.END: RefusalReason.CANNOT_END,
        PersonAction.SEND: RefusalReason.HIDDEN_TURNS,
        PersonAction.REVISE: RefusalReason.NOT_SENT,
        PersonAction.SKIP: None,
        PersonAction.READ_SOURCE: RefusalReason.HIDDEN_SOURCE,
        PersonAction.ASSIST: RefusalReason.NO_ASSISTANT,
    }
    await session.desk.close(session.item)


async def test_what_was_never_on_the_screen_is_refused_until_it_is_waived(begun):
    session = await begun()
    refusal = session.unread()
    shown = [turn.id for turn in session.item.shown(stepped=True)]
    assert (refusal.why, list(refusal.turns)) == (RefusalReason.UNSEEN, shown)
    session.waive(refusal.turns)
    assert session.unread() is None
    assert list(session.unread(again=True).turns) == shown
    await session.desk.close(session.item)


async def test_to_read_on_without_a_belief_is_refused_once_at_each_step(begun):
    session = await begun()
    assert session.may_read_on() == RefusedAction(RefusalReason.NO_BELIEF)
    assert session.may_read_on() is None
    session.believe((0.7, 0.3))
    session.reveal()
    assert session.may_read_on() is None
    assert len(session.acts.work.draft.beliefs) == 2, "the belief as it stands was kept"
    await session.desk.close(session.item)


async def test_a_judgment_is_sent_revised_and_sent_again(begun):
    session = await begun()
    read_all(session)
    assert session.next() is NextAction.DECIDE
    refused = await session.send()
    assert refused.why is RefusalReason.INCOMPLETE
    assert refused.words.startswith("Say first how probable each option is")
    session.believe((0.2, 0.8))
    assert session.next() is NextAction.SEND
    sent = await session.send()
    assert isinstance(sent, SentJudgment)
    assert (sent.judgment.revision, sent.score.right) == (0, True)
    assert session.next() is NextAction.LEAVE
    assert (
        session.believe((0.5, 0.5))
        == session.decide(Verdict.TIE)
        == RefusedAction(RefusalReason.SENT)
    )
    assert session.skip() == RefusedAction(RefusalReason.SENT_ALREADY)
    assert session.revise() is None
    assert session.revise() == RefusedAction(RefusalReason.NOT_SENT)
    assert session.decide(Verdict.TIE) is None
    assert (await session.send()).judgment.revision == 1
    await session.desk.close(session.item)


async def test_a_missing_rationale_is_refused_where_the_study_asks_for_one(begun):
    session = await begun(require_rationale=True)
    read_all(session)
    session.believe((0.2, 0.8))
    assert session.missing(need_rationale=False) is None
    assert (await session.send()).words == (
        "This study asks for a rationale: say in a sentence why."
    )
    session.say_why("The log says so.")
    assert isinstance(await session.send(), SentJudgment)
    await session.desk.close(session.item)


async def test_whoever_argued_neither_asks_nor_ends_nor_decides_for_the_judge(begun):
    session = await begun()
    read_all(session)
    session.acts.add(DebateActed(step=0, seat="a", act=Act.SPEAK, text="I say so."))
    session.item.live = True
    session.live.wanted = AwaitedAct(step=2, round=1, seat=Seat.JUDGE, act=Act.ASK, may_end=True)
    assert session.argues
    assert session.next() is NextAction.OTHERS
    assert whys(session)[PersonAction.ASK] is RefusalReason.NOT_YOUR_TURN_TO_ASK
    assert whys(session)[PersonAction.END] is RefusalReason.CANNOT_END
    assert whys(session)[PersonAction.SEND] is RefusalReason.ARGUED
    assert (
        session.speak("What did you see?", PersonAction.ASK).why
        is RefusalReason.NOT_YOUR_TURN_TO_ASK
    )
    await session.desk.close(session.item)


async def test_a_judge_may_ask_and_end_where_the_debate_waits_for_that(begun):
    session = await begun()
    read_all(session)
    session.item.live = True
    session.live.wanted = AwaitedAct(step=2, round=1, seat=Seat.JUDGE, act=Act.ASK, may_end=True)
    assert session.next() is NextAction.ACT
    assert whys(session)[PersonAction.ASK] is None
    assert whys(session)[PersonAction.END] is None
    assert whys(session)[PersonAction.SAY] is RefusalReason.NOT_YOUR_TURN
    assert whys(session)[PersonAction.SEND] is RefusalReason.GOING_ON
    await session.desk.close(session.item)
