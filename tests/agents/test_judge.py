from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from oversight import constitutions
from oversight.agents import build_agent
from oversight.errors import NoAnswerError, ProtocolError, UnknownNameError
from oversight.types import (
    Act,
    AgentSpec,
    BeliefMethod,
    JudgeKind,
    Orders,
    Purpose,
    Seat,
    Verdict,
)

TOP = [("A", math.log(0.8)), ("B", math.log(0.1))]
SWAPPED = Orders(options=(1, 0), defends=(0, 1), shown=(Seat.B, Seat.A))


def judge(engine, view, **settings):
    return asyncio.run(build_agent(AgentSpec(agent="judge", settings=settings), engine).act(view))


def test_a_belief_is_read_from_log_probabilities_where_the_engine_gives_them(
    noting, judge_view, completion
) -> None:
    engine = noting(completion("B", top=TOP), choices=True)
    draft = judge(engine, judge_view())

    assert draft.belief.method is BeliefMethod.LOGPROBS
    assert draft.belief.probs == pytest.approx((8 / 9, 1 / 9))
    assert draft.belief.mass == pytest.approx(0.9)
    sampling = engine.requests[0].sampling
    assert sampling.choices == ("A", "B")
    assert sampling.logprobs
    assert sampling.top_logprobs == 20
    assert [s.purpose for s in draft.samples] == [Purpose.BELIEF]


def test_elsewhere_it_is_parsed_from_what_was_written(noting, judge_view) -> None:
    engine = noting("The second quote is later.\nProbability of A: 20%\nProbability of B: 80%")
    draft = judge(engine, judge_view())

    assert draft.belief.method is BeliefMethod.PARSED
    assert draft.belief.probs == pytest.approx((0.2, 0.8))
    assert engine.requests[0].sampling.choices == ()
    assert (
        "Probability of A: NN%\nProbability of B: NN%"
        in engine.requests[0].prompt.chat()[-1]["content"]
    )


@pytest.mark.parametrize("choices", [True, False])
def test_a_judge_that_prefers_one_option_prefers_it_in_either_listing(
    noting, judge_view, completion, choices
) -> None:
    def likes_the_cellar(request):
        """Believes at 0.8 the option whose text is the cellar, wherever it is listed."""
        text = request.prompt.messages[-1].content
        liked, other = ("A", "B") if "A: in the cellar" in text else ("B", "A")
        stated = f"Probability of {liked}: 80%\nProbability of {other}: 20%"
        top = [(liked, math.log(0.8)), (other, math.log(0.2))]
        return completion(stated, request.id, top=top)

    engine = noting(likes_the_cellar, choices=choices)
    as_drawn = judge(engine, judge_view()).belief
    swapped = judge(engine, judge_view(orders=SWAPPED)).belief

    assert as_drawn.probs == pytest.approx((0.2, 0.8))
    assert swapped.probs == pytest.approx(as_drawn.probs)


def test_a_judge_that_always_says_the_first_is_undone_by_the_swap(
    noting, judge_view, completion
) -> None:
    engine = noting(completion("A", top=TOP), choices=True)

    assert judge(engine, judge_view()).belief.choice == 0
    assert judge(engine, judge_view(orders=SWAPPED)).belief.choice == 1


def test_an_unreadable_answer_is_invalid_and_kept(noting, judge_view) -> None:
    draft = judge(noting("Ask me later."), judge_view())

    assert draft.belief.verdict is Verdict.INVALID
    assert draft.belief.raw == draft.samples[0].text == "Ask me later."


def test_a_rationale_is_a_call_of_its_own_before_the_decision(
    noting, judge_view, completion
) -> None:
    def answer(request):
        if request.sampling.choices:
            return completion("A", request.id, top=TOP)
        return " The quotes say so. "

    engine = noting(answer, choices=True)
    draft = judge(engine, judge_view(), rationale=True)
    first, second = (request.prompt.messages for request in engine.requests)

    assert draft.rationale == "The quotes say so."
    assert draft.belief.choice == 0
    assert second[: len(first)] == first
    assert second[2].content == "The quotes say so."
    assert judge(engine, judge_view(Act.BELIEVE), rationale=True).rationale == ""


def test_the_judge_ends_only_where_it_may_and_is_sure(noting, judge_view, completion) -> None:
    sure = completion("A", top=[("A", math.log(0.97)), ("B", math.log(0.03))])
    engine = noting(sure, choices=True)

    assert judge(engine, judge_view(Act.BELIEVE, may_end=True)).ends
    assert not judge(engine, judge_view(Act.BELIEVE)).ends
    assert not judge(engine, judge_view(Act.BELIEVE, may_end=True), end_at=0.99).ends
    unsure = noting(completion("A", top=TOP), choices=True)
    assert not judge(unsure, judge_view(Act.BELIEVE, may_end=True)).ends


def test_a_question_is_public_and_streamed(noting, judge_view) -> None:
    heard: list[str] = []
    draft = judge(noting(" When was that? "), judge_view(Act.ASK, emit=heard.append))

    assert draft.text == "When was that?"
    assert draft.belief is None
    assert "".join(heard) == draft.text
    assert [s.purpose for s in draft.samples] == [Purpose.QUESTION]


def test_the_source_is_in_the_prompt_only_of_a_judge_that_may_see_it(
    noting, judge_view, completion, story
) -> None:
    engine = noting(completion("A", top=TOP), choices=True)
    judge(engine, judge_view())
    judge(engine, judge_view(source=story))
    without, with_source = (str(request.prompt.chat()) for request in engine.requests)

    assert "Ada" not in without
    assert "Ada carried the lantern" in with_source


def test_a_naive_judges_prompt_does_not_say_who_defends_what(
    noting, judge_view, completion
) -> None:
    engine = noting(completion("A", top=TOP), choices=True)
    judge(engine, judge_view())
    other = Orders(options=(0, 1), defends=(1, 0), shown=(Seat.B, Seat.A))
    judge(engine, judge_view(orders=other))

    assert engine.requests[0].prompt == engine.requests[1].prompt


def test_a_constitution_is_read_out_in_the_rules(noting, judge_view, completion) -> None:
    engine = noting(completion("A", top=TOP), choices=True)
    judge(engine, judge_view(), constitution="honest_debate")
    rules = engine.requests[0].prompt.messages[0].content

    for principle in constitutions.load("honest_debate").principles:
        assert principle.text in rules


def test_an_unknown_constitution_fails_when_the_judge_is_built(noting) -> None:
    with pytest.raises(UnknownNameError, match="honest_debate"):
        build_agent(AgentSpec(agent="judge", settings={"constitution": "honest"}), noting())


def test_a_judge_asked_to_speak_says_who_should(noting, make_view) -> None:
    with pytest.raises(ProtocolError, match="does not speak for a side"):
        judge(noting(), make_view())


def test_its_judgments_are_filed_as_a_models(noting) -> None:
    assert build_agent(AgentSpec(agent="judge"), noting()).kind is JudgeKind.MODEL


def test_a_belief_is_read_from_the_answer_and_not_from_the_thought(noting, judge_view) -> None:
    wrote = "Probability of A: 10%\nProbability of B: 90%"
    draft = judge(noting(f"<think>Probability of A: 80%</think>\n{wrote}"), judge_view())

    assert draft.belief.probs == pytest.approx((0.1, 0.9))
    assert draft.belief.raw == wrote
    assert draft.reasoning == "Probability of A: 80%"


def test_a_thought_before_a_question_or_a_rationale_is_not_shown(noting, judge_view) -> None:
    heard: list[str] = []
    wrote = "<think>B is right</think>When was that?"
    asked = judge(noting(wrote), judge_view(Act.ASK, emit=heard.append))
    engine = noting("<think>B is right</think>\nProbability of A: 30%")
    decided = judge(engine, judge_view(Act.DECIDE), rationale=True)

    assert "".join(heard) == asked.text == "When was that?"
    assert decided.rationale == "Probability of A: 30%"
    assert "B is right" not in "".join(m.content for m in engine.requests[1].prompt.messages)
    assert decided.reasoning == "B is right\n\nB is right"


def test_a_judge_that_only_thinks_gave_no_answer(noting, judge_view) -> None:
    with pytest.raises(NoAnswerError, match=r"asked for a belief and said nothing in 3 attempts"):
        judge(noting("<think>Probability of A: 80%"), judge_view())


@pytest.mark.parametrize("rationale", [False, True])
def test_a_letter_in_an_opened_thought_is_no_belief_and_the_judge_writes_it(
    noting, judge_view, completion, caplog, rationale
) -> None:
    def answer(request):
        if request.sampling.choices:
            return replace(completion("B", top=TOP), opened=True)
        return replace(completion("so</think>Probability of A: 80%"), opened=True)

    engine = noting(answer, choices=True)
    agent = build_agent(AgentSpec(agent="judge", settings={"rationale": rationale}), engine)
    first, second = (asyncio.run(agent.act(judge_view(Act.DECIDE))) for _ in range(2))

    assert first.belief == second.belief
    assert first.belief.method is BeliefMethod.PARSED
    assert first.belief.probs == pytest.approx((0.8, 0.2))
    kept = ["reasoning"] * rationale
    assert [s.purpose for s in first.samples] == [*kept, "unanswered", "belief"]
    assert [s.purpose for s in second.samples] == [*kept, "belief"], "asked no letter again"
    assert sum("opens a thought" in record.message for record in caplog.records) == 1
