"""The machine of every protocol with speakers: acts in the order of the schedule, then judgment.

Each node names the next one itself (`Command`), which takes two thirds of the time
that conditional edges take.
"""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from oversight.graphs.nodes import Nodes
from oversight.graphs.stage import Stage
from oversight.graphs.state import DebateInput, DebateState


def build_rounds(
    stage: Stage, name: str, *, criticised: bool = False
) -> CompiledStateGraph[DebateState, None, DebateInput, DebateState]:
    """open → (speak | ask | believe)* → decide; with critique and revise if `criticised`."""
    nodes = Nodes(stage, default_protocol=name)
    builder = StateGraph(DebateState, input_schema=DebateInput)
    acts = {"speak": nodes.speak, "ask": nodes.ask, "believe": nodes.believe}
    if criticised:
        acts |= {"critique": nodes.critique, "revise": nodes.revise}
    for act, node in {"open": nodes.open, **acts}.items():
        builder.add_node(act, node, destinations=(*acts, "decide"))
    builder.add_node("decide", nodes.decide)
    builder.add_edge(START, "open")
    builder.add_edge("decide", END)
    return builder.compile(name=name)
