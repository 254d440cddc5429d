"""Answers a request file by workers of a Ray cluster, over Ray Data.

    this process              Ray Data                       workers, on any machine
    places of lines   ──>   small blocks of places   ──>   each with an engine of its own
    answer file       <──   answers as they come     <──   reads the lines, asks for all at once

Workers read their lines from the request file, which has to lie where all machines see it; answers
are written by this process alone. A worker that dies is started anew, and its calls in flight are
asked again: what it had answered was passed on block by block. Ray Data ends a job at the first
error of a row unless it is told otherwise, so errors of calls are rows here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from oversight.engines import open_engine
from oversight.errors import (
    BudgetExceededError,
    EngineUnavailableError,
    MissingDependencyError,
)
from oversight.jobs.answering import Answered, answered
from oversight.jobs.lines import AnswerLine, PlacedLine, answer_of
from oversight.redaction import redacted
from oversight.types import EngineSpec

BLOCK_CALLS = 4
"""Calls of a block: few, as a block's answers are passed on together."""
STORE_BYTES = 2**28
"""Memory for blocks of a cluster that is started here; they hold places, and answers on the way."""
ON_A_CLUSTER = "RAY_ADDRESS"


@dataclass(frozen=True, slots=True)
class RayRunner:
    """Answers with workers of Ray Data: on the cluster that RAY_ADDRESS names, or here."""

    spec: EngineSpec
    """The engine that each worker opens."""
    num_workers: int
    concurrency: int = 64
    """Calls in flight at once, in each worker."""
    cpus: float = 1.0
    gpus: float = 0.0
    """Processors that a worker is given."""

    async def run(
        self, requests: Path, waiting: Iterator[PlacedLine], take: Callable[[Answered], None]
    ) -> None:
        """Give the lines to workers, and what they answer to `take`.

        Raises:
            MissingDependencyError: Ray is not installed.
            EngineUnavailableError: Ray gives up, as where no worker can open its engine.
            BudgetExceededError: A worker's budget is used up.
        """
        _import_ray()
        blocks = list(_blocks(requests, waiting))
        if not blocks:
            return
        with _cluster(self.num_workers):
            async for row in _rows(self._answers(blocks)):
                if row["stop"]:
                    raise BudgetExceededError(row["stop"])
                take(Answered(_line(row), row["tokens"]))

    def _answers(self, blocks: list[Any]) -> Iterator[Mapping[str, Any]]:
        """Rows of answers as they come; raises Ray's errors."""
        import ray

        num_calls = -(-self.concurrency // BLOCK_CALLS)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = False
        context.max_consecutive_actor_init_deaths = self.num_workers
        answers = ray.data.from_arrow(blocks).map_batches(
            _Worker,
            fn_constructor_kwargs={"spec": self.spec.model_dump_json()},
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=self.num_workers,
                max_tasks_in_flight_per_actor=2 * num_calls,
                max_concurrent_calls_per_actor=num_calls,
            ),
            num_cpus=self.cpus,
            num_gpus=self.gpus or None,
        )
        for batch in answers.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            yield from batch.to_pylist()


class _Worker:
    """An actor of Ray Data: an engine, and the calls that it is given places of."""

    def __init__(self, spec: str) -> None:
        self._engine = open_engine(EngineSpec.model_validate_json(spec))

    async def __call__(self, places: Any) -> Any:
        """A row for each place: the answer, or why there is none."""
        lines = _read(places.to_pylist())
        return _table(await asyncio.gather(*(self._row(line) for line in lines)))

    async def _row(self, line: PlacedLine) -> dict[str, Any]:
        try:
            found = await answered(self._engine, line)
        except BudgetExceededError as error:
            return {"line": "", "tokens": 0, "stop": redacted(str(error))}
        return {"line": found.line.text(), "tokens": found.num_tokens, "stop": ""}


def _blocks(requests: Path, waiting: Iterator[PlacedLine]) -> Iterator[Any]:
    """Places of lines, a table for every few."""
    import pyarrow as pa

    path = str(requests.resolve())
    while some := list(islice(waiting, BLOCK_CALLS)):
        yield pa.table(
            {
                "path": pa.array([path] * len(some), pa.string()),
                "number": pa.array([each.number for each in some], pa.int64()),
                "start": pa.array([each.start for each in some], pa.int64()),
                "size": pa.array([each.size for each in some], pa.int64()),
            }
        )


def _read(places: list[Mapping[str, Any]]) -> list[PlacedLine]:
    """The request lines at places of a file, on whatever machine this runs."""
    found = []
    with open(places[0]["path"], "rb") as file:
        for place in places:
            file.seek(place["start"])
            value = json.loads(file.read(place["size"]))
            found.append(PlacedLine(place["number"], place["start"], place["size"], value))
    return found


def _table(rows: list[dict[str, Any]]) -> Any:
    """Rows of answers, of the same types whatever stands in the first."""
    import pyarrow as pa

    types = {"line": pa.string(), "tokens": pa.int64(), "stop": pa.string()}
    return pa.Table.from_pylist(rows, schema=pa.schema(types))


def _line(row: Mapping[str, Any]) -> AnswerLine:
    return answer_of(json.loads(row["line"]))


async def _rows(source: Iterator[Mapping[str, Any]]) -> AsyncIterator[Mapping[str, Any]]:
    """The rows of an iterator that waits, without making the event loop wait.

    Raises:
        EngineUnavailableError: Ray gave up; the message says why.
    """
    import ray

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "oversight-ray") as thread:
        try:
            while (row := await loop.run_in_executor(thread, next, source, None)) is not None:
                yield row
        except asyncio.CancelledError:
            ray.shutdown()  # the thread waits for a row, and this lets it go
            raise
        except (ray.exceptions.RayError, OSError) as error:
            raise EngineUnavailableError(f"Ray Data: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The last line of what Ray says, which is the worker's own error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return redacted(lines[-1] if lines else type(error).__name__)


@contextmanager
def _cluster(num_workers: int) -> Iterator[None]:
    """The cluster that Ray is connected to, or that RAY_ADDRESS names, or one of this machine."""
    ray = _import_ray()
    if ray.is_initialized():
        yield
        return
    with redirect_stdout(sys.stderr):  # Ray tells of dead workers where a command's result stands
        _connect(ray, num_workers)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(ray: Any, num_workers: int) -> None:
    """Connect to the cluster that RAY_ADDRESS names, or start one."""
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if os.environ.get(ON_A_CLUSTER):
        ray.init(**quiet)
    else:
        cpus = max(num_workers, os.cpu_count() or 1)
        ray.init(num_cpus=cpus, include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)


def _import_ray() -> Any:
    """Ray with Ray Data.

    Raises:
        MissingDependencyError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            'workers of Ray Data need Ray: pip install "oversight[ray]"'
        ) from error
    return ray
