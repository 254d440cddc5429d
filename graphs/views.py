"""View of each seat, with what it may see, made from the turns that stand; and back to a turn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from oversight.ids import seed_from
from oversight.text.quotes import find_quotes
from oversight.types import (
    Act,
    Debate,
    Draft,
    Orders,
    OversightProtocol,
    Question,
    Role,
    Seat,
    Turn,
    View,
)

PRIVATE: dict[str, Any] = {"reasoning": "", "samples": (), "score": None, "seconds": 0.0}
"""Fields of a turn that only the records keep, and what stands in their place."""


def public(turn: Turn) -> Turn:
    """`turn` without anything that only its speaker or the records may hold."""
    return turn.model_copy(update=PRIVATE)


def visible_turns(
    turns: Iterable[Turn], *, before_step: int, orders: Orders, protocol: OversightProtocol
) -> tuple[Turn, ...]:
    """The chosen turns of earlier steps in reading order; the same for every seat.

    Turns of one step cannot see one another, so a seat in step s sees
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


def view_of(
    debate: Debate,
    question: Question,
    turns: Iterable[Turn],
    seat: Seat,
    role: Role,
    act: Act,
    step: int,
    *,
    orders: Orders | None = None,
    round: int,
    may_end: bool = False,
    free_stance: bool = False,
) -> View:
    """The view of `seat` when it acts in a step: all that it may know.

    Args:
        debate: The debate.
        question: The question of the debate.
        turns: The turns so far, without private reasoning.
        seat: Whose view it is.
        role: Role that the seat plays.
        act: Act that is asked of it.
        step: Index in the schedule; one past its end for the final judgment.
        orders: Another order than the drawn one, in which a judge is shown the debate.
        round: Number of the step's round.
        may_end: The judge may end the debate with this act.
        free_stance: The critic chooses whether to object or to agree.
    """
    protocol, orders = debate.protocol, orders or debate.orders
    side = debate.orders.defended_by(seat) if seat in protocol.speakers else None
    return View(
        debate_id=debate.id,
        question=question.text,
        options=tuple(option.text for option in question.options),
        orders=orders,
        source=question.source if _may_read(protocol, seat) else None,
        turns=visible_turns(turns, before_step=step, orders=orders, protocol=protocol),
        seat=seat,
        role=role,
        act=act,
        step=step,
        round=round,
        num_rounds=protocol.rounds,
        max_words=protocol.max_words,
        seed=seed_from("turn", debate.id, step, seat, 0),
        side=side,
        argument=None if side is None else question.options[side].argument,
        may_end=may_end,
        history=question.history,
        free_stance=free_stance,
    )


def _may_read(protocol: OversightProtocol, seat: Seat) -> bool:
    return protocol.judge_sees_source if seat is Seat.JUDGE else protocol.speakers_see_source


def turn_of(view: View, draft: Draft, question: Question, seconds: float = 0.0) -> Turn:
    """A turn made of a draft; quotes are looked up in the source, seen by the seat or not."""
    return Turn(
        debate_id=view.debate_id,
        step=view.step,
        round=view.round,
        seat=view.seat,
        role=view.role,
        act=view.act,
        candidate=view.candidate,
        score=draft.score if view.free_stance else None,
        text=draft.text,
        reasoning=draft.reasoning,
        quotes=find_quotes(draft.text, question.source) if view.act.is_spoken else (),
        belief=draft.belief,
        ends=draft.ends and view.may_end,
        unchanged=draft.unchanged and view.act in (Act.CRITIQUE, Act.REVISE),
        stance=draft.stance if view.free_stance else None,
        under=draft.under,
        defects=draft.defects,
        samples=draft.samples,
        seconds=seconds,
    )
