"""People in a graph: what a node asks one for, and what it takes for an answer.

A node that reaches a seat held by `human` stops in LangGraph's `interrupt` with a request of
JSON-plain fields, and goes on with what `Command(resume=…)` gives it. Nothing that has an effect
stands above the interrupt, and a node holds one at most: it is entered again from its top.
"""

from __future__ import annotations

from typing import Any, TypeVar

from langgraph.types import interrupt
from pydantic import Field, ValidationError

from oversight.config import describe
from oversight.errors import ProtocolError
from oversight.types import Act, Agent, Belief, Draft, JudgeKind, Judgment, Record, View

RecordT = TypeVar("RecordT", bound=Record)

INTERRUPT = "__interrupt__"
"""Key of a graph's result that an interrupted run has."""


class PersonsAct(Record):
    """Act of a person on a seat, as the answer to a request."""

    text: str = ""
    belief: Belief | None = None
    ends: bool = False
    """End the debate here; only where the slot allows it."""
    seconds: float = Field(default=0.0, ge=0.0)
    """Of active attention."""


def is_person(agent: Agent) -> bool:
    """True if a person holds the seat: then the graph waits instead of asking the agent."""
    return agent.kind is JudgeKind.HUMAN


def request_of(view: View) -> dict[str, Any]:
    """Request to a person; everything else is in the store under the debate's id."""
    return {
        "debate_id": view.debate_id,
        "step": view.step,
        "round": view.round,
        "seat": view.seat.value,
        "act": view.act.value,
        "may_end": view.may_end,
    }


def ask_person(view: View) -> tuple[Draft, float]:
    """Wait for a person's act; returns it as a draft, and the seconds that it took.

    Raises:
        ProtocolError: The graph was resumed with something else.
    """
    answer = interrupt(request_of(view))
    act = _checked(PersonsAct, answer, view)
    if view.act is Act.BELIEVE and act.belief is None:
        raise ProtocolError(f"debate {view.debate_id}: the person's act has no belief")
    return Draft(text=act.text, belief=act.belief, ends=act.ends), act.seconds


def ask_judgment(view: View) -> Judgment:
    """Wait for a person's final judgment.

    Raises:
        ProtocolError: The graph was resumed with something else.
    """
    judgment = _checked(Judgment, interrupt(request_of(view)), view)
    if judgment.debate_id != view.debate_id or judgment.kind is not JudgeKind.HUMAN:
        raise ProtocolError(f"debate {view.debate_id}: resumed with a judgment that is not its own")
    return judgment


def _checked(model: type[RecordT], answer: Any, view: View) -> RecordT:
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        reason = describe(error, model)
        raise ProtocolError(
            f"debate {view.debate_id}, step {view.step}: resumed with what is no "
            f"{model.__name__}: {reason}"
        ) from None
