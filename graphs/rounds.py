"""The machine of every protocol: acts in the order of its schedule, then the end.

Each node names the next one itself (`Command`), which takes two thirds of the time
that conditional edges take.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import TypeAlias

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from oversight.config import EMBEDDED_AGENTS, RunSettings, load_recipe
from oversight.graphs.nodes import (
    ACTS_OF_JUDGE,
    NODE_OF_ACT,
    DebateInput,
    DebateState,
    Nodes,
)
from oversight.graphs.planning import cast
from oversight.graphs.runtime import Runtime
from oversight.store import Store
from oversight.types import Act


@cache
def served_runtime() -> Runtime:
    """The one runtime of this process."""
    recipe = os.environ.get("OVERSIGHT_RECIPE")
    store = Store.open(os.environ.get("OVERSIGHT_STORE", "oversight.db"))
    if recipe is None:
        return Runtime(store, cast(EMBEDDED_AGENTS, {}))
    settings = load_recipe(RunSettings, Path(recipe), {})
    return Runtime(store, cast(settings.cast(), settings.engines))


Graph: TypeAlias = CompiledStateGraph[DebateState, None, DebateInput, DebateState]

ARGUMENT = (Act.SPEAK, Act.ASK, Act.BELIEVE)
"""Acts of a debate: speeches, and what the judge does between them."""


class Machine:
    """`build` of a graph module: makes the graph of its protocols, or its nodes alone."""

    def __init__(self, name: str, acts: tuple[Act, ...], protocol: str, decides: bool) -> None:
        self.name, self.acts = name, acts
        self.protocol, self.decides = protocol, decides

    def __call__(self, runtime: Runtime) -> Graph:
        """The graph, compiled over a runtime."""
        nodes = self.nodes(runtime)
        builder = StateGraph(DebateState, input_schema=DebateInput)
        end = "decide" if self.decides else "finish"
        following = (*(NODE_OF_ACT[act] for act in self.acts), end)
        builder.add_node("open", nodes.open, destinations=following)
        for act in self.acts:
            node = nodes.judge if act in ACTS_OF_JUDGE else nodes.speak
            builder.add_node(NODE_OF_ACT[act], node, destinations=following)
        builder.add_node(end, nodes.decide if self.decides else nodes.finish)
        builder.add_edge(START, "open")
        builder.add_edge(end, END)
        return builder.compile(name=self.name)

    def nodes(self, runtime: Runtime) -> Nodes:
        """The nodes over a runtime, which can run a debate without the graph."""
        return Nodes(runtime, default_protocol=self.protocol or self.name)


def machine(
    name: str, *acts: Act, protocol: str = "", decides: bool = True
) -> tuple[Machine, Callable[[], Awaitable[Graph]]]:
    """`build` and `serve` of a graph module.

    Args:
        name: Of the graph.
        acts: Acts that a step of its protocols may ask for; none where there are no steps.
        protocol: Of what it runs when it is given a question alone; default: that of its own name.
        decides: A judge decides at the end; else the last step is the end.
    """
    build = Machine(name, acts, protocol, decides)

    async def serve() -> Graph:
        """The graph for LangGraph's server, over the runtime that the environment names."""
        return build(await asyncio.to_thread(served_runtime))

    return build, serve
