"""Answers to open prompts are asked about in words of their own: no speech, no right answer."""

from __future__ import annotations

from oversight import protocols
from oversight.tui.linear.queues import rate_linear
from oversight.types import (
    Act,
    AgentSpec,
    Debate,
    Orders,
    Outcome,
    OutcomeStatus,
    Question,
    Role,
    Seat,
    Task,
)

PLACES = (
    (Seat.A, Role.RESPONDER, Act.RESPOND, "Hit it."),
    (Seat.B, Role.CRITIC, Act.CRITIQUE, "That breaks it."),
    (Seat.A, Role.RESPONDER, Act.REVISE, "Warm the lid, then turn."),
)


def begin(records, protocol: str) -> Debate:
    question = Question(id="jar", dataset="house", text="How do I open a jar?")
    debate = Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=protocols.load(protocol),
        agents={
            Role.RESPONDER: AgentSpec(agent="responder"),
            Role.CRITIC: AgentSpec(agent="critic"),
        },
        orders=Orders(options=(), defends=(), shown=(Seat.A, Seat.B)),
        seed=0,
    )
    records.store.add(question, debate)
    return debate


def end(records, debate: Debate) -> None:
    records.store.add(Outcome(debate_id=debate.id, status=OutcomeStatus.COMPLETE))


def add_revision(records) -> None:
    debate = begin(records, "self_critique")
    for step, (seat, role, act, text) in enumerate(PLACES):
        records._turn(debate, text, step, seat=seat, role=role, act=act)
    end(records, debate)


def add_pair(records) -> None:
    debate = begin(records, "self_critique_best_of_n")
    for number, (_, role, act, _) in enumerate(PLACES[:1] * 2):
        records._turn(
            debate, f"Answer {number}.", candidate=number, chosen=number == 0, role=role, act=act
        )
    end(records, debate)


async def said_in_lines(records, task: Task) -> str:
    written: list[str] = []
    lines = iter(["1", "3", "quit"])
    await rate_linear(records.desk(task), read=lambda _: next(lines), write=written.append)
    return "\n".join(written)


async def test_a_revision_of_a_response_is_compared_with_the_first_response(records, rating):
    add_revision(records)
    async with rating(Task.REVISIONS) as screen:
        await screen.press("enter")
        await screen.see("Is the revision better than the first response?", "First response")
        await screen.press("1", "right")
        await screen.see("The revision is better than the first response.")
        assert "speech" not in screen.text


async def test_plain_lines_ask_about_the_first_response(records):
    add_revision(records)
    said = await said_in_lines(records, Task.REVISIONS)
    assert "Is the criticism right? Is the revision better than the first response?" in said
    assert "The revision is better than the first response. An empty line" in said
    assert "speech" not in said


async def test_of_two_responses_to_an_open_prompt_no_right_answer_is_asked_for(records, rating):
    add_pair(records)
    async with rating(Task.PAIRS) as screen:
        await screen.press("enter")
        await screen.see("Which of the two is the better response?")
        assert "right answer" not in screen.text


async def test_plain_lines_say_by_what_two_speeches_are_compared(records):
    records.best_of()
    said = await said_in_lines(records, Task.PAIRS)
    assert "Which of the two would help a judge more to find the right answer?" in said
