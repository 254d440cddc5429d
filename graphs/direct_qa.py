"""Direct judgment without any debate (Kenton et al. 2024, arXiv:2407.04622): naive or expert.

Whether the judge reads the source is the protocol's `judge_sees_source`.
"""

from __future__ import annotations

import asyncio

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from oversight.graphs.nodes import Nodes
from oversight.graphs.serving import served_stage
from oversight.graphs.stage import Stage
from oversight.graphs.state import DebateInput, DebateState

NUM_SPEAKERS = 0


def build(
    stage: Stage,
) -> CompiledStateGraph[DebateState, None, DebateInput, DebateState]:
    """The graph, compiled over a stage: begin → decide."""
    nodes = Nodes(stage, default_protocol="naive")
    builder = StateGraph(DebateState, input_schema=DebateInput)
    builder.add_node("begin", nodes.begin)
    builder.add_node("decide", nodes.decide)
    builder.add_edge(START, "begin")
    builder.add_edge("begin", "decide")
    builder.add_edge("decide", END)
    return builder.compile(name="direct_qa")


async def serve() -> CompiledStateGraph[DebateState, None, DebateInput, DebateState]:
    """The graph for LangGraph's server, over the stage that the environment names."""
    return build(await asyncio.to_thread(served_stage))
