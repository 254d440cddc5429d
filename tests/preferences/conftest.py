"""Judged debates made by hand, and the prompts that their samples answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from oversight.preferences.building import preferences
from oversight.preferences.settings import Dropped, PreferenceSettings
from oversight.types import (
    Act,
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    FinishReason,
    JudgeKind,
    Judgment,
    Message,
    Option,
    Orders,
    OversightProtocol,
    Prompt,
    PromptRecord,
    Purpose,
    Question,
    Role,
    Sample,
    Seat,
    Slot,
    Source,
    Step,
    Transcript,
    Turn,
    Usage,
    Verdict,
)

PROMPTS = {
    name: PromptRecord(
        Prompt(messages=(Message(role="user", parts=("The source.\n", f"Argue {name}.")),)),
        token_ids=(1, 2, index),
    )
    for index, name in enumerate(("same", "other"))
}
SIMULTANEOUS = Step(slots=(Slot(seat=Seat.A), Slot(seat=Seat.B)))
SEQUENTIAL = (Step(slots=(Slot(seat=Seat.A),)), Step(slots=(Slot(seat=Seat.B),)))


def belief(p: float | None, verdict: Verdict | None = None) -> Belief:
    """Belief `p` in option 0 of two; None is an answer that could not be read."""
    if p is None:
        return Belief(verdict=verdict or Verdict.INVALID, method=BeliefMethod.PARSED)
    tied = Verdict.TIE if p == 0.5 else Verdict.DECIDED
    return Belief(verdict=verdict or tied, method=BeliefMethod.PARSED, probs=(p, 1.0 - p))


def sample(text: str, prompt: str = "same", **changes: object) -> Sample:
    """A sampled speech with token ids and log-probabilities that belong to its text."""
    made = Sample(
        purpose=Purpose.SPEECH,
        engine="scripted",
        model="script",
        prompt_id=PROMPTS[prompt].prompt.id,
        text=text,
        token_ids=tuple(text.encode("utf-8", "replace")),
        logprobs=tuple(-0.5 for _ in text.encode("utf-8", "replace")),
        finish_reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=len(PROMPTS[prompt].token_ids)),
    )
    return made.model_copy(update=changes)


class Builder:
    """Makes one debate; every argument has a default that a test need not mention."""

    def __init__(
        self,
        *,
        defends: tuple[int, int] = (0, 1),
        options: tuple[int, ...] = (0, 1),
        steps: Sequence[Step] = (SIMULTANEOUS,),
        arguments: tuple[str | None, str | None] = (None, None),
        correct: int | None = 0,
        source: str | None = "The key was in the kitchen.",
        seed: int = 0,
    ) -> None:
        self.question = Question(
            id="q",
            dataset="made",
            text="Where is the key?",
            options=(
                Option(text="kitchen", argument=arguments[0]),
                Option(text="attic", argument=arguments[1]),
            ),
            correct=correct,
            source=Source(text=source) if source else None,
        )
        self.debate = Debate(
            question_id="q",
            question_fingerprint=self.question.fingerprint,
            protocol=OversightProtocol(name="debate", graph="debate", opening=tuple(steps)),
            agents={Role.JUDGE: AgentSpec(agent="judge"), Role.DEBATER: AgentSpec(agent="debater")},
            orders=Orders(options=options, defends=defends, shown=(Seat.A, Seat.B)),
            seed=seed,
        )
        self.turns: list[Turn] = []
        self.judgments: list[Judgment] = []

    def say(
        self,
        seat: Seat,
        text: str,
        *samples: Sample,
        step: int = 0,
        candidate: int = 0,
        chosen: bool = True,
        score: float | None = None,
        act: Act = Act.SPEAK,
    ) -> Builder:
        """Add a speech of `seat`, or what it says in another act."""
        self.turns.append(
            Turn(
                debate_id=self.debate.id,
                step=step,
                round=0,
                seat=seat,
                role=Role.DEBATER,
                act=act,
                text=text,
                samples=samples,
                candidate=candidate,
                chosen=chosen,
                score=score,
            )
        )
        return self

    def judge(
        self,
        final: Belief,
        *,
        name: str = "judge",
        swapped: bool = False,
        revision: int = 0,
        trajectory: tuple[tuple[int, Belief], ...] = (),
        informed: bool = False,
    ) -> Builder:
        """Add a judgment."""
        orders = self.debate.orders
        self.judgments.append(
            Judgment(
                debate_id=self.debate.id,
                judge=name,
                kind=JudgeKind.MODEL,
                orders=orders.swapped() if swapped else orders,
                swapped=swapped,
                informed=informed,
                revision=revision,
                trajectory=trajectory,
                final=final,
            )
        )
        return self

    def build(self) -> Transcript:
        """The transcript."""
        turns = sorted(self.turns, key=lambda t: (t.step, t.seat, t.candidate))
        return Transcript(self.debate, self.question, tuple(turns), tuple(self.judgments))


@pytest.fixture(scope="session")
def debate() -> type[Builder]:
    return Builder


@pytest.fixture(scope="session")
def beliefs() -> Callable[..., Belief]:
    return belief


@pytest.fixture(scope="session")
def sampled() -> Callable[..., Sample]:
    return sample


@pytest.fixture(scope="session")
def prompt_of() -> Callable[..., PromptRecord]:
    by_id = {record.prompt.id: record for record in PROMPTS.values()}

    def prompt(prompt_id: str, *, num_tokens: int | None = None) -> PromptRecord:
        found = by_id[prompt_id]
        if num_tokens == 0:
            return PromptRecord(found.prompt)
        assert num_tokens in (None, len(found.token_ids))
        return found

    return prompt


@pytest.fixture(scope="session")
def sequential() -> tuple[Step, Step]:
    return SEQUENTIAL


RATED = ("pairs", "principles", "revisions")


@pytest.fixture
def rows(prompt_of):
    def run(transcript, *ratings, **settings):
        dropped = Dropped()
        rated = replace(transcript, ratings=ratings)
        given = PreferenceSettings(**({"kinds": RATED} | settings))
        return list(preferences([rated], given, prompt_of, dropped)), dropped

    return run


@pytest.fixture
def candidates(debate, sampled):
    """A transcript with candidates of one turn, and their turns."""

    def make(*texts, prompts=None):
        made = debate()
        for number, text in enumerate(texts):
            prompt = (prompts or ["same"] * len(texts))[number]
            made.say(Seat.A, text, sampled(text, prompt), candidate=number, chosen=number == 0)
        transcript = made.build()
        return transcript, transcript.turns

    return make


@pytest.fixture
def revised(debate, sampled):
    def make(**changes):
        made = debate().say(Seat.A, "first", sampled("first"), step=0)
        made.say(Seat.B, "wrong", sampled("wrong", "other"), step=1, act=Act.CRITIQUE)
        made.say(Seat.A, "again", sampled("again", "other", **changes), step=2, act=Act.REVISE)
        transcript = made.build()
        return transcript, transcript.turns

    return make
