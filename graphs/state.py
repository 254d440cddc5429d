"""The state that all graphs share: ids and small fields; the transcript lives in the store."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

NextAct = Literal["speak", "respond", "critique", "revise", "ask", "believe", "decide", "finish"]
"""The nodes that a step may lead to."""


class DebateInput(TypedDict, total=False):
    """Input of a graph: a debate already planned, or what to plan one from."""

    debate_id: str
    question: dict[str, Any]
    """A `Question` as plain JSON."""
    protocol: str | dict[str, Any]
    """Name of a protocol, or one as plain data; default: the one of the graph's own name."""
    seed: int


class DebateState(DebateInput, total=False):
    """State that a graph carries from node to node."""

    step: int
    """Index of the next step in the protocol's schedule."""
    result: dict[str, Any]
    """At the end: number of turns; where something is decided, verdict and probabilities by
    option."""
