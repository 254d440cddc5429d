"""Changes over a run's steps, and its end: learning-rate schedules, early stop, Ctrl-C.

After Ctrl-C the step is finished, a checkpoint is left, and the run can go on.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any, Literal, Self

import torch
from torch.distributed.tensor import DTensor

from oversight.errors import TrainingInterrupted
from oversight.train.distributed import World
from oversight.train.runs.checkpoints import ALONE
from oversight.train.settings import OptimizerSettings

Schedule = Literal["constant", "linear", "cosine", "wsd"]

WSD_DECAY = 0.2
"""Share of all steps in which `wsd` (warm-up, stable, decay) goes down, at the end.

Hu et al., "MiniCPM", 2024; the decay is 1 - sqrt(t), as Hägele et al., 2024, found best.
"""


def multiplier(
    schedule: Schedule, step: int, total: int, warmup: float = 0.0, min_ratio: float = 0.0
) -> float:
    """Return the factor of the learning rate at step `step`, of 0 to `total` - 1.

    It rises in a line over the warm-up, is 1 after it, and would reach
    `min_ratio` at step `total`. Later steps keep `min_ratio`.

    Args:
        schedule: How it goes down after the warm-up.
        step: Steps that have been done.
        total: Steps of the whole run.
        warmup: Steps of the warm-up; below 1, a share of `total`.
        min_ratio: Share that is left at the end.
    """
    rising = warmup_steps(warmup, total)
    if step < rising:
        # The first step already moves: a rate of 0 would waste it.
        return (step + 1) / (rising + 1)
    falling = max(total - rising, 1)
    progress = min((step - rising) / falling, 1.0)
    return min_ratio + (1.0 - min_ratio) * _SHAPES[schedule](progress, total / falling)


def warmup_steps(warmup: float, total: int) -> int:
    """Steps of a warm-up that is given as a number, or below 1 as a share."""
    return math.ceil(warmup * total) if warmup < 1 else min(round(warmup), total)


def _wsd(progress: float, total: float) -> float:
    decay = min(WSD_DECAY * total, 1.0)
    into = (progress - (1.0 - decay)) / decay
    return 1.0 - math.sqrt(into) if into > 0.0 else 1.0


_SHAPES: dict[str, Callable[[float, float], float]] = {
    "constant": lambda progress, total: 1.0,
    "linear": lambda progress, total: 1.0 - progress,
    "cosine": lambda progress, total: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "wsd": _wsd,
}
"""1 at progress 0, 0 at progress 1 (but `constant`); `total` is all steps by those after the
warm-up."""


class EarlyStop:
    """Follows the held-out result.

    Args:
        patience: Evaluations without a better result after which it is enough; None: never.
        min_delta: By how much a result must be better to count.
        higher_is_better: Of results.
    """

    def __init__(
        self, patience: int | None = None, min_delta: float = 0.0, higher_is_better: bool = False
    ) -> None:
        self._patience = patience
        self._min_delta = min_delta
        self._sign = 1.0 if higher_is_better else -1.0
        self.best: float | None = None
        self.best_step: int | None = None
        self.num_worse = 0
        """Evaluations since the best one."""

    def better(self, step: int, result: float) -> bool:
        """Take in a result; whether it is the best so far. NaN never is."""
        gain = math.inf if self.best is None else self._sign * (result - self.best)
        if math.isnan(result) or not gain > self._min_delta:
            self.num_worse += 1
            return False
        self.best, self.best_step, self.num_worse = result, step, 0
        return True

    @property
    def is_due(self) -> bool:
        """Return whether patience has run out."""
        return self._patience is not None and self.num_worse >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"best": self.best, "best_step": self.best_step, "num_worse": self.num_worse}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.best = state_dict["best"]
        self.best_step = state_dict["best_step"]
        self.num_worse = state_dict["num_worse"]


SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers send before they kill."""
ASKED = b"\nfinishing this step and saving it; once more stops at once\n"


class Interrupt:
    """While it is open, a first signal only asks; a second one ends the run where it is.

    In a thread other than the main one signals cannot be caught, and nothing is.

    Args:
        world: The processes of the run.
        command: Gives the command line that goes on with it.
    """

    def __init__(self, world: World = ALONE, command: Callable[[], str] = str) -> None:
        self.kept = 0
        """The step of the last checkpoint."""
        self._world = world
        self._command = command
        self._seen = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {kind: signal.signal(kind, self._ask) for kind in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def asked(self) -> bool:
        """Return whether any process was asked to stop. All processes must call it, once a step."""
        return self._world.max([float(self._seen)])[0] > 0.0

    def leave(self, step: int) -> TrainingInterrupted:
        """The error that ends the run after its checkpoint of `step`; says how to go on."""
        return TrainingInterrupted(f"stopped after step {step}; go on with: {self._command()}")

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._seen:
            self._restore()
            kept = f"steps up to {self.kept} are kept" if self.kept else "no step is kept yet"
            # No error that somebody catches who calls a user's function, or a server.
            raise KeyboardInterrupt(f"stopped at once; {kept}; go on with: {self._command()}")
        if self._world.is_first:
            # Not through a console: its lock may be held by what was interrupted.
            os.write(2, ASKED)
        self._seen = True

    def _restore(self) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)
        self._before = {}


def build_optimizer(
    models: Iterable[torch.nn.Module], settings: OptimizerSettings
) -> torch.optim.AdamW:
    """AdamW over the trainable weights of `models`; the schedule multiplies its rate."""
    weights = [p for model in models for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=_are_alike(weights),
    )


def _are_alike(weights: Iterable[torch.Tensor]) -> bool:
    """Return whether all are whole, or all split, so that one kernel can step through them."""
    kinds = {type(weight) for weight in weights}
    return kinds in ({torch.nn.Parameter}, {DTensor})


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the coming step, in every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
