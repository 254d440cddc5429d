"""The figures of a run, step by step: lines of `metrics.jsonl`, and progress on stderr.

The file has one line a logged step, as if the run had never been cut. On stderr is a bar with what
matters or, where it is no terminal, a line now and then.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from oversight.errors import DataError, MissingDependencyError
from oversight.files import told, write_text
from oversight.text.numbers import compact, duration
from oversight.text.terminal import rich_text, visible

Split = Literal["train", "eval"]
NAME = "metrics.jsonl"
GUARDS = "guards.jsonl"
"""File of what guards said, a line each."""
TENSORBOARD = "tensorboard"
"""Folder of TensorBoard's files, in the run's folder."""
FIXED = frozenset({"step", "split", "time", "wall_s"})
"""Names in a line besides those of metrics."""


class MetricsLog:
    """Appends what was measured to a run's `metrics.jsonl`.

    A line holds step, split, Unix time, and the seconds that the run has
    worked, over all its starts. NaN and infinities become null.

    Args:
        folder: The run's folder.
        step: Where the run goes on; lines after it are dropped.
        writes: Whether this process is the one that writes.
        tensorboard: Write TensorBoard's files as well.
        window: Values that a moving average is over.

    Raises:
        MissingDependencyError: TensorBoard is asked for and not installed.
        DataError: The file that is there cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        step: int = 0,
        *,
        writes: bool = True,
        tensorboard: bool = False,
        window: int = 20,
    ) -> None:
        self.path = folder / NAME
        self._recent: dict[tuple[str, str], deque[float]] = defaultdict(
            lambda: deque(maxlen=window)
        )
        self._board = _open_board(folder / TENSORBOARD, step) if writes and tensorboard else None
        self._sealed = step
        self._before_s = 0.0
        for line in _keep_until(self.path, step) if writes else ():
            self._before_s = float(line["wall_s"])
            self._remember(line["split"], _metrics(line))
        self._begin = time.monotonic()
        self._file: IO[str] | None = (
            self.path.open("a", encoding="utf-8", newline="\n") if writes else None
        )

    def log(self, step: int, values: Mapping[str, float], split: Split = "train") -> None:
        """Append a line; it reaches the disk by `sync` at the latest.

        Raises:
            ValueError: The step has its checkpoint already, so that the line would be lost or
                doubled if the run were cut: log a step before it is saved.
        """
        if step <= self._sealed:
            raise ValueError(f"step {step} is logged after its checkpoint; log it before")
        plain = {name: float(value) for name, value in values.items()}
        self._remember(split, plain)
        if self._file is None:
            return
        line: dict[str, Any] = {
            "step": step,
            "split": split,
            "time": round(time.time(), 3),
            "wall_s": round(self._before_s + time.monotonic() - self._begin, 3),
        }
        line |= {name: value if math.isfinite(value) else None for name, value in plain.items()}
        with told(f"{self.path} cannot be written"):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in plain.items():
                self._board.add_scalar(f"{split}/{name}", value, step)

    def mean(self, name: str, split: Split = "train") -> float:
        """The moving average of a metric; NaN where it was never logged."""
        recent = self._recent.get((split, name))
        return sum(recent) / len(recent) if recent else math.nan

    def sync(self, step: int) -> None:
        """Wait until all lines are on the disk, as a checkpoint of `step` will stand on them."""
        if self._file is not None:
            with told(f"{self.path} cannot be written"):
                os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()
        self._sealed = max(self._sealed, step)

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def _remember(self, split: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self._recent[split, name].append(value)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last line that was cut short is left out.

    Raises:
        DataError: The file is missing or a line is no metrics line; names it.
    """
    path = folder / NAME
    if not path.is_file():
        raise DataError(f"{folder} has no {NAME}; name the folder of a run of `oversight train`")
    return list(_lines(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    # Bytes that are no UTF-8 are named with their line, as text that is no JSON.
    texts = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    for number, text in enumerate(texts[:-1], 1):
        try:
            line = json.loads(text)
            if not (isinstance(line["step"], int) and isinstance(line["split"], str)):
                raise TypeError
            float(line["wall_s"])
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            raise DataError(
                f"{path}:{number}: {text[:80]!r} is no metrics line (an object with step, split "
                "and wall_s); remove the line"
            ) from None
        yield line


def _keep_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop from the file what came after `step`, in one go; gives what stays."""
    if not path.is_file():
        return []
    kept = [line for line in _lines(path) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    if path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return kept


def _metrics(line: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in line.items()
        if name not in FIXED and isinstance(value, int | float)
    }


def _open_board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependencyError(
            "tensorboard = true needs the package tensorboard: pip install tensorboard"
        ) from None
    # Untyped in torch. What a cut run wrote after its checkpoint is hidden.
    writer: Any = SummaryWriter
    return writer(str(folder), purge_step=step + 1)


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
