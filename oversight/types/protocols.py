"""Protocols: who acts when, and the orders in which things are shown."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from pydantic import Field

from oversight.types.samples import Record, SharedRecord


class Seat(StrEnum):
    """A place in a debate. A consultant or a responder sits at A, and its critic at B."""

    A = "a"
    B = "b"
    JUDGE = "judge"


class Role(StrEnum):
    """Purpose of the agent on a seat."""

    DEBATER = "debater"
    CONSULTANT = "consultant"
    CRITIC = "critic"
    RESPONDER = "responder"
    """Answers an open prompt and revises its answer; it defends nothing."""
    JUDGE = "judge"
    SCORER = "scorer"
    ASSISTANT = "assistant"
    """Helps a person to judge, and is not part of the debate."""
    RATER = "rater"
    """Rates what was said in a debate that is over, and is not part of it."""
    RED_TEAM = "red_team"
    """Writes new prompts to try a responder with, and is part of no debate."""


class Act(StrEnum):
    """Act that a slot asks of its seat."""

    SPEAK = "speak"
    CRITIQUE = "critique"
    """Criticism of a speech or a response, by a seat that defends nothing."""
    REVISE = "revise"
    """The seat's last speech or response once more, in the light of the criticism."""
    RESPOND = "respond"
    """An answer to an open prompt."""
    ASK = "ask"
    BELIEVE = "believe"
    DECIDE = "decide"
    SCORE = "score"
    """Outside of any schedule: rate the last response, to choose the best of N."""
    ASSIST = "assist"
    """Outside of any schedule: an answer to the person who judges."""
    RATE = "rate"
    """After the debate: which response is better, or how good one is, as `View.rating` asks."""
    PROPOSE = "propose"
    """Outside of any debate: new prompts of the kind of `View.examples`."""

    @property
    def answers(self) -> bool:
        """True if it is a speech or a response, whose candidates are compared with one another."""
        return self in (Act.SPEAK, Act.RESPOND, Act.REVISE)

    def argues(self, role: Role) -> bool:
        """True if it is a speech for the option that its seat defends; a responder has none."""
        return self in (Act.SPEAK, Act.REVISE) and role is not Role.RESPONDER

    @property
    def is_spoken(self) -> bool:
        """True if seats A and B do it: all read their words, whose quotes are checked."""
        return self.answers or self is Act.CRITIQUE


class Stance(StrEnum):
    """The side that a critic takes who is free to choose it."""

    AGREES = "agrees"
    OBJECTS = "objects"


class Slot(Record):
    """One seat's part in a step."""

    seat: Seat
    act: Act = Act.SPEAK
    candidates: int = Field(default=1, ge=1, le=64)
    """Best-of-N: how many candidates are sampled; one is chosen, the rest are kept as siblings."""
    may_end: bool = False
    """The judge may end the debate with this belief; a critic of responses ends it with a critique
    that finds no fault."""
    # Not written down unless it is set: ids of protocols without it stay what they were.
    free_stance: bool = Field(default=False, exclude_if=operator.not_)
    """The critic of a speech chooses itself whether to object or to agree."""


class Step(Record):
    """Slots that act at the same time and cannot see one another."""

    slots: tuple[Slot, ...] = Field(min_length=1)
    # As with `Slot.free_stance`.
    once: bool = Field(default=False, exclude_if=operator.not_)
    """Of a round's steps: only in the first round."""


class OversightProtocol(SharedRecord):
    """A debate, consultancy, direct judgment or self-critique as data: a list of steps, and who
    may see what.

    The final judgment follows the last step, or the step at which the judge ended the debate;
    where a responder answers an open prompt there is nothing to decide, and the last step ends it.
    """

    name: str
    graph: str
    description: str = ""
    opening: tuple[Step, ...] = ()
    round: tuple[Step, ...] = ()
    rounds: int = Field(default=0, ge=0, le=100)
    speakers_see_source: bool = True
    judge_sees_source: bool = False
    # As with `Slot.free_stance`, here and below.
    assistant_sees_source: bool = Field(default=False, exclude_if=operator.not_)
    """True if an assistant of a human judge reads the source."""
    quote_context: int = Field(default=0, ge=0, exclude_if=operator.not_)
    """Characters of the source around a verified quote that a human judge may look up."""
    beliefs_public: bool = False
    """True if speakers see the judge's beliefs of earlier steps."""
    swap: bool = False
    """Judge a second time with the sides shown the other way round; where nobody speaks, with the
    options listed the other way round."""
    choose_by: Role = Role.JUDGE
    """Agent that picks the best of N candidates: the judge or a scorer of its own."""
    max_words: int = Field(default=150, ge=1)
    """Length that a speech should have, told to the speakers."""

    def schedule(self) -> tuple[ScheduledStep, ...]:
        """All steps in order, each with its round (0 is the opening)."""
        return self._schedule

    @cached_property
    def _schedule(self) -> tuple[ScheduledStep, ...]:
        steps = [(0, step) for step in self.opening]
        steps += [
            (number, step)
            for number in range(1, self.rounds + 1)
            for step in self.round
            if number == 1 or not step.once
        ]
        return tuple(
            ScheduledStep(index=index, round=number, slots=step.slots)
            for index, (number, step) in enumerate(steps)
        )

    @cached_property
    def speakers(self) -> tuple[Seat, ...]:
        """The seats that speak for an option, A before B."""
        seats = self._seats([Act.SPEAK, Act.REVISE])
        return tuple(seat for seat in seats if seat not in self.responders)

    @cached_property
    def has_orders(self) -> bool:
        """True if several sides speak at once, so that either may be shown first."""
        steps = (*self.opening, *self.round)
        return any(sum(s.act.argues(self.role_of(s)) for s in step.slots) > 1 for step in steps)

    @cached_property
    def responders(self) -> tuple[Seat, ...]:
        """The seats that answer an open prompt and defend nothing."""
        return self._seats([Act.RESPOND])

    @cached_property
    def critics(self) -> tuple[Seat, ...]:
        """The seats that criticise and defend nothing."""
        return self._seats([Act.CRITIQUE])

    def _seats(self, acts: Iterable[Act]) -> tuple[Seat, ...]:
        among = set(acts)
        slots = [slot for step in self.opening + self.round for slot in step.slots]
        seats = {slot.seat for slot in slots if slot.act in among}
        return tuple(seat for seat in (Seat.A, Seat.B) if seat in seats)

    @property
    def is_open(self) -> bool:
        """True where an open prompt is answered: nothing is judged at the end."""
        return bool(self.responders)

    @property
    def speaker_role(self) -> Role:
        return Role.DEBATER if len(self.speakers) > 1 else Role.CONSULTANT

    def role_of(self, slot: Slot) -> Role:
        """Role of the agent that acts in `slot`."""
        if slot.seat is Seat.JUDGE:
            return Role.JUDGE
        if slot.act is Act.CRITIQUE:
            return Role.CRITIC
        return Role.RESPONDER if slot.seat in self.responders else self.speaker_role


@dataclass(frozen=True, slots=True)
class ScheduledStep:
    """A step at its place in the unrolled schedule."""

    index: int
    round: int
    slots: tuple[Slot, ...]


class Orders(Record):
    """The three orders of a debate, drawn apart from one another and each recorded."""

    options: tuple[int, ...]
    """Option indices in the order in which they are listed to everyone."""
    defends: tuple[int, ...]
    """Option index that seat A defends, then the one that B defends, unless B is a critic; empty,
    as `options` is, of an open prompt."""
    shown: tuple[Seat, ...]
    """Seats in the order in which the judge reads words that were spoken at the same time."""

    def swapped(self, *, listing: bool = False) -> Orders:
        """The same debate as the judge sees it the other way round; who defends what stays.

        Args:
            listing: Reverse the options too. Only where nobody has spoken: speakers name options
                by the letters of the listing, which would then stand for others.
        """
        return Orders(
            options=self.options[::-1] if listing else self.options,
            defends=self.defends,
            shown=tuple(reversed(self.shown)),
        )

    def defended_by(self, seat: Seat) -> int:
        """Index of the option that `seat` defends."""
        return self.defends[0 if seat is Seat.A else 1]
