"""Chains of self-critique and models' comparisons, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oversight import protocols
from oversight.types import (
    Act,
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    Defect,
    Feedback,
    JudgeKind,
    ModelAnswer,
    Orders,
    Outcome,
    OutcomeStatus,
    PrinciplesApplied,
    Question,
    Role,
    Seat,
    SoftAnswer,
    Task,
    Transcript,
    Turn,
    Verdict,
)
from oversight.types.ratings import PREFERENCES, item_id

RATER = AgentSpec(agent="rater")


def under(
    *ids: str, words: str = "Be {id}.", question: str = "", violated: Sequence[str] = ()
) -> PrinciplesApplied:
    """Principles of these ids, whose texts, and questions if any, hold the id."""
    return PrinciplesApplied(
        constitution="made",
        fingerprint="f",
        principles={id_: words.replace("{id}", id_) for id_ in ids},
        requests={id_: question.replace("{id}", id_) for id_ in ids} if question else {},
        violated=tuple(violated),
    )


Round = tuple[Sequence[str], str | None]
"""Principles of a critique, and the answer after it; None where it found no fault."""


def chain(
    question: Question | str,
    first: str,
    *rounds: Round,
    seed: int = 0,
    without: Sequence[str] = (),
    defects: dict[int, tuple[Defect, ...]] | None = None,
    protocol: str = "constitutional",
    responder: str = "responder",
    violated: Sequence[str] = (),
) -> Transcript:
    """A first answer, and for each round a critique by principles and the answer after it.

    With `violated` each principle was asked about apart, and these found a fault.
    """
    if isinstance(question, str):
        question = Question(id=question, dataset="asked", text=f"{question}?")
    critic: dict[str, Any] = {"without": list(without)} if without else {}
    debate = Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=protocols.load(protocol),
        agents={
            Role.RESPONDER: AgentSpec(agent=responder),
            Role.CRITIC: AgentSpec(agent="critic", settings=critic),
        },
        orders=Orders(options=(), defends=(), shown=()),
        seed=seed,
    )
    turns: list[Turn] = []

    def say(seat: Seat, role: Role, act: Act, text: str, **more: Any) -> None:
        place = len(turns)
        turns.append(
            Turn(
                debate_id=debate.id, step=place, round=(place + 1) // 2, seat=seat, role=role,
                act=act, text=text, **more,
            )
        )  # fmt: skip

    say(Seat.A, Role.RESPONDER, Act.RESPOND, first)
    for number, (ids, answer) in enumerate(rounds):
        clean = answer is None
        by = under(*ids, violated=violated) if ids else None
        say(Seat.B, Role.CRITIC, Act.CRITIQUE, "words", under=by, unchanged=clean, ends=clean)
        if answer is not None:
            before = turns[-2].text
            faults = (defects or {}).get(number, ())
            say(
                Seat.A, Role.RESPONDER, Act.REVISE, answer, under=by, defects=faults,
                unchanged=answer == before,
            )  # fmt: skip
    done = Outcome(debate_id=debate.id, status=OutcomeStatus.COMPLETE)
    return Transcript(debate, question, tuple(turns), outcome=done)


def preferred(
    debate_id: str,
    pair: tuple[str, str],
    by: PrinciplesApplied | None,
    p_first: float | None,
    *,
    swapped: bool = False,
    rater: AgentSpec = RATER,
) -> Feedback:
    """A model's comparison of a pair: its probability that what it was shown first is better."""
    shown = pair[::-1] if swapped else pair
    belief = (
        Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED)
        if p_first is None
        else Belief(
            verdict=Verdict.TIE if p_first == 0.5 else Verdict.DECIDED,
            method=BeliefMethod.PARSED,
            probs=(p_first, 1.0 - p_first),
        )
    )
    answer = SoftAnswer(values=PREFERENCES, listing=(0, 1), belief=belief)
    return Feedback(
        debate_id=debate_id,
        item=item_id(Task.PAIRS, pair),
        turn_ids=shown,
        judge=f"{rater.agent} (made)",
        kind=JudgeKind.MODEL,
        agent=rater,
        under=by,
        swapped=swapped,
        answer=ModelAnswer(task=Task.PAIRS, answers={"preferred": answer}),
    )
