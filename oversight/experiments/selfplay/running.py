"""A circle's pieces on several processes: what is ready runs, what is done is not run again.

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
from oversight.experiments.selfplay.games import BEST_OF_N, PROTOCOLS, questions, speaking
from oversight.experiments.selfplay.settings import CircleSettings
from oversight.experiments.selfplay.stages import CircleJob, folder_of, plan_stages, result_of, work
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
"""Stands for what an earlier piece will have made."""


def check(circle: CircleSettings) -> None:
    """Parse and try all that the circle's pieces begin with.

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
"""How often a process looks whether the one that began it is still there."""


@dataclass(frozen=True)
class CircleProgress:
    """How far a circle is."""

    stages: tuple[CircleJob, ...]
    done: frozenset[str]
    found: frozenset[str]
    """Those of `done` that were done before this run."""
    running: tuple[str, ...] = ()
    finished: tuple[str, float] | None = None
    """The piece that has just ended, and its seconds."""


Report = Callable[[CircleProgress], None]


class StageError(OversightError):
    """A piece of a circle failed."""


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    stage: CircleJob | None = None
    begun: float = 0.0


@dataclass
class _State:
    stages: list[CircleJob]
    done: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)

    def ready(self) -> CircleJob | None:
        """A piece whose needs are done; the one that most others wait for first."""
        able = (s for s in self.stages if s.name not in self.taken and self.done >= set(s.needs))
        return next(able, None)

    def progress(
        self, workers: list[_Worker], finished: tuple[str, float] | None
    ) -> CircleProgress:
        running = tuple(w.stage.name for w in workers if w.stage is not None)
        done, found = frozenset(self.done), frozenset(self.found)
        return CircleProgress(tuple(self.stages), done, found, running, finished)


def run(circle: CircleSettings, report: Report = lambda _: None) -> dict[str, dict[str, Any]]:
    """Do all that is not done yet; every piece's result by its name.

    Raises:
        CheckpointError: The folder holds a circle with other settings, models or questions.
        ConfigError: Another process runs a circle in the folder, or a piece could not begin.
        DataError: There are fewer questions than the circle asks for.
        StageError: A piece failed; says which, and why.
    """
    stages = plan_stages(circle)
    done = {stage.name for stage in stages if result_of(circle, stage.name) is not None}
    if len(done) < len(stages):
        from oversight.experiments.selfplay.running import check  # which loads the trainers

        check(circle)
    circle.out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(circle.out)
    try:
        _check_settings(circle, whole=len(done) == len(stages))
        state = _State(stages, set(done), done, set(done))
        report(state.progress([], None))
        if len(done) < len(stages):
            _run(circle, state, report)
        return {stage.name: result_of(circle, stage.name) or {} for stage in stages}
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
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
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
    left = len(state.stages) - len(state.done)
    with _workers(circle, min(circle.jobs, left)) as workers:
        while len(state.done) < len(state.stages):
            _give_work(state, workers)
            report(state.progress(workers, None))
            busy = [worker for worker in workers if worker.stage is not None]
            for pipe in wait([worker.pipe for worker in busy]):
                worker = next(each for each in busy if each.pipe is pipe)
                report(state.progress(workers, _take_result(circle, state, worker)))


def _give_work(state: _State, workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.stage is None and (stage := state.ready()) is not None:
            state.taken.add(stage.name)
            worker.stage, worker.begun = stage, time.monotonic()
            with suppress(ConnectionError):  # one that is dead is found out by its answer
                worker.pipe.send(stage.name)


def _take_result(circle: CircleSettings, state: _State, worker: _Worker) -> tuple[str, float]:
    assert worker.stage is not None
    stage, seconds = worker.stage, time.monotonic() - worker.begun
    worker.stage = None
    try:
        error = worker.pipe.recv()
    except (EOFError, ConnectionError):  # reset, where it had not read what to do yet
        worker.process.join()
        error = f"its process ended with {worker.process.exitcode}: killed, or out of memory"
    if error is not None:
        log = circle.out / "logs"
        raise StageError(f"{stage.name} failed: {error} (what it printed is in {log})")
    state.done.add(stage.name)
    return stage.name, seconds


@contextmanager
def _workers(circle: CircleSettings, number: int) -> Iterator[list[_Worker]]:
    """Processes that wait for work; whatever happens, they do not outlive this one."""
    # Not forked: threads of torch do not survive that.
    context = multiprocessing.get_context("spawn")
    (circle.out / "logs").mkdir(exist_ok=True)
    workers = []
    try:
        for index in range(number):
            ours, theirs = context.Pipe()
            arguments = (theirs, circle, circle.out / "logs" / f"{index}.txt", os.getpid())
            process = context.Process(target=_serve, args=arguments, daemon=True)
            with _deaf_to_ctrl_c():
                process.start()
            theirs.close()
            workers.append(_Worker(process, ours))
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What is started meanwhile is not interrupted while it loads; here Ctrl-C waits for the end.

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


def _serve(pipe: Connection, circle: CircleSettings, log: Path, parent: int) -> None:
    """One process: piece after piece, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that began us ends us
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    file = log.open("a", encoding="utf-8")
    os.dup2(file.fileno(), sys.stdout.fileno())
    os.dup2(file.fileno(), sys.stderr.fileno())

    import torch

    # Pieces run side by side, and small models gain nothing from a second thread.
    torch.set_num_threads(1)
    stages = {stage.name: stage for stage in plan_stages(circle)}
    while True:
        try:
            stage = stages[pipe.recv()]
        except (EOFError, ConnectionError):
            return
        pipe.send(_outcome(circle, stage))


def _outcome(circle: CircleSettings, stage: CircleJob) -> str | None:
    """None once the piece is done and written down, else why it failed."""
    begun = time.monotonic()
    try:
        result = work(circle, stage)
    except OversightError as error:
        _print_traceback()
        return str(error)
    except Exception as error:
        _print_traceback()
        return redacted(f"unexpected {type(error).__name__}: {error}")
    seconds = {"seconds": round(time.monotonic() - begun, 1)}
    write_json(folder_of(circle, stage.name) / "done.json", result | seconds)
    return None


def _print_traceback() -> None:
    sys.stderr.write(redacted(traceback.format_exc()))


def _watch(parent: int) -> None:
    """End with the process that began this one, even where that was killed."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)
