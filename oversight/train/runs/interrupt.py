"""Ctrl-C in training: the step is finished, a checkpoint is left, and the run can go on."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from oversight.errors import TrainingInterrupted
from oversight.train.distributed import World
from oversight.train.runs.checkpoints import ALONE

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers send before they kill."""
ASKED = b"\nfinishing this step and saving it; once more stops at once\n"


class Interrupt:
    """While it is open, a first signal only asks; a second one acts as it always does.

    In a thread other than the main one signals cannot be caught, and nothing is.
    """

    def __init__(self, world: World = ALONE) -> None:
        self._world = world
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
        """Whether any process was asked to stop. All processes must call it, once a step."""
        return self._world.max([float(self._seen)])[0] > 0.0

    def leave(self, step: int, command: str) -> TrainingInterrupted:
        """The error that ends the run after its checkpoint of `step`; says how to go on."""
        return TrainingInterrupted(f"stopped after step {step}; go on with: {command}")

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self._seen and self._world.is_first:
            # Not through a console: its lock may be held by what was interrupted.
            os.write(2, ASKED)
        self._seen = True
        self._restore()

    def _restore(self) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)
        self._before = {}
