"""Critique (Saunders et al. 2022, arXiv:2206.05802): a consultancy that a critic helps to judge.

The critic sits at B, reads the source and defends nothing; the consultant
answers it with a revised speech. The judge reads all of it.
"""

from __future__ import annotations

import asyncio

from langgraph.graph.state import CompiledStateGraph

from oversight.graphs.rounds import build_rounds
from oversight.graphs.serving import served_stage
from oversight.graphs.stage import Stage
from oversight.graphs.state import DebateInput, DebateState

NUM_SPEAKERS = 1
NUM_CRITICS = 1


def build(
    stage: Stage,
) -> CompiledStateGraph[DebateState, None, DebateInput, DebateState]:
    """The graph, compiled over a stage."""
    return build_rounds(stage, "critique", criticised=True)


async def serve() -> CompiledStateGraph[DebateState, None, DebateInput, DebateState]:
    """The graph for LangGraph's server, over the stage that the environment names."""
    return build(await asyncio.to_thread(served_stage))
