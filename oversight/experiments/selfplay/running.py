"""A circle's jobs on several processes: each runs once its needs are done, and none twice.

Each process does one piece after the other with one thread. A run can be killed anywhere; the same
command goes on from there.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from oversight import protocols
from oversight.config import describe
from oversight.errors import CheckpointError, ConfigError, DataError, OversightError
from oversight.experiments.selfplay import methods
from oversight.experiments.selfplay.facts import read_object, write_done
from oversight.experiments.selfplay.games import BEST_OF_N, PROTOCOLS, questions, speaking
from oversight.experiments.selfplay.jobs import CircleJob, folder_of, plan_jobs, result_of, run_job
from oversight.experiments.selfplay.settings import CircleSettings
from oversight.files import write_json
from oversight.ids import content_id
from oversight.modeling.scoring.checks import check_stored, empty_model
from oversight.models.identity import contents_of
from oversight.redaction import redacted
from oversight.train import dpo, grpo, ppo, reward, sft
from oversight.train.loading import read_config
from oversight.train.runs.checkpoints import differences, unlike_contents
from oversight.train.runs.folder import FolderLock
from oversight.train.settings import ModelSettings

OWN = {
    "out": "each run has its folder in the circle's `out`",
    "seed": "runs have the circle's `seeds`",
}
"""Settings of a trainer that the circle sets itself."""
LATER = Path("later")
"""Stands for a folder that an earlier job will have made."""


def check(circle: CircleSettings) -> None:
    """Parse and try all that the circle's jobs begin with.

    Raises:
        ConfigError: A setting cannot be used; names it, as `ppo.steps`.
        DataError: There are fewer questions than the circle asks for.
    """
    for name, trainer, config in _runs(circle):
        _check_run(name, trainer, config, getattr(circle, name))
    for name in ("model", "judge"):
        _check_model(name, getattr(circle, name))
    for arena in circle.arenas:
        for protocol in (PROTOCOLS[arena], BEST_OF_N[arena]):
            protocols.load(protocol)
    speaking(circle, circle.model)
    asked = {
        "train_questions": ("train", circle.train_questions),
        "held_out_questions": ("held_out", circle.held_out_questions),
        "crossplay_questions": ("held_out", circle.crossplay_questions),
    }
    for name, (split, number) in asked.items():
        _check_questions(circle, name, split, number)


def _runs(circle: CircleSettings) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Each kind of training run of the circle: its table, its trainer and its settings."""
    policy, arena, seed = circle.model, circle.arenas[0], circle.seeds[0]
    compared = (circle, policy, LATER, arena, LATER, seed)
    if "expert_iteration" in circle.methods:
        yield "sft", sft, methods.sft_config(*compared)
    if "dpo" in circle.methods:
        yield "dpo", dpo, methods.dpo_config(*compared)
    if "ppo" in circle.methods:
        yield "reward", reward, methods.reward_config(circle, policy, LATER, seed)
        yield "ppo", ppo, methods.ppo_config(circle, policy, LATER, LATER, seed)
    if "grpo" in circle.methods:
        yield "grpo", grpo, methods.grpo_config(circle, policy, LATER, seed)
    if circle.train_judge:
        yield "sft_judge", sft, methods.judge_config(circle, LATER, seed)


def _check_run(name: str, trainer: Any, config: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse settings that the trainer would refuse, by their place in the recipe."""
    for own, why in OWN.items():
        if own in given:
            raise ConfigError(f"{name}.{own} = {given[own]!r}: leave it out, {why}")
    try:
        settings = trainer.Config.model_validate(config)
    except ValidationError as error:
        if not error.errors()[0]["loc"]:  # it speaks of several settings, and names them
            raise ConfigError(f"{name}: {describe(error, trainer.Config)}") from None
        raise ConfigError(describe(error, trainer.Config, name)) from None
    if hasattr(trainer, "check_loss"):
        try:
            trainer.check_loss(settings)
        except ConfigError as error:
            raise ConfigError(f"{name}.{error}") from None


def _check_model(name: str, path: str) -> None:
    """Refuse a model that is not there, is no causal language model, or lacks weights."""
    from transformers import AutoModelForCausalLM

    try:
        config, _ = read_config(ModelSettings(path=path), ())
        check_stored(path, empty_model(AutoModelForCausalLM, config), f"{name} = {path!r}")
    except ConfigError as error:
        raise ConfigError(str(error).replace("model.path = ", f"{name} = ", 1)) from None


def _check_questions(circle: CircleSettings, name: str, split: str, number: int) -> None:
    """Refuse a data set that has fewer questions than are asked for."""
    try:
        found = len(questions(circle, split, number))
    except OversightError as error:
        raise type(error)(f"dataset: {error}") from None
    if found < number:
        raise DataError(
            f"{name} = {number:,}: the data set {circle.dataset.dataset!r} has only {found:,} "
            f"questions in its part {split!r}; ask for fewer, or let it make more"
        )


RECORD = "circle.json"
CONTENTS = "contents"
"""In the record: what was at the places that settings name."""
WATCH_S = 1.0
"""Seconds between two looks of a process for the one that began it."""


@dataclass(frozen=True)
class CircleProgress:
    """Progress of a circle."""

    jobs: tuple[CircleJob, ...]
    done: frozenset[str]
    found: frozenset[str]
    """Those of `done` that were done before this run."""
    running: tuple[str, ...] = ()
    finished: tuple[str, float] | None = None
    """The job that has just ended, and its seconds."""


Report = Callable[[CircleProgress], None]


class JobError(OversightError):
    """A job of a circle failed."""


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    job: CircleJob | None = None
    begun: float = 0.0


@dataclass
class _State:
    jobs: list[CircleJob]
    done: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)

    def ready(self) -> CircleJob | None:
        """A job whose needs are done, in the order of the plan; None if there is none."""
        able = (s for s in self.jobs if s.name not in self.taken and self.done >= set(s.needs))
        return next(able, None)

    def progress(
        self, workers: list[_Worker], finished: tuple[str, float] | None
    ) -> CircleProgress:
        running = tuple(w.job.name for w in workers if w.job is not None)
        done, found = frozenset(self.done), frozenset(self.found)
        return CircleProgress(tuple(self.jobs), done, found, running, finished)


def run(circle: CircleSettings, report: Report = lambda _: None) -> dict[str, dict[str, Any]]:
    """Do all that is not done yet; every piece's result by its name.

    Raises:
        CheckpointError: The folder holds a circle with other settings, models or questions.
        ConfigError: Another process runs a circle in the folder, or a piece could not begin.
        DataError: There are fewer questions than the circle asks for.
        JobError: A piece failed; says which, and why.
    """
    jobs = plan_jobs(circle)
    done = {job.name for job in jobs if result_of(circle, job.name) is not None}
    if len(done) < len(jobs):
        check(circle)
    circle.out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(circle.out)
    try:
        _check_settings(circle, whole=len(done) == len(jobs))
        state = _State(jobs, set(done), done, set(done))
        report(state.progress([], None))
        if len(done) < len(jobs):
            _run(circle, state, report)
        return {job.name: result_of(circle, job.name) or {} for job in jobs}
    finally:
        lock.release()


def _check_settings(circle: CircleSettings, *, whole: bool) -> None:
    """Write down what the circle is, or see that the folder's is the same.

    Models are what their folders hold and a data set is its questions, wherever they are. Of a
    circle whose record is of before, and says only where they were, the places are compared.

    Args:
        circle: The circle.
        whole: Whether all of it is done: its questions are then not needed again.
    """
    path = circle.out / RECORD
    here = json.loads(redacted(circle.model_dump_json(exclude=set(circle.incidental))))
    known = read_object(path, "restore a copy, or name another folder") or {}
    held: dict[str, Any] | None = known.pop(CONTENTS, None)
    contents = contents_of(here, circle.by_content)
    if not whole or known.get("dataset") != here["dataset"]:
        contents["dataset"] = _questions_id(circle)
    if known:
        _refuse_another(circle, known, here, held, contents)
    if held is None and not whole:
        write_json(path, here | {CONTENTS: contents})


def _refuse_another(
    circle: CircleSettings,
    known: dict[str, Any],
    here: dict[str, Any],
    held: dict[str, Any] | None,
    contents: dict[str, Any],
) -> None:
    other = [
        each
        for each in differences(known, here)
        if not any(f"{each[0]}.".startswith(f"{name}.") for name in contents)
    ]
    if other:
        name, old, new = other[0]
        raise CheckpointError(
            f"{circle.out} holds a circle with another {name} "
            f"({json.dumps(old)}, now {json.dumps(new)}); "
            "give another --out, or remove the folder to begin anew"
        )
    looked_at = held and {name: at for name, at in held.items() if name in contents}
    if found := unlike_contents(known, looked_at, here, contents):
        raise CheckpointError(
            f"{circle.out} holds another circle: {found[0]}. Put back what was there to go on; "
            "or give another --out, or remove the folder to begin anew"
        )


def _questions_id(circle: CircleSettings) -> str:
    """A hash of all questions that the circle asks, in their order."""
    from oversight.experiments.selfplay.games import questions

    asked = {
        split: [question.fingerprint for question in questions(circle, split, number)]
        for split, number in circle.num_questions().items()
    }
    return f"questions:{content_id(asked)}"


def _run(circle: CircleSettings, state: _State, report: Report) -> None:
    left = len(state.jobs) - len(state.done)
    with _workers(circle, min(circle.jobs, left)) as workers:
        while len(state.done) < len(state.jobs):
            _assign_jobs(state, workers)
            report(state.progress(workers, None))
            busy = [worker for worker in workers if worker.job is not None]
            for pipe in wait([worker.pipe for worker in busy]):
                worker = next(each for each in busy if each.pipe is pipe)
                report(state.progress(workers, _take_result(circle, state, worker)))


def _assign_jobs(state: _State, workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.job is None and (job := state.ready()) is not None:
            state.taken.add(job.name)
            worker.job, worker.begun = job, time.monotonic()
            with suppress(ConnectionError):  # one that is dead is found out by its answer
                worker.pipe.send(job.name)


def _take_result(circle: CircleSettings, state: _State, worker: _Worker) -> tuple[str, float]:
    assert worker.job is not None
    job, seconds = worker.job, time.monotonic() - worker.begun
    worker.job = None
    try:
        error = worker.pipe.recv()
    except (EOFError, ConnectionError):  # reset, where it had not read what to do yet
        worker.process.join()
        error = f"its process ended with {worker.process.exitcode}: killed, or out of memory"
    if error is not None:
        log = circle.out / "logs"
        raise JobError(f"{job.name} failed: {error} (what it printed is in {log})")
    state.done.add(job.name)
    return job.name, seconds


@contextmanager
def _workers(circle: CircleSettings, number: int) -> Iterator[list[_Worker]]:
    """Processes that wait for work; they never outlive this one."""
    # Not forked: threads of torch do not survive that.
    context = multiprocessing.get_context("spawn")
    (circle.out / "logs").mkdir(exist_ok=True)
    workers = []
    try:
        for index in range(number):
            ours, theirs = context.Pipe()
            arguments = (theirs, circle, circle.out / "logs" / f"{index}.txt", os.getpid())
            process = context.Process(target=_run_worker, args=arguments, daemon=True)
            with _without_interrupts():
                process.start()
            theirs.close()
            workers.append(_Worker(process, ours))
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from processes that are started meanwhile; here it waits for the end.

    The tracker of shared memory is started first, as it would let signals through again.
    """
    resource_tracker.ensure_running()
    if not hasattr(signal, "pthread_sigmask"):
        yield  # on Windows
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_worker(pipe: Connection, circle: CircleSettings, log: Path, parent: int) -> None:
    """One process: job after job, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that began us ends us
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    file = log.open("a", encoding="utf-8")
    os.dup2(file.fileno(), sys.stdout.fileno())
    os.dup2(file.fileno(), sys.stderr.fileno())

    import torch

    # Pieces run side by side, and small models gain nothing from a second thread.
    torch.set_num_threads(1)
    jobs = {job.name: job for job in plan_jobs(circle)}
    while True:
        try:
            job = jobs[pipe.recv()]
        except (EOFError, ConnectionError):
            return
        pipe.send(_outcome(circle, job))


def _outcome(circle: CircleSettings, job: CircleJob) -> str | None:
    """None once the job is done and written down, else the reason that it failed."""
    begun = time.monotonic()
    try:
        done = run_job(circle, job)
    except OversightError as error:
        _print_traceback()
        return str(error)
    except Exception as error:
        _print_traceback()
        return redacted(f"unexpected {type(error).__name__}: {error}")
    write_done(folder_of(circle, job.name), done, time.monotonic() - begun)
    return None


def _print_traceback() -> None:
    sys.stderr.write(redacted(traceback.format_exc()))


def _watch(parent: int) -> None:
    """End with the process that began this one, even where that was killed."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)
