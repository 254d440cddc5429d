"""From sliders and acts to the judgment that is recorded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.errors import ProtocolError
from oversight.judging.tasks.debate import belief_of, coupled, judgment_of, missing, stated
from oversight.judging.work import JudgingWork, JudgmentDraft, fold
from oversight.types import EventKind, JudgeKind, Judgment, Verdict

sliders = st.integers(2, 6).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(st.tuples(st.integers(0, n - 1), st.floats(-1, 2)), min_size=1, max_size=8),
    )
)


@given(sliders)
def test_sliders_give_whole_percents_from_1_to_99_that_sum_to_1(moved: Any) -> None:
    num_options, moves = moved
    probs = None
    for index, value in moves:
        probs = coupled(probs, num_options, index, value)
        percents = [round(p * 100) for p in probs]
        assert probs == tuple(percent / 100 for percent in percents)
        assert sum(percents) == 100
        assert all(1 <= percent <= 99 for percent in percents)
        most = 100 - (num_options - 1)
        assert percents[index] == max(1, min(most, round(value * 100)))
        stated(probs)  # a belief that the records take


@given(sliders, st.integers(0, 100), st.integers(0, 100))
def test_a_slider_that_goes_up_takes_from_the_others(moved: Any, one: int, two: int) -> None:
    num_options, moves = moved
    probs = None
    for index, value in moves:
        probs = coupled(probs, num_options, index, value)
    low, high = sorted([one, two])
    less = coupled(probs, num_options, 0, low / 100)
    more = coupled(probs, num_options, 0, high / 100)
    assert more[0] >= less[0]
    # A percent that is rounded the other way is all that another option may gain.
    assert all(high <= low + 0.0101 for high, low in zip(more[1:], less[1:], strict=True))


@given(sliders)
def test_a_slider_that_is_set_where_it_stands_changes_nothing(moved: Any) -> None:
    num_options, moves = moved
    probs = None
    for index, value in moves:
        probs = coupled(probs, num_options, index, value)
    assert probs is not None
    for index, value in enumerate(probs):
        assert coupled(probs, num_options, index, value) == probs


def test_the_other_options_keep_their_proportions() -> None:
    assert coupled(None, 2, 0, 0.7) == (0.7, 0.3)
    assert coupled((0.5, 0.4, 0.1), 3, 0, 0.75) == (0.75, 0.2, 0.05)
    assert coupled((0.98, 0.01, 0.01), 3, 0, 0.4) == (0.4, 0.3, 0.3)
    assert coupled((0.01, 0.5, 0.49), 3, 0, 1.0) == (0.98, 0.01, 0.01)


def test_what_is_missing_is_said() -> None:
    assert "how probable" in (missing(JudgingWork()) or "")
    even = JudgingWork(draft=JudgmentDraft(beliefs={0: (0.5, 0.5)}))
    assert "equally probable" in (missing(even) or "")
    sure = JudgmentDraft(beliefs={0: (0.7, 0.3)})
    assert missing(JudgingWork(draft=sure)) is None
    assert missing(JudgingWork(draft=JudgmentDraft(verdict=Verdict.TIE))) is None
    assert missing(JudgingWork(draft=JudgmentDraft(verdict=Verdict.ABSTAIN))) is None
    assert "rationale" in (missing(JudgingWork(draft=sure), need_rationale=True) or "")
    blank = JudgmentDraft(beliefs={0: (0.7, 0.3)}, rationale=" \n")
    assert "rationale" in (missing(JudgingWork(draft=blank), need_rationale=True) or "")
    said = JudgmentDraft(verdict=Verdict.TIE, rationale="No evidence.")
    assert missing(JudgingWork(draft=said), need_rationale=True) is None


def test_more_than_two_options_that_are_equal_at_the_top_are_said_so_in_words_that_fit() -> None:
    three = JudgingWork(draft=JudgmentDraft(beliefs={0: (0.34, 0.33, 0.33)}))
    assert missing(three) is None
    even = missing(JudgingWork(draft=JudgmentDraft(beliefs={0: (0.4, 0.4, 0.2)}))) or ""
    assert "equally probable" in even
    assert "Both" not in even


def test_decided_tied_and_abstained() -> None:
    draft = JudgmentDraft(beliefs={0: (0.2, 0.8)})
    assert belief_of(draft, 2).choice == 1
    tie = belief_of(JudgmentDraft(beliefs={0: (0.2, 0.8)}, verdict=Verdict.TIE), 2)
    assert (tie.verdict, tie.probs, tie.choice) == (Verdict.TIE, (0.5, 0.5), None)
    unsure = belief_of(JudgmentDraft(verdict=Verdict.ABSTAIN), 2)
    assert (unsure.verdict, unsure.probs) == (Verdict.ABSTAIN, None)
    assert stated((0.5, 0.5)).verdict is Verdict.TIE
    with pytest.raises(ProtocolError, match="give one first"):
        belief_of(JudgmentDraft(), 2)


def test_a_judgment_carries_all_that_was_done(finished_store: Any, make_event: Any) -> None:
    [debate_id] = finished_store.store.debate_ids()
    debate = finished_store.store.debate(debate_id)
    work = fold(
        [
            make_event(EventKind.OPENED, swapped=True, arm="critic", study="pilot"),
            make_event(EventKind.BELIEF, step=2, probs=[0.3, 0.7]),
            make_event(EventKind.BELIEF, step=0, probs=[0.6, 0.4]),
            make_event(EventKind.RATIONALE, text="The quote."),
            make_event(EventKind.LEANED, turn="t1", quote=1, on=True),
            make_event(EventKind.ASKED, number=0, kind="critic", request="critique"),
            make_event(EventKind.ASSISTED, number=0, kind="critic", text="x", shown_at="12:00"),
            make_event(EventKind.ASKED, number=1, kind="critic", request="critique"),
            make_event(EventKind.ASSISTED, number=1, kind="critic", text="y", shown_at="12:01"),
            make_event(EventKind.ASKED, number=2, kind="full", request="cruxes"),
            make_event(EventKind.ASSISTED, number=2, kind="full", text="", error="gone"),
            make_event(EventKind.ATTENTION, panels={"transcript": 12.5, "quotes": 1.25}),
            make_event(EventKind.ATTENTION, panels={"transcript": 2.0}),
            make_event(EventKind.SENT, revision=0),
            make_event(EventKind.REOPENED),
            make_event(EventKind.BELIEF, step=2, probs=[0.2, 0.8]),
        ]
    )
    judgment = judgment_of(work, debate, "anna")
    assert judgment.debate_id == debate_id
    assert (judgment.judge, judgment.kind, judgment.revision) == ("anna", JudgeKind.HUMAN, 1)
    assert [(step, b.probs) for step, b in judgment.trajectory] == [
        (0, (0.6, 0.4)),
        (2, (0.2, 0.8)),
    ]
    assert judgment.final.probs == (0.2, 0.8)
    assert judgment.rationale == "The quote."
    assert judgment.leaned_on == (("t1", 1),)
    assert judgment.assistance == ("critic: critique",)  # shown twice; the one that failed was not
    assert (judgment.arm, judgment.study) == ("critic", "pilot")
    assert judgment.active_s == 15.75
    assert judgment.swapped
    assert judgment.orders.shown == tuple(reversed(debate.orders.shown))
    assert judgment.orders.options == debate.orders.options
    assert judgment.sent_at
    assert Judgment.model_validate_json(judgment.model_dump_json()) == judgment
