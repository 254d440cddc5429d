"""Transcripts with one thing changed: debates of their own, which name the debate they are made of.

An edited debate is recorded like any other, so that it can be judged, looked at and counted. In
place of its speakers' agent stands the intervention, with the id of the debate that was edited, the
seat whose words were changed, and a hash of its words: other words are another debate. All turns
but those that the intervention changed are what they were, character by character.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from oversight.agents.speaking import label_of, speaker_name
from oversight.audits.interventions import Intervention, Remarked, Speech
from oversight.graphs.views import public
from oversight.ids import content_id, seed_from
from oversight.text.quotes import find_quotes
from oversight.types import (
    Act,
    AgentSpec,
    Debate,
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    Question,
    Quote,
    Seat,
    Slot,
    Step,
    Stored,
    Transcript,
    Turn,
)

EDITS, SEAT, WORDS = "edits", "seat", "words"
"""Settings of an intervention in an edited debate: debate's id, seat, hash of the words."""


@dataclass(frozen=True, slots=True)
class EditOf:
    """The edit that an edited debate is."""

    intervention: str
    debate_id: str
    """Of the debate that was edited."""
    seat: Seat


def edit_of(debate: Debate) -> EditOf | None:
    """The edit that a debate is; None of one that was held."""
    spec = debate.agents.get(debate.protocol.speaker_role)
    if spec is None or EDITS not in spec.settings or SEAT not in spec.settings:
        return None
    return EditOf(spec.agent, str(spec.settings[EDITS]), Seat(str(spec.settings[SEAT])))


def seats_of(transcript: Transcript, intervention: Intervention, seed: int) -> tuple[Seat, ...]:
    """The seats whose words the intervention changes, one at a time."""
    seats = transcript.debate.protocol.speakers
    if intervention.sides == "each" or len(seats) < 2:
        return seats
    rng = random.Random(seed_from("side", intervention.name, transcript.debate.id, seed))
    return (rng.choice(seats),)


def edited(
    transcript: Transcript, intervention: Intervention, seat: Seat, seed: int = 0
) -> Transcript | None:
    """The transcript with the words of one seat changed; None where there is nothing to change.

    Args:
        transcript: A debate with speakers.
        intervention: The change.
        seat: The seat whose words are changed.
        seed: Of whatever the intervention draws.

    Raises:
        ConfigError: The intervention fails.
    """
    turns = [public(turn) for turn in transcript.turns if turn.chosen]
    own = [turn for turn in turns if turn.seat is seat and turn.argues]
    if not own:
        return None
    protocol = transcript.debate.protocol
    changed: dict[str, Turn] = {}
    added: list[Turn] = []
    for turn in own if intervention.where == "every" else own[-1:]:
        found = intervention(_speech(transcript, turn, intervention.name, seed))
        if found is None:
            continue
        if intervention.where != "turn":
            changed[turn.id] = _changed(turn, found, transcript.question)
        elif isinstance(found, str) and (room := _longer(protocol, seat)):
            protocol, step, round = room
            place = {"step": step, "round": round, "text": found, "act": Act.SPEAK}
            quotes = find_quotes(found, transcript.question.source)
            added.append(turn.model_copy(update={**place, "quotes": quotes}))
    if not changed and not added:
        return None
    whole = [changed.get(turn.id, turn) for turn in turns] + added
    debate = _debate(transcript.debate, protocol, intervention, seat, whole)
    moved = tuple(turn.model_copy(update={"debate_id": debate.id}) for turn in whole)
    outcome = Outcome(debate_id=debate.id, status=OutcomeStatus.COMPLETE)
    return Transcript(debate, transcript.question, moved, outcome=outcome)


def records_of(transcript: Transcript) -> tuple[Stored, ...]:
    """A transcript as the judge reads it, for another store: without samples and judgments."""
    turns = (public(turn) for turn in transcript.turns if turn.chosen)
    outcome = Outcome(debate_id=transcript.debate.id, status=OutcomeStatus.COMPLETE)
    return (transcript.question, transcript.debate, *turns, outcome)


def _speech(transcript: Transcript, turn: Turn, name: str, seed: int) -> Speech:
    debate, question = transcript.debate, transcript.question
    side = debate.orders.defended_by(turn.seat)
    others = [t for t in transcript.turns if t.chosen and t.argues and t.seat is not turn.seat]
    return Speech(
        text=turn.text,
        quotes=turn.quotes,
        name=speaker_name(turn.seat, turn.role),
        option=question.options[side].text,
        label=label_of(side, debate.orders.options),
        other=speaker_name(others[0].seat, others[0].role) if others else "",
        other_quotes=tuple(quote for other in others for quote in other.quotes),
        question=question.text,
        source=question.source,
        rng=random.Random(seed_from("intervention", name, turn.id, seed)),
    )


def _changed(turn: Turn, found: str | Remarked, question: Question) -> Turn:
    if isinstance(found, Remarked):
        return turn.model_copy(update={"quotes": found.quotes})
    if found == turn.text:
        return turn
    return turn.model_copy(update={"text": found, "quotes": find_quotes(found, question.source)})


def _longer(protocol: OversightProtocol, seat: Seat) -> tuple[OversightProtocol, int, int] | None:
    """The protocol with room for one more speech of a seat at its end; its step and round there.

    None where the seat speaks in the opening alone, with rounds of others behind it.
    """
    before = len(protocol.schedule())
    if not protocol.rounds:
        step = Step(slots=(Slot(seat=seat),))
        return protocol.model_copy(update={"opening": (*protocol.opening, step)}), before, 0
    longer = protocol.model_copy(update={"rounds": protocol.rounds + 1})
    for step_there in longer.schedule()[before:]:
        if any(slot.seat is seat and slot.act is Act.SPEAK for slot in step_there.slots):
            return longer, step_there.index, step_there.round
    return None


def _debate(
    debate: Debate,
    protocol: OversightProtocol,
    intervention: Intervention,
    seat: Seat,
    turns: Sequence[Turn],
) -> Debate:
    words = [
        [turn.step, turn.seat.value, turn.text, [each.status.value for each in turn.quotes]]
        for turn in turns
    ]
    spec = AgentSpec(
        agent=intervention.name,
        settings={EDITS: debate.id, SEAT: seat.value, WORDS: content_id("words", words)},
    )
    agents = {**debate.agents, debate.protocol.speaker_role: spec}
    return debate.model_copy(update={"protocol": protocol, "agents": agents})


# --- what was changed, for people ---

SHOWN_CHARS = 160
"""Characters of either piece of an example that are shown."""


def example(before: Transcript, after: Transcript) -> tuple[str, str]:
    """The words of one turn that an edit changed, before and after, without their common ends."""
    old = {(turn.step, turn.seat): turn for turn in before.turns if turn.chosen}
    for turn in after.turns:
        was = old.get((turn.step, turn.seat))
        if was is None:
            return "(no turn)", shortened_end(turn.text)
        if was.text != turn.text:
            return _apart(was.text, turn.text)
        if marks := _marks(was.quotes, turn.quotes):
            return marks
    return "(the same)", "(the same)"


def _marks(old: Sequence[Quote], new: Sequence[Quote]) -> tuple[str, str] | None:
    for was, now in zip(old, new, strict=False):
        if was.status is not now.status:
            words = shortened_end(was.text)
            return f"{was.status.value}: “{words}”", f"{now.status.value}: “{words}”"
    return None


def _apart(old: str, new: str) -> tuple[str, str]:
    if new.startswith(old) or new.endswith(old):
        added = new[len(old) :] if new.startswith(old) else new[: len(new) - len(old)]
        return "(nothing)", shortened_end(added) or "(nothing)"
    start = _num_alike(old, new)
    back = _num_alike(old[:start:-1], new[:start:-1])
    was, now = (text[start : len(text) - back] for text in (old, new))
    return shortened_end(was) or "(nothing)", shortened_end(now) or "(nothing)"


def _num_alike(first: str, second: str) -> int:
    """Number of characters with which both begin."""
    pairs = zip(first, second, strict=False)
    unlike = (place for place, (a, b) in enumerate(pairs) if a != b)
    return next(unlike, min(len(first), len(second)))


def shortened_end(text: str) -> str:
    """A text in one line, of at most `SHOWN_CHARS` characters."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARS else f"{line[:SHOWN_CHARS].rstrip()}…"
