"""Progress of a training run on stderr: a bar with what matters, or a line now and then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from oversight.text.numbers import compact, duration
from oversight.text.terminal import rich_text, visible

LINE_EVERY_S = 10.0
"""Time between two lines where stderr is no terminal."""
SHOWN = {"loss": "loss", "reward": "reward", "accuracy": "acc", "kl": "KL", "entropy": "entropy"}
"""Metrics that are shown, in this order, with the names they are shown by."""
RATE_STEPS = 20
"""Steps that tokens a second and the time left are measured over."""


class TrainProgress:
    """Shows a run's progress; a context manager. Call `update` after each step.

    Args:
        name: Name of the model that is trained, shown before the bar.
        total: Steps of the whole run.
        step: Steps that were done before this start.
        console: Where to; stderr if not given.
        silent: Show nothing, as in all processes but the first.
    """

    def __init__(
        self,
        name: str,
        total: int,
        step: int = 0,
        console: Console | None = None,
        silent: bool = False,
    ) -> None:
        self._console = console or Console(stderr=True, quiet=silent)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._is_bar = self._console.is_terminal and not silent
        self._name = visible(name, newlines=False)
        self._total = total
        self._task = self._bar.add_task(self._name, total=total, completed=step, note="")
        self._last_line = time.monotonic()
        self._marks: deque[tuple[float, int, int]] = deque(maxlen=RATE_STEPS + 1)
        self._marks.append((self._last_line, step, 0))
        self._shown: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._is_bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_bar:
            self._bar.stop()

    def update(self, step: int, values: Mapping[str, float], num_tokens: int = 0) -> None:
        """Show that `step` steps are done.

        Args:
            step: Steps done.
            values: The step's metrics; those in `SHOWN` are shown.
            num_tokens: Tokens that this step took.
        """
        now = time.monotonic()
        self._marks.append((now, step, self._marks[-1][2] + num_tokens))
        self._shown |= {name: values[name] for name in SHOWN if name in values}
        note = ", ".join([*self._metrics(), *self._rate()])
        self._bar.update(self._task, completed=step, note=note)
        if not self._is_bar and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            words = [f"{self._name} {step}/{self._total}", note, self._left(step)]
            self._print(", ".join(word for word in words if word))

    def say(self, message: str) -> None:
        """Print a line, such as a guard's warning; above the bar if there is one."""
        self._print(message)

    def _print(self, text: str) -> None:
        self._console.print(rich_text(text), soft_wrap=True, highlight=False)

    def _metrics(self) -> list[str]:
        return [f"{SHOWN[name]} {self._shown[name]:.4g}" for name in SHOWN if name in self._shown]

    def _rate(self) -> list[str]:
        (begin, _, before), (end, _, after) = self._marks[0], self._marks[-1]
        if after == before or end <= begin:
            return []
        return [f"{compact((after - before) / (end - begin))} tokens/s"]

    def _left(self, step: int) -> str:
        (begin, first, _), (end, last, _) = self._marks[0], self._marks[-1]
        if last == first or end <= begin:
            return ""
        return f"{duration((self._total - step) * (end - begin) / (last - first))} left"
