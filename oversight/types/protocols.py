"""Protocols: who acts when, and the orders in which things are shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from pydantic import Field

from oversight.types.records import Record


class Seat(StrEnum):
    """A place in a debate. A consultant sits at A."""

    A = "a"
    B = "b"
    JUDGE = "judge"


class Role(StrEnum):
    """What the agent on a seat is there for."""

    DEBATER = "debater"
    CONSULTANT = "consultant"
    JUDGE = "judge"
    SCORER = "scorer"


class Act(StrEnum):
    """What a slot asks of its seat."""

    SPEAK = "speak"
    ASK = "ask"
    BELIEVE = "believe"
    DECIDE = "decide"


class Slot(Record):
    """One seat's part in a step."""

    seat: Seat
    act: Act = Act.SPEAK
    candidates: int = Field(default=1, ge=1, le=64)
    """Best-of-N: how many candidates are sampled; one is chosen, the rest are kept as siblings."""
    may_end: bool = False
    """The judge may end the debate with this act."""


class Step(Record):
    """Slots that act at the same time and cannot see one another."""

    slots: tuple[Slot, ...] = Field(min_length=1)


class OversightProtocol(Record):
    """A debate, consultancy or direct judgment as data: a list of steps, and who may see what.

    The final judgment always follows the last step, or the step at which the
    judge ended the debate.
    """

    name: str
    graph: str
    description: str = ""
    opening: tuple[Step, ...] = ()
    round: tuple[Step, ...] = ()
    rounds: int = Field(default=0, ge=0, le=100)
    speakers_see_source: bool = True
    judge_sees_source: bool = False
    beliefs_public: bool = False
    """Whether speakers see the judge's beliefs of earlier steps."""
    swap: bool = False
    """Judge a second time with the options and the sides shown the other way round."""
    choose_by: Role = Role.JUDGE
    """Which agent picks the best of N candidates: the judge or a scorer of its own."""
    max_words: int = Field(default=150, ge=1)
    """How long a speech should be, told to the speakers."""

    def schedule(self) -> tuple[ScheduledStep, ...]:
        """All steps in order, each with its round (0 is the opening)."""
        steps = [(0, step) for step in self.opening]
        steps += [(number, step) for number in range(1, self.rounds + 1) for step in self.round]
        return tuple(
            ScheduledStep(index=index, round=number, slots=step.slots)
            for index, (number, step) in enumerate(steps)
        )

    @cached_property
    def speakers(self) -> tuple[Seat, ...]:
        """The seats that speak, A before B."""
        seats = {s.seat for step in self.opening + self.round for s in step.slots}
        return tuple(seat for seat in (Seat.A, Seat.B) if seat in seats)

    @property
    def speaker_role(self) -> Role:
        return Role.DEBATER if len(self.speakers) > 1 else Role.CONSULTANT


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
    """Option index that seat A defends, then the one that B defends."""
    shown: tuple[Seat, ...]
    """Seats in the order in which the judge reads words that were spoken at the same time."""

    def swapped(self) -> Orders:
        """The same debate as the judge sees it the other way round; who defends what stays."""
        return Orders(
            options=self.options[::-1], defends=self.defends, shown=tuple(reversed(self.shown))
        )

    def defended_by(self, seat: Seat) -> int:
        """Index of the option that `seat` defends."""
        return self.defends[0 if seat is Seat.A else 1]
