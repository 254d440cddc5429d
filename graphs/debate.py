"""Debate (Irving et al. 2018, arXiv:1805.00899): two sides argue, a judge decides."""

from __future__ import annotations

import asyncio

from langgraph.graph.state import CompiledStateGraph

from oversight.graphs.rounds import build_rounds
from oversight.graphs.serving import served_stage
from oversight.graphs.stage import Stage
from oversight.graphs.state import DebateInput, DebateState

NUM_SPEAKERS = 2


def build(
    stage: Stage,
) -> CompiledStateGraph[DebateState, None, DebateInput, DebateState]:
    """The graph, compiled over a stage."""
    return build_rounds(stage, "debate")


async def serve() -> CompiledStateGraph[DebateState, None, DebateInput, DebateState]:
    """The graph for LangGraph's server, over the stage that the environment names."""
    return build(await asyncio.to_thread(served_stage))
