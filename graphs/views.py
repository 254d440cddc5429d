"""Who may see what: the view of each seat, made from the turns that stand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from oversight.types import Act, Orders, OversightProtocol, Seat, Turn

PRIVATE: dict[str, Any] = {"reasoning": "", "samples": (), "score": None, "seconds": 0.0}
"""Fields of a turn that only the records keep, and what stands in their place."""


def public(turn: Turn) -> Turn:
    """`turn` without anything that only its speaker or the records may hold."""
    return turn.model_copy(update=PRIVATE)


def visible_turns(
    turns: Iterable[Turn], *, before_step: int, orders: Orders, protocol: OversightProtocol
) -> tuple[Turn, ...]:
    """The chosen turns of earlier steps in reading order; the same for every seat.

    Turns of one step cannot see one another, so whoever acts in step s sees
    the steps before s. The judge's beliefs are left out unless the protocol
    makes them public.
    """
    seen = [
        turn
        for turn in turns
        if turn.chosen
        and turn.step < before_step
        and (turn.act is not Act.BELIEVE or protocol.beliefs_public)
    ]
    place = {seat: index for index, seat in enumerate((*orders.shown, Seat.JUDGE))}
    seen.sort(key=lambda turn: (turn.step, place[turn.seat]))
    return tuple(seen)
