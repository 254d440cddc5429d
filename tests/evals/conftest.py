"""Judged debates made by hand and by a seeded simulation."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from oversight.types import (
    Act,
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    JudgeKind,
    Judgment,
    Option,
    Orders,
    OversightProtocol,
    Question,
    Quote,
    QuoteStatus,
    Role,
    Seat,
    Slot,
    Source,
    Step,
    Transcript,
    Turn,
    Verdict,
)

BELIEVE = Step(slots=(Slot(seat=Seat.JUDGE, act=Act.BELIEVE),))


def protocol(name: str, seats: Sequence[Seat], rounds: int = 3, **changes) -> OversightProtocol:
    """A protocol in which `seats` speak at once and the judge then gives a belief."""
    if not seats:
        return OversightProtocol(name=name, graph="direct_qa", **changes)
    speak = Step(slots=tuple(Slot(seat=seat) for seat in seats))
    return OversightProtocol(
        name=name, graph=name, round=(speak, BELIEVE), rounds=rounds, **changes
    )


DEBATE = protocol("debate", (Seat.A, Seat.B))
CONSULTANCY = protocol("consultancy", (Seat.A,))
NAIVE = protocol("naive", ())
EXPERT = protocol("expert", (), judge_sees_source=True)


def believe(p: float | None, verdict: Verdict | None = None) -> Belief:
    """Belief `p` in option 0 of two; None is an answer that could not be read."""
    if p is None:
        return Belief(verdict=verdict or Verdict.INVALID, method=BeliefMethod.PARSED)
    found = Verdict.TIE if p == 0.5 else Verdict.DECIDED
    return Belief(verdict=verdict or found, method=BeliefMethod.PARSED, probs=(p, 1.0 - p))


def make(
    p: float | Belief | None,
    *,
    protocol: OversightProtocol = DEBATE,
    swapped: float | Belief | None = "none",  # type: ignore[assignment]  # not given
    question: str = "q",
    dataset: str = "made",
    family: str = "",
    cluster: str = "",
    correct: int | None = 0,
    defends: tuple[int, ...] = (0, 1),
    options: tuple[int, ...] = (0, 1),
    shown: tuple[Seat, ...] = (Seat.A, Seat.B),
    path: Sequence[float | None] = (),
    judge: str = "judge",
    more_judges: dict[str, float | None] | None = None,
    quotes: dict[Seat, Sequence[QuoteStatus]] | None = None,
    speaker: str = "retrieval",
    seed: int = 0,
) -> Transcript:
    """One judged debate; `p` is the final belief in option 0."""
    asked = Question(
        id=question,
        dataset=dataset,
        text="Where is the key?",
        options=(Option(text="kitchen"), Option(text="attic")),
        correct=correct,
        source=Source(text="The key was in the kitchen."),
        meta={k: v for k, v in (("family", family), ("cluster", cluster)) if v},
    )
    debate = Debate(
        question_id=question,
        question_fingerprint=asked.fingerprint,
        protocol=protocol,
        agents={
            Role.JUDGE: AgentSpec(agent=judge),
            protocol.speaker_role: AgentSpec(agent=speaker),
        },
        orders=Orders(options=options, defends=defends, shown=shown),
        seed=seed,
    )
    steps = [step.index for step in protocol.schedule() if step.slots[0].seat is Seat.JUDGE]
    beliefs = tuple((step, believe(q)) for step, q in zip(steps, path, strict=False))
    finals = [(judge, False, p)] + ([] if swapped == "none" else [(judge, True, swapped)])
    finals += [(name, False, other) for name, other in (more_judges or {}).items()]
    judgments = tuple(
        Judgment(
            debate_id=debate.id,
            judge=name,
            kind=JudgeKind.MODEL,
            orders=debate.orders.swapped(listing=not protocol.speakers)
            if other_way
            else debate.orders,
            swapped=other_way,
            trajectory=beliefs,
            final=final if isinstance(final, Belief) else believe(final),
        )
        for name, other_way, final in finals
    )
    return Transcript(debate, asked, tuple(_turns(debate, quotes or {})), judgments)


def _turns(debate: Debate, quotes: dict[Seat, Sequence[QuoteStatus]]) -> list[Turn]:
    return [
        Turn(
            debate_id=debate.id,
            step=step.index,
            round=step.round,
            seat=slot.seat,
            role=debate.protocol.role_of(slot),
            act=slot.act,
            text="words",
            quotes=tuple(
                Quote(start=0, end=1, text="w", status=status)
                for status in quotes.get(slot.seat, ())
            ),
        )
        for step in debate.protocol.schedule()
        for slot in step.slots
        if slot.act.is_spoken
    ]


def simulate(
    num_questions: int, protocol: OversightProtocol, skill: float, seed: int = 0, **changes
) -> list[Transcript]:
    """Debates whose judge is right about as often as `skill`; questions differ in difficulty."""
    rng = random.Random(f"{seed}/{protocol.name}/{skill}")
    made = []
    for number in range(num_questions):
        hardness = random.Random(f"{seed}/{number}").gauss(0, 0.12)
        correct = rng.randrange(2)
        first = rng.randrange(2)
        right = rng.random() < min(max(skill + hardness, 0.02), 0.98)
        confidence = min(0.99, 0.55 + 0.4 * rng.random())
        p_right = confidence if right else 1.0 - confidence
        target = p_right if correct == 0 else 1.0 - p_right
        path = [0.5 + (target - 0.5) * share for share in (0.3, 0.6, 0.9)]
        seats = protocol.speakers
        statuses = (QuoteStatus.VERIFIED,) * 3 + (QuoteStatus.NEAR, QuoteStatus.UNVERIFIED)
        made.append(
            make(
                target if rng.random() > 0.03 else None,
                protocol=protocol,
                question=f"q{number}",
                correct=correct,
                defends=(first, 1 - first)[: max(len(seats), 0)] or (0, 1),
                options=rng.choice([(0, 1), (1, 0)]),
                path=path if seats else (),
                quotes={seat: [rng.choice(statuses)] for seat in seats},
                seed=seed,
                **changes,
            )
        )
    return made


@pytest.fixture(scope="session")
def judged() -> Callable[..., Transcript]:
    return make


@pytest.fixture(scope="session")
def simulated() -> Callable[..., list[Transcript]]:
    return simulate


@pytest.fixture(scope="session")
def protocols() -> dict[str, OversightProtocol]:
    return {each.name: each for each in (DEBATE, CONSULTANCY, NAIVE, EXPERT)}


@pytest.fixture(scope="session")
def belief() -> Callable[..., Belief]:
    return believe
