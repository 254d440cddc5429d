"""An experiment as jobs on several processes: each runs once its needs are done, and none twice.

A job has a folder, which holds its record, `done.json`, once it has ended: a job without it is not
done. Each process does one job after the other with one thread. A run can be killed anywhere; the
same command goes on from there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from oversight.config import ExperimentSettings, RunLabels
from oversight.errors import AnotherRunError, CheckpointError, OversightError
from oversight.evals.beside import without_interrupts
from oversight.files import check_place, write_json
from oversight.models import contents_of
from oversight.redaction import redacted
from oversight.store import Store
from oversight.store.runs import start_of
from oversight.train.runs.checkpoints import differences, unlike_contents
from oversight.train.runs.folder import FolderLock

DONE = "done.json"
REMEDY = "put back the file that the job wrote, or remove its folder to have the job done again"


class JobFact(BaseModel):
    """A part of a job's record. Fields of a later version are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class JobDone(JobFact):
    """A job that has ended; all that is said of one whose work is files beside the record."""

    seconds: float | None = None
    """Time that the job took; None while it is not over."""

    def plain(self) -> dict[str, Any]:
        """The fields that are set, JSON-plain; the time that it took comes last."""
        found = self.model_dump(mode="json", exclude_unset=True)
        return {name: found[name] for name in sorted(found, key=lambda name: name == "seconds")}


class ExperimentJob(Protocol):
    """One job of an experiment."""

    @property
    def name(self) -> str:
        """Its name, and that of its folder."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the jobs that have to be done before."""

    @property
    def weight(self) -> int:
        """Seconds that it takes, roughly."""


class Experiment(Protocol):
    """An experiment, as the processes need it; it can be pickled."""

    @property
    def noun(self) -> str:
        """A word for it in messages: `circle`."""

    @property
    def record(self) -> str:
        """Name of the file that says what the folder holds."""

    @property
    def settings(self) -> ExperimentSettings:
        """Its settings."""

    def plan(self) -> Sequence[ExperimentJob]:
        """All jobs, each after those it needs."""

    def check(self) -> None:
        """Parse and try all that the jobs begin with; raises what cannot be used."""

    def questions_id(self) -> str:
        """A hash of all questions that are asked, in their order."""

    def reads(self, job: str) -> frozenset[str]:
        """Settings that the job of that name reads, besides what other jobs have made: none of
        them may change while its work stands."""

    def run(self, job: Any) -> JobDone:
        """Do the job, or what is left of it, and give its record."""


def read_done(folder: Path) -> dict[str, Any] | None:
    """The record in a job's folder, JSON-plain; None if the job is not done.

    Raises:
        CheckpointError: The file is damaged.
    """
    return read_object(folder / DONE, REMEDY)


def read_object(path: Path, remedy: str) -> dict[str, Any] | None:
    """The JSON object in a file of an experiment; None if there is no such file.

    Raises:
        CheckpointError: It holds something else; `remedy` says what helps.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON ({error}); {remedy}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is damaged: it holds no JSON object; {remedy}")
    return data


def write_done(folder: Path, done: JobDone, seconds: float) -> None:
    """Write down that a job has ended, in one go."""
    write_json(folder / DONE, done.plain() | {"seconds": round(seconds, 1)})


def folder_of(out: Path, name: str) -> Path:
    """The folder of a job, in that of its experiment."""
    return out / "stages" / name


CONTENTS = "contents"
"""In the record: what was at the places that settings name."""
WATCH_S = 1.0
"""Seconds between two looks of a process for the one that began it."""


@dataclass(frozen=True)
class JobsProgress:
    """Progress of an experiment."""

    jobs: tuple[ExperimentJob, ...]
    done: frozenset[str]
    found: frozenset[str]
    """Those of `done` that were done before this run."""
    running: tuple[str, ...] = ()
    finished: tuple[str, float] | None = None
    """The job that has just ended, and its seconds."""


Report = Callable[[JobsProgress], None]


class JobError(OversightError):
    """A job of an experiment failed."""


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    job: ExperimentJob | None = None
    begun: float = 0.0


@dataclass
class _State:
    jobs: Sequence[ExperimentJob]
    done: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)

    def ready(self) -> ExperimentJob | None:
        """A job whose needs are done, in the order of the plan; None if there is none."""
        able = (s for s in self.jobs if s.name not in self.taken and self.done >= set(s.needs))
        return next(able, None)

    def progress(self, workers: list[_Worker], finished: tuple[str, float] | None) -> JobsProgress:
        running = tuple(w.job.name for w in workers if w.job is not None)
        done, found = frozenset(self.done), frozenset(self.found)
        return JobsProgress(tuple(self.jobs), done, found, running, finished)


def run(experiment: Experiment, report: Report = lambda _: None) -> dict[str, dict[str, Any]]:
    """Do all that is not done yet; every job's record by its name.

    Raises:
        AnotherRunError: The folder holds an experiment with other settings, models or questions.
        ConfigError: Another process runs one in the folder, or a job could not begin.
        DataError: There are fewer questions than are asked for.
        JobError: A job failed; says which, and why.
    """
    check_place(experiment.settings.out, "out", is_folder=True)
    jobs = experiment.plan()
    done = {job.name for job in jobs if _record(experiment, job) is not None}
    if len(done) < len(jobs):
        experiment.check()
    experiment.settings.out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(experiment.settings.out)
    try:
        check_record(experiment, whole=len(done) == len(jobs))
        state = _State(jobs, set(done), done, set(done))
        report(state.progress([], None))
        if len(done) < len(jobs):
            _run(experiment, state, report)
        return {job.name: _record(experiment, job) or {} for job in jobs}
    finally:
        lock.release()


def label(store: Store, settings: RunLabels) -> None:
    """Let what a job writes from now on belong to the experiment's run, if a person named one.

    Each job has a store of its own and its folder says what it is: without a name there is nothing
    to tell apart.
    """
    if settings.run is not None:
        store.begin_run(start_of(settings, "run"))


def _record(experiment: Experiment, job: ExperimentJob) -> dict[str, Any] | None:
    return read_done(folder_of(experiment.settings.out, job.name))


def check_record(experiment: Experiment, *, whole: bool) -> None:
    """Write down what the experiment is, or see that the folder's is the same.

    Models are what their folders hold and a data set is its questions, wherever they are. Of a
    circle whose record is of before, and says only where they were, the places are compared.

    Args:
        experiment: The experiment.
        whole: Whether all of it is done: its questions are then not needed again.
    """
    settings = experiment.settings
    path = experiment.settings.out / experiment.record
    here: dict[str, Any] = json.loads(
        redacted(settings.model_dump_json(exclude=set(settings.incidental)))
    )
    known = read_object(path, "restore a copy, or name another folder") or {}
    held: dict[str, Any] | None = known.pop(CONTENTS, None)
    contents = contents_of(here, settings.by_content)
    if not whole or known.get("dataset") != here.get("dataset"):
        contents["dataset"] = experiment.questions_id()
    if known:
        here = _with_unread(experiment, known, here)
        _refuse_another(experiment, known, here, held, contents)
    if not whole and (held is None or here != known):
        write_json(path, here | {CONTENTS: (held or {}) | contents})


def _with_unread(
    experiment: Experiment, known: dict[str, Any], here: dict[str, Any]
) -> dict[str, Any]:
    """The settings, those that no job of the plan reads as the record has them."""
    read = frozenset[str]().union(*(experiment.reads(job.name) for job in experiment.plan()))
    return here | {name: value for name, value in known.items() if name not in read}


def _made_by(experiment: Experiment, setting: str) -> str | None:
    """The first job, of this plan or of another, that read a setting and has left something."""
    folders = sorted((experiment.settings.out / "stages").glob("*"))
    begun = (each.name for each in folders if each.is_dir() and any(each.iterdir()))
    return next((name for name in begun if setting in experiment.reads(name)), None)


def _refuse_another(
    experiment: Experiment,
    known: dict[str, Any],
    here: dict[str, Any],
    held: dict[str, Any] | None,
    contents: dict[str, Any],
) -> None:
    for name, old, new in differences(known, here):
        if any(f"{name}.".startswith(f"{each}.") for each in contents):
            continue
        if (job := _made_by(experiment, name.partition(".")[0])) is not None:
            raise AnotherRunError(
                f"{experiment.settings.out} holds a {experiment.noun} with another {name} "
                f"({json.dumps(old)}, now {json.dumps(new)}), and stages/{job} is there already; "
                "give another --out, or remove the folder to begin anew"
            )
    looked_at = held and {name: at for name, at in held.items() if name in contents}
    if found := unlike_contents(known, looked_at, here, contents):
        raise AnotherRunError(
            f"{experiment.settings.out} holds another {experiment.noun}: {found[0]}. Put back what "
            "was there to go on; or give another --out, or remove the folder to begin anew"
        )


def _run(experiment: Experiment, state: _State, report: Report) -> None:
    left = len(state.jobs) - len(state.done)
    with _workers(experiment, min(experiment.settings.jobs, left)) as workers:
        while len(state.done) < len(state.jobs):
            _assign_jobs(state, workers)
            report(state.progress(workers, None))
            busy = [worker for worker in workers if worker.job is not None]
            for pipe in wait([worker.pipe for worker in busy]):
                worker = next(each for each in busy if each.pipe is pipe)
                report(state.progress(workers, _take_result(experiment, state, worker)))


def _assign_jobs(state: _State, workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.job is None and (job := state.ready()) is not None:
            state.taken.add(job.name)
            worker.job, worker.begun = job, time.monotonic()
            with suppress(ConnectionError):  # one that is dead is found out by its answer
                worker.pipe.send(job.name)


def _take_result(experiment: Experiment, state: _State, worker: _Worker) -> tuple[str, float]:
    assert worker.job is not None
    job, seconds = worker.job, time.monotonic() - worker.begun
    worker.job = None
    try:
        error = worker.pipe.recv()
    except (EOFError, ConnectionError):  # reset, where it had not read what to do yet
        worker.process.join()
        error = f"its process ended with {worker.process.exitcode}: killed, or out of memory"
    if error is not None:
        log = experiment.settings.out / "logs"
        raise JobError(f"{job.name} failed: {error} (what it printed is in {log})")
    state.done.add(job.name)
    return job.name, seconds


@contextmanager
def _workers(experiment: Experiment, number: int) -> Iterator[list[_Worker]]:
    """Processes that wait for work; they never outlive this one."""
    # Not forked: threads of torch do not survive that.
    context = multiprocessing.get_context("spawn")
    (experiment.settings.out / "logs").mkdir(exist_ok=True)
    workers = []
    try:
        for index in range(number):
            ours, theirs = context.Pipe()
            log = experiment.settings.out / "logs" / f"{index}.txt"
            arguments = (theirs, experiment, log, os.getpid())
            process = context.Process(target=_run_worker, args=arguments, daemon=True)
            with without_interrupts():
                process.start()
            theirs.close()
            workers.append(_Worker(process, ours))
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()


def _run_worker(pipe: Connection, experiment: Experiment, log: Path, parent: int) -> None:
    """One process: job after job, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that began us ends us
    threading.Thread(target=end_with_parent, args=(parent,), daemon=True).start()
    file = log.open("a", encoding="utf-8")
    os.dup2(file.fileno(), sys.stdout.fileno())
    os.dup2(file.fileno(), sys.stderr.fileno())

    import torch

    # Pieces run side by side, and small models gain nothing from a second thread.
    torch.set_num_threads(1)
    jobs = {job.name: job for job in experiment.plan()}
    while True:
        try:
            job = jobs[pipe.recv()]
        except (EOFError, ConnectionError):
            return
        pipe.send(_outcome(experiment, job))


def _outcome(experiment: Experiment, job: ExperimentJob) -> str | None:
    """None once the job is done and written down, else the reason that it failed."""
    begun = time.monotonic()
    try:
        done = experiment.run(job)
    except OversightError as error:
        _print_traceback()
        return str(error)
    except Exception as error:
        _print_traceback()
        return redacted(f"unexpected {type(error).__name__}: {error}")
    write_done(folder_of(experiment.settings.out, job.name), done, time.monotonic() - begun)
    return None


def _print_traceback() -> None:
    sys.stderr.write(redacted(traceback.format_exc()))


def end_with_parent(parent: int) -> None:
    """End with the process that began this one, even where that was killed."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)
