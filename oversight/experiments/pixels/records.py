"""A game as the project's records (question, debate, turns, judgment, outcome), and back.

The question has ten options, the labels; its source is the image as rows of numbers. Each seat's
first turn in a debate is its commitment, each later one a pixel with its value. `Orders.defends`
names the labels claimed; where nobody commits, the true label and the one that came closest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from oversight.experiments.pixels.game import GameKind, PixelGame, PixelMatch
from oversight.experiments.pixels.judge import NUM_LABELS, Images
from oversight.ids import content_id
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
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    Question,
    Role,
    Seat,
    Slot,
    Source,
    Step,
    Stored,
    Turn,
    Verdict,
)

JUDGE = "sparse"
"""Name of the judge in the records; which one it is stands in its agent's settings."""

GRAPH_OF_FORM = {
    GameKind.DEBATE: "debate",
    GameKind.OPEN: "debate",
    GameKind.ADVISOR: "consultancy",
    GameKind.ALONE: "direct_qa",
}

ABOUT = {
    GameKind.DEBATE: "Both sides claim a label, then show one pixel each in turn.",
    GameKind.OPEN: "Two sides show one pixel each in turn, and commit to no label before.",
    GameKind.ADVISOR: "One side alone shows all pixels, for the label that it defends.",
    GameKind.ALONE: "The judge is shown random pixels, and nobody argues.",
}

SHOWS = re.compile(r"row (\d+), column (\d+): (\d+)")


@dataclass(frozen=True, slots=True)
class Player:
    """The facts of a run that its debates depend on: the judge, and the seed."""

    dataset: str
    pixels: int
    weights: str
    """The judge's fingerprint."""
    seed: int

    def agents(self, match: PixelMatch) -> dict[Role, AgentSpec]:
        """Agents of a match by role."""
        settings: dict[str, Any] = {"pixels": self.pixels, "weights": self.weights}
        judge = AgentSpec(agent=JUDGE, settings=settings)
        if match.form is GameKind.ALONE:
            return {Role.JUDGE: judge}
        skills: dict[str, Any] = {"honest": match.honest.value, "liar": match.liar.value}
        if match.form is GameKind.DEBATE:
            skills["lie"] = match.lie.value
        role = Role.CONSULTANT if match.form is GameKind.ADVISOR else Role.DEBATER
        return {Role.JUDGE: judge, role: AgentSpec(agent=speakers(match), settings=skills)}

    def key(self, question: Question, match: PixelMatch, honest_first: bool) -> str:
        """Key of a game before it is played: of all but the lie, which is a move of it."""
        return _key(
            question.fingerprint,
            protocol(match.form, self.pixels),
            self.agents(match),
            honest_first,
            self.seed,
        )


def speakers(match: PixelMatch) -> str:
    """A short name of who plays, for tables."""
    if match.honest is match.liar:
        name = match.honest.value
    else:
        name = f"{match.honest.value} v {match.liar.value}"
    drawn = match.form is GameKind.DEBATE and match.lie == "drawn" and match.honest == "search"
    return f"{name}, drawn lie" if drawn else name


@lru_cache
def protocol(form: GameKind, pixels: int) -> OversightProtocol:
    """The steps of a game with so many pixels."""
    a, b = Step(slots=(Slot(seat=Seat.A),)), Step(slots=(Slot(seat=Seat.B),))
    both = Step(slots=(Slot(seat=Seat.A), Slot(seat=Seat.B)))
    look = Step(slots=(Slot(seat=Seat.JUDGE, act=Act.ASK),))
    name = f"pixels{pixels}_{form.value}"
    about: dict[str, Any] = {"name": name, "graph": GRAPH_OF_FORM[form], "description": ABOUT[form]}
    if form is GameKind.ALONE:
        return OversightProtocol(**about, opening=(look,))
    if form is GameKind.ADVISOR:
        return OversightProtocol(**about, round=(a,), rounds=pixels)
    opening = (both,) if form is GameKind.DEBATE else ()
    return OversightProtocol(**about, opening=opening, round=(a, b), rounds=pixels // 2)


def key_of(debate: Debate, correct: int | None) -> str:
    """`Player.key` of a game in the store."""
    honest_first = not debate.protocol.speakers or debate.orders.defends[0] == correct
    return _key(
        debate.question_fingerprint, debate.protocol, debate.agents, honest_first, debate.seed
    )


def _key(
    fingerprint: str,
    played: OversightProtocol,
    agents: dict[Role, AgentSpec],
    honest_first: bool,
    seed: int,
) -> str:
    specs = {role.value: spec.model_dump(mode="json") for role, spec in agents.items()}
    return content_id(fingerprint, played.model_dump(mode="json"), specs, honest_first, seed)


def question_of(images: Images, index: int, dataset: str) -> Question:
    """The question which digit an image shows; the image is the source that the players know."""
    rows = images.values[index].reshape(images.side, images.side)
    text = "\n".join(" ".join(str(value) for value in row) for row in rows.tolist())
    name = f"{dataset}:{images.ids[index]}"
    return Question(
        id=name,
        dataset=dataset,
        split="held_out",
        text="Which digit does the image show?",
        options=tuple(Option(text=str(label)) for label in range(NUM_LABELS)),
        correct=int(images.labels[index]),
        source=Source(title=f"Image {images.ids[index]} of {dataset}", text=text),
        meta={"side": images.side, "top": images.top},
    )


def records(game: PixelGame, question: Question, player: Player, seconds: float) -> list[Stored]:
    """All that is to be stored of a game, in one transaction."""
    form = game.match.form
    orders = Orders(
        options=tuple(range(NUM_LABELS)), defends=_defends(game, question), shown=(Seat.A, Seat.B)
    )
    debate = Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=protocol(form, player.pixels),
        agents=player.agents(game.match),
        orders=orders,
        seed=player.seed,
    )
    judgment = Judgment(
        debate_id=debate.id, judge=JUDGE, kind=JudgeKind.MODEL, orders=orders, final=_belief(game)
    )
    outcome = Outcome(
        debate_id=debate.id,
        status=OutcomeStatus.COMPLETE,
        seconds=seconds,
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return [question, debate, *_turns(game, question, debate), judgment, outcome]


def _defends(game: PixelGame, question: Question) -> tuple[int, ...]:
    """Labels of seats A and B; a seat that nobody takes has one that is not taken."""
    if len(game.defended) == 2:
        return game.defended
    first = game.defended[0] if game.defended else question.correct or 0
    return (first, next(k for k in range(NUM_LABELS) if k != first))


def _turns(game: PixelGame, question: Question, debate: Debate) -> list[Turn]:
    said = [says(question, pixel) for pixel in game.shown]
    if game.match.form is GameKind.ALONE:
        texts = ["\n".join(said)]
    elif game.match.form is GameKind.DEBATE:
        texts = [f"The digit is {label}." for label in game.defended] + said
    else:
        texts = said
    role = debate.protocol.speaker_role if debate.protocol.speakers else Role.JUDGE
    slots = [(step, slot) for step in debate.protocol.schedule() for slot in step.slots]
    return [
        Turn(
            debate_id=debate.id,
            step=step.index,
            round=step.round,
            seat=slot.seat,
            role=role,
            act=slot.act,
            text=text,
        )
        for (step, slot), text in zip(slots, texts, strict=True)
    ]


def _belief(game: PixelGame) -> Belief:
    return Belief(
        verdict=Verdict.DECIDED, method=BeliefMethod.LOGPROBS, probs=game.probs, mass=game.mass
    )


def says(question: Question, pixel: int) -> str:
    """The words that show a pixel."""
    grid = image_of(question)
    row, column = divmod(pixel, len(grid))
    return f"row {row + 1}, column {column + 1}: {grid[row][column]}"


def image_of(question: Question) -> list[list[int]]:
    """The image that a question is about, as rows of values."""
    if question.source is None:
        raise ValueError(f"question {question.id!r} has no image")
    return [[int(value) for value in line.split()] for line in question.source.text.splitlines()]


def shown_in(turns: Sequence[Turn]) -> list[tuple[Seat, int, int]]:
    """(seat, row, column), counted from 0, of every pixel that was shown, in order."""
    return [
        (turn.seat, int(row) - 1, int(column) - 1)
        for turn in turns
        for row, column, _ in SHOWS.findall(turn.text)
    ]
