"""Progress of a training run on stderr: a bar with what matters, or a line now and then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.cells import cell_len
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
BAR, SHORT_BAR = 20, 8
"""Columns of the bar, and of one on a terminal that is too narrow for all that is shown."""
TIME_LEFT = len(" left 00:00:00")


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
        self._drawn = BarColumn(bar_width=BAR)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            self._drawn,
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
        parts = [*self._metrics(), *self._rate()]
        note = ", ".join(parts)
        self._bar.update(self._task, completed=step, note=self._fitting(parts))
        if not self._is_bar and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            words = [f"{self._name} {step}/{self._total}", note, self._left(step)]
            self._print(", ".join(word for word in words if word))

    def say(self, message: str) -> None:
        """Print a line, such as a guard's warning; above the bar if there is one."""
        self._print(message)

    def _print(self, text: str) -> None:
        self._console.print(rich_text(text), soft_wrap=True, highlight=False)

    def _fitting(self, parts: list[str]) -> str:
        """As much as stands beside the bar on one line of the terminal, the first things first.

        Where not all does, the bar is short, too: cut by rich, a line would lose the name, the
        step and the time left.
        """
        count = 2 * len(str(self._total)) + 1
        room = self._console.width - 1 - cell_len(self._name) - count - TIME_LEFT - len("   ")
        note = ", ".join(parts)
        is_short = len(note) > room - BAR
        self._drawn.bar_width = SHORT_BAR if is_short else BAR
        while is_short and parts and len(note) > room - SHORT_BAR:
            parts = parts[:-1]
            note = ", ".join(parts)
        return note

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
