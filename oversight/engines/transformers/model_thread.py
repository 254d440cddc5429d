"""The one thread that owns the model: it takes jobs in and steps the batch while there are any."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from oversight.engines.transformers.sequence import Job
from oversight.errors import EngineError, OversightError

if TYPE_CHECKING:
    from oversight.engines.transformers.batching import Batch


class ModelThread:
    """Runs jobs in a thread that starts with the first one.

    Args:
        load: Gives the batch; called in the thread for the first job, and again for the next
            one if it raises.
    """

    def __init__(self, load: Callable[[], Batch]) -> None:
        self._load = load
        self._batch: Batch | None = None
        self._inbox: deque[Job] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def batch(self) -> Batch | None:
        """The batch, once it is loaded."""
        return self._batch

    def submit(self, job: Job) -> None:
        """Hand a job over.

        Raises:
            EngineError: The engine is closed.
        """
        with self._news:
            if self._closed:
                raise EngineError(f"request {job.request.id!r}: the engine is closed")
            self._inbox.append(job)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="oversight-transformers", daemon=True
                )
                self._thread.start()
            self._news.notify()

    def close(self) -> None:
        """End all jobs and the thread, and give the model's memory back. Blocks for one step."""
        with self._news:
            self._closed = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            jobs = self._next_jobs()
            if self._closed:
                self._end(jobs)
                return
            batch = self._loaded(jobs)
            if batch is not None:
                for job in jobs:
                    batch.add(job)
                batch.step()

    def _next_jobs(self) -> list[Job]:
        """All jobs that are new; waits for one while the batch has nothing to do."""
        with self._news:
            while not (self._inbox or self._closed or (self._batch and self._batch.busy)):
                self._news.wait()
            jobs = list(self._inbox)
            self._inbox.clear()
        return jobs

    def _loaded(self, jobs: list[Job]) -> Batch | None:
        """The batch, loaded if it is not yet; if that fails, `jobs` end with the reason."""
        if self._batch is None:
            try:
                self._batch = self._load()
            except Exception as error:
                reason = error if isinstance(error, OversightError) else EngineError(str(error))
                reason.__cause__ = None if reason is error else error
                for job in jobs:
                    job.on_done(reason)
        return self._batch

    def _end(self, jobs: list[Job]) -> None:
        closed = EngineError("the engine was closed before it answered")
        for job in jobs:
            job.on_done(closed)
        if self._batch is not None:
            self._batch.fail_all(closed)
            self._batch = None
