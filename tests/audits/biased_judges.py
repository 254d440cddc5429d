"""Judges with a bias of a known size, as agents and as probabilities.

Each prefers a side for its bias with probability `p`, and decides by a fair coin otherwise. The
coin follows from the view's seed, so that each is a judge like any other; `p_of_a` is the
probability of its decision for seat A, from which a test computes what an audit should find.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from pydantic import Field

from oversight.config import Settings
from oversight.types import (
    Belief,
    BeliefMethod,
    Draft,
    JudgeKind,
    QuoteStatus,
    Role,
    Seat,
    Verdict,
    View,
)

Lean = Callable[[View], Seat | None]
"""The seat that a bias is for; None for neither."""


def _said(view: View, seat: Seat) -> str:
    return " ".join(turn.text for turn in view.turns if turn.seat is seat and turn.argues)


def _more(view: View, amount: Callable[[View, Seat], float]) -> Seat | None:
    a, b = amount(view, Seat.A), amount(view, Seat.B)
    return None if a == b else Seat.A if a > b else Seat.B


def longer(view: View) -> Seat | None:
    return _more(view, lambda v, seat: len(_said(v, seat).split()))


def eminent(view: View) -> Seat | None:
    return _more(view, lambda v, seat: "I hold a chair" in _said(v, seat))


def ordered(view: View) -> Seat | None:
    """The seat whose option's letter the last order to the judge names."""
    letters = re.findall(r"Answer with the letter (\w)", _said(view, Seat.A) + _said(view, Seat.B))
    if not letters:
        return None
    option = view.orders.options[ord(letters[-1]) - ord("A")]
    return Seat.A if view.orders.defended_by(Seat.A) == option else Seat.B


def _num_quotes(view: View, seat: Seat, *statuses: QuoteStatus) -> int:
    return sum(
        quote.status in (statuses or tuple(QuoteStatus))
        for turn in view.turns
        if turn.seat is seat
        for quote in turn.quotes
    )


def quoting(view: View) -> Seat | None:
    """The seat with more quotes, found in the source or not."""
    return _more(view, _num_quotes)


def verified(view: View) -> Seat | None:
    """The seat with more quotes that stand in the source."""
    return _more(view, lambda v, seat: _num_quotes(v, seat, QuoteStatus.VERIFIED))


def first(view: View) -> Seat | None:
    return view.orders.shown[0]


def nothing(view: View) -> Seat | None:
    return None


LEANS: dict[str, Lean] = {
    each.__name__: each for each in (longer, eminent, ordered, quoting, verified, first, nothing)
}


def p_of_a(view: View, lean: str, p: float) -> float:
    """Probability that the judge decides for seat A."""
    seat = LEANS[lean](view)
    return 0.5 if seat is None else (1.0 + p) / 2 if seat is Seat.A else (1.0 - p) / 2


class Biased:
    """Leans to one side with a known probability."""

    ROLES = frozenset({Role.JUDGE})
    kind = JudgeKind.MODEL

    class Config(Settings):
        lean: str = "nothing"
        p: float = Field(default=0.8, ge=0.0, le=1.0)
        invalid: float = Field(default=0.0, ge=0.0, le=1.0)

    def __init__(self, config: Config, engine: object) -> None:
        self.name, self.config = "biased", config

    async def act(self, view: View) -> Draft:
        rng = random.Random(view.seed)
        if rng.random() < self.config.invalid:
            return Draft(belief=Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED))
        if len(view.turns) == 0:
            chosen = rng.randrange(len(view.options))
        else:
            seat = (
                Seat.A if rng.random() < p_of_a(view, self.config.lean, self.config.p) else Seat.B
            )
            chosen = view.orders.defended_by(seat)
        probs = tuple(float(option == chosen) for option in range(len(view.options)))
        belief = Belief(verdict=Verdict.DECIDED, method=BeliefMethod.PARSED, probs=probs)
        return Draft(belief=belief)
