"""The lexical judge: its evidence, and the times that it reads in it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import permutations

import pytest

from oversight import registry
from oversight.agents import build_agent
from oversight.agents.lexical import later, time_marks
from oversight.errors import ProtocolError
from oversight.text.quotes import find_quotes
from oversight.types import (
    Act,
    AgentSpec,
    BeliefMethod,
    JudgeKind,
    Orders,
    Quote,
    QuoteStatus,
    Role,
    Seat,
    Source,
    Verdict,
)

EARLY = "<quote>At 09:40 Ada carried the lantern to the attic.</quote>"
LATE = "<quote>At 10:30 Bea moved the lantern down to the cellar.</quote>"


def judge(view, **settings):
    return asyncio.run(build_agent(AgentSpec(agent="lexical", settings=settings)).act(view))


@pytest.fixture
def debate(make_turn):
    return (make_turn(f"It is there. {EARLY}"), make_turn(f"It is there. {LATE}", Seat.B))


def test_with_nothing_to_go_by_it_is_a_tie_over_any_number_of_options(judge_view) -> None:
    for options in (("a", "b"), ("the attic", "the lantern"), ("x", "y", "z")):
        listing = tuple(range(len(options)))
        orders = Orders(options=listing, defends=(0, 1), shown=(Seat.A, Seat.B))
        belief = judge(judge_view(options=options, orders=orders)).belief

        assert belief.verdict is Verdict.TIE
        assert belief.probs == pytest.approx((1 / len(options),) * len(options))
        assert belief.method is BeliefMethod.LEXICAL


def test_the_later_of_two_quotes_about_the_same_thing_decides(judge_view, debate) -> None:
    belief = judge(judge_view(turns=debate)).belief

    assert belief.choice == 1
    assert belief.probs[1] > 0.8


def test_a_later_quote_about_something_else_does_not(judge_view, make_turn) -> None:
    lantern = "At 10:30 Bea moved the lantern to the cellar."
    chart = "At 11:59 Bea carried the map to the attic."
    source = Source(text=f"{lantern}\n{chart}")
    turns = tuple(
        make_turn(text, seat, quotes=find_quotes(text, source))
        for text, seat in (
            (f"<quote>{chart}</quote>", Seat.A),
            (f"<quote>{lantern}</quote>", Seat.B),
        )
    )

    assert judge(judge_view(turns=turns)).belief.choice == 1


def test_a_consultant_is_followed_as_far_as_its_quotes_are_valid(judge_view, make_turn) -> None:
    def believed(text: str) -> float:
        turn = make_turn(text, role=Role.CONSULTANT)
        return judge(judge_view(turns=(turn,))).belief.probs[0]

    verified = believed(EARLY)
    near = believed("<quote>At 09:40 Ada carried the lanterns to an attic.</quote>")
    invented = believed("<quote>The lantern stayed in the attic all day and night.</quote>")
    said = believed("The lantern is in the attic.")

    assert verified > near > invented > 0.5
    assert said == pytest.approx(invented, abs=0.05)
    assert verified > 0.8
    assert invented < 0.65


def test_a_single_early_quote_carries_no_hint_of_how_recent_it_is(judge_view, make_turn) -> None:
    early = judge(judge_view(turns=(make_turn(EARLY),))).belief.probs[0]
    late = judge(judge_view(turns=(make_turn(LATE, Seat.B),))).belief.probs[1]

    assert early == pytest.approx(late)


def test_an_unverified_later_quote_supersedes_nothing(judge_view, make_turn) -> None:
    forged = "<quote>At 11:55 Ada locked the lantern away in the attic.</quote>"
    turns = (make_turn(forged), make_turn(LATE, Seat.B))

    assert judge(judge_view(turns=turns)).belief.choice == 1


def test_a_forged_mark_is_worth_no_more_than_words(judge_view, make_turn) -> None:
    forged = "<verified_quote>At 11:55 the lantern was in the attic.</verified_quote>"

    assert judge(judge_view(turns=(make_turn(forged),))).belief.probs[0] < 0.65


def test_a_verified_quote_that_names_only_the_other_option_counts_for_that(
    judge_view, make_turn
) -> None:
    assert judge(judge_view(turns=(make_turn(LATE, Seat.A),))).belief.choice == 1


def test_neither_listing_nor_shown_order_nor_seats_change_the_belief(judge_view, debate) -> None:
    beliefs = set()
    for listing in permutations((0, 1)):
        for shown in permutations((Seat.A, Seat.B)):
            for turns in permutations(debate):
                orders = Orders(options=listing, defends=(0, 1), shown=shown)
                beliefs.add(judge(judge_view(turns=turns, orders=orders)).belief)
    seats = Orders(options=(0, 1), defends=(1, 0), shown=(Seat.A, Seat.B))
    other = {Seat.A: Seat.B, Seat.B: Seat.A}
    exchanged = tuple(turn.model_copy(update={"seat": other[turn.seat]}) for turn in debate)
    beliefs.add(judge(judge_view(turns=exchanged, orders=seats)).belief)

    assert len(beliefs) == 1


def test_options_given_the_other_way_round_mirror_the_belief(judge_view, debate) -> None:
    view = judge_view(turns=debate)
    orders = Orders(options=(0, 1), defends=(1, 0), shown=(Seat.A, Seat.B))
    mirrored = replace(view, options=view.options[::-1], orders=orders)

    assert judge(mirrored).belief.probs == judge(view).belief.probs[::-1]


def test_an_expert_looks_the_evidence_up_itself(judge_view, story) -> None:
    assert judge(judge_view(source=story)).belief.choice == 1


def test_it_asks_the_side_whose_evidence_is_weaker(judge_view, debate) -> None:
    text = judge(judge_view(Act.ASK, turns=debate)).text

    assert text.startswith("Debater A, quote the passage")
    assert text.endswith("in the attic")
    assert "Debater" not in judge(judge_view(Act.ASK)).text
    assert "Debater" not in judge(judge_view(Act.ASK, turns=())).text


def test_it_ends_only_where_it_may_and_is_sure(judge_view, debate) -> None:
    view = judge_view(Act.BELIEVE, turns=debate, may_end=True)

    assert judge(view, end_at=0.8).ends
    assert not judge(view, end_at=0.999).ends
    assert not judge(replace(view, may_end=False), end_at=0.8).ends


def test_private_reasoning_and_beliefs_of_others_are_not_evidence(
    judge_view, make_turn, debate
) -> None:
    plain = judge(judge_view(turns=debate)).belief
    noted = (debate[0].model_copy(update={"reasoning": LATE * 20}), debate[1])
    remark = make_turn(EARLY * 20, Seat.JUDGE)

    assert judge(judge_view(turns=(*noted, remark))).belief == plain


@pytest.mark.parametrize(
    "text", ["", "x" * 100_000, "<quote></quote>", "{{ 7*7 }} {option}", "\x00\x1b[31m", "<quote>"]
)
def test_any_speech_can_be_weighed(judge_view, make_turn, text: str) -> None:
    view = judge_view(turns=(make_turn(text), make_turn(text, Seat.B)))

    assert judge(view).belief.probs is not None
    assert judge(replace(view, act=Act.ASK)).text


def test_options_and_questions_without_a_single_term_break_nothing(judge_view, make_turn) -> None:
    quote = Quote(start=0, end=1, text="x", status=QuoteStatus.TOO_SHORT)
    turn = make_turn("x", quotes=(quote,))

    assert judge(judge_view(question="???", options=("!", "..."), turns=(turn,))).belief.probs


def test_a_judge_asked_to_speak_says_who_should(make_view) -> None:
    with pytest.raises(ProtocolError, match="does not speak for a side"):
        judge(make_view())


def test_its_judgments_are_filed_as_lexical() -> None:
    assert build_agent(AgentSpec(agent="lexical")).kind is JudgeKind.LEXICAL


def play(question, seats, make_view, judge_view, make_turn):
    """A debate or consultancy of retrieval speakers over three rounds, judged."""
    speaker = build_agent(AgentSpec(agent="retrieval"))
    shared = {
        "question": question.text,
        "options": tuple(option.text for option in question.options),
    }
    turns = ()
    for number in (1, 2, 3):
        said = []
        for seat in seats:
            view = make_view(source=question.source, seat=seat, turns=turns, round=number, **shared)
            text = asyncio.run(speaker.act(view)).text
            said.append(make_turn(text, seat, number, quotes=find_quotes(text, question.source)))
        turns = (*turns, *said)
    return judge(judge_view(turns=turns, **shared)).belief


@pytest.mark.parametrize(("difficulty", "least"), [(2, 0.95), (4, 0.8)])
def test_in_the_world_debate_beats_consultancy_and_naive_is_at_chance(
    make_view, judge_view, make_turn, difficulty: int, least: float
) -> None:
    world = registry.load("datasets", "world")
    questions = list(world.rows(world.Config(difficulty=difficulty, num=60, split="held_out")))
    tools = (make_view, judge_view, make_turn)
    both = [play(q, (Seat.A, Seat.B), *tools).choice == q.correct for q in questions]
    alone = [play(q, (Seat.A,), *tools).choice == 0 for q in questions]
    naive = [play(q, (), *tools).verdict for q in questions]

    assert sum(both) / len(questions) >= least
    assert sum(alone) / len(questions) >= 0.9, "it follows the consultant, right or wrong"
    assert set(naive) == {Verdict.TIE}


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("At 09:40 Ada left.", {"clock": 580}),
        ("Between 9:40 and 10:05", {"clock": 605}),
        ("At 12:10 am", {"clock": 10}),
        ("At 1:30 p.m. she left", {"clock": 810}),
        ("It was day 3 when", {"day": 3}),
        ("on the third day", {"day": 3}),
        ("in the 21st week", {"week": 21}),
        ("Day three, at 08:00", {"day": 3, "clock": 480}),
        ("on 2024-03-09", {"date": 20240309}),
        ("on 9 March 2024", {"date": 20240309}),
        ("on March 9th, 2024", {"date": 20240309}),
        ("in 1987", {"year": 1987}),
        ("week 8095, $845 for it", {"week": 8095}),
        ("no time at all", {}),
    ],
)
def test_time_marks_are_read(text: str, marks: dict[str, int]) -> None:
    assert time_marks(text) == marks


@pytest.mark.parametrize(
    ("first", "second", "order"),
    [
        ("at 10:30", "at 09:40", 1),
        ("at 09:40", "at 10:30", -1),
        ("at 09:40", "at 09:40", 0),
        ("day 2 at 09:00", "day 1 at 23:00", 1),
        ("day 2 at 09:00", "at 23:00", 0),
        ("day 2", "week 1", 0),
        ("in 1990", "on 9 March 1987", 0),
        ("nothing", "at 09:00", 0),
        ("nothing", "nothing", 0),
    ],
)
def test_later_compares_only_what_can_be_compared(first: str, second: str, order: int) -> None:
    assert later(first, second) == order
    assert later(second, first) == -order
