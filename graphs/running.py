"""Protocols as running graphs: the machine of each, and many debates at once, a thread each.

A machine has the acts of a protocol in the order of its schedule, then the end. Each node names the
next one itself (`Command`), which takes two thirds of the time that conditional edges take.

There is a bound on how many debates are in flight. A debate that is complete in the store is not
run again, one that was cut off
goes on from the turn that was in flight, and one that another process is
running is left to it. So the same command, run twice, finishes the rest.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from oversight import registry
from oversight.config import EMBEDDED_AGENTS, RunSettings, load_recipe
from oversight.errors import (
    AccessError,
    AnswerPending,
    BudgetExceededError,
    OversightError,
    StoreError,
    lack,
)
from oversight.graphs.nodes import (
    ACTS_OF_JUDGE,
    NODE_OF_ACT,
    DebateInput,
    DebateState,
    Nodes,
)
from oversight.graphs.planning import Cast, cast
from oversight.graphs.runtime import INTERRUPT, Runtime
from oversight.redaction import redacted
from oversight.store import Store
from oversight.types import Act, Debate, Outcome, OutcomeStatus, Question


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


log = logging.getLogger(__name__)

T = TypeVar("T")

CLAIM_BATCH = 256
"""Number of debates that are claimed in one transaction."""

COLLECT_AFTER = 200_000
"""New container objects after which the garbage collector looks at the youngest ones."""

UNEXPECTED = "unexpected"
"""Cause of failures that are faults of the program, or of an agent's."""

STOPS_THE_RUN = (StoreError, BudgetExceededError, AccessError)
"""Errors that would meet every other debate as well."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A debate that could not be finished, and why."""

    debate_id: str
    question_id: str
    protocol: str
    error: str
    cause: str = ""
    """Its kind in a word; empty where it is none of the known ones."""


@dataclass(slots=True)
class DebateProgress:
    """Progress of a run."""

    total: int | None = None
    done: int = 0
    """Completed in this run."""
    found: int = 0
    """Complete before this run began."""
    elsewhere: int = 0
    """Left to another process that is running them."""
    waiting: int = 0
    """Gone as far as they can without a person, or without answers of a batch job."""
    num_tokens: int = 0
    """Tokens of prompts and answers, where they are counted as they come (of ratings)."""
    failures: list[Failure] = field(default_factory=list)

    @property
    def num_ended(self) -> int:
        """Those that nothing more is done for in this run, in whichever way."""
        ways = (self.done, self.found, self.elsewhere, self.waiting, len(self.failures))
        return sum(ways)

    def add(self, other: DebateProgress) -> None:
        """Count what another run did as well."""
        if self.total is not None and other.total is not None:
            self.total += other.total
        self.done += other.done
        self.found += other.found
        self.elsewhere += other.elsewhere
        self.waiting += other.waiting
        self.num_tokens += other.num_tokens
        self.failures += other.failures


OnProgress = Callable[[DebateProgress], None]


async def run_debates(
    planned: Iterable[tuple[Debate, Question]],
    runtime: Runtime,
    *,
    concurrency: int,
    on_progress: OnProgress | None = None,
    total: int | None = None,
) -> DebateProgress:
    """Run what is planned and not yet complete.

    Raises:
        StoreError: Nothing can be recorded any more; what was recorded stands.
        BudgetExceededError: A budget is used up; calls that were under way then are kept.
        AccessError: A server refuses the key, or has no such model.
    """
    progress = DebateProgress(total=total)
    graphs: dict[str, tuple[Any, Nodes | None]] = {}
    spent: list[BudgetExceededError] = []

    async def run_one(each: tuple[Debate, Question, bool]) -> None:
        debate, question, is_new = each
        name = debate.protocol.graph
        if name not in graphs:
            build = registry.load("graphs", name).build
            # A graph of one's own may lead elsewhere than its nodes do.
            nodes = build.nodes(runtime) if isinstance(build, Machine) else None
            graphs[name] = build(runtime), nodes
        try:
            end = await _run_one(*graphs[name], debate, question, runtime, is_new)
        except BudgetExceededError as error:
            # What the others are being answered is paid for: it is waited for, and kept.
            spent.append(error)
            queue.close()
            runtime.store.release_soon([debate.id])
            return
        if isinstance(end, Failure):
            progress.failures.append(end)
        elif end is DebateEnd.WAITING:
            progress.waiting += 1
        else:
            progress.done += 1
        runtime.store.release_soon([debate.id])
        if on_progress:
            on_progress(progress)

    queue = _pending(planned, runtime, progress, on_progress)
    await work_through(queue, run_one, concurrency)
    # Claims are given up behind what is being written: wait for the last of them.
    await asyncio.to_thread(runtime.store.release, ())
    if spent:
        raise spent[0]
    return progress


async def work_through(
    queue: Generator[T, None, None], act: Callable[[T], Awaitable[None]], concurrency: int
) -> None:
    """Do `act` for everything in `queue`, so many at a time; the first error ends it all."""

    async def worker() -> None:
        for each in queue:
            await act(each)

    workers = [asyncio.create_task(worker()) for _ in range(concurrency)]
    try:
        with _rare_collections():
            await asyncio.gather(*workers)
    finally:
        # Closed first: a worker that outlives its cancellation must not begin another debate.
        queue.close()
        for each in workers:
            each.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the cyclic garbage collector run seldom while many debates are in flight.

    At its default it looks at all of them after every few hundred new objects,
    which takes a third of the time of a run (benchmarks/orchestration.py).
    """
    before = gc.get_threshold()
    _found.append(before)
    gc.set_threshold(max(before[0], COLLECT_AFTER), *before[1:])
    try:
        yield
    finally:
        first = _found.pop()
        if not _found:
            gc.set_threshold(*first)


_found: list[tuple[int, int, int]] = []
"""The collector's thresholds as each run found them; the first are put back by the last to end."""


def _pending(
    planned: Iterable[tuple[Debate, Question]],
    runtime: Runtime,
    progress: DebateProgress,
    on_progress: OnProgress | None,
) -> Generator[tuple[Debate, Question, bool], None, None]:
    """The debates that are ours to run, claimed a batch at a time; True with those never begun."""
    source = iter(planned)
    while some := list(islice(source, CLAIM_BATCH)):
        batch = {
            debate.id: (debate, q) for debate, q in as_begun(some, runtime.store, runtime.cast)
        }
        # Claimed before it is asked what is complete: else another process could finish a
        # debate and let go of it in between, and it would be run a second time.
        claimed = runtime.store.claim(batch)
        complete = runtime.store.completed(batch)
        runtime.store.release(claimed & complete)
        ours = claimed - complete
        progress.found += len(complete)
        progress.elsewhere += len(batch) - len(complete) - len(ours)
        if on_progress:
            on_progress(progress)
        begun = runtime.store.known(ours)
        runtime.store.include({id_: id_ for id_ in complete | begun})
        yield from ((*batch[each], each not in begun) for each in batch if each in ours)


def as_begun(
    planned: Sequence[tuple[Debate, Question]], store: Store, cast: Cast
) -> list[tuple[Debate, Question]]:
    """Planned debates; those that the store has by the path of a model, as it has them.

    So a store from before models were identified by their content is gone on with. Whether the
    folder still holds the weights of then cannot be told, which is said.
    """
    if not cast.by_path or not store.num_before_chains():
        return list(planned)
    earlier = {debate.id: cast.earlier(debate) for debate, _ in planned}
    ids = {before.id for id_, before in earlier.items() if before.id != id_}
    known = store.known(ids)
    if known:
        log.warning(
            "%d debates in %s name a model by its path, as oversight did before: they are gone on "
            "with, whatever weights the folder holds now",
            len(known),
            store.url,
        )
    return [
        (earlier[debate.id] if earlier[debate.id].id in known else debate, question)
        for debate, question in planned
    ]


class DebateEnd(Enum):
    """End of a debate's run, unless it failed."""

    COMPLETE = auto()
    WAITING = auto()
    """For a person, or for the answer to a call of a batch job."""


async def _run_one(
    graph: Any,
    nodes: Nodes | None,
    debate: Debate,
    question: Question,
    runtime: Runtime,
    is_new: bool,
) -> DebateEnd | Failure:
    """Run one debate as far as it goes; what goes wrong with it alone is written down."""
    begin = time.perf_counter()
    try:
        running = await runtime.enter(debate, question, is_new=is_new)
        if nodes is not None and await nodes.run(running):
            return DebateEnd.COMPLETE
        limit = len(running.schedule) + 10
        given = {"debate_id": debate.id, "in_one_step": True}
        state = await graph.ainvoke(given, {"recursion_limit": limit})
    except AnswerPending:
        return DebateEnd.WAITING
    except Exception as error:
        seconds = time.perf_counter() - begin
        message, cause = explain(error, f"debate {debate.id} of question {debate.question_id!r}")
        return await _fail(runtime, debate, message, seconds, cause)
    finally:
        runtime.leave(debate.id)
    return DebateEnd.WAITING if INTERRUPT in state else DebateEnd.COMPLETE


def explain(error: Exception, what: str) -> tuple[str, str]:
    """Message and cause of an error that concerns one piece of a run alone; `what` names it.

    Raises:
        Exception: The error itself, if it would meet every other piece as well.
    """
    if isinstance(error, STOPS_THE_RUN):
        raise error
    if isinstance(error, OversightError):
        return redacted(str(error)), error.cause
    if lack(error) is not None:
        raise error  # what the machine has run out of, the next ones lack as well
    # A fault of one agent must not take a thousand others down with it.
    log.error("%s failed", what, exc_info=error)
    return redacted(f"unexpected {type(error).__name__}: {error}"), UNEXPECTED


async def _fail(
    runtime: Runtime, debate: Debate, error: str, seconds: float, cause: str
) -> Failure:
    outcome = Outcome(
        debate_id=debate.id,
        status=OutcomeStatus.FAILED,
        error=error,
        cause=cause,
        seconds=seconds,
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    await runtime.store.append(outcome)
    return Failure(debate.id, debate.question_id, debate.protocol.name, error, cause)
