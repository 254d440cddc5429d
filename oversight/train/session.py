"""The loop shared by all trainers: steps, updates, logs, checkpoints, guards, the end.

A trainer builds its models and data, opens a `Session`, and its loop reads

    for step in session.steps():
        metrics = session.update(Objective(groups, loss_of))
        session.log(metrics)
        if session.evaluation_is_due:
            session.evaluated(score, metrics)
    return session.finish(...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from oversight.errors import CheckpointError, ConfigError, OversightError, TrainingInterrupted
from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import Backbone
from oversight.train.batches import Cutting, micro_batches
from oversight.train.data.examples import Cursor, EpochOrder
from oversight.train.distributed import World, announce, has_lost_another, put_together
from oversight.train.experts import balance_of
from oversight.train.losses.metrics import SIGNAL, Metrics, Peak, merge
from oversight.train.optimizer import (
    build_optimizer,
    clip_gradients,
    gather_rows,
    keep_by_rows,
    set_rate,
)
from oversight.train.runs.final import FinalModel, finish
from oversight.train.runs.folder import RunDescription, RunFolder, resume_command
from oversight.train.runs.guards import Guards
from oversight.train.runs.metrics import TrainProgress
from oversight.train.runs.schedules import EarlyStop, Interrupt, multiplier
from oversight.train.runs.state import Part, RunState, seed_all, trained_weights
from oversight.train.settings import TRACKERS, TrainSettings


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss of one step's examples, by parts."""

    groups: Sequence[Sequence[TokenRow]]
    """Rows that are computed together: a pair, the samples of a prompt."""
    loss_of: Callable[[list[int]], tuple[torch.Tensor, Metrics]]
    """From the numbers of groups to their part of the loss, which is divided by counts over the
    whole step and all processes, and its metrics."""
    in_one: bool = False
    """True if the loss is no sum over groups, so that they cannot be computed in parts."""
    of_rows: Callable[[int, list[int]], tuple[torch.Tensor, Metrics]] | None = None
    """The same for some rows of one group, where the loss is a sum over rows as well."""

    def parts(self, max_tokens: int, enough: int | None = None) -> list[list[int]]:
        """Numbers of the groups that are computed together."""
        if self.in_one:
            return [list(range(len(self.groups)))]
        return micro_batches(self.groups, max_tokens, enough)


UPDATE = ("loss", "start_loss", "grad_norm")
"""Metrics that guards look at before an update is applied; the others when it is logged."""


@dataclass
class DataPosition:
    """A run's place in its data."""

    order: EpochOrder
    cursor: Cursor = field(default_factory=Cursor)
    num_skipped: int = 0
    """Steps that were not taken, as there was nothing to learn in them."""

    def take(self, batch_size: int) -> list[int]:
        """Numbers of the next examples."""
        taken, self.cursor = self.order.take(self.cursor, batch_size)
        return [int(i) for i in taken]

    def state_dict(self) -> dict[str, Any]:
        """The place in the data."""
        skipped = {"skipped": self.num_skipped} if self.num_skipped else {}
        return self.cursor.to_json() | skipped

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from that place."""
        self.cursor = Cursor(state_dict["epoch"], state_dict["index"])
        self.num_skipped = state_dict.get("skipped", 0)


class Session:
    """A run of one trainer, from its first step or its last checkpoint to its finished model.

    Args:
        about: Facts about the run.
        settings: Settings that all trainers share.
        models: The models that are trained, by name.
        num_examples: Of the data that steps are taken from.
        total: Optimiser steps of the whole run.
        world: The processes of the run.
        parts: Further state that a resumed run needs.
        higher_is_better: Of the held-out result.
        resume: Go on with a run that is there.
    """

    def __init__(
        self,
        about: RunDescription,
        settings: TrainSettings,
        models: Mapping[str, torch.nn.Module],
        *,
        num_examples: int,
        total: int,
        world: World,
        parts: Mapping[str, Part] | None = None,
        higher_is_better: bool = False,
        resume: bool = False,
    ) -> None:
        if settings.batch_size % world.size:
            raise ConfigError(
                f"batch_size = {settings.batch_size} is no multiple of the {world.size} processes"
            )
        self.settings = settings
        self.world = world
        self.total = total
        self.step = 0
        """Steps done, the one under way included."""
        self._models = models
        self._weights = [p for m in models.values() for p in m.parameters() if p.requires_grad]
        keep_by_rows(models.values())
        self._optimizer = build_optimizer(models.values(), settings.optimizer)
        self._balance = balance_of(settings, models)
        self._cutting = Cutting(settings, models, world)
        self._guards = Guards(settings.guards)
        self._stop = EarlyStop(settings.patience, higher_is_better=higher_is_better)
        _check_same_data(about, world)
        self.visits = DataPosition(EpochOrder(num_examples, settings.seed, settings.shuffle))
        own: dict[str, Part] = {
            "visits": self.visits,
            "guards": self._guards,
            "stop": self._stop,
        }
        self._state = RunState(trained_weights(**models), self._optimizer, own | dict(parts or {}))
        self._score: float | None = None
        self._interrupt = Interrupt(world, resume_command)
        self._folder = RunFolder(
            settings.out,
            about,
            resume=resume,
            world=world,
            keep=settings.keep,
            higher_is_better=higher_is_better,
            trackers=[name for name in TRACKERS if getattr(settings, name)],
        )
        self._open = ExitStack()
        self._name = about.trainer
        self._num_tokens = 0

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            opening.enter_context(self._folder)
            seed_all(self.settings.seed, self.world.rank)
            resumed = self._folder.resume(self._state)
            self.step = self._interrupt.kept = resumed.step
            self._progress = opening.enter_context(
                TrainProgress(self._name, self.total, resumed.step, silent=not self.world.is_first)
            )
            if resumed.step:
                self.say(f"going on after step {resumed.step} of {self.total}")
            for note in resumed.notes:
                self.say(note)
            opening.enter_context(self._interrupt)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()
        if isinstance(error, OversightError):
            announce(error, self.world)
        if error is not None and has_lost_another(error):
            raise TrainingInterrupted(
                "another process of this run has ended, which has said why; go on from the last "
                f"checkpoint with: {resume_command()}"
            ) from None

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._folder.path

    @property
    def evaluation_is_due(self) -> bool:
        """Return whether the held-out part is evaluated after this step."""
        return self.step % self.settings.eval_every == 0 or self.step == self.total

    def say(self, message: str) -> None:
        """A line for people, above the progress bar."""
        if self.world.is_first:
            self._progress.say(message)

    def steps(self) -> Iterator[int]:
        """The steps that are left, counted from 1; each is saved if that is due.

        Raises:
            TrainingInterrupted: The run was asked to stop, and its checkpoint is written.
        """
        while self.step < self.total and not self._stop.is_due:
            self.step += 1
            self._score = None
            set_rate(self._optimizer, self._rate())
            yield self.step
            interrupted = self._interrupt.asked()
            due = self.step % self.settings.save_every == 0 or self.step == self.total
            if due or interrupted or self._score is not None:
                self._folder.save(self.step, self._state, self._score)
                self._interrupt.kept = self.step
            if interrupted:
                raise self._interrupt.leave(self.step)

    def take(self) -> list[int]:
        """Numbers of the coming step's examples, of all processes."""
        return self.visits.take(self.settings.batch_size)

    def take_own(self) -> list[int]:
        """Numbers of this process's examples of the coming step."""
        return self.world.share(self.take())

    def update(self, task: Objective) -> dict[str, float]:
        """One optimiser step, in as many parts as memory asks for; gives its metrics.

        No step is taken, and `skipped` is 1, where the task says that there is no signal: neither
        momentum nor decay moves a weight then, and the optimiser's state stays as it is.

        Raises:
            TrainingStopped: The loss or the gradient is not what it may be; no weight has changed.
        """
        for model in self._models.values():
            model.train()
        parts = task.parts(self.settings.micro_batch_tokens, self._cutting.enough)
        metrics: Metrics = {}
        total_loss = total_aux = 0.0
        padded = self.world.padded(parts)
        sent = self._sent_to_experts(task, padded, len(parts))
        for number, numbers in enumerate(padded):
            for model in self._models.values():
                self.world.exchange_gradients(model, number == len(padded) - 1)
            for turn in self._computed(task, numbers, sent):
                # Where another process has more to compute, all take part in as many passes.
                loss, found, aux = turn if number < len(parts) else _nothing_of(*turn)
                total_loss += float(loss.detach())
                if self._balance is not None and aux is not None:
                    total_aux += float(aux.detach())
                    loss = loss + self._balance.coefficient * aux
                loss.backward()  # type: ignore[no-untyped-call]
                gather_rows(self._weights)
                metrics = merge(metrics, found)
        norm = clip_gradients(self._weights, self.settings.optimizer.max_grad_norm)
        [total_loss] = self.world.sum([total_loss])
        values = {"loss": total_loss} | {
            name: value for name, value in self.reduced(metrics).items() if name != "loss"
        }
        if self._balance is not None:
            [values["router_aux"]] = self.world.sum([total_aux])
        values |= {"grad_norm": norm, "lr": self._rate()}
        skips = values.get(SIGNAL, 1.0) <= 0.0
        if SIGNAL in values:
            values["skipped"] = float(skips)
        # Before the weights change: nothing that is not finite gets into them. The norm of a
        # gradient that is not applied is rounding, against which any other one is large.
        looked_at = [name for name in UPDATE if not (skips and name == "grad_norm")]
        self._check({name: values[name] for name in looked_at if name in values})
        for name in ("start_loss", SIGNAL):
            values.pop(name, None)
        if skips:
            self.visits.num_skipped += 1
        else:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._num_tokens += sum(row.num_tokens for group in task.groups for row in group)
        return values

    def _sent_to_experts(
        self, task: Objective, padded: Sequence[list[int]], num_own: int
    ) -> list[float] | None:
        """Return how often the step's tokens are sent to each expert, and their number; None where
        one part is the whole of it, or nobody asks."""
        if self._balance is None or (len(padded) == 1 and self.world.size == 1):
            return None
        counted: list[list[float]] = []
        with torch.no_grad():
            for numbers in padded:
                with self._balance.hearing() as routed:
                    task.loss_of(numbers)
                    counted.append(routed().state())
        return self.world.sum([sum(each) for each in zip(*counted[:num_own], strict=True)])

    def _computed(
        self, task: Objective, numbers: list[int], sent: list[float] | None
    ) -> Iterator[tuple[torch.Tensor, Metrics, torch.Tensor | None]]:
        """Loss and metrics of a part of a step, and its part of the load-balancing loss."""
        if self._balance is None:
            for loss, found in self._in_memory(task, numbers):
                yield loss, found, None
            return
        with self._balance.hearing() as routed:
            loss, found = task.loss_of(numbers)
            own = routed()
        yield loss, found, self._balance.loss(own, sent or own.state())

    def _in_memory(
        self, task: Objective, numbers: list[int]
    ) -> Iterator[tuple[torch.Tensor, Metrics]]:
        """A part of a step; one that is larger than it may be in turns (`batches.Cutting`).

        The next turn is asked for once the last one's backward pass is through.
        """
        rows = [row for i in numbers for row in task.groups[i]]
        holds = task.of_rows is not None and len(numbers) == 1
        parts = self._cutting.parts(rows, holds=holds)
        if parts is None:
            yield task.loss_of(numbers)
        elif holds and task.of_rows is not None:
            with self._cutting.holding(rows, parts):
                for part in parts.parts:
                    yield task.of_rows(numbers[0], part)
        else:
            with self._cutting.scoring_in_parts():
                yield task.loss_of(numbers)

    def reduced(self, metrics: Metrics) -> dict[str, float]:
        """Metrics as numbers over all processes, which need not all have the same ones."""
        values: dict[str, float] = {}
        sums: dict[str, tuple[float, float]] = {}
        for found in self.world.gather(_plain(metrics)):
            for name, at in found.items():
                if isinstance(at, float):
                    values[name] = max(at, values.get(name, at))
                else:
                    total, count = sums.get(name, (0.0, 0.0))
                    sums[name] = (total + at[0], count + at[1])
        return values | {name: total / count for name, (total, count) in sums.items() if count}

    def log(self, values: Mapping[str, float]) -> None:
        """Write down and show the metrics of this step.

        Raises:
            TrainingStopped: A guard has found something in them.
        """
        self._check({name: value for name, value in values.items() if name not in UPDATE})
        self._progress.update(self.step, values, self._num_tokens * self.world.size)
        self._num_tokens = 0
        if self.step % self.settings.log_every == 0 or self.step == self.total:
            self._folder.log(self.step, values)

    def keep(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Write down responses that were learnt from in this step (see `read_samples`)."""
        self._folder.keep(self.step, samples)
        self._progress.sample(self.step, samples)

    def evaluated(self, score: float, values: Mapping[str, float]) -> None:
        """Take in the held-out result of this step: `score` says which step is the best."""
        self._folder.log(self.step, values, "eval")
        self._score = score
        if self._stop.better(self.step, score):
            self.say(f"step {self.step}: held out {score:.4g}, the best so far")
        elif self._stop.is_due:
            self.say(
                f"step {self.step}: no better result for {self._stop.num_worse} evaluations; done"
            )

    def evaluate(self, task: Objective) -> dict[str, float]:
        """Metrics of held-out examples; every process computes its part of them.

        `loss` is what training makes smaller, with the weights of the examples.
        """
        for model in self._models.values():
            model.eval()
        parts = task.parts(self.settings.micro_batch_tokens, self._cutting.enough)
        metrics: Metrics = {}
        total_loss = 0.0
        with torch.no_grad():
            for number, numbers in enumerate(self.world.padded(parts)):
                for loss, found in self._in_memory(task, numbers):
                    if number < len(parts):
                        metrics = merge(metrics, found)
                        total_loss += float(loss)
        [total_loss] = self.world.sum([total_loss])
        return self.reduced(metrics) | {"loss": total_loss}

    def best_weights(self) -> None:
        """Take the weights of the best checkpoint, if held-out results said which that is."""
        best = self._folder.checkpoints.best()
        if best is not None and self._stop.best_step not in (None, self.step):
            self._folder.checkpoints.read_weights(best, self._state.weights)
            self.say(f"taking the weights of step {self._stop.best_step}, the best held-out result")

    def finish(self, model: Backbone, tokenizer: Any, *, best: bool = True) -> Path:
        """Save the finished model, checked by reading it again; gives its folder.

        Args:
            model: The model that was trained.
            tokenizer: The one it goes with.
            best: Take the weights with the best held-out result, if there are such results.

        Raises:
            CheckpointError: It cannot be written, or does not come back as it was.
        """
        if skipped := self.visits.num_skipped:
            what = f"{skipped:,} of {self.step:,} steps were not taken"
            if skipped == self.step:
                what = f"none of {self.step:,} steps was taken and the model is as it was"
            self.say(f"{what}: there was nothing to learn in them")
        if best:
            self.best_weights()
        put_together(model, self.world)
        error: CheckpointError | None = None
        if self.world.is_first:
            try:
                self._write_model(model, tokenizer)
            except CheckpointError as raised:
                error = raised
        failed = self.world.from_first(None if error is None else str(error))
        if failed is not None:
            raise error or CheckpointError(failed)
        return self._folder.model_path

    def _write_model(self, model: Backbone, tokenizer: Any) -> None:
        settings = self.settings.model
        ending = FinalModel(
            tokenizer=tokenizer,
            base_model=settings.path or "random weights",
            num_steps=self.step,
            merge=settings.lora is not None and settings.lora.merge,
        )
        finish(self._folder, model.model, ending)
        self.say(f"finished: {self._folder.model_path}")

    def _rate(self) -> float:
        how = self.settings.optimizer
        return how.lr * multiplier(
            how.schedule, self.step - 1, self.total, how.warmup, how.min_ratio
        )

    def _check(self, values: Mapping[str, float]) -> None:
        check = partial(self._guards.check, self.step, values)
        for warning in self._folder.noted(self.step, check):
            self.say(warning)


def num_steps(settings: TrainSettings, num_examples: int) -> int:
    """Optimiser steps of a run over so many examples, however many processes take them."""
    if settings.steps is not None:
        return settings.steps
    order = EpochOrder(num_examples, settings.seed, settings.shuffle)
    return max(1, round(settings.epochs * order.num_batches(settings.batch_size)))


def _nothing_of(
    loss: torch.Tensor, _: Metrics, aux: torch.Tensor | None
) -> tuple[torch.Tensor, Metrics, torch.Tensor | None]:
    return loss * 0.0, {}, None if aux is None else aux * 0.0


def _plain(metrics: Metrics) -> dict[str, float | tuple[float, float]]:
    """A largest value as a number, a mean as its total and its count."""
    return {
        name: m.value() if isinstance(m, Peak) else (float(m.total), float(m.count))
        for name, m in metrics.items()
    }


def _check_same_data(about: RunDescription, world: World) -> None:
    """Processes that have read other data or settings would wait for one another for ever.

    Raises:
        ConfigError: They have.
    """
    found = world.gather(about.fingerprint())
    if any(each != found[0] for each in found):
        raise ConfigError(
            "the processes of this run have read other data or settings than one another: give "
            "all machines the same files and the same command"
        )
