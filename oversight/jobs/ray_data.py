"""Answers a request file by workers of a Ray cluster, over Ray Data.

    this process              Ray Data                       workers, on any machine
    places of lines   ──>   small blocks of places   ──>   each with an engine of its own
    answer file       <──   answers as they come     <──   reads the lines, asks for all at once

Workers read their lines from the request file, which has to lie where all machines see it; answers
are written by this process alone. A worker that dies is started anew, and its calls in flight are
asked again: what it had answered was passed on block by block. One that dies again and again, and
workers that the cluster has no room for, end the job with an error: left to itself, Ray Data would
start and wait for ever. It ends a job at the first error of a row as well unless it is told
otherwise, so errors of calls are rows here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
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
    ConfigError,
    EngineUnavailableError,
    MissingDependencyError,
    lack,
)
from oversight.jobs.answering import Answered, answered
from oversight.jobs.lines import AnswerLine, PlacedLine, answer_of
from oversight.redaction import redacted
from oversight.types import EngineSpec

BLOCK_CALLS = 4
"""Calls of a block: few, as a block's answers are passed on together."""
STORE_BYTES = 2**28
"""Memory for blocks of a cluster that is started here; they hold places, and answers on the way."""
MAX_RESTARTS = 8
"""Times that a worker is started anew before the job ends."""
START_S = 600
"""Seconds within which all workers have to be there, unless Ray's own `START_VARIABLE` says
otherwise; the model is loaded at the first call, and its time does not count."""
CONNECT_S = 10.0
MAX_STARTS = 3
"""Tries to start Ray here: it gives itself half a minute, too short on a machine that is busy."""
ON_A_CLUSTER = "RAY_ADDRESS"
START_VARIABLE = "RAY_DATA_DEFAULT_WAIT_FOR_MIN_ACTORS_S"


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
    max_restarts: int = MAX_RESTARTS
    """Of each worker."""
    start_s: int = START_S

    async def run(
        self, requests: Path, waiting: Iterator[PlacedLine], take: Callable[[Answered], None]
    ) -> None:
        """Give the lines to workers, and what they answer to `take`.

        Raises:
            MissingDependencyError: Ray is not installed.
            ConfigError: More GPUs are asked for than there are, or RAY_ADDRESS is no cluster's.
            EngineUnavailableError: Ray gives up, as where no worker can open its engine, one dies
                each time that it is started, or the cluster has no room for them.
            BudgetExceededError: A worker's budget is used up.
        """
        _import_ray()
        blocks = list(_blocks(requests, waiting))
        if not blocks:
            return
        with _cluster(self.num_workers):
            self._check_room()
            async for row in _rows(self._answers(blocks), self._reason):
                if row["stop"]:
                    raise BudgetExceededError(row["stop"])
                take(Answered(_line(row), row["tokens"]))

    def _check_room(self) -> None:
        """Refuse at once what a machine alone has no processors for; a cluster may grow."""
        ray = _import_ray()

        if os.environ.get(ON_A_CLUSTER) or not self.gpus:
            return
        found = ray.cluster_resources().get("GPU", 0.0)
        if found < self.gpus * self.num_workers:
            raise ConfigError(
                f"--gpus {self.gpus:g}: {self.num_workers} workers (--ray) are to have so many, "
                f"and this machine has {found:g} GPUs in all: ask for fewer, or name a cluster "
                f"({ON_A_CLUSTER})"
            )

    def _reason(self, error: Exception) -> str:
        """Return words on the end of the job, and on what to do about it."""
        import ray

        if isinstance(error, ray.exceptions.GetTimeoutError):
            asked = f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")
            return (
                f"not all of {self.num_workers} workers, of {asked} each, were started in time; "
                "the cluster may have no room for them: ask for fewer (--ray), or give it longer "
                f"({START_VARIABLE}, in seconds)"
            )
        if isinstance(error, ray.exceptions.ActorDiedError | ray.exceptions.ActorUnavailableError):
            return (
                f"a worker died and is not started anew any more, after {self.max_restarts} times "
                f"({_last_line(error)}): often for want of memory, of which fewer workers (--ray) "
                "take less; the same command goes on behind what is answered"
            )
        return _last_line(error)

    def _answers(self, blocks: list[Any]) -> Iterator[Mapping[str, Any]]:
        """Rows of answers as they come; raises Ray's errors."""
        import ray

        num_calls = -(-self.concurrency // BLOCK_CALLS)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = False
        context.max_consecutive_actor_init_deaths = self.num_workers
        if START_VARIABLE not in os.environ:
            context.wait_for_min_actors_s = self.start_s
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
            max_restarts=self.max_restarts,
        )
        for batch in answers.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            table: Any = batch
            yield from table.to_pylist()


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


async def _rows(
    source: Iterator[Mapping[str, Any]], reason: Callable[[Exception], str]
) -> AsyncIterator[Mapping[str, Any]]:
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
            raise EngineUnavailableError(f"Ray Data: {reason(error)}") from error


def _last_line(error: Exception) -> str:
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
    """Connect to the cluster that RAY_ADDRESS names, or start one.

    Raises:
        ConfigError: Nobody answers there.
        EngineUnavailableError: None could be started here.
    """
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address := os.environ.get(ON_A_CLUSTER):
        _check_answers(address)
        how: dict[str, Any] = quiet
    else:
        cpus = max(num_workers, os.cpu_count() or 1)
        here = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        how = {"num_cpus": cpus, **here, **quiet}
    for left in reversed(range(1 if address else MAX_STARTS)):
        try:
            ray.init(**how)
        except Exception as error:  # of whatever kind: its parts are programs of their own
            if lack(error) is not None:
                raise
            if not left:
                where = f"on the cluster of {ON_A_CLUSTER} = {address!r}" if address else "here"
                raise EngineUnavailableError(
                    f"Ray could not be begun {where} ({_last_line(error)}): try again when the "
                    "machine is less busy"
                ) from error
            ray.shutdown()
        else:
            return


def _check_answers(address: str) -> None:
    """Refuse an address where nobody answers: Ray itself would try for minutes.

    Raises:
        ConfigError: Nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # a word of Ray's own, such as "auto"
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise ConfigError(
            f"{ON_A_CLUSTER} = {address!r}: nobody answers ({error}); start the cluster (ray start "
            "--head), or leave the variable out to have workers on this machine"
        ) from None


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
