"""Progress of long work on stderr: a bar with rate, time left and failures, or lines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    track,
)
from rich.text import Text

from oversight.files import Closing
from oversight.types import Transcript

if TYPE_CHECKING:
    from oversight.graphs import running
    from oversight.graphs.runtime import Event
    from oversight.jobs.answering import Answering
    from oversight.jobs.writing import WritingProgress

LINE_EVERY_S = 10.0
"""Seconds between two lines where stderr is no terminal."""


def reading(transcripts: Iterable[Transcript], total: int) -> Iterator[Transcript]:
    """`transcripts`, with a bar on a terminal that shows how many have been read."""
    console = Console(stderr=True)
    shown = console.is_terminal
    yield from track(
        transcripts,
        "reading debates",
        total=total,
        console=console,
        transient=True,
        disable=not shown,
    )


def _start(bar: Progress) -> None:
    """Show a bar; stopped while it comes up, as by Ctrl-C, it is taken away again."""
    try:
        bar.start()
    except BaseException:
        bar.stop()
        raise


class _BarOnTerminal(Closing):
    """A bar that stands on a terminal within its `with` block, and nowhere else."""

    _console: Console
    _bar: Progress

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            _start(self._bar)
        return self

    def close(self) -> None:
        """Take the bar away."""
        if self._console.is_terminal:
            self._bar.stop()


class TaskProgress(_BarOnTerminal):
    """Progress of several tasks on stderr: a bar each on a terminal, else a line at each tenth."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._tenths: dict[str, int] = {}

    def __call__(self, task: str, done: int, total: int) -> None:
        """Show how far a task is."""
        if task not in self._tasks:
            self._tasks[task] = self._bar.add_task(task, total=total)
        self._bar.update(self._tasks[task], completed=done)
        tenth = 10 * done // total
        if not self._console.is_terminal and self._tenths.get(task, 0) < tenth:
            self._tenths[task] = tenth
            self._console.print(f"{task}: {done} of {total}", soft_wrap=True)


class RateColumn(ProgressColumn):
    """Finished debates a second."""

    def render(self, task: Task) -> Text:
        """The rate, as rich measures it."""
        return Text(_rate(task.speed) if task.speed else "–/s", style="dim")


class RunProgress(_BarOnTerminal):
    """Shows a run's progress; call it with each `running.Progress`."""

    def __init__(
        self, total: int, console: Console | None = None, *, noun: str = "debates"
    ) -> None:
        self._console = console or Console(stderr=True)
        self._noun = noun
        self._bar = Progress(
            TextColumn(noun),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self._total = total
        self._task = self._bar.add_task(noun, total=total, note="")
        self._last_line = self._begin = time.monotonic()
        self._num_tokens = 0

    def __call__(self, progress: running.DebateProgress) -> None:
        """Show how far the run is."""
        note = _note(progress, self._num_tokens + progress.num_tokens)
        self._show(progress.num_ended, progress.done, note)

    def hear(self, event: Event) -> None:
        """Count the tokens of a turn that is recorded."""
        from oversight.graphs import runtime

        if isinstance(event, runtime.TurnRecorded):
            for sample in event.turn.samples:
                self._num_tokens += sample.usage.prompt_tokens + sample.usage.completion_tokens

    def answered(self, progress: Answering) -> None:
        """Show how far a request file is."""
        if self._total != progress.total:
            self._total = progress.total
            self._bar.update(self._task, total=progress.total)
        ended = progress.done + progress.found + progress.num_failed
        notes = [
            f"{progress.num_failed:,} failed" if progress.num_failed else "",
            f"{progress.found:,} found answered" if progress.found else "",
            f"{progress.num_tokens:,} tokens" if progress.num_tokens else "",
        ]
        self._show(ended, progress.done, "".join(f", {note}" for note in notes if note))

    def wrote(self, progress: WritingProgress) -> None:
        """Show how far a red team is."""
        left_out = progress.left_out.total()
        notes = [
            f"{progress.tokens:,} tokens",
            f"{left_out:,} left out" if left_out else "",
            f"{len(progress.failures)} calls failed" if progress.failures else "",
        ]
        said = "".join(f", {note}" for note in notes if note)
        self._show(progress.taken, progress.taken - progress.found, said)

    def _show(self, ended: int, done: int, note: str) -> None:
        self._bar.update(self._task, completed=ended, note=note)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            rate = done / (now - self._begin)
            pace = "none finished yet"
            if rate:
                pace = f"{_rate(rate)}, {(self._total - ended) / rate:.0f} s left"
            told = f"{ended}/{self._total} {self._noun}, {pace}"
            self._console.print(told + note, soft_wrap=True)


def _rate(rate: float) -> str:
    """Number that end in a second, or in a minute where it would read 0.0 a second."""
    return f"{rate:.1f}/s" if rate >= 0.1 else f"{60 * rate:.1f}/min"


def _note(progress: running.DebateProgress, num_tokens: int) -> str:
    notes = [
        f"{num_tokens:,} tokens" if num_tokens else "",
        f"{len(progress.failures)} failed" if progress.failures else "",
        f"{progress.found} found complete" if progress.found else "",
        f"{progress.elsewhere} run elsewhere" if progress.elsewhere else "",
        f"{progress.waiting} waiting" if progress.waiting else "",
    ]
    return "".join(f", {note}" for note in notes if note)
